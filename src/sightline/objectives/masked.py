"""Masked language models (BERT): some tokens are hidden, and predicted from everything that is not.

    the   ■ ■ ■ ■                        p(x_i | the corrupted text) for each hidden i, independently of each other
    MASK  ■ ■ ■ ■   asked for: cat
    sat   ■ ■ ■ ■                        pseudo: hiding one token at a time and adding up (Salazar et al., 2020) is
    .     ■ ■ ■ ■                        no distribution over texts, and is never ranked beside one

Devlin et al., BERT (2019); whole words: its repository; spans: Joshi et al., SpanBERT (2020).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from ..data import RowDraws, Rows
from ..decoders.canvas import Canvas
from ..errors import SightlineError
from ..sight import NO_DOCUMENT, NOTHING, Rule, Score, Slots, View, everything, fixed
from .base import Column, Given, Objective, Sampler, text_places, within_document

Hidden = Literal["token", "word", "span"]
COPIES = 64  # lines of one view when a text is scored one hidden token at a time


@dataclass(frozen=True)
class Masked(Objective):
    """Hide a share of the tokens; ask for them.

    Parameters
    ----------
    rate : share of a row's text tokens that are asked for, in (0, 1).
    rate_end : the share at the end of training; it moves in a straight line with progress. None: constant.
    hide : single tokens, whole words, or spans of ``span`` tokens on average.
    random, kept : of the asked tokens, the shares shown as a random token and shown as they are (a declared leak);
        the rest show the mask. BERT: 0.1 and 0.1; both 0 is the pure form.

    BERT asks for 0.15; the default is ModernBERT's 0.3 (Warner et al., 2024): twice the answers from a pass.
    """

    rate: float = 0.3
    rate_end: float | None = None
    hide: Hidden = "token"
    span: float = 3.0
    random: float = 0.1
    kept: float = 0.1

    family: ClassVar[str] = "masked"
    title: ClassVar[str] = "masked (BERT): hidden tokens from all the others"
    score_class: ClassVar[Score] = "pseudo"
    decoder: ClassVar[str] = "refinement (Mask-Predict)"
    writes_from: ClassVar[Given] = "both"
    sampler: ClassVar[Sampler] = "refine"
    ahead: ClassVar[int] = 0  # how many places before a hidden token the slot stands that is asked for it

    @property
    def columns(self) -> tuple[Column, ...]:
        return ("infilling",)

    def __post_init__(self) -> None:
        for name in ("rate", "rate_end"):
            rate = getattr(self, name)
            if rate is not None and not 0 < rate < 1:
                raise SightlineError(
                    f"a mask {name} of {rate} asks {'nothing' if rate <= 0 else 'everything and shows nothing'}",
                    "Choose a share between 0 and 1, such as 0.15 or 0.3",
                )
        if self.random < 0 or self.kept < 0 or self.random + self.kept > 1:
            raise SightlineError(
                f"random {self.random} and kept {self.kept} are shares of the hidden tokens", "Keep their sum within 1"
            )
        if self.span < 1:
            raise SightlineError(f"a mean span of {self.span} tokens is shorter than one token", "Use 1 or more")
        self.vocabulary.need("mask")

    @property
    def rule(self) -> Rule:
        return everything

    def rate_at(self, progress: float) -> float:
        """The share asked for at this point of the budget."""
        return self.rate if self.rate_end is None else self.rate + (self.rate_end - self.rate) * progress

    def ask(self, rows: Rows, draws: RowDraws, progress: float) -> list[View]:
        hidden = self.hidden(rows, draws, self.rate_at(progress))
        fate = draws.uniform(rows.length)
        words = self.vocabulary.ordinary
        drawn = words[(draws.uniform(rows.length) * len(words)).astype(np.int64)]
        place = np.arange(rows.length)
        keep = fate < self.kept
        swap = ~keep & (fate < self.kept + self.random)
        corrupted = np.where(keep, place, np.where(swap, fixed(drawn), fixed(self.vocabulary.mask)))
        most = int(np.ceil(max(self.rate, self.rate_end or 0.0) * rows.length)) + 1
        return [self._view(rows, np.where(hidden, corrupted, place), hidden, hidden & keep, most)]

    def candidates(self, rows: Rows) -> NDArray[np.bool_]:
        """Which positions [rows, length] may be hidden."""
        return text_places(rows, self.vocabulary)

    def hidden(self, rows: Rows, draws: RowDraws, rate: float) -> NDArray[np.bool_]:
        """Which positions [rows, length] are asked for: round(rate * text tokens) of each row, at least one.

        Tokens of a group (word, span) share one random number; groups are taken from the smallest number up, and the
        first that would overshoot ends the taking, unless nothing was taken yet.
        """
        candidates = self.candidates(rows)
        quota = np.maximum(1, np.rint(candidates.sum(1) * rate))[:, None]
        groups = self._groups(rows, draws)
        lot = np.take_along_axis(draws.uniform(rows.length), groups, axis=1)
        lot = np.where(candidates, lot, 2.0)
        order = np.lexsort((np.broadcast_to(groups, lot.shape), lot), axis=1)
        taken = np.arange(rows.length)[None] < quota
        if self.hide == "word":  # a word is hidden whole or not at all
            in_order = np.take_along_axis(groups, order, axis=1)
            last_taken = np.minimum(quota.astype(np.int64), rows.length - 1)
            cut = np.take_along_axis(in_order, last_taken, axis=1)
            whole = in_order != cut
            taken = taken & (whole | ~(taken & whole).any(1, keepdims=True))
        hidden = np.zeros_like(candidates)
        np.put_along_axis(hidden, order, taken, axis=1)
        return hidden & candidates

    def _groups(self, rows: Rows, draws: RowDraws) -> NDArray[np.int64]:
        place = np.broadcast_to(np.arange(rows.length), rows.tokens.shape)
        if self.hide == "token":
            return place
        starts = rows.word_starts if self.hide == "word" else draws.uniform(rows.length) < 1 / self.span
        starts = starts | (within_document(rows.documents) == 0)
        return np.maximum.accumulate(np.where(starts, place, 0), axis=1)

    def _view(
        self,
        rows: Rows,
        shows: NDArray[np.int64],
        asked: NDArray[np.bool_],
        declared: NDArray[np.bool_] | None,
        most: int,
        lines_of: NDArray[np.int64] | None = None,
    ) -> View:
        """Slots that show ``shows``; the positions ``asked`` are asked for; both [lines, length]."""
        place = np.arange(rows.length)
        documents = rows.documents if lines_of is None else rows.documents[lines_of]
        return View.of(
            Slots.of(place, documents, positions=within_document(documents)),
            self.rule,
            shows=shows,
            asks=np.where(moved(asked, self.ahead), place + self.ahead, NOTHING),
            most_asks=min(most, rows.length),
            lines_of=lines_of,
            declared=None if declared is None else moved(declared, self.ahead),
            kind=self.family,
        )

    def examine(self, rows: Rows) -> Iterator[View]:
        """Pseudo log-likelihood: a copy of the row for each wanted text token, with that token alone hidden."""
        line, position = np.nonzero(rows.wanted & self.candidates(rows))
        place = np.arange(rows.length)
        for start in range(0, len(line), COPIES):
            part = slice(start, start + COPIES)
            hidden = place == position[part, None]
            yield self._view(
                rows, np.where(hidden, fixed(self.vocabulary.mask), place), hidden, None, 1, lines_of=line[part]
            )

    def read(self, rows: Rows) -> View:
        place = np.broadcast_to(np.arange(rows.length), rows.tokens.shape)
        return self._view(rows, place, np.zeros_like(rows.wanted), None, 1)

    def fill(self, canvas: Canvas) -> View:
        return open_places(canvas, self.rule, self.vocabulary.mask, self.family, self.ahead)


def open_places(canvas: Canvas, rule: Rule, mask: int, kind: str, ahead: int = 0) -> View:
    """Every open place shows the mask and is asked for, of the slot ``ahead`` places before it; nothing else is."""
    place = np.arange(canvas.places)
    asked = moved(canvas.open, ahead)
    return View.of(
        Slots.of(place, np.where(canvas.inside, 0, NO_DOCUMENT)),
        rule,
        shows=np.where(canvas.open, fixed(mask), place),
        asks=np.where(asked, place + ahead, NOTHING),
        most_asks=max(1, int(asked.sum(1).max())),
        kind=kind,
    )


def moved(where: NDArray[np.bool_], ahead: int) -> NDArray[np.bool_]:
    """Truth values about places [lines, places], moved so many places to the front."""
    slots = np.zeros_like(where)
    slots[:, : where.shape[1] - ahead] = where[:, ahead:]
    return slots
