"""A fine-tuned model asked about items of all kinds, with and without their right answers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import sightline as sl
from sightline.cli import main
from sightline.errors import SightlineError
from sightline.runs import shards

HOW = ("--threads", "1", "--device", "cpu")
QUICK: dict[str, Any] = {"threads": 1, "device": "cpu"}


@pytest.fixture(scope="module")
def masked(tmp_path_factory: pytest.TempPathFactory, page: str) -> Path:
    folder = tmp_path_factory.mktemp("masked")
    (folder / "page.txt").write_text(page, encoding="utf-8")
    words = ["train", "masked", str(folder / "page.txt"), "--budget", "2steps", "--context", "64", "--batch", "2"]
    words += ["--tokenizer", "byte", "--validations", "1", "--dtype", "float32", "--compile", "off", *HOW]
    assert main([*words, "--out", str(folder / "run")]) == 0
    return folder / "run"


@pytest.fixture(scope="module")
def letters(masked: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Texts of a's or of b's, and the folder in which their label was learned."""
    folder = tmp_path_factory.mktemp("letters")
    for side, count in (("train", 32), ("dev", 8), ("test", 12)):
        lines = [f"{'ab'[at % 2] * (3 + at % 7)} {side}{at}\t{('no', 'yes')[at % 2]}\n" for at in range(count)]
        (folder / f"{side}.tsv").write_text("".join(lines), encoding="utf-8")
    columns = {"columns": "text=1,label=2", "seeds": 2, "batch": 4, "rate": 2e-3}
    return folder, sl.finetune(masked, folder, epochs=8, out=folder / "out", **columns, **QUICK).folder


def test_the_answers_are_those_that_were_kept(
    letters: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, out = letters
    seed = json.loads((out / "task.json").read_text(encoding="utf-8"))["seed"]
    kept = [json.loads(line) for line in (out / f"seed-{seed}" / "predictions.jsonl").read_text("utf-8").splitlines()]
    monkeypatch.setattr(shards.in_shards, "__defaults__", (5,))
    told = sl.predict(out, (str(data / "test.tsv"),), columns="text=1,label=2", out=tmp_path / "a.jsonl", **QUICK)
    assert [one["predicted"] for one in told.predictions] == [one["predicted"] for one in kept]
    lines = (tmp_path / "a.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line) for line in lines] == list(told.predictions)
    assert {one.name: one.value for one in told.scores}["accuracy"] == sum(one["correct"] for one in kept) / 12
    bare = tmp_path / "bare.tsv"
    bare.write_text("".join(f"{line.split(chr(9))[0]}\n" for line in (data / "test.tsv").read_text().splitlines()))
    alone = sl.predict(out, (str(bare),), columns="text=1", **QUICK)
    assert [one["predicted"] for one in alone.predictions] == [one["predicted"] for one in kept] and not alone.scores


def test_texts_on_the_command_line(letters: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["predict", str(letters[1]), "aaaaaa train2", "bbbbbb train3", *HOW]) == 0
    first, second, *_ = capsys.readouterr().out.splitlines()
    assert first.startswith("no ") and first.endswith("aaaaaa train2") and second.startswith("yes ")


def test_stopped_between_shards_it_goes_on(
    letters: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, out = letters
    monkeypatch.setattr(shards.in_shards, "__defaults__", (5,))
    write, written = shards.write_json, []

    def stopping(path: Path, value: Any) -> None:
        if len(written) == 3:
            raise KeyboardInterrupt
        written.append(path.name)
        write(path, value)

    words = ["predict", str(out), str(data / "test.tsv"), "--columns", "text=1", *HOW, "--out", str(tmp_path / "a")]
    with monkeypatch.context() as patched:
        patched.setattr(shards, "write_json", stopping)
        assert main(words) == 130
    assert (tmp_path / ".a.shards" / "shard-000001.json").exists()
    assert main(words) == 0 and len((tmp_path / "a").read_text(encoding="utf-8").splitlines()) == 12
    assert not (tmp_path / ".a.shards").exists()


def test_numbers_tags_and_answers(masked: Path, tmp_path: Path) -> None:
    rows = [f"one {at},two {at},{at / 7:.3f}\n" for at in range(40)]
    (tmp_path / "pairs.csv").write_text("text,pair,score\n" + "".join(rows), encoding="utf-8")
    numbers = sl.finetune(masked, tmp_path / "pairs.csv", seeds=1, epochs=1, out=tmp_path / "numbers", **QUICK)
    (tmp_path / "new.csv").write_text("text,pair\none 3,two 3\none 9,two 9\n", encoding="utf-8")
    told = sl.predict(numbers.folder, (str(tmp_path / "new.csv"),), **QUICK)
    assert all(isinstance(one["predicted"], float) for one in told.predictions) and len(told.predictions) == 2
    sentence = "New B-LOC\nYork I-LOC\nran O\n\n"
    for side in ("train", "dev", "test"):
        (tmp_path / f"{side}.conll").write_text(sentence * 8, encoding="utf-8")
    tags = sl.finetune(masked, tmp_path, seeds=1, epochs=12, batch=2, rate=2e-3, out=tmp_path / "tags", **QUICK)
    (tmp_path / "new.txt").write_text("New York ran\n\nran\n", encoding="utf-8")
    told = sl.predict(tags.folder, (str(tmp_path / "new.txt"),), **QUICK)
    assert told.predictions[0]["predicted"] == ["B-LOC", "I-LOC", "O"]
    assert [len(one["predicted"]) for one in told.predictions] == [3, 1]
    again = sl.predict(tags.folder, (str(tmp_path / "test.conll"),), **QUICK)
    assert [one.name for one in again.scores] == ["span_f1", "accuracy"]
    answers = {"text": ["Ann"], "answer_start": [11]}
    item = {"context": "written by Ann", "question": "Who?", "answers": answers}
    (tmp_path / "spans.json").write_text(json.dumps([item] * 40), encoding="utf-8")
    spans = sl.finetune(masked, tmp_path / "spans.json", seeds=1, epochs=2, out=tmp_path / "spans", **QUICK)
    told = sl.predict(spans.folder, ("Who?", "written by Ann"), **QUICK)
    assert told.predictions[0]["predicted"] in "written by Ann" and not told.scores


@pytest.mark.parametrize(
    ("items", "error"),
    [(("a", " "), "an empty text"), ((".",), "is a folder"), (("none.conllu",), "none.conllu does not exist")],
)
def test_what_cannot_be_asked(items: tuple[str, ...], error: str, letters: tuple[Path, Path]) -> None:
    with pytest.raises(SightlineError, match=error):
        sl.predict(letters[1], items, **QUICK)


def test_a_file_that_is_not_utf_8(letters: tuple[Path, Path], tmp_path: Path) -> None:
    (tmp_path / "new.txt").write_bytes(b"aaa\nb\xff\n")
    with pytest.raises(SightlineError, match=r"is not UTF-8 \(byte 5\)"):
        sl.predict(letters[1], (str(tmp_path / "new.txt"),), **QUICK)


def test_a_folder_that_was_not_fine_tuned(masked: Path) -> None:
    with pytest.raises(SightlineError, match=r"is not of sightline finetune: it has no task.json"):
        sl.predict(masked, ("a",), **QUICK)


def test_labels_that_training_never_saw(
    letters: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "new.tsv").write_text("aaa\tmaybe\n", encoding="utf-8")
    told = sl.predict(letters[1], (str(tmp_path / "new.tsv"),), columns="text=1,label=2", **QUICK)
    assert not told.scores and "'maybe' is no label of training" in capsys.readouterr().err
