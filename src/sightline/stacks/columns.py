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

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ..sight import MAIN, View, opening, same_document, settled, streamed


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
    slot : [N * C] where the slot of a stream and column stands behind the main ones; anywhere, if there is none.
    there : which of these there are, in the order of slots; None: all.
    """

    truth: Tensor
    streams: int
    slot: Tensor
    there: Tensor | None

    @classmethod
    def of(cls, main: Tensor, counts: Sequence[int]) -> Columns:
        """Of streams with so many columns; ``main`` [B, C, C] says which main slots see each other."""
        columns, device = main.shape[1], main.device
        number = torch.arange(columns, device=device)
        held = torch.tensor(list(counts), device=device)[:, None]
        there = number < held
        slot = torch.where(there, held.cumsum(0) - held + number, 0).flatten()
        column = torch.cat([number[:count] for count in (columns, *counts)])
        full = all(count == columns for count in counts)
        behind = torch.cat([at * columns + number[:count] for at, count in enumerate(counts)])
        return cls(main[:, column], len(counts), slot, None if full else behind)

    def by_column(self, x: Tensor) -> Tensor:
        """What slots of streams have [B, H, S - C, D], by column [B, H, C, N, D]."""
        laid = x if self.there is None else x.index_select(2, self.slot)
        lines, heads, slots, width = laid.shape
        return laid.view(lines, heads, self.streams, slots // self.streams, width).transpose(2, 3)

    def by_slot(self, x: Tensor) -> Tensor:
        """And back."""
        laid = x.transpose(2, 3).flatten(2, 3)
        return laid if self.there is None else laid.index_select(2, self.there)


def attend_in_columns(
    q_BHSD: Tensor, k_BHSD: Tensor, v_BHSD: Tensor, columns: Columns, scale: float, dropout: float = 0.0
) -> Tensor:
    """Softmax attention of main slots and of predicting streams."""
    count = columns.truth.shape[2]
    main_k, main_v = k_BHSD[:, :, :count], v_BHSD[:, :, :count]
    score = (q_BHSD @ main_k.mT * scale).masked_fill(~columns.truth[:, None], -math.inf)
    q, k, v = (columns.by_column(x[:, :, count:].contiguous()) for x in (q_BHSD, k_BHSD, v_BHSD))
    lower = torch.ones(columns.streams, columns.streams, dtype=torch.bool, device=q.device).tril()
    own = columns.by_slot((q @ k.mT * scale).masked_fill(~lower, -math.inf))
    first = torch.softmax(score[:, :, :count], -1)
    share = torch.softmax(torch.cat([score[:, :, count:], own], dim=-1), -1)
    if dropout:
        first, share = F.dropout(first, dropout), F.dropout(share, dropout)
    beside = columns.by_column(share[..., count:].contiguous())
    seen = share[..., :count] @ main_v + columns.by_slot(beside @ v)
    return torch.cat([first @ main_v, seen], dim=2)
