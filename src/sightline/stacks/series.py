"""Series of numbers of any lengths, laid to end together, and what no model of them can be fitted to. NumPy only.

a     .  .  3  1  4            shapes: S series, N values of the longest
b     2  7  1  8  2            errors name the series: too short, constant, infinite, or with missing values
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ..errors import SightlineError

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Missing = Literal["error", "drop"]

AT_ONCE = 1 << 20  # values of a batch worked on together: 8 MiB
NAMED = 3  # series that an error names


@dataclass(frozen=True, eq=False)
class Series:
    """Series of any lengths, laid to end together.

    Parameters
    ----------
    values : [S, N]; before the first value of a series stands 0. lengths : [S]. names : [S].
    """

    values: Floats
    lengths: Ints
    names: Sequence[str]

    @classmethod
    def of(cls, y: Any, names: Sequence[str] | None = None) -> Series:
        """From one series, a matrix, a sequence of series or a mapping."""
        if isinstance(y, Series):
            return y
        if isinstance(y, Mapping):
            y, names = list(y.values()), [str(name) for name in y]
        ragged = isinstance(y, list | tuple) and len({np.size(one) for one in y}) > 1
        if ragged:
            rows = [np.asarray(one, dtype=np.float64).ravel() for one in y]
            lengths = np.array([len(row) for row in rows])
            values = np.zeros((len(rows), int(lengths.max())))
            for line, row in zip(values, rows, strict=True):
                line[len(line) - len(row) :] = row
        else:
            values = np.asarray(y, dtype=np.float64)
            values = values[None] if values.ndim == 1 else values
            if values.ndim != 2 or not values.size:
                raise SightlineError(
                    f"an array of shape {np.shape(y)} is neither a series nor a set of series", "Give [N] or [S, N]"
                )
            lengths = np.full(len(values), values.shape[1])
        if names is not None and len(names) != len(values):
            raise SightlineError(f"{len(values)} series have {len(names)} names", "Give one name for each series")
        return cls(values, lengths, names if names is not None else _Numbered(len(values)))

    @property
    def count(self) -> int:
        """S."""
        return len(self.values)

    @cached_property
    def even(self) -> bool:
        """Whether all are of one length."""
        return bool((self.lengths == self.values.shape[1]).all())

    def take(self, at: Ints) -> Series:
        """Some of the series."""
        if len(at) == self.count:
            return self
        longest = int(self.lengths[at].max())
        return Series(self.values[at, -longest:], self.lengths[at], [self.names[number] for number in at])

    def parts(self) -> Iterator[Series]:
        """Parts of a size that memory close to the processor holds."""
        step = max(1, AT_ONCE // max(1, self.values.shape[1]))
        if step >= self.count:
            yield self
            return
        for start in range(0, self.count, step):
            part = slice(start, start + step)
            yield Series(self.values[part], self.lengths[part], self.names[part])

    def one(self, number: Any) -> Floats:
        """The values of one series."""
        return self.values[number, self.values.shape[1] - self.lengths[number] :]

    def check(self, missing: Missing) -> None:
        """Refuse what no autoregression can be fitted to: missing values, infinite ones, series that never move."""
        self.need(2, 0)
        finite = np.isfinite(self.values)
        if not bool(finite.all()):
            self.finite()
            if missing == "error":
                lost = np.isnan(self.values)
                at = lost.any(1)
                first = int(np.flatnonzero(at)[0])
                where = int(np.flatnonzero(np.isnan(self.one(first)))[0])
                count = int(lost[first].sum())
                told = f"{count} missing value{'s' if count > 1 else ''} in {self.lengths[first]}"
                self._refuse(
                    at,
                    f"<has> missing values ({self.names[first]}: {told}, the first at position {where})",
                    'Fill them, or drop the equations they stand in (missing="drop", --missing drop)',
                )
        ends = self.values[:, -1:]
        if missing == "drop" and not bool(finite.all()):
            ends = np.take_along_axis(self.values, finite.argmax(1)[:, None], 1)
        moves = ((self.values != ends) & finite).any(1)
        if not self.even:  # before the first value stands 0, which is no value
            moves = np.array([_moves(self.one(number)) for number in range(self.count)])
        if not bool(moves.all()):
            first = int(np.flatnonzero(~moves)[0])
            self._refuse(
                ~moves,
                f"<is> constant ({self.names[first]}: every value is {self.values[first, -1]:g})",
                "Leave it out: a series that never moves is forecast by its value",
            )

    def finite(self) -> None:
        """Refuse infinite values; missing ones may be there."""
        self._refuse(
            np.isinf(self.values).any(1), "<has> infinite values", "Correct them, or mark them as missing (NaN)"
        )

    def need(self, lengths: Any, orders: Any) -> None:
        """Refuse series that are shorter than ``lengths`` [S]."""
        short = self.lengths < lengths
        if bool(short.any()):
            first = int(np.flatnonzero(short)[0])
            p, least = np.broadcast_to(orders, short.shape)[first], np.broadcast_to(lengths, short.shape)[first]
            self._refuse(
                short,
                f"<is> too short for p = {p} ({self.names[first]}: {self.lengths[first]} values; {least} are needed)",
                "Use fewer lags, or leave it out",
            )

    def _refuse(self, bad: Any, what: str, do: str) -> None:
        numbers: list[int] = np.flatnonzero(bad).tolist()
        if not numbers:
            return
        named = ", ".join(str(self.names[number]) for number in numbers[:NAMED])
        more = f" and {len(numbers) - NAMED} more" if len(numbers) > NAMED else ""
        has, is_ = ("have", "are") if len(numbers) > 1 else ("has", "is")
        told = what.replace("<has>", has).replace("<is>", is_)
        raise SeriesError(f"series {named}{more} {told}", do, (self.names[number] for number in numbers))


class SeriesError(SightlineError):
    """Series that cannot be fitted.

    Parameters
    ----------
    what, do : as in ``SightlineError``. names : of these series.
    """

    def __init__(self, what: str, do: str, names: Iterable[str]) -> None:
        super().__init__(what, do)
        self.names = tuple(names)


class _Numbered(Sequence[str]):
    """The names of series that have none: their numbers, made only when an error asks."""

    def __init__(self, count: int, first: int = 0) -> None:
        self._count, self._first = count, first

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, at: Any) -> Any:
        if isinstance(at, slice):
            return _Numbered(len(range(*at.indices(self._count))), self._first + at.indices(self._count)[0])
        return str(self._first + int(at))


def _moves(values: Floats) -> bool:
    there = values[np.isfinite(values)]
    return bool((there != there[:1]).any())
