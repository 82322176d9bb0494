"""The transformer's parts, its kernels and its head."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from sightline.errors import SightlineError
from sightline.sight import NOTHING, Slots, View, everything, leaks, opening, past
from sightline.stacks import head as heads
from sightline.stacks.cache import Cache
from sightline.stacks.head import Head
from sightline.stacks.look import Look, kernel_for
from sightline.stacks.parts import buckets
from sightline.stacks.shape import Shape
from sightline.stacks.transformer import Transformer

T = 10
TOKENS = np.random.default_rng(0).integers(0, 20, (2, T))

VARIANTS: list[dict[str, Any]] = [
    {},
    {"norm": "rms", "norm_place": "post"},
    {"norm_place": "sandwich"},
    {"parallel": True},
    {"parallel": True, "norm_place": "sandwich"},
    {"positions": "learned"},
    {"position_tables": 2},
    {"positions": "learned", "position_tables": 2},
    {"positions": "sinusoidal"},
    {"positions": "sinusoidal", "sines_first": True, "embedding_scale": 4.0},
    {"positions": "alibi"},
    {"positions": "relative"},
    {"positions": "none"},
    {"kv_heads": 1},
    {"kv_heads": 2, "qk_norm": False},
    {"activation": "gelu"},
    {"activation": "relu"},
    {"activation": "silu", "gated": True},
    {"activation": "gelu", "gated": True},
    {"attention_bias": True, "output_bias": True, "feed_bias": True, "norm_bias": True},
    {"windows": (None, 2)},
    {"windows": (None, 2), "window_base": 50.0},
    {"embedding_norm": True, "final_norm": False},
    {"experts": 3, "gated": True, "activation": "silu"},
    {"head_width": 6, "hidden": 40},
]


def stack(**parts: Any) -> Transformer:
    torch.manual_seed(0)
    return Transformer(Shape(3, 16, 4, 20, 32, **parts)).eval()


def view(sight: Any = past, documents: Any = 0) -> View:
    place = np.arange(T)
    slots = Slots.of(place, np.broadcast_to(documents, (2, T)), segment=np.where(place < 4, 0, 1))
    return View.of(slots, sight, shows=place, asks=np.r_[1:T, NOTHING])


@pytest.mark.parametrize("parts", VARIANTS, ids=str)
def test_every_variant_obeys_its_sight_trains_and_caches(parts: dict[str, Any]) -> None:
    model = stack(**parts)
    assert not leaks(view(), model.depth)
    states = model(Look.of(view(), TOKENS))
    states.sum().backward()
    assert all(weight.grad is not None for weight in model.parameters())
    other = TOKENS.copy()
    other[:, 6] = (other[:, 6] + 1) % 20
    moved = (model(Look.of(view(), other)) != states).any(-1)
    assert not moved[:, :6].any() and moved[:, 6].all()
    cache = Cache()
    first, rest = view().tail(0), view().tail(7)
    head = View.of(first.slots.take(slice(0, 7)), past, shows=first.shows[:, :7])
    model(Look.of(head, TOKENS), cache)
    kept = model(Look.of(rest, TOKENS), cache)
    assert torch.allclose(kept, states[:, 7:], atol=1e-5)
    cache.cut(7)
    assert cache.count == 7
    assert torch.allclose(model(Look.of(rest, TOKENS), cache), states[:, 7:], atol=1e-5)


@pytest.mark.parametrize(("sight", "kernel"), [(past, "triangle"), (everything, "full")])
def test_the_quick_kernels_give_what_the_mask_gives(sight: Any, kernel: str) -> None:
    model = stack()
    assert kernel_for(view(sight)) == kernel
    quick, slow = (model(Look.of(view(sight), TOKENS, kernel=which)) for which in (kernel, "mask"))  # type: ignore[arg-type]
    assert torch.allclose(quick, slow, atol=1e-5)


def test_kernels_are_chosen_by_rule_and_slots() -> None:
    two = np.repeat([0, 1], T // 2)
    assert kernel_for(view(past, two)) == "mask"
    assert kernel_for(view(past | opening)) == "mask"
    padded = np.r_[np.zeros(T - 2, int), -1, -1]
    assert kernel_for(view(past, padded)) == "triangle"
    assert kernel_for(view(everything, padded)) == "mask"
    assert kernel_for(view(past, padded[::-1])) == "mask"


def test_a_padded_triangle_is_what_the_mask_gives() -> None:
    model = stack()
    padded = view(past, np.r_[np.zeros(T - 3, int), -1, -1, -1])
    quick, slow = (model(Look.of(padded, TOKENS, kernel=which))[:, : T - 3] for which in ("triangle", "mask"))  # type: ignore[arg-type]
    assert torch.allclose(quick, slow, atol=1e-5)


def test_buckets_are_t5s() -> None:
    """Against transformers' own, both ways and one way."""
    from transformers.models.t5.modeling_t5 import T5Attention

    distance = torch.arange(-200, 201)[None]
    for both in (True, False):
        theirs = T5Attention._relative_position_bucket(distance, bidirectional=both, num_buckets=32, max_distance=128)
        assert torch.equal(buckets(distance, 32, 128, both), theirs)


