"""The coefficients of autoregressions in closed form, thousands of series in one batched solve. NumPy only.

    lagged products  G[j, k] = sum_t x_{t-j} x_{t-k}           P + 1 dot products of a series give all of them, since
                     G[j+1, k+1] = G[j, k] + h_j h_k - e_j e_k one step back adds a value in front and drops the last
    triangle         R'R = G, the constant taken out           lags first, x_t last: the last column holds every order
    order p          phi = R[:p, :p]^-1 R[:p, -1]              squares left over = sum of R[p:, -1]^2

Where the triangle's pivots tell that squaring has cost too many digits, the series is factored again from its lags
themselves (Householder QR). Yule-Walker is solved by Levinson and Durbin, Burg's method by his own recursion; both are
stationary always, least squares need not be.

Burg, Maximum Entropy Spectral Analysis (1975); Levinson (1947) and Durbin (1960).

Shapes: S series, N values of the longest, p lags.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from .series import Floats, Ints, Series, SeriesError

Method = Literal["ols", "yule-walker", "yule-walker-adjusted", "burg"]

PIVOT = 1e-6  # of the variance: below it, squared lags keep fewer than about 9 digits


def at_least(squares: Floats, whole: Floats) -> Floats:
    """Squares left over, no smaller than rounding makes them: a series without noise has a variance of nearly 0."""
    return np.asarray(np.maximum(squares, whole * np.finfo(np.float64).eps ** 2 + np.finfo(np.float64).tiny))


@dataclass(frozen=True, eq=False)
class Triangle:
    """``factor`` [S, P + 1, P + 1]: R of lags 1 to P, then the value itself, the constant taken out.

    means [S, P + 1] of the same columns; equations [S]; whether all come from squares that kept their digits.
    """

    factor: Floats
    means: Floats
    equations: Ints
    sound: bool


@lru_cache(maxsize=64)
def _places(lags: int) -> tuple[Ints, Ints]:
    """Where G[j, k], in the order lags 1 to P, then 0, stands in a table by (smaller lag, distance)."""
    lag = np.roll(np.arange(lags + 1), -1)
    return np.minimum(lag[:, None], lag), np.abs(lag[:, None] - lag)


def triangle_of(series: Series, lags: int) -> Triangle:
    """The triangle of every series; equations begin behind ``lags`` values."""
    series.need(2 * lags + 2, lags)
    found = [_squared(some, lags) for some in series.parts()]
    factor, means, sound = found[0] if len(found) == 1 else (np.concatenate(each) for each in zip(*found, strict=True))
    whole = Triangle(factor, means, series.lengths - lags, bool(sound.all()))
    if not whole.sound:
        for number in np.flatnonzero(~sound):
            factor[number], means[number], whole.equations[number] = _factored(series.one(number), lags)
        few = ~sound & (whole.equations < lags + 2)
        if few.any():
            first = int(few.argmax())
            raise SeriesError(
                f"series {series.names[first]} has {whole.equations[first]} stretches of {lags + 1} values without a "
                f"gap: too few for p = {lags} ({lags + 2} are needed)",
                "Use fewer lags, or fill the gaps",
                (series.names[int(number)] for number in np.flatnonzero(few)),
            )
    return whole


def _squared(series: Series, lags: int) -> tuple[Floats, Floats, NDArray[np.bool_]]:
    """The triangle from lagged products, and for which series it is sound.

    All products of lags come from those with lag 0 and from the first and last values of each series.
    """
    count, width = series.values.shape
    n = (series.lengths - lags)[:, None]
    if series.even:
        centre = series.values.sum(1, keepdims=True) / width
        x = series.values - centre
        head = x[:, :lags][:, ::-1]
        answers = x[:, lags:]
    else:
        first = width - series.lengths[:, None]
        centre = series.values.sum(1, keepdims=True) / series.lengths[:, None]
        x = np.where(np.arange(width) >= first, series.values - centre, 0.0)
        head = np.take_along_axis(x, first + np.arange(lags)[::-1], axis=1)
        answers = np.where(np.arange(lags, width) >= first + lags, x[:, lags:], 0.0)
    tail = x[:, width - lags :][:, ::-1]
    size = x.itemsize
    behind = np.ndarray(  # [S, lag, equation]: made by hand, since NumPy's window functions take longer than the sums
        (count, lags + 1, width - lags), buffer=x, offset=lags * size, strides=(x.strides[0], -size, size)
    )
    table = np.empty((count, lags + 1, lags + 1))  # by (smaller lag, distance)
    table[:, 0] = np.vecdot(behind, answers[:, None])
    if lags:
        edge = np.zeros((2, count, 2 * lags))
        edge[0, :, :lags], edge[1, :, :lags] = head, tail
        shifted = np.ndarray((2, count, lags, lags + 1), buffer=edge, strides=(*edge.strides, size))
        came, went = edge[:, :, :lags, None] * shifted
        table[:, 1:] = table[:, :1] + (came - went).cumsum(1)
    smaller, distance = _places(lags)
    products = table[:, smaller, distance]
    sums = np.empty((count, lags + 1))
    sums[:, -1] = answers.sum(1)
    sums[:, :-1] = sums[:, -1:] + (head - tail).cumsum(1)
    means = sums / n
    products -= sums[:, :, None] * means[:, None, :]
    factor, whole = _rooted(products)
    pivots = factor.diagonal(axis1=1, axis2=2) ** 2
    sound = whole & (pivots.min(1) >= PIVOT * products.diagonal(axis1=1, axis2=2).max(1))
    return np.asarray(factor), np.asarray(means + centre), np.asarray(sound)


def _rooted(products: Floats) -> tuple[Floats, NDArray[np.bool_]]:
    """Upper Cholesky factors [S, k, k], and which of them exist."""
    whole = np.isfinite(products[:, 0, 0])
    try:
        lower = np.linalg.cholesky(products)
    except np.linalg.LinAlgError:  # some are not positive definite: the others are found one by one
        lower = np.zeros_like(products)
        for number, one in enumerate(products):
            try:
                lower[number] = np.linalg.cholesky(one)
            except np.linalg.LinAlgError:
                whole[number] = False
    return np.asarray(lower.swapaxes(1, 2)), np.asarray(whole)


def _factored(values: Floats, lags: int) -> tuple[Floats, Floats, int]:
    """The triangle of one series from its lags themselves; equations with a missing value are left out."""
    windows = sliding_window_view(values, lags + 1)[:, ::-1]
    columns = np.roll(windows[np.isfinite(windows).all(1)], -1, axis=1)
    means = columns.mean(0) if len(columns) else np.zeros(lags + 1)
    factor = np.zeros((lags + 1, lags + 1))
    if len(columns):
        found = np.linalg.qr(columns - means, mode="r")
        factor[: len(found)] = found
    return factor, means, len(columns)


def _solved(triangle: Triangle) -> Floats:
    """phi [S, p] from triangles of p lags; where lags determine each other, the shortest of all solutions."""
    factor = triangle.factor
    lags = factor.shape[1] - 1
    if not lags:
        return np.zeros((len(factor), 0))
    left, right = factor[:, :-1, :-1], factor[:, :-1, -1:]
    if triangle.sound:
        return np.asarray(np.linalg.solve(left, right)[..., 0])
    pivots = np.abs(left.diagonal(axis1=1, axis2=2))
    dependent = pivots.min(1) <= pivots.max(1) * lags * 1e-14
    phi = np.empty((len(factor), lags))
    phi[~dependent] = np.linalg.solve(left[~dependent], right[~dependent])[..., 0]
    for number in np.flatnonzero(dependent):
        phi[number] = np.linalg.lstsq(left[number], right[number, :, 0], rcond=lags * 1e-14)[0]
    return phi


def covariances(series: Series, lags: int, adjusted: bool = False) -> Floats:
    """Autocovariances [S, lags + 1], divided by N, or by N - k if ``adjusted``."""
    found = []
    for some in series.parts():
        x = _centred(some)
        found.append(np.stack([np.vecdot(x[:, k:], x[:, : x.shape[1] - k]) for k in range(lags + 1)], axis=1))
    return np.asarray(np.concatenate(found) / (series.lengths[:, None] - (np.arange(lags + 1) if adjusted else 0)))


def _centred(series: Series) -> Floats:
    """Values minus their mean; 0 before a series begins."""
    real = np.arange(series.values.shape[1]) >= series.values.shape[1] - series.lengths[:, None]
    mean = series.values.sum(1, keepdims=True) / series.lengths[:, None]
    return np.where(real, series.values - mean, 0.0)


def levinson(gamma: Floats) -> tuple[Floats, Floats]:
    """phi [S, p] and the variance [S] of the Yule-Walker equations, from autocovariances [S, p + 1].

    Levinson (1947) and Durbin (1960): p steps of p operations, instead of solving p equations.
    """
    count, lags = gamma.shape[0], gamma.shape[1] - 1
    phi, variance = np.zeros((count, 0)), gamma[:, 0].copy()
    for lag in range(1, lags + 1):
        k = (gamma[:, lag] - np.vecdot(phi, gamma[:, lag - 1 : 0 : -1])) / variance
        phi = np.concatenate([phi - k[:, None] * phi[:, ::-1], k[:, None]], axis=1)
        variance = variance * (1 - k * k)
    return phi, variance


def burg(series: Series, lags: int) -> tuple[Floats, Floats]:
    """phi [S, p] and the variance [S] by Burg's method: errors forwards and backwards are made small together."""
    found = [_burg(some, lags) for some in series.parts()]
    return np.concatenate([phi for phi, _ in found]), np.concatenate([variance for _, variance in found])


