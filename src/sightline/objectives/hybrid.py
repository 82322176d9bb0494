"""Hybrid (GPT-BERT): causal rows and masked rows for one set of weights, which is then read in either way.

    a causal row                           a masked row
    the  ■ · · ·   asked for: cat          the   ■ ■ ■ ■   asked for: cat    the slot before a hidden token is asked
    cat  ■ ■ · ·              sat          MASK  ■ ■ ■ ■                     for it, so that both rows read off the
    sat  ■ ■ ■ ·              .            sat   ■ ■ ■ ■                     next token, and share what they learn
    .    ■ ■ ■ ■              end          .     ■ ■ ■ ■

Read left to right it is a causal model, exact; read with both sides given it fills blanks and tells texts apart, and
its score is pseudo.

Charpentier and Samuel, GPT or BERT: why not both? (2024).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from ..data import RowDraws, Rows
from ..decoders.canvas import Canvas
from ..errors import SightlineError
from ..sight import OPENING, Rule, Score, Slots, View, opening, past
from .base import Column, Given, Objective, within_document
from .causal import Causal
from .masked import Masked, grouped, laid


@dataclass(frozen=True)
class MaskedNext(Masked):
    """Masked next-token prediction: a hidden token is asked of the slot before it.

    The first token of a document stands behind no slot, and is never hidden.
    """

    family: ClassVar[str] = "hybrid"
    title: ClassVar[str] = "hybrid, both sides given: hidden tokens, each asked of the slot before it"
    ahead: ClassVar[int] = 1

    def candidates(self, rows: Rows) -> NDArray[np.bool_]:
        """Which positions [rows, length] may be hidden: text with a place of its document before it."""
        return super().candidates(rows) & (within_document(rows.documents) > 0)

    def _groups(self, rows: Rows, draws: RowDraws) -> NDArray[np.int64]:
        """Spans of 1 to ``longest`` tokens, whatever the words (the paper's repository)."""
        lengths = 1 + (draws.uniform(rows.length) * self.longest).astype(np.int64)
        return grouped(laid(lengths) | (within_document(rows.documents) == 0))


@dataclass(frozen=True)
class Hybrid(Objective):
    """A share of the rows with hidden tokens, the others left to right.

    Parameters
    ----------
    masked : share of the rows that are masked, in [0, 1]. It is a quota, not a chance: of any 1 / (1 - masked) rows
        that follow each other in the corpus one is causal, and another one at the next visit, whatever the batch.
    rate, rate_end : share of a masked row's text that is hidden, at the beginning and at the end of training.
    longest : spans of 1 to so many tokens are hidden together, each length as likely as another.
    random, kept : of the hidden tokens, the shares shown as a random token and as they are (a declared leak).

    A masked answer weighs as much as the ``1 / rate`` tokens that it stands for, so that a masked and a causal row
    weigh the same, and ``masked`` is the share of the loss too. Paper: 15 of 16 rows, 0.3 to 0.15, spans of 1 to 3.
    """

    masked: float = 15 / 16
    rate: float = 0.3
    rate_end: float | None = 0.15
    longest: int = 3
    random: float = 0.1
    kept: float = 0.1

    family: ClassVar[str] = "hybrid"
    title: ClassVar[str] = "hybrid (GPT-BERT): causal and masked rows, one set of weights"
    score_class: ClassVar[Score] = "exact"
    decoder: ClassVar[str] = "left to right, cached; blanks by refinement (Mask-Predict)"
    writes_from: ClassVar[Given] = "left"

    def __post_init__(self) -> None:
        if not 0 <= self.masked <= 1:
            raise SightlineError(f"{self.masked} of the rows masked is no share of them", "Use a number from 0 to 1")
        if self.longest < 1:
            raise SightlineError(f"spans of at most {self.longest} tokens hide nothing", "Use 1 or more")
        _ = self.two_sided  # which refuses rates that mean nothing

    @property
    def columns(self) -> tuple[Column, ...]:
        return ("whole text", "continuation")

    @property
    def rule(self) -> Rule:
        """A masked row is an opening from end to end; a causal row has none."""
        return past | opening

    @property
    def one_sided(self) -> Causal:
        """The family as it is read from the left."""
        return Causal(self.vocabulary)

    @property
    def two_sided(self) -> MaskedNext:
        return MaskedNext(
            self.vocabulary,
            rate=self.rate,
            rate_end=self.rate_end,
            hide="span",
            longest=self.longest,
            random=self.random,
            kept=self.kept,
        )

    def causal_rows(self, rows: Rows) -> NDArray[np.bool_]:
        """Which rows [B] are read from the left at this visit."""
        share = 1 - self.masked
        turn = rows.numbers + rows.visits
        return np.asarray(np.floor((turn + 1) * share) > np.floor(turn * share))

    def ask(self, rows: Rows, draws: RowDraws, progress: float) -> list[View]:
        """One view, since a row's way depends on the row alone: rows of both ways in any batch, one shape for all."""
        (both,) = self.two_sided.ask(rows, draws, progress)
        (left,) = self.one_sided.ask(rows, draws, progress)
        causal = self.causal_rows(rows)[:, None]
        return [
            View.of(
                Slots.of(
                    left.slots.place,
                    rows.documents,
                    segment=np.where(causal, 1, OPENING),
                    positions=left.slots.positions,
                ),
                self.rule,
                shows=np.where(causal, left.shows, both.shows),
                asks=np.where(causal, left.asks, both.asks),
                weights=np.where(causal, 1.0, 1 / self.two_sided.rate_at(progress)),
                declared=None if both.declared is None else ~causal & both.declared,
                kind=self.family,
            )
        ]

    def examine(self, rows: Rows) -> Iterator[View]:
        return self.one_sided.examine(rows)

    def read(self, rows: Rows) -> View:
        return self.one_sided.read(rows)

    def fill(self, canvas: Canvas) -> View:
        return self.one_sided.fill(canvas)
