"""On one GPU: training in tokens a second and MFU, cached writing beside the bandwidth floor, and two peers.

    benchmarks/gpu.sh --part check                             that the quick ways give what the slow ones give
    benchmarks/gpu.sh --part train                             124 M and 1 B; each part at most eight minutes
    benchmarks/gpu.sh --part decode
    benchmarks/gpu.sh --part peers
    benchmarks/gpu.sh --part train --only 1B --resume          what is still to be taken of the figures with 1B
    benchmarks/gpu.sh --part train --device cpu --size tiny    the same code on a processor, to see that it runs

Every figure is stored as it comes, in results/gpu-PART.{json,md} or in the folder that $OUT names; --resume keeps those
that stand in results. A figure that fails leaves its reason, and the others go on. Needs torch 2.11, NumPy, safetensors
and tokenizers, and no more.

MFU: the operations that the project counts (``Model.flops``, three times for a step: visible pairs and asked slots
only) over the card's dense bfloat16 peak by its maker. Floor of writing: the weights that a step reads over the
measured rate of a copy; keys and values, which many lines read too, are left out of it.
"""

from __future__ import annotations

import argparse
import fcntl
import gc
import json
import os
import re
import statistics
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from machine import HERE, RESULTS, described, write
from torch import Tensor, nn
from torch.nn import functional as F

from sightline.data import Draws, Rows, train_tokenizer
from sightline.data.vocabulary import Vocabulary
from sightline.decoders import loop
from sightline.decoders.canvas import Canvas
from sightline.decoders.policy import NextPlace
from sightline.objectives import BlockDiffusion, Causal, Masked, Objective, Prefix
from sightline.objectives.model import Model, built
from sightline.sight import View
from sightline.stacks import sizes
from sightline.stacks.cache import Cache
from sightline.stacks.look import kernel_for
from sightline.stacks.shape import Shape
from sightline.stacks.static import LEAST, MOST, Step, replayed, replayed_run
from sightline.training.loop import stepper
from sightline.training.machine import device_for, peak
from sightline.training.settings import Optimization, Settings

# Dense bfloat16 operations a second, in 1e12, from the makers' data sheets, by the name that the driver gives.
PEAKS = {"NVIDIA H100 80GB HBM3": 989, "NVIDIA H200": 989, "NVIDIA H100 PCIe": 756}
FAMILIES: dict[str, type[Objective]] = {
    "causal": Causal,
    "masked": Masked,
    "prefix": Prefix,
    "block diffusion": BlockDiffusion,
}
GIVEN, WRITTEN = 32, 128


@dataclass(frozen=True)
class Work:
    """A model, and how it is trained: ``lines`` rows at a time, ``parts`` times for one update."""

    name: str
    shape: Shape
    lines: int
    parts: int

    @property
    def tokens(self) -> int:
        """Of one update."""
        return self.lines * self.parts * self.shape.context


def works(size: str) -> list[Work]:
    """The large model first: if time runs out, its figures are there."""
    if size == "tiny":
        shape = sizes.shape("tiny", 512, 64)
        return [Work("1B as tiny", shape, 2, 2), Work("124M as tiny", shape, 4, 1)]
    return [Work("1B", sizes.shape("1b", 50304), 8, 8), Work("124M", sizes.shape("base", 50304), 16, 4)]


@dataclass(frozen=True)
class Bench:
    """Where it runs, and how long a figure is timed."""

    device: str
    seconds: float
    most: int
    alone: str = ""
    cold: bool = False
    only: str = ""
    resume: bool = False
    profile: bool = False

    @property
    def gpu(self) -> bool:
        return self.device == "cuda"

    @property
    def peak(self) -> float | None:
        """The card's, in operations a second; None for a card that is not known."""
        known = PEAKS.get(torch.cuda.get_device_name()) if self.gpu else None
        return None if known is None else known * 1e12

    def wait(self) -> None:
        if self.gpu:
            torch.cuda.synchronize()

    def first(self, call: Callable[[], Any]) -> float:
        """Seconds of a first call, compiling and all."""
        self.wait()
        start = time.perf_counter()
        call()
        self.wait()
        return time.perf_counter() - start

    def timed(self, call: Callable[[], Any]) -> list[float]:
        """Seconds of each call, after one more that warms up: three or more of them."""
        if self.cold:
            return [float("nan")]
        with open(self.alone or os.devnull, "w") as turn:
            if self.alone:
                fcntl.flock(turn, fcntl.LOCK_EX)
            self.first(call)
            found = [self.first(call) for _ in range(3)]
            while sum(found) < self.seconds and len(found) < self.most:
                found.append(self.first(call))
        return found


