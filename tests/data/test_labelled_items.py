"""Labelled items: every format the same items, one option for columns, sides cut by seed, mistakes told in one line."""

from __future__ import annotations

import csv
import gzip
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from sightline.data.examples import columns_read, read_examples
from sightline.errors import SightlineError

ITEMS = [(f"the {word} film", label) for word, label in zip("abcdefghij", "0101010101", strict=True)]


def written(folder: Path, name: str, items: list[tuple[str, str]] = ITEMS) -> Path:
    path = folder / name
    records = [{"sentence": text, "label": label} for text, label in items]
    if ".jsonl" in name:
        raw = "".join(json.dumps(one) + "\n" for one in records).encode()
    elif ".json" in name:
        raw = json.dumps(records).encode()
    elif ".tsv" in name:
        raw = "".join(f"{text}\t{label}\n" for text, label in items).encode()
    elif ".csv" in name:
        with open(path, "w", encoding="utf-8", newline="") as handle:
            csv.writer(handle).writerows([("label", "sentence"), *((label, text) for text, label in items)])
        return path
    else:
        pq.write_table(pa.Table.from_pylist(records), path)
        return path
    raw = gzip.compress(raw) if name.endswith(".gz") else raw
    path.write_bytes(zstandard.compress(raw) if name.endswith(".zst") else raw)
    return path


@pytest.mark.parametrize("ending", ["jsonl", "json", "tsv", "csv", "parquet", "jsonl.gz", "tsv.zst"])
def test_every_format_gives_the_same_items(tmp_path: Path, ending: str) -> None:
    for side in ("train", "validation", "test"):
        written(tmp_path, f"{side}.{ending}")
    found = read_examples(tmp_path)
    assert found.task == "classify" and found.labels == ("0", "1")
    assert [(one.text, one.label) for one in found.dev] == ITEMS
    assert all(found.shared) and "all 10 test items are in train too" in found.notes[-1]


def test_columns_by_name_by_number_and_pairs(tmp_path: Path) -> None:
    path = tmp_path / "train.tsv"
    path.write_text("".join(f"x\t{at % 2}\tone {at}\ttwo {at}\n" for at in range(20)), encoding="utf-8")
    found = read_examples(path, columns="text=3,pair=4,label=2")
    one = next(item for item in (*found.train, *found.dev, *found.test) if item.text == "one 3")
    assert (one.pair, one.label, one.where) == ("two 3", "1", "train.tsv line 4")
    assert (len(found.train), len(found.dev), len(found.test)) == (16, 2, 2)  # cut by seed, and said
    assert sum("drawn by seed 0" in note for note in found.notes) == 2
    assert read_examples(path, columns="text=3,pair=4,label=2") == found
    assert read_examples(path, columns="text=3,label=2", seed=1).train != found.train
    assert len(read_examples(path, columns="text=3,label=2", limit=5).train) == 5
    assert columns_read("text=a, label = 2") == {"text": "a", "label": "2"}


def test_numbers_are_told_from_classes(tmp_path: Path) -> None:
    path = written(tmp_path, "train.jsonl", [(f"text {at}", f"{at / 4}") for at in range(40)])
    assert read_examples(path).task == "regress" and not read_examples(path).labels
    with pytest.raises(SightlineError, match="'bad' is no number"):
        read_examples(written(tmp_path, "dev.jsonl", [("a", "1"), ("b", "bad")]), task="regress")


def test_words_and_tags(tmp_path: Path) -> None:
    line = "1\tDogs\tdog\tNOUN\tNNS\t_\t2\tnsubj\t_\t_\n"
    ranges = "# text = Dogs bark\n1-2\tDogsbark\t_\t_\t_\t_\t_\t_\t_\t_\n"
    (tmp_path / "train.conllu").write_text(
        f"{ranges}{line}2\tbark\tbark\tVERB\tVBP\t_\t0\troot\t_\t_\n\n" * 3, encoding="utf-8"
    )
    (tmp_path / "test.conllu").write_text(line + "\n", encoding="utf-8")
    (tmp_path / "dev.conllu").write_text(line, encoding="utf-8")
    found = read_examples(tmp_path)
    assert found.task == "tag" and found.labels == ("NOUN", "VERB")
    assert (found.train[0].words, found.train[0].tags) == (("Dogs", "bark"), ("NOUN", "VERB"))
    assert read_examples(tmp_path, columns="tags=5").labels == ("NNS", "VBP")
    bio = tmp_path / "bio"
    bio.mkdir()
    for side in ("train", "dev", "test"):
        (bio / f"{side}.txt").write_text("在 O\n京 B-LOC\n\n我 O\n", encoding="utf-8")
    assert [one.words for one in read_examples(bio).train] == [("在", "京"), ("我",)]
    (bio / "test.txt").write_text("在 O\n京 B-ORG\n", encoding="utf-8")
    with pytest.raises(SightlineError, match=r"test\.txt line 1: the label 'B-ORG' was not seen in training"):
        read_examples(bio)


def test_answers_nested_and_flat(tmp_path: Path) -> None:
    asked = {"id": "q", "question": "Who?", "answers": [{"text": "Ann", "answer_start": 0}]}
    nested = {"data": [{"paragraphs": [{"context": "Ann ran.", "qas": [asked]}]}]}
    flat = {"context": "Ann ran.", "question": "Who?", "answers": {"text": ["Ann"], "answer_start": [0]}}
    (tmp_path / "train.json").write_text(json.dumps(nested), encoding="utf-8")
    (tmp_path / "dev.jsonl").write_text(json.dumps(flat), encoding="utf-8")
    found = read_examples(tmp_path)
    assert found.task == "spans"
    assert [(one.text, one.pair, one.answers) for one in (*found.train, *found.dev)] == [
        ("Who?", "Ann ran.", (("Ann", 0),))
    ] * 2


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"columns": "text=sentence,label=lable"}, r"no column 'lable' for label \(there are: sentence, label\)"),
        ({"columns": "txt=sentence"}, "no column plays the role 'txt'"),
        ({"columns": "sentence"}, "not understood"),
        ({"named": {"dev": "none.jsonl"}}, r"--dev none\.jsonl is neither in"),
        ({"task": "tag"}, "no column 'words or tokens' for words"),
    ],
)
def test_mistakes_are_told_in_one_line(tmp_path: Path, options: dict[str, object], told: str) -> None:
    written(tmp_path, "train.jsonl")
    with pytest.raises(SightlineError, match=told):
        read_examples(tmp_path, **options)  # type: ignore[arg-type]


def test_labels_unseen_in_training_are_named(tmp_path: Path) -> None:
    written(tmp_path, "train.tsv")
    written(tmp_path, "test.tsv", [("a", "0"), ("b", "7")])
    with pytest.raises(SightlineError, match=r"test\.tsv line 2: the label '7' was not seen in training \(seen: 0, 1"):
        read_examples(tmp_path)


def test_an_overlap_is_counted(tmp_path: Path) -> None:
    written(tmp_path, "train.tsv")
    written(tmp_path, "test.tsv", [*ITEMS[:2], ("new", "1"), ("newer", "0")])
    found = read_examples(tmp_path)
    assert found.shared == (True, True, False, False)
    assert "2 of 4 test items (50.0%)" in found.notes[-1]
