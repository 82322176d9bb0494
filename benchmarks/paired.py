"""Two or more ways of doing the same work, in turns: a drift of the machine meets all of them, and a ratio is left.

A block in which other programs used more than `CLEAN` of the cores is thrown away and taken again.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import psutil

CLEAN = 0.06  # of the cores
TRIES = 3  # blocks thrown away per block kept, at most


class Quiet:
    """Watches the cores over a block: the share of them that other programs used.

    ``used`` tells the seconds of the cores that are ours, where those are of several processes.
    """

    def __init__(self, used: Callable[[], float] = time.process_time) -> None:
        self._used = used

    def __enter__(self) -> Quiet:
        self._start, self._wall, self._own = psutil.cpu_times(), time.perf_counter(), self._used()
        return self

    def __exit__(self, *_: object) -> None:
        now = psutil.cpu_times()
        busy = sum(
            getattr(now, kind) - getattr(self._start, kind) for kind in ("user", "system", "nice") if hasattr(now, kind)
        )
        self.seconds = time.perf_counter() - self._wall
        others = busy - (self._used() - self._own)
        self.others = max(0.0, others / (self.seconds * (psutil.cpu_count() or 1)))


@dataclass(frozen=True)
class Timed:
    """Seconds of one call: the median over clean blocks, and the range from the fastest to the slowest."""

    median: float
    low: float
    high: float
    blocks: int
    discarded: int

    def record(self) -> dict[str, Any]:
        return asdict(self)

    def rate(self, amount: float) -> str:
        """So much work a second, with its range."""
        return f"{amount / self.median:,.0f} [{amount / self.high:,.0f}, {amount / self.low:,.0f}]"

    def milliseconds(self) -> str:
        return f"{1e3 * self.median:.2f} [{1e3 * self.low:.2f}, {1e3 * self.high:.2f}]"


def interleaved(
    sides: Mapping[str, Callable[[], Any]],
    blocks: int = 7,
    seconds: float = 1.0,
    used: Callable[[], float] = time.process_time,
) -> dict[str, Timed]:
    """Each side called in turns, ``blocks`` times for about ``seconds`` each, after one call that only warms up.

    ``used`` tells the seconds of the cores that are the sides' own, where those are of several processes.
    """
    calls: dict[str, int] = {}
    for name, call in sides.items():
        call()
        start = time.perf_counter()
        call()
        calls[name] = max(1, round(seconds / (time.perf_counter() - start)))
    kept: dict[str, list[float]] = {name: [] for name in sides}
    lost = dict.fromkeys(sides, 0)
    for _ in range(blocks):
        for name, call in sides.items():
            for _ in range(TRIES):
                with Quiet(used) as quiet:
                    for _ in range(calls[name]):
                        call()
                if quiet.others <= CLEAN:
                    kept[name].append(quiet.seconds / calls[name])
                    break
                lost[name] += 1
    return {
        name: Timed(statistics.median(times), min(times), max(times), len(times), lost[name])
        if times
        else Timed(float("nan"), float("nan"), float("nan"), 0, lost[name])
        for name, times in kept.items()
    }
