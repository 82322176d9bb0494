"""The judge: states of judged slots in; nats of a label about the token shown out. No vocabulary, no table.

    states -> dense -> activation -> one number z a slot      p(label 1) = sigmoid(z)

Clark et al., ELECTRA (2020).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .head import Graded
from .parts import Activation, activated


class Judge(nn.Module):
    """From states to one yes or no for each slot.

    Parameters
    ----------
    width : of the states. activation : between the two layers.
    """

    def __init__(self, width: int, activation: Activation = "gelu") -> None:
        super().__init__()
        self.activation = activation
        self.dense = nn.Linear(width, width)
        self.weight = nn.Parameter(torch.empty(1, width))
        self.bias = nn.Parameter(torch.zeros(1))
        nn.init.normal_(self.dense.weight, std=width**-0.5)
        nn.init.zeros_(self.dense.bias)
        nn.init.normal_(self.weight, std=0.02)

    def logits(self, states: Tensor) -> Tensor:
        """How much label 1 is likelier than label 0, in nats, [...] for states [..., width]."""
        inner = activated(self.dense(states), self.activation)
        return F.linear(inner, self.weight, self.bias)[..., 0].float()

    def forward(self, states: Tensor, labels: Tensor, weights: Tensor) -> Graded:
        """Grades of labels [N], 0 or 1, given states [N, width]."""
        logits = self.logits(states)
        sums = F.softplus(logits)  # of the two answers' logits, 0 and z
        nats = sums - logits * labels
        return Graded((nats * weights).sum(), nats.detach(), sums.detach())
