"""Two-stream attention: beside a dense second implementation, and beside what XLNet's own model may see."""

from __future__ import annotations

import math
from collections.abc import Callable
from types import ModuleType

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from sightline.data import Draws, Rows
from sightline.data.vocabulary import Vocabulary
from sightline.objectives import Permuted
from sightline.objectives.model import built
from sightline.sight import NOTHING, Depth, View, reach
from sightline.stacks.shape import Shape
from sightline.stacks.transformer import Transformer

T = 12
WORDS = Vocabulary(30, 30, bos=1, eos=2, specials=(1, 2))
FAMILIES = {"partial": Permuted(WORDS, last=0.34, whole=0), "whole": Permuted(WORDS, whole=1)}


def row(seed: int) -> Rows:
    tokens = np.random.default_rng(seed).integers(3, 30, (1, T)).astype(np.int32)
    everywhere, zero = np.ones((1, T), bool), np.zeros((1, T), np.int64)
    return Rows(tokens, zero.astype(np.int32), zero[:, 0], zero[:, 0], everywhere, zero, everywhere)


def questions(view: View) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """``perm_mask`` [T, T] (1: row may not see column), ``target_mapping`` [targets, T] and the queries' slots.

    By XLNet's own words: what is not asked for stands before everything and is seen by all; what is asked for sees,
    beside that, what comes earlier in the order, and not itself.
    """
    slots = np.flatnonzero(view.asks[0] != NOTHING)
    targets = view.asks[0, slots]
    rank = np.full(T, -1)
    rank[targets] = np.argsort(np.argsort(view.slots.order[0, slots]))
    mask = np.zeros((T, T))
    for asker in range(T):
        for seen in range(T):
            later = rank[seen] >= rank[asker] if rank[asker] >= 0 else rank[seen] >= 0
            mask[asker, seen] = float(later and rank[seen] >= 0)
    return mask, np.eye(T)[targets], slots


@torch.no_grad()
def dense(stack: Transformer, ids: Tensor, perm_mask: Tensor, target_mapping: Tensor) -> tuple[Tensor, Tensor]:
    """Content states [T, width] and query states [targets, width] by two streams with full matrices."""
    shape, places = stack.shape, stack.places[0].weight[:T]  # type: ignore[union-attr]
    heads, width = shape.heads, shape.of_head
    content = stack.embedding.weight[ids] + places  # type: ignore[operator]
    query = stack.blank + target_mapping @ places  # type: ignore[operator]
    sees_itself = (perm_mask == 0) | torch.eye(T, dtype=torch.bool)
    not_itself = target_mapping @ (perm_mask == 0).float() > 0

    def split(x: Tensor) -> Tensor:
        return x.view(len(x), heads, width).transpose(0, 1)

    def looked(q: Tensor, k: Tensor, v: Tensor, may: Tensor) -> Tensor:
        scores = split(q) @ split(k).transpose(1, 2) / math.sqrt(width)
        p = torch.nan_to_num(torch.softmax(scores.masked_fill(~may, -math.inf), -1), nan=0.0)
        return (p @ split(v)).transpose(0, 1).reshape(len(q), heads * width)

    for layer in stack.layers:
        norm, feed = layer.norm_attention, layer.feed  # type: ignore[union-attr]
        weight = layer.attention.qkv.weight.chunk(3)  # type: ignore[union-attr,operator]
        normed, asking = norm(content), norm(query)  # type: ignore[operator]
        q, k, v = (normed @ part.T for part in weight)
        out = layer.attention.out.weight.T  # type: ignore[union-attr]
        query = query + looked(asking @ weight[0].T, k, v, not_itself) @ out  # type: ignore[operator]
        content = content + looked(q, k, v, sees_itself) @ out  # type: ignore[operator]

        def fed(x: Tensor, layer: torch.nn.Module = layer, feed: torch.nn.Module = feed) -> Tensor:  # type: ignore[assignment]
            inner = F.gelu(layer.norm_feed(x) @ feed.up.weight.T)  # type: ignore[operator,union-attr]
            return x + inner @ feed.down.weight.T  # type: ignore[no-any-return,operator,union-attr]

        content, query = fed(content), fed(query)
    return stack.norm_final(content), stack.norm_final(query)  # type: ignore[misc]


@pytest.mark.parametrize("kind", FAMILIES)
@pytest.mark.parametrize("seed", range(3))
def test_two_streams_equal_a_dense_second_implementation(kind: str, seed: int) -> None:
    shape = Shape(3, 32, 4, 30, T, positions="learned", qk_norm=False, activation="gelu")
    model, rows = built(FAMILIES[kind], shape, None, seed).eval(), row(seed)  # type: ignore[arg-type]
    with torch.no_grad():
        for table in model.stack.places:  # type: ignore[union-attr]
            table.weight.normal_()  # type: ignore[operator,union-attr]
    (view,) = model.objective.ask(rows, Draws(seed).of(rows), 0.0)
    perm_mask, target_mapping, slots = questions(view)
    assert len(slots) == (4 if kind == "partial" else T - 1)
    ids = torch.from_numpy(rows.tokens[0]).long()
    content, query = dense(
        model.stack, ids, torch.from_numpy(perm_mask), torch.from_numpy(target_mapping).float()  # type: ignore[arg-type]
    )  # fmt: skip
    with torch.no_grad():
        states = model.states(view, rows.tokens)[0]
    torch.testing.assert_close(states[:T], content, atol=2e-5, rtol=1e-4)
    torch.testing.assert_close(states[torch.from_numpy(slots)], query, atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("kind", FAMILIES)
def test_its_queries_see_what_those_of_xlnet_see(kind: str, peer: Callable[[str], ModuleType]) -> None:
    """Same permutation mask and targets: whichever token moves an answer of XLNet's reaches that query here."""
    transformers = peer("transformers")
    torch.manual_seed(0)
    config = transformers.XLNetConfig(
        vocab_size=30, d_model=16, n_layer=2, n_head=2, d_inner=24, dropout=0.0, initializer_range=0.6
    )
    xlnet = transformers.XLNetModel(config).eval()
    rows = row(5)
    (view,) = FAMILIES[kind].ask(rows, Draws(2).of(rows), 0.0)
    perm_mask, target_mapping, slots = questions(view)

    @torch.no_grad()
    def states(tokens: np.ndarray) -> Tensor:
        given = {
            "perm_mask": torch.from_numpy(perm_mask)[None].float(),
            "target_mapping": torch.from_numpy(target_mapping)[None].float(),
        }
        return xlnet(input_ids=torch.from_numpy(tokens).long(), **given).last_hidden_state[0]  # type: ignore[no-any-return]

    before, moved = states(rows.tokens), np.zeros((len(slots), T), bool)
    for place in range(T):
        other = rows.tokens.copy()
        other[0, place] = (other[0, place] + 3) % 27 + 3
        moved[:, place] = (states(other) != before).any(-1).numpy()
    assert (moved == reach(view, Depth(layers=2))[0][slots][:, :T]).all()
