"""The common ground of runs: one text, one tokenizer, one machine, laid out in a run folder."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from ..errors import SightlineError, Stopped
from ..files import fingerprint, locked, write_json
from ..progress import say
from .recipe import Comparison, Recipe, Source

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ..data import Corpus, RowReader, Rows, TokenFile, Tokenizer
    from ..objectives.base import Objective

Kept = TypeVar("Kept", Recipe, Comparison)
PAIRS = "Give pairs: .tsv, records with source and target, or --sides en-de of files"


@dataclass(frozen=True)
class Ground:
    """What every family of a run stands on.

    Parameters
    ----------
    source : with its fingerprint. corpus, tokenizer : the text and how it is cut.
    train, dev, test : token files. device, threads, dtype : the machine.
    said : contexts of which it was said that pairs are too long for them.
    """

    source: Source
    corpus: Corpus
    tokenizer: Tokenizer
    train: TokenFile
    dev: TokenFile
    test: TokenFile
    device: str
    threads: int
    dtype: str
    said: set[int] = field(default_factory=set, compare=False)

    @property
    def bytes_per_token(self) -> float:
        """UTF-8 bytes of the training text per token, marks included."""
        return float(self.train.bytes.sum()) / max(1, self.train.token_count)

    def packed(self, split: TokenFile, context: int) -> RowReader:
        """Rows of ``context`` tokens; of pairs, whole ones."""
        from ..data import Bins, Packed

        if self.corpus.kind != "pairs":
            return Packed(split, context, self.tokenizer)
        rows = Bins(split, context, self.tokenizer)
        if rows.left_out and split is self.train and context not in self.said:
            self.said.add(context)
            say(f"{rows.left_out:,} of {split.document_count:,} pairs are too long for rows of {context:,} tokens")
        return rows

    def rows_of(self, packed: RowReader, batch: int, seed: int) -> Any:
        """From a step's number to its rows, by index arithmetic."""
        import numpy as np

        from ..data import Order

        order = Order(packed.count, seed)

        def rows(step: int) -> Rows:
            index: NDArray[np.int64] = step * batch + np.arange(batch)
            return replace(packed.rows(*order.at(index)), turns=index)

        return rows

    def names(self, rows: Rows) -> list[str]:
        """The training documents that the rows hold."""
        import numpy as np

        return [self.train.name(int(origin)) for origin in np.unique(rows.origins) if origin >= 0]


def machine(device: str, threads: int, dtype: str) -> tuple[str, int, str]:
    """The device, threads and type that a run uses; sets the threads."""
    import torch

    from ..training.machine import device_for, dtype_for

    if threads:
        torch.set_num_threads(threads)
    chosen = device_for(device)
    if dtype not in ("auto", "float32", "bfloat16"):
        raise SightlineError(f"the type {dtype!r} is not one to train in", "Use auto, float32 or bfloat16")
    return chosen, torch.get_num_threads(), dtype_for(dtype, chosen)  # type: ignore[arg-type]


@contextlib.contextmanager
def claimed(folder: Path) -> Iterator[Path]:
    """Hold a run's folder; one that holds anything but a run is refused, and a mistake leaves no empty one behind.

    Raises
    ------
    SightlineError : other files lie there, or another process runs in it.
    Stopped : Ctrl-C outside the training loop.
    """
    fresh = not folder.exists()
    if not fresh:
        _refuse_strangers(folder)
    try:
        with locked(folder):
            yield folder
    except KeyboardInterrupt as stop:
        raise Stopped(f"Stopped. To continue, give the same command again (it goes on in {folder}).") from stop
    finally:
        if fresh and [path.name for path in folder.glob("*")] == [".lock"]:
            (folder / ".lock").unlink()
            folder.rmdir()


def _refuse_strangers(folder: Path) -> None:
    """A folder without a recipe may hold no more than what a run lays out before it writes one."""
    if not folder.is_dir():
        raise SightlineError(f"{folder} is a file, not a folder", "Choose another --out")
    if (folder / "recipe.toml").exists():
        return
    laid_out = {"data", *(f"data/{name}" for name in ("tokenizer", "train", "dev", "test", "sample.npz"))}
    there = [path.relative_to(folder) for path in sorted([*folder.glob("*"), *folder.glob("data/*")])]
    if others := [str(path) for path in there if not path.name.startswith(".") and path.as_posix() not in laid_out]:
        more = f" and {len(others) - 3} more" if len(others) > 3 else ""
        raise SightlineError(
            f"{folder} holds files that are not of a run ({', '.join(others[:3])}{more})", "Choose another --out"
        )


