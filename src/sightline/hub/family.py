"""A family in a settings file: the import path of its objective and its fields, and back."""

from __future__ import annotations

import importlib
import re
from collections.abc import Mapping
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

from ..data.vocabulary import Vocabulary
from ..errors import SightlineError
from ..objectives.base import Objective
from .schema import filled

HOUSE = __name__.partition(".")[0]


def told(objective: Objective) -> dict[str, Any]:
    """The objective as a table of TOML, which has no null: a None that is no default is in ``unset``."""
    kind = type(objective)
    if "<locals>" in kind.__qualname__:
        raise SightlineError(
            f"{kind.__qualname__} is defined inside a function", "Move the family to a module's top level"
        )
    settings = {field.name: getattr(objective, field.name) for field in fields(objective) if field.name != "vocabulary"}
    unset = [
        field.name for field in fields(objective) if settings.get(field.name, 0) is None and field.default is not None
    ]
    table: dict[str, Any] = {"class": f"{kind.__module__}:{kind.__qualname__}", "family": objective.family}
    if unset:
        table["unset"] = unset
    kept = {name: list(value) if isinstance(value, tuple) else value for name, value in settings.items()}
    return table | {"fields": {name: value for name, value in kept.items() if value is not None}}


def revived(table: Mapping[str, Any], vocabulary: Vocabulary, file: Path, package: str | None) -> Objective:
    """The objective that a table tells of.

    Parameters
    ----------
    file : what errors name.
    package : a package, besides Sightline, from which a family may be imported.

    Raises
    ------
    SightlineError : a path outside these packages, no such class, no objective, or fields that do not fit.
    """
    kind = _class(table.get("class"), file, package)
    unset, settings = table.get("unset", []), table.get("fields", {})
    if not isinstance(settings, dict) or not isinstance(unset, list):
        raise SightlineError(f"{file}, [objective]: fields is no table or unset no list", "Copy the model again")
    values = filled(kind, settings | dict.fromkeys(unset), file)
    needed = [f.name for f in fields(kind) if f.default is MISSING and f.default_factory is MISSING]
    missing = [name for name in needed if name not in values and name != "vocabulary"]
    if missing or "vocabulary" in values:
        raise SightlineError(
            f"{file} does not say what {kind.__name__} needs ({', '.join(missing) or 'a vocabulary'})",
            "Copy the model again",
        )
    return kind(vocabulary=vocabulary, **values)


def _class(path: object, file: Path, package: str | None) -> type[Objective]:
    if not isinstance(path, str) or not re.fullmatch(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*", path):
        raise SightlineError(f"{file} names no objective ({path!r})", 'It is written as class = "package.module:Class"')
    module, _, name = path.partition(":")
    home = module.partition(".")[0]
    allowed = [HOUSE, *([package] if package else [])]
    if not any(module == one or module.startswith(f"{one}.") for one in allowed):
        raise SightlineError(
            f"{file} asks for the objective {path}, and code of {home} is not run unasked",
            f"If you trust it, name its package (package={home!r}, or --package {home})",
        )
    try:
        kind = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise SightlineError(
            f"the objective {path}, which {file} asks for, is not to be had ({error})",
            "Install the package that defines it, or the version of Sightline that wrote the folder",
        ) from error
    if not isinstance(kind, type) or not issubclass(kind, Objective):
        raise SightlineError(f"{path}, which {file} names, is no objective", "Name a subclass of Objective")
    return kind
