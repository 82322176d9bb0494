"""A score: a number with its unit, its class, its column, its interval, and the rule by which it came about."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .bootstrap import DRAWS, Interval, difference, ratio, wilson


@dataclass(frozen=True)
class Score:
    """One cell of a table.

    Parameters
    ----------
    name, value, unit : what, how much, of what; ``value`` is None where it was not measured, and ``note`` says why.
    class_ : exact, bound, nar, pseudo, discriminative, density; ``task`` for what is no likelihood.
    column : scores are ranked within a column and a class only.
    context_rule : what was seen when it was asked.
    low, high : 95% interval, None where there is none. n : documents, passages or questions behind it.
    """

    name: str
    value: float | None
    unit: str
    class_: str
    column: str
    context_rule: str = ""
    low: float | None = None
    high: float | None = None
    n: int = 0
    note: str = ""

    def __str__(self) -> str:
        if self.value is None:
            return f"{self.name}: not measured ({self.note})"
        bound = "<= " if self.class_ == "bound" else ""
        interval = "" if self.low is None or self.high is None else f" [{self.low:.3f}, {self.high:.3f}]"
        return (
            f"{self.name}: {bound}{self.value:.3f}{interval} {self.unit} ({self.class_}, {self.column}, n = {self.n})"
        )

    def record(self) -> dict[str, Any]:
        """The score as plain JSON."""
        return {
            "name": self.name,
            "value": self.value,
            "unit": self.unit,
            "class": self.class_,
            "column": self.column,
            "low": self.low,
            "high": self.high,
            "n": self.n,
            "context_rule": self.context_rule,
            "note": self.note,
        }


@dataclass(frozen=True)
class Measured:
    """What one model got on each document (or passage, or question): the score is ``sum(top) / sum(bottom)``.

    Kept per document so that seeds can be joined, intervals drawn and families compared in pairs.

    Parameters
    ----------
    top, bottom : [documents]; bits and bytes, or right answers and ones.
    missing : why nothing was measured; empty where it was.
    """

    name: str
    unit: str
    class_: str
    column: str
    top: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))
    bottom: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))
    context_rule: str = ""
    note: str = ""
    missing: str = ""

    @classmethod
    def none(cls, name: str, unit: str, class_: str, column: str, why: str) -> Measured:
        """A cell that stays empty, with the reason."""
        return cls(name, unit, class_, column, missing=why)

    @property
    def value(self) -> float | None:
        """The ratio of sums, without an interval."""
        return None if self.missing else float(self.top.sum() / self.bottom.sum())

    def only(self, documents: NDArray[Any]) -> Measured:
        """The same for some of the documents."""
        return replace(self, top=self.top[documents], bottom=self.bottom[documents])


def scored(runs: Sequence[Measured], seed: int = 0, draws: int = DRAWS) -> Score:
    """The score of one family from its runs, one for each seed, all on the same documents.

    The interval is drawn over documents, over seeds then documents where there are several; a single run's right and
    wrong answers get Wilson's interval.
    """
    first = runs[0]
    measured = [run for run in runs if not run.missing]
    if not measured:
        return Score(first.name, None, first.unit, first.class_, first.column, note=first.missing)
    tops = np.stack([run.top for run in measured])
    bottoms = np.stack([run.bottom for run in measured])
    yes_or_no = len(measured) == 1 and bool(np.isin(tops, (0, 1)).all() and (bottoms == 1).all())
    found = wilson(int(tops.sum()), tops.shape[1]) if yes_or_no else ratio(tops, bottoms, seed, draws)
    note = first.note if len(measured) == 1 else _joined(first.note, f"mean of {len(measured)} seeds")
    return Score(
        name=first.name,
        value=found.value,
        unit=first.unit,
        class_=first.class_,
        column=first.column,
        context_rule=first.context_rule,
        low=found.low,
        high=found.high,
        n=tops.shape[1],
        note=note,
    )


def compared(
    runs: Sequence[Measured], others: Sequence[Measured], seed: int = 0, draws: int = DRAWS
) -> Interval | None:
    """The first family's score minus the second's, paired by document; None where they may not be compared.

    Only scores of one name, class and column are comparable; a pseudo score is comparable with nothing but pseudo.
    """
    here = [run for run in runs if not run.missing]
    there = [run for run in others if not run.missing]
    if not here or not there:
        return None
    one, two = here[0], there[0]
    if (one.name, one.class_, one.column) != (two.name, two.class_, two.column) or len(one.top) != len(two.top):
        return None
    return difference(
        np.stack([run.top for run in here]),
        np.stack([run.bottom for run in here]),
        np.stack([run.top for run in there]),
        np.stack([run.bottom for run in there]),
        seed,
        draws,
    )


def _joined(*parts: str) -> str:
    return "; ".join(part for part in parts if part)
