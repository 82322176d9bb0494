"""Targets for many sources, in batches of like length: what a family of pairs is for."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..decoders.canvas import Canvas
from ..decoders.once import unrepeated
from ..decoders.policy import Beam, Policy
from ..decoders.sampling import GREEDY, Sampling
from ..errors import SightlineError
from ..progress import bar
from .base import Objective
from .drafting import DRAFTED, LOOKAHEAD, Ahead, Drafts
from .lengths import by_lengths, without_repeats
from .model import Model
from .pen import Course, Ids, Pen, Text, must_write, reading

BEAMS = 5  # Kasai et al. (2021)
SLOTS = 8192  # of sources and targets written together, of all beams
LONGER = 16  # tokens that a target may have beyond twice its source's


def writes_targets(objective: Objective) -> bool:
    """Whether a family that learned pairs writes a target: as a family of pairs, or behind the source."""
    return objective.reads == "pairs" or (objective.writes_from == "left" and "continuation" in objective.columns)


def translate(
    model: Model,
    sources: Sequence[str],
    *,
    beams: int = 1,
    length_penalty: float = 1.0,
    length: int = 0,
    candidates: int = 5,
    iterations: int = 10,
    sampler: str = "",
    block: int = 0,
    sure: float = 0.0,
    merge: bool = False,
    sampling: Sampling = GREEDY,
    drafter: Drafts | None = None,
    lookahead: int = LOOKAHEAD,
    slots: int = SLOTS,
    seed: int = 0,
    of_texts: bool = False,
) -> list[Text]:
    """The likeliest target of each source, in the order of the sources; an empty source has an empty target.

    Parameters
    ----------
    beams : width of the search where a text is written left to right; 1: the likeliest token after token; 0: ``BEAMS``
        where it is, else 1.
    length_penalty : see ``Beam``.
    length : most tokens of a target; 0: twice those of its source and a few, within the model's context.
    candidates : lengths that are tried for each source, where a family tells lengths (nar, cmlm).
    iterations : rounds in which such a family writes; of each block, where there are blocks.
    sampler, block : which places it writes when (see ``decoders/policy.py``); none: its own. Easy first is ``surest``
        in as many rounds as there are places, left to right is ``surest`` with blocks of 1. A family that writes at
        any pace has ``next``, ``blocks`` and ``once``; written at once, a target has as many places as its source has
        tokens, unless ``length`` says.
    sure : of such a block, the probability that each token after the first needs.
    merge : of equal tokens side by side keep one, as places that do not know of each other repeat themselves.
    sampling : how tokens are drawn.
    drafter, lookahead : who goes ahead, and how far, of a text that is written token by token (see ``generate``); the
        texts are the same, and written one at a time.
    slots : places that are worked on together, which bounds memory.
    seed : of whatever a family draws.
    of_texts : the model's family reads texts and learned pairs as such, a target behind its source.

    Raises
    ------
    SightlineError : a family that reads no pairs, settings that make no sense, or a source beyond the context.
    """
    must_write(model)
    if not (writes_targets(model.objective) if of_texts else model.objective.reads == "pairs"):
        raise SightlineError(
            f"{model.objective.family} was not trained on pairs, or writes no target behind a source",
            "Use a model of seq2seq or its like (of a T5 or BART: adopt it --as seq2seq), or generate",
        )
    if length < 0 or slots < 1:
        raise SightlineError(f"a length of {length} in {slots} slots writes nothing", "Use 0 for the usual, or more")
    pen, lengths = Pen.of(model, sampling, seed, of_texts), model.objective.tells_lengths
    drafts = None if drafter is None else Ahead.of(model, drafter, lookahead)
    if drafts is not None and not sampler and model.objective.foresees:
        sampler = "next"
    course = Course.of(model.objective, sampler, iterations, block, sure)
    if candidates < 1:
        raise SightlineError(f"{candidates} lengths leave nothing to choose", "Use 1 or more")
    encoded = [[*pen.begun(model.tokenizer.encode(source).tolist()), *pen.middle] for source in sources]
    for source, ids in zip(sources, encoded, strict=True):
        if (count := len(ids) - len(pen.opens)) > model.context - of_texts:
            raise SightlineError(
                f"a source of {count} tokens exceeds the model's context, {model.context}: {source[:40]!r}...",
                "Shorten it, or cut it into sentences",
            )
    beams = 1 if lengths else beams or (BEAMS if course.sampler == "next" and drafts is None else 1)
    if beams > 1 and course.sampler != "next":
        raise SightlineError(f"a text written {course.words('left')} has no beams", "Use --beams 1 or --sampler next")
    if drafts is not None and (beams > 1 or course.sampler != "next"):
        raise SightlineError(
            "a drafter goes ahead where one place is written after the other",
            "Leave it away, or leave beams and sampler away",
        )
    policy = course.policy if beams == 1 else Beam(beams, length_penalty)
    how = f"{course.words('left')}, {f'beam of {beams}' if beams > 1 else sampling}"
    how += f", {candidates} lengths" if lengths else ""
    name = "" if drafts is None else drafts.name
    how += f", drafted by {name}" if name else ""
    texts = [Text("", ("",), "left", how, 0.0)] * len(sources)
    order = sorted((at for at, source in enumerate(sources) if source.strip()), key=lambda at: len(encoded[at]))
    with bar("writing", len(order), "texts") as shown, reading(model):
        while order:
            batch = _together(order, encoded, pen, length, slots // max(1, candidates if lengths else beams))
            batch = batch if drafts is None else batch[-DRAFTED:]
            del order[len(order) - len(batch) :]
            given = [encoded[at] for at in batch]
            rounds = [0] * len(batch)
            if lengths:
                written, logprobs = by_lengths(pen, given, policy, candidates, length or model.context)
            else:
                written, logprobs, rounds = _in_order(pen, given, policy, length, course, drafts)
            for at, new, logprob, count in zip(batch, written, logprobs, rounds, strict=True):
                text = model.tokenizer.decode(without_repeats(new) if merge else new)
                text = unrepeated(text) if course.mends else text
                texts[at] = Text(text, (text,), "left", how, logprob, len(new), count, name)
            shown.advance(len(batch))
    return texts


def _in_order(
    pen: Pen, sources: list[Ids], policy: Policy, length: int, course: Course, drafts: Ahead | None
) -> tuple[list[Ids], list[float], list[int]]:
    """The target of each source, up to what stops it, the sum of its log p, and in how many rounds."""
    one_stack = pen.model.objective.begins_with is None  # source and target share its positions
    canvas = Canvas.laid(
        [[ids, len(ids) if course.mends and not length else _room(ids, pen, length, one_stack)] for ids in sources]
    )
    done = pen.write(canvas, policy, pen.model.objective.stops, course=course, drafts=drafts)
    written = done.canvas.inside & ~done.canvas.given
    ids = [ids[here].tolist() for ids, here in zip(done.canvas.tokens, written, strict=True)]
    return ids, done.total.tolist(), [len(np.unique(of_line[of_line > 0])) for of_line in done.film]


def _room(ids: Ids, pen: Pen, length: int, one_stack: bool = False) -> int:
    """Places for the target of a source, the mark that ends it too."""
    before = len(ids) if one_stack else len(pen.opens)
    return min(pen.model.context - 1 - before, length or 2 * len(ids) + LONGER)


def _together(order: list[int], encoded: list[Ids], pen: Pen, length: int, slots: int) -> list[int]:
    """The last of the sources, the longest left, as many as fit in so many slots; at least one."""
    each = len(encoded[order[-1]]) + _room(encoded[order[-1]], pen, length)
    return order[-max(1, slots // each) :]
