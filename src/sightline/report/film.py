"""A film of a text while it is written, as an animated SVG: a token comes in its round, and goes if it is replaced.

A place shines in the round that wrote it. The clock is CSS inside the drawing, and no script: it runs in a page and as
a file of its own, and where motion is unwanted, or on paper, the finished text stands still.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from html import escape
from itertools import pairwise
from zlib import crc32

Film = tuple[tuple[int, int, str], ...]  # (round, place, piece of text; empty where the place was opened again)

WIDTH, LINE, SIZE = 640, 26, 13  # of the drawing, from line to line, of letters
LETTER = 0.61 * SIZE  # of a fixed-width font
SECONDS, SLOWEST, STILL = 7.0, 0.7, 2.0  # of the rounds, of one at most, of the finished text
CONTEXT = 60  # letters of what was given that are shown beside
SIGNS = {"\n": "↵", "\t": "→", "\r": "", "\x0b": "", "\x0c": ""}


def drawn(film: Sequence[tuple[int, int, str]], before: str = "", after: str = "", title: str = "") -> str:
    """The film as an SVG element; empty where nothing was written.

    Parameters
    ----------
    before, after : what was given, of which the nearest letters stand beside. title : what is seen, in words.
    """
    shots = _shots(film)
    if not shots:
        return ""
    last = max(number for number, _, _ in film)
    step = min(SLOWEST, SECONDS / last)
    whole = last * step + STILL
    name = f"f{_number(title, film):04x}"
    given, more = _shown(before)[-CONTEXT:], _shown(after)[:CONTEXT]
    widths = [_width(given), *(max(_width(piece) for _, _, piece in of) for of in shots), _width(more)]
    at = _flowed(widths)
    height = at[-1][1] + LINE + 12

    def share(number: int) -> str:
        return f"{100 * (number - 1) * step / whole:.2f}%"

    rules: dict[str, str] = {}

    def window(start: int, end: int | None) -> str:
        """The class of what is seen from the beginning of one round to that of another, or to the end."""
        label = f"{name}-{start}-{'' if end is None else end}"
        goes = "" if end is None else f"{share(end)}{{opacity:0}}"
        rules[label] = f"0%{{opacity:0}}{share(start)}{{opacity:1}}{goes}to{{opacity:{int(end is None)}}}"
        return label

    body = [_letters(given, at[0], "var(--soft,#5a6572)"), _letters(more, at[-1], "var(--soft,#5a6572)")]
    for of, (x, y), width in zip(shots, at[1:-1], widths[1:-1], strict=True):
        body.append(
            f'<path d="M{x:.1f} {y + 5}h{max(2.0, width - 2):.1f}" stroke="var(--line,#dfe3e8)" stroke-width="2"/>'
        )
        for start, end, piece in of:
            seen = window(start, end)
            body.append(
                f'<rect class="{window(start, start + 1)}" x="{x:.1f}" y="{y - 14}" width="{_width(piece):.1f}" '
                'height="18" rx="3" fill="var(--mark,#dde9f5)"/>' + _letters(piece, (x, y), "var(--ink,#1d2329)", seen)
            )
    clock = f"{name}-clock"
    rules[clock] = f"0%{{transform:scaleX(0)}}{100 * last * step / whole:.2f}%,to{{transform:scaleX(1)}}"
    style = "".join(f"@keyframes {label}{{{frames}}}" for label, frames in rules.items())
    style += "".join(
        f".{label}{{animation:{label} {whole:.2f}s step-end infinite;opacity:{int(label.endswith('-'))}}}"
        for label in rules
        if label != clock
    )
    style += f".{clock}{{animation:{clock} {whole:.2f}s linear infinite}}"
    style += f"@media print,(prefers-reduced-motion:reduce){{#{name} *{{animation:none!important}}}}"
    said = escape(f"{title}: {last} round{'s' * (last != 1)}")
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" id="{name}" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" '
        f'height="{height}" role="img" aria-label="{said}" font-family="ui-monospace, monospace" font-size="{SIZE}">'
        f'<style>{style}</style><rect width="{WIDTH}" height="{height}" fill="var(--card,#ffffff)"/>{"".join(body)}'
        f'<rect class="{clock}" y="{height - 4}" width="{WIDTH}" height="3" fill="var(--accent,#2f5d8a)"/></svg>'
    )


def _shots(film: Sequence[tuple[int, int, str]]) -> list[list[tuple[int, int | None, str]]]:
    """Of each place that was written: from which round to which (None: the end) which piece stood there."""
    places: dict[int, list[tuple[int, str]]] = {}
    for number, place, piece in sorted(film, key=lambda one: one[0]):
        places.setdefault(place, []).append((number, _shown(piece)))
    found = []
    for _, states in sorted(places.items()):
        ends: list[tuple[int | None, str]] = [*states, (None, "")]
        shots = [(int(now[0] or 0), then[0], now[1]) for now, then in pairwise(ends) if now[1]]
        if shots:
            found.append(shots)
    return found


def _shown(text: str) -> str:
    """Letters as they stand on one line."""
    return "".join(SIGNS.get(letter, letter) for letter in text if letter in SIGNS or letter.isprintable())


def _width(text: str) -> float:
    """Of a text in a fixed-width font, where a wide letter takes two places."""
    wide = sum(unicodedata.east_asian_width(letter) in "WF" for letter in text)
    return LETTER * (len(text) + wide)


def _flowed(widths: Sequence[float]) -> list[tuple[float, int]]:
    """Where boxes of these widths stand, in lines."""
    x, y, found = 4.0, 20, []
    for width in widths:
        if x + width > WIDTH - 4 and x > 4:
            x, y = 4.0, y + LINE
        found.append((x, y))
        x += width
    return found


def _letters(text: str, at: tuple[float, int], colour: str, seen: str = "") -> str:
    """A text that keeps its spaces."""
    if not text:
        return ""
    kind = f' class="{seen}"' if seen else ""
    return f'<text{kind} x="{at[0]:.1f}" y="{at[1]}" fill="{colour}" xml:space="preserve">{escape(text)}</text>'


def _number(title: str, film: Sequence[tuple[int, int, str]]) -> int:
    """Tells drawings on one page apart, the same in every process."""
    return crc32(f"{title}{film}".encode()) & 0xFFFF
