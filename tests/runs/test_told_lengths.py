"""Targets written at once, end to end through the command line: trained, stopped, continued, scored, seen, compared."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sightline import hub
from sightline.cli import main

OPTIONS = (
    "--budget", "6steps", "--context", "48", "--batch", "2", "--tokenizer", "byte", "--validations", "2",
    "--threads", "1", "--device", "cpu", "--dtype", "float32",
)  # fmt: skip
WEIGHTS = Path("model", "model.safetensors")
HERE = ("--device", "cpu", "--threads", "1")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pairs")
    numbers = ["nought", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
    for part, first, last in (("train", 0, 80), ("dev", 80, 90), ("test", 90, 100)):
        pairs = (f"{numbers[at // 10]} {numbers[at % 10]}\t{at % 10}{at // 10}\n" for at in range(first, last))
        (folder / f"{part}.tsv").write_text("".join(pairs), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def finished(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("trained")
    for family in ("nar", "cmlm"):
        assert main(["train", family, str(corpus), *OPTIONS, "--out", str(folder / family)]) == 0
    return {path.name: path for path in folder.iterdir()}


def test_stopped_in_the_middle_it_ends_the_same(
    corpus: Path, finished: dict[str, Path], tmp_path: Path, interrupted: Any
) -> None:
    words = ["train", "cmlm", str(corpus), *OPTIONS, "--out", str(tmp_path / "run")]
    with interrupted(4):
        assert main(words) == 130
    assert main(words) == 0
    assert (tmp_path / "run" / WEIGHTS).read_bytes() == (finished["cmlm"] / WEIGHTS).read_bytes()


@pytest.mark.parametrize("family", ["nar", "cmlm"])
def test_its_score_is_of_one_pass(family: str, finished: dict[str, Path]) -> None:
    record = json.loads((finished[family] / "results.json").read_text(encoding="utf-8"))
    scores = {one["name"]: one for one in record["scores"]}
    assert scores["bits_per_byte"]["value"] is None
    continued = scores["continuation_bits_per_byte"]
    assert continued["class"] == "nar" and continued["value"] > 0
    assert "all of the target in one pass, times the probability of its length" in continued["note"]
    assert hub.load(finished[family]).lengths is not None


@pytest.mark.parametrize("family", ["nar", "cmlm"])
def test_every_verb(
    family: str, finished: dict[str, Path], corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = str(finished[family])
    words = ["translate", folder, str(corpus), "--iterations", "4", "--candidates", "3", *HERE]
    assert main([*words, "--json", str(tmp_path / "told.json")]) == 0
    told = json.loads((tmp_path / "told.json").read_text(encoding="utf-8"))
    assert len(told["texts"]) == 10 and [score["name"] for score in told["scores"]] == ["BLEU", "chrF"]
    way = "all places at once" if family == "nar" else "refinement in 4 rounds"
    assert told["how"] == f"{way}, the likeliest token, 3 lengths"
    assert main(["generate", folder, "one two", *HERE]) == 0
    capsys.readouterr()
    assert main(["fill", folder, "one ___", *HERE]) == 2
    assert "writes targets of sources, and fills no blanks" in capsys.readouterr().err
    assert main(["see", folder, "--text", "one\t1", "--json", str(tmp_path / "seen.json"), "--threads", "1"]) == 0
    seen = json.loads((tmp_path / "seen.json").read_text(encoding="utf-8"))
    assert seen["declared_matrix"] == seen["measured_matrix"] and seen["leaks"] == []
    assert np.array(seen["measured_matrix"]).astype(int).tolist() == [[1] * 5 + [0] * 2] * 5 + [[1] * 7] * 2


def test_one_goes_on_from_the_other_and_from_no_seq2seq(
    corpus: Path, finished: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["train", "nar", str(corpus), *OPTIONS, "--from"]
    assert main([*words, str(finished["cmlm"]), "--out", str(tmp_path / "nar")]) == 0
    assert f"next: sightline translate {tmp_path / 'nar' / 'model'} {corpus}" in capsys.readouterr().out
    assert main(["train", "seq2seq", str(corpus), *OPTIONS, "--out", str(tmp_path / "seq2seq")]) == 0
    capsys.readouterr()
    assert main([*words, str(tmp_path / "seq2seq"), "--out", str(tmp_path / "no")]) == 2
    assert "tells hidden places apart by where they stand" in capsys.readouterr().err


def test_they_are_compared(corpus: Path, tmp_path: Path) -> None:
    words = [
        "compare", str(corpus), "--families", "nar,cmlm", "--budget", "4steps", "--context", "48", "--batch", "2",
        "--tokenizer", "byte", *HERE, "--dtype", "float32", "--out", str(tmp_path / "run"),
    ]  # fmt: skip
    assert main(words) == 0
    told = json.loads((tmp_path / "run" / "results.json").read_text(encoding="utf-8"))
    assert {one["family"] for one in told["families"]} == {"nar", "cmlm"}
