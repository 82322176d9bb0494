"""Denoising by two stacks: an encoder reads a text with parts cut out, a decoder writes them, or all of the text.

    spans (T5)                                          infilling (BART)
    source    the  <1>  on  the  <2>  .                 source    the  [mask]  on  the  [mask]  .
    target    [    <1>  cat  sat  <2>  mat              target    [  the  cat  sat  on  the  mat
    asks      <1>  cat  sat  <2>  mat  end              asks      the  cat  sat  on  the  mat  .  end

Spans: a fixed share of the tokens in a fixed number of spans; each leaves a sentinel, and the target is the sentinels
with their spans. `prefix` with ``denoise`` is the same question to one stack. Infilling: spans of whole words of any
length, none among them, leave one mask each; sentences stand in a drawn order; the target is the text as it was.

Either is exact given what is left, which the decoder sees on both sides: p(target | rest) = prod_t p(y_t | y_<t, rest).
Raffel et al., T5 (2020); Lewis et al., BART (2020).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from ..data import RowDraws, Rows
from ..decoders.canvas import Canvas
from ..errors import SightlineError
from ..sight import NO_DOCUMENT, NOTHING, Rule, Score, Slots, View, fixed
from . import span as spans_of
from .base import Column, Given, Objective, Stack, first_wanted, next_in_document, text_places, within_document
from .causal import next_place
from .prefix import Prefix
from .sides import SEEN, Start, apart, beside, depths, source_view, starting
from .span import Spans

Noise = Literal["spans", "infilling"]
Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class Denoise(Objective):
    """What was cut out, by a decoder that sees what an encoder read of the rest.

    Parameters
    ----------
    noise : ``spans`` (T5) or ``infilling`` (BART).
    rate : share that is cut out, in (0, 1): of the tokens, or of the words. T5: 0.15; BART: 0.3.
    span : mean length of a span, in tokens or words; 3 in both.
    shuffled : share of the documents whose sentences stand in a drawn order, for ``infilling``; BART: 1.
    encoder_layers, decoder_layers : of each stack; 0: half of the size's.
    start : mark that a target begins with; none: bos, or padding where there is none. T5: ``pad``; BART: ``eos``, which
        with ``infilling`` stands before a text that is asked for from its own first mark on.
    """

    noise: Noise = "spans"
    rate: float = 0.15
    span: float = 3.0
    shuffled: float = 1.0
    encoder_layers: int = 0
    decoder_layers: int = 0
    start: Start = ""

    family: ClassVar[str] = "denoise"
    title: ClassVar[str] = "denoise (T5, BART): a text with parts cut out, by an encoder and a decoder"
    score_class: ClassVar[Score] = "exact"
    stack: ClassVar[Stack] = "two"
    decoder: ClassVar[str] = "left to right, the source read once, cached"
    writes_from: ClassVar[Given] = "left"

    def __post_init__(self) -> None:
        if self.noise not in get_args(Noise):
            raise SightlineError(f"there is no noise {self.noise!r}", f"Choose from {', '.join(get_args(Noise))}")
        if not 0 < self.rate < 1:
            raise SightlineError(
                f"rate = {self.rate} cuts out everything or nothing", "Use a share above 0 and below 1, such as 0.15"
            )
        if not 0 <= self.shuffled <= 1:
            raise SightlineError(f"shuffled = {self.shuffled} is out of range", "Use a share from 0 to 1")
        depths(2, self.encoder_layers, self.decoder_layers)
        self.vocabulary.need("mask" if self.noise == "infilling" else "eos")
        if self.start not in get_args(Start):
            raise SightlineError(f"no target begins with {self.start!r}", "Choose from bos, pad, eos")
        _ = self.begins_with, self.noise == "spans" and self._one  # whose sentinels infilling needs not

    @property
    def _one(self) -> Prefix:
        """T5's question to one stack."""
        return Prefix(self.vocabulary, denoise=self.rate, span=self.span)

    @property
    def begins_with(self) -> int:
        return starting(self.vocabulary, self.start)

    def depths(self, layers: int) -> tuple[int, int]:
        return depths(layers, self.encoder_layers, self.decoder_layers)

    @property
    def columns(self) -> tuple[Column, ...]:
        return ("infilling",)

    @property
    def rule(self) -> Rule:
        return SEEN

    @property
    def infills(self) -> bool:
        return self.noise == "spans"

    @property
    def fills_in_order(self) -> bool:
        """Also where the text is written whole: then a blank has the length that it is given."""
        return True

    @property
    def stops(self) -> tuple[int, ...]:
        """The end of the text, and the sentinel of the next span."""
        return self._one.stops if self.noise == "spans" else self.vocabulary.stops

    def ask(self, rows: Rows, draws: RowDraws, progress: float) -> list[View]:
        if self.noise == "spans":
            (view,) = self._one.ask(rows, draws, progress)
            most = spans_of.usual_spans(rows.length, self.rate, self.span)
            target = int(np.ceil(self.rate * rows.length)) + 1 + 2 * most
            return [self._apart(view, (rows.length, target), asks_start=True)]
        text = text_places(rows, self.vocabulary)
        found, added = spans_of.infilled(draws, text, rows.documents, rows.word_starts, self.rate, self.span)
        lots = self._sentence_lots(rows, draws, text)
        return [self._whole(rows, found, added, lots, rows.wanted, rows.length)]

    def _apart(self, view: View, columns: tuple[int, int] | None, asks_start: bool = False) -> View:
        start = int(fixed(self.begins_with))
        most_asks = 1 if columns is None else columns[1]
        return apart(view, columns, start, self.family, most_asks=most_asks, asks_start=asks_start)

    def _sentence_lots(self, rows: Rows, draws: RowDraws, text: Bools) -> NDArray[np.float64]:
        """Where each token's sentence stands in its document, [rows, places]: what begins and ends it stays there."""
        place = np.arange(rows.length)
        breaks = ~text | rows.sentence_ends
        begins = np.ones_like(text)
        begins[:, 1:] = breaks[:, :-1] | ~text[:, 1:]
        first = np.maximum.accumulate(np.where(begins, place, 0), axis=1)
        lot = np.take_along_axis(draws.uniform(rows.length), first, axis=1)
        opens = place - within_document(rows.documents)
        drawn = np.take_along_axis(draws.uniform(rows.length), opens, axis=1) < self.shuffled
        return np.where(text, np.where(drawn, lot, 0.5), np.where(place == opens, 0.0, 1.0))

    def _text(self, rows: Rows, wanted: Bools) -> View:
        """The text as a target: each slot shows a token and is asked for the next, or with a mark before them all."""
        place, index = np.arange(rows.length), within_document(rows.documents)
        if self.start:
            shows = np.where(index == 0, fixed(self.begins_with), place - 1)
            slots, asks = Slots.of(place - 1, rows.documents, positions=index), np.where(wanted, place, NOTHING)
        else:
            there = next_in_document(rows.documents)
            there[:, :-1] &= wanted[:, 1:]
            shows, slots = place, Slots.of(place, rows.documents, positions=index)
            asks = np.where(there, place + 1, NOTHING)
        return View.of(slots, SEEN, shows=shows, asks=asks)

    def _whole(
        self,
        rows: Rows,
        cut: Spans,
        added: Bools,
        lots: NDArray[np.float64],
        wanted: Bools,
        columns: int | None = None,
    ) -> View:
        """The rest of the text, a mask for each span, beside all of it, of which so much is asked."""
        source, target = self._rest(rows.documents, cut, added, lots, columns), self._text(rows, wanted)
        left = (rows.documents != NO_DOCUMENT) & ~cut.hidden
        shown = np.take_along_axis(left, np.maximum(target.asks, 0), axis=1)
        return beside(source, target, self.family, shown & (target.asks != NOTHING))

    def _rest(
        self,
        documents: NDArray[np.integer],
        cut: Spans,
        added: Bools,
        lots: NDArray[np.float64],
        columns: int | None = None,
    ) -> View:
        """What is left of texts, with a mask for each span and before each place where one is ``added``."""
        real = documents != NO_DOCUMENT
        both = np.stack([added & real, real & (~cut.hidden | cut.begins)], axis=2).reshape(len(documents), -1)
        key = np.where(both, np.repeat(4 * documents + 2 * lots, 2, axis=1), np.inf)
        width = int(both.sum(1).max(initial=0)) if columns is None else columns
        order = np.argsort(key, axis=1, kind="stable")[:, :width]
        there = np.take_along_axis(both, order, axis=1)
        mask = np.take_along_axis(np.stack([added, cut.begins], axis=2).reshape(len(documents), -1), order, axis=1)
        document = np.where(there, np.take_along_axis(documents, order // 2, axis=1), NO_DOCUMENT)
        return View.of(
            Slots.of(order // 2, document, positions=within_document(document)),
            SEEN,
            shows=np.where(mask, fixed(self.vocabulary.mask), order // 2),
        )

    def examine(self, rows: Rows) -> Iterator[View]:
        """The source is what stands before the first wanted position of each document, and a mark for the rest."""
        if self.noise == "spans":
            for view in self._one.examine(rows):
                yield self._apart(view, (rows.length, view.slots.count))
            return
        yield self._cut(rows, spans_of.tails(first_wanted(rows), rows.documents), rows.wanted)

    def infill(self, rows: Rows) -> Iterator[View]:
        if self.noise == "spans":
            for view in self._one.infill(rows):
                yield self._apart(view, (rows.length, view.slots.count))
            return
        yield from super().infill(rows)

    def _cut(self, rows: Rows, cut: Spans, wanted: Bools) -> View:
        none = np.zeros_like(cut.hidden)
        return self._whole(rows, cut, none, np.zeros(none.shape), wanted & cut.hidden)

    def read(self, rows: Rows) -> View:
        return source_view(rows, self.family)

    def fill(self, canvas: Canvas) -> View:
        if self.noise == "spans":
            return self._apart(self._one.fill(canvas), None)
        holes, _ = spans_of.gaps(canvas)
        none = np.zeros_like(canvas.open)
        source = self._rest(np.where(canvas.inside, 0, NO_DOCUMENT), holes, none, np.zeros(none.shape))
        start = self.begins_with if self.start else None
        return beside(source, next_place(canvas, SEEN, self.family, start), self.family)
