"""The headline table for a terminal."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from .headline import Cell, Headline, headline
from .record import Results

ABREAST = 4  # families side by side: more are wider than a terminal
LEGEND = "[low–high]: 95% interval. <=: upper bound."


def headline_table(results: Mapping[str, Any]) -> Table:
    """The table as rich draws it; a column per family, so that it fits a narrow terminal."""
    laid = headline(Results.of(results))
    return _table(laid, range(len(laid.names)))


def _table(laid: Headline, families: Sequence[int]) -> Table:
    """The columns of some of the families."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("")
    for family in families:
        table.add_column(laid.names[family][0], justify="right")
    for number, heading in enumerate(laid.headings):
        cells = [laid.lines[family][number] for family in families]
        title = Text.assemble(heading.name, (f"  {heading.unit}" if heading.unit else "", "dim"))
        table.add_row(title, *(_text(cell) for cell in cells))
    return table


def headline_text(results: Mapping[str, Any], width: int | None = None, colour: bool = False) -> str:
    """The table as text, ``ABREAST`` families at a time; ``width`` None takes what it needs."""
    laid, held = headline(Results.of(results)), io.StringIO()
    console = Console(file=held, width=width or 400, force_terminal=colour, highlight=False, emoji=False)
    for first in range(0, len(laid.names), ABREAST):
        if first:
            console.print()
        console.print(_table(laid, range(first, min(first + ABREAST, len(laid.names)))))
    muted = any(cell.muted for line in laid.lines for cell in line)
    legend = LEGEND + (" A pseudo score is comparable with none of the others." if muted else "")
    lines = [line.rstrip() for line in held.getvalue().splitlines()]
    return "\n".join([*lines, legend])


def _text(cell: Cell) -> Text:
    style = "dim" if cell.muted else ""
    parts: list[tuple[str, str]] = [(cell.text, style)]
    if cell.spread:
        parts.append((f" [{cell.spread}]", "dim"))
    if cell.small.startswith("given "):
        parts.append((f" ({cell.small.removeprefix('given ')})", "dim"))
    return Text.assemble(*parts)
