"""Texts while they are written, what was asked about them in a round, and the end of the work."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from .canvas import Canvas

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class Draft:
    """Texts being written, one a line.

    Parameters
    ----------
    canvas : what is written so far.
    owners : [lines] which text of the start each line continues; a beam has several lines of one owner.
    logprobs : [lines, places] log p of each written token, by the model as it stood when the token was written.
    film : [lines, places] the round in which each place was last written, from 1 up; 0: given, or not written.
    ended : [lines] how many lines of the same owner are finished already.
    """

    canvas: Canvas
    owners: Ints
    logprobs: Floats
    film: Ints
    ended: Ints

    @classmethod
    def of(cls, canvas: Canvas, owners: Ints | None = None) -> Draft:
        """Nothing written yet; each line is its own owner, or has the one that is given."""
        lines = np.arange(canvas.lines)
        empty = np.zeros((canvas.lines, canvas.places))
        return cls(canvas, lines if owners is None else owners, empty, empty.astype(np.int64), np.zeros_like(lines))

    @property
    def writable(self) -> Bools:
        """Places [lines, places] of the text that did not come with the prompt."""
        return self.canvas.inside & ~self.canvas.given

    def take(self, lines: Any) -> Draft:
        """Some of the lines, or lines repeated."""
        arrays = {name: getattr(self, name)[lines] for name in ("owners", "logprobs", "film", "ended")}
        return replace(self, canvas=self.canvas.take(lines), **arrays)

    def after(self, move: Move, stops: Ints, number: int | Ints) -> Draft:
        """The draft with a move made, in round ``number``, or each part of it in its own."""
        draft = self if move.parents is None else self.take(move.parents)
        logprobs, film = draft.logprobs.copy(), draft.film.copy()
        logprobs[move.line, move.place] = move.logprob
        film[move.line, move.place] = number
        canvas = draft.canvas.written(move.line, move.place, move.token, stops.tolist())
        for told in (logprobs, film):  # of what was written behind an end in the same round, nothing
            told[~canvas.inside] = 0
        return replace(draft, canvas=canvas, logprobs=logprobs, film=film)


@dataclass(frozen=True)
class Asked:
    """The answers of one round, one a place; K places.

    Parameters
    ----------
    line, place : [K] of the canvas, in the order of lines and slots.
    said : [K, vocabulary] the model's logits as they are.
    allowed : the same with -inf at ids that may not be written.
    """

    line: Ints
    place: Ints
    said: Tensor
    allowed: Tensor

    def take(self, index: Ints) -> Asked:
        """Some of the places."""
        return Asked(self.line[index], self.place[index], self.said[index], self.allowed[index])

    @property
    def first(self) -> Asked:
        """The first place of each line."""
        if bool((self.line[1:] > self.line[:-1]).all()):
            return self
        return self.take(np.unique(self.line, return_index=True)[1])

    def logprob(self, token: Tensor) -> Floats:
        """log p [K] of these tokens, by the model itself: no temperature, no cut."""
        said = self.said.float() if self.said.itemsize < 4 else self.said
        return np.asarray(said.log_softmax(1).gather(1, token[:, None])[:, 0].double().cpu().numpy())


@dataclass(frozen=True)
class Move:
    """What a policy accepts in a round.

    Parameters
    ----------
    parents : [new lines] the line that each new line continues; None: each its own.
    line, place, token, logprob : [accepted] what is written, on new lines.
    """

    parents: Ints | None
    line: Ints
    place: Ints
    token: Ints
    logprob: Floats


@dataclass(frozen=True)
class Written:
    """Finished texts, those of one owner side by side, the best first.

    Parameters
    ----------
    canvas : the texts.
    owners : [lines] the line of the canvas at the start.
    logprobs : [lines, places] log p of each written token when it was written; 0 elsewhere. Their sum is the text's
        log-likelihood only where every place was written once, given all that was written before.
    film : [lines, places] the round in which each place was last written, from 1 up; 0: given, or outside.
    worth : [lines] what the texts of one owner are ordered by.
    rounds : passes that were needed.
    """

    canvas: Canvas
    owners: Ints
    logprobs: Floats
    film: Ints
    worth: Floats
    rounds: int

    @property
    def total(self) -> Floats:
        """Sum of the log-probabilities of each line."""
        return np.asarray(self.logprobs.sum(1))
