"""Benchmarks from local files: every family asked by its own rule, every answer kept, every figure with its interval.

OUT/results.json         scores, rules, one rendered item of each task
OUT/items/TASK.jsonl     a record an item, appended as they come: the same command goes on behind the last
OUT/evaluation.json      what the records were made of, so that no other model's are mixed in
"""

from __future__ import annotations

import json as jsons
import math
import os
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from ..errors import SightlineError, Stopped
from ..files import locked, read_json, write_json
from ..progress import bar, say
from .ready import Dtype, ready
from .texts import read_all

if TYPE_CHECKING:
    from ..evaluation.answers import Asking, Record
    from ..evaluation.score import Measured, Score
    from ..evaluation.suite import Task

LONGEST = 400  # characters of a prompt that are shown; all are in results.json


@dataclass(frozen=True)
class Outcome:
    """What a model got in one task.

    Parameters
    ----------
    kind, n, whole : of the task, how many items were asked, and how many the file holds.
    measures : the task's own measure first. groups : that measure for each subset.
    scores : with intervals, derived ones (perplexity) too.
    item : one rendered item: prompt, candidates, gold, special tokens, rule.
    """

    kind: str
    n: int
    whole: int
    shots: int
    measures: dict[str, Measured]
    groups: dict[str, Measured]
    scores: tuple[Score, ...]
    item: dict[str, Any]

    def record(self) -> dict[str, Any]:
        """As plain JSON."""
        from ..evaluation.score import scored

        grouped = {name: scored([one]).record() for name, one in self.groups.items()}
        short = {name: {key: one[key] for key in ("value", "low", "high", "n")} for name, one in grouped.items()}
        scores = [score.record() for score in self.scores]
        told = {"kind": self.kind, "n": self.n, "whole": self.whole, "shots": self.shots}
        return told | {"scores": scores, "groups": short, "item": self.item}


@dataclass(frozen=True)
class Evaluation:
    """What a model got.

    Parameters
    ----------
    model : its folder. family, class_, dtype : of the model, of its scores, of its numbers.
    tasks : the own measure of each task, item by item.
    outcomes : all that was found of each task. refused : tasks without meaning for the family, and why.
    out : the folder of results and records. next : a command to go on with.
    """

    model: Path
    family: str
    class_: str
    dtype: str
    tasks: dict[str, Measured]
    outcomes: dict[str, Outcome]
    refused: dict[str, str]
    out: Path
    next: str
    settings: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        lines = [f"{self.family}, scores {self.class_}, computed in {self.dtype}"]
        for name, outcome in self.outcomes.items():
            lines += ["", *_told(name, outcome)]
        for name, why in self.refused.items():
            lines += ["", f"{name}: refused: {why}"]
        return "\n".join([*lines, "", f"every answer: {self.out / 'items'}"])

    def record(self) -> dict[str, Any]:
        """As plain JSON."""
        return {
            "model": str(self.model),
            "family": self.family,
            "class": self.class_,
            "dtype": self.dtype,
            "settings": self.settings,
            "tasks": {name: outcome.record() for name, outcome in self.outcomes.items()},
            "refused": self.refused,
        }


