"""A corpus: what was read, from where, how it was split, and what was left out.

    folder | file | "-" | "python-docs" | data set name
        -> files -> documents (bad rows counted, named) -> train / dev / test -> Corpus

Choice on dev, report on test.
"""

from __future__ import annotations

import io
import json
import os
import re
import sys
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path, PurePath
from typing import Literal, get_args

import numpy as np

from ..errors import SightlineError
from ..files import fingerprint
from ..progress import bar
from . import dataset, python_docs
from .compression import BLOCK, DAMAGED, opened
from .pairs import FIELDS, Sides, joined, languages, line_by_line, parted, side_by_side, sides_of
from .source import (
    PAIRED,
    READABLE,
    TABLES,
    BadRow,
    Cut,
    Document,
    Format,
    Item,
    Reading,
    Remark,
    UnreadableError,
    damage,
    documents_from,
    documents_in,
    format_of,
    pair_read,
    whole_text,
)
from .split import FEW, SPLITS, Parts, Split, by_content, completed, split_named
from .store import Documents, Store, text_bytes

__all__ = ["BadRow", "Corpus", "Document", "Split", "kind_of", "read"]

Kind = Literal["text", "pairs", "numbers"]
ASIDE = frozenset(
    ["readme", "license", "licence", "copying", "notice", "changelog", "changes", "authors", "contributing", "citation"]
)
BOOKKEEPING = frozenset(["dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json"])
TEXTUAL: frozenset[Format] = TABLES | {"text"}
SHOWN_FILES = 12
INPUT = "standard input"


@dataclass(frozen=True)
class Corpus:
    """Documents in three parts, with all that is known about how they came to be there.

    ``fingerprint`` covers the texts, their labels, their sides and the options of reading, not the paths. ``tree`` is
    the corpus as lines of text, with a fingerprint per node. ``bad`` are the rows that were passed over. Documents that
    were read from somewhere lie outside memory (see ``store``): ask for the few that are needed. Where ``kind`` is
    ``pairs``, a document's text is ``source<TAB>target`` (see ``pairs``).
    """

    name: str
    train: Sequence[Document]
    dev: Sequence[Document]
    test: Sequence[Document]
    bad: tuple[BadRow, ...]
    fingerprint: str
    tree: str
    how_split: str
    notes: tuple[str, ...]
    kind: Kind = "text"

    def part(self, split: Split) -> Sequence[Document]:
        """The documents of one side."""
        return {"train": self.train, "dev": self.dev, "test": self.test}[split]

    def bytes(self, split: Split) -> int:
        """UTF-8 bytes of one side."""
        return text_bytes(self.part(split))

    def summary(self) -> str:
        """A few lines for a person: sizes, split, bad rows, notes."""
        sizes = ", ".join(f"{s} {_size(len(self.part(s)), self.bytes(s))}" for s in SPLITS)
        lines = [f"{self.name}: {sizes}", f"split: {self.how_split}"]
        if self.bad:
            kinds = Counter(_reason_kind(row.reason) for row in self.bad).most_common(3)
            told = ", ".join(f"{count:,} {kind}" for kind, count in kinds)
            lines.append(f"{_count(len(self.bad), 'bad row')} passed over ({told}); the first: {self.bad[0]}")
        return "\n".join([*lines, *(f"note: {note}" for note in self.notes)])


def kind_of(path: str | Path) -> Kind:
    """What a corpus holds, by the names of its files: text, pairs (``.tsv``) or numbers (``.csv``)."""
    if str(path) in ("-", python_docs.NAME):
        return "text"
    path = Path(path).expanduser()
    formats = {format_of(file) for file in _walk(path)} if path.is_dir() else {format_of(path)}
    if formats & TEXTUAL:
        return "text"
    if "pairs" in formats:
        return "pairs"
    return "numbers" if "numbers" in formats else "text"


