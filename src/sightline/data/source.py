"""One file to documents: what a row holds, and why a row is no document.

    file -> bytes (plain, .gz, .zst) -> rows (text, JSON lines, Parquet, Arrow) -> Document | BadRow | Remark

Text is never changed: bits per byte count the bytes that the user has. A row that cannot be read is named and passed
over.
"""

from __future__ import annotations

import codecs
import gzip
import io
import json
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal

from .compression import BLOCK, DAMAGED, PACKED, opened
from .pairs import FIELDS, Sides, joined, of_columns

Cut = Literal["file", "lines", "blank"]
Format = Literal["text", "rows", "parquet", "arrow", "pairs", "numbers", "unknown"]

FORMATS: Mapping[str, Format] = {
    ".txt": "text",
    ".md": "text",
    ".tokens": "text",  # WikiText's own ending
    ".jsonl": "rows",
    ".ndjson": "rows",
    ".json": "rows",
    ".parquet": "parquet",
    ".arrow": "arrow",
    ".tsv": "pairs",
    ".csv": "numbers",
}
READABLE = ".txt .md .jsonl .json .parquet .arrow, of pairs .tsv, plain or with .gz or .zst"
BOM = b"\xef\xbb\xbf"
TABLES: frozenset[Format] = frozenset(["rows", "parquet", "arrow"])
PAIRED: frozenset[Format] = TABLES | {"pairs"}  # a document a row; the other formats are plain text


@dataclass(frozen=True)
class Document:
    """A text with an id. ``label`` is the value of the field that ``--label`` names, or None."""

    id: str
    text: str
    label: str | None = None


@dataclass(frozen=True)
class BadRow:
    """A row that is no document: where it stands (line or row, from 1; None for a whole file) and why."""

    file: str
    line: int | None
    reason: str

    def __str__(self) -> str:
        return f"{self.file}{'' if self.line is None else f':{self.line}'}: {self.reason}"


@dataclass(frozen=True)
class Remark:
    """Something about a file that its reader did and says."""

    text: str


@dataclass(frozen=True)
class Reading:
    """How rows become documents: the field that holds the text, the label, the name, and how a text file is cut.

    ``sides``: of pairs, the two fields or columns; ``pairs``: rows are pairs.
    """

    field: str = "text"
    label: str | None = None
    documents: Cut = "file"
    name: str | None = None
    sides: Sides | None = None
    pairs: bool = False

    @property
    def fields(self) -> tuple[str, ...]:
        """The fields that hold text."""
        return (self.sides or FIELDS) if self.pairs else (self.field,)


Item = Document | BadRow | Remark


def format_of(path: Path | str) -> Format:
    """What a file's name says that it holds, ``.gz`` and ``.zst`` taken off first."""
    name, suffix = os.path.splitext(str(path).lower())
    if suffix in PACKED:
        suffix = os.path.splitext(name)[1]
    return FORMATS.get(suffix, "unknown")


def documents_in(
    path: Path | str,
    shown: str,
    reading: Reading,
    kind: Format | None = None,
    told: Callable[[int], None] | None = None,
) -> Iterator[Item]:
    """The documents of one file, with its bad rows in between; ``shown`` is the file's name in ids and reports.

    ``told`` hears how many bytes of the file were read (nothing of Parquet and Arrow, which are read from their end).
    """
    kind = kind or format_of(path)
    try:
        with opened(path, None if kind in ("parquet", "arrow") else told) as handle:
            items = documents_from(handle, shown, reading, kind)
            # Of a text file that turns out to be cut short nothing is taken, so it is read to its end first.
            yield from items if kind in PAIRED else list(items)
    except DAMAGED as error:
        yield damage(shown, error)


def damage(shown: str, error: Exception) -> BadRow:
    """What to say of a file that could not be read to its end."""
    if isinstance(error, OSError) and not isinstance(error, gzip.BadGzipFile):
        return BadRow(shown, None, f"it cannot be read ({error.strerror or error})")
    return BadRow(shown, None, f"the packed file is damaged or cut short ({error})")


