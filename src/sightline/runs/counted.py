"""The pairs that a family's views ask about in a text: what a slot shows, and what it is asked."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from ..data import Draws
from ..errors import SightlineError
from ..stacks.counted import Pairs

if TYPE_CHECKING:
    from ..data import RowReader
    from ..objectives import Objective

MOST = 2**24  # tokens of text that are counted: a table of so low a rank knows no more from a longer one
AT_ONCE = 2**18


def pairs(objective: Objective, packed: RowReader, seed: int) -> Pairs:
    """How often each shown id was asked for each other, over the training views of a text's first ``MOST`` tokens.

    Raises
    ------
    SightlineError : no asked slot shows anything.
    """
    height = objective.vocabulary.padded
    keys, counts = zip(*_counted(objective, packed, seed, height), strict=True)
    whole, place = np.unique(np.concatenate(keys), return_inverse=True)
    if not len(whole):
        raise SightlineError(
            f"what {objective.family} asks shows nothing, so no pair can be counted", "Leave --init away"
        )
    totals = np.bincount(place, np.concatenate(counts))
    return Pairs(torch.from_numpy(whole // height), torch.from_numpy(whole % height), torch.from_numpy(totals))


def _counted(objective: Objective, packed: RowReader, seed: int, height: int) -> Iterator[tuple[NDArray[Any], ...]]:
    """Keys and counts of the pairs of some rows at a time."""
    rows_at_once = max(1, AT_ONCE // packed.length)
    for start in range(0, min(packed.count, MOST // packed.length + 1), rows_at_once):
        index = np.arange(start, min(start + rows_at_once, packed.count))
        rows = packed.rows(index, np.zeros_like(index))
        for view in objective.ask(rows, Draws(seed).of(rows), 0.0):
            shown = np.take_along_axis(view.shown(rows.tokens), view.asked_slots[0], axis=1)
            real = (view.answer_weights() > 0) & (shown >= 0)
            yield np.unique(shown[real] * height + view.answers(rows.tokens)[real], return_counts=True)
