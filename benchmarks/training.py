"""Tokens a second in training: Sightline beside transformers, compiled and not, on the same work in turns.

    python benchmarks/training.py                     10 M and 25 M, causal and masked, and 6 + 6 layers: 15 minutes
    python benchmarks/training.py --works 10M-causal --blocks 3

Every step is whole: data, forward, backward, clipping, update. The peers run AdamW, fused; Sightline runs once with the
same AdamW and once as it comes, with Muon for matrices, whose update costs more and learns more a step (`shakespeare`
compares time to a loss). GPT-2's settings are nanoGPT's: bfloat16 autocast, no dropout. BERT is asked for 15% of its
tokens, as Sightline's masked family is here. BART reads 128 tokens and is asked for 128; Sightline's denoise reads as
many with 30% cut out, and is asked for all of them; tokens of both sides are counted. *Floor* is the time of the step's
own matrix products and attention calls, timed alone in the same process: same shapes, same type.
"""

from __future__ import annotations

import argparse
import itertools
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from machine import described, peak_memory, write
from paired import Timed, interleaved

from sightline.data import Document, Draws, Order, Packed, Rows, tokenized, train_tokenizer
from sightline.data.vocabulary import Vocabulary
from sightline.memory import keep_freed_memory
from sightline.objectives import Causal, Denoise, Masked, Objective
from sightline.objectives.model import built
from sightline.stacks.attention import Mask, attend
from sightline.stacks.look import Kernel
from sightline.stacks.shape import Shape
from sightline.training.loop import stepper
from sightline.training.settings import Optimization, Settings


@dataclass(frozen=True)
class Work:
    """What is trained: a family at a size."""

    name: str
    family: str
    layers: int
    width: int
    heads: int
    context: int
    vocabulary: int
    batch: int

    @property
    def tokens(self) -> int:
        """Of a step; of an encoder and a decoder those of both sides."""
        return self.batch * self.context * (2 if self.family == "denoise" else 1)


WORKS = {
    work.name: work
    for work in (
        Work("10M-causal", "causal", 6, 384, 6, 256, 8192, 8),
        Work("25M-causal", "causal", 8, 512, 8, 512, 16384, 4),
        Work("10M-masked", "masked", 6, 384, 6, 256, 8192, 8),
        Work("25M-masked", "masked", 8, 512, 8, 512, 16384, 4),
        Work("6-6-denoise", "denoise", 12, 384, 6, 128, 8192, 8),
    )
}
MASKED, CUT = 0.15, 0.3


def objective_of(work: Work, vocabulary: Vocabulary) -> Objective:
    """The family, as its peer is asked."""
    if work.family == "denoise":
        return Denoise(vocabulary, "infilling", rate=CUT)
    return Causal(vocabulary) if work.family == "causal" else Masked(vocabulary, rate=MASKED)


def sightline(work: Work, kind: str, folder: Path, dtype: str = "bfloat16") -> Callable[[], None]:
    """A whole step of Sightline's own loop."""
    return counted(work, kind, folder, dtype)[0]


def counted(work: Work, kind: str, folder: Path, dtype: str, device: str = "cpu") -> tuple[Callable[[], None], float]:
    """A whole step of Sightline's own loop on packed rows of one long document; its operations as the model counts."""
    tokenizer = train_tokenizer(["abc"], "byte")
    text = "".join(map(chr, np.random.default_rng(0).integers(97, 123, 4 * work.tokens * 16).tolist()))
    packed = Packed(tokenized([Document("letters", text)], tokenizer, folder / "tokens"), work.context, tokenizer)
    objective = objective_of(work, tokenizer.vocabulary)
    shape = Shape(work.layers, work.width, work.heads, work.vocabulary, work.context)
    model = built(objective, shape, tokenizer).to(device)
    order = Order(packed.count, 0)
    settings = Settings(10**6, work.batch, dtype=dtype, optimization=Optimization(kind=kind))  # type: ignore[arg-type]

    def rows_of(step: int) -> Rows:
        return packed.rows(*order.at(np.arange(work.batch) + step * work.batch))

    first = rows_of(0)
    flops = 3.0 * sum(model.flops(view) for view in objective.ask(first, Draws(0).of(first), 0.0))
    one, numbers = stepper(model, rows_of, settings), itertools.count()

    def step() -> None:
        one(next(numbers))

    return step, flops


def peer(work: Work, compiled: bool) -> Callable[[], None]:
    """A whole step of transformers' GPT-2, BERT or BART under nanoGPT's settings."""
    import transformers

    torch.manual_seed(0)
    shared = {"vocab_size": work.vocabulary, "bos_token_id": 0, "eos_token_id": 0}
    if work.family == "causal":
        drops = dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), 0.0)
        config = transformers.GPT2Config(
            n_positions=work.context, n_embd=work.width, n_layer=work.layers, n_head=work.heads, **shared, **drops
        )
        model: Any = transformers.GPT2LMHeadModel(config)
    elif work.family == "denoise":
        sizes = dict.fromkeys(("encoder_layers", "decoder_layers"), work.layers // 2)
        sizes |= dict.fromkeys(("encoder_attention_heads", "decoder_attention_heads"), work.heads)
        sizes |= dict.fromkeys(("encoder_ffn_dim", "decoder_ffn_dim"), 4 * work.width)
        drops = dict.fromkeys(("dropout", "attention_dropout", "activation_dropout"), 0.0)
        config = transformers.BartConfig(
            d_model=work.width, max_position_embeddings=work.context, decoder_start_token_id=0, pad_token_id=0,
            **shared, **sizes, **drops,
        )  # fmt: skip
        model = transformers.BartForConditionalGeneration(config)
    else:
        drops = dict.fromkeys(("hidden_dropout_prob", "attention_probs_dropout_prob"), 0.0)
        config = transformers.BertConfig(
            max_position_embeddings=work.context,
            hidden_size=work.width,
            num_hidden_layers=work.layers,
            num_attention_heads=work.heads,
            intermediate_size=4 * work.width,
            **shared,
            **drops,
        )
        model = transformers.BertForMaskedLM(config)
    model.train()
    run = torch.compile(model) if compiled else model
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, betas=(0.9, 0.99), weight_decay=0.1, fused=True)
    ids = torch.randint(1, 1000, (64, work.batch, work.context))
    hidden = torch.rand(64, work.batch, work.context) < MASKED
    done = 0

    def step() -> None:
        nonlocal done
        x, labels = ids[done % 64], ids[done % 64]
        if work.family == "masked":
            x, labels = x.masked_fill(hidden[done % 64], 1), x.masked_fill(~hidden[done % 64], -100)
        with torch.autocast("cpu", torch.bfloat16):
            loss = run(input_ids=x, labels=labels).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        done += 1

    return step


