"""Blank infilling: its reductions, its scores against its decoder, blanks of any length, and what it refuses."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from sightline.data import Draws, Rows, Tokenizer, train_tokenizer
from sightline.data.vocabulary import Vocabulary
from sightline.decoders.canvas import Canvas
from sightline.decoders.loop import write
from sightline.decoders.policy import NextPlace
from sightline.decoders.sampling import GREEDY, Sampling
from sightline.errors import SightlineError
from sightline.objectives import Blank, Mix, Objective, Prefix
from sightline.objectives.filling import fill
from sightline.objectives.model import Model, built
from sightline.objectives.writing import generate
from sightline.sight import NOTHING, OPENING, Slots, View, cacheable, everything, fixed, opening, past
from sightline.stacks.cache import Cache
from sightline.stacks.shape import Shape
from sightline.stacks.transformer import Transformer

SAID = ["the cat sat on the mat", "a dog ran", "猫坐在红色的垫子上", "狗跑了"]
UL2 = "1/3 prefix:R denoise=0.3 span=3, 1/3 prefix:S empty=0.5, 1/3 prefix:X denoise=0.5 span=6"


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return train_tokenizer(SAID, "byte")


def made(objective: Objective, tokenizer: Tokenizer, **shape: Any) -> Model:
    torch.set_num_threads(1)
    parts = Shape(2, 32, 4, tokenizer.padded, 96, **({"rope_base": 100.0} | shape))
    model = built(objective, parts, tokenizer, seed=1)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        torch.nn.init.normal_(model.head.weight, std=0.3)
    return model.eval()


def test_a_rest_without_places_is_the_prefix_family(tokenizer: Tokenizer) -> None:
    """Where nothing tells places, a blank at the end is an opening of text and mark, then left to right."""
    model = made(Blank(tokenizer.vocabulary), tokenizer, positions="none")
    marks, ids = tokenizer.vocabulary, tokenizer.encode("the cat sat")
    row = Rows.of([[marks.bos, *ids, marks.eos]], tokenizer)
    wanted = np.arange(row.length)[None] >= 4
    (view,) = model.objective.examine(replace(row, wanted=wanted))
    line = [marks.bos, *ids[:3], marks.modes[1], marks.sep, *ids[3:]]
    place = np.arange(len(line))
    plain = View.of(
        Slots.of(place, segment=np.where(place < 5, OPENING, 1)),
        opening | past,
        shows=place,
        asks=np.where(place >= 5, place + 1, NOTHING),
    )
    tokens = np.array([[*line, marks.eos]])
    assert int(view.weights.sum()) == len(line) - 5
    with torch.no_grad():
        nats = model.grade(view, row.tokens).nats.sum(), model.grade(plain, tokens).nats.sum()
    assert float(nats[0]) == pytest.approx(float(nats[1]), rel=1e-5)


@pytest.mark.parametrize("positions", ["rope", "learned"])
def test_both_dimensions_tell_places(tokenizer: Tokenizer, positions: str) -> None:
    model = made(Blank(tokenizer.vocabulary), tokenizer, positions=positions)
    assert isinstance(model.stack, Transformer) and model.stack.shape.position_tables == 2
    if positions == "learned":
        with torch.no_grad():
            for table in model.stack.places:
                torch.nn.init.normal_(table.weight)  # type: ignore[arg-type]
    row = Rows.of([tokenizer.encode("the cat sat on")], tokenizer)
    (view,) = Blank(tokenizer.vocabulary, sentences=0, documents=0).ask(row, Draws(1).of(row), 0.0)
    before = model.states(view, row.tokens)
    for dimension in (0, 1):
        moved = view.slots.positions.copy()
        moved[0, 3, dimension] += 1
        assert not torch.allclose(
            model.states(replace(view, slots=replace(view.slots, positions=moved)), row.tokens), before
        )


FILLERS = {
    "blank": lambda v: Blank(v),
    "denoise": lambda v: Prefix(v, denoise=0.3),
    "mix": lambda v: Mix(v, UL2),
}


@pytest.mark.parametrize(("family", "ended"), [*((family, False) for family in FILLERS), ("blank", True)])
def test_the_decoder_writes_what_the_score_says(tokenizer: Tokenizer, family: str, ended: bool) -> None:
    """The log-probability of written blanks, their ends included, is the score of that text with those blanks."""
    objective = FILLERS[family](tokenizer.vocabulary)
    model, marks = made(objective, tokenizer), tokenizer.vocabulary
    parts = [[marks.bos, 120, 121], 2, [130, 131, 132], 5, [140, marks.eos]]
    barred = np.setdiff1d(np.flatnonzero(marks.is_special), objective.stops if ended else [])
    with torch.no_grad():
        model.head.weight[marks.eos] *= 3  # ends that come now and then
    done = write(
        objective.fill, model.logits, Canvas.laid([parts, parts[:3], *[parts] * 6]), NextPlace(), Sampling(),
        stops=objective.stops if ended else (), forbidden=barred, make_cache=Cache,
        generator=torch.Generator().manual_seed(3),
    )  # fmt: skip
    sizes = set()
    for line in range(8):
        inside, tokens = done.canvas.inside[line], done.canvas.tokens[line]
        stop = inside & ~done.canvas.given[line] & np.isin(tokens, objective.stops)
        wanted = inside & ~done.canvas.given[line] & ~stop
        row = Rows.of([tokens[inside & ~stop]], tokenizer, wanted=[wanted[inside & ~stop]])
        ends = [stop[:5].any(), stop[5:].any()] if line != 1 else [stop.any()]
        pieces = [wanted[:5].any(), wanted[5:].any()] if line != 1 else [wanted.any()]
        if not all(pieces):
            continue  # an empty blank, which no score asks about
        (view,) = objective.infill(row)
        asked = view.asks < NOTHING
        assert asked.sum() == len(ends)
        weights = view.weights.copy()
        weights[asked] = ends
        with torch.no_grad():
            graded = model.grade(replace(view, weights=weights, _asked={}), row.tokens)
        assert -done.total[line] == pytest.approx(float(graded.total), rel=1e-4)
        sizes.add(int(wanted.sum()))
    assert sizes == {2, 7} if not ended else len(sizes) > 1


@pytest.mark.parametrize("family", [*FILLERS, "at mask"])
def test_what_is_written_on_has_its_score(tokenizer: Tokenizer, family: str) -> None:
    objective = FILLERS.get(family, lambda v: Prefix(v, at_mask=0.3))(tokenizer.vocabulary)
    model, marks = made(objective, tokenizer), tokenizer.vocabulary
    lines = [[[marks.bos, 120, 121, 125], 9], [[marks.bos], 9], [[marks.bos, *range(110, 130)], 9]]
    done = write(
        objective.fill, model.logits, Canvas.laid(lines), NextPlace(), Sampling(), make_cache=Cache,
        forbidden=np.flatnonzero(marks.is_special), generator=torch.Generator().manual_seed(3),
    )  # fmt: skip
    for line in range(3):
        inside = done.canvas.inside[line]
        wanted = ~done.canvas.given[line][inside]
        nats, asked = model.examined(Rows.of([done.canvas.tokens[line][inside]], tokenizer, wanted=[wanted]))
        assert asked[0] == 9
        assert -done.total[line] == pytest.approx(nats[0], rel=1e-4)


def test_by_heart_it_fills_blanks_of_any_length_and_goes_on() -> None:
    tokenizer = train_tokenizer([" ".join(SAID) + " "] * 8, "bpe", 480)
    marks = tokenizer.vocabulary
    model = made(Blank(marks, rate=0.3, span=2, sentences=0, documents=0.4), tokenizer)
    lines = [[marks.bos, *tokenizer.encode(text), marks.eos] for text in SAID]
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    calmer = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.05, 200)
    model.train()
    for step in range(200):
        rows = Rows.of(lines * 3, tokenizer, numbers=np.arange(12) + 12 * step)
        views = model.objective.ask(rows, Draws(1).of(rows), 0.0)
        terms = model.objective.learn(model, rows, views, Draws(1).of(rows, 1))
        loss = sum(term.total for term in terms) / sum(model.objective.counts(views).values())
        optimizer.zero_grad()
        loss.backward()  # type: ignore[union-attr]
        optimizer.step()
        calmer.step()
    texts = fill(model.eval(), ["the ___:? on the mat", "a ___:? ran", "猫坐___:?垫子上"])
    assert [text.text for text in texts] == ["the cat sat on the mat", "a dog ran", "猫坐在红色的垫子上"]
    assert texts[0].pieces == ("cat sat",) and texts[2].pieces == ("在红色的",)
    assert "blank after blank" in texts[0].how
    (text,) = fill(model, ["the ___ sat on the ___"])
    assert text.text == "the cat sat on the mat" and text.pieces == ("cat", "mat")
    written = generate(model, ["the cat", "狗"], length=40, sampling=GREEDY)
    assert [text.text for text in written] == ["the cat sat on the mat", "狗跑了"]


def test_states_are_kept_over_all_blanks(tokenizer: Tokenizer) -> None:
    rows = Rows.of([tokenizer.encode("a dog ran. " * 6)[:60]] * 2, tokenizer)
    (view,) = Blank(tokenizer.vocabulary, sentences=0, documents=0).ask(rows, Draws(1).of(rows), 0.0)
    assert (view.shows == fixed(tokenizer.vocabulary.sep)).sum() > 4
    assert cacheable(view)
    assert not cacheable(replace(view, sight=everything))


def test_columns_follow_from_what_is_trained(tokenizer: Tokenizer) -> None:
    marks = tokenizer.vocabulary
    assert Blank(marks).columns == ("whole text", "continuation", "infilling")
    assert Blank(marks, empty=0).columns == ("continuation", "infilling")
    assert Blank(marks, documents=0).columns == ("infilling",)


def test_kinds_of_spans_come_in_their_shares_and_fixed_shapes(tokenizer: Tokenizer) -> None:
    objective = Blank(tokenizer.vocabulary)
    line = tokenizer.encode("a dog ran. " * 6)[:60]
    shapes: dict[str, set[tuple[int, ...]]] = {}
    for step in range(4):
        rows = Rows.of([line] * 10, tokenizer, numbers=np.arange(10) + 10 * step)
        for view in objective.ask(rows, Draws(step).of(rows), 0.0):
            shapes.setdefault(view.kind, set()).add((view.slots.lines, view.slots.count, view.most_asks))
    assert {kind: len(found) for kind, found in shapes.items()} == dict.fromkeys(shapes, 1)
    assert [next(iter(found))[0] for found in shapes.values()] == [5, 3, 2]


def test_some_of_what_is_written_is_forgotten(tokenizer: Tokenizer) -> None:
    marks = tokenizer.vocabulary
    rows = Rows.of([tokenizer.encode("a dog ran. " * 6)[:60]] * 40, tokenizer)
    (view,) = Blank(marks, sentences=0, documents=0, forget=0.25).ask(rows, Draws(1).of(rows), 0.0)
    behind = (view.slots.segment == 1) & (view.slots.document >= 0) & (view.shows != fixed(marks.sep))
    assert abs((view.shows[behind] == fixed(marks.mask)).mean() - 0.25) < 0.06


BARE = Vocabulary(300, 320, bos=1, eos=2, specials=(1, 2))


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda v: Blank(v, rate=0.0), "hides nothing"),
        (lambda v: Blank(v, rate=1.0), "hides everything"),
        (lambda v: Blank(v, span=50), "spans of 50 tokens on average and 39 at most"),
        (lambda v: Blank(v, sentences=0.7, documents=0.7), "weights of short spans"),
        (lambda v: Blank(v, empty=1.5), "empty = 1.5 is no share"),
        (lambda v: Blank(BARE), "no mask token"),
        (lambda v: Blank(replace(BARE, mask=3, sep=4)), "needs 2 mode tokens"),
        (lambda v: Prefix(v, at_mask=1.0), "at_mask = 1.0"),
        (lambda v: Prefix(v, at_mask=0.1, denoise=0.1), "two ways to ask"),
        (lambda v: Prefix(BARE, at_mask=0.1), "no mask token"),
        (lambda v: Prefix(BARE, denoise=0.1), "needs 1 spare token"),
        (lambda v: Prefix(v, rest=0.6), "rest = 0.6 is out of range"),
    ],
)
def test_what_cannot_be_asked_is_one_clear_line(tokenizer: Tokenizer, make: Any, says: str) -> None:
    with pytest.raises(SightlineError, match=says) as caught:
        make(tokenizer.vocabulary)
    assert "\n" not in str(caught.value) and caught.value.do


def test_a_stack_of_one_dimension_is_refused(tokenizer: Tokenizer) -> None:
    model = made(Prefix(tokenizer.vocabulary), tokenizer)
    with pytest.raises(SightlineError, match="blank tells places in 2 dimensions"):
        Model(Blank(tokenizer.vocabulary), model.stack, model.head, tokenizer)


def test_blanks_that_cannot_be_filled_are_one_clear_line(tokenizer: Tokenizer) -> None:
    blank = made(Blank(tokenizer.vocabulary), tokenizer)
    with pytest.raises(SightlineError, match="blanks of told and of any length"):
        fill(blank, ["a ___:2 b ___:?"])
    with pytest.raises(SightlineError, match="prefix does not end a blank by itself"):
        fill(made(Prefix(tokenizer.vocabulary), tokenizer), ["a ___:? b"])
    with pytest.raises(SightlineError, match="spans of 3 tokens do not fit rows of 2"):
        rows = Rows.of([[5, 6]], tokenizer)
        Blank(tokenizer.vocabulary).ask(rows, Draws(1).of(rows), 0.0)
