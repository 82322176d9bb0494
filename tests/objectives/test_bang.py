"""BANG: one pass over main and predicting streams is as many runs over chains of masks, and leaks nothing."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "conformance"))
from checks import BOS, EOS, MASK, WORDS, Subject, packed, paired, rows_from, single

from sightline.data import Draws, Rows
from sightline.data.vocabulary import Vocabulary
from sightline.decoders.canvas import Canvas
from sightline.decoders.loop import write
from sightline.decoders.policy import Leading
from sightline.errors import SightlineError
from sightline.objectives import Bang
from sightline.objectives.model import Model
from sightline.objectives.sides import SEEN, beside
from sightline.sight import MAIN, NO_DOCUMENT, NOTHING, Slots, View, fixed, matrix, reach
from sightline.stacks.two import sides

STREAMS = 4
WIDE = Vocabulary(1000, 1000, pad=0, bos=1, eos=2, mask=3, specials=(0, 1, 2, 3))


def bang(**fields: object) -> Model:
    """Three layers in each stack, in double precision."""
    make = Subject(lambda vocabulary: Bang(vocabulary, **{"streams": STREAMS, "rate": 0.4} | fields))  # type: ignore[arg-type]
    return make.model(layers=6).double()


def asked(model: Model, rows: Rows, seed: int = 3) -> View:
    (view,) = model.objective.ask(rows, Draws(seed).of(rows), 0.0)
    return view


def chain(view: View, line: int, slot: int) -> tuple[View, int]:
    """A plain causal question: the main slots that a slot of the view sees, and masks up to it; and its own slot."""
    source, target = sides(view)
    one = source.lines(slice(line, line + 1))
    stream, order = target.slots.stream[line], target.slots.order[line]
    document = target.slots.document[line] == target.slots.document[line, slot]
    mains = np.flatnonzero((stream == MAIN) & (order <= order[slot]) & document)
    mains = mains[order[mains].argsort()]
    masks = np.flatnonzero((stream > MAIN) & (stream <= stream[slot]) & (order == order[slot]))
    slots = np.r_[mains, masks]
    first = target.slots.positions[line, mains]
    position = np.r_[first, first[-1] + 1 + np.arange(len(masks))]
    shows = target.shows[line][slots]
    written = View.of(
        Slots.of(np.arange(len(slots)), target.slots.document[line, slot], positions=position), SEEN, shows=shows
    )
    return beside(one, written, "chain"), int((source.slots.count) + len(slots) - 1)


@pytest.mark.parametrize("rows", [single(14, 2), packed(2)], ids=["one document", "two documents"])
def test_every_slot_is_a_run_of_its_own(rows: Rows) -> None:
    """(k, m) is what a plain causal decoder says behind m main slots and k masks; a main slot what it says there."""
    model = bang()
    view = asked(model, rows)
    states = model.states(view, rows.tokens)
    before = sides(view)[0].slots.count
    compared = {MAIN: 0} | {MAIN + stream: 0 for stream in range(1, STREAMS + 1)}
    for line, slot in np.argwhere(view.slots.document != NO_DOCUMENT):
        if slot < before:
            continue
        alone, last = chain(view, line, slot - before)
        expected = model.states(alone, rows.tokens[line : line + 1])[0, last]
        assert torch.allclose(states[line, slot], expected, rtol=0, atol=1e-10)
        compared[int(view.slots.stream[line, slot])] += 1
    assert all(compared[stream] for stream in (MAIN, MAIN + 1, MAIN + 2))


def test_each_token_is_asked_behind_every_number_of_masks_in_its_span() -> None:
    """n streams over spans of T places: place t is asked for min(t, n) times, and nothing behind the span is."""
    rows = single(14, 2)
    view = asked(bang(), rows)
    for line in range(rows.count):
        places, counts = np.unique(view.asks[line][view.asks[line] != NOTHING], return_counts=True)
        assert (np.diff(places) == 1).all() and len(places) == 4  # 0.4 of 12 tokens between the marks, rounded down
        assert counts.tolist() == [min(t + 1, STREAMS) for t in range(len(places))]
    hidden = view.shown(rows.tokens)[:, : rows.length] == MASK
    assert (hidden.sum(1) == 4).all()
    assert (view.weights[view.asks != NOTHING] == 1).all()


def test_what_a_slot_may_see() -> None:
    """No main slot behind its column, no other column, no higher stream, and nothing of y_m with m' <= m."""
    model, rows = bang(), single(14, 1)
    view = asked(model, rows)
    slots, reached = view.slots, reach(view, model.depth)[0]
    real = np.flatnonzero((slots.document[0] != NO_DOCUMENT) & (slots.stream[0] > 0))
    for asker in real:
        for seen in real:
            k, m, other, column = (int(part[0, at]) for at in (asker, seen) for part in (slots.stream, slots.order))
            allowed = column <= m if other == MAIN else other <= k and column == m
            assert reached[asker, seen] == allowed
    before = model.states(view, rows.tokens)[0]
    first = slots.place[0, real[0]] + 1
    for number in range(4):
        tokens = rows.tokens.copy()
        tokens[0, first + number] = (tokens[0, first + number] - 3) % 12 + 4
        moved = (model.states(view, tokens)[0] != before).any(1).numpy()
        column = slots.order[0] - slots.order[0, real[0]]
        assert not moved[(slots.stream[0] > 0) & (column <= number)].any()
        assert moved[real[column[real] > number]].all()


