from __future__ import annotations

import math

import pytest
import torch
from scipy.stats import chisquare

from sightline.decoders.sampling import GREEDY, Sampling
from sightline.errors import SightlineError

P = torch.tensor([0.5, 0.3, 0.15, 0.05], dtype=torch.float64)
LOGITS = P.log()[None]


def of(**settings: float) -> list[float]:
    return Sampling(**settings).probabilities(LOGITS)[0].tolist()  # type: ignore[arg-type]


def test_plain_sampling_is_the_softmax() -> None:
    assert of() == pytest.approx(P.tolist())


def test_temperature_divides_the_logits() -> None:
    expected = (LOGITS[0] / 0.5).softmax(-1).tolist()
    assert of(temperature=0.5) == pytest.approx(expected)
    assert of(temperature=1e-6) == pytest.approx([1, 0, 0, 0])


def test_greedy_takes_the_likeliest() -> None:
    assert GREEDY.probabilities(LOGITS)[0].tolist() == [1, 0, 0, 0]
    assert GREEDY.draw(LOGITS.flip(-1)).tolist() == [3]


def test_top_k_keeps_k_and_divides_by_their_sum() -> None:
    assert of(top_k=2) == pytest.approx([0.625, 0.375, 0, 0])


@pytest.mark.parametrize(("top_p", "kept"), [(0.4, 1), (0.5, 1), (0.51, 2), (0.8, 2), (0.81, 3), (0.96, 4), (1.0, 4)])
def test_top_p_includes_the_token_that_crosses(top_p: float, kept: int) -> None:
    p = torch.tensor(of(top_p=top_p), dtype=torch.float64)
    assert int((p > 0).sum()) == kept
    assert p[:kept].tolist() == pytest.approx((P[:kept] / P[:kept].sum()).tolist())


def test_top_p_counts_after_top_k() -> None:
    assert of(top_k=2, top_p=0.6) == pytest.approx([1, 0, 0, 0])  # 0.5 of 0.8 is 0.625


def test_min_p_is_a_share_of_the_likeliest() -> None:
    assert of(min_p=0.3) == pytest.approx([0.5 / 0.95, 0.3 / 0.95, 0.15 / 0.95, 0])


def test_of_equals_the_lower_id_stays() -> None:
    even = torch.zeros(1, 4)
    assert Sampling(top_k=2).probabilities(even)[0].tolist() == [0.5, 0.5, 0, 0]


def test_barred_ids_are_never_drawn() -> None:
    logits = torch.tensor([[0.0, -math.inf, 0.0]])
    assert Sampling(top_p=0.9, min_p=0.1).probabilities(logits)[0].tolist() == [0.5, 0, 0.5]


@pytest.mark.parametrize("sampling", [Sampling(), Sampling(temperature=2.0), Sampling(top_p=0.9), Sampling(top_k=3)])
def test_frequencies_follow_the_probabilities(sampling: Sampling) -> None:
    generator = torch.Generator().manual_seed(7)
    drawn = sampling.draw(LOGITS.expand(20_000, -1), generator)
    p = sampling.probabilities(LOGITS)[0]
    observed = torch.bincount(drawn, minlength=4)
    assert bool((observed[p == 0] == 0).all())
    kept = p > 0
    assert chisquare(observed[kept].numpy(), (20_000 * p[kept]).numpy()).pvalue > 1e-3


def test_the_same_seed_draws_the_same() -> None:
    first, second = (
        Sampling().draw(LOGITS.expand(50, -1), torch.Generator().manual_seed(3)).tolist() for _ in range(2)
    )
    assert first == second


@pytest.mark.parametrize(
    ("settings", "word"),
    [
        ({"temperature": -1}, "temperature"),
        ({"temperature": math.nan}, "temperature"),
        ({"top_k": -1}, "top-k"),
        ({"top_p": 0}, "top-p"),
        ({"top_p": 1.5}, "top-p"),
        ({"min_p": 2}, "min-p"),
    ],
)
def test_bad_values_are_named(settings: dict[str, float], word: str) -> None:
    with pytest.raises(SightlineError, match=word):
        Sampling(**settings)  # type: ignore[arg-type]


def test_it_tells_itself_in_words() -> None:
    assert str(GREEDY) == "the likeliest token"
    assert str(Sampling(0.8, 40, 0.95)) == "drawn at temperature 0.8, top-k 40, top-p 0.95"