def evaluate(
    folder: Annotated[Path, tyro.conf.Positional],
    suites: Annotated[tuple[Path, ...], tyro.conf.Positional],
    *,
    out: Path | None = None,
    limit: int = 0,
    shots: int = 0,
    train: Path | None = None,
    within: Literal["word", "token"] = "word",
    both_sides: bool = False,
    looks: int = 16,
    length: int = 256,
    tokenizer: str = "",
    seed: int = 0,
    device: str = "auto",
    threads: int = 0,
    dtype: Dtype = "auto",
    json: Path | None = None,
) -> Evaluation:
    """Ask a model the items of benchmarks in local files, by its family's own rule; every answer is kept.

    Files are told apart by their fields: minimal pairs (BLiMP), last words (LAMBADA), multiple choice (PIQA, ARC,
    Winogrande, COPA, OpenBookQA, CommonsenseQA, BoolQ, SIQA, HellaSwag), numbers to be worked out (GSM8K), and texts.

    Examples:
        sightline evaluate runs/mine/model benchmarks/blimp.jsonl.gz
        sightline evaluate runs/mine/model benchmarks/ --limit 200
        sightline evaluate runs/mine/model gsm8k/test.jsonl --shots 4 --length 128

    Args:
        folder: a model folder, or the folder of a run.
        suites: files of items (.jsonl, .json, .parquet, .txt, also .gz and .zst), or folders of such files.
        out: a folder for results and answers; the same command goes on where it was stopped, other tasks may be added.
            Default: runs/evaluate-NAME.
        limit: most items of a task, drawn by seed; 0: all.
        shots: solved examples before each question, drawn by seed from a file named train beside the task's.
        train: another file for these examples.
        within: of a masked family, what is hidden beside the token that is asked for: the later tokens of its word
            (Kauf and Ivanova, 2023), or no other (token; Salazar et al., 2020).
        both_sides: ask with both sides given, where the family has that way too (hybrid).
        looks: draws of masks for a score that is a bound (diffusion); more make its error smaller.
        length: most tokens of an answer that is written.
        tokenizer: a tokenizer.json, for a folder that has none.
        seed: of what is drawn: items, examples, intervals.
        device: auto, cpu, cuda, ...
        threads: of the CPU; 0: as many as there are cores.
        dtype: auto is float32, in which results repeat.
        json: also write the results to this file.
    """
    from ..evaluation.answers import Asking
    from ..evaluation.continuation import Scorer

    if limit < 0 or shots < 0 or length < 1:
        raise SightlineError(f"limit {limit}, shots {shots}, length {length}: none may be below 0", "Give more")
    named = _several(suites)
    if not named:
        raise SightlineError("no benchmark was named", "Name files of items, or folders of such files")
    wanted = _tasks(named, limit, shots, train, seed)
    settings = {"limit": limit, "shots": shots, "within": within, "both_sides": both_sides, "looks": looks,
                "length": length, "seed": seed}  # fmt: skip
    with ready(folder, tokenizer, device, threads, dtype) as (path, model):
        kind = "bfloat16" if dtype == "bfloat16" else "float32"
        target = Path("runs", f"evaluate-{_name(path)}") if out is None else Path(out)
        asking = Asking(Scorer.of(model, within, both_sides, looks), length)
        outcomes: dict[str, Outcome] = {}
        refused: dict[str, str] = {}
        with locked(target):
            kept = {key: settings[key] for key in ("within", "both_sides", "looks", "length")}
            _begun(target, path, {"tokenizer": model.tokenizer.fingerprint, "dtype": kind} | kept)
            for task in wanted:
                if why := asking.refusal(task.kind):
                    refused[task.name] = why
                    continue
                try:
                    found = (_text if task.kind == "text" else _items)(asking, task, target, limit, seed)
                except KeyboardInterrupt as stop:
                    raise Stopped(f"stopped; what was answered is in {target}: the same command goes on") from stop
                if isinstance(found, str):
                    refused[task.name] = found
                else:
                    outcomes[task.name] = found
            same = f"sightline evaluate {shlex.quote(str(path))} {shlex.join(map(str, named))} --out {target}"
            again = same if limit else f"sightline see {shlex.quote(str(path))}"
            tasks = {name: next(iter(outcome.measures.values())) for name, outcome in outcomes.items()}
            objective = asking.scorer.objective
            result = Evaluation(path, objective.family, objective.score_class, kind, tasks, outcomes, refused, target,
                                again, settings)  # fmt: skip
            if not outcomes:
                name, why = next(iter(refused.items()))
                raise SightlineError(f"{name}: {why}", "Choose a task that has a meaning for the family")
            write_json(target / "results.json", _with_earlier(target / "results.json", result.record()))
    if json is not None:
        write_json(Path(json), result.record())
    return result


def _several(words: Any) -> list[str | Path]:
    """Files and folders as a list; in Python one alone may be given as it is."""
    return [words] if isinstance(words, str | Path) else list(words)


def _tasks(words: Sequence[Any], limit: int, shots: int, train: Path | None, seed: int) -> list[Task]:
    """The tasks that are named, as they are to be asked."""
    from ..evaluation.suite import examples_beside, task_of, tasks_in

    found: dict[str, Task] = {}
    for word in words:
        for task in tasks_in(word):
            if task.name in found:
                raise SightlineError(
                    f"{task.path} and {found[task.name].path} are both called {task.name}", "Rename one, or ask twice"
                )
            if shots and task.kind not in ("pair", "text"):
                beside = train or examples_beside(task.path)
                if beside is None:
                    raise SightlineError(f"no file named train lies beside {task.path}", "Name one with --train")
                if beside.resolve() == task.path.resolve():
                    raise SightlineError(f"{beside} is what is asked: its items are no examples", "Name another")
                task = task.shown(task_of(beside), shots, seed)
            found[task.name] = task.drawn(limit, seed)
    if shots and not any(task.shots for task in found.values()):
        raise SightlineError("whole texts take no examples", "Leave --shots away")
    return list(found.values())


