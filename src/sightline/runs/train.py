"""Train one family on one text, under one budget; stop it, give the command again, and it goes on."""

from __future__ import annotations

import contextlib
import copy
import inspect
import math
import shlex
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast

import tyro

from ..errors import SightlineError
from ..files import read_json, write_json
from ..progress import bar, say
from ..training.budget import Budget
from ..training.settings import Optimization, Schedule, Settings
from .named import filled, named
from .recipe import Recipe, Source, refuse_beside_recipe

if TYPE_CHECKING:
    from ..data import Packed
    from ..objectives import Objective
    from ..objectives.model import Model
    from ..training.loop import Trained
    from .ground import Ground

Compile = Literal["auto", "on", "off"]
DEV_ROWS = 32  # rows of dev that choose the best weights
TIMED = 10  # throw-away steps that turn seconds into steps
LEAST_STEPS = 200  # fewer are never worth timing for the sake of compiling
FLOOR_TOKENS = 4_000_000  # counted for the floor at most: some seconds and about a gigabyte
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
        for floor in self.record.get("floors", ()):
            values = [f"{one['value']:.3f} {one['column']}" for one in floor["scores"] if one["value"] is not None]
            if values:
                unit, kind = floor["scores"][0]["unit"], floor["scores"][0]["class"]
                lines.append(
                    f"floor: {floor['name']} of {floor['tokens']:,} tokens, {kind}: {', '.join(values)} {unit}"
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
    init: Literal["random", "counts"] = "random",
    setting: tuple[str, ...] = (),
    like: str = "",
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
        family: a family's name, such as causal, masked or two_way (all of them: sightline families).
        corpus: a file or folder of .txt .md .jsonl .parquet .arrow (also .gz .zst), - for standard input,
            python-docs, or the name of a Hugging Face data set.
        size: tiny, mini, small, base, large or 1b; with --from, of rows and updates alone.
        budget: what training may spend, as in 60s, 5m, 20Mtok, 500steps, 1e15flop.
        out: the run's folder; the same command given again continues there. Default: runs/FAMILY-SIZE-sSEED.
        seed: of weights, order and draws.
        start: a model or run folder whose weights and tokenizer the run begins with.
        init: first weights drawn at random, or counts: tables worked out from the pairs of ids that the family asks
            about in the text, which a short budget would spend itself on learning.
        setting: the family's own settings, as name=value.
        like: roberta, modernbert or electra: train as that was trained, in stack, settings and rates; what you give
            yourself stands. Their rates are for batches of thousands of rows.
        context: tokens of a row; 0: the size's own.
        batch: rows of one update; 0: the size's own.
        accumulation: micro-batches that an update is cut into; the loss stays the same.
        rate: factor on the learning rates; 0: the swept one.
        optimization: settings of the optimizer.
        schedule: course of the learning rate.
        validations: how often dev is measured.
        compile: run through torch.compile; auto measures whether it pays.
        tokenizer: bpe, bpe:4096, byte, char, wordpiece, word, word+phrases, or a path to a tokenizer.json.
        field: the field of a record that holds the text.
        label: the field of a record that holds a label.
        documents: what a document of a .txt file is.
        strict: stop at the first bad row.
        device: auto, cpu, cuda, ...
        threads: of the CPU; 0: as many as there are cores.
        dtype: auto takes bfloat16 where it is measurably faster.
        recipe: rerun a saved recipe; the corpus may be named beside it, if it lies elsewhere now.
        print_recipe: print the recipe and stop.
        json: also write the record to this file.
    """
    from .ground import claimed, forbid_numbers, held, laid, objective_for

    given = {name: value for name, value in locals().items() if name in inspect.signature(train).parameters}
    if recipe is not None:
        wanted = _from_recipe(recipe, given)
    else:
        if family is None or corpus is None:
            raise SightlineError("train needs a family and a corpus", "For example: sightline train causal python-docs")
        wanted = planned(
            family, Source(corpus, field, label, documents, strict, tokenizer), size=size, budget=budget, seed=seed,
            context=context, batch=batch, accumulation=accumulation, rate=rate, optimization=optimization,
            schedule=schedule, validations=validations, fields=parsed(family, setting), start=start, init=init,
            like=like,
        )  # fmt: skip
    forbid_numbers((wanted.family,))
    begun = _begun(wanted)
    if begun is not None and not context and recipe is None:
        wanted = replace(wanted, context=min(wanted.context, begun.context))
    folder = Path(out) if out else Path("runs") / f"{wanted.family}-{wanted.size}-s{wanted.seed}"
    with contextlib.ExitStack() as stack:
        if print_recipe:  # what is laid out for it goes away again
            place = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        else:
            place = stack.enter_context(claimed(folder))
        there = held(folder, wanted)
        if there is not None:
            _refuse_unlike(folder, there, dtype, compile)
            wanted = replace(there, source=replace(wanted.source, fingerprint=there.source.fingerprint))
        decided = there is not None or recipe is not None  # steps, type and compilation
        kind = wanted.settings.dtype if decided and dtype == "auto" else dtype
        own = begun.tokenizer if begun is not None else None
        ground = laid(wanted.source, place, wanted.seed, device, threads or wanted.threads, kind, own)
        wanted = bound(ground, wanted)
        finished, path = folder / "results.json", folder / "model"
        if there is not None and not print_recipe and finished.exists() and _whole(path):
            say(f"{folder} is finished: nothing is left to train")
            record = read_json(finished)
        else:
            objective = objective_for(wanted.family, ground.tokenizer, wanted.fields)
            if begun is not None:
                objective = replace(objective, vocabulary=begun.objective.vocabulary)  # padded as its tables are
            model = fresh(ground, wanted, objective, begun)
            if not decided:
                wanted = costed(ground, wanted, model, compile)
            if print_recipe:
                print(wanted.text(), end="")
                return None
            wanted.save(folder / "recipe.toml")
            trained = run(ground, wanted, model, folder)
            record = _record(ground, wanted, model, trained, folder)
        if json is not None:
            write_json(Path(json), record)
    verb = "fill" if record["writes_from"] == "both" else "generate"
    verb = verb if record.get("writes", True) else "embed"
    return TrainResult(folder, path, record, f"sightline {verb} {shlex.quote(str(path))}")


def _from_recipe(path: Path, given: Mapping[str, Any]) -> Recipe:
    """The recipe of a file; besides it only the text's place and the machine may be given."""
    from ..objectives import FAMILIES
    from ..stacks import sizes

    wanted = Recipe.load(path)
    beside = ("corpus", "out", "device", "threads", "print_recipe", "json")
    same = given["family"] == wanted.family
    refuse_beside_recipe(train, given, ("family", *beside) if same else beside)
    if wanted.family not in FAMILIES:
        raise SightlineError(f"{path}: there is no family {wanted.family!r}", f"Choose from {', '.join(FAMILIES)}")
    Budget.parse(wanted.budget)
    sizes.size(wanted.size)
    if given["corpus"] is not None:
        wanted = replace(wanted, source=replace(wanted.source, corpus=given["corpus"]))
    return wanted


def _whole(path: Path) -> bool:
    """Whether a model of ours lies there."""
    from .. import hub

    return hub.ours(path)


def _begun(wanted: Recipe) -> Model | None:
    """The model that a run continues, with its own tokenizer unless the source names a file."""
    from .. import hub
    from ..data import Tokenizer
    from ..objectives import FAMILIES
    from ..objectives.model import Model as Whole

    if not wanted.start:
        return None
    named = Path(wanted.source.tokenizer).exists()
    model = hub.load(hub.located(wanted.start), tokenizer=Tokenizer.load(wanted.source.tokenizer) if named else None)
    here, there = FAMILIES[wanted.family].stack, model.objective.stack
    if here != there or here not in ("transformer", "pair", "two"):
        raise SightlineError(
            f"{wanted.family} cannot go on from the {model.objective.family} model in {wanted.start}",
            "A stack that fits itself begins anew, and one stack is not two: continue a transformer with a family of "
            "transformers, a pair with a family of pairs, an encoder and decoder with one of both",
        )
    classes = {model.objective.score_class, FAMILIES[wanted.family].score_class}
    if len(classes) > 1 and "discriminative" in classes:
        raise SightlineError(
            f"{wanted.family} cannot go on from the {model.objective.family} model in {wanted.start}",
            "One judges tokens and the other predicts them: begin anew, or continue with the same family",
        )
    if wanted.context > model.context and getattr(model.stack.shape, "positions", "") == "learned":
        raise SightlineError(
            f"{wanted.start} has {model.context} positions, fewer than rows of {wanted.context} tokens",
            f"Use --context {model.context}",
        )
    objective = FAMILIES[wanted.family](model.objective.vocabulary, **wanted.fields)
    Whole(objective, model.stack, model.head, model.tokenizer)  # refuses a stack that lacks what the family needs
    return model


def _refuse_unlike(folder: Path, there: Recipe, dtype: str, compile: Compile) -> None:
    """What a run decided by measuring stands; who asks for something else asks for another run."""
    settings = there.settings
    for name, asked, fits in (
        ("dtype", dtype, dtype in ("auto", settings.dtype)),
        ("compile", compile, compile == "auto" or settings.compiled == (compile == "on")),
    ):
        if not fits:
            raise SightlineError(
                f"{folder} holds another run: it differs in {name} ({asked!r} now)",
                "Choose another --out, or leave the option away",
            )


def parsed(family: str, words: Sequence[str]) -> dict[str, Any]:
    """A family's settings from ``name=value`` words, each read as the type of its default."""
    from ..objectives import FAMILIES
    from ..objectives.setting import settings

    kind = FAMILIES.get(family)
    if kind is None:
        raise SightlineError(f"there is no family {family!r}", f"Choose from {', '.join(FAMILIES)}")
    return settings(kind, words)


def planned(
    family: str,
    source: Source,
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
    init: Literal["random", "counts"] = "random",
    like: str = "",
) -> Recipe:
    """A recipe with every default filled in but what is found on the machine: ``bound`` and ``costed`` fill it in."""
    from ..stacks import sizes

    chosen = sizes.size(size)
    Budget.parse(budget)
    for name, value in (("context", context), ("batch", batch), ("rate", rate)):
        if value < 0 or not math.isfinite(value):
            raise SightlineError(f"a {name} of {value} means nothing", "Use 0 for the default, or more")
    if validations < 1:
        raise SightlineError(f"{validations} validations cannot choose the best weights", "Use 1 or more")
    length = context or chosen.context
    if start and init == "counts":
        raise SightlineError(
            "a run begins with the weights of another model or from counts", "Leave --from or --init away"
        )
    model = named(like, family)
    optimization = filled(optimization or Optimization(), model.optimization)
    return Recipe(
        family=family,
        source=source,
        size=size,
        context=length,
        budget=budget,
        seed=seed,
        device="",
        threads=0,
        settings=Settings(
            steps=1,
            batch=batch or max(1, chosen.batch // length),
            accumulation=accumulation,
            seed=seed,
            validations=validations,
            optimization=_rated(optimization, family, size, rate, init),
            schedule=filled(schedule or Schedule(), model.schedule),
        ),
        fields=model.fields | (fields or {}),
        start=str(start) if start else "",
        init=init,
        make=model.make,
    )


def bound(ground: Ground, recipe: Recipe) -> Recipe:
    """The recipe on its ground: text, device, threads, type."""
    recipe = replace(recipe, source=ground.source, device=ground.device, threads=ground.threads)
    return recipe.with_settings(dtype=ground.dtype)


def drafted(ground: Ground, objective: Objective, **settings: Any) -> Recipe:
    """``planned`` and ``bound``: a recipe that lacks no more than its steps."""
    return bound(ground, planned(objective.family, ground.source, **settings))


def _rated(given: Optimization, family: str, size: str, rate: float, init: str) -> Optimization:
    """The learning rates times the swept factor, or the one given; a rate that was named alone stands as it is."""
    from ..stacks.counted import TABLE_RATE
    from .rates import rate_factor

    usual = Optimization()
    factors = dict.fromkeys(("matrix_rate", "table_rate", "rate"), rate or rate_factor(family, size))
    if init == "counts":
        factors["table_rate"] *= TABLE_RATE
    named = {name: getattr(given, name) for name in factors}
    return replace(
        given,
        **{
            name: value * factors[name] if rate or value == getattr(usual, name) else value
            for name, value in named.items()
        },
    )


def fresh(ground: Ground, recipe: Recipe, objective: Objective, begun: Model | None = None) -> Model:
    """The model that the run begins with, on its device: new weights, or those of the model that it goes on from."""
    from ..objectives.model import Model as Whole
    from ..objectives.model import built
    from ..stacks import makes, sizes
    from ..stacks.counted import begin_from
    from ..stacks.head import Head
    from ..stacks.transformer import Transformer
    from .counted import pairs

    if begun is not None:
        return Whole(objective, begun.stack, begun.head, ground.tokenizer, begun.generator).to(recipe.device)
    shape = sizes.shape(recipe.size, ground.tokenizer.padded, recipe.context)
    model = built(objective, shape, ground.tokenizer, recipe.seed, makes.make(recipe.make))
    if recipe.init == "counts":
        if objective.stack != "transformer" or not objective.writes:
            raise SightlineError(f"{recipe.family} cannot begin from counts of pairs", "Leave --init away")
        counted = pairs(objective, ground.packed(ground.train, recipe.context), recipe.seed)
        begin_from(counted, cast(Transformer, model.stack), cast(Head, model.head), recipe.seed)
    return model.to(recipe.device)


def costed(ground: Ground, recipe: Recipe, model: Model, compile: Compile = "auto") -> Recipe:
    """The recipe with the number of steps that its budget buys, and the decision whether to compile."""
    fits_itself = hasattr(model.stack, "fit")
    if fits_itself and not model.stack.repeats:
        return recipe
    budget = Budget.parse(recipe.budget)
    packed = ground.packed(ground.train, recipe.context)
    tokens, flops = per_step(ground, recipe, model, packed)
    if fits_itself:
        quick = seconds_of_fitting(ground, recipe, model) if budget.kind == "seconds" else None
        return recipe.with_settings(steps=budget.steps(tokens, flops, quick), compiled=False)
    compiled = compile == "on"
    steps = None if budget.kind == "seconds" else budget.steps(tokens, flops, None)
    seconds: float | None = None
    if steps is None or (compile == "auto" and steps >= LEAST_STEPS):
        seconds = seconds_per_step(ground, recipe, model, packed, compiled=compiled)
    if compile == "auto" and seconds is not None:
        expected = budget.amount if steps is None else steps * seconds
        if expected > COMPILE_PAYS or recipe.device.startswith("cuda"):
            quick = seconds_per_step(ground, recipe, model, packed, compiled=True)
            compiled = quick < 0.97 * seconds
            say(f"torch.compile: {quick:.3f} s a step against {seconds:.3f}; {'used' if compiled else 'not used'}")
            seconds = min(quick, seconds)
    return recipe.with_settings(steps=steps or budget.steps(tokens, flops, seconds), compiled=compiled)


def per_step(ground: Ground, recipe: Recipe, model: Model, packed: Packed) -> tuple[float, float]:
    """Corpus tokens read and floating-point operations of one update, from the views of the first."""
    from ..data import Draws

    rows = ground.rows_of(packed, recipe.settings.batch, recipe.seed)(0)
    views = model.objective.ask(rows, Draws(recipe.seed).of(rows), 0.0)
    return float(rows.tokens.size), 3.0 * sum(model.flops(view) for view in views)


def seconds_per_step(ground: Ground, recipe: Recipe, model: Model, packed: Packed, compiled: bool) -> float:
    """The time of a step, from a few throw-away ones on a copy of the model.

    The lower quartile, since other work on the machine only ever adds to a step, in bursts.
    """
    from ..training.loop import timed_steps

    twin = copy.deepcopy(model)
    rows_of = ground.rows_of(packed, recipe.settings.batch, recipe.seed)
    settings = replace(recipe.settings, steps=TIMED + 2, compiled=compiled)
    return sorted(timed_steps(twin, rows_of, settings, TIMED))[TIMED // 4]


def run(ground: Ground, recipe: Recipe, model: Model, folder: Path, title: str = "") -> Trained:
    """Train to the end of the budget and write ``folder/model``; goes on from a checkpoint if there is one."""
    from .. import hub
    from ..training.loop import train as loop
    from ..training.machine import peak

    again = f"give the same command again (it goes on in {folder})"
    if hasattr(model.stack, "fit"):
        trained = _fitted(ground, recipe, model, folder, title or recipe.family, again)
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
            bytes_per_token=ground.bytes_per_token if model.objective.columns else 0.0,
            validate=validation(ground, recipe),
            sample=_sample(ground) if model.objective.writes else None,
            names=ground.names,
            title=title or recipe.family,
            again=again,
        )
    model.eval()
    hub.save(model, folder / "model", recipe=_tables(recipe), data_fingerprint=ground.source.fingerprint)
    return trained


def _tables(recipe: Recipe) -> dict[str, Any]:
    import tomllib

    return tomllib.loads(recipe.text())


def seconds_of_fitting(ground: Ground, recipe: Recipe, model: Model) -> float:
    """The time in which a stack that fits itself reads the tokens of a step."""
    from ..training.fitting import seconds_of

    return seconds_of(model, ground.train.tokens, recipe.settings.batch * recipe.context, recipe.threads)


def _fitted(ground: Ground, recipe: Recipe, model: Model, folder: Path, title: str, again: str) -> Trained:
    """A stack that fits itself: over the text again and again, or once over as much of it as the budget buys."""
    from ..training.fitting import fit

    if not model.stack.repeats:
        return _counted(ground, recipe, model, ground.train.token_count)
    packed = ground.packed(ground.train, recipe.context)
    tokens, flops = per_step(ground, recipe, model, packed)
    return fit(
        model, ground.train.tokens, ground.train.offsets, recipe.settings, folder, tokens_per_step=int(tokens),
        flops_per_step=flops, workers=recipe.threads, validate=validation(ground, recipe), title=title, again=again,
    )  # fmt: skip


def _counted(ground: Ground, recipe: Recipe, model: Model, most: int) -> Trained:
    """Counts: one pass over as much of the text as the budget buys, at most so many tokens."""
    from ..training.loop import Trained

    budget = Budget.parse(recipe.budget)
    most = min(most, ground.train.token_count)  # counting is so quick that seconds and operations buy it whole
    if budget.kind == "tokens":
        most = min(most, int(budget.amount))
    if budget.kind == "steps":
        most = min(most, int(budget.amount) * recipe.settings.batch * recipe.context)
    most = max(most, 2)
    begun = time.perf_counter()
    with bar(f"{model.objective.family}: counting", getattr(model.stack, "n", 1)) as shown:
        model.stack.fit(ground.train.tokens[:most], ground.train.offsets, shown)  # type: ignore[operator]
    return Trained((), 1, None, 1, time.perf_counter() - begun, most, most, float(most), 0)


def validation(ground: Ground, recipe: Recipe) -> Any:
    """Dev loss as it is trained on, in nats per answer, on the same rows and draws every time."""
    import numpy as np
    import torch

    from ..data import Draws

    packed = ground.packed(ground.dev, min(recipe.context, ground.dev.token_count))  # dev may be less than one row
    count = min(packed.count, max(DEV_ROWS, recipe.settings.batch))
    rows = packed.rows(np.arange(count), np.zeros(count, dtype=np.int64))
    size = recipe.settings.batch // recipe.settings.accumulation

    @torch.no_grad()
    def measured(model: Model) -> float:
        objective = model.objective
        totals: dict[str, float] = {}
        answers: dict[str, float] = {}
        for start in range(0, count, size):
            part = rows.take(slice(start, start + size))
            views = objective.ask(part, Draws(0).of(part), 1.0)
            for name, asked in objective.counts(views).items():
                answers[name] = answers.get(name, 0.0) + asked
            for term in objective.learn(model, part, views, Draws(0).of(part, stream=1)):
                totals[term.name] = totals.get(term.name, 0.0) + term.weight * float(term.total)
        return sum(total / max(1.0, answers[name]) for name, total in totals.items())

    return measured


def _sample(ground: Ground) -> Any:
    """A short text written by the model as it stands, from the beginning (or end) of a dev document."""

    def written(model: Model) -> str:
        from ..decoders.sampling import Sampling
        from ..objectives.writing import generate

        words = ground.corpus.dev[0].text.split()
        prompt = " ".join(words[:6] if model.objective.writes_from != "right" else words[-6:])
        length = min(24, model.context // 2)
        if len(model.tokenizer.encode(prompt)) > model.context - length - 2:  # two marks
            prompt = ""
        return generate(model, [prompt], length=length, sampling=Sampling(temperature=0.8, top_p=0.95), seed=0)[0].text

    return written


def _record(ground: Ground, recipe: Recipe, model: Model, trained: Trained, folder: Path) -> dict[str, Any]:
    """The run's record with its score on test and, beside it, the floor's; kept beside the model."""
    from .measure import COUNTS, FLOOR, evaluated, record_of

    path = folder / "results.json"
    if path.exists():
        held: dict[str, Any] = read_json(path)
        return held
    budgeted = trained.seconds if math.isfinite(trained.seconds) else 60.0
    record = record_of(ground, recipe, model, trained)
    floors = [] if recipe.family == FLOOR or model.objective.reads == "numbers" else [_floor(ground, recipe)]
    models = [model, *(counts for counts, _ in floors)]
    record["scores"], *others = evaluated(ground, models, seconds=max(10.0, budgeted / 4), seed=recipe.seed)
    record["floors"] = [
        {"name": COUNTS, "tokens": tokens, "scores": scores} for (_, tokens), scores in zip(floors, others, strict=True)
    ]
    write_json(path, record)
    return record


def _floor(ground: Ground, recipe: Recipe) -> tuple[Model, int]:
    """n-gram counts of the run's own training text, and of how many tokens: what its training has to beat."""
    from .ground import objective_for
    from .measure import FLOOR

    counts = fresh(ground, replace(recipe, init="random"), objective_for(FLOOR, ground.tokenizer, {}))
    return counts, _counted(ground, recipe, counts, FLOOR_TOKENS).tokens
