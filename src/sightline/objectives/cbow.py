"""CBOW (Word2Vec): each word from the few around it, whatever their order. Vectors for words, in minutes.

    the  · ■ ■ ·   asked for: the        p(x_i | the words around it), from the mean of their vectors
    cat  ■ · ■ ■              cat
    sat  ■ ■ · ■              sat        here a window of 2; it is drawn anew for each word, from 1 to the widest
    .    · ■ ■ ·              .          one look, in which no slot sees itself: nothing need be hidden

`hierarchical` asks for the turns in a Huffman tree: a distribution over words, so a pseudo-likelihood (each word is
asked given both sides). `negative` asks whether a word is the text's or noise: no distribution over tokens at all, so
it earns no bits per byte. Marks have no vector. While the stack fits itself, they are left out, and frequent words by
chance: windows reach over them. `--tokenizer word` gives it words, and `word+phrases` also words of several, such as
New_York; `sightline similar`, `analogy` and `vectors` use what was learned.

Mikolov et al., Efficient Estimation of Word Representations in Vector Space (2013), and Distributed Representations of
Words and Phrases (2013); the gradient: Irsoy et al., Corrected CBOW Performs as well as Skip-gram (2021).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from ..data import RowDraws, Rows
from ..decoders.canvas import Canvas
from ..sight import NO_DOCUMENT, NOTHING, Rule, Score, Slots, View, asker, itself, seen
from ..sight.rule import Named
from ..stacks.hogwild import Manner
from .base import Column, Given, Objective, Sampler, Stack, text_places, within_document


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
    stack: ClassVar[Stack] = "bag"
    decoder: ClassVar[str] = "refinement (Mask-Predict)"
    writes_from: ClassVar[Given] = "both"
    sampler: ClassVar[Sampler] = "refine"

    @property
    def score_class(self) -> Score:  # type: ignore[override]
        """What the answers are worth: it hangs on the loss."""
        return "pseudo" if self.loss == "hierarchical" else "discriminative"

    @property
    def columns(self) -> tuple[Column, ...]:
        return ("infilling",) if self.loss == "hierarchical" else ()

    @property
    def rule(self) -> Rule:
        """Places at most so far apart as the asking slot's segment says; never the slot's own."""
        reach = (asker.place - seen.place <= asker.segment) & (seen.place - asker.place <= asker.segment)
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
        place = np.arange(rows.length)
        return View.of(
            Slots.of(place, rows.documents, segment=reach, positions=within_document(rows.documents)),
            self.rule,
            shows=place,
            asks=np.where(asked, place, NOTHING),
            kind=self.family,
        )

    def fill(self, canvas: Canvas) -> View:
        """Every open place shows nothing and is asked for."""
        place = np.arange(canvas.places)
        return View.of(
            Slots.of(place, np.where(canvas.inside, 0, NO_DOCUMENT), segment=self.window),
            self.rule,
            shows=np.where(canvas.open, NOTHING, place),
            asks=np.where(canvas.open, place, NOTHING),
            kind=self.family,
        )
