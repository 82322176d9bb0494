"""Optimizers: Muon for the matrices of the layers, AdamW for tables and vectors; or AdamW for all.

Muon (Jordan et al., 2024) takes the momentum of a matrix to the nearest orthogonal one, here by the Polar Express
iteration (Amsel et al., 2025). Matrices of equal shape are stacked and treated in one batch: torch's own Muon goes one
by one and costs several times as much on a CPU.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import accumulate
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from .settings import Optimization

if TYPE_CHECKING:
    from .world import World

# Coefficients of the odd quintic of each step, for a momentum scaled to norm 1 / 1.02 (Amsel et al., 2025).
_POLAR = (
    (8.156554524902461, -22.48329292557795, 15.878769915207462),
    (4.042929935166739, -2.808917465908714, 0.5000178451051316),
    (3.8916678022926607, -2.772484153217685, 0.5060648178503393),
    (3.285753657755655, -2.3681294933425376, 0.46449024233003106),
    (2.3465413258596377, -1.7097828382687081, 0.42323551169305323),
)


def orthogonal(matrices: Tensor, steps: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """The nearest (semi-)orthogonal matrices to a stack [n, rows, columns], roughly: singular values near 1.

    ``dtype`` is of the products: the iteration forgives the rounding of bfloat16 (Jordan et al., 2024).
    """
    tall = matrices.shape[-2] > matrices.shape[-1]
    x = matrices.mT if tall else matrices
    x = (x / (x.norm(dim=(-2, -1), keepdim=True) * 1.02 + 1e-7)).to(dtype)
    for a, b, c in _POLAR[:steps]:
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.mT if tall else x


class Muon(torch.optim.Optimizer):
    """Momentum made orthogonal, in stacks of equal shape.

    Parameters
    ----------
    params : matrices; one that carries ``parts`` (row counts) is treated as that many matrices (q, k and v).
    lr : size of a step, times sqrt(max(1, rows / columns)). momentum : Nesterov's. steps : of the iteration, 1 to 5.
    weight_decay : decoupled, per unit of lr. dtype : of the iteration's products.
    world : the processes that share the matrices: each turns every matrix whole, and updates the rows that it holds.
    """

    def __init__(
        self,
        params: Iterable[nn.Parameter],
        lr: float,
        momentum: float,
        steps: int = 5,
        weight_decay: float = 0.0,
        dtype: torch.dtype = torch.float32,
        world: World | None = None,
    ) -> None:
        self.dtype, self.world = dtype, world
        super().__init__(params, {"lr": lr, "momentum": momentum, "steps": steps, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """One update of every matrix that has a gradient."""
        assert closure is None, "Muon takes no closure"
        for group in self.param_groups:
            stacks: dict[tuple[int, ...], list[tuple[Tensor, int, Tensor]]] = {}  # rows held, from which one, whole
            for weight in group["params"]:
                if weight.grad is None:
                    continue
                held, slope, own = weight, weight.grad, range(weight.shape[0])
                if self.world is not None:
                    held, slope = self.world.held(weight), self.world.held(weight.grad)
                    own = self.world.rows(weight.shape[0])
                state = self.state[weight]
                if not state:
                    state["momentum"] = torch.zeros_like(held)
                state["momentum"].lerp_(slope, 1 - group["momentum"])
                ahead = slope.lerp(state["momentum"], group["momentum"])
                if group["weight_decay"]:
                    held.mul_(1 - group["lr"] * group["weight_decay"])
                if self.world is not None:
                    ahead = self.world.gathered(ahead, weight)
                parts = getattr(weight, "parts", (weight.shape[0],))
                for stop, direction in zip(accumulate(parts), ahead.split(parts), strict=True):
                    start = stop - len(direction)
                    first, last = (min(max(row, start), stop) for row in (own.start, own.stop))
                    matrix = held[first - own.start : last - own.start]
                    stacks.setdefault(tuple(direction.shape), []).append((matrix, first - start, direction))
            for (rows, columns), parted in stacks.items():
                turned = orthogonal(torch.stack([direction for *_, direction in parted]), group["steps"], self.dtype)
                size = group["lr"] * max(1.0, rows / columns) ** 0.5
                for (matrix, first, _), update in zip(parted, turned.unbind(0), strict=True):
                    matrix.add_(update[first : first + len(matrix)], alpha=-size)


class Optimizers:
    """The optimizers of a model as one: step, rates, state.

    ``dtype`` is of the run's matrix products; ``world`` the processes that share the weights, where there are several.
    """

    def __init__(
        self, model: nn.Module, settings: Optimization, dtype: str = "float32", world: World | None = None
    ) -> None:
        self.settings = settings
        tables = {id(module.weight) for module in model.modules() if isinstance(module, nn.Embedding)}
        heads = [module for name, module in model.named_modules() if name.rpartition(".")[2] in ("head", "lengths")]
        tables |= {id(weight) for head in heads if (weight := getattr(head, "weight", None)) is not None}
        for module in model.modules():
            # A module says it, since a weight that is loaded, sharded or copied is another tensor.
            if (rows := getattr(module, "parts", None)) is not None:
                module.weight.parts = rows  # type: ignore[union-attr]
        matrices: list[nn.Parameter] = []
        others: list[nn.Parameter] = []
        for weight in model.parameters():
            inner = weight.dim() == 2 and id(weight) not in tables
            (matrices if inner and settings.kind == "muon" else others).append(weight)
        self.parts: list[torch.optim.Optimizer] = []
        if matrices:
            self.parts.append(
                Muon(
                    matrices,
                    settings.matrix_rate,
                    settings.momentum,
                    settings.polar_steps,
                    settings.weight_decay,
                    getattr(torch, dtype),
                    world,
                )
            )
        rate = settings.table_rate if settings.kind == "muon" else settings.rate
        decayed = [weight for weight in others if settings.kind == "adamw" and weight.dim() == 2]
        plain = [weight for weight in others if not any(weight is other for other in decayed)]
        groups = [
            {"params": weights, "weight_decay": decay}
            for weights, decay in ((decayed, settings.weight_decay), (plain, 0.0))
            if weights
        ]
        self.parts.append(torch.optim.AdamW(groups, lr=rate, betas=settings.betas, eps=settings.eps, fused=True))
        self._full = [[float(group["lr"]) for group in part.param_groups] for part in self.parts]
        self._names = {id(weight): name for name, weight in model.named_parameters()}

    def step(self, scale: float) -> None:
        """One update with every learning rate times ``scale``; gradients are dropped afterwards."""
        for part, full in zip(self.parts, self._full, strict=True):
            for group, rate in zip(part.param_groups, full, strict=True):
                group["lr"] = rate * scale
            part.step()
            part.zero_grad(set_to_none=True)

    def drop(self) -> None:
        """Forget the gradients of a step that is skipped."""
        for part in self.parts:
            part.zero_grad(set_to_none=True)

    def tensors(self) -> dict[str, Tensor]:
        """The whole state as named tensors, for a safetensors file."""
        found: dict[str, Tensor] = {}
        for part in self.parts:
            for weight, state in part.state.items():
                for key, value in state.items():
                    found[f"{self._names[id(weight)]}/{key}"] = torch.as_tensor(value).detach().clone()
        return found

    def load(self, tensors: dict[str, Tensor]) -> None:
        """Take over a state written by ``tensors``."""
        grouped: dict[str, dict[str, Any]] = {}
        for name, value in tensors.items():
            weight, _, key = name.rpartition("/")
            grouped.setdefault(weight, {})[key] = value
        for part in self.parts:
            for group in part.param_groups:
                for weight in group["params"]:
                    if (held := grouped.get(self._names[id(weight)])) is not None:
                        part.state[weight] = {
                            key: value if key == "step" else value.to(weight.device) for key, value in held.items()
                        }
