"""What a budget buys: the steps of a recipe, and whether to compile them."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

from ..progress import say
from ..training.budget import Budget
from .recipe import Recipe

if TYPE_CHECKING:
    from ..data import RowReader
    from ..objectives.model import Model
    from .ground import Ground

Compile = Literal["auto", "on", "off"]
TIMED = 10  # throw-away steps that turn seconds into steps
LEAST_STEPS = 200  # fewer are never worth timing for the sake of compiling
COMPILE_PAYS = 600.0  # seconds of CPU training below which compiling costs more than it brings


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


def per_step(ground: Ground, recipe: Recipe, model: Model, packed: RowReader) -> tuple[float, float]:
    """Corpus tokens read and floating-point operations of one update, from the views of the first."""
    from ..data import Draws

    rows = ground.rows_of(packed, recipe.settings.batch, recipe.seed)(0)
    views = model.objective.ask(rows, Draws(recipe.seed).of(rows), 0.0)
    return float(rows.tokens.size), 3.0 * sum(model.flops(view) for view in views)


def seconds_per_step(ground: Ground, recipe: Recipe, model: Model, packed: RowReader, compiled: bool) -> float:
    """The time of a step, from a few throw-away ones on a copy of the model.

    The lower quartile, since other work on the machine only ever adds to a step, in bursts.
    """
    from ..training.loop import timed_steps

    twin = copy.deepcopy(model)
    rows_of = ground.rows_of(packed, recipe.settings.batch, recipe.seed)
    settings = replace(recipe.settings, steps=TIMED + 2, compiled=compiled)
    return sorted(timed_steps(twin, rows_of, settings, TIMED))[TIMED // 4]


def seconds_of_fitting(ground: Ground, recipe: Recipe, model: Model) -> float:
    """The time in which a stack that fits itself reads the tokens of a step."""
    from ..training.fitting import seconds_of

    return seconds_of(model, ground.train.tokens, recipe.settings.batch * recipe.context, recipe.threads)