class Report:
    """Figures of one part, stored as they come."""

    def __init__(self, part: str, title: str, notes: list[str], columns: list[str], minutes: float, bench: Bench):
        card = torch.cuda.get_device_name() if bench.gpu else "a processor: these figures show only that the part runs"
        self.name, self.columns = f"gpu-{part}", columns
        self.about = described(["torch", "numpy"]) | {"device": card}
        self.head = [f"# {title}", "", f"On {card}.", *notes, ""]
        self.rows: list[dict[str, Any]] = []
        self.failed = False
        self.only = re.compile(bench.only)
        self.end = time.monotonic() + 60 * minutes
        stored = HERE / "results" / f"{self.name}.json"
        self.stored: list[dict[str, Any]] = []
        if bench.resume and stored.exists():
            record = json.loads(stored.read_text(encoding="utf-8"))
            if record["about"]["device"] != card:
                sys.exit(f"the figures in {stored.name} are of another card: run without --resume")
            self.stored = record["rows"]

    def figure(self, row: dict[str, Any], take: Callable[[], dict[str, Any]]) -> None:
        """A row that begins with what is known before; what it holds is freed afterwards."""
        kept = next((old for old in self.stored if row.items() <= old.items() and "note" not in old), None)
        if kept is not None or not self.only.search(" ".join(map(str, row.values()))):
            if kept is not None:
                self.add(kept)
            return
        if time.monotonic() > self.end:
            row = row | {"note": "not taken: out of time"}
        else:
            try:
                row = row | take()
            except Exception as error:  # one figure is lost, not those after it
                self.failed = True
                traceback.print_exc()
                row = row | {"note": f"failed: {type(error).__name__}: {str(error).strip().splitlines()[0][:200]}"}
        torch._dynamo.reset()
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        self.add(row)

    def add(self, row: dict[str, Any]) -> None:
        self.rows.append(row)
        print("  ".join(f"{name}: {value}" for name, value in row.items() if value is not None), flush=True)
        lines = [f"| {' | '.join(self.columns)} |", "|" + "---|" * len(self.columns)]
        lines += [f"| {' | '.join(_cell(row.get(name)) for name in self.columns)} |" for row in self.rows]
        write(self.name, {"about": self.about, "rows": self.rows}, "\n".join([*self.head, *lines, ""]), show=False)


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
    return "" if value is None else str(value)


def vocabulary_of(count: int) -> Vocabulary:
    return Vocabulary(size=count, padded=count, pad=0, bos=1, eos=2, mask=3, specials=(0, 1, 2, 3))


