"""Lossless acceleration: the same texts with a drafter ahead, beside our own plain loop, one text at a time, in turns.

Trained weights (WikiText-2, first weights from counts), prompts of 32 tokens from its test part, 128 tokens written; a
small model of the same tokenizer, n-gram counts and lookup draft. Where a model of blocks drafts for itself, plain is
the same model from left to right, a place a round.

    python benchmarks/lossless.py                                     small, some 40 minutes of training on two cores
    python benchmarks/lossless.py --size mini --tokens 1Mtok
    python benchmarks/lossless.py --size base --tokens 200Mtok --device cuda
    python benchmarks/lossless.py --from RUN --drafter RUN2           models that are there already

Resumable: the models lie in runs/, and the same command goes on where it stopped.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import machine
import numpy as np
import torch
from paired import interleaved

import sightline as sl
from sightline import hub
from sightline.decoders.canvas import Canvas
from sightline.decoders.draft import Written
from sightline.decoders.policy import NextPlace
from sightline.decoders.sampling import GREEDY, Sampling
from sightline.objectives.drafting import Ahead, Drafts
from sightline.objectives.model import Model
from sightline.objectives.pen import USUAL, Pen, reading
from sightline.runs.texts import read_all

GIVEN, WRITTEN = 32, 128
NEAR = 1e-4  # of two logits that rounding may put in either order
ABOUT = ["torch", "numpy", "tokenizers"]


def prompts_of(corpus: Path, model: Model, count: int) -> list[list[int]]:
    """The first tokens of pieces of the test part, evenly spaced."""
    text = "".join(document.text for document in read_all((str(corpus),), part="test"))
    ids = model.tokenizer.encode(text).tolist()
    return [ids[at : at + GIVEN] for at in np.linspace(0, len(ids) - GIVEN, count, dtype=int)]


def writing(
    model: Model, prompts: list[list[int]], sampling: Sampling, drafts: Ahead | None
) -> Callable[[], list[Written]]:
    """Writes a text for each prompt, one after the other."""

    def call() -> list[Written]:
        with reading(model), torch.no_grad():
            pens = [Pen.of(model, sampling, seed) for seed in range(len(prompts))]
            return [
                pen.write(Canvas.of([([*pen.start, *prompt], WRITTEN, [])]), NextPlace(), drafts=drafts)
                for pen, prompt in zip(pens, prompts, strict=True)
            ]

    return call


def ties(model: Model, plain: list[Written], quick: list[Written]) -> list[dict[str, Any]]:
    """Where texts part, and how far the two likeliest logits are apart there."""
    found = []
    for number, (one, other) in enumerate(zip(plain, quick, strict=True)):
        apart = np.flatnonzero(one.canvas.tokens[0] != other.canvas.tokens[0])
        if not len(apart):
            continue
        place = int(apart[0])
        canvas = Canvas.of([(one.canvas.tokens[0, :place], 1, [])])
        with reading(model), torch.no_grad():
            said = model.logits(model.objective.fill(canvas), canvas.tokens)[0, 0]
        said[model.objective.vocabulary.is_special] = -torch.inf
        first, second = said.float().topk(2).values.tolist()
        found.append({"prompt": number, "place": place, "gap": first - second})
    return found


def rows_of(
    name: str, model: Model, drafters: dict[str, Drafts], chosen: argparse.Namespace, corpus: Path
) -> list[dict[str, Any]]:
    """Each drafter beside the plain loop, for the likeliest texts and for drawn ones."""
    prompts, rows = prompts_of(corpus, model, chosen.prompts), list[dict[str, Any]]()
    timed_prompts = prompts[:: max(1, len(prompts) // chosen.timed)][: chosen.timed]
    ahead = {drafter: Ahead.of(model, drafts, chosen.lookahead) for drafter, drafts in drafters.items()}
    for how, sampling in (("greedy", GREEDY), ("drawn", USUAL)):
        plain = writing(model, prompts, sampling, None)()
        sides = {"plain": writing(model, timed_prompts, sampling, None)}
        sides |= {drafter: writing(model, timed_prompts, sampling, one) for drafter, one in ahead.items()}
        timed = interleaved(sides, chosen.blocks, chosen.seconds)
        for drafter, time in timed.items():
            one = ahead.get(drafter)
            quick = writing(model, prompts, sampling, one)() if one else plain
            rounds = [done.rounds for done in quick]
            amount = len(timed_prompts) * WRITTEN
            row = {"model": name, "texts": how, "drafter": drafter, "lookahead": chosen.lookahead if one else 0}
            row["accepted"] = WRITTEN * len(rounds) / sum(rounds)
            row["same"] = sum(
                np.array_equal(a.canvas.tokens, b.canvas.tokens) for a, b in zip(plain, quick, strict=True)
            )
            row |= {"prompts": len(prompts), "ties": ties(model, plain, quick) if how == "greedy" else []}
            row |= time.record() | {"times_plain": timed["plain"].median / time.median}
            rows.append(row | {"tokens_per_second": amount / time.median, "rate": time.rate(amount)})
            print(line_of(rows[-1]), flush=True)
    return rows


def line_of(row: dict[str, Any]) -> str:
    same = "–" if row["texts"] == "drawn" or row["drafter"] == "plain" else f"{row['same']} of {row['prompts']}"
    return (
        f"| {row['model']} | {row['texts']} | {row['drafter']} | {row['accepted']:.2f} | {row['rate']} | "
        f"{row['times_plain']:.2f} | {same} |"
    )


def table(rows: list[dict[str, Any]], sizes: str) -> str:
    lines = [
        f"# Lossless acceleration, float32, one text at a time: {sizes}",
        "",
        f"{GIVEN} tokens given, {WRITTEN} written; accepted is the mean accepted length, tokens a round of the model. "
        "Drawn: temperature 0.8, top-p 0.95; the distribution is the same, the texts are not.",
        "",
        "| model | texts | drafter | accepted | tokens/s [slowest, fastest] | times plain | same texts |",
        "|---|---|---|---|---|---|---|",
        *map(line_of, rows),
    ]
    parted = [(row, tie) for row in rows for tie in row["ties"]]
    lines += ["", f"Texts that part from the plain loop's: {len(parted)}."]
    lines += [
        f"- {row['model']}, {row['drafter']}: prompt {tie['prompt']}, place {tie['place']}, the two likeliest logits "
        f"{tie['gap']:.1e} apart{'' if tie['gap'] < NEAR else ': NOT A TIE'}"
        for row, tie in parted
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--size", default="small")
    asked.add_argument("--tokens", default="1.2Mtok", help="of the model's training")
    asked.add_argument("--drafter-size", default="tiny")
    asked.add_argument("--drafter-tokens", default="2Mtok")
    asked.add_argument("--from", dest="start", type=Path, help="a trained model instead")
    asked.add_argument("--drafter", type=Path, help="a trained drafter instead")
    asked.add_argument("--counts", type=Path, help="trained n-gram counts instead")
    asked.add_argument("--blocks-model", type=Path, help="a trained block_diffusion model instead")
    asked.add_argument("--lookahead", type=int, default=4)
    asked.add_argument("--prompts", type=int, default=50)
    asked.add_argument("--timed", type=int, default=4, help="prompts that are timed")
    asked.add_argument("--blocks", type=int, default=5)
    asked.add_argument("--seconds", type=float, default=2.0)
    asked.add_argument("--device", default="auto")
    chosen = asked.parse_args()
    corpus = machine.data_folder() / "lm_en" / "wikitext2"

    def trained(family: str, size: str, tokens: str, tokenizer: str, **more: Any) -> Path:
        out = Path("runs") / f"lossless-{family}-{size}-{tokens}"
        sl.train(
            family, str(corpus), size=size, budget=tokens, out=out, tokenizer=tokenizer, device=chosen.device, **more
        )
        return out

    first = chosen.drafter or trained("causal", chosen.drafter_size, chosen.drafter_tokens, "bpe", init="counts")
    words = str(hub.located(first))
    verifier = chosen.start or trained("causal", chosen.size, chosen.tokens, words, init="counts")
    counts = chosen.counts or trained("ngram", "tiny", chosen.drafter_tokens, words)
    blocks = chosen.blocks_model or trained("block_diffusion", chosen.drafter_size, chosen.drafter_tokens, words)
    place = torch.device(
        "cuda" if chosen.device == "auto" and torch.cuda.is_available() else chosen.device.replace("auto", "cpu")
    )
    models = {
        name: hub.load(hub.located(path)).to(place).eval()
        for name, path in {"model": verifier, "drafter": first, "counts": counts, "blocks": blocks}.items()
    }

    def named(model: Model) -> str:
        return f"{model.objective.family}, {model.parameter_counts()[0] / 1e6:.1f} M"

    drafter = f"causal, {models['drafter'].parameter_counts()[0] / 1e6:.1f} M"
    drafters: dict[str, Drafts] = {drafter: models["drafter"], "n-gram counts": models["counts"], "lookup": "lookup"}
    rows = rows_of(named(models["model"]), models["model"], drafters, chosen, corpus)
    rows += rows_of(named(models["blocks"]), models["blocks"], {"itself": "self"}, chosen, corpus)
    about = machine.described(ABOUT) | {"threads": torch.get_num_threads()}
    sizes = f"{named(models['model'])} without tables, trained on WikiText-2"
    machine.write("lossless", {"about": about, "rows": rows}, table(rows, sizes))


if __name__ == "__main__":
    main()
