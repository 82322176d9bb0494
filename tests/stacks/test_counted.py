"""Weights from counts: the stack answers by them exactly, where its width is enough."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from sightline.errors import SightlineError
from sightline.sight import Slots, View, past
from sightline.stacks.counted import Pairs, begin_from
from sightline.stacks.head import Head
from sightline.stacks.look import Look
from sightline.stacks.shape import Shape
from sightline.stacks.transformer import Transformer

VOCABULARY = 20
SHAPE = Shape(layers=2, width=32, heads=2, vocabulary=VOCABULARY, context=8)


def counted() -> tuple[Pairs, torch.Tensor]:
    """Pairs of 15 ids, of which the last is never shown, and the whole table of counts."""
    generator = torch.Generator().manual_seed(3)
    table = torch.zeros(VOCABULARY, VOCABULARY)
    table[:14, :15] = torch.randint(0, 6, (14, 15), generator=generator).float()
    shown, asked = table.nonzero(as_tuple=True)
    return Pairs(shown, asked, table[shown, asked]), table


def made(shape: Shape = SHAPE, **head: Any) -> tuple[Transformer, Head]:
    torch.manual_seed(0)
    stack = Transformer(shape)
    return stack, Head(shape.width, shape.vocabulary, np.array([]), **head)


def answered(stack: Transformer, head: Head) -> torch.Tensor:
    """log p(asked | shown) [vocabulary, vocabulary], each id shown alone."""
    place = np.arange(1)
    view = View.of(Slots.of(np.zeros((VOCABULARY, 1), int)), past, shows=place)
    look = Look.of(view, np.arange(VOCABULARY)[:, None], torch.device("cpu"))
    with torch.no_grad():
        return head.logits(stack(look)[:, 0]).log_softmax(-1)


@pytest.mark.parametrize("norm", ["layer", "rms"])
def test_the_stack_answers_by_the_smoothed_counts(norm: Any) -> None:
    pairs, table = counted()
    stack, head = made(replace(SHAPE, norm=norm))
    begin_from(pairs, stack, head, seed=1)
    of_shown, kinds, of_asked = table.sum(1, keepdim=True), (table > 0).sum(1, keepdim=True), table.sum(0)
    chance = (of_asked + 0.5) / (of_asked + 0.5).sum()
    known = of_shown / (of_shown + kinds)
    wanted = known * table / of_shown + (1 - known) * chance  # Witten and Bell, up to one constant a row
    seen = of_shown[:, 0] > 0
    wanted = (wanted / wanted.sum(1, keepdim=True))[seen].log()
    assert torch.allclose(answered(stack, head)[seen], wanted, atol=2e-3)


def test_what_is_never_shown_keeps_its_drawn_embedding() -> None:
    pairs, _ = counted()
    stack, head = made()
    drawn = stack.embedding.weight.detach().clone()
    begin_from(pairs, stack, head, seed=1)
    assert torch.equal(stack.embedding.weight[14:], drawn[14:])
    assert not torch.equal(stack.embedding.weight[:14], drawn[:14])


def test_the_same_seed_gives_the_same_weights() -> None:
    pairs, _ = counted()
    first, second = made(), made()
    for stack, head in (first, second):
        begin_from(pairs, stack, head, seed=1)
    for one, other in zip(first, second, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))


def test_a_narrow_stack_comes_as_near_as_its_rank_lets_it() -> None:
    pairs, table = counted()
    losses = []
    for width in (8, 16, 32):
        stack, head = made(replace(SHAPE, width=width))
        begin_from(pairs, stack, head, seed=1)
        losses.append(-float((answered(stack, head)[:14] * table[:14]).sum() / table.sum()))
    drawn = -float((answered(*made())[:14] * table[:14]).sum() / table.sum())
    assert losses[2] < losses[1] < losses[0] < drawn


@pytest.mark.parametrize("changed", [{"positions": "learned"}, {"norm_place": "post"}, {"final_norm": False}])
def test_other_stacks_are_refused(changed: dict[str, Any]) -> None:
    pairs, _ = counted()
    with pytest.raises(SightlineError, match="--init random"):
        begin_from(pairs, *made(replace(SHAPE, **changed)), seed=1)


@pytest.mark.parametrize("shared", [True, False])
def test_a_table_that_is_shared_or_scaled_is_refused(shared: bool) -> None:
    pairs, _ = counted()
    stack = Transformer(SHAPE)
    other: dict[str, Any] = {"tied": stack.embedding} if shared else {"scale": 0.5}
    head = Head(SHAPE.width, VOCABULARY, np.array([]), **other)
    with pytest.raises(SightlineError, match="a head of its own"):
        begin_from(pairs, stack, head, seed=1)
