"""The common ground of runs: one text, one tokenizer, one machine, laid out in a run folder."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import SightlineError
from ..files import fingerprint, write_json
from ..progress import say
from .recipe import Recipe, Source

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ..data import Corpus, Packed, Rows, TokenFile, Tokenizer
    from ..objectives.base import Objective


@dataclass(frozen=True)
class Ground:
    """What every family of a run stands on.

    Parameters
    ----------
    source : with its fingerprint. corpus, tokenizer : the text and how it is cut.
    train, dev, test : token files. device, threads, dtype : the machine.
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

    @property
    def bytes_per_token(self) -> float:
        """UTF-8 bytes of the training text per token, marks included."""
        return float(self.train.bytes.sum()) / max(1, self.train.token_count)

    def packed(self, split: TokenFile, context: int) -> Packed:
        """Rows of ``context`` tokens."""
        from ..data import Packed

        return Packed(split, context, self.tokenizer)

    def rows_of(self, packed: Packed, batch: int, seed: int) -> Any:
        """From a step's number to its rows, by index arithmetic."""
        import numpy as np

        from ..data import Order

        order = Order(packed.count, seed)

        def rows(step: int) -> Rows:
            index: NDArray[np.int64] = step * batch + np.arange(batch)
            return packed.rows(*order.at(index))

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


def laid(source: Source, folder: Path, seed: int, device: str, threads: int, dtype: str) -> Ground:
    """Read the corpus, train or load the tokenizer, and prepare token files below ``folder/data``; reused if whole."""
    from ..data import Tokenizer, read, tokenized, tokenizer_for

    corpus = read(
        source.corpus,
        field=source.field,
        label=source.label or None,
        documents=source.documents,  # type: ignore[arg-type]
        strict=source.strict,
    )
    say(corpus.summary())
    held = folder / "data" / "tokenizer"
    wanted = fingerprint(corpus.fingerprint, source.tokenizer, seed)
    mark = held / "made_from.json"
    if mark.exists() and mark.read_text(encoding="utf-8").strip() == f'"{wanted}"':
        tokenizer = Tokenizer.load(held)
    else:
        tokenizer = tokenizer_for(corpus, source.tokenizer or None, seed)
        tokenizer.save(held)
        write_json(mark, wanted)
    files = [
        tokenized(getattr(corpus, split), tokenizer, folder / "data" / split, title=f"tokens of {split}")
        for split in ("train", "dev", "test")
    ]
    chosen, count, kind = machine(device, threads, dtype)
    whole = replace(source, fingerprint=fingerprint(corpus.fingerprint, tokenizer.fingerprint))
    return Ground(whole, corpus, tokenizer, files[0], files[1], files[2], chosen, count, kind)


def objective_for(family: str, tokenizer: Tokenizer, fields: dict[str, Any]) -> Objective:
    """The family's objective over this tokenizer's ids."""
    from ..objectives import FAMILIES

    if family not in FAMILIES:
        raise SightlineError(f"there is no family {family!r}", f"Choose from {', '.join(FAMILIES)}")
    kind = FAMILIES[family]
    if unknown := sorted(set(fields) - settings_of(kind)):
        known = ", ".join(sorted(settings_of(kind))) or "none"
        raise SightlineError(f"{family} has no setting {unknown[0]!r}", f"Its settings: {known}")
    return kind(tokenizer.vocabulary, **fields)


def settings_of(kind: type[Objective]) -> set[str]:
    """Names of a family's own settings."""
    from dataclasses import fields

    return {item.name for item in fields(kind)} - {"vocabulary"}


def held_folder(out: Path, recipe: Recipe) -> Recipe:
    """The recipe that a folder is bound to: this one, or the one there if it is the same run; else an error."""
    path = out / "recipe.toml"
    if not path.exists():
        return recipe
    there = Recipe.load(path)
    if difference := recipe.same_run(there):
        raise SightlineError(
            f"{out} holds another run: it differs in {difference}", "Choose another --out, or give the same settings"
        )
    return replace(there, device=recipe.device)


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
