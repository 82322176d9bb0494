"""How a token is drawn from the answers to one place: temperature, then top-k, then top-p, then min-p, then the draw.

Every cut is exact: what remains is divided by its sum. Probabilities are formed in double precision.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import SightlineError

ROUNDING = 1e-12  # a sum that is p but for the last bits of a double has reached p


def likeliest(logits: Tensor) -> tuple[Tensor, Tensor]:
    """The largest of logits [..., V] and its id, [...] each."""
    largest, token = logits.max(-1)
    if bool((largest == -torch.inf).any()):
        raise SightlineError("every token is forbidden at some place", "Forbid fewer")
    return largest, token


@dataclass(frozen=True)
class Sampling:
    """A rule for drawing.

    Parameters
    ----------
    temperature : divides the logits; 0 takes the likeliest token and draws nothing.
    top_k : keep the k likeliest; 0 keeps all.
    top_p : keep the fewest likeliest whose sum reaches p, the one that crosses p included (Holtzman et al., 2020).
    min_p : keep what is at least this share of the likeliest (Nguyen et al., 2024); 0 keeps all.
    """

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.temperature < math.inf:
            raise SightlineError(f"a temperature of {self.temperature} is not a number from 0 up", "Use 0 or 1")
        if self.top_k < 0:
            raise SightlineError(f"top-k {self.top_k} keeps fewer than no tokens", "Use 0 to keep all, or 1 and more")
        if not 0 < self.top_p <= 1:
            raise SightlineError(f"top-p {self.top_p} is not a probability above 0", "Use 1 to keep all, or 0.9")
        if not 0 <= self.min_p <= 1:
            raise SightlineError(f"min-p {self.min_p} is not a share from 0 to 1", "Use 0 to keep all, or 0.05")

    @property
    def greedy(self) -> bool:
        """Whether nothing is drawn."""
        return self.temperature == 0

    def __str__(self) -> str:
        if self.greedy:
            return "the likeliest token"
        cuts = [f"top-k {self.top_k}"] * bool(self.top_k)
        cuts += [f"top-p {self.top_p:g}"] * (self.top_p < 1) + [f"min-p {self.min_p:g}"] * bool(self.min_p)
        return ", ".join([f"drawn at temperature {self.temperature:g}", *cuts])

    def probabilities(self, logits: Tensor) -> Tensor:
        """What is drawn from, [..., V] in double precision, from logits [..., V]; barred ids (-inf) stay at 0."""
        x = logits.double()
        largest, first = likeliest(x)
        if self.greedy:
            return torch.zeros_like(x).scatter_(-1, first[..., None], 1.0)
        # From the largest down to 0: however cold, nothing overflows.
        p = ((x - largest[..., None]) / self.temperature).softmax(-1)
        if self.top_k or self.top_p < 1:
            p = self._cut(p)
        if self.min_p:
            p = torch.where(p >= self.min_p * p.amax(-1, keepdim=True), p, 0.0)
        return p / p.sum(-1, keepdim=True)

    def _cut(self, p: Tensor) -> Tensor:
        """The likeliest only; of equally likely ids the lower one comes first."""
        ordered, ids = p.sort(dim=-1, descending=True, stable=True)
        if self.top_k:
            ordered[..., self.top_k :] = 0
            ordered = ordered / ordered.sum(-1, keepdim=True)
        if self.top_p < 1:
            reached = ordered.cumsum(-1)[..., :-1] >= self.top_p - ROUNDING  # so the next is one too many
            ordered[..., 1:] = torch.where(reached, 0.0, ordered[..., 1:])
        return torch.zeros_like(p).scatter_(-1, ids, ordered)

    def draw(self, logits: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """One token id [N] for each line of logits [N, V]."""
        if self.greedy:
            return likeliest(logits)[1]
        device = logits.device if generator is None else generator.device
        drawn = torch.multinomial(self.probabilities(logits).to(device), 1, generator=generator)
        return drawn[:, 0].to(logits.device)


GREEDY = Sampling(temperature=0.0)
