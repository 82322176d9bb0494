"""Benchmarks, end to end through the command line: asked, stopped and continued, kept, and refused where senseless."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import sightline as sl
from sightline import hub
from sightline.cli import main
from sightline.data import train_tokenizer
from sightline.errors import SightlineError
from sightline.evaluation import answers
from sightline.objectives.base import Objective
from sightline.objectives.causal import Causal
from sightline.objectives.diffusion import Diffusion
from sightline.objectives.electra import Electra
from sightline.objectives.masked import Masked
from sightline.objectives.model import built
from sightline.stacks.shape import Shape

OPTIONS = ("--device", "cpu", "--threads", "1")
FAMILIES: dict[str, type[Objective]] = {
    "causal": Causal, "masked": Masked, "diffusion": Diffusion, "electra": Electra,
}  # fmt: skip


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    tokenizer = train_tokenizer(["the cat sits on the red mat and sings. "] * 30, "byte")
    shape = Shape(layers=2, width=32, heads=2, vocabulary=tokenizer.padded, context=128)
    folder = tmp_path_factory.mktemp("models")
    for name, kind in FAMILIES.items():
        hub.save(built(kind(tokenizer.vocabulary), shape, tokenizer, seed=1), folder / name)
    return {name: folder / name for name in FAMILIES}


def lines(path: Path, *rows: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
    return path


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("suite")
    nouns = ["cat", "dog", "bird", "house", "stone", "river"]
    pairs = [
        {"sentence_good": f"the {one} sits on a {two}", "sentence_bad": f"{one} the on a sits {two}",
         "UID": one, "pairID": two} for one in nouns for two in nouns
    ]  # fmt: skip
    lines(folder / "pairs.jsonl", *pairs)
    lines(folder / "choices.jsonl", *({"query": f"the {one}", "choices": ["sits", "it"], "gold": 0} for one in nouns))
    lines(folder / "words.jsonl", *({"context": f"the {one} sits on the", "continuation": "mat"} for one in nouns))
    sums = [{"question": f"{n} and {n}?", "answer": f"#### {2 * n}"} for n in range(6)]
    lines(folder / "sums" / "test.jsonl", *sums[:3])
    lines(folder / "sums" / "train.jsonl", *sums[3:])
    (folder / "story.txt").write_text("the cat sits on the red mat. " * 20, encoding="utf-8")
    return folder


def test_every_kind_of_task_at_once(models: dict[str, Path], suite: Path, tmp_path: Path) -> None:
    found = sl.evaluate(models["causal"], suite, out=tmp_path / "all", length=8, device="cpu")
    assert list(found.tasks) == ["choices", "pairs", "story", "sums", "words"]
    assert len(found.tasks["pairs"].top) == 36 and len(found.outcomes["pairs"].groups) == 6
    results = json.loads((tmp_path / "all" / "results.json").read_text(encoding="utf-8"))
    assert results["dtype"] == "float32" and results["class"] == "exact"
    choices = results["tasks"]["choices"]
    assert [score["name"] for score in choices["scores"]] == ["accuracy", "accuracy_per_byte"]
    assert choices["scores"][0]["low"] is not None and choices["scores"][0]["n"] == 6
    assert choices["item"]["prompt"] == "the cat" and choices["item"]["choices"] == [" sits", " it"]
    assert "log p(continuation | context)" in choices["item"]["rule"] and "<s>" in choices["item"]["rule"]
    words = [score["name"] for score in results["tasks"]["words"]["scores"]]
    assert words == ["accuracy", "perplexity"]
    assert [score["name"] for score in results["tasks"]["story"]["scores"]] == ["bits_per_byte", "perplexity"]
    records = read(tmp_path / "all" / "items" / "pairs.jsonl")
    assert len(records) == 36
    assert records[0].keys() == {"item", "group", "gold", "predicted", "correct", "scores"}
    assert sum(one["correct"] for one in records) == found.tasks["pairs"].top.sum()
    told = str(found)
    assert "chance 50.0%" in told and 'prompt: "the cat"' in told and "6 groups" in told


def test_a_score_is_told_by_the_family_rule(models: dict[str, Path], suite: Path, tmp_path: Path) -> None:
    pairs = suite / "pairs.jsonl"
    masked = sl.evaluate(models["masked"], (pairs,), out=tmp_path / "m", limit=8, device="cpu")
    assert "pseudo-log-likelihood" in masked.outcomes["pairs"].item["rule"]
    assert len(masked.tasks["pairs"].top) == 8 and "8 of 36 items" in str(masked)
    bound = sl.evaluate(models["diffusion"], (pairs,), out=tmp_path / "d", limit=8, looks=4, device="cpu")
    assert "Monte Carlo" in bound.tasks["pairs"].note and "mean of 4 drawn masks" in bound.tasks["pairs"].context_rule
    assert {"lead", "error"} <= read(tmp_path / "d" / "items" / "pairs.jsonl")[0].keys()
    with pytest.raises(SightlineError, match="no probability of any text"):
        sl.evaluate(models["electra"], (pairs,), out=tmp_path / "e", device="cpu")


@pytest.mark.parametrize("family", ["causal", "diffusion"])
def test_stopped_it_goes_on_and_ends_the_same(
    family: str, models: dict[str, Path], suite: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["evaluate", str(models[family]), str(suite / "pairs.jsonl"), *OPTIONS, "--looks", "3", "--out"]
    assert main([*words, str(tmp_path / "whole")]) == 0
    monkeypatch.setattr(answers, "TOGETHER", 10)
    plain, calls = answers.Asking._pairs, []

    def stopped(self: Any, items: Any) -> Any:
        calls.append(len(items))
        if len(calls) == 3:
            raise KeyboardInterrupt
        return plain(self, items)

    with monkeypatch.context() as patched:
        patched.setattr(answers.Asking, "_pairs", stopped)
        assert main([*words, str(tmp_path / "parts")]) == 130
    file = tmp_path / "parts" / "items" / "pairs.jsonl"
    assert len(read(file)) == 20
    with open(file, "a", encoding="utf-8") as handle:
        handle.write('{"item": "torn')  # as a power cut leaves it
    assert main([*words, str(tmp_path / "parts")]) == 0
    one, other = (read(tmp_path / name / "items" / "pairs.jsonl") for name in ("whole", "parts"))
    assert [record["item"] for record in one] == [record["item"] for record in other]
    assert [record["correct"] for record in one] == [record["correct"] for record in other]
    flat = [[score for record in side for score in record["scores"]] for side in (one, other)]
    assert flat[0] == pytest.approx(flat[1], abs=1e-4)


def test_a_folder_takes_more_tasks_but_no_other_answers(models: dict[str, Path], suite: Path, tmp_path: Path) -> None:
    words = ["evaluate", str(models["causal"])]
    out = ["--out", str(tmp_path / "out"), *OPTIONS]
    assert main([*words, str(suite / "pairs.jsonl"), *out]) == 0
    assert main([*words, str(suite / "words.jsonl"), *out]) == 0
    results = json.loads((tmp_path / "out" / "results.json").read_text(encoding="utf-8"))
    assert set(results["tasks"]) == {"pairs", "words"}
    assert main([*words, str(suite / "pairs.jsonl"), "--within", "token", *out]) == 2
    other = lines(tmp_path / "pairs.jsonl", {"sentence_good": "a", "sentence_bad": "b"})
    assert main([*words, str(other), *out]) == 2
    assert main(["evaluate", str(models["masked"]), str(suite / "pairs.jsonl"), *out]) == 2


def test_a_larger_sample_keeps_what_was_answered(models: dict[str, Path], suite: Path, tmp_path: Path) -> None:
    pairs, out = (suite / "pairs.jsonl",), tmp_path / "out"
    few = sl.evaluate(models["causal"], pairs, out=out, limit=5, device="cpu")
    assert few.next.startswith("sightline evaluate")
    kept = (out / "items" / "pairs.jsonl").read_bytes()
    whole = sl.evaluate(models["causal"], pairs, out=out, device="cpu")
    assert (out / "items" / "pairs.jsonl").read_bytes().startswith(kept)
    assert len(whole.tasks["pairs"].top) == 36


def test_examples_stand_before_a_question(models: dict[str, Path], suite: Path, tmp_path: Path) -> None:
    sums = suite / "sums" / "test.jsonl"
    found = sl.evaluate(models["causal"], (sums,), out=tmp_path / "s", shots=2, length=8, device="cpu")
    assert found.outcomes["sums"].item["prompt"].count("####") == 2
    assert "2 examples before each" in str(found)
    assert read(tmp_path / "s" / "items" / "sums.jsonl")[0].keys() > {"written", "predicted", "gold"}
    with pytest.raises(SightlineError, match="no file named train"):
        sl.evaluate(models["causal"], (suite / "words.jsonl",), out=tmp_path / "w", shots=2, device="cpu")
    with pytest.raises(SightlineError, match="is what is asked"):
        sl.evaluate(models["causal"], (sums,), out=tmp_path / "t", shots=2, train=sums, device="cpu")
    with pytest.raises(SightlineError, match="take no examples"):
        sl.evaluate(models["causal"], (suite / "pairs.jsonl",), out=tmp_path / "p", shots=2, device="cpu")


def test_blimp_and_the_rest_as_they_are(models: dict[str, Path], shared_data: Path, tmp_path: Path) -> None:
    benchmarks = shared_data / "benchmarks"
    files = [benchmarks / "blimp", benchmarks / "copa", benchmarks / "winogrande", benchmarks / "boolq"]
    found = sl.evaluate(models["causal"], tuple(files), out=tmp_path / "real", limit=30, device="cpu")
    assert set(found.tasks) == {"blimp", "copa", "winogrande", "boolq"}
    assert found.outcomes["blimp"].whole == 67000 and all(len(one.top) == 30 for one in found.tasks.values())
