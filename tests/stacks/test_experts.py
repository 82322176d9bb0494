"""A mixture of experts: each slot by the experts it chose, and what keeps the choice even."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType

import numpy as np
import pytest
import torch
from torch import nn

from sightline.data import Rows, Tokenizer, train_tokenizer
from sightline.errors import SightlineError
from sightline.objectives.causal import Causal
from sightline.objectives.model import built
from sightline.stacks import static
from sightline.stacks.experts import Experts, unevenness
from sightline.stacks.shape import Shape

TEXT = "Two roads met under the elm."


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return train_tokenizer([TEXT], "byte")


def mixture(count: int = 4, chosen: int = 2, width: int = 6) -> Experts:
    torch.manual_seed(0)
    return Experts(width, [nn.Linear(width, width) for _ in range(count)], chosen)


def test_each_slot_is_answered_by_the_experts_it_chose() -> None:
    experts, x = mixture(), torch.randn(2, 5, 6)
    chance = torch.softmax(experts.router(x), -1)
    for line in range(2):
        for slot in range(5):
            share, who = chance[line, slot].topk(2)
            wanted = sum(
                part / share.sum() * experts.each[number](x[line, slot])
                for part, number in zip(share, who.tolist(), strict=True)
            )
            assert torch.allclose(experts(x)[line, slot], wanted, atol=1e-6)
    assert torch.allclose(mixture(3, 3)(x).sum(), mixture(3, 3)(x.flip(1)).sum(), atol=1e-4)
    assert experts.idle == 4 * 36 / 2


def test_how_uneven_a_choice_is(peer: Callable[[str], ModuleType]) -> None:
    """As transformers works it out; the number of experts chosen, where all are chosen alike; none in evaluation."""
    mixtral = peer("transformers").models.mixtral.modeling_mixtral
    experts, x = mixture(), torch.randn(3, 7, 6)
    experts(x)
    found = unevenness(experts)
    assert found is not None
    wanted = mixtral.load_balancing_loss_func((experts.router(x.flatten(0, 1)),), 4, 2)
    assert found.item() == pytest.approx(wanted.item(), abs=1e-6)
    found.backward()
    assert experts.router.weight.grad is not None and experts.router.weight.grad.abs().sum() > 0
    nn.init.zeros_(experts.router.weight)
    experts(x)
    assert unevenness(experts).item() == pytest.approx(2.0)  # type: ignore[union-attr]
    experts.eval()(x)
    assert unevenness(experts) is None
    experts.train()
    with torch.no_grad():
        experts(x)
    assert unevenness(experts) is None


def test_what_is_learned_beside_the_text_and_not_scored(tokenizer: Tokenizer) -> None:
    """The loss in training holds the balance, weighed once for each answer; nats, and scores, never do."""
    shape = Shape(2, 16, 2, tokenizer.padded, 48, experts=4, balance=0.5)
    model = built(Causal(tokenizer.vocabulary), shape, tokenizer, seed=3)
    rows = Rows.of([tokenizer.encode(TEXT)], tokenizer)
    (view,) = model.objective.examine(rows)
    trained = model.train().grade(view, rows.tokens)
    uneven = unevenness(model.stack)
    assert uneven is not None
    answers = float(view.answer_weights().sum())
    assert trained.total.item() == pytest.approx(trained.nats.sum().item() + 0.5 * answers * uneven.item(), rel=1e-5)
    trained.total.backward()
    assert all(weight.grad is not None for weight in model.parameters())
    scored = model.eval().grade(view, rows.tokens)
    assert scored.total.item() == pytest.approx(scored.nats.sum().item(), rel=1e-6)
    np.testing.assert_allclose(scored.nats.numpy(), trained.nats.numpy(), atol=1e-5)


def test_quick_steps_leave_experts_to_torch(tokenizer: Tokenizer) -> None:
    model = built(Causal(tokenizer.vocabulary), Shape(1, 16, 2, tokenizer.padded, 48, experts=2), tokenizer).eval()
    with torch.no_grad():
        assert not static.suits(model.stack, model.head)


def test_operations_count_the_experts_that_a_slot_passes() -> None:
    one, many = (built_flops(experts=count) for count in (0, 4))
    router = 2 * 16 * 4
    assert many - one == pytest.approx(2.0 * (2 * 16 * 64 + router / 2))


def built_flops(experts: int) -> float:
    from sightline.stacks.transformer import Transformer

    return Transformer(Shape(1, 16, 2, 20, 32, experts=experts)).flops(1.0, 0.0)


def test_more_than_there_are_cannot_be_chosen() -> None:
    with pytest.raises(SightlineError, match="3 of 2 experts cannot be chosen"):
        Shape(1, 16, 2, 20, 32, experts=2, chosen=3)
