"""The family linear: its stack's regressions, its density, its folder; and the neural model of numbers beside it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from sightline import hub
from sightline.data import Draws
from sightline.data.series import Windows, number_rows
from sightline.data.vocabulary import Vocabulary
from sightline.errors import SightlineError
from sightline.objectives import Causal, LinearAR
from sightline.objectives.model import Model, built
from sightline.sight import isolated, reach
from sightline.stacks.autoregression import AR
from sightline.stacks.cache import Cache
from sightline.stacks.numbers import DensityHead
from sightline.stacks.shape import Shape

NO_WORDS = Vocabulary(0, 0)
TINY = Shape(layers=2, width=16, heads=2, vocabulary=0, context=32, rope_base=100.0)


def walk(length: int, seed: int = 0) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(size=length)
    values = np.zeros(length)
    for at in range(2, length):
        values[at] = 0.6 * values[at - 1] - 0.3 * values[at - 2] + noise[at]
    return values


@pytest.fixture(scope="module")
def fitted() -> Model:
    model = built(LinearAR(NO_WORDS, p=3), TINY, None)
    model.stack.fit(walk(400))  # type: ignore[operator]
    return model.eval()


@pytest.fixture(scope="module")
def neural() -> Model:
    return built(Causal(NO_WORDS), TINY, None, seed=1).eval()


# -- the regression


def test_the_stack_is_the_regression_of_its_series(fitted: Model) -> None:
    alone = AR(3).fit(walk(400))
    assert np.allclose(fitted.stack.coefficients[3, 1:], alone.phi[0], atol=1e-10)
    assert np.isclose(float(fitted.stack.coefficients[3, 0]), alone.constant[0], atol=1e-10)
    assert np.isclose(float(fitted.stack.variances[3]), alone.variance[0], rtol=1e-10)


def test_the_score_is_the_density_of_each_number_given_those_before_it(fitted: Model) -> None:
    values = walk(30, seed=4)
    nats, asked = fitted.examined(number_rows([values], 30))
    assert asked[0] == 29
    alone = AR(3).fit(walk(400))
    tail = np.asarray([values[3:]])
    from dataclasses import replace

    wanted = replace(alone, recent=values[None, :3]).follow(tail).nats(tail).sum()
    first = number_rows([values[:3]], 3)
    assert nats[0] == pytest.approx(wanted + fitted.examined(first)[0][0], abs=1e-9)


@pytest.mark.parametrize("name", ["fitted", "neural"])
def test_a_density_integrates_to_one(name: str, request: pytest.FixtureRequest) -> None:
    model: Model = request.getfixturevalue(name)
    grid = np.linspace(-150, 150, 20_001)
    lines = np.column_stack([np.tile([0.3, -1.2, 0.8], (len(grid), 1)), grid])
    total = 0.0
    for start in range(0, len(grid), 5_000):
        rows = number_rows(list(lines[start : start + 5_000]), 4, asked=1)
        total += float(np.exp(-model.examined(rows)[0]).sum()) * (grid[1] - grid[0])
    assert total == pytest.approx(1, abs=2e-3)


def test_series_share_one_law_and_no_equation_spans_two() -> None:
    one, other = walk(100, 1), walk(80, 2) + 50
    model = built(LinearAR(NO_WORDS, p=2), TINY, None)
    model.stack.fit(np.concatenate([one, other]), np.array([0, 100, 180]))  # type: ignore[operator]
    design = np.concatenate([np.column_stack([np.ones(len(x) - 2), x[1:-1], x[:-2]]) for x in (one, other)])
    wanted = np.linalg.lstsq(design, np.concatenate([one[2:], other[2:]]), rcond=None)[0]
    assert np.allclose(model.stack.coefficients[2], wanted, atol=1e-9)


@pytest.mark.parametrize(
    ("numbers", "message"),
    [
        (np.ones(40), "every number is 1: nothing moves"),
        (np.arange(4.0), "1 stretches of 4 numbers are too few for p = 3"),
        (np.array([1.0, np.nan, 2.0] * 9), "9 numbers are missing or infinite"),
    ],
)
def test_what_cannot_be_fitted(numbers: np.ndarray, message: str) -> None:
    model = built(LinearAR(NO_WORDS, p=3), TINY, None)
    with pytest.raises(SightlineError, match=message):
        model.stack.fit(numbers)  # type: ignore[operator]
    with pytest.raises(SightlineError, match="not fitted yet"):
        model.examined(number_rows([np.arange(5.0)], 5))
    with pytest.raises(SightlineError, match="looks at nothing"):
        LinearAR(NO_WORDS, p=0)


# -- the neural model


def test_numbers_move_only_what_may_see_them(neural: Model) -> None:
    values = walk(12)
    rows = number_rows([values], 12)
    [view] = neural.objective.ask(rows, Draws(0).of(rows), 0.0)
    reached = reach(view, neural.depth)[0]
    before = neural.states(view, rows.tokens)[0].detach()
    for place in range(12):
        other = rows.tokens.copy()
        other[0, place] += 1
        moved = (neural.states(view, other)[0].detach() != before).any(-1).numpy()
        assert (moved == reached[:, place]).all()
    assert isolated([view], neural.depth)


def test_states_are_kept_while_numbers_are_written(neural: Model) -> None:
    values = walk(12)[None]
    plain = neural.states(neural.objective.read(number_rows(list(values), 12)), values)
    cache = Cache()
    for length in range(4, 13):
        view = neural.objective.read(number_rows([values[0, :length]], length))
        state = neural.states(view.tail(cache.count), values[:, :length], cache)[:, -1]
        assert torch.allclose(state, plain[:, length - 1], atol=1e-5)


def test_it_learns_a_few_series_by_heart() -> None:
    model = built(Causal(NO_WORDS), TINY, None, seed=0)
    windows = Windows((np.sin(np.arange(40) / 3), np.cos(np.arange(40) / 2)), 24)
    rows = windows.rows(np.array([0, 5, 20, 30]), np.zeros(4, np.int64))
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    losses = []
    for _ in range(120):
        views = model.objective.ask(rows, Draws(0).of(rows), 0.0)
        [term] = model.objective.learn(model, rows, views, Draws(0).of(rows))
        loss = term.total / model.objective.counts(views)["causal"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[0] > 1
    assert losses[-1] < -1  # a density: nats below 0


def test_normal_and_students_t() -> None:
    states, answers = torch.randn(5, 8), torch.randn(5)
    for law in ("normal", "student"):
        head = DensityHead(8, law)  # type: ignore[arg-type]
        graded = head(states, answers, torch.tensor([1.0, 1.0, 0.0, 2.0, 1.0]))
        wanted = -head.distribution(states).log_prob(answers.double())
        assert graded.nats[2] == 0
        assert torch.allclose(graded.nats[:2], wanted[:2])
        assert torch.allclose(graded.total, (wanted * torch.tensor([1, 1, 0, 2, 1])).sum())


# -- rows and folders


def test_windows_are_every_stretch_of_every_series() -> None:
    windows = Windows((np.arange(5.0), np.arange(10.0, 12.0)), 3)
    assert windows.count == 3 + 1
    rows = windows.rows(np.arange(4), np.zeros(4, np.int64))
    assert rows.tokens[:3].tolist() == [[0, 1, 2], [1, 2, 3], [2, 3, 4]]
    assert rows.tokens[3, :2].tolist() == [10, 11]
    assert rows.documents[3].tolist() == [0, 0, -1]
    assert rows.origins[:, 0].tolist() == [0, 0, 0, 1]


@pytest.mark.parametrize("name", ["fitted", "neural"])
def test_a_model_folder_holds_it(name: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    model: Model = request.getfixturevalue(name)
    folder = hub.save(model, tmp_path / "model")
    with pytest.raises(SightlineError, match="reads numbers, not texts"):
        hub.load(folder)
    again = hub.load(folder, numbers=True)
    rows = number_rows([walk(20, 5)], 20)
    assert (again.examined(rows)[0] == model.examined(rows)[0]).all()
    assert type(again.objective) is type(model.objective)
    assert "numbers" in (tmp_path / "model" / "README.md").read_text(encoding="utf-8")
