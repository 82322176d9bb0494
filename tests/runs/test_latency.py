"""``sightline latency``: models of pairs and of texts, beside each other, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import sightline as sl
from sightline.cli import main

OPTIONS = (
    "--budget", "2steps", "--context", "48", "--batch", "4", "--tokenizer", "byte", "--validations", "1",
    "--threads", "1", "--device", "cpu", "--dtype", "float32",
)  # fmt: skip
QUICK = (
    "--part",
    "train",
    "--texts",
    "3",
    "--repeats",
    "1",
    "--largest",
    "2",
    "--length",
    "6",
    "--threads",
    "1",
    "--device",
    "cpu",
)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, page: str) -> Path:
    """Two runs of pairs, and one of texts."""
    folder = tmp_path_factory.mktemp("runs")
    words = ["dog", "cat", "man", "tree", "house", "sea"]
    rows = [f"a {one} and a {two}\tein {two} und ein {one}\n" for one in words for two in words]
    (folder / "pairs.tsv").write_text("".join(rows), encoding="utf-8")
    (folder / "page.txt").write_text(page[:3000], encoding="utf-8")
    for name, more in {"even": [], "deep": ["--setting", "encoder_layers=3", "decoder_layers=1"]}.items():
        assert main(["train", "seq2seq", str(folder / "pairs.tsv"), *OPTIONS, *more, "--out", str(folder / name)]) == 0
    assert main(["train", "causal", str(folder / "page.txt"), *OPTIONS, "--out", str(folder / "causal")]) == 0
    return folder


def test_several_stand_beside_the_first(runs: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    told = tmp_path / "told.json"
    capsys.readouterr()
    assert main(["latency", str(runs / "even"), str(runs / "deep"), *QUICK, "--json", str(told)]) == 0
    shown = capsys.readouterr().out
    assert "even" in shown and "deep" in shown and " x)" in shown and "S_max" in shown and "float32" in shown
    record = json.loads(told.read_text(encoding="utf-8"))
    assert [one["family"] for one in record["models"]] == ["seq2seq", "seq2seq"]
    assert record["texts"] == 3 and record["beams"] == 1
    for one in record["models"]:
        assert one["S_1"]["batch"] == 1 and one["S_max"]["batch"] in (1, 2)
        assert 0 < one["written"] <= 6 and one["S_1"]["tokens_per_second"] > 0


def test_texts_of_a_file_and_a_family_without_sources(runs: Path, tmp_path: Path) -> None:
    texts = tmp_path / "texts.txt"
    texts.write_text("A river\n\nThe old house\n", encoding="utf-8")
    options = {"part": "train", "texts": 9, "repeats": 1, "largest": 1, "threads": 1, "device": "cpu"}
    found = sl.latency(str(runs / "causal"), source_file=str(texts), length=4, **options)  # type: ignore[arg-type]
    assert found.texts == 2 and found.speeds[0].alone.tokens <= 8
    assert sl.latency(runs / "causal" / "model", length=4, **options).texts == 9  # type: ignore[arg-type]
    beams = sl.latency((runs / "deep",), source_file=str(texts), length=4, beams=2, **options)  # type: ignore[arg-type]
    assert "beam of 2" in str(beams)


def test_what_is_asked_wrongly_is_told(runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    empty = tmp_path / "empty.txt"
    empty.write_text("\n \n", encoding="utf-8")
    deep = str(runs / "deep")
    for words, message in (
        ([str(tmp_path / "none")], "does not exist"),
        ([deep, "--source-file", str(tmp_path / "none.en")], "does not exist"),
        ([deep, "--source-file", str(empty)], "no text to write for"),
        ([deep, "--texts", "0"], "0 texts measure nothing"),
        ([deep, "--beams", "0"], "measure nothing"),
    ):
        capsys.readouterr()
        assert main(["latency", *words]) == 2
        assert message in capsys.readouterr().err
    (runs / "pairs.tsv").rename(runs / "gone.tsv")
    assert main(["latency", deep]) == 2
    assert "is not there" in capsys.readouterr().err
    (runs / "gone.tsv").rename(runs / "pairs.tsv")
    alone = tmp_path / "alone"
    (runs / "deep" / "model").rename(alone)
    assert main(["latency", str(alone)]) == 2
    assert "--source-file" in capsys.readouterr().err
