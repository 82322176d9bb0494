"""The order of reading by index arithmetic: step index in, row number out, nothing to remember but the index.

    k -> epoch k // count, place k % count -> a permutation keyed by (seed, epoch) -> row

Every epoch reads every row once, in another order. The permutation is a Feistel network (Luby and Rackoff, 1988) over a
grid just large enough, walked until it lands inside (Black and Rogaway, 2002): O(1) in memory and time for any k.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..errors import SightlineError
from .draws import GOLDEN, mixed

ROUNDS = 4


@dataclass(frozen=True)
class Order:
    """The order in which ``count`` rows are read, without end, for one seed."""

    count: int
    seed: int

    def __post_init__(self) -> None:
        if self.count < 1:
            raise SightlineError(f"an order of {self.count} rows has nothing to read", "Give more text")

    def at(self, k: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Row numbers and visits (epochs), each of k's shape, for the global indices ``k`` from 0."""
        k = np.asarray(k, np.int64)
        epochs, places = k // self.count, k % self.count
        return self._permuted(places.ravel(), epochs.ravel()).reshape(k.shape), epochs

    def shard(self, k0: int, batch: int, rank: int = 0, world: int = 1) -> NDArray[np.int64]:
        """The global indices that process ``rank`` of ``world`` reads of the ``batch`` rows from ``k0`` on.

        Raises
        ------
        SightlineError : the batch cannot be shared out evenly.
        """
        if batch % world:
            raise SightlineError(
                f"a batch of {batch} rows cannot be shared by {world} processes", f"Take a multiple of {world}"
            )
        each = batch // world
        return k0 + rank * each + np.arange(each, dtype=np.int64)

    def _permuted(self, places: NDArray[np.int64], epochs: NDArray[np.int64]) -> NDArray[np.int64]:
        width = math.isqrt(self.count - 1) + 1  # a grid of width x height cells, less than a row of them unused
        height = -(-self.count // width)
        keys = mixed(mixed(np.full(1, self.seed & (2**64 - 1), np.uint64)) ^ epochs.astype(np.uint64))
        places, walking = places.copy(), np.arange(len(places))
        while len(walking):
            key = keys[walking]
            row, column = np.divmod(places[walking].astype(np.uint64), np.uint64(width))
            for _ in range(ROUNDS):
                key = key + GOLDEN
                column = (column + mixed(key ^ row) % np.uint64(width)) % np.uint64(width)
                key = key + GOLDEN
                row = (row + mixed(key ^ column) % np.uint64(height)) % np.uint64(height)
            places[walking] = (row * np.uint64(width) + column).astype(np.int64)
            walking = walking[places[walking] >= self.count]
        return places
