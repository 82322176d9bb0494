"""Families on series of numbers: one regression for each series beside a small neural model of all of them.

    n numbers    |---- train ----|- dev -|- test: blocks of the horizon -|
    next number  nats of each number of a block, from all before it        a density: no nats of tokens
    forecast     a whole block from what stands before it                  MASE and CRPS

Every series is taken minus the mean and over the standard deviation of its training part, for every family alike.
"""

from __future__ import annotations

import shlex
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ..errors import SightlineError
from ..files import fingerprint, read_json, write_json
from ..progress import say
from .recipe import Comparison, Recipe, Source

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ..data import Rows
    from ..data.series import Table, Windows
    from ..evaluation.foreseen import Block, Foreseen
    from ..evaluation.score import Measured
    from ..objectives import Objective
    from ..objectives.model import Model
    from ..training.loop import Trained

FAMILIES = ("linear", "causal")  # that can be asked for numbers
CLOSED = "linear"  # the one of them that is solved rather than trained
HORIZON = 24  # steps of a forecast, where none is given and series are long enough
TEST = 0.1  # of a series, at least one block of the horizon
BLOCKS = 2000  # most blocks that are scored
DRAWN = 100  # most blocks that are forecast by sampling
FEW = 30  # series below which intervals are drawn over blocks
DEV_ROWS = 64


@dataclass(frozen=True, eq=False)
class _Side:
    """One side of the series, as a split of a text is one: its numbers are its tokens."""

    values: tuple[NDArray[np.float64], ...]

    @property
    def token_count(self) -> int:
        return sum(map(len, self.values))


@dataclass(frozen=True, eq=False)
class NumberGround:
    """What every family on numbers stands on; to training it is a ground like that of a text.

    ``centres`` and ``scales`` [S] are the mean and standard deviation that each series was taken minus and over.
    """

    source: Source
    table: Table
    horizon: int
    centres: NDArray[np.float64]
    scales: NDArray[np.float64]
    train: _Side
    dev: _Side
    blocks: tuple[Block, ...]
    device: str
    threads: int
    dtype: str
    bytes_per_token: float = 0.0

    def packed(self, side: _Side, length: int) -> Windows:
        """Rows of ``length`` numbers."""
        from ..data.series import Windows

        return Windows(side.values, length)

    def rows_of(self, windows: Windows, batch: int, seed: int) -> Any:
        """From a step's number to its rows, by index arithmetic."""
        import numpy as np

        from ..data import Order

        order = Order(windows.count, seed)

        def rows(step: int) -> Rows:
            return windows.rows(*order.at(step * batch + np.arange(batch)))

        return rows

    def names(self, rows: Rows) -> list[str]:
        """The series that the rows hold."""
        return [self.table.names[number] for number in sorted({int(one) for one in rows.origins[:, 0]})]


def reads_numbers(source: Source) -> bool:
    """Whether a corpus is a table of numbers: csv, or parquet with a column of numbers and none of text.

    Raises
    ------
    SightlineError : a table by its name, and it is not there.
    """
    from ..data.series import is_table

    path = Path(source.corpus)
    if not is_table(path.name) and path.suffix.lower() != ".parquet":
        return False
    if not path.exists():
        raise SightlineError(f"{path} does not exist", "Check the path")
    return path.is_file() and (is_table(path.name) or _holds_numbers(path, source))


def _holds_numbers(path: Path, source: Source) -> bool:
    """Whether a parquet file has the column of numbers, or no other column than one of numbers."""
    import pyarrow
    import pyarrow.parquet
    from pyarrow import types

    try:
        schema = pyarrow.parquet.read_schema(path)
    except (pyarrow.ArrowInvalid, OSError):
        return False
    name = schema.names[0] if len(schema.names) == 1 else _column(source)
    if name not in schema.names or (source.field in schema.names and source.field != name):
        return False
    kind = schema.field(schema.names.index(name)).type
    return bool(types.is_integer(kind) or types.is_floating(kind) or types.is_decimal(kind))


def _column(source: Source) -> str:
    """The column of the numbers: the field of the text does not name it."""
    return "y" if source.field == "text" else source.field


def following(source: Source, horizon: int, model: Path | None = None) -> str:
    """The command that forecasts the table of a run, by its model where there is one."""
    value = "" if source.field == "text" else f" --value {shlex.quote(source.field)}"
    by = "" if model is None else f" --model {shlex.quote(str(model))}"
    return f"sightline forecast {shlex.quote(source.corpus)}{value}{by} --horizon {horizon}"


