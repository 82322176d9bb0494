r"""Benchmarks from local files: items told apart by their fields, never by a file's name.

    pair     sentence_good, sentence_bad                    BLiMP
    choice   query, choices, gold                           already cast
             context_options, continuation, gold            Winogrande, already cast
             context, question, answerA ... answerC, label  SIQA
             goal, sol1, sol2, label                        PIQA
             question, choices, answerKey                   ARC, CommonsenseQA, OpenBookQA
             passage, question, answer: true or false       BoolQ
             sentence with _, option1, option2, answer      Winogrande
             premise, choice1, choice2, question, label     COPA
             ctx, endings, label                            HellaSwag
    word     context, continuation                          LAMBADA
    number   question, answer that ends in ``#### n``       GSM8K
    text     text, or a .txt file                           bits per byte

What is asked follows from the shape, and is shown: a prompt, a space or an end of line, candidates, which one is right.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from ..data.compression import DAMAGED, PACKED, opened
from ..errors import SightlineError
from ..files import file_fingerprint
from ..progress import say

Kind = Literal["pair", "choice", "word", "number", "text"]
Row = dict[str, Any]

SIDES = ("test", "dev", "valid", "validation", "val", "train")  # names of files that say less than their folder's
ROWS = (".jsonl", ".ndjson", ".json", ".parquet")
NUMBER = re.compile(r"-?\$?\d[\d,]*(?:\.\d+)?")
STOPS = ("\n\n", "\nQuestion:")  # end an answer that is written


@dataclass(frozen=True)
class Item:
    """One question.

    Parameters
    ----------
    id, group : its name, and the subset that it belongs to; empty: none.
    contexts, choices : what each candidate follows, and the candidates; of a pair the contexts are empty.
    gold : the number of the right candidate; of what is to be written, the right answer.
    between : stands between context and candidate, and belongs to the candidate.
    """

    id: str
    group: str
    contexts: tuple[str, ...]
    choices: tuple[str, ...]
    gold: int | str
    between: str = " "

    @property
    def requests(self) -> list[tuple[str, str]]:
        """Context and continuation of each candidate, as they are scored."""
        return [(context, self.between + choice) for context, choice in zip(self.contexts, self.choices, strict=True)]

    @property
    def solved(self) -> str:
        """The question with its right answer, as an example for other questions."""
        return "".join(self.requests[self.gold if isinstance(self.gold, int) else 0])


@dataclass(frozen=True)
class Task:
    """Items of one kind from one file.

    Parameters
    ----------
    name : from the file, or from its folder where the file is only called test.
    whole : items in the file; fewer may have been drawn. mark : fingerprint of the file and of the examples.
    """

    name: str
    kind: Kind
    items: tuple[Item, ...]
    path: Path
    whole: int
    mark: str
    shots: int = 0

    def drawn(self, limit: int, seed: int) -> Task:
        """At most ``limit`` of the items, drawn by seed, in the order of the file; 0: all."""
        if not 0 < limit < len(self.items):
            return self
        chosen = np.sort(np.random.default_rng((seed, 6)).permutation(len(self.items))[:limit])
        return replace(self, items=tuple(self.items[at] for at in chosen))

    def shown(self, examples: Task, count: int, seed: int) -> Task:
        """Every item behind the same ``count`` solved examples, which are drawn by seed.

        Raises
        ------
        SightlineError : the examples are of another kind, or too few.
        """
        if examples.kind != self.kind or len(examples.items) < count:
            raise SightlineError(
                f"{examples.path} holds {len(examples.items)} items of the kind {examples.kind}; "
                f"{count} of the kind {self.kind} are wanted",
                "Name another with --train, or ask for fewer --shots",
            )
        chosen = np.random.default_rng((seed, 7)).permutation(len(examples.items))[:count]
        asked = {item.contexts for item in self.items}
        if same := sum(examples.items[at].contexts in asked for at in chosen):
            say(f"{same} of {count} examples of {self.name} are among its own questions: {examples.path}")
        before = "".join(f"{examples.items[at].solved}\n\n" for at in chosen)
        items = tuple(replace(one, contexts=tuple(before + context for context in one.contexts)) for one in self.items)
        return replace(self, items=items, shots=count, mark=f"{self.mark}:{examples.mark}:{count}:{seed}")


def tasks_in(path: Path | str) -> list[Task]:
    """The tasks of a file, or of all files of a folder but those named train.

    Raises
    ------
    SightlineError : nothing there, a damaged file, or rows of no known shape.
    """
    path = Path(path).expanduser()
    if not path.exists():
        raise SightlineError(f"{path} does not exist", "Name a file of items, or a folder of such files")
    if path.is_file():
        return [task_of(path)]
    files = [file for file in sorted(path.rglob("*")) if file.is_file() and (_ending(file) in (*ROWS, ".txt"))]
    files = [file for file in files if _stem(file) != "train"]
    found: list[Task] = []
    why = ""
    for file in files:
        try:
            found.append(task_of(file))
        except SightlineError as error:  # a folder holds other files too
            why = why or f": {error}"
            say(f"passed over: {error}")
    if not found:
        raise SightlineError(f"{path} holds no benchmark{why}", f"The shapes are {_known()}")
    return found


def task_of(path: Path) -> Task:
    """The task of one file."""
    mark = file_fingerprint(path)
    if _ending(path) == ".txt":
        return Task(_name(path), "text", (), path, 0, mark)
    rows = list(_rows(path))
    if not rows:
        raise SightlineError(f"{path} holds no items", "Check it")
    shape = next((one for one in SHAPES if one.fits(rows[0])), None)
    if shape is None:
        if isinstance(rows[0].get("text"), str):
            return Task(_name(path), "text", (), path, len(rows), mark)
        fields = ", ".join(sorted(rows[0])[:12])
        raise SightlineError(f"{path} has items with the fields {fields}, of no known shape", f"Known are {_known()}")
    items = []
    for number, row in enumerate(rows):
        try:
            item = shape.item(row)
        except (KeyError, ValueError, TypeError, AttributeError) as error:
            raise SightlineError(f"{path}, item {number + 1}: {_told(error)}", "Mend or remove it") from error
        items.append(item if item.id else replace(item, id=str(number)))
    if len({item.id for item in items}) < len(items):
        items = [replace(item, id=f"{number}:{item.id}") for number, item in enumerate(items)]
    return Task(_name(path), shape.kind, tuple(items), path, len(items), mark)


def examples_beside(path: Path) -> Path | None:
    """The file of training items that lies beside a test file."""
    return next((file for file in sorted(path.parent.iterdir()) if file != path and _stem(file) == "train"), None)


def number_in(text: str) -> str:
    """The number that a written answer gives: behind ``####`` if there is one, else the last; empty: none."""
    stops = [at for stop in STOPS if (at := text.find(stop)) >= 0]
    text = text[: min(stops)] if stops else text
    marked = text.split("####", 1)
    found = NUMBER.findall(marked[1]) if len(marked) > 1 else NUMBER.findall(text)
    if not found:
        return ""
    number: str = (found[0] if len(marked) > 1 else found[-1]).replace(",", "").replace("$", "")
    return number.rstrip("0").rstrip(".") if "." in number else number


