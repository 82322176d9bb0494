"""Families under one token budget on WikiText-2 (word level, as published) or a slice of the Chinese Wikipedia.

    python benchmarks/families.py                                         every family of text, tiny, 1 M tokens each
    python benchmarks/families.py --corpus wikipedia_zh                   the same on Chinese
    python benchmarks/families.py --families causal,backward,masked,prefix --tokens 2Mtok --seeds 3
    python benchmarks/families.py --size base --tokens 200Mtok --device cuda

Some 45 minutes on two cores. Resumable: the comparison and its report lie in runs/, and the same command goes on where
it stopped. The table is written after every seed, so that a break leaves the figures of the seeds that are done.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from machine import data_folder, described, write

import sightline as sl

CORPORA = {"wikitext2": ("WikiText-2", "lm_en"), "wikipedia_zh": ("Chinese Wikipedia", "lm_zh")}
EVERY = "causal,backward,two_way,masked,electra,prefix,blank,mix,hybrid,permuted,diffusion,block_diffusion,cbow"
NAMES = {
    "bits_per_byte": "bits per byte",
    "continuation_bits_per_byte": "continuation, bits per byte",
    "understanding_accuracy": "understanding, accuracy",
    "chrf": "writing, chrF",
    "infill_chrf": "infilling, chrF",
}


def cell(record: dict[str, Any], name: str) -> str:
    """One score with its interval and, where it is pseudo or a bound, its class."""
    score = next((one for one in record["scores"] if one["name"] == name and one["value"] is not None), None)
    if score is None:
        return "–"
    mark = f" ({score['class']})" if score["class"] in ("pseudo", "bound") else ""
    if score["low"] is None:
        return f"{score['value']:.3f}{mark}"
    return f"{score['value']:.3f} [{score['low']:.3f}, {score['high']:.3f}]{mark}"


def table(results: dict[str, Any], corpus: str, seeds: int) -> str:
    """The comparison as Markdown."""
    size, budget, count = results["size"], results["budget"]["text"], len(results["families"])
    first = results["families"][0]
    lines = [
        f"# {corpus}: {count} families at {size}, {budget} each, {seeds} seed{'s' if seeds > 1 else ''}",
        "",
        f"Parameters without embeddings: {first['parameters']:,} ({first['family']}). "
        f"Evaluation: {results['evaluation']['note']}. Intervals are 95%, "
        f"{'over seeds then documents' if seeds > 1 else 'over documents'}. "
        "Pseudo scores are comparable with none of the others; a bound is not below the exact score.",
        "",
        "| family | " + " | ".join(NAMES.values()) + " | tokens | slots | FLOPs | seconds | tokens/s |",
        "|---|" + "---|" * (len(NAMES) + 5),
    ]
    for record in results["families"]:
        cells = [cell(record, name) for name in NAMES]
        lines.append(
            f"| {record['family']} | {' | '.join(cells)} | {record['tokens_seen']:,} | {record['slots_seen']:,} "
            f"| {record['flops']:.2e} | {record['seconds']:.0f} | {record['tokens_per_second']:,.0f} |"
        )
    for floor in results["floors"]:
        lines.append(f"| *floor: {floor['name']}* | {' | '.join(cell(floor, name) for name in NAMES)} | | | | | |")
    return "\n".join([*lines, ""])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", choices=CORPORA, default="wikitext2")
    parser.add_argument("--size", default="tiny")
    parser.add_argument("--tokens", default="1Mtok")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--families", default=EVERY)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--scoring", type=float, default=60.0, help="seconds, of the costliest family")
    parser.add_argument("--threads", type=int, default=0)
    given = parser.parse_args()
    title, language = CORPORA[given.corpus]
    name = f"{given.corpus}-{given.size}" + ("-every" if given.families == EVERY else "")
    out = Path("runs") / f"{name}-{given.tokens}"
    for seeds in range(1, given.seeds + 1):
        done = sl.compare(
            str(data_folder() / language / given.corpus),
            families=given.families,
            budget=given.tokens,
            size=given.size,
            seeds=seeds,
            out=out,
            device=given.device,
            threads=given.threads,
            scoring=given.scoring,
        )
        assert done is not None
        results = done.results
        keep = ("size", "budget", "corpus", "evaluation", "floors", "comparisons", "machine")
        record = {"about": described(["torch", "numpy", "tokenizers"]), "seeds": seeds} | {
            key: results[key] for key in keep
        }
        record["families"] = [
            {
                key: value
                for key, value in one.items()
                if key not in ("samples", "sight_svg", "recipe", "seeds", "curve")
            }
            for one in results["families"]
        ]
        record["corpus"].pop("tree", None)
        write(name, record, table(results, title, seeds))


if __name__ == "__main__":
    main()
