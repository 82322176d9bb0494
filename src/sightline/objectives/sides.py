"""Questions to two stacks: the slots of a source, and behind them those of a target that is written left to right.

    slots     the  <1>  .  |  [  <1>  cat  sat        the source is seen by all and sees itself; a slot of the target
    asks                   | <1>  cat  sat  end       sees the source and the target so far

Both sides stand in columns of their own, as many in every line, so that each is one batch for its stack.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ..data import Rows
from ..data.vocabulary import Vocabulary
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
    source, target = real & (slots.segment == OPENING), real & (slots.segment != OPENING)
    before = np.where(target, np.arange(count), -1)
    last = np.maximum.accumulate(np.concatenate([np.full_like(before[:, :1], -1), before[:, :-1]], axis=1), axis=1)
    document_before = np.take_along_axis(slots.document, np.maximum(last, 0), axis=1)
    begins = target & ((last < 0) | (document_before != slots.document))
    index = np.arange(count)
    far = 2 * count + 2
    written = np.concatenate([np.where(begins, 2 * index, far), np.where(target, 2 * index + 1, far)], axis=1)
    keys = np.where(source, index, far), written
    parts = [np.argsort(key, axis=1, kind="stable") for key in keys]
    present = [np.take_along_axis(key, part, axis=1) < far for key, part in zip(keys, parts, strict=True)]
    widths = tuple(int(part.sum(1).max(initial=0)) for part in present) if columns is None else columns
    if any(bool(part[:, width:].any()) for part, width in zip(present, widths, strict=True)):
        raise ValueError(f"sides of {widths} slots do not hold a line of this view")
    if columns is None:  # the targets end together
        shift = widths[1] - present[1].sum(1)[:, None]
        column = np.arange(widths[1]) - shift
        parts[1] = np.take_along_axis(parts[1], np.maximum(column, 0), axis=1)
        present[1] = column >= 0
    else:
        parts[1], present[1] = parts[1][:, : widths[1]], present[1][:, : widths[1]]
    parts[0], present[0] = parts[0][:, : widths[0]], present[0][:, : widths[0]]
    opener = parts[1] < count
    at = np.concatenate([parts[0], parts[1] % count], axis=1)
    is_start = np.concatenate([np.zeros_like(parts[0], dtype=bool), opener], axis=1)
    there = np.concatenate(present, axis=1)

    def of(field: NDArray[Any]) -> NDArray[Any]:
        return np.take_along_axis(np.broadcast_to(field, real.shape), at, axis=1)

    document = np.where(there, of(slots.document), NO_DOCUMENT)
    side = np.repeat([OPENING, WRITTEN], widths)
    positions = np.concatenate(
        [within_document(document[:, : widths[0]]), within_document(document[:, widths[0] :])], axis=1
    )
    shown = of(view.shows)
    asked = np.where(is_start, shown if asks_start else NOTHING, of(view.asks))
    return View.of(
        Slots.of(
            np.where(is_start, of(slots.place) - 1, of(slots.place)),
            document,
            order=np.arange(sum(widths)),
            segment=side,
            stream=side,
            positions=np.where(there, positions, 0),
        ),
        SEEN,
        shows=np.where(is_start, start, shown),
        asks=asked,
        most_asks=most_asks,
        lines_of=view.lines_of,
        kind=kind,
    )


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


def source_view(rows: Rows, kind: str) -> View:
    """The rows as a source alone, which asks nothing: its states represent the text."""
    place = np.arange(rows.length)
    slots = Slots.of(place, rows.documents, segment=OPENING, stream=OPENING, positions=within_document(rows.documents))
    return View.of(slots, SEEN, shows=place, kind=kind)


def beside(source: View, target: View, kind: str, declared: NDArray[np.bool_] | None = None) -> View:
    """Two views of the same lines as the source, of which nothing is asked, and the target of one.

    ``declared`` : slots of the target that are asked for what the source shows, as a text that is written whole has it.
    """
    parts = (source, target)
    count = [part.slots.count for part in parts]
    side = np.repeat([OPENING, WRITTEN], count)

    def joined(name: str) -> NDArray[Any]:
        return np.concatenate([getattr(part.slots, name) for part in parts], axis=1)

    return View.of(
        Slots.of(
            joined("place"),
            joined("document"),
            order=np.arange(sum(count)),
            segment=side,
            stream=side,
            positions=joined("positions"),
        ),
        SEEN,
        shows=np.concatenate([part.shows for part in parts], axis=1),
        asks=np.concatenate([np.full_like(source.asks, NOTHING), target.asks], axis=1),
        most_asks=target.most_asks,
        kind=kind,
        declared=None if declared is None else np.concatenate([np.zeros_like(source.asks, np.bool_), declared], axis=1),
    )
