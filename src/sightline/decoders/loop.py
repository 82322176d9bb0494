"""The one loop that writes: ask for open places, accept some of the answers, and again until nothing is open.

canvas --fill--> view --logits--> answers --policy--> canvas      finished lines leave; the others go on together
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..sight import View
from . import ahead
from .allowance import Allowance
from .canvas import Canvas
from .draft import Draft, Floats, Ints, Written
from .policy import NextPlace, Policy
from .questions import K, Logits, Questions
from .sampling import GREEDY, Sampling
from .speculative import Drafter, Drafting


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
    drafter: Drafter | None = None,
    lookahead: int = 0,
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
    drafter : proposes tokens of these lines, where one place is written after the other (see ``speculative.py``): the
        same text, or the same distribution of texts, in fewer rounds.
    lookahead : most tokens of a proposal; 0: none are made.
    on_round : called with the draft and the number of each round, or of the last of a run.
    owners : [lines] from 0 up: lines of one owner are candidates for one text, of which the policy keeps the best.
    held : slots that the cache holds already, which every view of the canvas begins with.

    Raises
    ------
    SightlineError : the view asks nothing about a line with open places, or every id is forbidden.
    """
    stop_ids = np.asarray(stops, dtype=np.int64)
    barred = np.setdiff1d(np.asarray(forbidden, dtype=np.int64), stop_ids)
    allowance = Allowance(sampling, stop_ids, barred, min_length, generator)
    questions = Questions(logits, make_cache() if make_cache is not None else None)
    if held is not None:
        questions.hold(held, canvas.tokens)
    drafting: Drafting | None = None
    if drafter is not None and lookahead > 0 and isinstance(policy, NextPlace):
        drafting = Drafting(fill, questions, drafter, lookahead, allowance)
    takers: list[Taker] = [questions] if drafting is None else [questions, drafting.drafter]
    draft = Draft.of(canvas, owners)
    finished: list[list[Draft]] = [[] for _ in range(int(draft.owners.max(initial=-1)) + 1)]
    draft = _leave(draft, finished, takers, None)
    number = 0
    answered: tuple[View, Tensor] | None = None  # kept while nothing is written
    if not (isinstance(policy, NextPlace) and sampling.greedy) or drafting is not None:
        answers = None
    while draft.canvas.lines:
        if answers is not None and not allowance.early(draft).any():
            run = questions.run(fill, answers, draft.canvas, stop_ids, barred)
            if run is not None:
                move, rounds = run
                draft = draft.after(move, stop_ids, number + rounds)
                number += int(rounds.max())
                if on_round is not None:
                    on_round(draft, number)
                draft = _leave(draft, finished, takers, None)
                continue
        number += 1
        drafted = None if drafting is None else drafting.round(draft)
        if drafted is not None:
            draft = draft.after(drafted, stop_ids, number)
            if on_round is not None:
                on_round(draft, number)
            draft = _leave(draft, finished, takers, None)
            continue
        view, said = answered or questions.put(fill(draft.canvas), draft.canvas.tokens)
        asked = allowance.asked(view, said, draft)
        move = policy.move(draft, asked, sampling, generator, number)
        if drafting is not None:
            drafting.heard(draft, asked)
        draft = draft.after(move, stop_ids, number)
        again = policy.again(draft, number, generator)
        if again is not None:
            draft = replace(draft, canvas=draft.canvas.reopened(again))
        same = not len(move.line) and move.parents is None and (again is None or not again.any())
        answered = (view, said) if same else None
        if on_round is not None:
            on_round(draft, number)
        draft = _leave(draft, finished, takers, move.parents)
    return _written(finished, policy, number)


class Taker(Protocol):
    """Whatever keeps something of each line."""

    def take(self, lines: Ints) -> None:
        """Go on with these lines."""


def _leave(draft: Draft, finished: list[list[Draft]], takers: Sequence[Taker], parents: Ints | None) -> Draft:
    """Finished lines put aside; the others go on together."""
    done = draft.canvas.done
    if not done.any():
        if parents is not None:
            for taker in takers:
                taker.take(parents)
        return draft
    for line in np.flatnonzero(done):
        finished[int(draft.owners[line])].append(draft.take(slice(line, line + 1)))
    stay = np.flatnonzero(~done)
    if len(stay):
        for taker in takers:
            taker.take(stay if parents is None else parents[stay])
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
