"""Adapters: they change nothing at first, every path sees what they learned, and they fold away exactly."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from sightline.errors import SightlineError
from sightline.sight import NOTHING, Slots, View, past
from sightline.stacks import compiled, native
from sightline.stacks.cache import Cache
from sightline.stacks.head import Head
from sightline.stacks.layer import Cross, FeedForward
from sightline.stacks.look import Look
from sightline.stacks.lora import Adapted, adapt, merge
from sightline.stacks.lstm import LSTM
from sightline.stacks.shape import Shape
from sightline.stacks.transformer import Transformer
from sightline.stacks.two import Two

T, WIDTH = 12, 16
SHAPE = Shape(2, WIDTH, 4, 30, 32, kv_heads=2, attention_bias=True, gated=True)
Stack = Callable[[], nn.Module]
STACKS: dict[str, Stack] = {
    "transformer": lambda: Transformer(SHAPE),
    "two": lambda: Two(SHAPE, 1),
    "lstm": lambda: LSTM(Shape(2, WIDTH, 2, 30, 32), 24),
}


@pytest.fixture
def compiled_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("SIGHTLINE_NATIVE", raising=False)
    compiled.library.cache_clear()
    yield
    compiled.library.cache_clear()


def fresh(name: str) -> nn.Module:
    torch.manual_seed(0)
    return STACKS[name]().eval()


def view() -> View:
    place = np.arange(T)
    return View.of(Slots.of(place, 0), past, shows=place, asks=np.r_[1:T, NOTHING])


def states(stack: nn.Module, tokens: np.ndarray | None = None) -> torch.Tensor:
    tokens = np.random.default_rng(0).integers(0, 30, (3, T)) if tokens is None else tokens
    look = Look.of(view(), tokens)
    return stack(look, look) if isinstance(stack, Two) else stack(look)


def learned(stack: nn.Module, **settings: float) -> list[nn.Parameter]:
    """Adapters as after some learning: B is no longer zero."""
    weights = adapt(stack, 3, 6.0, generator=torch.Generator().manual_seed(1), **settings)  # type: ignore[arg-type]
    with torch.no_grad():
        for weight in weights:
            weight.copy_(torch.randn(weight.shape, generator=torch.Generator().manual_seed(2)) * 0.2)
    return weights


@pytest.mark.parametrize("name", STACKS)
@pytest.mark.parametrize("feed", [False, True])
@torch.no_grad()
def test_nothing_changes_at_first(name: str, feed: bool) -> None:
    stack = fresh(name)
    before = states(stack)
    weights = adapt(stack, 4, feed=feed)
    assert torch.equal(states(stack), before)
    trained = {id(weight) for weight in stack.parameters() if weight.requires_grad}
    assert trained == {id(weight) for weight in weights}
    for part in stack.modules():
        if isinstance(part, FeedForward):
            assert isinstance(part.up, Adapted) == feed
        if isinstance(part, Cross):
            assert isinstance(part.kv, Adapted) and part.kv.down.shape == (2 * 4, WIDTH)


@torch.no_grad()
def test_queries_keys_and_values_are_adapted_apart() -> None:
    stack = fresh("transformer")
    learned(stack)
    qkv = stack.layers[0].attention.qkv  # type: ignore[union-attr, index]
    x = torch.randn(5, WIDTH)
    said = qkv(x) - nn.functional.linear(x, qkv.frozen, qkv.bias)
    start = 0
    for part, rows in enumerate((16, 8, 8)):
        a, b = qkv.down[3 * part : 3 * part + 3], qkv.up[start : start + rows]
        assert torch.allclose(said[:, start : start + rows], 6.0 / 3 * x @ a.T @ b.T, atol=1e-6)
        start += rows


@pytest.mark.parametrize("name", STACKS)
@torch.no_grad()
def test_merging_is_exact_and_leaves_the_ordinary_names(name: str) -> None:
    stack = fresh(name)
    plain, names = states(stack), list(stack.state_dict())
    learned(stack)
    adapted = states(stack)
    assert not torch.allclose(adapted, plain, atol=1e-2)
    merge(stack)
    assert torch.allclose(states(stack), adapted, atol=1e-6 * float(adapted.abs().max()))
    assert list(stack.state_dict()) == names
    assert all(type(part) is nn.Linear for part in stack.modules() if isinstance(part, nn.Linear))
    assert all(weight.requires_grad for weight in stack.parameters())
    twin = STACKS[name]().eval()
    twin.load_state_dict(stack.state_dict())
    assert torch.equal(states(twin), states(stack))


@pytest.mark.parametrize("name", STACKS)
def test_only_adapters_learn(name: str) -> None:
    stack = fresh(name).train()
    before = copy.deepcopy(stack.state_dict())
    weights = adapt(stack, 2, dropout=0.1, feed=True, generator=torch.Generator().manual_seed(0))
    optimizer = torch.optim.AdamW(weights, lr=0.05)
    losses = []
    for _ in range(15):
        loss = (states(stack) - torch.linspace(-1, 1, WIDTH)).square().mean()
        losses.append(loss.item())
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    assert losses[-1] < 0.97 * losses[0]
    assert all(torch.equal(held, stack.state_dict()[one]) for one, held in before.items())


@torch.no_grad()
def test_the_native_step_sees_what_adapters_learned(compiled_here: None) -> None:
    stack, head = fresh("transformer"), Head(WIDTH, 30, np.array([0])).eval()
    tokens = np.random.default_rng(1).integers(0, 30, (1, T))

    def piece(start: int, end: int) -> View:
        whole = view()
        slots = whole.slots.take(slice(start, end))
        return View.of(slots, whole.sight, shows=whole.shows[:, start:end], asks=whole.asks[:, start:end])

    def last() -> torch.Tensor:
        cache = Cache()
        head.logits(stack(Look.of(piece(0, T - 1), tokens), cache))
        said = native.answered(stack, head, piece(T - 1, T), tokens, cache)
        assert said is not None
        return said[:, -1]

    plain = last()
    learned(stack, feed=True)
    whole = head.logits(states(stack, tokens))[:, -1]
    assert torch.allclose(last(), whole, atol=1e-4) and not torch.allclose(last(), plain, atol=1e-2)
    merge(stack)
    assert torch.allclose(last(), whole, atol=1e-4)


@torch.no_grad()
def test_half_precision_is_rounded_once() -> None:
    stack = fresh("transformer").bfloat16()
    learned(stack)
    linear = stack.layers[1].attention.out  # type: ignore[union-attr, index]
    exact = linear.frozen.double() + 2.0 * linear.up.double() @ linear.down.double()
    merge(stack)
    assert torch.equal(linear.weight, exact.float().bfloat16())


def test_what_cannot_be_adapted_is_told() -> None:
    stack = fresh("transformer")
    for settings in ({"rank": 0}, {"alpha": 0.0}, {"dropout": 1.0}):
        with pytest.raises(SightlineError, match="cannot be made"):
            adapt(stack, **settings)  # type: ignore[arg-type]
    with pytest.raises(SightlineError, match="a rank of 17 is more than a matrix of"):
        adapt(stack, 17)
    adapt(stack)
    with pytest.raises(SightlineError, match="adapters already"):
        adapt(stack)
    with pytest.raises(SightlineError, match="Embedding has no linear layers to adapt"):
        adapt(nn.Embedding(4, 4))
