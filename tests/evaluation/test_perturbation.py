"""Measured sight on functions whose sight is known, weak and hidden dependences included."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from sightline.errors import SightlineError
from sightline.evaluation.perturbation import Probe, measured_sight, named_sight

IDS = np.arange(7)
ALPHABET = np.arange(40)
TABLE = nn.Embedding(40, 8)
nn.init.normal_(TABLE.weight, generator=torch.Generator().manual_seed(0))
PAST = np.tril(np.ones((7, 7), dtype=bool))


def probe(weights: np.ndarray, tables: bool = True) -> Probe:
    """Slot i's output is a sum of all tokens' vectors by row i of ``weights``, bent once."""
    mixing = torch.tensor(weights, dtype=torch.float32)

    def outputs(ids: np.ndarray) -> tuple[Tensor]:
        return (torch.tanh(torch.einsum("qk,nkw->nqw", mixing, TABLE(torch.from_numpy(ids)))),)

    return Probe(outputs, np.arange(7), (TABLE,) if tables else (), ALPHABET)


def random_sight(seed: int) -> np.ndarray:
    return (np.random.default_rng(seed).random((7, 7)) < 0.4) | np.eye(7, dtype=bool)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("tables", [True, False])
def test_a_known_sight_is_measured_exactly(seed: int, tables: bool) -> None:
    sight = random_sight(seed)
    assert (measured_sight(probe(sight, tables), IDS) == sight).all()


def test_a_dependence_too_weak_to_move_an_output_is_found_by_the_gradient() -> None:
    weak = PAST.astype(float)
    weak[2, 5] = 1e-9
    assert not measured_sight(probe(weak, tables=False), IDS)[2, 5]
    assert measured_sight(probe(weak), IDS)[2, 5]


def test_a_dependence_without_a_gradient_is_found_by_replacing() -> None:
    def outputs(ids: np.ndarray) -> tuple[Tensor]:
        vectors = TABLE(torch.from_numpy(ids))
        step = torch.from_numpy(ids)[:, 6, None] % 2  # slot 0 reads only whether the last id is odd
        first = torch.zeros(7)
        first[0] = 1.0
        return (vectors + (step.float() * first)[..., None],)

    found = measured_sight(Probe(outputs, np.arange(7), (TABLE,), ALPHABET), IDS, replacements=8)
    assert found[0, 6]
    assert (found == np.eye(7, dtype=bool) | (np.arange(49).reshape(7, 7) == 6)).all()


def test_noise_in_the_last_place_is_no_sight() -> None:
    noise = np.random.default_rng(0)

    def outputs(ids: np.ndarray) -> tuple[Tensor]:
        vectors = TABLE(torch.from_numpy(ids))
        return (vectors + 1e-7 * torch.from_numpy(noise.standard_normal(vectors.shape)).float(),)

    assert (measured_sight(Probe(outputs, np.arange(7), (TABLE,), ALPHABET), IDS) == np.eye(7, dtype=bool)).all()


def test_slots_in_another_order_several_for_a_token_and_none() -> None:
    """Slots show tokens 2, 1, 0, 0 and nothing; each sees itself and the slots before it."""
    shows = np.array([2, 1, 0, 0, -1])
    mixing = torch.tril(torch.ones(5, 5))

    def outputs(ids: np.ndarray) -> tuple[Tensor]:
        vectors = TABLE(torch.from_numpy(ids[:, np.maximum(shows, 0)]))
        vectors = torch.where(torch.from_numpy(shows >= 0)[:, None], vectors, 0.0)
        return (torch.tanh(torch.einsum("qk,nkw->nqw", mixing, vectors)),)

    found = measured_sight(Probe(outputs, shows, (TABLE,), ALPHABET), IDS[:3])
    assert (found == np.triu(np.ones((3, 3), dtype=bool))).all()


def test_barred_outputs_do_not_count_as_moved() -> None:
    def outputs(ids: np.ndarray) -> tuple[Tensor]:
        vectors = TABLE(torch.from_numpy(ids))
        return (torch.cat([vectors, torch.full_like(vectors[..., :1], -torch.inf)], dim=-1),)

    assert (measured_sight(Probe(outputs, np.arange(7), (TABLE,), ALPHABET), IDS) == np.eye(7, dtype=bool)).all()


def test_outputs_that_are_not_numbers_are_refused() -> None:
    def outputs(ids: np.ndarray) -> tuple[Tensor]:
        return (TABLE(torch.from_numpy(ids)) * torch.nan,)

    with pytest.raises(SightlineError, match="not numbers"):
        measured_sight(Probe(outputs, np.arange(7), (TABLE,), ALPHABET), IDS)


def test_nothing_to_replace_by() -> None:
    with pytest.raises(SightlineError, match="nothing to replace"):
        measured_sight(Probe(probe(PAST).outputs, np.arange(7), (), np.array([0])), IDS)


def test_names() -> None:
    back = np.arange(7)[:, None] - np.arange(7)
    assert named_sight(PAST) == "past"
    assert named_sight(PAST.T) == "future"
    assert named_sight(back == back) == "everything"
    assert named_sight(back == 0) == "itself"
    assert named_sight(np.abs(back) <= 2) == "near(2)"
    assert named_sight((back >= 0) & (back <= 5)) == "past & near(5)"
    assert named_sight((back <= 0) & (back >= -1)) == "future & near(1)"
    assert named_sight(PAST ^ (np.arange(49).reshape(7, 7) == 21)) is None
    assert named_sight(np.ones((1, 1), dtype=bool)) is None, "one token fits every rule"
    assert named_sight(np.tril(np.ones((2, 2), dtype=bool))) == "past"
