"""compare, end to end through the command line, on a corpus of a few dozen paragraphs."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import tomllib
from pathlib import Path
from typing import Any

import pytest

from sightline.cli import main
from sightline.files import file_fingerprint
from sightline.runs import ground, measure

OPTIONS = (
    "--budget", "6steps", "--context", "32", "--batch", "4", "--tokenizer", "byte", "--label", "topic",
    "--threads", "1", "--device", "cpu", "--dtype", "float32",
)  # fmt: skip
TOP = {"schema", "corpus", "budget", "versions", "machine", "command", "families"}
RECORD = {
    "family", "parameters", "tokens_seen", "slots_seen", "seconds", "flops", "tokens_per_second", "scores", "samples",
    "seeds",
}  # fmt: skip
SCORE = {"name", "value", "unit", "class", "column", "low", "high", "n"}


def written(folder: Path, page: str) -> Path:
    """Paragraphs of two topics as train, dev and test."""
    folder.mkdir(exist_ok=True)
    words = page.split()
    for split, count in (("train", 40), ("valid", 6), ("test", 6)):
        first = {"train": 0, "valid": 1200, "test": 1400}[split]
        rows = []
        for number in range(count):
            piece = " ".join(words[first + 22 * number : first + 22 * number + 22])
            topic = "loud" if number % 2 else "quiet"
            rows.append(json.dumps({"text": piece.upper() if number % 2 else piece, "topic": topic}))
        (folder / f"{split}.jsonl").write_text("\n".join(rows) + "\n", encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory, page: str) -> Path:
    return written(tmp_path_factory.mktemp("text") / "corpus", page)


@pytest.fixture(scope="module")
def finished(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A comparison of two families; tests that change it take a copy."""
    folder = tmp_path_factory.mktemp("compared") / "two"
    beside = folder.parent / "two.json"
    words = ["compare", str(corpus), "--families", "causal,masked", *OPTIONS, "--out", str(folder)]
    assert main([*words, "--json", str(beside)]) == 0
    return folder


@pytest.fixture
def copied(finished: Path, tmp_path: Path) -> Path:
    shutil.copytree(finished, tmp_path / "copy")
    return tmp_path / "copy"


