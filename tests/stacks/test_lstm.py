"""The LSTM beside torch's own, its slopes beside differences, and what it refuses."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sightline.errors import SightlineError
from sightline.sight import NO_DOCUMENT, NOTHING, Slots, View, everything, past
from sightline.stacks import lstm
from sightline.stacks.cache import Cache
from sightline.stacks.look import Look
from sightline.stacks.lstm import LSTM, Layer
from sightline.stacks.shape import Shape

T, WIDTH, CELLS = 7, 8, 12
SHAPE = Shape(3, WIDTH, 2, 20, 32)


def view(sight=past, document=0, **slots) -> View:  # type: ignore[no-untyped-def]
    place = np.arange(T)
    return View.of(Slots.of(place, document, **slots), sight, shows=place, asks=np.r_[1:T, NOTHING])


def tokens(lines: int = 1, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 20, (lines, T))


def as_torch(layer: Layer) -> torch.nn.LSTM:
    """Torch's projected LSTM with a layer's weights: its gates come in the order in, forget, new, out."""

    def ordered(weight: torch.Tensor) -> torch.Tensor:
        let_in, keep, let_out, new = weight.chunk(4)
        return torch.cat([let_in, keep, new, let_out])

    twin = torch.nn.LSTM(WIDTH, CELLS, proj_size=WIDTH, batch_first=True)
    with torch.no_grad():
        twin.weight_ih_l0.copy_(ordered(layer.enter.weight))
        twin.weight_hh_l0.copy_(ordered(layer.turn.weight))
        twin.bias_ih_l0.copy_(ordered(layer.enter.bias))
        twin.bias_hh_l0.zero_()
        twin.weight_hr_l0.copy_(layer.out.weight)
    return twin


@pytest.mark.filterwarnings("ignore:LSTM with projections")
def test_states_and_slopes_are_torchs() -> None:
    torch.manual_seed(0)
    layer = Layer(WIDTH, CELLS)
    layer.initialise()
    twin = as_torch(layer)
    x = torch.randn(3, T, WIDTH, requires_grad=True)
    other = x.detach().clone().requires_grad_()
    ours, theirs = layer(x, None, None, 0), twin(other)[0]
    assert torch.allclose(ours, theirs, atol=1e-6)
    weight = torch.randn_like(ours)
    (ours * weight).sum().backward()
    (theirs * weight).sum().backward()
    assert torch.allclose(x.grad, other.grad, atol=1e-5)
    assert torch.allclose(layer.out.weight.grad, twin.weight_hr_l0.grad, atol=1e-5)
    let_in, keep, new, let_out = twin.weight_hh_l0.grad.chunk(4)
    assert torch.allclose(layer.turn.weight.grad, torch.cat([let_in, keep, let_out, new]), atol=1e-5)


@pytest.mark.parametrize("clip", [3.0, 0.3])
def test_slopes_are_those_of_differences_where_values_are_clipped_too(
    clip: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lstm, "CLIP", clip)
    torch.manual_seed(1)
    parts = [
        torch.randn(*size, dtype=torch.double, requires_grad=True)
        for size in ((5, 3, 4 * CELLS), (4 * CELLS, WIDTH), (WIDTH, CELLS))
    ]
    empty = torch.zeros(3, WIDTH, dtype=torch.double), torch.zeros(3, CELLS, dtype=torch.double)
    states, cells = lstm._Recur.apply(*parts, *empty, None)  # type: ignore[no-untyped-call]
    assert bool((states.abs() == clip).any()) == (clip < 1) or clip == 3.0
    assert cells.abs().max() <= clip
    assert torch.autograd.gradcheck(lambda *given: lstm._Recur.apply(*given, *empty, None)[0], parts)


def test_from_the_second_layer_on_what_entered_is_added() -> None:
    torch.manual_seed(0)
    stack = LSTM(SHAPE, CELLS).eval()
    taps: list[torch.Tensor] = []
    last = stack(Look.of(view(), tokens()), None, taps)
    assert len(taps) == 4 and torch.equal(stack.norm_final(taps[3]), last)  # type: ignore[misc]
    assert torch.equal(taps[0], stack.embedding(torch.from_numpy(tokens())))  # type: ignore[misc]
    assert torch.allclose(taps[1], stack.layers[0](taps[0], None, None, 0))
    assert torch.allclose(taps[2], taps[1] + stack.layers[1](taps[1], None, None, 0), atol=1e-6)


def test_a_cache_goes_on_where_it_stopped_with_padding_before_a_text() -> None:
    torch.manual_seed(0)
    stack = LSTM(SHAPE, CELLS).eval()
    text = tokens(2)
    padded = np.where(np.arange(T) < 2, NO_DOCUMENT, 0)
    whole = view(document=np.stack([np.zeros(T, int), padded]))
    alone = View.of(Slots.of(np.arange(T - 2)), past, shows=np.arange(2, T))
    with torch.no_grad():
        cache = Cache()
        parts = [
            stack(Look.of(whole.columns(slice(start, stop)), text), cache) for start, stop in ((0, 4), (4, 5), (5, T))
        ]
        got = torch.cat(parts, dim=1)
        assert torch.allclose(got[:1], stack(Look.of(view(), text[:1])), atol=1e-6)
        assert torch.allclose(got[1:, 2:], stack(Look.of(alone, text[1:])), atol=1e-6)
        cache.cut(4)
        again = stack(Look.of(whole.columns(slice(4, T)), text), cache)
    assert torch.allclose(again, got[:, 4:], atol=1e-6)


def test_another_sight_or_order_is_refused() -> None:
    stack = LSTM(SHAPE, CELLS)
    with pytest.raises(SightlineError, match="cannot give the sight same_document"):
        stack(Look.of(view(everything), tokens()))
    with pytest.raises(SightlineError, match="not laid in their order"):
        stack(Look.of(view(order=np.arange(T)[::-1]), tokens()))


def test_half_precision_is_near_and_keeps_its_sums_in_float32() -> None:
    torch.manual_seed(0)
    stack = LSTM(SHAPE, CELLS)
    look = Look.of(view(), tokens())
    exact = stack(look)
    half = stack.to(torch.bfloat16)(look)
    assert half.dtype == torch.bfloat16
    assert torch.allclose(half.float(), exact, atol=0.05)
    half.float().sum().backward()
    assert all(bool(torch.isfinite(weight.grad).all()) for weight in stack.parameters())
