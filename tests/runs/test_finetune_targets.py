"""Fine-tuning on targets of sources: each family learns pairs in its own way, writes them, and is asked again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import sightline as sl
from sightline import hub
from sightline.cli import main
from sightline.data import Rows
from sightline.data.laid import Room, targets_laid
from sightline.errors import SightlineError
from sightline.objectives.targets import Targets, rows_of_pairs

HOW = ("--threads", "1", "--device", "cpu")
QUICK: dict[str, Any] = {"threads": 1, "device": "cpu", "seeds": 1, "patience": 0, "dropout": 0.0}
SMALL = (
    "--budget", "2steps", "--context", "48", "--batch", "2", "--tokenizer", "byte", "--validations", "1",
    "--dtype", "float32", "--compile", "off", *HOW,
)  # fmt: skip
WORDS = ["red", "blue", "cat", "dog"]


@pytest.fixture(scope="module")
def shouted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two words, and the same in capitals."""
    folder = tmp_path_factory.mktemp("shouted")
    pairs = [f"{one} {other}" for one in WORDS for other in WORDS]
    for side, count in (("train", 64), ("dev", 8), ("test", 8)):
        texts = [pairs[at % len(pairs)] for at in range(count)]
        lines = [json.dumps({"source": text, "target": text.upper()}) + "\n" for text in texts]
        (folder / f"{side}.jsonl").write_text("".join(lines), encoding="utf-8")
    return folder


