"""Use a model: one vector for each text."""

from __future__ import annotations

import json as jsons
import shlex
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from ..errors import SightlineError
from ..files import whole_file
from ..progress import say
from .ready import Dtype, kept, quoted, ready
from .texts import Cut, Part, read_all

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

VECTORS = Path("vectors.npy")


@dataclass(frozen=True)
class Embedding:
    """Vectors of texts, in a file.

    Parameters
    ----------
    model : its folder. family : of the model. path : of the vectors, in the order of ``ids``.
    width : of a vector. layer : whose states were averaged; 0 is the embedding, None a mix of all.
    shares : of each layer. next : a command to go on with.
    """

    model: Path
    family: str
    path: Path
    ids: tuple[str, ...]
    width: int
    layer: int | None
    shares: tuple[float, ...]
    next: str

    def __str__(self) -> str:
        mixed = " + ".join(f"{share:.3g} x layer {at}" for at, share in enumerate(self.shares))
        what = mixed if self.layer is None else f"layer {self.layer}"
        return f"{len(self.ids):,} vectors of width {self.width}: mean states of {what}\n{self.path}"

    def record(self) -> dict[str, Any]:
        """As plain JSON."""
        return asdict(self) | {"model": str(self.model), "path": str(self.path), "ids": list(self.ids)}


def embed(
    folder: Annotated[Path, tyro.conf.Positional],
    texts: Annotated[tuple[str, ...], tyro.conf.Positional] = (),
    *,
    layer: int | None = None,
    mix: str = "",
    out: Path | None = None,
    part: Part = "all",
    field: str = "text",
    documents: Cut = "file",
    tokenizer: str = "",
    seed: int = 0,
    device: str = "auto",
    threads: int = 0,
    dtype: Dtype = "auto",
    json: Path | None = None,
) -> Embedding:
    """Turn texts into vectors: the mean of a layer's states, or of a mix of all layers', over a text's tokens.

    Examples:
        sightline embed runs/mine/model "one text" "another text"
        sightline embed runs/mine/model corpus.jsonl --layer 2 --out vectors.parquet
        sightline embed runs/mine/model corpus.jsonl --mix even

    Args:
        folder: a model folder, or the folder of a run.
        texts: texts, files or folders (as for train), python-docs, or - for standard input.
        layer: 0 is the embedding, 1 the first layer, -1 the last. Default: the last; of cbow, the embedding.
        mix: all layers together instead: even, or a weight for each from the embedding on, as in 0,1,2 (they are
            brought to a sum of 1).
        out: a file ending in .npy, .safetensors, .parquet or .jsonl; the last two hold the documents' names too.
            Default: vectors.npy, which is not written over.
        part: of a corpus: all of it, or one side of the split that training makes.
        field: the field of a record that holds the text.
        documents: what a document of a .txt file is.
        tokenizer: a tokenizer.json, for a folder that has none.
        seed: of nothing here: vectors are not drawn.
        device: auto, cpu, cuda, ...
        threads: of the CPU; 0: as many as there are cores.
        dtype: auto is float32, in which results repeat.
        json: also write what was made, with the documents' names in order, to this file.
    """
    import numpy as np

    from ..evaluation.understanding import vectors

    target = _target(out)
    found = read_all(texts, part=part, field=field, documents=documents)
    with ready(folder, tokenizer, device, threads, dtype) as (path, model):
        layers = vectors(model, [one.text for one in found])
        if not layers:
            raise SightlineError(
                f"{model.objective.family} keeps no states to average", "Use a family with a transformer"
            )
        usual = None if model.depth.keeps_input else 0  # a bag's states are of the words around
        shares = _shares(mix, usual if layer is None and not mix else layer, len(layers))
        long = sum(len(one) > model.context - 2 for one in model.tokenizer.encode_many([one.text for one in found]))
        if long:
            say(f"{long:,} texts are longer than the model's context; their first {model.context - 2} tokens are read")
    chosen = np.sum([np.float32(share) * one for share, one in zip(shares, layers, strict=True) if share], axis=0)
    ids = tuple(one.id for one in found)
    _written_to(target, chosen, ids)
    again = f"sightline score {shlex.quote(str(path))} {quoted(found[0].text)}"
    at = None if mix else shares.index(1.0)
    made = Embedding(path, model.objective.family, target, ids, int(chosen.shape[1]), at, shares, again)
    return kept(made, json)


def _shares(mix: str, layer: int | None, count: int) -> tuple[float, ...]:
    """The share of each of ``count`` layers in the vectors."""
    if not mix:
        at = count - 1 if layer is None else layer
        if not -count <= at < count:
            raise SightlineError(f"there is no layer {at}", f"Use 0 (the embedding) to {count - 1}")
        return tuple(float(number == at % count) for number in range(count))
    if layer is not None:
        raise SightlineError(f"layer {layer} and a mix of all were both asked for", "Leave one away")
    words = ["1"] * count if mix == "even" else mix.split(",")
    try:
        weights = [float(word) for word in words]
    except ValueError:
        weights = []
    if len(weights) != count or not all(0 <= one < float("inf") for one in weights) or not sum(weights):
        raise SightlineError(
            f"a mix of {mix!r} is not one of {count} layers",
            f"Write even, or {count} weights of 0 or more with commas between, such as {','.join(['1'] * count)}",
        )
    return tuple(one / sum(weights) for one in weights)


def _target(out: Path | None) -> Path:
    """Where vectors go; refused before any work is done."""
    if out is None and VECTORS.exists():
        raise SightlineError(f"{VECTORS} is there already", "Name another file with --out, or the same to replace it")
    target = Path(out or VECTORS)
    if target.suffix not in (".npy", ".safetensors", ".parquet", ".jsonl"):
        raise SightlineError(
            f"vectors cannot be written as {target.suffix or target.name!r}",
            "End --out in .npy .safetensors .parquet .jsonl",
        )
    return target


def _written_to(path: Path, vectors: NDArray[np.float32], ids: Sequence[str]) -> None:
    import numpy as np

    with whole_file(path) as handle:
        if path.suffix == ".npy":
            np.save(handle, vectors, allow_pickle=False)
        elif path.suffix == ".safetensors":
            from safetensors.numpy import save

            handle.write(save({"vectors": vectors}, {"ids": jsons.dumps(list(ids))}))
        elif path.suffix == ".parquet":
            import pyarrow as pa
            import pyarrow.parquet as pq

            column = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), vectors.shape[1])
            pq.write_table(pa.table({"id": list(ids), "vector": column}), handle)
        else:
            for name, vector in zip(ids, vectors.tolist(), strict=True):
                handle.write(jsons.dumps({"id": name, "vector": vector}, ensure_ascii=False).encode() + b"\n")
