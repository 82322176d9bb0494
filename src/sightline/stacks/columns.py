"""Attention of predicting streams: each slot sees the main stream so far, and the lower streams of its own column.

    slots     main C | stream 1 C_1 | ... | stream n C_n     stream k has the first C_k columns, C >= C_1 >= ... >= C_n
    scores    S x C       of all S slots with the main ones
              C x n x n   of each column with itself, which a triangle hides

All pairs of slots would be S^2, which is ((1 + n) C)^2 where all streams have all columns; worked out are
(1 + n) C^2 + n^2 C of them: with 9 streams of 64 columns a tenth, and in the long run a share 1 / (1 + n). A pair costs
4 D operations a head: a product for its score, one for its value.

Shapes: B lines, H heads, S slots, C columns, N streams, D width of a head.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ..sight import MAIN, View, opening, same_document, settled, streamed
from .blocks import added


def pairs(columns: int, streams: int) -> tuple[int, int, int]:
    """Pairs of slots of one document that are seen, that are worked out here, and that a dense matrix has."""
    seen = (1 + streams) * columns * (columns + 1) // 2 + columns * streams * (streams + 1) // 2
    return seen, (1 + streams) * columns**2 + columns * streams**2, ((1 + streams) * columns) ** 2


def streams_of(view: View) -> tuple[int, ...]:
    """The columns of each predicting stream, if a view's slots are laid as above in every line; else none."""
    slots = view.slots
    columns = int((slots.stream[:1] == MAIN).sum())
    if not columns or slots.stream[0, -1] == MAIN or bool((slots.stream[0] < MAIN).any()):  # of a source too
        return ()
    if settled(view.whole_sight, opening, False) != streamed & same_document:
        return ()
    counts = np.bincount(slots.stream[0] - MAIN)
    laid = np.repeat(np.arange(len(counts)), counts) + MAIN
    column = np.concatenate([np.arange(count) for count in counts])
    falls = bool((np.diff(counts) <= 0).all()) and bool((slots.stream == laid).all())
    alike = falls and bool((slots.order == slots.order[:, column]).all())
    return tuple(counts[1:].tolist()) if alike else ()


@dataclass(frozen=True)
class Columns:
    """The slots of streams, for a kernel; made once for all layers.

    Parameters
    ----------
    truth : [B, S, C] which main slots each slot sees. streams : N.
    slot : [C * N] the slot of each column and stream; any, if there is none. dead : [C, N, 1] where so; None: nowhere.
    at : [S - C] where in ``slot`` each slot of a stream stands.
    """

    truth: Tensor
    streams: int
    slot: Tensor
    dead: Tensor | None
    at: Tensor
    _hide: Tensor | None = None

    @classmethod
    def of(cls, main: Tensor, counts: Sequence[int]) -> Columns:
        """Of streams with so many columns; ``main`` [B, C, C] says which main slots see each other."""
        columns, streams, device = main.shape[1], len(counts), main.device
        number = torch.arange(columns, device=device)[:, None]
        held = torch.tensor(list(counts), device=device)
        dead = number >= held
        slot = torch.where(dead, 0, columns + held.cumsum(0) - held + number).flatten()
        column = torch.cat([number[:count, 0] for count in (columns, *counts)])
        at = torch.cat([number[:count, 0] * streams + stream for stream, count in enumerate(counts)])
        full = all(count == columns for count in counts)
        return cls(main[:, column], streams, slot, None if full else dead[..., None], at)

    def hiding(self, dtype: torch.dtype) -> Tensor:
        """What is added to the scores [B, H, S, C] of main slots, [B, 1, S, C]."""
        if self._hide is None or self._hide.dtype != dtype:
            object.__setattr__(self, "_hide", added(self.truth, dtype)[:, None])
        assert self._hide is not None
        return self._hide

    def lower(self, dtype: torch.dtype) -> Tensor:
        """What is added to the scores of a column with itself, [N, N]."""
        triangle = torch.ones(self.streams, self.streams, dtype=torch.bool, device=self.truth.device).tril()
        return torch.zeros(triangle.shape, dtype=dtype, device=triangle.device).masked_fill(~triangle, -math.inf)

    def by_column(self, x: Tensor) -> Tensor:
        """What all slots have [B, H, S, D], of streams by column [B, H, C, N, D]."""
        laid = x.index_select(2, self.slot)
        return laid.view(*x.shape[:2], -1, self.streams, x.shape[3])

    def by_slot(self, x: Tensor) -> Tensor:
        """And back, [B, H, S - C, D]."""
        return x.flatten(2, 3).index_select(2, self.at)


