"""Randomness keyed by what it is for: a row draws the same numbers on the same visit, whatever else is in the batch.

    (seed, row number, visit, stream, call, column) -> splitmix64, one link per key -> 64 bits

Batch size, accumulation, workers and processes never change a draw. splitmix64: Steele, Lea and Flood, 2014.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from .rows import Rows

Words = NDArray[np.uint64]
GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def mixed(words: Words) -> Words:
    """splitmix64's finisher: a bijection of 64 bits in which every bit in moves every bit out. Arrays, not scalars."""
    words = words + GOLDEN
    words = (words ^ (words >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    words = (words ^ (words >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return words ^ (words >> np.uint64(31))


def _words(values: NDArray[np.int64] | int) -> Words:
    if isinstance(values, int):
        return np.full(1, values & (2**64 - 1), np.uint64)
    return np.asarray(values, np.int64).astype(np.uint64)


@dataclass(frozen=True)
class Draws:
    """The randomness of a run, for one seed."""

    seed: int

    def of(self, rows: Rows, stream: int = 0) -> RowDraws:
        """The draws of these rows; another ``stream`` gives independent ones."""
        key = mixed(mixed(_words(self.seed)) ^ _words(rows.numbers))
        return RowDraws(mixed(mixed(key ^ _words(rows.visits)) ^ _words(stream)))

    def scalar(self, name: str) -> float:
        """One number in [0, 1), keyed by a name."""
        digest = hashlib.blake2b(f"{self.seed} {name}".encode(), digest_size=8).digest()
        return (int.from_bytes(digest, "big") >> 11) * 2.0**-53


class RowDraws:
    """Numbers for B rows; each call gives new ones, which depend on the call's place in the sequence alone."""

    def __init__(self, keys: Words) -> None:
        self._keys = keys
        self._calls = 0

    def take(self, index: NDArray[np.int64]) -> RowDraws:
        """The draws of some of the rows, from their beginning."""
        return RowDraws(self._keys[index])

    def _next(self, n: int) -> Words:
        self._calls += 1
        call = mixed(self._keys ^ _words(self._calls))
        return mixed(mixed(call[:, None] + np.arange(n, dtype=np.uint64)[None, :] * GOLDEN))

    def uniform(self, n: int) -> NDArray[np.float64]:
        """[B, n] in [0, 1)."""
        return (self._next(n) >> np.uint64(11)).astype(np.float64) * 2.0**-53

    def integers(self, low: int | NDArray[np.int64], high: int | NDArray[np.int64], n: int) -> NDArray[np.int64]:
        """[B, n] in [low, high); bounds may differ by row or column (they broadcast to [B, n])."""
        span = np.asarray(high, np.int64) - np.asarray(low, np.int64)
        if (span < 1).any():
            raise ValueError("integers: high must be greater than low")
        return np.asarray(low, np.int64) + np.minimum((self.uniform(n) * span).astype(np.int64), span - 1)
