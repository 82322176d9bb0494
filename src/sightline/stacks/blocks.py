"""Attention in blocks, on a processor: queries in blocks, each beside the stretch of keys that some query may see.

    keys    0 . . . . . K          two documents, past only; the first fills two blocks:
    block 0 ■                      a block's stretch starts where its document does, and truth values are read only in
    block 1 ■ ■                    the part of it that not every query sees
    block 2     ■

Probabilities are kept, for a backward pass of its own. Torch's kernel for processors works them out again, skips
nothing that a mask hides, and is no faster in bfloat16 than in float32 (`benchmarks/results/attention.md`).

Shapes: B lines, Q asking slots, K seen slots, H heads, D width of a head, N = B * H.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

BLOCK = 128  # queries of a block: 64 to 256 cost the same within a tenth
CALLS = 65_536  # scores (slots x slots x heads) that take as long as the calls of one more block


@dataclass(frozen=True)
class Block:
    """Queries ``start`` to ``stop`` of lines ``first`` to ``last``, which look at keys ``low`` to ``high``.

    Every one of the queries may see every key below ``clear``; from there on truth values are read.
    """

    first: int
    last: int
    start: int
    stop: int
    low: int
    high: int
    clear: int

    @property
    def scores(self) -> int:
        """How many (query, key) pairs it works out."""
        return (self.last - self.first) * (self.stop - self.start) * (self.high - self.low)


def of_triangle(lines: int, count: int) -> list[Block]:
    """Each slot sees itself and those before it."""
    ends = [(start, min(start + BLOCK, count)) for start in range(0, count, BLOCK)]
    return [Block(0, lines, start, stop, 0, stop, start) for start, stop in ends]


def of_everything(lines: int, asking: int, shown: int) -> list[Block]:
    """Each slot sees all."""
    return [Block(0, lines, 0, asking, 0, shown, shown)]


def of_truth(truth: NDArray[np.bool_], heads: int) -> list[Block]:
    """Blocks that cover truth values [B, Q, K]; of lines together or line by line, whichever costs less.

    Every query must see some key.
    """
    joint = _cut(np.asarray(truth.any(0)), np.asarray(truth.all(0)), 0, len(truth))
    apart = [block for line in range(len(truth)) for block in _cut(truth[line], truth[line], line, line + 1)]
    return min(joint, apart, key=lambda blocks: sum(block.scores * heads + CALLS for block in blocks))


def _cut(some: NDArray[np.bool_], every: NDArray[np.bool_], first: int, last: int) -> list[Block]:
    """Blocks of lines in which at least one sees ``some`` keys [Q, K], and all see ``every``."""
    count, keys = some.shape
    low, high = some.argmax(1), keys - some[:, ::-1].argmax(1)
    cuts = [0]
    for begin in [*(np.flatnonzero(np.diff(low)) + 1).tolist(), count]:  # where a stretch begins anew, and the end
        if begin == count or begin - cuts[-1] >= BLOCK // 2:
            cuts += [*range(cuts[-1] + BLOCK, begin, BLOCK), begin]
    found = []
    for start, stop in itertools.pairwise(cuts):
        lowest, highest = int(low[start:stop].min()), int(high[start:stop].max())
        hidden = ~every[start:stop, lowest:highest].all(0)
        clear = lowest + int(hidden.argmax()) if hidden.any() else highest
        found.append(Block(first, last, start, stop, lowest, highest, clear))
    return found


def added(truth: Tensor, dtype: torch.dtype) -> Tensor:
    """What is added to scores so that a softmax sees the truth values [B, Q, K] (or [1, Q, K]) alone."""
    return torch.zeros(truth.shape, dtype=dtype).masked_fill_(~truth, -math.inf)


class _Attend(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, q_NQD: Tensor, k_NKD: Tensor, v_NKD: Tensor, hide: Tensor | None, blocks: list[Block], scale: float
    ) -> Tensor:
        out_NQD = torch.empty_like(q_NQD)
        kept = []
        for block, of, asks, sees in _places(blocks, hide, q_NQD):
            q, k, v = q_NQD[of, asks], k_NKD[of, sees], v_NKD[of, sees]
            score = q.new_empty(q.shape[0], q.shape[1], k.shape[1])
            torch.baddbmm(score, q, k.mT, beta=0, alpha=scale, out=score)
            if hide is not None and block.clear < block.high:
                lines = slice(block.first, block.last) if len(hide) > 1 else slice(None)
                part = hide[lines, None, asks, block.clear : block.high]
                score.view(block.last - block.first, -1, *score.shape[1:])[..., block.clear - block.low :].add_(part)
            share = torch.softmax(score, -1)
            out_NQD[of, asks] = torch.bmm(share, v)
            kept.append(share)
        ctx.save_for_backward(q_NQD, k_NKD, v_NKD, *kept)
        ctx.blocks, ctx.scale, ctx.hide = blocks, scale, hide
        return out_NQD

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        q_NQD, k_NKD, v_NKD, *kept = ctx.saved_tensors
        d_q, d_k, d_v = torch.empty_like(q_NQD), torch.zeros_like(k_NKD), torch.zeros_like(v_NKD)
        for (_, of, asks, sees), share in zip(_places(ctx.blocks, ctx.hide, q_NQD), kept, strict=True):
            q, k, v, slope = q_NQD[of, asks], k_NKD[of, sees], v_NKD[of, sees], grad[of, asks]
            d_v[of, sees].baddbmm_(share.mT, slope)
            d_score = torch._softmax_backward_data(torch.bmm(slope, v.mT), share, -1, share.dtype)
            d_q[of, asks] = torch.bmm(d_score, k)
            d_k[of, sees].baddbmm_(d_score.mT, q, alpha=ctx.scale)
        return d_q.mul_(ctx.scale), d_k, d_v, None, None, None


def _places(blocks: list[Block], hide: Tensor | None, q_NQD: Tensor) -> Any:
    """Each block with its slices of N, of queries and of keys."""
    heads = q_NQD.shape[0] // blocks[-1].last
    for block in blocks:
        of = slice(block.first * heads, block.last * heads)
        yield block, of, slice(block.start, block.stop), slice(block.low, block.high)


def attend_in_blocks(
    q_BHQD: Tensor, k_BHKD: Tensor, v_BHKD: Tensor, hide: Tensor | None, blocks: list[Block], scale: float
) -> Tensor:
    """Softmax attention over ``blocks``; ``hide`` [B or 1, Q, K] is added where a block is not clear."""
    flat = (x.flatten(0, 1).contiguous() for x in (q_BHQD, k_BHKD, v_BHKD))
    seen: Tensor = _Attend.apply(*flat, hide, blocks, scale)  # type: ignore[no-untyped-call]
    return seen.view(q_BHQD.shape)
