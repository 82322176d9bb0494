"""Masked diffusion: BERT with a drawn share of masks and a weight that makes it a model of texts.

    MASK  ■ ■ ■ ■   asked for: the       -log p(x) <= E over t of 1/t * sum over hidden i of -log p(x_i | x not hidden)
    cat   ■ ■ ■ ■
    MASK  ■ ■ ■ ■   asked for: sat       each token is hidden with probability t, t uniform in (0, 1); a bound, given
    .     ■ ■ ■ ■                        how many tokens there are, and estimated: levels and masks are drawn

An autoencoding model that writes: from nothing but masks, a few tokens a round, in any order. The bound is the mean
over all orders in which a text can be written.

Sahoo et al., Simple and Effective Masked Diffusion Language Models (MDLM, 2024); Nie et al., Large Language Diffusion
Models (LLaDA, 2025).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from ..data import Draws, RowDraws, Rows
from ..decoders.canvas import Canvas
from ..errors import SightlineError
from ..sight import NO_DOCUMENT, NOTHING, Rule, Score, Slots, View, everything, fixed
from .base import Column, Given, Objective, Sampler, after_document, text_places, within_document
from .masked import open_places

# Multiples modulo 1 fill the line evenly, and those of the three fill the cube, however many are taken: powers of 1/g
# where g^2 = g + 1, and where g^4 = g + 1.
GOLDEN = 0.6180339887498949
EVEN = (0.8191725133961645, 0.6710436067037893, 0.5497004779019703)


@dataclass(frozen=True)
class Diffusion(Objective):
    """Hide each token with a probability that is drawn for each document.

    Parameters
    ----------
    masks : ``counted``: exactly l of L tokens, l uniform in 1..L, weight L / l. ``drawn``: each token by itself with
        the drawn probability, weight 1 / probability (as MDLM and LLaDA train). Both estimate one bound; counted varies
        less, has no rare row of enormous weight, and is what texts are scored with.
    times : ``even``: levels of a row's documents are spread over (0, 1), from a drawn beginning (MDLM's antithetic
        draws, within a row so that a row's draws never depend on its batch). ``drawn``: each by itself (LLaDA).
    schedule : how the probability of drawn masks grows with t: ``linear`` (MDLM's log-linear noise), or ``cosine``,
        which hides less in most rows; the weight follows, so that the bound stays the same.
    least, most : t of drawn masks. Above 0 they bound the weights, below 1 they leave out rows that show next to
        nothing; a clipped loss is no bound (Arriola et al., 2025), and scores are never clipped.
    """

    masks: Literal["counted", "drawn"] = "counted"
    times: Literal["even", "drawn"] = "even"
    schedule: Literal["linear", "cosine"] = "linear"
    least: float = 0.001
    most: float = 1.0

    family: ClassVar[str] = "diffusion"
    title: ClassVar[str] = "diffusion (MDLM, LLaDA): hidden tokens from all the others, at every rate"
    score_class: ClassVar[Score] = "bound"
    decoder: ClassVar[str] = "the surest few of all open places a round"
    writes_from: ClassVar[Given] = "both"
    sampler: ClassVar[Sampler] = "surest"

    def __post_init__(self) -> None:
        if not 0 < self.least < self.most <= 1:
            raise SightlineError(
                f"times from {self.least} to {self.most} are no part of (0, 1]",
                "Choose least below most, such as 0.001",
            )
        never = {*self.vocabulary.never, self.vocabulary.need("mask")}  # no text holds a mask
        object.__setattr__(self, "vocabulary", replace(self.vocabulary, never=tuple(sorted(never))))

    @property
    def columns(self) -> tuple[Column, ...]:
        return ("whole text", "continuation")

    @property
    def scores_from(self) -> Given:
        """Windows of a long text may look back and not ahead, or their sum were no bound."""
        return "left"

    @property
    def rule(self) -> Rule:
        return everything

    def ask(self, rows: Rows, draws: RowDraws, progress: float) -> list[View]:
        groups = self._groups(rows)
        if self.times == "even":
            time = draws.uniform(1) + groups.number * GOLDEN
        else:
            time = np.take_along_axis(draws.uniform(rows.length), groups.first, axis=1)
        lot = draws.uniform(rows.length)
        choose = groups.counted if self.masks == "counted" else self._drawn
        hidden, weights = choose(self._candidates(rows), time % 1, lot)
        return [self._view(rows, hidden, weights)]

    def examine(self, rows: Rows) -> Iterator[View]:
        """One drawn level and mask for each document: an unbiased estimate of the bound. Other visits, other draws.

        Levels are spread evenly over rows that are numbered one after the other, and over visits.
        """
        groups, draws = self._groups(rows), Draws(0)
        start = draws.scalar("times") + rows.numbers * EVEN[1] + rows.visits * EVEN[2]
        lot = draws.of(rows).uniform(rows.length)
        time = (start[:, None] + groups.number * EVEN[0]) % 1
        yield self._view(rows, *groups.counted(self._candidates(rows) & rows.wanted, time, lot))

    def read(self, rows: Rows) -> View:
        nothing = np.zeros_like(rows.wanted)
        return self._view(rows, nothing, nothing)

    def fill(self, canvas: Canvas) -> View:
        return open_places(canvas, self.rule, self.vocabulary.mask, self.family)

    def counts(self, views: list[View]) -> dict[str, float]:
        """The tokens of the text, hidden or not: the bound is of all of them."""
        return {self.family: float(sum((view.slots.document != NO_DOCUMENT).sum() for view in views))}

    def _candidates(self, rows: Rows) -> NDArray[np.bool_]:
        """Text and the marks that end it."""
        ends = (rows.tokens == self.vocabulary.eos) & (rows.documents != NO_DOCUMENT)
        return np.asarray(text_places(rows, self.vocabulary) | ends)

    def _groups(self, rows: Rows) -> Groups:
        """What shares a level: a document."""
        return Groups.of(within_document(rows.documents) == 0)

    def _drawn(
        self, candidates: NDArray[np.bool_], time: NDArray[np.float64], lot: NDArray[np.float64]
    ) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
        """Each token hidden by itself; the weight is the rate's slope over the rate (1/t where the rate is t)."""
        t = self.least + (self.most - self.least) * time
        if self.schedule == "cosine":
            rate, slope = 1 - np.cos(np.pi / 2 * t), np.pi / 2 * np.sin(np.pi / 2 * t)
        else:
            rate, slope = t, np.ones_like(t)
        return candidates & (lot < rate), slope / rate

    def _view(self, rows: Rows, hidden: NDArray[np.bool_], weights: NDArray[np.float64] | NDArray[np.bool_]) -> View:
        place = np.arange(rows.length)
        return View.of(
            Slots.of(place, rows.documents, positions=within_document(rows.documents)),
            self.rule,
            shows=np.where(hidden, fixed(self.vocabulary.mask), place),
            asks=np.where(hidden, place, NOTHING),
            weights=weights,
            kind=self.family,
        )


@dataclass(frozen=True)
class Groups:
    """Neighbouring places of a row that share a level; all arrays are [rows, length].

    Parameters
    ----------
    number : of the group, from 0 up in each row. first : place of its first member. size : members.
    """

    number: NDArray[np.int64]
    first: NDArray[np.int64]
    size: NDArray[np.int64]

    @classmethod
    def of(cls, starts: NDArray[np.bool_]) -> Groups:
        """Groups from the places at which they start."""
        number = np.cumsum(starts, axis=1) - 1
        index = within_document(number)
        return cls(number, np.arange(starts.shape[1]) - index, index + after_document(number) + 1)

    def counted(
        self, candidates: NDArray[np.bool_], time: NDArray[np.float64], lot: NDArray[np.float64]
    ) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
        """Exactly l of each group's L candidates, those of the smallest lots; l = 1 + floor(time * L), weight L / l."""
        place = np.arange(candidates.shape[1])
        order = np.lexsort((np.where(candidates, lot, 2.0), self.number), axis=1)  # each group in its own places
        rank = np.empty_like(self.number)
        np.put_along_axis(rank, order, place - self.first, axis=1)
        before = np.cumsum(candidates, axis=1)
        last = np.take_along_axis(before, self.first + self.size - 1, axis=1)
        members: NDArray[np.int64] = last - np.take_along_axis(before - candidates, self.first, axis=1)
        count = 1 + np.floor(time * members)
        return candidates & (rank < count), members / count
