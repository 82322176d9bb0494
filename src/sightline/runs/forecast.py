"""Forecast series of numbers by autoregressions, all of them fitted in one batched solve."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from ..errors import SightlineError
from ..files import whole_file, write_json
from ..progress import say

if TYPE_CHECKING:
    from ..data.series import Table
    from ..stacks.autoregression import AR, Fitted, Forecast

SHOWN = 3  # series that are printed
STEPS = 12  # of each
NAME = "AR"  # column of the means, as forecasting libraries name a column after its model


@dataclass(frozen=True, eq=False)
class ForecastResult:
    """What comes next, and how it was foreseen.

    Parameters
    ----------
    table : the series. fitted : their autoregressions. forecast : means and standard deviations [S, h].
    levels : percents of the intervals. accuracy : on values held out, by name; empty where none were.
    skipped : series that could not be fitted, with the reason. next : a command to go on with.
    """

    table: Table
    fitted: Fitted
    forecast: Forecast
    levels: tuple[float, ...]
    accuracy: dict[str, float]
    skipped: dict[str, str]
    next: str

    def columns(self) -> dict[str, Any]:
        """A long frame: unique_id, ds, AR, and the ends of each interval (AR-lo-95, AR-hi-95)."""
        import numpy as np

        count, horizon = self.forecast.mean.shape
        values = self.table.values
        times = [self.table.times(number, len(values[number]), horizon) for number in range(count)]
        found: dict[str, Any] = {
            "unique_id": np.repeat(np.array(self.table.names), horizon),
            "ds": np.concatenate(times),
            NAME: self.forecast.mean.ravel(),
        }
        for level in self.levels:
            low, high = self.forecast.interval(level)
            found |= {f"{NAME}-lo-{level:g}": low.ravel(), f"{NAME}-hi-{level:g}": high.ravel()}
        return found

    def record(self) -> dict[str, Any]:
        """As plain JSON."""
        fitted = self.fitted
        horizon = self.forecast.mean.shape[1]
        columns = {
            name: [str(one) for one in column] if column.dtype.kind == "M" else column.tolist()
            for name, column in self.columns().items()
        }
        series = [
            {
                "unique_id": name,
                "p": (p := int(fitted.orders[number])),
                "constant": float(fitted.constant[number]),
                "phi": fitted.phi[number, :p].tolist(),
                "deviation": float(fitted.variance[number] ** 0.5),
                "equations": int(fitted.equations[number]),
                "forecast": {
                    column: values[number * horizon : (number + 1) * horizon]
                    for column, values in columns.items()
                    if column != "unique_id"
                },
            }
            for number, name in enumerate(self.table.names)
        ]
        return {
            "method": fitted.method,
            "series": series,
            "accuracy": self.accuracy,
            "skipped": self.skipped,
            "notes": list(self.table.notes),
        }

    def __str__(self) -> str:
        lines: list[str] = []
        for number in range(min(SHOWN, len(self.table.names))):
            lines += [*self._told(number), ""]
        if len(self.table.names) > SHOWN:
            lines += [f"... and {len(self.table.names) - SHOWN:,} more series (--out FILE holds them all)", ""]
        if self.accuracy:
            words = ", ".join(f"{name} {value:.3f}" for name, value in self.accuracy.items())
            lines.append(f"on values held out: {words}")
        return "\n".join(lines).rstrip()

    def _told(self, number: int) -> Iterator[str]:
        """One series, with its first steps."""
        fitted, values = self.fitted, self.table.values[number]
        horizon = self.forecast.mean.shape[1]
        moving = "" if fitted.stationary[number] else "; not stationary: its intervals grow without end"
        yield (
            f"{self.table.names[number]}: AR({fitted.orders[number]}) by {fitted.method} from {len(values):,} values, "
            f"standard deviation {fitted.variance[number] ** 0.5:.4g} a step ahead{moving}"
        )
        ends = [self.forecast.interval(level) for level in self.levels]
        for step, time in enumerate(self.table.times(number, len(values), min(horizon, STEPS))):
            ranges = "".join(f"   {low[number, step]:.6g} to {high[number, step]:.6g}" for low, high in ends)
            yield f"  {time!s:<20} {self.forecast.mean[number, step]:>12.6g}{ranges}"
        if horizon > STEPS:
            yield f"  ... and {horizon - STEPS:,} more steps"
        if self.levels:
            yield f"  intervals of {', '.join(f'{level:g}%' for level in self.levels)}"


def forecast(
    series: Annotated[Any, tyro.conf.Positional, tyro.conf.arg(constructor=str)],
    *,
    horizon: int = 12,
    p: str = "bic",
    method: Literal["ols", "yule-walker", "yule-walker-adjusted", "burg"] = "ols",
    most: int = 0,
    level: tuple[float, ...] = (80.0, 95.0),
    holdout: int = 0,
    season: int = 1,
    missing: Literal["error", "drop"] = "error",
    skip: bool = False,
    id: str = "unique_id",
    time: str = "ds",
    value: str = "y",
    out: Path | None = None,
    json: Path | None = None,
) -> ForecastResult:
    """Forecast every series of a table by an autoregression AR(p), with intervals.

    Examples:
        sightline forecast sunspots.csv --time YEAR --value SUNACTIVITY --p 9 --horizon 5
        sightline forecast sales.parquet --p aic --holdout 12 --season 12 --out forecast.csv

    Args:
        series: a .csv or .parquet file (also .gz, .zst): a long frame with the columns unique_id, ds and y, or one
            column. In Python also arrays, mappings from names to values, and data frames.
        horizon: steps ahead.
        p: how many values back each forecast looks; or aic, bic, hqic: each series chooses its own order.
        method: ols (conditional least squares), yule-walker, yule-walker-adjusted or burg.
        most: the largest order that a criterion may choose; 0: 10 log10 of the length, at most a quarter of it.
        level: percents of the intervals.
        holdout: also forecast the last so many values from those before them, and measure how good that is.
        season: steps back of the naive forecast that MASE measures by.
        missing: error, or drop the equations in which a value is missing.
        skip: leave out series that cannot be fitted, and say which.
        id: the column of names.
        time: the column of times; '' takes the rows as they stand.
        value: the column of numbers.
        out: write the forecasts to this .csv or .parquet file.
        json: also write coefficients and forecasts to this file.
    """
    from ..data.series import read_series
    from ..stacks.autoregression import AR

    if out is not None and Path(out).suffix not in (".csv", ".parquet"):
        raise SightlineError(f"{out} ends neither in .csv nor in .parquet", "Choose another --out")
    for name, number, least in (("horizon", horizon, 1), ("holdout", holdout, 0), ("season", season, 1)):
        if number < least:
            raise SightlineError(f"a {name} of {number} means nothing", f"Use {least} or more")
    model = AR(_order(p), method, most, missing)
    table = read_series(series, id, time, value)
    for note in table.notes:
        say(note)
    skipped: dict[str, str] = {}
    accuracy: dict[str, float] = {}
    if holdout:
        table, fitted = _fit(model, table, skip, skipped, holdout)
        accuracy = _accuracy(fitted, table, holdout, season, level)
    table, fitted = _fit(model, table, skip, skipped)
    found = fitted.predict(horizon)
    for one in level:
        found.interval(one)  # a level that means nothing is refused before anything is written
    there = f"sightline forecast {shlex.quote(str(series))}" if isinstance(series, str | Path) else "sightline forecast"
    following = f"{there} --holdout {horizon}" if not holdout else f"{there} --out forecast.csv"
    result = ForecastResult(table, fitted, found, tuple(level), accuracy, skipped, following)
    if out is not None:
        _write(result.columns(), Path(out))
        say(f"{out}: {found.mean.size:,} forecasts of {len(table.names):,} series")
    if json is not None:
        write_json(Path(json), result.record())
    return result


def _order(p: Any) -> Any:
    """A number of lags, or a criterion."""
    text = str(p)
    return int(text) if text.lstrip("-").isdigit() else text


def _fit(model: AR, table: Table, skip: bool, skipped: dict[str, str], held: int = 0) -> tuple[Table, Fitted]:
    """The fit of every series but its last ``held`` values; with ``skip``, of those that can be fitted."""
    from ..stacks.series import SeriesError

    while True:
        try:
            rows = [values[: len(values) - held] for values in table.values]
            fitted = model.fit(rows if len(rows) > 1 else rows[0], table.names)
            fitted.predict(1)  # which needs the last values
            return table, fitted
        except SeriesError as error:
            if not skip:
                others = ", or leave out what cannot be fitted (--skip)" if len(rows) > 1 else ""
                raise SightlineError(error.what, f"{error.do}{others}") from error
            say(f"left out: {error.what}")
            skipped |= dict.fromkeys(error.names, error.what)
            table = table.take([number for number, name in enumerate(table.names) if name not in error.names])
            if not table.names:
                raise SightlineError("no series can be fitted", error.do) from error


def _accuracy(fitted: Fitted, table: Table, held: int, season: int, level: tuple[float, ...]) -> dict[str, float]:
    """Means over series of what forecasts of the last ``held`` values came to; missing values are not counted."""
    import numpy as np

    from ..evaluation import forecast as measures

    found = fitted.predict(held)
    values = np.stack([row[-held:] for row in table.values])
    there = np.isfinite(values).all(1)
    if not bool(there.any()):
        raise SightlineError(f"every series misses some of its last {held} values", "Hold out fewer, or fill them")
    scale = np.array([measures.naive_scale(row[:-held], season) for row in table.values])
    crps = measures.crps_normal(values, found.mean, found.deviation).mean(1)
    accuracy = {
        "MASE": measures.mase(values, found.mean, scale),
        "sMAPE": measures.smape(values, found.mean),
        "CRPS": crps / scale,  # series of different units are no sum: by the unit of MASE
    }
    for one in level:
        accuracy[f"within {one:g}%"] = measures.coverage(values, *found.interval(one))
    kept = {name: one[there & np.isfinite(one)] for name, one in accuracy.items()}
    return {name: float(one.mean()) for name, one in kept.items() if len(one)}


def _write(columns: dict[str, Any], path: Path) -> None:
    import pyarrow
    import pyarrow.csv
    import pyarrow.parquet

    table = pyarrow.table({name: _plain(column) for name, column in columns.items()})
    with whole_file(path) as handle:
        if path.suffix == ".csv":
            pyarrow.csv.write_csv(table, handle)
        else:
            pyarrow.parquet.write_table(table, handle)


def _plain(column: Any) -> Any:
    """Arrow has no times of a whole year or month: they are told as they are written."""
    import numpy as np

    whole = column.dtype.kind == "M" and np.datetime_data(column.dtype)[0] in ("Y", "M", "h", "m")
    return column.astype(str) if whole else column
