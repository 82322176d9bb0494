"""Titles of news from their texts (Wikinews): BANG learned on texts first or not, written at any pace.

    python benchmarks/titles.py                              tiny, on two cores; give it again to go on
    python benchmarks/titles.py --size full --device cuda
    python benchmarks/titles.py --only nar nar-fresh         some trainings and their cells

One model learns on the articles (spans, nine streams), and three are tuned from it on pairs of an article's beginning
and its title: token by token, by all streams, and by masks alone as published. Three more are tuned as long from fresh
weights, over the same tokens. Each is then written in several ways; so is the floor, the first words of the text.

Each training is a run folder that goes on where it stopped, each cell one file; the table is written anew after every
cell. Dev chose the weights, test is reported. ROUGE by torchmetrics (extra `eval`): F of each title, its mean and 95%
interval over drawn titles; chrF by sacrebleu. Latency: one article at a time, the median. Tokenization is counted in
both speeds, and is the same for all.
"""

from __future__ import annotations

import argparse
import gzip
import json
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from machine import data_folder, described, write
from sacrebleu.metrics.chrf import CHRF

import sightline as sl
from sightline import hub
from sightline.objectives.model import Model
from sightline.objectives.translating import translate
from sightline.training.machine import device_for

SPLITS = ("train", "dev", "test")
ROUGE = ("rouge1", "rouge2", "rougeL")
DRAWS = 2000  # of the bootstrap over titles


@dataclass(frozen=True)
class Size:
    """How large the stacks are and how long they learn.

    Parameters
    ----------
    size, vocabulary, context : of the stacks. batch, rate : of an update. learned, tuned : steps on texts, on pairs.
    letters : of an article that its title is written from. block : tokens that are written at a time. singles :
        articles that are read one at a time.
    """

    size: str
    vocabulary: int
    context: int
    batch: int
    rate: float
    learned: int
    tuned: int
    letters: int
    block: int = 3
    singles: int = 50


SIZES = {
    "trial": Size("tiny", 2048, 128, 4, 1.0, 20, 10, 200, singles=5),
    "tiny": Size("tiny", 4096, 256, 8, 1.0, 6000, 3000, 480),
    "full": Size("mini", 8192, 256, 32, 1.0, 20_000, 5000, 640, singles=100),
}
WAYS = ("ar", "semi", "nar")
PACES: dict[str, dict[str, Any]] = {
    "token by token, beam of 4": {"sampler": "next", "beams": 4, "length_penalty": 1.2},
    "token by token": {"sampler": "next", "beams": 1},
    "in blocks": {"sampler": "blocks"},
    "in blocks, where sure": {"sampler": "blocks", "sure": 0.5},
    "all at once": {"sampler": "once"},
}
WRITTEN = {"ar": tuple(PACES)[:2], "semi": tuple(PACES), "nar": tuple(PACES)[-1:]}


