"""What a family foresees of pieces of series: densities of each number, and forecasts of the whole piece.

past | values of the piece        nats of each value from all before it; the piece from its past alone
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from ..data.series import number_rows
from ..errors import SightlineError
from ..objectives.model import Model
from ..progress import bar
from ..stacks.autoregression import Fitted, Forecast
from ..stacks.cache import Cache
from ..stacks.series import Floats, Series
from .forecast import crps_normal, crps_samples

PATHS = 50  # sampled for each forecast of a neural model that is measured
MANY = 200  # for each that a user asks for: intervals need more than medians do


@dataclass(frozen=True, eq=False)
class Block:
    """One piece of a test part: ``past`` and the ``values`` to foresee, both normalised; ``scale`` is MASE's unit."""

    series: int
    past: NDArray[np.float64]
    values: NDArray[np.float64]
    scale: float


@dataclass(frozen=True, eq=False)
class Foreseen:
    """What a family makes of every block.

    Parameters
    ----------
    nats : [blocks, h], of each number from all before it. middle, crps : [drawn, h] of the blocks ``drawn``.
    """

    nats: NDArray[np.float64]
    middle: NDArray[np.float64]
    crps: NDArray[np.float64]


def foreseen_by_regressions(fitted: Fitted, blocks: Sequence[Block], drawn: NDArray[np.int64]) -> Foreseen:
    """In closed form: each block from its own past."""
    series = np.array([block.series for block in blocks])
    last = max(1, fitted.phi.shape[1])  # that a forecast starts from
    values = np.stack([block.values for block in blocks])
    here = fitted.take(series).apply([block.past[-last:] for block in blocks])
    ahead = here.predict(values.shape[1])
    mean, deviation = ahead.mean[drawn], ahead.deviation[drawn]
    return Foreseen(here.follow(values).nats(values), mean, crps_normal(values[drawn], mean, deviation))


def foreseen_by_model(model: Model, blocks: Sequence[Block], drawn: NDArray[np.int64], seed: int) -> Foreseen:
    """By a neural model: nats in one pass for each block, forecasts as sampled paths."""
    horizon, room = len(blocks[0].values), model.context
    nats = []
    for start in range(0, len(blocks), 64):
        some = blocks[start : start + 64]
        parts = [np.concatenate([block.past, block.values])[-room:] for block in some]
        rows = number_rows(parts, room, asked=horizon)
        for view in model.objective.examine(rows):
            found = model.grade(view, rows.tokens).nats.cpu().numpy()
            weights = view.answer_weights() > 0
            nats += [line[real] for line, real in zip(found, weights, strict=True)]
    paths = sampled(model, [blocks[number].past for number in drawn], horizon, seed)
    values = np.stack([blocks[number].values for number in drawn])
    return Foreseen(np.stack(nats), np.median(paths, axis=0), crps_samples(values, paths))


def sampled(
    model: Model, pasts: Sequence[NDArray[np.float64]], horizon: int, seed: int, count: int = PATHS
) -> NDArray[np.float64]:
    """Sampled continuations [paths, S, h] of pasts, each number drawn after those before it; states are kept."""
    found = np.empty((count, len(pasts), horizon))
    with torch.no_grad(), torch.random.fork_rng(devices=[]), bar("forecasts", len(pasts), "series") as shown:
        torch.manual_seed(seed)
        for number, past in enumerate(pasts):
            lines, cache = past[None, -(model.context - horizon) :], Cache()
            for step in range(horizon):
                view = model.objective.read(number_rows(list(lines), lines.shape[1]))
                states = model.states(view.tail(cache.count), lines, cache)[:, -1]
                if not step:  # what stands before is read once, for all paths
                    cache.lines(torch.zeros(count, dtype=torch.long))
                    lines, states = np.tile(lines, (count, 1)), states.expand(count, -1)
                drawn = model.head.distribution(states).sample().cpu().numpy()  # type: ignore[operator]
                found[:, number, step] = drawn
                lines = np.concatenate([lines, drawn[:, None]], axis=1)
            shown.advance(1)
    return found


@dataclass(frozen=True, eq=False)
class Paths:
    """Forecasts as sampled paths [paths, S, h]."""

    names: Sequence[str]
    samples: Floats

    @property
    def middle(self) -> Floats:
        """The median [S, h]."""
        return np.asarray(np.median(self.samples, axis=0))

    def interval(self, level: float) -> tuple[Floats, Floats]:
        """Lower and upper ends [S, h] of the interval that holds ``level`` percent of the paths."""
        if not 0 < level < 100:
            raise SightlineError(f"an interval of {level}% is none", "Use a level between 0 and 100, as in 95")
        low, high = np.quantile(self.samples, [0.5 - level / 200, 0.5 + level / 200], axis=0)
        return low, high

    def crps(self, values: Floats) -> Floats:
        """CRPS [S, h] of the values that came."""
        return crps_samples(values, self.samples)


@dataclass(frozen=True, eq=False)
class Neural:
    """A neural model of numbers at the end of series, each taken minus its own mean and over its own deviation.

    Parameters
    ----------
    model : of all series. series : to go on from. seed : of the paths.
    """

    model: Model
    series: Series
    seed: int = 0

    def predict(self, horizon: int) -> Paths:
        """The next ``horizon`` values of each series, in the units of the series.

        Raises
        ------
        SightlineError : more steps than the model's rows leave room for.
        """
        if horizon >= self.model.context:
            raise SightlineError(
                f"a horizon of {horizon} leaves no past in rows of {self.model.context} numbers",
                f"Use --horizon {self.model.context - 1} or less",
            )
        rows = [self.series.one(number) for number in range(self.series.count)]
        mean, deviation = (np.array([part(row) for row in rows])[:, None] for part in (np.mean, np.std))
        scaled = [(row - mean[number]) / deviation[number] for number, row in enumerate(rows)]
        paths = sampled(self.model, scaled, horizon, self.seed, MANY)
        return Paths(self.series.names, mean + deviation * paths)


def naive(blocks: Sequence[Block], drawn: NDArray[np.int64], train: Sequence[NDArray[np.float64]]) -> Foreseen:
    """The last number again, with the spread of the steps seen in training: the floor."""
    values = np.stack([block.values for block in blocks])
    last = np.array([block.past[-1] for block in blocks])[:, None]
    step = np.array([np.sqrt(np.mean(np.diff(train[block.series]) ** 2)) for block in blocks])[:, None]
    before = np.concatenate([last, values[:, :-1]], axis=1)
    nats = Forecast((), before, np.broadcast_to(step, values.shape)).nats(values)
    middle = np.broadcast_to(last, values.shape)[drawn]
    deviation = (step * np.sqrt(np.arange(1, values.shape[1] + 1)))[drawn]
    return Foreseen(nats, middle, crps_normal(values[drawn], middle, deviation))
