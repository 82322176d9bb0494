"""One progress line for long work: on a terminal a bar with rate and time left, elsewhere silence."""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Iterator
from typing import Protocol

_line = threading.Lock()  # held by the bar that is shown


class Bar(Protocol):
    """What long work tells: how far it is, and a few words about it."""

    def advance(self, amount: float = 1, words: str = "") -> None:
        """Move on by ``amount`` units; ``words`` replaces the text behind the bar."""


class _Silent:
    def advance(self, amount: float = 1, words: str = "") -> None:
        pass


class _Rich:
    def __init__(self, title: str, total: float | None, unit: str) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

        self._unit = unit
        self._done = 0.0
        self._start = time.monotonic()
        self.progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=20),
            TextColumn("{task.percentage:>3.0f}%"),
            TextColumn("{task.fields[rate]}"),
            TextColumn("{task.fields[words]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            transient=True,
            refresh_per_second=4,
            console=Console(stderr=True),
        )
        self._task = self.progress.add_task(title, total=total, rate="", words="")

    def advance(self, amount: float = 1, words: str = "") -> None:
        self._done += amount
        seconds = time.monotonic() - self._start
        rate = f"{self._done / seconds:,.0f} {self._unit}/s" if seconds > 0.5 and self._unit else ""
        self.progress.update(self._task, advance=amount, rate=rate)
        if words:
            self.progress.update(self._task, words=words)


@contextlib.contextmanager
def bar(title: str, total: float | None = None, unit: str = "") -> Iterator[Bar]:
    """A progress bar on standard error while the block runs; nothing where standard error is not a terminal.

    There is one line: a bar opened inside another is silent.
    """
    if not sys.stderr.isatty() or not _line.acquire(blocking=False):
        yield _Silent()
        return
    try:
        shown = _Rich(title, total, unit)
        with shown.progress:
            yield shown
    finally:
        _line.release()


def say(text: str = "") -> None:
    """Print a line to standard error at once: remarks, never results (results go to standard output)."""
    print(text, file=sys.stderr, flush=True)
