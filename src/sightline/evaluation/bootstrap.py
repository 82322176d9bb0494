"""Intervals: documents are drawn again with replacement, and where there are several seeds, seeds first.

    value = mean over seeds of  sum(top) / sum(bottom)      nats over bytes, right answers over questions, ...

Two families measured on the same documents are compared on the same draws of documents, which removes what is hard or
easy about a document for both. Efron and Tibshirani, An Introduction to the Bootstrap (1993).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

DRAWS = 2000
AT_ONCE = 4_000_000  # counts held in memory at once
LEVEL = 0.95


@dataclass(frozen=True)
class Interval:
    """A value with its 95% interval; None at both ends where there are too few documents to draw from."""

    value: float
    low: float | None
    high: float | None

    @property
    def excludes_zero(self) -> bool:
        """Whether the sign of the value is decided."""
        return self.low is not None and self.high is not None and (self.low > 0 or self.high < 0)


def ratio(top: Any, bottom: Any, seed: int = 0, draws: int = DRAWS) -> Interval:
    """The ratio of sums with its interval.

    Parameters
    ----------
    top, bottom : [documents], or [seeds, documents].
    seed, draws : of the bootstrap.
    """
    tops, bottoms = _lines(top, bottom)
    value = float(_ratios(tops.sum(1), bottoms.sum(1)).mean())
    if tops.shape[1] < 2:
        return Interval(value, None, None)
    generator = np.random.default_rng(seed)
    drawn = [_drawn(tops, bottoms, counts, generator) for counts in _counts(tops.shape[1], draws, generator)]
    return Interval(value, *_ends(np.concatenate(drawn)))


def difference(top: Any, bottom: Any, other_top: Any, other_bottom: Any, seed: int = 0, draws: int = DRAWS) -> Interval:
    """The first ratio minus the second, on the same draws of documents; each side draws its own seeds.

    Raises
    ------
    ValueError : the two sides were not measured on the same number of documents.
    """
    return tested(top, bottom, other_top, other_bottom, seed, draws)[0]


def tested(
    top: Any, bottom: Any, other_top: Any, other_bottom: Any, seed: int = 0, draws: int = DRAWS
) -> tuple[Interval, float]:
    """As ``difference``, and a two-sided p: twice the share of draws that lie on the other side of zero.

    The observed one counts among the draws, so that p is never 0 (Davison and Hinkley, Bootstrap Methods, 1997).
    """
    tops, bottoms = _lines(top, bottom)
    others, other_bottoms = _lines(other_top, other_bottom)
    if tops.shape[1] != others.shape[1]:
        raise ValueError(f"a paired comparison needs the same documents: {tops.shape[1]} and {others.shape[1]}")
    value = float(_ratios(tops.sum(1), bottoms.sum(1)).mean() - _ratios(others.sum(1), other_bottoms.sum(1)).mean())
    if tops.shape[1] < 2:
        return Interval(value, None, None), 1.0
    generator = np.random.default_rng(seed)
    drawn = np.concatenate(
        [
            _drawn(tops, bottoms, counts, generator) - _drawn(others, other_bottoms, counts, generator)
            for counts in _counts(tops.shape[1], draws, generator)
        ]
    )
    beyond = min(int((drawn <= 0).sum()), int((drawn >= 0).sum()))
    return Interval(value, *_ends(drawn)), min(1.0, 2 * (beyond + 1) / (draws + 1))


def wilson(right: int, asked: int) -> Interval:
    """The share of right answers with Wilson's score interval (1927), which stays sound near 0 and 1."""
    if asked == 0:
        return Interval(0.0, None, None)
    z = 1.959963984540054
    share = right / asked
    middle = (share + z * z / (2 * asked)) / (1 + z * z / asked)
    half = z / (1 + z * z / asked) * math.sqrt(share * (1 - share) / asked + z * z / (4 * asked * asked))
    return Interval(share, max(0.0, middle - half), min(1.0, middle + half))


def _lines(top: Any, bottom: Any) -> tuple[Floats, Floats]:
    tops = np.atleast_2d(np.asarray(top, dtype=np.float64))
    bottoms = np.broadcast_to(np.atleast_2d(np.asarray(bottom, dtype=np.float64)), tops.shape)
    if tops.shape[1] == 0 or not bool((bottoms.sum(1) > 0).all()):
        raise ValueError("nothing was measured")
    return tops, bottoms


def _ratios(tops: Floats, bottoms: Floats) -> Floats:
    return np.divide(tops, bottoms, out=np.zeros_like(tops), where=bottoms > 0)


def _counts(documents: int, draws: int, generator: np.random.Generator) -> Iterator[Floats]:
    """How often each document is drawn, [draws, documents], in parts that fit in memory."""
    at_once = max(1, AT_ONCE // documents)
    even = np.full(documents, 1 / documents)
    for start in range(0, draws, at_once):
        yield generator.multinomial(documents, even, size=min(at_once, draws - start)).astype(np.float64)


def _drawn(tops: Floats, bottoms: Floats, counts: Floats, generator: np.random.Generator) -> Floats:
    """One value for each draw of documents; with several seeds, each draw takes seeds with replacement."""
    values = _ratios(counts @ tops.T, counts @ bottoms.T)
    seeds = values.shape[1]
    if seeds == 1:
        return values[:, 0]
    chosen = generator.integers(seeds, size=(len(values), seeds))
    means: Floats = np.take_along_axis(values, chosen, axis=1).mean(1)
    return means


def _ends(values: Floats) -> tuple[float, float]:
    low, high = np.quantile(values, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)
