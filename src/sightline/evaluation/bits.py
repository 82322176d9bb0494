"""Bits per byte: the one currency of all families whose tokenizer gives the text back.

    document   [bos] . . . . . . . . . . . . . . [eos]
    windows    |-------|                               each wanted token is asked exactly once, with at least half a
                   |---|---|   asked here: ---         window of what the family conditions on (left, right, both)
                       |---|---|

A bound is looked at several times with other draws; how far those differ is its Monte Carlo error.

Pseudo-likelihood: Salazar et al., Masked Language Model Scoring (2020).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ..data import Rows
from ..errors import SightlineError
from ..objectives.base import Column, Objective
from ..objectives.model import Model
from ..progress import bar
from .sample import Piece, Sample
from .score import Measured

Side = Literal["left", "right", "both"]

UNIT = "bits/byte"
TOKENS_AT_ONCE = 8192
LOOKS = 4  # at a text whose score is drawn: enough to tell the error, few enough for a comparison
BLANK = 32  # tokens of a blank that is scored, at most


@dataclass(frozen=True)
class Window:
    """A stretch [start, end) of a document of which the tokens [first, last) are asked."""

    start: int
    end: int
    first: int
    last: int


def windows(length: int, first: int, last: int, context: int, side: Side) -> Iterator[Window]:
    """Windows of at most ``context`` tokens that ask each of [first, last) once.

    Parameters
    ----------
    length : tokens of the document.
    side : where a family finds what it conditions on; an asked token has at least half a window of it, or all there is.

    Raises
    ------
    SightlineError : a context too short to slide.
    """
    if context < 4:
        raise SightlineError(
            f"a context of {context} tokens is too short to score with", "Use a model with a longer one"
        )
    if side == "right":
        for mirrored in windows(length, length - last, length - first, context, "left"):
            yield Window(
                length - mirrored.end, length - mirrored.start, length - mirrored.last, length - mirrored.first
            )
        return
    margin = context // 2 if side == "left" else context // 4
    at = first
    while at < last:
        start = max(0, at - margin)
        end = min(length, start + context)
        stop = end if side == "left" or end == length else end - margin
        yield Window(start, end, at, min(stop, last))
        at = min(stop, last)


def bits_per_byte(model: Model, sample: Sample) -> Measured:
    """The family's bits per byte of whole texts; for a family without a likelihood of texts, its own pseudo score.

    Empty, with the reason, where the tokenizer does not give the text back byte for byte, where the family has no
    distribution over tokens, or where an exact family was not trained on whole texts.
    """
    return whole_texts(model, sample)[0]


def whole_texts(model: Model, sample: Sample) -> list[Measured]:
    """``bits_per_byte``; of a family of halves, the mean of the halves' scores, and then each of these.

    The mean of two exact scores is no model's own, but at least that of the halves' even mixture (the logarithm is
    concave): it is a bound.
    """
    columns = model.objective.columns
    if sample.sep >= 0:
        why = "a pair is no text: its target is scored, given its source"
        return [Measured.none("bits_per_byte", UNIT, model.objective.score_class, "whole text", why)]
    if model.objective.score_class in ("exact", "nar") and "whole text" not in columns:
        why = f"{model.objective.family}, as it was set, was not trained to write whole texts"
        return [Measured.none("bits_per_byte", UNIT, model.objective.score_class, "whole text", why)]
    column: Column | Literal[""] = "whole text" if "whole text" in columns else next(iter(columns), "")
    found = _by_halves(model, sample, "bits_per_byte", column, lambda piece: (piece.first, piece.last))
    if len(found) == 1 or found[0].missing:
        return found[:1]
    names = [half.family for half in model.objective.halves]
    return [_mean(found), *(replace(one, name=f"{half}_{one.name}") for half, one in zip(names, found, strict=True))]


def continuation_bits_per_byte(model: Model, sample: Sample) -> Measured:
    """Bits per byte of the second half of each piece, or of the target of a pair, given what stands before it.

    Empty, with the reason, for families that do not write from the left.
    """
    name = "continuation_bits_per_byte"
    column: Column = "continuation"
    if column not in model.objective.columns:
        why = f"{model.objective.family} gives no likelihood of a continuation"
        return Measured.none(name, UNIT, model.objective.score_class, column, why)
    return _by_halves(model, sample, name, column, lambda piece: (sample.continued(piece), piece.last))[0]


def _by_halves(
    model: Model, sample: Sample, name: str, column: Column | Literal[""], span: Callable[[Piece], tuple[int, int]]
) -> list[Measured]:
    """The score of each half of the family that may stand in the column; no column: of a family that has none."""
    halves = [half for half in model.halves if not column or column in half.objective.columns]
    return [_measured(half, sample, name, column, span) for half in halves]


def _mean(halves: list[Measured]) -> Measured:
    """The mean of exact scores of the same pieces, as the bound that it is."""
    told = " and ".join(f"{half.value:.3f}" for half in halves)
    return replace(
        halves[0],
        class_="bound",
        top=np.mean([half.top for half in halves], axis=0),
        context_rule="; ".join(half.context_rule for half in halves),
        note=f"the mean of the halves' exact scores, {told}: at least the score of their even mixture",
    )


def infilling_bits_per_byte(model: Model, sample: Sample) -> Measured:
    """Bits per byte of a blank in the middle of each piece, its end included, given what stands on both sides.

    Empty, with the reason, for families without a likelihood of what stands between two sides.
    """
    name, column, objective = "infilling_bits_per_byte", "infilling", model.objective
    if column not in objective.columns or not objective.infills:
        why = f"{objective.family} gives no likelihood of a blank"
        return Measured.none(name, UNIT, objective.score_class, column, why)
    longest = min(BLANK, model.context // 4)

    def blank(piece: Piece) -> tuple[int, int]:
        half = min(longest, (piece.last - piece.first) // 2) // 2
        return _middle(piece) - half, _middle(piece) + max(half, 1)

    return _measured(model, sample, name, column, blank, infill=True)


def _windows(sample: Sample, piece: Piece, span: tuple[int, int], context: int, side: Side) -> Iterator[Window]:
    """The windows of a piece; a pair stays whole where it fits, since a source says all of itself."""
    length = len(sample.tokens[piece.document])
    if sample.sep >= 0 and length <= context:
        yield Window(0, length, *span)
    else:
        yield from windows(length, *span, context, side)


def _middle(piece: Piece) -> int:
    return (piece.first + piece.last + 1) // 2


def _measured(
    model: Model,
    sample: Sample,
    name: str,
    column: str,
    span: Callable[[Piece], tuple[int, int]],
    infill: bool = False,
) -> Measured:
    side: Side = "both" if infill else model.objective.scores_from
    objective, tokenizer = model.objective, model.tokenizer
    if not objective.columns:
        why = f"{objective.family} gives no probability of tokens"
        return Measured.none(name, UNIT, objective.score_class, column, why)
    if not (tokenizer.lossless or sample.whole):
        why = f"the {tokenizer.kind} tokenizer does not give the text back byte for byte"
        return Measured.none(name, UNIT, objective.score_class, column, why)
    one_by_one = objective.score_class == "pseudo"
    share = sample.share if one_by_one else 1.0
    asked = [_asked(sample, at, piece, span(piece), share) for at, piece in enumerate(sample.pieces)]
    looks = LOOKS if objective.score_class == "bound" else 1
    nats = np.zeros((looks, len(asked)))
    rows: list[tuple[int, NDArray[np.int32], NDArray[np.bool_]]] = []
    for at, (piece, wanted) in enumerate(zip(sample.pieces, asked, strict=True)):
        tokens = sample.tokens[piece.document]
        places = np.flatnonzero(wanted)
        if not len(places):
            continue
        for window in _windows(sample, piece, span(piece), model.context, side):
            ask = np.zeros(window.end - window.start, dtype=np.bool_)
            ask[window.first - window.start : window.last - window.start] = wanted[window.first : window.last]
            if ask.any():
                rows.append((at, tokens[window.start : window.end], ask))
    was_training = model.training
    model.eval()
    with bar(f"scoring {objective.family}", len(rows), "windows") as shown:
        for numbers, batch in batches(rows):
            sequences, wants = [ids for _, ids, _ in batch], [ask for _, _, ask in batch]
            held = Rows.of(sequences, tokenizer, wanted=wants, numbers=numbers)
            for look in range(looks):
                got, _ = model.examined(replace(held, visits=np.full(held.count, look)), infill)
                np.add.at(nats[look], [at for at, _, _ in batch], got)
            shown.advance(len(batch))
    model.train(was_training)
    weights = [sample.weights[piece.document] for piece in sample.pieces]
    sizes = np.array([float(size[wanted].sum()) for size, wanted in zip(weights, asked, strict=True)])
    return Measured(
        name=name,
        unit=UNIT,
        class_=objective.score_class,
        column=column,
        top=nats.mean(0) / math.log(2),
        bottom=sizes,
        context_rule=context_rule(side, model.context),
        note=_note(objective, share, nats.sum(1) / math.log(2) / max(1.0, sizes.sum())),
    )


def _asked(sample: Sample, number: int, piece: Piece, span: tuple[int, int], share: float) -> NDArray[np.bool_]:
    """Which tokens of the piece's document are asked: all of the span, or a share drawn by seed and piece."""
    wanted = np.zeros(len(sample.tokens[piece.document]), dtype=np.bool_)
    wanted[span[0] : span[1]] = True
    if share < 1:
        wanted &= np.random.default_rng((sample.seed, 3, number)).random(len(wanted)) < share
    return wanted


