"""Half-precision copies answer as the weights would, and their slopes come back to the weights."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sightline.data import Draws, Rows, train_tokenizer
from sightline.objectives import Causal, Electra
from sightline.objectives.model import Model, built
from sightline.stacks.head import Head
from sightline.stacks.makes import MAKES
from sightline.stacks.shape import Shape
from sightline.stacks.transformer import Transformer
from sightline.training.working import Working

TOKENIZER = train_tokenizer(["abc"], "byte")
ROWS = Rows.of(list(np.random.default_rng(0).integers(110, 140, (6, 24))), TOKENIZER)


def fresh(tied: bool = False) -> Model:
    torch.manual_seed(0)
    stack = Transformer(Shape(2, 32, 4, TOKENIZER.padded, 24, positions="learned", feed_bias=True))
    table = stack.embedding if tied else None
    head = Head(32, TOKENIZER.padded, TOKENIZER.vocabulary.unpredictable, table, bias=True)
    return Model(Causal(TOKENIZER.vocabulary), stack, head, TOKENIZER)


def learn(working: Working, rows: Rows) -> float:
    """A forward and a backward pass; the loss."""
    working.refresh()
    draws = Draws(0).of(rows)
    views = working.model.objective.ask(rows, draws, 0.0)
    total = working.model.objective.learn(working.model, rows, views, draws)[0].total
    total.backward()
    return float(total.detach())


def slopes(model: Model) -> dict[str, torch.Tensor]:
    return {name: weight.grad for name, weight in model.named_parameters() if weight.grad is not None}


def test_in_float32_the_model_works_itself() -> None:
    model = fresh()
    assert Working(model, torch.float32).model is model


@pytest.mark.parametrize("tied", [False, True])
def test_slopes_come_back_in_float32_and_agree(tied: bool) -> None:
    exact, half = fresh(tied), fresh(tied)
    whole = learn(Working(exact, torch.float32), ROWS)
    working = Working(half, torch.bfloat16)
    assert learn(working, ROWS) == pytest.approx(whole, rel=1e-2)
    assert slopes(exact).keys() == slopes(half).keys() == dict(half.named_parameters()).keys()
    for name, slope in slopes(half).items():
        assert slope.dtype == torch.float32
        gap = (slope - slopes(exact)[name]).norm() / slopes(exact)[name].norm()
        most = 0.15 if slope.dim() == 1 else 0.05  # a gain's slope is a small difference of large sums
        assert gap < most, f"{name} differs by {gap:.3f}"
    assert all(weight.grad is None for _, weight in working._pairs)


def test_products_are_in_half_and_tables_are_the_models_own() -> None:
    model = fresh()
    working = Working(model, torch.bfloat16).model
    assert working.stack.embedding.weight is model.stack.embedding.weight
    assert working.stack.layers[1].feed.up.weight.dtype == working.head.weight.dtype == torch.bfloat16
    assert model.stack.layers[1].feed.up.weight.dtype == torch.float32
    assert working.tokenizer is model.tokenizer and working.objective is model.objective


@pytest.mark.parametrize("make", ["", "bert"])
def test_a_judge_and_its_generator_work_in_half(make: str) -> None:
    """Tables, which both share and one may be tied to, stay whole; every weight gets its slope."""
    shape = Shape(2, 32, 4, TOKENIZER.padded, 24)
    losses = []
    for dtype in (torch.float32, torch.bfloat16):
        model = built(Electra(TOKENIZER.vocabulary), shape, TOKENIZER, 1, MAKES[make]).eval()
        working = Working(model, dtype)
        working.refresh()
        draws = Draws(0)
        views = model.objective.ask(ROWS, draws.of(ROWS), 0.0)
        terms = model.objective.learn(working.model, ROWS, views, draws.of(ROWS, stream=1))
        sum(term.total for term in terms).backward()  # type: ignore[union-attr]
        assert slopes(model).keys() == dict(model.named_parameters()).keys()
        losses.append([float(term.total.detach()) for term in terms])
        assert working.model.generator.stack.embedding.weight is model.stack.embedding.weight  # type: ignore[union-attr]
    assert losses[1] == pytest.approx(losses[0], rel=0.03)


def test_copies_follow_the_weights_and_passes_add_up() -> None:
    model = fresh()
    working = Working(model, torch.bfloat16)
    learn(working, ROWS)
    once = {name: slope.clone() for name, slope in slopes(model).items()}
    learn(working, ROWS)
    for name, slope in slopes(model).items():
        assert torch.allclose(slope, 2 * once[name], atol=1e-6)
    with torch.no_grad():
        for weight in model.parameters():
            weight.zero_()
    predictable = TOKENIZER.padded - len(TOKENIZER.vocabulary.unpredictable)
    assert learn(working, ROWS) == pytest.approx(6 * 23 * np.log(predictable), rel=1e-2)
