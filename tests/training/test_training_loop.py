"""The loop: resuming is exact, kills and full disks cost nothing, bad steps are skipped and named."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sightline.data import Order, RowDraws, Rows
from sightline.data.vocabulary import Vocabulary
from sightline.errors import SightlineError, Stopped
from sightline.objectives import (
    Backward,
    Blank,
    Causal,
    Electra,
    Masked,
    Mix,
    Objective,
    Permuted,
    Prefix,
    TwoWay,
)
from sightline.objectives.base import Term
from sightline.objectives.model import Model, built
from sightline.sight import View
from sightline.stacks.shape import Shape
from sightline.training import loop
from sightline.training.checkpoint import checkpoints, newest
from sightline.training.questions import Asker
from sightline.training.settings import Optimization, Schedule, Settings

WORDS = Vocabulary(32, 32, pad=0, bos=1, eos=2, mask=3, specials=(0, 1, 2, 3))
SHAPE = Shape(2, 16, 2, 32, 16, dropout=0.1)
STEPS = 12


def rows_of(step: int) -> Rows:
    numbers, visits = Order(20, 5).at(step * 4 + np.arange(4))
    tokens = np.stack([np.random.default_rng(int(number)).integers(4, 32, 16) for number in numbers]).astype(np.int32)
    real = np.ones(tokens.shape, np.bool_)
    return Rows(tokens, np.zeros_like(tokens), numbers, visits, real, np.zeros(tokens.shape, np.int64), real)


def fresh(make: Callable[[Vocabulary], Objective] = Causal) -> Model:
    return built(make(WORDS), SHAPE, None, 1)  # type: ignore[arg-type]


def trained(folder: Path, make: Callable[[Vocabulary], Objective] = Causal, **settings: Any) -> Model:
    model = fresh(make)
    validate = lambda model: float(model.head.weight.detach().abs().sum())  # noqa: E731
    loop.train(model, rows_of, Settings(STEPS, 4, seed=2, validations=3, **settings), folder, validate=validate)
    return model


def stopped_at(step: int) -> Callable[[int], Rows]:
    def rows(number: int) -> Rows:
        if number == step:
            os.kill(os.getpid(), signal.SIGINT)
        return rows_of(number)

    return rows


def resumes_exactly(make: Callable[[Vocabulary], Objective], folder: Path, **settings: Any) -> None:
    whole = trained(folder / "whole", make, **settings)
    model = fresh(make)
    validate = lambda model: float(model.head.weight.detach().abs().sum())  # noqa: E731
    chosen = Settings(STEPS, 4, seed=2, validations=3, **settings)
    with pytest.raises(Stopped, match="To continue"):
        loop.train(model, stopped_at(4), chosen, folder / "cut", validate=validate)
    torch.manual_seed(99)  # a new process starts with another generator
    again = trained(folder / "cut", make, **settings)
    for name, weight in whole.state_dict().items():
        assert torch.equal(weight, again.state_dict()[name]), name
    records = [(folder / which / "metrics.jsonl").read_text().count("\n") for which in ("whole", "cut")]
    assert records[0] == records[1]


def blank(words: Vocabulary) -> Objective:
    return Blank(replace(words, sep=4, modes=(5, 6), specials=tuple(range(7))))


def lstm(words: Vocabulary) -> Objective:
    return TwoWay(words, "lstm")


@pytest.mark.parametrize("make", [Causal, Backward, Masked, Prefix, blank, Mix, Permuted, Electra, TwoWay, lstm])
def test_a_stopped_run_goes_on_bit_for_bit(make: Callable[[Vocabulary], Objective], tmp_path: Path) -> None:
    resumes_exactly(make, tmp_path)


def test_so_it_does_with_adamw_alone_and_accumulation(tmp_path: Path) -> None:
    resumes_exactly(
        Masked, tmp_path, optimization=Optimization("adamw"), accumulation=2, schedule=Schedule("cosine", 0.2)
    )


@dataclass(frozen=True)
class Counting(Masked):
    """Draws by how often it was asked in this process: a resume then sees other masks."""

    def ask(self, rows: Rows, draws: RowDraws, progress: float) -> list[View]:
        _COUNT[0] += 1
        loose = np.random.default_rng(_COUNT[0])

        class Loose:
            def uniform(self, count: int) -> np.ndarray:
                return loose.random((rows.count, count))

        return super().ask(rows, Loose(), progress)  # type: ignore[arg-type]


_COUNT = [0]


def test_the_check_rejects_draws_that_are_not_keyed(tmp_path: Path) -> None:
    with pytest.raises(AssertionError):
        resumes_exactly(Counting, tmp_path)


def test_accumulation_leaves_the_run_unchanged(tmp_path: Path) -> None:
    shape = Shape(2, 16, 2, 32, 16)
    runs = []
    for parts in (1, 4):
        model = built(Masked(WORDS), shape, None, 1)  # type: ignore[arg-type]
        loop.train(model, rows_of, Settings(4, 4, accumulation=parts), tmp_path / str(parts))
        runs.append(torch.cat([weight.detach().flatten() for weight in model.parameters()]))
    assert torch.allclose(runs[0], runs[1], atol=2e-4)


def test_questions_made_ahead_leave_the_run_unchanged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = [trained(tmp_path / "as wanted", Masked, accumulation=2)]
    monkeypatch.setattr(loop, "Asker", lambda make, steps, ahead: Asker(make, steps, ahead=True))
    runs.append(trained(tmp_path / "ahead", Masked, accumulation=2))
    one, other = (model.state_dict() for model in runs)
    assert all(torch.equal(one[name], other[name]) for name in one)


KILLED = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
import test_training_loop
from sightline import files
from sightline.training import loop

count, whole = 0, files.flushed
def flushed(path):
    global count
    count += 1
    if count == 14:  # in the middle of a later checkpoint: some files flushed, the folder not yet renamed
        os.kill(os.getpid(), signal.SIGKILL)
    whole(path)
files.flushed = flushed
loop.SAVE_SECONDS = 0.0
test_training_loop.trained(Path(sys.argv[1]))
"""


