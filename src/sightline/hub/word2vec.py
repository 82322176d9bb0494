"""Word vectors in files: word2vec's text and binary layout, and the two tables of TensorBoard's Projector.

    vectors.txt | .vec    "W d", then a line for each word: the word and its numbers
    vectors.bin           "W d", then for each word the word, a space and d float32
    vectors.tsv           a line of numbers for each word; the words stand in vectors.words.tsv, in the same order

Mikolov's word2vec.c ends each binary entry with a line end and gensim does not; both are read, gensim's is written.
"""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..errors import SightlineError
from ..files import whole_file
from ..objectives.lexicon import Lexicon

TEXT, BINARY, TABLE = (".txt", ".vec"), (".bin",), (".tsv",)
SUFFIXES = (*TEXT, *BINARY, *TABLE)
DIGITS = 9  # of a number in text: enough to give each float32 back


def names_beside(path: Path) -> Path:
    """Where the words of a table of numbers stand."""
    return path.with_name(f"{path.stem}.words.tsv")


def write_vectors(lexicon: Lexicon, path: Path) -> None:
    """Write words and vectors, in the layout that the path's ending names, whole or not at all.

    Raises
    ------
    SightlineError : another ending, or a word with white space in it, which these layouts cannot hold.
    """
    path = Path(path)
    _check(path)
    spaced = next((word for word in lexicon.words if not word or len(word.split()) != 1), None)
    if spaced is not None:
        raise SightlineError(f"the word {spaced!r} has white space, which the layout cannot hold", "Rename it")
    head = f"{len(lexicon.words)} {lexicon.vectors.shape[1]}\n"
    if path.suffix in BINARY:
        rows = np.ascontiguousarray(lexicon.vectors, "<f4")
        with whole_file(path) as handle:
            handle.write(head.encode())
            for word, row in zip(lexicon.words, rows, strict=True):
                handle.write(f"{word} ".encode() + row.tobytes())
        return
    table = path.suffix in TABLE
    if table:
        with whole_file(names_beside(path), "w") as handle:
            handle.writelines(f"{word}\n" for word in lexicon.words)
    with whole_file(path, "w") as handle:
        if not table:
            handle.write(head)
        for word, row in zip(lexicon.words, lexicon.vectors.tolist(), strict=True):
            numbers = ("\t" if table else " ").join(f"{number:.{DIGITS}g}" for number in row)
            handle.write(f"{numbers}\n" if table else f"{word} {numbers}\n")


def read_vectors(path: Path) -> Lexicon:
    """Read words and vectors in the layout that the path's ending names.

    Raises
    ------
    SightlineError : no such file, another ending, a file cut short, or numbers that are none; the line is named.
    """
    path = Path(path)
    _check(path)
    try:
        content = path.read_bytes()
        if path.suffix in BINARY:
            return _binary(content, path)
        lines = content.decode("utf-8").splitlines()
        if path.suffix in TABLE:
            words = names_beside(path).read_text(encoding="utf-8").splitlines()
            return _lexicon(words, [line.split("\t") for line in lines], path, 1)
    except OSError as error:
        raise SightlineError(f"{error.filename} cannot be read ({error.strerror})", "Check the path") from error
    except UnicodeDecodeError as error:
        raise SightlineError(f"{path} is no text in UTF-8 ({error})", "A binary file ends in .bin") from error
    count, width = _head(lines[0] if lines else "", path)
    parts = [line.rstrip().split(" ") for line in lines[1:]]
    if len(parts) != count:
        raise SightlineError(f"{path} holds {len(parts):,} words, not {count:,}", "It may be cut short: copy it again")
    wrong = next((at for at, part in enumerate(parts) if len(part) != width + 1), None)
    if wrong is not None:
        raise SightlineError(
            f"{path}, line {wrong + 2} holds {len(parts[wrong]) - 1} numbers, not {width}", "Copy the file again"
        )
    return _lexicon([part[0] for part in parts], [part[1:] for part in parts], path, 2)


def _check(path: Path) -> None:
    if path.suffix not in SUFFIXES:
        raise SightlineError(
            f"vectors of words have no layout {path.suffix or path.name!r}", f"End the name in {', '.join(SUFFIXES)}"
        )


def _head(line: str, path: Path) -> tuple[int, int]:
    try:
        count, width = map(int, line.split())
    except ValueError:
        count = width = 0
    if count < 1 or width < 1:
        raise SightlineError(
            f"{path} does not begin with the number of words and of numbers each ({line[:40]!r})",
            "Give a file in word2vec's layout",
        )
    return count, width


def _lexicon(words: list[str], rows: list[list[str]], path: Path, first: int) -> Lexicon:
    """Words and their numbers, still as text; ``first`` is the line of the first."""
    if not rows or len(words) != len(rows):
        raise SightlineError(f"{path} has {len(rows):,} vectors for {len(words):,} words", "Copy both files again")
    vectors = np.zeros((len(rows), len(rows[0])), np.float32)
    for at, row in enumerate(rows):
        try:
            vectors[at] = [float(number) for number in row]
        except ValueError as error:
            raise SightlineError(f"{path}, line {at + first} is no vector ({error})", "Copy the file again") from error
    return Lexicon(tuple(words), _finite(vectors, path))


def _finite(vectors: NDArray[np.float32], path: Path) -> NDArray[np.float32]:
    if not np.isfinite(vectors).all():
        at = int(np.flatnonzero(~np.isfinite(vectors).all(1))[0])
        raise SightlineError(f"{path}: vector {at + 1} holds a number that is none", "Copy the file, or fit again")
    return vectors


def _binary(content: bytes, path: Path) -> Lexicon:
    file = io.BytesIO(content)
    count, width = _head(file.readline(200).decode("utf-8", "replace"), path)
    words, vectors = [], np.zeros((count, width), np.float32)
    at = file.tell()
    for number in range(count):
        space = content.find(b" ", at)
        end = space + 1 + 4 * width
        if space < 0 or end > len(content):
            raise SightlineError(f"{path} ends within word {number + 1:,} of {count:,}", "Copy the file again")
        words.append(content[at:space].lstrip(b"\n").decode("utf-8"))
        vectors[number] = np.frombuffer(content, "<f4", width, space + 1)
        at = end
    return Lexicon(tuple(words), _finite(vectors, path))
