"""How to train: the settings of the optimizer, of the learning rate's course, and of the loop. No torch here."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

from ..errors import SightlineError


@dataclass(frozen=True)
class Optimization:
    """Settings of the optimizer.

    Parameters
    ----------
    kind : ``muon`` (matrices by Muon, the rest by AdamW) or ``adamw``.
    matrix_rate : learning rate of Muon. table_rate : of AdamW for embeddings, head, gains and biases.
    rate : of AdamW for everything when ``kind`` is ``adamw``.
    momentum, polar_steps : of Muon. betas, eps : of AdamW. weight_decay : of matrices.
    clip : largest norm of the whole gradient; 0 leaves it alone.
    """

    kind: Literal["muon", "adamw"] = "muon"
    matrix_rate: float = 0.02
    table_rate: float = 0.01
    rate: float = 1e-3
    momentum: float = 0.9
    polar_steps: int = 3
    betas: tuple[float, float] = (0.8, 0.95)
    eps: float = 1e-8
    weight_decay: float = 0.0
    clip: float = 1.0


@dataclass(frozen=True)
class Schedule:
    """The learning rate's course, as a factor of its full value.

    Parameters
    ----------
    kind : ``linear`` to ``floor``, ``cosine`` to ``floor``, or ``wsd`` (warm-up, stable, decay; Hu et al., 2024).
    warmup : share of the steps in which the rate rises from 0.
    decay : share of the steps in which ``wsd`` falls to ``floor``.
    floor : the last factor.
    """

    kind: Literal["linear", "cosine", "wsd"] = "linear"
    warmup: float = 0.0
    decay: float = 0.2
    floor: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.warmup < 1 or not 0 < self.decay <= 1:
            raise SightlineError(
                f"a warm-up of {self.warmup} and a decay of {self.decay} are shares of the steps", "Use 0 to 1"
            )

    def factor(self, step: int, steps: int) -> float:
        """The factor of step ``step`` (0, 1, ...) of ``steps``."""
        warm = math.ceil(self.warmup * steps)
        if step < warm:
            return (step + 1) / (warm + 1)
        done = (step - warm) / max(1, steps - warm)
        if self.kind == "cosine":
            return self.floor + (1 - self.floor) * 0.5 * (1 + math.cos(math.pi * done))
        if self.kind == "wsd":
            done = max(0.0, (step - (1 - self.decay) * steps) / max(1.0, self.decay * steps))
        return 1 - (1 - self.floor) * done


@dataclass(frozen=True)
class Settings:
    """How to train.

    Parameters
    ----------
    steps : updates of the run. batch : rows of one update. accumulation : micro-batches it is cut into.
    seed : of every draw. dtype : of the matrix products. compiled : whether the stack runs through ``torch.compile``.
    validations : how often dev is measured over the run. averaged : sets of weights, the best on dev of those measured,
        whose mean the run ends with where it does better than the best.
    spike : a step whose loss exceeds the recent median by this many nats (of its heaviest term) is skipped, as is one
        that is not a number.
    """

    steps: int
    batch: int
    accumulation: int = 1
    seed: int = 0
    dtype: Literal["float32", "bfloat16"] = "float32"
    compiled: bool = False
    validations: int = 10
    averaged: int = 1
    spike: float = 3.0
    optimization: Optimization = field(default_factory=Optimization)
    schedule: Schedule = field(default_factory=Schedule)

    def __post_init__(self) -> None:
        if self.steps < 1 or self.batch < 1:
            raise SightlineError(f"{self.steps} steps of {self.batch} rows train nothing", "Use 1 or more of each")
        if not 1 <= self.averaged <= self.validations:
            raise SightlineError(
                f"the mean of {self.averaged} of {self.validations} validated sets of weights is none",
                "Average 1 or more of them, or validate more often: --validations",
            )
        if self.accumulation < 1 or self.batch % self.accumulation:
            raise SightlineError(
                f"a batch of {self.batch} rows does not divide into {self.accumulation} micro-batches", "Use a divisor"
            )
