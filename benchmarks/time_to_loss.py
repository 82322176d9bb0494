"""Time to a validation loss: Sightline beside nanoGPT's recipe, at the same number of layers and width.

    python benchmarks/time_to_loss.py shakespeare --seeds 3     characters, nanoGPT's CPU recipe as published
    python benchmarks/time_to_loss.py wikitext --seeds 1        BPE, 10 M parameters, 1.5 M tokens for the peer

The peer is transformers' GPT-2, the same architecture, under nanoGPT's published settings. One judge for both: the
whole validation split in windows of the recipe's context, every so many steps, its time excluded; all else counts,
compilation, checkpoints and first weights from counts included. Sightline has reached the peer's last loss where two
successive judgements lie below it, and the later one's time counts. Both run in one process, the peer in two halves
around Sightline, so that a drift of the machine meets both. The floor is counts of five tokens: compare speed, not
models, at this scale.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from machine import RESULTS, data_folder, described, write
from paired import Quiet
from torch.nn import functional as F

from sightline.data import Document, Packed, Rows, TokenFile, Tokenizer, read, tokenized, train_tokenizer
from sightline.data.order import Order
from sightline.memory import keep_freed_memory
from sightline.objectives import Causal, NGram
from sightline.objectives.model import Model, built
from sightline.runs.counted import pairs
from sightline.stacks import sizes
from sightline.stacks.counted import TABLE_RATE, begin_from
from sightline.training.loop import train
from sightline.training.settings import Optimization, Settings


@dataclass(frozen=True)
class Work:
    """A corpus, the peer's recipe on it, and how long Sightline trains.

    Parameters
    ----------
    size : of both stacks. context : tokens of a window.
    peer_batch, peer_steps : the recipe. peer_half, peer_compiled : bfloat16 autocast and torch.compile for the peer.
    batch, steps : of Sightline. every : steps between two judgements. unit : what the loss is counted in.
    aim : how many times sooner. init : Sightline's first weights, drawn or counted.
    """

    title: str
    size: str
    context: int
    peer_batch: int
    peer_steps: int
    peer_half: bool
    peer_compiled: bool
    batch: int
    steps: int
    every: int
    unit: str
    aim: float
    init: str


WORKS = {
    "shakespeare": Work(
        "Tiny Shakespeare", "tiny", 64, 12, 2000, False, False, 16, 216, 5, "nats per character", 10, "random"
    ),
    "wikitext": Work("WikiText-2", "mini", 256, 8, 732, True, True, 8, 80, 10, "nats per token", 5, "counts"),
}
BPE = 8192


@dataclass(frozen=True)
class Text:
    """A tokenized corpus: the training file, and the validation tokens."""

    tokenizer: Tokenizer
    train: TokenFile
    held: np.ndarray


def shakespeare(folder: Path) -> Text:
    text = (data_folder() / "lm_en" / "tinyshakespeare" / "input.txt").read_text(encoding="utf-8")
    cut = int(0.9 * len(text))
    tokenizer = train_tokenizer([text], "char")
    file = tokenized([Document("train", text[:cut])], tokenizer, folder / "train")
    return Text(tokenizer, file, tokenizer.encode(text[cut:]))


def wikitext(folder: Path) -> Text:
    corpus = read(str(data_folder() / "lm_en" / "wikitext2"))
    tokenizer = train_tokenizer([document.text for document in corpus.train], "bpe", BPE)
    file = tokenized(corpus.train, tokenizer, folder / "train")
    return Text(tokenizer, file, tokenizer.encode("\n".join(document.text for document in corpus.dev)))


TEXTS = {"shakespeare": shakespeare, "wikitext": wikitext}


def judge(
    nats: Callable[[torch.Tensor, torch.Tensor], float], ids: np.ndarray, context: int, half: bool = False
) -> float:
    """Mean nats per token over windows of the context that cover the whole split; ``half``: under bfloat16 autocast."""
    count = (len(ids) - 1) // context
    x = torch.from_numpy(ids[: count * context].astype(np.int64)).view(count, context)
    y = torch.from_numpy(ids[1 : count * context + 1].astype(np.int64)).view(count, context)
    lines = max(1, 8192 // context)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=half):
        total = sum(nats(x[at : at + lines], y[at : at + lines]) for at in range(0, count, lines))
    return total / (count * context)


def judged(model: Model, ids: np.ndarray, context: int, half: bool = False) -> float:
    """The judge's loss of one of our models: rows of context + 1, whose first token is shown and not asked."""

    def nats(x: torch.Tensor, y: torch.Tensor) -> float:
        rows = Rows.of(list(torch.cat([x, y[:, -1:]], 1).numpy()), model.tokenizer)
        return float(model.examined(rows)[0].sum())

    model.eval()
    return judge(nats, ids, context, half)


