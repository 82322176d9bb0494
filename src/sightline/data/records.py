"""Records of a labelled file, whatever its format: a number to be found by, and what stands under each column.

.jsonl .json .csv .tsv .parquet .arrow -> (line, {column: value})      .conllu .conll .bio .txt -> a sentence a record

Plain, ``.gz`` or ``.zst``. Columns have names, or numbers from 1 where a table has no header.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ..errors import SightlineError
from .compression import DAMAGED, PACKED, opened

Record = tuple[int, Mapping[str, Any]]

TAGGED = {"conllu", "conll", "conll03", "bio", "iob", "iob2", "txt"}
TABLES = {"jsonl", "ndjson", "json", "csv", "tsv", "parquet", "arrow"}
FORMATS = TABLES | TAGGED
READABLE = ".jsonl .json .tsv .csv .conllu .conll .txt .parquet .arrow, also .gz and .zst"
WORDS, TAGS = "words", "tags"
# Columns that play a role where nobody says which: names of GLUE, CLUE, SQuAD and Hugging Face's data sets.
NAMES: dict[str, tuple[str, ...]] = {
    "id": ("id", "idx", "guid"),
    "text": ("text", "sentence", "sentence1", "text_a", "premise", "question1", "review"),
    "pair": ("pair", "sentence2", "text_b", "hypothesis", "question2"),
    "label": ("label", "labels", "score", "stars", "class"),
    "words": ("words", "tokens"),
    "tags": ("tags", "ner_tags", "upos", "pos_tags"),
    "context": ("context", "passage"),
    "question": ("question", "query"),
    "answers": ("answers", "answer", "answer_text"),
    "start": ("start", "answer_start"),
    "source": ("source",),
    "target": ("target",),
}
CONLLU = 10  # columns of a word line (universaldependencies.org/format.html)


def labelled_format(path: Path | str) -> str:
    """What the name says the file holds: one of ``FORMATS``, or nothing."""
    parts = str(path).lower().rsplit("/", 1)[-1].split(".")
    if f".{parts[-1]}" in PACKED:
        parts = parts[:-1]
    return parts[-1] if len(parts) > 1 and parts[-1] in FORMATS else ""


def records_of(path: Path, columns: Mapping[str, str]) -> list[Record]:
    """All records of a file.

    Parameters
    ----------
    columns : from a role to the column that plays it; all numbers: the table has no header.

    Raises
    ------
    SightlineError : the file is missing, damaged, of no known format, or empty.
    """
    kind = labelled_format(path)
    if not kind:
        raise SightlineError(f"{path.name} has no ending that tells its format", f"The formats are {READABLE}")
    try:
        with opened(path) as handle:
            if kind in ("parquet", "arrow"):
                found = list(_tables(handle.read(), kind, path.name))
            else:
                found = list(_textual(handle.read().decode("utf-8-sig"), kind, path.name, columns))
    except UnicodeDecodeError as error:
        raise SightlineError(
            f"{path.name} is not UTF-8 (byte {error.start:,})", "Convert it, for example with iconv"
        ) from error
    except DAMAGED as error:
        reason = getattr(error, "strerror", None) or error
        raise SightlineError(f"{path} cannot be read ({reason})", "Check the path") from error
    if not found:
        raise SightlineError(f"{path.name} holds no items", "Give a file with some")
    return found


def _textual(text: str, kind: str, name: str, columns: Mapping[str, str]) -> Iterator[Record]:
    if kind in TAGGED:
        yield from _sentences(text, kind, name, columns)
    elif kind in ("csv", "tsv"):
        yield from _cells(text, kind, name, columns)
    elif kind == "json":
        yield from _json(text, name)
    else:
        for number, line in enumerate(text.split("\n"), 1):
            if line.strip():
                yield number, _object(line, name, number)


def _object(line: str, name: str, number: int) -> Mapping[str, Any]:
    try:
        found = json.loads(line)
    except (json.JSONDecodeError, RecursionError) as error:
        raise SightlineError(f"{name} line {number:,} is not JSON ({error})", "Mend the line") from error
    if not isinstance(found, dict):
        raise SightlineError(f"{name} line {number:,} is not a JSON object", 'Write {"text": ..., "label": ...}')
    return found


def _json(text: str, name: str) -> Iterator[Record]:
    """A list of objects, one under ``data``, SQuAD's nested layout, or objects line by line."""
    try:
        found = json.loads(text)
    except (json.JSONDecodeError, RecursionError):
        lines = text.split("\n")
        yield from ((at, _object(line, name, at)) for at, line in enumerate(lines, 1) if line.strip())
        return
    items = found.get("data", [found]) if isinstance(found, dict) else found
    if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
        raise SightlineError(f"{name} is no list of JSON objects", 'Write [{"text": ..., "label": ...}, ...]')
    flat = items
    if items and "paragraphs" in items[0]:
        flat = [
            {"id": asked.get("id", ""), "context": part["context"], **asked}
            for item in items
            for part in item["paragraphs"]
            for asked in part["qas"]
        ]
    yield from enumerate(flat, 1)


