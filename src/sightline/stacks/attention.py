"""Attention over whatever a sight allows, by the cheapest kernel that gives exactly that sight.

Shapes: B lines, Q asking slots, K seen slots, H heads, D width of a head.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.attention.flex_attention import BlockMask

from ..sight import Rule, seats
from .blocks import Block, added, attend_in_blocks, of_everything, of_triangle, of_truth
from .columns import Columns, attend_in_columns
from .flex import attend_by_blocks
from .look import Kernel, Look

FEWEST = 16  # queries: below, a block's calls cost more than its work (a cached step asks one)
MOST = 2048  # keys: above, torch's kernel is as fast, and keeps no probabilities


def allowed(sight: Rule, asking: Look, shown: Look) -> Tensor:
    """The sight as truth values [B, Q, K]."""
    truth = sight.holds(seats(asking, True), seats(shown, False))
    return torch.as_tensor(truth).expand(asking.tokens.shape[0], asking.tokens.shape[1], shown.tokens.shape[1])


class Mask:
    """Who sees whom as attention takes it, made once for all layers that share it.

    A row that may see nothing at all (the first query of a drawn order) is let see everything and its result is set
    to zero: a softmax over nothing is not a number, and an even one over all slots would be a silent leak.

    Parameters
    ----------
    kernel : ``full``, ``triangle``, ``mask``, which reads ``truth`` [B, Q, K], or ``flex``, which reads ``flex``.
    scores : additive scores [B, H, Q, K] of positions, or None.
    columns : for ``columns``, the slots of streams.
    """

    def __init__(
        self,
        kernel: Kernel,
        truth: Tensor | None = None,
        scores: Tensor | None = None,
        flex: BlockMask | None = None,
        columns: Columns | None = None,
    ) -> None:
        self.kernel: Kernel = kernel
        self.flex = flex
        self.columns = columns
        self.blind: Tensor | None = None
        self.truth: Tensor | None = None
        self.scores = scores
        self._blocks: list[Block] | None = None
        self._added: dict[torch.dtype, Tensor] = {}
        if truth is not None:
            blind = ~truth.any(-1, keepdim=True)
            unread = torch.compiler.is_compiling() or truth.device.type != "cpu"  # no graph, and no GPU, waits for it
            asked_for = unread or bool(blind.any())
            self.blind = blind[:, None] if asked_for else None
            self.truth = truth | blind

    def blocks(self, lines: int, heads: int, asking: int, shown: int) -> list[Block]:
        """The blocks in which the sight is worked out on a processor."""
        if self._blocks is None:
            if self.truth is not None:
                self._blocks = of_truth(self.truth.numpy(), heads)
            elif self.kernel == "triangle":
                self._blocks = of_triangle(lines, asking)
            else:
                self._blocks = of_everything(lines, asking, shown)
        return self._blocks

    def hiding(self, asking: int, dtype: torch.dtype) -> Tensor | None:
        """What blocks add to scores, [B or 1, Q, K], or None where nothing is hidden."""
        if self.kernel == "full":
            return None
        if dtype not in self._added:
            truth = torch.ones(1, asking, asking, dtype=torch.bool).tril() if self.truth is None else self.truth
            self._added[dtype] = added(truth, dtype)
        return self._added[dtype]

    def for_torch(self, asking: int, shown: int, dtype: torch.dtype) -> tuple[Tensor | None, bool]:
        """``attn_mask`` and ``is_causal`` of torch's own kernels."""
        truth = None if self.truth is None else self.truth[:, None]
        if self.scores is None:
            return truth, self.kernel == "triangle"
        if self.kernel == "triangle":
            truth = torch.ones(asking, shown, dtype=torch.bool, device=self.scores.device).tril(shown - asking)
        scores = self.scores if truth is None else self.scores.masked_fill(~truth, -math.inf)
        return scores.to(dtype), False


def attend(q_BHQD: Tensor, k_BHKD: Tensor, v_BHKD: Tensor, mask: Mask, scale: float, dropout: float = 0.0) -> Tensor:
    """Softmax attention; keys with fewer heads than queries are shared by groups of heads (Ainslie et al., 2023)."""
    if mask.flex is not None:
        return attend_by_blocks(q_BHQD, k_BHKD, v_BHKD, mask.flex, scale)
    lines, heads, asking, _ = q_BHQD.shape
    shown = k_BHKD.shape[2]
    if asking == 1 and q_BHQD.device.type != "cpu" and mask.scores is None and not dropout:
        return attend_one(q_BHQD, k_BHKD, v_BHKD, mask, scale)
    groups = heads // k_BHKD.shape[1]
    if groups > 1:
        k_BHKD = k_BHKD.repeat_interleave(groups, dim=1)
        v_BHKD = v_BHKD.repeat_interleave(groups, dim=1)
    if mask.columns is not None:
        return attend_in_columns(q_BHQD, k_BHKD, v_BHKD, mask.columns, scale, dropout)
    if mask.scores is None and not dropout and _in_blocks(q_BHQD, shown):
        hide = mask.hiding(asking, q_BHQD.dtype)
        seen = attend_in_blocks(q_BHQD, k_BHKD, v_BHKD, hide, mask.blocks(lines, heads, asking, shown), scale)
    else:
        added, triangle = mask.for_torch(asking, shown, q_BHQD.dtype)
        seen = F.scaled_dot_product_attention(
            q_BHQD, k_BHKD, v_BHKD, attn_mask=added, is_causal=triangle, scale=scale, dropout_p=dropout
        )
    return seen if mask.blind is None else seen.masked_fill(mask.blind, 0.0)


def attend_one(q_BHQD: Tensor, k_BHKD: Tensor, v_BHKD: Tensor, mask: Mask, scale: float) -> Tensor:
    """Attention of one asking slot a line, on a GPU: two products that read each key once for all heads that share it.

    Torch's kernels share the work out by queries, so that one query leaves most of a GPU idle.
    """
    lines, heads, _, width = q_BHQD.shape
    shared = k_BHKD.shape[1]
    score = (q_BHQD.reshape(lines, shared, heads // shared, width) * scale @ k_BHKD.mT).float()
    if mask.truth is not None:
        score = score.masked_fill(~mask.truth[:, None], -math.inf)
    seen = (torch.softmax(score, -1).to(v_BHKD.dtype) @ v_BHKD).reshape(q_BHQD.shape)
    return seen if mask.blind is None else seen.masked_fill(mask.blind, 0.0)


def _in_blocks(q_BHQD: Tensor, shown: int) -> bool:
    """Whether blocks are the quicker kernel: on a processor, at these lengths, outside of a compiled graph."""
    here = q_BHQD.device.type == "cpu" and not torch.compiler.is_compiling()
    return here and q_BHQD.shape[2] >= FEWEST and shown <= MOST
