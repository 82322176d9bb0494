"""Denoising by two stacks: what is cut out and what is left make the text, as T5 and BART have it."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "conformance"))
from checks import BOS, EOS, MASK, PAD, Subject, rows_from

from sightline.data import Draws, Rows
from sightline.data.vocabulary import Vocabulary
from sightline.decoders.canvas import Canvas
from sightline.errors import SightlineError
from sightline.objectives import Denoise, Prefix
from sightline.objectives.sides import SEEN
from sightline.sight import NO_DOCUMENT, NOTHING, Depth, Slots, View, fixed, reach
from sightline.stacks.look import Look
from sightline.stacks.shape import Shape
from sightline.stacks.transformer import Transformer
from sightline.stacks.two import Two, sides

SPARES = tuple(range(900, 1000))
WIDE = Vocabulary(1000, 1000, pad=0, bos=1, eos=2, mask=3, spares=SPARES, specials=(0, 1, 2, 3, *SPARES))


def text(length: int, seed: int = 0, end: bool = True) -> Rows:
    words = np.random.default_rng(seed).integers(4, 900, length)
    ids = np.r_[words, [EOS] if end else []][None].astype(np.int64)
    return rows_from(ids, np.zeros_like(ids))


def said(view: View, rows: Rows, line: int = 0) -> tuple[list[int], list[int], list[int]]:
    """What the source shows, what the target shows, and what it is asked, without padding."""
    source, target = sides(view)
    there = target.slots.document[line] != NO_DOCUMENT
    shown = [part.shown(rows.tokens)[line][part.slots.document[line] != NO_DOCUMENT] for part in (source, target)]
    asked = target.answers(rows.tokens)[line][: int(there.sum())]
    return shown[0].tolist(), shown[1].tolist(), asked.tolist()


def test_a_text_of_568_tokens_fills_512_slots_and_114_answers() -> None:
    """The published sizes: 85 tokens in 28 spans, 512 slots with the end mark, 114 answers with theirs."""
    rows = text(568)
    (view,) = Denoise(WIDE).ask(rows, Draws(0).of(rows), 0.0)
    source, target, asked = said(view, rows)
    assert len(source) == 512 and len(asked) == 114
    assert sum(token in SPARES for token in source) == 28
    assert source[-1] == EOS and asked[-1] == EOS and target[0] == BOS


@pytest.mark.parametrize("seed", range(5))
def test_source_and_target_give_the_text_back(seed: int) -> None:
    rows = text(60, seed)
    (view,) = Denoise(WIDE, rate=0.3).ask(rows, Draws(seed).of(rows), 0.0)
    source, target, asked = said(view, rows)
    assert target[1:] == asked[:-1]  # each slot shows what the one before it was asked for
    spans: dict[int, list[int]] = {}
    for token in asked[:-1]:
        if token in SPARES:
            spans[token] = []
        else:
            spans[list(spans)[-1]].append(token)
    assert list(spans) == list(SPARES[: len(spans)])
    whole = [token for shown in source for token in spans.get(shown, [shown])]
    assert whole == rows.tokens[0].tolist()


@pytest.mark.parametrize("seed", range(5))
def test_infilling_asks_for_the_whole_text(seed: int) -> None:
    rows = text(60, seed)
    (view,) = Denoise(WIDE, "infilling", rate=0.3).ask(rows, Draws(seed).of(rows), 0.0)
    source, target, asked = said(view, rows)
    assert target == rows.tokens[0].tolist() and asked[:-1] == rows.tokens[0, 1:].tolist()
    left = [token for token in source if token != MASK]
    assert len(rows.tokens[0]) - len(left) == np.ceil(0.3 * 60)
    assert MASK in source
    at = iter(rows.tokens[0].tolist())
    assert all(token in at for token in left)  # in order: without a tokenizer the text is one sentence


def test_a_target_begins_with_the_mark_that_is_named() -> None:
    """T5's with padding; BART's with the end mark, behind which the text is asked for from its own first mark on."""
    rows = text(60)
    (view,) = Denoise(WIDE, start="pad").ask(rows, Draws(0).of(rows), 0.0)
    assert said(view, rows)[1][0] == PAD
    infilling = Denoise(WIDE, "infilling", rate=0.3, start="eos")
    (view,) = infilling.ask(rows, Draws(0).of(rows), 0.0)
    _, target, asked = said(view, rows)
    assert target == [EOS, *rows.tokens[0, :-1].tolist()] and asked == rows.tokens[0].tolist()
    canvas = Canvas.laid([[[BOS, 10], 3, [12, EOS]], [4, [13, EOS]]])
    source, target_view = sides(infilling.fill(canvas))
    assert source.shown(canvas.tokens).tolist() == [[BOS, 10, MASK, 12, EOS], [MASK, 13, EOS, NOTHING, NOTHING]]
    assert target_view.shown(canvas.tokens).tolist() == [[EOS, BOS, 10], [NOTHING, NOTHING, EOS]]
    assert target_view.asks[:, -1].tolist() == [2, 0]
    assert target_view.slots.positions.tolist() == [[0, 1, 2], [0, 0, 0]]


def test_infilled_spans_have_the_published_lengths() -> None:
    """Poisson's around 3 with none among them: a mask for each, and a share of the words that is hidden exactly."""
    lengths: list[int] = []
    for seed in range(200):
        rows = text(200, seed)
        (view,) = Denoise(WIDE, "infilling", rate=0.3).ask(rows, Draws(seed).of(rows), 0.0)
        source, _ = sides(view)
        shown = source.shown(rows.tokens)[0]
        places = source.slots.place[0][source.slots.document[0] != NO_DOCUMENT]
        shown = shown[: len(places)]
        nexts = np.r_[places[1:], 201]
        lengths += [int(after - here) for here, after, token in zip(places, nexts, shown, strict=True) if token == MASK]
    counts = np.bincount(lengths)[:8] / len(lengths)
    expected = [0.050, 0.149, 0.224, 0.224, 0.168, 0.101, 0.050, 0.022]
    assert np.abs(counts - expected).max() < 0.03