def read(
    corpus: str | Path,
    *,
    field: str = "text",
    label: str | None = None,
    documents: Cut = "file",
    strict: bool = False,
    sides: str = "",
) -> Corpus:
    """Read a corpus and split it.

    Parameters
    ----------
    corpus : a folder or file (``.txt .md .jsonl .json .parquet .arrow``, of pairs ``.tsv`` or files that lie side by
        side, plain, ``.gz`` or ``.zst``), ``-`` for standard input, ``python-docs`` for the embedded corpus, or a
        Hugging Face data set's name (``org/name`` or ``org/name:configuration``; needs the extra ``hub``).
    field, label : the fields of a row that hold its text and, where wanted, its label.
    documents : what a document is in a text file: the ``file``, each of its ``lines``, or blocks between
        ``blank`` lines.
    strict : stop at the first bad row.
    sides : of pairs, which are source and target (see ``pairs``); rows with the fields ``source`` and ``target`` and
        ``.tsv`` files are pairs by themselves.

    Raises
    ------
    SightlineError : nothing there, nothing in it, not text, files side by side that do not match, or (strict) a bad
        row.
    """
    if documents not in get_args(Cut):
        raise SightlineError(f"documents={documents!r} is not known", f"Choose one of {', '.join(get_args(Cut))}")
    reading = Reading(field, label, documents, sides=sides_of(sides), pairs=bool(sides))
    name, notes, store = str(corpus), list[str](), Store()
    if name == "-":
        name = INPUT
        found = [_found(store, INPUT, None, _standard_input(reading), strict)]
    elif name == python_docs.NAME:
        folder, remarks = python_docs.folder()
        notes.extend(remarks)
        reading = Reading("text", label or "label", "file", "id")
        files = sorted(file.name for file in folder.glob("*.jsonl"))
        found = list(_files_read(store, folder, files, reading, strict))
    else:
        path = Path(corpus).expanduser()
        if path.exists():
            name = path.resolve().name
            couples, reading = _as_pairs(path, reading)
            if couples:
                found = list(_couples_read(store, path, couples, strict))
            else:
                files = _chosen(path, notes, PAIRED if reading.pairs else TEXTUAL)
                found = list(_files_read(store, path if path.is_dir() else path.parent, files, reading, strict))
            if path.is_file():
                found = [replace(one, split=None) for one in found]  # one file is split by content
                notes.extend(_beside(path))
        elif dataset.looks_like(name):
            found = _grouped(store, dataset.rows(name, reading), strict)
        else:
            raise SightlineError(f"{name} does not exist", "Check the path; `python-docs` is always there to try")
    return _corpus(name, store, found, reading, notes)


@dataclass(frozen=True)
class _Found:
    """What one file gave, and the split that its name says."""

    file: str
    split: Split | None
    documents: Documents
    bad: tuple[BadRow, ...]
    remarks: tuple[Remark, ...]


def _found(store: Store, file: str, split: Split | None, items: Iterable[Item], strict: bool) -> _Found:
    """Keep what a file gives."""
    first, bad, remarks = len(store), list[BadRow](), list[Remark]()
    for item in items:
        if isinstance(item, Document):
            store.append(item)
        elif isinstance(item, BadRow):
            bad.append(_passed_over(item, strict))
        else:
            remarks.append(item)
    return _Found(file, split, Documents(store, np.arange(first, len(store))), tuple(bad), tuple(remarks))


def _passed_over(row: BadRow, strict: bool) -> BadRow:
    if strict:
        raise SightlineError(f"{row} (strict)", "Mend the row, or read without --strict to pass over bad rows")
    return row


def _standard_input(reading: Reading) -> Iterator[Item]:
    """JSON lines if the first line that is not blank is a JSON object, else text."""
    content = sys.stdin.buffer.read()
    first = next((line for line in content.removeprefix(b"\xef\xbb\xbf").split(b"\n") if line.strip()), b"")
    kind: Format = "text"
    try:
        if isinstance(json.loads(first.decode("utf-8")), dict):
            kind = "rows"
    except (ValueError, RecursionError):  # not UTF-8 and not JSON are both ValueErrors
        kind = "text"
    yield from documents_from(io.BytesIO(content), INPUT, reading, kind)


