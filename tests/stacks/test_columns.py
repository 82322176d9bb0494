"""Attention of predicting streams by their structure gives what a dense matrix gives, for a share of its operations."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "conformance"))
from checks import WORDS, packed, single

from sightline.data import Draws
from sightline.decoders.canvas import Canvas
from sightline.objectives import Bang, Causal, Denoise
from sightline.objectives.model import Model, built
from sightline.sight import NO_DOCUMENT, Depth, matrix, visible_pairs
from sightline.stacks.attention import Mask, attend
from sightline.stacks.columns import Columns, attend_in_columns, pairs, streams_of
from sightline.stacks.look import Look
from sightline.stacks.shape import Shape
from sightline.stacks.two import sides

LINES, HEADS, WIDTH = 2, 3, 8


def dense(main: torch.Tensor, counts: tuple[int, ...]) -> torch.Tensor:
    """Truth values of all slots, from those of the main ones [B, C, C]."""
    columns, streams = main.shape[1], len(counts)
    beside = torch.ones(streams, streams, dtype=torch.bool).tril().kron(torch.eye(columns, dtype=torch.bool))
    whole = torch.zeros(len(main), (1 + streams) * columns, (1 + streams) * columns, dtype=torch.bool)
    whole[:, :, :columns] = main.repeat(1, 1 + streams, 1)
    whole[:, columns:, columns:] = beside
    there = torch.tensor([number < count for count in (columns, *counts) for number in range(columns)])
    return whole[:, there][:, :, there]


@pytest.mark.parametrize(
    "counts", [(1, 1), (5, 5), (5, 5, 5, 5, 5), (40,) * 10, (5, 5, 4, 2), (6, 3), (41, 41, 36, 9, 1)]
)
@pytest.mark.parametrize("kv_heads", [1, HEADS])
def test_columns_give_what_a_matrix_gives(counts: tuple[int, ...], kv_heads: int) -> None:
    """All streams of all columns, and streams of fewer and fewer."""
    torch.manual_seed(0)
    columns, streams = counts[0], counts[1:]
    document = torch.arange(columns) // max(1, columns // 2)
    main = ((document[:, None] == document) & torch.ones(columns, columns).tril().bool()).expand(LINES, -1, -1)
    count = sum(counts)
    shapes = (HEADS, kv_heads, kv_heads)
    given = [torch.randn(LINES, heads, count, WIDTH, dtype=torch.float64) for heads in shapes]
    weight = torch.randn(LINES, HEADS, count, WIDTH, dtype=torch.float64)
    found = []
    structure, matrix = Mask("columns", columns=Columns.of(main, streams)), Mask("mask", dense(main, streams))
    for mask, dropout in ((structure, 0.0), (structure, 1e-12), (matrix, 0.0)):  # dropout is not for the quick kernel
        q, k, v = (x.clone().requires_grad_() for x in given)
        states = attend(q, k, v, mask, 0.3, dropout)
        (states * weight).sum().backward()
        found.append([states.detach(), q.grad, k.grad, v.grad])
    for one, plain, other in zip(*found, strict=True):
        assert torch.allclose(one, other, atol=1e-11) and torch.allclose(plain, other, atol=1e-9)


def test_operations_are_those_that_are_stated() -> None:
    """Counted by torch from the products that run: a tenth of the dense ones for the published nine streams."""
    columns, streams = 64, 9
    seen, worked, all_pairs = pairs(columns, streams)
    counts = (columns,) * streams
    q, k, v = (torch.randn(LINES, HEADS, (1 + streams) * columns, WIDTH) for _ in range(3))
    main = torch.ones(LINES, columns, columns, dtype=torch.bool).tril()
    counted = []
    for run in (
        lambda: attend_in_columns(q, k, v, Columns.of(main, counts), 0.3),
        lambda: torch.softmax((q @ k.mT).masked_fill(~dense(main, counts)[:, None], -torch.inf), -1) @ v,
    ):
        with FlopCounterMode(display=False) as counter:
            run()
        counted.append(counter.get_total_flops())
    each = 4 * WIDTH * HEADS * LINES
    assert counted == [each * worked, each * all_pairs]
    assert worked / all_pairs < 0.113 and seen == int(dense(main, counts)[0].sum())
    assert pairs(1024, 9)[1] / pairs(1024, 9)[2] < 0.101  # towards 1 / (1 + n)


def model(streams: int = 3) -> Model:
    objective = Bang(WORDS, streams=streams, rate=0.5)
    return built(objective, Shape(4, 32, 4, WORDS.padded, 64), None)


def test_columns_are_seen_in_the_slots() -> None:
    """In what is asked in training and in a score; not where the last column alone has streams, nor elsewhere."""
    bang = model().objective
    for rows in (single(), packed()):
        (view,) = bang.ask(rows, Draws(0).of(rows), 0.0)
        target = sides(view)[1]
        assert streams_of(target) == (9, 8, 8) and Look.of(target, rows.tokens).kernel == "columns"
        assert len(streams_of(sides(next(iter(bang.examine(rows))))[1])) == 1
        # a run that is compiled fixes the kernel once
        assert Look.of(target, rows.tokens, kernel="mask").kernel == "columns"
        assert Look.of(target, rows.tokens, kernel="flex").kernel == "flex"
        for other in (Causal(WORDS), Denoise(WORDS)):
            assert not any(streams_of(part) for view in other.examine(rows) for part in (view, *_parts(view)))
    canvas = Canvas.laid([[[1, 5, 6], 4]]).written(np.array([0]), np.array([3]), np.array([7]))
    assert streams_of(sides(bang.fill(canvas, 3))[1]) == ()  # type: ignore[call-arg]


def _parts(view):  # type: ignore[no-untyped-def]
    return sides(view) if view.slots.stream.any() else ()


@pytest.mark.parametrize("positions", ["rope", "relative", "alibi"])
def test_a_stack_gives_the_same_states_by_either_kernel(positions: str) -> None:
    """Scores of positions are added to a dense matrix: such a stack keeps it."""
    torch.manual_seed(0)
    rows = packed()
    bang = Bang(WORDS, streams=3, rate=0.5)
    whole = built(bang, Shape(4, 32, 4, WORDS.padded, 64, positions=positions), None).double()  # type: ignore[arg-type]
    (view,) = bang.ask(rows, Draws(0).of(rows), 0.0)
    looks = [Look.of(part, rows.tokens) for part in sides(view)]
    plain = Look.of(sides(view)[1], rows.tokens)
    object.__setattr__(plain, "kernel", "mask")
    with torch.no_grad():
        found = [whole.stack(looks[0], target) for target in (looks[1], plain)]
    real = torch.from_numpy(view.slots.document != NO_DOCUMENT)
    assert torch.allclose(found[0][real], found[1][real], atol=1e-12)


def test_pairs_of_a_view_are_the_visible_ones() -> None:
    """One document, spans as long as the rest: columns of a whole target, and of all streams that have an answer."""
    rows = single(14, 1)
    bang = Bang(WORDS, streams=3)
    target = sides(bang.pictured(rows))[1]
    there = target.slots.document[0] != NO_DOCUMENT
    truth = matrix(target.whole_sight, target.slots)[0][np.ix_(there, there)]
    assert visible_pairs(target, Depth(1)) == truth.sum() < pairs(13, 3)[0] <= pairs(13, 3)[1]