def test_sentences_change_places_and_words_are_hidden_whole() -> None:
    rows = text(60)
    ends = np.zeros_like(rows.documents, bool)
    ends[0, [9, 24, 40]] = True
    starts = np.zeros_like(ends)
    starts[0, ::2] = True

    class Marked(Rows):
        @property
        def sentence_ends(self) -> np.ndarray:  # type: ignore[override]
            return ends

    marked = Marked(**{**vars(rows), "word_starts": starts})
    orders = set()
    for seed in range(20):
        (view,) = Denoise(WIDE, "infilling", rate=0.3).ask(marked, Draws(seed).of(marked), 0.0)
        source, _ = sides(view)
        real = source.slots.document[0] != NO_DOCUMENT
        shown, places = source.shown(rows.tokens)[0][real], source.slots.place[0][real]
        sentences = np.searchsorted([9, 24, 40, 60], places)
        assert shown[-1] == EOS and (np.diff(sentences) != 0).sum() <= 5  # each stands in one piece, the end last
        orders.add(tuple(dict.fromkeys(sentences.tolist())))
        kept = set(places[shown != MASK].tolist())
        assert all((place in kept) == (place + 1 in kept) for place in range(0, 60, 2))
    assert len(orders) > 5


def test_a_blank_is_written_after_its_sentinel() -> None:
    objective = Denoise(WIDE)
    canvas = Canvas.laid([[[BOS, 10, 11], 3, [12, EOS]], [[BOS, 13], 2, [14, 15, 16, EOS]]])
    view = objective.fill(canvas)
    source, target = sides(view)
    assert source.shown(canvas.tokens).tolist() == [[BOS, 10, 11, 900, 12, EOS, -1], [BOS, 13, 900, 14, 15, 16, EOS]]
    assert target.shown(canvas.tokens).tolist() == [[BOS, 900]] * 2
    assert target.asks.tolist() == [[NOTHING, 3], [NOTHING, 2]]
    one = canvas.written(np.array([0, 1]), np.array([3, 2]), np.array([20, 21]))
    target = sides(objective.fill(one))[1]
    assert target.shown(one.tokens).tolist() == [[BOS, 900, 20], [BOS, 900, 21]]