def learned(family: str, corpus: Path, folder: Path, *more: str) -> Path:
    assert main(["train", family, str(corpus), *SMALL, *more, "--out", str(folder / family)]) == 0
    return folder / family


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory, page: str) -> Path:
    path = tmp_path_factory.mktemp("text") / "page.txt"
    path.write_text(page, encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def causal(text: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return learned("causal", text, tmp_path_factory.mktemp("models"))


def test_targets_are_learned_written_and_asked_for_again(
    causal: Path, shouted: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    found = sl.finetune(causal, shouted, epochs=10, batch=8, rate=2e-3, out=out, **QUICK)
    scores = {one.name: one for one in found.scores}
    assert list(scores) == ["chrf", "exact_match", "bleu"] and {one.column for one in found.scores} == {"writing"}
    exact, floor = scores["exact_match"].value, found.results["floor"][1]["value"]
    assert exact is not None and exact > 0.8 > 0.2 > floor
    assert scores["bleu"].value is None and "four words" in scores["bleu"].note
    lines = [json.loads(line) for line in (out / "predictions.jsonl").read_text(encoding="utf-8").splitlines()]
    assert lines[0]["gold"] == "RED RED" and not (out / "head.safetensors").exists()
    told = sl.predict(out, (str(shouted / "test.jsonl"),), out=tmp_path / "told.jsonl", threads=1, device="cpu")
    assert [one["predicted"] for one in told.predictions] == [one["predicted"] for one in lines]
    assert told.scores[1].value == exact
    assert len((tmp_path / "told.jsonl").read_text(encoding="utf-8").splitlines()) == 8
    capsys.readouterr()
    assert main(["translate", str(out), "red cat", "--beams", "1", *HOW]) == 0  # a causal model that learned pairs
    assert (
        capsys.readouterr().out.splitlines()[0]
        == sl.predict(out, ("red cat",), **{"threads": 1}).predictions[0]["predicted"]
    )


@pytest.mark.parametrize(
    ("family", "learns"),
    [
        ("masked", "prefix"), ("backward", "prefix"), ("hybrid", "prefix"), ("two_way", "two_way"),
        ("denoise", "seq2seq"), ("bang", "bang"),
    ],
)  # fmt: skip
def test_each_family_learns_pairs_in_its_own_way(
    family: str, learns: str, text: Path, shouted: Path, tmp_path: Path
) -> None:
    model = learned(family, text, tmp_path)
    found = sl.finetune(model, shouted, epochs=2, rate=1e-3, out=tmp_path / "out", **QUICK)
    losses = found.results["seeds"][0]["losses"]
    assert losses[1] < losses[0]
    assert f"written as {learns} writes" in found.results["represents"]
    assert hub.load(found.model).objective.family == learns and hub.learned_pairs(found.model)
    lora = sl.finetune(model, shouted, epochs=1, tune="lora", limit=16, out=tmp_path / "lora", **QUICK)
    assert 0 < lora.results["seeds"][0]["parameters"] < found.results["seeds"][0]["parameters"] / 5
    fresh = sl.finetune(model, shouted, epochs=1, from_scratch=True, limit=16, out=tmp_path / "fresh", **QUICK)
    assert hub.load(fresh.model).objective.family == learns


@pytest.mark.parametrize("family", ["blank", "mix", "diffusion", "block_diffusion", "permuted"])
def test_other_families_of_one_stack_become_prefix(family: str, text: Path, shouted: Path, tmp_path: Path) -> None:
    model = learned(family, text, tmp_path)
    found = sl.finetune(model, shouted, epochs=1, limit=16, rate=1e-3, out=tmp_path / "out", **QUICK)
    assert hub.load(found.model).objective.family == "prefix" and found.scores[0].value is not None


@pytest.mark.parametrize("family", ["cmlm", "seq2seq"])
def test_a_family_of_pairs_stays_what_it_is(family: str, shouted: Path, tmp_path: Path) -> None:
    model = learned(family, shouted, tmp_path)
    found = sl.finetune(model, shouted, epochs=2, limit=16, rate=1e-3, out=tmp_path / "out", **QUICK)
    assert hub.load(found.model).objective.family == family and found.scores[0].value is not None


def test_targets_alone_are_asked_for(causal: Path) -> None:
    """The loss is the mean nats of the target's tokens and its end; another source changes them, none of its own."""
    tuned = Targets(hub.load(causal), dropout=0.0).eval()
    tokenizer = tuned.model.tokenizer
    ids = [tokenizer.encode_many([source, "TWO"]) for source in ("one", "six")]
    lines = [targets_laid([source], [target], tokenizer, Room(20, 20))[0] for source, target in ids]
    rows = rows_of_pairs(lines, tuned.model)
    assert rows.wanted.sum(1).tolist() == [4, 4] and rows.halves == (5, 4)
    nats = tuned.nats(rows)
    assert nats[0] != nats[1]
    assert np.isclose(float(tuned.loss(rows).detach()), nats.sum() / 8, rtol=1e-5)
    whole = Rows.of(lines, tokenizer)  # as a text, of which each token is asked
    graded = tuned.model.grade(next(iter(tuned.model.objective.examine(whole))), whole.tokens)
    assert np.allclose(graded.nats[:, 4:8].sum(1).numpy(), nats, rtol=1e-5)


def test_what_exceeds_the_context_is_cut_and_said(causal: Path, tmp_path: Path) -> None:
    for side, count in (("train", 8), ("dev", 2), ("test", 2)):
        lines = [json.dumps({"source": f"{at} {'é' * 60}", "target": "yes " * 3}) + "\n" for at in range(count)]
        (tmp_path / f"{side}.jsonl").write_text("".join(lines), encoding="utf-8")
    found = sl.finetune(causal, tmp_path, epochs=1, out=tmp_path / "out", **QUICK)
    assert any("12 sources were cut at 33 tokens" in note for note in found.results["notes"])  # 48 - 3 marks - 12
    assert found.scores[0].n == 2


@pytest.mark.parametrize(
    ("family", "more", "told"),
    [
        ("causal", {"tune": "frozen"}, "targets have no head of their own"),
        ("electra", {}, "prefix cannot go on from the electra model"),
        ("ngram", {}, "prefix cannot go on from the ngram model"),
    ],
)
def test_what_cannot_learn_targets(
    family: str, more: dict[str, Any], told: str, text: Path, shouted: Path, tmp_path: Path
) -> None:
    model = learned(family, text, tmp_path)
    with pytest.raises(SightlineError, match=told):
        sl.finetune(model, shouted, out=tmp_path / "out", **QUICK | more)


def test_an_item_without_target(causal: Path, tmp_path: Path) -> None:
    (tmp_path / "train.jsonl").write_text('{"source": "a", "target": "b"}\n{"source": "a", "target": " "}\n')
    with pytest.raises(SightlineError, match=r"train.jsonl line 2 has no target"):
        sl.finetune(causal, tmp_path, out=tmp_path / "out", **QUICK)
