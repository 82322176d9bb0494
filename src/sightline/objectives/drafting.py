"""Which drafter goes ahead of a model, and whether it can: the same tokens, the same order, a pass that checks several.

A drafter never changes what is written (see ``decoders/speculative.py``); what does not fit is refused in one line.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from ..data import Rows
from ..data.vocabulary import Vocabulary
from ..decoders import ahead
from ..decoders.canvas import Canvas
from ..decoders.drafters import ByModel, Foreseen, Lookup
from ..decoders.speculative import Drafter
from ..errors import SightlineError
from ..sight import cacheable
from ..stacks.cache import Cache
from ..stacks.two import TwoCache
from .base import Objective
from .model import Model

LOOKAHEAD = 5  # tokens that a drafter proposes in a round
DRAFTED = 1  # texts written together where a drafter goes ahead: lines that go on together wait for each other

Drafts = Model | Literal["lookup", "self"]


@dataclass(frozen=True)
class Ahead:
    """A drafter for a model.

    Parameters
    ----------
    name : in words. make : a fresh one for each batch of lines. lookahead : most tokens of a proposal.
    foresees : the model drafts for itself, asked by ``Objective.foresee``.
    """

    name: str
    make: Callable[[], Drafter]
    lookahead: int
    foresees: bool = False

    @classmethod
    def of(cls, model: Model, drafter: Drafts, lookahead: int) -> Ahead:
        """The drafter that is meant.

        Raises
        ------
        SightlineError : it cuts texts into other tokens, writes in another order, or there is none of this name; or the
            model cannot check several tokens in one pass.
        """
        objective = model.objective
        if lookahead < 0:
            raise SightlineError(f"a lookahead of {lookahead} tokens is less than none", "Use 1 or more, or 0 for none")
        if objective.sampler != "next" and not objective.foresees:
            raise SightlineError(f"{objective.family} writes in any order of places, a drafter in one", "Leave it away")
        if drafter == "self":
            if not objective.foresees:
                raise SightlineError(
                    f"{objective.family} asks for one place at a time and cannot draft for itself",
                    "Use --drafter lookup, or the folder of a quicker model with the same tokenizer",
                )
            return cls("itself", Foreseen, lookahead, foresees=True)
        if not checkable(objective):
            raise SightlineError(
                f"each token of {objective.family} changes what stands before it, so that no pass checks several",
                "Leave --drafter away",
            )
        if drafter == "lookup":
            return cls("lookup", Lookup, lookahead)
        if not isinstance(drafter, Model):
            raise SightlineError(f"there is no drafter {drafter!r}", "Use lookup, self, or a model")
        other = drafter.objective
        if drafter.numbers or drafter.tokenizer.fingerprint != model.tokenizer.fingerprint:
            raise SightlineError(
                f"the drafter has another tokenizer ({drafter.tokenizer}, not {model.tokenizer})",
                "Train it with --tokenizer and the model's own, or use --drafter lookup",
            )
        if not other.writes or other.sampler != "next" or other.writes_from != objective.writes_from:
            raise SightlineError(
                f"{other.family} does not write one place after the other in the order of {objective.family}",
                "Draft with a model that does, such as causal for what is written left to right",
            )
        return cls(
            other.family,
            lambda: ByModel(other.fill, drafter.logits, cache_of(drafter), drafter.context),
            lookahead,
        )


def cache_of(model: Model) -> Callable[[], Cache | TwoCache] | None:
    """Makes a cache for what the model writes; None where states change while it does."""
    objective = model.objective
    if not objective.settles:
        vocabulary = objective.vocabulary
        sample = [*starts(vocabulary), *vocabulary.ordinary[:3], *middle(objective), *ends(vocabulary)]
        views = objective.halves[0].examine(Rows.of([np.array(sample)], model.tokenizer))
        if not all(cacheable(view) for view in views):
            return None
    return model.cache


def starts(vocabulary: Vocabulary) -> list[int]:
    """The mark that a text begins with, if there is one."""
    return [mark for mark in (vocabulary.bos, vocabulary.cls) if mark >= 0][:1]


def ends(vocabulary: Vocabulary) -> list[int]:
    """The mark that a text ends with, if there is one."""
    return [mark for mark in (vocabulary.eos, vocabulary.sep) if mark >= 0][:1]


def middle(objective: Objective, pairs: bool = False) -> list[int]:
    """The mark in which the source of a pair ends, if the family is one of pairs, or learned ``pairs`` as texts."""
    return [objective.vocabulary.sep] if pairs or objective.reads == "pairs" else []


def checkable(objective: Objective) -> bool:
    """Whether one pass may ask for several places, each given the tokens before it: see ``Drafting``."""
    vocabulary, backwards = objective.vocabulary, objective.writes_from == "right"
    given = [*starts(vocabulary), *vocabulary.ordinary[:2].tolist(), *middle(objective)]
    canvas = Canvas.laid([[3, given] if backwards else [given, 3]])
    places = ahead.places_of(canvas, backwards=backwards)
    if places is None:
        return False
    first = objective.fill(canvas)
    if first.settled is not None:
        return True
    written = canvas.written(np.array([0]), places[0, :1], np.array(given[-1:]))
    return ahead.pretended(objective.fill, written, places[:, 1:], first.slots.count) is not None
