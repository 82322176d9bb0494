"""Columns of predicting streams: each place of a span, asked for with the places just before it hidden too.

    span      y1 y2 y3            main stream   column 1: what stands before y1 · column 2: y1 · column 3: y2
                                  stream 1      one MASK behind the main slot: asked for y1 · y2 · y3
                                  stream 2      a second MASK behind that one: asked for y2 · y3 · -
                                  stream 3                                     asked for y3 · -  · -

Slot (k, m), of stream k in column m, sees the main slots up to column m and the lower streams of its own column: it
answers y_{m+k-1} as the last of k masks behind the first m - 1 tokens. Qi et al., BANG (2021).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..sight import MAIN, NO_DOCUMENT, NOTHING, Slots, View, fixed, streamed
from .base import after_document, within_document
from .span import Spans

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class Columns:
    """The columns of each line, one for each place of its spans, side by side; every array is [lines, columns].

    Parameters
    ----------
    place : that is asked for by the column's first stream. document : ``NO_DOCUMENT`` where there is no column.
    before : what the main slot shows, as a code of a view. position : of the main slot; stream k stands k behind it.
    number : of the column in its span, from 0 up. left : places of the span from this one on.
    asked : [lines, places] whether a place is asked for at all. order : of the columns; None: as they stand.
    """

    place: Ints
    document: Ints
    before: Ints
    position: Ints
    number: Ints
    left: Ints
    asked: Bools
    order: Ints | None = None

    @classmethod
    def of(
        cls,
        spans: Spans,
        documents: NDArray[Any],
        *,
        before: ArrayLike,
        position: ArrayLike,
        asked: ArrayLike = True,
        begun: ArrayLike = True,
        most: int | None = None,
    ) -> Columns:
        """A column for each hidden place [rows, places] that is ``begun``, from left to right.

        ``before``, ``position``, ``asked`` : of each place. ``most`` : columns of a line; None: as many as the fullest
        has.
        """
        index = np.arange(documents.shape[1])
        chosen = spans.hidden & np.asarray(begun)
        width = int(chosen.sum(1).max(initial=0)) if most is None else most
        order = np.argsort(~chosen, axis=1, kind="stable")[:, :width]

        def at(part: ArrayLike) -> NDArray[Any]:
            return np.take_along_axis(np.broadcast_to(part, documents.shape), order, axis=1)

        there = at(chosen)
        return cls(
            place=order,
            document=np.where(there, at(documents), NO_DOCUMENT),
            before=at(before),
            position=np.where(there, at(position), 0),
            number=at(index - spans.first),
            left=at(spans.last - index + 1),
            asked=np.broadcast_to(asked, documents.shape),
        )

    @classmethod
    def of_targets(cls, place: Ints, document: Ints, start: int, asked: Bools, left: Ints | None = None) -> Columns:
        """A column for each place of targets [lines, columns], which stand one behind the other from the left.

        ``start`` : shown before each target. ``left`` : places of the target from each on; None: those that are there.
        """
        number = np.where(document != NO_DOCUMENT, within_document(document), 0)
        before = np.where(number == 0, fixed(start), place - 1)
        left = after_document(document) + 1 if left is None else left
        return cls(place, document, before, position=number, number=number, left=left, asked=asked)

    @property
    def count(self) -> int:
        """Columns of a line."""
        return int(self.place.shape[1])

    def every_stream(self, streams: int, mask: int, longest: int | None = None) -> View:
        """Main slots, then the streams one behind the other: each place asked for in each column near enough.

        ``longest`` : most places of a span. Then columns stand by how many places of their span are left, the most
        first, so that those with an answer in a stream are its first: of C columns, at most C (longest - k + 1) /
        longest in stream k.
        """
        columns, count = self, self.count
        counts = [count] * streams
        if longest is not None:
            columns = self._by_left
            counts = [count * (longest - number) // longest for number in range(min(streams, longest))]
        column = np.concatenate([np.arange(each) for each in counts])
        stream = np.repeat(np.arange(1, len(counts) + 1), counts)
        shape = (len(self.place), len(column))
        return columns._laid(np.broadcast_to(column, shape), stream, mask, True, len(column))

    @property
    def _by_left(self) -> Columns:
        """The columns with the most places of their span left first."""
        there = np.where(self.document != NO_DOCUMENT, self.left, 0)
        order = np.argsort(-there, axis=1, kind="stable")
        names = ("place", "document", "before", "position", "number", "left")
        return replace(
            self, order=order, **{name: np.take_along_axis(getattr(self, name), order, axis=1) for name in names}
        )

    def in_blocks(self, block: int, mask: int, main: bool = True) -> View:
        """Each place asked for once, in the column in which its block begins; blocks of 0 are whole spans.

        ``main`` : whether there are main slots at all.
        """
        within = self.number % block if block else self.number
        return self._laid(np.maximum(np.arange(self.count) - within, 0), within + 1, mask, main, self.count)

    def at_end(self, block: int, mask: int) -> View:
        """All main slots, and ``block`` streams of each line's last column, or as many as the span has places left."""
        last = np.maximum((self.document != NO_DOCUMENT).sum(1) - 1, 0)
        width = block or int(np.take_along_axis(self.left, last[:, None], axis=1).max(initial=1))
        column = np.broadcast_to(last[:, None], (len(last), width))
        return self._laid(column, np.arange(1, width + 1), mask, True, width)

    def _laid(self, column: Ints, stream: Ints, mask: int, main: bool, most_asks: int) -> View:
        """Main slots, and behind them slots of these columns and streams [lines, slots]."""
        stream = np.broadcast_to(stream, column.shape)

        def of(part: NDArray[Any]) -> NDArray[Any]:
            return np.take_along_axis(part, column, axis=1)

        order = np.broadcast_to(np.arange(self.count), self.place.shape) if self.order is None else self.order
        place = of(self.place) + stream - 1
        there = (stream <= of(self.left)) & (of(self.document) != NO_DOCUMENT)
        asked = np.take_along_axis(self.asked, np.minimum(place, self.asked.shape[1] - 1), axis=1)
        parts = {
            "place": (self.place - 1, place),
            "document": (self.document, np.where(there, of(self.document), NO_DOCUMENT)),
            "order": (order, of(order)),
            "stream": (np.full_like(self.place, MAIN), MAIN + stream),
            "positions": (self.position, np.where(there, of(self.position) + stream, 0)),
            "shows": (self.before, np.full_like(column, fixed(mask))),
            "asks": (np.full_like(self.place, NOTHING), np.where(there & asked, place, NOTHING)),
        }
        whole = {name: np.concatenate(both[0 if main else 1 :], axis=1) for name, both in parts.items()}
        shows, asks = whole.pop("shows"), whole.pop("asks")
        return View.of(Slots.of(**whole), streamed, shows=shows, asks=asks, most_asks=most_asks)
