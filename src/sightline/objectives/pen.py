"""A model ready to write, and what becomes of the ids that it wrote: shared by the verbs that write.

generate   "Once upon"  ->  causal, prefix: what follows · backward: what came before · masked: open places after it
fill       "The ___ sat on the ___:3."      masked: seeing both sides · others: draw from their side, then keep the
                                            candidate under which the rest of the text is likeliest
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray

from ..decoders.canvas import Canvas
from ..decoders.draft import Draft, Written
from ..decoders.film import OPENED, Camera, Scene
from ..decoders.loop import write
from ..decoders.once import left_of
from ..decoders.policy import AllAtOnce, Leading, NextPlace, Policy, policy_of
from ..decoders.sampling import Sampling
from ..errors import SightlineError
from ..progress import Bar
from ..sight import View
from ..stacks.cache import Cache
from ..stacks.packed import steady
from ..stacks.two import TwoCache
from .base import Given, Objective
from .drafting import Ahead, cache_of, middle
from .model import Model

USUAL = Sampling(temperature=0.8, top_p=0.95)
LINES = 32  # texts written together
WAYS = {"left": "left to right", "right": "right to left"}
ORDERS = {
    "once": "all places at once",
    "refine": "refinement",
    "surest": "the surest places first,",
    "random": "places in drawn order,",
    "ancestral": "masked diffusion run backwards",
    "remasking": "masked diffusion run backwards, a few tokens opened again,",
}
PACES = ("next", "blocks", "once")  # of a family that writes at any pace
BROKEN = "\ufffd"  # what bytes that are no UTF-8 come out as

Ids = list[int]


@dataclass(frozen=True)
class Text:
    """A text that a model wrote, or a part of it.

    Parameters
    ----------
    text : all of it, what was given included, letter for letter.
    pieces : what was written: one piece for each blank, or the one continuation or beginning.
    given : what the writer knew: the left, the right or both sides.
    how : by which decoder, in words.
    logprob : sum of log p (nats) of the written tokens, each when it was written; of refinement it is no likelihood,
        and an engine's is among the ids that may be written.
    tokens : that were written, an end mark among them.
    rounds : in which they were; 0: not counted. Where a drafter went ahead, their ratio is the mean accepted length.
    drafter : who went ahead, if anyone.
    film : (round, place, piece of text) while it was written, places counted from the first; an empty piece where a
        place was opened again. Of texts whose film was asked for.
    """

    text: str
    pieces: tuple[str, ...]
    given: Given
    how: str
    logprob: float
    tokens: int = 0
    rounds: int = 0
    drafter: str = ""
    film: tuple[tuple[int, int, str], ...] = ()


@dataclass(frozen=True)
class Pen:
    """A model ready to write: its marks, what it must not write, and its randomness.

    ``start`` stands before a given text, and ``alone`` where there is none; ``end`` behind what is written between two
    sides, ``middle`` behind a source.
    """

    model: Model
    sampling: Sampling
    generator: torch.Generator
    start: Ids
    alone: Ids
    end: Ids
    middle: Ids
    forbidden: NDArray[np.int64]
    make_cache: Callable[[], Cache | TwoCache] | None

    @classmethod
    def of(cls, model: Model, sampling: Sampling, seed: int, pairs: bool = False) -> Pen:
        """A pen for a model, which learned ``pairs`` as texts if its family does not read pairs anyway."""
        vocabulary, held = model.objective.vocabulary, model.tokenizer
        between = middle(model.objective, pairs)
        alone = held.before(text=False)
        return cls(
            model,
            sampling,
            torch.Generator().manual_seed(seed),
            alone if between else held.before(),  # of pairs as they were learned
            alone,
            [] if between else held.behind,
            [*between, *(held.opens if between else [])],
            np.flatnonzero(vocabulary.is_special),
            cache_of(model),
        )

    @property
    def opens(self) -> Ids:
        """Of ``middle``, what belongs to the target."""
        return self.middle[1:]

    def begun(self, ids: Ids) -> Ids:
        """A given text and what stands before it."""
        return [*(self.start if ids else self.alone), *ids]

    def check_room(self, parts: Sequence[Ids | int]) -> None:
        """Whether given and open places fit the model's context together."""
        total = sum(part if isinstance(part, int) else len(part) for part in parts)
        opened = sum(part for part in parts if isinstance(part, int))
        if total > self.model.context:
            raise SightlineError(
                f"{total - opened} tokens given and {opened} to write exceed the model's context, {self.model.context}",
                "Shorten the text or the length",
            )
        if total == opened:
            raise SightlineError(
                "the text is empty and the tokenizer has no mark that it could start from", "Give at least one word"
            )

    def write(
        self,
        canvas: Canvas,
        policy: Policy,
        stops: Sequence[int] = (),
        min_length: int = 0,
        shown: Bar | None = None,
        course: Course | None = None,
        drafts: Ahead | None = None,
        camera: Camera | None = None,
    ) -> Written:
        """Write the canvas's open places; ``course`` : asks as many of them at a time as it writes."""
        objective = self.model.objective
        whole = course is not None and course.mends  # its ends are looked for when all is written
        fill = objective.fill if course is None else course.fill(objective)
        done = write(
            fill if drafts is None or not drafts.foresees else partial(objective.foresee, ahead=drafts.lookahead),
            self.model.logits,
            canvas,
            policy,
            self.sampling,
            stops=() if whole else stops,
            forbidden=np.setdiff1d(self.forbidden, stops) if whole else self.forbidden,
            min_length=min_length,
            make_cache=self.make_cache,
            generator=self.generator,
            answers=None if self.make_cache is None else self.model.answers,
            drafter=None if drafts is None else drafts.make(),
            lookahead=0 if drafts is None else drafts.lookahead,
            on_round=_watched(shown, camera),
        )
        return left_of(done, stops) if whole else done


