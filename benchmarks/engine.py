"""Greedy writing with CTranslate2: its generator called bare, called by Sightline, and our own loop, in turns.

GPT-2's layout at 10 M parameters, random weights, float32, 32 tokens given and 128 written, no end mark; every side on
the same threads. First, over random prompts on GPT-2's and LLaMA's layout, the texts of both loops are compared; where
they part, the gap of our two best logits there is printed.

    python benchmarks/engine.py [--blocks 7] [--seconds 2] [--batches 1 16] [--threads 2] [--prompts 200]
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from typing import Any

import machine
import numpy as np
import torch
from decoding import GIVEN, VOCABULARY, WRITTEN, ours
from paired import interleaved

from sightline.data import train_tokenizer
from sightline.data.vocabulary import Vocabulary
from sightline.decoders.canvas import Canvas
from sightline.decoders.sampling import GREEDY
from sightline.objectives.causal import Causal
from sightline.objectives.model import Model, built
from sightline.objectives.writing import Engine, Wanted
from sightline.serving.engine import opened
from sightline.stacks.shape import Shape

GPT2 = Shape(
    6, 384, 6, VOCABULARY, 256, norm_bias=True, qk_norm=False, positions="learned", activation="gelu_tanh",
    attention_bias=True, output_bias=True, feed_bias=True,
)  # fmt: skip
LLAMA = Shape(
    6, 384, 6, VOCABULARY, 256, norm="rms", qk_norm=False, activation="silu", gated=True, hidden=1024, kv_heads=2
)
LAYOUTS = {"GPT-2": GPT2, "LLaMA": LLAMA}
SPECIALS = 4


def model_of(shape: Shape) -> Model:
    words = Vocabulary(VOCABULARY, VOCABULARY, pad=0, bos=1, eos=2, mask=3, specials=tuple(range(SPECIALS)))
    return built(Causal(words), shape, train_tokenizer(["abcdefghijklmnop"], "byte")).eval()


def by_engine(engine: Engine, prompts: Sequence[Sequence[int]]) -> Callable[[], list[list[int]]]:
    lists = [list(map(int, prompt)) for prompt in prompts]

    def call() -> list[list[int]]:
        found = engine.write(lists, Wanted(WRITTEN, GREEDY, forbidden=range(SPECIALS)))
        return [new for new, _ in found]

    return call


def bare(engine: Any, prompts: np.ndarray) -> Callable[[], list[list[int]]]:
    """The very generator that the engine holds, called as its manual shows; nothing is forbidden."""
    tokens = [[str(id) for id in prompt] for prompt in prompts]

    def call() -> list[list[int]]:
        results = engine._generator.generate_batch(
            tokens, max_length=WRITTEN, end_token=[], include_prompt_in_result=False
        )
        return [result.sequences_ids[0] for result in results]

    return call


def written(call: Callable[[], Any], lines: int) -> list[list[int]]:
    """What our own loop wrote on each line, in the order of the prompts."""
    done = call()
    order = np.argsort(done.owners)
    assert len(order) == lines
    return [done.canvas.tokens[at][~done.canvas.given[at]].tolist() for at in order]


def gap(model: Model, prompt: np.ndarray, new: list[int]) -> float:
    """Our best logit less our second best, after the prompt and these tokens."""
    canvas = Canvas.of([([*prompt, *new], 1, [])])
    with torch.no_grad():
        logits = model.logits(model.objective.fill(canvas), canvas.tokens)[0, 0]
    logits[:SPECIALS] = -torch.inf
    best = logits.topk(2).values
    return float(best[0] - best[1])


def compared(name: str, model: Model, engine: Engine, count: int) -> dict[str, Any]:
    """How many of so many texts are the same, and the gap of our two best logits where one is not."""
    prompts = np.random.default_rng(1).integers(SPECIALS, VOCABULARY, (count, GIVEN))
    here: list[list[int]] = []
    for start in range(0, count, 20):
        part = prompts[start : start + 20]
        here += written(ours(model, part, native=True, forbidden=range(SPECIALS)), len(part))
    there = by_engine(engine, prompts)()
    gaps = []
    for prompt, mine, other in zip(prompts, here, there, strict=True):
        assert len(mine) == len(other) == WRITTEN
        if mine != other:
            same = next(at for at, (one, two) in enumerate(zip(mine, other, strict=True)) if one != two)
            gaps.append(gap(model, prompt, mine[:same]))
    different = float(np.mean([len(set(mine)) for mine in here]))
    return {
        "layout": name, "prompts": count, "same": count - len(gaps), "gaps_where_they_part": gaps,
        "different_tokens": different,
    }  # fmt: skip


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("--blocks", type=int, default=7)
    asked.add_argument("--seconds", type=float, default=2.0)
    asked.add_argument("--batches", type=int, nargs="+", default=[1, 16])
    asked.add_argument("--threads", type=int, default=2)
    asked.add_argument("--prompts", type=int, default=200)
    chosen = asked.parse_args()
    torch.set_num_threads(chosen.threads)

    text = "# Greedy writing through CTranslate2, 10 M parameters, float32\n\n"
    same: list[dict[str, Any]] = []
    for name, shape in LAYOUTS.items():
        model = model_of(shape)
        same.append(compared(name, model, opened("ctranslate2", model), chosen.prompts))
        found = same[-1]
        gaps = ", ".join(f"{one:.2g}" for one in found["gaps_where_they_part"])
        text += f"{name}: {found['same']} of {found['prompts']} texts of {WRITTEN} tokens (of which "
        text += f"{found['different_tokens']:.0f} different in the mean) are the same in both loops"
        text += f"; where they part, our two best logits differ by {gaps}.\n" if gaps else ".\n"
        print(text.splitlines()[-1], flush=True)

    model = model_of(GPT2)
    engine = opened("ctranslate2", model)
    rows: list[dict[str, Any]] = []
    text += "\n| batch | way | tokens/s [slowest, fastest] | of the bare engine |\n|---|---|---|---|\n"
    for batch in chosen.batches:
        prompts = np.random.default_rng(0).integers(SPECIALS, VOCABULARY, (batch, GIVEN))
        sides = {
            "CTranslate2, bare": bare(engine, prompts),
            "Sightline --engine ctranslate2": by_engine(engine, prompts),
            "Sightline's own loop": ours(model, prompts, native=True, forbidden=range(SPECIALS)),
        }
        timed = interleaved(sides, chosen.blocks, chosen.seconds)
        for way, time in timed.items():
            ratio = timed["CTranslate2, bare"].median / time.median
            row = {"batch": batch, "way": way, "of_bare": ratio, **time.record()}
            rows.append(row | {"tokens_per_second": batch * WRITTEN / time.median})
            text += f"| {batch} | {way} | {time.rate(batch * WRITTEN)} | {ratio:.2f} |\n"
            print(text.splitlines()[-1], flush=True)
    about = machine.described(["ctranslate2", "torch", "numpy"]) | {"threads": chosen.threads}
    machine.write("engine", {"about": about, "texts": same, "rows": rows}, text)


if __name__ == "__main__":
    main()
