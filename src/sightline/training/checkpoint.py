"""Checkpoints: safetensors and JSON, written aside, flushed and renamed; a broken one is never mistaken for a whole."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from ..errors import SightlineError
from ..files import read_json, whole_folder
from ..progress import say

KEEP = 2  # the newest whole checkpoints; an older one is removed only after a newer one is on the disk


@dataclass(frozen=True)
class Checkpoint:
    """Everything a run needs to go on as if it had never stopped.

    Parameters
    ----------
    step : steps done. weights, optimizer : named tensors. best : weights best on dev so far, or empty.
    state : counters and records, as JSON. rng : torch's generator.
    """

    step: int
    weights: dict[str, Tensor]
    optimizer: dict[str, Tensor]
    best: dict[str, Tensor]
    state: dict[str, Any]
    rng: Tensor


def saved(folder: Path, checkpoint: Checkpoint) -> Path:
    """Write a checkpoint below ``folder`` and remove the oldest; returns where it lies."""
    path = folder / f"step-{checkpoint.step:08d}"
    try:
        with whole_folder(path) as aside:
            save_file(_plain(checkpoint.weights), aside / "model.safetensors")
            save_file(_plain({**checkpoint.optimizer, "rng": checkpoint.rng}), aside / "optimizer.safetensors")
            if checkpoint.best:
                save_file(_plain(checkpoint.best), aside / "best.safetensors")
            (aside / "state.json").write_text(
                json.dumps({"step": checkpoint.step, **checkpoint.state}, allow_nan=False), encoding="utf-8"
            )
    except (OSError, SafetensorError) as error:
        raise SightlineError(
            f"the checkpoint {path} could not be written ({error})",
            "Earlier checkpoints are whole: free some space and give the same command again",
        ) from error
    for old in checkpoints(folder)[:-KEEP]:
        shutil.rmtree(old, ignore_errors=True)
    return path


def _plain(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors as safetensors takes them: on the CPU, contiguous, none sharing memory with another."""
    owned: dict[int, str] = {}
    plain: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        own = tensor.detach().to("cpu").contiguous()
        plain[name] = own.clone() if own.data_ptr() in owned and own.numel() else own
        owned[own.data_ptr()] = name
    return plain


def checkpoints(folder: Path) -> list[Path]:
    """Whole checkpoints, oldest first. What a killed run left half written is cleared away."""
    if not folder.is_dir():
        return []
    for rest in folder.iterdir():
        if rest.name.startswith(".") and rest.name.endswith((".aside", ".old")):
            shutil.rmtree(rest, ignore_errors=True)
    return sorted(path for path in folder.iterdir() if re.fullmatch(r"step-\d{8}", path.name))


def newest(folder: Path) -> Checkpoint | None:
    """The newest checkpoint that can be read; broken ones are named and passed over, and none is an error by itself."""
    broken: list[Path] = []
    for path in reversed(checkpoints(folder)):
        try:
            found = read(path)
        except SightlineError as error:
            say(f"{error} Passed over.")
            broken.append(path)
            continue
        return found
    if broken:
        raise SightlineError(
            f"no checkpoint in {folder} can be read: {len(broken)} of {len(broken)} are cut short",
            "Restore one from a backup, or remove the folder to start again",
        )
    return None


def read(path: Path) -> Checkpoint:
    """One checkpoint, or a clear error where a file of it is missing or cut short."""
    try:
        state = read_json(path / "state.json")
        weights = load_file(path / "model.safetensors")
        optimizer = load_file(path / "optimizer.safetensors")
        best = load_file(path / "best.safetensors") if (path / "best.safetensors").exists() else {}
        rng = optimizer.pop("rng")
    except (SafetensorError, OSError, KeyError) as error:
        raise SightlineError(f"the checkpoint {path} is cut short or damaged ({error})", "Use an older one") from error
    return Checkpoint(int(state.pop("step")), weights, optimizer, best, state, rng)


def generator_state() -> Tensor:
    """Torch's generator on the CPU, as bytes."""
    return torch.get_rng_state()


def floats(values: Any) -> list[float]:
    """Numbers as JSON takes them."""
    return [float(value) for value in np.asarray(values, dtype=float).ravel()]
