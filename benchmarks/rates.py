"""One sweep of the learning rate for every family: the same trials each, chosen by dev loss.

    python benchmarks/rates.py                       tiny, 3 trials of 1,000 steps for each family, on python-docs
    python benchmarks/rates.py --steps 200 --factors 0.25,0.5,1,2,4
    python benchmarks/rates.py --size small --steps 2000 --corpus wikitext2 --device cuda

The factor multiplies the optimizer's default rates. What it finds goes into ``src/sightline/runs/rates.py`` by hand, so
that a change of defaults is a change that somebody read. A flat optimum keeps the factor 1, and so does one that
another seed does not show. The table is written after every trial; the same command goes on where it stopped, and
other families are added to it.
"""

from __future__ import annotations

import argparse
import json
import math
import tempfile
from pathlib import Path
from typing import Any

from machine import RESULTS, data_folder, described, write

from sightline.objectives import FAMILIES
from sightline.runs.ground import laid, objective_for
from sightline.runs.plan import drafted
from sightline.runs.recipe import Source
from sightline.runs.run import validation
from sightline.runs.start import fresh
from sightline.training.loop import train

FLAT = 0.04  # nats: two seeds of one setting differ by as much (docs/log.md)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", default="tiny")
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--factors", default="0.5,1,2", help="on the default rates, 1 among them")
    parser.add_argument("--families", default="", help="parted by commas; all that have rates unless given")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--corpus", default="python-docs")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--threads", type=int, default=0)
    given = parser.parse_args()
    factors = [float(factor) for factor in given.factors.split(",")]
    corpus = str(data_folder() / "lm_en" / "wikitext2") if given.corpus == "wikitext2" else given.corpus
    name = f"rates-{given.size}-{given.steps}-seed{given.seed}"
    kept = RESULTS / f"{name}.json"
    found: dict[str, list[dict[str, Any]]] = json.loads(kept.read_text())["trials"] if kept.exists() else {}
    with tempfile.TemporaryDirectory() as held:
        folder = Path(held)
        ground = laid(Source(corpus), folder, 0, given.device, given.threads, "auto")
        every = [name for name, kind in FAMILIES.items() if kind.stack in ("transformer", "pair", "two")]
        for family in given.families.split(",") if given.families else every:
            for factor in factors:
                if any(trial["factor"] == factor for trial in found.get(family, [])):
                    continue
                objective = objective_for(family, ground.tokenizer, {})
                recipe = drafted(
                    ground, objective, size=given.size, budget=f"{given.steps}steps", seed=given.seed, rate=factor
                )
                recipe = recipe.with_settings(steps=given.steps, validations=1)
                model = fresh(ground, recipe, objective)
                rows_of = ground.rows_of(ground.packed(ground.train, recipe.context), recipe.settings.batch, given.seed)
                place = folder / f"{family}-{factor}"
                done = train(model, rows_of, recipe.settings, place, validate=validation(ground, recipe))
                found.setdefault(family, []).append({"factor": factor, "dev": done.best_dev or math.inf})
                print(family, found[family][-1], flush=True)
                store(name, found, given)


def store(name: str, found: dict[str, list[dict[str, Any]]], given: argparse.Namespace) -> None:
    """The table so far; a family is chosen for once its trials hold the default."""
    factors = sorted({trial["factor"] for trials in found.values() for trial in trials})
    lines = [
        f"# Learning rates at {given.size}: {given.steps} steps on {given.corpus}, seed {given.seed}",
        "",
        "Dev loss in nats per answer (comparable within a row only), by factor on the default rates.",
        "",
        "| family | " + " | ".join(f"{factor:g}" for factor in factors) + " | chosen |",
        "|---|" + "---|" * (len(factors) + 1),
    ]
    chosen: dict[str, float] = {}
    for family, trials in found.items():
        best = min(trials, key=lambda trial: trial["dev"])
        losses = {trial["factor"]: trial["dev"] for trial in trials}
        if 1.0 in losses:
            chosen[family] = 1.0 if losses[1.0] - best["dev"] < FLAT else best["factor"]
        cells = " | ".join(f"{losses[factor]:.4f}" if factor in losses else "" for factor in factors)
        lines.append(f"| {family} | {cells} | {f'{chosen[family]:g}' if family in chosen else ''} |")
    record = {
        "about": described(["torch", "numpy"]),
        "size": given.size,
        "steps": given.steps,
        "trials": found,
        "chosen": chosen,
    }
    write(name, record, "\n".join([*lines, ""]), show=False)


if __name__ == "__main__":
    main()