def _burg(series: Series, lags: int) -> tuple[Floats, Floats]:
    forward = _centred(series)
    backward = forward.copy()
    first = forward.shape[1] - series.lengths
    phi = np.zeros((series.count, 0))
    for lag in range(lags):
        forward[np.arange(series.count), first + lag] = 0.0  # has no value so many steps before it
        ahead, behind = forward[:, 1:], backward[:, :-1]
        k = 2 * np.vecdot(ahead, behind) / (np.vecdot(ahead, ahead) + np.vecdot(behind, behind))
        phi = np.concatenate([phi - k[:, None] * phi[:, ::-1], k[:, None]], axis=1)
        errors = ahead - k[:, None] * behind, behind - k[:, None] * ahead
        forward, backward = (np.pad(one, ((0, 0), (1, 0))) for one in errors)
    squares = np.vecdot(forward, forward) + np.vecdot(backward, backward)
    return phi, squares / (2 * (series.lengths - lags))


@dataclass(frozen=True, eq=False)
class Solved:
    """What was found for series of one order; see ``Fitted``."""

    phi: Floats
    constant: Floats
    variance: Floats
    equations: Ints
    triangle: Triangle | None = None


def solved_at(series: Series, p: int, method: Method) -> Solved:
    """All series at one order, in one batch."""
    if method == "ols":
        triangle = triangle_of(series, p)
        phi, last = _solved(triangle), triangle.factor[:, :, -1]
        variance = at_least(last[:, -1] ** 2, np.vecdot(last, last)) / triangle.equations
        constant = triangle.means[:, -1] - np.vecdot(phi, triangle.means[:, :-1])
        return Solved(phi, constant, variance, triangle.equations, triangle)
    series.need(p + 2, p)
    if method == "burg":
        phi, variance = burg(series, p)
        equations = series.lengths - p
    else:
        phi, variance = levinson(covariances(series, p, method == "yule-walker-adjusted"))
        equations = series.lengths
    return Solved(phi, series.values.sum(1) / series.lengths * (1 - phi.sum(1)), variance, equations)