def rows_of(work: Work, documents: int) -> Callable[[int], Rows]:
    """Random tokens for the step of a number, in so many documents a row."""
    count, length = work.lines * work.parts, work.shape.context
    marks = np.broadcast_to(np.arange(length) * documents // length, (count, length)).astype(np.int32)
    real = np.ones((count, length), np.bool_)

    def rows(step: int) -> Rows:
        tokens = np.random.default_rng(step).integers(4, work.shape.vocabulary, (count, length), np.int32)
        return Rows(tokens, marks, np.arange(count), np.full(count, step), real, marks.astype(np.int64), real)

    return rows


def model_of(work: Work, objective: Objective, bench: Bench) -> Model:
    return built(objective, work.shape, train_tokenizer(["abc"], "byte")).to(bench.device)


def ours(work: Work, family: str, bench: Bench, kind: str = "muon", documents: int = 1) -> dict[str, Any]:
    """A whole update by the training loop's own step: data, gradients, clipping, update."""
    objective = FAMILIES[family](vocabulary_of(work.shape.vocabulary))
    model, rows = model_of(work, objective, bench), rows_of(work, documents)
    part = rows(0).take(slice(0, work.lines))
    (view,) = objective.ask(part, Draws(0).of(part), 0.0)
    kernel = kernel_for(view)
    model.kernel = None if kernel == "mask" else kernel  # else the loop's: FlexAttention on a GPU
    settings = Settings(
        10**6,
        work.lines * work.parts,
        accumulation=work.parts,
        dtype="bfloat16",
        compiled=bench.gpu,
        optimization=Optimization(kind=kind),  # type: ignore[arg-type]
    )
    one = stepper(model, rows, settings)
    number = 0

    def step() -> None:
        nonlocal number
        number += 1  # the first is checked for leaks, which takes a while at this length
        one(number)

    attention = {"full": "no mask", "triangle": "is_causal"}.get(kernel, "FlexAttention" if bench.gpu else "mask")
    return {"attention": attention} | trained(
        work, step, 3 * work.parts * model.flops(view), bench, f"{family} {kind} {documents}"
    )


def profiled(step: Callable[[], None], name: str) -> None:
    """What one step spends its time on, by kernel and by call, beside the results."""
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as seen:
        step()
        torch.cuda.synchronize()
    found = seen.key_averages()
    tables = [
        found.table(sort_by=by, row_limit=30, max_name_column_width=90) for by in ("cuda_time_total", "cpu_time_total")
    ]
    (RESULTS / f"gpu-profile-{re.sub(r'[^a-zA-Z0-9]+', '-', name)}.txt").write_text("\n\n".join(tables))


def trained(work: Work, step: Callable[[], None], flops: float, bench: Bench, side: str) -> dict[str, Any]:
    """Time and memory of a step of so many operations."""
    if bench.gpu:
        torch.cuda.reset_peak_memory_stats()
    first = bench.first(step)
    times = bench.timed(step)
    median = statistics.median(times)
    rate = flops / median
    if bench.profile:
        profiled(step, f"{work.name} {side}")
    return {
        "tokens/s": work.tokens / median,
        "slowest": work.tokens / max(times),
        "fastest": work.tokens / min(times),
        "Tflop/s": rate / 1e12,
        "MFU": None if bench.peak is None else f"{rate / bench.peak:.1%}",
        "of a matrix product": f"{rate / peak(bench.device, torch.get_num_threads()).bfloat16:.1%}",
        "first step s": first,
        "peak GiB": torch.cuda.max_memory_allocated() / 2**30 if bench.gpu else None,
    }


RATES = ["tokens/s", "slowest", "fastest", "Tflop/s", "MFU", "of a matrix product", "first step s", "peak GiB"]


def part_train(size: str, minutes: float, bench: Bench) -> Report:
    notes = [
        "Whole updates in bfloat16, Muon for matrices. Targets for MFU: 50% for causal at 1 B, 45% for the others.",
        "First step: compiling and all. Block diffusion feeds two slots for each token of the text.",
    ]
    columns = ["model", "family", "attention", *RATES, "target", "beside", "note"]
    report = Report("train", "Training on a GPU", notes, columns, minutes, bench)
    for work in works(size):
        for family in FAMILIES:
            row = {"model": work.name, "family": family, "target": "50%" if family == "causal" else "45%"}
            report.figure(row, lambda work=work, family=family: ours(work, family, bench))  # type: ignore[misc]
        row = {"model": work.name, "family": "causal, 8 documents a row", "target": "45%"}
        report.figure(row, lambda work=work: ours(work, "causal", bench, documents=8))  # type: ignore[misc]
    return report


def bandwidth(bench: Bench) -> float:
    """Bytes a second of a copy, read and written: the best of ten."""
    source = torch.ones(2**28 if bench.gpu else 2**24, device=bench.device)
    target = torch.empty_like(source)
    seconds = min(bench.first(lambda: target.copy_(source)) for _ in range(10))
    return 2 * source.numel() * source.element_size() / seconds


def by_torch(model: Model, view: View, tokens: np.ndarray, cache: Cache | None) -> Tensor:
    return model.head.logits(model._asked(model._index(view), model.states(view, tokens, cache)))  # type: ignore[operator]


def writer(model: Model, prompts: np.ndarray, way: str) -> Callable[[int], np.ndarray]:
    """Writes so many tokens after each prompt, greedily."""

    def logits(view: View, tokens: np.ndarray, cache: Cache | None) -> Tensor:
        said = None
        if way != "torch" and cache is not None:
            said = replayed(model.stack, model.head, view, tokens, cache, compiled="compiled" in way)
        return by_torch(model, view, tokens, cache) if said is None else said

    def answers(view: View, tokens: np.ndarray, cache: Cache, barred: np.ndarray, stops: np.ndarray) -> Any:
        return replayed_run(model.stack, model.head, view, tokens, cache, barred, "compiled" in way)

    runs = None if way == "torch" else answers

    def texts(count: int) -> np.ndarray:
        canvas = Canvas.of([(prompt, count, []) for prompt in prompts])
        done = loop.write(model.objective.fill, logits, canvas, NextPlace(), make_cache=Cache, answers=runs)
        return done.canvas.tokens

    return texts


def written(model: Model, prompts: np.ndarray, way: str, bench: Bench) -> dict[str, Any]:
    """The loop that writes, and the step alone where it is captured."""
    texts = writer(model, prompts, way)
    found: dict[str, Any] = {"first text s": bench.first(lambda: texts(WRITTEN))}
    found["tokens/s"] = prompts.shape[0] * WRITTEN / statistics.median(bench.timed(lambda: texts(WRITTEN)))
    found["until the third token s"] = statistics.median(bench.timed(lambda: texts(3)))
    if way != "torch":
        found["step alone tokens/s"] = prompts.shape[0] / step_alone(model, prompts, way, bench)
    return found


@torch.no_grad()
def step_alone(model: Model, prompts: np.ndarray, way: str, bench: Bench) -> float:
    """Seconds of one step of a run, without the loop around it: of it, the plan's copy is a share alone."""
    cache, canvas = Cache(), Canvas.of([(prompt, 1, []) for prompt in prompts])
    view = model.objective.fill(canvas)
    by_torch(model, view, canvas.tokens, cache)
    look = cache.look
    assert look is not None
    step = Step(model.stack, model.head, look, len(prompts), LEAST, "compiled" in way)  # type: ignore[arg-type]
    step.room.fill(look, cache.keys, cache.values)
    calls = MOST if bench.gpu else 3
    plan = np.zeros((calls, 8, len(prompts)), np.int64)
    plan[:, 0] = prompts[:, -1]
    plan[:, [1, 2, 6, 7]] = GIVEN + np.arange(calls)[:, None, None]  # place, order, position, where it goes
    bar = torch.zeros(model.head.weight.shape[0])  # type: ignore[union-attr,index]
    return statistics.median(bench.timed(lambda: step.run(plan, bar))) / calls


def part_decode(size: str, minutes: float, bench: Bench) -> Report:
    rate = bandwidth(bench)
    notes = [
        f"Greedy, bfloat16, {GIVEN} tokens given and {WRITTEN} written; a copy moves {rate / 1e9:,.0f} GB/s. Target:",
        "60% of the floor at batch 1. The step alone is what a GPU does; the loop is all of it, the prompt too.",
    ]
    columns = ["model", "batch", "way", "step alone tokens/s", "tokens/s", "floor tokens/s", "step of floor"]
    columns += ["loop of floor", "until the third token s", "first text s", "beside", "note"]
    report = Report("decode", "Writing on a GPU", notes, columns, minutes, bench)
    ways = ["torch", "replayed", "replayed, compiled"] if bench.gpu else ["torch", "replayed"]
    for work in works(size):
        model = model_of(work, Causal(vocabulary_of(work.shape.vocabulary)), bench).bfloat16().eval()
        read = sum(weight.numel() * 2 for weight in [*model.stack.layers.parameters(), model.head.weight])  # type: ignore[union-attr]
        for batch in (1, 64) if size == "full" else (1, 3):
            prompts = np.random.default_rng(0).integers(4, work.shape.vocabulary, (batch, GIVEN))
            floor = batch * rate / read

            def take(
                way: str, model: Model = model, prompts: np.ndarray = prompts, floor: float = floor
            ) -> dict[str, Any]:
                found = written(model, prompts, way, bench) | {"floor tokens/s": floor}
                found["loop of floor"] = f"{found['tokens/s'] / floor:.1%}"
                if "step alone tokens/s" in found:
                    found["step of floor"] = f"{found['step alone tokens/s'] / floor:.1%}"
                return found

            for way in ways:
                report.figure({"model": work.name, "batch": batch, "way": way}, lambda way=way, take=take: take(way))  # type: ignore[misc]
    return report


class PlainLayer(nn.Module):
    """A layer as a short script would have it."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.heads, width = shape.heads, shape.width
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2))
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        lines, slots, width = x.shape
        q, k, v = self.qkv(self.norms[0](x)).view(lines, slots, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        seen = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(seen.transpose(1, 2).reshape(lines, slots, width))
        return x + self.down(F.gelu(self.up(self.norms[1](x)), approximate="tanh"))  # type: ignore[no-any-return]


class Plain(nn.Module):
    """GPT-2 as a short script would have it; its loss is torch's own."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.tokens = nn.Embedding(shape.vocabulary, shape.width)
        self.places = nn.Embedding(shape.context, shape.width)
        self.layers = nn.Sequential(*(PlainLayer(shape) for _ in range(shape.layers)))
        self.norm = nn.LayerNorm(shape.width)
        nn.init.normal_(self.tokens.weight, std=0.02)

    def forward(self, ids: Tensor) -> Tensor:
        x = self.tokens(ids) + self.places.weight[: ids.shape[1]]
        logits = F.linear(self.norm(self.layers(x)), self.tokens.weight)[:, :-1]
        return F.cross_entropy(logits.flatten(0, 1).float(), ids[:, 1:].flatten())


def of_transformers(shape: Shape) -> nn.Module:
    """GPT-2 of the library, which need not be there; its loss is the library's own."""
    import transformers

    drops = dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), 0.0)
    config = transformers.GPT2Config(
        vocab_size=shape.vocabulary,
        n_positions=shape.context,
        n_embd=shape.width,
        n_layer=shape.layers,
        n_head=shape.heads,
        bos_token_id=0,
        eos_token_id=0,
        **drops,
    )

    class Loss(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = transformers.GPT2LMHeadModel(config)

        def forward(self, ids: Tensor) -> Tensor:
            loss: Tensor = self.model(input_ids=ids, labels=ids, use_cache=False).loss
            return loss

    return Loss()


def peer(work: Work, make: Callable[[Shape], nn.Module], bench: Bench) -> dict[str, Any]:
    """An update under autocast, compiled on a GPU, AdamW fused; operations are counted as ours are."""
    torch.manual_seed(0)
    model = make(work.shape).to(bench.device).train()
    run = torch.compile(model, dynamic=False) if bench.gpu else model
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, betas=(0.9, 0.95), weight_decay=0.1, fused=True)
    ids = torch.randint(4, work.shape.vocabulary, (work.parts, work.lines, work.shape.context), device=bench.device)

    def step() -> None:
        for part in ids:
            with torch.autocast(bench.device, torch.bfloat16):
                loss = run(part) / work.parts
            loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    matrices = sum(weight.numel() for name, weight in model.named_parameters() if weight.dim() == 2)
    matrices -= work.shape.context * work.shape.width  # learned positions are looked up
    pairs = work.shape.context * (work.shape.context + 1) // 2 * work.shape.layers * work.lines * work.parts
    flops = 3 * (2.0 * matrices * work.tokens + 4.0 * pairs * work.shape.width)
    return {"attention": "is_causal"} | trained(work, step, flops, bench, make.__name__)


