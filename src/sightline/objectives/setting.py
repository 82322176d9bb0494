"""A family's settings as they are typed: ``name=value`` words, each read as the type of its field."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import fields
from fractions import Fraction
from typing import Any, Literal, get_args, get_origin, get_type_hints

from ..errors import SightlineError
from .base import Objective


def settings(kind: type[Objective], words: Sequence[str]) -> dict[str, Any]:
    """The settings that the words give, by name.

    Raises
    ------
    SightlineError : a word without ``=``, a name that the family does not have, or a value of another type.
    """
    hints = get_type_hints(kind)
    known = {item.name: hints[item.name] for item in fields(kind) if item.name != "vocabulary"}
    values: dict[str, Any] = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not equals or name not in known:
            raise SightlineError(
                f"{word!r} is not a setting of {kind.family}", f"Write name=value; known: {', '.join(known) or 'none'}"
            )
        values[name] = _typed(name, value, known[name])
    return values


def _typed(name: str, value: str, hint: Any) -> Any:
    """A word as the type that a setting is annotated with; 1/3 is a number too."""
    if get_origin(hint) is Literal:
        if value not in get_args(hint):
            raise SightlineError(f"{name} cannot be {value!r}", f"Choose from {', '.join(get_args(hint))}")
        return value
    if hint is bool:
        if value not in ("true", "false"):
            raise SightlineError(f"{name} is true or false, not {value!r}", "Correct the value")
        return value == "true"
    for kind in get_args(hint) or (hint,):
        if kind in (int, float, str):
            with contextlib.suppress(ValueError):
                return kind(value)
        if kind is float:
            with contextlib.suppress(ValueError, ZeroDivisionError):
                return float(Fraction(value))
    raise SightlineError(f"{name} must be a number, not {value!r}", "Correct the value")
