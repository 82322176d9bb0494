"""A film of a text while it is written: which place got which token in which round, and which was opened again."""

from __future__ import annotations

import numpy as np

from .draft import Draft

OPENED = -1  # stands for a token where a place was opened again
Scene = tuple[int, int, int]


class Camera:
    """Watches the first of the lines that are written together; it is called after each round (see ``loop.write``).

    ``scenes`` : of each line that it watches, (round, place, token id) in the order of rounds; places are counted from
    the first that is open at the beginning. What a round writes and opens again at once is not seen.

    Parameters
    ----------
    lines : how many of the lines of the start, the first ones, are watched.
    """

    def __init__(self, lines: int = 1) -> None:
        self.scenes: list[list[Scene]] = [[] for _ in range(lines)]
        self._before: dict[int, dict[int, int]] = {}

    def __call__(self, draft: Draft, number: int) -> None:
        canvas = draft.canvas
        for line in np.flatnonzero(draft.owners < len(self.scenes)).tolist():
            owner = int(draft.owners[line])
            first = int((~canvas.given[line]).argmax())
            written = draft.writable[line] & ~canvas.open[line]
            now = {place: int(canvas.tokens[line, place]) for place in np.flatnonzero(written).tolist()}
            before = self._before.get(owner, {})
            for place in sorted(before.keys() | now.keys()):
                if now.get(place) != before.get(place):
                    when = int(draft.film[line, place]) if place in now else number
                    self.scenes[owner].append((when, place - first, now.get(place, OPENED)))
            self._before[owner] = now
