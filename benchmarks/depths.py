"""An encoder and a decoder of two depths, and a target in one pass, beside transformers' Marian, in turns.

Greedy, random weights, no end mark: all write as many tokens. Six layers and six against twelve and one (Kasai et al.,
2021), width 512, 8 heads, hidden 2048, 10,048 ids; 32 source and 128 target tokens, and 14 and 14 as in Multi30k.
"NAR" is the family `nar`: the encoder, its length (one candidate, and it is told), one pass of the decoder, all places
written. The speed of autoregression is that of our fastest greedy loop.

    python benchmarks/depths.py [--size full] [--device cpu] [--lines 1 32] [--blocks 5] [--seconds 2] [--threads 0]
"""

from __future__ import annotations

import argparse
import copy
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import machine
import numpy as np
import torch
from paired import Timed, interleaved
from transformers import MarianConfig, MarianMTModel

from sightline.data import Tokenizer, train_tokenizer
from sightline.data.vocabulary import Vocabulary
from sightline.decoders.canvas import Canvas
from sightline.decoders.loop import write
from sightline.decoders.policy import AllAtOnce, NextPlace
from sightline.decoders.sampling import GREEDY
from sightline.objectives.model import Model, built
from sightline.objectives.pen import Pen, reading
from sightline.objectives.seq2seq import Seq2Seq
from sightline.stacks.shape import Shape

try:
    from sightline.objectives.lengths import by_lengths
    from sightline.objectives.nar import Nar
except ImportError:  # a checkout that has no such family yet
    Nar = by_lengths = None  # type: ignore[assignment,misc]

SIZES = {"full": (512, 8, 2048, 10_048), "tiny": (64, 2, 128, 512)}  # width, heads, hidden, vocabulary
DEPTHS = ((6, 6), (12, 1))
LENGTHS = ((32, 128), (14, 14))
TYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
CONTEXT, SPECIALS = 256, 8


def words(vocabulary: int) -> Vocabulary:
    marks = {name: at for at, name in enumerate(("pad", "bos", "eos", "mask", "cls", "sep"))}
    return Vocabulary(size=vocabulary, padded=vocabulary, specials=tuple(range(SPECIALS)), **marks)


def ours(family: Any, depths: tuple[int, int], size: str, letters: Tokenizer) -> Model:
    width, heads, hidden, vocabulary = SIZES[size]
    objective = family(words(vocabulary), encoder_layers=depths[0], decoder_layers=depths[1])
    return built(objective, Shape(sum(depths), width, heads, vocabulary, CONTEXT, hidden=hidden), letters).eval()


def theirs(depths: tuple[int, int], size: str) -> MarianMTModel:
    width, heads, hidden, vocabulary = SIZES[size]
    return MarianMTModel(
        MarianConfig(
            vocab_size=vocabulary,
            d_model=width,
            encoder_layers=depths[0],
            decoder_layers=depths[1],
            encoder_attention_heads=heads,
            decoder_attention_heads=heads,
            encoder_ffn_dim=hidden,
            decoder_ffn_dim=hidden,
            max_position_embeddings=CONTEXT,
            pad_token_id=0,
            eos_token_id=2,
            decoder_start_token_id=0,
            forced_eos_token_id=None,
        )
    ).eval()


def autoregression(model: Model, sources: np.ndarray, count: int) -> Callable[[], Any]:
    vocabulary = model.objective.vocabulary
    forbidden = np.arange(SPECIALS)

    def call() -> Any:
        canvas = Canvas.laid([[[vocabulary.bos, *source, vocabulary.sep], count] for source in sources.tolist()])
        with torch.no_grad():
            return write(
                model.objective.fill,
                model.logits,
                canvas,
                NextPlace(),
                forbidden=forbidden,
                make_cache=model.cache,
                answers=model.answers,
            )

    return call


def at_once(model: Model, sources: np.ndarray, count: int) -> Callable[[], Any]:
    """The length is worked out like any, and then another is taken."""
    vocabulary, told = model.objective.vocabulary, type(model).length_logits

    def length_logits(*asked: Any) -> torch.Tensor:
        logits = told(model, *asked)
        logits[:, count] = logits.max() + 1
        return logits

    def call() -> Any:
        marked = [[vocabulary.bos, *source, vocabulary.sep] for source in sources.tolist()]
        with torch.no_grad():
            object.__setattr__(model, "length_logits", length_logits)
            return by_lengths(Pen.of(model, GREEDY, 0), marked, AllAtOnce(), 1, CONTEXT)

    return call


def marian(model: MarianMTModel, sources: np.ndarray, count: int) -> Callable[[], Any]:
    ids = torch.from_numpy(sources).to(model.device)

    def call() -> Any:
        with torch.no_grad():
            return model.generate(
                ids,
                attention_mask=torch.ones_like(ids),
                max_new_tokens=count,
                min_new_tokens=count,
                num_beams=1,
                do_sample=False,
            )

    return call