def main() -> None:
    """Train what is not trained, write what is not written, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=SIZES, default="tiny")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--work", type=Path, default=Path("runs/titles"), help="where runs and cells are kept")
    parser.add_argument("--only", nargs="*", default=(), help="names of trainings: ar, semi, nar, ar-fresh, ...")
    parser.add_argument("--train-only", action="store_true", help="leave the cells for later")
    for name, kind in (("learned", int), ("tuned", int), ("batch", int), ("rate", float)):
        parser.add_argument(f"--{name}", type=kind, help="instead of the size's own, to try")
    given = parser.parse_args()
    changed = {name: value for name in ("learned", "tuned", "batch", "rate") if (value := getattr(given, name))}
    bench = Bench(given, replace(SIZES[given.size], **changed))
    chosen = [name for way in WAYS for name in (way, f"{way}-fresh") if not given.only or name in given.only]
    for name in chosen:
        bench.trained(name)
    if given.train_only:
        return
    for name in chosen:
        for pace in WRITTEN[name.removesuffix("-fresh")]:
            bench.cell(name, pace)
            bench.table()


class Bench:
    """The folder of one table."""

    def __init__(self, given: argparse.Namespace, size: Size) -> None:
        self.name, self.size, self.device, self.threads = given.size, size, given.device, given.threads
        self.work = given.work / given.size
        self.pairs = self.work / "pairs"
        self.held: tuple[str, Model] | None = None
        source = data_folder() / "lm_en" / "wikinews"
        self.texts = source
        for split in SPLITS:
            path = self.pairs / f"{split}.jsonl"
            if not path.exists():
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text("".join(paired(source / f"{split}.jsonl.gz", size.letters)), encoding="utf-8")
        self.test = [json.loads(line) for line in (self.pairs / "test.jsonl").read_text(encoding="utf-8").splitlines()]

    def _train(self, folder: Path, corpus: Path, steps: int, setting: Sequence[str], **more: Any) -> None:
        size = self.size
        compiled = "on" if self.device.startswith("cuda") else "auto"
        print(
            sl.train(
                "bang", str(corpus), size=size.size, budget=f"{steps}steps", context=size.context, batch=size.batch,
                rate=size.rate, out=folder, setting=tuple(setting), device=self.device, threads=self.threads,
                compile=compiled, **more,
            )
        )  # fmt: skip

    def learned(self) -> Path:
        """The model that learned on texts."""
        folder = self.work / "learned"
        if not (folder / "results.json").exists():
            self._train(folder, self.texts, self.size.learned, (), tokenizer=f"bpe:{self.size.vocabulary}")
        return folder

    def trained(self, name: str) -> Path:
        """The run of a training, tuned from the learned weights or from fresh ones, over the same tokens."""
        folder, start = self.work / name, self.learned()
        if (folder / "results.json").exists():
            return folder
        way = name.removesuffix("-fresh")
        setting = [f"way={way}", *([f"block={self.size.block}"] if way == "semi" else [])]
        fresh = {"tokenizer": str(start / "model" / "tokenizer.json")}
        more: dict[str, Any] = fresh if name.endswith("-fresh") else {"start": start}
        self._train(folder, self.pairs, self.size.tuned, setting, **more)
        return folder

    def cell(self, name: str, pace: str) -> dict[str, Any]:
        """One cell of the table, from its file where it was measured."""
        path = self._path(name, pace)
        if path.exists():
            return dict(json.loads(path.read_text(encoding="utf-8")))
        folder = self.trained(name)
        if self.held is None or self.held[0] != name:
            self.held = name, hub.load(hub.located(folder)).to(device_for(self.device)).eval()
        record = json.loads((folder / "results.json").read_text(encoding="utf-8"))
        found = {
            "training": name, "pace": pace, "parameters": record["parameters"], "seconds": record["seconds"],
            "tokens_seen": record["tokens_seen"], **self._written(self.held[1], PACES[pace]),
        }  # fmt: skip
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(found, indent=2, ensure_ascii=False), encoding="utf-8")
        return found

    def _path(self, name: str, pace: str) -> Path:
        return self.work / "cells" / f"{name}--{pace.replace(', ', '-').replace(' ', '-')}.json"

    def _written(self, model: Model, options: dict[str, Any]) -> dict[str, Any]:
        sources, titles = [one["source"] for one in self.test], [one["target"] for one in self.test]
        with torch.no_grad():
            translate(model, sources[:2], **options)
            singles = []
            for source in sources[: self.size.singles]:
                start = time.perf_counter()
                translate(model, [source], **options)
                singles.append(time.perf_counter() - start)
            start = time.perf_counter()
            texts = [text.text for text in translate(model, sources, **options)]
            together = len(sources) / (time.perf_counter() - start)
        return {
            "latency_ms": 1e3 * statistics.median(singles), "per_second": together, "texts": texts[:8],
            "scores": scored(texts, titles),
        }  # fmt: skip

    def table(self) -> None:
        """Write what there is so far."""
        head = ("training", "written", "ROUGE-1", "ROUGE-2", "ROUGE-L", "chrF", "ms a title", "titles/s together")
        lines = [f"| {' | '.join(head)} |", "|---|---|" + "--:|" * 6]
        titles = [one["target"] for one in self.test]
        floor = [first_words(one["source"], other) for one, other in zip(self.test, titles, strict=True)]
        floors = scored(floor, titles)
        lines.append(f"| none | the first words of the text | {' | '.join(map(told, floors.values()))} | | |")
        found = []
        for way in WAYS:
            for name in (way, f"{way}-fresh"):
                for pace in WRITTEN[way]:
                    path = self._path(name, pace)
                    if not path.exists():
                        lines.append(f"| {name} | {pace} | not run | | | | | |")
                        continue
                    one = json.loads(path.read_text(encoding="utf-8"))
                    found.append(one)
                    figures = " | ".join(told(score) for score in one["scores"].values())
                    lines.append(f"| {name} | {pace} | {figures} | {one['latency_ms']:.1f} | {one['per_second']:.1f} |")
        size = self.size
        about = (
            f"\n{len(titles)} titles of the test side. All stacks: {size.size}, half encoder and half decoder, "
            f"{size.vocabulary:,} tokens. Learned on texts: {size.learned:,} steps of {size.batch} rows of "
            f"{size.context}; every tuning: {size.tuned:,} such steps, `-fresh` from fresh weights. Blocks of "
            f"{size.block} tokens; where sure: as far as each has a probability of 0.5. All at once, a title has as "
            "many places as its source has tokens. Figures in brackets: 95% over drawn titles.\n"
        )
        record = {"about": described(["torch", "torchmetrics", "sacrebleu"]), "size": vars(size), "floor": floors}
        table = "# Titles from texts\n\n" + "\n".join(lines) + "\n" + about
        write(f"titles-{self.name}", record | {"cells": found}, table)


def paired(path: Path, letters: int) -> list[str]:
    """Records of an article's beginning, cut at a word, and its title, as lines of JSON."""
    found = []
    with gzip.open(path, "rt", encoding="utf-8") as handle:
        for line in handle:
            article = json.loads(line)
            text, title = (" ".join(article[name].split()) for name in ("text", "title"))
            if len(text) > letters:
                text = text[:letters].rpartition(" ")[0] or text[:letters]
            if text and title:
                found.append(json.dumps({"id": str(article["id"]), "source": text, "target": title}) + "\n")
    return found


