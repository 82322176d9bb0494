"""Compare families on one text under one budget each: train, measure, and write one honest page."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from ..errors import SightlineError
from ..files import locked, read_json, write_json
from ..progress import say
from .recipe import Recipe, Source

if TYPE_CHECKING:
    from .ground import Ground

SCHEMA = 1
FLOOR = "ngram"


@dataclass(frozen=True)
class CompareResult:
    """What ``compare`` came to.

    Parameters
    ----------
    folder : of the comparison. report : the page. results : as in ``results.json``. next : a command to go on with.
    """

    folder: Path
    report: Path
    results: dict[str, Any]
    next: str

    def __str__(self) -> str:
        from ..report import headline_text, recommend

        parts = [headline_text(self.results), *recommend(self.results), "", _samples(self.results), str(self.report)]
        return "\n".join(parts)


def compare(
    corpus: Annotated[str | None, tyro.conf.Positional] = None,
    *,
    families: str = "causal,backward,masked,prefix",
    budget: str = "5m",
    size: str = "tiny",
    seeds: int = 1,
    out: Path | None = None,
    seed: int = 0,
    rate: float = 0.0,
    tokenizer: str = "bpe",
    field: str = "text",
    label: str = "",
    documents: Literal["file", "lines", "blank"] = "file",
    strict: bool = False,
    device: str = "auto",
    threads: int = 0,
    dtype: Literal["auto", "float32", "bfloat16"] = "auto",
    recipe: Path | None = None,
    print_recipe: bool = False,
    json: Path | None = None,
) -> CompareResult | None:
    """Train several families on your text under the same budget each, and write one report.

    Examples:
        sightline compare python-docs --budget 60s
        sightline compare corpus/ --families causal,masked --budget 20Mtok --size mini --seeds 3 --out runs/mine

    Args:
        corpus: a file or folder of .txt .md .jsonl .parquet .arrow (also .gz .zst), - for standard input,
            python-docs, or the name of a Hugging Face data set.
        families: names, parted by commas (see: sightline families).
        budget: what each family may spend on training, as in 60s, 5m, 20Mtok, 500steps, 1e15flop.
        size: tiny, mini, small, base, large or 1b: the same stack for every family.
        seeds: runs of each family; intervals are then drawn over seeds and documents.
        out: the comparison's folder; the same command continues there, more families or seeds extend it.
        seed: the first seed.
        rate: factor on the learning rates of every family; 0: the swept ones.
        tokenizer: bpe, bpe:4096, byte, char, wordpiece, or a path to a tokenizer.json.
        field: the field of a record that holds the text.
        label: the field of a record that holds a label, for the understanding probe.
        documents: what a document of a .txt file is.
        strict: stop at the first bad row.
        device: auto, cpu, cuda, ...
        threads: of the CPU; 0: as many as there are cores.
        dtype: auto takes bfloat16 where it is measurably faster.
        recipe: rerun the comparison that a saved recipe describes.
        print_recipe: print the recipe of the first family and stop.
        json: also write the results to this file.
    """
    from ..report import write_report
    from ..training.budget import Budget
    from .ground import laid, objective_for
    from .train import drafted

    if recipe is not None:
        held = Recipe.load(recipe)
        source, size, budget, seed = held.source, held.size, held.budget, held.seed
        threads = threads or held.threads
    elif corpus is None:
        raise SightlineError("compare needs a corpus", "For example: sightline compare python-docs --budget 60s")
    else:
        source = Source(corpus, field, label, documents, strict, tokenizer)
    names = _families(families)
    Budget.parse(budget)
    if seeds < 1:
        raise SightlineError(f"{seeds} seeds are no runs", "Use 1 or more")
    _known_size(size)
    folder = Path(out) if out else Path("runs") / f"compare-{Path(source.corpus).stem or 'stdin'}-{size}-{budget}"
    with locked(folder):
        _refuse_other(folder, source, size, budget, None)
        ground = laid(source, folder, seed, device, threads, dtype)
        first = drafted(
            ground, objective_for(names[0], ground.tokenizer, {}), size=size, budget=budget, seed=seed, rate=rate
        )
        if print_recipe:
            print(first.text(), end="")
            return None
        _refuse_other(folder, ground.source, size, budget, first)
        first.save(folder / "recipe.toml")
        results = _results(ground, first, names, seeds, rate, folder)
        path = folder / "report.html"
        write_json(folder / "results.json", results)
        write_report(results, path)
        if json is not None:
            write_json(Path(json), results)
    model = folder / names[0] / f"seed-{seed}" / "model"
    return CompareResult(folder, path, results, f"sightline see {model} --text 'a sentence of your own'")


def _samples(results: dict[str, Any]) -> str:
    """One sample per family: what it was given, and what it wrote there."""
    lines = []
    for record in results["families"]:
        kinds = ("blank",) if record["writes_from"] == "both" else ("continuation", "beginning")
        sample = next((one for one in record["samples"] if one["kind"] in kinds), None)
        if sample is not None:
            given, written = " ".join(sample["given"].split()), " ".join(sample["written"].split())
            lines += [f"{record['family']}, {sample['kind']}", f"  given   {given}", f"  written {written}", ""]
    return "\n".join(lines)


def _families(text: str | Sequence[str]) -> list[str]:
    """Names of known families, each once, in the order given."""
    from ..objectives import FAMILIES

    names = [name.strip() for name in (text.split(",") if isinstance(text, str) else text) if name.strip()]
    if not names:
        raise SightlineError("no family to compare was named", f"Choose from {', '.join(FAMILIES)}")
    for name in names:
        if name not in FAMILIES:
            raise SightlineError(f"there is no family {name!r}", f"Choose from {', '.join(FAMILIES)}")
    return list(dict.fromkeys(names))


def _known_size(size: str) -> None:
    from ..stacks import sizes

    sizes.size(size)


def _refuse_other(folder: Path, source: Source, size: str, budget: str, first: Recipe | None) -> None:
    """A folder that holds another comparison is left alone: before the corpus is read, and again once it is."""
    path = folder / "recipe.toml"
    if not path.exists():
        if (folder / "checkpoints").exists() or (folder / "model").exists():
            raise SightlineError(f"{folder} holds something else", "Choose another --out")
        return
    there = Recipe.load(path)
    pairs: list[tuple[str, Any, Any]] = [("size", there.size, size), ("budget", there.budget, budget)]
    if first is not None:
        pairs += [
            ("corpus or tokenizer", there.source.fingerprint, source.fingerprint),
            ("learning rate", there.settings.optimization, first.settings.optimization)
            if there.family == first.family
            else ("seed", there.seed, first.seed),
        ]
    for name, held, wanted in pairs:
        if held != wanted:
            raise SightlineError(
                f"{folder} holds a comparison with another {name} ({held} there, {wanted} now)",
                "Choose another --out; only more families or seeds extend a comparison",
            )


def _results(ground: Ground, first: Recipe, names: list[str], seeds: int, rate: float, folder: Path) -> dict[str, Any]:
    """Every family and seed trained and measured, what is already there taken over; then joined to one record."""
    from .ground import described, versions
    from .measure import Examination, joined

    numbers = [first.seed + number for number in range(seeds)]
    outcomes: dict[str, list[dict[str, Any]]] = {}
    examination: Examination | None = None
    for name in [*names, *([] if FLOOR in names else [FLOOR])]:
        for number in numbers if name != FLOOR else numbers[:1]:
            place = folder / name / f"seed-{number}"
            if not (place / "results.json").exists():
                recipe, model = _begun(ground, first, name, number, rate, place)
                if examination is None:
                    examination = Examination.of(ground, first, folder)
                _one(ground, recipe, model, examination, place)
            outcomes.setdefault(name, []).append(read_json(place / "results.json"))
    if examination is None:
        examination = Examination.of(ground, first, folder)
    before = folder / "results.json"
    earlier = [
        path.parent.name
        for path in sorted(folder.glob("*/seed-*"))
        if (path / "results.json").exists() and path.parent.name not in outcomes
    ]
    for name in dict.fromkeys(earlier):  # an earlier run of more families is kept, not forgotten
        outcomes[name] = [read_json(path / "results.json") for path in sorted((folder / name).glob("seed-*"))]
    say(f"{'extends' if before.exists() else 'writes'} {before}")
    families, floors, comparisons = joined(outcomes, examination, first.seed, [*names, *dict.fromkeys(earlier)], folder)
    return {
        "schema": SCHEMA,
        "corpus": _corpus(ground),
        "budget": _budget(first),
        "versions": versions(),
        "machine": described(ground.device, ground.threads),
        "command": "sightline " + " ".join(shlex.quote(word) for word in sys.argv[1:]),
        "seed": first.seed,
        "size": first.size,
        "recipe": first.text(),
        "tokenizer": {
            "kind": ground.tokenizer.kind,
            "size": ground.tokenizer.size,
            "fingerprint": ground.tokenizer.fingerprint,
            "lossless": ground.tokenizer.lossless,
            "bytes_per_token": ground.bytes_per_token,
        },
        "evaluation": examination.described(),
        "families": families,
        "floors": floors,
        "comparisons": comparisons,
    }


def _begun(ground: Ground, first: Recipe, name: str, seed: int, rate: float, place: Path) -> tuple[Recipe, Any]:
    """The recipe and the fresh model of one run; a folder that was begun keeps its number of steps."""
    from .ground import held_folder, objective_for
    from .train import costed, drafted, fresh

    objective = objective_for(name, ground.tokenizer, {})
    recipe = drafted(ground, objective, size=first.size, budget=first.budget, seed=seed, rate=rate)
    recipe = held_folder(place, recipe)
    model = fresh(ground, recipe, objective)
    if not (place / "recipe.toml").exists():
        recipe = costed(ground, recipe, model)
        place.mkdir(parents=True, exist_ok=True)
        recipe.save(place / "recipe.toml")
    return recipe, model


def _one(ground: Ground, recipe: Recipe, model: Any, examination: Any, place: Path) -> None:
    """Train and measure one run; its record is written last, so that a break before it costs only what is missing."""
    from .measure import record_of
    from .train import run

    title = f"{recipe.family} (seed {recipe.seed})"
    say(f"{title}: {recipe.settings.steps:,} steps" if model.objective.stack != "table" else f"{title}: counting")
    trained = run(ground, recipe, model, place, title)
    record = record_of(ground, recipe, model, trained)
    record |= examination.sat_by(model, place)
    write_json(place / "results.json", record)


def _corpus(ground: Ground) -> dict[str, Any]:
    corpus = ground.corpus
    return {
        "name": corpus.name,
        "fingerprint": corpus.fingerprint,
        "tree": corpus.tree,
        "split": corpus.how_split,
        "notes": list(corpus.notes),
        "bad_rows": len(corpus.bad),
        "bad_examples": [asdict(row) for row in corpus.bad[:5]],
        **{
            split: {
                "documents": getattr(ground, split).document_count,
                "bytes": int(getattr(ground, split).bytes.sum()),
                "tokens": int(getattr(ground, split).token_count),
            }
            for split in ("train", "dev", "test")
        },
    }


def _budget(first: Recipe) -> dict[str, Any]:
    from ..training.budget import Budget

    budget = Budget.parse(first.budget)
    return {"text": budget.text, "kind": budget.kind, "amount": budget.amount}
