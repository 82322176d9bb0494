"""Pairs, end to end through the command line: trained, stopped and continued, translated, scored, seen."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import sightline as sl
from sightline.cli import main
from sightline.errors import SightlineError
from sightline.report.recommendation import recommend
from sightline.runs import shards
from sightline.runs.shards import in_shards

OPTIONS = (
    "--budget", "6steps", "--context", "64", "--batch", "4", "--tokenizer", "byte", "--validations", "3",
    "--averaged", "2", "--threads", "1", "--device", "cpu", "--dtype", "float32",
)  # fmt: skip
WEIGHTS = Path("model", "model.safetensors")
NUMBERS = {"one": "eins", "two": "zwei", "three": "drei", "four": "vier", "five": "fünf", "six": "sechs"}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pairs") / "numbers.tsv"
    words = list(NUMBERS.items())
    lines = [f"{a} {b}\t{x} {y}\n" for a, x in words for b, y in words]
    path.write_text("".join(lines), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def finished(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained") / "run"
    words = ["--setting", "encoder_layers=3", "decoder_layers=1", "--dropout", "0.1"]
    assert main(["train", "seq2seq", str(corpus), *OPTIONS, *words, "--out", str(folder)]) == 0
    return folder


def test_stopped_in_the_middle_it_ends_the_same(corpus: Path, finished: Path, tmp_path: Path, interrupted: Any) -> None:
    words = [
        "train", "seq2seq", str(corpus), *OPTIONS, "--setting", "encoder_layers=3", "decoder_layers=1",
        "--dropout", "0.1", "--out", str(tmp_path / "run"),
    ]  # fmt: skip
    with interrupted(4):
        assert main(words) == 130
    assert main(words) == 0
    assert (tmp_path / "run" / WEIGHTS).read_bytes() == (finished / WEIGHTS).read_bytes()


def test_a_run_tells_what_targets_cost(finished: Path) -> None:
    scores = {one["name"]: one for one in json.loads((finished / "results.json").read_text(encoding="utf-8"))["scores"]}
    assert scores["continuation_bits_per_byte"]["class"] == "exact"
    assert scores["continuation_bits_per_byte"]["value"] > 0
    assert scores["bits_per_byte"]["value"] is None


def test_targets_of_texts_files_and_corpora(
    corpus: Path, finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one = sl.translate(finished, ("one two", "six"), beams=2, device="cpu")
    assert len(one.texts) == 2 and "beam of 2" in one.how and not one.scores
    lines = tmp_path / "lines.en"
    lines.write_text("one two\n\nsix\n", encoding="utf-8")
    assert main(["translate", str(finished), str(lines), "--beams", "2", "--out", str(tmp_path / "lines.de")]) == 0
    written = (tmp_path / "lines.de").read_text(encoding="utf-8").split("\n")
    assert written == [one.texts[0], "", one.texts[1], ""]  # an empty line stays one
    capsys.readouterr()
    assert main(["translate", str(finished), str(corpus), "--beams", "1", "--json", str(tmp_path / "all.json")]) == 0
    assert "nrefs:1" in capsys.readouterr().out
    record = json.loads((tmp_path / "all.json").read_text(encoding="utf-8"))
    assert [score["name"] for score in record["scores"]] == ["BLEU", "chrF"]
    assert len(record["texts"]) == len(record["sources"])


def test_a_batch_writes_what_each_line_writes_alone(finished: Path) -> None:
    sources = [*[f"{a} {b}" for a in NUMBERS for b in NUMBERS][:12], "six"]
    together = sl.translate(finished, sources, beams=3, device="cpu").texts
    assert list(together) == [sl.translate(finished, source, beams=3, device="cpu").texts[0] for source in sources]
    assert together == sl.translate(finished, sources, beams=3, slots=64, device="cpu").texts


def test_a_drafter_changes_nothing_but_the_rounds(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sources = tuple(f"{a} {b}" for a in NUMBERS for b in NUMBERS)[:6]
    alone = sl.translate(finished, sources, beams=1, device="cpu")
    assert alone.accepted is None
    for drafter in ("lookup", str(finished)):
        drafted = sl.translate(finished, sources, drafter=drafter, device="cpu")
        assert drafted.texts == alone.texts
        assert drafted.accepted is not None and drafted.accepted >= 1
        assert "mean accepted length" in str(drafted)
    assert drafted.accepted > 2  # the model itself is always right
    assert main(["translate", str(finished), "one", "--drafter", "lookup", "--beams", "2"]) == 2
    assert "leave beams" in capsys.readouterr().err


def test_every_other_verb(finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["generate", str(finished), "one two", "--length", "5"]) == 0
    assert main(["embed", str(finished), "one two", "--out", str(tmp_path / "one.npy")]) == 0
    capsys.readouterr()
    assert main(["see", str(finished), "--text", "one two", "--json", str(tmp_path / "seen.json")]) == 0
    seen = json.loads((tmp_path / "seen.json").read_text(encoding="utf-8"))
    assert seen["declared"] == seen["measured"] and seen["leaks"] == []


def test_families_of_pairs_and_of_texts_are_compared_on_pairs(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [
        "compare", str(corpus), "--families", "seq2seq,causal,prefix,cmlm,bang,masked", "--budget", "4steps",
        "--context", "64", "--batch", "4", "--tokenizer", "byte", "--threads", "1", "--device", "cpu",
        "--dtype", "float32", "--out", str(tmp_path / "run"),
    ]  # fmt: skip
    assert main(words) == 0
    told = json.loads((tmp_path / "run" / "results.json").read_text(encoding="utf-8"))
    for family in told["families"]:
        scores = {one["name"]: one for one in family["scores"]}
        assert scores["bits_per_byte"]["value"] is None  # of a pair only the target is asked
        assert (scores["continuation_bits_per_byte"]["value"] is None) == (family["family"] == "masked")
        assert (scores["chrf"]["value"] is None) == (family["family"] == "masked")
    classes = {one["family"]: one["score_class"] for one in told["families"]}
    assert classes["cmlm"] == "nar" and classes["seq2seq"] == classes["bang"] == "exact"
    said = " ".join(recommend(told))
    assert "To write the target of a source" in said and "continue a text" not in said
    assert (tmp_path / "run" / "report.html").exists()


def test_long_work_goes_on_where_it_stopped(tmp_path: Path) -> None:
    texts, done = [str(number) for number in range(10)], []

    def work(part: Any) -> list[str]:
        if len(done) == 2:
            raise KeyboardInterrupt
        done.append(list(part))
        return [text * 2 for text in part]

    with pytest.raises(KeyboardInterrupt):
        list(in_shards(texts, tmp_path / "shards", "mark", work, each=4))
    assert len(done) == 2
    again: list[list[str]] = []

    def rest(part: Any) -> list[str]:
        again.append(list(part))
        return [text * 2 for text in part]

    assert list(in_shards(texts, tmp_path / "shards", "mark", rest, each=4)) == [text * 2 for text in texts]
    assert again == [["8", "9"]]
    with pytest.raises(SightlineError, match="begun with another model"):
        list(in_shards(texts, tmp_path / "shards", "other", rest, each=4))
    shards.forget(tmp_path / "shards")
    assert not (tmp_path / "shards").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([" "], "every source is empty"),
        (["one " * 40], "exceeds the model's context"),
        (["one", "--length", "-1"], "writes nothing"),
        (["one", "--beams", "-1"], "holds nothing"),
    ],
)
def test_bad_input(words: list[str], message: str, finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["translate", str(finished), *words, "--device", "cpu"]) == 2
    assert message in capsys.readouterr().err


def test_families_of_pairs_want_pairs_and_others_must_have_learned_them(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], page: str
) -> None:
    text = tmp_path / "page.txt"
    text.write_text(page[:3000], encoding="utf-8")
    assert main(["train", "seq2seq", str(text), *OPTIONS, "--out", str(tmp_path / "no")]) == 2
    assert "seq2seq reads pairs, and this is a text" in capsys.readouterr().err
    assert main(["train", "causal", str(corpus), *OPTIONS, "--out", str(tmp_path / "causal")]) == 0
    assert "next: sightline translate" in capsys.readouterr().out
    assert main(["translate", str(tmp_path / "causal"), "one"]) == 0  # behind the source
    for family, data in (("causal", text), ("masked", corpus)):  # texts alone; pairs, but no way to go on
        out = tmp_path / f"{family}-of-{data.stem}"
        assert main(["train", family, str(data), *OPTIONS, "--out", str(out)]) == 0
        capsys.readouterr()
        assert main(["translate", str(out), "one"]) == 2
        assert f"{family} was not trained on pairs, or writes no target" in capsys.readouterr().err