def floor(work: Work) -> Callable[[], None]:
    """The products and attention calls of one step, forward and backward, and nothing else."""
    kind = torch.bfloat16
    W, N = work.width, work.batch * work.context
    asked = round(MASKED * N) if work.family == "masked" else N
    shapes = [(N, W, 3 * W), (N, W, W), (N, W, 4 * W), (N, 4 * W, W)] * work.layers + [(asked, W, work.vocabulary)]
    kernels: list[Kernel] = ["full" if work.family == "masked" else "triangle"] * work.layers
    if work.family == "denoise":
        half = work.layers // 2
        shapes += [(N, W, W), (N, W, 2 * W), (N, W, W)] * half
        kernels = ["full", "triangle", "full"] * half
    products = []
    for rows, inner, outer in dict.fromkeys(shapes):
        x, w, y = torch.randn(rows, inner, dtype=kind), torch.randn(outer, inner, dtype=kind), None
        y = torch.empty(rows, outer, dtype=kind)
        outs = (torch.empty(rows, outer, dtype=kind), torch.empty_like(x), torch.empty_like(w))
        products.append((shapes.count((rows, inner, outer)), x, w, y, outs))
    q, k, v, slope = (torch.randn(work.batch, work.heads, work.context, W // work.heads, dtype=kind) for _ in range(4))
    for each in (q, k, v):
        each.requires_grad_()
    masks = [Mask(kernel) for kernel in kernels]

    def step() -> None:
        for count, x, w, y, (forward, d_x, d_w) in products:
            for _ in range(count):
                torch.mm(x, w.T, out=forward)
                torch.mm(y, w, out=d_x)
                torch.mm(y.T, x, out=d_w)
        for mask in masks:
            torch.autograd.grad(attend(q, k, v, mask, 0.125), (q, k, v), slope)

    return step


SIDES: dict[str, Callable[[Work, Path], Callable[[], None]]] = {
    "Sightline, AdamW": lambda work, folder: sightline(work, "adamw", folder / "adamw"),
    "Sightline, Muon": lambda work, folder: sightline(work, "muon", folder / "muon"),
    "transformers": lambda work, folder: peer(work, compiled=False),
    "transformers, compiled": lambda work, folder: peer(work, compiled=True),
}


def memory_of(work: str, side: str) -> float:
    """MiB of a process that takes eight steps of one side and nothing else."""
    done = subprocess.run(
        [sys.executable, __file__, "--works", work, "--alone", side], capture_output=True, text=True, check=True
    )
    return float(done.stdout.split()[-1])


def alone(work: Work, side: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        step = SIDES[side](work, Path(folder))
        for _ in range(8):
            step()
    print(peak_memory())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--works", default=",".join(WORKS))
    parser.add_argument("--blocks", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=3.0, help="of a block")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--alone", default="", help="print the peak memory of one side, in MiB, and stop")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    if given.alone:  # the allocator is the command line's to set, and a peer has none
        if given.alone.startswith("Sightline"):
            keep_freed_memory()
        alone(WORKS[given.works], given.alone)
        return
    keep_freed_memory()
    lines = [
        "# Training, bfloat16: tokens a second beside transformers",
        "",
        "Whole steps on two threads, in turns: median [slowest, fastest block]. All sides run under Sightline's",
        "allocator settings, which help the peers too; peak memory is of a process of its own, as each comes. Share of",
        "floor: the floor's time over the step's.",
        "",
        "| work | side | tokens/s | ms a step | share of floor | over the best peer | peak MiB |",
        "|---|---|---|---|---|---|---|",
    ]
    rows: list[dict[str, Any]] = []
    for name in given.works.split(","):
        work = WORKS[name]
        with tempfile.TemporaryDirectory() as folder:
            steps = {side: make(work, Path(folder)) for side, make in SIDES.items()} | {"floor": floor(work)}
            timed: dict[str, Timed] = interleaved(steps, given.blocks, given.seconds)
        best = min(timed[side].median for side in SIDES if side.startswith("transformers"))
        for side, one in timed.items():
            memory = memory_of(name, side) if side in SIDES else None
            row = {"work": name, "side": side, "memory": memory} | one.record()
            row |= {"share of floor": timed["floor"].median / one.median, "over the best peer": best / one.median}
            rows.append(row)
            lines.append(
                f"| {name} | {side} | {one.rate(work.tokens)} | {1e3 * one.median:.0f} | {row['share of floor']:.0%} "
                f"| {row['over the best peer']:.2f} | {'' if memory is None else f'{memory:,.0f}'} |"
            )
            print(lines[-1], flush=True)
        # What is done stays, whatever happens to the next.
        write("training", {"about": described(["torch", "transformers"]), "rows": rows}, "\n".join([*lines, ""]))


if __name__ == "__main__":
    main()
