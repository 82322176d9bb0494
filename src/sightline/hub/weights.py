"""Weights in safetensors, whole or in shards; pickled ones are refused, since reading one can run any code."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from ..errors import SightlineError
from ..files import file_fingerprint, fingerprint, read_json
from .form import Architecture, Form, Link

WHOLE, INDEX = "model.safetensors", "model.safetensors.index.json"
SHARD = 5 * 10**9  # bytes of a file, above which weights are shared out: what is cut off is copied again in parts
PICKLED = ("pytorch_model.bin", "pytorch_model.bin.index.json", "model.pt", "model.pth", "consolidated.00.pth")


def written(tensors: Mapping[str, Tensor], folder: Path, most: int = SHARD) -> None:
    """Write one ``model.safetensors``, or files of at most so many bytes and an index; equal tensors give equal bytes.

    A tensor larger than that has a file of its own.
    """
    shards: list[list[str]] = [[]]
    held = 0
    for name in sorted(tensors):
        if shards[-1] and held + tensors[name].nbytes > most:
            shards.append([])
            held = 0
        shards[-1].append(name)
        held += tensors[name].nbytes
    files = [f"model-{number:05}-of-{len(shards):05}.safetensors" for number in range(1, len(shards) + 1)]
    for file, names in zip(files if len(shards) > 1 else [WHOLE], shards, strict=True):
        plain = {name: tensors[name].detach().to("cpu").contiguous().clone() for name in names}
        save_file(plain, folder / file, metadata={"format": "pt"})
    if len(shards) > 1:
        where = {name: file for file, names in zip(files, shards, strict=True) for name in names}
        total = sum(tensor.nbytes for tensor in tensors.values())
        index = {"metadata": {"total_size": total}, "weight_map": where}
        (folder / INDEX).write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")


def weight_files(folder: Path, class_name: str = "AutoModel") -> list[Path]:
    """The files that hold a folder's weights; ``class_name`` : what of transformers may convert pickled ones.

    Raises
    ------
    SightlineError : there are none, a shard is missing, or they are pickled.
    """
    if (folder / WHOLE).is_file():
        return [folder / WHOLE]
    if (folder / INDEX).is_file():
        listed = read_json(folder / INDEX)
        shards = listed.get("weight_map") if isinstance(listed, dict) else None
        names = sorted(set(map(str, shards.values()))) if isinstance(shards, dict) else []
        if not names or any(Path(name).name != name for name in names):
            raise SightlineError(f"{folder / INDEX} does not list files of its own folder", "Copy the model again")
        for name in names:
            if not (folder / name).is_file():
                raise SightlineError(
                    f"{folder / name} is missing, though {INDEX} names it", "Copy the model again, whole"
                )
        return [folder / name for name in names]
    for name in PICKLED:
        if (folder / name).is_file():
            raise SightlineError(
                f"{folder} holds pickled weights ({name}), which can run any code when they are read",
                "If you trust them, convert them once with transformers: "
                f"{class_name}.from_pretrained({str(folder)!r}).save_pretrained(...) writes {WHOLE}",
            )
    raise SightlineError(f"{folder} holds no weights (no {WHOLE})", "Check the path, or copy the model again")


def weights_fingerprint(folder: Path) -> str:
    """Of a folder's weights, whole or in several files."""
    marks = [file_fingerprint(file) for file in weight_files(folder)]
    return marks[0] if len(marks) == 1 else fingerprint(*marks)


def tensors_in(folder: Path) -> dict[str, Tensor]:
    """Every tensor of a folder, in the type it is stored in."""
    tensors: dict[str, Tensor] = {}
    for file in weight_files(folder):
        try:
            tensors |= load_file(file)
        except (SafetensorError, OSError, ValueError) as error:
            raise SightlineError(
                f"{file} is not whole safetensors ({error})", "It may have been cut short: copy it or save it again"
            ) from error
    return tensors


