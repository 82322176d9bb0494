"""Two models on the same items: figures side by side, a paired difference, a test, and only then a verdict."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from ..errors import SightlineError
from ..files import write_json
from ..progress import say
from .ready import Dtype

if TYPE_CHECKING:
    from ..evaluation.bootstrap import Interval
    from ..evaluation.contrast import Contrast
    from ..evaluation.score import Measured

    Runs = list[Measured]

Rule = Literal["exact", "mid", "chi2"]
Correction = Literal["holm", "bh", "none"]
CORRECTIONS = {"holm": "Holm", "bh": "Benjamini-Hochberg", "none": "uncorrected"}


@dataclass(frozen=True)
class Versus:
    """What the comparison of two models came to.

    Parameters
    ----------
    first, second : the models, or folders of results, of each side. contrasts : task by task.
    correction : of p over the tasks. before : what their sizes could show, told before anything was compared.
    notes : tasks that one side alone has. next : a command to go on with.
    """

    first: tuple[str, ...]
    second: tuple[str, ...]
    contrasts: tuple[Contrast, ...]
    correction: Correction
    before: tuple[str, ...]
    notes: tuple[str, ...]
    next: str

    def __str__(self) -> str:
        made = [one for one in self.contrasts if one.difference is not None]
        name = CORRECTIONS[self.correction] if len(made) > 1 else ""
        head = ("", "items", "A", "B", "A - B", "A, B alone", f"p, {name}" if name else "p", "could find", "")
        rows = [head, *(_row(one) for one in self.contrasts)]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        table = [
            "  ".join(
                cell.ljust(width) if number in (0, len(head) - 1) else cell.rjust(width)
                for number, (cell, width) in enumerate(zip(row, widths, strict=True))
            ).rstrip()
            for row in rows
        ]
        return "\n".join(
            [
                f"A: {', '.join(self.first)}",
                f"B: {', '.join(self.second)}",
                "",
                *table,
                "",
                *_once([(one.task, line) for one in self.contrasts for line in _told(one)]),
                "[low to high]: 95% intervals. A, B alone: items that one alone got right. could find: the smallest",
                "difference found with power 0.8, given how alike the two have shown to be. Better: p below 0.05.",
                *self.notes,
            ]
        )

    def record(self) -> dict[str, Any]:
        """As plain JSON."""
        return {
            "A": list(self.first),
            "B": list(self.second),
            "correction": self.correction,
            "before": list(self.before),
            "tasks": [one.record() for one in self.contrasts],
            "notes": list(self.notes),
        }


def versus(
    first: Annotated[str, tyro.conf.Positional],
    second: Annotated[str, tyro.conf.Positional],
    *,
    on: str = "",
    limit: int = 0,
    rule: Rule = "exact",
    correction: Correction = "holm",
    groups: bool = False,
    common: bool = False,
    out: Path | None = None,
    seed: int = 0,
    device: str = "auto",
    threads: int = 0,
    dtype: Dtype = "auto",
    json: Path | None = None,
) -> Versus:
    """Compare two models on the same items: a paired test for each task, corrected over the tasks.

    What the number of items could show at all is told before anything is asked or compared, with --on more sharply
    once A has answered. "Not decided at this size" is an answer. Several seeds on a side are a random effect beside
    the items.

    Examples:
        sightline versus runs/masked runs/causal --on blimp/
        sightline versus results/masked results/causal
        sightline versus tuned/bert tuned/gpt
        sightline versus runs/a-0,runs/a-1,runs/a-2 runs/b-0,runs/b-1,runs/b-2 --on blimp/ --out runs/a-b

    Args:
        first: A: a model or run with --on, else a folder that evaluate or finetune wrote; more with commas are its
            further seeds.
        second: B, likewise.
        on: ask both models this suite (see evaluate), rather than read results that are there.
        limit: with --on, most items of a task, drawn by seed; 0: all.
        rule: McNemar's p: exact (binomial), mid (mid-p, a little less careful) or chi2 (for many items).
        correction: of p over the tasks: holm (no false finding at all), bh (few among the findings) or none.
        groups: compare each subset of a task by itself (the paradigms of BLiMP), p corrected over all of them.
        common: leave out items that one of the two lacks, rather than refuse.
        out: keep the comparison here (versus.json), with --on also what each model answered.
        seed: of the draws of intervals, and of what a suite draws.
        device: auto, cpu, cuda, ... (with --on).
        threads: of the CPU; 0: as many as there are cores.
        dtype: auto is float32, in which results repeat.
        json: also write the comparison to this file.
    """
    from ..evaluation.contrast import contrasted

    first, second = str(first), str(second)  # a path, in Python
    sides = [
        (told,) if told and Path(told).exists() else tuple(part for part in told.split(",") if part)
        for told in (first, second)
    ]
    if not all(sides):
        raise SightlineError("a side of the comparison is empty", "Name two models, or two folders of results")
    if sorted(sides[0]) == sorted(sides[1]):
        raise SightlineError(f"{first} is compared with itself", "Name two models, or two folders of results")
    before: list[str] = []
    if on:
        settings = {"limit": limit, "seed": seed, "device": device, "threads": threads, "dtype": dtype}
        tasks, notes = _asked(sides, on, out, groups, settings, before)
    else:
        tasks, notes = _kept(sides, groups, common, before)
    contrasts = tuple(contrasted(tasks, rule=rule, correction=correction, seed=seed))
    again = next((one for one in contrasts if one.verdict() == "not decided at this size"), None)
    names = (shlex.quote(first), shlex.quote(second))
    told = f"sightline see {names[0]}" if on else f"sightline versus {names[0]} {names[1]} --on SUITE"
    if again is not None and max(again.seeds) == 1:
        told = f"sightline versus {names[0]},ANOTHER_SEED {names[1]},ANOTHER_SEED" + (
            f" --on {shlex.quote(on)}" if on else ""
        )
    result = Versus(sides[0], sides[1], contrasts, correction, tuple(before), tuple(notes), told)
    if out is not None:
        write_json(Path(out) / "versus.json", result.record())
    if json is not None:
        write_json(Path(json), result.record())
    return result


def _asked(
    sides: Sequence[tuple[str, ...]],
    suite: str,
    out: Path | None,
    groups: bool,
    settings: Mapping[str, Any],
    before: list[str],
) -> tuple[dict[str, tuple[Runs, Runs]], list[str]]:
    """Both sides' answers to a suite, whose size is told before A is asked, and what A leaves of it before B is."""
    import sightline as sl

    wanted = _sizes(suite, groups, settings["limit"], settings["seed"])
    before += _before(wanted)
    found: list[list[Mapping[str, Measured]]] = []
    refused: dict[str, str] = {}
    for side, models in zip("AB", sides, strict=True):
        asked: list[Mapping[str, Measured]] = []
        for number, model in enumerate(models):
            place = None if out is None else Path(out) / (side if len(models) == 1 else f"{side}{number}")
            told = sl.evaluate(Path(model), (Path(suite),), out=place, **settings)
            asked.append(_parted(told) if groups else told.tasks)
            refused |= told.refused
            if side == "A" and not number:
                there = {task: one for task, one in asked[0].items() if not one.missing}
                before += _before({task: _size(one) for task, one in there.items() if task not in wanted})
                before += _beside(there)
        found.append(asked)
    tasks: dict[str, tuple[Runs, Runs]] = {}
    notes = []
    for task in dict.fromkeys(task for side in found for one in side for task in one):
        runs = [[one[task] for one in side if task in one] for side in found]
        why = next((one.missing for side in runs for one in side if one.missing), refused.get(task, ""))
        if why or any(len(side) < len(models) for side, models in zip(runs, sides, strict=True)):
            notes.append(f"{task}: not compared ({why or 'one model was not asked'})")
            continue
        sizes = [{len(one.top) for one in side} for side in runs]
        if len(sizes[0] | sizes[1]) > 1:
            raise SightlineError(
                f"{task}: the items do not match (A answered {sorted(sizes[0])}, B {sorted(sizes[1])})",
                "Give --out a new folder, so that both are asked anew",
            )
        tasks[task] = (runs[0], runs[1])
    return _some(tasks, notes)


