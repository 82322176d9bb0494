"""An autoregression as a stack: its states are the last p numbers each slot may see, its head a normal distribution.

    p(x_t | the k numbers seen last) = N(x_t; c_k + phi_k . numbers, s2_k)        k = p, fewer where a series begins

Every order from 0 to p is fitted, all to the same equations, so that the first p numbers of a series are answered too,
and the product over a series is a density. One law for all series: whoever wants one for each fits ``AR``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from torch import Tensor, nn

from ..errors import SightlineError
from ..progress import Bar
from ..sight import NO_DOCUMENT, Depth
from .autoregression import Fitted
from .cache import Cache
from .head import Graded
from .history import histories
from .look import Look


class Linear(nn.Module):
    """Regressions on the last 0 to p numbers.

    Parameters
    ----------
    p : numbers looked back at, 1 or more.
    """

    coefficients: Tensor  # [p + 1, p + 1]: for each number of lags the constant, then phi, the nearest lag first
    variances: Tensor  # [p + 1]; 0 before the fit

    def __init__(self, p: int) -> None:
        super().__init__()
        if p < 1:
            raise SightlineError(f"an autoregression on {p} numbers looks at nothing", "Use 1 or more")
        self.p = p
        self.register_buffer("coefficients", torch.zeros(p + 1, p + 1, dtype=torch.float64))
        self.register_buffer("variances", torch.zeros(p + 1, dtype=torch.float64))

    @property
    def depth(self) -> Depth:
        """One look, in which each slot also reads its own number."""
        return Depth(1, keeps_input=True)

    @property
    def width(self) -> int:
        """Width of the states: p numbers, and how many of them were seen."""
        return self.p + 1

    def fit(self, numbers: NDArray[Any], offsets: NDArray[Any] | None = None, progress: Bar | None = None) -> None:
        """Least squares over all series at once; no equation spans two.

        Parameters
        ----------
        numbers : [N], series after series. offsets : where series start (an end mark is allowed); None: one series.
        progress : advanced by 1 when done.

        Raises
        ------
        SightlineError : missing numbers, too few of them, or numbers that never change.
        """
        values = np.asarray(numbers, dtype=np.float64)
        if not bool(np.isfinite(values).all()):
            raise SightlineError(f"{int((~np.isfinite(values)).sum())} numbers are missing or infinite", "Fill them")
        starts = [] if offsets is None else [int(at) for at in offsets if 0 < at < len(values)]
        parts = [one for one in np.split(values, starts) if len(one) > self.p]
        equations = sum(len(one) - self.p for one in parts)
        if equations < self.p + 2:
            raise SightlineError(
                f"{equations} stretches of {self.p + 1} numbers are too few for p = {self.p}",
                f"Give at least {self.p + 2}, or use fewer lags",
            )
        windows: NDArray[np.float64] = np.concatenate([sliding_window_view(one, self.p + 1)[:, ::-1] for one in parts])
        if not bool((windows[:, 0] != windows[0, 0]).any()):
            raise SightlineError(f"every number is {windows[0, 0]:g}: nothing moves", "Leave constant series out")
        columns = np.roll(windows, -1, axis=1)  # lags 1 to p, then the number itself
        means = columns.mean(0)
        factor: NDArray[np.float64] = np.asarray(np.linalg.qr(columns - means, mode="r"))
        left = np.cumsum((factor[:, -1] ** 2)[::-1])[::-1]
        for k in range(self.p + 1):
            phi = np.linalg.lstsq(factor[:k, :k], factor[:k, -1], rcond=1e-12)[0] if k else np.zeros(0)
            self.coefficients[k, 0] = float(means[-1] - phi @ means[:k])
            self.coefficients[k, 1 : 1 + k] = torch.from_numpy(phi)
        squares = np.maximum(left, left[0] * np.finfo(np.float64).eps ** 2)
        self.variances.copy_(torch.from_numpy(squares / equations))
        if progress is not None:
            progress.advance(1)

    def fitted(self, names: Sequence[str]) -> Fitted:
        """The law of p lags, which all series share, for each of these; without last values yet (``Fitted.apply``)."""
        count, p = len(names), self.p
        whole: NDArray[np.float64] = self.coefficients[p].numpy()
        phi, variance = np.tile(whole[1:], (count, 1)), np.full(count, float(self.variances[p]))
        orders, equations = np.full(count, p), np.zeros(count, np.int64)
        return Fitted("ols", names, orders, np.full(count, whole[0]), phi, variance, equations, np.zeros((count, p)))

    def forward(self, look: Look, cache: Cache | None = None, taps: list[Tensor] | None = None) -> Tensor:
        """States [lines, slots, p + 1]: numbers seen, the latest last, 0 where there are fewer; then how many."""
        shown = look if cache is None else cache.seen_with(look)
        readable = (shown.document != NO_DOCUMENT) & ~torch.isnan(shown.tokens.double())
        seen = histories(look, replace(shown, tokens=shown.tokens.double()), self.p, readable, float("nan"))
        there = ~torch.isnan(seen)
        states = torch.cat([seen.nan_to_num(0.0), there.sum(-1, keepdim=True)], dim=-1)
        if taps is not None:
            taps.extend([states, states])
        if cache is not None:
            cache.look = shown
        return states

    def law(self, states: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation [...] of what comes after the numbers seen: states [..., p + 1]."""
        if not bool(self.variances.any()):
            raise SightlineError("the regression was not fitted yet", "Fit it to numbers first")
        order = states[..., -1].long()
        weights = self.coefficients[order]
        mean = weights[..., 0] + (weights[..., 1:] * states[..., :-1].flip(-1)).sum(-1)
        return mean, self.variances[order].sqrt()


class LinearHead(nn.Module):
    """From states to nats of the number that came: a density, so nats may be negative. Nothing is learned here."""

    def __init__(self, stack: Linear) -> None:
        super().__init__()
        self.stack = stack

    def forward(self, states: Tensor, answers: Tensor, weights: Tensor) -> Graded:
        """Grades of answers [N] given states [N, p + 1]; an answer of weight 0 has 0 nats."""
        mean, deviation = self.stack.law(states)
        nats = -torch.distributions.Normal(mean, deviation).log_prob(answers.double())  # type: ignore[no-untyped-call]
        nats = torch.where(weights > 0, nats, 0.0)
        return Graded((nats * weights).sum(), nats, torch.zeros_like(nats))
