"""Autoregressions fitted in closed form, thousands of series in one batched solve. NumPy only.

    x_t = c + phi_1 x_{t-1} + ... + phi_p x_{t-p} + e_t        e_t ~ N(0, s2)

The closed forms are in ``solving.py``.

Brockwell and Davis, Introduction to Time Series and Forecasting (2016).

Shapes: S series, N values of the longest, p lags, h steps ahead.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from statistics import NormalDist
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from ..errors import SightlineError
from .series import Floats, Ints, Missing, Series, SeriesError
from .solving import Method, Solved, Triangle, at_least, solved_at, triangle_of

Criterion = Literal["aic", "bic", "hqic"]
Variance = Literal["fit", "recent"]


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
    triangle = triangle_of(series, most)
    left = np.cumsum((triangle.factor[:, :, -1] ** 2)[:, ::-1], axis=1)[:, ::-1]
    n = triangle.equations[:, None].astype(np.float64)
    return _criteria(at_least(left, left[:, :1]) / n, n, np.arange(most + 1) + 2)


def _criteria(variance: Any, n: Any, parameters: Any) -> dict[Criterion, Floats]:
    lack = n * (np.log(2 * np.pi * variance) + 1)
    return {
        "aic": lack + 2 * parameters,
        "bic": lack + np.log(n) * parameters,
        "hqic": lack + 2 * np.log(np.log(n)) * parameters,
    }


def _fitted(series: Series, orders: Ints, spec: AR) -> Fitted:
    """Each series at its order; those of one order in one batch."""
    most = int(orders.max())
    groups = {int(p): np.flatnonzero(orders == p) for p in (np.unique(orders) if len(orders) > 1 else orders)}
    parts = [(at, solved_at(series.take(at), p, spec.method)) for p, at in groups.items()]
    if len(parts) == 1:
        whole = parts[0][1]
    else:
        constant, variance = np.empty(series.count), np.empty(series.count)
        whole = Solved(np.zeros((series.count, most)), constant, variance, np.empty(series.count, np.int64))
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
    triangles: tuple[tuple[Ints, Triangle], ...] = ()

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
