"""What every verb that asks a model does before and after: open it, and keep what came of it."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeVar, cast

from ..errors import SightlineError
from ..files import write_json

if TYPE_CHECKING:
    from ..objectives.model import Model

Dtype = Literal["auto", "float32", "bfloat16"]


class Recorded(Protocol):
    """What can be told as plain JSON."""

    def record(self) -> dict[str, Any]: ...


Result = TypeVar("Result", bound=Recorded)


@contextmanager
def ready(folder: Path, tokenizer: str, device: str, threads: int, dtype: Dtype) -> Iterator[tuple[Path, Model]]:
    """The model of a folder on its device, to be read and not trained; with the folder that it was found in."""
    import torch

    from .. import hub
    from ..data import Tokenizer
    from .ground import machine

    path = hub.located(folder)
    place, _, kind = machine(device, threads, "float32" if dtype == "auto" else dtype)
    model = hub.load(path, tokenizer=Tokenizer.load(tokenizer) if tokenizer else None)
    with torch.no_grad():
        yield path, model.to(place, getattr(torch, kind)).eval()


@contextmanager
def drafting(
    drafter: str, device: str, threads: int, dtype: Dtype | Literal["int8"]
) -> Iterator[Model | Literal["lookup", "self"] | None]:
    """Who goes ahead, by name or by the folder of a model; None: nobody."""
    if drafter in ("lookup", "self"):
        yield cast('Literal["lookup", "self"]', drafter)
    elif not drafter:
        yield None
    else:
        with ready(Path(drafter), "", device, threads, "auto" if dtype == "int8" else dtype) as (_, model):
            yield model


def two_sided(model: Model) -> Model:
    """The model read with both sides given; an error where its family has no such way."""
    if model.objective.two_sided.writes_from != "both":
        raise SightlineError(f"{model.objective.family} is read from one side only", "Leave --both-sides away")
    return model.two_sided


def quoted(text: str) -> str:
    """The beginning of a text as a shell takes it, on one line."""
    return shlex.quote(" ".join(text.split())[:40].lstrip("-") or "a text")


def kept(result: Result, path: Path | None) -> Result:
    """The same result, its record written where a file is named."""
    if path is not None:
        write_json(Path(path), result.record())
    return result