def _parted(told: Any) -> dict[str, Measured]:
    """The subsets of an evaluation's tasks; tasks without any as they are."""
    return {
        name: one
        for task, whole in told.tasks.items()
        for name, one in (
            {f"{task}: {group}": part for group, part in told.outcomes[task].groups.items()} or {task: whole}
        ).items()
    }


def _kept(
    sides: Sequence[tuple[str, ...]], groups: bool, common: bool, before: list[str]
) -> tuple[dict[str, tuple[Runs, Runs]], list[str]]:
    """What both sides answered before, read from their folders."""
    from .items import Asked, paired, read_items

    held: list[list[dict[str, list[Asked]]]] = [[read_items(Path(one), groups) for one in side] for side in sides]
    both = [set.intersection(*(set(one) for one in side)) for side in held]
    shared = [task for task in held[0][0] if task in both[0] & both[1]]
    if not shared:
        told = " and ".join(", ".join(sorted(one)) or "none" for one in both)
        raise SightlineError(f"the two sides share no task ({told})", "Evaluate both on one suite")
    alone = sorted({task for side in held for one in side for task in one} - set(shared))
    notes = [f"not compared, since not all have it: {', '.join(alone)}"] if alone else []
    runs = {task: [[run for one in side for run in one[task]] for side in held] for task in shared}
    tasks = {task: paired(task, one, two, common) for task, (one, two) in runs.items()}
    before += _before({task: _size(one[0]) for task, (one, _) in tasks.items()})
    for task, (one, two) in runs.items():
        most = max(len(run.values) for run in (*one, *two))
        if most > len(tasks[task][0][0].top):
            notes.append(f"{task}: {len(tasks[task][0][0].top):,} of up to {most:,} items are those in common")
    return _some(tasks, notes)


