"""Backward language models: every token is predicted from those after it.

    the  ■ ■ ■ ■   asked for: start      p(x) = prod_t p(x_t | x_>t)
    cat  · ■ ■ ■              the
    sat  · · ■ ■              cat        exact, and comparable with the causal model token for token
    .    · · · ■              sat

Slots are laid in reading order, last token first, with ids counted from the end: to the stack it is one more triangle.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ..data import RowDraws, Rows
from ..decoders.canvas import Canvas
from ..sight import NO_DOCUMENT, NOTHING, Rule, Score, Slots, View, past
from .base import Column, Given, Objective, after_document, within_document


@dataclass(frozen=True)
class Backward(Objective):
    """Right to left: the slot that shows token t is asked for token t - 1, down to the mark that begins the text."""

    stream: ClassVar[int] = 0  # of its slots
    family: ClassVar[str] = "backward"
    title: ClassVar[str] = "backward: each token from those after it"
    score_class: ClassVar[Score] = "exact"
    decoder: ClassVar[str] = "right to left, cached"
    writes_from: ClassVar[Given] = "right"

    @property
    def columns(self) -> tuple[Column, ...]:
        return ("whole text",)

    @property
    def rule(self) -> Rule:
        return past  # in reading order; drawn by place it is the future

    @property
    def stops(self) -> tuple[int, ...]:
        return (self.vocabulary.bos,)

    def ask(self, rows: Rows, draws: RowDraws, progress: float) -> list[View]:
        return [self._view(rows, asking=True)]

    def examine(self, rows: Rows) -> Iterator[View]:
        yield self._view(rows, asking=True)

    def read(self, rows: Rows) -> View:
        return self._view(rows, asking=False)

    def _view(self, rows: Rows, asking: bool) -> View:
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
        return View.of(
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
