"""The user's verbs that write: continue a prompt (or lead up to it), and fill the blanks of a text.

generate   "Once upon"  ->  causal, prefix: what follows · backward: what came before · masked: open places after it
fill       "The ___ sat on the ___:3."      masked: seeing both sides · others: draw from their side, then keep the
                                            candidate under which the rest of the text is likeliest
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from ..data import Rows
from ..decoders.canvas import Canvas
from ..decoders.draft import Written
from ..decoders.loop import write
from ..decoders.policy import Beam, NextPlace, Policy, Refine
from ..decoders.sampling import GREEDY, Sampling
from ..errors import SightlineError
from ..progress import Bar, bar
from ..sight import cacheable
from ..stacks.cache import Cache
from .base import Given
from .model import Model

BLANK = re.compile(r"_{3,}(?::(\d+))?|\[MASK\]")
USUAL = Sampling(temperature=0.8, top_p=0.95)
LINES = 32  # texts written together
WAYS = {"left": "left to right", "right": "right to left"}
BROKEN = "\ufffd"  # what bytes that are no UTF-8 come out as

Ids = list[int]


class Engine(Protocol):
    """Another loop than ours, over the same weights (see ``serving/engine.py``).

    Parameters
    ----------
    name : its own, and the type that it computes in.
    """

    name: str

    def write(
        self,
        prompts: Sequence[Ids],
        *,
        length: int,
        min_length: int,
        sampling: Sampling,
        seed: int,
        stops: Sequence[int],
        forbidden: Sequence[int],
    ) -> list[tuple[Ids, float]]:
        """What follows each prompt, up to a stop mark, and the sum of log p (nats) among ids that may be written.

        The arguments mean what they mean in ``decoders.loop.write``; a forbidden id is not written as a stop either.
        """


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
    """

    text: str
    pieces: tuple[str, ...]
    given: Given
    how: str
    logprob: float


