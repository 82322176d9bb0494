"""The families as they are in the code: what each sees, drawn small, and what its score is worth."""

from __future__ import annotations

import itertools
import re
import shlex
import textwrap
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import SightlineError
from ..files import whole_file, write_json

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ..objectives import Objective
    from ..sight import View

PLACES = 6  # tokens of a picture: enough to tell a window from a triangle, few enough to stand side by side
OPENING = 2  # of which a prefix takes so many
GAP = 24  # between pictures of the sheet
COLUMNS, PIXELS = 80, 860  # of a shelf of pictures, in text and on the sheet: what a terminal and a page show whole


@dataclass(frozen=True)
class Family:
    """One family.

    Parameters
    ----------
    family, title : its name, and what it is in a line.
    score_class : exact, pseudo, ... (a pseudo score is never ranked beside an exact one).
    sight : who sees whom, by place in the text. drawing : the same as lines of text, row asks column.
    stack, decoder : what answers, and what writes.
    columns : of a table of scores that it may stand in.
    given : the side of the text that it knows when it writes. reads : text, pairs or numbers.
    """

    family: str
    title: str
    score_class: str
    sight: str
    stack: str
    decoder: str
    columns: tuple[str, ...]
    given: str
    reads: str
    drawing: str


@dataclass(frozen=True)
class Families:
    """All families, in the order in which they are told of."""

    families: tuple[Family, ...]
    svg: Path | None = None
    next: str = "sightline compare python-docs --budget 60s"

    def __str__(self) -> str:
        pictures = [[family.family, *family.drawing.splitlines()] for family in self.families]
        widths = [max(map(len, lines)) for lines in pictures]
        rows: list[str] = []
        for shelf in shelves(widths, 3, COLUMNS):
            rows += ["" for _ in rows[:1]]  # between shelves
            for cells in itertools.zip_longest(*(pictures[at] for at in shelf), fillvalue=""):
                rows.append("   ".join(f"{cell:<{widths[at]}}" for at, cell in zip(shelf, cells, strict=True)))
        told = ["\n".join(_described(family)) for family in self.families]
        sheet = [] if self.svg is None else ["", str(self.svg)]
        legend = "Each row is a place that asks, each column a place that it may see (■)."
        return "\n".join([*(line.rstrip() for line in rows), "", legend, "", *told, *sheet])


def shelves(widths: Sequence[int], gap: int, most: int) -> list[list[int]]:
    """Which pictures of these widths stand side by side, ``gap`` apart and ``most`` wide at most; in order."""
    rows: list[list[int]] = []
    left = -1
    for at, width in enumerate(widths):
        if not rows or left < gap + width:
            rows.append([])
            left = most + gap
        rows[-1].append(at)
        left -= gap + width
    return rows


def _described(family: Family) -> list[str]:
    columns = ", ".join(family.columns) or "no column"
    return [
        family.title,
        *_fitted(f"sees: {family.sight}", f"writes: {family.decoder}"),
        *_fitted(f"score: {family.score_class} ({columns})", f"stack: {family.stack}"),
    ]


def _fitted(*parts: str) -> list[str]:
    """Indented, on one line where that is short enough."""
    line = "    " + " · ".join(parts)
    if len(line) <= COLUMNS:
        return [line]
    wrapped = textwrap.TextWrapper(COLUMNS, initial_indent=" " * 4, subsequent_indent=" " * 8, break_on_hyphens=False)
    return [short for part in parts for short in wrapped.wrap(part)]


