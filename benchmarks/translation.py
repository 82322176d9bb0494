"""Multi30k, English to German, test 2016: BLEU, chrF and speed of the ways to write a target, from raw and distilled text.

    python benchmarks/translation.py                       tiny, on two cores, an hour; give it again to go on
    python benchmarks/translation.py --size full --device cuda
    python benchmarks/translation.py --only ar-3-3         one training and its cells

Each training is a run folder that goes on where it stopped, each cell one file; the table is written anew after every
cell. Trainings of one table see the same text in the same tokens. Distilled: the targets are what the deep-deep teacher
writes for the training sources (Kim and Rush, 2016); dev and test stay as they are.

Latency: one sentence at a time, the median of the first test sentences. Throughput: the whole test side in batches of
as many slots as are quickest. Tokenization is not counted in either, nor is the first, warming pass.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import statistics
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from machine import RESULTS, described, write

import sightline as sl
from sightline import hub
from sightline.data import read
from sightline.data.pairs import parted
from sightline.data.trainer import tokenizer_for
from sightline.evaluation.translation import translation_scores
from sightline.objectives.model import Model
from sightline.objectives.translating import translate

UNTRAINED = 5.0  # BLEU: below, a cell enters no claim


@dataclass(frozen=True)
class Size:
    """How large the stacks are and how long they learn."""

    size: str
    steps: int
    vocabulary: int
    context: int
    batch: int
    dropout: float
    rate: float
    deep: tuple[int, int]  # layers of encoder and decoder
    shallow: tuple[int, int]
    singles: int  # sentences that are written one at a time


SIZES = {
    "tiny": Size("tiny", 2500, 4000, 128, 16, 0.1, 1.0, (3, 3), (6, 1), 50),
    "full": Size("mini", 5000, 8000, 256, 32, 0.3, 0.5, (6, 6), (12, 1), 100),
}


@dataclass(frozen=True)
class Training:
    """A model of the table: a family, its settings, and whether its targets are distilled."""

    name: str
    family: str
    settings: dict[str, Any]
    distilled: bool = False
    more: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Cell:
    """A training and a way to write with it."""

    training: str
    way: str
    options: dict[str, Any]

    @property
    def name(self) -> str:
        return f"{self.training}, {self.way}"


def trainings(size: Size) -> list[Training]:
    """All models, the teacher first."""
    found = []
    for distilled in (False, True):
        mark = " distilled" if distilled else ""
        for encoder, decoder in (size.deep, size.shallow):
            depths = {"encoder_layers": encoder, "decoder_layers": decoder}
            found.append(Training(f"ar-{encoder}-{decoder}{mark}", "seq2seq", depths, distilled))
    return found


def cells(of: Sequence[Training]) -> list[Cell]:
    """Every way to write with every model."""
    found = []
    for training in of:
        if training.family == "seq2seq":
            found += [Cell(training.name, "beam of 5", {"beams": 5}), Cell(training.name, "greedy", {"beams": 1})]
    return found


def main() -> None:
    """Train what is not trained, write what is not written, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=SIZES, default="tiny")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--data", type=Path, help="the folder multi30k (default: of SIGHTLINE_DATA)")
    parser.add_argument("--work", type=Path, default=Path("runs/translation"), help="where runs and cells are kept")
    parser.add_argument("--only", nargs="*", default=(), help="names of trainings")
    parser.add_argument("--train-only", action="store_true", help="leave the cells for later")
    parser.add_argument("--threads", type=int, default=0)
    for name, kind in (("steps", int), ("rate", float), ("dropout", float), ("width", str)):
        parser.add_argument(f"--{name}", type=kind, help="instead of the size's own, to try")
    given = parser.parse_args()
    size = SIZES[given.size]
    changes = {name: getattr(given, name) for name in ("steps", "rate", "dropout") if getattr(given, name) is not None}
    size = Size(**{**vars(size), **changes, **({"size": given.width} if given.width else {})})
    bench = Bench(given, size)
    chosen = [one for one in trainings(size) if not given.only or one.name in given.only]
    for training in chosen:
        bench.trained(training)
    if given.train_only:
        return
    for cell in cells(chosen):
        bench.measured(cell)
        bench.table()