@dataclass(frozen=True)
class Shape:
    """Rows with these fields are items of this kind."""

    fields: tuple[str, ...]
    kind: Kind
    item: Callable[[Row], Item]
    also: Callable[[Row], bool] = lambda row: True

    def fits(self, row: Row) -> bool:
        """Whether a row has the fields."""
        return all(row.get(name) is not None for name in self.fields) and self.also(row)


def _choice(row: Row, context: str, choices: list[str], gold: int, group: str = "") -> Item:
    if not 0 <= gold < len(choices) or len(choices) < 2:
        raise ValueError(f"its right answer is number {gold + 1} of {len(choices)}")
    name = str(row.get("id", row.get("idx", row.get("ind", ""))))
    return Item(name, group, (context,) * len(choices), tuple(map(str, choices)), gold)


def _asked(query: str) -> str:
    """A query that says ``Question:`` is asked for its ``Answer:``; other queries are gone on with."""
    query = query.rstrip()
    opens = query.startswith(("Question:", "Passage:"))
    return f"{query}\nAnswer:" if opens and not query.endswith("Answer:") else query


def _pair(row: Row) -> Item:
    group = str(row.get("UID", ""))
    name = f"{group}:{row['pairID']}" if "pairID" in row else ""
    return Item(name, group, ("", ""), (row["sentence_good"], row["sentence_bad"]), 0, between="")


def _cast(row: Row) -> Item:
    return _choice(row, _asked(row["query"]), row["choices"], int(row["gold"]))


def _options(row: Row) -> Item:
    options = tuple(row["context_options"])
    gold = int(row["gold"])
    if not 0 <= gold < len(options):
        raise ValueError(f"its right answer is number {gold + 1} of {len(options)}")
    return Item(str(row.get("id", "")), "", options, (str(row["continuation"]).lstrip(),) * len(options), gold)


def _siqa(row: Row) -> Item:
    query = f"{row['context']}\nQuestion: {row['question']}\nAnswer:"
    return _choice(row, query, [row["answerA"], row["answerB"], row["answerC"]], _label(row, "123", "ABC"))


def _piqa(row: Row) -> Item:
    return _choice(row, f"Question: {row['goal']}\nAnswer:", [row["sol1"], row["sol2"]], int(row["label"]))


