"""Attention of predicting streams (BANG), both ways: by their structure beside a matrix of all slots, in turns.

    python benchmarks/streams.py                    every shape below: about four minutes

The matrix is given to our blocks, which skip stretches that nobody sees, and to torch's kernel. States and slopes are
compared first. Operations of a forward pass are counted by torch from the products that run; what is kept for the
backward pass is counted as autograd saves it.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from machine import described, write
from paired import Timed, interleaved
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from sightline.memory import keep_freed_memory
from sightline.stacks import attention
from sightline.stacks.attention import Mask, attend
from sightline.stacks.columns import Columns


@dataclass(frozen=True)
class Work:
    """One shape: lines, heads, width of a head, and the columns of the main stream and of each other."""

    lines: int
    heads: int
    width: int
    counts: tuple[int, ...]

    @property
    def slots(self) -> int:
        """All of them."""
        return sum(self.counts)

    def main(self) -> Tensor:
        """Main slots by main: one document, the past."""
        return torch.ones(self.lines, self.counts[0], self.counts[0], dtype=torch.bool).tril()

    def truth(self) -> Tensor:
        """All slots by all, [lines, slots, slots]."""
        stream = torch.repeat_interleave(torch.arange(len(self.counts)), torch.tensor(self.counts))
        column = torch.cat([torch.arange(count) for count in self.counts])
        past = (stream == 0) & (column <= column[:, None])
        own = (column == column[:, None]) & (stream <= stream[:, None])
        return (past | own).expand(self.lines, -1, -1)


SPANS = (41, 41, 36, 31, 27, 22, 18, 13, 9, 4)  # nine streams over spans of nine, in a row of 256 tokens
WORKS = [
    Work(4, 4, 32, SPANS),
    Work(8, 6, 64, SPANS),
    Work(8, 6, 64, (64,) * 10),
    Work(4, 8, 64, (128,) * 10),
    Work(8, 6, 64, (128,) * 2),
    Work(2, 8, 64, (256,) * 4),
]


def sides(work: Work) -> dict[str, Callable[[], list[Tensor]]]:
    """Forward and backward by each kernel."""
    torch.manual_seed(0)
    q, k, v, slope = (torch.randn(work.lines, work.heads, work.slots, work.width) for _ in range(4))
    for x in (q, k, v):
        x.requires_grad_()
    scale = work.width**-0.5
    structure, matrix = Mask("columns", columns=Columns.of(work.main(), work.counts[1:])), Mask("mask", work.truth())

    def run(mask: Mask, most: int) -> Callable[[], list[Tensor]]:
        def call() -> list[Tensor]:
            attention.MOST = most  # keys up to which our blocks are taken
            states = attend(q, k, v, mask, scale)
            return [states, *torch.autograd.grad(states, (q, k, v), slope)]

        return call

    return {"structure": run(structure, 0), "blocks": run(matrix, 1 << 30), "torch": run(matrix, 0)}


def kept(call: Callable[[], list[Tensor]]) -> int:
    """Bytes that autograd keeps from the forward to the backward pass, views of one storage once."""
    held: dict[int, int] = {}

    def pack(x: Tensor) -> Tensor:
        held[x.untyped_storage().data_ptr()] = x.untyped_storage().nbytes()
        return x

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
        call()
    return sum(held.values())


def counted(work: Work) -> tuple[int, int]:
    """Operations of a forward pass by structure, and by a matrix of all slots."""
    q, k, v = (torch.randn(work.lines, work.heads, work.slots, work.width) for _ in range(3))
    mask = Mask("columns", columns=Columns.of(work.main(), work.counts[1:]))
    with FlopCounterMode(display=False) as ours:
        attend(q, k, v, mask, 1.0)
    with FlopCounterMode(display=False) as dense:
        torch.softmax(q @ k.mT, -1) @ v
    return ours.get_total_flops(), dense.get_total_flops()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--blocks", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    given = parser.parse_args()
    keep_freed_memory()
    torch.set_num_threads(given.threads)
    rows: list[dict[str, Any]] = []
    lines = [
        "# Attention of predicting streams: by structure, and by a matrix of all slots",
        "",
        "float32, forward and backward, milliseconds a call: median [fastest, slowest] of blocks taken in turns. The",
        "matrix by our blocks, which skip what nobody sees, and by torch's kernel. Operations of a forward pass are",
        "counted from its products; MiB are what is kept for the backward pass.",
        "",
        "| lines x heads x width | columns of each stream | structure | blocks | torch | best matrix / structure "
        "| operations, share of the matrix's | kept: structure, blocks, torch |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for work in WORKS:
        by = sides(work)
        found = [call() for call in by.values()]
        couples = [couple for other in found[1:] for couple in zip(found[0], other, strict=True)]
        gap = max(float((mine - theirs).abs().max() / theirs.abs().max()) for mine, theirs in couples)
        assert gap < 1e-5, f"the kernels differ by {gap:.1e}"
        timed: dict[str, Timed] = interleaved(by, given.blocks, 0.5)
        bytes_kept = {name: kept(call) for name, call in by.items()}
        ours, dense = counted(work)
        ratio = min(timed["blocks"].median, timed["torch"].median) / timed["structure"].median
        rows.append(
            {"work": vars(work), "ratio": ratio, "operations": [ours, dense], "kept": bytes_kept}
            | {name: one.record() for name, one in timed.items()}
        )
        counts = work.counts
        same = len(set(counts)) == 1
        told = f"{counts[0]} x {len(counts)}" if same else f"{counts[0]}, {counts[1]} to {counts[-1]}"
        lines.append(
            f"| {work.lines} x {work.heads} x {work.width} | {told} | {timed['structure'].milliseconds()} "
            f"| {timed['blocks'].milliseconds()} | {timed['torch'].milliseconds()} | {ratio:.2f} "
            f"| {ours / 1e6:,.0f} M, {ours / dense:.0%} "
            f"| {', '.join(f'{size / 2**20:.1f}' for size in bytes_kept.values())} |"
        )
        print(lines[-1], flush=True)
    write("streams", {"about": described(["torch"]), "rows": rows}, "\n".join([*lines, ""]))


if __name__ == "__main__":
    main()
