"""A recipe before it runs: what was asked for, with every default filled in."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ..errors import SightlineError
from ..training.budget import Budget
from ..training.settings import Optimization, Schedule, Settings
from .named import filled, named
from .recipe import Recipe, Source

if TYPE_CHECKING:
    from ..objectives import Objective
    from .ground import Ground


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
    horizon: int = 0,
    dropout: float = 0.0,
    averaged: int = 1,
) -> Recipe:
    """A recipe with every default filled in but what is found on the machine: ``bound`` and ``costed`` fill it in."""
    from ..stacks import sizes

    chosen = sizes.size(size)
    Budget.parse(budget)
    for name, value in (("context", context), ("batch", batch), ("rate", rate), ("horizon", horizon)):
        if value < 0 or not math.isfinite(value):
            raise SightlineError(f"a {name} of {value} means nothing", "Use 0 for the default, or more")
    if not 0 <= dropout < 1:
        raise SightlineError(f"a dropout of {dropout} is out of range", "Use a share from 0 to below 1, such as 0.1")
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
            averaged=averaged,
            optimization=_rated(optimization, family, size, rate, init),
            schedule=filled(schedule or Schedule(), model.schedule),
        ),
        fields=model.fields | (fields or {}),
        start=str(start) if start else "",
        init=init,
        make=model.make,
        horizon=horizon,
        dropout=dropout,
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
