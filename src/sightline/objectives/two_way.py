"""Two-way language models (ELMo): one half reads left to right, the other right to left; they never meet.

    half 0                      half 1
    the  ■ · · ·   cat          the  ■ ■ ■ ■   start      p(x) = prod_t p(x_t | x_<t)   and   prod_t p(x_t | x_>t)
    cat  ■ ■ · ·   sat          cat  · ■ ■ ■   the
    sat  ■ ■ ■ ·   .            sat  · · ■ ■   cat        two exact scores, of two models with shared ends; their mean
    .    ■ ■ ■ ■   end          .    · · · ■   sat        is no model's, but an upper bound on their even mixture's

For reading, the states of both halves at a token stand side by side: together they have seen the whole text, the token
itself included, though nothing was ever hidden. Layer 0 is the token's vector, twice; a task mixes the layers as suits
it. The loss is the mean of the halves' losses. Only the first half writes.

Peters et al., Deep contextualized word representations (ELMo, 2018).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import ClassVar, Literal, get_args

import numpy as np

from ..data import RowDraws, Rows
from ..decoders.canvas import Canvas
from ..errors import SightlineError
from ..sight import Rule, Score, View, past, same_stream, side_by_side
from .backward import Backward
from .base import Column, Given, Objective, Stack
from .causal import Causal

Body = Literal["transformer", "lstm", "original"]


@dataclass(frozen=True)
class SecondHalf(Backward):
    """Right to left, by the second half of a pair."""

    stream: ClassVar[int] = 1


@dataclass(frozen=True)
class TwoWay(Objective):
    """Both directions, side by side.

    Parameters
    ----------
    body : ``transformer``, two transformers that share the size's layers; ``lstm``, the same with LSTMs; ``original``,
        LSTMs of two layers with 8 cells a channel over the characters of tokens: at a width of 512, the published
        architecture (there over whole words, and trained by Adagrad with a sampled softmax).
    """

    body: Body = "transformer"

    family: ClassVar[str] = "two_way"
    title: ClassVar[str] = "two-way (ELMo): from those before and from those after, by two halves"
    score_class: ClassVar[Score] = "exact"  # of each half
    stack: ClassVar[Stack] = "pair"
    decoder: ClassVar[str] = "left to right by the first half, cached"
    writes_from: ClassVar[Given] = "left"

    def __post_init__(self) -> None:
        if self.body not in get_args(Body):
            raise SightlineError(f"there is no body {self.body!r}", f"Choose from {', '.join(get_args(Body))}")

    @property
    def columns(self) -> tuple[Column, ...]:
        return ("whole text", "continuation")

    @property
    def rule(self) -> Rule:
        return past & same_stream

    @property
    def halves(self) -> tuple[Objective, ...]:
        """Left to right, and right to left."""
        return (Causal(self.vocabulary), SecondHalf(self.vocabulary))

    def ask(self, rows: Rows, draws: RowDraws, progress: float) -> list[View]:
        return [self._joined([view for half in self.halves for view in half.ask(rows, draws, progress)])]

    def examine(self, rows: Rows) -> Iterator[View]:
        """Each wanted position once by each half, at half the weight: the nats are the mean of the two."""
        view = self._joined([view for half in self.halves for view in half.examine(rows)])
        yield replace(view, weights=view.weights / np.float32(2), _asked={})

    def read(self, rows: Rows) -> View:
        return self._joined([half.read(rows) for half in self.halves])

    def fill(self, canvas: Canvas) -> View:
        return replace(self.halves[0].fill(canvas), kind=self.family)

    def _joined(self, views: list[View]) -> View:
        return replace(side_by_side(*views), kind=self.family)