def results_of(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    return found


def contents(folder: Path) -> dict[str, str]:
    """Fingerprints of all files but the lock."""
    files = [path for path in folder.rglob("*") if path.is_file() and path.name != ".lock"]
    return {str(path.relative_to(folder)): file_fingerprint(path) for path in files}


def line_of(capsys: pytest.CaptureFixture[str]) -> str:
    """The one line that an error is."""
    shown = capsys.readouterr()
    lines = [line for line in shown.err.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1, shown.err
    assert shown.err.splitlines()[-1] == lines[0]
    assert shown.out == ""
    return lines[0]


# -- what it writes


def test_results_hold_what_is_promised(finished: Path) -> None:
    results = results_of(finished)
    assert results["schema"] == 1
    assert set(results) >= TOP
    assert [record["family"] for record in results["families"]] == ["causal", "masked"]
    for record in results["families"]:
        assert set(record) >= RECORD
        assert record["parameters"] == 787_840
        assert 700 < record["tokens_seen"] <= 6 * 4 * 32  # the last row of the text is not full
        assert record["flops"] > 0
        assert record["scores"][0]["name"] == "bits_per_byte"
        for score in record["scores"]:
            assert set(score) >= SCORE
            if score["value"] is not None:
                assert score["n"] > 0
                assert score["low"] <= score["value"] <= score["high"]
        assert [one["seed"] for one in record["seeds"]] == [0]
        assert record["samples"]
    assert results["command"].startswith(f"sightline compare {results['command'].split()[2]} --families causal,masked")
    assert "--label topic" in results["command"]


def test_json_is_the_same_and_the_path_is_told(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert results_of(finished) == json.loads((finished.parent / "two.json").read_text(encoding="utf-8"))


def test_a_pseudo_score_never_stands_in_an_exact_column(finished: Path) -> None:
    results = results_of(finished)
    causal, masked = results["families"]
    likelihood = masked["scores"][0]
    assert (likelihood["class"], likelihood["column"]) == ("pseudo", "infilling")
    assert (causal["scores"][0]["class"], causal["scores"][0]["column"]) == ("exact", "whole text")
    for score in masked["scores"]:
        if score["value"] is not None:
            assert score["column"] not in ("whole text", "continuation") or score["class"] != "exact"
    assert not [one for one in results["comparisons"] if one["score"] == "bits_per_byte"]


def test_a_bound_is_told_as_one_with_its_error(corpus: Path, copied: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Beside an exact score it stands in the same column, with its sign, and no difference is claimed from it."""
    words = ["compare", str(corpus), "--families", "diffusion,block_diffusion,hybrid", *OPTIONS, "--out", str(copied)]
    assert main(words) == 0
    results = results_of(copied)
    by_name = {record["family"]: record for record in results["families"]}
    for name in ("diffusion", "block_diffusion"):
        for score in by_name[name]["scores"][:2]:
            assert (score["class"], score["column"]) in (("bound", "whole text"), ("bound", "continuation"))
            assert float(re.search(r"Monte Carlo error (\d\.\d+)", score["note"])[1]) > 0  # type: ignore[index]
    assert by_name["hybrid"]["scores"][0]["class"] == "exact"
    pairs = {frozenset((one["a"], one["b"])) for one in results["comparisons"] if one["score"] == "bits_per_byte"}
    assert frozenset(("causal", "diffusion")) not in pairs
    assert frozenset(("causal", "hybrid")) in pairs
    assert frozenset(("diffusion", "block_diffusion")) in pairs
    assert "<= " in capsys.readouterr().out
    assert "&lt;= " in (copied / "report.html").read_text(encoding="utf-8")


def test_labels_are_probed(finished: Path) -> None:
    for record in results_of(finished)["families"]:
        probe = next(score for score in record["scores"] if "understanding" in score["name"])
        assert 0 <= probe["value"] <= 1, probe


def test_the_report_stands_alone(finished: Path) -> None:
    text = (finished / "report.html").read_text(encoding="utf-8")
    assert not re.findall(r"""(?:src|href|action)\s*=\s*["'](?!#|data:)[^"']+""", text)
    assert not re.findall(r"@import|url\(\s*['\"]?(?!#|data:)\w", text)
    addresses = set(re.findall(r"https?://[^\s\"'<)]+", text))
    assert all(address.startswith("http://www.w3.org/") for address in addresses), addresses  # names, never fetched
    assert "causal" in text
    assert "<svg" in text


# -- extending


def test_more_families_and_seeds_extend_it(corpus: Path, copied: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in copied.glob("*/seed-0/**/*") if path.is_file()}
    first = results_of(copied)
    words = ["compare", str(corpus), "--families", "prefix", *OPTIONS, "--seeds", "2", "--out", str(copied)]
    assert main(words) == 0
    assert {path: path.stat().st_mtime_ns for path in before} == before, "a finished run was touched"
    results = results_of(copied)
    assert [record["family"] for record in results["families"]] == ["causal", "masked", "prefix"]
    for record in results["families"]:
        assert [one["seed"] for one in record["seeds"]] == [0, 1]
        both = [one["scores"][0]["value"] for one in record["seeds"]]
        assert both[0] != both[1]
        joint = record["scores"][0]
        assert joint["value"] == pytest.approx(sum(both) / 2, rel=1e-6)
        assert joint["low"] < joint["value"] < joint["high"]
    assert results["families"][0]["seeds"][0]["scores"] == first["families"][0]["seeds"][0]["scores"]
    compared = {(one["a"], one["b"]) for one in results["comparisons"] if one["score"] == "bits_per_byte"}
    assert compared == {("causal", "prefix")}


def test_a_judge_stands_in_no_column_of_bits(corpus: Path, copied: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """ELECTRA is compared by what a probe reads off it; nothing else is claimed, and why is said."""
    words = ["compare", str(corpus), "--families", "electra", *OPTIONS, "--out", str(copied)]
    assert main(words) == 0
    results = results_of(copied)
    record = results["families"][-1]
    scores = {score["name"]: score for score in record["scores"]}
    assert scores["understanding_accuracy"]["value"] is not None
    for name, why in (
        ("bits_per_byte", "electra gives no probability of tokens"),
        ("continuation_bits_per_byte", "electra gives no likelihood of a continuation"),
        ("chrf", "electra writes nothing"),
    ):
        assert scores[name]["value"] is None and scores[name]["note"] == why
    assert scores["bits_per_byte"]["class"] == "discriminative"
    assert record["samples"] == []
    assert {one["score"] for one in results["comparisons"] if "electra" in (one["a"], one["b"])} == {
        "understanding_accuracy"
    }
    assert "Electra is not ranked" not in capsys.readouterr().out
    text = (copied / "report.html").read_text(encoding="utf-8")
    assert "No likelihood and no curve of losses: electra" in text
    assert "electra gives no probability of tokens" in text


def test_fewer_families_lose_nothing(corpus: Path, copied: Path) -> None:
    first = results_of(copied)
    assert main(["compare", str(corpus), "--families", "masked", *OPTIONS, "--out", str(copied)]) == 0
    assert results_of(copied)["families"] == first["families"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--budget", "7steps"], "budget ('6steps' there, '7steps' now)"),
        (["--size", "mini"], "size ('tiny' there, 'mini' now)"),
        (["--context", "64"], "context (32 there, 64 now)"),
        (["--batch", "8"], "batch (4 there, 8 now)"),
        (["--seed", "5"], "seed (0 there, 5 now)"),
        (["--rate", "2"], "rate (0.0 there, 2.0 now)"),
        (["--dtype", "bfloat16"], "dtype"),
        (["--tokenizer", "char"], "is not the text"),
        (["--label", ""], "is not the text"),
        (["--documents", "lines"], "is not the text"),
    ],
)
def test_another_comparison_is_refused(
    corpus: Path, finished: Path, words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = contents(finished)
    assert main(["compare", str(corpus), "--families", "causal", *OPTIONS, *words, "--out", str(finished)]) == 2
    line = line_of(capsys)
    assert message in line
    assert "another --out" in line
    assert contents(finished) == before


def test_another_corpus_is_refused(
    corpus: Path, finished: Path, tmp_path: Path, page: str, capsys: pytest.CaptureFixture[str]
) -> None:
    other = written(tmp_path / "corpus", page.replace("the", "teh"))
    before = contents(finished)
    assert main(["compare", str(other), "--families", "causal", *OPTIONS, "--out", str(finished)]) == 2
    assert "is not the text" in line_of(capsys)
    assert contents(finished) == before


def test_the_same_text_elsewhere_is_the_same(corpus: Path, copied: Path, tmp_path: Path) -> None:
    moved = shutil.copytree(corpus, tmp_path / "moved" / "corpus")
    assert main(["compare", str(moved), "--families", "causal", *OPTIONS, "--out", str(copied)]) == 0


# -- stopping


def test_stopped_while_training_it_goes_on(
    corpus: Path, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    plain = ground.Ground.rows_of

    def stopping(self: Any, packed: Any, batch: int, seed: int) -> Any:
        rows_of = plain(self, packed, batch, seed)

        def rows(step: int) -> Any:
            if step == 4 and (tmp_path / "out" / "masked").exists():
                os.kill(os.getpid(), signal.SIGINT)
            return rows_of(step)

        return rows

    out = tmp_path / "out"
    words = ["compare", str(corpus), "--families", "causal,masked", *OPTIONS, "--out", str(out)]
    with monkeypatch.context() as patched:
        patched.setattr(ground.Ground, "rows_of", stopping)
        assert main(words) == 130
    told = capsys.readouterr().err
    assert "Stopped after step 5 of 6, saved. To continue, give the same command again" in told
    assert not (out / "results.json").exists()
    assert (out / "causal" / "seed-0" / "results.json").exists()
    assert main(words) == 0
    same = ("scores", "tokens_seen", "slots_seen")
    broken, whole = results_of(out)["families"], results_of(finished)["families"]
    assert [[one[key] for key in same] for one in broken] == [[one[key] for key in same] for one in whole]


def test_stopped_while_measuring_it_says_how_to_go_on(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(measure.Examination, "sat_by", stop)
    out = tmp_path / "out"
    assert main(["compare", str(corpus), "--families", "ngram", *OPTIONS, "--out", str(out)]) == 130
    assert "give the same command again" in capsys.readouterr().err


# -- recipes


def test_a_recipe_is_printed_and_nothing_is_made(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    words = ["compare", str(corpus), "--families", "causal,masked", "--seeds", "3", *OPTIONS, "--out", str(out)]
    assert main([*words, "--print-recipe"]) == 0
    recipe = tomllib.loads(capsys.readouterr().out)
    assert (recipe["families"], recipe["seeds"], recipe["context"]) == (["causal", "masked"], 3, 32)
    assert not out.exists()


def test_a_saved_recipe_gives_the_same_numbers(corpus: Path, finished: Path, tmp_path: Path) -> None:
    out = tmp_path / "again"
    assert main(["compare", "--recipe", str(finished / "recipe.toml"), "--out", str(out)]) == 0
    again, first = results_of(out), results_of(finished)
    assert [one["scores"] for one in again["families"]] == [one["scores"] for one in first["families"]]
    weights = Path("causal", "seed-0", "model", "model.safetensors")
    assert (out / weights).read_bytes() == (finished / weights).read_bytes()


def test_a_recipe_takes_no_options_that_change_it(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["compare", "--recipe", str(finished / "recipe.toml"), "--out", str(tmp_path / "out")]
    assert main([*words, "--budget", "9steps"]) == 2
    assert "budget = '9steps' cannot be given beside --recipe" in line_of(capsys)
    run = finished / "causal" / "seed-0" / "recipe.toml"
    assert main(["compare", "--recipe", str(run), "--out", str(tmp_path / "out")]) == 2
    assert "sightline train" in line_of(capsys)
    assert not (tmp_path / "out").exists()


# -- what makes no sense


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--families", "causal,bert"], "there is no family 'bert'"),
        (["--families", ","], "no family"),
        (["--size", "huge"], "there is no size 'huge'"),
        (["--budget", "ten minutes"], "the budget 'ten minutes' cannot be read"),
        (["--budget", "0s"], "buys nothing"),
        (["--seeds", "0"], "0 seeds are no runs"),
        (["--context", "8"], "too short"),
        (["--batch", "-1"], "a batch of -1"),
        (["--rate", "-2"], "a rate of -2.0"),
    ],
)
def test_bad_options(
    corpus: Path, words: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert main(["compare", str(corpus), *OPTIONS, *words, "--out", str(out)]) == 2
    assert message in line_of(capsys)
    assert not out.exists()
