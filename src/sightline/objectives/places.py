"""Texts read for their states, laid at their places: of each stream, that of the slot which shows the place."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..data import Rows
from ..sight import NO_DOCUMENT, View
from .model import Model
from .sides import behind_sep

SECOND = 1  # the segment of the second of two texts
SEES_ALL = ("masked", "electra")  # whose rule looks at no segment


def read_as_texts(model: Model, rows: Rows) -> View:
    """The view that shows texts, one or two a row, and asks nothing.

    Of two texts the second is told by its segment, the mark that ends it too, where the stack has a row for that
    (Devlin et al., BERT, 2018); a family whose rule looks at segments, or a stack without them, tells it by the mark.
    """
    view, table = model.objective.read(rows), getattr(model.stack, "segments", None)
    if table is None or table.num_embeddings <= SECOND or model.objective.family not in SEES_ALL:
        return view
    second = behind_sep(rows.tokens, rows.documents, model.objective.parting)
    segment = np.take_along_axis(second, np.maximum(view.shows, 0), axis=1) & (view.shows >= 0)
    return replace(view, slots=replace(view.slots, segment=segment * SECOND))


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
