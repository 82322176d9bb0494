"""Backward language models: every token is predicted from those after it.

    the  ■ ■ ■ ■   asked for: start      p(x) = prod_t p(x_t | x_>t)
    cat  · ■ ■ ■              the
    sat  · · ■ ■              cat        exact, and comparable with the causal model token for token
    .    · · · ■              sat

Slots are laid in reading order, last token first, with ids counted from the end: to the stack it is one more triangle.
With ``at_mask``, some tokens stand hidden and each is answered where it stands, as in the rows that UniLM (Dong et al.,
2019) reads from the right; ``at_mask.py`` draws it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from ..data import RowDraws, Rows
from ..decoders.canvas import Canvas
from ..sight import NO_DOCUMENT, NOTHING, Rule, Score, Slots, View, by_order, past
from . import at_mask as masks
from .base import Column, Given, Objective, after_document, within_document


@dataclass(frozen=True)
class Backward(Objective):
    """Right to left: the slot that shows token t is asked for token t - 1, down to the mark that begins the text.

    Parameters
    ----------
    at_mask : share of the tokens, the mark that begins the text among them, that are hidden and asked for where they
        stand, in [0, 1); 0: the token before. Of the hidden, 80% show the mask, 10% another token, 10% their own.
    hide : with at_mask, single tokens, or ``gram``: of the draws one in five hides two or three in a row.
    """

    at_mask: float = 0.0
    hide: masks.Hide = "token"

    stream: ClassVar[int] = 0  # of its slots
    family: ClassVar[str] = "backward"
    title: ClassVar[str] = "backward: each token from those after it"
    score_class: ClassVar[Score] = "exact"
    decoder: ClassVar[str] = "right to left, cached"
    writes_from: ClassVar[Given] = "right"

    def __post_init__(self) -> None:
        masks.check(self.at_mask, self.hide, self.vocabulary)

    @property
    def columns(self) -> tuple[Column, ...]:
        return ("whole text",)

    @property
    def rule(self) -> Rule:
        return masks.text_only(by_order) if self.at_mask else past  # in reading order; drawn by place it is the future

    @property
    def stops(self) -> tuple[int, ...]:
        return (self.vocabulary.bos,)

    def ask(self, rows: Rows, draws: RowDraws, progress: float) -> list[View]:
        if not self.at_mask:
            return [self._view(rows, asking=True)]
        rest = self._rest(rows)
        return [masks.hiding(self._view(rows), rest, self.at_mask, self.hide, draws, self.vocabulary)]

    def _rest(self, rows: Rows) -> NDArray[np.bool_]:
        """Which slots [rows, length] are read after the first of their text."""
        return np.asarray((after_document(rows.documents) > 0) & (rows.documents != NO_DOCUMENT))[:, ::-1]

    def examine(self, rows: Rows) -> Iterator[View]:
        if self.at_mask:
            yield masks.beside(self._view(rows), rows.wanted[:, ::-1] & self._rest(rows), self.vocabulary.mask)
        else:
            yield self._view(rows, asking=True)

    def read(self, rows: Rows) -> View:
        return self._view(rows)

    def _view(self, rows: Rows, asking: bool = False) -> View:
        place = np.arange(rows.length)
        documents = rows.documents
        wanted = np.zeros_like(rows.wanted)
        wanted[:, 1:] = rows.wanted[:, :-1]
        asked = (within_document(documents) > 0) & wanted & asking
        return View.of(
            Slots.of(
                place[::-1],
                documents[:, ::-1],
                order=place,
                stream=self.stream,
                positions=after_document(documents)[:, ::-1],
            ),
            self.rule,
            shows=place[::-1],
            asks=np.where(asked, place - 1, NOTHING)[:, ::-1],
            kind=self.family,
        )

    def fill(self, canvas: Canvas) -> View:
        """Slots for the written end of each line, last token first; the latest asks for the open place before it."""
        ends = canvas.places - canvas.inside[:, ::-1].argmax(1)
        waits = ~canvas.done
        starts = np.where(waits, canvas.places - canvas.open[:, ::-1].argmax(1), canvas.inside.argmax(1))
        width = int((ends - starts).max())
        place = starts[:, None] + width - 1 - np.arange(width)
        last = np.arange(width) == width - 1
        view = View.of(
            Slots.of(
                place,
                np.where(place < ends[:, None], 0, NO_DOCUMENT),
                order=np.arange(width),
                stream=self.stream,
                positions=np.maximum(ends[:, None] - 1 - place, 0),
            ),
            self.rule,
            shows=place,
            asks=np.where(last & waits[:, None], place - 1, NOTHING),
            most_asks=1,
            kind=self.family,
        )
        return masks.behind(view, self.vocabulary.mask) if self.at_mask else view
