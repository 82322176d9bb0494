"""Permuted language models (XLNet): tokens are predicted in a drawn order, each from those before it in that order.

    order    the text                the queries, which show nothing
    1 the    ■ · · ·                 · · · ·                          p(x) = prod_t p(x_z(t) | x_z(<t)), z an order
    4 cat    ■ ■ ■ ■                 ■ · ■ ■   asked for: cat
    2 sat    ■ · ■ ·                 ■ · · ·              sat         exact in any order; the orders need not agree
    3 .      ■ · ■ ■                 ■ · ■ ·              .

Each place has two slots: one of the text, which sees its own token and those before it in the order, and a query,
which knows its place and sees what stands before it, not itself. Nobody sees a query, so the text's states are kept
while it is written, and a query is needed only where something is asked.

A score of whole texts is that of the order from left to right. Any other order is one more likelihood of the same
text; their mean bounds the likelihood of their mixture from above (log is concave). In training the order is drawn
for each row; of some documents everything is asked, of the others the last of the order alone (partial prediction),
given all the rest, which sees itself both ways. What fills a blank knows both sides and may be written in any order.

XLNet's recurrence over segments and its relative positions are not part of it: here a stack tells places as it does
for every other family, so XLNet's weights do not fit.

Yang et al., XLNet: Generalized Autoregressive Pretraining for Language Understanding (2019), and its repository.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from ..data import RowDraws, Rows
from ..decoders.canvas import Canvas
from ..errors import SightlineError
from ..sight import NO_DOCUMENT, NOTHING, Rule, Score, Slots, View, by_order, past, streams
from .base import Column, Given, Objective, within_document
from .causal import next_place

TEXT, QUERY = 0, 1  # streams
FIRST = 0  # the order of all that is given; what is asked comes after it, one by one


@dataclass(frozen=True)
class Permuted(Objective):
    """Two streams over a drawn order.

    Parameters
    ----------
    last : share of a row's tokens that is asked, the last of its order, in (0, 1]. XLNet: 85 of 512, a sixth.
    whole : share of documents that are asked from the first token of their order on, in [0, 1]; above 0 whole texts
        may be scored and continued. XLNet: 0, which needs queries for no more than ``last``.
    """

    last: float = 0.166
    whole: float = 0.5

    family: ClassVar[str] = "permuted"
    title: ClassVar[str] = "permuted (XLNet): each token from those before it in a drawn order"
    score_class: ClassVar[Score] = "exact"
    decoder: ClassVar[str] = "left to right, cached; blanks in any order"
    writes_from: ClassVar[Given] = "left"
    fills_from: ClassVar[Given] = "both"
    shows_nothing: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not 0 < self.last <= 1:
            raise SightlineError(
                f"the last {self.last} of an order {'is nothing' if self.last <= 0 else 'is more than there is'}",
                "Choose a share above 0 and up to 1, such as 0.167",
            )
        if not 0 <= self.whole <= 1:
            raise SightlineError(f"whole={self.whole} is no share of the documents", "Choose one from 0 to 1")

    @property
    def columns(self) -> tuple[Column, ...]:
        """Texts are scored from left to right only if whole orders were trained on."""
        return ("whole text", "continuation") if self.whole > 0 or self.last == 1 else ("infilling",)

    @property
    def rule(self) -> Rule:
        return (streams(TEXT, TEXT) & past) | (streams(QUERY, TEXT) & by_order)

    def ask(self, rows: Rows, draws: RowDraws, progress: float) -> list[View]:
        """A row's order is drawn at once; within a document it is as even a draw. Where texts begin is given."""
        index = within_document(rows.documents)
        opens = (index == 0) | (rows.documents == NO_DOCUMENT)
        rank = np.where(opens, -1.0, draws.uniform(rows.length)).argsort(1, kind="stable").argsort(1, kind="stable")
        most = max(1, round(self.last * rows.length))
        first = np.arange(rows.length) - index
        whole = np.take_along_axis(draws.uniform(rows.length), first, axis=1) < self.whole
        asked = (whole | (rank >= rows.length - most)) & rows.wanted & ~opens
        order = np.where(asked, FIRST + 1 + rank, FIRST)
        return [self._view(rows, order, asked, rows.length if self.whole > 0 else most)]

    def examine(self, rows: Rows) -> Iterator[View]:
        """From left to right, what is not asked too: as a text is written."""
        index = within_document(rows.documents)
        yield self._asking(rows, index, rows.wanted & (index > 0))

    def examine_in(self, rows: Rows, rank: NDArray[np.integer]) -> View:
        """In another order, ``rank`` [rows, length], lowest first within each document; what is not wanted is given."""
        asked = rows.wanted & (within_document(rows.documents) > 0)
        return self._asking(rows, np.where(asked, FIRST + 1 + rank - rank.min(), FIRST), asked)

    def pictured(self, rows: Rows) -> View:
        """An order that is not the text's: every other place first."""
        place = np.broadcast_to(np.arange(rows.length), rows.tokens.shape)
        return self.examine_in(rows, place // 2 + place % 2 * rows.length)

    def read(self, rows: Rows) -> View:
        """The text alone, all of it given: it sees itself both ways."""
        return self._asking(rows, np.full(rows.tokens.shape, FIRST), np.zeros_like(rows.wanted))

    def _asking(self, rows: Rows, order: NDArray[np.integer], asked: NDArray[np.bool_]) -> View:
        return self._view(rows, order, asked, int(asked.sum(1).max(initial=0)))

    def _view(self, rows: Rows, order: NDArray[np.integer], asked: NDArray[np.bool_], most: int) -> View:
        """The text, then ``most`` queries: those of the asked places as they stand in the text, then padding."""
        place = np.broadcast_to(np.arange(rows.length), rows.tokens.shape)
        queries = np.argsort(~asked, axis=1, kind="stable")[:, :most]

        def twice(field: NDArray[np.integer]) -> NDArray[np.integer]:
            return np.concatenate([field, np.take_along_axis(field, queries, axis=1)], axis=1)

        real = np.take_along_axis(asked, queries, axis=1)
        documents = np.concatenate(
            [rows.documents, np.where(real, np.take_along_axis(rows.documents, queries, axis=1), NO_DOCUMENT)], axis=1
        )
        asking = np.arange(rows.length + queries.shape[1]) >= rows.length
        return View.of(
            Slots.of(
                twice(place),
                documents,
                order=twice(order),
                stream=np.where(asking, QUERY, TEXT),
                positions=twice(within_document(rows.documents)),
            ),
            self.rule,
            shows=np.where(asking, NOTHING, twice(place)),
            asks=np.where(asking, twice(place), NOTHING),
            most_asks=max(1, most),
            kind=self.family,
        )

    def fill(self, canvas: Canvas) -> View:
        """Left to right where nothing is given behind what is to be written; else every open place is asked at once,
        given all that stands by now, so that any of the answers may be taken.
        """
        written = np.cumsum(canvas.inside & ~canvas.given, axis=1)
        blanks = np.asarray((canvas.given & (written > 0)).any(1))
        return self._blanks(canvas, blanks) if blanks.any() else self._next(canvas)

    def _next(self, canvas: Canvas) -> View:
        """The text so far, laid out to end together, and behind it the query for the next place."""
        text = next_place(canvas, self.rule, self.family)
        asked = text.asks[:, -1:]
        known = np.maximum(asked, 0)
        slots, asking = text.slots, np.arange(text.slots.count + 1) == text.slots.count
        return View.of(
            Slots.of(
                np.concatenate([slots.place, known], axis=1),
                np.concatenate([slots.document, np.where(asked == NOTHING, NO_DOCUMENT, 0)], axis=1),
                stream=np.where(asking, QUERY, TEXT),
                positions=np.concatenate([slots.positions, known], axis=1),
            ),
            self.rule,
            shows=np.where(asking, NOTHING, np.concatenate([slots.place, known], axis=1)),
            asks=np.where(asking, np.concatenate([slots.place, asked], axis=1), NOTHING),
            most_asks=1,
            kind=self.family,
        )

    def _blanks(self, canvas: Canvas, blanks: NDArray[np.bool_]) -> View:
        """One slot a place: the token that stands there, or a query; lines without blanks ask for their first."""
        place = np.arange(canvas.places)
        both, stands = blanks[:, None], canvas.inside & ~canvas.open
        asked = canvas.open & (both | (np.cumsum(canvas.open, axis=1) == 1))
        return View.of(
            Slots.of(
                place,
                np.where(stands | asked, 0, NO_DOCUMENT),
                order=np.where(both, np.where(stands, FIRST, FIRST + 1), place),
                stream=np.where(stands, TEXT, QUERY),
                positions=place,
            ),
            self.rule,
            shows=np.where(stands, place, NOTHING),
            asks=np.where(asked, place, NOTHING),
            kind=self.family,
        )