def _watched(shown: Bar | None, camera: Camera | None) -> Callable[[Draft, int], None] | None:
    """Who is told of each round."""
    watching: list[Callable[[Draft, int], None]] = [] if shown is None else [_advances(shown)]
    watching += [] if camera is None else [camera]

    def told(draft: Draft, number: int) -> None:
        for one in watching:
            one(draft, number)

    return told if watching else None


def _advances(shown: Bar) -> Callable[[Draft, int], None]:
    """To each round's number."""
    last = 0

    def to(draft: Draft, number: int) -> None:
        nonlocal last
        shown.advance(number - last)
        last = number

    return to


def must_write(model: Model) -> None:
    """Refuse a family that has no distribution over tokens."""
    if not model.objective.writes:
        beside = " and its generator, a masked model, lies in generator/ beside it" if model.generator else ""
        raise SightlineError(
            f"{model.objective.family} judges tokens and writes none{beside}",
            f"Name {'that folder' if beside else 'a model of a family that writes'}, or read vectors: sightline embed",
        )


@contextmanager
def reading(model: Model) -> Iterator[None]:
    """Without dropout, and with the kernel chosen by each view: what is written comes in all shapes.

    No weight changes meanwhile.
    """
    training, kernel = model.training, model.kernel
    if training:
        model.eval()
    model.kernel = None
    try:
        with steady():
            yield
    finally:
        if training:
            model.train()
        model.kernel = kernel


def piece_after(model: Model, before: Ids, new: Ids) -> str:
    """What the new ids add to the text before them (a first space may only show beside it)."""
    head, whole = model.tokenizer.decode(before), model.tokenizer.decode([*before, *new])
    return whole[len(head) :] if whole.startswith(head) else model.tokenizer.decode(new)


def filmed(model: Model, scenes: Sequence[Scene]) -> tuple[tuple[int, int, str], ...]:
    """Scenes with pieces of text in place of ids."""
    return tuple(
        (number, place, "" if token == OPENED else model.tokenizer.decode([token])) for number, place, token in scenes
    )


def trimmed(piece: str, side: Given) -> str:
    """Without a letter whose bytes were cut off where the writing ended."""
    if side != "right":
        piece = piece.rstrip(BROKEN)
    return piece if side == "left" else piece.lstrip(BROKEN)


