"""Writing by rounds, 32 tokens given and 128 written: each way beside a full forward pass in each round.

The same model, rounds and policy; both sides must write the same tokens. "plain" feeds all places that the view has and
asks the head about all of them; "Sightline" asks the head about open places only, and block diffusion keeps the states
of finished blocks.

    python benchmarks/rounds.py [--blocks 3] [--seconds 1.5] [--batches 1 16]
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import machine
import numpy as np
import torch
from paired import interleaved

from sightline.data import train_tokenizer
from sightline.data.vocabulary import Vocabulary
from sightline.decoders.canvas import Canvas
from sightline.decoders.draft import Written
from sightline.decoders.loop import write
from sightline.decoders.policy import Policy, Refine, Surest
from sightline.objectives import BlockDiffusion, Diffusion, Masked, Objective
from sightline.objectives.model import Model, built
from sightline.sight import View
from sightline.stacks import sizes
from sightline.stacks.cache import Cache

VOCABULARY, GIVEN, WRITTEN = 8192, 32, 128
WORDS = Vocabulary(size=VOCABULARY, padded=VOCABULARY, pad=0, bos=1, eos=2, mask=3, specials=(0, 1, 2, 3))
WAYS: list[tuple[str, Objective, Policy]] = [
    ("Mask-Predict, 10 rounds", Masked(WORDS), Refine(10)),
    ("diffusion, 32 rounds", Diffusion(WORDS), Surest(32)),
    ("block diffusion, 8 blocks of 16, 4 rounds each", BlockDiffusion(WORDS, block=16), Surest(4, 16, aligned=True)),
    ("block diffusion, 32 blocks of 4, 2 rounds each", BlockDiffusion(WORDS, block=4), Surest(2, 4, aligned=True)),
]


def writing(model: Model, policy: Policy, prompts: np.ndarray, plain: bool) -> Callable[[], Written]:
    def everywhere(view: View, tokens: np.ndarray, cache: Cache | None = None) -> torch.Tensor:
        """Logits of every place, then those that were asked for."""
        said = model.logits(replace(view, most_asks=view.slots.count, _asked={}), tokens)
        index = torch.from_numpy(np.ascontiguousarray(view.asked_slots[0]))
        return said.gather(1, index[..., None].expand(-1, -1, said.shape[-1]))

    def call() -> Written:
        canvas = Canvas.of([(prompt, WRITTEN, []) for prompt in prompts])
        barred = (0, 1, 2, 3)
        if plain:
            return write(model.objective.fill, everywhere, canvas, policy, forbidden=barred)
        keeps = model.objective.fill(canvas).settled is not None
        return write(
            model.objective.fill, model.logits, canvas, policy, forbidden=barred, make_cache=Cache if keeps else None
        )

    return call


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("--blocks", type=int, default=3)
    asked.add_argument("--seconds", type=float, default=1.5)
    asked.add_argument("--batches", type=int, nargs="+", default=[1, 16])
    chosen = asked.parse_args()
    shape = sizes.shape("mini", VOCABULARY)
    tokenizer = train_tokenizer(["abcdefghijklmnop"], "byte")
    rows: list[dict[str, Any]] = []
    table = "| way | batch | side | tokens/s [slowest, fastest] | times plain |\n|---|---|---|---|---|\n"
    for batch in chosen.batches:
        prompts = np.random.default_rng(0).integers(4, VOCABULARY, (batch, GIVEN))
        for way, objective, policy in WAYS:
            model = built(objective, shape, tokenizer).eval()
            torch.nn.init.normal_(model.head.weight, std=0.5)  # answers that differ  # type: ignore[arg-type]
            sides = {
                "Sightline": writing(model, policy, prompts, plain=False),
                "plain": writing(model, policy, prompts, plain=True),
            }
            ours, plain = sides["Sightline"](), sides["plain"]()
            assert ours.rounds == plain.rounds
            same = float((ours.canvas.tokens == plain.canvas.tokens).mean())
            timed = interleaved(sides, chosen.blocks, chosen.seconds)
            for side, time in timed.items():
                ratio = timed["plain"].median / time.median
                row = {"way": way, "batch": batch, "side": side, "times_plain": ratio, "same_tokens": same}
                rows.append(row | time.record() | {"tokens_per_second": batch * WRITTEN / time.median})
                table += f"| {way} | {batch} | {side} | {time.rate(batch * WRITTEN)} | {ratio:.2f} |\n"
                print(table.splitlines()[-1], flush=True)
    about = machine.described(["torch", "numpy"]) | {"threads": torch.get_num_threads()}
    machine.write("rounds", {"about": about, "rows": rows}, "# Writing by rounds, 10 M parameters, float32\n\n" + table)


if __name__ == "__main__":
    main()
