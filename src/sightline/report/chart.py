"""Small drawings as SVG: loss curves, and values with their intervals. Colours come from the page's style."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from itertools import pairwise
from statistics import fmean

from .style import PALETTE

WIDTH, HEIGHT = 460, 280
LEFT, RIGHT, TOP, BOTTOM = 50, 10, 10, 44
COLOURS = 16
MOST_POINTS = 160
FEW, FEWER_POINTS = 4, 40  # of more lines than a few, or their noise hides them from each other


@dataclass(frozen=True)
class Line:
    """A curve.

    Parameters
    ----------
    colour : number in the palette. dashed : of another kind than its neighbours, not to be compared by height.
    points : (x, y).
    """

    name: str
    colour: int
    dashed: bool
    points: tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class Whisker:
    """A value with its interval; ``floor`` where it is a line to beat."""

    name: str
    value: float
    low: float | None
    high: float | None
    colour: int
    floor: bool = False


def curves(lines: Sequence[Line], across: str, up: str, written: Callable[[float], str]) -> str:
    """Curves over one axis; ``written`` prints a place on it. Empty where no line has two points.

    The first moments of training are cut off at the top, or they would flatten all that follows.
    """
    lines = [line for line in lines if len(line.points) > 1]
    if not lines:
        return ""
    lines = [_thinned(line, MOST_POINTS if len(lines) <= FEW else FEWER_POINTS) for line in lines]
    x_most = max(x for line in lines for x, _ in line.points) or 1.0
    y_least = min(y for line in lines for _, y in line.points)
    y_most = max(max(y for _, y in line.points[len(line.points) // 12 :]) for line in lines)
    room = 0.04 * (y_most - y_least) or 0.5
    y_least, y_most = y_least - room, y_most + room

    def at(x: float, y: float) -> tuple[float, float]:
        along = LEFT + (WIDTH - LEFT - RIGHT) * x / x_most
        down = TOP + (HEIGHT - TOP - BOTTOM) * (y_most - y) / (y_most - y_least)
        return along, down

    title = f"{up} against {across}: {', '.join(line.name for line in lines)}"
    parts = [f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title)}" font-size="13">']
    for y in ticks(y_least, y_most, 5):
        down = at(0, y)[1]
        parts.append(
            f'<path d="M{LEFT} {down:.1f}H{WIDTH - RIGHT}" stroke="var(--line)"/>'
            f'<text x="{LEFT - 6}" y="{down + 4:.1f}" text-anchor="end" fill="var(--soft)">{y:g}</text>'
        )
    for x in ticks(0, x_most, 5):
        along = at(x, y_least)[0]
        anchor = "start" if x == 0 else "end" if along > WIDTH - 30 else "middle"
        parts.append(
            f'<text x="{along:.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="{anchor}" fill="var(--soft)">'
            f"{escape(written(x))}</text>"
        )
    middle = (LEFT + WIDTH - RIGHT) / 2
    parts.append(f'<text x="{middle}" y="{HEIGHT - 4}" text-anchor="middle" fill="var(--ink)">{escape(across)}</text>')
    for line in lines:
        placed = [(*at(x, y), x, y) for x, y in line.points]
        path = " ".join(f"{along:.1f},{down:.1f}" for along, down, _, _ in placed)
        told = " ".join(f"{along:.1f},{_word(written(x))},{y:.3f}" for along, _, x, y in placed)
        dash = ' stroke-dasharray="6 4"' if line.dashed else ""
        parts.append(
            f'<polyline points="{path}" fill="none" stroke="var(--c{line.colour % COLOURS})" stroke-width="2" '
            f'stroke-linejoin="round"{dash} data-name="{escape(line.name)}" data-points="{escape(told)}"/>'
        )
    parts.append(
        f'<line class="rule" y1="{TOP}" y2="{HEIGHT - BOTTOM}" x1="0" x2="0" stroke="var(--soft)" '
        'visibility="hidden"/></svg>'
    )
    return "".join(parts)


def whiskers(marks: Sequence[Whisker], unit: str) -> str:
    """Values on one axis, one line each, with their 95% intervals. Empty where there is nothing to draw."""
    if not marks:
        return ""
    ends = [end for mark in marks for end in (mark.value, mark.low, mark.high) if end is not None]
    least, most = min(ends), max(ends)
    room = 0.06 * (most - least) or 0.1
    least, most = least - room, most + room
    label = 14 + 8 * max(len(mark.name) for mark in marks)
    label = min(label, 170)
    height = 26 * len(marks) + 40

    def at(value: float) -> float:
        return label + (WIDTH - label - RIGHT) * (value - least) / (most - least)

    said = "; ".join(f"{mark.name} {mark.value:.3f}" for mark in marks)
    parts = [f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{escape(f"{unit}: {said}")}" font-size="13">']
    for value in ticks(least, most, 5):
        parts.append(
            f'<path d="M{at(value):.1f} 4V{height - 34}" stroke="var(--line)"/>'
            f'<text x="{at(value):.1f}" y="{height - 20}" text-anchor="middle" fill="var(--soft)">{value:g}</text>'
        )
    for number, mark in enumerate(marks):
        down, colour = 18 + 26 * number, "var(--soft)" if mark.floor else f"var(--c{mark.colour % COLOURS})"
        name = mark.name if len(mark.name) <= 24 else mark.name[:23] + "…"
        parts.append(f'<text x="{label - 8}" y="{down + 4}" text-anchor="end" fill="var(--ink)">{escape(name)}</text>')
        if mark.low is not None and mark.high is not None:
            parts.append(
                f'<path d="M{at(mark.low):.1f} {down}H{at(mark.high):.1f}M{at(mark.low):.1f} {down - 4}v8'
                f'M{at(mark.high):.1f} {down - 4}v8" stroke="{colour}" stroke-width="2" fill="none"/>'
            )
        parts.append(f'<circle cx="{at(mark.value):.1f}" cy="{down}" r="4.5" fill="{colour}"/>')
    parts.append(
        f'<text x="{(label + WIDTH) / 2:.0f}" y="{height - 4}" text-anchor="middle" fill="var(--ink)">'
        f"{escape(unit)}</text>"
    )
    return "".join(parts) + "</svg>"


def alone(drawing: str) -> str:
    """A drawing of this file as a file of its own: with its palette, which else is the page's."""
    return drawing.replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1).replace(
        ">", f"><style>{PALETTE}svg {{ background: var(--page); }}</style>", 1
    )


def ticks(least: float, most: float, about: int) -> list[float]:
    """Round numbers between two ends, about so many."""
    span = most - least
    if not span > 0:
        return [least]
    rough = span / about
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor >= rough)
    first, last = math.ceil(least / step - 1e-9), math.floor(most / step + 1e-9)
    return [round(number * step, 12) for number in range(first, last + 1)]


def _thinned(line: Line, most: int) -> Line:
    """At most so many points: the first, the last, and means of those that stand together between them."""
    first, *between, last = line.points
    if len(between) <= most - 2:
        return line
    cuts = [round(at * len(between) / (most - 2)) for at in range(most - 1)]
    parts = [between[start:stop] for start, stop in pairwise(cuts)]
    means = [(fmean(x for x, _ in part), fmean(y for _, y in part)) for part in parts]
    return Line(line.name, line.colour, line.dashed, (first, *means, last))


def _word(text: str) -> str:
    """Without the signs that part the points."""
    return text.replace(" ", "\u00a0").replace(",", "")
