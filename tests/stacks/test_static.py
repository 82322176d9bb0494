"""The step that a GPU replays: on a processor it runs as it is, and answers as torch's growing cache does."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from test_native import VARIANTS, T, by_torch, close, parts, piece, question
from torch._dynamo.testing import CompileCounterWithBackend
from torch.nn import functional as F

from sightline.sight import near, opening, past
from sightline.stacks import static
from sightline.stacks.attention import Mask, attend, attend_one
from sightline.stacks.cache import Cache

MORE: list[dict[str, Any]] = [
    {"norm_place": "post"},
    {"positions": "relative"},
    {"positions": "sinusoidal"},
    {"windows": (None, 3)},
    {"windows": (None, 3), "window_base": 50.0},
]


@pytest.fixture(autouse=True)
def no_slopes() -> Iterator[None]:
    with torch.no_grad():
        yield


@pytest.mark.parametrize("sight", [past, past | opening, past & near(4)], ids=str)
@pytest.mark.parametrize("shape", [*VARIANTS, *MORE], ids=str)
def test_it_answers_as_a_growing_cache_does(shape: dict[str, Any], sight: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the sight; the room doubles on the way, and a cut forgets what stood behind it."""
    monkeypatch.setattr(static, "LEAST", 8)
    stack, head = parts(**shape)
    view, tokens = question(3, sight)
    cache, growing = Cache(), Cache()
    for one in (cache, growing):
        by_torch(stack, head, piece(view, 0, 14), tokens, one)
    for at in (*range(14, 19), 16, *range(17, T)):
        cache.cut(at)
        growing.cut(at)
        new = piece(view, at, at + 1)
        expected = by_torch(stack, head, new, tokens, growing)
        assert close(static.replayed(stack, head, new, tokens, cache), expected)
        assert cache.count == at + 1 and cache.handed is not None
    cache.cut(20)
    growing.cut(20)
    rest = piece(view, 20, 23)
    assert static.replayed(stack, head, rest, tokens, cache) is None  # more than one slot a line
    assert close(by_torch(stack, head, rest, tokens, cache), by_torch(stack, head, rest, tokens, growing))
    assert cache.handed is None


def test_lines_leave_change_places_and_are_repeated() -> None:
    stack, head = parts()
    view, tokens = question(6)
    cache, growing = Cache(), Cache()
    for one in (cache, growing):
        by_torch(stack, head, piece(view, 0, 14), tokens, one)
    lines = np.arange(6)
    seats = []
    for at, index in enumerate(([0, 1, 2, 3, 4, 5], [5, 4, 2, 0, 1], [3, 0], [0, 0, 1, 0], [2, 3])):
        lines = lines[index]
        for one in (cache, growing):
            one.lines(torch.tensor(index))
        new = piece(view.lines(lines), 14 + at, 15 + at)
        said = static.replayed(stack, head, new, tokens[lines], cache)
        assert close(said, by_torch(stack, head, new, tokens[lines], growing))
        assert isinstance(cache.handed, static.Static)
        seats.append(cache.handed._step.lines)
    assert seats == [6, 6, 2, 4, 2]  # half empty: those left move together


def test_a_step_is_overwritten_by_the_next_and_its_answer_is_not() -> None:
    stack, head = parts()
    view, tokens = question(2)
    cache = Cache()
    by_torch(stack, head, piece(view, 0, 14), tokens, cache)
    first = static.replayed(stack, head, piece(view, 14, 15), tokens, cache)
    assert first is not None
    kept = first.clone()
    static.replayed(stack, head, piece(view, 15, 16), tokens, cache)
    assert torch.equal(first, kept)


def test_what_may_not_be_captured_is_torch_s() -> None:
    view, tokens = question(2)
    for shape in ({"positions": "alibi"}, {}):
        stack, head = parts(**shape)
        cache = Cache()
        assert static.replayed(stack, head, piece(view, 0, 1), tokens, cache) is None  # nothing is held yet
        by_torch(stack, head, piece(view, 0, 14), tokens, cache)
        stack.train(not shape)
        assert static.replayed(stack, head, piece(view, 14, 15), tokens, cache) is None
        stack.eval()
        other = piece(question(2, past & near(4))[0], 14, 15)
        assert static.replayed(stack, head, other, tokens, cache) is None
        assert cache.handed is None


def test_it_is_one_graph_for_all_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    torch._dynamo.reset()
    graphs = CompileCounterWithBackend("aot_eager")
    graph = torch.compile(static.answer, backend=graphs, dynamic=False, fullgraph=True)
    monkeypatch.setattr(static, "compiled", lambda call: graph)
    stack, head = parts(kv_heads=2)
    view, tokens = question(3)
    for _ in range(2):  # a second text is written through the same graph
        cache, growing = Cache(), Cache()
        for one in (cache, growing):
            by_torch(stack, head, piece(view, 0, 14), tokens, one)
        for at in range(14, 20):
            new = piece(view, at, at + 1)
            expected = by_torch(stack, head, new, tokens, growing)
            assert close(static.replayed(stack, head, new, tokens, cache, compiled=True), expected)
    assert graphs.frame_count == 1


@pytest.mark.parametrize("shape", VARIANTS[:4], ids=str)
def test_products_of_one_row_may_be_sums(shape: dict[str, Any]) -> None:
    torch._dynamo.reset()
    stack, head = parts(**shape)
    graphs = CompileCounterWithBackend("aot_eager")

    @torch.compile(backend=graphs, dynamic=False, fullgraph=True)
    def summed(look: Any) -> torch.Tensor:
        with static.Sums():
            return head.logits(stack(look))

    for lines, count in ((1, 1), (2, 1)):
        view, tokens = question(lines)
        look = static.Look.of(piece(view, 0, 1), tokens)
        assert close(summed(look), head.logits(stack(look)))
        products = [node for graph in graphs.graphs for node in graph.graph.nodes if node.target is F.linear]
        assert bool(products) == (lines > 1) and graphs.frame_count == lines * count


@pytest.mark.parametrize("kv_heads", [1, 2, 4])
def test_one_asking_slot_sees_what_torch_s_kernel_shows(kv_heads: int) -> None:
    torch.manual_seed(0)
    q = torch.randn(3, 4, 1, 8)
    k, v = torch.randn(3, kv_heads, 20, 8), torch.randn(3, kv_heads, 20, 8)
    truth = torch.rand(3, 1, 20) < 0.4
    truth[1] = False  # a slot that sees nothing gets nothing
    for mask in (Mask("mask", truth), Mask("full")):
        assert torch.allclose(attend_one(q, k, v, mask, 0.3), attend(q, k, v, mask, 0.3), atol=1e-6)
    assert not attend_one(q, k, v, Mask("mask", truth), 0.3)[1].any()