def _walk(folder: Path) -> list[str]:
    """Every file under a folder, by its path from there, in a fixed order; hidden ones left out.

    They may be a million, so they stay strings, which cost a tenth of paths.
    """
    files: list[str] = []
    for here, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith((".", "__")))
        inner = Path(here).relative_to(folder).as_posix()
        start = "" if inner == "." else f"{inner}/"
        files.extend(start + name for name in sorted(names) if not name.startswith("."))
    return files


def _as_pairs(path: Path, reading: Reading) -> tuple[list[Sides], Reading]:
    """The files that lie side by side, if the corpus is made of such; and how it is read, now that it is known."""
    files = _walk(path) if path.is_dir() else [path.name]
    if reading.sides and (couples := side_by_side(files, reading.sides)):
        return couples, reading
    formats = {format_of(file) for file in files}
    root = path if path.is_dir() else path.parent
    tables = [file for file in files if format_of(file) in TABLES and not _is_aside(file)]
    pairs = reading.pairs or ("pairs" in formats and not formats & TEXTUAL)
    return [], replace(reading, pairs=pairs or (bool(tables) and _rows_of_pairs(root / tables[0], reading.field)))


def _rows_of_pairs(file: Path, field: str) -> bool:
    """Whether the first row of a table has a source and a target, and no text of the name that is asked for."""
    for item in documents_in(file, file.name, Reading("")):
        found = re.search(r"\(fields: (.*)\)$", item.reason) if isinstance(item, BadRow) else None
        there = found[1].split(", ") if found else []
        return field not in there and set(FIELDS) <= set(there)
    return False


def _chosen(path: Path, notes: list[str], formats: frozenset[Format]) -> list[str]:
    """The files of a corpus that hold text, by their paths in its folder; the others are said, or refused where there
    is nothing else."""
    if path.is_file():
        return [_text_file(path, notes, formats).name]
    files = _walk(path)
    if not files:
        raise SightlineError(f"{path} is an empty folder", f"Put files into it ({READABLE})")
    texts = [file for file in files if format_of(file) in formats]
    if not texts:
        _refuse(path, kind_of(path), formats)
        there = languages(files)
        beside = f"; of files side by side name two, such as --sides {there[0]}-{there[1]}" if len(there) > 1 else ""
        raise SightlineError(f"{path} holds no file that can be read as text", f"The formats are {READABLE}{beside}")
    left = (PurePath(file) for file in files if format_of(file) not in formats)
    others = Counter("".join(file.suffixes[-2:]) or file.name for file in left)
    if others:
        told = ", ".join(f"{count} {suffix}" for suffix, count in others.most_common(5))
        notes.append(f"left out, not text: {told}")
    aside = [file for file in texts if _is_aside(file)]
    if aside and len(aside) < len(texts):
        texts = [file for file in texts if not _is_aside(file)]
        told = ", ".join(aside[:5])
        notes.append(f"left out, about the corpus and not of it: {told}{' and more' if len(aside) > 5 else ''}")
    named = {file: split_named(file) for file in texts}
    unnamed = [file for file in texts if named[file] is None]
    if unnamed and "train" in named.values():
        told = ", ".join(unnamed[:5])
        notes.append(f"left out, since other files are named train: {told}{' and more' if len(unnamed) > 5 else ''}")
        texts = [file for file in texts if named[file] is not None]
    return texts


def _text_file(path: Path, notes: list[str], formats: frozenset[Format]) -> Path:
    _refuse(path, kind_of(path), formats)
    if format_of(path) == "unknown":
        notes.append(f"{path.name} is read as plain text, since its ending says nothing")
    return path


def _refuse(path: Path, kind: Kind, formats: frozenset[Format]) -> None:
    if kind == "text" or kind in formats:
        return
    raise SightlineError(
        f"{path} holds {'pairs (.tsv)' if kind == 'pairs' else 'numbers (.csv)'}, not text",
        f"Give text ({READABLE}); families for {kind} are listed by `sightline families`",
    )


def _is_aside(file: str) -> bool:
    name = file.rpartition("/")[2].lower()
    return name in BOOKKEEPING or not ASIDE.isdisjoint(re.split(r"[._\-\s]", name))


