"""A call of the machine code: a step as it takes it, room for keys and values as it lays them, and what it knows."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from ..sight import NO_DOCUMENT, NOTHING, View, seats
from ..sight.rule import FIELDS
from .packed import LANES, TABLES, Number, Packed, Pointer
from .shape import Shape

Ints = NDArray[np.int64]


class Source(ctypes.Structure):
    """As native.cpp has it."""

    _fields_ = [
        ("blocks", Number),
        ("seat_count", Number),
        *((name, Pointer) for name in ("seats", "firsts", "ends", "keys", "values")),
    ]


class Step(ctypes.Structure):
    """As native.cpp has it."""

    _fields_ = [
        *((name, Number) for name in ("lines", "slots", "held", "blocks", "asked", "threads")),
        *((name, Pointer) for name in ("tokens", "positions", "segments", "first", "seats", "rows")),
        ("seat_count", Number),
        *((name, Pointer) for name in ("keys", "values", "logits", "scratch")),
        ("whole", Number),
        ("counts", Pointer),
        ("source", Source),
    ]


class Run(ctypes.Structure):
    """As native.cpp has it."""

    _fields_ = [
        ("rounds", Number),
        ("stop_count", Number),
        ("seconds", ctypes.c_double),
        *((name, Pointer) for name in ("stops", "barred", "tokens", "logprobs")),
    ]


class Call:
    """A step as the machine code takes it; what it points to is held until the next one."""

    def __init__(self, weights: Packed, library: ctypes.CDLL) -> None:
        self.weights, self.library = weights, library
        self.step = Step()
        self.address = ctypes.addressof(self.step)
        self._scratch = torch.empty(0, dtype=torch.uint8)
        self._room: tuple[int, ...] | None = None
        self._held: dict[tuple[bool, str], Any] = {}
        self.spare: tuple[Tensor, Tensor] | None = None  # keys and values that nothing is kept of

    def point(self, to: Any = None, **arrays: NDArray[Any]) -> None:
        """Whole numbers in order, and where they lie."""
        for name, array in arrays.items():
            held = self._held[to is None, name] = np.ascontiguousarray(array, dtype=np.int64)
            setattr(self.step if to is None else to, name, held.__array_interface__["data"][0])

    def ready(self, lines: int, slots: int, held: int, keys: Tensor, values: Tensor) -> None:
        """So many lines and slots, and where keys [layers, seats, heads, blocks, width, 16] and values go."""
        step = self.step
        step.lines, step.slots, step.held, step.blocks = lines, slots, held, keys.shape[-3]
        step.seat_count, step.threads = keys.shape[-5], torch.get_num_threads()
        step.keys, step.values = keys.data_ptr(), values.data_ptr()
        room = (lines * slots, step.blocks, step.source.blocks, step.threads)
        if room != self._room:
            size = self.library.sightline_room(self.weights.address, self.address)
            self._scratch, self._room = torch.empty(size + 64, dtype=torch.uint8), room
        step.scratch = -(-self._scratch.data_ptr() // 64) * 64


def room(shape: Shape, over: tuple[int, ...], blocks: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Room for keys [over, heads, blocks, width, 16] and values [over, heads, slots, width padded to 16]."""
    over, head = (*over, shape.shared_heads), shape.of_head
    keys = torch.empty(*over, blocks, head, LANES, dtype=dtype)
    return keys, torch.empty(*over, blocks * LANES, -(-head // LANES) * LANES, dtype=dtype)


def fill(keys: Tensor, values: Tensor, torchs: tuple[list[Tensor], list[Tensor]]) -> None:
    """Torch's keys and values of each layer, [lines, heads, slots, width], into such room."""
    for layer, (of_keys, of_values) in enumerate(zip(*torchs, strict=True)):
        count, head = of_keys.shape[2:]
        used = -(-count // LANES)
        padded = F.pad(of_keys, (0, 0, 0, used * LANES - count))
        keys[layer, :, :, :used] = padded.view(*padded.shape[:2], used, LANES, head).transpose(3, 4)
        values[layer, :, :, :count, :head] = of_values


def filled(keys: Tensor, values: Tensor, at: Tensor, count: int) -> tuple[list[Tensor], list[Tensor]]:
    """The same back again, of the lines with these seats."""
    head = keys.shape[-2]
    return (
        [layer[at].transpose(3, 4).flatten(2, 3)[:, :, :count] for layer in keys],
        [layer[at][:, :, :count, :head] for layer in values],
    )


def known(weights: Packed, view: View, shown: Ints) -> bool:
    """Whether the stack has rows for what these slots show, for their positions and for their segments."""
    slots, shape = view.slots, weights.shape
    tables = 1 if slots.positions.ndim == 2 else slots.positions.shape[2]
    if int(shown.max()) >= shape.vocabulary or int(shown.min()) < NOTHING:
        return False
    if shape.positions != "none" and tables != shape.position_tables:
        return False
    told = shape.positions in TABLES or shape.placed
    if told and (int(slots.positions.max()) >= shape.context or slots.positions.min() < 0):
        return False  # torch says what is wrong
    return not shape.segments or 0 <= int(slots.segment.min()) <= int(slots.segment.max()) < shape.segments


@dataclass(frozen=True)
class Fields:
    """What rules compare, of slots [lines, slots]."""

    place: Ints
    order: Ints
    document: Ints
    segment: Ints
    stream: Ints

    @classmethod
    def of(cls, arrays: Sequence[Ints] | Ints) -> Fields:
        """In the order of ``FIELDS``."""
        return cls(**dict(zip(FIELDS, arrays, strict=True)))


def range_of(truth: NDArray[np.bool_], real: NDArray[np.bool_]) -> tuple[Ints, Ints] | None:
    """From where and to where [lines] the real askers of a line see; None unless all see one stretch without gaps.

    Parameters
    ----------
    truth : [lines, askers, seen]. real : [lines, askers].
    """
    index, asker = np.arange(truth.shape[2]), real.argmax(1)
    row = truth[np.arange(len(truth)), asker] & real.any(1, keepdims=True)
    firsts, ends = row.argmax(1), np.where(row.any(1), len(index) - row[:, ::-1].argmax(1), 0)
    expected = (index >= firsts[:, None]) & (index < ends[:, None])
    return (firsts, ends) if bool(((truth == expected[:, None]) | ~real[:, :, None]).all()) else None


def sight_of(sight: Any, asking: Any, seen: Any) -> NDArray[np.bool_]:
    """Who sees whom, [lines, askers, seen]."""
    shape = (*asking.place.shape, seen.place.shape[1])
    return np.broadcast_to(sight(seats(asking, True), seats(seen, False)), shape)


def padding(document: Ints) -> Ints | None:
    """[lines] padding slots before the text, or None where there is padding elsewhere."""
    real = document != NO_DOCUMENT
    first = document.shape[1] - real.sum(1)
    return first if bool((real == (np.arange(document.shape[1]) >= first[:, None])).all()) else None