def test_one_stream_is_causal_by_mask() -> None:
    """A mask behind each token, asked for the next: by the same answers as a plain decoder with one mask at its end."""
    model, rows = bang(streams=1), single(14, 2)
    view = asked(model, rows)
    streams = view.slots.stream[view.asks != NOTHING]
    assert (streams == MAIN + 1).all()
    examined = next(iter(model.objective.examine(rows)))
    nats = model.grade(examined, rows.tokens).nats
    canvas = Canvas.laid([[row[:1], 13] for row in rows.tokens.tolist()])
    for place in range(1, rows.length):  # teacher forcing, by the view that writes
        logits = model.logits(model.objective.fill(canvas), canvas.tokens)[:, 0]
        token = torch.from_numpy(rows.tokens[:, place].astype(np.int64))
        expected = -logits.double().log_softmax(1)[torch.arange(2), token]
        assert torch.allclose(nats[:, place - 1].double(), expected, atol=1e-6)
        canvas = canvas.written(np.arange(2), np.full(2, place), token.numpy())


def test_spans_are_cut_as_published() -> None:
    """Nine tokens of each 64, somewhere in it; never the first of a document, nor a mark."""
    ids = np.random.default_rng(0).integers(4, 1000, (3, 257))
    ids[:, 0] = BOS
    rows = rows_from(ids, np.zeros_like(ids))
    starts = set()
    for seed in range(40):
        (view,) = Bang(WIDE).ask(rows, Draws(seed).of(rows), 0.0)
        hidden = view.shown(rows.tokens)[:, :257] == MASK
        assert (hidden[:, 1:].reshape(3, 4, 64).sum(2) == 9).all()
        for line in hidden[:, 1:].reshape(12, 64):
            places = np.flatnonzero(line)
            assert (np.diff(places) == 1).all()
            starts.add(int(places[0]))
    assert min(starts) == 0 and max(starts) == 55 and len(starts) > 50


