"""First weights from counts: a transformer that begins as a table of pairs, what a slot shows and what it is asked.

    count(shown, asked) -> log p(asked | shown) / p(asked) -> its largest singular directions -> embedding, head

With layers that add nothing yet, a stack's logits are head . norm(embedding): a table of pairs of the width's rank.
Its best values need no training. The log ratios are factored as word vectors are (Levy and Goldberg, Neural Word
Embedding as Implicit Matrix Factorization, 2014), each side weighted by the root of how often it occurs; chances of
pairs are smoothed by Witten and Bell (1991), so that what was never seen keeps the log ratio of all such pairs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from ..errors import SightlineError
from .head import Head
from .transformer import Transformer

POWER_STEPS = 2  # of the randomised factoring (Halko et al., 2011)
CONSTANT = 0.5  # share of an embedding's length that carries the head's log p(asked)
TABLE_RATE = 0.03  # the tables' learning rate, as a share of the usual: they have less to learn, and more to lose


@dataclass(frozen=True)
class Pairs:
    """How often a slot that shows one id was asked for another: three arrays [pairs], each pair once."""

    shown: Tensor
    asked: Tensor
    counts: Tensor


@torch.no_grad()
def begin_from(pairs: Pairs, stack: Transformer, head: Head, seed: int) -> None:
    """Set embedding and head so that the stack answers by the counts of pairs; layers begin by adding nothing.

    Rows of ids that no slot shows keep their drawn embedding. The same pairs and seed give the same weights.

    Raises
    ------
    SightlineError : the stack has no norm between embedding and head, or its head shares the embedding.
    """
    shape, table = stack.shape, cast(nn.Embedding, stack.embedding)
    plain = shape.norm_place == "pre" and shape.final_norm and not shape.embedding_norm
    plain = plain and head.dense is None and head.scale == 1.0
    if not plain or shape.positions in ("learned", "sinusoidal") or head.weight is table.weight:
        raise SightlineError(
            "weights from counts need an embedding that enters the layers as it is, and a head of its own",
            "Use --init random, or the default stack",
        )
    left, right, log_chance, seen = _factored(pairs, shape.vocabulary, shape.width - 3, seed)
    rank = left.shape[1]
    longest = left[seen].norm(dim=1).max().clamp(min=1e-6)
    rows = torch.zeros(shape.vocabulary, rank + 2, dtype=left.dtype)
    rows[:, :rank] = left / longest * (1 - CONSTANT**2) ** 0.5
    rows[:, rank] = CONSTANT
    rows[:, rank + 1] = (1 - rows.square().sum(1)).clamp(min=0).sqrt()  # the norm finds every row equally long
    answers = torch.zeros_like(rows)
    answers[:, :rank] = right * longest / (1 - CONSTANT**2) ** 0.5
    answers[:, rank] = log_chance / CONSTANT
    basis = _centred(shape.width, rank + 2, seed)
    root = shape.width**0.5
    table.weight[seen] = (rows[seen] @ basis.T * root).float()
    head.weight.copy_(answers @ basis.T / root)
    for name, weight in stack.named_parameters():
        if name.endswith(("out.weight", "down.weight")):
            weight.zero_()


def _factored(pairs: Pairs, vocabulary: int, rank: int, seed: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Factors [vocabulary, rank] of the log ratios, log p(asked) [vocabulary], and which ids are shown at all."""
    counts = pairs.counts.double()
    ones = torch.ones_like(counts)
    zero = torch.zeros(vocabulary, dtype=torch.float64)
    of_shown, kinds = zero.index_add(0, pairs.shown, counts), zero.index_add(0, pairs.shown, ones)
    of_asked = zero.index_add(0, pairs.asked, counts)
    chance = (of_asked + 0.5) / (of_asked + 0.5).sum()
    seen = of_shown > 0
    known = (of_shown / (of_shown + kinds).clamp(min=1))[pairs.shown]  # Witten and Bell's share of what was seen
    ratio = known * counts / of_shown[pairs.shown] / chance[pairs.asked]
    weight_shown, weight_asked = of_shown.clamp(min=1).sqrt(), of_asked.clamp(min=1).sqrt()
    values = (ratio / (1 - known)).log1p() * weight_shown[pairs.shown] * weight_asked[pairs.asked]
    index, whole = torch.stack([pairs.shown, pairs.asked]), (vocabulary, vocabulary)
    table = torch.sparse_coo_tensor(index, values.float(), whole, check_invariants=True).coalesce()
    rank = min(rank, vocabulary - 1)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        left, values, right = torch.svd_lowrank(table, q=min(rank + 20, vocabulary), niter=POWER_STEPS)
    root = values[:rank].double().sqrt()
    left, right = left[:, :rank].double() * root, right[:, :rank].double() * root
    return left / weight_shown[:, None], right / weight_asked[:, None], chance.log(), seen


def _centred(width: int, count: int, seed: int) -> Tensor:
    """Directions [width, count], orthonormal and of mean 0, which a norm over the width leaves as they are."""
    drawn = torch.randn(width, count, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    basis: Tensor = torch.linalg.qr(drawn - drawn.mean(0))[0]
    return basis
