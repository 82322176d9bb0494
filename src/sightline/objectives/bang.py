"""BANG: one set of weights that writes token by token, block by block, or all at once.

    source    the  [mask]  [mask]  [mask]  mat  .         an encoder reads what is left of a text
    main      the  cat  sat                               a decoder is shown what it wrote so far ...
    stream 1  [mask] asked for: cat · sat · on            ... and one mask behind it: left to right
    stream 2  [mask]            sat · on  · -             ... two: the token after next, the next one unknown
    stream 3  [mask]            on  · -   · -             ... three: from column 1 alone, all of it at once

Every token is learned behind every number of masks from 1 to the number n of streams, in one pass that gives what as
many runs over chains of masks would. Its attention works out (1 + n) T^2 + n^2 T pairs of slots for T tokens, not
((1 + n) T)^2: with 9 streams of 64 tokens 11% of them. Slots of a text that would ask behind the end of their span are
left out: of the 90 of a span of 9 tokens 36. Stream 1 is a chain rule, and exact given what is left.

Then it is tuned on pairs, and a target is asked for by stream 1 (``ar``), by all streams (``semi``), or by masks alone
from beginning to end, as published (``nar``), which is class nar. What was learned one way may be written another.

Masks are told apart by where they stand, and find the token before them by its distance: sinusoids are added to what
enters, beside rotary positions (published: a table of places beside biases of distances).

Qi et al., BANG: Bridging Autoregressive and Non-autoregressive Generation with Large Scale Pretraining (2021).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import partial
from typing import Any, ClassVar, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from ..data import RowDraws, Rows
from ..decoders.canvas import Canvas
from ..errors import SightlineError
from ..sight import NO_DOCUMENT, Rule, Score, Slots, View, fixed, opening, streamed
from . import span as spans_of
from .base import Column, Given, Objective, Stack, first_wanted, text_places, within_document
from .deal import dealt, shares
from .seq2seq import check_smoothing
from .sides import SEEN, beside, depths, of_canvas, of_pairs, source_view, starting
from .span import Spans
from .streams import Columns

Ints = NDArray[np.int64]

RULE: Rule = opening | streamed  # the source is seen by all; what is written, column by column
DRAWN = 3  # streams of the picture
Way = Literal["pretrain", "ar", "semi", "nar"]


@dataclass(frozen=True)
class Bang(Objective):
    """Spans of a text, or targets of pairs, asked for by streams of masks beside a stream of their tokens.

    Parameters
    ----------
    way : ``pretrain`` on texts, or of pairs: ``ar``, the main stream and one more; ``semi``, the main stream and all;
        ``nar``, masks alone.
    streams : predicting streams n of ``pretrain`` and ``semi``: a token is asked for behind 1 to n masks. Published: 9.
    block : tokens that ``semi`` writes, and is scored, at a time; at most as many as there are streams.
    nar_share : of the rows of ``ar`` or ``semi``, so many are asked as by ``nar``.
    rate, stretch : of every so many tokens of a document this share is cut out as one span. Published: 0.15 of 64.
    smoothing : share of each answer's probability that tuning gives to all tokens alike, in [0, 1); scores have none.
    encoder_layers, decoder_layers : of each stack; 0: half of the size's.
    """

    way: Way = "pretrain"
    streams: int = 9
    block: int = 3
    nar_share: float = 0.0
    rate: float = 0.15
    stretch: int = 64
    smoothing: float = 0.1
    encoder_layers: int = 0
    decoder_layers: int = 0

    family: ClassVar[str] = "bang"
    title: ClassVar[str] = "bang (BANG): spans by streams of masks, for writing at any pace"
    score_class: ClassVar[Score] = "exact"
    stack: ClassVar[Stack] = "two"
    decoder: ClassVar[str] = "left to right, in blocks or all at once; the source read once, cached"
    writes_from: ClassVar[Given] = "left"
    by_place: ClassVar[bool] = True
    any_pace: ClassVar[bool] = True
    # An exact score, and any pace of writing.
    on_pairs: ClassVar[Mapping[str, Any]] = {"way": "ar", "nar_share": 0.5}

    def __post_init__(self) -> None:
        if self.way not in get_args(Way):
            raise SightlineError(f"there is no way {self.way!r}", f"Choose from {', '.join(get_args(Way))}")
        if self.streams < 1:
            raise SightlineError(f"{self.streams} predicting streams answer nothing", "Use 1 or more, such as 9")
        if self.block < 1:
            raise SightlineError(f"a block of {self.block} tokens holds nothing", "Use 1 or more")
        if self.way == "semi" and self.block > self.streams:
            raise SightlineError(
                f"{self.streams} streams do not write a block of {self.block} tokens", f"Use 1 to {self.streams}"
            )
        if not 0 < self.rate < 1:
            raise SightlineError(
                f"rate = {self.rate} cuts out everything or nothing", "Use a share above 0 and below 1, such as 0.15"
            )
        if self.stretch < 2:
            raise SightlineError(
                f"a stretch of {self.stretch} tokens has no part to cut out", "Use 2 or more, such as 64"
            )
        if not 0 <= self.nar_share < 1 or (self.nar_share and self.way not in ("ar", "semi")):
            raise SightlineError(
                f"nar_share = {self.nar_share} beside way={self.way} is no mixture",
                "Use a share from 0 to below 1 with way=ar or way=semi, or way=nar",
            )
        check_smoothing(self.smoothing)
        depths(2, self.encoder_layers, self.decoder_layers)
        for mark in ("mask",) if self.way == "pretrain" else ("mask", "sep", "eos"):
            self.vocabulary.need(mark)
        _ = self.begins_with
        if self.way != "pretrain":  # of which the class itself speaks
            object.__setattr__(self, "reads", "pairs")
            object.__setattr__(self, "score_class", "exact" if self.way == "ar" else "nar")

    @property
    def begins_with(self) -> int:
        return starting(self.vocabulary)

    @property
    def smooths(self) -> float:
        return 0.0 if self.way == "pretrain" else self.smoothing

    def depths(self, layers: int) -> tuple[int, int]:
        return depths(layers, self.encoder_layers, self.decoder_layers)

    @property
    def columns(self) -> tuple[Column, ...]:
        return ("infilling",) if self.way == "pretrain" else ("continuation",)

    @property
    def rule(self) -> Rule:
        return RULE

    @property
    def fills_in_order(self) -> bool:
        return self.way == "pretrain"

    @property
    def examined_how(self) -> str:
        return "all of a target at once" if self.way == "nar" else f"{self.block} tokens of a target at once"

    @property
    def pace(self) -> int:
        """Tokens that are written at a time; 0: all."""
        return {"semi": self.block, "nar": 0}.get(self.way, 1)

    def term(self, view: View) -> str:
        return self.family

    def ask(self, rows: Rows, draws: RowDraws, progress: float) -> list[View]:
        if self.way == "pretrain":
            return [self._spans_of(rows, draws)]
        share = Fraction(1 if self.way == "nar" else self.nar_share).limit_denominator(1000)
        parts = dealt(rows, shares([1 - share, share], "nar_share"))
        views = []
        for lines, ask in ((np.flatnonzero(parts == 0), self._streamed), (np.flatnonzero(parts == 1), self._masks)):
            if len(lines):
                views.append(ask(rows.take(lines)).of_rows(lines))
        return views

    def examine(self, rows: Rows) -> Iterator[View]:
        """Of a text: what stands before the first wanted position is given, and how many tokens the rest has."""
        if self.way == "pretrain":
            spans = spans_of.tails(first_wanted(rows), rows.documents)
            target = self._columns(rows, spans).in_blocks(1, self._mask)
            yield self._beside(self._rest(rows.documents, spans), target)
        elif self.way == "nar":
            yield self._masks(rows)
        else:
            source, columns = self._pairs(rows)
            yield self._beside(source, columns.in_blocks(self.pace, self._mask))

    def read(self, rows: Rows) -> View:
        return replace(source_view(rows, self.family), sight=RULE)

    def pictured(self, rows: Rows) -> View:
        few = replace(self, streams=min(self.streams, DRAWN), block=1)
        if self.way == "nar":
            return self._masks(rows)
        if self.way != "pretrain":
            return few._streamed(rows)
        spans = spans_of.tails(first_wanted(rows), rows.documents)
        target = self._columns(rows, spans).every_stream(few.streams, self._mask)
        return self._beside(self._rest(rows.documents, spans), target)

    @property
    def foresees(self) -> bool:
        return True

    def foresee(self, canvas: Canvas, ahead: int) -> View:
        """Stream 1 of the last column says what is written, the streams behind it what may come: drafts for nothing."""
        return self.fill(canvas, block=1 + ahead)

    def filling(self, block: int) -> Callable[[Canvas], View]:
        return partial(self.fill, block=block)

    def fill(self, canvas: Canvas, block: int = 1) -> View:
        """The next ``block`` open places of each line's gap, or all of it: 0.

        The source is a pair's, or what was given at the start with a mask for each place that was open.
        """
        place, waits = np.arange(canvas.places), ~canvas.done[:, None]
        stop = np.where(waits, canvas.open.argmax(1)[:, None] + 1, 0)  # behind the next open place
        if self.way == "pretrain":
            spans, _ = spans_of.gaps(canvas)
            documents = np.where(canvas.inside, 0, NO_DOCUMENT)
            source, columns = self._rest(documents, spans), self._cut(documents, spans, canvas.open, place < stop)
        else:
            source, begins = of_canvas(canvas, self.vocabulary)
            target = canvas.inside & (place >= begins[:, None])
            ends = canvas.inside.sum(1)[:, None]
            masks = block == 0 and (self.way == "nar" or self.nar_share > 0) and bool((canvas.open == target).all())
            columns = self._begun(canvas, begins, np.where(masks & waits, ends, stop), ends)
            if masks:
                return self._beside(source, columns.in_blocks(0, self._mask, main=False))
        view = self._beside(source, columns.at_end(block, self._mask))
        return replace(view, settled=source.slots.count + columns.count)

    def _begun(self, canvas: Canvas, begins: Ints, stop: Ints, ends: Ints) -> Columns:
        """The columns of targets from ``begins`` [lines] up to ``stop`` [lines, 1]; there is room up to ``ends``."""
        place = begins[:, None] + np.arange(max(1, int((stop[:, 0] - begins).max(initial=1))))
        document = np.where(place < stop, 0, NO_DOCUMENT)
        place = np.minimum(place, canvas.places - 1)
        return Columns.of_targets(place, document, self.begins_with, canvas.open, ends - place)

    def _spans_of(self, rows: Rows, draws: RowDraws) -> View:
        """Texts with a span cut out of each stretch, asked for by every stream."""
        most = min(rows.length, int(np.ceil(self.rate * rows.length)) + 2)
        text = text_places(rows, self.vocabulary) & (within_document(rows.documents) > 0)
        spans = spans_of.of_stretches(draws, text, rows.documents, self.rate, self.stretch).within(most)
        longest = max(1, int(self.rate * self.stretch))  # tokens of a span
        target = self._columns(rows, spans, most).every_stream(self.streams, self._mask, longest)
        return self._beside(self._rest(rows.documents, spans), target)

    def _streamed(self, rows: Rows) -> View:
        """Targets asked for by every stream, or by the first alone."""
        source, columns = self._pairs(rows)
        return self._beside(source, columns.every_stream(1 if self.way == "ar" else self.streams, self._mask))

    def _masks(self, rows: Rows) -> View:
        """Targets asked for by masks alone, each of which sees those before it."""
        source, columns = self._pairs(rows)
        return self._beside(source, columns.in_blocks(0, self._mask, main=False))

    def _pairs(self, rows: Rows) -> tuple[View, Columns]:
        source, place, document = of_pairs(rows, self.vocabulary)
        return source, Columns.of_targets(place, document, self.begins_with, rows.wanted)

    def _columns(self, rows: Rows, spans: Spans, most: int | None = None) -> Columns:
        return self._cut(rows.documents, spans, rows.wanted, most=most)

    def _cut(
        self,
        documents: NDArray[np.integer],
        spans: Spans,
        asked: NDArray[np.bool_],
        begun: NDArray[np.bool_] | bool = True,
        most: int | None = None,
    ) -> Columns:
        """The columns of spans of a text, each begun by the token before it."""
        before, position = np.arange(documents.shape[1]) - 1, within_document(documents) - 1
        return Columns.of(spans, documents, before=before, position=position, asked=asked, begun=begun, most=most)

    def _rest(self, documents: NDArray[np.integer], spans: Spans) -> View:
        """What is left of texts, a mask in each place that is cut out."""
        place = np.arange(documents.shape[1])
        slots = Slots.of(place, documents, positions=np.where(documents == NO_DOCUMENT, 0, within_document(documents)))
        return View.of(slots, SEEN, shows=np.where(spans.hidden, fixed(self._mask), place))

    @property
    def _mask(self) -> int:
        return self.vocabulary.mask

    def _beside(self, source: View, target: View) -> View:
        return beside(source, target, self.family, sight=RULE)