class Bench:
    """The folder of one table."""

    def __init__(self, given: argparse.Namespace, size: Size) -> None:
        import os

        self.size, self.device, self.threads = size, given.device, given.threads
        self.name = given.size
        self.data = given.data or Path(os.environ["SIGHTLINE_DATA"]) / "parallel" / "multi30k"
        self.work = given.work / given.size
        self.work.mkdir(parents=True, exist_ok=True)
        corpus = read(self.data, sides="en-de")
        self.pairs = [parted(document.text) for document in corpus.test]
        self.tokenizer = self.work / "tokenizer"
        if not self.tokenizer.exists():
            tokenizer_for(corpus, f"bpe:{size.vocabulary}").save(self.tokenizer)

    def corpus(self, distilled: bool) -> tuple[Path, str]:
        """The pairs that a model learns, and their sides; the teacher writes what is distilled, once."""
        if not distilled:
            return self.data, "en-de"
        folder = self.work / "distilled"
        teacher = self.work / trainings(self.size)[0].name
        sl.distill(teacher, self.data, sides="en-de", out=folder, device=self.device)  # type: ignore[attr-defined]
        return folder, ""

    def trained(self, training: Training) -> Path:
        """The run of a training, which goes on where it stopped."""
        size, folder = self.size, self.work / training.name.replace(" ", "-")
        if (folder / "results.json").exists():
            return folder
        corpus, sides = self.corpus(training.distilled)
        words = tuple(f"{name}={value}" for name, value in training.settings.items())
        options: dict[str, Any] = {
            "size": size.size, "budget": f"{size.steps}steps", "context": size.context, "batch": size.batch,
            "rate": size.rate, "dropout": size.dropout, "validations": 20, "averaged": 5,
            "compile": "on" if self.device.startswith("cuda") else "auto",
        }  # fmt: skip
        print(
            sl.train(
                training.family, str(corpus), sides=sides, setting=words, tokenizer=str(self.tokenizer), out=folder,
                device=self.device, threads=self.threads, **options | training.more,
            )  # fmt: skip
        )
        return folder

    def measured(self, cell: Cell) -> dict[str, Any]:
        """One cell of the table, from its file where it was measured."""
        path = self.work / "cells" / f"{cell.name.replace(', ', '--').replace(' ', '-')}.json"
        if path.exists():
            return json.loads(path.read_text())
        path.parent.mkdir(exist_ok=True)
        folder = self.work / cell.training.replace(" ", "-")
        record = json.loads((folder / "results.json").read_text())
        with opened(folder, self.device) as model:
            found = self._timed(model, cell)
        found |= {"name": cell.name, "tokens_seen": record["tokens_seen"], "parameters": record["parameters"],
                  "tables": record["embedding_parameters"], "seconds": record["seconds"]}  # fmt: skip
        path.write_text(json.dumps(found, indent=2, ensure_ascii=False))
        return found

    def _timed(self, model: Model, cell: Cell) -> dict[str, Any]:
        sources, truths = [one for one, _ in self.pairs], [one for _, one in self.pairs]
        translate(model, sources[:2], **cell.options)
        singles = []
        for source in sources[: self.size.singles]:
            start = time.perf_counter()
            translate(model, [source], **cell.options)
            singles.append(time.perf_counter() - start)
        best, texts = 0.0, []
        for slots in (1024, 8192, 65536) if self.device.startswith("cuda") else (512, 2048, 8192):
            start = time.perf_counter()
            texts = [text.text for text in translate(model, sources, slots=slots, **cell.options)]
            best = max(best, len(sources) / (time.perf_counter() - start))
        scores = {score.name: vars(score) for score in translation_scores(texts, truths)}
        return {"scores": scores, "latency_ms": 1e3 * statistics.median(singles), "per_second": best, "texts": texts[:5]}

    def table(self) -> None:
        """Write what there is so far."""
        lines = ["| model | way | BLEU | chrF | ms a sentence, one at a time | sentences/s, all together | parameters |",
                 "|---|---|---|---|---|---|---|"]  # fmt: skip
        found = []
        for cell in cells(trainings(self.size)):
            path = self.work / "cells" / f"{cell.name.replace(', ', '--').replace(' ', '-')}.json"
            if not path.exists():
                lines.append(f"| {cell.training} | {cell.way} | not run | | | | |")
                continue
            one = json.loads(path.read_text())
            found.append(one)
            bleu, chrf = one["scores"]["BLEU"], one["scores"]["chrF"]
            told = "untrained" if bleu["value"] < UNTRAINED else f"{bleu['value']:.1f} ({bleu['low']:.1f} to {bleu['high']:.1f})"
            lines.append(
                f"| {cell.training} | {cell.way} | {told} | {chrf['value']:.1f} | {one['latency_ms']:.1f} "
                f"| {one['per_second']:.1f} | {one['parameters'] / 1e6:.1f} M + {one['tables'] / 1e6:.1f} M in tables |"
            )
        print("\n".join(lines))


@contextlib.contextmanager
def opened(folder: Path, device: str) -> Iterator[Model]:
    """A run's model, ready to write."""
    from sightline.training.machine import device_for

    model = hub.load(hub.located(folder)).to(device_for(device)).eval()
    with torch.no_grad():
        yield model


if __name__ == "__main__":
    main()