def _begun(target: Path, model: Path, settings: dict[str, Any]) -> None:
    """Refuse a folder whose answers are another model's, or were given otherwise."""
    from .. import hub

    made_of = {"model": hub.model_fingerprint(model)} | settings
    mark = target / "evaluation.json"
    if mark.exists():
        held = read_json(mark)
        if held.get("made_of") != made_of:
            other = [key for key in made_of if held.get("made_of", {}).get(key) != made_of[key]]
            raise SightlineError(
                f"{target} holds answers of other {', '.join(other)}", "Give the same again, or another --out"
            )
        return
    write_json(mark, {"made_of": made_of, "tasks": {}})


def _claimed(target: Path, task: Task) -> Path:
    """The file of a task's records; refused where it holds those of other items."""
    mark = target / "evaluation.json"
    held = read_json(mark)
    if held["tasks"].setdefault(task.name, task.mark) != task.mark:
        raise SightlineError(
            f"{target} holds answers to other items called {task.name}", "Give the same again, or another --out"
        )
    write_json(mark, held)
    path = target / "items" / f"{task.name}.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def _kept(path: Path) -> list[Record]:
    """The records of a file; a last line that was cut off is removed from it."""
    if not path.exists():
        return []
    content = path.read_bytes()
    whole = content[: content.rfind(b"\n") + 1]
    if len(whole) < len(content):
        with open(path, "r+b") as handle:
            handle.truncate(len(whole))
    try:
        return [jsons.loads(line) for line in whole.splitlines()]
    except ValueError as error:
        raise SightlineError(f"{path} is damaged: {error}", "Remove it, and its items are asked again") from error


def _added(path: Path, records: Sequence[Record]) -> None:
    with open(path, "a", encoding="utf-8") as handle:
        handle.write("".join(f"{jsons.dumps(record, ensure_ascii=False)}\n" for record in records))
        handle.flush()
        os.fsync(handle.fileno())


def _items(asking: Asking, task: Task, target: Path, limit: int, seed: int) -> Outcome | str:
    """Ask the items that have no record yet."""
    from ..evaluation.answers import groups, measures

    path = _claimed(target, task)
    done = {record["item"]: record for record in _kept(path)}
    left = [item for item in task.items if item.id not in done]
    if done and left:
        say(f"{task.name}: {len(done):,} of {len(task.items):,} items are answered; going on")
    with bar(task.name, len(task.items), "items") as shown:
        shown.advance(len(task.items) - len(left))
        for records in asking.records(task, left):
            _added(path, records)
            done |= {record["item"]: record for record in records}
            shown.advance(len(records), _so_far(list(done.values())))
    records = [done[item.id] for item in task.items]
    found = measures(task, records, asking)
    grouped = groups(task, records, next(iter(found.values())))
    scores = _scores(found, seed)
    return Outcome(task.kind, len(records), task.whole, task.shots, found, grouped, scores, _rendered(asking, task))


def _so_far(records: Sequence[Record]) -> str:
    return f"{sum(record['correct'] for record in records) / len(records):.1%} right"


def _scores(found: dict[str, Measured], seed: int) -> tuple[Score, ...]:
    from ..evaluation.answers import perplexity
    from ..evaluation.score import scored

    scores = []
    for one in found.values():
        score = scored([one], seed)
        if one.name == "nats_per_word":  # told as the perplexity that it is called by
            name = "pseudo_perplexity" if one.class_ == "pseudo" else "perplexity"
            low, value, high = (
                None if end is None else perplexity(end) for end in (score.low, score.value, score.high)
            )
            score = replace(score, name=name, value=value, unit="per word", low=low, high=high)
        scores.append(score)
    return tuple(scores)