def test_a_row_holds_no_more_than_its_columns() -> None:
    """Many short documents: spans that do not fit are left in the text, whole."""
    ids = np.tile(np.r_[BOS, 10, 11, EOS], 16)[None]
    rows = rows_from(ids, np.repeat(np.arange(16), 4)[None])
    (view,) = Bang(WIDE).ask(rows, Draws(0).of(rows), 0.0)
    source, target = sides(view)
    columns = [12, *(12 * left // 9 for left in range(9, 0, -1))]  # of the main stream and of each other
    assert target.slots.count == sum(columns) < 10 * 12
    assert (source.shown(rows.tokens) == MASK).sum() == view.ask_count == 12


def test_blocks_ask_what_streams_ask() -> None:
    """A canvas asked for the next four places: the same answers as streams 1 to 4 of the same column."""
    model, rows = bang(), single(14, 1)
    tokens = rows.tokens[0].tolist()
    canvas = Canvas.laid([[tokens[:5], 6, tokens[11:]]])
    canvas = canvas.written(np.array([0, 0]), np.array([5, 6]), np.array(tokens[5:7]))
    view = model.objective.fill(canvas, 4)  # type: ignore[call-arg]
    assert view.asks[view.asks != NOTHING].tolist() == [7, 8, 9, 10]
    source, target = sides(view)
    assert source.shown(canvas.tokens)[0].tolist() == tokens[:5] + [MASK] * 6 + tokens[11:]
    assert target.shown(canvas.tokens)[0].tolist() == [*tokens[4:7], *[MASK] * 4]
    assert target.slots.positions[0].tolist() == [4, 5, 6, 7, 8, 9, 10]
    whole = model.objective.fill(canvas, 0)  # type: ignore[call-arg]
    assert (whole.asks == view.asks).all()  # all of the gap that is left


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"streams": 0}, "0 predicting streams"),
        ({"rate": 1.0}, "everything or nothing"),
        ({"stretch": 1}, "no part to cut out"),
        ({"encoder_layers": -1}, "no stack"),
        ({"way": "fast"}, "no way 'fast'"),
        ({"block": 0}, "a block of 0 tokens holds nothing"),
        ({"way": "semi", "block": 10}, "9 streams do not write a block of 10"),
        ({"nar_share": 0.5}, "no mixture"),
        ({"way": "ar", "nar_share": 1.0}, "no mixture"),
        ({"smoothing": 1.0}, "smoothing"),
    ],
)
def test_settings_that_make_no_sense(fields: dict[str, object], words: str) -> None:
    with pytest.raises(SightlineError, match=words):
        Bang(WORDS, **fields)  # type: ignore[arg-type]


def test_a_tokenizer_without_a_mask() -> None:
    with pytest.raises(SightlineError, match="no mask token"):
        Bang(replace(WORDS, mask=-1))


def test_a_pair_is_begun_by_bos_and_ended_by_eos() -> None:
    """Main slots bos, y_1, ... at places 0, 1, ...; every token and the end are asked for, behind masks that follow."""
    rows = paired(single(9, 1))  # bos w sep y1 .. y5 eos
    y = rows.tokens[0, 3:].tolist()
    for way, streams in (("ar", 1), ("semi", STREAMS)):
        view = asked(bang(way=way, block=2), rows)
        source, target = sides(view)
        assert source.shown(rows.tokens)[0].tolist() == rows.tokens[0, :3].tolist()
        shown, stream = target.shown(rows.tokens)[0], target.slots.stream[0]
        assert shown[stream == MAIN].tolist() == [BOS, *y[:-1]]
        assert target.slots.positions[0, stream == MAIN].tolist() == list(range(6))
        assert set(stream.tolist()) == {MAIN + number for number in range(streams + 1)}
        for number in range(1, streams + 1):
            mine = (stream == MAIN + number) & (target.asks[0] != NOTHING)
            assert target.asks[0, mine].tolist() == list(range(2 + number, 9))
            assert target.slots.positions[0, mine].tolist() == list(range(number, 7))


