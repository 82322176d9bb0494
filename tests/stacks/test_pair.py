"""ELMo as published, part by part: characters, sizes; and the mix of layers."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from sightline.errors import SightlineError
from sightline.stacks.characters import LENGTH, Characters, character_ids, ids_of_pieces
from sightline.stacks.lstm import LSTM
from sightline.stacks.mix import Mix
from sightline.stacks.pair import Pair, cells_of
from sightline.stacks.shape import Shape
from sightline.stacks.transformer import Transformer


def weights(part: torch.nn.Module) -> int:
    return sum(weight.numel() for weight in part.parameters())


def test_the_original_has_the_published_number_of_weights() -> None:
    """At a width of 512: 93,600,864 without the output table."""
    with torch.device("meta"):
        pair = Pair(Shape(8, 512, 8, 1024, 512), "original", [b"word"] * 1000)
    ends = pair.embedding
    assert isinstance(ends, Characters)
    assert weights(ends.letters) == 4_192
    assert weights(ends.filters) == 199_168
    assert weights(ends.highways) == 16_785_408
    assert weights(ends.out) == 1_049_088
    cells = [layer for half in pair.halves for layer in half.layers]  # type: ignore[union-attr]
    assert [weights(layer) for layer in cells] == [18_890_752] * 4
    assert weights(pair) == 93_600_864


@pytest.mark.parametrize("width", [128, 384, 512, 768])
def test_a_size_buys_as_many_weights_whatever_the_halves_are(width: int) -> None:
    shape = Shape(4, width, 4, 64, 64)
    with torch.device("meta"):
        one = Transformer(shape)
        pairs = {body: Pair(shape, body) for body in ("transformer", "lstm")}  # type: ignore[arg-type]
    assert sum(len(half.layers) for half in pairs["lstm"].halves) == 4  # type: ignore[union-attr,arg-type]
    assert weights(pairs["transformer"]) == pytest.approx(weights(one), rel=0.01)
    assert weights(pairs["lstm"]) == pytest.approx(weights(one), rel=0.05)
    assert all(isinstance(half, LSTM) and half.cells == cells_of(width, "lstm") for half in pairs["lstm"].halves)


def test_ids_are_those_of_the_published_predictions() -> None:
    """Bytes plus one between the marks of a word, 261 behind it, 0 where there is no token."""
    ids = character_ids("né".encode())
    assert ids == [259, 0x6E + 1, 0xC3 + 1, 0xA9 + 1, 260] + [261] * (LENGTH - 5)
    long = character_ids(b"x" * 80)
    assert len(long) == LENGTH and long[0] == 259 and long[-1] == 260 and 261 not in long
    table = ids_of_pieces([b"", b"", b"a"], bos=0, eos=1, rows=5)
    assert table[0, :4].tolist() == [259, 257, 260, 261]
    assert table[1, :4].tolist() == [259, 258, 260, 261]
    assert table[2, :4].tolist() == [259, 98, 260, 261]
    assert (table[3:] == 0).all() and table.shape == (5, LENGTH)


def test_characters_are_convolved_and_carried_as_written_out_by_hand() -> None:
    torch.manual_seed(0)
    ends = Characters(32, ids_of_pieces([b"cat", b"dog", b"mat"]))
    tokens = torch.tensor([[2, 0], [0, 1]])
    found = ends(tokens)
    assert found.shape == (2, 2, 32)
    letters = ends.letters.weight[ends.ids[tokens[0, 0]]]  # [50, 16]
    parts = []
    for filters in ends.filters:
        span = filters.kernel_size[0]  # type: ignore[index,union-attr]
        windows = torch.stack([letters[at : at + span].T.reshape(-1) for at in range(LENGTH - span + 1)])  # type: ignore[operator]
        scores = windows @ filters.weight.reshape(len(filters.weight), -1).T + filters.bias  # type: ignore[operator,union-attr,arg-type]
        parts.append(F.relu(scores.max(0).values))
    x = torch.cat(parts)
    for highway in ends.highways:
        gate = torch.sigmoid(x @ highway.gate.weight.T + highway.gate.bias)  # type: ignore[union-attr,operator]
        assert gate.mean() < 0.3  # at first nearly everything is carried
        x = gate * F.relu(x @ highway.new.weight.T + highway.new.bias) + (1 - gate) * x  # type: ignore[union-attr,operator]
    assert torch.allclose(found[0, 0], ends.out(x), atol=1e-5)


def test_a_word_that_was_never_seen_gets_a_vector_of_its_own() -> None:
    ends = Characters(32, ids_of_pieces([b"cat", b"dog"]))
    new = ends.of(torch.tensor([character_ids("猫".encode()), character_ids(b"cat"), character_ids(b"cats")]))
    assert torch.allclose(new[1], ends(torch.tensor(0)), atol=1e-6)
    assert (new[0] != new[1]).any() and (new[2] != new[1]).any()


def test_each_token_is_worked_out_once() -> None:
    ends = Characters(32, ids_of_pieces([b"cat", b"dog", b"mat"]))
    counted = []
    handle = ends.letters.register_forward_hook(lambda _, given, __: counted.append(len(given[0])))
    ends(torch.tensor([[0, 2, 0, 0, 2]]))
    handle.remove()
    assert counted == [2]


def test_a_pair_needs_what_it_is_made_of() -> None:
    with pytest.raises(SightlineError, match="two halves cannot share 1 layer"):
        Pair(Shape(1, 16, 2, 64, 32))
    with pytest.raises(SightlineError, match="read from a tokenizer's pieces"):
        Pair(Shape(2, 16, 2, 64, 32), "original")
    with pytest.raises(SightlineError, match="no pair of 'gru'"):
        Pair(Shape(2, 16, 2, 64, 32), "gru")  # type: ignore[arg-type]


def test_a_mix_begins_as_the_mean_and_may_take_one_layer_alone() -> None:
    layers = [torch.randn(2, 3, 4) for _ in range(3)]
    mix = Mix(3)
    assert torch.allclose(mix(layers), torch.stack(layers).mean(0), atol=1e-6)
    with torch.no_grad():
        mix.weights.copy_(torch.tensor([-9e10, 1.0, -9e10]))
        mix.gamma.fill_(2.0)
    assert torch.equal(mix(layers), 2 * layers[1])


def test_a_normed_mix_looks_at_real_numbers_only() -> None:
    layers = [3 + 2 * torch.randn(2, 5, 4)]
    real = torch.tensor([[True] * 5, [True, True, False, False, False]])
    layers[0][~real] = 1e6
    found = Mix(1, normed=True)(layers, real)[real].detach()
    assert float(found.mean()) == pytest.approx(0, abs=1e-5)
    assert float(found.std(correction=0)) == pytest.approx(1, abs=1e-5)
    expected = np.asarray(layers[0][real])
    assert np.allclose(found.numpy(), (expected - expected.mean()) / expected.std(), atol=1e-5)
