"""Views put to a model, of which with a cache only the new slots are fed; rounds that are known before, at once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..sight import NOTHING, View
from ..sight.rule import FIELDS
from . import ahead
from .canvas import Canvas
from .draft import Ints, Move


class Kept(Protocol):
    """A cache as the loop needs it: what a model made of slots whose state no longer changes."""

    @property
    def count(self) -> int:
        """Slots held."""

    def cut(self, count: int) -> None:
        """Forget every slot after the first ``count``, and those before it that are of no use without them."""

    def lines(self, index: Tensor) -> None:
        """Keep, repeat or reorder lines."""


NEVER = -2  # no slot shows it
K = TypeVar("K", bound=Kept)
Logits = Callable[[View, NDArray[Any], K | None], Tensor]


class Questions(Generic[K]):
    """Puts views to a model; with a cache only those slots that are new since the last time.

    New is every column of slots from the first that differs, in any line, from what was fed, and those whose states
    are not settled yet. A line that moves (the longest of a padded batch left) is thus fed anew: the cache is never
    wrong, at worst useless for one round.
    """

    def __init__(self, logits: Logits[K], cache: K | None) -> None:
        self.logits = logits
        self.cache = cache
        self.fed: list[NDArray[Any]] | None = None
        self.by_rounds = False  # a run was asked for in vain
        self.settles = False  # the last view had slots at its end that change with each token

    @property
    def held(self) -> int:
        """Slots that were fed and not forgotten."""
        return 0 if self.fed is None else int(self.fed[0].shape[1])

    def hold(self, view: View, tokens: NDArray[Any]) -> None:
        """The cache holds these slots already."""
        self.fed = _slots(view, tokens)

    def put(self, view: View, tokens: NDArray[Any]) -> tuple[View, Tensor]:
        """The view that was fed, and its answers [lines, most_asks, vocabulary]."""
        self.settles = view.settled is not None
        if self.cache is None:
            return view, self.logits(view, tokens, None)
        slots = _slots(view, tokens)
        start = 0
        if self.fed is not None:
            start = int((view.asks != NOTHING).any(0).argmax()) if view.settled is None else view.settled
            for old, new in zip(self.fed, slots, strict=True):
                start = min(start, old.shape[1])
                if not np.array_equal(old[:, :start], new[:, :start]):
                    same = (old[:, :start] == new[:, :start]).reshape(len(new), start, -1).all(axis=(0, 2))
                    start = int(same.argmin())
        self.cache.cut(start)
        self.fed = slots
        view = view.tail(self.cache.count)
        return view, self.logits(view, tokens, self.cache)

    def run(
        self, fill: Callable[[Canvas], View], answers: ahead.Answers[K], canvas: Canvas, stops: Ints, barred: Ints
    ) -> tuple[Move, Ints] | None:
        """What a run of rounds writes, and in which of its rounds, from 1; None where it goes round by round."""
        places = ahead.places_of(canvas)
        found = None if places is None or self.by_rounds else self._pretended(fill, canvas, places, None)
        if places is None or found is None or self.cache is None:
            return None
        view, tokens, slots = found
        held = self.held
        said = answers(view.tail(held), tokens, self.cache, barred, stops)
        if said is None:
            self.by_rounds = True
            return None
        chosen, logprobs = said
        behind = np.cumsum(np.isin(chosen, stops), axis=0) > 0  # what need not have been answered, nor fed
        slots[-1][:, held + 1 : held + len(chosen)] = np.where(behind, NEVER, chosen)[:-1].T
        self.fed = [field[:, : held + len(chosen)] for field in slots]
        if not np.isfinite(logprobs).all() or np.isin(chosen, barred).any():  # nothing is allowed: said round by round
            return None
        return ahead.accepted(places, chosen, logprobs, stops)

    def verify(self, fill: Callable[[Canvas], View], canvas: Canvas, places: Ints, tokens: Ints) -> Tensor | None:
        """Answers [lines, rounds, vocabulary] for the next ``places`` [lines, rounds], each given the tokens before it.

        All but the last are pretended to hold ``tokens`` [lines, rounds - 1]. None where it goes round by round.
        """
        found = self._pretended(fill, canvas, places, tokens)
        if found is None:
            return None
        view, pretended, slots = found
        held = self.held
        asks = view.asks.copy()
        asks[:, held:] = places
        self.fed = slots
        view = replace(view, asks=asks, most_asks=places.shape[1], _asked={}).tail(held)
        return self.logits(view, pretended, self.cache)

    def follow(
        self,
        fill: Callable[[Canvas], View],
        canvas: Canvas,
        places: Ints,
        choose: Callable[[Tensor, int], Ints],
    ) -> bool:
        """Ask for the next ``places`` [lines, rounds] one after the other, in slots that are laid out once.

        ``choose`` is given the answers [lines, vocabulary] of a round and its number, from 0, and says the token
        [lines] that the next one shows. False, and nothing was asked, where it goes round by round.
        """
        found = self._pretended(fill, canvas, places, None)
        if found is None:
            return False
        view, pretended, slots = found
        held, lines = self.held, np.arange(len(places))
        self.fed = slots
        asks = view.asks.copy()
        asks[:, held:] = places
        view = replace(view, asks=asks, most_asks=1)
        for number, place in enumerate(places.T):
            at = held + number
            token = choose(self.logits(view.columns(slice(at, at + 1)), pretended, self.cache)[:, 0], number)
            if number + 1 < places.shape[1]:
                pretended[lines, place] = slots[-1][:, at + 1] = token
        return True

    def _pretended(
        self, fill: Callable[[Canvas], View], canvas: Canvas, places: Ints, tokens: Ints | None
    ) -> tuple[View, NDArray[Any], list[NDArray[Any]]] | None:
        """View, tokens and slots of the last round of some; None where those fed are not the first of its slots."""
        if self.cache is None or self.fed is None:
            return None
        held = self.held
        found = ahead.pretended(fill, canvas, places, held, tokens)
        if found is None:
            return None
        view, ghost = found
        slots = _slots(view, ghost.tokens)
        if not all(np.array_equal(old, new[:, :held]) for old, new in zip(self.fed, slots, strict=True)):
            return None
        return view, ghost.tokens, slots

    def keep(self, count: int) -> None:
        """Forget every slot after the first ``count``."""
        if self.cache is not None and self.fed is not None:
            self.cache.cut(count)
            self.fed = [field[:, :count] for field in self.fed]

    def take(self, lines: Ints) -> None:
        """Go on with these lines."""
        if self.cache is None or self.fed is None or np.array_equal(lines, np.arange(len(self.fed[0]))):
            return
        self.cache.lines(torch.from_numpy(lines))
        self.fed = [field[lines] for field in self.fed]


def _slots(view: View, tokens: NDArray[Any]) -> list[NDArray[Any]]:
    """What a cache holds of the view's slots [lines, slots]: fields, positions, shown tokens."""
    return [*(getattr(view.slots, name) for name in FIELDS), view.slots.positions, view.shown(tokens)]
