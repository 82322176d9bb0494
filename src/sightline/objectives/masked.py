"""Masked language models (BERT): some tokens are hidden, and predicted from everything that is not.

    the   ■ ■ ■ ■                        p(x_i | the corrupted text) for each hidden i, independently of each other
    MASK  ■ ■ ■ ■   asked for: cat
    sat   ■ ■ ■ ■                        pseudo: hiding one token at a time and adding up (Salazar et al., 2020) is
    .     ■ ■ ■ ■                        no distribution over texts, and is never ranked beside one

Devlin et al., BERT (2019); whole words: its repository; spans: Joshi et al., SpanBERT (2020). What is hidden is drawn
anew at each visit of a row, as in RoBERTa (Liu et al., 2019). A token is scored with the later pieces of its own word
hidden too (Kauf and Ivanova, 2023): beside them, the pieces of a word that is cut up are too easy.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from ..data import RowDraws, Rows
from ..data.vocabulary import Vocabulary
from ..decoders.canvas import Canvas
from ..errors import SightlineError
from ..sight import NO_DOCUMENT, NOTHING, Rule, Score, Slots, View, everything, fixed
from .base import Column, Given, Objective, Sampler, text_places, within_document

Hidden = Literal["token", "word", "span", "gram"]
Course = Literal["linear", "cosine", "half"]
GRAMS = 0.2  # share of draws that hide two or three tokens in a row (UniLM)
COPIES = 64  # lines of one view when a text is scored one hidden token at a time


@dataclass(frozen=True)
class Masked(Objective):
    """Hide a share of the tokens; ask for them.

    Parameters
    ----------
    rate : share of a row's text tokens that are asked for, in (0, 1).
    rate_end : the share at the end of training. None: constant.
    course : how it gets there: ``linear`` in progress, ``cosine``, or ``half`` (at once, in the middle).
    rate_high : each row draws its own share, uniform between ``rate`` and this. None: all have the same.
    hide : single tokens, whole words, spans of whole words, or ``gram``: of the draws four in five hide one token, the
        others two or three in a row (UniLM).
    span, longest : the words of a span are drawn from a geometric distribution of mean ``span`` that is cut at
        ``longest``: of 5 and 10 (SpanBERT's) the mean that is left is 3.8.
    segmented : Chinese words as a segmenter cuts them (extra ``chinese``); else each character is a word.
    random, kept : of the asked tokens, the shares shown as a random token and shown as they are (a declared leak);
        the rest show the mask. BERT: 0.1 and 0.1; both 0 is the pure form.
    within : a score hides, beside the token asked for, the later tokens of its word: ``word``; or nothing: ``token``.

    BERT asks for 0.15; the default is ModernBERT's 0.3 (Warner et al., 2024): twice the answers from a pass.
    """

    rate: float = 0.3
    rate_end: float | None = None
    course: Course = "linear"
    rate_high: float | None = None
    hide: Hidden = "token"
    span: float = 5.0
    longest: int = 10
    segmented: bool = False
    random: float = 0.1
    kept: float = 0.1
    within: Literal["word", "token"] = "word"

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
        for name in ("rate", "rate_end", "rate_high"):
            rate = getattr(self, name)
            if rate is not None and not 0 < rate < 1:
                raise SightlineError(
                    f"a mask {name} of {rate} asks {'nothing' if rate <= 0 else 'everything and shows nothing'}",
                    "Choose a share between 0 and 1, such as 0.15 or 0.3",
                )
        if self.rate_high is not None and (self.rate_high < self.rate or self.rate_end is not None):
            raise SightlineError(
                f"rates drawn from {self.rate} to {self.rate_high} need an upper end, and do not move as well",
                "Raise rate_high above rate, or leave rate_high or rate_end away",
            )
        if self.random < 0 or self.kept < 0 or self.random + self.kept > 1:
            raise SightlineError(
                f"random {self.random} and kept {self.kept} are shares of the hidden tokens", "Keep their sum within 1"
            )
        if self.span < 1 or self.longest < 1:
            raise SightlineError(
                f"spans of {self.span} words, at most {self.longest}, are shorter than a word", "Use 1 or more"
            )
        self.vocabulary.need("mask")

    @property
    def rule(self) -> Rule:
        return everything

    @property
    def examined_how(self) -> str:
        beside = "with the later tokens of its word" if self.within == "word" else "alone"
        return f"each token hidden {beside} and asked given all others"

    def rate_at(self, progress: float) -> float:
        """The share asked for at this point of the budget."""
        if self.rate_end is None:
            return self.rate
        gone = {"linear": progress, "cosine": (1 - np.cos(np.pi * progress)) / 2, "half": float(progress >= 0.5)}
        return self.rate + (self.rate_end - self.rate) * float(gone[self.course])

    def ask(self, rows: Rows, draws: RowDraws, progress: float) -> list[View]:
        if self.rate_high is None:
            hidden = self.hidden(rows, draws, self.rate_at(progress))
        else:
            hidden = self.hidden(rows, draws, self.rate + (self.rate_high - self.rate) * draws.uniform(1)[:, 0])
        place = np.broadcast_to(np.arange(rows.length), hidden.shape)
        shows, kept = corrupted(place, hidden, draws, self.vocabulary, self.random, self.kept)
        highest = max(self.rate, self.rate_end or 0.0, self.rate_high or 0.0)
        most = int(np.ceil(highest * rows.length)) + 1
        return [self._view(rows, shows, hidden, kept, most)]

    def candidates(self, rows: Rows) -> NDArray[np.bool_]:
        """Which positions [rows, length] may be hidden."""
        return text_places(rows, self.vocabulary)

    def hidden(self, rows: Rows, draws: RowDraws, rate: float | NDArray[np.float64]) -> NDArray[np.bool_]:
        """Which positions [rows, length] are asked for: round(rate * text tokens) of each row, at least one.

        ``rate`` is one for all or one for each row. Tokens of a group (word, span) share one random number; groups are
        taken from the smallest number up, and the first that would overshoot ends the taking, unless nothing was taken
        yet.
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
        if self.hide == "gram":
            starts = grams(draws, rows.length)
        else:
            words = rows.segmented_starts if self.segmented else rows.word_starts
            starts = words if self.hide == "word" else words & self._span_starts(words, draws)
        return grouped(starts | (within_document(rows.documents) == 0))

    def _span_starts(self, words: NDArray[np.bool_], draws: RowDraws) -> NDArray[np.bool_]:
        """Which tokens are of a word that a span begins with, where each row is cut into spans of drawn lengths."""
        stop = 1 - 1 / self.span
        chances = stop ** np.arange(self.longest)
        lengths = 1 + np.searchsorted(np.cumsum(chances[:-1]) / chances.sum(), draws.uniform(words.shape[1]), "right")
        word = np.maximum(np.cumsum(words, axis=1) - 1, 0)  # the number of the word that each token is of
        return np.take_along_axis(laid(lengths), word, axis=1)

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
        """Pseudo log-likelihood: a copy of the row for each wanted text token, which is hidden (see ``within``)."""
        line, position = np.nonzero(rows.wanted & self.candidates(rows))
        place = np.arange(rows.length)
        word = np.cumsum(rows.word_starts | ~text_places(rows, self.vocabulary), axis=1)
        for start in range(0, len(line), COPIES):
            part = slice(start, start + COPIES)
            asked = hidden = place == position[part, None]
            if self.within == "word":
                of_it = word[line[part]] == word[line[part], position[part]][:, None]
                hidden = of_it & (place >= position[part, None])
            yield self._view(
                rows, np.where(hidden, fixed(self.vocabulary.mask), place), asked, None, 1, lines_of=line[part]
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


def laid(lengths: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Where stretches of these ``lengths`` [rows, count] begin, laid end to end along places [rows, count]."""
    ends = np.cumsum(lengths, axis=1)
    begins = np.zeros(lengths.shape, np.bool_)
    begins[:, 0] = True
    line, number = np.nonzero(ends < lengths.shape[1])
    begins[line, ends[line, number]] = True
    return begins


def grams(draws: RowDraws, count: int) -> NDArray[np.bool_]:
    """Where stretches of one token begin, or, with a chance of ``GRAMS``, of two or of three, [rows, count]."""
    lot = draws.uniform(count)
    return laid(1 + (lot < GRAMS).astype(np.int64) + (lot < GRAMS / 2))


def grouped(starts: NDArray[np.bool_]) -> NDArray[np.int64]:
    """The first place of the stretch that each place [rows, places] is of."""
    return np.maximum.accumulate(np.where(starts, np.arange(starts.shape[1]), 0), axis=1)


def corrupted(
    shows: NDArray[np.int64],
    hidden: NDArray[np.bool_],
    draws: RowDraws,
    vocabulary: Vocabulary,
    random: float = 0.1,
    kept: float = 0.1,
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """What slots show where some are ``hidden``, and which of those show their own token still; all [rows, slots].

    ``random`` and ``kept`` are shares of the hidden that show a random token, and their own; the rest show the mask.
    BERT's are 0.1 and 0.1.
    """
    fate, words = draws.uniform(shows.shape[1]), vocabulary.ordinary
    drawn = words[(draws.uniform(shows.shape[1]) * len(words)).astype(np.int64)]
    keep = fate < kept
    swap = ~keep & (fate < kept + random)
    instead = np.where(keep, shows, np.where(swap, fixed(drawn), fixed(vocabulary.mask)))
    return np.where(hidden, instead, shows), hidden & keep
