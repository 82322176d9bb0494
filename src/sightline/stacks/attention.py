"""Attention over whatever a sight allows, by the cheapest kernel that gives exactly that sight.

Shapes: B lines, Q asking slots, K seen slots, H heads, D width of a head.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from ..sight import Rule, seats
from .look import Look


def allowed(sight: Rule, asking: Look, shown: Look) -> Tensor:
    """The sight as truth values [B, Q, K]."""
    truth = sight(seats(asking, True), seats(shown, False))
    return torch.as_tensor(truth).expand(asking.tokens.shape[0], asking.tokens.shape[1], shown.tokens.shape[1])


class Mask:
    """Who sees whom as attention takes it: nothing, a triangle, or truth values; with additive scores if given.

    A row that may see nothing at all (the first query of a drawn order) is let see everything and its result is set
    to zero: a softmax over nothing is not a number, and an even one over all slots would be a silent leak.
    """

    def __init__(self, kernel: str, truth: Tensor | None = None, scores: Tensor | None = None) -> None:
        self.triangle = kernel == "triangle"
        self.blind: Tensor | None = None
        self.added: Tensor | None = scores
        if truth is not None:
            blind = ~truth.any(-1, keepdim=True)
            asked_for = torch.compiler.is_compiling() or bool(blind.any())  # a graph does not branch on values
            self.blind = blind[:, None] if asked_for else None
            open_truth = (truth | blind)[:, None]
            self.added = open_truth if scores is None else scores.masked_fill(~open_truth, -math.inf)
        elif scores is not None and self.triangle:
            asking, shown = scores.shape[-2:]
            lower = torch.ones(asking, shown, dtype=torch.bool, device=scores.device).tril(shown - asking)
            self.added, self.triangle = scores.masked_fill(~lower, -math.inf), False


def attend(q_BHQD: Tensor, k_BHKD: Tensor, v_BHKD: Tensor, mask: Mask, scale: float, dropout: float = 0.0) -> Tensor:
    """Softmax attention; keys with fewer heads than queries are shared by groups of heads (Ainslie et al., 2023)."""
    groups = q_BHQD.shape[1] // k_BHKD.shape[1]
    if groups > 1:
        k_BHKD = k_BHKD.repeat_interleave(groups, dim=1)
        v_BHKD = v_BHKD.repeat_interleave(groups, dim=1)
    added = mask.added
    if added is not None and added.dtype != torch.bool:
        added = added.to(q_BHQD.dtype)
    seen_BHQD = F.scaled_dot_product_attention(
        q_BHQD, k_BHKD, v_BHKD, attn_mask=added, is_causal=mask.triangle, scale=scale, dropout_p=dropout
    )
    return seen_BHQD if mask.blind is None else seen_BHQD.masked_fill(mask.blind, 0.0)
