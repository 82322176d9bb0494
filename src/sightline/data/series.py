"""Series of numbers from a table: one for each id, on an even grid of time, gaps marked as missing.

    unique_id  ds          y                    H1   2024-01 2024-02 2024-03 ...
    H1         2024-01-01  605         ->            605     NaN     586           no row for February: it is missing
    H1         2024-03-01  586
    H2         ...                              H2   ...

A long frame (csv or parquet, also .gz and .zst), or a file of one column; in Python also arrays and data frames.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import SightlineError
from ..files import fingerprint
from .compression import DAMAGED, PACKED, opened
from .rows import Rows

ENDINGS = (".csv", ".parquet")
LIKELY = ("y", "value", "target")  # columns that an error proposes


@dataclass(frozen=True, eq=False)
class Timeline:
    """Evenly spaced times of a series.

    Parameters
    ----------
    start, step : the first time and the distance between two: numbers, NumPy times, or months where months are counted.
    offset : where months are counted, what stands between the edge of a month and the time in it; else None.
    month_end : the edge is the month's last day rather than its first.
    """

    start: Any
    step: Any
    offset: Any = None
    month_end: bool = False

    def at(self, index: NDArray[np.int64]) -> NDArray[Any]:
        """The times of these places, which may lie behind the last value."""
        times = self.start + self.step * index
        return np.asarray(times if self.offset is None else _edge(times, self.month_end) + self.offset)


def _edge(months: NDArray[Any], end: bool) -> NDArray[Any]:
    """The first or last day of months."""
    return np.asarray((months + end).astype("datetime64[D]") - np.timedelta64(end, "D"))


@dataclass(frozen=True, eq=False)
class Table:
    """Series by name.

    Parameters
    ----------
    names : of the S series. values : of each, float64; NaN where one is missing.
    timelines : of each; None where rows are counted.
    notes : what was done on the way, in words.
    """

    names: tuple[str, ...]
    values: tuple[NDArray[np.float64], ...]
    timelines: tuple[Timeline | None, ...]
    notes: tuple[str, ...] = ()

    def take(self, numbers: Sequence[int]) -> Table:
        """Some of the series."""
        return Table(
            tuple(self.names[number] for number in numbers),
            tuple(self.values[number] for number in numbers),
            tuple(self.timelines[number] for number in numbers),
            self.notes,
        )

    def times(self, number: int, first: int, count: int) -> NDArray[Any]:
        """Times of ``count`` places of a series from place ``first`` on; 0, 1, 2 ... where it has none."""
        line, index = self.timelines[number], np.arange(first, first + count)
        return index if line is None else line.at(index)

    @property
    def fingerprint(self) -> str:
        """Changes with any name or value."""
        return fingerprint(*(part for pair in zip(self.names, self.values, strict=True) for part in _raw(*pair)))


def _raw(name: str, values: NDArray[np.float64]) -> tuple[str, bytes]:
    return name, values.tobytes()


def is_table(name: str) -> bool:
    """Whether a file is a table of numbers by its name."""
    return _bare(name).endswith(".csv")


def _bare(name: str) -> str:
    lower = name.lower()
    return next((lower.removesuffix(end) for end in PACKED if lower.endswith(end)), lower)


def read_series(source: Any, id: str = "unique_id", time: str = "ds", value: str = "y") -> Table:
    """Series from a file, a data frame or arrays.

    Parameters
    ----------
    source : a path to a .csv or .parquet file; a pandas or Arrow table; a mapping from names to values; [N] or [S, N].
    id, time, value : names of columns. The first two may be missing; a table of one column needs no names.

    Raises
    ------
    SightlineError : the file is no table, lacks a column, holds text where numbers belong, or times do not fit a grid.
    """
    if isinstance(source, str | Path):
        path = Path(source)
        return _framed(_loaded(path), str(path), id, time, value, path.name.split(".")[0])
    if hasattr(source, "column_names"):
        return _framed(source, "the table", id, time, value, "y")
    if hasattr(source, "columns") and hasattr(source, "iloc"):
        import pyarrow

        return _framed(pyarrow.Table.from_pandas(source, preserve_index=False), "the frame", id, time, value, "y")
    if isinstance(source, Mapping):
        names, rows = [str(name) for name in source], list(source.values())
    else:
        rows = [source] if np.ndim(source[0]) == 0 else list(source)
        names = ["y"] if len(rows) == 1 else [str(number) for number in range(len(rows))]
    try:
        values = tuple(np.asarray(row, dtype=np.float64).ravel() for row in rows)
    except (TypeError, ValueError) as error:
        raise SightlineError(f"a series holds something else than numbers ({error})", "Give numbers") from error
    return Table(tuple(names), values, (None,) * len(values))


def _loaded(path: Path) -> Any:
    """A file as an Arrow table."""
    import pyarrow
    import pyarrow.csv
    import pyarrow.parquet

    if not path.exists():
        raise SightlineError(f"{path} does not exist", "Check the path")
    bare = _bare(path.name)
    if path.is_dir() or not bare.endswith(ENDINGS):
        raise SightlineError(f"{path} is no table", f"Give a file that ends in {' or '.join(ENDINGS)} (also .gz, .zst)")
    try:
        if bare.endswith(".parquet"):
            return pyarrow.parquet.read_table(path)
        with opened(path) as handle:
            return pyarrow.csv.read_csv(pyarrow.PythonFile(handle, mode="r"))
    except pyarrow.ArrowInvalid as error:
        raise SightlineError(f"{path} is no table: {str(error).splitlines()[0]}", "Check the file") from error
    except DAMAGED as error:
        raise SightlineError(f"{path} is damaged ({error})", "Make it again") from error


def _framed(table: Any, name: str, id: str, time: str, value: str, alone: str) -> Table:
    """Series of an Arrow table; ``alone`` names the only one of a table without ids."""
    columns: list[str] = table.column_names
    if not table.num_rows:
        raise SightlineError(f"{name} has no rows", "Give a table with numbers")
    if value not in columns and len(columns) == 1:
        value = columns[0]
    for column, option, default in ((value, "value", ""), (id, "id", "unique_id"), (time, "time", "ds")):
        if column and column not in columns and column != default:
            raise SightlineError(
                f"{name} has no column {column!r}; it has {', '.join(columns)}",
                f"Name the column with --{option}"
                + (" (train, compare: --field)" if option == "value" else "")
                + (", and --id and --time if it has them" if not default else ""),
            )
    numbers = _numbers(table[value], name, value)
    notes: list[str] = []
    if id and id in columns:
        names, group = _groups(table[id], name, id)
    else:
        names, group = [alone], np.zeros(len(numbers), np.int64)
    times = _times(table[time], name, time) if time and time in columns else None
    order = np.argsort(group, kind="stable") if times is None else np.lexsort((times, group))
    if bool((order != np.argsort(group, kind="stable")).any()):
        notes.append("rows were put in the order of time")
    cuts = np.flatnonzero(np.diff(group[order])) + 1
    parts = np.split(order, cuts)
    values: list[NDArray[np.float64]] = []
    lines: list[Timeline | None] = []
    for one, rows in zip(names, parts, strict=True):
        if times is None:
            values.append(numbers[rows])
            lines.append(None)
        else:
            line, places = _grid(times[rows], one)
            laid = np.full(int(places[-1]) + 1, np.nan)
            laid[places] = numbers[rows]
            if gaps := len(laid) - len(rows):
                first = line.at(np.flatnonzero(np.diff(places) > 1)[:1] + 1)[0]
                notes.append(f"series {one}: {gaps} time{'s are' if gaps > 1 else ' is'} missing, the first {first}")
            values.append(laid)
            lines.append(line)
    return Table(tuple(names), tuple(values), tuple(lines), tuple(notes))


def _numbers(column: Any, name: str, label: str) -> NDArray[np.float64]:
    """A column as float64, NaN where a cell is empty."""
    import pyarrow
    from pyarrow import compute, types

    if types.is_null(column.type):
        raise SightlineError(
            f"the column {label!r} of {name} is empty", "Name another with --value (train, compare: --field)"
        )
    if not (types.is_integer(column.type) or types.is_floating(column.type) or types.is_decimal(column.type)):
        first = next((str(one) for one in column.to_pylist() if one is not None and not _is_number(one)), "")
        raise SightlineError(
            f"the column {label!r} of {name} holds {first!r}, which is no number",
            "Correct the cell, or name another column with --value (train, compare: --field)",
        )
    filled = compute.fill_null(compute.cast(column, pyarrow.float64()), np.nan)
    return np.asarray(filled.to_numpy(), dtype=np.float64)


def _is_number(cell: Any) -> bool:
    try:
        float(cell)
    except (TypeError, ValueError):
        return False
    return not isinstance(cell, bool)


def _groups(column: Any, name: str, label: str) -> tuple[list[str], NDArray[np.int64]]:
    """Names in the order in which they first stand, and for each row the number of its series."""
    if column.null_count:
        raise SightlineError(f"{column.null_count} rows of {name} have no {label}", "Name their series")
    coded = column.combine_chunks().dictionary_encode()
    return [str(one) for one in coded.dictionary.to_pylist()], coded.indices.to_numpy().astype(np.int64)


def _times(column: Any, name: str, label: str) -> NDArray[Any]:
    """A column as NumPy times or numbers."""
    from pyarrow import types

    if column.null_count:
        raise SightlineError(f"{column.null_count} rows of {name} have no {label}", "Fill the column, or --time ''")
    if types.is_string(column.type) or types.is_large_string(column.type):
        texts = column.to_pylist()
        try:
            return np.array(texts, dtype="datetime64")
        except ValueError as error:
            raise SightlineError(
                f"the column {label!r} of {name} holds {texts[0]!r}, which is no time",
                "Write times as 2024-01-31 or 2024-01-31 13:00, or take the rows as they stand with --time ''",
            ) from error
    times = np.asarray(column.to_numpy())
    if times.dtype.kind not in "iufM":
        raise SightlineError(f"the column {label!r} of {name} holds no times", "Name another, or --time ''")
    return times


def _grid(times: NDArray[Any], name: str) -> tuple[Timeline, NDArray[np.int64]]:
    """The even grid that ascending times lie on, and the place of each."""
    if len(times) == 1:
        return Timeline(times[0], np.timedelta64(1, "D") if times.dtype.kind == "M" else 1), np.zeros(1, np.int64)
    steps = np.diff(times)
    zero = steps[0] - steps[0]
    if bool((steps == zero).any()):
        twice = times[1:][steps == zero][0]
        raise SightlineError(f"series {name} has two values at {twice}", "Keep one of them, or name the ids with --id")
    calendar = times.dtype.kind == "M" and np.datetime_data(times.dtype)[0] not in ("Y", "M")
    line, places = _even(times, steps)
    if calendar and steps.min() >= np.timedelta64(28, "D"):
        months = times.astype("datetime64[M]")
        found, monthly = (
            _even(months, np.diff(months)) if bool((np.diff(months).astype(int) > 0).all()) else (line, None)
        )
        for end in (False, True):
            offset = times - _edge(months, end)
            if monthly is not None and bool((offset == offset[0]).all()):
                return Timeline(found.start, found.step, offset[0], end), monthly
    if places is None:
        odd = int(np.flatnonzero(steps % steps.min() != zero)[0]) if times.dtype.kind != "f" else 0
        raise SightlineError(
            f"series {name} is not evenly spaced: after {times[odd]} comes {times[odd + 1]}, elsewhere the step is "
            f"{line.step}",
            "Give values at even times, or take the rows as they stand with --time ''",
        )
    return line, places


def _even(times: NDArray[Any], steps: NDArray[Any]) -> tuple[Timeline, NDArray[np.int64] | None]:
    """The grid of the smallest step, and the places on it; None where they lie between."""
    step = steps.min()
    places = (times - times[0]) / step
    whole = np.rint(places).astype(np.int64)
    fits = bool((np.abs(places - whole) < 1e-6 * np.maximum(1, whole)).all())
    return Timeline(times[0], step), whole if fits else None


@dataclass(frozen=True, eq=False)
class Windows:
    """Rows of ``length`` numbers: every stretch of every series, one step apart; a shorter series fills part of a row.

    Parameters
    ----------
    values : of each series, without gaps. length : numbers of a row.
    """

    values: tuple[NDArray[np.float64], ...]
    length: int

    @cached_property
    def _first(self) -> NDArray[np.int64]:
        """The number of the first window of each series, and their count at the end."""
        return np.cumsum([0, *(max(1, len(one) - self.length + 1) for one in self.values)])

    @property
    def count(self) -> int:
        """Windows there are."""
        return int(self._first[-1])

    def rows(self, numbers: NDArray[np.int64], visits: NDArray[np.int64]) -> Rows:
        """The rows of these numbers."""
        series = np.searchsorted(self._first, numbers, side="right") - 1
        parts = [
            self.values[one][at : at + self.length]
            for one, at in zip(series, numbers - self._first[series], strict=True)
        ]
        return number_rows(parts, self.length, numbers=numbers, visits=visits, origins=series)


def number_rows(
    parts: Sequence[NDArray[np.float64]],
    length: int,
    *,
    asked: int | None = None,
    numbers: NDArray[np.int64] | None = None,
    visits: NDArray[np.int64] | None = None,
    origins: NDArray[np.int64] | None = None,
) -> Rows:
    """One stretch of numbers a row, filled up at the right with nothing.

    Parameters
    ----------
    asked : how many numbers at the end of each are wanted; None: all.
    numbers, visits : what draws are keyed by. origins : the series of each.
    """
    values = np.full((len(parts), length), np.nan)
    place = np.arange(length)
    sizes = np.array([len(part) for part in parts])[:, None]
    for line, part in zip(values, parts, strict=True):
        line[: len(part)] = part
    real = place < sizes
    wanted = real if asked is None else real & (place >= sizes - asked)
    which = np.arange(len(parts)) if numbers is None else numbers
    return Rows(
        tokens=values,  # numbers instead of ids
        documents=np.where(real, 0, -1).astype(np.int32),
        numbers=which,
        visits=np.zeros(len(parts), np.int64) if visits is None else visits,
        word_starts=real,
        origins=np.where(real, (np.arange(len(parts)) if origins is None else origins)[:, None], -1),
        wanted=wanted,
    )
