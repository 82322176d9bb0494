"""``sightline versus``: kept results and asked suites, what is told before, and what is refused."""

from __future__ import annotations

import json
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import sightline as sl
from sightline.cli import main
from sightline.errors import SightlineError
from sightline.evaluation import Measured
from sightline.evaluation.bootstrap import wilson
from sightline.evaluation.significance import adjusted, mcnemar

N = 200


def answers(share: float, seed: int, n: int = N) -> np.ndarray:
    """Right answers of a model: hard items are hard for all."""
    hard = np.random.default_rng(0).random(n)
    return (hard + 0.2 * np.random.default_rng(seed).normal(size=n) < share).astype(float)


def kept(folder: Path, tasks: dict[str, np.ndarray], **more: Any) -> Path:
    """A folder as ``evaluate`` writes it."""
    (folder / "items").mkdir(parents=True)
    for task, right in tasks.items():
        rows = [
            {"item": f"{task}-{at}", "group": "", "gold": "x", "predicted": "x", "correct": int(one), "scores": []}
            for at, one in enumerate(right)
        ]
        (folder / "items" / f"{task}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    if more:
        (folder / "results.json").write_text(json.dumps({"tasks": {key: {"scores": [more]} for key in tasks}}))
    return folder


def texts(folder: Path, bits: float, class_: str = "exact") -> Path:
    """A folder of so many bits per byte of texts."""
    (folder / "items").mkdir(parents=True)
    sizes = np.random.default_rng(1).integers(20, 60, 80).tolist()
    rows = [
        {"item": at, "correct": None, "scores": [-(bits * n + at % 3) * math.log(2)], "bytes": n}
        for at, n in enumerate(sizes)
    ]
    (folder / "items" / "text.jsonl").write_text("\n".join(map(json.dumps, rows)))
    score = {"unit": "bits/byte", "class": class_}
    (folder / "results.json").write_text(json.dumps({"tasks": {"text": {"scores": [score]}}}))
    return folder


def tuned(folder: Path, shares: list[float], first: int = 1) -> Path:
    """A folder as ``finetune`` writes it: several seeds in one file."""
    folder.mkdir()
    (folder / "results.json").write_text('{"task": "classify"}')
    rows = [
        {"item": at, "seed": seed, "gold": "y", "predicted": "y", "correct": int(one)}
        for seed, share in enumerate(shares)
        for at, one in enumerate(answers(share, first + seed))
    ]
    (folder / "predictions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def test_two_folders_of_results(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one = {"verbs": answers(0.8, 1), "nouns": answers(0.62, 2)}
    two = {"verbs": answers(0.5, 3), "nouns": answers(0.6, 4)}
    first, second = kept(tmp_path / "a", one), kept(tmp_path / "b", two)
    told = tmp_path / "told.json"
    assert main(["versus", str(first), str(second), "--json", str(told)]) == 0
    shown = capsys.readouterr()
    assert "2 tasks: 200 items each find a difference of 13.9 points" in shown.err
    assert "A is better" in shown.out and "not decided at this size" in shown.out and "Holm" in shown.out
    record = json.loads(told.read_text())
    by_task = {one["task"]: one for one in record["tasks"]}
    tests = {task: mcnemar(one[task], two[task]) for task in one}
    corrected = dict(zip(tests, adjusted([test.p for test in tests.values()]), strict=True))
    for task, test in tests.items():
        found = by_task[task]
        assert (found["p"], found["only_A"], found["only_B"]) == (test.p, test.first, test.second)
        assert found["p_corrected"] == pytest.approx(corrected[task])
        right = wilson(int(one[task].sum()), N)
        assert found["A"] == [right.value, right.low, right.high]
        value, low, high = found["difference"]
        assert value == pytest.approx(one[task].mean() - two[task].mean()) and low <= value <= high
        assert 0 < found["detectable"] < 0.139, "less than worst: the two err alike"
    assert by_task["verbs"]["verdict"] == "A is better"
    assert sl.versus(str(second), str(first)).contrasts[0].verdict() != "A is better"
    assert str(sl.versus(first, second)) == shown.out.rpartition("\n\nnext:")[0], "paths will do"  # type: ignore[arg-type]


def test_seeds_are_a_random_effect(tmp_path: Path) -> None:
    first = tuned(tmp_path / "a", [0.7, 0.72, 0.68])
    second = tuned(tmp_path / "b", [0.5, 0.52], 11)
    (found,) = sl.versus(str(first), str(second)).contrasts
    assert found.seeds == (3, 2) and found.effect is not None and found.verdict() == "A is better"
    assert found.task == "classify" and "random effects" in found.rule and found.split is None
    unsteady = tuned(tmp_path / "c", [0.9, 0.5, 0.7])
    (wide,) = sl.versus(str(unsteady), str(second)).contrasts
    assert wide.verdict() == "not decided at this size"
    assert wide.difference is not None and found.difference is not None
    assert wide.difference.value == pytest.approx(found.difference.value, abs=0.05), "as good in the mean"
    several = sl.versus(f"{tmp_path / 'a'},{tmp_path / 'c'}", str(second))
    assert several.contrasts[0].seeds == (6, 2) and "6 and 2 runs" in str(several)


def test_likelihoods_of_different_classes_are_refused_and_accuracies_told(tmp_path: Path) -> None:
    first, second = texts(tmp_path / "a", 1.0), texts(tmp_path / "b", 1.3, "pseudo")
    (found,) = sl.versus(str(first), str(second)).contrasts
    assert found.verdict() == "not comparable" and "exact and pseudo" in found.refused
    assert found.refused in str(sl.versus(str(first), str(second)))
    right = {"text": answers(0.7, 1)}
    third = kept(tmp_path / "c", right, unit="of 1", **{"class": "exact"})
    fourth = kept(tmp_path / "d", right, unit="of 1", **{"class": "pseudo", "context_rule": "word by word"})
    (found,) = sl.versus(str(third), str(fourth)).contrasts
    assert found.verdict() == "not decided at this size" and found.p == 1.0
    assert "answers chosen by different rules: A exact, B pseudo: word by word" in found.note


def test_less_is_better_where_bits_are_counted(tmp_path: Path) -> None:
    folders = [str(texts(tmp_path / name, more)) for name, more in (("a", 1.0), ("b", 1.3))]
    (found,) = sl.versus(*folders).contrasts
    assert found.rule == "paired bootstrap" and found.difference is not None
    assert found.difference.value == pytest.approx(-0.3) and found.verdict() == "A is better"


def suite(path: Path, n: int = N, subsets: int = 1) -> str:
    """A file of minimal pairs."""
    pairs = ({"UID": f"g{at % subsets}", "sentence_good": "a", "sentence_bad": f"b {at}"} for at in range(n))
    path.write_text("".join(json.dumps(one) + "\n" for one in pairs), encoding="utf-8")
    return str(path)


def test_both_are_asked_a_suite(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[tuple[str, Any]] = []

    def evaluate(model: Path, suites: tuple[Path, ...], *, out: Path | None = None, **settings: Any) -> Any:
        told = capsys.readouterr().err
        if asked:
            assert "verbs: 200 items find a difference of 13.6 points from A, right in 69.5%" in told
        else:
            assert "verbs: 200 items find a difference of 13.9 points (power 0.8" in told, "before A is asked"
        asked.append((str(model), out))
        right = answers(0.75 if str(model) == "one" else 0.45, len(asked))
        like = ("accuracy", "of 1", "task", "accuracy")
        tasks = {"verbs": Measured(*like, right, np.ones(N)), "bits": Measured.none(*like, "it has no likelihood")}
        return SimpleNamespace(tasks=tasks, refused={})

    monkeypatch.setattr(sl, "evaluate", evaluate, raising=False)
    found = sl.versus("one", "two", on=suite(tmp_path / "verbs.jsonl"), out=tmp_path)
    assert asked == [("one", tmp_path / "A"), ("two", tmp_path / "B")]
    assert [one.task for one in found.contrasts] == ["verbs"] and found.contrasts[0].verdict() == "A is better"
    assert "bits: not compared (it has no likelihood)" in str(found)
    assert json.loads((tmp_path / "versus.json").read_text())["before"] == list(found.before)
    assert len(found.before) == 2
    with pytest.raises(SightlineError, match="nowhere does not exist"):
        sl.versus("one", "two", on="nowhere")
    assert len(asked) == 2, "nobody was asked"


def test_sizes_are_told_before_anybody_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def evaluate(*_: Any, **__: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(sl, "evaluate", evaluate, raising=False)
    suite(tmp_path / "verbs.jsonl", subsets=4)
    suite(tmp_path / "nouns.jsonl", 90)
    (tmp_path / "page.txt").write_text("A text is cut into pieces, whose number is not known yet.", encoding="utf-8")
    for more, wanted in (
        ({}, ["nouns: 90 items find a difference of 20.6", "verbs: 200 items find a difference of 13.9"]),
        ({"limit": 90}, ["2 tasks: 90 items each find a difference of 20.6"]),
        ({"groups": True}, ["nouns: 90 items find a difference of 20.6", "4 tasks: 50 items each find"]),
    ):
        with pytest.raises(KeyboardInterrupt):
            sl.versus("one", "two", on=str(tmp_path), **more)  # type: ignore[arg-type]
        told = capsys.readouterr().err.splitlines()
        assert len(told) == len(wanted)
        assert all(part in line for part, line in zip(wanted, told, strict=True))


def test_subsets_are_tasks_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folders = []
    for name, share in (("a", 0.8), ("b", 0.45)):
        folder = kept(tmp_path / name, {"pairs": answers(share, 1)})
        file = folder / "items" / "pairs.jsonl"
        rows = [json.loads(line) for line in file.read_text().splitlines()]
        file.write_text("".join(json.dumps(row | {"group": f"g{at % 4}"}) + "\n" for at, row in enumerate(rows)))
        folders.append(str(folder))
    whole, parted = sl.versus(*folders), sl.versus(*folders, groups=True)
    assert [(one.task, one.n) for one in parted.contrasts] == [(f"pairs: g{at}", 50) for at in range(4)]
    splits = [one.split for one in (*whole.contrasts, *parted.contrasts) if one.split is not None]
    assert splits[0].first == sum(split.first for split in splits[1:])
    assert str(parted).count("McNemar") == 1, "said once"

    def evaluate(model: Path, *_: Any, **__: Any) -> Any:
        measured = Measured("accuracy", "of 1", "task", "", answers(0.5, len(model.name)), np.ones(N))
        half = np.arange(N) < N // 2
        groups = {"one": measured.only(half), "two": measured.only(~half)}
        return SimpleNamespace(
            tasks={"pairs": measured}, outcomes={"pairs": SimpleNamespace(groups=groups)}, refused={}
        )

    monkeypatch.setattr(sl, "evaluate", evaluate, raising=False)
    found = sl.versus("x", "yy", on=suite(tmp_path / "pairs.jsonl"), groups=True)
    assert [one.task for one in found.contrasts] == ["pairs: one", "pairs: two"]


def test_what_does_not_match_is_told(tmp_path: Path) -> None:
    first = kept(tmp_path / "a", {"verbs": answers(0.7, 1)})
    fewer = kept(tmp_path / "b", {"verbs": answers(0.7, 2, 150)})
    with pytest.raises(SightlineError, match=r"150 in common, 50 of A alone, 0 of B alone"):
        sl.versus(str(first), str(fewer))
    found = sl.versus(str(first), str(fewer), common=True)
    assert found.contrasts[0].n == 150 and "150 of up to 200" in str(found)
    other = kept(tmp_path / "c", {"nouns": answers(0.7, 2)})
    with pytest.raises(SightlineError, match=r"share no task \(verbs and nouns\)"):
        sl.versus(str(first), str(other))
    with pytest.raises(SightlineError, match="holds no results"):
        sl.versus(str(first), str(tmp_path))
    with pytest.raises(SightlineError, match="does not exist"):
        sl.versus(str(first), str(tmp_path / "nowhere"))
    with pytest.raises(SightlineError, match="compared with itself"):
        sl.versus(str(first), str(first))
    file = other / "items" / "nouns.jsonl"
    text = file.read_text()
    file.write_text(text.replace('"gold": "x"', '"gold": "z"', 1))
    again = kept(tmp_path / "d", {"nouns": answers(0.7, 3)})
    with pytest.raises(SightlineError, match="item 'nouns-0' has the right answer 'z' in A and 'x' in B"):
        sl.versus(str(other), str(again))
    file.write_text(text + text.splitlines()[0] + "\n")
    with pytest.raises(SightlineError, match="a second time"):
        sl.versus(str(other), str(again))
    file.write_text(text[:-20])
    with pytest.raises(SightlineError, match="line 200 is no item with its result"):
        sl.versus(str(other), str(again))
