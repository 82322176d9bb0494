"""Prefix language models: an opening that sees itself both ways, and a rest that is written left to right.

    the  ■ ■ · ·   (opening)             p(rest | opening) = prod_t p(x_t | opening, x_<t)
    cat  ■ ■ · ·   asked for: sat
    sat  ■ ■ ■ ·              .          exact given the opening; with an opening of nothing but the start mark it is
    .    ■ ■ ■ ■              end        the causal model, so that whole texts can be scored too

Three things may be asked of the rest. The next token (the default). With ``at_mask``, some tokens of the rest stand
hidden and each is answered where it stands, as in BERT (UniLM; ``at_mask.py`` draws it). With ``denoise``, the opening
is a text with spans cut out, a sentinel for each, and the rest is the sentinels with their spans (T5's objective on one
stack).

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
from ..errors import SightlineError
from ..sight import NO_DOCUMENT, NOTHING, OPENING, Rule, Score, Slots, View, by_order, fixed, opening, past
from . import at_mask as masks
from . import span as spans_of
from .base import Column, Given, Objective, after_document, first_wanted, next_in_document, text_places, within_document
from .causal import next_place
from .sides import behind_sep
from .span import Marks, Spans, gaps, next_of_gap, parted

REST = 1  # the segment of what stands behind the opening


@dataclass(frozen=True)
class Prefix(Objective):
    """An opening of drawn length, then left to right.

    Parameters
    ----------
    empty : share of documents whose opening is the start mark alone, in [0, 1]; above 0 whole texts may be scored.
    rest : the mean share of a document that stands behind its opening, up to 0.5; it is drawn from 0 to twice that.
    both_ways : whether the opening sees itself both ways; false is the causal baseline of T5's comparison.
    at_mask : share of the rest's tokens that are hidden and asked for where they stand, in [0, 1); 0: next tokens.
        UniLM trains with 0.15 and tunes with 0.7; of the hidden, 80% show the mask, 10% another token, 10% their own.
    hide : with at_mask, single tokens, or ``gram``: of the draws one in five hides two or three in a row.
    denoise : share of the text that is cut out in spans, in [0, 1); 0: the text is split in two instead.
    span : their mean length in tokens. T5: 0.15 and 3.
    """

    empty: float = 0.5
    rest: float = 0.5
    both_ways: bool = True
    at_mask: float = 0.0
    hide: masks.Hide = "token"
    denoise: float = 0.0
    span: float = 3.0

    family: ClassVar[str] = "prefix"
    title: ClassVar[str] = "prefix: an opening seen both ways, the rest left to right"
    score_class: ClassVar[Score] = "exact"
    decoder: ClassVar[str] = "left to right after the opening, cached"
    writes_from: ClassVar[Given] = "left"

    def __post_init__(self) -> None:
        for name, most in (("empty", 1.0), ("rest", 0.5)):
            if not 0 <= getattr(self, name) <= most:
                raise SightlineError(f"{name} = {getattr(self, name)} is out of range", f"Use a share from 0 to {most}")
        masks.check(self.at_mask, self.hide, self.vocabulary)
        masks.check_share("denoise", self.denoise)
        if self.at_mask and self.denoise:
            raise SightlineError("at_mask and denoise are two ways to ask", "Give one of them, or mix them: mix")
        if self.span < 1:
            raise SightlineError(f"a mean span of {self.span} tokens is shorter than one token", "Use 1 or more")
        if self.denoise:
            self.vocabulary.need("eos")
            self.vocabulary.need_some("spares", 1, "a sentinel for each span")

    @property
    def columns(self) -> tuple[Column, ...]:
        """Whole texts are scored only if openings of nothing were trained on too."""
        if self.denoise:
            return ("infilling",)
        return ("whole text", "continuation") if self.empty > 0 else ("continuation",)

    @property
    def rule(self) -> Rule:
        if self.at_mask:
            return masks.text_only(by_order | opening if self.both_ways else by_order)
        return past | opening if self.both_ways else past

    @property
    def infills(self) -> bool:
        return self.denoise > 0

    @property
    def stops(self) -> tuple[int, ...]:
        """The end of the text; in a text with spans also the sentinel of the next."""
        return (*self.vocabulary.stops, *(self.vocabulary.spares if self.denoise else ()))

    def ask(self, rows: Rows, draws: RowDraws, progress: float) -> list[View]:
        if self.denoise:
            return [self._cut(rows, draws)]
        split = self._split(rows, draws)
        if not self.at_mask:
            return [self._view(rows, split, asking=True)]
        rest = self._rest(rows, split)
        return [masks.hiding(self._view(rows, split), rest, self.at_mask, self.hide, draws, self.vocabulary)]

    def _split(self, rows: Rows, draws: RowDraws) -> NDArray[np.floating]:
        """The opening of each document is one token with probability ``empty``, else uniform in [1, length).

        That of a pair is its source.
        """
        index, behind = within_document(rows.documents), after_document(rows.documents)
        first = np.arange(rows.length) - index  # where each place's document starts: one draw per document
        length = index + behind + 1
        if rows.halves is not None:
            given = np.cumsum(~behind_sep(rows.tokens, rows.documents, self.vocabulary.sep), axis=1)
            ends = np.arange(rows.length) + behind
            return 1.0 + np.take_along_axis(given, ends, axis=1) - np.take_along_axis(given, first, axis=1)
        share = np.take_along_axis(draws.uniform(rows.length), first, axis=1)
        share = (1 - 2 * self.rest) + 2 * self.rest * share
        split = 1 + np.floor(share * np.maximum(length - 1, 1))
        empty = np.take_along_axis(draws.uniform(rows.length), first, axis=1) < self.empty
        return np.where(empty, 1, split)

    def _rest(self, rows: Rows, split: NDArray[np.floating | np.integer]) -> NDArray[np.bool_]:
        """Which places [rows, length] stand behind the opening, the mark that ends the text too."""
        index = within_document(rows.documents)
        return np.asarray((index >= split) & (index > 0) & (rows.documents != NO_DOCUMENT))

    def _cut(self, rows: Rows, draws: RowDraws) -> View:
        """Spans of the text, each answered behind the opening after its sentinel."""
        most = spans_of.usual_spans(rows.length, self.denoise, self.span)
        self.vocabulary.need_some("spares", most, f"hiding {self.denoise:g} of {rows.length} tokens in spans")
        text = text_places(rows, self.vocabulary)
        drawn = spans_of.composed(draws, text, rows.documents, self.denoise, self.span)
        return self._parted(rows.documents, drawn, most, int(np.ceil(self.denoise * rows.length)) + 1 + most)

    def _parted(
        self,
        documents: NDArray[np.int32],
        drawn: Spans,
        most: int,
        most_asks: int,
        ends: bool = True,
        asked: NDArray[np.bool_] | bool = True,
    ) -> View:
        return parted(
            documents,
            drawn,
            self._sentinels(drawn, documents, ends),
            kind=self.family,
            most=most,
            asked=asked,
            flat=True,
            most_asks=min(most_asks, documents.shape[1] + 2 * most),
            sight=self.rule,
        )

    def _sentinels(self, drawn: Spans, documents: NDArray[np.int32], ends: bool) -> Marks:
        """A span is begun by its sentinel and ended by the next, the last of a document by the end mark."""
        spares = np.array(self.vocabulary.spares)
        number = drawn.number(documents)
        if len(spares) <= int(number.max(initial=0)):
            self.vocabulary.need_some("spares", int(number.max()) + 1, "a sentinel for each blank")
        own = fixed(spares[np.maximum(number, 0)])
        after = fixed(spares[np.minimum(np.maximum(number, 0) + 1, len(spares) - 1)])
        end = np.where(_last(drawn, documents), fixed(self.vocabulary.eos), after)
        return Marks(stands=own, opens=own, ends=end if ends else NOTHING)

    def examine(self, rows: Rows) -> Iterator[View]:
        """The opening is what stands before the first wanted position of each document."""
        split = first_wanted(rows)
        if self.denoise:
            rest = spans_of.tails(split, rows.documents)
            most = int(rest.begins.sum(1).max(initial=0))
            yield self._parted(rows.documents, rest, most, rows.length, ends=False, asked=rows.wanted)
        elif self.at_mask:
            asked = rows.wanted & self._rest(rows, split)
            yield masks.beside(self._view(rows, split), asked, self.vocabulary.mask)
        else:
            yield self._view(rows, split, asking=True)

    def infill(self, rows: Rows) -> Iterator[View]:
        """Each run of wanted places is a blank, in the order of the text; its end is asked for too."""
        found, _ = spans_of.wanted_runs(rows.wanted, rows.documents)
        most = int(found.begins.sum(1).max(initial=0))
        yield self._parted(rows.documents, found, most, rows.length + most)

    def read(self, rows: Rows) -> View:
        return self._view(rows, np.full(rows.tokens.shape, rows.length))

    def _view(self, rows: Rows, split: NDArray[np.floating | np.integer], asking: bool = False) -> View:
        place = np.arange(rows.length)
        index = within_document(rows.documents)
        wanted = np.zeros_like(rows.wanted)
        wanted[:, :-1] = rows.wanted[:, 1:]
        asked = next_in_document(rows.documents) & (index >= split - 1) & wanted & asking
        return View.of(
            Slots.of(place, rows.documents, segment=np.where(index < split, OPENING, REST), positions=index),
            self.rule,
            shows=place,
            asks=np.where(asked, place + 1, NOTHING),
            kind=self.family,
        )

    def fill(self, canvas: Canvas) -> View:
        if self.denoise:
            holes, _ = gaps(canvas)
            marks = self._sentinels(holes, np.zeros(canvas.open.shape, np.int32), True)
            return next_of_gap(canvas, holes, marks, self.stops, kind=self.family, flat=True, sight=self.rule)
        view = next_place(canvas, self.rule, self.family)
        return masks.behind(view, self.vocabulary.mask, REST) if self.at_mask else view


def _last(drawn: Spans, documents: NDArray[np.int32]) -> NDArray[np.bool_]:
    """Whether no other span of the document begins behind each place."""
    behind = np.flip(np.cumsum(np.flip(drawn.begins, 1), axis=1), 1)  # begun here or later in the row
    end = np.arange(documents.shape[1]) + after_document(documents)
    later: NDArray[np.int64] = np.take_along_axis(behind - drawn.begins, end, axis=1)  # in documents that follow
    return np.asarray(behind - drawn.begins == later)