def first_words(text: str, title: str) -> str:
    """As many first words of the text as the title has: a floor that knows the title's length."""
    return " ".join(text.split()[: len(title.split())])


def scored(texts: Sequence[str], titles: Sequence[str]) -> dict[str, list[float]]:
    """ROUGE's F and chrF of each text, from 0 to 100: mean, and 95% over drawn titles."""
    from torchmetrics.functional.text import rouge_score

    rouge = [rouge_score(text, title, rouge_keys=ROUGE) for text, title in zip(texts, titles, strict=True)]
    chrf = CHRF()
    each = {name: [100 * float(one[f"{name}_fmeasure"]) for one in rouge] for name in ROUGE}
    each["chrF"] = [chrf.sentence_score(text, [title]).score for text, title in zip(texts, titles, strict=True)]
    drawn = np.random.default_rng(0).integers(0, len(texts), (DRAWS, len(texts)))
    found = {}
    for name, values in each.items():
        means = np.asarray(values)[drawn].mean(1)
        found[name] = [float(np.mean(values)), *np.quantile(means, [0.025, 0.975]).tolist()]
    return found


def told(score: Sequence[float]) -> str:
    """A figure with its interval."""
    return f"{score[0]:.1f} ({score[1]:.1f}–{score[2]:.1f})"


if __name__ == "__main__":
    main()
