"""A recipe: everything that decides a run, as a dataclass that lies beside its results as TOML."""

from __future__ import annotations

import inspect
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, is_dataclass, replace
from pathlib import Path
from typing import Any, Literal, Self, cast, get_type_hints

import tomli_w

from ..errors import SightlineError
from ..files import whole_file
from ..training.budget import Budget
from ..training.settings import Optimization, Schedule, Settings

VERSION = 1


@dataclass(frozen=True)
class Source:
    """Which text, and how it is read.

    Parameters
    ----------
    corpus : a path, ``-``, ``python-docs`` or the name of a data set. field, label : names of a record's fields.
    documents : what a document of a ``.txt`` file is: the file, its lines, or what blank lines part.
    strict : a bad row is an error. tokenizer : as ``tokenizer_for`` reads it, such as ``bpe:4096``.
    fingerprint : of the corpus and the tokenizer, filled in when the run starts. sides : of pairs, such as ``en-de``.
    """

    corpus: str
    field: str = "text"
    label: str = ""
    documents: str = "file"
    strict: bool = False
    tokenizer: str = "bpe"
    fingerprint: str = ""
    sides: str = ""


class _Kept:
    """What recipes of every kind share: they lie on disk as TOML."""

    def text(self) -> str:
        """As TOML."""
        return tomli_w.dumps(_plain(asdict(cast(Any, self))))

    def save(self, path: Path) -> None:
        """Write the recipe, whole or not at all."""
        with whole_file(path, "w") as handle:
            handle.write(self.text())

    @classmethod
    def load(cls, path: Path) -> Self:
        """A recipe from a file, with a clear error for what does not belong there."""
        try:
            raw = tomllib.loads(Path(path).read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            raise SightlineError(f"the recipe {path} does not exist", "Check the path") from error
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise SightlineError(f"{path} is not a recipe ({error})", "Start from --print-recipe") from error
        several = "families" in raw
        if several != issubclass(cls, Comparison):
            kind, command = ("a comparison", "compare") if several else ("the training of one family", "train")
            raise SightlineError(
                f"{path} is the recipe of {kind}", f"Use it with `sightline {command}`, or choose another"
            )
        if raw.get("version", VERSION) > VERSION:
            raise SightlineError(f"{path} is a recipe of version {raw['version']}", "Use a newer Sightline")
        made: Self = _made(cls, raw, str(path))
        return made


@dataclass(frozen=True)
class Recipe(_Kept):
    """One family's run.

    Parameters
    ----------
    family : and its ``fields`` (the objective's settings).
    source : the text. size, context : the stack. budget : as given; ``settings.steps`` is what it came to.
    seed : of weights, order and draws. device, threads : where it runs.
    settings : of the training loop. start : a model folder whose weights the run begins with, or nothing.
    init : the first weights otherwise, drawn at random or worked out from counts of pairs.
    make : of the stack (see ``stacks.makes``); nothing is the house's own.
    horizon : numbers of a forecast, where the corpus is a table of numbers; 0: by its length.
    dropout : share of what each part of a stack adds that training drops.
    """

    family: str
    source: Source
    size: str
    context: int
    budget: str
    seed: int
    device: str
    threads: int
    settings: Settings
    fields: dict[str, Any] = field(default_factory=dict)
    start: str = ""
    init: Literal["random", "counts"] = "random"
    make: str = ""
    horizon: int = 0
    dropout: float = 0.0
    version: int = VERSION

    def difference(self, other: Recipe) -> str:
        """The first setting by which another recipe is another run, or nothing.

        Where it runs and what was found by measuring (steps, type of the products, compilation) may differ.
        """
        names = ("family", "size", "context", "budget", "seed", "fields", "start", "init", "make", "horizon", "dropout")
        found = _first_difference(self, other, names)
        measured: dict[str, Any] = {"steps": 1, "batch": 1, "accumulation": 1, "dtype": "float32", "compiled": False}
        rows = _first_difference(self.settings, other.settings, ("batch", "accumulation"))
        mine, theirs = (replace(one.settings, **measured) for one in (self, other))
        return found or rows or _first_difference(mine, theirs) or _other_text(self.source, other.source)

    def with_settings(self, **changes: Any) -> Recipe:
        """The recipe with other settings of the loop."""
        return replace(self, settings=replace(self.settings, **changes))


@dataclass(frozen=True)
class Comparison(_Kept):
    """Several families on one text, under one budget each.

    Parameters
    ----------
    families, seeds : what is run; a folder may be extended by more of both. seed : the first.
    source, size, context, batch, budget : as in ``Recipe``; 0 is the size's own.
    rate : factor on the learning rates; 0: the swept ones. device, threads, dtype : where and how it runs.
    horizon : numbers of a forecast, where the corpus is a table of numbers; 0: by its length.
    scoring : seconds that scoring may take the costliest family; 0: a quarter of what the first trains for.
    """

    families: tuple[str, ...]
    source: Source
    size: str
    context: int
    batch: int
    budget: str
    seed: int
    seeds: int
    rate: float
    device: str
    threads: int
    dtype: Literal["auto", "float32", "bfloat16"]
    horizon: int = 0
    scoring: float = 0.0
    version: int = VERSION

    def difference(self, other: Comparison) -> str:
        """The first setting by which another recipe is another comparison, or nothing: families and seeds extend it."""
        names = ("size", "context", "batch", "budget", "seed", "rate", "horizon", "scoring")
        found = _first_difference(self, other, names)
        return found or _other_text(self.source, other.source)


def _first_difference(mine: Any, theirs: Any, names: Sequence[str] = (), within: str = "") -> str:
    """The first field of two dataclasses that differs, in words."""
    for name in names or [item.name for item in fields(mine)]:
        here, there = getattr(mine, name), getattr(theirs, name)
        if is_dataclass(here):
            if found := _first_difference(here, there, within=f"{within}{name}."):
                return found
        elif (_counted(here) != _counted(there)) if name == "budget" else (here != there):
            return f"{within}{name} ({there!r} there, {here!r} now)"
    return ""


def _counted(budget: str) -> tuple[str, float]:
    """60s and 1m are the same budget."""
    parsed = Budget.parse(budget)
    return parsed.kind, parsed.amount


def _other_text(mine: Source, theirs: Source) -> str:
    """The same text under another path is the same text; where it was not read yet, nothing is known."""
    if not mine.fingerprint or not theirs.fingerprint or mine.fingerprint == theirs.fingerprint:
        return ""
    return (
        f"corpus or tokenizer ({theirs.corpus} with {theirs.tokenizer} there, {mine.corpus} with {mine.tokenizer} now)"
    )


def refuse_beside_recipe(command: Callable[..., Any], given: Mapping[str, Any], allowed: Sequence[str]) -> None:
    """A recipe decides a run: an option that would change it is refused rather than passed over in silence."""
    for name, parameter in inspect.signature(command).parameters.items():
        if name not in ("recipe", *allowed) and given[name] != parameter.default:
            raise SightlineError(
                f"{name} = {given[name]!r} cannot be given beside --recipe",
                f"Change it in a copy of the recipe; beside it may stand {', '.join(allowed)}",
            )


def _plain(value: Any) -> Any:
    """TOML has no null: what is None is left out and comes back as its default."""
    if isinstance(value, Mapping):
        return {key: _plain(inner) for key, inner in value.items() if inner is not None}
    return [_plain(inner) for inner in value] if isinstance(value, list | tuple) else value


def _made(kind: Any, raw: Mapping[str, Any], where: str) -> Any:
    """A dataclass from a mapping, its nested dataclasses too; unknown, missing and mistyped names are named."""
    from ..hub.schema import fits

    hints = get_type_hints(kind)
    known = {item.name for item in fields(kind)}
    if unknown := sorted(set(raw) - known):
        raise SightlineError(f"{where} has no setting {unknown[0]!r}", f"Known: {', '.join(sorted(known))}")
    values: dict[str, Any] = {}
    for name, value in raw.items():
        hint = hints[name]
        if is_dataclass(hint):
            if not isinstance(value, Mapping):
                raise SightlineError(f"{where}: {name} must be a table", f"Write [{name}]")
            values[name] = _made(hint, value, f"{where} [{name}]")
        elif not fits(value, hint):
            told = hint.__name__ if isinstance(hint, type) else str(hint).removeprefix("typing.")
            raise SightlineError(f"{where}: {name} = {value!r} is not of type {told}", "Correct the value")
        elif isinstance(value, list):
            values[name] = tuple(value)
        else:
            values[name] = float(value) if hint is float else value
    try:
        return kind(**values)
    except TypeError as error:
        raise SightlineError(f"{where} is incomplete ({error})", "Start from --print-recipe") from error


__all__ = ["Comparison", "Optimization", "Recipe", "Schedule", "Settings", "Source", "refuse_beside_recipe"]
