"""Results kept item by item, as ``evaluate`` and ``finetune`` write them, read back and laid beside each other.

FOLDER/items/TASK.jsonl       one item a line: item, group, gold, predicted, correct, scores
FOLDER/predictions.jsonl      the same with the seed, for each of a run's seeds
FOLDER/results.json           what the figures are: unit, class, and the rule by which answers were chosen
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import SightlineError
from ..evaluation.score import Measured
from ..files import read_json

Key = tuple[str, str]  # group and item
UNITS = {"regress": "less error"}  # of tasks whose answers are not right or wrong


@dataclass(frozen=True)
class Asked:
    """One run's answers to one task.

    Parameters
    ----------
    where : file, and seed if the file has several. like : an empty measure with unit, class and rule.
    values : of each item what it got, and of how much. gold : of each item.
    """

    where: str
    like: Measured
    values: dict[Key, tuple[float, float]]
    gold: dict[Key, Any]

    def measured(self, keys: Sequence[Key]) -> Measured:
        """The measure over these items, in this order."""
        tops, bottoms = np.array([self.values[key] for key in keys], np.float64).T
        one = self.like
        return Measured(one.name, one.unit, one.class_, one.column, tops, bottoms, one.context_rule, one.note)


def read_items(folder: Path, groups: bool = False) -> dict[str, list[Asked]]:
    """The tasks of a folder of results, each with the runs (seeds) that it holds.

    ``groups`` : each subset of a task as a task.

    Raises
    ------
    SightlineError : there are no results, or a line of them cannot be read.
    """
    folder = Path(folder).expanduser()
    files = {path.stem: path for path in sorted((folder / "items").glob("*.jsonl"))}
    told = read_json(folder / "results.json") if (folder / "results.json").is_file() else {}
    if (folder / "predictions.jsonl").is_file():
        files[str(told.get("task") or "predictions")] = folder / "predictions.jsonl"
    if not files:
        what = "holds no results" if folder.is_dir() else "does not exist"
        raise SightlineError(
            f"{folder} {what} (items/TASK.jsonl or predictions.jsonl)",
            "Evaluate or finetune into it first, or say --on SUITE to have both models asked",
        )
    found = {task: _runs(path, _described(task, told)) for task, path in files.items()}
    return _by_group(found) if groups else found


def _by_group(tasks: Mapping[str, list[Asked]]) -> dict[str, list[Asked]]:
    parted: dict[str, list[Asked]] = {}
    for task, runs in tasks.items():
        for run in runs:
            for group in dict.fromkeys(group for group, _ in run.values):
                values, gold = (
                    {key: one for key, one in of.items() if key[0] == group} for of in (run.values, run.gold)
                )
                part = replace(run, values=values, gold=gold)
                parted.setdefault(f"{task}: {group}" if group else task, []).append(part)
    return parted


def _described(task: str, told: Mapping[str, Any]) -> Measured:
    """Unit, class and rule of a task, as the results say them."""
    scores = told.get("tasks", {}).get(task, {}).get("scores") or [{}]
    one = {"unit": UNITS.get(task, "of 1"), "class": "task"} | {key: value for key, value in scores[0].items() if value}
    rule = str(one.get("context_rule", ""))
    return Measured(task, str(one["unit"]), str(one["class"]), str(one.get("column", "")), context_rule=rule)


def _runs(path: Path, like: Measured) -> list[Asked]:
    found: dict[Any, Asked] = {}
    with open(path, encoding="utf-8") as handle:
        for number, line in enumerate(handle, 1):
            if not line.strip():
                continue
            where = f"{path} line {number:,}"
            try:
                row = json.loads(line)
                key, value = (str(row.get("group") or ""), str(row["item"])), _value(row, like.name)
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                raise SightlineError(
                    f"{where} is no item with its result ({type(error).__name__}: {error})",
                    "It may have been cut short: evaluate again",
                ) from error
            seed = row.get("seed")
            told = f"{path}" if seed is None else f"{path}, seed {seed}"
            run = found.setdefault(seed, Asked(told, like, {}, {}))
            if key in run.values:
                raise SightlineError(f"{where} tells item {key[1]!r} a second time", "Keep one line of each item")
            run.values[key], run.gold[key] = value, row.get("gold")
    if not found:
        raise SightlineError(f"{path} is empty", "Evaluate again")
    return list(found.values())


def _value(row: Mapping[str, Any], task: str) -> tuple[float, float]:
    """What an item got, and of how much: bits of bytes, right words of words, or right of one."""
    if row["correct"] is None:
        return -float(row["scores"][0]) / math.log(2), float(row["bytes"])
    size = float(len(row["gold"])) if task == "tag" else 1.0
    return float(row["correct"]) * size, size


def paired(
    task: str, first: Sequence[Asked], second: Sequence[Asked], common: bool = False
) -> tuple[list[Measured], list[Measured]]:
    """The runs of both sides over the same items in one order.

    Parameters
    ----------
    common : items that not all have are left out.

    Raises
    ------
    SightlineError : the items are not the same, or the right answers to them are not.
    """
    sides = [_items_of(side) for side in (first, second)]
    shared = sides[0][0] & sides[1][0]
    everywhere = all(keys == shared for side in sides for keys in side)  # all runs of a side included
    if not shared or (not everywhere and not common):
        alone = [len(side[1] - shared) for side in sides]
        raise SightlineError(
            f"{task}: the items do not match ({len(shared):,} in common, {alone[0]:,} of A alone, "
            f"{alone[1]:,} of B alone)",
            "Ask both the same items" + (", or say --common to compare those that they share" if shared else ""),
        )
    one, two = first[0], second[0]
    keys = [key for key in one.values if key in shared]
    other = next((key for key in keys if not _same(one.gold[key], two.gold[key])), None)
    if other is not None:
        raise SightlineError(
            f"{task}: item {other[1]!r} has the right answer {one.gold[other]!r} in A and {two.gold[other]!r} in B",
            "These are two versions of the task: ask both the same",
        )
    measured = [[run.measured(keys) for run in side] for side in (first, second)]
    return measured[0], measured[1]


def _items_of(runs: Iterable[Asked]) -> tuple[set[Key], set[Key]]:
    """The items that all runs of a side have, and those that any has."""
    held = [set(run.values) for run in runs]
    return set.intersection(*held), set.union(*held)


def _same(one: Any, two: Any) -> bool:
    return one is None or two is None or one == two
