"""The order of reading: every row once an epoch, the same after a stop, the same for any number of processes."""

from __future__ import annotations

import numpy as np
import pytest

from sightline.data import Order
from sightline.errors import SightlineError


@pytest.mark.parametrize("count", [1, 2, 3, 5, 16, 17, 100, 1023, 4096, 10_007])
def test_every_epoch_is_a_permutation(count: int) -> None:
    order = Order(count, seed=3)
    for epoch in (0, 1, 5, 10**6):
        rows, visits = order.at(epoch * count + np.arange(count))
        assert sorted(rows.tolist()) == list(range(count))
        assert (visits == epoch).all()


def test_epochs_and_seeds_differ() -> None:
    k = np.arange(1000)
    first = Order(1000, 0).at(k)[0]
    assert (first != k).mean() > 0.9
    for other in (Order(1000, 1).at(k)[0], Order(1000, -1).at(k)[0], Order(1000, 0).at(k + 1000)[0]):
        assert (first != other).mean() > 0.9


def test_small_counts_take_many_orders() -> None:
    orders = {tuple(Order(4, 0).at(epoch * 4 + np.arange(4))[0].tolist()) for epoch in range(500)}
    assert len(orders) == 24


def test_neighbours_are_scattered() -> None:
    """Rows read one after the other are as far apart as chance has it: a third of the corpus."""
    rows = Order(10_000, 5).at(np.arange(10_000))[0]
    assert abs(np.abs(np.diff(rows)).mean() / 10_000 - 1 / 3) < 0.02
    assert abs(np.corrcoef(np.arange(10_000), rows)[0, 1]) < 0.05
    for residue in range(8):  # every residue is met at an even pace
        seen = np.flatnonzero(rows % 8 == residue)
        assert abs(seen.mean() - 5000) < 400


def test_resuming_anywhere_is_never_having_stopped() -> None:
    order = Order(77, 9)
    whole = order.at(np.arange(500))
    for stop in (0, 1, 76, 77, 123, 400):
        rest = order.at(np.arange(stop, 500))
        assert (rest[0] == whole[0][stop:]).all() and (rest[1] == whole[1][stop:]).all()
    assert order.at(np.arange(500).reshape(50, 10))[0].shape == (50, 10)


@pytest.mark.parametrize("world", [1, 2, 4, 8])
def test_processes_share_out_the_same_rows(world: int) -> None:
    order = Order(50, 2)
    shared = [order.shard(40, 16, rank, world) for rank in range(world)]
    assert np.concatenate(shared).tolist() == list(range(40, 56))


def test_what_cannot_be_shared() -> None:
    with pytest.raises(SightlineError, match="batch of 10 rows cannot be shared by 4"):
        Order(50, 2).shard(0, 10, 0, 4)
    with pytest.raises(SightlineError, match="nothing to read"):
        Order(0, 2)
