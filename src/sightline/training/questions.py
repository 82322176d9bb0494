"""What a step asks, made before it is wanted: where a GPU works, the next step's views are laid while it does.

    step n    [rows, views] -> launched -> ............ read
    step n+1            [rows, views, by a thread beside]     -> launched -> ...

A processor's cores are at work in the step itself, so there nothing is made ahead. What is made does not depend on it:
rows follow from the number of the step, and draws from their rows.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

from ..data import Rows
from ..sight import View


@dataclass(frozen=True)
class Questions:
    """The rows of one step, its micro-batches, and the views of each."""

    rows: Rows
    parts: list[Rows]
    views: list[list[View]]


class Asker:
    """The questions of step after step.

    Parameters
    ----------
    make : those of a step, by its number. steps : after which there are no more.
    ahead : make the next step's meanwhile; at 124 M on an H100 a step takes 4% less time so.
    """

    def __init__(self, make: Callable[[int], Questions], steps: int, ahead: bool) -> None:
        self._make, self._steps = make, steps
        self._beside = ThreadPoolExecutor(1, "questions") if ahead else None
        self._next: tuple[int, Future[Questions]] | None = None

    def __call__(self, number: int) -> Questions:
        """The questions of this step; whatever failed in making them is raised here."""
        prepared, self._next = self._next, None
        found = prepared[1].result() if prepared is not None and prepared[0] == number else self._make(number)
        if self._beside is not None and number + 1 < self._steps:
            self._next = number + 1, self._beside.submit(self._make, number + 1)
        return found
