"""What a family foresees of pieces of series: densities of each number, and forecasts of the whole piece.

past | values of the piece        nats of each value from all before it; the piece from its past alone
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from ..data.series import number_rows
from ..objectives.model import Model
from ..progress import bar
from ..stacks.autoregression import Fitted, Forecast
from ..stacks.cache import Cache
from .forecast import crps_normal, crps_samples

PATHS = 50  # sampled for each forecast of a neural model


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
    p = fitted.phi.shape[1]
    recent = np.stack([np.concatenate([np.zeros(p), block.past])[len(block.past) :] for block in blocks])
    values = np.stack([block.values for block in blocks])
    here = replace(
        fitted, names=[fitted.names[one] for one in series], orders=fitted.orders[series],
        constant=fitted.constant[series], phi=fitted.phi[series], variance=fitted.variance[series],
        equations=fitted.equations[series], recent=recent, triangles=(),
    )  # fmt: skip
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
            found = model.grade(view, rows.tokens).nats.numpy()
            weights = view.answer_weights() > 0
            nats += [line[real] for line, real in zip(found, weights, strict=True)]
    paths = sampled(model, [blocks[number].past for number in drawn], horizon, seed)
    values = np.stack([blocks[number].values for number in drawn])
    return Foreseen(np.stack(nats), np.median(paths, axis=0), crps_samples(values, paths))


def sampled(model: Model, pasts: Sequence[NDArray[np.float64]], horizon: int, seed: int) -> NDArray[np.float64]:
    """Sampled continuations [paths, S, h] of pasts, each number drawn after those before it; states are kept."""
    found = np.empty((PATHS, len(pasts), horizon))
    with torch.no_grad(), torch.random.fork_rng(devices=[]), bar("forecasts", len(pasts), "series") as shown:
        torch.manual_seed(seed)
        for number, past in enumerate(pasts):
            lines, cache = past[None, -(model.context - horizon) :], Cache()
            for step in range(horizon):
                view = model.objective.read(number_rows(list(lines), lines.shape[1]))
                states = model.states(view.tail(cache.count), lines, cache)[:, -1]
                if not step:  # what stands before is read once, for all paths
                    cache.lines(torch.zeros(PATHS, dtype=torch.long))
                    lines, states = np.tile(lines, (PATHS, 1)), states.expand(PATHS, -1)
                drawn = model.head.distribution(states).sample().numpy()  # type: ignore[operator]
                found[:, number, step] = drawn
                lines = np.concatenate([lines, drawn[:, None]], axis=1)
            shown.advance(1)
    return found


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
