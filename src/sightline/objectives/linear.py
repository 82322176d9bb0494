"""Linear autoregression, AR(p): each number from the p numbers before it. The statistical ancestor.

    605  ■ · · ·   asked for: 586        x_t = c + phi_1 x_{t-1} + ... + phi_p x_{t-p} + e_t,  e_t ~ N(0, s2)
    586  ■ ■ · ·              586
    586  · ■ ■ ·              559        here p = 2; a density: nats of numbers, beside no nats of tokens
    559  · · ■ ■              511        fitted in closed form, without a gradient

The sight is that of an n-gram of p + 1 tokens: a window of the past whose weights do not depend on what is in it. Yule,
On a Method of Investigating Periodicities in Disturbed Series (1927).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from ..errors import SightlineError
from ..sight import Rule, Score, near, past
from .base import Column, Stack
from .causal import Causal


@dataclass(frozen=True)
class LinearAR(Causal):
    """A regression of each number on those before it.

    Parameters
    ----------
    p : numbers that each answer looks back at; 1 or more.
    """

    p: int = 8

    family: ClassVar[str] = "linear"
    title: ClassVar[str] = "linear, AR(p): each number from the few before it, in closed form"
    score_class: ClassVar[Score] = "density"
    stack: ClassVar[Stack] = "linear"
    decoder: ClassVar[str] = "recursion: forecasts stand in for numbers"
    reads: ClassVar[Literal["text", "pairs", "numbers"]] = "numbers"

    def __post_init__(self) -> None:
        if self.p < 1:
            raise SightlineError(f"an autoregression on {self.p} numbers looks at nothing", "Use 1 or more")

    @property
    def columns(self) -> tuple[Column, ...]:
        return ("next number",)

    @property
    def rule(self) -> Rule:
        return past & near(self.p - 1)
