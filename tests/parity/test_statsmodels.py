"""Autoregressions equal those of statsmodels: coefficients, standard errors, criteria, forecasts, on real series."""

from __future__ import annotations

import csv
import gzip
import warnings
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from sightline.stacks.autoregression import AR, criteria
from sightline.stacks.series import Series

TOLERANCE = 1e-8


@pytest.fixture(scope="module")
def peers(peer: Callable[[str], ModuleType]) -> tuple[Any, Any]:
    return peer("statsmodels.tsa.ar_model"), peer("statsmodels.regression.linear_model")


@pytest.fixture(scope="module")
def hourly(shared_data: Path) -> list[np.ndarray]:
    """Every tenth hourly series of the M4 competition, of 700 and 960 values."""
    with gzip.open(shared_data / "timeseries" / "m4" / "Hourly-train.csv.gz", "rt", encoding="utf-8") as handle:
        rows = list(csv.reader(handle))[1:]
    return [np.array([float(cell) for cell in row[1:] if cell]) for row in rows[::10]]


@pytest.mark.parametrize("p", [1, 10, 25])
def test_least_squares(p: int, hourly: list[np.ndarray], peers: tuple[Any, Any]) -> None:
    fitted = AR(p).fit(hourly)
    ahead = fitted.predict(24)
    for number in range(0, len(hourly), 5):
        theirs = peers[0].AutoReg(hourly[number], p).fit()
        mine = np.r_[fitted.constant[number], fitted.phi[number]]
        assert np.allclose(mine, theirs.params, rtol=TOLERANCE, atol=TOLERANCE)
        assert np.allclose(fitted.errors[number], theirs.bse, rtol=1e-6)
        assert np.isclose(fitted.variance[number], theirs.sigma2, rtol=TOLERANCE)
        for name in ("aic", "bic", "hqic"):
            assert np.isclose(fitted.criteria[name][number], getattr(theirs, name), rtol=TOLERANCE)
        found = theirs.get_prediction(len(hourly[number]), len(hourly[number]) + 23)
        assert np.allclose(ahead.mean[number], found.predicted_mean, rtol=1e-6)
        assert np.allclose(ahead.deviation[number], found.se_mean, rtol=1e-6)
        low, high = ahead.interval(95)
        assert np.allclose(np.c_[low[number], high[number]], found.conf_int(), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("length", [60, 168])
def test_applied_to_another_stretch(length: int, hourly: list[np.ndarray], peers: tuple[Any, Any]) -> None:
    """Forecasts behind a stretch that was not fitted, its variance taken from it, as statsmodels' ``apply`` does."""
    some = hourly[::5]
    fitted = AR(25).fit([values[:500] for values in some])
    stretches = [values[500 : 500 + length + number] for number, values in enumerate(some)]  # of different lengths
    applied = fitted.apply(stretches, variance="recent")
    ahead, kept = applied.predict(24), fitted.apply(stretches).predict(24)
    for number, values in enumerate(some):
        theirs = peers[0].AutoReg(values[:500], 25).fit()
        there = theirs.apply(stretches[number])
        count = len(stretches[number])
        found = there.get_prediction(count, count + 23)
        assert np.isclose(applied.variance[number], there.sigma2, rtol=TOLERANCE)
        for mine in (ahead, kept):
            assert np.allclose(mine.mean[number], found.predicted_mean, rtol=TOLERANCE)
        assert np.allclose(ahead.deviation[number], found.se_mean, rtol=TOLERANCE)
        fixed = np.asarray(found.se_mean) * np.sqrt(theirs.sigma2 / there.sigma2)
        assert np.allclose(kept.deviation[number], fixed, rtol=TOLERANCE)


def test_orders(hourly: list[np.ndarray], peers: tuple[Any, Any]) -> None:
    """statsmodels leaves one parameter out of its table, for every order alike; what it chooses is the same."""
    for name in ("aic", "bic", "hqic"):
        chosen = AR(name, most=8).fit(hourly[:20:6]).orders  # type: ignore[arg-type]
        for number, values in enumerate(hourly[:20:6]):
            theirs = peers[0].ar_select_order(values, 8, ic=name)
            assert chosen[number] == len(theirs.ar_lags or [])
            table = criteria(Series.of(values), 8)[name][0]  # type: ignore[index]
            apart = [table[len(lags) if lags else 0] - value for lags, value in getattr(theirs, name).items()]
            assert np.ptp(apart) < 1e-6


def test_yule_walker_and_burg(hourly: list[np.ndarray], peers: tuple[Any, Any]) -> None:
    for method, divisor in (("yule-walker", "mle"), ("yule-walker-adjusted", "adjusted")):
        fitted = AR(6, method).fit(hourly)  # type: ignore[arg-type]
        for number in range(0, len(hourly), 8):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # statsmodels announces that it will return something else
                phi, sigma = peers[1].yule_walker(hourly[number], 6, method=divisor)[:2]
            assert np.allclose(fitted.phi[number], phi, atol=TOLERANCE)
            assert np.isclose(fitted.variance[number] ** 0.5, sigma, rtol=TOLERANCE)
    fitted = AR(6, "burg").fit(hourly)
    for number in range(0, len(hourly), 8):
        phi, variance = peers[1].burg(hourly[number], 6)
        assert np.allclose(fitted.phi[number], phi, atol=TOLERANCE)
        assert np.isclose(fitted.variance[number], variance, rtol=TOLERANCE)
