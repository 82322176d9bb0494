"""Autoregressions beside statsmodels: the same coefficients, as good forecasts, and how much sooner.

    python benchmarks/forecasting.py                 accuracy and time, all of it
    python benchmarks/forecasting.py --only time     the times alone, in about a minute and a half

Accuracy: M4 hourly (414 series, the official 48 hours to forecast), ETTh1 (7 variables, the usual 12 months to fit and
the 4 months behind the next 4 to forecast, day by day) and yearly sunspots (the last 30 years). statsmodels fits and
forecasts one series after the other. Time: AR(10), 1 and 1,000 series of 1,000 values, and M4 hourly as it is.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import json
import time
import warnings
from typing import Any

import numpy as np
from machine import RESULTS, data_folder, described, write
from paired import interleaved
from statsmodels.tsa.ar_model import AutoReg, ar_select_order

from sightline.evaluation.forecast import crps_normal, mase, naive_scale, smape
from sightline.stacks.autoregression import AR

DATA = data_folder() / "timeseries"
LAGS, LENGTH, MANY = 10, 1000, 1000
DAY = 24
PAST = 7 * DAY  # that a day is forecast from
RECENT = "sightline, variance of the week before"
SIDES = ("sightline", RECENT, "statsmodels", "the day before")


def rows_of(name: str) -> list[list[str]]:
    with gzip.open(DATA / name, "rt", encoding="utf-8", newline="") as handle:
        return list(csv.reader(handle))[1:]


def m4() -> tuple[list[np.ndarray], np.ndarray]:
    """The hourly series, and the 48 hours behind each."""
    train, test = (
        [np.array([float(cell) for cell in row[1:] if cell]) for row in rows_of(f"m4/Hourly-{side}.csv.gz")]
        for side in ("train", "test")
    )
    return train, np.stack(test)


def etth1() -> tuple[list[np.ndarray], np.ndarray]:
    """Twelve months of seven variables, and [day, variable, hour]: a week before each day to forecast, and it."""
    values = np.array([[float(cell) for cell in row[1:]] for row in rows_of("ett/ETTh1.csv.gz")]).T
    month = 30 * DAY
    starts = range(16 * month, 20 * month - DAY + 1, DAY)
    return [one[: 12 * month] for one in values], np.stack([values[:, at - PAST : at + DAY] for at in starts])


def sunspots() -> np.ndarray:
    return np.loadtxt(DATA / "classic" / "sunspots_yearly.csv", delimiter=",", skiprows=1)[:, 1]


def theirs(values: np.ndarray, p: int, horizon: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Coefficients, means and standard deviations by statsmodels."""
    fitted = AutoReg(values, p).fit()
    found = fitted.get_prediction(len(values), len(values) + horizon - 1)
    return fitted.params, np.asarray(found.predicted_mean), np.asarray(found.se_mean)


def accuracy() -> list[dict[str, Any]]:
    rows = []
    train, test = m4()
    for p, season in ((DAY, DAY), (2 * DAY, DAY)):
        scale = np.array([naive_scale(one, season) for one in train])
        start = time.perf_counter()
        fitted = AR(p).fit(train)
        ahead = fitted.predict(48)
        mine = time.perf_counter() - start
        start = time.perf_counter()
        peers = [theirs(one, p, 48) for one in train]
        peer = time.perf_counter() - start
        coefficients = np.c_[fitted.constant, fitted.phi]
        apart = max(
            float(np.abs(a - b[0]).max() / max(1.0, np.abs(b[0]).max()))
            for a, b in zip(coefficients, peers, strict=True)
        )
        mean, deviation = (np.stack([one[at] for one in peers]) for at in (1, 2))
        rows.append(
            {
                "what": f"M4 hourly, AR({p}), 414 series, 48 hours",
                "coefficients": apart,
                "seconds": [mine, peer],
                "sightline": measured(test, ahead.mean, ahead.deviation, scale),
                "statsmodels": measured(test, mean, deviation, scale),
            }
        )
    rows.append(by_criterion(train, test))
    rows.append(on_days())
    values = sunspots()
    fitted = AR(9).fit(values[:-30])
    ahead = fitted.predict(30)
    params, mean, deviation = theirs(values[:-30], 9, 30)
    scale = np.array([naive_scale(values[:-30])])
    rows.append(
        {
            "what": "sunspots, AR(9), the last 30 years",
            "coefficients": float(np.abs(np.r_[fitted.constant, fitted.phi[0]] - params).max()),
            "seconds": [],
            "sightline": measured(values[None, -30:], ahead.mean, ahead.deviation, scale),
            "statsmodels": measured(values[None, -30:], mean[None], deviation[None], scale),
        }
    )
    return rows