def documents_from(handle: IO[bytes], shown: str, reading: Reading, kind: Format) -> Iterator[Item]:
    """The documents of an open stream of bytes."""
    if kind == "rows":
        yield from _json_rows(handle, shown, reading)
    elif kind in ("parquet", "arrow"):
        yield from _tables(handle, shown, reading, kind == "parquet")
    elif kind == "pairs":
        for line, raw in enumerate(_lines(handle), 1):
            yield pair_read(raw, shown, line, lambda text: of_columns(text, reading.sides))
    else:
        yield from _texts(handle, shown, reading)


class UnreadableError(Exception):
    """Why a text that comes in blocks is no document."""

    def __init__(self, bad: BadRow) -> None:
        super().__init__(str(bad))
        self.bad = bad


def whole_text(handle: IO[bytes], shown: str, remarks: list[Remark]) -> Iterator[bytes]:
    """The bytes of a file that is one document, in blocks and without a byte-order mark, which is remarked on.

    Raises
    ------
    UnreadableError : not UTF-8, or nothing but white space.
    """
    check = codecs.getincrementaldecoder("utf-8")()
    done, lines, opening, empty = 0, 0, b"", True
    for block in _blocks(handle, shown, remarks):
        opening = (opening + block[:2])[:2]
        pending = check.getstate()[0]  # the first bytes of a character that the block before cut
        try:
            text = check.decode(block, not block)
        except UnicodeDecodeError as error:
            at = done - len(pending) + error.start
            line = 1 + lines + block.count(b"\n", 0, max(0, error.start - len(pending)))
            raise UnreadableError(BadRow(shown, line, _not_utf8(opening, error.object[error.start], at))) from error
        empty = empty and not text.strip()
        done += len(block)
        lines += block.count(b"\n")
        if block:
            yield block
    if empty:
        raise UnreadableError(BadRow(shown, None, "empty"))


def _blocks(handle: IO[bytes], shown: str, remarks: list[Remark]) -> Iterator[bytes]:
    """A stream in blocks, its byte-order mark taken off; the last block is empty."""
    block = handle.read(BLOCK)
    if block.startswith(BOM):
        remarks.append(Remark(f"{shown}: the byte-order mark at its start was taken off"))
        block = block[len(BOM) :] or handle.read(BLOCK)
    while block:
        yield block
        block = handle.read(BLOCK)
    yield b""


def _texts(handle: IO[bytes], shown: str, reading: Reading) -> Iterator[Item]:
    remarks: list[Remark] = []
    if reading.documents != "file":
        yield from _parts(handle, shown, reading.documents == "lines")
        return
    found: Document | BadRow
    try:
        found = Document(shown, b"".join(whole_text(handle, shown, remarks)).decode("utf-8"))
    except UnreadableError as error:
        found = error.bad
    yield from (*remarks, found)


def _parts(handle: IO[bytes], shown: str, by_line: bool) -> Iterator[Item]:
    """Lines, or what blank lines part, block by block.

    What parts documents consists of white space, so no match can reach over the last other byte of a block: up to
    there the matches are those of the whole file.
    """
    # The whole separators are \r?\n and (?:[ \t]*\r?\n){2,}: looking for the first \n and then back is far faster.
    separator = re.compile(rb"\n" if by_line else rb"\n(?:[ \t]*\r?\n)+")
    held, seen = bytearray(), 0
    line, blanks = 1, 0
    remarks: list[Remark] = []
    for block in _blocks(handle, shown, remarks):
        yield from remarks
        remarks.clear()
        held += block
        spaces = len(block) - len(block.rstrip(b" \t\r\n"))
        if block and spaces == len(block):
            continue
        until, start = len(held) - spaces, 0
        ends = [match.span() for match in separator.finditer(held, seen, until)]
        for begin, end in ends if block else [*ends, (len(held), len(held))]:
            if end > begin:
                begin = _back(held, begin, start, by_line)
            raw = bytes(held[start:begin])
            if raw.strip():
                yield _from_bytes(raw, shown, line, f"{shown}:{line}")
            elif end > begin:
                blanks += 1
            line += held.count(b"\n", start, end)
            start = end
        del held[:start]
        seen = until - start
    if blanks and by_line:
        yield Remark(f"{shown}: {blanks:,} blank lines passed over")


