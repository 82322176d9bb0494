"""``sightline probe``: layers, floors, the control task, what is kept, and what is refused."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

import sightline as sl
from sightline import hub
from sightline.cli import main
from sightline.data import train_tokenizer
from sightline.errors import SightlineError, Stopped
from sightline.objectives.causal import Causal
from sightline.objectives.masked import Masked
from sightline.objectives.model import built
from sightline.objectives.ngram import NGram
from sightline.stacks.shape import Shape

HERE = {"device": "cpu", "threads": 1}
NOUNS, VERBS = ("sun", "mat", "log", "sea"), ("sits", "runs", "eats", "sings")


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Fresh models, which is enough for a probe to read letters and words off."""
    folder, tokenizer = tmp_path_factory.mktemp("runs"), train_tokenizer(["a page"], "byte")
    shape = Shape(layers=2, width=16, heads=2, vocabulary=tokenizer.padded, context=32)
    for kind in (Causal, Masked, NGram):
        model = built(kind(tokenizer.vocabulary), shape, tokenizer, seed=3)
        if kind is NGram:
            model.stack.fit(np.array([tokenizer.vocabulary.bos, *tokenizer.encode("a page")]), np.array([0]))  # type: ignore[operator]
        hub.save(model, folder / kind.family)
    return folder


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Texts of two letters or of two others."""
    folder, drawn = tmp_path_factory.mktemp("texts"), random.Random(0)
    for side, count in (("train", 60), ("dev", 20), ("test", 30)):
        rows = []
        for at in range(count):
            word = "".join(drawn.choice(("ab", "xy")[at % 2]) for _ in range(6))
            rows.append(f"{word} {at}\t{('first', 'second')[at % 2]}\n")
        (folder / f"{side}.tsv").write_text("sentence\tverdict\n" + "".join(rows), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder, drawn = tmp_path_factory.mktemp("words"), random.Random(0)
    for side, count in (("train", 40), ("dev", 15), ("test", 20)):
        rows = []
        for at in range(count):
            told = ["the", drawn.choice(NOUNS), drawn.choice(VERBS)][at % 2 :]
            tags = ["DET", "NOUN", "VERB"][at % 2 :]
            rows.append(json.dumps({"id": f"{side}{at}", "words": told, "tags": tags}) + "\n")
        (folder / f"{side}.jsonl").write_text("".join(rows), encoding="utf-8")
    return folder


def test_classes_by_layer(runs: Path, texts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, told = tmp_path / "out", tmp_path / "told.json"
    command = ["probe", str(runs / "masked"), str(texts), "--columns", "text=sentence,label=verdict"]
    assert main([*command, "--out", str(out), "--json", str(told), "--device", "cpu", "--threads", "1"]) == 0
    shown = capsys.readouterr().out
    assert "masked, classify: 2 labels, 60 / 20 / 30 items" in shown and "chosen on dev" in shown
    assert "next: sightline finetune" in shown and "the commonest class" in shown and "tf-idf" in shown
    results = json.loads((out / "results.json").read_text())
    assert results == json.loads(told.read_text())
    assert [one["layer"] for one in results["layers"]] == [0, 1, 2]
    best = results["layers"][results["best"]]
    assert best["dev"] == max(one["dev"] for one in results["layers"])
    assert best["test"]["value"] == 1.0 and 0.8 < best["test"]["low"] < 1.0, "Wilson's interval"
    lines = [json.loads(line) for line in (out / "predictions.jsonl").read_text().splitlines()]
    assert sum(line["correct"] for line in lines) / len(lines) == best["test"]["value"]
    assert {line["gold"] for line in lines} == {"first", "second"}
    drawing = ElementTree.parse(out / "layers.svg")
    assert drawing.getroot().tag.endswith("svg") and "layer 2" in (out / "layers.svg").read_text()
    again = sl.probe(runs / "masked", texts, columns="text=sentence,label=verdict", out=out, **HERE)
    assert again.results == results
    with pytest.raises(SightlineError, match="a probe with other model"):
        sl.probe(runs / "causal", texts, columns="text=sentence,label=verdict", out=out, **HERE)


def test_pairs_are_read_as_finetune_reads_them(runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from sightline.evaluation import probing

    read, plain = list[list[int]](), probing.line_vectors

    def watched(model: Any, ids: Any) -> Any:
        read.extend(one.tolist() for one in ids)
        return plain(model, ids)

    monkeypatch.setattr(probing, "line_vectors", watched)
    rows = [f"{'ab'[at % 2] * 3} {at},{'ba'[at % 3 % 2] * 40},{at % 2}\n" for at in range(40)]
    (tmp_path / "pairs.csv").write_text("text,pair,label\n" + "".join(rows), encoding="utf-8")
    found = sl.probe(runs / "masked", tmp_path / "pairs.csv", out=tmp_path / "out", **HERE)
    model = hub.load(runs / "masked")
    marks, encode = model.objective.vocabulary, model.tokenizer.encode
    first = [marks.bos, *encode("aaa 0"), marks.sep, *encode("b" * 24), marks.eos]
    assert first in read and len(first) == model.context == 32, "the longer side was cut"
    assert found.results["notes"][-1] == "40 texts were cut at the context of 32 tokens"
    assert found.results["layers"][found.results["best"]]["test"]["value"] == 1.0


def test_two_probes_are_compared_item_by_item(runs: Path, texts: Path, tmp_path: Path) -> None:
    for name in ("causal", "masked"):
        sl.probe(runs / name, texts, columns="text=sentence,label=verdict", out=tmp_path / name, **HERE)
    (found,) = sl.versus(str(tmp_path / "causal"), str(tmp_path / "masked")).contrasts
    assert found.task == "classify" and found.n == 30 and found.rule.startswith("McNemar")


def test_tags_with_a_control_task(runs: Path, words: Path, tmp_path: Path) -> None:
    found = sl.probe(runs / "causal", words, control=True, out=tmp_path / "out", **HERE)
    best = found.results["layers"][found.results["best"]]
    assert best["test"]["value"] > 0.95
    assert best["selectivity"] == pytest.approx(best["test"]["value"] - best["control"]["value"])
    assert found.results["floors"]["each word its commonest tag"]["value"] == 1.0
    assert "selectivity" in str(found)
    assert found.results["shared"] > 0, "there are few different sentences"
    assert found.results["without_shared"]["n"] == 20 - found.results["shared"]
    assert "test items that are in train" in str(found)
    lines = [json.loads(line) for line in (tmp_path / "out" / "predictions.jsonl").read_text().splitlines()]
    assert len(lines) == 20 and all(len(one["gold"]) == len(one["predicted"]) for one in lines)
    assert {one["item"] for one in lines} >= {"test0", "test1"}
    right = sum(one["correct"] * len(one["gold"]) for one in lines) / sum(len(one["gold"]) for one in lines)
    assert right == pytest.approx(best["test"]["value"])


def test_many_words_are_cut_to_whole_sentences(
    runs: Path, words: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sightline.evaluation.probing as probing

    monkeypatch.setattr(probing, "MOST_WORDS", 60)
    found = sl.probe(runs / "causal", words, out=tmp_path / "out", **HERE)
    assert any("of 100 words of train, in sentences drawn by seed 0" in note for note in found.results["notes"])


def test_a_stopped_probe_goes_on(runs: Path, words: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sightline.evaluation.understanding as understanding

    whole = sl.probe(runs / "causal", words, control=True, out=tmp_path / "whole", **HERE)
    plain, asked = understanding._probe, list[int]()

    def stopping(*told: Any) -> Any:
        asked.append(1)
        if len(asked) == 10:
            raise KeyboardInterrupt
        return plain(*told)

    monkeypatch.setattr(understanding, "_probe", stopping)
    with pytest.raises(Stopped, match="the same command goes on"):
        sl.probe(runs / "causal", words, control=True, out=tmp_path / "out", **HERE)
    assert sorted(path.name for path in (tmp_path / "out" / ".layers").iterdir()) == ["0.npz", "1.npz"]
    again = sl.probe(runs / "causal", words, control=True, out=tmp_path / "out", **HERE)
    assert again.results == whole.results
    assert len(asked) == 10 + 2 * 3 * 4 - 2 * 4, "two layers were done"
    assert not (tmp_path / "out" / ".layers").exists()


def test_what_cannot_be_probed_is_told(runs: Path, texts: Path, tmp_path: Path) -> None:
    columns = "text=sentence,label=verdict"
    with pytest.raises(SightlineError, match="the control task is of words"):
        sl.probe(runs / "causal", texts, columns=columns, control=True, out=tmp_path / "a", **HERE)
    with pytest.raises(SightlineError, match="keeps no states to read off"):
        sl.probe(runs / "ngram", texts, columns=columns, out=tmp_path / "b", **HERE)
    with pytest.raises(SightlineError, match="has no column 'genre' for label"):
        sl.probe(runs / "causal", texts, columns="text=sentence,label=genre", out=tmp_path / "c", **HERE)
    (tmp_path / "amounts.jsonl").write_text("".join(f'{{"text": "a b", "label": {at}.5}}\n' for at in range(30)))
    with pytest.raises(SightlineError, match="tells classes or tags, not regress"):
        sl.probe(runs / "causal", tmp_path / "amounts.jsonl", out=tmp_path / "d", **HERE)
    with pytest.raises(SightlineError, match="holds other files"):
        sl.probe(runs / "causal", texts, columns=columns, out=texts, **HERE)
