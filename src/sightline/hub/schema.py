"""Values from a settings file, checked against the fields of a dataclass before anything is built from them."""

from __future__ import annotations

import types
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, ClassVar, Literal, Union, get_args, get_origin, get_type_hints

from ..errors import SightlineError


def fits(value: object, hint: Any) -> bool:
    """Whether a value read from TOML or JSON is of an annotated type; lists stand for tuples."""
    origin, inner = get_origin(hint), get_args(hint)
    if hint is Any:
        return True
    if origin in (Union, types.UnionType):
        return any(fits(value, one) for one in inner)
    if origin is Literal:
        return value in inner
    if origin is tuple:
        if not isinstance(value, list | tuple):
            return False
        if len(inner) == 2 and inner[1] is Ellipsis:
            return all(fits(one, inner[0]) for one in value)
        return len(value) == len(inner) and all(fits(one, of) for one, of in zip(value, inner, strict=True))
    if hint in (int, float):
        allowed = int | float if hint is float else int
        return isinstance(value, allowed) and not isinstance(value, bool)
    return not isinstance(hint, type) or isinstance(value, hint)


def filled(kind: type[Any], values: Mapping[str, Any], file: Path) -> dict[str, Any]:
    """Keyword arguments for ``kind`` from a file's values; names and types that do not fit are one clear error."""
    known = {field.name for field in fields(kind)}
    try:
        hints = get_type_hints(kind)
    except NameError:  # a name that its file imports for type checkers only
        hints = {}
    arguments: dict[str, Any] = {}
    for name, value in values.items():
        if name not in known:
            raise SightlineError(
                f"{file} gives {kind.__name__} a setting {name!r}, which it does not have",
                "It may come from another version of Sightline: use that version, or remove the line",
            )
        hint = hints.get(name, Any)
        if get_origin(hint) is ClassVar or not fits(value, hint):
            raise SightlineError(
                f"{file} says {name} = {value!r}, which does not fit {kind.__name__}",
                f"Correct the line: {name} is {hint}",
            )
        arguments[name] = tuple(value) if isinstance(value, list) else value
    return arguments
