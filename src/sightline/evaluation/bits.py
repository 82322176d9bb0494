"""Bits per byte: the one currency of all families whose tokenizer gives the text back.

    document   [bos] . . . . . . . . . . . . . . [eos]
    windows    |-------|                               each wanted token is asked exactly once, with at least half a
                   |---|---|   asked here: ---         window of what the family conditions on (left, right, both)
                       |---|---|

Pseudo-likelihood: Salazar et al., Masked Language Model Scoring (2020).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ..data import Rows
from ..errors import SightlineError
from ..objectives.model import Model
from ..progress import bar
from .sample import Piece, Sample
from .score import Measured

Side = Literal["left", "right", "both"]

UNIT = "bits/byte"
TOKENS_AT_ONCE = 8192
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

    Empty, with the reason, where the tokenizer does not give the text back byte for byte, or where an exact family was
    not trained on whole texts.
    """
    columns = model.objective.columns
    if model.objective.score_class == "exact" and "whole text" not in columns:
        why = f"{model.objective.family}, as it was set, was not trained to write whole texts"
        return Measured.none("bits_per_byte", UNIT, "exact", "whole text", why)
    column = "whole text" if "whole text" in columns else columns[0]
    return _measured(model, sample, "bits_per_byte", column, lambda piece: (piece.first, piece.last))


def continuation_bits_per_byte(model: Model, sample: Sample) -> Measured:
    """Bits per byte of the second half of each piece, given what stands before it.

    Empty, with the reason, for families that do not write from the left.
    """
    name, column = "continuation_bits_per_byte", "continuation"
    if column not in model.objective.columns:
        why = f"{model.objective.family} gives no likelihood of a continuation"
        return Measured.none(name, UNIT, model.objective.score_class, column, why)
    return _measured(model, sample, name, column, lambda piece: (_middle(piece), piece.last))


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
    side: Side = "both" if infill else model.objective.writes_from
    objective, tokenizer = model.objective, model.tokenizer
    if not tokenizer.lossless:
        why = f"the {tokenizer.kind} tokenizer does not give the text back byte for byte"
        return Measured.none(name, UNIT, objective.score_class, column, why)
    one_by_one = objective.score_class == "pseudo"
    share = sample.share if one_by_one else 1.0
    asked = [_asked(sample, at, piece, span(piece), share) for at, piece in enumerate(sample.pieces)]
    nats = np.zeros(len(asked))
    rows: list[tuple[int, NDArray[np.int32], NDArray[np.bool_]]] = []
    for at, (piece, wanted) in enumerate(zip(sample.pieces, asked, strict=True)):
        tokens = sample.tokens[piece.document]
        places = np.flatnonzero(wanted)
        if not len(places):
            continue
        for window in windows(len(tokens), *span(piece), model.context, side):
            ask = np.zeros(window.end - window.start, dtype=np.bool_)
            ask[window.first - window.start : window.last - window.start] = wanted[window.first : window.last]
            if ask.any():
                rows.append((at, tokens[window.start : window.end], ask))
    was_training = model.training
    model.eval()
    with bar(f"scoring {objective.family}", len(rows), "windows") as shown:
        for batch in _batches(rows):
            sequences, wants = [ids for _, ids, _ in batch], [ask for _, _, ask in batch]
            got, _ = model.examined(Rows.of(sequences, tokenizer, wanted=wants), infill)
            np.add.at(nats, [at for at, _, _ in batch], got)
            shown.advance(len(batch))
    model.train(was_training)
    weights = [sample.weights[piece.document] for piece in sample.pieces]
    sizes = np.array([float(size[wanted].sum()) for size, wanted in zip(weights, asked, strict=True)])
    return Measured(
        name=name,
        unit=UNIT,
        class_=objective.score_class,
        column=column,
        top=nats / math.log(2),
        bottom=sizes,
        context_rule=context_rule(side, model.context),
        note=_note(objective.score_class, share),
    )


def _asked(sample: Sample, number: int, piece: Piece, span: tuple[int, int], share: float) -> NDArray[np.bool_]:
    """Which tokens of the piece's document are asked: all of the span, or a share drawn by seed and piece."""
    wanted = np.zeros(len(sample.tokens[piece.document]), dtype=np.bool_)
    wanted[span[0] : span[1]] = True
    if share < 1:
        wanted &= np.random.default_rng((sample.seed, 3, number)).random(len(wanted)) < share
    return wanted


def _batches(
    rows: list[tuple[int, NDArray[np.int32], NDArray[np.bool_]]],
) -> Iterator[list[tuple[int, NDArray[np.int32], NDArray[np.bool_]]]]:
    """Rows of like length together, so that little is padded; at most ``TOKENS_AT_ONCE`` slots each."""
    batch: list[tuple[int, NDArray[np.int32], NDArray[np.bool_]]] = []
    for row in sorted(rows, key=lambda row: -len(row[1])):
        if batch and (len(batch) + 1) * len(batch[0][1]) > TOKENS_AT_ONCE:
            yield batch
            batch = []
        batch.append(row)
    if batch:
        yield batch


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


def _note(score_class: str, share: float) -> str:
    if score_class == "pseudo":
        part = "" if share >= 1 else f"; asked of {share:.1%} of the tokens, drawn by seed"
        return f"pseudo: each token hidden alone and asked given all others; no likelihood of the text{part}"
    if score_class == "bound":
        return "an upper bound: the true value is at most this"
    return ""
