"""Fine-tuning of models of several families, pretrained under one budget, against the same stacks from fresh weights.

    python benchmarks/finetuning.py                             tiny, an hour of two cores: give it to two processes,
    python benchmarks/finetuning.py --only causal masked        each with some of the families, or to one after another
    python benchmarks/finetuning.py --size full --device cuda
    python benchmarks/finetuning.py --only masked --tasks sst2  some families, some tasks
    python benchmarks/finetuning.py --train-only                pretraining alone

Pretrained on Wikinews (English) or Chinese Wikipedia; tuned in full on SST-2, CoLA, WNUT-17, UD EWT and ChnSentiCorp
(there dev and test without the rows that stand in train too). Both beginnings try the same rates with the first seed;
dev chooses, and the other seeds follow with the chosen one. Test is reported: CoLA's is its out-of-domain dev side,
since its test labels are not public. Each pretraining is a run folder and each cell a folder of `sightline finetune`,
and both go on where they stopped; the table is written anew after every cell. Intervals: 95% over drawn seeds and
items; differences are paired by item.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from machine import data_folder, described, write
from numpy.typing import NDArray

import sightline as sl
from sightline.errors import SightlineError
from sightline.evaluation.bootstrap import difference, wilson
from sightline.evaluation.labelled import matthews
from sightline.evaluation.labelling import entities

FAMILIES = ("causal", "masked", "electra", "prefix", "two_way")
BEGINNINGS = ("pretrained", "scratch")
SAME_FRESH = {"electra": "masked", "prefix": "masked"}  # one stack, read both ways: without pretraining the same model
DRAWS = 1000


@dataclass(frozen=True)
class Task:
    """A labelled data set.

    Parameters
    ----------
    language : of the model that is tuned on it. folder : below the data folder. figure : its usual one.
    options : that ``finetune`` reads it with. long : how many times longer its items are, of which so many fewer are
        taken where they are limited.
    """

    title: str
    language: str
    folder: str
    figure: str
    options: dict[str, Any] = field(default_factory=dict)
    long: int = 1


TASKS = {
    "sst2": Task("SST-2", "en", "classification/sst2", "accuracy"),
    "cola": Task(
        "CoLA", "en", "classification/cola", "matthews",
        {"columns": "text=4,label=2", "train": "in_domain_train.tsv", "dev": "in_domain_dev.tsv",
         "test": "out_of_domain_dev.tsv"},
    ),
    "wnut17": Task("WNUT-17", "en", "tagging/wnut17", "span_f1"),
    "ewt": Task("UD EWT", "en", "tagging/ud_english_ewt", "accuracy"),
    "chnsenticorp": Task(
        "ChnSentiCorp", "zh", "classification/chnsenticorp", "accuracy",
        {"dev": "dev_not_in_train.tsv.gz", "test": "test_not_in_train.tsv.gz"}, 2,
    ),
}  # fmt: skip
CORPORA = {"en": ("lm_en/wikinews", "Wikinews"), "zh": ("lm_zh/wikipedia_zh", "Chinese Wikipedia")}


@dataclass(frozen=True)
class Size:
    """How large the stacks are and how long they learn.

    Parameters
    ----------
    size, context : of the stacks. vocabulary : of each language. tokens : of pretraining. epochs, limit : of tuning,
        and training items at most (0: all). rates : that are tried. seeds : of each cell.
    """

    size: str
    context: int
    vocabulary: dict[str, int]
    tokens: str
    epochs: int
    limit: int
    rates: tuple[float, ...]
    seeds: int = 3


SIZES = {
    "trial": Size("tiny", 64, {"en": 512, "zh": 512}, "20steps", 1, 32, (3e-4,), 1),
    "tiny": Size("tiny", 128, {"en": 4096, "zh": 8192}, "3Mtok", 4, 1000, (3e-4, 1e-3, 3e-3, 1e-2)),
    "full": Size("mini", 256, {"en": 8192, "zh": 16384}, "60Mtok", 8, 0, (1e-4, 3e-4, 1e-3), 5),
}


def main() -> None:
    """Pretrain what is not pretrained, tune what is not tuned, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=SIZES, default="tiny")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--work", type=Path, default=Path("runs/finetuning"), help="where runs and cells are kept")
    parser.add_argument("--only", nargs="*", default=(), choices=FAMILIES, help="some families")
    parser.add_argument("--tasks", nargs="*", default=(), choices=TASKS, help="some tasks")
    parser.add_argument("--train-only", action="store_true", help="leave the cells for later")
    parser.add_argument("--blimp", action="store_true", help="also evaluate the pretrained models on BLiMP")
    given = parser.parse_args()
    bench = Bench(given)
    families = [family for family in FAMILIES if not given.only or family in given.only]
    tasks = [task for task in TASKS if not given.tasks or task in given.tasks]
    for family in families:
        for language in sorted({TASKS[task].language for task in tasks}):
            bench.pretrained(family, language)
    if given.train_only:
        return
    for task in tasks:
        for family in families:
            for beginning in BEGINNINGS:
                if beginning == "pretrained" or family not in SAME_FRESH:
                    bench.cell(family, task, beginning)
                    bench.table()
    if given.blimp:
        for family in families:
            bench.blimp(family)
        bench.table()
    print(bench.table())


