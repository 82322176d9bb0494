"""Who drafts: another model, the text itself by what followed there before, or the model by what it foresees.

Each proposes for the places that the model is asked next (see ``speculative.py``); none of them can change what is
written, only how soon.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..sight import View
from .allowance import Allowance
from .canvas import Canvas
from .draft import Asked, Draft, Ints
from .questions import Logits, Questions
from .sampling import likeliest
from .speculative import Proposal

LONGEST = 4  # tokens at the end of a text that are looked up in it


class Lookup:
    """What followed the last time that the text ended as it does now: the longest such end, its latest occurrence.

    Prompt lookup decoding (Saxena, 2023): it costs nothing and helps where texts repeat themselves or their prompt.

    Parameters
    ----------
    longest : tokens of an end, at most.
    """

    def __init__(self, longest: int = LONGEST) -> None:
        self.longest = longest

    def propose(self, draft: Draft, places: Ints, allowance: Allowance) -> Proposal | None:
        found = []
        canvas = draft.canvas
        for line, place in enumerate(places[:, 0]):
            forward = place + 1 < canvas.places and canvas.open[line, place + 1]
            before = slice(0, place) if forward else slice(None, place, -1)
            text = canvas.tokens[line, before][canvas.inside[line, before]]
            follows = following(text, self.longest)
            if not len(follows):
                return None
            found.append(np.resize(follows, places.shape[1]))  # what ends the text is taken to repeat itself
        return Proposal(np.stack(found))

    def heard(self, asked: Asked) -> None:
        """Nothing: the text says all."""

    def take(self, lines: Ints) -> None:
        """Nothing is kept."""


def following(text: Ints, longest: int) -> Ints:
    """What follows the latest earlier occurrence of a text's end: of the longest, up to ``longest``, that has one."""
    size = len(text)
    if size < 2:
        return text[:0]
    same = np.ones(size - 1, np.bool_)  # whether so many tokens up to each place are those at the end
    found = -1
    for length in range(min(longest, size - 1)):
        same[length:] &= text[: size - 1 - length] == text[size - 1 - length]
        same[:length] = False
        if not same.any():
            break
        found = size - 2 - int(same[::-1].argmax())
    return text[found + 1 :] if found >= 0 else text[:0]


class ByModel:
    """Another model that writes one place after the other, in the same order and with the same tokens.

    Parameters
    ----------
    fill, logits, make_cache : that model's (see ``loop.write``).
    context : places that it was made for; beyond them nothing is proposed.
    """

    def __init__(
        self, fill: Callable[[Canvas], View], logits: Logits[Any], make_cache: Callable[[], Any] | None, context: int
    ) -> None:
        self.fill, self.context = fill, context
        self.questions: Questions[Any] = Questions(logits, None if make_cache is None else make_cache())

    def propose(self, draft: Draft, places: Ints, allowance: Allowance) -> Proposal | None:
        if int(draft.canvas.inside.sum(1).max()) > self.context and int(places.max()) >= self.context:
            return None
        lines = np.arange(draft.canvas.lines)
        tokens: list[Ints] = []
        chances: list[Tensor] = []

        def choose(said: Tensor, number: int) -> Ints:
            allowed = allowance.allowed(said, allowance.early(draft, len(tokens)))
            token, chance = _proposed(allowed, allowance)
            tokens.append(token)
            chances.extend([] if chance is None else [chance])
            return token

        canvas, rest = draft.canvas, places
        while rest.shape[1]:
            view, said = self.questions.put(self.fill(canvas), canvas.tokens)
            choose(allowance.asked(view, said, draft).first.said, 0)
            canvas, rest = canvas.written(lines, rest[:, 0], tokens[-1]), rest[:, 1:]
            if rest.shape[1] and self.questions.follow(self.fill, canvas, rest, choose):
                break
        return Proposal(np.stack(tokens, axis=1), torch.stack(chances, dim=1) if chances else None)

    def heard(self, asked: Asked) -> None:
        """Nothing: it asks for itself."""

    def take(self, lines: Ints) -> None:
        self.questions.take(lines)


class Foreseen:
    """What the model itself said about places behind the next one, in the round that wrote the last token.

    For families whose view asks for several places at once (see ``Objective.foresees``): what they say of the first is
    what they write, what they say of those behind it, without regard to what stands between, is the draft.
    """

    def __init__(self) -> None:
        self.asked: Asked | None = None

    def propose(self, draft: Draft, places: Ints, allowance: Allowance) -> Proposal | None:
        if self.asked is None:
            return None
        at = np.full(draft.canvas.tokens.shape, -1)
        at[self.asked.line, self.asked.place] = np.arange(len(self.asked.line))
        rows = np.take_along_axis(at, places, axis=1)
        count = int((rows >= 0).all(0).cumprod().sum())
        if not count:
            return None
        rows = rows[:, :count]
        token, chance = _proposed(self.asked.take(rows.ravel()).allowed, allowance)
        return Proposal(token.reshape(rows.shape), None if chance is None else chance.view(*rows.shape, -1))

    def heard(self, asked: Asked) -> None:
        self.asked = asked

    def take(self, lines: Ints) -> None:
        if self.asked is None:
            return
        row, line = np.nonzero(self.asked.line[:, None] == lines)
        self.asked = replace(self.asked.take(row), line=line)


def _proposed(allowed: Tensor, allowance: Allowance) -> tuple[Ints, Tensor | None]:
    """An id [N] for each line of logits [N, vocabulary], and what it was drawn from; None where it is the likeliest."""
    if allowance.sampling.greedy:
        return likeliest(allowed)[1].cpu().numpy(), None
    chances = allowance.sampling.probabilities(allowed)
    return allowance.drawn(chances), chances
