"""See: what a model declares and what it does agree, or each difference is named."""

from __future__ import annotations

import json
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

import sightline as sl
from sightline import hub
from sightline.cli import main
from sightline.data import Tokenizer, train_tokenizer
from sightline.errors import SightlineError
from sightline.objectives.backward import Backward
from sightline.objectives.causal import Causal
from sightline.objectives.masked import Masked
from sightline.objectives.model import built
from sightline.objectives.ngram import NGram
from sightline.objectives.permuted import Permuted
from sightline.objectives.prefix import Prefix
from sightline.runs.see import MOST, see
from sightline.sight import Rule, everything
from sightline.stacks import look
from sightline.stacks.shape import Shape

TEXT = "a cat sat 的"


@dataclass(frozen=True)
class Mispaired(Causal):
    """Planted: asks for the next token and sees it."""

    family: ClassVar[str] = "mispaired"

    @property
    def rule(self) -> Rule:
        return everything


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return train_tokenizer([TEXT, "the mat and the moon"], "char")


def folder_of(kind: Any, tokenizer: Tokenizer, path: Path, **changed: Any) -> Path:
    model = built(kind(tokenizer.vocabulary), Shape(2, 16, 2, tokenizer.padded, 96, **changed), tokenizer)
    if kind is NGram:
        model.stack.fit(np.concatenate([[tokenizer.bos], tokenizer.encode(TEXT), [tokenizer.eos]]))
    return hub.save(model, path / "model")


@pytest.mark.parametrize(
    ("kind", "changed", "name"),
    [
        (Causal, {}, "past"),
        (Backward, {}, "future"),
        (Masked, {}, "everything"),
        (Prefix, {}, "everything"),
        (NGram, {}, "past & near(3)"),
        (Permuted, {}, "everything"),
        (Causal, {"windows": (2,)}, "past & near(4)"),
        (Causal, {"windows": (2, None)}, "past"),
        (Backward, {"windows": (1,)}, "future & near(2)"),
        (Masked, {"windows": (1,)}, "near(2)"),
        (Causal, {"positions": "relative", "norm_place": "post"}, "past"),
    ],
)
def test_declared_is_measured(tokenizer: Tokenizer, tmp_path: Path, kind: Any, changed: Any, name: str) -> None:
    seen = see(folder_of(kind, tokenizer, tmp_path, **changed), text=TEXT, threads=1)
    assert seen.declared == seen.measured == name
    assert (seen.declared_matrix == seen.measured_matrix).all()
    assert not seen.leaks
    assert len(seen.tokens) == len(tokenizer.encode(TEXT)) + 2 == len(seen.measured_matrix)
    assert f"declared: {name}" in str(seen)
    assert "no leaks" in str(seen)


def test_a_mispaired_family_is_found(tokenizer: Tokenizer, tmp_path: Path) -> None:
    folder = folder_of(Mispaired, tokenizer, tmp_path)
    home = Mispaired.__module__
    with pytest.raises(SightlineError, match="is not run unasked"):
        see(folder, text=TEXT)
    seen = see(folder, text=TEXT, package=home)
    count = len(seen.tokens)
    assert seen.declared == seen.measured == "everything"
    assert [(leak.slot, leak.answer) for leak in seen.leaks] == [(slot, slot + 1) for slot in range(count - 1)]
    assert seen.leaks[0].path == (0, 1)
    assert np.argwhere(seen.wrong).tolist() == [[slot, slot + 1] for slot in range(count - 1)]
    assert f"{count - 1} leaks" in str(seen)
    assert "■ !" in str(seen)


def test_a_stack_that_sees_more_than_declared_is_found(
    tokenizer: Tokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = folder_of(Causal, tokenizer, tmp_path)
    monkeypatch.setattr(look, "kernel_for", lambda view: "full")
    seen = see(folder, text=TEXT)
    assert (seen.declared, seen.measured) == ("past", "everything")
    assert [leak.slot for leak in seen.leaks] == list(range(len(seen.tokens) - 1))
    assert seen.leaks[0].sees == tuple(range(1, len(seen.tokens)))
    assert (seen.wrong == (seen.measured_matrix & ~seen.declared_matrix)).all()


def test_the_files(tokenizer: Tokenizer, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = folder_of(Causal, tokenizer, tmp_path / "run")
    drawn, told = tmp_path / "out" / "sight.svg", tmp_path / "out" / "sight.json"
    words = ["see", str(folder.parent), "--text", TEXT, "--svg", str(drawn), "--json", str(told), "--threads", "1"]
    assert main(words) == 0
    out = capsys.readouterr().out
    assert "measured: past" in out
    assert "next: sightline score" in out
    record = json.loads(told.read_text())
    count = len(record["tokens"])
    lower = np.tril(np.ones((count, count), dtype=bool)).tolist()
    assert record["declared"] == record["measured"] == "past"
    assert record["declared_matrix"] == record["measured_matrix"] == lower
    assert record["leaks"] == []
    texts = [node.text for node in ElementTree.parse(drawn).iter("{http://www.w3.org/2000/svg}text")]
    assert {"declared: past", "measured: past", "c", "的", "␣"} <= set(texts)
    first = drawn.read_bytes(), told.read_bytes()
    assert main(words) == 0
    assert (drawn.read_bytes(), told.read_bytes()) == first


def test_a_long_text_is_cut_and_said(tokenizer: Tokenizer, tmp_path: Path) -> None:
    seen = see(folder_of(NGram, tokenizer, tmp_path), text="cat " * 40, replacements=1)
    assert len(seen.tokens) == MOST
    assert f"the text has 162 tokens; the first {MOST} are looked at" in str(seen)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"svg": Path("sight.png")}, "does not end in .svg"),
        ({"replacements": 0}, "change nothing"),
        ({"device": "cuda:99"}, "is not to be had here"),
        ({"tokenizer": "nowhere.json"}, "does not exist"),
    ],
)
def test_what_is_wrong_is_told(tokenizer: Tokenizer, tmp_path: Path, options: dict[str, Any], says: str) -> None:
    folder = folder_of(Causal, tokenizer, tmp_path)
    with pytest.raises(SightlineError, match=says):
        see(folder, **options)


def test_no_folder(tmp_path: Path) -> None:
    with pytest.raises(SightlineError, match="does not exist"):
        sl.see(tmp_path / "nowhere")


def test_help_loads_no_torch() -> None:
    code = "import sys; from sightline.cli import main; main(['see', '--help']); assert 'torch' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "--text" in done.stdout
    assert "what the model is shown" in done.stdout
