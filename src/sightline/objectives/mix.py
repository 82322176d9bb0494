"""Mixtures: one stack asked in several ways, each row by one of them.

    row 0   [R]  the [1] sat    asked for: cat end        rows are dealt in fixed quotas, a view for each member that
    row 1   [S]  the cat        asked for: sat .          got rows; the first mark of a text gives way to the mark of
    row 2   [X]  [1] . [2]      asked for: the cat ...    its mode, and the loss is the mean over all answers

One member examines and writes: its sight, its columns and its class of score are the mixture's.

Two published ones have names. ``unilm`` (Dong et al., UniLM, 2019): of all rows a third sees both ways; a third has
an opening that does, and goes on from left to right (sequence to sequence); a sixth is left to right and a sixth right
to left. In each, 15% of the tokens stand hidden, by one draw in five two or three in a row, and are asked where they
stand. (The paper's first third also tells whether two texts follow each other; not here.) ``ul2`` (Tay et al., UL2,
2022): denoisers of spans on one stack, regular (R), extreme (X) and sequential (S) in equal thirds.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from ..data import RowDraws, Rows
from ..data.vocabulary import Vocabulary
from ..decoders.canvas import Canvas
from ..errors import SightlineError
from ..sight import NO_DOCUMENT, Rule, Score, View, fixed
from .backward import Backward
from .base import Column, Given, Objective, Term
from .blank import Blank
from .causal import Causal
from .deal import dealt, shares
from .masked import Masked
from .prefix import Prefix
from .setting import settings

if TYPE_CHECKING:
    from .model import Model

MEMBERS: dict[str, type[Objective]] = {kind.family: kind for kind in (Causal, Backward, Masked, Prefix, Blank)}
RECIPES = {
    "unilm": "1/3 masked rate=0.15 hide=gram, 1/3 prefix at_mask=0.15 hide=gram empty=0, "
    "1/6 prefix at_mask=0.15 hide=gram empty=1, 1/6 backward at_mask=0.15 hide=gram",
    "ul2": "1/6 prefix:R denoise=0.15 span=3, 1/6 prefix:R denoise=0.15 span=8, 1/3 prefix:S empty=0 rest=0.25, "
    "1/12 prefix:X denoise=0.5 span=3, 1/12 prefix:X denoise=0.5 span=8, "
    "1/12 prefix:X denoise=0.15 span=64, 1/12 prefix:X denoise=0.5 span=64",
}


@dataclass(frozen=True)
class Member:
    """One way to ask.

    Parameters
    ----------
    weight : share of the rows. mode : its name, whose mark the texts begin with; empty: they begin as they are.
    """

    weight: Fraction
    mode: str
    objective: Objective


@dataclass(frozen=True)
class Mix(Objective):
    """Any weighted mixture of families of one stack.

    Parameters
    ----------
    members : a name (``unilm``, ``ul2``), or members parted by commas, each a share, a family and its settings, as in
        ``1/2 causal, 1/2 masked rate=0.15``. With ``masked:R`` its texts begin with the mark of a mode called R.
    by : number of the member, from 0, that examines and writes; -1: the first that scores whole texts, else the first
        with an exact score, else the first.
    """

    members: str = "unilm"
    by: int = -1

    family: ClassVar[str] = "mix"
    title: ClassVar[str] = "mix: one stack asked in several ways (UniLM, UL2)"

    def __post_init__(self) -> None:
        if not -1 <= self.by < len(self._members):
            raise SightlineError(
                f"there is no member {self.by} among {len(self._members)}", f"Use 0 to {len(self._members) - 1}, or -1"
            )
        modes = {member.mode for member in self._members} - {""}
        self.vocabulary.need_some("modes", len(modes), f"a mixture of {len(modes)} modes")

    @cached_property
    def _members(self) -> tuple[Member, ...]:
        told = RECIPES.get(self.members, self.members)
        members = [_member(self.vocabulary, words) for words in told.split(",")]
        weights = shares([member.weight for member in members], f"the mixture {self.members!r}")
        return tuple(replace(member, weight=weight) for member, weight in zip(members, weights, strict=True))

    @property
    def _weights(self) -> tuple[Fraction, ...]:
        return tuple(member.weight for member in self._members)

    @cached_property
    def _chosen(self) -> Member:
        if self.by >= 0:
            return self._members[self.by]
        whole = [member for member in self._members if "whole text" in member.objective.columns]
        exact = [member for member in self._members if member.objective.score_class == "exact" and _goes_on(member)]
        return [*whole, *exact, *self._members][0]

    @cached_property
    def _filler(self) -> Member | None:
        """The first member that sees both sides of a gap while it writes it."""
        if self._chosen.objective.infills:
            return self._chosen
        return next((member for member in self._members if member.objective.infills), None)

    @property
    def score_class(self) -> Score:  # type: ignore[override]
        return self._chosen.objective.score_class

    @property
    def decoder(self) -> str:  # type: ignore[override]
        return self._chosen.objective.decoder

    @property
    def writes_from(self) -> Given:  # type: ignore[override]
        return self._chosen.objective.writes_from

    @property
    def columns(self) -> tuple[Column, ...]:
        own = self._chosen.objective.columns
        return own if self._filler is None or "infilling" in own else (*own, "infilling")

    @property
    def rule(self) -> Rule:
        return self._chosen.objective.rule

    @property
    def position_tables(self) -> int:
        return max(member.objective.position_tables for member in self._members)

    @property
    def infills(self) -> bool:
        return self._filler is not None

    @property
    def stops(self) -> tuple[int, ...]:
        members = (self._chosen, *([] if self._filler is None else [self._filler]))
        return tuple(dict.fromkeys(stop for member in members for stop in member.objective.stops))

    def term(self, view: View) -> str:
        return self.family

    def ask(self, rows: Rows, draws: RowDraws, progress: float) -> list[View]:
        parts = dealt(rows, self._weights)
        views = []
        for number, member in enumerate(self._members):
            lines = np.flatnonzero(parts == number)
            if not len(lines):
                continue
            for view in member.objective.ask(rows.take(lines), draws.take(lines), progress):
                moded = self._moded(view.of_rows(lines), member)
                views.append(replace(moded, kind=f"{number} {view.kind}", _asked={}))
        return views

    def learn(self, model: Model, rows: Rows, views: list[View], draws: RowDraws) -> list[Term]:
        """The members' own terms, all divided by the answers of all."""
        terms: list[Term] = []
        for number, member in enumerate(self._members):
            mine = [view for view in views if view.kind.startswith(f"{number} ")]
            if mine:
                terms += member.objective.learn(model, rows, mine, draws)
        return [replace(term, name=self.family) for term in terms]

    def examine(self, rows: Rows) -> Iterator[View]:
        for view in self._chosen.objective.examine(rows):
            yield self._moded(view, self._chosen)

    def infill(self, rows: Rows) -> Iterator[View]:
        if self._filler is None:
            yield from super().infill(rows)
        else:
            for view in self._filler.objective.infill(rows):
                yield self._moded(view, self._filler)

    def read(self, rows: Rows) -> View:
        return self._moded(self._chosen.objective.read(rows), self._chosen)

    def fill(self, canvas: Canvas) -> View:
        """By the chosen member; gaps with something given behind them by the one that sees it, where there is one."""
        behind = np.flip(np.logical_or.accumulate(np.flip(canvas.given, 1), axis=1), 1)
        between = bool((canvas.inside & ~canvas.given & behind).any())
        one_sided = self._chosen.objective.writes_from == "left"
        member = self._filler if self._filler is not None and between and one_sided else self._chosen
        return self._moded(member.objective.fill(canvas), member)

    def _moded(self, view: View, member: Member) -> View:
        """The first slot of each text, in the order of reading, shows the mark of the mode."""
        if not member.mode:
            return view
        names = list(dict.fromkeys(one.mode for one in self._members if one.mode))
        token = fixed(self.vocabulary.modes[names.index(member.mode)])
        document, order = view.slots.document, view.slots.order
        by = np.lexsort((order, document), axis=1)
        ranked = np.take_along_axis(document, by, axis=1)
        begins = np.ones_like(ranked, dtype=np.bool_)
        begins[:, 1:] = ranked[:, 1:] != ranked[:, :-1]
        first = np.zeros_like(begins)
        np.put_along_axis(first, by, begins & (ranked != NO_DOCUMENT), axis=1)
        return replace(view, shows=np.where(first, token, view.shows), _asked={})


def _goes_on(member: Member) -> bool:
    return "continuation" in member.objective.columns


def _member(vocabulary: Vocabulary, words: str) -> Member:
    """A member from its words: a share, a family (with a mode), and settings."""
    told = shlex.split(words)
    try:
        weight = Fraction(told[0])
        name, _, mode = told[1].partition(":")
    except (IndexError, ValueError, ZeroDivisionError) as error:
        raise SightlineError(
            f"{words.strip()!r} is no member of a mixture",
            f"Write a share, a family and its settings, such as 1/2 masked rate=0.15; or one of {', '.join(RECIPES)}",
        ) from error
    if name not in MEMBERS:
        raise SightlineError(f"{name!r} cannot be mixed into one stack", f"Choose from {', '.join(MEMBERS)}")
    kind = MEMBERS[name]
    return Member(weight, mode, kind(vocabulary, **settings(kind, told[2:])))
