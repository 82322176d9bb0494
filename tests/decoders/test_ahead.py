"""A run of rounds at once writes what round after round does: texts, log p, film, rounds."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from test_loop import laid

from sightline.decoders import ahead
from sightline.decoders.canvas import Canvas
from sightline.decoders.draft import Draft, Floats, Ints, Written
from sightline.decoders.loop import write
from sightline.decoders.policy import NextPlace
from sightline.objectives.model import Model
from sightline.sight import View
from sightline.stacks import static
from sightline.stacks.cache import Cache


class Runs:
    """A model's runs, counted."""

    def __init__(self, model: Model) -> None:
        self.model, self.lengths = model, list[int]()

    def __call__(self, view: View, tokens: Any, cache: Cache, barred: Ints, stops: Ints) -> tuple[Ints, Floats] | None:
        said = static.replayed_run(self.model.stack, self.model.head, view, tokens, cache, barred)
        if said is not None:
            self.lengths.append(view.slots.count)
        return said


def by_steps(model: Model) -> Any:
    """As the model answers on a GPU."""

    def logits(view: View, tokens: Any, cache: Cache | None) -> torch.Tensor:
        said = None if cache is None else static.replayed(model.stack, model.head, view, tokens, cache)
        if said is None:
            said = model.head.logits(model._asked(model._index(view), model.states(view, tokens, cache)))  # type: ignore[operator]
        return said

    return logits


def both(model: Model, canvas: Canvas, **settings: Any) -> tuple[Written, Written, Runs]:
    """Round by round, and by runs."""
    settings = {"make_cache": Cache, **settings}
    runs = Runs(model)
    slowly = write(model.objective.fill, model.logits, canvas, NextPlace(), **settings)
    return slowly, write(model.objective.fill, by_steps(model), canvas, NextPlace(), answers=runs, **settings), runs


def assert_same(one: Written, other: Written) -> None:
    kept = one.canvas.inside
    assert np.array_equal(kept, other.canvas.inside) and np.array_equal(one.canvas.open, other.canvas.open)
    assert np.array_equal(one.canvas.tokens[kept], other.canvas.tokens[kept])
    assert np.array_equal(one.film, other.film) and one.rounds == other.rounds
    assert np.abs(one.logprobs - other.logprobs).max() < 1e-4
    assert np.array_equal(one.owners, other.owners)


PROMPTS = [[5, 6, 7], [8, 9], [10, 11, 12, 13, 14]]


@pytest.mark.parametrize("family", ["causal", "prefix"])
def test_a_run_writes_what_rounds_write(small: Any, family: str) -> None:
    model = small(family)
    slowly, quickly, runs = both(model, laid(model, PROMPTS, 20))
    assert_same(slowly, quickly)
    assert runs.lengths == [19]  # the first round feeds the prompt


@pytest.mark.parametrize("stop", range(3))
def test_lines_end_at_their_stop_marks(small: Any, stop: int) -> None:
    """Whichever of the tokens written without stops now ends its line, others go on; nothing stands behind it."""
    model = small("causal")
    free, _, _ = both(model, laid(model, PROMPTS, 20))
    line = free.canvas.tokens[stop]
    mark = int(line[free.film[stop] > 0][4])
    for settings in ({}, {"min_length": 3}, {"min_length": 8}, {"forbidden": [int(line[-1])]}):
        slowly, quickly, runs = both(model, laid(model, PROMPTS, 20), stops=[mark], **settings)
        assert_same(slowly, quickly)
        assert runs.lengths


def test_long_texts_take_several_runs(small: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of no more rounds than a run has; the room doubles on the way; a callback hears of the last of each."""
    monkeypatch.setattr(ahead, "MOST", 6)
    monkeypatch.setattr(static, "LEAST", 8)
    model = small("causal")
    heard: list[int] = []
    _, quickly, runs = both(model, laid(model, PROMPTS, 20), on_round=lambda draft, number: heard.append(number))
    assert runs.lengths == [6, 6, 6] and quickly.rounds == 20  # the last place is alone
    assert heard[20:] == [1, 7, 13, 19, 20]


def test_it_goes_round_by_round_where_slots_are_not_known_before(small: Any) -> None:
    model = small("backward")
    slowly, quickly, runs = both(model, Canvas.of([([], 8, [5, 6, 7])]))
    assert_same(slowly, quickly)
    assert not runs.lengths


def test_a_run_that_may_write_nothing_is_refused_as_a_round_is(small: Any) -> None:
    from sightline.errors import SightlineError

    model = small("causal")
    every = range(model.objective.vocabulary.padded)
    with pytest.raises(SightlineError, match="every token is forbidden"):
        both(model, laid(model, PROMPTS, 4), forbidden=every)


def test_the_next_text_takes_the_last_step_and_a_changed_model_does_not(small: Any) -> None:
    model = small("causal")
    both(model, laid(model, PROMPTS, 6))
    step = static._last[model.stack]
    both(model, laid(model, PROMPTS, 6))
    assert static._last[model.stack] is step
    before, _, _ = both(model, laid(model, PROMPTS, 6))
    model.head.weight.data = model.head.weight.data.flip(1).clone()  # stored elsewhere
    slowly, quickly, _ = both(model, laid(model, PROMPTS, 6))
    assert_same(slowly, quickly)
    assert static._last[model.stack] is not step
    assert not np.array_equal(before.canvas.tokens, quickly.canvas.tokens)


def test_a_draft_tells_each_round(small: Any) -> None:
    model = small("causal")
    drafts: list[Draft] = []
    both(model, laid(model, PROMPTS, 6), on_round=lambda draft, number: drafts.append(draft))
    assert (drafts[-1].film.max(1) == 6).all()
