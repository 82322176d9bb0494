"""Causal language models (GPT): every token is predicted from those before it.

    the  ■ · · ·   asked for: cat        p(x) = prod_t p(x_t | x_<t)
    cat  ■ ■ · ·              sat
    sat  ■ ■ ■ ·              .          exact; one pass asks for every token; states never change, so they are kept
    .    ■ ■ ■ ■              end

Radford et al., Improving Language Understanding by Generative Pre-Training (2018).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ..data import RowDraws, Rows
from ..decoders.canvas import Canvas
from ..sight import NO_DOCUMENT, NOTHING, Rule, Score, Slots, View, fixed, past
from .base import Column, Given, Objective, next_in_document, within_document


@dataclass(frozen=True)
class Causal(Objective):
    """Left to right: slot t shows token t and is asked for token t + 1 of its document."""

    family: ClassVar[str] = "causal"
    title: ClassVar[str] = "causal (GPT): each token from those before it"
    score_class: ClassVar[Score] = "exact"
    decoder: ClassVar[str] = "left to right, cached"
    writes_from: ClassVar[Given] = "left"

    @property
    def columns(self) -> tuple[Column, ...]:
        return ("whole text", "continuation")

    @property
    def rule(self) -> Rule:
        return past

    def ask(self, rows: Rows, draws: RowDraws, progress: float) -> list[View]:
        return [self._view(rows, asking=True)]

    def examine(self, rows: Rows) -> Iterator[View]:
        yield self._view(rows, asking=True)

    def read(self, rows: Rows) -> View:
        return self._view(rows, asking=False)

    def _view(self, rows: Rows, asking: bool) -> View:
        place = np.arange(rows.length)
        wanted = np.zeros_like(rows.wanted)
        wanted[:, :-1] = rows.wanted[:, 1:]
        asked = next_in_document(rows.documents) & wanted & asking
        return View.of(
            Slots.of(place, rows.documents, positions=within_document(rows.documents)),
            self.rule,
            shows=place,
            asks=np.where(asked, place + 1, NOTHING),
            kind=self.family,
        )

    def fill(self, canvas: Canvas) -> View:
        return next_place(canvas, self.rule, self.family)


def next_place(canvas: Canvas, rule: Rule, kind: str, start: int | None = None) -> View:
    """Slots for the written beginning of each line, the last of which asks for the first open place.

    Lines are laid out to end together, so that each answer adds one column and a cache can hold the rest. ``start`` is
    shown by a slot before each text, if given.
    """
    before = 0 if start is None else 1
    waits = ~canvas.done
    written = np.where(waits, canvas.open.argmax(1), canvas.inside.sum(1))
    longest = int(written.max())
    place = written[:, None] + np.arange(-longest - before, 0)
    asks = np.full(place.shape, NOTHING)
    asks[:, -1:] = np.where(waits, written, NOTHING)[:, None]
    known = np.maximum(place, 0)  # padding stands before place 0, where no table of positions reaches
    opening = canvas.given[np.arange(canvas.lines)[:, None], known]
    return View.of(
        Slots.of(
            place,
            np.where(place >= -before, 0, NO_DOCUMENT),
            segment=np.where(opening, 0, 1),
            positions=np.maximum(place + before, 0),
        ),
        rule,
        shows=place if start is None else np.where(place < 0, fixed(start), place),
        asks=asks,
        most_asks=1,
        kind=kind,
    )
