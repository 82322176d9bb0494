"""Policies: which of the asked places to accept in a round, and which to ask again.

NextPlace    first of each line           left to right, or right to left: the view decides
Beam         first of each line           the likeliest few continuations of several lines at once
AllAtOnce    every place                  one pass; answers ignore each other
Surest       the surest few               no revision
Refine       every place, then the least sure are opened again (Mask-Predict)
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np
import torch

from ..errors import SightlineError
from .draft import Asked, Bools, Draft, Floats, Ints, Move
from .sampling import Sampling, likeliest


class Policy(ABC):
    """What to write of what was asked."""

    @property
    def keep(self) -> int:
        """Texts kept of each owner."""
        return 1

    @abstractmethod
    def move(
        self, draft: Draft, asked: Asked, sampling: Sampling, generator: torch.Generator | None, number: int
    ) -> Move:
        """What is accepted in round ``number``, from 1 up."""

    def again(self, draft: Draft, number: int) -> Bools | None:
        """Places [lines, places] to be opened again after round ``number``."""
        return None

    def worth(self, total: float, length: int) -> float:
        """What finished texts of one owner are ordered by: sum of log-probabilities, tokens written."""
        return total


def _accepted(draft: Draft, asked: Asked, sampling: Sampling, generator: torch.Generator | None) -> Move:
    """A token drawn for every place asked, all accepted."""
    token = sampling.draw(asked.allowed, generator)
    return Move(None, asked.line, asked.place, token.cpu().numpy().astype(np.int64), asked.logprob(token))


@dataclass(frozen=True)
class NextPlace(Policy):
    """One token a round on each line: the first the view asks for."""

    def move(
        self, draft: Draft, asked: Asked, sampling: Sampling, generator: torch.Generator | None, number: int
    ) -> Move:
        return _accepted(draft, asked.first, sampling, generator)


@dataclass(frozen=True)
class AllAtOnce(Policy):
    """Every open place in one pass, each without regard to the others."""

    def move(
        self, draft: Draft, asked: Asked, sampling: Sampling, generator: torch.Generator | None, number: int
    ) -> Move:
        return _accepted(draft, asked, sampling, generator)


def lowest(values: Floats, among: Bools, count: Ints) -> Bools:
    """The ``count`` [lines] lowest of the places ``among`` in each line; of equal ones the earlier place."""
    order = np.argsort(np.where(among, values, np.inf), axis=1, kind="stable")
    chosen = np.zeros_like(among)
    np.put_along_axis(chosen, order, np.arange(among.shape[1]) < count[:, None], axis=1)
    return chosen & among


@dataclass(frozen=True)
class Surest(Policy):
    """The surest places of each line, an even share of them a round; what is written stays.

    Parameters
    ----------
    steps : rounds; N places are shared out evenly, the first N mod steps rounds taking one more.
    """

    steps: int

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise SightlineError(f"{self.steps} steps write nothing", "Use 1 or more")

    def quota(self, places: Ints, number: int) -> Ints:
        """How many of so many ``places`` are written in round ``number``, from 1 up."""
        return places // self.steps + (number <= places % self.steps)

    def move(
        self, draft: Draft, asked: Asked, sampling: Sampling, generator: torch.Generator | None, number: int
    ) -> Move:
        drawn = _accepted(draft, asked, sampling, generator)
        doubt = np.zeros(draft.canvas.tokens.shape)
        doubt[drawn.line, drawn.place] = -drawn.logprob
        surest = lowest(doubt, draft.canvas.open, self.quota(draft.opened, number))
        keep = surest[drawn.line, drawn.place]
        return Move(drawn.parents, drawn.line[keep], drawn.place[keep], drawn.token[keep], drawn.logprob[keep])


@dataclass(frozen=True)
class Refine(Policy):
    """Mask-Predict (Ghazvininejad et al., 2019): write everything, then open the least sure again, fewer each round.

    Parameters
    ----------
    iterations : rounds T; after round t, N * (T - t) / T places, rounded down but at least one, are asked again.
    """

    iterations: int = 10

    def __post_init__(self) -> None:
        if self.iterations < 1:
            raise SightlineError(f"{self.iterations} iterations write nothing", "Use 1 or more")

    def reopened(self, places: Ints, number: int) -> Ints:
        """How many of so many ``places`` are asked again after round ``number``: whole numbers, never 1 - t/T."""
        return np.minimum(places, np.maximum(1, places * (self.iterations - number) // self.iterations))

    def move(
        self, draft: Draft, asked: Asked, sampling: Sampling, generator: torch.Generator | None, number: int
    ) -> Move:
        return _accepted(draft, asked, sampling, generator)

    def again(self, draft: Draft, number: int) -> Bools | None:
        if number >= self.iterations:
            return None
        return lowest(draft.logprobs, draft.writable, self.reopened(draft.writable.sum(1), number))


@dataclass(frozen=True)
class Beam(Policy):
    """Beam search: the ``width`` likeliest beginnings are continued together; a finished one gives up its place.

    Parameters
    ----------
    width : lines of one owner, finished ones included; 1 is greedy.
    length_penalty : finished texts are ordered by log p / tokens ** length_penalty; 0: by log p, 1: by its mean.
    n_best : finished texts kept, at most ``width``.
    """

    width: int
    length_penalty: float = 0.0
    n_best: int = 1

    def __post_init__(self) -> None:
        if self.width < 1:
            raise SightlineError(f"a beam of width {self.width} holds nothing", "Use 1 or more")
        if not 1 <= self.n_best <= self.width:
            raise SightlineError(
                f"a beam of width {self.width} cannot give its best {self.n_best}", "Ask for 1 to as many as it is wide"
            )
        if self.length_penalty < 0:
            raise SightlineError(f"a length penalty of {self.length_penalty} is below 0", "Use 0 or more")

    @property
    def keep(self) -> int:
        return self.n_best

    def worth(self, total: float, length: int) -> float:
        return float(total / max(1, length) ** self.length_penalty)

    def move(
        self, draft: Draft, asked: Asked, sampling: Sampling, generator: torch.Generator | None, number: int
    ) -> Move:
        if not sampling.greedy:
            raise SightlineError("a beam searches for the likeliest text and draws none", "Use temperature 0 with it")
        asked = asked.first
        likeliest(asked.allowed)  # refuses a line for which nothing is allowed
        said = asked.said.double()
        logprob = (said - said.logsumexp(1, keepdim=True)).masked_fill(asked.allowed == -torch.inf, -torch.inf)
        total = logprob + torch.from_numpy(draft.logprobs.sum(1)).to(said.device)[:, None]
        parents: list[Ints] = []
        tokens: list[Ints] = []
        for owner in np.unique(draft.owners):
            lines = np.flatnonzero(draft.owners == owner)
            mine = total[torch.from_numpy(lines).to(total.device)].flatten()
            room = min(self.width - int(draft.ended[lines[0]]), int((mine > -torch.inf).sum()))
            best = mine.topk(room).indices.cpu().numpy()
            parents.append(lines[best // total.shape[1]])
            tokens.append(best % total.shape[1])
        parent, token = np.concatenate(parents), np.concatenate(tokens)
        return Move(
            parents=parent,
            line=np.arange(len(parent)),
            place=asked.place[parent],
            token=token,
            logprob=logprob.cpu().numpy()[parent, token],
        )
