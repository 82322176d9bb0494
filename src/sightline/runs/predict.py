"""Ask a fine-tuned model: a class, a number, tags, an answer or a target for each of your items."""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from json import dumps, loads
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from ..errors import SightlineError
from ..files import file_fingerprint, fingerprint, read_json, whole_file, write_json
from ..progress import say
from .finetune import HEAD, TASK, teaching
from .ready import Dtype, ready
from .shards import forget, in_shards
from .texts import lines_of, names_a_file, path_of, several

if TYPE_CHECKING:
    from ..data.examples import Example, Work
    from ..evaluation.score import Score
    from ..evaluation.teaching import Teaching
    from ..objectives.model import Model

SHOWN = 10  # answers that are printed
LETTERS = 60  # of an item that stands beside its answer


@dataclass(frozen=True)
class Predictions:
    """What a fine-tuned model told of items.

    Parameters
    ----------
    folder : of the fine-tuning. task : that it learned. predictions : a record of each item, in order: ``item``,
        ``asked``, ``predicted`` and, of classes, ``scores``, the probability of each.
    scores : where every item's right answer was there too. out : the file of the records. next : a command to go on.
    """

    folder: Path
    task: str
    predictions: tuple[dict[str, Any], ...]
    scores: tuple[Score, ...]
    out: Path | None
    next: str

    def __str__(self) -> str:
        lines = [_line(one) for one in self.predictions[:SHOWN]]
        if len(self.predictions) > SHOWN:
            where = f"in {self.out}" if self.out else "with --out FILE"
            lines.append(f"... and {len(self.predictions) - SHOWN:,} more {where}")
        return "\n".join([*lines, *map(str, self.scores)])

    def record(self) -> dict[str, Any]:
        """As plain JSON."""
        told = {"folder": str(self.folder), "out": None if self.out is None else str(self.out)}
        return asdict(self) | told | {"scores": [one.record() for one in self.scores]}


def _line(one: Mapping[str, Any]) -> str:
    """An answer, how sure it is, and what was asked."""
    told = one["predicted"]
    told = " ".join(told) if isinstance(told, list) else f"{told:.4g}" if isinstance(told, float) else str(told)
    sure = f" {one['scores'][told]:.2f}" if "scores" in one else ""
    asked = one["asked"] if len(one["asked"]) <= LETTERS else f"{one['asked'][: LETTERS - 3]}..."
    return f"{' '.join(told.split())}{sure}    {' '.join(asked.split())}"


def predict(
    folder: Annotated[Path, tyro.conf.Positional],
    items: Annotated[tuple[str, ...], tyro.conf.Positional],
    *,
    columns: str = "",
    out: Path | None = None,
    device: str = "auto",
    threads: int = 0,
    dtype: Dtype = "auto",
    json: Path | None = None,
) -> Predictions:
    """Answer new items with a model that was fine-tuned: what ``finetune`` taught, on texts that have no labels.

    Where a file holds the right answers as well, the figures are told too: another test set is asked so.

    Examples:
        sightline predict runs/reviews "What a film." "Two hours that I want back."
        sightline predict runs/reviews more.jsonl --columns text=body --out answers.jsonl
        sightline predict runs/tags novel.txt --out tags.jsonl
        sightline predict runs/answers "Who wrote it?" "It was written by Ann in 1920."

    Args:
        folder: what sightline finetune made.
        items: texts (of pointers to answers one question and its context), a file of items in one of the formats of
            finetune, or a .txt file with a text in each line.
        columns: which column is what, as text=body; by number in tables without a header.
        out: write the answers to this file, a JSON object a line; the same command goes on where it was stopped.
        device: auto, cpu, cuda, ...
        threads: of the CPU; 0: as many as there are cores.
        dtype: auto is float32, in which results repeat.
        json: also write answers and figures to this file.
    """
    from .. import hub

    folder = Path(folder)
    path = folder / TASK
    if not path.is_file():
        raise SightlineError(f"{folder} is not of sightline finetune: it has no {TASK}", "Name a folder that it made")
    told = read_json(path)
    asked = _asked(several(items), told["task"], columns)
    head = [file_fingerprint(folder / HEAD)] if (folder / HEAD).is_file() else []
    with ready(folder / "model", "", device, threads, dtype) as (where, model):
        work = _Work(folder, told, model)
        if out is None:
            lines = work(asked)
        else:
            aside = Path(out).with_name(f".{Path(out).name}.shards")
            mark = fingerprint(hub.model_fingerprint(where), *head, dtype, *map(repr, asked))
            lines = list(in_shards(asked, aside, mark, work))
            with whole_file(Path(out), "w") as handle:
                handle.write("".join(f"{line}\n" for line in lines))
            forget(aside)
        records = tuple(loads(line) for line in lines)
        scores = work.figures(asked, records)
    again = f"sightline predict {shlex.quote(str(folder))} ITEMS --out answers.jsonl"
    result = Predictions(folder, told["task"], records, scores, out, again)
    if json is not None:
        write_json(Path(json), result.record())
    return result


