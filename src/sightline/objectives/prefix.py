"""Prefix language models: an opening that sees itself both ways, and a rest that is written left to right.

    the  ■ ■ · ·   (opening)             p(rest | opening) = prod_t p(x_t | opening, x_<t)
    cat  ■ ■ · ·   asked for: sat
    sat  ■ ■ ■ ·              .          exact given the opening; with an opening of nothing but the start mark it is
    .    ■ ■ ■ ■              end        the causal model, so that whole texts can be scored too

Three things may be asked of the rest. The next token (the default). With ``at_mask``, some tokens of the rest stand
hidden and each is answered where it stands, as in BERT; one pass then scores a text by a second slot for each token, a
mask that sees what stands before it (UniLM). With ``denoise``, the opening is a text with spans cut out, a sentinel for
each, and the rest is the sentinels with their spans (T5's objective on one stack).

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
from ..sight import (
    NO_DOCUMENT,
    NOTHING,
    OPENING,
    Rule,
    Score,
    Slots,
    View,
    by_order,
    fixed,
    itself,
    opening,
    past,
    seen,
)
from . import span as spans_of
from .base import Column, Given, Objective, after_document, first_wanted, next_in_document, text_places, within_document
from .causal import next_place
from .span import Marks, Spans, gaps, next_of_gap, parted

TRUE, QUERY = 0, 1  # streams: slots that show the text, and masks that ask beside it
RANDOM, KEPT = 0.1, 0.1  # shares of the hidden tokens shown as a random one, and as they are (a declared leak)


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
    denoise : share of the text that is cut out in spans, in [0, 1); 0: the text is split in two instead.
    span : their mean length in tokens. T5: 0.15 and 3.
    """

    empty: float = 0.5
    rest: float = 0.5
    both_ways: bool = True
    at_mask: float = 0.0
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
        for name in ("at_mask", "denoise"):
            if not 0 <= getattr(self, name) < 1:
                raise SightlineError(
                    f"{name} = {getattr(self, name)} hides everything or nothing that there is",
                    "Use 0 to leave it away, or a share below 1 such as 0.15",
                )
        if self.at_mask and self.denoise:
            raise SightlineError("at_mask and denoise are two ways to ask", "Give one of them, or mix them: mix")
        if self.span < 1:
            raise SightlineError(f"a mean span of {self.span} tokens is shorter than one token", "Use 1 or more")
        if self.at_mask:
            self.vocabulary.need("mask")
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
        if self.at_mask:  # what is before is the text, never the masks beside it
            return ((by_order | opening if self.both_ways else by_order) & (seen.stream == TRUE)) | itself
        return past | opening if self.both_ways else past

    @property
    def infills(self) -> bool:
        return self.denoise > 0

    @property
    def stops(self) -> tuple[int, ...]:
        """The end of the text; in a text with spans also the sentinel of the next."""
        return (self.vocabulary.eos, *(self.vocabulary.spares if self.denoise else ()))

    def ask(self, rows: Rows, draws: RowDraws, progress: float) -> list[View]:
        if self.denoise:
            return [self._cut(rows, draws)]
        split = self._split(rows, draws)
        return [self._hidden(rows, draws, split) if self.at_mask else self._view(rows, split, asking=True)]

    def _split(self, rows: Rows, draws: RowDraws) -> NDArray[np.float64]:
        """The opening of each document is one token with probability ``empty``, else uniform in [1, length)."""
        index, behind = within_document(rows.documents), after_document(rows.documents)
        first = np.arange(rows.length) - index  # where each place's document starts: one draw per document
        length = index + behind + 1
        share = np.take_along_axis(draws.uniform(rows.length), first, axis=1)
        share = (1 - 2 * self.rest) + 2 * self.rest * share
        split = 1 + np.floor(share * np.maximum(length - 1, 1))
        empty = np.take_along_axis(draws.uniform(rows.length), first, axis=1) < self.empty
        return np.where(empty, 1, split)

    def _hidden(self, rows: Rows, draws: RowDraws, split: NDArray[np.float64]) -> View:
        """Tokens of the rest, the mark that ends it too, hidden and asked for where they stand."""
        place, index = np.arange(rows.length), within_document(rows.documents)
        rest = (index >= split) & (index > 0) & (rows.documents != NO_DOCUMENT)
        lot = np.where(rest, draws.uniform(rows.length), 2.0)
        rank = np.argsort(np.argsort(lot, axis=1), axis=1)
        hidden = rest & (rank < np.ceil(self.at_mask * rest.sum(1))[:, None])
        fate, words = draws.uniform(rows.length), self.vocabulary.ordinary
        drawn = words[(draws.uniform(rows.length) * len(words)).astype(np.int64)]
        swap = fate < KEPT + RANDOM
        corrupted = np.where(fate < KEPT, place, np.where(swap, fixed(drawn), fixed(self.vocabulary.mask)))
        return View.of(
            Slots.of(place, rows.documents, segment=np.where(index < split, OPENING, 1), positions=index),
            self.rule,
            shows=np.where(hidden, corrupted, place),
            asks=np.where(hidden, place, NOTHING),
            most_asks=min(int(np.ceil(self.at_mask * rows.length)) + 1, rows.length),
            declared=hidden & (fate < KEPT),
            kind=self.family,
        )

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
            yield self._queried(rows, split)
        else:
            yield self._view(rows, split, asking=True)

    def infill(self, rows: Rows) -> Iterator[View]:
        """Each run of wanted places is a blank, in the order of the text; its end is asked for too."""
        found, _ = spans_of.wanted_runs(rows.wanted, rows.documents)
        most = int(found.begins.sum(1).max(initial=0))
        yield self._parted(rows.documents, found, most, rows.length + most)

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

    def _queried(self, rows: Rows, split: NDArray[np.int64]) -> View:
        """The text, and beside it a mask for each wanted token of the rest, which sees what stands before it."""
        place, index = np.arange(rows.length), within_document(rows.documents)
        asked = rows.wanted & (index >= split) & (rows.documents != NO_DOCUMENT)
        twice = np.tile(place, 2)
        both = np.concatenate([index, index], axis=1)
        return View.of(
            Slots.of(
                twice,
                np.concatenate([rows.documents, np.where(asked, rows.documents, NO_DOCUMENT)], axis=1),
                segment=np.where((both < np.tile(split, 2)) & (np.arange(len(twice)) < rows.length), OPENING, 1),
                stream=np.repeat([TRUE, QUERY], rows.length),
                positions=both,
            ),
            self.rule,
            shows=np.where(np.arange(len(twice)) < rows.length, twice, fixed(self.vocabulary.mask)),
            asks=np.where(np.arange(len(twice)) < rows.length, NOTHING, twice),
            most_asks=rows.length,
            kind=self.family,
        )

    def fill(self, canvas: Canvas) -> View:
        if self.denoise:
            holes, _ = gaps(canvas)
            marks = self._sentinels(holes, np.zeros(canvas.open.shape, np.int32), True)
            return next_of_gap(canvas, holes, marks, self.stops, kind=self.family, flat=True, sight=self.rule)
        view = next_place(canvas, self.rule, self.family)
        return self._with_mask(view, canvas) if self.at_mask else view

    def _with_mask(self, view: View, canvas: Canvas) -> View:
        """What is written, and behind it a mask in the first open place, which asks."""
        at = np.where(canvas.done, NO_DOCUMENT, canvas.open.argmax(1))[:, None]
        slots = view.slots
        return View.of(
            Slots.of(
                np.concatenate([slots.place, np.maximum(at, 0)], axis=1),
                np.concatenate([slots.document, np.minimum(at, 0)], axis=1),
                segment=np.concatenate([slots.segment, np.ones_like(at)], axis=1),
                stream=np.r_[np.full(slots.count, TRUE), QUERY],
                positions=np.concatenate([slots.positions, np.maximum(at, 0)], axis=1),
            ),
            self.rule,
            shows=np.concatenate([view.shows, np.full_like(at, fixed(self.vocabulary.mask))], axis=1),
            asks=np.concatenate([np.full_like(view.asks, NOTHING), at], axis=1),
            most_asks=1,
            kind=self.family,
        )


def _last(drawn: Spans, documents: NDArray[np.int32]) -> NDArray[np.bool_]:
    """Whether no other span of the document begins behind each place."""
    behind = np.flip(np.cumsum(np.flip(drawn.begins, 1), axis=1), 1)  # begun here or later in the row
    end = np.arange(documents.shape[1]) + after_document(documents)
    later: NDArray[np.int64] = np.take_along_axis(behind - drawn.begins, end, axis=1)  # in documents that follow
    return np.asarray(behind - drawn.begins == later)