def batches(
    rows: list[tuple[int, NDArray[np.int32], NDArray[np.bool_]]],
) -> Iterator[tuple[list[int], list[tuple[int, NDArray[np.int32], NDArray[np.bool_]]]]]:
    """Rows of like length together, so that little is padded, with their numbers; ``TOKENS_AT_ONCE`` slots at most."""
    batch: list[int] = []
    for number in sorted(range(len(rows)), key=lambda number: -len(rows[number][1])):
        if batch and (len(batch) + 1) * len(rows[batch[0]][1]) > TOKENS_AT_ONCE:
            yield batch, [rows[one] for one in batch]
            batch = []
        batch.append(number)
    if batch:
        yield batch, [rows[one] for one in batch]


def context_rule(side: Side, context: int) -> str:
    """How much of the text an asked token is given, in words."""
    if side == "both":
        return (
            f"each token given both sides of its document; beyond {context} tokens by sliding windows of {context} "
            f"that keep at least {context // 4} tokens on either side, or all there are"
        )
    before = "before" if side == "left" else "after"
    return (
        f"each token given those {before} it in its document; beyond {context} tokens by sliding windows of {context} "
        f"with stride {context - context // 2}, so at least {context // 2} tokens of context, or all there are"
    )


def _note(objective: Objective, share: float, looks: NDArray[np.float64]) -> str:
    if objective.score_class == "pseudo":
        part = "" if share >= 1 else f"; asked of {share:.1%} of the tokens, drawn by seed"
        return f"pseudo: {objective.examined_how}; no likelihood of the text{part}"
    if objective.score_class == "nar":
        return f"answers that ignore each other: {objective.examined_how}"
    if objective.score_class == "bound":
        error = looks.std(ddof=1) / math.sqrt(len(looks))
        return (
            f"an upper bound: the true value, given how many tokens there are, is at most this; estimated from "
            f"{len(looks)} draws of masks for each text, Monte Carlo error {error:.4f}"
        )
    return ""