def test_a_kill_in_the_middle_of_a_checkpoint_costs_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "killed"
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", KILLED, str(folder), str(Path(__file__).parent)], check=False
    )
    assert done.returncode == -signal.SIGKILL
    assert list((folder / "checkpoints").glob(".*.aside")), "the kill was meant to leave a half-written checkpoint"
    assert newest(folder / "checkpoints") is not None
    again, whole = trained(folder), trained(tmp_path / "whole")
    for name, weight in whole.state_dict().items():
        assert torch.equal(weight, again.state_dict()[name]), name
    assert not list((folder / "checkpoints").glob(".*.aside"))


def test_a_full_disk_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "SAVE_SECONDS", 0.0)
    from sightline.training import checkpoint

    real, calls = checkpoint.save_file, []

    def full(tensors: Any, path: Any) -> None:
        calls.append(path)
        if len(calls) > 5:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(tensors, path)

    monkeypatch.setattr(checkpoint, "save_file", full)
    with pytest.raises(SightlineError, match="free some space"):
        trained(tmp_path / "full")
    held = newest(tmp_path / "full" / "checkpoints")
    assert held is not None and held.step >= 1
    monkeypatch.undo()
    again, whole = trained(tmp_path / "full"), trained(tmp_path / "whole")
    assert all(torch.equal(weight, again.state_dict()[name]) for name, weight in whole.state_dict().items())


def test_a_checkpoint_cut_short_is_passed_over_and_none_whole_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(loop, "SAVE_SECONDS", 0.0)
    trained(tmp_path)
    found = checkpoints(tmp_path / "checkpoints")
    assert len(found) == 2
    weights = found[-1] / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:100])
    held = newest(tmp_path / "checkpoints")
    assert held is not None and held.step == STEPS - 1
    assert "cut short or damaged" in capsys.readouterr().err
    (found[0] / "state.json").write_text("{")
    with pytest.raises(SightlineError, match=r"no checkpoint in .* can be read"):
        newest(tmp_path / "checkpoints")


@dataclass(frozen=True)
class Poisoned(Causal):
    """One row whose loss is not a number."""

    def learn(self, model: Model, rows: Rows, views: list[View], draws: RowDraws) -> list[Term]:
        terms = super().learn(model, rows, views, draws)
        return [replace(term, total=term.total * np.nan) for term in terms] if 7 in rows.numbers else terms


def test_a_step_that_is_no_number_is_skipped_and_its_documents_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = fresh(Poisoned)
    settings = Settings(STEPS, 4, seed=2)
    names = lambda rows: [f"document {number}" for number in rows.numbers]  # noqa: E731
    out = loop.train(model, rows_of, settings, tmp_path, names=names)
    assert out.skipped == sum(7 in rows_of(step).numbers for step in range(STEPS)) > 0
    assert all(torch.isfinite(weight).all() for weight in model.parameters())
    told = capsys.readouterr().err
    assert "document 7" in told and "document 8" not in told


def test_the_curve_counts_what_was_read(tmp_path: Path) -> None:
    model = fresh()
    out = loop.train(model, rows_of, Settings(STEPS, 4), tmp_path, flops_per_step=10.0)
    assert out.tokens == out.slots == STEPS * 4 * 16
    assert out.asked == STEPS * 4 * 15
    assert out.curve[-1].flops == 10.0 * STEPS
    assert 0 < out.waiting < 1
    assert (tmp_path / "events").is_dir()
