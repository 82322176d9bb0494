"""Long work over many texts or items in pieces that are kept, so that what was done is never done again."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

from ..errors import SightlineError
from ..files import read_json, write_json

Item = TypeVar("Item")
EACH = 1000  # items of a shard: what a kill loses at most


def in_shards(
    items: Sequence[Item], folder: Path, made_of: str, work: Callable[[Sequence[Item]], list[str]], each: int = EACH
) -> Iterator[str]:
    """What ``work`` makes of every item, in order; shards that lie in ``folder`` already are taken from there.

    Parameters
    ----------
    made_of : fingerprint of the items and of all that decides what becomes of them.

    Raises
    ------
    SightlineError : the folder holds shards of other work.
    """
    folder = Path(folder)
    mark = folder / "made_of.json"
    if mark.exists() and read_json(mark) != made_of:
        raise SightlineError(
            f"{folder} holds what was begun with another model, other texts or other settings",
            "Give the same again, or remove the folder to begin anew",
        )
    folder.mkdir(parents=True, exist_ok=True)
    write_json(mark, made_of)
    for start in range(0, len(items), each):
        part = items[start : start + each]
        path = folder / f"shard-{start // each:06d}.json"
        if not path.exists():
            write_json(path, work(part))
        done = read_json(path)
        if len(done) != len(part):
            raise SightlineError(f"{path} holds {len(done)} items of {len(part)}", "Remove it and give the same again")
        yield from done


def forget(folder: Path) -> None:
    """Remove shards that were joined."""
    shutil.rmtree(folder, ignore_errors=True)
