"""Families on series of numbers: one regression for each series beside a small neural model of all of them.

    n numbers    |---- train ----|- dev -|- test: blocks of the horizon -|
    next number  nats of each number of a block, from all before it        a density: no nats of tokens
    forecast     a whole block from what stands before it                  MASE and CRPS

Every series is taken minus the mean and over the standard deviation of its training part, for every family alike.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

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
    from ..stacks.autoregression import Fitted
    from ..training.loop import Trained

FAMILIES = ("linear", "causal")  # that can be asked for numbers
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
    """What every family of a comparison on numbers stands on; to training it is a ground like that of a text."""

    source: Source
    table: Table
    horizon: int
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
    """Whether a corpus is a table of numbers: csv, or parquet with a column of numbers and none of text."""
    from ..data.series import is_table

    path = Path(source.corpus)
    if is_table(path.name):
        return path.is_file()
    if path.suffix.lower() != ".parquet" or not path.is_file():
        return False
    import pyarrow
    import pyarrow.parquet

    try:
        names = pyarrow.parquet.read_schema(path).names
    except (pyarrow.ArrowInvalid, OSError):
        return False
    return source.field not in names and _column(source) in names


def _column(source: Source) -> str:
    """The column of the numbers: the field of the text does not name it."""
    return "y" if source.field == "text" else source.field


def chosen(names: Sequence[str], usual: bool) -> tuple[str, ...]:
    """The families of a comparison on numbers; all that there are where none were named (``usual``)."""
    if usual:
        return FAMILIES
    if strangers := [name for name in names if name not in FAMILIES]:
        raise SightlineError(
            f"{strangers[0]} reads text, and this is a table of numbers", f"Choose from {', '.join(FAMILIES)}"
        )
    return tuple(names)


def laid_numbers(wanted: Comparison, device: str, threads: int, dtype: str) -> NumberGround:
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
    train, dev, blocks = [], [], []
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
        scaled = (values - mean) / deviation
        train.append(scaled[:end])
        dev.append(scaled[:test])
        scale = naive_scale(scaled[:end])
        blocks += [
            Block(number, scaled[:at], scaled[at : at + horizon], scale) for at in range(test, len(values), horizon)
        ]
    kept = np.sort(np.random.default_rng((wanted.seed, 7)).permutation(len(blocks))[:BLOCKS])
    place, cores, kind = machine(device, threads, dtype)
    return NumberGround(
        whole,
        table,
        horizon,
        _Side(tuple(train)),
        _Side(tuple(dev)),
        tuple(blocks[at] for at in kept),
        place,
        cores,
        kind,
    )


@dataclass(frozen=True, eq=False)
class Regressions:
    """The linear family on a ground: an autoregression for each series; to a record it is a model like any other."""

    objective: Objective
    fitted: Fitted

    def parameter_counts(self) -> tuple[int, int]:
        """Coefficients, constants and variances; no tables."""
        return int((self.fitted.orders + 2).sum()), 0


def regressed(ground: NumberGround) -> tuple[Regressions, Trained]:
    """Every series' order by BIC, and its fit, in one batched solve."""
    from ..data.vocabulary import Vocabulary
    from ..objectives import FAMILIES as ALL
    from ..stacks.autoregression import AR
    from ..training.loop import Trained

    begun = time.perf_counter()
    rows = list(ground.train.values)
    fitted = AR("bic").fit(rows if len(rows) > 1 else rows[0], ground.table.names)
    seconds = time.perf_counter() - begun
    objective = ALL["linear"](Vocabulary(0, 0), p=max(1, int(fitted.orders.max())))  # type: ignore[call-arg]
    count = ground.train.token_count
    return Regressions(objective, fitted), Trained((), 1, None, 1, seconds, count, count, float(count), 0)


