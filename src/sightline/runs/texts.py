"""What a person gives a model to read: words on the command line, standard input, files, corpora."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from ..errors import SightlineError
from ..progress import say

if TYPE_CHECKING:
    from ..data import Corpus, Document
    from ..data.source import Item, Reading

Part = Literal["all", "train", "dev", "test"]
Cut = Literal["file", "lines", "blank"]
INPUT = "standard input"


def several(words: Sequence[str]) -> list[str]:
    """The words as a list; in Python one text alone may be given as it is."""
    return [words] if isinstance(words, str) else list(words)


def prompts(words: Sequence[str], field: str = "text", documents: Cut = "file") -> list[str]:
    """The words themselves, ``-`` standing for the texts on standard input (without the newline that ends one)."""
    texts: list[str] = []
    for word in several(words):
        if word == "-":
            texts.extend(one.text.removesuffix("\n").removesuffix("\r") for one in _standard_input(field, documents))
        else:
            texts.append(word)
    return texts


def read_all(
    words: Sequence[str], *, part: Part = "all", field: str = "text", documents: Cut = "file"
) -> list[Document]:
    """Documents of everything that is named: each word is a path, ``-``, a corpus, or else a text itself.

    Parameters
    ----------
    part : ``all``, whatever its split; or one side of the split that training would make of a corpus.

    Raises
    ------
    SightlineError : nothing given, a path that is not there, or nothing to read in it.
    """
    from ..data import Document, read
    from ..data.python_docs import NAME

    found: list[Document] = []
    for number, word in enumerate(several(words), 1):
        path = path_of(word)
        if part != "all" and (path or word in ("-", NAME)):
            found.extend(read(word, field=field, documents=documents).part(part))
        elif word == "-":
            found.extend(_standard_input(field, documents))
        elif path is not None and path.is_file():
            found.extend(_file(path, field, documents))
        elif path is not None or word == NAME:
            found.extend(_whole(read(word, field=field, documents=documents)))
        elif names_a_file(word):
            raise SightlineError(f"{word} does not exist", "Check the path, or give a text of several words")
        elif part != "all":
            raise SightlineError(f"{word!r} is a text and has no {part} side", "Name a corpus, or leave --part away")
        elif word.strip():
            found.append(Document(f"text {number}", word))
    if not found:
        raise SightlineError("no text was given", "Give a text, a file, a folder, or - for standard input")
    return found


def lines_of(path: Path) -> list[str]:
    """The lines of a file, packed or not.

    Raises
    ------
    SightlineError : it is not UTF-8.
    """
    from ..data.compression import opened

    with opened(path) as handle:
        try:
            return handle.read().decode("utf-8").removesuffix("\n").split("\n")
        except UnicodeDecodeError as error:
            raise SightlineError(f"{path} is not UTF-8 (byte {error.start:,})", "Convert it first") from error


def path_of(word: str) -> Path | None:
    """The path that a word is, where there is one."""
    try:
        path = Path(word).expanduser()
        return path if word != "-" and path.exists() else None
    except (OSError, ValueError, RuntimeError):  # a text may be too long for a path, or begin with a tilde
        return None


def names_a_file(word: str) -> bool:
    """Whether a word looks like a path that was mistyped rather than like a text."""
    from ..data.compression import PACKED
    from ..data.source import FORMATS

    if any(letter.isspace() for letter in word):
        return False
    return (
        Path(word).suffix.lower() in (*FORMATS, *PACKED)
        or word.startswith(("/", "./", "../", "~/"))
        or word.endswith("/")
    )


def _standard_input(field: str, documents: Cut) -> list[Document]:
    """JSON lines if the first line that is not blank is a JSON object, else text."""
    from ..data.source import documents_from

    if sys.stdin.isatty():
        say("reading from the terminal: end with Ctrl-D")
    content = sys.stdin.buffer.read()
    first = next((line for line in content.splitlines() if line.strip()), b"")
    try:
        rows = isinstance(json.loads(first.decode("utf-8")), dict)
    except (ValueError, RecursionError):
        rows = False
    reading = _reading(field, documents)
    return _sorted_out(documents_from(io.BytesIO(content), INPUT, reading, "rows" if rows else "text"), INPUT)


def _file(path: Path, field: str, documents: Cut) -> list[Document]:
    from ..data import kind_of
    from ..data.source import READABLE, documents_in

    if kind_of(path) != "text":
        raise SightlineError(f"{path} holds {kind_of(path)}, not text", f"Give text ({READABLE})")
    return _sorted_out(documents_in(path, path.name, _reading(field, documents)), str(path))


def _reading(field: str, documents: Cut) -> Reading:
    from ..data.source import Reading

    return Reading(field=field, documents=documents)


def _sorted_out(items: Iterable[Item], name: str) -> list[Document]:
    """The documents; bad rows are counted and the first is named."""
    from ..data import BadRow, Document

    kept, bad = [], []
    for item in items:
        if isinstance(item, Document):
            kept.append(item)
        elif isinstance(item, BadRow):
            bad.append(item)
    if not kept:
        why = f": {bad[0]}" if bad else ""
        raise SightlineError(f"{name} holds no text{why}", "Check it; --field names the field that holds the text")
    if bad:
        say(f"{len(bad):,} bad rows passed over; the first: {bad[0]}")
    return kept


def _whole(corpus: Corpus) -> list[Document]:
    """All documents of a corpus; one that was cut for its tail's sake is made whole again."""
    from ..data import Document

    if corpus.bad:
        say(f"{len(corpus.bad):,} bad rows passed over; the first: {corpus.bad[0]}")
    whole: list[Document] = []
    cut: dict[str, int] = {}  # where the first part of a cut document stands
    for side in ("train", "dev", "test"):
        for one in corpus.part(side):
            name = one.id.removesuffix(f"#{side}")
            if name != one.id and name in cut:
                whole[cut[name]] = Document(name, whole[cut[name]].text + one.text)
                continue
            if name != one.id:
                cut[name] = len(whole)
            whole.append(Document(name, one.text))
    return whole