class Peer:
    """nanoGPT's recipe on transformers' GPT-2."""

    def __init__(self, work: Work, text: Text, seed: int) -> None:
        from transformers import GPT2Config, GPT2LMHeadModel

        torch.manual_seed(seed)
        self.work, shape = work, sizes.size(work.size)
        self.ids = torch.from_numpy(np.asarray(text.train.tokens, dtype=np.int64))
        config = GPT2Config(
            vocab_size=text.tokenizer.padded, n_positions=work.context, n_embd=shape.width, n_layer=shape.layers,
            n_head=shape.heads, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0, bos_token_id=0, eos_token_id=0,
        )  # fmt: skip
        self.model = GPT2LMHeadModel(config)
        self.run_model = torch.compile(self.model) if work.peer_compiled else self.model
        decayed = [weight for weight in self.model.parameters() if weight.dim() >= 2]
        plain = [weight for weight in self.model.parameters() if weight.dim() < 2]
        groups = [{"params": decayed, "weight_decay": 0.1}, {"params": plain, "weight_decay": 0.0}]
        self.optimizer = torch.optim.AdamW(groups, lr=1e-3, betas=(0.9, 0.99))
        self.generator = torch.Generator().manual_seed(seed)
        self.done = 0

    def run(self, steps: int) -> float:
        """Seconds of so many steps."""
        self.model.train()
        context = self.work.context
        start = time.perf_counter()
        for _ in range(steps):
            rate = 1e-3 * (self.done + 1) / 101 if self.done < 100 else self._cosine()
            for group in self.optimizer.param_groups:
                group["lr"] = rate
            at = torch.randint(len(self.ids) - context, (self.work.peer_batch,), generator=self.generator)
            x = torch.stack([self.ids[i : i + context] for i in at])
            y = torch.stack([self.ids[i + 1 : i + 1 + context] for i in at])
            with torch.autocast("cpu", torch.bfloat16, enabled=self.work.peer_half):
                logits = self.run_model(x).logits
            F.cross_entropy(logits.flatten(0, 1), y.flatten()).backward()
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
            self.optimizer.step()
            self.optimizer.zero_grad(set_to_none=True)
            self.done += 1
        return time.perf_counter() - start

    def _cosine(self) -> float:
        done = (self.done - 100) / (self.work.peer_steps - 100)
        return 1e-4 + 0.5 * (1 + math.cos(math.pi * done)) * (1e-3 - 1e-4)

    def loss(self, ids: np.ndarray) -> float:
        """The judge's loss."""
        self.model.eval()

        def nats(x: torch.Tensor, y: torch.Tensor) -> float:
            return float(F.cross_entropy(self.model(x).logits.flatten(0, 1).float(), y.flatten(), reduction="sum"))

        return judge(nats, ids, self.work.context, self.work.peer_half)


@dataclass(frozen=True)
class Course:
    """A whole Sightline run: seconds and loss at each judgement."""

    points: tuple[tuple[float, float], ...]

    def reached(self, loss: float) -> float | None:
        """Seconds until two successive judgements lay below a loss."""
        for (_, before), (seconds, now) in itertools.pairwise(self.points):
            if before < loss and now < loss:
                return seconds
        return None


def ours(work: Work, text: Text, seed: int, dtype: str) -> Course:
    """Sightline's defaults at the same size, from drawn weights or from counts; the judge's seconds are taken out."""
    folder = Path(tempfile.mkdtemp())
    points: list[tuple[float, float]] = []
    spent = 0.0
    start = time.perf_counter()

    def validate(model: Model) -> float:
        nonlocal spent
        begun = time.perf_counter()
        loss = judged(model, text.held, work.context, work.peer_half)
        points.append((begun - start - spent, loss))
        spent += time.perf_counter() - begun
        return loss

    tokenizer = text.tokenizer
    model = built(Causal(tokenizer.vocabulary), sizes.shape(work.size, tokenizer.padded, work.context), tokenizer, seed)
    packed = Packed(text.train, work.context, tokenizer)
    order = Order(packed.count, seed)
    optimization = Optimization()
    if work.init == "counts":
        begin_from(pairs(model.objective, packed, seed), model.stack, model.head, seed)  # type: ignore[arg-type]
        optimization = replace(optimization, table_rate=optimization.table_rate * TABLE_RATE)
    settings = Settings(
        work.steps, work.batch, seed=seed, dtype=dtype, validations=work.steps // work.every, optimization=optimization,  # type: ignore[arg-type]
    )  # fmt: skip
    train(
        model,
        lambda step: packed.rows(*order.at(np.arange(work.batch) + step * work.batch)),
        settings,
        folder,
        validate=validate,
    )
    shutil.rmtree(folder)
    return Course(tuple(points))