class Bench:
    """The folder of one table."""

    def __init__(self, given: argparse.Namespace) -> None:
        self.name, self.size, self.device, self.threads = given.size, SIZES[given.size], given.device, given.threads
        self.work = given.work / given.size

    def pretrained(self, family: str, language: str) -> Path:
        """The run of a family on the corpus of a language."""
        size, folder = self.size, self.work / f"{family}-{language}"
        if not (folder / "results.json").exists():
            print(
                sl.train(
                    family, str(data_folder() / CORPORA[language][0]), size=size.size, budget=size.tokens,
                    context=size.context, tokenizer=f"bpe:{size.vocabulary[language]}", validations=3, out=folder,
                    device=self.device, threads=self.threads,
                    compile="on" if self.device.startswith("cuda") else "auto",
                ),
                flush=True,
            )  # fmt: skip
        return folder

    def cell(self, family: str, task: str, beginning: str) -> dict[str, Any]:
        """One cell, from its file where it was measured; the rate is chosen on dev with the first seed."""
        path = self._path(family, task, beginning)
        if path.exists():
            return dict(json.loads(path.read_text(encoding="utf-8")))
        of, size = TASKS[task], self.size
        done = sl.finetune(
            self.pretrained(family, of.language), data_folder() / of.folder, from_scratch=beginning == "scratch",
            rate=size.rates, seeds=size.seeds, epochs=size.epochs, patience=0, limit=size.limit // of.long,
            device=self.device, threads=self.threads, out=self.work / "tuned" / f"{family}-{task}-{beginning}",
            **of.options,
        )  # fmt: skip
        found = {
            "family": family, "task": task, "beginning": beginning, "folder": str(done.folder.relative_to(self.work)),
            **done.results,
        }  # fmt: skip
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(found, indent=2, ensure_ascii=False), encoding="utf-8")
        print(f"{family}, {task}, {beginning}: {done.scores[0]}", flush=True)
        return found

    def _path(self, family: str, task: str, beginning: str) -> Path:
        family = SAME_FRESH.get(family, family) if beginning == "scratch" else family
        return self.work / "cells" / f"{family}--{task}--{beginning}.json"

    def blimp(self, family: str) -> None:
        """BLiMP of the English model, by its family's own rule; a family without one says why."""
        path = self.work / "cells" / f"{family}--blimp.json"
        if path.exists():
            return
        try:
            files = (data_folder() / "benchmarks" / "blimp",)
            out = self.work / "blimp" / family
            found = sl.evaluate(self.pretrained(family, "en"), files, out=out, device=self.device, threads=self.threads)
            right = np.concatenate([one.top / one.bottom for one in found.tasks.values()])
            share = wilson(int(right.sum()), len(right))
            told: dict[str, Any] = {"n": len(right), "value": share.value, "low": share.low, "high": share.high}
        except SightlineError as error:
            told = {"refused": f"refused: {str(error).split(': ', 1)[-1].split('. ')[0]}"}
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(told), encoding="utf-8")

    def table(self) -> str:
        """Write what there is so far."""
        figures = ", ".join(f"{task.title} {task.figure}" for task in TASKS.values())
        lines = [
            "# Fine-tuning: pretrained against fresh weights of the same stack",
            "",
            f"| family | begun | {' | '.join(task.title for task in TASKS.values())} |",
            "|---|---|" + "--:|" * len(TASKS),
        ]
        record: dict[str, Any] = {"cells": [], "differences": [], "blimp": {}}
        floors = []
        for task in TASKS:
            held = next((one for family in FAMILIES if (one := self._held(family, task, "pretrained"))), None)
            score = None if held is None else _named(held["floor"], TASKS[task].figure)
            floors.append("" if score is None or score["value"] is None else f"{100 * score['value']:.1f}")
        lines.append(f"| none | the commonest answer | {' | '.join(floors)} |")
        for family in FAMILIES:
            if not any(self._held(family, task, "pretrained") for task in TASKS):
                continue
            for beginning in BEGINNINGS:
                if beginning == "scratch" and family in SAME_FRESH:
                    continue
                told = []
                for task in TASKS:
                    cell = self._held(family, task, beginning)
                    told.append("not run" if cell is None else _told(_named(cell["scores"], TASKS[task].figure)))
                    if cell is not None:
                        record["cells"].append(cell)
                lines.append(f"| {family} | {beginning} | {' | '.join(told)} |")
            told = []
            for task in TASKS:
                both = [self._held(family, task, beginning) for beginning in BEGINNINGS]
                if None in both:
                    told.append("")
                    continue
                value, low, high = self._difference(task, *both)  # type: ignore[arg-type]
                told.append(f"{100 * value:+.1f} ({100 * low:+.1f} to {100 * high:+.1f})")
                record["differences"].append({"family": family, "task": task, "value": value, "low": low, "high": high})
            lines.append(f"| {family} | *difference* | {' | '.join(told)} |")
        for family in FAMILIES:
            path = self.work / "cells" / f"{family}--blimp.json"
            if path.exists():
                record["blimp"][family] = json.loads(path.read_text(encoding="utf-8"))
        if record["blimp"]:
            lines += ["", "BLiMP of the pretrained English models, in percent of pairs (chance: 50):", ""]
            for family, one in record["blimp"].items():
                lines.append(f"- {family}: {one.get('refused') or _told(one)}")
        size = self.size
        items = f"at most {size.limit:,} items (ChnSentiCorp: half as many)" if size.limit else "all items"
        lines += [
            "",
            f"In percent: {figures}. All stacks: {size.size}, context {size.context}; pretraining: {size.tokens} "
            f"of {CORPORA['en'][1]} or {CORPORA['zh'][1]}; tuning: all weights, {size.epochs} epochs of "
            f"{items}, {size.seeds} seeds, the best rate of {', '.join(map(str, size.rates))} by "
            "dev with the first seed, the best epoch by dev. From scratch electra and prefix are masked's model. In "
            "brackets: 95% over drawn seeds and items; differences are paired by item.",
            "",
        ]
        about = described(["torch", "numpy", "nervaluate", "tokenizers"])
        table = "\n".join(lines)
        write(f"finetuning-{self.name}", {"about": about, "size": vars(size), **record}, table, show=False)
        return table

    def _held(self, family: str, task: str, beginning: str) -> dict[str, Any] | None:
        path = self._path(family, task, beginning)
        return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None

    def _difference(self, task: str, one: dict[str, Any], other: dict[str, Any]) -> tuple[float, float, float]:
        """The figure of one cell minus that of the other, on the same draws of items; each draws its own seeds."""
        parts = [self._answers(cell) for cell in (one, other)]
        figure = TASKS[task].figure
        if figure == "matthews":
            return _between(matthews, parts[0], parts[1])
        tops, bottoms = zip(*(_sums(part, figure) for part in parts), strict=True)
        found = difference(tops[0], bottoms[0], tops[1], bottoms[1], draws=DRAWS)
        return found.value, found.low or 0.0, found.high or 0.0

    def _answers(self, cell: dict[str, Any]) -> list[list[dict[str, Any]]]:
        """The records of test items, seed by seed."""
        lines = (self.work / cell["folder"] / "predictions.jsonl").read_text(encoding="utf-8").splitlines()
        records = [json.loads(line) for line in lines]
        return [[one for one in records if one["seed"] == seed["seed"]] for seed in cell["seeds"]]


