"""The weights that were best on dev: one set, or the mean of several, whichever of the two does better."""

from __future__ import annotations

import torch
from torch import Tensor, nn

Weights = dict[str, Tensor]


class Best:
    """The ``most`` sets of weights with the lowest dev loss so far, the lowest first.

    The mean of several checkpoints of one run often does better than any of them (Vaswani et al., 2017).
    """

    def __init__(self, most: int = 1) -> None:
        self.most = most
        self.devs: list[float] = []
        self._kept: list[Weights] = []

    def offer(self, dev: float, model: nn.Module) -> bool:
        """Keep the model's weights if they are among the best; whether they are the best of all."""
        at = sum(kept <= dev for kept in self.devs)
        if at >= self.most:
            return False
        self.devs.insert(at, dev)
        self._kept.insert(at, {name: value.detach().clone() for name, value in model.state_dict().items()})
        del self.devs[self.most :], self._kept[self.most :]
        return at == 0

    @property
    def single(self) -> Weights:
        """The best weights of all; empty where nothing was offered."""
        return self._kept[0] if self._kept else {}

    def mean(self) -> Weights:
        """The mean of all that are kept, in the type of each."""
        first = self._kept[0]
        return {
            name: torch.stack([one[name].double() for one in self._kept]).mean(0).to(value.dtype)
            if value.is_floating_point()
            else value
            for name, value in first.items()
        }

    def tensors(self) -> Weights:
        """All that is kept, by number and name, for a checkpoint."""
        return {f"{number}:{name}": value for number, one in enumerate(self._kept) for name, value in one.items()}

    def load(self, tensors: Weights, devs: list[float]) -> None:
        """What ``tensors`` gave, with the losses that belong to it."""
        self.devs = list(devs)
        self._kept = [
            {name.partition(":")[2]: value for name, value in tensors.items() if name.startswith(f"{number}:")}
            for number in range(len(devs))
        ]
