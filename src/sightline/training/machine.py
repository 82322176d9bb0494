"""What this machine can do, measured: the rate of a matrix product, and whether half precision pays."""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import torch

from ..errors import SightlineError

Dtype = Literal["auto", "float32", "bfloat16"]


@dataclass(frozen=True)
class Peak:
    """Floating-point operations per second of a square matrix product, by type."""

    float32: float
    bfloat16: float

    def of(self, dtype: str) -> float:
        """The rate in this type."""
        return self.bfloat16 if dtype == "bfloat16" else self.float32


@lru_cache(maxsize=8)
def peak(device: str, threads: int) -> Peak:
    """Measured in about 0.3 s; ``threads`` only keys the cache."""
    size = 768 if torch.device(device).type == "cpu" else 8192
    rates = []
    for dtype in (torch.float32, torch.bfloat16):
        x = torch.randn(size, size, device=device).to(dtype)
        x @ x
        best = float("inf")
        for _ in range(4):
            _synchronised(device)
            start = time.perf_counter()
            x @ x
            _synchronised(device)
            best = min(best, time.perf_counter() - start)
            if best > 0.2:
                break
        rates.append(2.0 * size**3 / best)
    return Peak(*rates)


def _synchronised(device: str) -> None:
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize()


def device_for(name: str) -> str:
    """``auto`` is a GPU where there is one; a device that is not there is a clear error."""
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(1, device=name)
    except (RuntimeError, AssertionError) as error:
        raise SightlineError(
            f"the device {name!r} is not to be had here", "Use --device cpu or --device auto"
        ) from error
    return name


def dtype_for(name: Dtype, device: str) -> Literal["float32", "bfloat16"]:
    """``auto`` is bfloat16 where its measured matrix product is at least 1.3 times faster than float32's."""
    if name != "auto":
        return name
    rates = peak(device, torch.get_num_threads())
    return "bfloat16" if rates.bfloat16 > 1.3 * rates.float32 else "float32"