def _named(architecture: Architecture, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors of another layout by the names that they would be written under today."""
    there = {architecture.current(name): tensor for name, tensor in tensors.items()}
    if any(name.startswith(architecture.prefix) for name in there):
        return there
    head = architecture.table.partition(".")[0]  # saved without its head, or by the first GPT-2
    return {name if name.startswith(head) else architecture.prefix + name: it for name, it in there.items()}


def two_tables(architecture: Architecture, form: Form, tensors: Mapping[str, Tensor]) -> bool:
    """Whether the head's table is there and is not the embedding's, whatever a config.json says.

    transformers unties them then too; a T5 of version 1.1 that it saved again is told by this alone.
    """
    there = _named(architecture, tensors)
    shared = next(link.theirs[0] for link in architecture.links(form) if link.ours == "stack.embedding.weight")
    return {architecture.table, shared} <= there.keys() and not torch.equal(there[architecture.table], there[shared])


def adopted(
    architecture: Architecture, form: Form, tensors: Mapping[str, Tensor], shapes: Mapping[str, torch.Size], file: Path
) -> dict[str, Tensor]:
    """Our tensors (fp32) from those of another layout.

    Parameters
    ----------
    shapes : of our tensors, by name. file : what errors name.
    """
    there = _named(architecture, tensors)
    links = architecture.all_links(form)
    for link in links:
        if link.optional:
            there.setdefault(link.theirs[0], _theirs(link, torch.zeros(shapes[link.ours])))
    wanted = [name for link in links for name in link.theirs]
    missing = [name for name in wanted if name not in there]
    if missing:
        raise SightlineError(
            f"{file} lacks {missing[0]}{_others(missing)}, which a {architecture.class_name} needs",
            f"Copy it again, or save it from transformers' {architecture.class_name}",
        )
    idle = {*wanted, architecture.table}
    extra = sorted(name for name in there if name not in idle and not architecture.ignores(name))
    if extra:
        raise SightlineError(
            f"{file} holds {extra[0]}{_others(extra)}, for which a {architecture.class_name} has no place",
            "Its config.json belongs to another model, or it is one that Sightline does not know",
        )
    return {link.ours: _joined(link, there, shapes[link.ours], file) for link in links}


def _joined(link: Link, there: Mapping[str, Tensor], shape: torch.Size, file: Path) -> Tensor:
    rows = link.sizes or (shape[0],)
    parts = []
    for name, count in zip(link.theirs, rows, strict=True):
        wanted = _theirs(link, torch.empty(count, *shape[1:], device="meta")).shape
        wanted = torch.Size((link.share[1] * wanted[0], *wanted[1:]))
        if there[name].shape != wanted:
            raise SightlineError(
                f"{name} in {file} is {_size(there[name].shape)}, but config.json makes it {_size(wanted)}",
                "The two belong to different models: copy both again",
            )
        parts.append(_ours(link, there[name]).to(torch.float32))
    return (parts[0] if len(parts) == 1 else torch.cat(parts)).contiguous()


def _ours(link: Link, part: Tensor) -> Tensor:
    """A tensor of theirs as we keep it."""
    which, of = link.share
    part = part.chunk(of)[which] if of > 1 else part
    part = (part[0] if link.lifted else part)[link.skipped :]
    return part.T if link.turned else part


def _theirs(link: Link, part: Tensor) -> Tensor:
    """A tensor of ours as they keep it."""
    part = part.T if link.turned else part
    if link.skipped:
        part = torch.cat([part.new_zeros(link.skipped, *part.shape[1:]), part])
    return part[None] if link.lifted else part


def given(architecture: Architecture, form: Form, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The other layout's tensors from ours."""
    tensors: dict[str, list[Tensor]] = {}
    for link in architecture.all_links(form):
        ours = state[link.ours]
        parts = torch.split(ours, list(link.sizes)) if link.sizes else (ours,)
        for name, part in zip(link.theirs, parts, strict=True):
            tensors.setdefault(name, []).append(_theirs(link, part))
    return {name: parts[0] if len(parts) == 1 else torch.cat(parts) for name, parts in tensors.items()}


def same_layout(tensors: Mapping[str, Tensor], shapes: Mapping[str, torch.Size], file: Path) -> dict[str, Tensor]:
    """Our tensors from a file of our own, checked name by name."""
    missing = [name for name in shapes if name not in tensors]
    extra = [name for name in tensors if name not in shapes]
    if missing or extra:
        raise SightlineError(
            f"{file} {'lacks' if missing else 'holds'} {(missing or extra)[0]}{_others(missing or extra)}, "
            f"which config.json {'asks for' if missing else 'has no place for'}",
            "The two belong to different models: copy both again",
        )
    for name, shape in shapes.items():
        if tensors[name].shape != shape:
            raise SightlineError(
                f"{name} in {file} is {_size(tensors[name].shape)}, but config.json makes it {_size(shape)}",
                "The two belong to different models: copy both again",
            )
    return {name: tensors[name].to(torch.float32) for name in shapes}


def _others(names: list[str]) -> str:
    return f" and {len(names) - 1} more" if len(names) > 1 else ""


def _size(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape)) or "a single number"