def part_peers(size: str, minutes: float, bench: Bench) -> Report:
    notes = [
        "Causal, whole updates in bfloat16, one side after the other; layers, width, heads, context and vocabulary are",
        "the same, and every side is compiled on a GPU. The plain loop is in this script.",
    ]
    columns = ["model", "side", *RATES, "over plain torch", "note"]
    report = Report("peers", "Training beside peers on a GPU", notes, columns, minutes, bench)
    sides: dict[str, Callable[[Work], dict[str, Any]]] = {
        "plain torch": lambda work: peer(work, Plain, bench),
        "Sightline, AdamW": lambda work: ours(work, "causal", bench, "adamw"),
        "Sightline, Muon": lambda work: ours(work, "causal", bench),
        "transformers": lambda work: peer(work, of_transformers, bench),
    }
    for work in works(size)[::-1]:  # 124 M is the peers' usual size

        def take(side: str, work: Work = work) -> dict[str, Any]:
            try:
                found = sides[side](work)
            except ModuleNotFoundError as error:
                return {"note": f"{error.name} is not installed"}
            plain = {"model": work.name, "side": "plain torch"}.items()
            beside = [row["tokens/s"] for row in report.rows if plain <= row.items() and "tokens/s" in row]
            return found | ({"over plain torch": found["tokens/s"] / beside[0]} if beside else {})

        for side in sides:
            report.figure({"model": work.name, "side": side}, lambda side=side, take=take: take(side))  # type: ignore[misc]
    return report


