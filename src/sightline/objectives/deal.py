"""Which rows go to which part of a mixture: fixed quotas, dealt by the turn at which a run reads a row.

    weights 1/2 1/3 1/6    turns 0 1 2 3 4 5 | 6 7 ...      a hand of 6: the shares hold exactly in every one, and
                           parts 0 1 0 2 0 1 | 0 1 ...      whoever is furthest behind its share is dealt to next

What a row is asked depends on its own turn alone, so that batch size and accumulation change nothing; where a batch is
a multiple of the hand, every batch holds the same number of rows of each part, and all shapes are fixed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from ..data import Rows
from ..errors import SightlineError

FINEST = 1000  # rows of a hand, at most


def shares(weights: Sequence[float | Fraction], what: str) -> tuple[Fraction, ...]:
    """The weights as fractions with small denominators.

    Raises
    ------
    SightlineError : a weight below 0, or weights that do not add up to 1.
    """
    if not weights or min(weights) < 0 or abs(float(sum(weights)) - 1) > 1e-6:
        told = " + ".join(f"{float(weight):g}" for weight in weights)
        raise SightlineError(
            f"the weights of {what} are {told} = {float(sum(weights)):g}",
            "Give shares from 0 up that add up to 1, such as 1/3",
        )
    return tuple(Fraction(weight).limit_denominator(FINEST) for weight in weights)


@lru_cache(maxsize=64)
def hand(weights: tuple[Fraction, ...]) -> NDArray[np.int64]:
    """The part of each turn of one hand: as many turns as give every part a whole number of rows."""
    size = min(math.lcm(*(weight.denominator for weight in weights)), FINEST)
    had = [0] * len(weights)
    dealt = []
    for turn in range(1, size + 1):
        part = max(range(len(weights)), key=lambda at: (weights[at] * turn - had[at], -at))
        had[part] += 1
        dealt.append(part)
    return np.array(dealt)


def dealt(rows: Rows, weights: tuple[Fraction, ...]) -> NDArray[np.int64]:
    """The part that each row goes to, [rows]."""
    turns = rows.numbers + rows.visits if rows.turns is None else rows.turns
    cards = hand(weights)
    return cards[turns % len(cards)]
