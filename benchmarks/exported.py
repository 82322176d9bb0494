"""Greedy writing with llama.cpp over files that Sightline exported, beside our own loop: the same texts, in turns.

GPT-2's and LLaMA's layout at 10 M parameters, random weights, a vocabulary of bytes, float32 (keys and values too), 32
tokens given and 128 written, no mark written. llama.cpp computes GELU by a table in half precision: where two texts
part, the gap of our two best logits is told. Its Python binding is built from source: pip install llama-cpp-python.

    python benchmarks/exported.py [--prompts 20] [--threads 2] [--blocks 5] [--seconds 2]

``--blocks 0`` compares texts alone, for a machine that is not at rest.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import llama_cpp
import machine
import numpy as np
import torch
from decoding import GIVEN, WRITTEN, ours
from engine import LAYOUTS, written
from paired import interleaved

from sightline.data import train_tokenizer
from sightline.decoders.canvas import Canvas
from sightline.hub import gguf
from sightline.objectives.causal import Causal
from sightline.objectives.model import Model, built
from sightline.stacks.shape import Shape


def model_of(shape: Shape) -> Model:
    tokenizer = train_tokenizer(["abcdefghijklmnop"], "byte")
    return built(Causal(tokenizer.vocabulary), replace(shape, vocabulary=tokenizer.padded), tokenizer).eval()


def opened(model: Model, folder: str, threads: int) -> Any:
    path = Path(folder) / "model.gguf"
    gguf.write(model, path)
    kept = {"type_k": 0, "type_v": 0}  # float32
    return llama_cpp.Llama(str(path), n_ctx=256, n_threads=threads, logits_all=False, verbose=False, **kept)


def by_llama(engine: Any, prompts: np.ndarray, barred: np.ndarray) -> Callable[[], list[list[int]]]:
    def one(prompt: Sequence[int]) -> list[int]:
        engine.reset()
        engine.eval([int(id) for id in prompt])
        found: list[int] = []
        while True:
            logits = np.ctypeslib.as_array(llama_cpp.llama_get_logits_ith(engine._ctx.ctx, -1), (engine.n_vocab(),))
            found.append(int(np.where(barred, -np.inf, logits).argmax()))
            if len(found) == WRITTEN:
                return found
            engine.eval(found[-1:])

    return lambda: [one(prompt) for prompt in prompts]


def gap(model: Model, prompt: np.ndarray, new: list[int], barred: np.ndarray) -> float:
    """Our best logit less our second best, after the prompt and these tokens."""
    canvas = Canvas.of([([*prompt, *new], 1, [])])
    with torch.no_grad():
        logits = model.logits(model.objective.fill(canvas), canvas.tokens)[0, 0, : len(barred)]
    best = logits.masked_fill(torch.from_numpy(barred), -torch.inf).topk(2).values
    return float(best[0] - best[1])


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--prompts", type=int, default=20)
    asked.add_argument("--threads", type=int, default=2)
    asked.add_argument("--blocks", type=int, default=5)
    asked.add_argument("--seconds", type=float, default=2.0)
    chosen = asked.parse_args()
    torch.set_num_threads(chosen.threads)

    text = "# Greedy writing through llama.cpp from exported files, 10 M parameters, float32\n\n"
    same: list[dict[str, Any]] = []
    rows: list[dict[str, Any]] = []
    for name, shape in LAYOUTS.items():
        model = model_of(shape)
        words = model.objective.vocabulary
        barred = words.is_special[: words.size]
        forbidden = np.flatnonzero(words.is_special).tolist()
        prompts = np.random.default_rng(1).choice(words.ordinary, (chosen.prompts, GIVEN))
        with tempfile.TemporaryDirectory() as folder:
            engine = opened(model, folder, chosen.threads)
            there = by_llama(engine, prompts, barred)()
            here = written(ours(model, prompts, native=True, forbidden=forbidden), len(prompts))
            gaps = []
            for prompt, mine, other in zip(prompts, here, there, strict=True):
                parts = [at for at, pair in enumerate(zip(mine, other, strict=True)) if pair[0] != pair[1]]
                gaps += [gap(model, prompt, mine[: parts[0]], barred)] if parts else []
            found = {"layout": name, "prompts": len(prompts), "same": len(prompts) - len(gaps), "gaps": gaps}
            same.append(found)
            text += f"{name}: {found['same']} of {len(prompts)} texts of {WRITTEN} tokens are the same"
            text += f"; where they part, our two best logits differ by {max(gaps):.2g} at most.\n" if gaps else ".\n"
            print(text.splitlines()[-1], flush=True)
            if not chosen.blocks:
                continue
            one = prompts[:1]
            sides = {
                f"{name}, llama.cpp": by_llama(engine, one, barred),
                f"{name}, Sightline's own loop": ours(model, one, native=True, forbidden=forbidden),
            }
            for way, time in interleaved(sides, chosen.blocks, chosen.seconds).items():
                rows.append({"way": way, **time.record(), "tokens_per_second": WRITTEN / time.median})
                text += f"\n- {way}, one text at a time: {time.rate(WRITTEN)} tokens/s"
            text += "\n\n"
    about = machine.described(["llama_cpp_python", "torch", "numpy"]) | {"threads": chosen.threads}
    machine.write("llama-cpp", {"about": about, "texts": same, "rows": rows}, text)


if __name__ == "__main__":
    main()
