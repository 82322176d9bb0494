"""Pairs: three layouts of files, the same documents; rows of whole pairs, each token of them in its half."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import numpy as np
import pytest

from sightline.data import Bins, Corpus, Document, Tokenizer, read, tokenized, train_tokenizer
from sightline.data.pairs import parted
from sightline.data.pool import WORTH
from sightline.errors import SightlineError

PAIRS = [(f"A dog {number} runs.", f"Ein Hund {number} läuft.") for number in range(12)]


def side_by_side(folder: Path, name: str = "train", pairs: list[tuple[str, str]] = PAIRS) -> Path:
    for side, language in enumerate(("en", "de")):
        with gzip.open(folder / f"{name}.{language}.gz", "wt", encoding="utf-8", newline="\n") as handle:
            handle.write("".join(pair[side] + "\n" for pair in pairs))
    return folder


def columns(folder: Path) -> Path:
    (folder / "train.tsv").write_text("".join(f"{one}\t{two}\tCC-BY\n" for one, two in PAIRS), encoding="utf-8")
    return folder


def records(folder: Path) -> Path:
    lines = (json.dumps({"source": one, "target": two}) for one, two in PAIRS)
    (folder / "train.jsonl").write_text("\n".join(lines), encoding="utf-8")
    return folder


def texts(corpus: Corpus) -> set[tuple[str, ...]]:
    return {parted(one.text) for part in ("train", "dev", "test") for one in corpus.part(part)}  # type: ignore[arg-type]


@pytest.mark.parametrize(("make", "sides"), [(side_by_side, "en-de"), (columns, ""), (records, "")])
def test_every_layout_gives_the_same_pairs(tmp_path: Path, make: object, sides: str) -> None:
    corpus = read(make(tmp_path), sides=sides)  # type: ignore[operator]
    assert corpus.kind == "pairs" and not corpus.bad
    assert texts(corpus) == set(PAIRS)


def test_the_other_way_round_and_by_named_fields(tmp_path: Path) -> None:
    turned = {(two, one) for one, two in PAIRS}
    assert texts(read(side_by_side(tmp_path), sides="de-en")) == turned
    (tmp_path / "rows").mkdir()
    (tmp_path / "rows" / "a.jsonl").write_text(
        "\n".join(json.dumps({"text": "x", "en": one, "de": two}) for one, two in PAIRS), encoding="utf-8"
    )
    assert texts(read(tmp_path / "rows", sides="de-en")) == turned
    (tmp_path / "columns").mkdir()
    assert texts(read(columns(tmp_path / "columns"), sides="2-1")) == turned


def test_splits_by_the_names_of_files(tmp_path: Path) -> None:
    for name, few in (("train", PAIRS), ("val", PAIRS[:2]), ("test_2016", PAIRS[:3])):
        side_by_side(tmp_path, name, few)
    corpus = read(tmp_path, sides="en-de")
    assert [len(part) for part in (corpus.train, corpus.dev, corpus.test)] == [12, 2, 3]


@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        ("\tleer", "its source is empty"),
        ("empty\t", "its target is empty"),
        ("same\tsame", "its target equals its source"),
        ("alone", "2 columns parted by tabs are needed, and it has 1"),
    ],
)
def test_lines_that_are_no_pairs_are_named(tmp_path: Path, lines: str, reason: str) -> None:
    path = columns(tmp_path) / "train.tsv"
    path.write_text(path.read_text(encoding="utf-8") + lines + "\n", encoding="utf-8")
    (bad,) = read(tmp_path).bad
    assert str(bad) == f"train.tsv:13: {reason}"


def test_sides_of_different_length_say_where_they_part(tmp_path: Path) -> None:
    side_by_side(tmp_path)
    with gzip.open(tmp_path / "train.de.gz", "at", encoding="utf-8") as handle:
        handle.write("Noch einer.\n")
    with pytest.raises(SightlineError, match=r"train\.de\.gz goes on at line 13, where train\.en\.gz has ended"):
        read(tmp_path, sides="en-de")


@pytest.mark.parametrize(
    ("sides", "words"),
    [("en", "are not two"), ("en-en", "are not two"), ("", "such as --sides de-en"), ("en-fr", "no file")],
)
def test_sides_that_are_none(tmp_path: Path, sides: str, words: str) -> None:
    with pytest.raises(SightlineError, match=words):
        read(side_by_side(tmp_path), sides=sides)


def test_too_few_pairs_to_split(tmp_path: Path) -> None:
    with pytest.raises(SightlineError, match="3 different pairs, too few"):
        read(side_by_side(tmp_path, pairs=PAIRS[:3]), sides="en-de")


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return train_tokenizer(["x"], "byte")


def held(folder: Path, tokenizer: Tokenizer, count: int, **more: int) -> Bins:
    generator = np.random.default_rng(0)
    pairs = ["a" * generator.integers(1, 9) + "\t" + "b" * generator.integers(1, 13) for _ in range(count)]
    documents = [Document(str(at), text) for at, text in enumerate(pairs)]
    return Bins(tokenized(documents, tokenizer, folder / "tokens", pairs=True, **more), 64, tokenizer)


def test_a_row_holds_whole_pairs_in_halves_of_one_size(tmp_path: Path, tokenizer: Tokenizer) -> None:
    bins = held(tmp_path, tokenizer, 200)
    rows = bins.rows(np.arange(bins.count), np.zeros(bins.count))
    assert rows.halves == bins.halves and sum(bins.halves) == 64
    marks = {name: rows.tokens == tokenizer.need(name) for name in ("bos", "sep", "eos")}  # type: ignore[arg-type]
    assert marks["bos"].sum() == marks["sep"].sum() == marks["eos"].sum() == 200
    spelled = tokenizer.need("sep")
    for row in range(bins.count):
        here = rows.documents[row] >= 0
        for number in range(int(rows.documents[row].max()) + 1):
            ids = rows.tokens[row][rows.documents[row] == number].tolist()
            assert (ids[0], ids[-1]) == (tokenizer.bos, tokenizer.eos) and ids.count(spelled) == 1
        sources = np.cumsum(marks["sep"][row]) == np.cumsum(marks["eos"][row])
        assert (sources & here).sum() <= bins.halves[0] + 1
        assert here.sum() <= 64
    assert sorted(set(rows.origins[rows.origins >= 0].tolist())) == list(range(200))
    assert (rows.documents >= 0).mean() > 0.8


def test_pairs_that_are_too_long_are_left_out_and_counted(tmp_path: Path, tokenizer: Tokenizer) -> None:
    documents = [Document("0", "a\tb"), Document("1", "a" * 90 + "\tb"), Document("2", "a\tbb")]
    file = tokenized(documents, tokenizer, tmp_path / "tokens", pairs=True)
    bins = Bins(file, 16, tokenizer)
    assert bins.left_out == 1
    rows = bins.rows(np.arange(bins.count), np.zeros(bins.count))
    assert set(rows.origins.ravel().tolist()) == {-1, 0, 2}
    with pytest.raises(SightlineError, match="no pair fits a row of 4"):
        Bins(file, 4, tokenizer)


def test_threads_and_processes_write_the_same(tmp_path: Path, tokenizer: Tokenizer) -> None:
    kept = [
        held(tmp_path / str(workers), tokenizer, 50, workers=workers).file.tokens[:].tolist() for workers in (0, 2, 5)
    ]
    assert kept[0] == kept[1] == kept[2] and WORTH
    text = held(tmp_path / "again", tokenizer, 50).file
    assert text.tokens[:4].tolist()[0] == tokenizer.bos


def test_tokens_of_pairs_are_not_those_of_texts(tmp_path: Path, tokenizer: Tokenizer) -> None:
    documents = [Document("0", "a\tb")]
    text = tokenized(documents, tokenizer, tmp_path / "tokens").tokens[:].tolist()
    pairs = tokenized(documents, tokenizer, tmp_path / "tokens", pairs=True).tokens[:].tolist()
    a, tab, b = tokenizer.encode("a\tb").tolist()
    assert text == [tokenizer.bos, a, tab, b, tokenizer.eos]
    assert pairs == [tokenizer.bos, a, tokenizer.sep, b, tokenizer.eos]


def test_tokens_are_learned_of_both_sides_alone(tmp_path: Path) -> None:
    from sightline.data import tokenizer_for

    made = tokenizer_for(read(side_by_side(tmp_path), sides="en-de"), "bpe:400")
    assert not any(b"\t" in piece and len(piece) > 1 for piece in made.pieces)