def part_check(size: str, minutes: float, bench: Bench) -> Report:
    """In float32 on a tiny model."""
    columns = ["what", "by", "largest difference", "note"]
    title, notes = "The quick ways on a GPU beside the slow ones", ["In float32, on a tiny model."]
    report = Report("check", title, notes, columns, minutes, bench)
    work = Work("check", sizes.shape("tiny", 512, 256), 4, 2)

    def losses(family: str, quick: bool) -> Tensor:
        """Of three updates; as written, every pair is looked at under a mask."""
        model = model_of(work, FAMILIES[family](vocabulary_of(512)), bench)
        with torch.no_grad():
            model.head.weight.mul_(20)  # type: ignore[union-attr,operator]  # a fresh head says nearly the same of any state
        compiled = Settings(10**6, 8, accumulation=2, dtype="float32", compiled=quick and bench.gpu)
        one = stepper(model, rows_of(work, 3), compiled)
        return torch.tensor([one(number) for number in (1, 2, 3)])

    for family in FAMILIES:

        def trains(family: str = family) -> dict[str, Any]:
            off = float((losses(family, True) - losses(family, False)).abs().max())
            return {"largest difference": off} | ({} if off < 0.01 else {"note": "failed: nats apart"})

        report.figure({"what": f"losses of three updates, {family}", "by": "compiled, FlexAttention"}, trains)
    model = model_of(work, Causal(vocabulary_of(512)), bench).eval()
    with torch.no_grad():
        model.head.weight.mul_(60)  # type: ignore[union-attr,operator]  # no two answers are near each other
    prompts = np.random.default_rng(0).integers(4, 512, (3, GIVEN))
    for way in ("replayed", "replayed, compiled") if bench.gpu else ("replayed",):

        def writes(way: str = way) -> dict[str, Any]:
            off = int((writer(model, prompts, way)(200) != writer(model, prompts, "torch")(200)).sum())
            return {"largest difference": off} | ({} if not off else {"note": "failed: other tokens"})

        report.figure({"what": "600 tokens written, those that differ", "by": way}, writes)
    report.failed = report.failed or any("note" in row for row in report.rows)
    return report


