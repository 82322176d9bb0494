"""Train one family on one text, under one budget; stop it, give the command again, and it goes on."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from ..errors import SightlineError
from ..files import locked, read_json, write_json
from ..progress import bar, say
from ..training.settings import Optimization, Schedule, Settings
from .recipe import Recipe, Source

if TYPE_CHECKING:
    from ..data import Packed
    from ..objectives.model import Model
    from ..training.loop import Trained
    from .ground import Ground

Compile = Literal["auto", "on", "off"]
DEV_ROWS = 32  # rows of dev that choose the best weights
TIMED = 6  # throw-away steps that turn seconds into steps
COMPILE_PAYS = 600.0  # seconds of CPU training below which compiling costs more than it brings


@dataclass(frozen=True)
class TrainResult:
    """What ``train`` came to.

    Parameters
    ----------
    folder : of the run. model : the folder that Sightline (and, where it can, Hugging Face) loads.
    record : the family's record, as in ``results.json``. next : a command to go on with.
    """

    folder: Path
    model: Path
    record: dict[str, Any]
    next: str

    def __str__(self) -> str:
        lines = [
            f"{self.record['family']}: {self.record['parameters']:,} parameters, "
            f"{self.record['tokens_seen']:,} tokens in {self.record['seconds']:.0f} s"
        ]
        for score in self.record["scores"]:
            if score["value"] is None:
                continue
            spread = f" ({score['low']:.3f} to {score['high']:.3f})" if score["low"] is not None else ""
            lines.append(
                f"{score['name']} {score['value']:.3f}{spread} {score['unit']}, {score['class']}, {score['column']}"
            )
        return "\n".join([*lines, str(self.model)])


def train(
    family: Annotated[str | None, tyro.conf.Positional] = None,
    corpus: Annotated[str | None, tyro.conf.Positional] = None,
    *,
    size: str = "tiny",
    budget: str = "5m",
    out: Path | None = None,
    seed: int = 0,
    start: Annotated[Path | None, tyro.conf.arg(name="from")] = None,
    setting: tuple[str, ...] = (),
    context: int = 0,
    batch: int = 0,
    accumulation: int = 1,
    rate: float = 0.0,
    optimization: Optimization = Optimization(),  # noqa: B008 - frozen
    schedule: Schedule = Schedule(),  # noqa: B008 - frozen
    validations: int = 10,
    compile: Compile = "auto",
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
) -> TrainResult | None:
    """Train a family on your text.

    Examples:
        sightline train causal corpus/ --size mini --budget 2h --out runs/mine
        sightline train masked python-docs --setting rate=0.15 hide=word
        sightline train --recipe runs/mine/recipe.toml --out runs/again

    Args:
        family: causal, backward, masked, prefix or ngram (see: sightline families).
        corpus: a file or folder of .txt .md .jsonl .parquet .arrow (also .gz .zst), - for standard input,
            python-docs, or the name of a Hugging Face data set.
        size: tiny, mini, small, base, large or 1b.
        budget: what training may spend, as in 60s, 5m, 20Mtok, 500steps, 1e15flop.
        out: the run's folder; the same command given again continues there. Default: runs/FAMILY-SIZE-sSEED.
        seed: of weights, order and draws.
        start: a model folder whose weights the run begins with.
        setting: the family's own settings, as name=value.
        context: tokens of a row; 0: the size's own.
        batch: rows of one update; 0: the size's own.
        accumulation: micro-batches that an update is cut into; the loss stays the same.
        rate: factor on the learning rates; 0: the swept one.
        optimization: settings of the optimizer.
        schedule: course of the learning rate.
        validations: how often dev is measured.
        compile: run through torch.compile; auto measures whether it pays.
        tokenizer: bpe, bpe:4096, byte, char, wordpiece, or a path to a tokenizer.json.
        field: the field of a record that holds the text.
        label: the field of a record that holds a label.
        documents: what a document of a .txt file is.
        strict: stop at the first bad row.
        device: auto, cpu, cuda, ...
        threads: of the CPU; 0: as many as there are cores.
        dtype: auto takes bfloat16 where it is measurably faster.
        recipe: rerun a saved recipe.
        print_recipe: print the recipe and stop.
        json: also write the record to this file.
    """
    from ..files import fingerprint
    from ..stacks import sizes
    from ..training.budget import Budget
    from .ground import held_folder, laid, objective_for

    wanted: Recipe | None = None
    if recipe is not None:
        wanted = Recipe.load(recipe)
        family, source, size, seed, budget = wanted.family, wanted.source, wanted.size, wanted.seed, wanted.budget
        fields, context, start = wanted.fields, wanted.context, Path(wanted.start) if wanted.start else None
        threads = threads or wanted.threads
    else:
        if family is None or corpus is None:
            raise SightlineError("train needs a family and a corpus", "For example: sightline train causal python-docs")
        source = Source(corpus, field, label, documents, strict, tokenizer)
        fields = parsed(family, setting)
    Budget.parse(budget)
    sizes.size(size)
    folder = Path(out) if out else Path("runs") / f"{family}-{size}-s{seed}"
    with locked(folder):
        ground = laid(
            replace(source, tokenizer=_tokenizer_of(start) or source.tokenizer), folder, seed, device, threads, dtype
        )
        objective = objective_for(family, ground.tokenizer, fields)
        if wanted is None:
            wanted = drafted(
                ground, objective, size=size, budget=budget, seed=seed, context=context, batch=batch,
                accumulation=accumulation, rate=rate, optimization=optimization, schedule=schedule,
                validations=validations, fields=fields, start=start,
            )  # fmt: skip
        wanted = replace(wanted, source=ground.source, device=ground.device, threads=ground.threads)
        wanted = held_folder(folder, wanted)
        model = fresh(ground, wanted, objective)
        wanted = costed(ground, wanted, model, compile)
        if print_recipe:
            print(wanted.text(), end="")
            return None
        wanted.save(folder / "recipe.toml")
        trained = run(ground, wanted, model, folder)
        record = _record(ground, wanted, model, trained, folder)
        if json is not None:
            write_json(Path(json), record)
    path = folder / "model"
    say(f"data {fingerprint(ground.source.fingerprint)}")
    return TrainResult(
        folder, path, record, f"sightline {'fill' if objective.writes_from == 'both' else 'generate'} {path}"
    )


def parsed(family: str, words: Sequence[str]) -> dict[str, Any]:
    """A family's settings from ``name=value`` words, each read as the type of its default."""
    from dataclasses import fields as fields_of

    from ..objectives import FAMILIES

    kind = FAMILIES.get(family)
    if kind is None:
        raise SightlineError(f"there is no family {family!r}", f"Choose from {', '.join(FAMILIES)}")
    known = {item.name: item.default for item in fields_of(kind) if item.name != "vocabulary"}
    values: dict[str, Any] = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not equals or name not in known:
            raise SightlineError(
                f"{word!r} is not a setting of {family}", f"Write name=value; known: {', '.join(known) or 'none'}"
            )
        default = known[name]
        if isinstance(default, str):
            values[name] = value
            continue
        try:
            values[name] = int(value) if isinstance(default, int) else float(value)
        except ValueError as error:
            raise SightlineError(f"{name} must be a number, not {value!r}", "Correct the value") from error
    return values