def by_criterion(train: list[np.ndarray], test: np.ndarray) -> dict[str, Any]:
    """Every tenth series chooses its order by BIC: statsmodels takes seconds for each."""
    some, wanted = train[::10], test[::10]
    scale = np.array([naive_scale(one, DAY) for one in some])
    start = time.perf_counter()
    fitted = AR("bic", most=28).fit(some)
    ahead = fitted.predict(48)
    mine = time.perf_counter() - start
    start = time.perf_counter()
    orders = [len(ar_select_order(one, 28, ic="bic").ar_lags or []) for one in some]
    peers = [theirs(one, p, 48) for one, p in zip(some, orders, strict=True)]
    peer = time.perf_counter() - start
    assert orders == fitted.orders.tolist(), "the orders differ"
    mean, deviation = (np.stack([one[at] for one in peers]) for at in (1, 2))
    found = [np.r_[fitted.constant[at], fitted.phi[at, :p]] for at, p in enumerate(orders)]
    return {
        "what": f"M4 hourly, order by BIC (at most 28), {len(some)} series",
        "coefficients": max(
            float(np.abs(a - b[0]).max() / max(1.0, np.abs(b[0]).max())) for a, b in zip(found, peers, strict=True)
        ),
        "seconds": [mine, peer],
        "sightline": measured(wanted, ahead.mean, ahead.deviation, scale),
        "statsmodels": measured(wanted, mean, deviation, scale),
    }


def on_days() -> dict[str, Any]:
    """ETTh1: coefficients of the first 12 months, a forecast of each day of the test months from what stands before."""
    train, days = etth1()
    p = 3 * DAY
    fitted = AR(p).fit(train)
    scale = np.array([naive_scale(one, DAY) for one in train])
    fits = [AutoReg(values, p).fit() for values in train]
    coefficients = np.c_[fitted.constant, fitted.phi]
    found: dict[str, list[dict[str, float]]] = {name: [] for name in SIDES}
    for day in days:
        past, wanted = day[:, :PAST], day[:, PAST:]
        peers = [fit.apply(values).get_prediction(PAST, PAST + DAY - 1) for fit, values in zip(fits, past, strict=True)]
        mean, deviation = (np.stack([getattr(one, name) for one in peers]) for name in ("predicted_mean", "se_mean"))
        for name, variance in (("sightline", "fit"), (RECENT, "recent")):
            ahead = fitted.apply(past, variance).predict(DAY)
            found[name].append(measured(wanted, ahead.mean, ahead.deviation, scale))
        found["statsmodels"].append(measured(wanted, mean, deviation, scale))
        naive = past[:, -DAY:]
        found["the day before"].append(
            {"MASE": float(mase(wanted, naive, scale).mean()), "sMAPE": float(smape(wanted, naive).mean())}
        )
    return {
        "what": f"ETTh1, AR({p}), 7 variables, {len(days)} days",
        "coefficients": max(
            float(np.abs(mine - fit.params).max()) for mine, fit in zip(coefficients, fits, strict=True)
        ),
        "seconds": [],
    } | {name: {key: float(np.mean([one[key] for one in rows])) for key in rows[0]} for name, rows in found.items()}


def measured(values: np.ndarray, mean: np.ndarray, deviation: np.ndarray, scale: np.ndarray) -> dict[str, float]:
    z = 1.959963984540054
    return {
        "MASE": float(np.nanmean(mase(values, mean, scale))),
        "sMAPE": float(smape(values, mean).mean()),
        "CRPS / scale": float(np.nanmean(crps_normal(values, mean, deviation).mean(1) / scale)),
        "within 95%": float((np.abs(values - mean) <= z * deviation).mean()),
    }