def counted(text: Text, context: int) -> tuple[float, float]:
    """The floor: five-gram counts; their loss and seconds."""
    start = time.perf_counter()
    model = built(NGram(text.tokenizer.vocabulary, n=5), sizes.shape("tiny", text.tokenizer.padded), text.tokenizer)
    model.stack.fit(text.train.tokens, text.train.offsets)  # type: ignore[operator]
    seconds = time.perf_counter() - start
    return judged(model, text.held, context), seconds


def run_of(work: Work, text: Text, seed: int, dtype: str) -> dict[str, Any]:
    peer = Peer(work, text, seed)
    with Quiet() as quiet:
        first = peer.run(work.peer_steps // 2)
        course = ours(work, text, seed, dtype)
        peer_seconds = first + peer.run(work.peer_steps - work.peer_steps // 2)
    peer_loss = peer.loss(text.held)
    seconds = course.reached(peer_loss)
    return {
        "seed": seed,
        "peer_loss": peer_loss,
        "peer_seconds": peer_seconds,
        "seconds": seconds,
        "ratio": None if seconds is None else peer_seconds / seconds,
        "last_loss": course.points[-1][1],
        "last_seconds": course.points[-1][0],
        "others": quiet.others,
        "points": course.points,
    }


def table(work: Work, text: Text, record: dict[str, Any]) -> str:
    """The result as Markdown."""
    runs, setting = record["runs"], record["setting"]
    shape = sizes.size(work.size)
    ratios = [run["ratio"] for run in runs if run["ratio"] is not None]
    said = (
        f"reached in every run, {statistics.median(ratios):.1f} times sooner (median)"
        if len(ratios) == len(runs)
        else f"reached in {len(ratios)} of {len(runs)} runs"
    )
    lines = [
        f"# {work.title}: time to the loss of nanoGPT's recipe",
        "",
        f"{shape.layers} layers, {shape.heads} heads, width {shape.width}, context {work.context}, vocabulary "
        f"{text.tokenizer.padded:,} on both sides; {work.unit} on the whole validation split.",
        f"The peer takes {work.peer_steps:,} steps of {work.peer_batch} x {work.context} in "
        f"{'bfloat16, compiled' if work.peer_half else 'float32, as published for a processor'}; Sightline "
        f"{work.steps} of {work.batch} x {work.context} in {setting['dtype']}, judged every {work.every}, from "
        f"{'counts of pairs in the training text' if setting['init'] == 'counts' else 'drawn weights'}.",
        "",
        "| seed | peer's loss | peer's s | s until Sightline is below it | sooner by | Sightline's last loss | at s | other load |",  # noqa: E501
        "|---|---|---|---|---|---|---|---|",
        *(
            f"| {run['seed']} | {run['peer_loss']:.4f} | {run['peer_seconds']:.1f} | "
            f"{'not reached' if run['seconds'] is None else format(run['seconds'], '.1f')} | "
            f"{'–' if run['ratio'] is None else format(run['ratio'], '.1f')} | {run['last_loss']:.4f} | "
            f"{run['last_seconds']:.1f} | {run['others']:.0%} |"
            for run in runs
        ),
        "",
        f"The peer's loss was {said}; {work.aim:g} times is the aim. "
        f"The floor, five-gram counts (modified Kneser-Ney): {record['floor']['loss']:.4f} nats in "
        f"{record['floor']['seconds']:.1f} s.",
        "",
    ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", choices=WORKS)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--steps", type=int, default=0, help="of Sightline; 0: the work's own")
    parser.add_argument("--dtype", default="bfloat16", choices=("float32", "bfloat16"))
    parser.add_argument("--init", choices=("random", "counts"), help="Sightline's first weights; else the work's own")
    parser.add_argument("--resume", action="store_true", help="keep the seeds that the committed result has already")
    parser.add_argument("--threads", type=int, default=2)
    given = parser.parse_args()
    keep_freed_memory()
    torch.set_num_threads(given.threads)
    work = WORKS[given.work]
    work = replace(work, steps=given.steps or work.steps, init=given.init or work.init)
    folder = Path(tempfile.mkdtemp())
    text = TEXTS[given.work](folder)
    floor, floor_seconds = counted(text, work.context)
    path = RESULTS / f"time-to-loss-{given.work}.json"
    setting = {"steps": work.steps, "dtype": given.dtype, "init": work.init}
    runs: list[dict[str, Any]] = []
    if given.resume and path.exists():
        held = json.loads(path.read_text(encoding="utf-8"))
        runs = held["runs"] if held["setting"] == setting else []
    for seed in range(len(runs) + 1, given.seeds + 1):
        runs.append(run_of(work, text, seed, given.dtype))
        print({name: value for name, value in runs[-1].items() if name != "points"}, flush=True)
        record = {"about": described(["torch", "transformers", "numpy"]), "setting": setting, "runs": runs}
        record["floor"] = {"loss": floor, "seconds": floor_seconds}
        write(path.stem, record, table(work, text, record), show=seed == given.seeds)
    shutil.rmtree(folder)


if __name__ == "__main__":
    main()
