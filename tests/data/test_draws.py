"""Draws: even, independent, and the same whatever else is in the batch."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from sightline.data import Draws, Rows, Tokenizer, train_tokenizer


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return train_tokenizer(["x"], "byte")


def rows(tokenizer: Tokenizer, numbers: list[int] | np.ndarray, visit: int = 0) -> Rows:  # type: ignore[type-arg]
    made = Rows.of([[110]] * len(numbers), tokenizer, numbers=numbers)
    return Rows(
        made.tokens, made.documents, made.numbers, made.visits + visit, made.word_starts, made.origins, made.wanted
    )


def test_the_batch_does_not_matter(tokenizer: Tokenizer) -> None:
    draws = Draws(7)
    together, alone = draws.of(rows(tokenizer, [4, 9, 2])), draws.of(rows(tokenizer, [9]))
    assert (together.uniform(50)[1] == alone.uniform(50)[0]).all()
    assert (together.integers(0, 1000, 5)[1] == alone.integers(0, 1000, 5)[0]).all()
    assert (together.uniform(8)[1, :3] == alone.uniform(3)[0]).all()  # nor how much is drawn


def test_every_key_counts(tokenizer: Tokenizer) -> None:
    base = Draws(7).of(rows(tokenizer, [4]))
    first = base.uniform(40)
    others = [
        base.uniform(40),
        Draws(8).of(rows(tokenizer, [4])).uniform(40),
        Draws(-7).of(rows(tokenizer, [4])).uniform(40),
        Draws(7).of(rows(tokenizer, [5])).uniform(40),
        Draws(7).of(rows(tokenizer, [4], visit=1)).uniform(40),
        Draws(7).of(rows(tokenizer, [4]), stream=1).uniform(40),
        Draws(4).of(rows(tokenizer, [7])).uniform(40),
    ]
    assert all((first != other).all() for other in others)
    assert (Draws(7).of(rows(tokenizer, [4])).uniform(40) == first).all()


def test_even_and_independent(tokenizer: Tokenizer) -> None:
    """Fixed seeds, so these bounds either hold always or never; p > 0.001 for each."""
    many = rows(tokenizer, np.arange(400))
    one = Draws(1).of(many)
    first, second = one.uniform(500), one.uniform(500)
    assert first.min() >= 0 and first.max() < 1
    assert stats.kstest(first.ravel(), "uniform").pvalue > 1e-3
    assert stats.kstest(first[:, 0], "uniform").pvalue > 1e-3
    assert stats.kstest(first[0], "uniform").pvalue > 1e-3
    third = Draws(2).of(many).uniform(500)
    for a, b in [(first, second), (first, third), (first[:-1], first[1:]), (first[:, :-1], first[:, 1:])]:
        assert abs(np.corrcoef(a.ravel(), b.ravel())[0, 1]) < 4 / np.sqrt(a.size)
    cells = np.histogram2d(first.ravel(), second.ravel(), bins=20)[0]
    assert stats.chisquare(cells.ravel()).pvalue > 1e-3


def test_integers_cover_their_range_evenly(tokenizer: Tokenizer) -> None:
    numbers = Draws(3).of(rows(tokenizer, np.arange(200))).integers(-2, 5, 300)
    values, counts = np.unique(numbers, return_counts=True)
    assert values.tolist() == [-2, -1, 0, 1, 2, 3, 4]
    assert stats.chisquare(counts).pvalue > 1e-3
    high = np.arange(1, 201)[:, None]
    by_row = Draws(3).of(rows(tokenizer, np.arange(200))).integers(0, high, 50)
    assert (by_row < high).all() and by_row.dtype == np.int64
    with pytest.raises(ValueError, match="greater"):
        Draws(3).of(rows(tokenizer, [1])).integers(3, 3, 1)


def test_named_numbers() -> None:
    assert Draws(1).scalar("a") == Draws(1).scalar("a")
    found = [Draws(seed).scalar(name) for seed in range(20) for name in ("a", "b", "c")]
    assert len(set(found)) == 60 and all(0 <= value < 1 for value in found)
