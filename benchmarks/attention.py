"""Attention forward and backward: our blocks beside torch's own kernel (SDPA), in turns.

    python benchmarks/attention.py                  every shape below, float32 and bfloat16: about five minutes

Packed rows hold eight documents that must not see each other. Torch is given its best form of the same sight:
``is_causal`` where that is the whole rule, a mask of truth values elsewhere. States and slopes are compared first.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from machine import described, write
from paired import Timed, interleaved
from torch import Tensor
from torch.nn import functional as F

from sightline.memory import keep_freed_memory
from sightline.stacks.attention import Mask, attend


@dataclass(frozen=True)
class Work:
    """One shape: lines, heads, slots, width of a head, and the sight."""

    lines: int
    heads: int
    slots: int
    width: int
    sight: str  # past, everything, packed (eight documents, past only), packed both (eight documents)

    def mask(self) -> tuple[Mask, Tensor | None]:
        """Ours, and torch's truth values where it needs them."""
        if self.sight == "past":
            return Mask("triangle"), None
        if self.sight == "everything":
            return Mask("full"), None
        marks = np.repeat(np.arange(8), self.slots // 8)
        same = marks[:, None] == marks[None]
        truth = torch.from_numpy(same & np.tri(self.slots, dtype=bool) if self.sight == "packed" else same)
        return Mask("mask", truth.expand(self.lines, -1, -1)), truth[None, None]


WORKS = [
    Work(16, 4, 64, 32, "past"),
    Work(4, 4, 256, 32, "past"),
    Work(8, 6, 256, 64, "past"),
    Work(4, 8, 512, 64, "past"),
    Work(2, 8, 1024, 64, "past"),
    Work(1, 8, 2048, 64, "past"),
    Work(8, 6, 256, 64, "everything"),
    Work(4, 8, 512, 64, "everything"),
    Work(1, 8, 2048, 64, "packed"),
    Work(1, 8, 2048, 64, "packed both"),
]


def both(work: Work, dtype: torch.dtype) -> dict[str, Callable[[], list[Tensor]]]:
    """Forward and backward by either kernel."""
    torch.manual_seed(0)
    q, k, v, slope = (torch.randn(work.lines, work.heads, work.slots, work.width, dtype=dtype) for _ in range(4))
    for x in (q, k, v):
        x.requires_grad_()
    mask, truth = work.mask()
    scale = work.width**-0.5

    def backward(states: Tensor) -> list[Tensor]:
        return [states, *torch.autograd.grad(states, (q, k, v), slope)]

    def ours() -> list[Tensor]:
        return backward(attend(q, k, v, mask, scale))

    def torchs() -> list[Tensor]:
        states = F.scaled_dot_product_attention(q, k, v, truth, is_causal=work.sight == "past", scale=scale)
        return backward(states)

    return {"ours": ours, "torch": torchs}


def agree(sides: dict[str, Callable[[], list[Tensor]]], dtype: torch.dtype) -> float:
    """The largest difference of states and slopes, as a share of the largest value."""
    found = [[x.float() for x in side()] for side in sides.values()]
    gap = max(float((mine - theirs).abs().max() / theirs.abs().max()) for mine, theirs in zip(*found, strict=True))
    assert gap < (1e-5 if dtype == torch.float32 else 0.05), f"the kernels differ by {gap:.1e}"
    return gap


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--blocks", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    given = parser.parse_args()
    keep_freed_memory()
    torch.set_num_threads(given.threads)
    rows: list[dict[str, Any]] = []
    lines = [
        "# Attention, forward and backward: blocks beside torch's kernel",
        "",
        "Milliseconds a call, median [fastest, slowest] of blocks taken in turns; the ratio is torch / ours.",
        "",
        "| lines x heads x slots x width | sight | type | ours | torch | torch / ours |",
        "|---|---|---|---|---|---|",
    ]
    for work in WORKS:
        for dtype in (torch.float32, torch.bfloat16):
            sides = both(work, dtype)
            gap = agree(sides, dtype)
            timed: dict[str, Timed] = interleaved(sides, given.blocks, 0.5)
            ratio = timed["torch"].median / timed["ours"].median
            kind = str(dtype).removeprefix("torch.")
            rows.append(
                {"work": vars(work), "dtype": kind, "ratio": ratio, "largest difference": gap}
                | {name: one.record() for name, one in timed.items()}
            )
            lines.append(
                f"| {work.lines} x {work.heads} x {work.slots} x {work.width} | {work.sight} | {kind} "
                f"| {timed['ours'].milliseconds()} | {timed['torch'].milliseconds()} | {ratio:.2f} |"
            )
            print(lines[-1], flush=True)
    write("attention", {"about": described(["torch"]), "rows": rows}, "\n".join([*lines, ""]))


if __name__ == "__main__":
    main()
