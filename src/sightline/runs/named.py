"""Recipes by name: how a published model was trained, as far as that does not depend on its size.

A name fills in what is left at its default; the size, the budget and the text stay yours. The rates are for batches of
thousands of rows: at a small batch try a lower one.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from typing import Any, TypeVar

from ..errors import SightlineError
from ..training.settings import Optimization, Schedule

Settings = TypeVar("Settings", Optimization, Schedule)


@dataclass(frozen=True)
class Named:
    """What a name stands for.

    Parameters
    ----------
    family : and its ``fields``. make : of the stack (see ``stacks.makes``). optimization, schedule : of the training.
    """

    family: str
    make: str
    fields: dict[str, Any] = field(default_factory=dict)
    optimization: Optimization = Optimization()  # noqa: RUF009 - frozen
    schedule: Schedule = Schedule()  # noqa: RUF009 - frozen


NAMED: dict[str, Named] = {
    # Radford et al. (2019) do not tell their rates; these are those of the same stack in Brown et al. (2020).
    "gpt2": Named(
        "causal",
        "gpt2",
        {},
        Optimization("adamw", rate=6e-4, betas=(0.9, 0.95), eps=1e-8, weight_decay=0.1),
        Schedule("cosine", warmup=0.00125, floor=0.1),
    ),
    # Touvron et al. (2023), 7B.
    "llama": Named(
        "causal",
        "llama",
        {},
        Optimization("adamw", rate=3e-4, betas=(0.9, 0.95), eps=1e-8, weight_decay=0.1),
        Schedule("cosine", warmup=0.008, floor=0.1),
    ),
    # Liu et al. (2019) and the settings of its repository: no next sentence, rows packed, masks drawn at each visit.
    "roberta": Named(
        "masked",
        "bert",
        {"rate": 0.15, "random": 0.1, "kept": 0.1},
        Optimization("adamw", rate=5e-4, betas=(0.9, 0.98), eps=1e-6, weight_decay=0.01, clip=0.0),
        Schedule("linear", warmup=0.08),
    ),
    # Warner et al. (2024) and the settings of its repository; AdamW stands for StableAdamW, with the house's clipping.
    # There the rate stays to the end of 1.7 T tokens and falls in a later phase; here it falls over the last fifth.
    "modernbert": Named(
        "masked",
        "modernbert",
        {"rate": 0.3, "random": 0.1, "kept": 0.1},
        Optimization("adamw", rate=8e-4, betas=(0.9, 0.98), eps=1e-6, weight_decay=1e-5),
        Schedule("wsd", warmup=0.002),
    ),
    # Clark et al. (2020), small, by its repository.
    "electra": Named(
        "electra",
        "bert",
        {"rate": 0.15, "kept": 0.15, "share": 0.25},
        Optimization("adamw", rate=5e-4, betas=(0.9, 0.999), eps=1e-6, weight_decay=0.01),
        Schedule("linear", warmup=0.01),
    ),
}


def named(name: str, family: str) -> Named:
    """What a name stands for; of a family, and nothing where there is no name.

    Raises
    ------
    SightlineError : no such name, or it is another family's.
    """
    if not name:
        return Named(family, "")
    if name not in NAMED:
        raise SightlineError(f"there is no recipe named {name!r}", f"Choose from {', '.join(NAMED)}")
    if (found := NAMED[name]).family != family:
        raise SightlineError(f"{name} is a recipe for {found.family}, not for {family}", f"Train {found.family}")
    return found


def filled(given: Settings, by: Settings) -> Settings:
    """What was given, with the values of ``by`` where the default was left."""
    usual = type(given)()
    left = [item.name for item in fields(given) if getattr(given, item.name) == getattr(usual, item.name)]
    return replace(given, **{name: getattr(by, name) for name in left})