def _asked(items: Sequence[str], task: Work, columns: str) -> tuple[Example, ...]:
    """The items of a file, or of words on the command line."""
    from ..data.examples import Example, read_items
    from ..data.records import TABLES, TAGGED, labelled_format

    path = path_of(items[0]) if len(items) == 1 else None
    if path is not None and path.is_dir():
        raise SightlineError(f"{path} is a folder", "Name one of its files")
    if path is None and len(items) == 1 and (names_a_file(items[0]) or _names_items(items[0])):
        raise SightlineError(f"{items[0]} does not exist", "Check the path, or give a text of several words")
    if path is not None:
        kind = labelled_format(path)
        if kind in TABLES or (kind in TAGGED and kind != "txt"):
            return read_items(path, task, columns)
        lines = enumerate(lines_of(path), 1)
        named = [(f"{path.name}:{number}", text.rstrip("\r")) for number, text in lines if text.strip()]
    else:
        named = [(str(number), text) for number, text in enumerate(items, 1)]
    if task == "spans":
        if path is not None or len(named) != 2:
            raise SightlineError(
                f"an answer is looked for in a context, and {len(named)} text{'s' * (len(named) != 1)} were given",
                "Give one question and its context, or a file with the columns question and context",
            )
        return (Example("1", "the question", text=named[0][1], pair=named[1][1]),)
    if not named or not all(text.strip() for _, text in named):
        raise SightlineError("there is an empty text", "Give texts, or a file of them")
    if task == "tag":
        return tuple(Example(name, name, words=tuple(text.split())) for name, text in named)
    return tuple(Example(name, name, text=text) for name, text in named)


def _names_items(word: str) -> bool:
    """Whether a word looks like a file of items rather than like a text."""
    from ..data.records import labelled_format

    return bool(labelled_format(word)) and not any(letter.isspace() for letter in word)


class _Work:
    """What answers items, a shard after the other."""

    def __init__(self, folder: Path, told: Mapping[str, Any], model: Model) -> None:
        self.told, self.model = told, model
        self.task: Work = told["task"]
        how = {} if self.task == "text" else {"pool": told["pool"]}
        self.tuned = self._teaching(()).tuned(model, dropout=0.0, **how).eval()
        if self.task != "text":
            from safetensors.torch import load_file

            if not (folder / HEAD).is_file():
                raise SightlineError(f"{folder / HEAD} is missing", "Copy the folder again, whole")
            self.tuned.head.load_state_dict(load_file(folder / HEAD))

    def _teaching(self, items: Sequence[Example]) -> Teaching[Any]:
        from ..data.examples import Examples

        examples = Examples(self.task, (), (), tuple(items), tuple(self.told["labels"]), ())
        return teaching(examples, self.model, self.told["told"])

    def __call__(self, items: Sequence[Example]) -> list[str]:
        """The record of each item, as a line of JSON."""
        task = self._teaching(items)
        for note in task.notes:
            say(note)
        lines = []
        for item, answer in zip(items, task.answers(self.tuned, "test"), strict=True):
            line = {"item": item.id, "asked": " ".join(item.words) or item.text, "predicted": answer.predicted}
            if self.task == "classify":
                shares = zip(self.told["labels"], answer.scores, strict=True)
                line["scores"] = {label: round(math.exp(share), 5) for label, share in shares}
            lines.append(dumps(line, ensure_ascii=False))
        return lines

    def figures(self, items: Sequence[Example], records: Sequence[Mapping[str, Any]]) -> tuple[Score, ...]:
        """How right the answers are, where all items say it."""
        if not all(one.answered for one in items):
            return ()
        known = {*self.told["labels"], ""}
        unseen = {label for one in items for label in (one.label, *one.tags)} - known
        if unseen and self.told["labels"]:
            say(f"no figures: {sorted(unseen)[0]!r} is no label of training")
            return ()
        task = self._teaching(())
        answers = [task.marked(item, one["predicted"]) for item, one in zip(items, records, strict=True)]
        return tuple(task.figures(items, [answers]))
