"""Budgets, schedules, Muon."""

from __future__ import annotations

import copy

import pytest
import torch

from sightline.errors import SightlineError
from sightline.stacks.shape import Shape
from sightline.stacks.transformer import Transformer
from sightline.training.budget import Budget
from sightline.training.optimizer import Muon, Optimizers, orthogonal
from sightline.training.settings import Optimization, Schedule


@pytest.mark.parametrize(
    ("text", "kind", "amount"),
    [
        ("60s", "seconds", 60),
        ("5m", "seconds", 300),
        ("2h", "seconds", 7200),
        ("20Mtok", "tokens", 20e6),
        ("500steps", "steps", 500),
        ("1e15flop", "flops", 1e15),
    ],
)
def test_budgets(text: str, kind: str, amount: float) -> None:
    budget = Budget.parse(text)
    assert (budget.kind, budget.amount) == (kind, amount)


@pytest.mark.parametrize("text", ["", "5", "m", "0s", "-3s", "5 parsecs", "1e999flop", "nan s"])
def test_budgets_that_buy_nothing(text: str) -> None:
    with pytest.raises(SightlineError, match="budget"):
        Budget.parse(text)


def test_steps_of_a_budget() -> None:
    assert Budget.parse("1Mtok").steps(1000, 1, None) == 1000
    assert Budget.parse("60s").steps(1000, 1, 0.5) == 120
    assert Budget.parse("1e6flop").steps(1, 1e5, None) == 10
    assert Budget.parse("1tok").steps(1000, 1, None) == 1
    with pytest.raises(SightlineError, match="cannot be counted"):
        Budget.parse("60s").steps(1, 1, None)


@pytest.mark.parametrize("kind", ["linear", "cosine", "wsd"])
def test_schedules_rise_then_fall_to_the_floor(kind: str) -> None:
    schedule = Schedule(kind, warmup=0.1, floor=0.1)  # type: ignore[arg-type]
    factors = [schedule.factor(step, 1000) for step in range(1000)]
    assert factors[0] < 0.02 and max(factors) == pytest.approx(1.0, abs=0.01)
    assert factors[-1] == pytest.approx(0.1, abs=0.01)
    peak = factors.index(max(factors))
    assert all(a >= b for a, b in zip(factors[peak:], factors[peak + 1 :], strict=False))


@pytest.mark.parametrize("shape", [(3, 8, 8), (2, 16, 4), (2, 4, 16)])
def test_orthogonal_matrices_have_singular_values_near_one(shape: tuple[int, int, int]) -> None:
    torch.manual_seed(0)
    turned = orthogonal(torch.randn(shape), 5)
    values = torch.linalg.svdvals(turned)
    assert values.max() < 1.25 and values.min() > 0.6
    given = torch.randn(shape)
    left, _, right = torch.linalg.svd(given, full_matrices=False)
    nearest = left @ right
    assert torch.nn.functional.cosine_similarity(orthogonal(given, 5).flatten(1), nearest.flatten(1)).min() > 0.95


def test_muon_treats_the_parts_of_a_matrix_one_by_one() -> None:
    torch.manual_seed(0)
    whole = torch.nn.Parameter(torch.zeros(12, 4))
    whole.parts = (4, 4, 4)  # type: ignore[attr-defined]
    pieces = [torch.nn.Parameter(torch.zeros(4, 4)) for _ in range(3)]
    slope = torch.randn(12, 4)
    whole.grad = slope.clone()
    for piece, part in zip(pieces, slope.split(4), strict=True):
        piece.grad = part.clone()
    Muon([whole], 0.1, 0.9).step()
    Muon(pieces, 0.1, 0.9).step()
    assert torch.allclose(whole, torch.cat(list(pieces)), atol=1e-6)


def test_weights_that_are_loaded_or_copied_take_the_same_step() -> None:
    torch.manual_seed(0)
    fresh = Transformer(Shape(1, 8, 2, vocabulary=12, context=4))
    loaded = Transformer(fresh.shape)
    loaded.load_state_dict({name: weight.clone() for name, weight in fresh.state_dict().items()}, assign=True)
    stacks = [copy.deepcopy(fresh), loaded, fresh]
    slopes = [torch.randn_like(weight) for weight in fresh.parameters()]
    for stack in stacks:
        for weight, slope in zip(stack.parameters(), slopes, strict=True):
            weight.grad = slope.clone()
        Optimizers(stack, Optimization()).step(1.0)
    for stack in stacks[:2]:
        for weight, other in zip(stack.parameters(), fresh.parameters(), strict=True):
            assert torch.equal(weight, other)