@dataclass(frozen=True)
class Course:
    """In which order a family writes: which sampler, how many rounds (of each block), and blocks of how many places."""

    sampler: str
    iterations: int
    block: int
    aligned: bool
    sure: float = 0.0
    paced: bool = False

    @classmethod
    def of(cls, objective: Objective, sampler: str, iterations: int, block: int = 0, sure: float = 0.0) -> Course:
        """The family's own course, or that with another sampler or with blocks, kept as far as tokens are ``sure``.

        Raises
        ------
        SightlineError : a sampler or blocks for a family that writes one place after the other, or other blocks than
            it was trained with.
        """
        if block < 0:
            raise SightlineError(f"a block of {block} tokens holds nothing", "Use 1 or more")
        if objective.any_pace:
            return cls._paced(objective, sampler, block, sure)
        if sure:
            raise SightlineError(f"{objective.family} does not write in blocks of any size", "Leave sure away")
        own, size = objective.sampler, objective.blocks_of
        if sampler == "next" and objective.foresees and not block:
            return cls("next", iterations, 0, False)
        if (own == "next") != ((sampler or own) == "next") or (own == "next" and block):
            raise SightlineError(
                f"{objective.family} {'writes one place after the other' if own == 'next' else 'has no next place'}",
                "Leave the sampler and the blocks away",
            )
        if own == "once" and sampler not in ("", own):
            raise SightlineError(
                f"{objective.family} learned to write in one pass, not by {sampler}", "Use cmlm for several rounds"
            )
        if size and block not in (0, size):
            raise SightlineError(f"{objective.family} was trained with blocks of {size}, not {block}", "Leave it away")
        return cls(sampler or own, iterations, size or block, size > 0)

    @classmethod
    def _paced(cls, objective: Objective, sampler: str, block: int, sure: float) -> Course:
        own = "blocks" if block else {0: "once", 1: "next"}.get(objective.pace, "blocks")
        chosen = sampler or own
        if chosen not in PACES:
            raise SightlineError(f"{objective.family} is not written by {sampler}", f"Choose from {', '.join(PACES)}")
        if (block > 1 or sure) and chosen != "blocks":
            raise SightlineError(f"what is written by {chosen} has no blocks", "Leave sampler, or block and sure, away")
        size = {"next": 1, "once": 0}.get(chosen, block or max(1, objective.pace))
        return cls(chosen, 1, size, False, sure, paced=True)

    @property
    def mends(self) -> bool:
        """Whether what is written all at once is cut at its end and freed of repeats (see ``decoders/once.py``)."""
        return self.sampler == "once" and self.paced

    def fill(self, objective: Objective) -> Callable[[Canvas], View]:
        """How the family asks for open places."""
        return objective.filling(self.block)

    @property
    def policy(self) -> Policy:
        if self.sampler == "next":
            return NextPlace()
        if self.sampler == "blocks":
            return Leading(self.sure)
        if self.sampler == "once":
            return AllAtOnce()
        return policy_of(self.sampler, self.iterations, self.block, self.aligned)

    def rounds(self, length: int) -> int:
        """How many rounds so many places take, at most."""
        if self.sampler == "next" or self.sure:
            return length
        if self.sampler in PACES:
            return -(-length // (self.block or length))
        if not self.block:
            return self.iterations
        return min(self.iterations, self.block) * (-(-length // self.block) + self.aligned)

    def words(self, side: Given) -> str:
        """The course in words."""
        if self.sampler == "next":
            return WAYS[side]
        if self.sampler == "once":
            return ORDERS[self.sampler]
        if self.sampler == "blocks":
            kept = f", as far as each token has a probability of {self.sure:g}" if self.sure else ""
            return f"in blocks of {self.block}{kept}"
        blocks = f" for each block of {self.block}" if self.block else ""
        return f"{ORDERS[self.sampler]} in {self.iterations} round{'s' * (self.iterations != 1)}{blocks}"
