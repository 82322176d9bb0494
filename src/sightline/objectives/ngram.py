"""n-grams: each token from the few before it, by counting. The floor that every neural run is printed beside.

    the  ■ · · ·   asked for: cat        p(x) = prod_t p(x_t | x_{t-n+1..t-1}), interpolated modified Kneser-Ney
    cat  ■ ■ · ·              sat
    sat  · ■ ■ ·              .          here n = 3; exact; no gradient: the table fits itself in one pass
    .    · · ■ ■              end

Chen and Goodman, An Empirical Study of Smoothing Techniques for Language Modeling (1998).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from ..errors import SightlineError
from ..sight import Rule, near, past
from .causal import Causal


@dataclass(frozen=True)
class NGram(Causal):
    """Counts of up to ``n`` tokens.

    Parameters
    ----------
    n : tokens of the longest count, the predicted one included; at least 2.
    """

    n: int = 5

    family: ClassVar[str] = "ngram"
    title: ClassVar[str] = "n-gram: each token from the few before it, by counting"
    stack: ClassVar[Literal["transformer", "table", "bag"]] = "table"
    decoder: ClassVar[str] = "left to right"

    def __post_init__(self) -> None:
        if self.n < 2:
            raise SightlineError(f"an n-gram of {self.n} tokens looks at nothing", "Use 2 or more")

    @property
    def rule(self) -> Rule:
        return past & near(self.n - 2)