def _some(tasks: dict[str, tuple[Runs, Runs]], notes: list[str]) -> tuple[dict[str, tuple[Runs, Runs]], list[str]]:
    if not tasks:
        raise SightlineError(f"there is nothing to compare ({'; '.join(notes)})", "Choose another suite")
    return tasks, notes


def _size(one: Measured) -> tuple[int, bool]:
    """How many items, and whether they are right or wrong."""
    from ..evaluation.contrast import is_share

    return len(one.top), is_share(one.unit)


def _sizes(suite: str, groups: bool, limit: int, seed: int) -> dict[str, tuple[int, bool]]:
    """How many items of each task will be asked; of texts that is not known before they are cut."""
    from ..evaluation.suite import tasks_in

    found: dict[str, tuple[int, bool]] = {}
    for task in (one.drawn(limit, seed) for one in tasks_in(suite)):
        parts = Counter(item.group for item in task.items)
        parted = groups and len(parts) > 1
        for name, count in sorted(parts.items()) if parted else [("", len(task.items))]:
            if count:
                found[f"{task.name}: {name}" if parted else task.name] = (count, True)
    return found


def _before(tasks: Mapping[str, tuple[int, bool]]) -> list[str]:
    """What so many items, of right and wrong or of other scores, can show: before it is known how the two do."""
    from ..evaluation.significance import detectable

    lines = []
    for (n, share), names in _alike(tasks).items():
        if not share:
            lines.append(f"{_whose(names, n)}: what they find hangs on how far items differ, which is not known before")
            continue
        found = _difference([detectable(n)])
        lines.append(f"{_whose(names, n)} find {found} (power 0.8, level 0.05, models no more alike than chance)")
    return _said(lines)


