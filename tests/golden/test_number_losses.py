"""Golden figures on numbers: the regression's density, and the loss of every step of a tiny neural model.

The series is a logistic map, x -> 3.9 x (1 - x): the same on every machine for as many steps as are used here.
`python tests/golden/test_number_losses.py` prints them.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from sightline.data import Draws, Order
from sightline.data.series import Windows, number_rows
from sightline.data.vocabulary import Vocabulary
from sightline.objectives import Causal, LinearAR
from sightline.objectives.model import built
from sightline.stacks.shape import Shape

HERE = Path(__file__).parent
SHAPE = Shape(2, 32, 4, 0, 24, rope_base=100.0)
STEPS, BATCH = 10, 4
TOLERANCE = 2e-3  # nats, as for tokens


def series(length: int = 60) -> np.ndarray:
    values = [0.3]
    while len(values) < length:
        values.append(3.9 * values[-1] * (1 - values[-1]))
    return (np.array(values) - 0.6) / 0.3


def regression() -> float:
    """Nats per number of the last 20 by AR(4) of the first 40."""
    model = built(LinearAR(Vocabulary(0, 0), p=4), SHAPE, None)
    model.stack.fit(series()[:40])  # type: ignore[operator]
    nats, asked = model.examined(number_rows([series()], 60, asked=20))
    return float(nats[0] / asked[0])


def losses() -> list[float]:
    """Nats per number before each of the first steps."""
    from sightline.training.optimizer import Optimizers
    from sightline.training.settings import Optimization, Schedule

    model = built(Causal(Vocabulary(0, 0)), SHAPE, None, seed=3)
    windows = Windows((series(),), 24)
    optimizers, order, draws = Optimizers(model, Optimization()), Order(windows.count, 3), Draws(3)
    found = []
    for step in range(STEPS):
        rows = windows.rows(*order.at(np.arange(step * BATCH, (step + 1) * BATCH)))
        views = model.objective.ask(rows, draws.of(rows), step / STEPS)
        [term] = model.objective.learn(model, rows, views, draws.of(rows, 1))
        loss = term.total / sum(model.objective.counts(views).values())
        loss.backward()
        optimizers.step(Schedule().factor(step, STEPS))
        found.append(round(float(loss.detach()), 5))
    return found


def test_numbers_are_golden() -> None:
    golden = json.loads((HERE / "numbers.json").read_text())
    assert regression() == pytest.approx(golden["linear"], abs=1e-6)
    assert losses() == pytest.approx(golden["causal"], abs=TOLERANCE)


if __name__ == "__main__":
    print(json.dumps({"linear": round(regression(), 8), "causal": losses()}, indent=1))
