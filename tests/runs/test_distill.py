"""A teacher's targets in place of a corpus's own: what becomes of each part, stopping, going on, and refusals."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

import sightline as sl
from sightline import hub
from sightline.cli import main
from sightline.data import train_tokenizer
from sightline.objectives import Cmlm, Seq2Seq, translating
from sightline.objectives.model import built
from sightline.runs import distill as runs
from sightline.stacks.shape import Shape

WORDS = ["amber", "birch", "cedar", "delta", "ember", "fjord", "grove", "heath", "inlet", "jetty"]
LETTERS = "abcdefghijklmnopqrstuvwxyz"
TRAIN = [(word, word[::-1]) for word in WORDS]
OPTIONS: dict[str, Any] = {"beams": 2, "length": 6, "device": "cpu", "threads": 1}


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    folder = tmp_path / "corpus"
    folder.mkdir()
    for part, pairs in (("train", TRAIN), ("dev", [("a\nb", "c\td")]), ("test", [("one", "eno"), ("two", "owt")])):
        lines = (json.dumps({"source": source, "target": target}) for source, target in pairs)
        (folder / f"{part}.jsonl").write_text("\n".join(lines) + "\n")
    return folder


def saved(folder: Path, kind: type[Any] = Seq2Seq, seed: int = 0, context: int = 32) -> Path:
    tokenizer = train_tokenizer([LETTERS], "byte")
    model = built(kind(tokenizer.vocabulary), Shape(2, 16, 2, tokenizer.padded, context), tokenizer, seed)
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        letters = torch.from_numpy(tokenizer.encode(LETTERS)).long()
        weight = torch.zeros_like(model.head.weight)  # type: ignore[call-overload]
        weight[letters] = torch.randn(len(LETTERS), weight.shape[1])  # nothing else is ever the likeliest
        model.head.weight.copy_(weight)  # type: ignore[union-attr,operator]
    return hub.save(model, folder)


def records(path: Path) -> list[tuple[str, str]]:
    return [(one["source"], one["target"]) for one in map(json.loads, path.read_text().splitlines())]


@pytest.mark.parametrize("kind", [Seq2Seq, Cmlm])
def test_targets_are_the_teacher_s_and_the_other_parts_stay(tmp_path: Path, corpus: Path, kind: type[Any]) -> None:
    teacher, out = saved(tmp_path / "teacher", kind), tmp_path / "out"
    made = sl.distill(teacher, str(corpus), out=out, json=tmp_path / "told.json", **OPTIONS)
    assert json.loads((tmp_path / "told.json").read_text())["pairs"] == 10
    wanted = translating.translate(hub.load(teacher), WORDS, beams=2, length=6)
    assert records(out / "train.jsonl") == [(word, text.text) for word, text in zip(WORDS, wanted, strict=True)]
    assert records(out / "dev.jsonl") == [("a\nb", "c\td")]
    assert sorted(records(out / "test.jsonl")) == [("one", "eno"), ("two", "owt")]
    assert (made.pairs, made.left_out, made.how) == (10, 0, wanted[0].how)
    assert sl.read(out).kind == "pairs" and len(sl.read(out).train) == 10
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "corpus",
        "out",
        "teacher",
        "told.json",
    ]  # no shards are left


def test_it_goes_on_where_it_was_stopped(
    tmp_path: Path, corpus: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    teacher, out = saved(tmp_path / "teacher"), tmp_path / "out"
    whole = sl.distill(teacher, str(corpus), out=tmp_path / "whole", **OPTIONS)
    monkeypatch.setattr(runs, "EACH", 4)
    plain, asked = translating.translate, []

    def stopped(model: Any, sources: Any, **settings: Any) -> Any:
        if len(asked) == 1:
            asked.append(None)
            raise KeyboardInterrupt
        asked.append(list(sources))
        return plain(model, sources, **settings)

    monkeypatch.setattr(translating, "translate", stopped)
    words = ["distill", str(teacher), str(corpus), "--out", str(out), "--beams", "2", "--length", "6"]
    command = [*words, "--device", "cpu", "--threads", "1"]
    assert main(command) == 130 and not out.exists()
    assert main([*command[:-4], "--length", "7", *command[-4:]]) == 2  # what is done was done with another length
    assert "begun with another model, other texts or other settings" in capsys.readouterr().err
    assert main(command) == 0
    assert asked == [WORDS[:4], None, WORDS[4:8], WORDS[8:]]
    for part in ("train", "dev", "test"):
        assert (out / f"{part}.jsonl").read_bytes() == (whole.folder / f"{part}.jsonl").read_bytes()
    assert main(command) == 0 and len(asked) == 4  # it is there


def test_what_is_there_is_not_written_over(tmp_path: Path, corpus: Path) -> None:
    teacher, out = saved(tmp_path / "teacher"), tmp_path / "out"
    sl.distill(teacher, str(corpus), out=out, **OPTIONS)
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    with pytest.raises(sl.SightlineError, match="made with another teacher"):
        sl.distill(saved(tmp_path / "other", seed=1), str(corpus), out=out, **OPTIONS)
    with pytest.raises(sl.SightlineError, match="made with another setting"):
        sl.distill(teacher, str(corpus), out=out, **OPTIONS | {"beams": 1})
    with (corpus / "train.jsonl").open("a") as more:
        more.write('{"source": "kelp", "target": "plek"}\n')
    with pytest.raises(sl.SightlineError, match="made with another corpus"):
        sl.distill(teacher, str(corpus), out=out, **OPTIONS)
    with pytest.raises(sl.SightlineError, match="something else than a distilled corpus"):
        sl.distill(teacher, str(corpus), out=corpus, **OPTIONS)
    assert before == {path.name: path.read_bytes() for path in out.iterdir()}


def test_what_cannot_be_distilled(tmp_path: Path, corpus: Path) -> None:
    teacher = saved(tmp_path / "teacher")
    (tmp_path / "text.txt").write_text("There are no pairs in here.\n" * 20)
    with pytest.raises(sl.SightlineError, match="holds texts, not pairs"):
        sl.distill(teacher, str(tmp_path / "text.txt"), out=tmp_path / "out")
    with (corpus / "train.jsonl").open("a") as more:
        more.write(json.dumps({"source": "x" * 31, "target": "y"}) + "\n")
    made = sl.distill(teacher, str(corpus), out=tmp_path / "out", **OPTIONS)
    assert made.left_out == 1 and made.pairs == 10  # a source that the teacher has no room for
