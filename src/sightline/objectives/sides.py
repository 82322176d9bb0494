"""Questions to two stacks: the slots of a source, and behind them those of a target that is written left to right.

    slots     the  <1>  .  |  [  <1>  cat  sat        the source is seen by all and sees itself; a slot of the target
    asks                   | <1>  cat  sat  end       sees the source and the target so far

Both sides stand in columns of their own, as many in every line, so that each is one batch for its stack. A source and
its target come out of one text (``apart``), or are a pair of a corpus: all up to the mark sep, and all behind it.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ..data import Rows
from ..data.vocabulary import Vocabulary
from ..decoders.canvas import Canvas
from ..errors import SightlineError
from ..sight import NO_DOCUMENT, NOTHING, OPENING, Rule, Slots, View, opening, past
from .base import within_document

Ints = NDArray[np.int64]
Start = Literal["", "bos", "pad", "eos"]

SEEN: Rule = opening | past  # by all: the source; by the target: what stands before
WRITTEN = 1  # segment and stream of the target


def apart(
    view: View, columns: tuple[int, int] | None, start: int, kind: str, *, most_asks: int, asks_start: bool = False
) -> View:
    """A view of one stack, whose opening is the source, with source and target in columns of their own.

    Parameters
    ----------
    view : slots of segment ``OPENING`` are the source; those of a document stand together.
    columns : of the source and of the target; None: as many as the fullest line takes, the target's ending together.
    start : the code (see ``fixed``) shown by a slot before each document's target.
    most_asks : answers of a line. asks_start : that slot is asked for the mark which the first of the target shows.
    """
    slots, count = view.slots, view.slots.count
    real = slots.document != NO_DOCUMENT
    opens, written = real & (slots.segment == OPENING), real & (slots.segment != OPENING)
    index, far = np.arange(count), 2 * count
    before = np.maximum.accumulate(np.where(written, index, -1), axis=1)
    before = np.concatenate([np.full_like(before[:, :1], -1), before[:, :-1]], axis=1)  # the one written before each
    same = np.take_along_axis(slots.document, np.maximum(before, 0), axis=1) == slots.document
    begins = written & ((before < 0) | ~same)
    keys = [np.where(begins, 2 * index, far), np.where(written, 2 * index + 1, far)]  # a start, then what it begins
    wide = (None, None) if columns is None else columns
    first, there = _columns(np.where(opens, 2 * index, far), far, wide[0])
    second, here = _columns(np.concatenate(keys, axis=1), far, wide[1], together=columns is None)
    starts, second = second < count, second % count

    def of(field: NDArray[Any], at: Ints) -> NDArray[Any]:
        return np.take_along_axis(np.broadcast_to(field, real.shape), at, axis=1)

    def laid(at: Ints, present: NDArray[np.bool_], shift: NDArray[Any] | int = 0) -> Slots:
        document = np.where(present, of(slots.document, at), NO_DOCUMENT)
        # Padding is alike in every round, so that a cache knows it again, and no table reaches for its positions.
        place, positions = (
            np.where(present, part, 0) for part in (of(slots.place, at) - shift, within_document(document))
        )
        return Slots.of(place, document, positions=positions)

    source = View.of(laid(first, there), SEEN, shows=of(view.shows, first))
    shown = of(view.shows, second)
    target = View.of(
        laid(second, here, shift=starts),
        SEEN,
        shows=np.where(starts, start, shown),
        asks=np.where(starts, shown if asks_start else NOTHING, of(view.asks, second)),
        most_asks=most_asks,
    )
    return beside(source, target, kind)


def _columns(key: Ints, absent: int, width: int | None, together: bool = False) -> tuple[Ints, NDArray[np.bool_]]:
    """Which columns [lines, width] come in the order of their keys, those below ``absent``, and where there are any.

    ``width`` None: as many as the fullest line has. ``together`` : lines end together, not begin.
    """
    order = np.argsort(key, axis=1, kind="stable")
    there = np.take_along_axis(key, order, axis=1) < absent
    most = int(there.sum(1).max(initial=0))
    width = most if width is None else width
    if most > width:
        raise ValueError(f"{width} columns do not hold {most} slots of this view")
    if not together:
        return order[:, :width], there[:, :width]
    column = np.arange(width) - (width - there.sum(1)[:, None])
    return np.take_along_axis(order, np.maximum(column, 0), axis=1), column >= 0


def depths(layers: int, encoder: int, decoder: int) -> tuple[int, int]:
    """Layers of both stacks of a size of so many: as given, or half of the size's where 0 is.

    Raises
    ------
    SightlineError : fewer than none.
    """
    if min(encoder, decoder) < 0:
        raise SightlineError(f"{min(encoder, decoder)} layers are no stack", "Use 1 or more, or 0 for half of the size")
    half = max(1, layers // 2)
    return encoder or max(1, layers - half), decoder or half


def starting(vocabulary: Vocabulary, mark: Start = "") -> int:
    """The mark that a target begins with: the one named, else bos, or where there is none padding."""
    return vocabulary.need(mark or ("bos" if vocabulary.bos >= 0 else "pad"))


def behind_sep(tokens: NDArray[Any], documents: NDArray[Any], sep: int) -> NDArray[np.bool_]:
    """Which places [lines, places] stand behind the sep of their document."""
    marks = (tokens == sep) & (documents != NO_DOCUMENT)
    before = np.cumsum(marks, axis=1) - marks
    first = np.arange(tokens.shape[1]) - within_document(documents)
    return np.asarray((before > np.take_along_axis(before, first, axis=1)) & (documents != NO_DOCUMENT))


def of_pairs(rows: Rows, vocabulary: Vocabulary) -> tuple[View, Ints, Ints]:
    """The sources of rows of pairs, and place and document of each column of their targets, [lines, columns]."""
    written = behind_sep(rows.tokens, rows.documents, vocabulary.sep)
    opens = (rows.documents != NO_DOCUMENT) & ~written
    index, halves = np.arange(rows.length), rows.halves or (None, None)
    first, there = _columns(np.where(opens, index, rows.length), rows.length, halves[0])
    second, here = _columns(np.where(written, index, rows.length), rows.length, halves[1])

    def documents(at: Ints, present: NDArray[np.bool_]) -> Ints:
        return np.where(present, np.take_along_axis(rows.documents, at, axis=1), NO_DOCUMENT)

    return _source(first, documents(first, there)), second, documents(second, here)


def of_canvas(canvas: Canvas, vocabulary: Vocabulary) -> tuple[View, Ints]:
    """The sources that texts are written for, and in which place [lines] each target begins."""
    place = np.arange(canvas.places)
    begins = 1 + (canvas.tokens == vocabulary.sep).argmax(1)
    columns = int(begins.max(initial=0))
    inside = np.where(place[:columns] < begins[:, None], 0, NO_DOCUMENT)
    return _source(np.broadcast_to(place[:columns], inside.shape), inside), begins


def _source(place: Ints, document: Ints) -> View:
    positions = np.where(document != NO_DOCUMENT, within_document(document), 0)
    return View.of(Slots.of(place, document, positions=positions), SEEN, shows=place)


def source_view(rows: Rows, kind: str) -> View:
    """The rows as a source alone, which asks nothing: its states represent the text."""
    place = np.arange(rows.length)
    slots = Slots.of(place, rows.documents, segment=OPENING, stream=OPENING, positions=within_document(rows.documents))
    return View.of(slots, SEEN, shows=place, kind=kind)


def beside(
    source: View, target: View, kind: str, declared: NDArray[np.bool_] | None = None, sight: Rule = SEEN
) -> View:
    """Two views of the same lines as the source, of which nothing is asked, and the target of one.

    ``declared`` : slots of the target that are asked for what the source shows, as a text that is written whole has it.
    ``sight`` : another than that of a target written left to right; then orders and streams are the target's own.
    """
    parts = (source, target)
    count = [part.slots.count for part in parts]
    side = np.repeat([OPENING, WRITTEN], count)
    order, stream = np.arange(sum(count)), side
    if sight != SEEN:
        shape = (source.slots.lines, count[0])
        order = np.concatenate([np.broadcast_to(order[: count[0]], shape), count[0] + target.slots.order], axis=1)
        stream = np.concatenate([np.full(shape, OPENING), target.slots.stream], axis=1)

    def joined(name: str) -> NDArray[Any]:
        return np.concatenate([getattr(part.slots, name) for part in parts], axis=1)

    return View.of(
        Slots.of(
            joined("place"),
            joined("document"),
            order=order,
            segment=side,
            stream=stream,
            positions=joined("positions"),
        ),
        sight,
        shows=np.concatenate([part.shows for part in parts], axis=1),
        asks=np.concatenate([np.full_like(source.asks, NOTHING), target.asks], axis=1),
        most_asks=target.most_asks,
        kind=kind,
        declared=None if declared is None else np.concatenate([np.zeros_like(source.asks, np.bool_), declared], axis=1),
    )
