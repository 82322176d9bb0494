"""MASE, sMAPE, CRPS and coverage against their definitions."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import integrate, stats

from sightline.evaluation.forecast import coverage, crps_normal, crps_samples, mase, naive_scale, smape


def test_mase_of_the_naive_forecast_on_its_own_past_is_one() -> None:
    past = np.array([1.0, 3.0, 2.0, 6.0, 5.0, 9.0])
    assert mase(past[2:], past[:-2], naive_scale(past, 2)) == pytest.approx(1)
    assert naive_scale([1.0, np.nan, 3.0, 5.0]) == 2
    assert np.isnan(naive_scale(np.ones(5)))


def test_smape_is_in_percent() -> None:
    assert smape([1.0, 0.0], [3.0, 0.0]) == pytest.approx(50)
    assert smape([[1.0], [1.0]], [[1.0], [-1.0]]).tolist() == [0, 200]


@pytest.mark.parametrize(("mean", "deviation", "value"), [(0.0, 1.0, 0.3), (2.0, 0.5, 4.0), (-1.0, 3.0, -2.0)])
def test_crps_is_the_integral_it_stands_for(mean: float, deviation: float, value: float) -> None:
    def squared(x: float) -> float:
        return float((stats.norm.cdf(x, mean, deviation) - (x >= value)) ** 2)

    parts = [integrate.quad(squared, *ends)[0] for ends in ((mean - 12 * deviation, value), (value, value + 40))]
    assert crps_normal(value, mean, deviation) == pytest.approx(sum(parts), rel=1e-6)
    drawn = np.random.default_rng(0).normal(mean, deviation, (20_000, 1))
    assert crps_samples(np.array([value]), drawn)[0] == pytest.approx(sum(parts), rel=0.03)


def test_crps_of_samples_by_pairs() -> None:
    samples = np.array([0.0, 1.0, 5.0])
    wanted = np.abs(samples - 2).mean() - np.abs(samples[:, None] - samples).sum() / (3 * 2) / 2
    assert crps_samples(2.0, samples) == pytest.approx(wanted)


def test_coverage() -> None:
    assert coverage([[1.0, 2.0, 3.0, 4.0]], 2, 3).tolist() == [0.5]
