"""Seeds and items as random effects: what another seed, and other items, would have changed.

    y[seed, item] = mean + of the seed + of the item + rest           each drawn anew, crossed

    variance of the mean over S seeds and n items  =  seeds / S  +  items / n  +  rest / (S n)

More items make the second and third term small, but never the first: three seeds stay three seeds. The terms are told
apart by mean squares, as in an analysis of variance without repeats (Searle, Casella and McCulloch, Variance
Components, 1992), and the interval is Student's with Satterthwaite's degrees of freedom (1946). Why seeds belong in:
Dodge et al., Fine-tuning pretrained language models: weight initializations, data orders, and early stopping (2020).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from .bootstrap import LEVEL, Interval
from .significance import POWER

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Effect:
    """A mean, or a difference of two, with what it varies by.

    Parameters
    ----------
    interval : 95%, over seeds and items both; without ends where nothing can be said about either.
    error : standard error. degrees : of freedom. p : of no difference (of a mean of zero), two-sided.
    seeds : standard deviation between seeds, for each side; None where a side has one seed. items : between items.
    """

    interval: Interval
    error: float
    degrees: float
    p: float
    seeds: tuple[float | None, ...]
    items: float

    @property
    def detectable(self) -> float | None:
        """The smallest mean or difference that this many seeds and items find with power 0.8."""
        if not self.error > 0:
            return None
        return float(stats.t.ppf((1 + LEVEL) / 2, self.degrees) + stats.t.ppf(POWER, self.degrees)) * self.error


def mean_effect(values: Any) -> Effect:
    """The mean of values [seeds, items]."""
    return _effect([_lines(values)])


def difference_effect(first: Any, second: Any) -> Effect:
    """The mean of the first [seeds, items] minus that of the second [its seeds, the same items].

    Items are shared by the two sides, seeds are not. A side with one seed adds nothing for seeds: the interval is then
    about that one run.

    Raises
    ------
    ValueError : the two sides were not measured on the same number of items.
    """
    one, two = _lines(first), _lines(second)
    if one.shape[1] != two.shape[1]:
        raise ValueError(f"a paired comparison needs the same items: {one.shape[1]} and {two.shape[1]}")
    return _effect([one, two])


def as_means(top: Any, bottom: Any) -> Floats:
    """Values [seeds, items] whose mean is, for each seed, ``sum(top) / sum(bottom)``, to first order in both.

    Where every bottom is 1 they are the tops. Else each item has its part in the ratio (Cochran, Sampling Techniques,
    1977): what it is above its share, in units of the mean bottom.
    """
    tops = _lines(top)
    bottoms = np.broadcast_to(_lines(bottom), tops.shape)
    ratios = tops.sum(1, keepdims=True) / bottoms.sum(1, keepdims=True)
    found: Floats = ratios + (tops - ratios * bottoms) / bottoms.mean(1, keepdims=True)
    return found


def _lines(values: Any) -> Floats:
    lines = np.atleast_2d(np.asarray(values, np.float64))
    if lines.ndim != 2 or not lines.size:
        raise ValueError("nothing was measured")
    return lines


def _effect(sides: list[Floats]) -> Effect:
    """Of the first side, less the second if there is one."""
    count = sides[0].shape[1]
    by_item = sides[0].mean(0) - (sides[1].mean(0) if len(sides) > 1 else 0.0)
    value = float(by_item.mean())
    if count < 2:
        return Effect(Interval(value, None, None), math.nan, 0.0, 1.0, (None,) * len(sides), 0.0)
    of_items = float(by_item.var(ddof=1)) / count  # the rest, averaged over seeds, is in it already
    variance, parts = of_items, [(of_items, count - 1)]
    between: list[float | None] = []
    for side in sides:
        seeds = len(side)
        if seeds < 2:
            between.append(None)
            continue
        means = side.mean(1)
        of_seeds = float(means.var(ddof=1)) / seeds
        rest = side - means[:, None] - side.mean(0) + side.mean()
        of_rest = float((rest**2).sum()) / ((seeds - 1) * (count - 1)) / (seeds * count)  # counted with both
        own = max(0.0, of_seeds - of_rest)
        between.append(math.sqrt(own * seeds))
        variance += own
        parts += [(of_seeds, seeds - 1), (of_rest, (seeds - 1) * (count - 1))] if own else []
    deviation = math.sqrt(of_items * count)
    if variance == 0:
        return Effect(Interval(value, value, value), 0.0, math.inf, float(value == 0), tuple(between), deviation)
    degrees = variance**2 / sum(part**2 / free for part, free in parts)
    error = math.sqrt(variance)
    reach = float(stats.t.ppf((1 + LEVEL) / 2, degrees)) * error
    p = 2 * float(stats.t.sf(abs(value) / error, degrees))
    return Effect(Interval(value, value - reach, value + reach), error, degrees, p, tuple(between), deviation)