def test_a_source_of_nothing_leaves_the_decoder_alone() -> None:
    """Attention to nothing gives nothing: the decoder is then a stack of its own."""
    torch.manual_seed(0)
    two = Two(Shape(4, 32, 4, 20, 16), 2).eval()
    alone = Transformer(Shape(2, 32, 4, 20, 16)).eval()
    state = {name: weight for name, weight in two.decoder.state_dict().items() if "cross" not in name}
    alone.load_state_dict(state | {"embedding.weight": two.embedding.weight})
    tokens = np.random.default_rng(0).integers(0, 20, (2, 8))
    nothing = View.of(Slots.of(np.arange(3) + np.zeros((2, 1), int), NO_DOCUMENT), SEEN, shows=0)
    shown = View.of(Slots.of(np.arange(8) + np.zeros((2, 1), int), segment=1, stream=1), SEEN, shows=np.arange(8))
    looks = [Look.of(view, tokens) for view in (nothing, shown)]
    with torch.no_grad():
        states = two(*looks)[:, 3:]
        assert torch.allclose(states, alone(looks[1]), atol=1e-6)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"noise": "swaps"}, "no noise"),
        ({"rate": 1.0}, "everything"),
        ({"rate": 0.0}, "nothing"),
        ({"shuffled": 2}, "out of range"),
        ({"encoder_layers": -1}, "no stack"),
        ({"span": 0.5}, "shorter than one token"),
        ({"start": "mask"}, "no target begins with"),
    ],
)
def test_settings_that_make_no_sense(fields: dict[str, object], words: str) -> None:
    with pytest.raises(SightlineError, match=words):
        Denoise(WIDE, **fields)  # type: ignore[arg-type]


def test_too_few_sentinels_and_spans_longer_than_a_row() -> None:
    rows = text(40)
    few = Vocabulary(1000, 1000, pad=0, bos=1, eos=2, mask=3, spares=(900,), specials=(0, 1, 2, 3, 900))
    with pytest.raises(SightlineError, match="spare"):
        Denoise(few).ask(rows, Draws(0).of(rows), 0.0)
    with pytest.raises(SightlineError, match="do not fit rows"):
        Denoise(WIDE, span=100).ask(rows, Draws(0).of(rows), 0.0)


def test_depths_are_settings() -> None:
    model = Subject(lambda vocabulary: Denoise(vocabulary, encoder_layers=3, decoder_layers=1)).model()
    assert len(model.stack.encoder.layers) == 3 and len(model.stack.decoder.layers) == 1  # type: ignore[arg-type,union-attr]


@pytest.mark.parametrize("seed", range(3))
def test_two_stacks_are_asked_what_one_is(seed: int) -> None:
    """Of the same draws: the same answers in the same order, each with the same text in sight."""
    rows = text(40, seed)
    (one,) = Prefix(WIDE, denoise=0.3, span=2).ask(rows, Draws(seed).of(rows), 0.0)
    (two,) = Denoise(WIDE, rate=0.3, span=2).ask(rows, Draws(seed).of(rows), 0.0)
    answers = [view.answers(rows.tokens)[0, : int(view.wanted[0].sum())].tolist() for view in (one, two)]
    assert answers[0] == answers[1][1:] and answers[1][0] == SPARES[0]  # two are asked for the first sentinel too

    def in_sight(view: View) -> list[set[int]]:
        """What the asked slots can be reached by: positions of the text, and marks."""
        shown = np.where(view.slots.document[0] == NO_DOCUMENT, NOTHING, view.shows[0])
        reached = reach(view, Depth(4, keeps_input=True))[0][view.wanted[0]]
        return [set(shown[seen].tolist()) - {NOTHING, int(fixed(BOS))} for seen in reached]

    assert in_sight(one) == in_sight(two)[1:]