def generate(
    model: Model,
    prompts: Sequence[str],
    *,
    length: int = 64,
    min_length: int = 0,
    sampling: Sampling | None = None,
    seed: int = 0,
    n_best: int = 1,
    beams: int = 1,
    length_penalty: float = 0.0,
    iterations: int = 10,
    engine: Engine | None = None,
) -> list[Text]:
    """Texts that go on from each prompt, on the side that the family writes to; those of one prompt side by side.

    Parameters
    ----------
    length : most tokens written; a family that sees both sides writes exactly so many, between prompt and end mark.
    min_length : tokens before which the text does not end.
    sampling : how tokens are drawn; None: temperature 0.8 and top-p 0.95, or the likeliest where ``beams`` > 1.
    seed : of the draws.
    n_best : texts for each prompt.
    beams : width of a beam search; 1: none.
    length_penalty : see ``Beam``.
    iterations : rounds of refinement, where the family sees both sides.
    engine : opened with this model, to write instead of our own loop.

    Raises
    ------
    SightlineError : prompt and length together exceed the model's context, or settings that contradict each other.
    """
    side = model.objective.writes_from
    pen = _Pen.of(model, sampling or (GREEDY if beams > 1 else USUAL), seed)
    _check(length, n_best, beams, pen.sampling, side)
    policy = _policy(side, beams, length_penalty, n_best, iterations)
    prompted = [model.tokenizer.encode(prompt).tolist() for prompt in prompts]
    copies = 1 if beams > 1 else n_best
    lines = [_around(pen, ids, length) for ids in prompted for _ in range(copies)]
    for parts in lines:
        pen.check_room(parts)
    stops = () if side == "both" else tuple(stop for stop in model.objective.stops if stop >= 0)
    if engine is None:
        written = _by_loop(pen, lines, policy, stops, min_length, iterations if side == "both" else length)
    elif beams > 1:
        raise SightlineError(
            f"an engine writes one text at a time, not a beam of {beams}", "Leave beams or engine away"
        )
    else:
        repeated = [ids for ids in prompted for _ in range(copies)]
        written = _by_engine(engine, pen, repeated, length, min_length, stops, seed)
    how = f"{_way(side, iterations)}{f' by {engine.name}' if engine else ''}, "
    how += f"beam of {beams}" if beams > 1 else str(pen.sampling)
    given: Given = "left" if side == "both" else side
    texts: list[list[Text]] = [[] for _ in lines]
    for number, new, logprob in written:
        prompt, ids = prompts[number // copies], prompted[number // copies]
        piece = _trimmed(_piece(model, [] if side == "right" else ids, new), side)
        text = piece + prompt if side == "right" else prompt + piece
        texts[number].append(Text(text, (piece,), given, how, logprob))
    return [text for of_line in texts for text in of_line]


def _by_loop(
    pen: _Pen, lines: list[list[Ids | int]], policy: Policy, stops: Sequence[int], min_length: int, rounds: int
) -> Iterator[tuple[int, Ids, float]]:
    """Number of the line, new ids and log p of each text that our own loop writes."""
    sizes = [sum(part if isinstance(part, int) else len(part) for part in parts) for parts in lines]
    order = sorted(range(len(lines)), key=lambda line: sizes[line])  # like lengths pad least
    with bar("writing", -(-len(lines) // LINES) * rounds, "rounds") as shown, _reading(pen.model):
        for start in range(0, len(order), LINES):
            batch = order[start : start + LINES]
            done = pen.write(Canvas.laid([lines[line] for line in batch]), policy, stops, min_length, shown)
            for at, owner in enumerate(done.owners):
                new = done.canvas.tokens[at][done.canvas.inside[at] & ~done.canvas.given[at]].tolist()
                yield batch[int(owner)], new, float(done.total[at])


def _by_engine(
    engine: Engine, pen: _Pen, prompts: list[Ids], length: int, min_length: int, stops: Sequence[int], seed: int
) -> Iterator[tuple[int, Ids, float]]:
    """The same of an engine's."""
    never = np.union1d(np.setdiff1d(pen.forbidden, stops), pen.model.objective.vocabulary.unpredictable)
    written = engine.write(
        [[*pen.start, *ids] for ids in prompts],
        length=length,
        min_length=min_length,
        sampling=pen.sampling,
        seed=seed,
        stops=stops,
        forbidden=never.tolist(),
    )
    return ((number, new, logprob) for number, (new, logprob) in enumerate(written))


def _check(length: int, n_best: int, beams: int, sampling: Sampling, side: Given) -> None:
    if length < 1:
        raise SightlineError(f"a length of {length} tokens leaves nothing to write", "Use 1 or more")
    if n_best < 1 or beams < 1:
        raise SightlineError(f"{n_best} texts from {beams} beams are none", "Use 1 or more of each")
    if beams > 1 and side == "both":
        raise SightlineError("a family that sees both sides refines its text and has no beams", "Leave beams away")
    if n_best > 1 and beams == 1 and sampling.greedy:
        raise SightlineError(f"the likeliest text is one, but {n_best} are wanted", "Use beams or a temperature")


def _policy(side: Given, beams: int, length_penalty: float, n_best: int, iterations: int) -> Policy:
    if side == "both":
        return Refine(iterations)
    return Beam(beams, length_penalty, n_best) if beams > 1 else NextPlace()


def _way(side: Given, iterations: int) -> str:
    return f"refinement in {iterations} rounds" if side == "both" else WAYS[side]


def _around(pen: _Pen, ids: Ids, length: int) -> list[Ids | int]:
    """The prompt with the open places on the side that the family writes to."""
    side = pen.model.objective.writes_from
    if side == "right":
        return [length, [*ids, *pen.end]]
    return [[*pen.start, *ids], length, pen.end if side == "both" else []]


@dataclass(frozen=True)
class _Pen:
    """A model ready to write: its marks, what it must not write, and its randomness."""

    model: Model
    sampling: Sampling
    generator: torch.Generator
    start: Ids
    end: Ids
    forbidden: NDArray[np.int64]
    caches: bool

    @classmethod
    def of(cls, model: Model, sampling: Sampling, seed: int) -> _Pen:
        vocabulary = model.objective.vocabulary
        start = [mark for mark in (vocabulary.bos, vocabulary.cls) if mark >= 0][:1]
        end = [mark for mark in (vocabulary.eos, vocabulary.sep) if mark >= 0][:1]
        sample = Rows.of([np.array([*start, *vocabulary.ordinary[:3], *end])], model.tokenizer)
        return cls(
            model,
            sampling,
            torch.Generator().manual_seed(seed),
            start,
            end,
            np.flatnonzero(vocabulary.is_special),
            all(cacheable(view) for view in model.objective.examine(sample)),
        )

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
    ) -> Written:
        return write(
            self.model.objective.fill,
            self.model.logits,
            canvas,
            policy,
            self.sampling,
            stops=stops,
            forbidden=self.forbidden,
            min_length=min_length,
            make_cache=Cache if self.caches else None,
            generator=self.generator,
            on_round=None if shown is None else lambda draft, number: shown.advance(1),
        )


@contextmanager
def _reading(model: Model) -> Iterator[None]:
    """Without dropout, and with the kernel chosen by each view: what is written comes in all shapes."""
    training, kernel = model.training, model.kernel
    model.eval()
    model.kernel = None
    try:
        yield
    finally:
        model.train(training)
        model.kernel = kernel


def _piece(model: Model, before: Ids, new: Ids) -> str:
    """What the new ids add to the text before them (a first space may only show beside it)."""
    head, whole = model.tokenizer.decode(before), model.tokenizer.decode([*before, *new])
    return whole[len(head) :] if whole.startswith(head) else model.tokenizer.decode(new)


def _trimmed(piece: str, side: Given) -> str:
    """Without a letter whose bytes were cut off where the writing ended."""
    if side != "right":
        piece = piece.rstrip(BROKEN)
    return piece if side == "left" else piece.lstrip(BROKEN)


@dataclass
class _Gapped:
    """A text with blanks: k + 1 parts that are given and k blanks between them.

    Parameters
    ----------
    parts : letter for letter. ids : of each part, marks included. gaps : tokens of each blank.
    spaced : blanks whose first token carries the space before them.
    filled : ids written so far.
    """

    parts: list[str]
    ids: list[Ids]
    gaps: list[int]
    spaced: list[bool]
    filled: dict[int, Ids] = field(default_factory=dict)
    logprob: float = 0.0

    @classmethod
    def of(cls, text: str | Sequence[str | int], pen: _Pen, joins: bool) -> _Gapped:
        parts, gaps = _parsed(text)
        spaced = [joins and part.endswith(" ") for part in parts[:-1]]
        texts = [part[:-1] if space else part for part, space in zip(parts, [*spaced, False], strict=True)]
        ids: list[Ids] = [pen.model.tokenizer.encode(part).tolist() for part in texts]
        ids[0] = [*pen.start, *ids[0]]
        ids[-1] = [*ids[-1], *pen.end]
        gapped = cls(parts, ids, gaps, spaced)
        pen.check_room(gapped.laid())
        return gapped

    def laid(self) -> list[Ids | int]:
        """Parts and blanks in turn."""
        rest = [part for gap, ids in zip(self.gaps, self.ids[1:], strict=True) for part in (gap, ids)]
        return [self.ids[0], *rest]

    def before(self, blank: int) -> Ids:
        """Everything to the left of a blank; the blanks there are filled."""
        return [*self.ids[0], *(id for at in range(blank) for id in (*self.filled[at], *self.ids[at + 1]))]

    def after(self, blank: int) -> Ids:
        """Everything to the right of a blank; the blanks there are filled."""
        later = range(blank + 1, len(self.gaps))
        return [*self.ids[blank + 1], *(id for at in later for id in (*self.filled[at], *self.ids[at + 1]))]

    def done(self, model: Model, given: Given, how: str) -> Text:
        """The text with its blanks filled."""
        pieces = []
        for blank, spaced in enumerate(self.spaced):
            piece = _trimmed(_piece(model, self.before(blank), self.filled[blank]), "both")
            pieces.append(piece.removeprefix(" ") if spaced else piece)
        text = self.parts[0] + "".join(piece + part for piece, part in zip(pieces, self.parts[1:], strict=True))
        return Text(text, tuple(pieces), given, how, self.logprob)


def _parsed(text: str | Sequence[str | int]) -> tuple[list[str], list[int]]:
    """Given parts (some empty) and the tokens of the blanks between them."""
    parts, gaps = [""], []
    if isinstance(text, str):
        end = 0
        for found in BLANK.finditer(text):
            parts[-1] += text[end : found.start()]
            parts.append("")
            gaps.append(int(found.group(1) or 1))
            end = found.end()
        parts[-1] += text[end:]
    else:
        for part in text:
            if isinstance(part, str):
                parts[-1] += part
            else:
                parts.append("")
                gaps.append(part)
    if not gaps:
        raise SightlineError(f"there is no blank in {text!r}", "Write ___ for one token, ___:5 for five, or [MASK]")
    if min(gaps) < 1:
        raise SightlineError(f"a blank of {min(gaps)} tokens has no room in {text!r}", "Use ___:1 or more")
    return parts, gaps


def fill(
    model: Model,
    texts: Sequence[str | Sequence[str | int]],
    *,
    candidates: int = 8,
    sampling: Sampling | None = None,
    seed: int = 0,
    iterations: int = 10,
) -> list[Text]:
    """Each text with its blanks filled.

    A blank is ``___`` or ``[MASK]`` (one token) or ``___:5`` (five); or a text is given as parts, numbers among them
    being blanks of so many tokens. A family that sees both sides refines all blanks of a text together. One that
    sees one side fills them in its order: it draws candidates and keeps the one under which the given part behind it
    (up to the next blank) is likeliest.

    Parameters
    ----------
    candidates : drawn for each blank from one side; 1: the first is kept, and the other side is not looked at.
    sampling : how tokens are drawn; None: the likeliest in refinement, else temperature 0.8 and top-p 0.95. Where
        the likeliest is asked for, the candidates are those of a beam search.
    seed : of the draws.
    iterations : rounds of refinement.

    Raises
    ------
    SightlineError : a text without a blank, or longer than the model's context.
    """
    if candidates < 1:
        raise SightlineError(f"{candidates} candidates leave nothing to choose", "Use 1 or more")
    side = model.objective.writes_from
    pen = _Pen.of(model, sampling or (GREEDY if side == "both" else USUAL), seed)
    joins = any(len(model.tokenizer.encode(f" {letter}")) == 1 for letter in "atsiow")
    gapped = [_Gapped.of(text, pen, joins) for text in texts]
    with _reading(model):
        if side == "both":
            _refined(pen, gapped, iterations)
            return [text.done(model, "both", f"{_way(side, iterations)}, {pen.sampling}") for text in gapped]
        _chosen(pen, gapped, candidates)
    if candidates == 1:
        return [text.done(model, side, f"{WAYS[side]}, {pen.sampling}") for text in gapped]
    drawn = "a beam search" if pen.sampling.greedy else f"tokens {pen.sampling}"
    how = f"of {candidates} candidates written {WAYS[side]} ({drawn}), the one under which the rest is likeliest"
    return [text.done(model, "both", how) for text in gapped]


def _refined(pen: _Pen, gapped: list[_Gapped], iterations: int) -> None:
    """Fill all blanks by refinement, seeing both sides."""
    with bar("filling", -(-len(gapped) // LINES) * iterations, "rounds") as shown:
        for start in range(0, len(gapped), LINES):
            batch = gapped[start : start + LINES]
            done = pen.write(Canvas.laid([text.laid() for text in batch]), Refine(iterations), shown=shown)
            for line, text in enumerate(batch):
                at = len(text.ids[0])
                for blank, gap in enumerate(text.gaps):
                    text.filled[blank] = done.canvas.tokens[line, at : at + gap].tolist()
                    at += gap + len(text.ids[blank + 1])
                text.logprob = float(done.total[line])


def _chosen(pen: _Pen, gapped: list[_Gapped], candidates: int) -> None:
    """Fill blank after blank from the family's side, each with the candidate that suits what follows it best."""
    from_right = pen.model.objective.writes_from == "right"
    beam = pen.sampling.greedy and candidates > 1
    policy: Policy = Beam(candidates, n_best=candidates) if beam else NextPlace()
    copies = 1 if beam else candidates
    together = max(1, LINES // candidates)
    batches = [
        (number, [text for text in gapped if len(text.gaps) > number][start : start + together])
        for number in range(max((len(text.gaps) for text in gapped), default=0))
        for start in range(0, sum(len(text.gaps) > number for text in gapped), together)
    ]
    with bar("filling", len(batches), "batches") as shown:
        for number, batch in batches:
            blanks = [len(text.gaps) - 1 - number if from_right else number for text in batch]
            lines: list[Sequence[Ids | int]] = [
                [text.gaps[blank], text.after(blank)] if from_right else [text.before(blank), text.gaps[blank]]
                for text, blank in zip(batch, blanks, strict=True)
                for _ in range(copies)
            ]
            done = pen.write(Canvas.laid(lines), policy)
            for at, (text, blank) in enumerate(zip(batch, blanks, strict=True)):
                mine = np.flatnonzero(done.owners // copies == at)
                new = [done.canvas.tokens[line][done.canvas.inside[line] & ~done.canvas.given[line]] for line in mine]
                best = 0 if len(mine) == 1 else _best(pen, text, blank, new, done.total[mine])
                text.filled[blank] = new[best].tolist()
                text.logprob += float(done.total[mine[best]])
            shown.advance(1)


def _best(pen: _Pen, text: _Gapped, blank: int, new: list[NDArray[Any]], logprobs: NDArray[np.float64]) -> int:
    """The candidate under which the given part behind the blank is likeliest; where there is none, the likeliest.

    Marks do not count: a given text may be a piece of a longer one.
    """
    from_right = pen.model.objective.writes_from == "right"
    part = text.ids[blank] if from_right else text.ids[blank + 1]
    rest = [id for id in part if not pen.model.objective.vocabulary.is_special[id]]
    if not rest:
        return int(logprobs.argmax())
    known = text.after(blank) if from_right else text.before(blank)
    sequences, wanted = [], []
    for ids in new:
        sequences.append(np.array([*rest, *ids, *known] if from_right else [*known, *ids, *rest]))
        asked = np.arange(len(sequences[-1])) < len(rest)
        wanted.append(asked if from_right else asked[::-1])
    nats, _ = pen.model.examined(Rows.of(sequences, pen.model.tokenizer, wanted=wanted))
    return int(nats.argmin())
