"""A regression for each of many series, held as a stack: the coefficients of ``AR`` under the names of the series.

    series a   x_t = c_a + phi_a1 x_{t-1} + phi_a2 x_{t-2} + e_t         each in its own units, at its own order
    series b   x_t = c_b + phi_b1 x_{t-1} + e_t

A look at rows does not tell which series they are of, so that nothing is asked slot by slot: ``fitted`` forecasts.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from ..errors import SightlineError
from ..sight import Depth
from .autoregression import Fitted

_HELD = ("orders", "constant", "phi", "variance", "equations", "recent")  # fields of ``Fitted`` that are arrays


class Regressions(nn.Module):
    """Autoregressions of S series; see ``Fitted`` for the shapes.

    Parameters
    ----------
    fitted : what they are.
    """

    repeats: ClassVar[bool] = False  # one solve tells all
    orders: Tensor  # [S]
    phi: Tensor  # [S, p]

    def __init__(self, fitted: Fitted) -> None:
        super().__init__()
        self.method, self.names = fitted.method, tuple(fitted.names)
        for name in _HELD:
            self.register_buffer(name, torch.tensor(getattr(fitted, name)))  # a copy: none shares memory

    @classmethod
    def hollow(cls, method: Any, names: Sequence[str], p: int) -> Regressions:
        """Of these series with up to p lags, for coefficients that are loaded."""
        count = len(names)
        whole, table = np.zeros(count, np.int64), np.zeros((count, p))
        return cls(Fitted(method, names, whole, np.zeros(count), table, np.zeros(count), whole, table))

    @property
    def fitted(self) -> Fitted:
        """The autoregressions, which forecast."""
        return Fitted(self.method, self.names, *(getattr(self, name).numpy() for name in _HELD))

    @property
    def p(self) -> int:
        """Lags of the longest."""
        return int(self.phi.shape[1])

    @property
    def coefficients(self) -> int:
        """Constants, lags and variances, of all series."""
        return int((self.orders + 2).sum())

    @property
    def depth(self) -> Depth:
        """One look, in which each slot also reads its own number."""
        return Depth(1, keeps_input=True)

    def forward(self, *look: Any) -> Tensor:
        """Rows do not name their series.

        Raises
        ------
        SightlineError : always.
        """
        raise SightlineError(
            f"one law for each of {len(self.names)} series answers no rows, which do not name theirs",
            "Forecast with model.stack.fitted, or with `sightline forecast SERIES --model FOLDER`",
        )
