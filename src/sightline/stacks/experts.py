"""A mixture of experts: several feed-forward layers, of which a router chooses a few for each slot.

    x -> router -> softmax -> the likeliest k -> shares that sum to 1 -> sum of share * expert(x)

Shazeer et al. (2017), with shares normed again as in Mixtral (Jiang et al., 2024). A slot passes k experts, however
many there are: memory grows with their number, operations with k.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class Experts(nn.Module):
    """Feed-forward layers for slots [..., W], and who takes which.

    Parameters
    ----------
    width : of the slots. experts : what may be chosen, all alike. chosen : experts of a slot.

    Attributes
    ----------
    uneven : of the last pass in training, how far from even the choice is (Fedus et al., Switch Transformers, 2021):
        experts * sum over experts of (share of slots that chose it) * (mean probability of it), which is ``chosen``
        where all are chosen alike. Slots of padding count too. None: the last pass was no training.
    """

    def __init__(self, width: int, experts: Sequence[nn.Module], chosen: int) -> None:
        super().__init__()
        self.router = nn.Linear(width, len(experts), bias=False)
        self.each = nn.ModuleList(experts)
        self.chosen = chosen
        self.uneven: Tensor | None = None

    @property
    def idle(self) -> float:
        """Weights of matrices that a slot does not pass."""
        matrices = sum(weight.numel() for weight in self.each.parameters() if weight.dim() == 2)
        return matrices * (1 - self.chosen / len(self.each))

    def forward(self, x: Tensor) -> Tensor:
        slots = x.flatten(0, -2)
        chance = torch.softmax(self.router(slots).float(), dim=-1)
        share, who = chance.topk(self.chosen, dim=-1)
        share = share / share.sum(-1, keepdim=True)
        out = torch.zeros_like(slots)
        for number, expert in enumerate(self.each):
            slot, rank = torch.where(who == number)
            said = expert(slots[slot])
            out = out.index_add(0, slot, (said * share[slot, rank, None].to(said.dtype)).to(out.dtype))
        self.uneven = None
        if self.training and torch.is_grad_enabled():
            taken = torch.zeros_like(chance).scatter_(1, who, 1.0).mean(0)
            self.uneven = len(self.each) * (taken * chance.mean(0)).sum()
        return out.view(x.shape)


def unevenness(stack: nn.Module) -> Tensor | None:
    """The mean of ``uneven`` over the layers, with its slope; None where none was worked out."""
    found = [part.uneven for part in stack.modules() if isinstance(part, Experts) and part.uneven is not None]
    return torch.stack(found).mean() if found else None