def sides(size: str, device: str, dtype: torch.dtype, letters: Tokenizer) -> dict[str, tuple[Any, Any]]:
    """Every model by its name, with what makes it write."""
    found: dict[str, tuple[Any, Any]] = {}
    for depths in DEPTHS:
        name = "-".join(map(str, depths))
        found[f"Sightline {name}"] = ours(Seq2Seq, depths, size, letters), autoregression
        found[f"transformers {name}"] = theirs(depths, size), marian
    if Nar is not None:
        found["Sightline NAR 6-6"] = ours(Nar, DEPTHS[0], size, letters), at_once
    return {name: (copy.deepcopy(model).to(device, dtype), way) for name, (model, way) in found.items()}


def ratios(timed: dict[str, Timed]) -> dict[str, float]:
    """How many times quicker the first of two is than the second."""
    seconds = {name: time.median for name, time in timed.items()}
    pairs = {
        "12-1 over 6-6": ("Sightline 12-1", "Sightline 6-6"),
        "12-1 over 6-6, transformers": ("transformers 12-1", "transformers 6-6"),
        "Sightline over transformers, 6-6": ("Sightline 6-6", "transformers 6-6"),
        "Sightline over transformers, 12-1": ("Sightline 12-1", "transformers 12-1"),
        "NAR over AR, 6-6": ("Sightline NAR 6-6", "Sightline 6-6"),
    }
    return {name: seconds[slow] / seconds[quick] for name, (quick, slow) in pairs.items() if quick in seconds}


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--size", choices=list(SIZES), default="full")
    asked.add_argument("--device", default="cpu")
    asked.add_argument("--lines", type=int, nargs="+", default=[1, 32])
    asked.add_argument("--blocks", type=int, default=5)
    asked.add_argument("--seconds", type=float, default=2.0)
    asked.add_argument("--threads", type=int, default=0)
    chosen = asked.parse_args()
    if chosen.threads:
        torch.set_num_threads(chosen.threads)
    letters = train_tokenizer(["abcdefghijklmnop"], "byte")
    vocabulary, draws = SIZES[chosen.size][3], np.random.default_rng(0)
    rows: list[dict[str, Any]] = []
    beside: list[dict[str, Any]] = []
    table = (
        "| lines | source, target | precision | way | ms a batch [fastest, slowest] | tokens/s |\n" + "|---" * 6 + "|\n"
    )
    for lines in chosen.lines:
        for source, target in LENGTHS:
            sources = draws.integers(SPECIALS, vocabulary, (lines, source))
            for precision, dtype in TYPES.items():
                made = sides(chosen.size, chosen.device, dtype, letters)
                calls = {name: way(model, sources, target) for name, (model, way) in made.items()}
                with ExitStack() as held:  # models that are held ready, as a server has them
                    for model, way in made.values():
                        if way is not marian:
                            held.enter_context(reading(model))
                    timed = interleaved(calls, chosen.blocks, chosen.seconds)
                about = {"lines": lines, "source": source, "target": target, "precision": precision}
                for name, time in timed.items():
                    rate = lines * target / time.median
                    rows.append(about | {"way": name, "tokens_per_second": rate, **time.record()})
                    where = f"| {lines} | {source}, {target} | {precision} |"
                    table += f"{where} {name} | {time.milliseconds()} | {rate:,.0f} |\n"
                    print(table.splitlines()[-1], flush=True)
                beside.append(about | ratios(timed))
                print(beside[-1], flush=True)
    head = [name for name in beside[0] if name not in ("lines", "source", "target", "precision")]
    table += f"\nHow many times quicker the first is:\n\n| lines | source, target | precision | {' | '.join(head)} |\n"
    table += "|---" * (3 + len(head)) + "|\n"
    for one in beside:
        where = f"| {one['lines']} | {one['source']}, {one['target']} | {one['precision']} |"
        table += where + "".join(f" {one[name]:.2f} |" for name in head) + "\n"
    about = machine.described(["torch", "transformers", "numpy"])
    about |= {"threads": torch.get_num_threads(), "device": chosen.device, "size": chosen.size}
    title = f"# Depths of both stacks: {chosen.device}, threads: {about['threads']}, size {chosen.size}\n\n"
    name = "depths" if chosen.size == "full" and chosen.device == "cpu" else f"depths-{chosen.size}-{chosen.device}"
    name += "" if 1 in chosen.lines else f"-{max(chosen.lines)}"
    machine.write(name, {"about": about, "rows": rows, "ratios": beside}, title + table)


if __name__ == "__main__":
    main()