class _Attend(torch.autograd.Function):
    """Shares are kept as they are before they are divided by their sum, of main slots and of columns apart.

    With weights w, sum z and result o, of a slope g: a = g / z meets the values, and w (a v - a o) is the scores'.
    """

    @staticmethod
    def forward(
        ctx: Any, q_BHSD: Tensor, k_BHSD: Tensor, v_BHSD: Tensor, columns: Columns, hide: Tensor, scale: float
    ) -> Tensor:
        count = columns.truth.shape[2]
        weight = torch.bmm(q_BHSD.flatten(0, 1), _main(k_BHSD, count).mT).mul_(scale).view(*q_BHSD.shape[:3], count)
        weight.add_(hide)
        own = _scores(columns.by_column(q_BHSD), columns.by_column(k_BHSD)).mul_(scale)
        own.add_(columns.lower(q_BHSD.dtype))
        top = weight.amax(-1, keepdim=True)
        behind = top[:, :, count:]
        torch.maximum(behind, columns.by_slot(own.amax(-1, keepdim=True)), out=behind)
        weight.sub_(top).exp_()
        own.sub_(columns.by_column(top)).exp_()
        if columns.dead is not None:
            own.masked_fill_(columns.dead, 0)
        total = weight.sum(-1, keepdim=True)
        total[:, :, count:] += columns.by_slot(own.sum(-1, keepdim=True))
        out = torch.bmm(weight.flatten(0, 1), _main(v_BHSD, count)).view(q_BHSD.shape)
        out[:, :, count:] += columns.by_slot(_valued(own, columns.by_column(v_BHSD)))
        out /= total
        ctx.save_for_backward(q_BHSD, k_BHSD, v_BHSD, weight, own, total, out)
        ctx.columns, ctx.scale = columns, scale
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        q_BHSD, k_BHSD, v_BHSD, weight, own, total, out = ctx.saved_tensors
        columns: Columns = ctx.columns
        count = columns.truth.shape[2]
        slope = grad / total
        common = (slope * out).sum(-1, keepdim=True)
        flat, w = slope.flatten(0, 1), weight.flatten(0, 1)
        d_weight = torch.bmm(flat, _main(v_BHSD, count).mT).sub_(common.flatten(0, 1)).mul_(w).mul_(ctx.scale)
        d_q = torch.bmm(d_weight, _main(k_BHSD, count)).view(q_BHSD.shape)
        d_k, d_v = torch.empty_like(k_BHSD), torch.empty_like(v_BHSD)
        d_k[:, :, :count] = torch.bmm(d_weight.mT, q_BHSD.flatten(0, 1)).view(*k_BHSD.shape[:2], count, -1)
        d_v[:, :, :count] = torch.bmm(w.mT, flat).view(*v_BHSD.shape[:2], count, -1)
        q, k, v, a, same = (columns.by_column(x) for x in (q_BHSD, k_BHSD, v_BHSD, slope, common))
        d_own = _scores(a, v).sub_(same).mul_(own).mul_(ctx.scale)
        d_q[:, :, count:] += columns.by_slot(_valued(d_own, k))
        d_k[:, :, count:] = columns.by_slot(_valued(d_own.mT, q))
        d_v[:, :, count:] = columns.by_slot(_valued(own.mT, a))
        return d_q, d_k, d_v, None, None, None


def _main(x_BHSD: Tensor, count: int) -> Tensor:
    return x_BHSD[:, :, :count].flatten(0, 1)


def _scores(q: Tensor, k: Tensor) -> Tensor:
    """Of each column [B, H, C, N, D] the products [B, H, C, N, N]; of one stream without a call of a matrix product."""
    return (q * k).sum(-1, keepdim=True) if q.shape[3] == 1 else q @ k.mT


def _valued(share: Tensor, v: Tensor) -> Tensor:
    return share * v if v.shape[3] == 1 else share @ v


def attend_in_columns(
    q_BHSD: Tensor, k_BHSD: Tensor, v_BHSD: Tensor, columns: Columns, scale: float, dropout: float = 0.0
) -> Tensor:
    """Softmax attention of main slots and of predicting streams."""
    if q_BHSD.device.type == "cpu" and not dropout and not torch.compiler.is_compiling():
        hide = columns.hiding(q_BHSD.dtype)
        return _Attend.apply(q_BHSD, k_BHSD, v_BHSD, columns, hide, scale)  # type: ignore[no-any-return, no-untyped-call]
    count = columns.truth.shape[2]
    main_k, main_v = k_BHSD[:, :, :count], v_BHSD[:, :, :count]
    score = (q_BHSD @ main_k.mT * scale).masked_fill(~columns.truth[:, None], -math.inf)
    q, k, v = (columns.by_column(x) for x in (q_BHSD, k_BHSD, v_BHSD))
    own = columns.by_slot(q @ k.mT * scale + columns.lower(q.dtype))
    share = torch.softmax(torch.cat([score, F.pad(own, (0, 0, count, 0), value=-math.inf)], dim=-1), -1)
    if dropout:
        share = F.dropout(share, dropout)
    before, beside = share[..., :count] @ main_v, columns.by_column(share[..., count:]) @ v
    return before + F.pad(columns.by_slot(beside), (0, 0, count, 0))
