"""Spans as they are drawn and laid out: how many, how long, where, and that nothing of the text is lost."""

from __future__ import annotations

import numpy as np
import pytest

from sightline.data import Document, Draws, Packed, Rows, tokenized, train_tokenizer
from sightline.errors import SightlineError
from sightline.objectives.span import Marks, Spans, composed, parted, poisson, sentences, tails, usual_spans
from sightline.sight import fixed

T = 256
MASK, OPEN, END = 90, 91, 92


def rows(count: int, cuts: tuple[int, ...] = (), length: int = T) -> tuple[np.ndarray, np.ndarray, Rows]:
    """Text everywhere but at the first place of each document."""
    place = np.arange(length)
    documents = np.broadcast_to(np.searchsorted(np.array(cuts), place, "right"), (count, length)).astype(np.int32)
    text = np.broadcast_to(~np.isin(place, (0, *cuts)), (count, length))
    numbers = np.arange(count)
    tokens = np.zeros((count, length), np.int32)
    return text, documents, Rows(tokens, documents, numbers, 0 * numbers, text, documents, text)


def lengths(spans: Spans) -> np.ndarray:
    """Of all spans, in order."""
    return np.bincount(np.cumsum(spans.begins.ravel())[spans.hidden.ravel()])[1:]


def test_short_spans_have_poisson_s_lengths_and_do_not_touch() -> None:
    text, documents, made = rows(400)
    spans = poisson(Draws(1).of(made), text, documents, 0.15, 3.0, 39)
    sizes = lengths(spans)
    counts = np.bincount(sizes, minlength=12)[1:9] / len(sizes)
    terms = np.exp(np.arange(1, 9) * np.log(3) - 3 - np.cumsum(np.log(np.arange(1, 9)))) / (1 - np.exp(-3))
    assert np.abs(counts - terms).max() < 0.02
    share = spans.hidden.sum(1) / text.sum(1)
    assert (share >= 0.15).all() and share.mean() < 0.165
    ends = spans.hidden & ~spans.goes_on
    assert not (ends[:, :-1] & spans.begins[:, 1:]).any()
    first = spans.hidden[:, 1].mean(), spans.hidden[:, 128].mean(), spans.hidden[:, -1].mean()
    assert max(first) - min(first) < 0.1, "every place is as likely"


def test_spans_keep_within_documents_and_text() -> None:
    text, documents, made = rows(50, (3, 40, 44, 170))
    for spans in (
        poisson(Draws(1).of(made), text, documents, 0.4, 5.0, 39),
        composed(Draws(1).of(made), text, documents, 0.5, 8.0),
    ):
        assert not (spans.hidden & ~text).any()
        assert (spans.begins <= spans.hidden).all()
        reached = np.take_along_axis(documents, spans.first, axis=1)
        assert (reached == documents)[spans.hidden].all()
        assert 0.3 < spans.hidden.mean() < 0.5


def test_t5_s_numbers_are_exact() -> None:
    """568 tokens lose 85 in 28 spans: with sentinels and an end mark 512 stay and 114 are written (Raffel et al.)."""
    text, documents, made = rows(6, (), 569)
    spans = composed(Draws(1).of(made), text, documents, 0.15, 3.0)
    assert (spans.hidden.sum(1) == 85).all() and (spans.begins.sum(1) == 28).all()
    assert (568 - 85 + 28 + 1, 85 + 28 + 1) == (512, 114)
    assert not spans.hidden[:, 1].any() and spans.hidden[:, -1].all(), "the first token stays, the last is hidden"
    assert lengths(spans).mean() == pytest.approx(85 / 28)
    assert usual_spans(568, 0.15, 3.0) == 29


def test_a_composition_is_even() -> None:
    """5 tokens, 2 hidden in 2 spans of 1: what is left is 1 + 2 or 2 + 1, each as often."""
    text, documents, made = rows(2000, (), 6)
    spans = composed(Draws(1).of(made), text, documents, 0.4, 1.0)
    kinds, often = np.unique(spans.hidden[:, 1:], axis=0, return_counts=True)
    assert kinds.tolist() == [[False, False, True, False, True], [False, True, False, False, True]]
    assert abs(often[0] / 2000 - 0.5) < 0.05


