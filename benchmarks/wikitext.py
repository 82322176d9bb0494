"""WikiText-2 (word level, as published): all four families under one token budget, over several seeds.

    python benchmarks/wikitext.py                      tiny, 2 M tokens each, 3 seeds: an hour or so on two cores
    python benchmarks/wikitext.py --size mini --tokens 1Mtok --seeds 1
    python benchmarks/wikitext.py --size base --tokens 200Mtok --device cuda

Resumable: the comparison lies in runs/, and the same command goes on where it stopped. The table is written after every
seed, so that a break leaves the figures of the seeds that are done.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from machine import data_folder, described, write

import sightline as sl

NAMES = {
    "bits_per_byte": "bits per byte",
    "continuation_bits_per_byte": "continuation, bits per byte",
    "understanding_accuracy": "understanding, accuracy",
    "chrf": "writing, chrF",
    "infill_chrf": "infilling, chrF",
}


def cell(record: dict[str, Any], name: str) -> str:
    """One score with its interval, its class and, where it is pseudo, a mark."""
    score = next((one for one in record["scores"] if one["name"] == name and one["value"] is not None), None)
    if score is None:
        return "–"
    mark = " (pseudo)" if score["class"] == "pseudo" else ""
    if score["low"] is None:
        return f"{score['value']:.3f}{mark}"
    return f"{score['value']:.3f} [{score['low']:.3f}, {score['high']:.3f}]{mark}"


def table(results: dict[str, Any], seeds: int) -> str:
    """The comparison as Markdown."""
    size, budget = results["size"], results["budget"]["text"]
    lines = [
        f"# WikiText-2: four families at {size}, {budget} each, {seeds} seed{'s' if seeds > 1 else ''}",
        "",
        f"Parameters without embeddings: {results['families'][0]['parameters']:,}. "
        f"Evaluation: {results['evaluation']['note']}. Intervals are 95%, "
        f"{'over seeds then documents' if seeds > 1 else 'over documents'}. "
        "Pseudo scores are comparable with none of the others.",
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
    parser.add_argument("--size", default="tiny")
    parser.add_argument("--tokens", default="2Mtok")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--families", default="causal,backward,masked,prefix")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--threads", type=int, default=0)
    given = parser.parse_args()
    out = Path("runs") / f"wikitext2-{given.size}-{given.tokens}"
    for seeds in range(1, given.seeds + 1):
        done = sl.compare(
            str(data_folder() / "lm_en" / "wikitext2"),
            families=given.families,
            budget=given.tokens,
            size=given.size,
            seeds=seeds,
            out=out,
            device=given.device,
            threads=given.threads,
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
        write(f"wikitext2-{given.size}", record, table(results, seeds))


if __name__ == "__main__":
    main()
