"""Pairs: a source and its target as one document, ``source<TAB>target``, from three layouts of files.

    train.tsv              A dog.<TAB>Ein Hund.                                columns 1 and 2
    train.jsonl            {"source": "A dog.", "target": "Ein Hund."}         two fields of a record
    train.en, train.de     A dog.  |  Ein Hund.                                line by line, by their endings

Which two, and which way, ``sides`` says: ``en-de`` names endings or fields, ``2-1`` columns.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import zip_longest
from typing import IO

from ..errors import SightlineError
from .compression import PACKED

TAB = "\t"
FIELDS = ("source", "target")
COLUMNS = ("1", "2")

Sides = tuple[str, str]


def sides_of(text: str) -> Sides | None:
    """The two names of ``en-de``; None for nothing.

    Raises
    ------
    SightlineError : anything but two names.
    """
    if not text:
        return None
    source, _, target = text.partition("-")
    if not source or not target or source == target:
        raise SightlineError(f"the sides {text!r} are not two", "Name source and target, as in en-de or source-target")
    return source, target


def parted(text: str) -> Sides:
    """Source and target of a pair's text."""
    source, _, target = text.partition(TAB)
    return source, target


def joined(source: str, target: str) -> str:
    """The text of a pair.

    Raises
    ------
    ValueError : they are no pair; the message says why.
    """
    if not source.strip() or not target.strip():
        raise ValueError(f"its {'target' if source.strip() else 'source'} is empty")
    if TAB in source:
        raise ValueError("its source holds a tab, which parts it from its target")
    if source == target:
        raise ValueError("its target equals its source")
    return f"{source}{TAB}{target}"


def of_columns(line: str, sides: Sides | None) -> str:
    """The pair of a line of columns parted by tabs, as ``joined``."""
    columns = line.split(TAB)
    wanted = [int(one) - 1 if one.isdecimal() else -1 for one in sides or COLUMNS]
    if min(wanted) < 0:
        raise ValueError(f"its columns have numbers, not names such as {(sides or COLUMNS)[0]}")
    if len(columns) <= max(wanted):
        raise ValueError(f"{max(wanted) + 1} columns parted by tabs are needed, and it has {len(columns)}")
    return joined(*(columns[at] for at in wanted))


def ending(file: str) -> tuple[str, str]:
    """A file's name and its ending, without what says that it is packed: ``train.en.gz`` -> ``train``, ``en``."""
    stem, suffix = os.path.splitext(file)
    if suffix.lower() in PACKED:
        stem, suffix = os.path.splitext(stem)
    return stem, suffix.removeprefix(".")


def side_by_side(files: Sequence[str], sides: Sides) -> list[Sides]:
    """The files that lie side by side in two languages, in order."""
    found: dict[str, dict[str, str]] = defaultdict(dict)
    for file in files:
        stem, language = ending(file)
        found[stem].setdefault(language, file)
    return [(kept[sides[0]], kept[sides[1]]) for _, kept in sorted(found.items()) if kept.keys() >= set(sides)]


def languages(files: Sequence[str]) -> list[str]:
    """Endings of files that lie side by side, so that any two of them can be sides."""
    found: dict[str, set[str]] = defaultdict(set)
    for file in files:
        stem, language = ending(file)
        found[stem].add(language)
    return sorted(set().union(*(one for one in found.values() if len(one) > 1)))


def line_by_line(source: IO[bytes], target: IO[bytes], names: Sides) -> Iterator[tuple[int, bytes, bytes]]:
    """The number and both sides of each line; a last line may lack its end.

    Raises
    ------
    SightlineError : one has more lines than the other.
    """
    for number, (one, other) in enumerate(zip_longest(source, target), 1):
        if one is None or other is None:
            short, long = names if one is None else names[::-1]
            raise SightlineError(
                f"{long} goes on at line {number:,}, where {short} has ended: their lines are no pairs",
                "Mend the files, so that each line stands beside its translation",
            )
        yield number, one.rstrip(b"\r\n"), other.rstrip(b"\r\n")