@pytest.mark.parametrize("shuffled", [False, True])
def test_what_is_left_and_what_is_written_make_the_text(shuffled: bool) -> None:
    text, documents, made = rows(8, (100,))
    draws = Draws(2).of(made)
    spans = poisson(draws, text, documents, 0.3, 4.0, 39)
    lots = draws.uniform(T) if shuffled else None
    view = parted(documents, spans, Marks(fixed(MASK), fixed(OPEN), fixed(END)), kind="x", most=60, lots=lots)
    assert view.slots.count == T + 120
    for line in range(8):
        shown, part = view.shows[line], view.slots.segment[line]
        left = shown[(part == 0) & (view.slots.document[line] >= 0)].tolist()
        pieces: dict[int, list[int]] = {}
        for code, asked in zip(shown[part == 1].tolist(), view.asks[line][part == 1].tolist(), strict=True):
            if code == fixed(OPEN):
                begun = asked
                pieces[begun] = []
            if asked >= 0:
                pieces[begun].append(asked)
        masks = sorted(pieces)
        whole = [place for code in left for place in (pieces[masks.pop(0)] if code == fixed(MASK) else [code])]
        assert whole == list(range(T))
        assert (view.asks[line] == fixed(END)).sum() == len(pieces)
        if shuffled:
            assert list(pieces) != sorted(pieces)
        first, second = view.slots.positions[line, :, 0], view.slots.positions[line, :, 1]
        for place, piece in pieces.items():
            at = int(np.flatnonzero(view.asks[line] == place)[0])  # the opener
            assert len(set(first[at : at + len(piece) + 1].tolist())) == 1, "however long: one place in part A"
            assert second[at : at + len(piece) + 1].tolist() == list(range(1, len(piece) + 2))
            mask = np.flatnonzero((shown == fixed(MASK)) & (view.slots.place[line] == place))[0]
            assert first[mask] == first[at] and second[mask] == 0


def test_in_one_dimension_the_second_part_goes_on_after_the_first() -> None:
    text, documents, made = rows(3, (60, 200))
    spans = composed(Draws(2).of(made), text, documents, 0.5, 3.0)
    view = parted(documents, spans, Marks(fixed(MASK), fixed(OPEN)), kind="x", most=60, flat=True)
    for line in range(3):
        for document in range(3):
            mine = view.slots.document[line] == document
            assert view.slots.positions[line][mine].tolist() == list(range(mine.sum()))


def test_whole_sentences_in_english_and_chinese(tmp_path: object) -> None:
    text = "A cat sat. It slept all day! Why? Nobody knew. " * 12 + "猫坐在垫子上。狗看见了它。为什么？没有人知道。" * 8
    tokenizer = train_tokenizer([text], "byte")
    packed = Packed(tokenized([Document("d", text)], tokenizer, tmp_path / "t"), 128, tokenizer)  # type: ignore[operator]
    made = packed.rows(np.arange(packed.count), np.zeros(packed.count, int))
    words = ~tokenizer.vocabulary.is_special[made.tokens]
    spans = sentences(Draws(3).of(made), words, made.documents, made.sentence_ends, 0.15)
    for row in range(packed.count):
        for begin in np.flatnonzero(spans.begins[row]):
            before = tokenizer.decode(made.tokens[row, :begin]).strip()
            assert not before or before[-1] in ".!?。？", before
            end = begin + int((~spans.goes_on[row, begin:]).argmax())
            assert end == 127 or made.sentence_ends[row, end]
        assert spans.hidden[row].sum() >= 0.15 * words[row].sum()


def test_the_rest_of_each_document() -> None:
    _, documents, _ = rows(1, (4, 9), 12)
    spans = tails(np.full((1, 12), 3), documents)
    assert np.flatnonzero(spans.begins[0]).tolist() == [3, 7]
    assert np.flatnonzero(spans.hidden[0]).tolist() == [3, 7, 8]
    assert np.flatnonzero(tails(np.full((1, 12), 1), documents).at_most(2).hidden[0]).tolist() == [1, 2, 3, 5, 6, 7, 8]


def test_rows_without_text_hide_nothing() -> None:
    text, documents, made = rows(2, (), 12)
    for words in (text & False, text & (np.arange(12) == 5)):
        assert poisson(Draws(1).of(made), words, documents, 0.3, 2.0, 5).hidden.sum() <= 2
        assert not composed(Draws(1).of(made), words, documents, 0.3, 2.0).hidden.any()
        assert not (sentences(Draws(1).of(made), words, documents, words, 0.3).hidden & ~words).any()


def test_spans_longer_than_a_row_are_a_clear_error() -> None:
    text, documents, made = rows(1, (), 32)
    with pytest.raises(SightlineError, match="spans of 64 tokens do not fit rows of 32"):
        composed(Draws(1).of(made), text, documents, 0.5, 64.0)
