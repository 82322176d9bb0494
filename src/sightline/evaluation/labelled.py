"""How well labels are told: figures of each task with intervals over items, and over seeds then items.

accuracy, exact match, spans' F1   ratios of sums over items (``Measured``)
macro F1, Matthews, Pearson, Spearman   figures of a whole set, worked out anew on each draw of items

Matthews, Comparison of the predicted and observed secondary structure of T4 phage lysozyme (1975), is CoLA's figure.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from .bootstrap import LEVEL
from .score import Measured, Score

DRAWS = 1000
Figure = Callable[[NDArray[np.float64], NDArray[np.float64]], float]


def measured(name: str, right: Sequence[float], asked: Sequence[float] | None = None, note: str = "") -> Measured:
    """A figure that is a ratio of sums over items."""
    top = np.asarray(right, np.float64)
    return Measured(
        name,
        name,
        "task",
        "understanding",
        top,
        np.ones(len(top)) if asked is None else np.asarray(asked, np.float64),
        note=note,
    )


def whole_score(
    name: str, figure: Figure, gold: NDArray[np.float64], told: NDArray[np.float64], seed: int = 0
) -> Score:
    """A figure of a whole set: its mean over seeds, and 95% over draws of seeds and of items.

    Parameters
    ----------
    gold : [items]. told : [seeds, items]. figure : from gold and told [items] to a number.
    """
    values = [figure(gold, one) for one in told]
    draws, drawn = np.random.default_rng(seed), []
    for _ in range(DRAWS if len(gold) > 1 else 0):
        items = draws.integers(len(gold), size=len(gold))
        seeds = draws.integers(len(told), size=len(told))
        drawn.append(float(np.mean([figure(gold[items], told[at][items]) for at in seeds])))
    low, high = np.quantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2]).tolist() if drawn else (None, None)
    note = f"mean of {len(told)} seeds" if len(told) > 1 else ""
    value = float(np.mean(values))
    return Score(name, value, name, "task", "understanding", low=low, high=high, n=len(gold), note=note)


def macro_f1(gold: NDArray[np.float64], told: NDArray[np.float64]) -> float:
    """The mean over gold's classes, numbers from 0 up, of their F1."""
    table = _table(gold, told)
    there = table.sum(1) > 0
    right, sums = np.diag(table)[there], (table.sum(0) + table.sum(1))[there]
    return float((2 * right / sums).mean())


def matthews(gold: NDArray[np.float64], told: NDArray[np.float64]) -> float:
    """The correlation of classes told with true ones (Gorodkin's, 2004, where there are more than two); 0: none."""
    table = _table(gold, told)
    n, true, guessed = table.sum(), table.sum(1), table.sum(0)
    above = n * np.trace(table) - true @ guessed
    below = np.sqrt(float(n * n - true @ true) * float(n * n - guessed @ guessed))
    return float(above / below) if below else 0.0


def pearson(gold: NDArray[np.float64], told: NDArray[np.float64]) -> float:
    """The linear correlation; 0 where either does not vary."""
    one, two = gold - gold.mean(), told - told.mean()
    below = np.sqrt(float(one @ one) * float(two @ two))
    return float(one @ two / below) if below else 0.0


def spearman(gold: NDArray[np.float64], told: NDArray[np.float64]) -> float:
    """The correlation of ranks."""
    return pearson(rankdata(gold), rankdata(told))


def _table(gold: NDArray[np.float64], told: NDArray[np.float64]) -> NDArray[np.float64]:
    count = int(max(gold.max(), told.max())) + 1
    cells = np.bincount((gold * count + told).astype(np.int64), minlength=count * count)
    return cells.reshape(count, count).astype(np.float64)