def _back(held: bytearray, begin: int, least: int, by_line: bool) -> int:
    """Where the separator begins whose first line feed stands at ``begin``."""
    if begin > least and held[begin - 1] == 0x0D:
        begin -= 1
    while not by_line and begin > least and held[begin - 1] in b" \t":
        begin -= 1
    return begin


def _from_bytes(raw: bytes, shown: str, line: int | None, name: str) -> Document | BadRow:
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        at = (line or 1) + raw.count(b"\n", 0, error.start)
        return BadRow(shown, at, _not_utf8(raw, raw[error.start], error.start))
    return Document(name, text) if text.strip() else BadRow(shown, line, "empty")


def _lines(handle: IO[bytes]) -> Iterator[bytes]:
    """The lines of a stream without their ends and without a byte-order mark."""
    for number, raw in enumerate(handle):
        yield (raw.removeprefix(BOM) if not number else raw).rstrip(b"\r\n")


def pair_read(raw: bytes, shown: str, line: int, paired: Callable[[str], str]) -> Document | BadRow:
    """A line as a pair, whose text ``paired`` makes of it."""
    found = _from_bytes(raw, shown, line, f"{shown}:{line}")
    if isinstance(found, BadRow):
        return found
    try:
        return Document(found.id, paired(found.text))
    except ValueError as error:
        return BadRow(shown, line, str(error))


def _not_utf8(opening: bytes, byte: int, at: int) -> str:
    guess = "; it looks like UTF-16" if opening[:2] in (b"\xff\xfe", b"\xfe\xff") else ""
    return f"not UTF-8: byte 0x{byte:02x} at offset {at:,}{guess}"


def _json_rows(handle: IO[bytes], shown: str, reading: Reading) -> Iterator[Item]:
    for line, raw in enumerate(handle, 1):
        if line == 1 and raw.startswith(BOM):
            raw = raw[len(BOM) :]
            yield Remark(f"{shown}: the byte-order mark at its start was taken off")
        if line == 1 and raw.lstrip().startswith(b"["):
            yield from _json_list(raw + handle.read(), shown, reading)
            return
        if raw.strip():
            yield _from_json(raw, shown, line, reading)


def _from_json(raw: bytes, shown: str, line: int, reading: Reading) -> Document | BadRow:
    try:
        value = json.loads(raw.decode("utf-8"))
    except UnicodeDecodeError as error:
        return BadRow(shown, line, _not_utf8(raw, raw[error.start], error.start))
    except json.JSONDecodeError as error:
        return BadRow(shown, line, f"not JSON: {error.msg} at column {error.colno}")
    except RecursionError:
        return BadRow(shown, line, "not JSON that can be read: nested too deeply")
    if not isinstance(value, dict):
        return BadRow(shown, line, "not a JSON object")
    return fields_read(value, shown, line, reading)


def _json_list(raw: bytes, shown: str, reading: Reading) -> Iterator[Item]:
    """A file that is one JSON list of objects; its rows are counted, since their lines are not known."""
    try:
        values = json.loads(raw.decode("utf-8"))
    except UnicodeDecodeError as error:
        yield BadRow(shown, raw.count(b"\n", 0, error.start) + 1, _not_utf8(raw, raw[error.start], error.start))
        return
    except json.JSONDecodeError as error:
        yield BadRow(shown, error.lineno, f"not JSON: {error.msg} at column {error.colno}")
        return
    except RecursionError:
        yield BadRow(shown, None, "not JSON that can be read: nested too deeply")
        return
    yield Remark(f"{shown}: one JSON list; its objects are numbered from 1")
    for number, value in enumerate(values, 1):
        if isinstance(value, dict):
            yield fields_read(value, shown, number, reading)
        else:
            yield BadRow(shown, number, "not a JSON object")