def _beside(tasks: Mapping[str, Measured]) -> list[str]:
    """The same once A has answered: how often it is right bounds on how many items another can differ."""
    from ..evaluation.contrast import is_share
    from ..evaluation.significance import detectable_beside

    right = {task: float(one.top.sum() / one.bottom.sum()) for task, one in tasks.items() if is_share(one.unit)}
    sizes = {task: (len(tasks[task].top), True) for task in right}
    return _said(
        f"{_whose(names, n)} find {_difference([detectable_beside(n, right[name]) for name in names])} "
        f"from A, right in {_range([100 * right[name] for name in names])}% (no more alike than chance)"
        for (n, _), names in _alike(sizes).items()
    )


def _alike(tasks: Mapping[str, tuple[int, bool]]) -> dict[tuple[int, bool], list[str]]:
    found: dict[tuple[int, bool], list[str]] = {}
    for task, size in tasks.items():
        found.setdefault(size, []).append(task)
    return found


def _whose(names: Sequence[str], n: int) -> str:
    return f"{names[0]}: {n:,} items" if len(names) == 1 else f"{len(names)} tasks: {n:,} items each"


def _difference(found: Sequence[float | None]) -> str:
    some = [100 * one for one in found if one is not None]
    return f"a difference of {_range(some)} points" if some else "no difference"


def _range(values: Sequence[float]) -> str:
    ends = list(dict.fromkeys(f"{end:.1f}" for end in (min(values), max(values))))
    return " to ".join(ends)


def _said(lines: Iterable[str]) -> list[str]:
    told = list(lines)
    for line in told:
        say(line)
    return told


def _row(one: Contrast) -> tuple[str, ...]:
    from ..evaluation.contrast import is_share

    percent = is_share(one.unit)
    row = (one.task, f"{one.n:,}", _cell(one.first, percent), _cell(one.second, percent))
    if one.difference is None:
        return *row, "", "", "", "", one.verdict()
    return (
        *row,
        _cell(one.difference, percent, signed=True),
        "" if one.split is None else f"{one.split.first:,}, {one.split.second:,}",
        "<0.001" if one.corrected < 0.001 else f"{one.corrected:.3f}",
        "" if one.detectable is None else _number(one.detectable, percent),
        one.verdict(),
    )


def _number(value: float, percent: bool, signed: bool = False) -> str:
    sign = "+" if signed else ""
    return f"{100 * value:{sign}.1f}%" if percent else f"{value:{sign}.3f}"


def _cell(one: Interval, percent: bool, signed: bool = False) -> str:
    told = _number(one.value, percent, signed)
    if one.low is None or one.high is None:
        return told
    ends = (_number(end, percent, signed).rstrip("%") for end in (one.low, one.high))
    return f"{told} [{' to '.join(ends)}]"


def _told(one: Contrast) -> list[str]:
    """How a row came about."""
    from ..evaluation.contrast import is_share

    if one.refused:
        return [one.refused]
    told = one.rule
    if one.effect is not None:
        percent = is_share(one.unit)
        deviations = (
            f"{side} {'one seed' if value is None else _number(value, percent)}"
            for side, value in zip("AB", one.effect.seeds, strict=True)
        )
        told += f" ({one.seeds[0]} and {one.seeds[1]} runs); deviation between seeds: {', '.join(deviations)}"
    return [told, one.note] if one.note else [told]


def _once(lines: Sequence[tuple[str, str]]) -> list[str]:
    """What is said of tasks, each thing once with the tasks it is said of."""
    said: dict[str, list[str]] = {}
    for task, line in lines:
        said.setdefault(line, []).append(task)
    whole = len({task for task, _ in lines})
    return [line if len(tasks) == whole else f"{', '.join(tasks)}: {line}" for line, tasks in said.items()]
