"""Compare families on one text under one budget each: train, measure, and write one honest page."""

from __future__ import annotations

import contextlib
import inspect
import math
import shlex
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from ..errors import SightlineError
from ..files import read_json, write_json
from ..progress import say
from .recipe import Comparison, Recipe, Source, refuse_beside_recipe

if TYPE_CHECKING:
    from ..objectives.model import Model
    from .ground import Ground
    from .measure import Examination

SCHEMA = 1
LEAST_CONTEXT = 16  # tokens: shorter rows leave no passage to write


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
    context: int = 0,
    batch: int = 0,
    seeds: int = 1,
    out: Path | None = None,
    seed: int = 0,
    rate: float = 0.0,
    horizon: int = 0,
    scoring: float = 0.0,
    tokenizer: str = "bpe",
    field: str = "text",
    label: str = "",
    sides: str = "",
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
        sightline compare series.csv --families linear,causal --budget 60s --horizon 24

    Args:
        corpus: a file or folder of .txt .md .jsonl .parquet .arrow (also .gz .zst), - for standard input,
            python-docs, or the name of a Hugging Face data set; or a table of numbers (.csv, .parquet: columns
            unique_id, ds, y, or one column).
        families: names, parted by commas (see: sightline families).
        budget: what each family may spend on training, as in 60s, 5m, 20Mtok, 500steps, 1e15flop.
        size: tiny, mini, small, base, large or 1b: the same stack for every family.
        context: tokens of a row; 0: the size's own.
        batch: rows of one update; 0: the size's own.
        seeds: runs of each family; intervals are then drawn over seeds and documents.
        out: the comparison's folder; the same command continues there, more families or seeds extend it.
        seed: the first seed.
        rate: factor on the learning rates of every family; 0: the swept ones.
        horizon: on a table of numbers, how many are forecast at once; 0: by the length of the series, at most 24.
        scoring: seconds that scoring may take the costliest family, which decides how much text is scored;
            0: a quarter of what the first family trains for.
        tokenizer: bpe, bpe:4096, byte, char, wordpiece, word, word+phrases, or a path to a tokenizer.json.
        field: the field of a record that holds the text; of a table, the column of numbers (y, unless named).
        label: the field of a record that holds a label, for the understanding probe.
        sides: of pairs, which are source and target: en-de for files that end so or fields of these names, 2-1 for
            columns; .tsv files and records with source and target are pairs by themselves.
        documents: what a document of a .txt file is.
        strict: stop at the first bad row.
        device: auto, cpu, cuda, ...
        threads: of the CPU; 0: as many as there are cores.
        dtype: auto takes bfloat16 where it is measurably faster.
        recipe: rerun a saved comparison; the corpus may be named beside it, if it lies elsewhere now.
        print_recipe: print the recipe and stop.
        json: also write the results to this file.
    """
    from ..report import write_report
    from .ground import claimed, forbid_numbers, held, laid
    from .numbers import chosen, following, laid_numbers, reads_numbers

    given = {name: value for name, value in locals().items() if name in inspect.signature(compare).parameters}
    if recipe is not None:
        refuse_beside_recipe(compare, given, ("corpus", "out", "device", "threads", "print_recipe", "json"))
        wanted = Comparison.load(recipe)
        if corpus is not None:
            wanted = replace(wanted, source=replace(wanted.source, corpus=corpus))
    elif corpus is None:
        raise SightlineError("compare needs a corpus", "For example: sightline compare python-docs --budget 60s")
    else:
        wanted = Comparison(
            tuple(_families(families)), Source(corpus, field, label, documents, strict, tokenizer, sides=sides), size,
            context, batch, budget, seed, seeds, rate, device, threads, dtype, horizon, scoring,
        )  # fmt: skip
    numbers = reads_numbers(wanted.source)
    if numbers:
        usual = recipe is None and families == inspect.signature(compare).parameters["families"].default
        wanted = replace(wanted, families=chosen(wanted.families, usual))
    else:
        forbid_numbers(wanted.families)
    _check(wanted)
    name = f"compare-{Path(wanted.source.corpus).stem or 'stdin'}-{wanted.size}-{wanted.budget.replace(' ', '')}"
    folder = Path(out) if out else Path("runs") / name
    with contextlib.ExitStack() as stack:
        if print_recipe:  # what is laid out for it goes away again
            place = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        else:
            place = stack.enter_context(claimed(folder))
        if (there := held(folder, wanted)) is not None:
            wanted = _extended(there, wanted, folder)
        source, count = wanted.source, threads or wanted.threads
        if numbers:
            ground: Any = laid_numbers(wanted, device, count, wanted.dtype)
        else:
            ground = laid(source, place, wanted.seed, device, count, wanted.dtype, families=wanted.families)
        wanted = replace(wanted, source=ground.source, device=ground.device, threads=ground.threads, dtype=ground.dtype)
        if print_recipe:
            print(wanted.text(), end="")
            return None
        wanted.save(folder / "recipe.toml")
        results = (_on_numbers if numbers else _results)(ground, wanted, folder) | {"command": _command(given)}
        path = folder / "report.html"
        write_json(folder / "results.json", results)
        write_report(results, path)
        if json is not None:
            write_json(Path(json), results)
    model = folder / wanted.families[0] / f"seed-{wanted.seed}" / "model"
    command = f"sightline see {shlex.quote(str(model))} --text 'a sentence of your own'"
    if numbers:
        command = following(wanted.source, results["corpus"]["horizon"])
    return CompareResult(folder, path, results, command)


def _check(wanted: Comparison) -> None:
    """What can be known to be wrong before anything is read."""
    from ..stacks import sizes
    from ..training.budget import Budget

    _families(wanted.families)
    Budget.parse(wanted.budget)
    chosen = sizes.size(wanted.size)
    if wanted.seeds < 1:
        raise SightlineError(f"{wanted.seeds} seeds are no runs", "Use 1 or more")
    if (wanted.context or chosen.context) < LEAST_CONTEXT:
        raise SightlineError(
            f"rows of {wanted.context} tokens are too short to write passages in", f"Use {LEAST_CONTEXT} or more"
        )
    for name in ("batch", "rate", "horizon", "scoring"):
        value = getattr(wanted, name)
        if value < 0 or not math.isfinite(value):
            raise SightlineError(f"a {name} of {value} means nothing", "Use 0 for the default, or more")


def _extended(there: Comparison, wanted: Comparison, folder: Path) -> Comparison:
    """The comparison in the folder with the families and seeds that are asked for on top of its own."""
    if wanted.dtype not in ("auto", there.dtype):
        raise SightlineError(
            f"{folder} holds another run: it differs in dtype ({there.dtype!r} there, {wanted.dtype!r} now)",
            "Choose another --out, or leave the option away",
        )
    return replace(
        there,
        families=tuple(dict.fromkeys([*there.families, *wanted.families])),
        seeds=max(wanted.seeds, there.seeds),
        source=replace(wanted.source, fingerprint=there.source.fingerprint),
        threads=wanted.threads or there.threads,
    )


def _command(given: Mapping[str, Any]) -> str:
    """The command line that these arguments stand for."""
    words = ["sightline", "compare", *([str(given["corpus"])] if given["corpus"] is not None else [])]
    for name, parameter in inspect.signature(compare).parameters.items():
        if name != "corpus" and given[name] != parameter.default:
            words += [f"--{name.replace('_', '-')}", *([] if given[name] is True else [str(given[name])])]
    return shlex.join(words)


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


def _results(ground: Ground, wanted: Comparison, folder: Path) -> dict[str, Any]:
    """Every family and seed trained and measured, what is already there taken over; then joined to one record."""
    from .ground import described, objective_for, versions
    from .measure import FLOOR, Examination, joined
    from .plan import drafted

    lead = objective_for(wanted.families[0], ground.tokenizer, _usual(ground, wanted.families[0]))
    first = drafted(ground, lead, **_settings(wanted), seed=wanted.seed)
    examination = Examination.of(ground, first, folder, wanted.families, wanted.scoring)
    outcomes: dict[str, list[dict[str, Any]]] = {}
    for name in dict.fromkeys([*wanted.families, FLOOR]):
        for number in range(wanted.seeds if name != FLOOR else 1):  # counting has no chance in it
            place = folder / name / f"seed-{wanted.seed + number}"
            if not (place / "results.json").exists():
                recipe, model = _begun(ground, wanted, name, wanted.seed + number, place)
                _one(ground, recipe, model, examination, place)
            outcomes.setdefault(name, []).append(read_json(place / "results.json"))
    families, floors, comparisons = joined(outcomes, examination, wanted.seed, wanted.families, folder)
    return {
        "schema": SCHEMA,
        "corpus": _corpus(ground),
        "budget": _budget(wanted),
        "versions": versions(),
        "machine": described(ground.device, ground.threads),
        "command": "",
        "seed": wanted.seed,
        "size": wanted.size,
        "recipe": wanted.text(),
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


def _on_numbers(ground: Any, wanted: Comparison, folder: Path) -> dict[str, Any]:
    """As ``_results``, for a table of numbers."""
    from .numbers import results_on_numbers

    return {
        "schema": SCHEMA,
        "budget": _budget(wanted),
        "command": "",
        "seed": wanted.seed,
        "size": wanted.size,
        "recipe": wanted.text(),
        **results_on_numbers(wanted, folder, ground),
    }


def _settings(wanted: Comparison) -> dict[str, Any]:
    """What every run of the comparison is drafted with."""
    names = ("size", "budget", "context", "batch", "rate")
    return {name: getattr(wanted, name) for name in names}


def _begun(ground: Ground, wanted: Comparison, name: str, seed: int, place: Path) -> tuple[Recipe, Model]:
    """The recipe and the fresh model of one run; a folder that was begun keeps its number of steps."""
    from .cost import costed
    from .ground import held, objective_for
    from .plan import drafted
    from .start import fresh

    objective = objective_for(name, ground.tokenizer, _usual(ground, name))
    recipe = drafted(ground, objective, **_settings(wanted), seed=seed)
    there = held(place, recipe)
    recipe = replace(there, device=ground.device, threads=ground.threads) if there is not None else recipe
    model = fresh(ground, recipe, objective)
    if there is None:
        recipe = costed(ground, recipe, model)
        recipe.save(place / "recipe.toml")
    return recipe, model


def _usual(ground: Ground, family: str) -> dict[str, Any]:
    """Settings of a family that are not its defaults, because of what the corpus is."""
    from ..objectives import FAMILIES

    return dict(FAMILIES[family].on_pairs) if ground.corpus.kind == "pairs" else {}


def _one(ground: Ground, recipe: Recipe, model: Model, examination: Examination, place: Path) -> None:
    """Train and measure one run; its record is written last, so that a break before it costs only what is missing."""
    from .measure import record_of
    from .run import run

    title = f"{recipe.family} (seed {recipe.seed})"
    say(f"{title}: {recipe.settings.steps:,} steps" if getattr(model.stack, "repeats", True) else f"{title}: counting")
    trained = run(ground, recipe, model, place, title)
    record = record_of(ground, recipe, model, trained)
    record |= examination.sat_by(model, place)
    write_json(place / "results.json", record)


def _corpus(ground: Ground) -> dict[str, Any]:
    corpus = ground.corpus
    return {
        "name": corpus.name,
        "kind": corpus.kind,
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


def _budget(wanted: Comparison) -> dict[str, Any]:
    from ..training.budget import Budget

    budget = Budget.parse(wanted.budget)
    return {"text": budget.text, "kind": budget.kind, "amount": budget.amount}