def fields_read(fields: Mapping[str, Any], shown: str, line: int, reading: Reading) -> Document | BadRow:
    """A row of named values as a document, or why it is none; ``line`` counts from 1."""
    values = []
    for field in reading.fields:
        if field not in fields:
            there = ", ".join(list(fields)[:8]) or "none"
            return BadRow(shown, line, f'no field "{field}" (fields: {there})')
        value = fields[field]
        if not isinstance(value, str):
            return BadRow(shown, line, f'the field "{field}" holds {_type(value)}, not text')
        values.append(value)
    try:
        text = joined(*values) if reading.pairs else values[0]
    except ValueError as error:
        return BadRow(shown, line, str(error))
    if not text.strip():
        return BadRow(shown, line, "empty")
    try:
        _ = text.isascii() or text.encode("utf-8")
    except UnicodeEncodeError as error:  # JSON can spell half a character: "\ud83d"
        return BadRow(shown, line, f"not UTF-8: half a character at position {error.start:,}")
    name = fields.get(reading.name) if reading.name else None
    return Document(str(name) if name else f"{shown}:{line}", text, _label(fields, reading))


def _label(fields: Mapping[str, Any], reading: Reading) -> str | None:
    value = fields.get(reading.label) if reading.label else None
    if value is None or isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False, default=str)


def _type(value: object) -> str:
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return "true or false"
    if isinstance(value, (int, float)):
        return "a number"
    return {"list": "a list", "dict": "an object"}.get(type(value).__name__, type(value).__name__)


def _tables(handle: IO[bytes], shown: str, reading: Reading, parquet: bool) -> Iterator[Item]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        # A packed table must be held whole: both formats read from their end.
        source = (
            handle if isinstance(handle, io.BufferedReader) and handle.seekable() else pa.BufferReader(handle.read())
        )
        batches = pq.ParquetFile(source).iter_batches(batch_size=1024) if parquet else _arrow_batches(source)
        row = 0
        for batch in batches:
            wanted = {*reading.fields, reading.label, reading.name}
            columns = [name for name in batch.schema.names if name in wanted]
            for fields in _records(batch.select(columns), batch.schema.names, reading.fields):
                row += 1
                if isinstance(fields, str):
                    yield BadRow(shown, row, fields)
                else:
                    yield fields_read(fields, shown, row, reading)
    except pa.ArrowException as error:
        first = str(error).splitlines()[0][:120]
        yield BadRow(shown, None, f"not a whole {'Parquet' if parquet else 'Arrow'} file ({first})")


def _arrow_batches(source: Any) -> Iterator[Any]:
    """Arrow's two layouts, told apart by their first bytes: the file (``ARROW1``) and the stream."""
    import pyarrow as pa

    magic = source.read(6)
    source.seek(0)
    if magic == b"ARROW1":
        table = pa.ipc.open_file(source)
        yield from (table.get_batch(index) for index in range(table.num_record_batches))
    else:
        yield from pa.ipc.open_stream(source)


def _records(batch: Any, names: list[str], fields: Sequence[str]) -> Iterator[dict[str, Any] | str]:
    """Each row of a batch, or the reason why its text cannot be read."""
    if lacking := [field for field in fields if field not in batch.schema.names]:
        missing = f'no field "{lacking[0]}" (fields: {", ".join(names[:8]) or "none"})'
        yield from (missing for _ in range(batch.num_rows))
        return
    try:
        yield from batch.to_pylist()
    except UnicodeDecodeError:  # one bad value spoils the whole batch: look at each
        for index in range(batch.num_rows):
            try:
                yield batch.slice(index, 1).to_pylist()[0]
            except UnicodeDecodeError as error:
                yield f"not UTF-8: byte 0x{error.object[error.start]:02x} at offset {error.start:,}"
