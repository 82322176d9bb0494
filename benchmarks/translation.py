"""Multi30k, English to German, test 2016: BLEU, chrF and speed of the ways to write a target, raw and distilled.

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
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from machine import data_folder, described, write

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
    slots: tuple[int, ...]  # that are tried for the largest batch
    beams: int  # with which the teacher writes what is distilled


SIZES = {
    "tiny": Size("tiny", 2500, 4000, 128, 16, 0.1, 1.0, (3, 3), (6, 1), 50, (2048,), 1),
    "full": Size("mini", 900, 8000, 256, 128, 0.3, 1.0, (6, 6), (12, 1), 20, (131_072,), 5),
}


@dataclass(frozen=True)
class Training:
    """A model of the table: a family, its settings, and whether its targets are distilled."""

    name: str
    family: str
    settings: dict[str, Any]
    distilled: bool = False


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
    encoder, decoder = size.deep
    deep = {"encoder_layers": encoder, "decoder_layers": decoder}
    shallow = dict(zip(deep, size.shallow, strict=True))
    for distilled in (False, True):
        mark = " distilled" if distilled else ""
        for depths in (deep, shallow):
            name = f"ar-{depths['encoder_layers']}-{depths['decoder_layers']}{mark}"
            found.append(Training(name, "seq2seq", depths, distilled))
        found.append(Training(f"cmlm{mark}", "cmlm", deep, distilled))
        streams = {"way": "semi", "streams": 3, "block": 3, "nar_share": 0.5}
        found.append(Training(f"bang{mark}", "bang", deep | streams, distilled))
    return found


def cells(of: Sequence[Training]) -> list[Cell]:
    """Every way to write with every model."""
    ways: dict[str, dict[str, dict[str, Any]]] = {
        "seq2seq": {
            "greedy": {"beams": 1},
            "greedy, drafted by lookup": {"drafter": "lookup"},
            "beam of 5": {"beams": 5},
        },
        "cmlm": {f"{rounds} rounds": {"iterations": rounds} for rounds in (1, 4, 10)},
        "bang": {
            "token by token": {"sampler": "next", "beams": 1},
            "token by token, drafted by itself": {"drafter": "self"},
            "blocks of 3": {"block": 3},
            "all at once": {"sampler": "once"},
        },
    }
    return [Cell(one.name, way, options) for one in of for way, options in ways[one.family].items()]


def main() -> None:
    """Train what is not trained, write what is not written, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=SIZES, default="tiny")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--data", type=Path, help="the folder multi30k (default: of SIGHTLINE_DATA)")
    parser.add_argument("--work", type=Path, default=Path("runs/translation"), help="where runs and cells are kept")
    parser.add_argument("--only", nargs="*", default=(), help="names of trainings")
    parser.add_argument("--train-only", action="store_true", help="leave the cells for later")
    parser.add_argument("--distill-only", action="store_true", help="write the teacher's targets and no more")
    parser.add_argument("--threads", type=int, default=0)
    for name, kind in (("steps", int), ("rate", float), ("dropout", float), ("width", str)):
        parser.add_argument(f"--{name}", type=kind, help="instead of the size's own, to try")
    given = parser.parse_args()
    size = SIZES[given.size]
    changes = {name: getattr(given, name) for name in ("steps", "rate", "dropout") if getattr(given, name) is not None}
    size = Size(**{**vars(size), **changes, **({"size": given.width} if given.width else {})})
    bench = Bench(given, size)
    if given.distill_only:
        bench.corpus(True)
        return
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
        self.size, self.device, self.threads = size, given.device, given.threads
        self.name = given.size
        self.data = given.data or data_folder() / "parallel" / "multi30k"
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
        sl.distill(
            teacher, str(self.data), sides="en-de", out=folder, device=self.device, beams=self.size.beams,
            slots=self.size.slots[-1], threads=self.threads,
        )  # fmt: skip
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
            "rate": size.rate, "dropout": size.dropout, "validations": 20, "averaged": 3,
            "compile": "off",  # of steps so short it costs more than it brings
            "dtype": "bfloat16" if self.device.startswith("cuda") else "auto",
        }  # fmt: skip
        result = sl.train(
            training.family, str(corpus), sides=sides, setting=words, tokenizer=str(self.tokenizer), out=folder,
            device=self.device, threads=self.threads, **options,
        )  # fmt: skip
        print(result)
        return folder

    def measured(self, cell: Cell) -> dict[str, Any]:
        """One cell of the table, from its file where it was measured."""
        path = self._kept(cell)
        if path.exists():
            held: dict[str, Any] = json.loads(path.read_text())
            return held
        path.parent.mkdir(exist_ok=True)
        folder = self.work / cell.training.replace(" ", "-")
        record = json.loads((folder / "results.json").read_text())
        with opened(folder, self.device) as model:
            found = self._timed(model, cell)
        names = {"tokens_seen": "tokens_seen", "parameters": "parameters", "tables": "embedding_parameters"}
        found |= {"name": cell.name} | {name: record[key] for name, key in names.items()}
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
        best, written = 0.0, []
        for slots in self.size.slots:
            start = time.perf_counter()
            written = translate(model, sources, slots=slots, **cell.options)
            best = max(best, len(sources) / (time.perf_counter() - start))
        texts = [one.text for one in written]
        scores = {score.name: vars(score) for score in translation_scores(texts, truths)}
        rounds = sum(one.rounds for one in written)
        return {
            "accepted": sum(one.tokens for one in written) / rounds if "drafter" in cell.options else None,
            "scores": scores,
            "latency_ms": 1e3 * statistics.median(singles),
            "per_second": best,
            "texts": texts[:5],
        }

    def table(self) -> None:
        """Write what there is so far."""
        heads = ["model", "way", "BLEU", "chrF", "one at a time, ms", "all together, sentences/s", "parameters"]
        lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
        found = []
        for cell in cells(trainings(self.size)):
            path = self._kept(cell)
            if not path.exists():
                lines.append(f"| {cell.training} | {cell.way} | not run | | | | |")
                continue
            one = json.loads(path.read_text())
            found.append(one)
            bleu, chrf = one["scores"]["BLEU"], one["scores"]["chrF"]
            way = cell.way + (f": {one['accepted']:.2f} tokens a round" if one.get("accepted") else "")
            told = f"{bleu['value']:.1f} ({bleu['low']:.1f} to {bleu['high']:.1f})"
            lines.append(
                f"| {cell.training} | {way} | {told if bleu['value'] >= UNTRAINED else 'untrained'} "
                f"| {chrf['value']:.1f} | {one['latency_ms']:.1f} | {one['per_second']:.1f} "
                f"| {one['parameters'] / 1e6:.1f} M, {one['tables'] / 1e6:.1f} M in tables |"
            )
        signatures = {one["signature"] for cell in found for one in cell["scores"].values()}
        size = self.size
        note = (
            f"{size.size}, {size.steps} steps of {size.batch} rows of {size.context} tokens, dropout {size.dropout}, "
            f"rate {size.rate}, {size.vocabulary} ids, one seed; {self.device}. "
            f"The teacher wrote with a beam of {size.beams}. Below {UNTRAINED:g} BLEU: untrained. "
            f"95% intervals over sentences. {'; '.join(sorted(signatures))}"
        )
        record = {"about": described(["torch", "sacrebleu"]), "size": asdict(size), "cells": found}
        write(f"translation-{self.name}", record, "\n".join([*lines, "", note]))

    def _kept(self, cell: Cell) -> Path:
        return self.work / "cells" / f"{cell.name.replace(', ', '--').replace(' ', '-')}.json"


@contextlib.contextmanager
def opened(folder: Path, device: str) -> Iterator[Model]:
    """A run's model, ready to write."""
    from sightline.training.machine import device_for

    model = hub.load(hub.located(folder)).to(device_for(device)).eval()
    with torch.no_grad():
        yield model


if __name__ == "__main__":
    main()
