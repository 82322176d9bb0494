"""Ending: a text is written left to right towards an ending that is known from the start.

    the  ■ · · ■ ■   asked for: cat      p(rest | ending) = prod_t p(x_t | x_<t, ending)
    cat  ■ ■ · ■ ■              sat
    sat  ■ ■ ■ ■ ■              -        exact; with no ending at all it is the causal model, so that whole texts
    on   · · · ■ ■   (ending)            can be scored too
    it   · · · ■ ■   (ending)

The mirror of the prefix family: there the opening is known, here the end.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from sightline.data import RowDraws, Rows
from sightline.decoders.canvas import Canvas
from sightline.objectives import Objective
from sightline.objectives.base import Column, Given, after_document, next_in_document, within_document
from sightline.objectives.causal import next_place
from sightline.sight import NO_DOCUMENT, NOTHING, OPENING, Rule, Score, Slots, View, asker, opening, past

REST = 1  # the segment of everything that is no ending


@dataclass(frozen=True)
class Ending(Objective):
    """Left to right towards an ending of drawn length.

    Parameters
    ----------
    empty : share of documents without an ending, in (0, 1]; it makes scores of whole texts honest.
    """

    empty: float = 0.5

    family: ClassVar[str] = "ending"
    title: ClassVar[str] = "ending: left to right, towards a known ending"
    score_class: ClassVar[Score] = "exact"
    decoder: ClassVar[str] = "left to right, cached"
    writes_from: ClassVar[Given] = "left"

    @property
    def columns(self) -> tuple[Column, ...]:
        return ("whole text", "continuation")

    @property
    def rule(self) -> Rule:
        """Everyone sees the ending; who is not of the ending also sees the past."""
        return opening | (past & (asker.segment == REST))

    def ask(self, rows: Rows, draws: RowDraws, progress: float) -> list[View]:
        index = within_document(rows.documents)
        first = np.arange(rows.length) - index  # where each place's document begins: one draw for each document
        length = index + after_document(rows.documents) + 1
        share, lot = (np.take_along_axis(draws.uniform(rows.length), first, axis=1) for _ in range(2))
        known = np.where(lot < self.empty, 0, 1 + np.floor(share * np.maximum(length - 2, 1)))
        return [self._view(rows, known, asking=True)]

    def examine(self, rows: Rows) -> Iterator[View]:
        yield self._view(rows, np.zeros(rows.tokens.shape), asking=True)

    def read(self, rows: Rows) -> View:
        return self._view(rows, np.zeros(rows.tokens.shape), asking=False)

    def _view(self, rows: Rows, known: NDArray[np.floating], asking: bool) -> View:
        place = np.arange(rows.length)
        ending = after_document(rows.documents) < known
        may_ask = np.zeros_like(ending)
        may_ask[:, :-1] = (rows.wanted & ~ending)[:, 1:]
        asked = next_in_document(rows.documents) & may_ask & asking
        return View.of(
            Slots.of(
                place,
                rows.documents,
                segment=np.where(ending, OPENING, REST),
                positions=within_document(rows.documents),
            ),
            self.rule,
            shows=place,
            asks=np.where(asked, place + 1, NOTHING),
            kind=self.family,
        )

    def fill(self, canvas: Canvas) -> View:
        """The ending first, then what is written, the last of which asks for the first open place."""
        left = next_place(canvas, self.rule, self.family)
        behind = canvas.given & (np.cumsum(canvas.open[:, ::-1], axis=1)[:, ::-1] == 0) & ~canvas.done[:, None]
        width = int(behind.sum(1).max(initial=0))
        place = np.argsort(~behind, axis=1, kind="stable")[:, :width]  # of the ending, in order
        shown = np.take_along_axis(behind, place, axis=1)
        slots = Slots.of(
            np.concatenate([place, left.slots.place], 1),
            np.concatenate([np.where(shown, 0, NO_DOCUMENT), left.slots.document], 1),
            segment=np.concatenate([np.full_like(place, OPENING), np.full_like(left.slots.place, REST)], 1),
            positions=np.concatenate([place, left.slots.positions], 1),
        )
        nothing = np.full_like(place, NOTHING)
        return View.of(
            slots,
            self.rule,
            shows=np.concatenate([place, left.shows], 1),
            asks=np.concatenate([nothing, left.asks], 1),
            most_asks=1,
            kind=self.family,
        )
