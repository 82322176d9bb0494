"""A recipe: everything that decides a run, as a dataclass that lies beside its results as TOML."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, is_dataclass, replace
from pathlib import Path
from typing import Any, get_type_hints

import tomli_w

from ..errors import SightlineError
from ..files import whole_file
from ..training.settings import Optimization, Schedule, Settings

VERSION = 1


@dataclass(frozen=True)
class Source:
    """Which text, and how it is read.

    Parameters
    ----------
    corpus : a path, ``-``, ``python-docs`` or the name of a data set. field, label : names of a record's fields.
    documents : what a document of a ``.txt`` file is: the file, its lines, or what blank lines part.
    strict : a bad row is an error. tokenizer : ``bpe``, ``bpe:4096``, ``byte``, ``char``, ``wordpiece`` or a path.
    fingerprint : of the corpus and the tokenizer, filled in when the run starts.
    """

    corpus: str
    field: str = "text"
    label: str = ""
    documents: str = "file"
    strict: bool = False
    tokenizer: str = "bpe"
    fingerprint: str = ""


@dataclass(frozen=True)
class Recipe:
    """One family's run.

    Parameters
    ----------
    family : and its ``fields`` (the objective's settings).
    source : the text. size, context : the stack. budget : as given; ``settings.steps`` is what it came to.
    seed : of weights, order and draws. device, threads : where it runs.
    settings : of the training loop. start : a model folder whose weights the run begins with, or nothing.
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
    version: int = VERSION

    def same_run(self, other: Recipe) -> str:
        """The first setting by which another recipe is another run, or nothing: machine and steps may differ."""
        for name in ("family", "size", "context", "budget", "seed", "fields", "start", "source"):
            mine, theirs = getattr(self, name), getattr(other, name)
            if name == "source":  # the same text under another path is the same text
                mine, theirs = mine.fingerprint, theirs.fingerprint
            if mine != theirs:
                return f"{'corpus or tokenizer' if name == 'source' else name} ({theirs!r} there, {mine!r} now)"
        return ""

    def text(self) -> str:
        """As TOML."""
        return tomli_w.dumps(_plain(asdict(self)))

    def save(self, path: Path) -> None:
        """Write the recipe, whole or not at all."""
        with whole_file(path, "w") as handle:
            handle.write(self.text())

    @classmethod
    def load(cls, path: Path) -> Recipe:
        """A recipe from a file, with a clear error for what does not belong there."""
        try:
            raw = tomllib.loads(Path(path).read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            raise SightlineError(f"the recipe {path} does not exist", "Check the path") from error
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise SightlineError(f"{path} is not a recipe ({error})", "Start from --print-recipe") from error
        if raw.get("version", VERSION) > VERSION:
            raise SightlineError(f"{path} is a recipe of version {raw['version']}", "Use a newer Sightline")
        recipe: Recipe = _made(cls, raw, str(path))
        return recipe

    def with_settings(self, **changes: Any) -> Recipe:
        """The recipe with other settings of the loop."""
        return replace(self, settings=replace(self.settings, **changes))


def _plain(value: Any) -> Any:
    """TOML has no null: what is None is left out and comes back as its default."""
    if isinstance(value, Mapping):
        return {key: _plain(inner) for key, inner in value.items() if inner is not None}
    return [_plain(inner) for inner in value] if isinstance(value, list | tuple) else value


def _made(kind: Any, raw: Mapping[str, Any], where: str) -> Any:
    """A dataclass from a mapping, its nested dataclasses too; unknown, missing and mistyped names are named."""
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
        elif isinstance(value, list):
            values[name] = tuple(value)
        elif hint in (int, float, str, bool) and not (
            isinstance(value, hint) or (hint is float and type(value) is int)
        ):
            raise SightlineError(f"{where}: {name} = {value!r} is not of type {hint.__name__}", "Correct the value")
        else:
            values[name] = float(value) if hint is float else value
    try:
        return kind(**values)
    except TypeError as error:
        raise SightlineError(f"{where} is incomplete ({error})", "Start from --print-recipe") from error


__all__ = ["Optimization", "Recipe", "Schedule", "Settings", "Source"]
