"""The one loop that writes: ask for open places, accept some of the answers, and again until nothing is open.

canvas --fill--> view --logits--> answers --policy--> canvas      finished lines leave; the others go on together
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..errors import SightlineError
from ..sight import NOTHING, View
from ..sight.rule import FIELDS
from . import ahead
from .canvas import Canvas
from .draft import Asked, Bools, Draft, Floats, Ints, Move, Written
from .policy import NextPlace, Policy
from .sampling import GREEDY, Sampling


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


class _Questions(Generic[K]):
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

    def put(self, view: View, tokens: NDArray[Any]) -> tuple[View, Tensor]:
        """The view that was fed, and its answers [lines, most_asks, vocabulary]."""
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
        if self.cache is None or self.fed is None or places is None or self.by_rounds:
            return None
        held = self.fed[0].shape[1]
        found = ahead.pretended(fill, canvas, places, held)
        if found is None:
            return None
        view, ghost = found
        slots = _slots(view, ghost.tokens)
        if not all(np.array_equal(old, new[:, :held]) for old, new in zip(self.fed, slots, strict=True)):
            return None
        said = answers(view.tail(held), ghost.tokens, self.cache, barred, stops)
        if said is None:
            self.by_rounds = True
            return None
        tokens, logprobs = said
        behind = np.cumsum(np.isin(tokens, stops), axis=0) > 0  # what need not have been answered, nor fed
        slots[-1][:, held + 1 : held + len(tokens)] = np.where(behind, NEVER, tokens)[:-1].T
        self.fed = [field[:, : held + len(tokens)] for field in slots]
        if not np.isfinite(logprobs).all() or np.isin(tokens, barred).any():  # nothing is allowed: said round by round
            return None
        return ahead.accepted(places, tokens, logprobs, stops)

    def take(self, lines: Ints) -> None:
        """Go on with these lines."""
        if self.cache is None or self.fed is None or np.array_equal(lines, np.arange(len(self.fed[0]))):
            return
        self.cache.lines(torch.from_numpy(lines))
        self.fed = [field[lines] for field in self.fed]


def _slots(view: View, tokens: NDArray[Any]) -> list[NDArray[Any]]:
    """What a cache holds of the view's slots [lines, slots]: fields, positions, shown tokens."""
    return [*(getattr(view.slots, name) for name in FIELDS), view.slots.positions, view.shown(tokens)]


@torch.no_grad()
def write(
    fill: Callable[[Canvas], View],
    logits: Logits[K],
    canvas: Canvas,
    policy: Policy,
    sampling: Sampling = GREEDY,
    *,
    stops: Sequence[int] = (),
    forbidden: Sequence[int] | NDArray[Any] = (),
    min_length: int = 0,
    make_cache: Callable[[], K] | None = None,
    answers: ahead.Answers[K] | None = None,
    generator: torch.Generator | None = None,
    on_round: Callable[[Draft, int], None] | None = None,
    owners: Ints | None = None,
    held: View | None = None,
) -> Written:
    """Write every open place of a canvas.

    Parameters
    ----------
    fill : the view that asks for open places of a canvas.
    logits : answers [lines, most_asks, vocabulary] to a view over tokens [lines, places], with a cache or None.
    canvas : what is given and what is open; the longest text is as long as the open places allow.
    policy : what to accept in each round.
    sampling : how a token is drawn.
    stops : ids that end their line when written; what is still open there falls outside the text.
    forbidden : ids never written, unless they are stops.
    min_length : tokens a line must have written before it may stop.
    make_cache : an empty cache; None where states change while a text is written.
    answers : a run of likeliest tokens at once, given a view of their slots, its tokens, the cache and what is barred;
        or None, round by round.
    generator : the randomness of the draws; its device is where they are made.
    on_round : called with the draft and the number of each round, or of the last of a run.
    owners : [lines] from 0 up: lines of one owner are candidates for one text, of which the policy keeps the best.
    held : slots that the cache holds already, which every view of the canvas begins with.

    Raises
    ------
    SightlineError : the view asks nothing about a line with open places, or every id is forbidden.
    """
    stop_ids = np.asarray(stops, dtype=np.int64)
    barred = np.setdiff1d(np.asarray(forbidden, dtype=np.int64), stop_ids)
    questions = _Questions(logits, make_cache() if make_cache is not None else None)
    if held is not None:
        questions.fed = _slots(held, canvas.tokens)
    draft = Draft.of(canvas, owners)
    finished: list[list[Draft]] = [[] for _ in range(int(draft.owners.max(initial=-1)) + 1)]
    draft = _leave(draft, finished, questions, None)
    number = 0
    answered: tuple[View, Tensor] | None = None  # kept while nothing is written
    if not (isinstance(policy, NextPlace) and sampling.greedy):
        answers = None
    while draft.canvas.lines:
        if answers is not None and not _early(draft, stop_ids, min_length).any():
            run = questions.run(fill, answers, draft.canvas, stop_ids, barred)
            if run is not None:
                move, rounds = run
                draft = draft.after(move, stop_ids, number + rounds)
                number += int(rounds.max())
                if on_round is not None:
                    on_round(draft, number)
                draft = _leave(draft, finished, questions, None)
                continue
        number += 1
        view, said = answered or questions.put(fill(draft.canvas), draft.canvas.tokens)
        asked = _asked(view, said, draft, stop_ids, barred, min_length)
        move = policy.move(draft, asked, sampling, generator, number)
        draft = draft.after(move, stop_ids, number)
        again = policy.again(draft, number, generator)
        if again is not None:
            draft = replace(draft, canvas=draft.canvas.reopened(again))
        same = not len(move.line) and move.parents is None and (again is None or not again.any())
        answered = (view, said) if same else None
        if on_round is not None:
            on_round(draft, number)
        draft = _leave(draft, finished, questions, move.parents)
    return _written(finished, policy, number)


