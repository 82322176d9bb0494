"""Benchmarks from files: every shape is known by its fields, and what is asked is what one would ask."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from sightline.errors import SightlineError
from sightline.evaluation.suite import Task, examples_beside, number_in, task_of, tasks_in

ARC = {"text": ["ice", "fire"], "label": ["A", "B"]}
SHAPES: list[tuple[dict[str, Any], str, str, tuple[str, ...], Any]] = [
    ({"sentence_good": "a b", "sentence_bad": "b a", "UID": "order", "pairID": "3"}, "pair", "", ("a b", "b a"), 0),
    (
        {"query": "Question: which?\n", "choices": ["x", "y"], "gold": 1},
        "choice",
        "Question: which?\nAnswer:",
        (" x", " y"),
        1,
    ),
    ({"query": "It rained, so", "choices": ["x", "y"], "gold": 1}, "choice", "It rained, so", (" x", " y"), 1),
    (
        {"context_options": ["A ran", "B ran"], "continuation": "home.", "gold": 1},
        "choice",
        "A ran",
        (" home.", " home."),
        1,
    ),
    (
        {"context": "Ann fell.", "question": "Why?", "answerA": "p", "answerB": "q", "answerC": "r", "label": "3"},
        "choice",
        "Ann fell.\nQuestion: Why?\nAnswer:",
        (" p", " q", " r"),
        2,
    ),
    (
        {"goal": "cut", "sol1": "saw", "sol2": "sea", "label": 0},
        "choice",
        "Question: cut\nAnswer:",
        (" saw", " sea"),
        0,
    ),
    (
        {"id": "Q1", "question": "hot?", "choices": ARC, "answerKey": "B"},
        "choice",
        "Question: hot?\nAnswer:",
        (" ice", " fire"),
        1,
    ),
    (
        {
            "question": {"stem": "hot?", "choices": [{"text": "ice", "label": "1"}, {"text": "fire", "label": "2"}]},
            "answerKey": "2",
        },
        "choice",
        "Question: hot?\nAnswer:",
        (" ice", " fire"),
        1,
    ),
    (
        {"passage": "Snow is white.", "question": "is snow white", "answer": True},
        "choice",
        "Snow is white.\nQuestion: is snow white?\nAnswer:",
        (" no", " yes"),
        1,
    ),
    (
        {"sentence": "The cup fits _ well.", "option1": "box", "option2": "bag", "answer": "2"},
        "choice",
        "The cup fits box",
        (" well.", " well."),
        1,
    ),
    (
        {"premise": "It rained.", "choice1": "He ran.", "choice2": "It dried.", "question": "effect", "label": 0},
        "choice",
        "It rained therefore",
        (" he ran.", " it dried."),
        0,
    ),
    ({"ctx": "He sat", "endings": ["down", "up"], "label": "0"}, "choice", "He sat", (" down", " up"), 0),
    ({"context": "the last", "continuation": "word"}, "word", "the last", (" word",), 0),
    (
        {"question": "2 and 2?", "answer": "Two more.\n#### 1,004.0"},
        "number",
        "Question: 2 and 2?\nAnswer:",
        (" Two more.\n#### 1,004.0",),
        "1004",
    ),
]


def written(path: Path, *rows: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    content = "".join(f"{json.dumps(row)}\n" for row in rows).encode()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


@pytest.mark.parametrize(("row", "kind", "context", "continuations", "gold"), SHAPES)
def test_each_shape_by_its_fields(
    row: Any, kind: str, context: str, continuations: tuple[str, ...], gold: Any, tmp_path: Path
) -> None:
    task = task_of(written(tmp_path / "any.jsonl.gz", row, row | {"pairID": "4"}))
    item = task.items[0]
    assert (task.kind, task.name, task.whole) == (kind, "any", 2)
    assert item.contexts[0] == context and item.gold == gold
    assert tuple(rest for _, rest in item.requests) == continuations
    assert len({one.id for one in task.items}) == 2


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("so 3 + 4 = 7\n#### 7", "7"),
        ("it is $1,200.50 in all", "1200.5"),
        ("5 then 6\n\nQuestion: 9", "6"),
        ("none", ""),
        ("#### -3\nQuestion: 8", "-3"),
    ],
)
def test_the_number_of_an_answer(text: str, number: str) -> None:
    assert number_in(text) == number


def test_bad_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(SightlineError, match="does not exist"):
        tasks_in(tmp_path / "none.jsonl")
    with pytest.raises(SightlineError, match="fields colour, of no known shape"):
        task_of(written(tmp_path / "odd.jsonl", {"colour": 1}))
    with pytest.raises(SightlineError, match="item 2: its right answer is number 5 of 2"):
        good = {"query": "a", "choices": ["x", "y"], "gold": 1}
        task_of(written(tmp_path / "gold.jsonl", good, good | {"gold": 4}))
    with pytest.raises(SightlineError, match="item 2: it has no 'sol2'"):
        piqa = {"goal": "a", "sol1": "x", "sol2": "y", "label": 1}
        task_of(written(tmp_path / "lacks.jsonl", piqa, {"goal": "a", "sol1": "x", "label": 0}))
    (tmp_path / "torn.jsonl").write_text('{"a": ', encoding="utf-8")
    with pytest.raises(SightlineError, match="cannot be read"):
        task_of(tmp_path / "torn.jsonl")


def test_a_folder_holds_tasks_and_examples(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    row = {"question": "1 and 1?", "answer": "#### 2"}
    written(tmp_path / "sums" / "test.jsonl", row, row | {"answer": "#### 3"})
    train = written(tmp_path / "sums" / "train.jsonl.gz", row, row | {"question": "2 and 2?", "answer": "#### 4"})
    written(tmp_path / "odd" / "odd.jsonl", {"colour": 1})
    (task,) = tasks_in(tmp_path)
    assert task.name == "sums" and "passed over" in capsys.readouterr().err
    assert examples_beside(task.path) == train
    shown = task.shown(task_of(train), 2, seed=0)
    assert shown.items[0].contexts[0].count("####") == 2 and shown.items[0].contexts[0].endswith("1 and 1?\nAnswer:")
    assert shown.items[0].contexts[0].split("Question: 1 and 1?\nAnswer: #### 2")[0] != shown.items[0].contexts[0]
    assert shown.mark != task.mark
    with pytest.raises(SightlineError, match="holds 2 items"):
        task.shown(task_of(train), 3, seed=0)


def test_a_draw_keeps_the_order_and_changes_with_the_seed(tmp_path: Path) -> None:
    rows = [{"context": f"c{number}", "continuation": "w"} for number in range(50)]
    task = task_of(written(tmp_path / "words.jsonl", *rows))

    def names(one: Task) -> list[int]:
        return [int(item.id) for item in one.items]

    assert names(task.drawn(0, 0)) == list(range(50)) == names(task.drawn(60, 0))
    drawn = names(task.drawn(7, 0))
    assert drawn == sorted(drawn) and len(drawn) == 7 and drawn != names(task.drawn(7, 1))


def test_real_benchmarks_are_known(shared_data: Path) -> None:
    kinds = {task.name: (task.kind, task.whole) for task in tasks_in(shared_data / "benchmarks")}
    assert kinds["blimp"] == ("pair", 67000)
    assert kinds["lambada_openai"] == ("word", 5153)
    assert kinds["gsm8k"] == ("number", 1319)
    choices = ("piqa", "arc_easy", "arc_challenge", "winogrande", "copa", "openbook_qa", "commonsense_qa", "boolq")
    assert {kinds[name][0] for name in choices} == {"choice"}