def test_impossible_shapes_are_refused() -> None:
    for wrong in ({"heads": 3}, {"kv_heads": 3}, {"head_width": 5}):
        with pytest.raises(SightlineError):
            Shape(**{"layers": 1, "width": 16, "heads": 4, "vocabulary": 8, "context": 8, **wrong})  # type: ignore[arg-type]
    with pytest.raises(SightlineError, match="position 9 does not fit"):
        torch.manual_seed(0)
        Transformer(Shape(1, 16, 4, 20, 8, positions="learned"))(Look.of(view(), TOKENS))


@pytest.mark.parametrize("bias", [False, True])
def test_the_head_is_cross_entropy_in_chunks(bias: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heads, "CHUNK", 24 * 100)
    torch.manual_seed(0)
    count = 237
    head = Head(8, 24, np.array([0, 22, 23]), bias=bias, transform=("gelu", "layer", 1e-5) if bias else None)
    states = torch.randn(count, 8, requires_grad=True)
    answers, weights = torch.randint(1, 22, (count,)), torch.rand(count)
    weights[5] = 0
    graded = head(states, answers, weights)
    graded.total.backward()
    mine = [states.grad, *(weight.grad for weight in head.parameters())]
    again = states.detach().clone().requires_grad_()
    for weight in head.parameters():
        weight.grad = None
    logits = torch.nn.functional.linear(head.transformed(again), head.weight, head.bias)
    logits = logits.index_fill(1, torch.tensor([0, 22, 23]), -torch.inf)
    nats = torch.nn.functional.cross_entropy(logits, answers, reduction="none")
    (nats * weights).sum().backward()
    real = weights > 0
    assert torch.allclose(graded.nats[real], nats[real], atol=1e-5)
    assert torch.allclose(graded.logsumexp[real], logits.logsumexp(-1)[real], atol=1e-5)
    for one, other in zip(mine, [again.grad, *(weight.grad for weight in head.parameters())], strict=True):
        assert torch.allclose(one, other, atol=1e-4)
    assert (head.logits(states)[:, [0, 22, 23]] == -torch.inf).all()


def test_a_head_may_scale_its_states() -> None:
    torch.manual_seed(0)
    states, answers, weights = torch.randn(9, 8), torch.randint(1, 22, (9,)), torch.ones(9)
    plain, scaled = (Head(8, 24, np.array([0]), scale=scale) for scale in (1.0, 0.25))
    scaled.load_state_dict(plain.state_dict())
    assert torch.equal(scaled.logits(states), plain.logits(0.25 * states))
    assert torch.equal(scaled(states, answers, weights).nats, plain(0.25 * states, answers, weights).nats)
    lots = torch.rand(9)
    assert torch.equal(scaled.drawn(states, lots), plain.drawn(0.25 * states, lots))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("sloped", [True, False])
def test_answers_that_fill_up_a_line_cost_nothing_on_a_gpu_either(sloped: bool, dtype: torch.dtype) -> None:
    """There they are worked out, of a token whose p is 0, and must leave no infinite loss behind."""
    torch.manual_seed(0)
    head = Head(8, 24, np.array([0, 22, 23])).to(dtype)
    answers, weights = torch.tensor([5, 0, 7, 0]), torch.tensor([1.0, 0.0, 0.5, 0.0])
    found = []
    for real in (weights > 0, torch.ones(4, dtype=torch.bool)):  # without them, and with
        states = torch.randn(4, 8, generator=torch.Generator().manual_seed(1)).to(dtype).requires_grad_(sloped)
        head.weight.grad = None
        with torch.set_grad_enabled(sloped):
            parts = (head.weight, None, answers[real], weights[real], head.barred, 0.0, sloped)
            total, nats, sums = heads._Grade.apply(states[real], *parts)  # type: ignore[no-untyped-call]
        if sloped:
            total.backward()
        found.append((total, nats[weights[real] > 0], sums[weights[real] > 0], states.grad, head.weight.grad))
        assert nats.isfinite().all() and sums.isfinite().all()
    for one, other in zip(*found, strict=True):
        assert one is other or torch.allclose(one, other, atol=1e-6)


def test_layers_with_a_window_turn_by_a_base_of_their_own() -> None:
    """As if every layer had that base where all have windows; and not the base of those that see all."""
    both = stack(windows=(3,), rope_base=1000.0, window_base=50.0)
    look = Look.of(view(), TOKENS)
    assert (both(look) == stack(windows=(3,), rope_base=50.0)(look)).all()
    assert (both(look) == both(both.readied(look))).all()
    mixed, plain = (stack(windows=(None, 3), rope_base=1000.0, window_base=base) for base in (50.0, None))
    assert (mixed(look) != plain(look)).any()