def timed() -> list[dict[str, Any]]:
    generator = np.random.default_rng(0)
    noise = generator.normal(size=(MANY, LENGTH))
    many = noise.copy()
    many[:, 2:] += 0.6 * noise[:, 1:-1] - 0.3 * noise[:, :-2]
    one, model = many[0], AR(LAGS)
    rows = []

    def row(what: str, mine: Any, peer: Any, **blocks: Any) -> None:
        found = interleaved({"sightline": mine, "statsmodels": peer}, **blocks)
        rows.append({"what": what} | {name: side.record() for name, side in found.items()})

    row(f"1 series of {LENGTH:,}, AR({LAGS})", lambda: model.fit(one), lambda: AutoReg(one, LAGS).fit(), seconds=0.5)
    row(
        f"{MANY:,} series of {LENGTH:,}, AR({LAGS})",
        lambda: model.fit(many),
        lambda: [AutoReg(values, LAGS).fit() for values in many],
        blocks=5,
    )
    long = generator.normal(size=100_000)
    row(f"1 series of 100,000, AR({LAGS})", lambda: model.fit(long), lambda: AutoReg(long, LAGS).fit(), seconds=0.5)
    train, _ = m4()
    day = AR(DAY)
    row(
        f"M4 hourly (414 series, 700 and 960 values), AR({DAY})",
        lambda: day.fit(train),
        lambda: [AutoReg(values, DAY).fit() for values in train],
        blocks=5,
    )
    choosing = AR("bic", most=13)
    spots = sunspots()
    row(
        "sunspots, order by BIC (at most 13)",
        lambda: choosing.fit(spots),
        lambda: ar_select_order(spots, 13, ic="bic").model.fit(),
        seconds=0.5,
    )
    return rows


def told(record: dict[str, Any]) -> str:
    lines = ["# Forecasting", "", "Least squares, beside statsmodels' AutoReg, one after the other in turns.", ""]
    lines += [
        "| fit | Sightline, ms | statsmodels, ms | ratio | asked for |",
        "|---|---|---|---|---|",
    ]
    aims = (10, 30)
    for number, row in enumerate(record.get("time", [])):
        mine, peer = row["sightline"], row["statsmodels"]
        ratio = peer["median"] / mine["median"]
        cells = (f"{1e3 * one['median']:.3f} [{1e3 * one['low']:.3f}, {1e3 * one['high']:.3f}]" for one in (mine, peer))
        aim = f"{aims[number]} times" if number < len(aims) else ""
        lines.append(f"| {row['what']} | {' | '.join(cells)} | {ratio:.1f} | {aim} |")
    lines += [
        "",
        "Forecasts; MASE by the day before (hourly) or the year before, CRPS in the same unit. Coefficients: the "
        "largest difference, relative where they are above 1. Seconds: of one call, for orientation. On the days of "
        "ETTh1 statsmodels takes the variance from the week before (its `apply`); Sightline's `apply` keeps that of "
        'the fit, or takes the same week\'s with `variance="recent"`: all figures are then those of statsmodels.',
        "",
        "| forecast | by | MASE | sMAPE, % | CRPS | within 95% | coefficients differ by | seconds, fit and forecast |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in record.get("accuracy", []):
        for at, name in enumerate(one for one in SIDES if one in row):
            found = row[name]
            cells = [f"{found['MASE']:.4f}", f"{found['sMAPE']:.3f}"]
            cells += [f"{found[key]:.4f}" if key in found else "" for key in ("CRPS / scale", "within 95%")]
            seconds = f"{row['seconds'][at]:.2f}" if row["seconds"] else ""
            apart = f"{row['coefficients']:.1e}" if at == 0 else ""
            lines.append(f"| {row['what']} | {name} | {' | '.join(cells)} | {apart} | {seconds} |")
    return "\n".join([*lines, ""])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=["time", "accuracy"])
    given = parser.parse_args()
    kept = RESULTS / "forecasting.json"
    record: dict[str, Any] = json.loads(kept.read_text(encoding="utf-8")) if given.only and kept.exists() else {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # statsmodels announces changes of its own results
        if given.only != "time":
            record["accuracy"] = accuracy()
        if given.only != "accuracy":
            record["time"] = timed()
    about = described(["statsmodels", "numpy"])
    if given.only and {"time", "accuracy"} <= record.keys():
        about["command"] = "python benchmarks/forecasting.py --only time` and `--only accuracy"
    record = {"about": about} | {name: record[name] for name in ("time", "accuracy") if name in record}
    write("forecasting", record, told(record))


if __name__ == "__main__":
    main()
