"""Greedy writing, 32 tokens given and 128 written: Sightline's loop beside transformers' GPT-2 `generate`, in turns.

The same layers, width, heads and vocabulary, random weights, a dynamic cache, no end mark; every side at the same
precision. "torch" is Sightline without its native step.

    python benchmarks/decoding.py [--blocks 5] [--seconds 2] [--batches 1 16 64]
"""

from __future__ import annotations

import argparse
import copy
from collections.abc import Callable, Sequence
from typing import Any

import machine
import numpy as np
import torch
from paired import interleaved
from transformers import GPT2Config, GPT2LMHeadModel

from sightline.data import train_tokenizer
from sightline.data.vocabulary import Vocabulary
from sightline.decoders.canvas import Canvas
from sightline.decoders.loop import write
from sightline.decoders.policy import NextPlace
from sightline.objectives.causal import Causal
from sightline.objectives.model import Model, built
from sightline.sight import View
from sightline.stacks import sizes
from sightline.stacks.cache import Cache

VOCABULARY, GIVEN, WRITTEN = 8192, 32, 128
TYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


def ours(model: Model, prompts: np.ndarray, native: bool, forbidden: Sequence[int] = ()) -> Callable[[], Any]:
    def by_torch(view: View, tokens: np.ndarray, cache: Cache | None = None) -> torch.Tensor:
        return model.head.logits(model._asked(model._index(view), model.states(view, tokens, cache)))  # type: ignore[operator]

    def call() -> Any:
        canvas = Canvas.of([(prompt, WRITTEN, []) for prompt in prompts])
        return write(
            model.objective.fill,
            model.logits if native else by_torch,
            canvas,
            NextPlace(),
            forbidden=forbidden,
            make_cache=Cache,
            answers=model.answers if native else None,
        )

    return call


def theirs(model: GPT2LMHeadModel, prompts: np.ndarray) -> Callable[[], Any]:
    ids = torch.from_numpy(prompts)

    def call() -> Any:
        with torch.no_grad():
            return model.generate(
                ids,
                attention_mask=torch.ones_like(ids),
                max_new_tokens=WRITTEN,
                min_new_tokens=WRITTEN,
                do_sample=False,
                pad_token_id=0,
                eos_token_id=None,
            )

    return call


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("--blocks", type=int, default=5)
    asked.add_argument("--seconds", type=float, default=2.0)
    asked.add_argument("--batches", type=int, nargs="+", default=[1, 16, 64])
    chosen = asked.parse_args()
    shape = sizes.shape("mini", VOCABULARY)
    words = Vocabulary(size=VOCABULARY, padded=VOCABULARY, pad=0, bos=1, eos=2, mask=3, specials=(0, 1, 2, 3))
    model = built(Causal(words), shape, train_tokenizer(["abcdefghijklmnop"], "byte")).eval()
    config = GPT2Config(
        vocab_size=VOCABULARY, n_positions=256, n_embd=shape.width, n_layer=shape.layers, n_head=shape.heads
    )
    config.bos_token_id = config.eos_token_id = None
    peer = GPT2LMHeadModel(config).eval()
    rows: list[dict[str, Any]] = []
    table = "| batch | precision | way | tokens/s [slowest, fastest] | times transformers |\n|---|---|---|---|---|\n"
    for batch in chosen.batches:
        prompts = np.random.default_rng(0).integers(4, VOCABULARY, (batch, GIVEN))
        for name, dtype in TYPES.items():
            mine, other = copy.deepcopy(model).to(dtype), copy.deepcopy(peer).to(dtype)
            sides = {
                "Sightline": ours(mine, prompts, native=True),
                "Sightline, torch": ours(mine, prompts, native=False),
                "transformers": theirs(other, prompts),
            }
            assert sides["transformers"]().shape == (batch, GIVEN + WRITTEN)
            timed = interleaved(sides, chosen.blocks, chosen.seconds)
            for way, time in timed.items():
                ratio = timed["transformers"].median / time.median
                row = {"batch": batch, "precision": name, "way": way, "times_transformers": ratio, **time.record()}
                rows.append(row | {"tokens_per_second": batch * WRITTEN / time.median})
                table += f"| {batch} | {name} | {way} | {time.rate(batch * WRITTEN)} | {ratio:.2f} |\n"
                print(table.splitlines()[-1], flush=True)
    about = machine.described(["torch", "transformers", "numpy"]) | {"threads": torch.get_num_threads()}
    machine.write("decoding", {"about": about, "rows": rows}, "# Greedy writing, 10 M parameters\n\n" + table)


if __name__ == "__main__":
    main()