def _cells(text: str, kind: str, name: str, columns: Mapping[str, str]) -> Iterator[Record]:
    """Rows of a table; a ``.tsv`` has no quotes, as GLUE's have none."""
    rows: Iterator[tuple[int, list[str]]]
    if kind == "csv":
        reader = csv.reader(io.StringIO(text, newline=""))
        rows = ((reader.line_num, row) for row in reader if row)
    else:
        lines = enumerate(text.split("\n"), 1)
        rows = ((number, line.rstrip("\r").split("\t")) for number, line in lines if line.strip())
    held = list(rows)
    if not held:
        return
    first = held[0][1]
    numbered = all(value.isdecimal() for value in columns.values()) if columns else not _is_header(first)
    names = [str(at + 1) for at in range(len(first))] if numbered else [cell.strip() for cell in first]
    for number, row in held if numbered else held[1:]:
        if len(row) < len(names):
            raise SightlineError(
                f"{name} line {number:,} has {len(row)} columns, the first {len(names)}", "Mend the line"
            )
        yield number, dict(zip(names, row, strict=False))


def _is_header(cells: list[str]) -> bool:
    """Whether the first row of a table names columns, where nobody says so."""
    known = {name for names in NAMES.values() for name in names}
    return any(cell.strip().lower() in known for cell in cells)


def _sentences(text: str, kind: str, name: str, columns: Mapping[str, str]) -> Iterator[Record]:
    """Sentences of words and tags, a word a line, parted by blank lines; the number is that of the first word's line.

    CoNLL-U: column 2 is the word and 4 its part of speech; else the first is the word and the last its tag.
    """
    word = int(columns.get(WORDS, "2" if kind == "conllu" else "1")) - 1
    tag = int(columns.get(TAGS, "4" if kind == "conllu" else "0")) - 1
    words, tags, begun = list[str](), list[str](), 0
    for number, line in enumerate([*text.split("\n"), ""], 1):
        line = line.rstrip("\r")
        if not line.strip():
            if words:
                yield begun, {WORDS: words, TAGS: tags}
            words, tags = [], []
            continue
        cells = line.split("\t") if "\t" in line else line.split()
        if kind == "conllu":
            if line.startswith("#") or not cells[0].isdecimal():  # remarks, ranges and empty nodes
                continue
            if len(cells) != CONLLU:
                raise SightlineError(f"{name} line {number:,} has {len(cells)} columns, not {CONLLU}", "Mend the line")
        elif line.startswith("-DOCSTART-"):
            continue
        if len(cells) < 2 or max(word, tag) >= len(cells):
            raise SightlineError(
                f"{name} line {number:,} has {len(cells)} column{'s' * (len(cells) != 1)}, no word and tag",
                "A line holds a word, a tab or space, and its tag; sentences are parted by blank lines",
            )
        begun = begun if words else number
        words.append(cells[word])
        tags.append(cells[tag])


def _tables(content: bytes, kind: str, name: str) -> Iterator[Record]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    source = pa.BufferReader(content)
    try:
        if kind == "parquet":
            table = pq.read_table(source)
        else:
            of = pa.ipc.open_file if content[:6] == b"ARROW1" else pa.ipc.open_stream
            table = of(source).read_all()
    except pa.ArrowException as error:
        first = str(error).splitlines()[0][:120]
        raise SightlineError(f"{name} is not a whole table ({first})", "Make it again") from error
    yield from enumerate(table.to_pylist(), 1)
