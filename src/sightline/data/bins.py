"""Rows of whole pairs, packed like bins with two compartments, so that every row has one shape and little padding.

    row    <s> source <sep> target </s>  <s> source <sep> target </s>  ...  pad
           as many pairs as fit both ways: sources up to so many tokens, targets up to so many

A batch of such rows always reads as many tokens, which batches of like lengths approach only; pairs of one row never
see each other. Pairs are packed in the order of the file, which is the same in every epoch; rows are drawn.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import SightlineError
from .rows import Rows, TokenFile
from .tokenizer import Tokenizer


class Bins:
    """The pairs of a token file in rows of ``length`` tokens; ``count`` rows.

    Attributes
    ----------
    halves : most tokens of the sources and of the targets in a row, marks included; their sum is ``length``.
    left_out : pairs that are longer than that, and in no row.

    Raises
    ------
    SightlineError : no pair fits.
    """

    def __init__(self, file: TokenFile, length: int, tokenizer: Tokenizer) -> None:
        self.file, self.length, self.tokenizer = file, length, tokenizer
        sources, targets = self._sizes
        self.halves = _halves(sources, targets, length)
        fits = (sources <= self.halves[0]) & (targets <= self.halves[1])
        self._kept = np.flatnonzero(fits)
        self.left_out = int((~fits).sum())
        if not len(self._kept):
            raise SightlineError(
                f"no pair fits a row of {length:,} tokens, of which {self.halves[0]:,} are its source's",
                "Give shorter pairs, or a longer --context",
            )
        self._edges = _packed(sources[fits], targets[fits], self.halves)
        self.count = len(self._edges) - 1

    @cached_property
    def _sizes(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Tokens of each source, bos and sep included, and of each target, eos included."""
        cuts = np.flatnonzero(np.asarray(self.file.tokens) == self.tokenizer.need("sep"))  # where it ends texts too
        cuts = cuts[np.searchsorted(cuts, self.file.offsets[:-1])]  # the first of each pair
        sources = cuts + 1 - self.file.offsets[:-1]
        return sources, np.diff(self.file.offsets) - sources

    def rows(self, numbers: NDArray[Any], visits: NDArray[Any]) -> Rows:
        """The rows of these numbers; ``visits`` is carried along for the draws."""
        numbers, visits = np.asarray(numbers, np.int64), np.asarray(visits, np.int64)
        if len(numbers) and (numbers.min() < 0 or numbers.max() >= self.count):
            raise IndexError(f"row {numbers.min()} to {numbers.max()} of {self.count}")
        first, pairs = self._edges[numbers], np.diff(self._edges)[numbers]
        which = np.arange(pairs.sum()) - np.repeat(np.cumsum(pairs) - pairs, pairs)  # of its row
        documents = self._kept[np.repeat(first, pairs) + which]
        starts, sizes = self.file.offsets[documents], np.diff(self.file.offsets)[documents]
        held = np.bincount(np.repeat(np.arange(len(numbers)), pairs), weights=sizes, minlength=len(numbers))
        filled = np.arange(self.length) < held[:, None]
        within = np.arange(sizes.sum()) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        tokens = np.full(filled.shape, self.tokenizer.filler, np.int32)
        place, origin = np.full(filled.shape, -1, np.int32), np.full(filled.shape, -1, np.int64)
        tokens[filled] = self.file.tokens[np.repeat(starts, sizes) + within]
        place[filled], origin[filled] = np.repeat(which, sizes), np.repeat(documents, sizes)
        word_starts = self.tokenizer.word_starts(tokens, place)
        return Rows(
            tokens, place, numbers, visits, word_starts, origin, filled, self.tokenizer, halves=self.halves
        )  # fmt: skip


def _halves(sources: NDArray[np.int64], targets: NDArray[np.int64], length: int) -> tuple[int, int]:
    """The row's length shared out as pairs share theirs that fit it, but so that the longest fit where they can."""
    short = sources + targets <= length
    source, target = int(sources[short].sum()), int(targets[short].sum())
    usual = round(length * source / max(1, source + target))
    least, most = int(sources.max(initial=1)), length - int(targets.max(initial=1))
    half = min(max(usual, least), most) if least <= most else usual
    return half, length - half


def _packed(sources: NDArray[np.int64], targets: NDArray[np.int64], halves: tuple[int, int]) -> NDArray[np.int64]:
    """The number of the first pair of each row, and how many pairs there are."""
    ends = np.cumsum(sources), np.cumsum(targets)
    edges, at = [0], 0
    while at < len(sources):
        taken = [0 if not at else int(end[at - 1]) for end in ends]
        at = min(
            int(np.searchsorted(end, before + most, side="right"))
            for end, before, most in zip(ends, taken, halves, strict=True)
        )
        edges.append(at)
    return np.array(edges, np.int64)
