"""Blank infilling (GLM): spans are cut out, and written again one after the other, seeing all that is left.

    the   ■ ■ ■ · · ·   (part A)             p(spans | the rest) = prod_i prod_j p(s_ij | part A, earlier spans, s_i<j)
    MASK  ■ ■ ■ · · ·   (part A)
    .     ■ ■ ■ · · ·   (part A)             exact given the rest; a span at the end is a continuation, and with nothing
    <s>   ■ ■ ■ ■ · ·   asked for: cat       but the start mark before it a whole text
    cat   ■ ■ ■ ■ ■ ·              sat
    sat   ■ ■ ■ ■ ■ ■              end       part B keeps its states; how long a span is, the model is not told

Places are told twice: where the span stands in part A, and how far a slot is within the span. Three kinds of spans,
each with its own mark: short ones, whole sentences, and the rest of a document.

Du et al., GLM: General Language Model Pretraining with Autoregressive Blank Infilling (2022).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from ..data import RowDraws, Rows
from ..decoders.canvas import Canvas
from ..errors import SightlineError
from ..sight import NOTHING, Rule, Score, View, fixed
from . import span as spans_of
from .base import Column, Given, Objective, after_document, first_wanted, text_places, within_document
from .deal import dealt, shares
from .span import Marks, Spans, gaps, next_of_gap, parted


@dataclass(frozen=True)
class Blank(Objective):
    """Spans drawn, cut out and written again.

    Parameters
    ----------
    rate : share of a row's text that short spans or sentences hide, in (0, 1).
    span, longest : mean (Poisson) and largest length of a short span, in tokens.
    sentences, documents : shares of the rows whose spans are whole sentences, or the rest of each document; in the
        others they are short. 0.3 and 0.2 are GLM-10B's.
    least : the smallest share of a document that a rest takes; the largest is all of it.
    empty : of those documents, the share whose rest is everything behind the start mark; above 0 whole texts may be
        scored (GLM itself: 0).
    forget : share of the tokens of part B that are shown as a mask (GLM-10B: 0.1).
    shuffle : spans are written in a drawn order; else as they stand.
    """

    rate: float = 0.15
    span: float = 3.0
    longest: int = 39
    sentences: float = 0.3
    documents: float = 0.2
    least: float = 0.5
    empty: float = 0.5
    forget: float = 0.0
    shuffle: bool = True

    family: ClassVar[str] = "blank"
    title: ClassVar[str] = "blank (GLM): cut-out spans, each written left to right from all the rest"
    score_class: ClassVar[Score] = "exact"
    decoder: ClassVar[str] = "blank after blank, left to right, cached"
    writes_from: ClassVar[Given] = "left"

    def __post_init__(self) -> None:
        if not 0 < self.rate < 1:
            hides = "nothing" if self.rate <= 0 else "everything"
            raise SightlineError(f"a rate of {self.rate} hides {hides}", "Choose a share between 0 and 1, such as 0.15")
        if self.span < 1 or self.longest < self.span:
            raise SightlineError(
                f"spans of {self.span:g} tokens on average and {self.longest} at most cannot be drawn",
                "Use a mean of 1 or more, and no smaller a largest length",
            )
        for name in ("least", "empty", "forget"):
            if not 0 <= getattr(self, name) <= 1:
                raise SightlineError(f"{name} = {getattr(self, name)} is no share", "Use a number from 0 to 1")
        _ = self._weights
        for mark in ("mask", "sep", "eos"):
            self.vocabulary.need(mark)
        if self.sentences or self.documents:
            self.vocabulary.need_some("modes", 2, "a blank that is a sentence or the rest of a text")

    @cached_property
    def _weights(self) -> tuple[Fraction, ...]:
        parts = (1 - self.sentences - self.documents, self.sentences, self.documents)
        return shares(parts, "short spans, sentences and documents")

    @property
    def columns(self) -> tuple[Column, ...]:
        """Continuations are scored only if rests of documents were trained on, whole texts if empty openings were."""
        if not self.documents:
            return ("infilling",)
        return ("whole text", "continuation", "infilling") if self.empty else ("continuation", "infilling")

    @property
    def rule(self) -> Rule:
        return spans_of.PARTS

    @property
    def position_tables(self) -> int:
        return 2

    @property
    def infills(self) -> bool:
        return True

    def term(self, view: View) -> str:
        return self.family  # the mean is over the answers of all kinds of spans

    def ask(self, rows: Rows, draws: RowDraws, progress: float) -> list[View]:
        kinds = dealt(rows, self._weights)
        views = []
        for number, drawn in enumerate((self._short, self._sentences, self._rests)):
            lines = np.flatnonzero(kinds == number)
            if len(lines):
                views.append(drawn(rows.take(lines), draws.take(lines)).of_rows(lines))
        return views

    def _short(self, rows: Rows, draws: RowDraws) -> View:
        text = text_places(rows, self.vocabulary)
        drawn = spans_of.poisson(draws, text, rows.documents, self.rate, self.span, self.longest)
        most = spans_of.most_spans(rows.length, self.rate, self.span)
        asks = min(int(np.ceil(self.rate * rows.length)) + self.longest, rows.length) + most
        return self._parted(rows, draws, drawn, self.vocabulary.mask, most, asks, "short")

    def _sentences(self, rows: Rows, draws: RowDraws) -> View:
        text = text_places(rows, self.vocabulary)
        most = spans_of.most_spans(rows.length, self.rate, self.span)
        drawn = spans_of.sentences(draws, text, rows.documents, rows.sentence_ends, self.rate).at_most(most)
        return self._parted(rows, draws, drawn, self.vocabulary.modes[0], most, rows.length + most, "sentences")

    def _rests(self, rows: Rows, draws: RowDraws) -> View:
        index = within_document(rows.documents)
        first = np.arange(rows.length) - index
        length = index + after_document(rows.documents) + 1
        share, lot = (np.take_along_axis(draws.uniform(rows.length), first, axis=1) for _ in range(2))
        taken = np.ceil((self.least + (1 - self.least) * share) * (length - 1))
        split = np.where(lot < self.empty, 1, np.maximum(length - taken, 1))
        most = spans_of.most_spans(rows.length, self.rate, self.span)
        drawn = spans_of.tails(split, rows.documents).at_most(most)
        return self._parted(rows, draws, drawn, self.vocabulary.modes[1], most, rows.length, "documents", ends=False)

    def _parted(
        self,
        rows: Rows,
        draws: RowDraws,
        drawn: Spans,
        mask: int,
        most: int,
        most_asks: int,
        kind: str,
        ends: bool = True,
    ) -> View:
        shows = None
        if self.forget:
            lost = draws.uniform(rows.length) < self.forget
            shows = np.where(lost, fixed(self.vocabulary.mask), np.arange(rows.length))
        return parted(
            rows.documents,
            drawn,
            self._marks(mask, ends),
            kind=f"{self.family} {kind}",
            most=most,
            lots=draws.uniform(rows.length) if self.shuffle else None,
            shows=shows,
            most_asks=min(most_asks, rows.length + 2 * most),
        )

    def _marks(self, mask: int | NDArray[Any], ends: bool) -> Marks:
        """A rest of a document has the document's own end mark, if it has one; other spans get one."""
        end = fixed(self.vocabulary.eos) if ends else NOTHING
        return Marks(stands=fixed(mask), opens=fixed(self.vocabulary.sep), ends=end)

    @property
    def _rest(self) -> int:
        """The mark of the rest of a document, where it was trained."""
        return self.vocabulary.modes[1] if self.documents else self.vocabulary.mask

    def examine(self, rows: Rows) -> Iterator[View]:
        """What stands before the first wanted position of each document is given, nothing behind it is."""
        split = first_wanted(rows)
        drawn = spans_of.tails(split, rows.documents)
        most = int(drawn.begins.sum(1).max(initial=0))
        yield parted(
            rows.documents,
            drawn,
            self._marks(self._rest, False),
            kind=self.family,
            most=most,
            asked=rows.wanted,
            most_asks=rows.length,
        )

    def infill(self, rows: Rows) -> Iterator[View]:
        """Each run of wanted places is a blank, in the order of the text; its end is asked for too."""
        found, size = spans_of.wanted_runs(rows.wanted, rows.documents)
        most = int(found.begins.sum(1).max(initial=0))
        yield parted(rows.documents, found, self._marks(self._mask_for(size), True), kind=self.family, most=most)

    def _mask_for(self, size: NDArray[np.int64]) -> NDArray[np.int64]:
        """The mark of a blank of so many tokens: a sentence's where short spans are hardly ever as long."""
        long = self.vocabulary.modes[0] if self.sentences else self.vocabulary.mask
        return np.where(size > 2 * self.span, long, self.vocabulary.mask)

    def read(self, rows: Rows) -> View:
        none = np.zeros_like(rows.wanted)
        return parted(rows.documents, Spans(none, none), self._marks(self._rest, False), kind=self.family, most=0)

    def fill(self, canvas: Canvas) -> View:
        """Gaps are blanks, written as they stand; one with nothing given behind it is the rest of the text."""
        holes, size = gaps(canvas)
        behind = np.flip(np.logical_or.accumulate(np.flip(canvas.given, 1), axis=1), 1)
        mask = np.where(behind, self._mask_for(size), self._rest)
        return next_of_gap(canvas, holes, self._marks(mask, True), self.stops, kind=self.family)
