"""States laid at the places of a text: of each stream, that of the slot which shows the place."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..sight import NO_DOCUMENT, View


def laid_at_places(
    view: View, layers: Sequence[Tensor], shape: tuple[int, ...], stream: int | None = None
) -> tuple[list[Tensor], NDArray[np.bool_]]:
    """States of slots [lines, slots, width] at the places [lines, places] of the rows that the view shows.

    Parameters
    ----------
    view : shows each place once in each of its streams; lines are rows. stream : only this one.

    Returns
    -------
    laid : [rows, places, width of all streams] for each layer; gradients flow. there : which places are shown.
    """
    shown = (view.shows >= 0) & (view.slots.document != NO_DOCUMENT)
    if stream is not None:
        shown &= view.slots.stream == stream
    line, slot = np.nonzero(shown)
    of, place = view.slots.stream[line, slot], view.shows[line, slot]
    streams = np.unique(of)
    where = np.zeros((len(streams), *shape), np.int64)
    where[np.searchsorted(streams, of), line, place] = slot
    index = torch.from_numpy(where).to(layers[0].device)[..., None]
    there = np.zeros(shape, np.bool_)
    there[line, place] = True
    return [torch.cat([one.gather(1, at.expand(-1, -1, one.shape[2])) for at in index], dim=2) for one in layers], there
