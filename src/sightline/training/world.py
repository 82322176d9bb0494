"""Several processes that share a step: each reads rows of its own and holds its share of weights and optimizer.

    rows of the step, a share each -> views -> counts, added over all -> terms -> slopes, added over all -> update

A layer's weights are gathered when it is needed and given back at once; a slope goes to whoever holds the weight (Zhao
et al., PyTorch FSDP, 2023, in torch's second form). Nothing else differs from one process: the sums of the terms are
divided by the answers of the whole step, so the loss and the slopes are the same but for rounding.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor

from ..errors import SightlineError
from ..objectives.model import Model
from .settings import Settings


@dataclass(frozen=True)
class World:
    """The processes of torch's default group, which must be open.

    Parameters
    ----------
    rank : of this process. count : of all. device : where this one works.
    """

    rank: int
    count: int
    device: torch.device

    @classmethod
    def joined(cls, device: torch.device | str) -> World:
        """The world this process has joined by ``torch.distributed.init_process_group``."""
        if not dist.is_initialized():
            raise SightlineError(
                "this process belongs to no group", "Start it under torchrun and open a process group first"
            )
        return cls(dist.get_rank(), dist.get_world_size(), torch.device(device))

    def share(self, model: Model, settings: Settings) -> None:
        """Leave this process its share of every weight; called before an optimizer is made.

        In half precision, layers are gathered as copies in that type; tables stay in float32, as in ``Working``.

        Raises
        ------
        SightlineError : the model has no layers to share, or the settings cannot be served.
        """
        if model.objective.stack != "transformer":
            raise SightlineError(
                f"a {model.objective.stack} ({model.objective.family}) is not shared among processes", "Use one process"
            )
        if model.generator is not None:
            raise SightlineError(
                f"{model.objective.family} has two stacks, which are not shared among processes yet", "Use one process"
            )
        if settings.compiled:
            raise SightlineError("a compiled stack is not shared among processes yet", "Leave compiled off")
        if settings.batch % self.count:
            raise SightlineError(
                f"a batch of {settings.batch} rows cannot be shared by {self.count} processes",
                f"Take a multiple of {self.count}",
            )
        mesh = init_device_mesh(self.device.type, (self.count,))
        dtype = getattr(torch, settings.dtype)
        policy = MixedPrecisionPolicy() if dtype == torch.float32 else MixedPrecisionPolicy(dtype, torch.float32)
        plain = (nn.Embedding, nn.ModuleList)
        parts = [part for room in (model.stack, model.head) for part in room.children() if not isinstance(part, plain)]
        for part in (*model.stack.layers, *parts):  # type: ignore[misc]
            fully_shard(part, mesh=mesh, mp_policy=policy)
        fully_shard(model, mesh=mesh)
        register_fsdp_forward_method(model, "grade")
        for module in model.modules():
            if isinstance(module, FSDPModule):  # a sum, not a mean: counts are of the whole step already
                module.set_gradient_divide_factor(1.0)
                module.set_force_sum_reduction_for_comms(True)

    def added(self, values: dict[str, float]) -> dict[str, float]:
        """Each value summed over all processes, which must hold the same names."""
        names = sorted(values)
        sums = torch.tensor([values[name] for name in names], dtype=torch.float64, device=self.device)
        dist.all_reduce(sums)
        return dict(zip(names, sums.tolist(), strict=True))

    def whole(self, tensor: Tensor) -> Tensor:
        """A shared tensor, gathered from all processes."""
        return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor

    def held(self, tensor: Tensor) -> Tensor:
        """The rows of a shared tensor that this process holds, to read and to write; they may be none."""
        return tensor.to_local() if isinstance(tensor, DTensor) else tensor

    def rows(self, count: int) -> range:
        """Which of a shared tensor's rows these are: as ``torch.chunk`` cuts them."""
        each = -(-count // self.count)
        return range(min(self.rank * each, count), min((self.rank + 1) * each, count))

    def gathered(self, rows: Tensor, like: Tensor) -> Tensor:
        """The whole tensor of which each process holds ``rows``, laid out as the shared tensor ``like``."""
        assert isinstance(like, DTensor)
        spread = DTensor.from_local(
            rows, like.device_mesh, like.placements, run_check=False, shape=like.shape, stride=like.stride()
        )
        return spread.full_tensor()
