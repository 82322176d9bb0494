"""Texts written by native runs, of one stack or of two, are what torch writes round by round."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from test_ahead import assert_same
from test_loop import laid

from sightline.data import Tokenizer
from sightline.data.vocabulary import Vocabulary
from sightline.decoders.canvas import Canvas
from sightline.decoders.draft import Draft, Written
from sightline.decoders.loop import write
from sightline.decoders.policy import Beam, NextPlace, Policy
from sightline.objectives.denoise import Denoise
from sightline.objectives.model import Model, built
from sightline.stacks import compiled, native
from sightline.stacks.shape import Shape
from sightline.stacks.two import TwoCache

MARKS = range(6)  # never written
PROMPTS = [[6, 7, 8], [9, 10], [11, 12, 13, 14, 15]]
WORDS = Vocabulary(
    size=20, padded=24, pad=0, bos=1, eos=2, mask=3, specials=(0, 1, 2, 3, 4, 5), spares=(4, 5)
)  # fmt: skip


def two(letters: Tokenizer, **settings: Any) -> Model:
    torch.set_num_threads(1)
    shape = Shape(layers=5, width=32, heads=4, vocabulary=24, context=64)
    model = built(Denoise(WORDS, encoder_layers=3, decoder_layers=2, **settings), shape, letters)
    with torch.no_grad():
        model.head.weight.mul_(60)  # sharp enough that the likeliest token is no matter of rounding
    return model.eval()


@pytest.fixture
def model(request: pytest.FixtureRequest, small: Any, letters: Tokenizer) -> Model:
    name: str = request.param
    return two(letters, **KINDS[name]) if name in KINDS else small(name)


KINDS = {"spans": {}, "infilling": {"noise": "infilling"}, "started": {"noise": "infilling", "start": "eos"}}
ALL = pytest.mark.parametrize("model", ["causal", "prefix", *KINDS], indirect=True)


def by_torch(
    model: Model, canvas: Canvas, monkeypatch: pytest.MonkeyPatch, policy: Policy | None = None, **settings: Any
) -> Written:
    """Round by round, and nothing native."""
    settings = {"forbidden": MARKS, **settings}
    with monkeypatch.context() as patch:
        patch.setattr(compiled, "library", lambda: None)
        return write(
            model.objective.fill, model.logits, canvas, policy or NextPlace(), make_cache=model.cache, **settings
        )


class Runs:
    """A model's runs, counted."""

    def __init__(self, model: Model) -> None:
        self.model, self.rounds = model, list[int]()

    def __call__(self, *asked: Any) -> Any:
        said = self.model.answers(*asked)
        if said is not None:
            self.rounds.append(len(said[0]))
        return said


def natively(model: Model, canvas: Canvas, **settings: Any) -> tuple[Written, list[int]]:
    runs, settings = Runs(model), {"forbidden": MARKS, "make_cache": model.cache, **settings}
    return write(model.objective.fill, model.logits, canvas, NextPlace(), answers=runs, **settings), runs.rounds


@ALL
def test_a_run_writes_what_torch_writes_round_by_round(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    canvas = laid(model, PROMPTS, 20)
    written, rounds = natively(model, canvas)
    assert_same(by_torch(model, canvas, monkeypatch), written)
    assert rounds == [19]


@ALL
def test_lines_leave_a_run_at_their_stop_marks(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whichever token is the stop mark; a run ends where no line is left, and longer texts are several runs."""
    free = by_torch(model, laid(model, PROMPTS, 20), monkeypatch).canvas.tokens
    for line in range(3):
        mark = int(free[line][len(PROMPTS[line]) + 5])
        for settings in ({}, {"min_length": 3}, {"forbidden": [*MARKS, int(free[line][-1])]}):
            stops: dict[str, Any] = {"stops": [mark], **settings}
            written, rounds = natively(model, laid(model, PROMPTS, 20), **stops)
            assert_same(by_torch(model, laid(model, PROMPTS, 20), monkeypatch, **stops), written)
            assert rounds


@ALL
def test_a_run_whose_time_is_up_is_gone_on_with(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "SECONDS", 0.0)
    heard: list[int] = []
    canvas = laid(model, PROMPTS, 9)
    written, rounds = natively(model, canvas, on_round=lambda draft, number: heard.append(number))
    assert_same(by_torch(model, canvas, monkeypatch), written)
    assert set(rounds) == {1} and heard == list(range(1, 10))


@pytest.mark.parametrize("model", list(KINDS), indirect=True)
def test_beams_over_two_stacks_are_torch_s(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    canvas = laid(model, PROMPTS, 12)
    caches: list[Any] = []

    def cache() -> Any:
        caches.append(model.cache())
        return caches[-1]

    found = write(model.objective.fill, model.logits, canvas, Beam(3), stops=[7], forbidden=MARKS, make_cache=cache)
    right = by_torch(model, canvas, monkeypatch, Beam(3), stops=[7])
    assert np.array_equal(found.canvas.text(0), right.canvas.text(0))
    assert np.abs(found.worth - right.worth).max() < 1e-3
    assert isinstance(caches[0], TwoCache) and caches[0].target.handed is not None


@pytest.mark.parametrize("model", ["causal", "infilling"], indirect=True)
def test_a_draft_tells_each_round(model: Model) -> None:
    drafts: list[Draft] = []
    natively(model, laid(model, PROMPTS, 6), on_round=lambda draft, number: drafts.append(draft))
    assert (drafts[-1].film.max(1) == 6).all()
