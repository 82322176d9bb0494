"""A learned mix of a frozen model's layers: one weight for each, one scale for all.

    gamma * sum over layers of softmax(w)_j * h_j            w = 0 and gamma = 1 at first: the plain mean

Peters et al., Deep contextualized word representations (ELMo, 2018).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class Mix(nn.Module):
    """A mix of ``layers`` layers.

    Parameters
    ----------
    layers : how many are mixed.
    normed : bring each layer to mean 0 and variance 1 first, over all real numbers of the batch together.
    """

    def __init__(self, layers: int, normed: bool = False) -> None:
        super().__init__()
        self.weights = nn.Parameter(torch.zeros(layers))
        self.gamma = nn.Parameter(torch.ones(()))
        self.normed = normed

    def forward(self, layers: Sequence[Tensor], real: Tensor | None = None) -> Tensor:
        """The mix [..., W] of layers [..., W]; ``real`` [...] says which places count for the norm (default: all)."""
        shares = self.weights.softmax(0)
        mixed = torch.stack([share * self._ready(layer, real) for share, layer in zip(shares, layers, strict=True)])
        return self.gamma * mixed.sum(0)

    def _ready(self, layer: Tensor, real: Tensor | None) -> Tensor:
        if not self.normed:
            return layer
        counted = layer if real is None else layer[real]
        variance, mean = torch.var_mean(counted, correction=0)
        return (layer - mean) * (variance + 1e-12).rsqrt()