def _tokenizer_of(start: Path | None) -> str:
    return str(start) if start is not None else ""


def drafted(
    ground: Ground,
    objective: Any,
    *,
    size: str,
    budget: str,
    seed: int,
    context: int = 0,
    batch: int = 0,
    accumulation: int = 1,
    rate: float = 0.0,
    optimization: Optimization | None = None,
    schedule: Schedule | None = None,
    validations: int = 10,
    fields: dict[str, Any] | None = None,
    start: Path | None = None,
) -> Recipe:
    """A recipe with every default filled in but the number of steps, which ``costed`` finds."""
    from ..stacks import sizes
    from .rates import rate_factor

    chosen = sizes.size(size)
    length = context or chosen.context
    factor = rate or rate_factor(objective.family, size)
    base = optimization or Optimization()
    return Recipe(
        family=objective.family,
        source=ground.source,
        size=size,
        context=length,
        budget=budget,
        seed=seed,
        device=ground.device,
        threads=ground.threads,
        settings=Settings(
            steps=1,
            batch=batch or max(1, chosen.batch // length),
            accumulation=accumulation,
            seed=seed,
            dtype=ground.dtype,  # type: ignore[arg-type]
            validations=validations,
            optimization=replace(
                base,
                matrix_rate=base.matrix_rate * factor,
                table_rate=base.table_rate * factor,
                rate=base.rate * factor,
            ),
            schedule=schedule or Schedule(),
        ),
        fields=fields or {},
        start=str(start) if start else "",
    )


def fresh(ground: Ground, recipe: Recipe, objective: Any) -> Model:
    """The model that the run begins with, on its device."""
    from ..objectives.model import built
    from ..stacks import sizes

    shape = sizes.shape(recipe.size, ground.tokenizer.padded, recipe.context)
    model = built(objective, shape, ground.tokenizer, recipe.seed)
    if recipe.start:
        from .. import hub

        begun = hub.load(Path(recipe.start))
        model = type(model)(objective, begun.stack, begun.head, ground.tokenizer)
    return model.to(recipe.device)


def costed(ground: Ground, recipe: Recipe, model: Model, compile: Compile = "auto") -> Recipe:
    """The recipe with its steps and its decision about compiling; unchanged where the folder's recipe has them."""
    from ..training.budget import Budget

    if recipe.settings.steps > 1 or model.objective.stack == "table":
        return recipe
    budget = Budget.parse(recipe.budget)
    packed = ground.packed(ground.train, recipe.context)
    tokens, flops = per_step(ground, recipe, model, packed)
    seconds = None
    compiled = compile == "on"
    if budget.kind == "seconds" or compile == "auto":
        seconds = seconds_per_step(ground, recipe, model, packed, compiled=False)
    if compile == "auto":
        expected = (
            budget.amount if budget.kind == "seconds" else budget.steps(tokens, flops, seconds) * (seconds or 0.0)
        )
        if expected > COMPILE_PAYS or recipe.device.startswith("cuda"):
            quick = seconds_per_step(ground, recipe, model, packed, compiled=True)
            compiled = seconds is not None and quick < 0.97 * seconds
            say(f"torch.compile: {quick:.3f} s a step against {seconds:.3f}; {'used' if compiled else 'not used'}")
            seconds = quick if compiled else seconds
    return recipe.with_settings(steps=budget.steps(tokens, flops, seconds), compiled=compiled)


def per_step(ground: Ground, recipe: Recipe, model: Model, packed: Packed) -> tuple[float, float]:
    """Corpus tokens read and floating-point operations of one update, from the views of the first."""
    from ..data import Draws

    rows = ground.rows_of(packed, recipe.settings.batch, recipe.seed)(0)
    views = model.objective.ask(rows, Draws(recipe.seed).of(rows), 0.0)
    return float(rows.tokens.size), 3.0 * sum(model.flops(view) for view in views)


def seconds_per_step(ground: Ground, recipe: Recipe, model: Model, packed: Packed, compiled: bool) -> float:
    """The median time of a few throw-away steps on a copy of the model."""
    import statistics

    from ..training.loop import timed_steps

    twin = copy.deepcopy(model)
    rows_of = ground.rows_of(packed, recipe.settings.batch, recipe.seed)
    settings = replace(recipe.settings, steps=max(2, TIMED), compiled=compiled)
    return statistics.median(timed_steps(twin, rows_of, settings, TIMED))


def run(ground: Ground, recipe: Recipe, model: Model, folder: Path, title: str = "") -> Trained:
    """Train to the end of the budget and write ``folder/model``; goes on from a checkpoint if there is one."""
    from .. import hub
    from ..training.loop import train as loop
    from ..training.machine import peak

    if model.objective.stack == "table":
        trained = _fitted(ground, recipe, model)
    else:
        packed = ground.packed(ground.train, recipe.context)
        _, flops = per_step(ground, recipe, model, packed)
        trained = loop(
            model,
            ground.rows_of(packed, recipe.settings.batch, recipe.seed),
            recipe.settings,
            folder,
            flops_per_step=flops,
            peak=peak(recipe.device, recipe.threads).of(recipe.settings.dtype),
            bytes_per_token=ground.bytes_per_token,
            validate=_validation(ground, recipe),
            sample=_sample(ground),
            names=ground.names,
            title=title or recipe.family,
            again=f"give the same command again (it goes on in {folder})",
        )
    model.eval()
    hub.save(model, folder / "model", recipe=_tables(recipe), data_fingerprint=ground.source.fingerprint)
    return trained


def _tables(recipe: Recipe) -> dict[str, Any]:
    import tomllib

    return tomllib.loads(recipe.text())


def _fitted(ground: Ground, recipe: Recipe, model: Model) -> Trained:
    """A stack that fits itself: one pass over as much of the text as the budget buys."""
    from ..training.budget import Budget
    from ..training.loop import Trained

    budget = Budget.parse(recipe.budget)
    most = int(budget.amount) if budget.kind == "tokens" else ground.train.token_count
    end = int(ground.train.offsets.searchsorted(min(most, ground.train.token_count), side="right")) - 1
    stop = int(ground.train.offsets[max(1, end)])
    start = time.perf_counter()
    with bar(f"{recipe.family}: counting", 1, ""):
        model.stack.fit(ground.train.tokens[:stop], ground.train.offsets[: max(1, end) + 1])  # type: ignore[operator]
    return Trained((), 1, None, 1, time.perf_counter() - start, stop, stop, float(stop), 0)


def _validation(ground: Ground, recipe: Recipe) -> Any:
    """Dev loss in nats per answer, on the same rows and draws every time."""
    import numpy as np
    import torch

    from ..data import Draws

    packed = ground.packed(ground.dev, recipe.context)
    count = min(packed.count, max(DEV_ROWS, recipe.settings.batch))
    rows = packed.rows(np.arange(count), np.zeros(count, dtype=np.int64))
    size = recipe.settings.batch // recipe.settings.accumulation

    @torch.no_grad()
    def measured(model: Model) -> float:
        total = answers = 0.0
        for start in range(0, count, size):
            part = rows.take(slice(start, start + size))
            for view in model.objective.ask(part, Draws(0).of(part), 1.0):
                total += float(model.grade(view, part.tokens).total)
                answers += float(view.weights.sum())
        return total / max(1.0, answers)

    return measured


def _sample(ground: Ground) -> Any:
    """A short text written by the model as it stands, from the beginning (or end) of a dev document."""

    def written(model: Model) -> str:
        from ..decoders.sampling import Sampling
        from ..objectives.writing import generate

        words = ground.corpus.dev[0].text.split()
        prompt = " ".join(words[:6] if model.objective.writes_from != "right" else words[-6:])
        return generate(model, [prompt], length=24, sampling=Sampling(temperature=0.8, top_p=0.95), seed=0)[0].text

    return written


def _record(ground: Ground, recipe: Recipe, model: Model, trained: Trained, folder: Path) -> dict[str, Any]:
    """The run's record with its score on test, kept beside the model."""
    from .measure import evaluated, record_of

    path = folder / "results.json"
    if path.exists():
        held: dict[str, Any] = read_json(path)
        return held
    budgeted = trained.seconds if math.isfinite(trained.seconds) else 60.0
    record = record_of(ground, recipe, model, trained)
    record["scores"] = evaluated(ground, model, seconds=max(10.0, budgeted / 4), seed=recipe.seed)
    write_json(path, record)
    return record
