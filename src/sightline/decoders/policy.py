"""Policies: which of the asked places to accept in a round, and which to ask again.

NextPlace    first of each line           left to right, or right to left: the view decides
Beam         first of each line           the likeliest few continuations of several lines at once
Leading      all places asked, or those in front that are sure          blocks in order: the view decides how long
AllAtOnce    every place                  one pass; answers ignore each other
Surest       the surest few, or a drawn few, of all places or block by block; no revision (LLaDA)
Ancestral    each with the chance that the noise of masked diffusion gives it, a few opened again if so wished (MDLM)
Refine       every place, then the least sure are opened again (Mask-Predict)
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch

from ..errors import SightlineError
from .draft import Asked, Bools, Draft, Floats, Ints, Move
from .sampling import Sampling, likeliest

SAMPLERS = ("once", "refine", "surest", "random", "ancestral", "remasking")
REMASK = 0.1  # in a round, of the sampler that is named after it


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

    def again(self, draft: Draft, number: int, generator: torch.Generator | None) -> Bools | None:
        """Places [lines, places] to be opened again after round ``number``."""
        return None

    def worth(self, total: float, length: int) -> float:
        """What finished texts of one owner are ordered by: sum of log-probabilities, tokens written."""
        return total


class AnyOrder(Policy):
    """Writes gaps of a given length: those of several lengths are ordered by the mean of log p (Mask-Predict)."""

    def worth(self, total: float, length: int) -> float:
        return total / max(1, length)


def _accepted(draft: Draft, asked: Asked, sampling: Sampling, generator: torch.Generator | None) -> Move:
    """A token drawn for every place asked, all accepted."""
    if not len(asked.line):
        return Move(None, asked.line, asked.place, asked.place, np.zeros(0))
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
class Leading(Policy):
    """What is asked of a line, from its first place on: the block of the next places (BANG: Qi et al., 2021).

    Parameters
    ----------
    sure : the probability below which a token is not kept, nor what follows it in its block; the first always is.
    """

    sure: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.sure < 1:
            raise SightlineError(f"sure = {self.sure} is no probability to ask of a token", "Use 0 to below 1")

    def move(
        self, draft: Draft, asked: Asked, sampling: Sampling, generator: torch.Generator | None, number: int
    ) -> Move:
        drawn = _accepted(draft, asked, sampling, generator)
        if not self.sure or not len(drawn.line):
            return drawn
        begins = np.r_[True, drawn.line[1:] != drawn.line[:-1]]
        doubts = np.cumsum((drawn.logprob < np.log(self.sure)) & ~begins)
        keep = doubts == doubts[begins][np.cumsum(begins) - 1]
        return Move(None, drawn.line[keep], drawn.place[keep], drawn.token[keep], drawn.logprob[keep])


@dataclass(frozen=True)
class AllAtOnce(AnyOrder):
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


def _lots(count: int, generator: torch.Generator | None) -> Floats:
    """Numbers [count] in [0, 1)."""
    device = "cpu" if generator is None else generator.device
    return np.asarray(torch.rand(count, generator=generator, dtype=torch.float64, device=device).cpu().numpy())


@dataclass(frozen=True)
class Surest(AnyOrder):
    """The surest places of each line, an even share of them a round; what is written stays (LLaDA: Nie et al., 2025).

    Parameters
    ----------
    steps : rounds; N places are shared out evenly, the first N mod steps rounds taking one more.
    block : places that are written, in ``steps`` rounds of their own, before the next so many are begun; 0: all
        places are one block. Of one place: left to right.
    aligned : blocks are counted from the beginning of the text, else from the first place to be written.
    by : ``confidence``, the probability of the token that was drawn for a place, or ``chance``.
    """

    steps: int
    block: int = 0
    aligned: bool = False
    by: Literal["confidence", "chance"] = "confidence"

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise SightlineError(f"{self.steps} steps write nothing", "Use 1 or more")
        if self.block < 0:
            raise SightlineError(f"a block of {self.block} places holds nothing", "Use 1 or more, or 0 for no blocks")

    def quota(self, places: Ints, number: int | Ints) -> Ints:
        """How many of so many ``places`` are written in round ``number`` of a block, from 1 up."""
        return places // self.steps + (number <= places % self.steps)

    def move(
        self, draft: Draft, asked: Asked, sampling: Sampling, generator: torch.Generator | None, number: int
    ) -> Move:
        current = self._current(draft)
        asked = asked.take(np.flatnonzero(current[asked.line, asked.place]))
        drawn = _accepted(draft, asked, sampling, generator)
        doubt = np.zeros(current.shape)
        doubt[drawn.line, drawn.place] = (
            -drawn.logprob if self.by == "confidence" else _lots(len(drawn.line), generator)
        )
        written = draft.writable & current
        begun = np.where(current, 0, draft.film * draft.writable).max(1, initial=0)  # when the block before it ended
        surest = lowest(doubt, draft.canvas.open & current, self.quota(written.sum(1), number - begun))
        keep = surest[drawn.line, drawn.place]
        return Move(drawn.parents, drawn.line[keep], drawn.place[keep], drawn.token[keep], drawn.logprob[keep])

    def _current(self, draft: Draft) -> Bools:
        """The places [lines, places] of the first block that has an open one."""
        if not self.block:
            return np.ones_like(draft.canvas.open)
        begins = (draft.canvas.inside if self.aligned else draft.writable).argmax(1)[:, None]
        block = (np.arange(draft.canvas.places) - begins) // self.block
        return np.asarray(block == np.take_along_axis(block, draft.canvas.open.argmax(1)[:, None], axis=1))


@dataclass(frozen=True)
class Ancestral(AnyOrder):
    """Masked diffusion run backwards: of the masks at time t, each is written by time s with chance (t - s) / t.

    Parameters
    ----------
    steps : rounds; times fall evenly from 1 to 0, and the last round writes whatever is left.
    remask : most that a written token may be opened again with, in a round; the chance of writing grows so that as many
        masks are left at each time as without (ReMDM: Wang et al., 2025). 0: what is written stays (MDLM).
    """

    steps: int
    remask: float = 0.0

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise SightlineError(f"{self.steps} steps write nothing", "Use 1 or more")
        if not 0 <= self.remask <= 1:
            raise SightlineError(f"remask {self.remask} is no probability", "Use 0 to 1, such as 0.1")

    def chances(self, number: int) -> tuple[float, float]:
        """Of a mask to be written, and of a token to be opened again, in round ``number`` from 1 up."""
        t, s = 1 - (number - 1) / self.steps, max(0.0, 1 - number / self.steps)
        again = min(self.remask, s / (1 - t)) if number > 1 else 0.0
        return ((1 - s) - (1 - again) * (1 - t)) / t, again

    def move(
        self, draft: Draft, asked: Asked, sampling: Sampling, generator: torch.Generator | None, number: int
    ) -> Move:
        chance, _ = self.chances(number)
        last = number >= self.steps
        keep = np.flatnonzero(_lots(len(asked.line), generator) < chance) if not last else np.arange(len(asked.line))
        return _accepted(draft, asked.take(keep), sampling, generator)

    def again(self, draft: Draft, number: int, generator: torch.Generator | None) -> Bools | None:
        _, chance = self.chances(number)
        if not chance or number >= self.steps:
            return None
        old = draft.writable & ~draft.canvas.open & (draft.film < number)
        return old & (_lots(old.size, generator).reshape(old.shape) < chance)


@dataclass(frozen=True)
class Refine(AnyOrder):
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

    def again(self, draft: Draft, number: int, generator: torch.Generator | None) -> Bools | None:
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
        parent, token = self._best(draft, total)
        return Move(
            parents=parent,
            line=np.arange(len(parent)),
            place=asked.place[parent],
            token=token,
            logprob=logprob.cpu().numpy()[parent, token],
        )

    def _best(self, draft: Draft, total: torch.Tensor) -> tuple[Ints, Ints]:
        """The line and the token of each owner's best continuations, all owners' at once: a GPU is waited for once."""
        owners, owner, lines = np.unique(draft.owners, return_inverse=True, return_counts=True)
        first = np.cumsum(lines) - lines
        rank = np.arange(len(owner)) - first[owner]  # lines of one owner stand side by side
        grid = total.new_full((len(owners), int(lines.max()), total.shape[1]), -torch.inf)
        grid[torch.from_numpy(owner).to(total.device), torch.from_numpy(rank).to(total.device)] = total
        worth, index = grid.flatten(1).topk(min(self.width, grid[0].numel()))
        likely, at = worth.cpu().numpy() > -np.inf, index.cpu().numpy()
        room = self.width - draft.ended[first]
        which, place = np.nonzero(likely & (np.arange(at.shape[1]) < room[:, None]))
        line, token = np.divmod(at[which, place], total.shape[1])
        return first[which] + line, token


def policy_of(sampler: str, steps: int, block: int = 0, aligned: bool = False) -> Policy:
    """The policy of a sampler's name: once, refine, surest, random, ancestral or remasking.

    Parameters
    ----------
    steps : rounds; of each block where there are blocks. block, aligned : see ``Surest``.

    Raises
    ------
    SightlineError : no such sampler, or blocks for one that has none.
    """
    if sampler not in SAMPLERS:
        raise SightlineError(f"there is no sampler {sampler!r}", f"Choose from {', '.join(SAMPLERS)}")
    if sampler in ("surest", "random"):
        return Surest(steps, block, aligned, by="confidence" if sampler == "surest" else "chance")
    if block:
        raise SightlineError(f"the sampler {sampler} writes no blocks", "Use surest or random with blocks")
    if sampler == "once":
        return AllAtOnce()
    return Refine(steps) if sampler == "refine" else Ancestral(steps, REMASK if sampler == "remasking" else 0.0)
