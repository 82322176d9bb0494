"""Attention in blocks gives what torch's own kernel gives, states and slopes, for whatever a sight allows."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from sightline.stacks import attention
from sightline.stacks.attention import Mask, attend
from sightline.stacks.blocks import BLOCK, Block, of_everything, of_triangle, of_truth

LINES, HEADS, WIDTH = 3, 4, 8
LONG = 2 * BLOCK + 37


def documents(count: int, lengths: list[int]) -> np.ndarray:
    return np.repeat(np.arange(len(lengths)), lengths)[:count]


def within(count: int, past: bool) -> np.ndarray:
    """Documents of other lengths in each line, [LINES, count, count]."""
    cuts = ([40, 100, count], [count], [7, 150, 30, count])
    marks = np.stack([documents(count, lengths) for lengths in cuts])
    same = marks[:, :, None] == marks[:, None, :]
    return same & np.tri(count, dtype=bool) if past else same


def blind(count: int) -> np.ndarray:
    truth = np.tril(np.ones((LINES, count, count), bool), -1)
    truth[1, 5:9] = False
    return truth


def patches(count: int) -> np.ndarray:
    return np.random.default_rng(0).random((LINES, count, count)) < 0.3


SIGHTS: dict[str, Callable[[int], np.ndarray]] = {
    "documents_past": lambda count: within(count, past=True),
    "documents": lambda count: within(count, past=False),
    "patches": patches,
    "blind": blind,
}


def both(mask: Callable[[], Mask], count: int, monkeypatch: pytest.MonkeyPatch, kv_heads: int = HEADS) -> list[Tensor]:
    """States and the slopes of q, k, v: in blocks, then by torch."""
    torch.manual_seed(0)
    shapes = (HEADS, kv_heads, kv_heads)
    given = [torch.randn(LINES, heads, count, WIDTH) for heads in shapes]
    weight = torch.randn(LINES, HEADS, count, WIDTH)
    found = []
    for most in (10**6, 0):
        monkeypatch.setattr(attention, "MOST", most)
        q, k, v = (x.clone().requires_grad_() for x in given)
        states = attend(q, k, v, mask(), WIDTH**-0.5)
        (states * weight).sum().backward()
        found.append([states.detach(), q.grad, k.grad, v.grad])
    return [torch.stack(pair) for pair in zip(*found, strict=True)]  # type: ignore[arg-type]


@pytest.mark.parametrize("count", [16, BLOCK, LONG])
@pytest.mark.parametrize("sight", SIGHTS)
def test_blocks_give_what_torch_gives(sight: str, count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    truth = torch.from_numpy(SIGHTS[sight](count))
    for pair in both(lambda: Mask("mask", truth), count, monkeypatch):
        assert torch.allclose(pair[0], pair[1], atol=1e-5)


@pytest.mark.parametrize("kernel", ["triangle", "full"])
@pytest.mark.parametrize("kv_heads", [1, 2, HEADS])
def test_plain_kernels_and_shared_heads_too(kernel: str, kv_heads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    for pair in both(lambda: Mask(kernel), LONG, monkeypatch, kv_heads):  # type: ignore[arg-type]
        assert torch.allclose(pair[0], pair[1], atol=1e-5)


def test_what_is_hidden_moves_nothing() -> None:
    truth = torch.from_numpy(within(LONG, past=True))
    q, k, v = (torch.randn(LINES, HEADS, LONG, WIDTH, dtype=torch.bfloat16) for _ in range(3))
    states = attend(q, k, v, Mask("mask", truth), 0.3)
    k[1:, :, 200], v[1:, :, 200] = 5.0, -7.0
    moved = (attend(q, k, v, Mask("mask", truth), 0.3) != states).any(-1).any(1)
    assert torch.equal(moved[1:], truth[1:, :, 200]) and not moved[0].any()


@pytest.mark.parametrize("sight", [name for name in SIGHTS if name != "blind"])
def test_blocks_cover_the_sight_and_are_clear_where_they_say(sight: str) -> None:
    truth = SIGHTS[sight](LONG)
    assert_covers(of_truth(truth, HEADS), truth)


def test_the_blocks_of_plain_kernels_cover_them() -> None:
    assert_covers(of_triangle(LINES, LONG), np.broadcast_to(np.tri(LONG, dtype=bool), (LINES, LONG, LONG)))
    assert_covers(of_everything(LINES, LONG, 9), np.ones((LINES, LONG, 9), bool))


def assert_covers(blocks: list[Block], truth: np.ndarray) -> None:
    asked = np.zeros(truth.shape[:2], int)
    covered = np.zeros(truth.shape, bool)
    for block in blocks:
        lines, queries = slice(block.first, block.last), slice(block.start, block.stop)
        asked[lines, queries] += 1
        covered[lines, queries, block.low : block.high] = True
        assert truth[lines, queries, block.low : block.clear].all()
    assert (asked == 1).all() and (covered | ~truth).all()


def test_documents_are_worked_out_apart_where_it_pays() -> None:
    """Eight documents of 256 in a row of 2,048: an eighth of the pairs, and a triangle of each."""
    marks = np.repeat(np.arange(8), 256)
    truth = ((marks[:, None] == marks[None]) & np.tri(2048, dtype=bool))[None]
    assert sum(block.scores for block in of_truth(truth, 8)) == 8 * (128 * 128 + 128 * 256)
    short = ((marks[:16, None] == marks[None, :16]) & np.tri(16, dtype=bool))[None]
    assert of_truth(np.repeat(short, 4, 0), 2) == [Block(0, 4, 0, 16, 0, 16, 1)]  # one call beats four