def families(*, json: Path | None = None, svg: Path | None = None) -> Families:
    """Show every family: its sight drawn small, its score's class, its stack and its decoder.

    Examples:
        sightline families
        sightline families --json families.json --svg families.svg

    Args:
        json: also write a list of records, one for each family, to this file.
        svg: also draw all sights on one sheet, into this file.
    """
    from ..objectives import FAMILIES
    from ..sight import as_svg

    told, pictures = [], []
    for kind in FAMILIES.values():
        objective = kind(_letters())
        view = _view(objective)
        seen, drawing = picture(objective)
        told.append(
            Family(
                family=objective.family,
                title=objective.title,
                score_class=objective.score_class,
                sight=_named(view),
                stack=objective.stack,
                decoder=objective.decoder,
                columns=objective.columns,
                given=objective.writes_from,
                reads=objective.reads,
                drawing=drawing,
            )
        )
        pictures.append(as_svg(seen, title=kind.family, cell=16))
    if json is not None:
        write_json(json, [asdict(family) for family in told])
    if svg is not None:
        svg = Path(svg)
        if svg.suffix != ".svg":
            raise SightlineError(f"{svg} does not end in .svg", f"Write --svg {shlex.quote(str(svg) + '.svg')}")
        with whole_file(svg, "w") as handle:
            handle.write(_sheet(pictures))
    return Families(tuple(told), svg)


def picture(objective: Objective) -> tuple[NDArray[np.bool_], str]:
    """A family's sight over a short text: truth values [places, places] by place, and the same drawn as text."""
    from ..sight import as_text, by_place

    seen, _ = by_place(_view(objective))
    return seen, as_text(seen)


def _letters() -> Any:
    """The smallest set of ids that every family can be made over: all kinds of marks and a few letters."""
    from ..data.vocabulary import Vocabulary

    marks: dict[str, Any] = {"pad": 0, "bos": 1, "eos": 2, "mask": 3, "cls": 4, "sep": 5}
    return Vocabulary(16, 64, **marks, modes=(6, 7, 8), spares=(9,), specials=tuple(range(10)))


def _view(objective: Objective) -> View:
    """The family's question about what stands behind an opening of a text of one document."""
    import numpy as np

    from ..data import Rows

    place = np.arange(PLACES)
    words = objective.vocabulary.ordinary
    tokens = words[place % len(words)] if len(words) else place
    if objective.reads == "pairs":
        tokens = np.where(place == OPENING - 1, objective.vocabulary.sep, tokens)
    rows = Rows(
        tokens=np.atleast_2d(tokens).astype(np.int32),
        documents=np.zeros((1, PLACES), np.int32),
        numbers=np.zeros(1, np.int64),
        visits=np.zeros(1, np.int64),
        word_starts=np.ones((1, PLACES), np.bool_),
        origins=np.zeros((1, PLACES), np.int64),
        wanted=np.atleast_2d(place >= OPENING),
    )
    return objective.pictured(rows)


def _named(view: View) -> str:
    """The rule by place: in a view laid last token first, what the rule calls the past is the text's future."""
    place, order = view.slots.place[0], view.slots.order[0]
    against = bool((place[order.argsort()][1:] < place[order.argsort()][:-1]).all())
    swapped = {"past": "future", "future": "past"} if against else {}
    return re.sub(r"\b(past|future)\b", lambda word: swapped.get(word[0], word[0]), view.sight.text)


def _sheet(pictures: list[str]) -> str:
    """The pictures on shelves, as one SVG file that reads on light and dark ground."""
    sizes = []
    for drawing in pictures:
        found = re.match(r'<svg [^>]*?width="(\d+)" height="(\d+)"', drawing)
        assert found is not None  # our own drawing
        sizes.append((int(found[1]), int(found[2])))
    parts, down, width = [], 0, 0
    for shelf in shelves([size[0] for size in sizes], GAP, PIXELS):
        across = 0
        for at in shelf:
            parts.append(f'<g transform="translate({across} {down})">{pictures[at]}</g>')
            across += sizes[at][0] + GAP
        width = max(width, across - GAP)
        down += max(sizes[at][1] for at in shelf) + GAP
    height = down - GAP
    ink = ":root{color:#1b2733}@media(prefers-color-scheme:dark){:root{color:#e8ecf1}}"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        f'role="img" aria-label="{escape("families: row asks column")}"><style>{ink}</style>{"".join(parts)}</svg>\n'
    )