def _text(asking: Asking, task: Task, target: Path, limit: int, seed: int) -> Outcome | str:
    """Bits per byte of texts, and the perplexity of their words."""
    import numpy as np

    from ..evaluation.bits import bits_per_byte
    from ..evaluation.sample import all_pieces

    documents = read_all((str(task.path),))
    if 0 < limit < len(documents):
        drawn = np.sort(np.random.default_rng((seed, 6)).permutation(len(documents))[:limit])
        documents = [documents[at] for at in drawn]
    path = _claimed(target, task)
    sample = all_pieces(documents, asking.scorer.model.tokenizer, 1.0, seed)
    found = bits_per_byte(asking.scorer.model, sample)
    if found.missing:
        return found.missing
    records = []
    for piece, bits, size in zip(sample.pieces, found.top.tolist(), found.bottom.tolist(), strict=True):
        name = documents[piece.document].id
        records.append(
            {"item": f"{name}#{piece.first}" if sample.blocks else name, "group": "", "gold": None, "predicted": None,
             "correct": None, "scores": [-bits * math.log(2)], "bytes": size}
        )  # fmt: skip
    path.unlink(missing_ok=True)
    _added(path, records)
    scores = _scores({found.name: found}, seed)
    words = sum(len(document.text.split()) for document in documents)
    if words:
        from ..evaluation.answers import perplexity

        value = perplexity(float(found.top.sum()) * math.log(2) / words)
        name = "pseudo_perplexity" if found.class_ == "pseudo" else "perplexity"
        scores += (replace(scores[0], name=name, value=value, unit="per word between spaces", low=None, high=None),)
    item = {"prompt": documents[0].text[:1000], "rule": found.context_rule}
    return Outcome("text", len(documents), max(task.whole, len(documents)), 0, {found.name: found}, {}, scores, item)


def _rendered(asking: Asking, task: Task) -> dict[str, Any]:
    """The first item as the model is asked."""
    item = task.items[0]
    same = len(set(item.contexts)) == 1
    told: dict[str, Any] = {"item": item.id, "prompt": item.contexts[0] if same else list(item.contexts)}
    if task.kind != "number":
        told["choices"] = [item.between + choice for choice in item.choices]
    told["gold"] = item.gold
    if task.kind in ("pair", "choice"):
        told["chance"] = round(sum(1 / len(one.choices) for one in task.items) / len(task.items), 4)
    return told | {"rule": asking.rule(task.kind)}


def _told(name: str, outcome: Outcome) -> list[str]:
    """A task's lines: its figures, the rule, and one item."""
    drawn = f"{outcome.n:,} items" if outcome.n >= outcome.whole else f"{outcome.n:,} of {outcome.whole:,} items"
    shots = f", {outcome.shots} examples before each" if outcome.shots else ""
    chance = f", chance {outcome.item['chance']:.1%}" if "chance" in outcome.item else ""
    lines = [f"{name} ({drawn}{shots}{chance})"]
    lines += [f"    {_figure(score)}" for score in outcome.scores]
    if outcome.groups:
        ranked = sorted((one.value or 0.0, group) for group, one in outcome.groups.items())
        mean = sum(value for value, _ in ranked) / len(ranked)
        lines.append(
            f"    {len(ranked)} groups, mean {mean:.1%}: from {ranked[0][1]} {ranked[0][0]:.1%} "
            f"to {ranked[-1][1]} {ranked[-1][0]:.1%}"
        )
    lines.append(f"    rule: {outcome.item['rule']}")
    lines += [f"    {score.note}" for score in outcome.scores[:1] if score.note]
    shown = {key: outcome.item[key] for key in ("prompt", "choices", "gold") if key in outcome.item}
    for key, value in shown.items():
        text = jsons.dumps(value, ensure_ascii=False)
        lines.append(f"    {key}: {text if len(text) <= LONGEST else '... ' + text[-LONGEST:]}")
    return lines


def _figure(score: Score) -> str:
    share: Callable[[float], str] = "{:.1%}".format if score.unit == "of 1" else "{:,.3f}".format
    bound = "<= " if score.class_ == "bound" else ""
    ends = "" if score.low is None or score.high is None else f" [{share(score.low)} to {share(score.high)}]"
    unit = "" if score.unit == "of 1" else f" {score.unit} ({score.class_})"
    return f"{score.name} {bound}{share(score.value or 0.0)}{ends}{unit}"


def _with_earlier(path: Path, record: dict[str, Any]) -> dict[str, Any]:
    """The results with those of tasks that were asked in this folder before."""
    earlier = read_json(path) if path.exists() else {"tasks": {}, "refused": {}}
    return record | {name: earlier[name] | record[name] for name in ("tasks", "refused")}


def _name(path: Path) -> str:
    """What a model folder is called: a run's is only called model."""
    return path.resolve().parent.name if path.name == "model" else path.resolve().name
