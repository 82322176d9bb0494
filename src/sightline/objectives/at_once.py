"""Targets written all at once: an encoder tells how long the target is, a decoder answers any of its places.

    source    bos  ich  sah  es  sep         bos is asked how long the target is, its end included: 4
    target    I  [mask]  it  [mask]          each slot sees all of them, and the source but for bos
    asks          saw         end            in its own place

Which places are hidden is all that families of this kind differ in; one that hides all of them gives
p(target | source) = p(N | source) * prod_t p(y_t | source, N), whose answers ignore each other.

Slots that all show [mask] are alike but for their places, which must be told to each by itself (sinusoids, a table): of
distances alone (rotary positions) attention to equal slots makes nothing.

The slot that tells the length is a token of its own in the publication of Mask-Predict (Ghazvininejad et al., 2019);
here it is the mark that every source begins with. Gu et al., Non-Autoregressive Neural Machine Translation (2018).
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from ..data import RowDraws, Rows
from ..decoders.canvas import Canvas
from ..sight import NO_DOCUMENT, NOTHING, OPENING, Rule, Score, Slots, View, fixed, opening, same_stream
from .base import Column, Given, Objective, Stack, Term, within_document
from .seq2seq import check_smoothing
from .sides import WRITTEN, behind_sep, beside, depths, of_canvas, of_pairs

if TYPE_CHECKING:
    from .model import Model

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

SEEN: Rule = opening | same_stream  # by all: the source but for its first slot; by each stack: its own slots
TELLS = 2  # segment of the slot that tells a length
LENGTH = "length"  # the part of the loss that is its


@dataclass(frozen=True)
class AtOnce(Objective):
    """Hidden places of a target, given the source and the places that are shown.

    Parameters
    ----------
    smoothing : share of each answer's probability that training gives to all tokens alike, in [0, 1); scores have none.
    encoder_layers, decoder_layers : of each stack; 0: half of the size's.
    """

    smoothing: float = 0.1
    encoder_layers: int = 0
    decoder_layers: int = 0

    score_class: ClassVar[Score] = "nar"
    stack: ClassVar[Stack] = "two"
    writes_from: ClassVar[Given] = "left"
    reads: ClassVar[Literal["text", "pairs", "numbers"]] = "pairs"
    by_place: ClassVar[bool] = True
    tells_lengths: ClassVar[bool] = True
    settles: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_smoothing(self.smoothing)
        depths(2, self.encoder_layers, self.decoder_layers)
        for mark in ("mask", "sep", "eos"):
            self.vocabulary.need(mark)

    @abstractmethod
    def hidden(self, target: Bools, documents: NDArray[np.integer], draws: RowDraws) -> Bools:
        """Which places [rows, length] of the targets are hidden in training, at least one of each."""

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

    @property
    def examined_how(self) -> str:
        return "all of the target in one pass, times the probability of its length"

    def ask(self, rows: Rows, draws: RowDraws, progress: float) -> list[View]:
        source, place, document = of_pairs(rows, self.vocabulary)
        hidden = self.hidden(behind_sep(rows.tokens, rows.documents, self.vocabulary.sep), rows.documents, draws)
        return [self._view(source, place, document, hidden, hidden)]

    def examine(self, rows: Rows) -> Iterator[View]:
        source, place, document = of_pairs(rows, self.vocabulary)
        yield self._view(source, place, document, np.ones_like(rows.wanted), rows.wanted)

    def read(self, rows: Rows) -> View:
        """A text as a source; a pair with its target shown."""
        source, place, document = of_pairs(rows, self.vocabulary)
        none = np.zeros_like(rows.wanted)
        return self._view(source, place, document, none, none)

    def fill(self, canvas: Canvas) -> View:
        """The source's slots stay as they are, whatever is written."""
        source, begins = of_canvas(canvas, self.vocabulary)
        ends = canvas.inside.sum(1)
        place = begins[:, None] + np.arange(int((ends - begins).max(initial=0)))
        document = np.where(place < ends[:, None], 0, NO_DOCUMENT)
        return self._view(source, np.minimum(place, canvas.places - 1), document, canvas.open, canvas.open)

    def _view(self, source: View, place: Ints, document: Ints, hidden: Bools, asked: Bools) -> View:
        """The source beside slots that show these places of the target, or the mask.

        ``hidden``, ``asked`` : [lines, places] of the text.
        """
        hides, asks = (np.take_along_axis(which, place, axis=1) for which in (hidden, asked))
        index = within_document(document)
        target = View.of(
            Slots.of(place, document, positions=np.where(document != NO_DOCUMENT, index, 0)),
            SEEN,
            shows=np.where(hides, fixed(self.vocabulary.mask), place),
            asks=np.where(asks, place, NOTHING),
        )
        both = beside(source, target, self.family)
        return replace(both, slots=_telling(both.slots), sight=SEEN, settled=source.slots.count)

    def lengths(self, view: View) -> tuple[Ints, Ints]:
        """The slots [lines, documents] that tell lengths, and the lengths of targets of which something is asked."""
        document = view.slots.document
        real, target = document != NO_DOCUMENT, view.slots.stream == WRITTEN
        shape = (view.slots.lines, int(document.max(initial=-1)) + 1)

        def counted(where: Bools, each: NDArray[np.integer] | int = 1) -> Ints:
            sums = np.zeros(shape, np.int64)
            line, slot = np.nonzero(where)
            np.add.at(sums, (line, document[line, slot]), np.broadcast_to(each, document.shape)[line, slot])
            return sums

        slots = counted(real & (view.slots.segment == TELLS), np.arange(view.slots.count))
        return slots, np.where(counted(view.wanted) > 0, counted(real & target), 0)

    def counts(self, views: list[View]) -> dict[str, float]:
        """Both parts of the loss are divided by the hidden tokens."""
        hidden = float(sum(view.weights.sum() for view in views))
        return {self.family: hidden, LENGTH: hidden}

    def learn(self, model: Model, rows: Rows, views: list[View], draws: RowDraws) -> list[Term]:
        """Nats of the hidden tokens, and of the lengths."""
        terms = []
        for view in views:
            graded = model.grade(view, rows.tokens)
            assert graded.lengths is not None
            terms += [Term(self.family, graded.total), Term(LENGTH, graded.lengths.total)]
        return terms


def _telling(slots: Slots) -> Slots:
    """The first slot of each source is marked as that which tells a length."""
    first = (slots.segment == OPENING) & (slots.positions == 0)
    return replace(slots, segment=np.where(first, TELLS, slots.segment))
