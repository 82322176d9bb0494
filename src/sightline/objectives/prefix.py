"""Prefix language models: an opening that sees itself both ways, and a rest that is written left to right.

    the  ■ ■ · ·   (opening)             p(rest | opening) = prod_t p(x_t | opening, x_<t)
    cat  ■ ■ · ·   asked for: sat
    sat  ■ ■ ■ ·              .          exact given the opening; with an opening of nothing but the start mark it is
    .    ■ ■ ■ ■              end        the causal model, so that whole texts can be scored too

Raffel et al., Exploring the Limits of Transfer Learning (T5, 2020); Dong et al., UniLM (2019).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from ..data import RowDraws, Rows
from ..decoders.canvas import Canvas
from ..sight import NOTHING, OPENING, Rule, Score, Slots, View, opening, past
from .base import Column, Given, Objective, after_document, next_in_document, within_document
from .causal import next_place


@dataclass(frozen=True)
class Prefix(Objective):
    """An opening of drawn length, then left to right.

    Parameters
    ----------
    empty : share of documents whose opening is the start mark alone, in [0, 1]; above 0 whole texts may be scored.
    """

    empty: float = 0.5

    family: ClassVar[str] = "prefix"
    title: ClassVar[str] = "prefix: an opening seen both ways, the rest left to right"
    score_class: ClassVar[Score] = "exact"
    decoder: ClassVar[str] = "left to right after the opening, cached"
    writes_from: ClassVar[Given] = "left"

    @property
    def columns(self) -> tuple[Column, ...]:
        """Whole texts are scored only if openings of nothing were trained on too."""
        return ("whole text", "continuation") if self.empty > 0 else ("continuation",)

    @property
    def rule(self) -> Rule:
        return past | opening

    def ask(self, rows: Rows, draws: RowDraws, progress: float) -> list[View]:
        """The opening of each document is one token with probability ``empty``, else uniform in [1, length)."""
        index, behind = within_document(rows.documents), after_document(rows.documents)
        first = np.arange(rows.length) - index  # where each place's document starts: one draw per document
        length = index + behind + 1
        split = 1 + np.floor(np.take_along_axis(draws.uniform(rows.length), first, axis=1) * np.maximum(length - 1, 1))
        empty = np.take_along_axis(draws.uniform(rows.length), first, axis=1) < self.empty
        return [self._view(rows, np.where(empty, 1, split), asking=True)]

    def examine(self, rows: Rows) -> Iterator[View]:
        """The opening is what stands before the first wanted position of each document."""
        yield self._view(rows, _before_wanted(rows), asking=True)

    def read(self, rows: Rows) -> View:
        return self._view(rows, np.full(rows.tokens.shape, rows.length), asking=False)

    def _view(self, rows: Rows, split: NDArray[np.floating | np.integer], asking: bool) -> View:
        place = np.arange(rows.length)
        index = within_document(rows.documents)
        wanted = np.zeros_like(rows.wanted)
        wanted[:, :-1] = rows.wanted[:, 1:]
        asked = next_in_document(rows.documents) & (index >= split - 1) & wanted & asking
        return View.of(
            Slots.of(place, rows.documents, segment=np.where(index < split, OPENING, 1), positions=index),
            self.rule,
            shows=place,
            asks=np.where(asked, place + 1, NOTHING),
            kind=self.family,
        )

    def fill(self, canvas: Canvas) -> View:
        return next_place(canvas, self.rule, self.family)


def _before_wanted(rows: Rows) -> NDArray[np.int64]:
    """For each place, how many places of its document stand before the document's first wanted place (at least 1)."""
    index = within_document(rows.documents)
    far = np.where(rows.wanted, index, rows.length)
    split = np.full(rows.tokens.shape, rows.length, dtype=np.int64)
    for document in range(int(rows.documents.max(initial=-1)) + 1):
        inside = rows.documents == document
        split = np.where(inside, np.where(inside, far, rows.length).min(1, keepdims=True), split)
    return np.maximum(split, 1)
