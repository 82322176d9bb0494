"""Closed-form autoregressions: the goldens of yearly sunspots, what is known of simulated series, and bad input."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sightline.errors import SightlineError
from sightline.stacks import solving
from sightline.stacks.autoregression import AR, criteria
from sightline.stacks.series import Series, SeriesError


@pytest.fixture(scope="module")
def sunspots(shared_data: Path) -> np.ndarray:
    path = shared_data / "timeseries" / "classic" / "sunspots_yearly.csv"
    return np.loadtxt(path, delimiter=",", skiprows=1)[:, 1]


def simulated(phi: list[float], length: int, seed: int = 0, mean: float = 0.0) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(size=length + 200)
    values = np.zeros(length + 200)
    for at in range(len(phi), len(values)):
        values[at] = sum(one * values[at - lag] for lag, one in enumerate(phi, 1)) + noise[at]
    return values[200:] + mean


def by_hand(values: np.ndarray, p: int, hold: int = 0) -> tuple[np.ndarray, float, int]:
    """Least squares as a textbook writes it: coefficients, squares left over, equations."""
    start = max(p, hold)
    design = np.column_stack([np.ones(len(values) - start), *(values[start - k : -k] for k in range(1, p + 1))])
    found = np.linalg.lstsq(design, values[start:], rcond=None)[0]
    return found, float(((values[start:] - design @ found) ** 2).sum()), len(design)


# -- goldens (yearly sunspots, 1700 to 2008)

GOLDEN = {
    "ols": [1.30779456, -0.48056979, -0.2031481, 0.05492352],
    "yule-walker": [1.28310031, -0.45240924, -0.20770299, 0.04794365],
    "yule-walker-adjusted": [1.30174087, -0.46704105, -0.21313218, 0.0560804],
    "burg": [1.30934186, -0.48086633, -0.20185982, 0.05501941],
}


@pytest.mark.parametrize("method", GOLDEN)
def test_golden_coefficients(method: str, sunspots: np.ndarray) -> None:
    assert np.allclose(AR(4, method).fit(sunspots).phi[0], GOLDEN[method], atol=5e-9, rtol=0)


def test_golden_variances_and_criteria(sunspots: np.ndarray) -> None:
    ols = AR(4).fit(sunspots)
    assert ols.equations[0] == 305
    assert abs(ols.constant[0] - 16.0971794) < 5e-8
    assert abs(ols.variance[0] - 271.101367) < 5e-7
    assert abs(ols.criteria["aic"][0] - 2586.31281) < 5e-6
    assert abs(ols.criteria["bic"][0] - 2608.63468) < 5e-6
    assert abs(AR(4, "yule-walker").fit(sunspots).variance[0] ** 0.5 - 16.80802273) < 5e-9
    assert abs(AR(4, "burg").fit(sunspots).variance[0] - 271.24673070) < 5e-9


def test_golden_order_and_forecast(sunspots: np.ndarray) -> None:
    for criterion in ("aic", "bic"):
        assert AR(criterion, most=13).fit(sunspots).orders[0] == 9
    found = AR(9).fit(sunspots).predict(5)
    assert np.allclose(found.mean[0], [31.48, 63.02, 89.65, 94.35, 82.73], atol=0.005)
    assert np.allclose(found.deviation[0], [14.87, 22.84, 26.87, 27.76, 27.82], atol=0.005)


# -- what is known


def test_simulated_coefficients_are_found_again() -> None:
    values = simulated([0.6, -0.3], 20_000)
    for method in GOLDEN:
        assert np.allclose(AR(2, method).fit(values).phi[0], [0.6, -0.3], atol=0.02)


@pytest.mark.parametrize("method", ["yule-walker", "burg"])
def test_a_series_read_backwards_has_the_same_coefficients(method: str) -> None:
    """The linear case of: forward and backward models carry the same information."""
    values = simulated([1.2, -0.5, 0.1], 300, seed=3)
    assert np.allclose(AR(3, method).fit(values).phi, AR(3, method).fit(values[::-1]).phi, atol=1e-12, rtol=0)
    assert not np.allclose(AR(3).fit(values).phi, AR(3).fit(values[::-1]).phi, atol=1e-12, rtol=0)


def test_the_variance_of_a_forecast_rises_to_that_of_the_process() -> None:
    fitted = AR(2, "yule-walker").fit(simulated([0.6, -0.3], 5000))
    deviation = fitted.predict(60).deviation[0]
    assert (np.diff(deviation) > -1e-12).all()
    process = solving.covariances(Series.of(simulated([0.6, -0.3], 5000)), 0)[0, 0]
    assert abs(deviation[-1] ** 2 / process - 1) < 1e-9  # Yule-Walker keeps the variance of the sample


def test_intervals_hold_what_they_promise() -> None:
    series = np.stack([simulated([0.7], 240, seed) for seed in range(400)])
    found = AR(1).fit(series[:, :200]).predict(5)
    for level in (50, 80, 95):
        low, high = found.interval(level)
        assert abs(((series[:, 200:205] >= low) & (series[:, 200:205] <= high)).mean() - level / 100) < 0.04


@pytest.mark.parametrize("p", [0, 1, 3, 12])
def test_least_squares_by_hand(p: int) -> None:
    values = simulated([0.5, 0.3], 120, seed=p, mean=1e4)
    wanted, squares, equations = by_hand(values, p)
    fitted = AR(p).fit(values)
    assert np.allclose(fitted.phi[0], wanted[1:], atol=1e-10)
    assert np.isclose(fitted.constant[0], wanted[0], rtol=1e-9)
    assert np.isclose(fitted.variance[0], squares / equations, rtol=1e-10)


def test_criteria_stand_on_one_sample() -> None:
    values = simulated([0.5, 0.3], 150)
    found = criteria(Series.of(values), 6)
    for p in range(7):
        _, squares, n = by_hand(values, p, hold=6)
        lack = n * (np.log(2 * np.pi * squares / n) + 1)
        for name, penalty in (("aic", 2), ("bic", np.log(n)), ("hqic", 2 * np.log(np.log(n)))):
            assert n == 144
            assert np.isclose(found[name][0, p], lack + penalty * (p + 2), rtol=1e-12)


def test_many_series_of_any_length_are_what_each_is_alone() -> None:
    generator = np.random.default_rng(1)
    rows = [simulated([0.8, -0.2], int(generator.integers(60, 200)), seed, mean=seed) for seed in range(40)]
    for method in GOLDEN:
        together = AR(3, method).fit(rows)
        ahead = together.predict(4)
        for number in range(0, 40, 7):
            alone = AR(3, method).fit(rows[number])
            assert np.allclose(together.phi[number], alone.phi[0], atol=1e-12)
            assert np.allclose(ahead.mean[number], alone.predict(4).mean[0], atol=1e-10)
            assert np.allclose(ahead.deviation[number], alone.predict(4).deviation[0], atol=1e-10)


def test_each_series_chooses_its_own_order(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [simulated([0.5, 0.0, 0.0, 0.4], 800, 1), simulated([0.8], 500, 2), simulated([], 800, 3)]
    fitted = AR("bic", most=8).fit(rows)
    assert fitted.orders.tolist() == [4, 1, 0]
    for number, row in enumerate(rows):
        alone = AR(int(fitted.orders[number])).fit(row)
        assert np.allclose(fitted.phi[number, : fitted.orders[number]], alone.phi[0], atol=1e-12)
        assert (fitted.phi[number, fitted.orders[number] :] == 0).all()
        assert np.allclose(fitted.predict(3).mean[number], alone.predict(3).mean[0])
    monkeypatch.setattr("sightline.stacks.series.AT_ONCE", 1000)  # one series at a time
    assert np.allclose(AR("bic", most=8).fit(rows).phi, fitted.phi, atol=1e-12)


def test_digits_lost_by_squaring_are_won_back() -> None:
    """A slow, smooth series: squared lags keep few digits, the triangle of the lags themselves keeps them."""
    time = np.arange(400)
    values = np.sin(time / 50) + 1e-6 * np.random.default_rng(0).normal(size=400) + 1e3
    _, _, sound = solving._squared(Series.of(values), 2)
    assert not sound.any()
    wanted, squares, n = by_hand(values - 1e3, 2)
    fitted = AR(2).fit(values)
    assert np.allclose(fitted.phi[0], wanted[1:], rtol=1e-8)
    assert np.isclose(fitted.variance[0], squares / n, rtol=1e-8)


def test_a_series_that_its_past_determines() -> None:
    values = np.tile([1.0, 5.0, 2.0, 7.0], 20)
    found = AR(6).fit(values).predict(8)
    assert np.allclose(found.mean[0], [1, 5, 2, 7] * 2, atol=1e-6)
    assert (found.deviation < 1e-6).all()
    assert np.isfinite(criteria(Series.of(values), 6)["bic"]).all()


def test_missing_values_cost_the_equations_they_stand_in() -> None:
    values = simulated([0.6, -0.3], 200)
    gapped = values.copy()
    gapped[[40, 41, 100]] = np.nan
    design = np.column_stack([np.ones(198), gapped[1:-1], gapped[:-2]])
    keep = np.isfinite(design).all(1) & np.isfinite(gapped[2:])
    wanted = np.linalg.lstsq(design[keep], gapped[2:][keep], rcond=None)[0]
    fitted = AR(2, missing="drop").fit([values, gapped])
    assert np.allclose(fitted.phi[1], wanted[1:], atol=1e-12)
    assert fitted.equations.tolist() == [198, int(keep.sum())]
    assert fitted.equations[1] == 198 - 7
    assert np.allclose(fitted.phi[0], AR(2).fit(values).phi[0])


def test_following_is_forecasting_step_by_step() -> None:
    values = simulated([0.6, -0.3], 120)
    fitted = AR("aic").fit([values[:100], values[:90]])
    followed = fitted.follow(np.stack([values[100:105], values[90:95]]))
    for step in range(5):
        for number, end in enumerate((100, 90)):
            p = int(fitted.orders[number])
            last = values[end + step - p : end + step][::-1]
            wanted = fitted.constant[number] + fitted.phi[number, :p] @ last
            assert np.isclose(followed.mean[number, step], wanted)
    nats = followed.nats(np.stack([values[100:105], values[90:95]]))
    z = (values[100] - followed.mean[0, 0]) ** 2 / fitted.variance[0]
    assert np.isclose(nats[0, 0], 0.5 * z + 0.5 * np.log(2 * np.pi * fitted.variance[0]))


def test_another_stretch_keeps_the_coefficients() -> None:
    values = simulated([0.6, -0.3], 300)
    fitted = AR("aic").fit({"a": values[:100], "b": values[:140], "c": simulated([0.9], 90)})
    stretches = {"c": values[180:200], "a": 3 * values[200:260], "b": values[260:263]}
    kept = fitted.apply(stretches)
    assert (kept.phi == fitted.phi).all()
    assert (kept.variance == fitted.variance).all()
    assert np.array_equal(kept.errors, fitted.errors, equal_nan=True)
    alone = fitted.take(np.array([0])).apply(3 * values[200:260], variance="recent")
    p = int(fitted.orders[0])
    stretch = 3 * values[200:260]
    left = [
        stretch[at] - fitted.constant[0] - fitted.phi[0, :p] @ stretch[at - p : at][::-1]
        for at in range(p, len(stretch))
    ]
    assert np.isclose(alone.variance[0], np.mean(np.square(left)), rtol=1e-12)
    assert alone.equations[0] == 60 - p
    assert np.allclose(alone.predict(4).mean, kept.predict(4).mean[0], rtol=1e-12)
    gapped = stretch.copy()
    gapped[10] = np.nan
    few = fitted.take(np.array([0])).apply(gapped, variance="recent")
    assert few.equations[0] == 60 - p - (p + 1)


def test_a_law_in_other_units() -> None:
    values = simulated([0.6, -0.3], 200)
    fitted = AR(2).fit([values, values[:150]])
    shift, scale = np.array([50.0, -2.0]), np.array([3.0, 0.1])
    mine, wanted = fitted.rescaled(shift, scale), AR(2).fit([50 + 3 * values, -2 + 0.1 * values[:150]])
    for name in ("constant", "phi", "variance", "recent"):
        assert np.allclose(getattr(mine, name), getattr(wanted, name), rtol=1e-10)


@pytest.mark.parametrize(
    ("y", "variance", "message"),
    [
        ([np.arange(9.0)], "fit", "1 series have 2 names. Give one stretch for each of 2 series"),
        ({"a": np.arange(9.0), "z": np.arange(9.0)}, "fit", "series b is not both fitted and given"),
        ([np.arange(9.0), np.arange(1.0)], "fit", "series b is too short for p = 2"),
        ([np.arange(9.0), np.arange(2.0)], "recent", r"series b is too short for p = 2 \(b: 2 values; 3 are needed\)"),
        ([np.arange(9.0), np.array([1, np.inf, 2.0])], "fit", "series b has infinite values"),
        ([np.arange(9.0), np.array([np.nan, 1, 2])], "recent", "series b has no stretch of 3 values without a gap"),
        ([np.arange(9.0)] * 2, "recen", "the variance cannot be that of 'recen'. Choose from fit, recent"),
    ],
)
def test_stretches_that_do_not_fit(y: Any, variance: Any, message: str) -> None:
    fitted = AR(2).fit({"a": simulated([0.6], 50), "b": simulated([0.6], 50)})
    with pytest.raises(SightlineError, match=message):
        fitted.apply(y, variance)


def test_stationary_or_not() -> None:
    assert AR(2, "burg").fit(simulated([0.6, -0.3], 300)).stationary[0]
    growing = 1.05 ** np.arange(100) + 0.01 * np.random.default_rng(0).normal(size=100)
    assert not AR(1).fit(growing).stationary[0]
    assert AR(1, "yule-walker").fit(growing).stationary[0]


# -- bad input


@pytest.mark.parametrize(
    ("y", "p", "message"),
    [
        (np.ones(50), 2, r"series 0 is constant \(0: every value is 1\)"),
        (np.r_[np.zeros(9), 1.0], 5, r"series 0 is too short for p = 5 \(0: 10 values; 12 are needed\)"),
        (
            np.r_[1.0, np.nan, 3.0, np.nan, np.arange(30)],
            1,
            r"series 0 has missing values \(0: 2 missing values in 34, the first at position 1\)",
        ),
        (np.r_[1.0, np.inf, np.arange(30)], 1, "series 0 has infinite values"),
        ([np.arange(9.0), np.full(30, 2.0), np.full(20, 3.0)], 1, r"series 1, 2 are constant \(1: every value is 2\)"),
        ({"{H1}": np.ones(40)}, 1, r"series {H1} is constant"),
        (np.ones((2, 3, 4)), 1, "neither a series nor a set"),
        (np.ones((0, 3)), 1, "neither a series nor a set"),
    ],
)
def test_what_cannot_be_fitted_is_named(y: object, p: int, message: str) -> None:
    with pytest.raises(SightlineError, match=message):
        AR(p).fit(y)


def test_more_bad_input() -> None:
    for fields in ({"p": -1}, {"p": "fpe"}, {"method": "magic"}, {"most": -2}, {"missing": "fill"}):
        with pytest.raises(SightlineError):
            AR(**fields)  # type: ignore[arg-type]
    with pytest.raises(SightlineError, match="burg needs every value"):
        AR(2, "burg", missing="drop")
    gapped = simulated([0.5], 60)
    gapped[-1] = np.nan
    with pytest.raises(SeriesError, match="ends in missing values"):
        AR(2, missing="drop").fit(gapped).predict(1)
    gapped[::3] = np.nan
    with pytest.raises(SeriesError, match="0 stretches of 4 values without a gap") as caught:
        AR(3, missing="drop").fit({"sales": gapped})
    assert caught.value.names == ("sales",)
    fitted = AR(1).fit(simulated([0.5], 60))
    with pytest.raises(SightlineError, match="horizon"):
        fitted.predict(0)
    with pytest.raises(SightlineError, match="interval of 100"):
        fitted.predict(1).interval(100)
