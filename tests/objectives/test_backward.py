"""Backward, asked at the mask: prefix's left to right on the reversed text, in training, scoring and writing."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from sightline.data import Draws, Rows, Tokenizer, train_tokenizer
from sightline.decoders.canvas import Canvas
from sightline.decoders.loop import write
from sightline.decoders.policy import NextPlace
from sightline.decoders.sampling import GREEDY, Sampling
from sightline.errors import SightlineError
from sightline.objectives import Backward, Objective, Prefix
from sightline.objectives.model import Model, built
from sightline.sight import NOTHING, fixed, seats
from sightline.stacks.cache import Cache
from sightline.stacks.shape import Shape


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return train_tokenizer(["a page of text 一页文字"], "byte")


def made(objective: Objective, tokenizer: Tokenizer) -> Model:
    model = built(objective, Shape(2, 32, 4, tokenizer.padded, 96, rope_base=100.0), tokenizer, seed=1)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        torch.nn.init.normal_(model.head.weight, std=0.3)
    return model.eval()


def page(tokenizer: Tokenizer, count: int, length: int = 60) -> Rows:
    marks = tokenizer.vocabulary
    words = np.random.default_rng(1).integers(110, tokenizer.size, (count, length - 2))
    return Rows.of([[marks.bos, *line, marks.eos] for line in words], tokenizer)


def reversed_(rows: Rows) -> Rows:
    return replace(rows, tokens=rows.tokens[:, ::-1].copy(), wanted=rows.wanted[:, ::-1].copy())


def pair(tokenizer: Tokenizer, *, both_ways: bool = True, **fields: Any) -> tuple[Objective, Objective]:
    """Right to left, and left to right with an opening of nothing but the first mark."""
    return Backward(tokenizer.vocabulary, **fields), Prefix(
        tokenizer.vocabulary, empty=1, both_ways=both_ways, **fields
    )


@pytest.mark.parametrize("hide", ["token", "gram"])
def test_it_asks_what_prefix_asks_of_the_reversed_text(tokenizer: Tokenizer, hide: str) -> None:
    backward, prefix = pair(tokenizer, at_mask=0.3, hide=hide)
    rows = page(tokenizer, 8)
    other = reversed_(rows)
    draws = Draws(1).of(rows)
    draws.uniform(1), draws.uniform(1)  # what prefix draws its openings by
    (ours,), (theirs,) = backward.ask(rows, draws, 0.0), prefix.ask(other, Draws(1).of(other), 0.0)
    for one, same in ((ours, theirs), (next(backward.examine(rows)), next(prefix.examine(other)))):
        assert (one.shown(rows.tokens) == same.shown(other.tokens)).all()
        assert (one.answers(rows.tokens) == same.answers(other.tokens)).all()
        assert (one.answer_weights() == same.answer_weights()).all()
        assert (one.slots.positions == same.slots.positions).all()
        sees, saw = (
            view.whole_sight(seats(view.slots, True), seats(view.slots, False))
            & (view.slots.document >= 0)[:, :, None]
            & (view.slots.document >= 0)[:, None]
            for view in (one, same)
        )
        assert (sees == saw).all()
    assert ours.declared is not None and (ours.declared == theirs.declared).all() and ours.declared.any()


@pytest.mark.parametrize("parts", [False, True])
def test_the_same_weights_score_the_reversed_text_alike(tokenizer: Tokenizer, parts: bool) -> None:
    """A whole text; of a part the rest is given, which prefix may see both ways and backward never does."""
    ours, theirs = (made(one, tokenizer) for one in pair(tokenizer, at_mask=0.15, both_ways=not parts))
    rows = page(tokenizer, 3, 20)
    if parts:
        rows = replace(rows, wanted=np.arange(20)[None] < np.array([[20], [12], [1]]))
    (nats, asked), (same, count) = ours.examined(rows), theirs.examined(reversed_(rows))
    assert asked.tolist() == count.tolist() == ([19, 12, 1] if parts else [19] * 3), "the end mark is given"
    assert nats == pytest.approx(same, rel=1e-6)


def test_the_same_weights_write_the_reversed_text(tokenizer: Tokenizer) -> None:
    ours, theirs = (made(objective, tokenizer) for objective in pair(tokenizer, at_mask=0.15, both_ways=False))
    marks = tokenizer.vocabulary
    ends = [[120, 121, 125, marks.eos], [marks.eos], [*range(110, 130), marks.eos]]
    found = []
    for model, lines in ((ours, [[9, end] for end in ends]), (theirs, [[end[::-1], 9] for end in ends])):
        done = write(
            model.objective.fill, model.logits, Canvas.laid(lines), NextPlace(), GREEDY, make_cache=Cache,
            forbidden=np.flatnonzero(marks.is_special),
        )  # fmt: skip
        found.append([done.canvas.tokens[line][done.canvas.inside[line]].tolist() for line in range(3)])
        assert np.isfinite(done.total).all()
    assert found[0] == [line[::-1] for line in found[1]]


def test_what_is_written_has_its_score_with_a_cache_and_without(tokenizer: Tokenizer) -> None:
    objective = Backward(tokenizer.vocabulary, at_mask=0.3)
    model, marks = made(objective, tokenizer), tokenizer.vocabulary
    lines = [[9, [120, 121, 125, marks.eos]], [9, [marks.eos]], [9, [*range(110, 130), marks.eos]]]
    texts = []
    for make_cache in (Cache, None):
        done = write(
            objective.fill, model.logits, Canvas.laid(lines), NextPlace(), Sampling(), make_cache=make_cache,
            forbidden=np.flatnonzero(marks.is_special), generator=torch.Generator().manual_seed(3),
        )  # fmt: skip
        for line in range(3):
            inside = done.canvas.inside[line]
            wanted = ~done.canvas.given[line][inside]
            nats, asked = model.examined(Rows.of([done.canvas.tokens[line][inside]], tokenizer, wanted=[wanted]))
            assert asked[0] == 9
            assert -done.total[line] == pytest.approx(nats[0], rel=1e-4)
        texts.append(done.canvas.tokens.tolist())
    assert texts[0] == texts[1]


def test_a_share_is_hidden_and_the_beginning_too(tokenizer: Tokenizer) -> None:
    marks, rows = tokenizer.vocabulary, page(tokenizer, 300)
    (view,) = Backward(marks, at_mask=0.3).ask(rows, Draws(1).of(rows), 0.0)
    hidden = view.asks != NOTHING
    assert (hidden.sum(1) == np.ceil(0.3 * 59)).all() and view.most_asks < rows.length / 2
    assert not hidden[:, 0].any(), "the mark that ends the text is given"
    assert abs(hidden[:, -1].mean() - 0.3) < 0.1, "where to stop is learned"
    shows = view.shows[hidden]
    assert [(shows == fixed(marks.mask)).mean(), (shows >= 0).mean()] == pytest.approx([0.8, 0.1], abs=0.03)


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"at_mask": 1.0}, "at_mask = 1.0 hides everything"),
        ({"at_mask": -0.1}, "at_mask = -0.1 hides"),
        ({"hide": "gram"}, "hide=gram says how at_mask hides, and at_mask is 0"),
        ({"at_mask": 0.1, "bare": True}, "no mask token"),
    ],
)
@pytest.mark.parametrize("kind", [Backward, Prefix])
def test_what_cannot_be_asked_is_one_clear_line(
    tokenizer: Tokenizer, kind: type[Objective], fields: dict[str, Any], says: str
) -> None:
    marks, told = tokenizer.vocabulary, dict(fields)
    if told.pop("bare", False):
        marks = replace(marks, mask=-1)
    with pytest.raises(SightlineError, match=says) as caught:
        kind(marks, **told)
    assert "\n" not in str(caught.value) and caught.value.do
