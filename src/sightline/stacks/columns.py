"""Attention of predicting streams: each slot sees the main stream so far, and the lower streams of its own column.

    slots     main C | stream 1 C | ... | stream n C          C columns, the same in every stream
    scores    (1 + n) C x C   of all streams with the main one, which one triangle hides
              C x (n x n)     of each column with itself, which another triangle hides

All pairs of slots would be ((1 + n) C)^2. Here they are (1 + n) C^2 + n^2 C: with 9 streams of 64 columns a tenth, and
in the long run a share 1 / (1 + n). A pair costs 4 D operations a head: a product for its score, one for its value.

Shapes: B lines, H heads, C columns, N streams, D width of a head.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ..sight import MAIN, View, opening, same_document, settled, streamed


def pairs(columns: int, streams: int) -> tuple[int, int, int]:
    """Pairs of slots of one document that are seen, that are worked out here, and that a dense matrix has."""
    seen = (1 + streams) * columns * (columns + 1) // 2 + columns * streams * (streams + 1) // 2
    return seen, (1 + streams) * columns**2 + columns * streams**2, ((1 + streams) * columns) ** 2


def streams_of(view: View) -> int:
    """How many predicting streams a view has, if its slots are columns as above in every line; else 0."""
    slots = view.slots
    columns = int((slots.stream[:1] == MAIN).sum())
    if not columns or slots.count % columns or slots.stream[0, -1] == MAIN:
        return 0
    if settled(view.whole_sight, opening, False) != streamed & same_document:
        return 0
    streams = slots.count // columns
    alike = np.repeat(np.arange(MAIN, MAIN + streams), columns)
    rising = bool((np.diff(slots.order[:, :columns], axis=1) > 0).all())
    order = slots.order.reshape(slots.lines, streams, columns)
    return streams - 1 if rising and bool((slots.stream == alike).all() and (order == order[:, :1]).all()) else 0


def attend_in_columns(
    q_BHSD: Tensor, k_BHSD: Tensor, v_BHSD: Tensor, truth: Tensor, streams: int, scale: float, dropout: float = 0.0
) -> Tensor:
    """Softmax attention of main slots and of ``streams`` predicting ones; ``truth`` [B, C, C]: main slots by main."""
    lines, heads, slots, width = q_BHSD.shape
    columns = slots // (1 + streams)
    parts = (lines, heads, 1 + streams, columns)
    main_k, main_v = k_BHSD[:, :, :columns], v_BHSD[:, :, :columns]
    score = (q_BHSD @ main_k.mT * scale).view(*parts, columns).masked_fill(~truth[:, None, None], -math.inf)
    q, k, v = (x.view(*parts, width)[:, :, 1:].transpose(2, 3) for x in (q_BHSD, k_BHSD, v_BHSD))  # [B, H, C, N, D]
    lower = torch.ones(streams, streams, dtype=torch.bool, device=q.device).tril()
    own = (q @ k.mT * scale).masked_fill(~lower, -math.inf)
    first = torch.softmax(score[:, :, 0], -1)
    share = torch.softmax(torch.cat([score[:, :, 1:], own.transpose(2, 3)], dim=-1), -1)
    if dropout:
        first, share = F.dropout(first, dropout), F.dropout(share, dropout)
    before, beside = share[..., :columns], share[..., columns:].transpose(2, 3)
    seen = before.flatten(2, 3) @ main_v + (beside @ v).transpose(2, 3).flatten(2, 3)
    return torch.cat([first @ main_v, seen], dim=2)