def trained(ground: NumberGround, recipe: Recipe, place: Path) -> tuple[Model, Trained]:
    """The neural model of all series, trained to the end of the budget; goes on from a checkpoint if there is one."""
    from .. import hub
    from ..data.vocabulary import Vocabulary
    from ..objectives import FAMILIES as ALL
    from ..objectives.model import built
    from ..stacks import sizes
    from ..training.loop import train
    from ..training.machine import peak
    from .cost import costed, per_step
    from .ground import held

    if ground.horizon >= recipe.context:
        raise SightlineError(
            f"a horizon of {ground.horizon} leaves no past in rows of {recipe.context} numbers",
            "Use a longer --context or a shorter --horizon",
        )
    objective = ALL[recipe.family](Vocabulary(0, 0))
    model = built(objective, sizes.shape(recipe.size, 0, recipe.context), None, recipe.seed).to(recipe.device)
    there = held(place, recipe)
    if there is None:
        recipe = costed(ground, recipe, model, "off")  # type: ignore[arg-type]
        recipe.save(place / "recipe.toml")
    else:
        recipe = replace(there, device=ground.device, threads=ground.threads)
    windows = ground.packed(ground.train, recipe.context)
    done = train(
        model,
        ground.rows_of(windows, recipe.settings.batch, recipe.seed),
        recipe.settings,
        place,
        flops_per_step=per_step(ground, recipe, model, windows)[1],  # type: ignore[arg-type]
        peak=peak(recipe.device, recipe.threads).of(recipe.settings.dtype),
        validate=_validation(ground, recipe),
        names=ground.names,
        title=f"{recipe.family} (seed {recipe.seed})",
    )
    model.eval()
    hub.save(model, place / "model", data_fingerprint=ground.source.fingerprint)
    return model, done


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
    from ..evaluation.foreseen import foreseen_by_model, foreseen_by_regressions, naive
    from ..evaluation.score import scored
    from .ground import described, versions
    from .measure import families_of, kept_words, measured_to, record_of
    from .plan import drafted

    drawn = drawn_blocks(ground, wanted.seed)
    outcomes: dict[str, list[dict[str, Any]]] = {}
    settings = {name: getattr(wanted, name) for name in ("size", "budget", "context", "batch", "rate")}
    for name in wanted.families:
        for number in range(wanted.seeds if name != "linear" else 1):  # least squares has no chance in it
            place = folder / name / f"seed-{wanted.seed + number}"
            if not (place / "results.json").exists():
                objective = _named(name)
                recipe = drafted(ground, objective, **settings, seed=wanted.seed + number)  # type: ignore[arg-type]
                if name == "linear":
                    model, done = regressed(ground)
                    begun = time.perf_counter()
                    found = foreseen_by_regressions(model.fitted, ground.blocks, drawn)
                else:
                    model, done = trained(ground, recipe, place)  # type: ignore[assignment]
                    begun = time.perf_counter()
                    found = foreseen_by_model(model, ground.blocks, drawn, recipe.seed)  # type: ignore[arg-type]
                got = measured(ground, found, drawn)
                record = record_of(ground, recipe, model, done)  # type: ignore[arg-type]
                measured_to(place / "measured.npz", got)
                record |= {
                    "samples": _samples(ground, found, drawn),
                    "evaluation_seconds": time.perf_counter() - begun,
                    "measured": [kept_words(one) for one in got],
                    "place": place.name,
                }
                write_json(place / "results.json", record)
            outcomes.setdefault(name, []).append(read_json(place / "results.json"))
    families, comparisons, _ = families_of(outcomes, wanted.seed, wanted.families, folder)
    floor = measured(ground, naive(ground.blocks, drawn, ground.train.values), drawn)
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
        "floors": [{"name": "the last number again", "scores": [scored([one], wanted.seed).record() for one in floor]}],
        "comparisons": comparisons,
    }


def _named(name: str) -> Objective:
    from ..data.vocabulary import Vocabulary
    from ..objectives import FAMILIES as ALL

    return ALL[name](Vocabulary(0, 0))


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
