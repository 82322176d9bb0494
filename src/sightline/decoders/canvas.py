"""The canvas a decoder writes on: places that are given, places that are open, and where the text ends."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Canvas:
    """Texts being written; every array is [lines, places].

    Parameters
    ----------
    tokens : ids; meaningless where open or outside.
    open : places still to be written.
    given : places that came with the prompt.
    inside : places that belong to the text; a stop mark puts the open places of its gap outside.
    """

    tokens: NDArray[np.int64]
    open: NDArray[np.bool_]
    given: NDArray[np.bool_]
    inside: NDArray[np.bool_]

    @classmethod
    def of(cls, pieces: Sequence[tuple[Sequence[int] | NDArray[Any], int, Sequence[int] | NDArray[Any]]]) -> Canvas:
        """One line for each (ids to the left, number of open places, ids to the right); shorter lines are padded."""
        return cls.laid(pieces)

    @classmethod
    def laid(cls, lines: Sequence[Sequence[Sequence[int] | NDArray[Any] | int]]) -> Canvas:
        """One line for each sequence of parts: ids that are given, or a number of open places."""
        sizes = [[part if isinstance(part, int) else len(part) for part in parts] for parts in lines]
        shape = (len(lines), max((sum(line) for line in sizes), default=0))
        tokens = np.zeros(shape, dtype=np.int64)
        opened, given = (np.zeros(shape, dtype=np.bool_) for _ in range(2))
        for line, parts in enumerate(lines):
            at = 0
            for part, size in zip(parts, sizes[line], strict=True):
                place = slice(at, at + size)
                if isinstance(part, int):
                    opened[line, place] = True
                else:
                    tokens[line, place] = part
                    given[line, place] = True
                at += size
        return cls(tokens, opened, given, opened | given)

    @property
    def lines(self) -> int:
        return int(self.tokens.shape[0])

    @property
    def places(self) -> int:
        return int(self.tokens.shape[1])

    @property
    def done(self) -> NDArray[np.bool_]:
        """Lines with nothing left to write."""
        return np.asarray(~self.open.any(1))

    def written(
        self, line: NDArray[Any], place: NDArray[Any], token: NDArray[Any], stops: Sequence[int] = ()
    ) -> Canvas:
        """The canvas with tokens written at these places; behind a stop mark, nothing of its gap is inside.

        A gap lies between given places. Behind is towards the end of a text that begins with what was given, else
        whatever is still open.
        """
        tokens, opened, inside = self.tokens.copy(), self.open.copy(), self.inside.copy()
        tokens[line, place] = token
        opened[line, place] = False
        if not len(stops):
            return replace(self, tokens=tokens, open=opened)
        stopped = np.isin(token, np.asarray(stops, dtype=np.int64))
        if not stopped.any():
            return replace(self, tokens=tokens, open=opened)
        ended, at = np.asarray(line)[stopped], np.asarray(place)[stopped]
        gap = np.cumsum(self.given, axis=1)  # places between two given ones share a number
        forward = self.given[ended, self.inside[ended].argmax(1)][:, None]
        behind = (np.arange(self.places) > at[:, None]) & ~self.given[ended]
        closed = np.zeros_like(opened)
        same = gap[ended] == gap[ended, at][:, None]
        np.logical_or.at(closed, ended, same & np.where(forward, behind, opened[ended]))
        return replace(self, tokens=tokens, open=opened & ~closed, inside=inside & ~closed)

    def reopened(self, where: NDArray[np.bool_]) -> Canvas:
        """The canvas with these places open again (refinement); given places stay."""
        return replace(self, open=(self.open | where) & self.inside & ~self.given)

    def take(self, lines: Any) -> Canvas:
        """Some of the lines, or lines repeated."""
        return Canvas(self.tokens[lines], self.open[lines], self.given[lines], self.inside[lines])

    def text(self, line: int) -> NDArray[np.int64]:
        """The ids of one line's text, without what lies outside or is still open."""
        return np.asarray(self.tokens[line][self.inside[line] & ~self.open[line]])