def chosen(names: Sequence[str], usual: bool) -> tuple[str, ...]:
    """Families that can be asked for numbers; all that there are where none were named (``usual``)."""
    if usual:
        return FAMILIES
    if strangers := [name for name in names if name not in FAMILIES]:
        raise SightlineError(
            f"{strangers[0]} reads text, and this is a table of numbers", f"Choose from {', '.join(FAMILIES)}"
        )
    return tuple(names)


def laid_numbers(wanted: Comparison | Recipe, device: str, threads: int, dtype: str) -> NumberGround:
    """Read the table, cut every series into its parts and normalise it.

    Raises
    ------
    SightlineError : a series is too short for its parts, constant, or has missing values; or it is another table.
    """
    import numpy as np

    from ..data.series import read_series
    from ..evaluation.forecast import naive_scale
    from ..evaluation.foreseen import Block
    from ..stacks.series import Series
    from .ground import machine

    table = read_series(wanted.source.corpus, value=_column(wanted.source))
    for note in table.notes:
        say(note)
    whole = replace(wanted.source, fingerprint=fingerprint(table.fingerprint, wanted.horizon))
    if wanted.source.fingerprint not in ("", whole.fingerprint):
        raise SightlineError(
            f"{wanted.source.corpus} does not hold the numbers that the recipe was made with",
            "Give the same table and horizon, or choose another --out",
        )
    rows = list(table.values)
    Series.of(rows if len(rows) > 1 else rows[0], table.names).check("error")
    shortest = min(map(len, rows))
    horizon = wanted.horizon or max(1, min(HORIZON, shortest // 10))
    train, dev, blocks, laws = [], [], [], []
    for number, values in enumerate(rows):
        count = max(1, int(TEST * len(values)) // horizon)
        test = len(values) - count * horizon
        end = test - horizon
        if end < 2 * horizon or end < 8:
            raise SightlineError(
                f"series {table.names[number]} has {len(values)} values: too few to train on, choose by and forecast "
                f"{horizon} steps of",
                f"Use a shorter --horizon (now {horizon}), or leave it out",
            )
        mean, deviation = float(values[:end].mean()), float(values[:end].std())
        if not deviation > 0:
            raise SightlineError(
                f"series {table.names[number]} never moves before its test part", "Leave it out, or give more of it"
            )
        laws.append((mean, deviation))
        scaled = (values - mean) / deviation
        train.append(scaled[:end])
        dev.append(scaled[:test])
        scale = naive_scale(scaled[:end])
        blocks += [
            Block(number, scaled[:at], scaled[at : at + horizon], scale) for at in range(test, len(values), horizon)
        ]
    centres, scales = np.array(laws).T
    kept = np.sort(np.random.default_rng((wanted.seed, 7)).permutation(len(blocks))[:BLOCKS])
    place, cores, kind = machine(device, threads, dtype)
    return NumberGround(
        whole,
        table,
        horizon,
        centres,
        scales,
        _Side(tuple(train)),
        _Side(tuple(dev)),
        tuple(blocks[at] for at in kept),
        place,
        cores,
        kind,
    )


@dataclass(frozen=True, eq=False)
class Begun:
    """A run on numbers before its folder is written: ``solved`` is what it came to where nothing is left to train."""

    recipe: Recipe
    model: Model
    solved: Trained | None = None


def begun(ground: NumberGround, recipe: Recipe, compile: Literal["auto", "on", "off"] | None) -> Begun:
    """The model that a run begins with, and its recipe with the steps that the budget buys.

    Parameters
    ----------
    compile : as in ``costed``; None where the recipe has its steps, from a run that was begun.

    Raises
    ------
    SightlineError : a series is too short for p, or rows leave no past before a forecast.
    """
    from ..objectives.model import built
    from ..stacks import sizes
    from .cost import costed
    from .ground import objective_for

    objective = objective_for(recipe.family, None, recipe.fields)
    if recipe.family == CLOSED:
        return _regressed(ground, recipe, objective)
    if ground.horizon >= recipe.context:
        raise SightlineError(
            f"a horizon of {ground.horizon} leaves no past in rows of {recipe.context} numbers",
            "Use a longer --context or a shorter --horizon",
        )
    model = built(objective, sizes.shape(recipe.size, 0, recipe.context), None, recipe.seed).to(recipe.device)
    if compile is not None:
        recipe = costed(ground, recipe, model, compile)  # type: ignore[arg-type]
    return Begun(recipe, model)


def _regressed(ground: NumberGround, recipe: Recipe, objective: Objective) -> Begun:
    """Every series' regression in one batched solve: of p lags, or of as many as BIC chooses where p was not set."""
    from torch import nn

    from ..objectives.model import Model
    from ..stacks.autoregression import AR
    from ..stacks.regressions import Regressions
    from ..training.loop import Trained

    begun = time.perf_counter()
    rows = list(ground.train.values)
    fitted = AR(recipe.fields.get("p", "bic")).fit(rows if len(rows) > 1 else rows[0], ground.table.names)
    seconds, count = time.perf_counter() - begun, ground.train.token_count
    whole = replace(objective, p=max(1, int(fitted.orders.max())))  # type: ignore[call-arg]
    stack = Regressions(fitted.rescaled(ground.centres, ground.scales))
    solved = Trained((), 1, None, 1, seconds, count, count, float(count), 0)
    return Begun(recipe, Model(whole, stack, nn.Identity(), None), solved)


def outcome(
    ground: NumberGround, ready: Begun, folder: Path, drawn: NDArray[np.int64], title: str
) -> tuple[dict[str, Any], list[Measured]]:
    """Train to the end, write ``folder/model`` and measure it: the record of a run, and what it got on each block."""
    from ..evaluation.foreseen import foreseen_by_model, foreseen_by_regressions
    from ..stacks.regressions import Regressions
    from .measure import record_of
    from .run import kept, run

    recipe, model, done = ready.recipe, ready.model, ready.solved
    if done is None:
        done = run(ground, recipe, model, folder, title, _validation(ground, recipe))  # type: ignore[arg-type]
    else:
        kept(ground, recipe, model, folder)  # type: ignore[arg-type]
    begun = time.perf_counter()
    if isinstance(model.stack, Regressions):
        law = model.stack.fitted.rescaled(-ground.centres / ground.scales, 1 / ground.scales)
        found = foreseen_by_regressions(law, ground.blocks, drawn)
    else:
        found = foreseen_by_model(model, ground.blocks, drawn, recipe.seed)
    got = measured(ground, found, drawn)
    record = record_of(ground, recipe, model, done)  # type: ignore[arg-type]
    record |= {
        "horizon": ground.horizon,
        "samples": _samples(ground, found, drawn),
        "evaluation_seconds": time.perf_counter() - begun,
    }
    return record, got


def recorded(ground: NumberGround, ready: Begun, folder: Path) -> dict[str, Any]:
    """``outcome`` of a run of its own, with its scores and, beside them, the floor's; kept as ``results.json``."""
    from ..evaluation.score import scored

    drawn = drawn_blocks(ground, ready.recipe.seed)
    record, got = outcome(ground, ready, folder, drawn, ready.recipe.family)
    record["scores"] = [scored([one], ready.recipe.seed).record() for one in got]
    record["floors"] = floors(ground, drawn, ready.recipe.seed)
    write_json(folder / "results.json", record)
    return record


def floors(ground: NumberGround, drawn: NDArray[np.int64], seed: int) -> list[dict[str, Any]]:
    """What needs no model: the last number again."""
    from ..evaluation.foreseen import naive
    from ..evaluation.score import scored

    got = measured(ground, naive(ground.blocks, drawn, ground.train.values), drawn)
    return [{"name": "the last number again", "scores": [scored([one], seed).record() for one in got]}]


def _validation(ground: NumberGround, recipe: Recipe) -> Any:
    """Nats per number of the dev part of some series, from all before it that fits a row."""
    import numpy as np

    from ..data.series import number_rows

    drawn = np.sort(np.random.default_rng((recipe.seed, 8)).permutation(len(ground.dev.values))[:DEV_ROWS])
    parts = [ground.dev.values[number][-recipe.context :] for number in drawn]
    rows = number_rows(parts, recipe.context, asked=min(ground.horizon, recipe.context - 1))

    def measured(model: Model) -> float:
        nats, asked = model.examined(rows)
        return float(nats.sum() / asked.sum())

    return measured


def drawn_blocks(ground: NumberGround, seed: int) -> NDArray[np.int64]:
    """The blocks that are forecast whole: those with a unit for MASE, at most ``DRAWN``, drawn by seed."""
    import numpy as np

    fit = np.array([number for number, block in enumerate(ground.blocks) if np.isfinite(block.scale)])
    if not len(fit):
        raise SightlineError("no series moves from one number to the next", "Give series that change")
    return np.asarray(np.sort(np.random.default_rng((seed, 9)).permutation(fit)[:DRAWN]))


def measured(ground: NumberGround, found: Foreseen, drawn: NDArray[np.int64]) -> list[Measured]:
    """Nats per number, MASE and CRPS, per series, or per block where series are few."""
    import numpy as np

    from ..evaluation.score import Measured

    series = np.array([block.series for block in ground.blocks])
    few = len(set(series.tolist())) < FEW
    scale = np.array([ground.blocks[number].scale for number in drawn])
    error = np.abs(np.stack([ground.blocks[number].values for number in drawn]) - found.middle) / scale[:, None]

    def per(
        values: NDArray[np.float64], of: NDArray[np.int64], name: str, unit: str, class_: str, column: str
    ) -> Measured:
        group = np.arange(len(of)) if few else np.unique(of, return_inverse=True)[1]
        tops = np.bincount(group, weights=values.sum(1)).astype(np.float64)
        bottoms = np.bincount(group, weights=np.full(len(of), float(values.shape[1]))).astype(np.float64)
        rule = (
            "each number given all before it in its series"
            if class_ == "density"
            else f"{ground.horizon} numbers given all before them"
        )
        return Measured(name, unit, class_, column, tops, bottoms, rule)

    nats = per(found.nats, series, "nats_per_number", "nats per number", "density", "next number")
    mase = per(error, series[drawn], "mase", "MASE", "task", "forecast")
    crps = per(found.crps, series[drawn], "crps", "standard deviations", "task", "forecast")
    return [nats, mase, crps]


def results_on_numbers(wanted: Comparison, folder: Path, ground: NumberGround) -> dict[str, Any]:
    """Every family and seed trained and measured, what is already there taken over; then joined to one record."""
    from .ground import described, held, objective_for, versions
    from .measure import families_of, kept_words, measured_to
    from .plan import drafted

    drawn = drawn_blocks(ground, wanted.seed)
    outcomes: dict[str, list[dict[str, Any]]] = {}
    settings = {name: getattr(wanted, name) for name in ("size", "budget", "context", "batch", "rate", "horizon")}
    for name in wanted.families:
        for number in range(wanted.seeds if name != CLOSED else 1):  # least squares has no chance in it
            seed = wanted.seed + number
            place = folder / name / f"seed-{seed}"
            if not (place / "results.json").exists():
                recipe = drafted(ground, objective_for(name, None, {}), **settings, seed=seed)  # type: ignore[arg-type]
                there = held(place, recipe)
                if there is not None:
                    recipe = replace(there, device=ground.device, threads=ground.threads)
                ready = begun(ground, recipe, "off" if there is None else None)
                if there is None:
                    ready.recipe.save(place / "recipe.toml")
                record, got = outcome(ground, ready, place, drawn, f"{name} (seed {seed})")
                measured_to(place / "measured.npz", got)
                record |= {"measured": [kept_words(one) for one in got], "place": place.name}
                write_json(place / "results.json", record)
            outcomes.setdefault(name, []).append(read_json(place / "results.json"))
    families, comparisons, _ = families_of(outcomes, wanted.seed, wanted.families, folder)
    count = sum(map(len, ground.table.values))
    few = len(ground.table.names) < FEW
    return {
        "corpus": {
            "kind": "numbers",
            "name": Path(wanted.source.corpus).name,
            "fingerprint": ground.source.fingerprint,
            "series": len(ground.table.names),
            "numbers": count,
            "horizon": ground.horizon,
            "split": f"the end of each series: test in blocks of {ground.horizon}, dev the {ground.horizon} before it",
            "notes": list(ground.table.notes),
        },
        "versions": versions(),
        "machine": described(ground.device, ground.threads),
        "tokenizer": {},
        "evaluation": {
            "note": f"{len(ground.blocks)} blocks of {ground.horizon} numbers, {len(drawn)} of them forecast whole; "
            f"intervals over {'blocks, since series are few' if few else 'series'}; every series in standard "
            "deviations of its training part",
        },
        "families": families,
        "floors": floors(ground, drawn, wanted.seed),
        "comparisons": comparisons,
    }


def _samples(ground: NumberGround, found: Foreseen, drawn: NDArray[np.int64]) -> list[dict[str, str]]:
    """The first forecasts, in words: some numbers before, what was foreseen, what came."""
    samples = []
    for line, number in enumerate(drawn[:3]):
        block = ground.blocks[number]

        def words(values: Any) -> str:
            return " ".join(f"{value:.2f}" for value in values[:12])

        samples.append(
            {
                "kind": "continuation",
                "given": f"{words(block.past[-12:])} [...]",
                "side": "left",
                "written": f" {words(found.middle[line])}",
                "truth": words(block.values),
                "how": f"series {ground.table.names[block.series]}, the middle of the forecast",
            }
        )
    return samples