def test_as_published_masks_alone_stand_for_a_target() -> None:
    """No main slot, not even bos, and each sees the masks before it: column 1 of all streams, but for its main slot."""
    model, rows = bang(way="nar"), paired(single(9, 1))
    view = asked(model, rows)
    target = sides(view)[1]
    assert (target.shown(rows.tokens) == MASK).all() and (target.slots.stream > MAIN).all()
    assert target.asks[0].tolist() == list(range(3, 9)) and target.slots.positions[0].tolist() == list(range(1, 7))
    truth = matrix(target.whole_sight, target.slots)[0]
    assert (truth == np.tri(6, dtype=bool)).all()
    before = model.states(view, rows.tokens)[0]
    short = view.columns(slice(0, 3 + 4))
    assert torch.allclose(model.states(short, rows.tokens)[0], before[:7], atol=1e-12)  # what stands behind is not seen
    whole = model.objective.fill(Canvas.laid([[rows.tokens[0, :3].tolist(), 6]]), 0)  # type: ignore[call-arg]
    assert (whole.shows == view.shows).all() and (whole.asks == view.asks).all()
    semi = bang(way="semi", block=2).objective
    begun = sides(semi.fill(Canvas.laid([[rows.tokens[0, :3].tolist(), 6]]), 0))[1]  # type: ignore[call-arg]
    assert begun.slots.stream[0].tolist() == [MAIN, *range(MAIN + 1, MAIN + 7)]  # the same weights, another way


def test_a_mixture_deals_its_rows() -> None:
    """Half of the pairs by masks alone: two kinds of views, and one mean over the answers of both."""
    rows = paired(packed(4))
    model = bang(way="ar", nar_share=0.5)
    views = model.objective.ask(rows, Draws(0).of(rows), 0.0)
    assert [view.lines_of.tolist() for view in views] == [[0, 2], [1, 3]]
    assert not (views[1].slots.stream == MAIN).any() and (views[0].slots.stream == MAIN).any()
    assert list(model.objective.counts(views)) == ["bang"]


@pytest.mark.parametrize("block", [1, 2, 3, 0])
def test_a_score_of_blocks_is_what_writing_in_blocks_says(block: int) -> None:
    """A product over blocks of what each place is given; places behind the end are not in it."""
    way = {0: {"way": "nar"}, 1: {"way": "ar"}}.get(block, {"way": "semi", "block": block})
    model, rows = bang(**way), paired(single(9, 1))
    nats, asked_for = model.examined(rows)
    assert asked_for[0] == 6
    canvas = Canvas.laid([[rows.tokens[0, :3].tolist(), 6]])
    total, at = 0.0, 3
    while at < 9:
        view = model.objective.fill(canvas, block)  # type: ignore[call-arg]
        places = view.asks[view.asks != NOTHING]
        said = model.logits(view, canvas.tokens)[0].detach().double().log_softmax(1)
        for number, place in enumerate(places.tolist()):
            total -= float(said[number, int(rows.tokens[0, place])])
            canvas = canvas.written(np.array([0]), np.array([place]), rows.tokens[0, [place]].astype(np.int64))
        at += len(places)
    assert nats[0] == pytest.approx(total, abs=1e-5)


@pytest.mark.parametrize("block", [1, 3])
def test_only_main_slots_are_kept(block: int) -> None:
    """Each round feeds the main slots that are new and the masks; of these the cache keeps nothing."""
    model = bang(way="semi", block=block).float()
    sources = [[BOS, 5, 6, WORDS.sep], [BOS, 7, WORDS.sep]]
    fed: list[int] = []

    def logits(view: View, tokens: np.ndarray, cache: object) -> torch.Tensor:
        fed.append(view.slots.count)
        return model.logits(view, tokens, cache)  # type: ignore[arg-type]

    def run(cached: bool) -> tuple[np.ndarray, np.ndarray]:
        done = write(
            model.objective.filling(block), logits, Canvas.laid([[source, 9] for source in sources]), Leading(),
            make_cache=model.cache if cached else None,
        )  # fmt: skip
        return done.canvas.tokens, done.logprobs

    plain, kept = run(False), run(True)
    rounds = fed[len(fed) // 2 :]
    assert rounds == [4 + 1 + block] + [2 * block] * (len(rounds) - 1)
    assert (plain[0] == kept[0]).all() and np.allclose(plain[1], kept[1], atol=1e-5)


def test_marks_of_a_view() -> None:
    """Every predicting slot shows the mask."""
    view = asked(bang(), single(14, 1))
    shown = view.shows[(view.slots.stream > MAIN) & (view.slots.document != NO_DOCUMENT)]
    assert (shown == fixed(MASK)).all()
