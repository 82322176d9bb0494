"""A sight drawn as a small square of cells: row asks column, filled = may see. One palette, as text and as SVG."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

import numpy as np

from .derive import matrix
from .view import NO_DOCUMENT, NOTHING, Bools, View

SEEN = "#2f5d8a"  # may see
HIDDEN = "#e8ecf1"  # may not
LEAK = "#d1495b"  # sees what it must not
SEEN_TEXT, HIDDEN_TEXT, LEAK_TEXT = "■", "·", "!"


def by_place(view: View, line: int = 0) -> tuple[Bools, list[str]]:
    """The sight of one line with its slots laid out by stream, then place, and a label for each slot."""
    slots = view.slots
    real = np.flatnonzero(slots.document[line] != NO_DOCUMENT)
    laid = real[np.lexsort((slots.place[line][real], slots.stream[line][real]))]
    seen = matrix(view.whole_sight, slots)[line][np.ix_(laid, laid)]
    return seen, [_label(int(view.shows[line, slot])) for slot in laid]


def _label(code: int) -> str:
    return "" if code == NOTHING else "*" if code < 0 else str(code)


def drawn(view: View, line: int = 0) -> str:
    """The sight of one line of a view, by place, as text."""
    seen, _ = by_place(view, line)
    return as_text(seen)


def as_text(seen: Bools, wrong: Bools | None = None, labels: Sequence[str] | None = None) -> str:
    """The square as lines of characters; cells of ``wrong`` are marked as leaks; ``labels`` stand before the rows."""
    width = max((len(label) for label in labels), default=0) if labels else 0
    lines = []
    for row, cells in enumerate(seen.tolist()):
        marks = [
            LEAK_TEXT if wrong is not None and wrong[row, column] else SEEN_TEXT if cell else HIDDEN_TEXT
            for column, cell in enumerate(cells)
        ]
        head = f"{labels[row]:>{width}} " if labels else ""
        lines.append(head + " ".join(marks))
    return "\n".join(lines)


def as_svg(
    seen: Bools, wrong: Bools | None = None, labels: Sequence[str] | None = None, title: str = "", cell: int = 12
) -> str:
    """The square as an SVG element of its own; with ``labels``, tokens stand beside the rows and above the columns."""
    rows, columns = seen.shape
    shown = [escape(label) for label in labels] if labels else []
    margin = 7 * max((len(label) for label in labels), default=0) + 8 if labels else 0
    head = 18 if title else 0
    width = max(margin + columns * cell, 7 * len(title))  # of a fixed-width letter of this size
    height = head + margin + rows * cell
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        f'role="img" aria-label="{escape(title or "sight")}" font-family="ui-monospace, monospace" font-size="11">'
    ]
    if title:
        parts.append(f'<text x="0" y="12" fill="currentColor">{escape(title)}</text>')
    for at, label in enumerate(shown):
        down, along = head + margin + at * cell + cell - 2, margin + at * cell + cell - 2
        parts.append(f'<text x="{margin - 4}" y="{down}" text-anchor="end" fill="currentColor">{label}</text>')
        parts.append(
            f'<text transform="translate({along} {head + margin - 4}) rotate(-90)" fill="currentColor">{label}</text>'
        )
    for colour, cells in ((HIDDEN, ~seen), (SEEN, seen), (LEAK, wrong)):
        if cells is None or not cells.any():
            continue
        if wrong is not None and colour != LEAK:
            cells = cells & ~wrong
        squares = "".join(
            f"M{margin + column * cell} {head + margin + row * cell}h{cell - 1}v{cell - 1}h-{cell - 1}z"
            for row, column in np.argwhere(cells).tolist()
        )
        parts.append(f'<path fill="{colour}" d="{squares}"/>')
    return "".join(parts) + "</svg>"