def _asked(view: View, said: Tensor, draft: Draft, stops: Ints, barred: Ints, min_length: int) -> Asked:
    """The answers place by place, with what may not be written barred."""
    index, real = view.asked_slots
    answered = real.any(1)
    if not answered.all():
        raise SightlineError(
            f"nothing is asked about line {int(draft.owners[answered.argmin()])}, which has open places",
            "Give each text at least the mark it starts from",
        )
    line, column = np.nonzero(real)
    place = view.asks[line, index[line, column]]
    if len(line) == real.size:  # every answer is wanted, in this order already
        flat = said.flatten(0, 1)
    else:
        flat = said[torch.from_numpy(line).to(said.device), torch.from_numpy(column).to(said.device)]
    allowed = flat
    if len(barred):
        allowed = flat.index_fill(1, torch.from_numpy(barred).to(said.device), -torch.inf)
    early = np.flatnonzero(_early(draft, stops, min_length)[line])
    if len(early):
        allowed = allowed.clone() if allowed is flat else allowed
        rows, columns = np.ix_(early, stops)
        allowed[torch.from_numpy(rows).to(said.device), torch.from_numpy(columns).to(said.device)] = -torch.inf
    return Asked(line, place, flat, allowed)


def _early(draft: Draft, stops: Ints, min_length: int) -> Bools:
    """Lines that may not stop yet."""
    if min_length <= 0 or not len(stops):
        return np.zeros(draft.canvas.lines, np.bool_)
    return np.asarray((draft.writable & ~draft.canvas.open).sum(1) < min_length)


def _leave(draft: Draft, finished: list[list[Draft]], questions: _Questions[K], parents: Ints | None) -> Draft:
    """Finished lines put aside; the others go on together."""
    done = draft.canvas.done
    if not done.any():
        if parents is not None:
            questions.take(parents)
        return draft
    for line in np.flatnonzero(done):
        finished[int(draft.owners[line])].append(draft.take(slice(line, line + 1)))
    stay = np.flatnonzero(~done)
    if len(stay):
        questions.take(stay if parents is None else parents[stay])
    draft = draft.take(stay)
    return replace(draft, ended=np.array([len(finished[owner]) for owner in draft.owners], dtype=np.int64))


def _written(finished: list[list[Draft]], policy: Policy, rounds: int) -> Written:
    """The best lines of each owner, the best first."""

    def worth(draft: Draft) -> float:
        return policy.worth(float(draft.logprobs.sum()), int(draft.writable.sum()))

    kept = [draft for drafts in finished for draft in sorted(drafts, key=worth, reverse=True)[: policy.keep]]

    def joined(arrays: list[Any]) -> Any:
        return np.concatenate(arrays)

    logprobs: Floats = joined([draft.logprobs for draft in kept])
    return Written(
        canvas=Canvas(
            joined([draft.canvas.tokens for draft in kept]),
            joined([draft.canvas.open for draft in kept]),
            joined([draft.canvas.given for draft in kept]),
            joined([draft.canvas.inside for draft in kept]),
        ),
        owners=joined([draft.owners for draft in kept]),
        logprobs=logprobs,
        film=joined([draft.film for draft in kept]),
        worth=np.array([worth(draft) for draft in kept]),
        rounds=rounds,
    )
