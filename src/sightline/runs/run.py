"""One run: train to the end of the budget, write the model, and keep its score beside it and the floor's."""

from __future__ import annotations

import math
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..files import read_json, write_json
from ..progress import bar
from ..training.budget import Budget
from .cost import per_step
from .recipe import Recipe
from .start import fresh

if TYPE_CHECKING:
    from ..objectives.model import Model
    from ..training.loop import Trained
    from .ground import Ground

DEV_ROWS = 32  # rows of dev that choose the best weights
FLOOR_TOKENS = 4_000_000  # counted for the floor at most: some seconds and about a gigabyte


def run(ground: Ground, recipe: Recipe, model: Model, folder: Path, title: str = "", validate: Any = None) -> Trained:
    """Train to the end of the budget and write ``folder/model``; goes on from a checkpoint if there is one.

    ``validate`` : instead of ``validation``.
    """
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
            validate=validate or validation(ground, recipe),
            sample=_sample(ground) if model.objective.writes and not model.numbers else None,
            names=ground.names,
            title=title or recipe.family,
            again=again,
        )
    kept(ground, recipe, model, folder)
    return trained


def kept(ground: Ground, recipe: Recipe, model: Model, folder: Path) -> None:
    """Write ``folder/model``."""
    from .. import hub

    model.eval()
    corpus = getattr(ground, "corpus", None)  # numbers have none
    pairs = {"pairs": True} if corpus is not None and corpus.kind == "pairs" else {}  # a family of texts does not tell
    hub.save(model, folder / "model", recipe=_tables(recipe) | pairs, data_fingerprint=ground.source.fingerprint)


def _tables(recipe: Recipe) -> dict[str, Any]:
    import tomllib

    return tomllib.loads(recipe.text())


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


def recorded(ground: Ground, recipe: Recipe, model: Model, trained: Trained, folder: Path) -> dict[str, Any]:
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