def laid(
    source: Source,
    folder: Path,
    seed: int,
    device: str,
    threads: int,
    dtype: str,
    tokenizer: Tokenizer | None = None,
    families: Sequence[str] = (),
) -> Ground:
    """Read the corpus, train or load the tokenizer, and prepare token files below ``folder/data``; reused if whole.

    Parameters
    ----------
    source : its fingerprint, if it has one, must be that of the text and the tokenizer found.
    seed : of the bytes that a tokenizer is trained on. tokenizer : instead of the source's.
    families : that are to read it.

    Raises
    ------
    SightlineError : nothing to read, or another text or tokenizer than the source's; nothing was written then.
    """
    from ..data import read, tokenized, tokenizer_for

    corpus = read(
        source.corpus,
        field=source.field,
        label=source.label or None,
        documents=source.documents,  # type: ignore[arg-type]
        strict=source.strict,
        sides=source.sides,
    )
    if corpus.kind != "pairs":
        _forbid(families, "pairs", "a text", PAIRS)
    say(corpus.summary())
    kept = folder / "data" / "tokenizer"
    mark = kept / "made_from.json"
    made_from = fingerprint(corpus.fingerprint, source.tokenizer, seed)
    there = _kept_tokenizer(kept) if _is(mark, made_from) and not Path(source.tokenizer).exists() else None
    chosen = tokenizer or there or tokenizer_for(corpus, source.tokenizer or None, seed)
    whole = replace(source, fingerprint=fingerprint(corpus.fingerprint, chosen.fingerprint))
    if source.fingerprint and source.fingerprint != whole.fingerprint:
        raise SightlineError(
            f"{source.corpus} with the tokenizer {source.tokenizer} is not the text that the recipe was made with "
            f"({whole.fingerprint}, not {source.fingerprint})",
            "Give the same text and tokenizer, or choose another --out",
        )
    if there is None:
        chosen.save(kept)
        write_json(mark, made_from)
    files = [
        tokenized(
            getattr(corpus, split), chosen, folder / "data" / split, f"tokens of {split}", pairs=corpus.kind == "pairs"
        )
        for split in ("train", "dev", "test")
    ]
    place, count, kind = machine(device, threads, dtype)
    return Ground(whole, corpus, chosen, files[0], files[1], files[2], place, count, kind)


def _is(mark: Path, value: str) -> bool:
    return mark.exists() and mark.read_text(encoding="utf-8").strip() == f'"{value}"'


def _kept_tokenizer(folder: Path) -> Tokenizer | None:
    """The tokenizer of a run folder, or None where it is damaged."""
    from ..data import Tokenizer

    try:
        return Tokenizer.load(folder)
    except SightlineError as error:  # it came from the corpus, so it can be made again
        say(f"{error} It is made again now.")
        return None


def objective_for(family: str, tokenizer: Tokenizer | None, fields: dict[str, Any]) -> Objective:
    """The family's objective over this tokenizer's ids; over numbers where there is no tokenizer."""
    from ..data.vocabulary import Vocabulary
    from ..objectives import FAMILIES

    if family not in FAMILIES:
        raise SightlineError(f"there is no family {family!r}", f"Choose from {', '.join(FAMILIES)}")
    kind = FAMILIES[family]
    if unknown := sorted(set(fields) - settings_of(kind)):
        known = ", ".join(sorted(settings_of(kind))) or "none"
        raise SightlineError(f"{family} has no setting {unknown[0]!r}", f"Its settings: {known}")
    return kind(Vocabulary(0, 0) if tokenizer is None else tokenizer.vocabulary, **fields)


def suited(objective: Objective, corpus: Corpus) -> None:
    """Refuse a family that, as it was set, reads pairs where there are none."""
    if objective.reads == "pairs" and corpus.kind != "pairs":
        raise SightlineError(f"{objective.family}, as it was set, reads pairs, and this is a text", PAIRS)


def forbid_numbers(families: Sequence[str]) -> None:
    """Refuse families that read numbers where the corpus is a text; unknown names are refused elsewhere."""
    _forbid(families, "numbers", "a text", "Give a table of numbers (.csv or .parquet)")


def _forbid(families: Sequence[str], reads: str, there: str, instead: str) -> None:
    from ..objectives import FAMILIES

    for name in families:
        if name in FAMILIES and FAMILIES[name].reads == reads:
            raise SightlineError(f"{name} reads {reads}, and this is {there}", instead)


def settings_of(kind: type[Objective]) -> set[str]:
    """Names of a family's own settings."""
    from dataclasses import fields

    return {item.name for item in fields(kind)} - {"vocabulary"}


def held(folder: Path, recipe: Kept) -> Kept | None:
    """The recipe that a folder is bound to, if it is the same run as this one; None where there is none.

    Raises
    ------
    SightlineError : the folder holds another run.
    """
    path = folder / "recipe.toml"
    if not path.exists():
        return None
    there = type(recipe).load(path)
    if difference := recipe.difference(there):
        raise SightlineError(
            f"{folder} holds another run: it differs in {difference}", "Choose another --out, or give the same settings"
        )
    return there


def versions() -> dict[str, str]:
    """Versions of what decides the numbers."""
    import platform

    import numpy
    import tokenizers
    import torch

    from .. import __version__

    return {
        "sightline": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": numpy.__version__,
        "tokenizers": tokenizers.__version__,
    }


def described(device: str, threads: int) -> dict[str, Any]:
    """The machine in words."""
    import platform

    import torch

    name = platform.processor() or platform.machine()
    if os.path.exists("/proc/cpuinfo"):
        with open("/proc/cpuinfo", encoding="utf-8") as handle:
            models = [line.partition(":")[2].strip() for line in handle if line.startswith("model name")]
        name = models[0] if models else name
    gpu = torch.cuda.get_device_name(0) if device.startswith("cuda") else ""
    return {
        "system": platform.system(),
        "processor": name,
        "cores": os.cpu_count() or 1,
        "threads": threads,
        "device": device,
        "gpu": gpu,
    }
