"""Continue a prompt, or lead up to it: by our own loop, or by an engine over the same weights."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from ..decoders.canvas import Canvas
from ..decoders.film import Camera, Scene
from ..decoders.once import unrepeated
from ..decoders.policy import Beam, Policy
from ..decoders.sampling import GREEDY, Sampling
from ..errors import SightlineError
from ..progress import bar
from .base import Given
from .drafting import DRAFTED, LOOKAHEAD, Ahead, Drafts
from .model import Model
from .pen import LINES, USUAL, Course, Ids, Pen, Text, filmed, must_write, piece_after, reading, trimmed
from .translating import translate


@dataclass(frozen=True)
class Wanted:
    """What is to be written, for another loop than ours; the words mean what they mean in ``decoders.loop.write``.

    Parameters
    ----------
    length, min_length : tokens, at most and before a text may end.
    sampling : how a token is drawn. seed : of the draws.
    stops : ids that end a text when written.
    forbidden : ids never written, not as a stop either.
    """

    length: int
    sampling: Sampling
    min_length: int = 0
    seed: int = 0
    stops: Sequence[int] = ()
    forbidden: Sequence[int] = ()


class Engine(Protocol):
    """Another loop than ours, over the same weights (see ``serving/engine.py``).

    Parameters
    ----------
    name : its own, and the type that it computes in.
    """

    name: str

    def write(self, prompts: Sequence[Ids], wanted: Wanted) -> list[tuple[Ids, float]]:
        """What follows each prompt, up to a stop mark, and the sum of log p (nats) among ids that may be written."""


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
    sampler: str = "",
    block: int = 0,
    sure: float = 0.0,
    engine: Engine | None = None,
    together: int = LINES,
    drafter: Drafts | None = None,
    lookahead: int = LOOKAHEAD,
    films: int = 0,
) -> list[Text]:
    """Texts that go on from each prompt, on the side that the family writes to; those of one prompt side by side.

    Of a family of pairs a prompt is a source, and the text its target.

    Parameters
    ----------
    length : most tokens written; a family that sees both sides writes exactly so many, between prompt and end mark.
    min_length : tokens before which the text does not end.
    sampling : how tokens are drawn; None: temperature 0.8 and top-p 0.95, or the likeliest where ``beams`` > 1.
    seed : of the draws.
    n_best : texts for each prompt.
    beams : width of a beam search; 1: none.
    length_penalty : see ``Beam``.
    iterations : rounds of refinement, where the family sees both sides; of each block, where it writes in blocks.
    sampler : which places are written when (see ``decoders/policy.py``); none: the family's own.
    block : places that are written before the next so many are begun; 0: the family's own, if it has any.
    sure : of a block of a family that writes at any pace, the probability that each token after the first needs.
    engine : opened with this model, to write instead of our own loop.
    together : texts that our own loop writes at once; with a drafter always one.
    drafter : goes ahead, and the model checks: the same texts, or the same distribution of them, in fewer rounds. A
        quicker model with the same tokenizer, ``lookup`` (what followed in the text before) or ``self``.
    lookahead : most tokens that it proposes in a round; 0: none.
    films : texts, the first ones, whose film is kept; none of a beam's or an engine's.

    Raises
    ------
    SightlineError : prompt and length together exceed the model's context, settings that contradict each other, a
        family that does not write, or a drafter that is not of this model's kind.
    """
    must_write(model)
    drafts = None if drafter is None else Ahead.of(model, drafter, lookahead)
    if model.objective.tells_lengths:
        if n_best > 1 or engine is not None:
            raise SightlineError(
                f"{model.objective.family} writes one target of a source, by our own loop", "Leave n and engine away"
            )
        return translate(
            model, prompts, beams=beams, length=length, iterations=iterations, sampler=sampler, block=block,
            sampling=sampling or USUAL, seed=seed,
        )  # fmt: skip
    side = model.objective.writes_from
    pen = Pen.of(model, sampling or (GREEDY if beams > 1 else USUAL), seed)
    if drafts is not None and not sampler and model.objective.foresees:
        sampler = "next"
    course = Course.of(model.objective, sampler, iterations, block, sure)
    _check(length, n_best, beams, pen.sampling, course)
    if drafts is not None and (beams > 1 or engine is not None or course.sampler != "next"):
        raise SightlineError(
            "a drafter goes ahead of our own loop where it writes one place after the other",
            "Leave it away, or leave beams, engine and sampler away",
        )
    policy = Beam(beams, length_penalty, n_best) if beams > 1 else course.policy
    prompted = [model.tokenizer.encode(prompt).tolist() for prompt in prompts]
    copies = 1 if beams > 1 else n_best
    lines = [_around(pen, ids, length) for ids in prompted for _ in range(copies)]
    for parts in lines:
        pen.check_room(parts)
    stops = () if side == "both" else tuple(stop for stop in model.objective.stops if stop >= 0)
    if engine is None:
        many = together if drafts is None else DRAFTED
        written = _by_loop(pen, lines, policy, stops, min_length, course, course.rounds(length), drafts, films, many)
    elif beams > 1:
        raise SightlineError(
            f"an engine writes one text at a time, not a beam of {beams}", "Leave beams or engine away"
        )
    else:
        repeated = [ids for ids in prompted for _ in range(copies)]
        written = _by_engine(engine, pen, repeated, length, min_length, stops, seed)
    how = f"{course.words(side)}{f' by {engine.name}' if engine else ''}, "
    how += f"beam of {beams}" if beams > 1 else str(pen.sampling)
    given: Given = "left" if side == "both" else side
    texts: list[list[Text]] = [[] for _ in lines]
    for done in written:
        prompt, ids = prompts[done.line // copies], prompted[done.line // copies]
        piece = trimmed(piece_after(model, [] if side == "right" or pen.middle else ids, done.ids), side)
        piece = unrepeated(piece) if course.mends else piece
        text = piece if pen.middle else piece + prompt if side == "right" else prompt + piece
        film, drafted = filmed(model, done.scenes), "" if drafts is None else drafts.name
        texts[done.line].append(
            Text(text, (piece,), given, how, done.logprob, len(done.ids), done.rounds, drafted, film)
        )
    return [text for of_line in texts for text in of_line]


@dataclass(frozen=True)
class _Done:
    """A text that was written: the number of its line, new ids, their log p, rounds and film."""

    line: int
    ids: Ids
    logprob: float
    rounds: int = 0
    scenes: Sequence[Scene] = ()


def _by_loop(
    pen: Pen,
    lines: list[list[Ids | int]],
    policy: Policy,
    stops: Sequence[int],
    min_length: int,
    course: Course,
    rounds: int,
    drafts: Ahead | None,
    films: int,
    many: int,
) -> Iterator[_Done]:
    """Each text that our own loop writes."""
    sizes = [sum(part if isinstance(part, int) else len(part) for part in parts) for parts in lines]
    order = sorted(range(len(lines)), key=lambda line: sizes[line])  # like lengths pad least
    with bar("writing", -(-len(lines) // many) * rounds, "rounds") as shown, reading(pen.model):
        for start in range(0, len(order), many):
            batch = order[start : start + many]
            camera = Camera(len(batch)) if films and min(batch) < films and not isinstance(policy, Beam) else None
            canvas = Canvas.laid([lines[line] for line in batch])
            done = pen.write(canvas, policy, stops, min_length, shown, course, drafts, camera)
            for at, owner in enumerate(done.owners):
                new = done.canvas.tokens[at][done.canvas.inside[at] & ~done.canvas.given[at]].tolist()
                film = done.film[at][done.film[at] > 0]
                line = batch[int(owner)]
                scenes = camera.scenes[int(owner)] if camera is not None and line < films else []
                yield _Done(line, new, float(done.total[at]), len(np.unique(film)), scenes)


def _by_engine(
    engine: Engine, pen: Pen, prompts: list[Ids], length: int, min_length: int, stops: Sequence[int], seed: int
) -> Iterator[_Done]:
    """The same of an engine's, which counts no rounds and makes no film."""
    never = np.union1d(np.setdiff1d(pen.forbidden, stops), pen.model.objective.vocabulary.unpredictable)
    wanted = Wanted(length, pen.sampling, min_length, seed, stops, never.tolist())
    written = engine.write([pen.begun(ids) for ids in prompts], wanted)
    return (_Done(number, new, logprob) for number, (new, logprob) in enumerate(written))


def _check(length: int, n_best: int, beams: int, sampling: Sampling, course: Course) -> None:
    if length < 1:
        raise SightlineError(f"a length of {length} tokens leaves nothing to write", "Use 1 or more")
    if n_best < 1 or beams < 1:
        raise SightlineError(f"{n_best} texts from {beams} beams are none", "Use 1 or more of each")
    if beams > 1 and course.sampler != "next":
        raise SightlineError("a family that writes in any order of places has no beams", "Leave beams away")
    if n_best > 1 and beams == 1 and sampling.greedy:
        raise SightlineError(f"the likeliest text is one, but {n_best} are wanted", "Use beams or a temperature")
    if not course.aligned and course.block > length:
        raise SightlineError(
            f"a block of {course.block} tokens is longer than the {length} that are written", "Use shorter blocks"
        )


def _around(pen: Pen, ids: Ids, length: int) -> list[Ids | int]:
    """The prompt with the open places on the side that the family writes to."""
    side = pen.model.objective.writes_from
    if side == "right":
        return [length, [*ids, *pen.end]]
    return [[*pen.begun(ids), *pen.middle], length, pen.end if side == "both" else []]