def _beside(path: Path) -> list[str]:
    """A word to who gives train.jsonl alone while dev and test lie beside it."""
    if split_named(path.name) != "train":
        return []
    others = sorted(
        file.name
        for file in path.parent.iterdir()
        if file.is_file() and format_of(file) == format_of(path) and split_named(file.name) in ("dev", "test")
    )
    return [f"{', '.join(others)} beside {path.name} not read: give the folder to use them"] if others else []


def _files_read(store: Store, root: Path, files: Sequence[str], reading: Reading, strict: bool) -> Iterator[_Found]:
    sizes = [os.stat(os.path.join(root, file)).st_size for file in files]
    with bar("reading", sum(sizes), "bytes") as shown:
        for file, left in zip(files, sizes, strict=True):

            def told(count: int) -> None:
                nonlocal left
                left -= count
                shown.advance(count)

            yield _file_read(store, os.path.join(root, file), file, reading, strict, told)
            shown.advance(max(0, left), file.rpartition("/")[2])


def _couples_read(store: Store, root: Path, couples: Sequence[Sides], strict: bool) -> Iterator[_Found]:
    """Files that lie side by side, line by line."""
    for names in couples:
        shown = f"{names[0]}+{Path(names[1]).name}"
        try:
            with opened(root / names[0]) as source, opened(root / names[1]) as target:
                items = (
                    pair_read(one + b"\t" + other, shown, number, lambda text: joined(*parted(text)))
                    if b"\t" not in one
                    else BadRow(shown, number, "its source holds a tab, which parts it from its target")
                    for number, one, other in line_by_line(source, target, names)
                )
                yield _found(store, shown, split_named(names[0]), items, strict)
        except DAMAGED as error:
            yield _found(store, shown, split_named(names[0]), [damage(shown, error)], strict)


def _file_read(
    store: Store, file: str, name: str, reading: Reading, strict: bool, told: Callable[[int], None]
) -> _Found:
    kind, split, first = format_of(name), split_named(name), len(store)
    if kind in PAIRED:
        return _found(store, name, split, documents_in(file, name, reading, kind, told), strict)
    try:
        with opened(file, told) as handle:
            if reading.documents != "file":
                return _found(store, name, split, documents_from(handle, name, reading, kind), strict)
            bad, remarks = list[BadRow](), list[Remark]()
            try:  # block by block: a document may be as long as its file
                store.append_blocks(name, whole_text(handle, name, remarks))
            except UnreadableError as error:
                bad.append(_passed_over(error.bad, strict))
            return _Found(name, split, Documents(store, np.arange(first, len(store))), tuple(bad), tuple(remarks))
    except DAMAGED as error:  # of a text file that is cut short nothing is taken
        store.forget(first)
        return _found(store, name, split, [damage(name, error)], strict)


def _grouped(store: Store, rows: Iterable[tuple[str, Item]], strict: bool) -> list[_Found]:
    """The rows of a data set, by the split that each comes in."""
    groups: dict[str, tuple[array[int], list[BadRow], list[Remark]]] = {}
    for split, item in rows:
        index, bad, remarks = groups.setdefault(split, (array("q"), [], []))
        if isinstance(item, Document):
            index.append(len(store))
            store.append(item)
        elif isinstance(item, BadRow):
            bad.append(_passed_over(item, strict))
        else:
            remarks.append(item)
    return [
        _Found(split, split_named(split), Documents(store, np.array(index, np.int64)), tuple(bad), tuple(told))
        for split, (index, bad, told) in groups.items()
    ]