def _sums(seeds: Sequence[Sequence[dict[str, Any]]], figure: str) -> tuple[NDArray[Any], NDArray[Any]]:
    """Tops and bottoms [seeds, items] of a figure that is a ratio of sums."""
    if figure == "span_f1":
        kinds = sorted({tag[2:] for one in seeds[0] for tag in one["gold"] if tag != "O"})
        counts = np.array([[entities(one["gold"], one["predicted"], kinds) for one in seed] for seed in seeds], float)
        return 2 * counts[..., 0], counts[..., 1]
    sizes = np.array(
        [[len(one["gold"]) if isinstance(one["gold"], list) else 1 for one in seed] for seed in seeds], float
    )
    return np.array([[one["correct"] for one in seed] for seed in seeds]) * sizes, sizes


def _between(
    figure: Callable[[NDArray[Any], NDArray[Any]], float],
    one: list[list[dict[str, Any]]],
    other: list[list[dict[str, Any]]],
) -> tuple[float, float, float]:
    """As ``difference``, of a figure of whole sets of classes."""
    names = sorted({record["gold"] for record in one[0]})
    gold = np.array([names.index(record["gold"]) for record in one[0]], float)
    sides = [
        np.array([[names.index(record["predicted"]) for record in seed] for seed in part], float)
        for part in (one, other)
    ]
    draws, found = np.random.default_rng(0), []
    for _ in range(DRAWS):
        items = draws.integers(len(gold), size=len(gold))
        means = [
            np.mean([figure(gold[items], side[at][items]) for at in draws.integers(len(side), size=len(side))])
            for side in sides
        ]
        found.append(float(means[0] - means[1]))
    value = float(
        np.mean([figure(gold, told) for told in sides[0]]) - np.mean([figure(gold, told) for told in sides[1]])
    )
    low, high = np.quantile(found, [0.025, 0.975]).tolist()
    return value, low, high


def _named(scores: Sequence[dict[str, Any]], name: str) -> dict[str, Any] | None:
    return next((one for one in scores if one["name"] == name), None)


def _told(score: dict[str, Any] | None) -> str:
    """A figure in percent with its interval."""
    if score is None or score["value"] is None:
        return "–"
    if score["low"] is None:
        return f"{100 * score['value']:.1f}"
    return f"{100 * score['value']:.1f} ({100 * score['low']:.1f}–{100 * score['high']:.1f})"


if __name__ == "__main__":
    main()
