"""A run of rounds at once: what each of them asks is known before any is answered, where the likeliest token is taken.

    round 1   given  given  ?            the slot of round 2 shows the answer of round 1, which never leaves the device:
    round 2   given  given  a  ?         all slots of a run are laid out on a canvas that pretends to be written
    round 3   given  given  a  b  ?

The text is the one that round after round gives. What was answered behind a stop mark is thrown away.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from ..sight import NOTHING, View
from .canvas import Canvas
from .draft import Floats, Ints, Move

MOST = 64  # rounds of a run: of those behind a stop mark nothing is kept
K = TypeVar("K")
Answers = Callable[[View, NDArray[Any], K, Ints, Ints], tuple[Ints, Floats] | None]


def places_of(canvas: Canvas, most: int | None = None, backwards: bool = False) -> Ints | None:
    """The next places [lines, rounds] in the order of writing, if every line has two or more in a row."""
    rounds = min(MOST if most is None else most, int(canvas.open.sum(1).min()))
    if rounds < 2:
        return None
    step = np.arange(rounds)
    places: Ints
    if backwards:
        places = canvas.places - 1 - canvas.open[:, ::-1].argmax(1)[:, None] - step
    else:
        places = canvas.open.argmax(1)[:, None] + step
    return places if np.take_along_axis(canvas.open, places, axis=1).all() else None


def pretended(
    fill: Callable[[Canvas], View], canvas: Canvas, places: Ints, held: int, tokens: Ints | None = None
) -> tuple[View, Canvas] | None:
    """The view of the last round of a run, and its canvas; None where its slots are not those of all its rounds.

    ``held`` : slots that are fed already. ``tokens`` : at all places but the last; None: not known yet.
    """
    line = np.repeat(np.arange(canvas.lines), places.shape[1] - 1)
    before = places[:, :-1]
    ghost = canvas.written(line, before.ravel(), np.zeros(len(line), np.int64) if tokens is None else tokens.ravel())
    view = fill(ghost)
    new = slice(held, None)
    if view.settled is not None or view.slots.count != held + places.shape[1]:
        return None
    asked = (view.asks[:, :-1] == NOTHING).all() and np.array_equal(view.asks[:, -1], places[:, -1])
    return (view, ghost) if asked and np.array_equal(view.shows[:, new][:, 1:], before) else None


def accepted(places: Ints, tokens: Ints, logprobs: Floats, stops: Sequence[int] | Ints) -> tuple[Move, Ints]:
    """What is written of a run's answers [rounds, lines], up to each line's stop mark, and in which round, from 1."""
    ended = np.isin(tokens, stops)
    behind: Ints = np.cumsum(ended, axis=0) - ended
    keep = behind == 0
    line, number = np.nonzero(keep.T)
    return Move(None, line, places[line, number], tokens[number, line], logprobs[number, line]), number + 1
