"""Train one family on one text, or table of numbers, under one budget; given again, the command goes on."""

from __future__ import annotations

import contextlib
import inspect
import shlex
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from ..errors import SightlineError
from ..files import read_json, write_json
from ..progress import say
from ..training.budget import Budget
from ..training.settings import Optimization, Schedule
from .cost import Compile, costed
from .plan import bound, parsed, planned
from .recipe import Recipe, Source, refuse_beside_recipe
from .run import recorded, run
from .start import begun_with, fresh


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
        record, unit = self.record, "numbers" if "horizon" in self.record else "tokens"
        holds = record.get("holds", f"{record['parameters']:,} parameters")  # which older records lack
        lines = [f"{record['family']}: {holds}; {record['tokens_seen']:,} {unit} in {record['seconds']:.0f} s"]
        for score in record["scores"]:
            if score["value"] is None:
                continue
            spread = f" ({score['low']:.3f} to {score['high']:.3f})" if score["low"] is not None else ""
            lines.append(
                f"{score['name']} {score['value']:.3f}{spread} {score['unit']}, {score['class']}, {score['column']}"
            )
        lines += [line for floor in record.get("floors", ()) if (line := _floor_line(floor))]
        return "\n".join([*lines, str(self.model)])


def _floor_line(floor: Mapping[str, Any]) -> str:
    """What a floor reached; nothing where nothing was measured."""
    scores = [one for one in floor["scores"] if one["value"] is not None]
    if not scores:
        return ""
    if "tokens" not in floor:  # of numbers: each score has a unit of its own
        return f"floor: {floor['name']}: " + ", ".join(f"{one['value']:.3f} {one['unit']}" for one in scores)
    values = ", ".join(f"{one['value']:.3f} {one['column']}" for one in scores)
    return f"floor: {floor['name']} of {floor['tokens']:,} tokens, {scores[0]['class']}: {values} {scores[0]['unit']}"


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
    averaged: int = 1,
    dropout: float = 0.0,
    horizon: int = 0,
    compile: Compile = "auto",
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
) -> TrainResult | None:
    """Train a family on your text, or linear and causal on your table of numbers.

    Examples:
        sightline train causal corpus/ --size mini --budget 2h --out runs/mine
        sightline train linear sales.csv --horizon 12 --setting p=4
        sightline train masked python-docs --setting rate=0.15 hide=word
        sightline train --recipe runs/mine/recipe.toml --out runs/again

    Args:
        family: a family's name, such as causal, masked or two_way (all of them: sightline families).
        corpus: a file or folder of .txt .md .jsonl .parquet .arrow (also .gz .zst), - for standard input,
            python-docs, or the name of a Hugging Face data set; for seq2seq and its like pairs (.tsv, records, or
            files side by side with --sides); for linear and causal also a table of numbers
            (.csv, .parquet: columns unique_id, ds, y, or one column).
        size: tiny, mini, small, base, large or 1b; with --from, of rows and updates alone.
        budget: what training may spend, as in 60s, 5m, 20Mtok, 500steps, 1e15flop.
        out: the run's folder; the same command given again continues there. Default: runs/FAMILY-SIZE-sSEED.
        seed: of weights, order and draws.
        start: a model or run folder whose weights and tokenizer the run begins with.
        init: first weights drawn at random, or counts: tables worked out from the pairs of ids that the family asks
            about in the text, which a short budget would spend itself on learning.
        setting: the family's own settings, as name=value; linear chooses p by BIC where none is given.
        like: gpt2, llama, roberta, modernbert or electra: train as that was trained, in stack, settings and rates;
            what you give yourself stands. Their rates are for batches of thousands of rows.
        context: tokens of a row; 0: the size's own.
        batch: rows of one update; 0: the size's own.
        accumulation: micro-batches that an update is cut into; the loss stays the same.
        rate: factor on the learning rates; 0: the swept one.
        optimization: settings of the optimizer.
        schedule: course of the learning rate.
        validations: how often dev is measured.
        averaged: end with the mean of so many of the weights measured, the best on dev, where it is better still.
        dropout: share of what each part of a layer adds that training drops.
        horizon: on a table of numbers, how many are forecast at once; 0: by the length of the series, at most 24.
        compile: run through torch.compile; auto measures whether it pays.
        tokenizer: bpe, bpe:4096, byte, char, wordpiece, word, word+phrases, or a path to a tokenizer.json.
        field: the field of a record that holds the text; of a table, the column of numbers (y, unless named).
        label: the field of a record that holds a label.
        sides: of pairs, which are source and target: en-de for files that end so or fields of these names, 2-1 for
            columns; .tsv files and records with source and target are pairs by themselves.
        documents: what a document of a .txt file is.
        strict: stop at the first bad row.
        device: auto, cpu, cuda, ...
        threads: of the CPU; 0: as many as there are cores.
        dtype: auto takes bfloat16 where it is measurably faster.
        recipe: rerun a saved recipe; the corpus may be named beside it, if it lies elsewhere now.
        print_recipe: print the recipe and stop.
        json: also write the record to this file.
    """
    from ..objectives.continued import handed_on
    from .ground import claimed, held, laid, objective_for, suited
    from .numbers import begun as begun_on_numbers
    from .numbers import following, laid_numbers, reads_numbers
    from .numbers import recorded as record_of_numbers

    given = {name: value for name, value in locals().items() if name in inspect.signature(train).parameters}
    if recipe is not None:
        wanted = _from_recipe(recipe, given)
    else:
        if family is None or corpus is None:
            raise SightlineError("train needs a family and a corpus", "For example: sightline train causal python-docs")
        wanted = planned(
            family, Source(corpus, field, label, documents, strict, tokenizer, sides=sides), size=size, budget=budget,
            seed=seed, context=context, batch=batch, accumulation=accumulation, rate=rate, optimization=optimization,
            schedule=schedule, validations=validations, fields=parsed(family, setting), start=start, init=init,
            like=like, horizon=horizon, dropout=dropout, averaged=averaged,
        )  # fmt: skip
    numbers = reads_numbers(wanted.source)
    _fits(wanted, numbers)
    begun = begun_with(wanted)
    if begun is not None:
        wanted = replace(wanted, fields=handed_on(begun.objective, wanted.family, wanted.fields))
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
        count = threads or wanted.threads
        if numbers:
            ground: Any = laid_numbers(wanted, device, count, kind)
        else:
            ground = laid(wanted.source, place, wanted.seed, device, count, kind, own, (wanted.family,))
        wanted = bound(ground, wanted)
        finished, path = folder / "results.json", folder / "model"
        if there is not None and not print_recipe and finished.exists() and _whole(path):
            say(f"{folder} is finished: nothing is left to train")
            record = read_json(finished)
        else:
            if numbers:
                ready = begun_on_numbers(ground, wanted, None if decided else compile)
                wanted = ready.recipe
            else:
                objective = objective_for(wanted.family, ground.tokenizer, wanted.fields)
                suited(objective, ground.corpus)
                if begun is not None:
                    objective = replace(objective, vocabulary=begun.objective.vocabulary)  # padded as its tables are
                model = fresh(ground, wanted, objective, begun)
                if not decided:
                    wanted = costed(ground, wanted, model, compile)
            if print_recipe:
                print(wanted.text(), end="")
                return None
            wanted.save(folder / "recipe.toml")
            if numbers:
                record = record_of_numbers(ground, ready, folder)
            else:
                record = recorded(ground, wanted, model, run(ground, wanted, model, folder), folder)
        if json is not None:
            write_json(Path(json), record)
    verb = "fill" if record["writes_from"] == "both" else "generate"
    verb = verb if record.get("writes", True) else "embed"
    command = f"sightline {verb} {shlex.quote(str(path))}"
    if not numbers and ground.corpus.kind == "pairs" and _writes_targets(ground, wanted):
        command = f"sightline translate {shlex.quote(str(path))} {shlex.quote(wanted.source.corpus)}"
        command += f" --sides {wanted.source.sides}" if wanted.source.sides else ""
    if numbers:
        command = following(wanted.source, record["horizon"], path)
    return TrainResult(folder, path, record, command)


def _fits(wanted: Recipe, numbers: bool) -> None:
    """Whether the family reads what the corpus is, and was asked for nothing that has no meaning there."""
    from .ground import forbid_numbers
    from .numbers import chosen

    if not numbers:
        forbid_numbers((wanted.family,))
        if wanted.horizon:
            raise SightlineError("a text has no horizon", "Leave --horizon away, or give a table of numbers")
        return
    chosen((wanted.family,), usual=False)
    for name, given in (("--from", wanted.start), ("--init counts", wanted.init == "counts")):
        if given:
            raise SightlineError(f"a run on numbers begins anew: {name} is for texts", f"Leave {name} away")


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


def _writes_targets(ground: Any, wanted: Recipe) -> bool:
    """Whether the family, as it was set, writes targets of sources."""
    from ..objectives.translating import writes_targets
    from .ground import objective_for

    return writes_targets(objective_for(wanted.family, ground.tokenizer, wanted.fields))


def _whole(path: Path) -> bool:
    """Whether a model of ours lies there."""
    from .. import hub

    return hub.ours(path)


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
