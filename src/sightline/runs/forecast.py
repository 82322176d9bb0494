"""Forecast series of numbers by autoregressions, all fitted in one batched solve, or by a model that was trained."""

from __future__ import annotations

import inspect
import shlex
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from ..errors import SightlineError
from ..files import whole_file, write_json
from ..progress import say

if TYPE_CHECKING:
    from ..data.series import Table
    from ..evaluation.foreseen import Neural, Paths
    from ..stacks.autoregression import Fitted, Forecast

    Fitting = Callable[[list[Any], Sequence[str]], Fitted | Neural]

SHOWN = 3  # series that are printed
STEPS = 12  # of each
NAME = "AR"  # column of the means, as forecasting libraries name a column after its model; else the family's name


@dataclass(frozen=True, eq=False)
class ForecastResult:
    """What comes next, and how it was foreseen.

    Parameters
    ----------
    table : the series. fitted : their autoregressions, or a neural model at their ends.
    forecast : means and standard deviations [S, h], or sampled paths.
    levels : percents of the intervals. accuracy : on values held out, by name; empty where none were.
    skipped : series that could not be fitted, with the reason. next : a command to go on with.
    model : the folder of what was fitted before; None: it was fitted to these series.
    """

    table: Table
    fitted: Fitted | Neural
    forecast: Forecast | Paths
    levels: tuple[float, ...]
    accuracy: dict[str, float]
    skipped: dict[str, str]
    next: str
    model: Path | None = None

    @property
    def name(self) -> str:
        """Of the model, as columns are named."""
        from ..stacks.autoregression import Fitted

        return NAME if isinstance(self.fitted, Fitted) else self.fitted.model.objective.family

    def columns(self) -> dict[str, Any]:
        """A long frame: unique_id, ds, AR (or the family), and the ends of each interval (AR-lo-95, AR-hi-95)."""
        import numpy as np

        name, (count, horizon) = self.name, self.forecast.middle.shape
        values = self.table.values
        times = [self.table.times(number, len(values[number]), horizon) for number in range(count)]
        found: dict[str, Any] = {
            "unique_id": np.repeat(np.array(self.table.names), horizon),
            "ds": np.concatenate(times),
            name: self.forecast.middle.ravel(),
        }
        for level in self.levels:
            low, high = self.forecast.interval(level)
            found |= {f"{name}-lo-{level:g}": low.ravel(), f"{name}-hi-{level:g}": high.ravel()}
        return found

    def record(self) -> dict[str, Any]:
        """As plain JSON."""
        horizon = self.forecast.middle.shape[1]
        columns = {
            name: [str(one) for one in column] if column.dtype.kind == "M" else column.tolist()
            for name, column in self.columns().items()
        }
        series = [
            {
                "unique_id": name,
                **self._law(number),
                "forecast": {
                    column: values[number * horizon : (number + 1) * horizon]
                    for column, values in columns.items()
                    if column != "unique_id"
                },
            }
            for number, name in enumerate(self.table.names)
        ]
        return {
            "method": getattr(self.fitted, "method", self.name),
            "series": series,
            "accuracy": self.accuracy,
            "skipped": self.skipped,
            "notes": list(self.table.notes),
        }

    def _law(self, number: int) -> dict[str, Any]:
        """What was fitted to one series; nothing where one model is of all."""
        from ..stacks.autoregression import Fitted

        fitted = self.fitted
        if not isinstance(fitted, Fitted):
            return {}
        return {
            "p": (p := int(fitted.orders[number])),
            "constant": float(fitted.constant[number]),
            "phi": fitted.phi[number, :p].tolist(),
            "deviation": float(fitted.variance[number] ** 0.5),
            "equations": int(fitted.equations[number]),
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
        from ..stacks.autoregression import Fitted

        fitted, values = self.fitted, self.table.values[number]
        horizon = self.forecast.middle.shape[1]
        if isinstance(fitted, Fitted):
            moving = "" if fitted.stationary[number] else "; not stationary: its intervals grow without end"
            source = f"from {len(values):,} values" if self.model is None else f"behind {len(values):,} values"
            how = f"AR({fitted.orders[number]}) by {fitted.method} {source}"
            how += f", standard deviation {fitted.variance[number] ** 0.5:.4g} a step ahead{moving}"
        else:
            how = f"{self.name} behind {len(values):,} values, medians of sampled paths"
        yield f"{self.table.names[number]}: {how}"
        ends = [self.forecast.interval(level) for level in self.levels]
        for step, time in enumerate(self.table.times(number, len(values), min(horizon, STEPS))):
            ranges = "".join(f"   {low[number, step]:.6g} to {high[number, step]:.6g}" for low, high in ends)
            yield f"  {time!s:<20} {self.forecast.middle[number, step]:>12.6g}{ranges}"
        if horizon > STEPS:
            yield f"  ... and {horizon - STEPS:,} more steps"
        if self.levels:
            yield f"  intervals of {', '.join(f'{level:g}%' for level in self.levels)}"


def forecast(
    series: Annotated[Any, tyro.conf.Positional, tyro.conf.arg(constructor=str)],
    *,
    model: Path | None = None,
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
    seed: int = 0,
    out: Path | None = None,
    json: Path | None = None,
) -> ForecastResult:
    """Forecast every series of a table by an autoregression AR(p), or by a trained model, with intervals.

    Examples:
        sightline forecast sunspots.csv --time YEAR --value SUNACTIVITY --p 9 --horizon 5
        sightline forecast sales.parquet --p aic --holdout 12 --season 12 --out forecast.csv
        sightline forecast sales.csv --model runs/sales --horizon 12

    Args:
        series: a .csv or .parquet file (also .gz, .zst): a long frame with the columns unique_id, ds and y, or one
            column. In Python also arrays, mappings from names to values, and data frames.
        model: a run or model folder of `sightline train linear` or `causal`: its coefficients or weights go on from
            the ends of these series, and nothing is fitted.
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
        seed: of the paths that a neural model is sampled in.
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
    if model is None:
        fitting = _closed(AR(_order(p), method, most, missing))
    else:
        options = {"p": p, "method": method, "most": most, "missing": missing}
        fitting = _trained(Path(model), seed, options)
    table = read_series(series, id, time, value)
    for note in table.notes:
        say(note)
    skipped: dict[str, str] = {}
    accuracy: dict[str, float] = {}
    if holdout:
        table, fitted = _fit(fitting, table, skip, skipped, holdout)
        accuracy = _accuracy(fitted, table, holdout, season, level)
    table, fitted = _fit(fitting, table, skip, skipped)
    found = fitted.predict(horizon)
    for one in level:
        found.interval(one)  # a level that means nothing is refused before anything is written
    there = f"sightline forecast {shlex.quote(str(series))}" if isinstance(series, str | Path) else "sightline forecast"
    there += f" --model {shlex.quote(str(model))}" if model is not None else ""
    following = f"{there} --holdout {horizon}" if not holdout else f"{there} --out forecast.csv"
    result = ForecastResult(table, fitted, found, tuple(level), accuracy, skipped, following, model)
    if out is not None:
        _write(result.columns(), Path(out))
        say(f"{out}: {found.middle.size:,} forecasts of {len(table.names):,} series")
    if json is not None:
        write_json(Path(json), result.record())
    return result


def _order(p: Any) -> Any:
    """A number of lags, or a criterion."""
    text = str(p)
    return int(text) if text.lstrip("-").isdigit() else text


def _closed(model: Any) -> Fitting:
    """An autoregression to be fitted."""

    def fitting(rows: list[Any], names: Sequence[str]) -> Fitted:
        fitted: Fitted = model.fit(rows if len(rows) > 1 else rows[0], names)
        fitted.predict(1)  # which needs the last values
        return fitted

    return fitting


def _trained(place: Path, seed: int, options: dict[str, Any]) -> Fitting:
    """A model that was trained on numbers, to go on from the ends of series."""
    from .. import hub
    from ..evaluation.foreseen import Neural
    from ..stacks.linear import Linear
    from ..stacks.regressions import Regressions
    from ..stacks.series import Series

    for name, given in options.items():
        if given != inspect.signature(forecast).parameters[name].default:
            raise SightlineError(f"--{name} tells how to fit, and a model is fitted", f"Leave --{name} or --model away")
    model = hub.load(place, numbers=True).eval()
    if not model.numbers:
        raise SightlineError(
            f"the model in {place} reads texts, not numbers", "Train one on a table: sightline train linear SERIES.csv"
        )
    stack: Any = model.stack

    def regressions(rows: list[Any], names: Sequence[str]) -> Fitted:
        shared = isinstance(stack, Linear)
        law = stack.fitted(names) if shared else stack.fitted.take(_places(stack.names, names))
        applied: Fitted = law.apply(rows)
        applied.predict(1)
        return applied

    def neural(rows: list[Any], names: Sequence[str]) -> Neural:
        series = Series.of(rows, names)
        series.check("error")
        return Neural(model, series, seed)

    return regressions if isinstance(stack, Linear | Regressions) else neural


def _places(known: Sequence[str], names: Sequence[str]) -> Any:
    """The number of each name among those that a model was trained on; one series alone needs no name."""
    import numpy as np

    from ..stacks.series import SeriesError

    if len(known) == len(names) == 1:
        return np.zeros(1, np.int64)
    number = {name: at for at, name in enumerate(known)}
    if strangers := [name for name in names if name not in number]:
        more = f" and {len(strangers) - 1} more" if len(strangers) > 1 else ""
        raise SeriesError(
            f"the model holds no regression of series {strangers[0]}{more}",
            "Give the series that it was trained on; causal, one model of all series, takes new ones too",
            strangers,
        )
    return np.array([number[name] for name in names])


def _fit(
    fitting: Fitting, table: Table, skip: bool, skipped: dict[str, str], held: int = 0
) -> tuple[Table, Fitted | Neural]:
    """The fit of every series but its last ``held`` values; with ``skip``, of those that can be fitted."""
    from ..stacks.series import SeriesError

    while True:
        try:
            return table, fitting(_before(table, held), table.names)
        except SeriesError as error:
            if not skip:
                others = ", or leave out what cannot be fitted (--skip)" if len(table.names) > 1 else ""
                raise SightlineError(error.what, f"{error.do}{others}") from error
            say(f"left out: {error.what}")
            skipped |= dict.fromkeys(error.names, error.what)
            table = table.take([number for number, name in enumerate(table.names) if name not in error.names])
            if not table.names:
                raise SightlineError("no series can be fitted", error.do) from error


def _before(table: Table, held: int) -> list[Any]:
    """Every series without its last ``held`` values."""
    from ..stacks.series import SeriesError

    for name, values in zip(table.names, table.values, strict=True):
        if len(values) <= held:
            what = f"series {name}, with {len(values)} values, has none left once {held} are held out"
            raise SeriesError(what, "Hold out fewer", (name,))
    return [values[: len(values) - held] for values in table.values]


def _accuracy(
    fitted: Fitted | Neural, table: Table, held: int, season: int, level: tuple[float, ...]
) -> dict[str, float]:
    """Means over series of what forecasts of the last ``held`` values came to; missing values are not counted."""
    import numpy as np

    from ..evaluation import forecast as measures
    from ..stacks.autoregression import Forecast

    found = fitted.predict(held)
    values = np.stack([row[-held:] for row in table.values])
    there = np.isfinite(values).all(1)
    if not bool(there.any()):
        raise SightlineError(f"every series misses some of its last {held} values", "Hold out fewer, or fill them")
    scale = np.array([measures.naive_scale(row[:-held], season) for row in table.values])
    if isinstance(found, Forecast):
        crps = measures.crps_normal(values, found.mean, found.deviation).mean(1)
    else:
        crps = found.crps(values).mean(1)
    accuracy = {
        "MASE": measures.mase(values, found.middle, scale),
        "sMAPE": measures.smape(values, found.middle),
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
