"""Vectors in files: written and read back, by us and by gensim, and what is broken told in one line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from gensim.models import KeyedVectors

from sightline.errors import SightlineError
from sightline.hub.word2vec import names_beside, read_vectors, write_vectors
from sightline.objectives.lexicon import Lexicon

WORDS = ("the", "猫", "␣king", "naïve", "x")
LEXICON = Lexicon(WORDS, np.random.default_rng(0).normal(0, 3, (5, 7)).astype(np.float32))


@pytest.mark.parametrize("name", ["v.txt", "v.vec", "v.bin", "v.tsv"])
def test_what_is_written_comes_back_to_the_bit(name: str, tmp_path: Path) -> None:
    write_vectors(LEXICON, tmp_path / name)
    again = read_vectors(tmp_path / name)
    assert again.words == WORDS
    assert (again.vectors == LEXICON.vectors).all()


@pytest.mark.parametrize("binary", [False, True])
def test_gensim_reads_ours_and_we_read_gensims(binary: bool, tmp_path: Path) -> None:
    ours, theirs = (tmp_path / f"{name}.{'bin' if binary else 'txt'}" for name in ("ours", "theirs"))
    write_vectors(LEXICON, ours)
    read = KeyedVectors.load_word2vec_format(str(ours), binary=binary)
    assert tuple(read.index_to_key) == WORDS
    assert np.abs(read.vectors - LEXICON.vectors).max() < 1e-6
    read.save_word2vec_format(str(theirs), binary=binary)
    again = read_vectors(theirs)
    assert again.words == WORDS
    assert np.abs(again.vectors - LEXICON.vectors).max() < 1e-6


def test_line_ends_between_binary_entries_are_read_too(tmp_path: Path) -> None:
    content = b"5 7\n" + b"".join(
        f"{word} ".encode() + row.astype("<f4").tobytes() + b"\n"
        for word, row in zip(WORDS, LEXICON.vectors, strict=True)
    )
    (tmp_path / "c.bin").write_bytes(content)
    again = read_vectors(tmp_path / "c.bin")
    assert again.words == WORDS
    assert (again.vectors == LEXICON.vectors).all()


def test_the_projector_gets_two_tables(tmp_path: Path) -> None:
    write_vectors(LEXICON, tmp_path / "v.tsv")
    assert names_beside(tmp_path / "v.tsv").read_text(encoding="utf-8").split("\n") == [*WORDS, ""]
    rows = (tmp_path / "v.tsv").read_text(encoding="utf-8").splitlines()
    assert [len(row.split("\t")) for row in rows] == [7] * 5


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("v.txt", b"", "does not begin with the number"),
        ("v.txt", b"three 2\na 1 2\n", "does not begin with the number"),
        ("v.txt", b"2 2\na 1 2\n", "holds 1 words, not 2"),
        ("v.txt", b"2 2\na 1 2\nb 1\n", "line 3 holds 1 numbers, not 2"),
        ("v.txt", b"2 2\na 1 2\nb 1 two\n", "line 3 is no vector"),
        ("v.txt", b"2 2\na 1 2\nb 1 nan\n", "vector 2 holds a number that is none"),
        ("v.txt", b"2 2\na 1 2\na 1 3\n", "'a' has two vectors"),
        ("v.txt", b"1 1\n\xff 1\n", "no text in UTF-8"),
        ("v.bin", b"2 1\na \x00\x00\x00\x00b \x00", "ends within word 2 of 2"),
        ("v.npy", b"", r"no layout '.npy'"),
        ("v.tsv", b"1\t2\n", "cannot be read"),
    ],
)
def test_what_is_broken_is_named(name: str, content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(SightlineError, match=message):
        read_vectors(tmp_path / name)


def test_tables_that_do_not_fit_and_words_with_spaces(tmp_path: Path) -> None:
    write_vectors(LEXICON, tmp_path / "v.tsv")
    names_beside(tmp_path / "v.tsv").write_text("one\n", encoding="utf-8")
    with pytest.raises(SightlineError, match="5 vectors for 1 words"):
        read_vectors(tmp_path / "v.tsv")
    with pytest.raises(SightlineError, match="'a b' has white space"):
        write_vectors(Lexicon(("a b",), np.zeros((1, 2), np.float32)), tmp_path / "w.txt")
    assert not (tmp_path / "w.txt").exists()
