"""CBOW (Word2Vec): each word from the few around it, whatever their order. Vectors for words, in minutes.

    the  · ■ ■ ·   asked for: the        p(x_i | the words around it), from the mean of their vectors
    cat  ■ · ■ ■              cat
    sat  ■ ■ · ■              sat        here a window of 2; it is drawn anew for each word, from 1 to the widest
    .    · ■ ■ ·              .          one look, in which no slot sees itself: nothing need be hidden

`hierarchical` asks for the turns in a Huffman tree: a distribution over words, so a pseudo-likelihood (each word is
asked given both sides). `negative` asks whether a word is the text's or noise: no distribution over tokens at all, so
it earns no bits per byte. Frequent words are left out by chance while the stack fits itself, marks always: windows
reach over them. `sightline similar`, `analogy` and `vectors` use what was learned; `--tokenizer word` gives it words.

Mikolov et al., Efficient Estimation of Word Representations in Vector Space (2013), and Distributed Representations of
Words and Phrases (2013); the gradient: Irsoy et al., Corrected CBOW Performs as well as Skip-gram (2021).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from ..data import RowDraws, Rows
from ..decoders.canvas import Canvas
from ..sight import NO_DOCUMENT, NOTHING, Rule, Score, Slots, View, asker, itself, seen
from ..sight.rule import Named
from ..stacks.hogwild import Manner
from .base import Column, Given, Objective, text_places, within_document


@dataclass(frozen=True)
class CBOW(Manner, Objective):
    """A bag of the words around, asked for the one between.

    Parameters
    ----------
    window : words on either side, at most. shrink : draw the window of each word from 1 to that.
    loss : negative (tell the word from noise) or hierarchical (find it in a tree by frequency).
    negatives : words of noise for each right one, drawn by count to the power of 3/4.
    update : original (word2vec's: every word of the context gets the sum whole) or exact (the gradient of the mean,
        which wants a higher rate, and did not score better where it was measured).
    sample : relative frequency from which words are left out by chance; 0 keeps all.
    rate : the learning rate at the start; it falls in a straight line to 0.0001.
    """

    family: ClassVar[str] = "cbow"
    title: ClassVar[str] = "CBOW (Word2Vec): each word from those around it"
    stack: ClassVar[Literal["transformer", "table", "bag"]] = "bag"
    decoder: ClassVar[str] = "refinement (Mask-Predict)"
    writes_from: ClassVar[Given] = "both"

    @property
    def score_class(self) -> Score:  # type: ignore[override]
        """What the answers are worth: it hangs on the loss."""
        return "pseudo" if self.loss == "hierarchical" else "discriminative"

    @property
    def columns(self) -> tuple[Column, ...]:
        return ("infilling",) if self.loss == "hierarchical" else ()

    @property
    def rule(self) -> Rule:
        """Words at most so many words apart as the asking slot's segment says; never the slot's own."""
        reach = (asker.order - seen.order <= asker.segment) & (seen.order - asker.order <= asker.segment)
        return Named(f"window({self.window})", reach) & ~itself

    def ask(self, rows: Rows, draws: RowDraws, progress: float) -> list[View]:
        reach: NDArray[np.int64] | int = self.window
        if self.shrink:
            reach = 1 + (draws.uniform(rows.length) * self.window).astype(np.int64)
        return [self._view(rows, text_places(rows, self.vocabulary), reach)]

    def examine(self, rows: Rows) -> Iterator[View]:
        yield self._view(rows, rows.wanted & text_places(rows, self.vocabulary), self.window)

    def read(self, rows: Rows) -> View:
        return self._view(rows, np.zeros_like(rows.wanted), self.window)

    def _view(self, rows: Rows, asked: NDArray[np.bool_], reach: NDArray[np.int64] | int) -> View:
        place = np.broadcast_to(np.arange(rows.length), rows.tokens.shape)
        words = text_places(rows, self.vocabulary)
        return View.of(
            Slots.of(
                place,
                rows.documents,
                order=np.cumsum(words, axis=1),
                segment=reach,
                positions=within_document(rows.documents),
            ),
            self.rule,
            shows=np.where(words, place, NOTHING),
            asks=np.where(asked, place, NOTHING),
            kind=self.family,
        )

    def fill(self, canvas: Canvas) -> View:
        """Every open place shows nothing and is asked for."""
        place = np.broadcast_to(np.arange(canvas.places), canvas.open.shape)
        marks = canvas.inside & ~canvas.open & self.vocabulary.is_special[canvas.tokens]
        words = canvas.inside & ~marks
        return View.of(
            Slots.of(
                place,
                np.where(canvas.inside, 0, NO_DOCUMENT),
                order=np.cumsum(words, axis=1),
                segment=self.window,
            ),
            self.rule,
            shows=np.where(words & ~canvas.open, place, NOTHING),
            asks=np.where(canvas.open, place, NOTHING),
            kind=self.family,
        )
