"""Autoregressions fitted in closed form, thousands of series in one batched solve. NumPy only.

    x_t = c + phi_1 x_{t-1} + ... + phi_p x_{t-p} + e_t        e_t ~ N(0, s2)

    lagged products  G[j, k] = sum_t x_{t-j} x_{t-k}           P + 1 dot products of a series give all of them, since
                     G[j+1, k+1] = G[j, k] + h_j h_k - e_j e_k one step back adds a value in front and drops the last
    triangle         R'R = G, the constant taken out           lags first, x_t last: the last column holds every order
    order p          phi = R[:p, :p]^-1 R[:p, -1]              squares left over = sum of R[p:, -1]^2

Where the triangle's pivots tell that squaring has cost too many digits, the series is factored again from its lags
themselves (Householder QR). Yule-Walker is solved by Levinson and Durbin, Burg's method by his own recursion; both are
stationary always, least squares need not be.

Brockwell and Davis, Introduction to Time Series and Forecasting (2016); Burg, Maximum Entropy Spectral Analysis (1975).

Shapes: S series, N values of the longest, p lags, h steps ahead.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from statistics import NormalDist
from typing import Any, Literal, get_args

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from ..errors import SightlineError
from .series import Floats, Ints, Missing, Series, SeriesError

Method = Literal["ols", "yule-walker", "yule-walker-adjusted", "burg"]
Criterion = Literal["aic", "bic", "hqic"]
Variance = Literal["fit", "recent"]

PIVOT = 1e-6  # of the variance: below it, squared lags keep fewer than about 9 digits


@dataclass(frozen=True)
class AR:
    """An autoregression to be fitted: ``AR(p=4).fit(y).predict(12)``.

    Parameters
    ----------
    p : lags, 0 or more; or the criterion by which each series chooses its own.
    method : ``ols`` (conditional least squares), ``yule-walker`` (covariances divided by N), ``yule-walker-adjusted``
        (by N - k), ``burg``.
    most : the largest order that a criterion may choose; 0: 10 log10 N, at most a quarter of the values.
    missing : ``error``, or ``drop`` the equations in which a value is missing (least squares only).
    """

    p: int | Criterion = "bic"
    method: Method = "ols"
    most: int = 0
    missing: Missing = "error"

    def __post_init__(self) -> None:
        for name, value, known in (
            ("method", self.method, get_args(Method)),
            ("missing", self.missing, get_args(Missing)),
        ):
            if value not in known:
                raise SightlineError(f"{name} cannot be {value!r}", f"Choose from {', '.join(known)}")
        if isinstance(self.p, str):
            if self.p not in get_args(Criterion):
                raise SightlineError(
                    f"p cannot be {self.p!r}", f"Give a number of lags, or one of {', '.join(get_args(Criterion))}"
                )
        elif self.p < 0:
            raise SightlineError(f"an order of {self.p} lags means nothing", "Use 0 (the mean alone) or more")
        if self.most < 0:
            raise SightlineError(f"a largest order of {self.most} means nothing", "Use 1 or more, or 0 for the default")
        if self.missing == "drop" and self.method != "ols":
            raise SightlineError(f"{self.method} needs every value", "Fill the gaps, or use the method ols")

    def fit(self, y: Any, names: Sequence[str] | None = None) -> Fitted:
        """Fit every series at once.

        Parameters
        ----------
        y : one series [N]; many of one length [S, N]; a sequence of series; or a mapping from names to series.
        names : of the series, for errors.

        Raises
        ------
        SightlineError : a series is too short, constant, not finite, or has missing values; it is named.
        """
        series = Series.of(y, names)
        series.check(self.missing)
        if isinstance(self.p, int):
            return _fitted(series, np.full(series.count, self.p), self)
        return _fitted(series, self.chosen(series), self)

    def chosen(self, series: Series) -> Ints:
        """The order [S] of each series by the criterion ``p``: all orders of a series on one common sample."""
        assert isinstance(self.p, str)
        most = self.most or np.maximum(1, np.minimum(10 * np.log10(series.lengths), series.lengths / 4)).astype(int)
        tops = np.broadcast_to(np.minimum(most, np.maximum(series.lengths // 2 - 1, 0)), series.lengths.shape)
        orders = np.zeros(series.count, dtype=np.int64)
        for top in np.unique(tops):
            at = np.flatnonzero(tops == top)
            values = criteria(series.take(at), int(top))[self.p]
            orders[at] = values.argmin(1)
        return orders


def criteria(series: Series, most: int) -> dict[Criterion, Floats]:
    """AIC, BIC and HQIC [S, most + 1] of the orders 0 to ``most``, each fitted to the same N - ``most`` equations.

    With n equations and k coefficients, the constant included: -2 log likelihood + penalty * (k + 1), for the variance
    is estimated too; the penalty is 2, ln n or 2 ln ln n. Criteria of different samples cannot be compared.
    """
    triangle = _triangle(series, most)
    left = np.cumsum((triangle.factor[:, :, -1] ** 2)[:, ::-1], axis=1)[:, ::-1]
    n = triangle.equations[:, None].astype(np.float64)
    return _criteria(_at_least(left, left[:, :1]) / n, n, np.arange(most + 1) + 2)


def _criteria(variance: Any, n: Any, parameters: Any) -> dict[Criterion, Floats]:
    lack = n * (np.log(2 * np.pi * variance) + 1)
    return {
        "aic": lack + 2 * parameters,
        "bic": lack + np.log(n) * parameters,
        "hqic": lack + 2 * np.log(np.log(n)) * parameters,
    }


def _at_least(squares: Floats, whole: Floats) -> Floats:
    """Squares left over, no smaller than rounding makes them: a series without noise has a variance of nearly 0."""
    return np.asarray(np.maximum(squares, whole * np.finfo(np.float64).eps ** 2 + np.finfo(np.float64).tiny))


@dataclass(frozen=True, eq=False)
class _Triangle:
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


def _triangle(series: Series, lags: int) -> _Triangle:
    """The triangle of every series; equations begin behind ``lags`` values."""
    series.need(2 * lags + 2, lags)
    found = [_squared(some, lags) for some in series.parts()]
    factor, means, sound = found[0] if len(found) == 1 else (np.concatenate(each) for each in zip(*found, strict=True))
    whole = _Triangle(factor, means, series.lengths - lags, bool(sound.all()))
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


def _solved(triangle: _Triangle) -> Floats:
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
class _Solved:
    """What was found for series of one order; see ``Fitted``."""

    phi: Floats
    constant: Floats
    variance: Floats
    equations: Ints
    triangle: _Triangle | None = None


def _solved_at(series: Series, p: int, method: Method) -> _Solved:
    """All series at one order, in one batch."""
    if method == "ols":
        triangle = _triangle(series, p)
        phi, last = _solved(triangle), triangle.factor[:, :, -1]
        variance = _at_least(last[:, -1] ** 2, np.vecdot(last, last)) / triangle.equations
        constant = triangle.means[:, -1] - np.vecdot(phi, triangle.means[:, :-1])
        return _Solved(phi, constant, variance, triangle.equations, triangle)
    series.need(p + 2, p)
    if method == "burg":
        phi, variance = burg(series, p)
        equations = series.lengths - p
    else:
        phi, variance = levinson(covariances(series, p, method == "yule-walker-adjusted"))
        equations = series.lengths
    return _Solved(phi, series.values.sum(1) / series.lengths * (1 - phi.sum(1)), variance, equations)


def _fitted(series: Series, orders: Ints, spec: AR) -> Fitted:
    """Each series at its order; those of one order in one batch."""
    most = int(orders.max())
    groups = {int(p): np.flatnonzero(orders == p) for p in (np.unique(orders) if len(orders) > 1 else orders)}
    parts = [(at, _solved_at(series.take(at), p, spec.method)) for p, at in groups.items()]
    if len(parts) == 1:
        whole = parts[0][1]
    else:
        constant, variance = np.empty(series.count), np.empty(series.count)
        whole = _Solved(np.zeros((series.count, most)), constant, variance, np.empty(series.count, np.int64))
        for at, one in parts:
            whole.phi[at, : one.phi.shape[1]] = one.phi
            whole.constant[at], whole.variance[at], whole.equations[at] = one.constant, one.variance, one.equations
    recent = series.values[:, series.values.shape[1] - most :].copy()
    triangles = tuple((at, one.triangle) for at, one in parts if one.triangle is not None)
    return Fitted(
        spec.method, series.names, orders, whole.constant, whole.phi, whole.variance, whole.equations, recent, triangles
    )


@dataclass(frozen=True, eq=False)
class Fitted:
    """Autoregressions of S series.

    Parameters
    ----------
    method, names : how they were fitted, and to what.
    orders : [S]. constant : [S]. phi : [S, P], the nearest lag first, 0 beyond a series' own order.
    variance : [S] of what cannot be foreseen a step ahead: squares left over, divided by the equations.
    equations : [S] behind the estimate; N - p for least squares and Burg, N for Yule-Walker.
    recent : [S, P], the last values; forecasts start from them.
    """

    method: Method
    names: Sequence[str]
    orders: Ints
    constant: Floats
    phi: Floats
    variance: Floats
    equations: Ints
    recent: Floats
    triangles: tuple[tuple[Ints, _Triangle], ...] = ()

    @property
    def criteria(self) -> dict[Criterion, Floats]:
        """AIC, BIC and HQIC [S] of the fit itself: comparable between fits to the same equations only."""
        return _criteria(self.variance, self.equations, self.orders + 2)

    @cached_property
    def errors(self) -> Floats:
        """Standard errors [S, 1 + P] of the constant and phi, from s2 (X'X)^-1; NaN but for a fit by least squares."""
        found = np.full((len(self.orders), 1 + self.phi.shape[1]), np.nan)
        for at, triangle in self.triangles:
            p = triangle.factor.shape[1] - 1
            inverse = np.linalg.inv(triangle.factor[:, :p, :p])
            spread = (inverse**2).sum(2)
            shift = (np.matmul(triangle.means[:, None, :p], inverse)[:, 0] ** 2).sum(1)
            found[at, 0] = 1 / triangle.equations + shift
            found[at, 1 : 1 + p] = spread
            found[at] = np.sqrt(found[at] * self.variance[at, None])
        return found

    @property
    def reach(self) -> Floats:
        """The largest modulus [S] of the roots of z^p - phi_1 z^(p-1) - ...: below 1 the series is stationary."""
        p = self.phi.shape[1]
        if not p:
            return np.zeros(len(self.phi))
        companion = np.zeros((len(self.phi), p, p))
        companion[:, 0] = self.phi
        companion[:, np.arange(1, p), np.arange(p - 1)] = 1
        return np.asarray(np.abs(np.linalg.eigvals(companion)).max(1))

    @property
    def stationary(self) -> NDArray[np.bool_]:
        """Whether [S] the effect of a shock dies out."""
        return self.reach < 1

    def predict(self, horizon: int) -> Forecast:
        """The next ``horizon`` values: each forecast stands in for the value that is not known yet.

        The variance h steps ahead is s2 (psi_0^2 + ... + psi_{h-1}^2), with psi_0 = 1 and psi_j = sum_k phi_k
        psi_{j-k}; that the coefficients were estimated is not counted.

        Raises
        ------
        SightlineError : no step is asked for, or one of the last p values is missing.
        """
        if horizon < 1:
            raise SightlineError(f"a horizon of {horizon} steps asks for nothing", "Use 1 or more")
        count, p = self.phi.shape
        used = np.arange(p)[::-1] < self.orders[:, None]
        lost = (np.isnan(self.recent) & used).any(1)
        if bool(lost.any()):
            first = int(np.flatnonzero(lost)[0])
            raise SeriesError(
                f"series {self.names[first]} ends in missing values: one of its last {self.orders[first]} is not there",
                "Fill them: a forecast starts from the last values",
                (self.names[int(number)] for number in np.flatnonzero(lost)),
            )
        backwards = self.phi[:, ::-1]
        values, psi = np.zeros((count, p + horizon)), np.zeros((count, p + horizon))
        values[:, :p] = np.where(used, self.recent, 0.0)
        psi[:, p] = 1
        for step in range(horizon):
            values[:, p + step] = self.constant + np.vecdot(backwards, values[:, step : p + step])
            if step:
                psi[:, p + step] = np.vecdot(backwards, psi[:, step : p + step])
        deviation = np.sqrt(self.variance[:, None] * np.cumsum(psi[:, p:] ** 2, axis=1))
        return Forecast(self.names, values[:, p:], deviation)

    def take(self, at: Ints) -> Fitted:
        """Some of the series, each as often as it is named."""
        return Fitted(
            self.method, [self.names[int(number)] for number in at], self.orders[at], self.constant[at], self.phi[at],
            self.variance[at], self.equations[at], self.recent[at],
        )  # fmt: skip

    def rescaled(self, shift: Floats, scale: Floats) -> Fitted:
        """The same law of ``shift + scale * x``, both [S]."""
        constant = scale * self.constant + shift * (1 - self.phi.sum(1))
        recent = shift[:, None] + scale[:, None] * self.recent
        return replace(self, constant=constant, variance=scale**2 * self.variance, recent=recent, triangles=())

    def apply(self, y: Any, variance: Variance = "fit") -> Fitted:
        """The same coefficients on another stretch of each series, from whose end forecasts start then.

        Parameters
        ----------
        y : one stretch for each series, in their order, or by name; otherwise as in ``AR.fit``.
        variance : that of the ``fit``; or, where series grow calmer or wilder, of the ``recent`` stretch: squares left
            over there, divided by its N - p equations, as statsmodels' ``apply`` has it. Missing values cost the
            equations that they stand in.

        Raises
        ------
        SightlineError : stretches are not those of the series, too short for p, or infinite.
        """
        if variance not in get_args(Variance):
            raise SightlineError(
                f"the variance cannot be that of {variance!r}", f"Choose from {', '.join(get_args(Variance))}"
            )
        if isinstance(y, Mapping):
            if strangers := set(map(str, self.names)) ^ set(y):
                raise SightlineError(
                    f"series {sorted(strangers)[0]} is not both fitted and given", "Give one stretch for each series"
                )
            y = [y[name] for name in self.names]
        try:
            series = Series.of(y, self.names)
        except SightlineError as error:
            raise SightlineError(error.what, f"Give one stretch for each of {len(self.orders)} series") from error
        series.finite()
        series.need(self.orders + (variance == "recent"), self.orders)
        p, width = self.phi.shape[1], series.values.shape[1]
        front = np.zeros((series.count, p))
        here = replace(self, recent=np.concatenate([front, series.values], axis=1)[:, width:])
        if variance == "fit":
            return here
        left = series.values - replace(here, recent=front).follow(series.values).mean
        first = width - series.lengths + self.orders
        real = (np.arange(width) >= first[:, None]) & np.isfinite(left)
        equations = real.sum(1)
        if not bool(equations.all()):
            none = int(np.flatnonzero(equations == 0)[0])
            raise SeriesError(
                f"series {series.names[none]} has no stretch of {self.orders[none] + 1} values without a gap",
                'Give a longer one, or keep the variance of the fit (variance="fit")',
                (series.names[int(number)] for number in np.flatnonzero(equations == 0)),
            )
        squares = np.where(real, left, 0.0) ** 2
        return replace(here, variance=squares.sum(1) / equations, equations=equations, triangles=())

    def follow(self, values: Floats) -> Forecast:
        """Forecasts one step ahead of each of ``values`` [S, h], which continue the series, from all before it."""
        p, steps = self.phi.shape[1], values.shape[1]
        whole = np.concatenate([self.recent, values], axis=1)
        mean = np.repeat(self.constant[:, None], steps, axis=1)
        for lag in range(1, p + 1):
            at = self.orders >= lag  # what a series does not look at may be missing there
            mean[at] += self.phi[at, lag - 1, None] * whole[at, p - lag : p - lag + steps]
        return Forecast(self.names, mean, np.broadcast_to(np.sqrt(self.variance)[:, None], mean.shape))


@dataclass(frozen=True, eq=False)
class Forecast:
    """Normal distributions of values to come: mean and standard deviation, [S, h] each."""

    names: Sequence[str]
    mean: Floats
    deviation: Floats

    @property
    def middle(self) -> Floats:
        """The mean, which is the median too."""
        return self.mean

    def interval(self, level: float) -> tuple[Floats, Floats]:
        """Lower and upper ends [S, h] of the interval that holds ``level`` percent, between 0 and 100."""
        if not 0 < level < 100:
            raise SightlineError(f"an interval of {level}% is none", "Use a level between 0 and 100, as in 95")
        z = NormalDist().inv_cdf(0.5 + level / 200)
        return self.mean - z * self.deviation, self.mean + z * self.deviation

    def nats(self, values: Floats) -> Floats:
        """-log density [S, h] of the values that came; may be negative, for a density may be above 1."""
        z = (values - self.mean) / self.deviation
        return np.asarray(0.5 * z * z + np.log(self.deviation) + 0.5 * np.log(2 * np.pi))
