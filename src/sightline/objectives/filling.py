"""Fill the blanks of a text: seeing both sides, or from one side and then the best of several candidates."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..data import Rows
from ..decoders.canvas import Canvas
from ..decoders.policy import Beam, NextPlace, Policy, Surest
from ..decoders.sampling import GREEDY, Sampling
from ..errors import SightlineError
from ..progress import bar
from .base import Given
from .model import Model
from .pen import LINES, USUAL, WAYS, Course, Ids, Pen, Text, must_write, piece_after, reading, trimmed

BLANK = re.compile(r"_{3,}(?::(\d+|\?))?|\[MASK\]")
ROOM = 64  # tokens of a blank that ends where the model ends it, at most

Parts = Sequence[str | int | None]  # of a text: given ones, and blanks by their tokens; None: of any length


@dataclass
class _Gapped:
    """A text with blanks: k + 1 parts that are given and k blanks between them.

    Parameters
    ----------
    parts : letter for letter. ids : of each part, marks included. gaps : tokens of each blank; at most so many where
        the blanks are ``ended`` by the model.
    spaced : blanks whose first token carries the space before them.
    filled : ids written so far.
    """

    parts: list[str]
    ids: list[Ids]
    gaps: list[int]
    spaced: list[bool]
    ended: bool = False
    filled: dict[int, Ids] = field(default_factory=dict)
    logprob: float = 0.0

    @classmethod
    def of(cls, text: str | Parts, pen: Pen, joins: bool) -> _Gapped:
        parts, blanks = _parsed(text)
        ended = None in blanks
        if ended and not pen.model.objective.infills:
            raise SightlineError(
                f"{pen.model.objective.family} does not end a blank by itself", "Say how long it is, as in ___:3"
            )
        spaced = [joins and part.endswith(" ") for part in parts[:-1]]
        texts = [part[:-1] if space else part for part, space in zip(parts, [*spaced, False], strict=True)]
        held = pen.model.tokenizer
        ids: list[Ids] = [held.encode(texts[0]).tolist(), *(held.encode_on(part).tolist() for part in texts[1:])]
        ids[0] = pen.begun(ids[0])
        ids[-1] = [*ids[-1], *pen.end]
        room = (pen.model.context - sum(map(len, ids))) // len(blanks)
        gaps = [max(1, min(ROOM, room)) if blank is None else blank for blank in blanks]
        gapped = cls(parts, ids, gaps, spaced, ended)
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
            piece = trimmed(piece_after(model, self.before(blank), self.filled[blank]), "both")
            pieces.append(piece.removeprefix(" ") if spaced else piece)
        text = self.parts[0] + "".join(piece + part for piece, part in zip(pieces, self.parts[1:], strict=True))
        return Text(text, tuple(pieces), given, how, self.logprob)


def _parsed(text: str | Parts) -> tuple[list[str], list[int | None]]:
    """Given parts (some empty) and the tokens of the blanks between them; None: of any length."""
    parts: list[str] = [""]
    gaps: list[int | None] = []
    if isinstance(text, str):
        end = 0
        for found in BLANK.finditer(text):
            parts[-1] += text[end : found.start()]
            parts.append("")
            gaps.append(None if found.group(1) == "?" else int(found.group(1) or 1))
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
    told = [gap for gap in gaps if gap is not None]
    if told and len(told) < len(gaps):
        raise SightlineError(
            f"{text!r} has blanks of told and of any length", "Give all of them a number, or write ___:? for all"
        )
    if told and min(told) < 1:
        raise SightlineError(f"a blank of {min(told)} tokens has no room in {text!r}", "Use ___:1 or more")
    return parts, gaps


def fill(
    model: Model,
    texts: Sequence[str | Parts],
    *,
    candidates: int = 8,
    sampling: Sampling | None = None,
    seed: int = 0,
    iterations: int = 10,
    sampler: str = "",
) -> list[Text]:
    """Each text with its blanks filled.

    A blank is ``___`` or ``[MASK]`` (one token), ``___:5`` (five) or ``___:?`` (as many as the model writes before it
    ends the blank); or a text is given as parts, numbers among them being blanks of so many tokens, None of any. A
    family that sees both sides fills all blanks of a text together: it refines them, or writes one token after the
    other for good, the surest first where none is drawn. One that infills (GLM) writes blank after blank, seeing both
    sides. One that sees one side fills them in its order: it draws candidates and keeps the one under which the given
    part behind it (up to the next blank) is likeliest.

    Parameters
    ----------
    candidates : drawn for each blank from one side; 1: the first is kept, and the other side is not looked at.
    sampling : how tokens are drawn; None: the likeliest where both sides are seen, else temperature 0.8 and top-p
        0.95. Where the likeliest is asked for, the candidates are those of a beam search.
    seed : of the draws.
    iterations : rounds of refinement.
    sampler : which places are written when, where both sides are seen; none: the family's own.

    Raises
    ------
    SightlineError : a text without a blank, or longer than the model's context; a blank of any length for a family
        that does not end it; a family that does not write.
    """
    if candidates < 1:
        raise SightlineError(f"{candidates} candidates leave nothing to choose", "Use 1 or more")
    must_write(model)
    if model.objective.reads == "pairs":
        raise SightlineError(
            f"{model.objective.family} writes targets of sources, and fills no blanks", "Use translate"
        )
    model = model.two_sided
    side, in_order = model.objective.fills_from or model.objective.writes_from, model.objective.fills_in_order
    pen = Pen.of(model, sampling or (GREEDY if side == "both" or in_order else USUAL), seed)
    course = Course.of(model.objective, sampler, iterations)
    joins = any(len(model.tokenizer.encode_on(f" {letter}")) == 1 for letter in "atsiow")
    gapped = [_Gapped.of(text, pen, joins) for text in texts]
    with reading(model):
        if side == "both":
            how = _seeing_both(pen, gapped, course)
            return [text.done(model, "both", f"{how}, {pen.sampling}") for text in gapped]
        if in_order:
            _in_order(pen, gapped)
            return [text.done(model, "both", f"blank after blank, {WAYS[side]}, {pen.sampling}") for text in gapped]
        _chosen(pen, gapped, candidates, course)
    if candidates == 1:
        return [text.done(model, side, f"{course.words(side)}, {pen.sampling}") for text in gapped]
    drawn = "a beam search" if pen.sampling.greedy else f"tokens {pen.sampling}"
    how = (
        f"of {candidates} candidates written {course.words(side)} ({drawn}), the one under which the rest is likeliest"
    )
    return [text.done(model, "both", how) for text in gapped]


def _seeing_both(pen: Pen, gapped: list[_Gapped], course: Course) -> str:
    """Fill all blanks of a text together by the family's course, and say how.

    A family that writes place after place takes one token after the other for good, the surest first; if they are
    drawn, from left to right: who draws and then picks the surest draws from another distribution than the model's.
    """
    if course.sampler == "next":
        surest = pen.sampling.greedy
        rounds = max((sum(text.gaps) for text in gapped), default=1)
        policy: Policy = Surest(rounds) if surest else NextPlace()
        how = f"one token a round, {'the surest first' if surest else WAYS['left']}"
    else:
        rounds, policy, how = course.iterations, course.policy, course.words("both")
    pen = replace(pen, make_cache=None)  # a text that sees both sides sees what is filled in
    with bar("filling", -(-len(gapped) // LINES) * rounds, "rounds") as shown:
        for start in range(0, len(gapped), LINES):
            batch = gapped[start : start + LINES]
            done = pen.write(Canvas.laid([text.laid() for text in batch]), policy, shown=shown)
            for line, text in enumerate(batch):
                at = len(text.ids[0])
                for blank, gap in enumerate(text.gaps):
                    text.filled[blank] = done.canvas.tokens[line, at : at + gap].tolist()
                    at += gap + len(text.ids[blank + 1])
                text.logprob = float(done.total[line])
    return how


def _in_order(pen: Pen, gapped: list[_Gapped]) -> None:
    """Fill blank after blank, each seeing both sides; one of any length up to the mark that ends it."""
    batches = [
        (ended, [text for text in gapped if text.ended == ended][start : start + LINES])
        for ended in (False, True)
        for start in range(0, sum(text.ended == ended for text in gapped), LINES)
    ]
    with bar("filling", len(batches), "batches") as shown:
        for ended, batch in batches:
            stops = pen.model.objective.stops if ended else ()
            done = pen.write(Canvas.laid([text.laid() for text in batch]), NextPlace(), stops)
            for line, text in enumerate(batch):
                written = done.canvas.inside[line] & ~np.isin(done.canvas.tokens[line], stops)
                at = len(text.ids[0])
                for blank, gap in enumerate(text.gaps):
                    place = slice(at, at + gap)
                    text.filled[blank] = done.canvas.tokens[line, place][written[place]].tolist()
                    at += gap + len(text.ids[blank + 1])
                text.logprob = float(done.total[line])
            shown.advance(1)


def _chosen(pen: Pen, gapped: list[_Gapped], candidates: int, course: Course) -> None:
    """Fill blank after blank from the family's side, each with the candidate that suits what follows it best."""
    from_right = pen.model.objective.writes_from == "right"
    beam = pen.sampling.greedy and candidates > 1 and course.sampler == "next"
    policy: Policy = Beam(candidates, n_best=candidates) if beam else course.policy
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


def _best(pen: Pen, text: _Gapped, blank: int, new: list[NDArray[Any]], logprobs: NDArray[np.float64]) -> int:
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
    alike = np.zeros(len(sequences), dtype=np.int64)  # where a bound is drawn, all candidates get the same draws
    nats, _ = pen.model.examined(Rows.of(sequences, pen.model.tokenizer, wanted=wanted, numbers=alike))
    return int(nats.argmin())
