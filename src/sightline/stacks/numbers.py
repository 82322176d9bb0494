"""How a stack of tokens takes numbers instead: an embedding that is a line, and a head that is a density.

    x -> [x, sign(x) log(1 + |x|)] W + b          the second keeps large numbers apart without drowning small ones
    state -> mean, scale, freedom -> N or Student's t, and nats of the number that came

Numbers are expected near mean 0 and scale 1. Salinas et al., DeepAR (2017), took the normal; Student's t forgives
single jumps. Shapes: B lines, S slots, N answers.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .head import Graded

Law = Literal["student", "normal"]

LEAST_SCALE = 1e-4  # of a series whose scale is 1: a density may not grow without end
LEAST_FREEDOM = 2.1  # above 2 the variance exists


class Numbers(nn.Module):
    """Vectors [B, S, width] of numbers [B, S]; NaN, which shows nothing, gives 0."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.line = nn.Linear(2, width)

    def forward(self, numbers: Tensor) -> Tensor:
        """Embed; see the class."""
        shown = numbers.nan_to_num(0.0).to(self.line.weight.dtype)
        features = torch.stack([shown, shown.sign() * shown.abs().log1p()], dim=-1)
        return torch.where(numbers.isnan()[..., None], 0.0, self.line(features))


class DensityHead(nn.Module):
    """From states to a distribution over the next number.

    Parameters
    ----------
    width : of the states. law : the distribution's kind.
    """

    def __init__(self, width: int, law: Law = "student") -> None:
        super().__init__()
        self.law = law
        self.line = nn.Linear(width, 3)
        nn.init.normal_(self.line.weight, std=0.02)
        nn.init.zeros_(self.line.bias)

    def distribution(self, states: Tensor) -> torch.distributions.Distribution:
        """What is foreseen after states [..., width], in double precision."""
        mean, scale, freedom = self.line(states).double().unbind(-1)
        scale = F.softplus(scale + math.log(math.e - 1)) + LEAST_SCALE  # 1 before anything is learned
        if self.law == "normal":
            return torch.distributions.Normal(mean, scale, validate_args=False)
        return torch.distributions.StudentT(LEAST_FREEDOM + 8 * F.softplus(freedom), mean, scale, validate_args=False)

    def forward(self, states: Tensor, answers: Tensor, weights: Tensor) -> Graded:
        """Grades of answers [N] given states [N, width]; an answer of weight 0 costs 0 nats."""
        real = weights > 0
        nats = -self.distribution(states).log_prob(torch.where(real, answers.double(), 0.0))
        nats = torch.where(real, nats, 0.0)
        return Graded((nats * weights).sum(), nats.detach(), torch.zeros_like(nats))