def _arc(row: Row) -> Item:
    """Both layouts: choices as columns (Hugging Face), or inside the question as rows (as first published)."""
    question = row.get("question", row.get("question_stem"))
    stem, choices = (
        (question["stem"], question["choices"]) if isinstance(question, dict) else (question, row["choices"])
    )
    if isinstance(choices, dict):
        texts, labels = list(choices["text"]), list(choices["label"])
    else:
        texts, labels = [one["text"] for one in choices], [one["label"] for one in choices]
    return _choice(row, f"Question: {stem}\nAnswer:", texts, labels.index(row["answerKey"]))


def _boolq(row: Row) -> Item:
    question = str(row["question"]).rstrip("?")
    return _choice(row, f"{row['passage']}\nQuestion: {question}?\nAnswer:", ["no", "yes"], int(bool(row["answer"])))


def _winogrande(row: Row) -> Item:
    before, after = row["sentence"].split("_", 1)
    options = tuple(before + row[name] for name in ("option1", "option2"))
    return Item(str(row.get("qID", "")), "", options, (after.lstrip(),) * 2, _label(row, "12", "", "answer"))


def _copa(row: Row) -> Item:
    joins = {"cause": "because", "effect": "therefore"}[row["question"]]
    choices = [row[name][:1].lower() + row[name][1:] for name in ("choice1", "choice2")]
    return _choice(row, f"{row['premise'].rstrip('.')} {joins}", choices, int(row["label"]))


def _hellaswag(row: Row) -> Item:
    return _choice(row, row["ctx"].rstrip(), list(row["endings"]), int(row["label"]))


def _word(row: Row) -> Item:
    return Item(str(row.get("id", "")), "", (row["context"].rstrip(),), (row["continuation"].strip(),), 0)


def _number(row: Row) -> Item:
    gold = number_in(row["answer"])
    if not gold:
        raise ValueError("its answer gives no number behind ####")
    return Item("", "", (f"Question: {row['question']}\nAnswer:",), (row["answer"],), gold)


def _label(row: Row, numbers: str, letters: str, field: str = "label") -> int:
    label = str(row[field])
    if not label or label not in numbers + letters:
        raise ValueError(f"its {field} is {label!r}, none of {', '.join(numbers + letters)}")
    return (numbers if label in numbers else letters).index(label)


def _is_marked(row: Row) -> bool:
    return isinstance(row["answer"], str) and "####" in row["answer"]


def _has_choices(row: Row) -> bool:
    question = row.get("question", row.get("question_stem"))
    return "choices" in row or (isinstance(question, dict) and "choices" in question)


SHAPES = (
    Shape(("sentence_good", "sentence_bad"), "pair", _pair),
    Shape(("query", "choices", "gold"), "choice", _cast),
    Shape(("context_options", "continuation", "gold"), "choice", _options),
    Shape(("context", "question", "answerA", "answerB", "answerC", "label"), "choice", _siqa),
    Shape(("goal", "sol1", "sol2", "label"), "choice", _piqa),
    Shape(("question", "answerKey"), "choice", _arc, _has_choices),
    Shape(("question_stem", "choices", "answerKey"), "choice", _arc),
    Shape(("passage", "question", "answer"), "choice", _boolq, lambda row: isinstance(row["answer"], bool)),
    Shape(("sentence", "option1", "option2", "answer"), "choice", _winogrande),
    Shape(("premise", "choice1", "choice2", "question", "label"), "choice", _copa),
    Shape(("ctx", "endings", "label"), "choice", _hellaswag),
    Shape(("context", "continuation"), "word", _word),
    Shape(("question", "answer"), "number", _number, _is_marked),
)


def _known() -> str:
    return "; ".join(", ".join(shape.fields) for shape in SHAPES) + "; text"


def _told(error: Exception) -> str:
    return f"it has no {error}" if isinstance(error, KeyError) else str(error)


def _ending(path: Path) -> str:
    return Path(path.stem).suffix.lower() if path.suffix.lower() in PACKED else path.suffix.lower()


def _stem(path: Path) -> str:
    return path.name.split(".")[0]


def _name(path: Path) -> str:
    stem = _stem(path)
    return path.resolve().parent.name if stem in SIDES else stem


def _rows(path: Path) -> Iterator[Row]:
    ending = _ending(path)
    try:
        if ending == ".parquet":
            import pyarrow.parquet as pq

            yield from pq.read_table(path).to_pylist()
            return
        with opened(path) as handle:
            if ending == ".json":
                whole = json.load(handle)
                rows: Any = whole if isinstance(whole, list) else [whole]
            else:
                rows = (json.loads(line) for line in handle if line.strip())
            for number, row in enumerate(rows, 1):
                if not isinstance(row, dict):
                    raise SightlineError(f"{path}, item {number} is no object with fields", "Mend it")
                yield row
    except (ValueError, *DAMAGED) as error:
        raise SightlineError(f"{path} cannot be read: {error}", "Check it, or copy it again") from error
