"""FlexAttention's masks are the sight, for every family there is and those to come; what it computes is what we do."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from checks import asked_views, packed, single
from test_conformance import SUBJECTS
from test_shapes_to_come import FAMILIES as TO_COME
from torch._dynamo.testing import CompileCounterWithBackend
from torch.nn.attention import flex_attention as flex

from sightline.sight import NOTHING, OPENING, Rule, Slots, View, everything, matrix, near, opening, past
from sightline.stacks.flex import block_mask, mask_function
from sightline.stacks.look import Look
from sightline.stacks.shape import Shape
from sightline.stacks.transformer import Transformer

T = 150  # two blocks of slots, the second not full


def assert_masks_are_the_sight(view: View, tokens: np.ndarray) -> None:
    look = Look.of(view, tokens)
    lines, count = view.slots.place.shape
    seen = flex.create_mask(mask_function(look.sight, look), lines, None, count, count, device="cpu")[:, 0].numpy()
    assert (seen == matrix(view.whole_sight, view.slots)).all()
    blocks = block_mask(look.sight, look).to_dense()[:, 0].numpy().astype(bool)
    size = 128
    for line in range(lines):
        for row in range(blocks.shape[1]):
            for column in range(blocks.shape[2]):
                part = seen[line, row * size : (row + 1) * size, column * size : (column + 1) * size]
                assert blocks[line, row, column] == part.any()


@pytest.mark.parametrize("family", SUBJECTS)
def test_the_masks_are_the_sight_of_every_family(family: str) -> None:
    for rows in (packed(), single()):
        for view in asked_views(SUBJECTS[family], rows):
            assert_masks_are_the_sight(view, rows.tokens)


@pytest.mark.parametrize("shapely", TO_COME, ids=lambda family: family.__name__)
def test_and_of_those_to_come(shapely: Callable[[], Any]) -> None:
    view = shapely().view
    assert_masks_are_the_sight(view, np.zeros((1, 12), np.int64))


def asked(sight: Rule, cut: int = 40) -> tuple[View, np.ndarray]:
    """Three lines: two documents, one, and two with padding behind them."""
    place = np.arange(T)
    two = (place >= cut).astype(int)
    documents = np.stack([two, np.zeros(T, int), np.where(place < T - 9, two, -1)])
    slots = Slots.of(place, documents, segment=np.where(place % 40 < 12, OPENING, 1))
    view = View.of(slots, sight, shows=place, asks=np.r_[1:T, NOTHING])
    return view, np.random.default_rng(cut).integers(0, 50, (3, T))


@pytest.mark.parametrize("sight", [past, everything, past | opening, past & near(20), near(3)], ids=str)
def test_long_rows_too(sight: Rule) -> None:
    assert_masks_are_the_sight(*asked(sight))


@pytest.mark.parametrize("parts", [{}, {"kv_heads": 1}, {"windows": (None, 7)}], ids=str)
def test_a_compiled_stack_gives_the_same_states_and_slopes_in_one_graph(
    parts: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Through the graph that a GPU would get; torch refuses slopes on a processor only since it has no kernel there."""
    monkeypatch.setattr(flex, "_validate_device", lambda *_: None)
    torch.manual_seed(0)
    torch._dynamo.reset()
    stack = Transformer(Shape(2, 32, 2, 50, 256, **parts))
    compiled = copy.deepcopy(stack)
    graphs = CompileCounterWithBackend("aot_eager")
    compiled.compile(backend=graphs, dynamic=False)
    for cut in (40, 77, 130):
        view, tokens = asked(past | opening, cut)
        weight = torch.randn(3, T, 32)
        slow = stack(Look.of(view, tokens, kernel="mask"))
        quick = compiled(compiled.readied(Look.of(view, tokens, kernel="flex")))
        assert torch.allclose(slow, quick, atol=1e-4)
        (slow * weight).sum().backward()
        (quick * weight).sum().backward()
        for one, other in zip(stack.parameters(), compiled.parameters(), strict=True):
            assert torch.allclose(one.grad, other.grad, atol=1e-3)
            one.grad = other.grad = None
    assert graphs.frame_count == 1


def test_a_slot_that_sees_nothing_gets_nothing() -> None:
    """XLNet's first query, through the mask and through FlexAttention."""
    shapely = next(family for family in TO_COME if family.__name__ == "xlnet")()
    torch.manual_seed(0)
    stack = Transformer(Shape(2, 32, 4, 64, 32, **shapely.shape)).eval()
    tokens = np.random.default_rng(1).integers(0, 50, (1, 12))
    with torch.no_grad():
        slow = stack(Look.of(shapely.view, tokens, kernel="mask"))
        stack.compile(backend="aot_eager", dynamic=False)
        quick = stack(stack.readied(Look.of(shapely.view, tokens, kernel="flex")))
    assert torch.allclose(slow, quick, atol=1e-5)


def test_scores_of_positions_and_dropout_take_truth_values() -> None:
    look = Look.of(*asked(past | opening), kernel="flex")
    for parts in ({"positions": "alibi"}, {"positions": "relative"}, {"dropout": 0.1}):
        stack = Transformer(Shape(1, 32, 2, 50, 256, **parts))  # type: ignore[arg-type]
        readied = stack.readied(look)
        assert readied.kernel == "mask" and readied.blocks is None
    assert stack.eval().readied(look).blocks is not None


def test_a_model_whose_kernel_is_flex_makes_its_blocks() -> None:
    model = SUBJECTS["prefix"].model()
    model.kernel = "flex"
    rows = single()
    (view,) = asked_views(SUBJECTS["prefix"], rows)
    assert set(model.look(view, rows.tokens).blocks or {}) == {None}