def _corpus(name: str, store: Store, found: Sequence[_Found], reading: Reading, notes: list[str]) -> Corpus:
    documents = _joined(store, found)
    bad = tuple(row for one in found for row in one.bad)
    notes.extend(remark.text for one in found for remark in one.remarks)
    if not documents:
        why = f": {_count(len(bad), 'bad row')}, the first {bad[0]}" if bad else ""
        nameless = any("field" in row.reason for row in bad)
        other = "name the field that holds the text with --field" if nameless else "give text"
        raise SightlineError(f"{name} holds no document{why}", f"Check the files, or {other}")
    if reading.label and not documents.labelled().any():
        raise SightlineError(f'no document of {name} has the label field "{reading.label}"', "Check --label")
    different = len(np.unique(documents.places())) if reading.pairs else FEW
    if different < FEW and not {"dev", "test"} <= {one.split for one in found}:
        raise SightlineError(
            f"{name} holds {_count(different, 'different pair')}, too few to draw dev and test from",
            f"Give {FEW} or more, or files named train, dev and test",
        )
    parts = _split(store, found, documents, name)
    if name == python_docs.NAME:
        parts = replace(parts, how="by module: all docstrings of a module fall on the same side")
    sides = dict(zip(SPLITS, (parts.train, parts.dev, parts.test), strict=True))
    digests = _contents([*(one.documents for one in found), *sides.values()])
    nodes, ends = list(zip(found, digests, strict=False)), dict(zip(SPLITS, digests[-3:], strict=True))
    whole = fingerprint(*([] if reading.pairs else [reading.field]), reading.label, reading.documents, *ends.values())
    lines = [f"{name}  {whole}  {_size(len(documents), text_bytes(documents))}", "├── read from"]
    for index, (one, digest) in enumerate(nodes[:SHOWN_FILES]):
        last = index + 1 == len(nodes)
        amount = _size(len(one.documents), text_bytes(one.documents))
        passed = f", {_count(len(one.bad), 'bad row')}" if one.bad else ""
        lines.append(f"│   {'└──' if last else '├──'} {one.file}  {digest}  {amount}{passed}")
    if len(nodes) > SHOWN_FILES:
        rest = fingerprint(*(digest for _, digest in nodes[SHOWN_FILES:]))
        lines.append(f"│   └── and {len(nodes) - SHOWN_FILES:,} more files  {rest}")
    lines.append(f"└── split {parts.how}")
    for split, side in sides.items():
        branch = "└──" if split == "test" else "├──"
        lines.append(f"    {branch} {split}  {ends[split]}  {_size(len(side), text_bytes(side))}")
    return Corpus(
        name, parts.train, parts.dev, parts.test, bad, whole, "\n".join(lines), parts.how, tuple(notes),
        "pairs" if reading.pairs else "text",
    )  # fmt: skip


def _contents(groups: Sequence[Documents]) -> list[str]:
    """The fingerprint of each group; groups of the same documents are looked at once, large ones side by side."""
    keys = [fingerprint(group.numbers.tobytes()) for group in groups]
    distinct = dict(zip(keys, groups, strict=True))
    sizes = {key: text_bytes(group) for key, group in distinct.items()}
    with bar("fingerprints", sum(sizes.values()), "bytes") as shown, ThreadPoolExecutor(2) as threads:
        large = {
            key: threads.submit(group.content, shown.advance) for key, group in distinct.items() if sizes[key] > BLOCK
        }
        found = {key: group.content(shown.advance) for key, group in distinct.items() if key not in large}
        found |= {key: each.result() for key, each in large.items()}
    return [found[key] for key in keys]


def _joined(store: Store, found: Iterable[_Found]) -> Documents:
    parts = [one.documents.numbers for one in found]
    return Documents(store, np.concatenate(parts) if parts else np.arange(0))


def _split(store: Store, found: Sequence[_Found], documents: Documents, name: str) -> Parts:
    train, unnamed, dev, test = (
        _joined(store, (one for one in found if one.split == split)) for split in ("train", None, "dev", "test")
    )
    train = train or unnamed
    if train and (dev or test):
        return completed(train, dev, test, name)
    return by_content(documents, name)


def _reason_kind(reason: str) -> str:
    return re.split(r"[:(\"]", reason)[0].strip()


def _count(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def _size(count: int, total: int) -> str:
    for unit, scale in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if total >= scale:
            return f"{_count(count, 'document')}, {total / scale:.3g} {unit}"
    return f"{_count(count, 'document')}, {_count(total, 'byte')}"