PARTS = {"check": part_check, "train": part_train, "decode": part_decode, "peers": part_peers}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", choices=PARTS, required=True)
    parser.add_argument("--device", default="auto", help="auto, cuda or cpu")
    parser.add_argument("--size", choices=["full", "tiny"], default="full")
    parser.add_argument("--minutes", type=float, default=8.0, help="after which no further figure is begun")
    parser.add_argument("--alone", default="", help="a file held while a figure is timed; other parts compile")
    parser.add_argument("--cold", action="store_true", help="time nothing: compile, for a run that comes after it")
    parser.add_argument("--only", default="", help="a pattern: take only the figures whose first cells hold it")
    parser.add_argument("--resume", action="store_true", help="keep the figures in results, and take those missing")
    parser.add_argument("--profile", action="store_true", help="store what a training step spends its time on")
    given = parser.parse_args()
    device = device_for(given.device)
    if device == "cpu" and given.size == "full":
        sys.exit("the full size takes a GPU: give --size tiny to see that the part runs")
    tiny = given.size == "tiny"
    bench = Bench(
        device,
        seconds=0.1 if tiny else 3.0,
        most=3 if tiny else 30,
        alone=given.alone,
        cold=given.cold,
        only=given.only,
        resume=given.resume,
        profile=given.profile,
    )
    report = PARTS[given.part](given.size, given.minutes, bench)
    return int(report.failed)


if __name__ == "__main__":
    sys.exit(main())
