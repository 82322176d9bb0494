"""How good forecasts are: of the middle (MASE, sMAPE), of the whole distribution (CRPS), and of intervals.

    MASE   mean |y - f| / mean |y_t - y_{t-m}| of the past     1: as good as saying what was m steps ago
    sMAPE  mean 200 |y - f| / (|y| + |f|)                      in percent, as in the M4 competition
    CRPS   integral of (F(x) - [x >= y])^2 dx                  in the units of y; |y - f| where F is a single point

Hyndman and Koehler (2006); Makridakis et al., The M4 Competition (2020); Gneiting and Raftery, Strictly Proper Scoring
Rules (2007). Shapes: S series, h steps.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import special

Floats = NDArray[np.float64]


def naive_scale(past: Any, season: int = 1) -> float:
    """The mean |y_t - y_{t-season}| of a past, missing values left out: the unit of MASE. NaN where there is none.

    Parameters
    ----------
    past : [N].
    """
    past = np.asarray(past, dtype=np.float64)
    steps = np.abs(past[season:] - past[:-season])
    steps = steps[np.isfinite(steps)]
    scale = float(steps.mean()) if len(steps) else float("nan")
    return scale or float("nan")  # a past that repeats itself gives no unit


def mase(values: Any, middle: Any, scale: Any) -> Floats:
    """MASE [S] of forecasts [S, h] of values [S, h], by the scales [S] of each past (``naive_scale``)."""
    return np.asarray(np.abs(np.asarray(values) - middle).mean(-1) / scale)


def smape(values: Any, middle: Any) -> Floats:
    """sMAPE [S] in percent; two zeros count as right."""
    values, middle = np.asarray(values, dtype=np.float64), np.asarray(middle, dtype=np.float64)
    both = np.abs(values) + np.abs(middle)
    return np.asarray((200 * np.abs(values - middle) / np.where(both > 0, both, 1)).mean(-1))


def crps_normal(values: Any, mean: Any, deviation: Any) -> Floats:
    """CRPS [S, h] of normal distributions, in closed form."""
    z = (np.asarray(values) - mean) / deviation
    density = np.exp(-0.5 * z * z) / np.sqrt(2 * np.pi)
    return np.asarray(deviation * (z * (2 * special.ndtr(z) - 1) + 2 * density - 1 / np.sqrt(np.pi)))


def crps_samples(values: Any, samples: Any) -> Floats:
    """CRPS [S, h] of an ensemble [paths, S, h]: mean |x - y| - half the mean |x - x'| of two different paths."""
    ordered = np.sort(np.asarray(samples), axis=0)
    count = len(ordered)
    rank = (2 * np.arange(1, count + 1) - count - 1).reshape(-1, *[1] * (ordered.ndim - 1))
    apart = (rank * ordered).sum(0) / (count * (count - 1))
    return np.asarray(np.abs(ordered - values).mean(0) - apart)


def coverage(values: Any, low: Any, high: Any) -> Floats:
    """The share [S] of values [S, h] within an interval."""
    values = np.asarray(values)
    return np.asarray(((values >= low) & (values <= high)).mean(-1))
