"""Sequence to sequence: a target is written left to right by a decoder that sees all of its source.

    source    [  A  dog  .  |            the mark in which the source ends parts the two in the corpus
    target    [    Ein  Hund  .          each slot sees the source and the target so far
    asks      Ein  Hund  .    end        p(target | source) = prod_t p(y_t | y_<t, source), exact

The depths of both stacks are settings: a deep encoder is paid once for a text, a deep decoder for every token of it, so
that twelve layers and one write about as well as six and six, and far quicker (``encoder_layers``, ``decoder_layers``).

Vaswani et al., Attention Is All You Need (2017); Kasai et al., Deep Encoder, Shallow Decoder (2021).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import ClassVar, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from ..data import RowDraws, Rows
from ..decoders.canvas import Canvas
from ..errors import SightlineError
from ..sight import NO_DOCUMENT, NOTHING, Rule, Score, Slots, View, fixed
from .base import Column, Given, Objective, Stack, within_document
from .sides import SEEN, Start, beside, depths, of_canvas, of_pairs, starting

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Seq2Seq(Objective):
    """The target of a pair, token after token, given its source.

    Parameters
    ----------
    smoothing : share of each answer's probability that training gives to all tokens alike, in [0, 1); scores have none.
    encoder_layers, decoder_layers : of each stack; 0: half of the size's.
    start : mark that a target begins with; none: bos, or padding where there is none.
    """

    smoothing: float = 0.1
    encoder_layers: int = 0
    decoder_layers: int = 0
    start: Start = ""

    family: ClassVar[str] = "seq2seq"
    title: ClassVar[str] = "seq2seq (transformer, Marian): a target left to right, given a source"
    score_class: ClassVar[Score] = "exact"
    stack: ClassVar[Stack] = "two"
    decoder: ClassVar[str] = "left to right, the source read once, cached"
    writes_from: ClassVar[Given] = "left"
    reads: ClassVar[Literal["text", "pairs", "numbers"]] = "pairs"

    def __post_init__(self) -> None:
        check_smoothing(self.smoothing)
        depths(2, self.encoder_layers, self.decoder_layers)
        for mark in ("sep", "eos"):
            self.vocabulary.need(mark)
        if self.start not in get_args(Start):
            raise SightlineError(f"no target begins with {self.start!r}", "Choose from bos, pad, eos")
        _ = self.begins_with

    @property
    def begins_with(self) -> int:
        return starting(self.vocabulary, self.start)

    @property
    def smooths(self) -> float:
        return self.smoothing

    def depths(self, layers: int) -> tuple[int, int]:
        return depths(layers, self.encoder_layers, self.decoder_layers)

    @property
    def columns(self) -> tuple[Column, ...]:
        return ("continuation",)

    @property
    def rule(self) -> Rule:
        return SEEN

    def ask(self, rows: Rows, draws: RowDraws, progress: float) -> list[View]:
        return [self._view(rows)]

    def examine(self, rows: Rows) -> Iterator[View]:
        yield self._view(rows)

    def _view(self, rows: Rows) -> View:
        source, place, document = of_pairs(rows, self.vocabulary)
        return self._beside(
            source, place - 1, document, np.where(np.take_along_axis(rows.wanted, place, 1), place, NOTHING)
        )

    def _beside(self, source: View, place: Ints, document: Ints, asks: Ints) -> View:
        """A target whose slots show what stands in ``place``, and the first of each the start instead."""
        index = within_document(document)
        positions = np.where(document != NO_DOCUMENT, index, 0)  # no table reaches for those of padding
        target = View.of(
            Slots.of(place, document, positions=positions),
            SEEN,
            shows=np.where(index == 0, fixed(self.begins_with), place),
            asks=asks,
        )
        return beside(source, target, self.family)

    def read(self, rows: Rows) -> View:
        """A text as a source; a pair with its target shown."""
        source, place, document = of_pairs(rows, self.vocabulary)
        return self._beside(source, place - 1, document, np.full_like(place, NOTHING))

    def fill(self, canvas: Canvas) -> View:
        """Targets are laid out to end together, so that each answer adds one column and a cache can hold the rest."""
        source, begins = of_canvas(canvas, self.vocabulary)
        waits = ~canvas.done
        written = np.where(waits, canvas.open.argmax(1), canvas.inside.sum(1))
        place = written[:, None] + np.arange(-int((written - begins).max()) - 1, 0)
        document = np.where(place >= begins[:, None] - 1, 0, NO_DOCUMENT)
        asks = np.full(place.shape, NOTHING)
        asks[:, -1] = np.where(waits, written, NOTHING)
        return replace(self._beside(source, place, document, asks), most_asks=1)


def check_smoothing(share: float) -> None:
    """Refuse a share of smoothing that leaves nothing to learn."""
    if not 0 <= share < 1:
        raise SightlineError(f"smoothing = {share} is out of range", "Use a share from 0 to below 1, such as 0.1")
