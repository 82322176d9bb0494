"""Low-rank adapters: a frozen matrix W learns as W + alpha / rank * B A, with few weights of its own.

    x --W, frozen------------------------> + --> y        A [rank, in] is drawn, B [out, rank] begins at zero:
     `--dropout--A--> rank numbers --B----'                at first nothing is changed

A matrix that several share (queries, keys and values) has an A and a B for each of its parts. Hu et al., LoRA: Low-Rank
Adaptation of Large Language Models (2021).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import SightlineError
from . import lstm
from .layer import Attention, Cross, FeedForward

MIXING = (Attention, Cross, lstm.Layer)  # what carries from slot to slot; what works within one is FeedForward


class Adapted(nn.Linear):
    """A linear layer with its adapter, made of one in place by ``adapt``.

    ``weight`` reads as the whole W + alpha / rank * B A, so that whatever takes the matrix rather than calls the layer
    (packed weights of the native step, an LSTM's recurrence) sees what was learned; dropout is the called layer's only.
    The matrix under its adapter is ``frozen``, and keeps the name ``weight`` in the state dict.
    """

    down: nn.Parameter  # A of each part, one below the other: [parts * rank, in]
    up: nn.Parameter  # B of each part, one below the other: [out, rank]
    splits: tuple[int, ...]  # rows of each part
    scale: float  # alpha / rank
    dropout: float

    @property
    def frozen(self) -> Tensor:
        """The matrix under the adapter, [out, in]."""
        return cast(Tensor, self._parameters["weight"])

    @property
    def weight(self) -> Tensor:  # type: ignore[override]
        """The matrix as it acts, [out, in]."""
        return self.frozen + self._product().to(self.frozen.dtype)

    @property
    def _ups(self) -> tuple[Tensor, ...]:
        return self.up.split(self.splits)  # type: ignore[no-any-return, no-untyped-call]

    def _product(self) -> Tensor:
        downs = self.down.float().chunk(len(self.splits))
        products = [up.float() @ down for up, down in zip(self._ups, downs, strict=True)]
        return self.scale * torch.cat(products)

    def forward(self, x: Tensor) -> Tensor:
        plain = F.linear(x, self.frozen, self.bias)
        dropped = F.dropout(x, self.dropout, self.training) if self.dropout else x
        inner = F.linear(dropped, self.down).chunk(len(self.splits), dim=-1)
        parts = [F.linear(one, up) for one, up in zip(inner, self._ups, strict=True)]
        return plain + self.scale * (parts[0] if len(parts) == 1 else torch.cat(parts, dim=-1))


def adapt(
    stack: nn.Module,
    rank: int = 8,
    alpha: float = 16.0,
    dropout: float = 0.0,
    generator: torch.Generator | None = None,
    feed: bool = False,
) -> list[nn.Parameter]:
    """Freeze a stack and give the linear layers of its attention (or recurrence) adapters; outputs stay as they are.

    Parameters
    ----------
    rank : of each product. alpha : its scale is alpha / rank. dropout : of what enters it, in training.
    generator : draws A, normal with variance 1 / in. feed : adapt the feed-forward layers too.

    Returns
    -------
    The adapters' weights, which alone are to be trained.

    Raises
    ------
    SightlineError : a rank, alpha or dropout that means nothing, a stack without such layers, or one adapted already.
    """
    if rank < 1 or not alpha > 0 or not 0 <= dropout < 1:
        raise SightlineError(
            f"adapters of rank {rank}, alpha {alpha:g} and dropout {dropout:g} cannot be made",
            "Give a rank of 1 or more, an alpha above 0 and a dropout from 0 to below 1",
        )
    if any(_adapters(stack)):
        raise SightlineError("this stack has adapters already", "Merge them first")
    found = list(_linears(stack, (*MIXING, FeedForward) if feed else MIXING))
    if not found:
        raise SightlineError(
            f"{type(stack).__name__} has no linear layers to adapt", "Tune it in full, or keep it frozen"
        )
    narrow = next((one for one in found if rank > min(one.in_features, one.out_features)), None)
    if narrow is not None:
        raise SightlineError(
            f"a rank of {rank} is more than a matrix of {narrow.out_features} x {narrow.in_features} has",
            "Use a smaller rank",
        )
    stack.requires_grad_(False)
    return [weight for linear in found for weight in _adapted(linear, rank, alpha / rank, dropout, generator)]


@torch.no_grad()
def merge(stack: nn.Module) -> None:
    """Fold the adapters into their matrices: plain layers with the ordinary names again, all trainable.

    Outputs stay the same to rounding; half-precision matrices are rounded once.
    """
    for linear in list(_adapters(stack)):
        linear.frozen.copy_(linear.frozen.float() + linear._product())
        for name in ("down", "up"):
            delattr(linear, name)
        for name in ("scale", "dropout", "splits"):
            delattr(linear, name)
        linear.__class__ = nn.Linear  # type: ignore[assignment]
    stack.requires_grad_(True)


def _linears(stack: nn.Module, kinds: tuple[type[nn.Module], ...]) -> Iterator[nn.Linear]:
    holders = (module for module in stack.modules() if isinstance(module, kinds))
    return (part for holder in holders for part in holder.children() if isinstance(part, nn.Linear))


def _adapters(stack: nn.Module) -> Iterator[Adapted]:
    return (part for part in stack.modules() if isinstance(part, Adapted))


def _adapted(
    linear: nn.Linear, rank: int, scale: float, dropout: float, generator: torch.Generator | None
) -> list[nn.Parameter]:
    held = linear.weight
    parts = tuple(cast("tuple[int, ...]", getattr(linear, "parts", (linear.out_features,))))
    drawn = torch.randn(len(parts) * rank, linear.in_features, generator=generator) * linear.in_features**-0.5
    linear.__class__ = Adapted
    adapter = cast(Adapted, linear)
    adapter.down = nn.Parameter(drawn.to(held.device, held.dtype))
    adapter.up = nn.Parameter(held.new_zeros(linear.out_features, rank))
    adapter.splits, adapter.scale, adapter.dropout = parts, scale, dropout
    return [adapter.down, adapter.up]
