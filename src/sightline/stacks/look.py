"""A view as tensors: what a stack is given. Which attention kernel serves it is read off the rule and the slots."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..sight import NO_DOCUMENT, Rule, View, everything, past, same_document, same_stream, settled
from ..sight.rule import FIELDS
from .columns import streams_of

if TYPE_CHECKING:
    from torch.nn.attention.flex_attention import BlockMask

Kernel = Literal["full", "triangle", "mask", "flex", "columns"]
_ARRAYS = ("tokens", "positions", *FIELDS)


def on_device(array: NDArray[Any], device: torch.device | str) -> Tensor:
    """The array on a device; a copy to a GPU goes through pinned memory, so that it waits for nothing."""
    tensor = torch.from_numpy(array)
    if torch.device(device).type != "cuda":
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)


@dataclass(frozen=True)
class Look:
    """Shown tokens and their slots, on the device of the stack.

    Parameters
    ----------
    tokens : [lines, slots] ids shown; -1 where a slot shows nothing.
    positions : [lines, slots] or [lines, slots, 2] position ids.
    place, order, document, segment, stream : [lines, slots], what rules compare.
    sight : who may see whom, documents kept apart.
    kernel : ``full`` (all see all), ``triangle`` (each slot sees itself and those before it), ``mask`` (truth values)
        or ``flex`` (block masks, for a stack compiled for a GPU), or ``columns`` (see ``columns``).
    blocks : for ``flex``, the block mask of each reach of the stack's layers (None: the sight as it is).
    turns : cosines and sines of rotary positions, of each base, or None: the stack works them out.
    streams : columns of each predicting stream, for ``columns``.
    """

    tokens: Tensor
    positions: Tensor
    place: Tensor
    order: Tensor
    document: Tensor
    segment: Tensor
    stream: Tensor
    sight: Rule
    kernel: Kernel = "mask"
    blocks: Mapping[int | None, BlockMask] | None = None
    turns: tuple[tuple[Tensor, Tensor], ...] | None = None
    streams: tuple[int, ...] = ()

    @classmethod
    def of(cls, view: View, tokens: Any, device: torch.device | str = "cpu", kernel: Kernel | None = None) -> Look:
        """The view over the rows' tokens [rows, positions]; ``kernel`` forces a choice (a run fixes it once).

        Columns are never given up for ``mask``: they are a matter of the slots' layout, which a run does not change.
        """
        streams = streams_of(view) if kernel in (None, "mask", "columns") else ()
        parts: dict[str, Any] = {name: on_device(getattr(view.slots, name), device) for name in FIELDS}
        return cls(
            tokens=on_device(view.shown(np.asarray(tokens)), device),
            positions=on_device(view.slots.positions, device),
            sight=view.whole_sight,
            kernel="columns" if streams else kernel or kernel_for(view),
            streams=streams,
            **parts,
        )

    def before(self, other: Look) -> Look:
        """These slots followed by those of ``other`` (a cache grows so)."""
        joined: dict[str, Any] = {
            name: torch.cat([getattr(self, name), getattr(other, name)], dim=1) for name in _ARRAYS
        }
        return replace(other, kernel="mask", **joined)

    def lines(self, index: Tensor) -> Look:
        """Some of the lines, or lines repeated."""
        return replace(self, **{name: getattr(self, name)[index] for name in _ARRAYS})

    def columns(self, index: slice) -> Look:
        """Some of the slots of every line."""
        return replace(self, kernel="mask", **{name: getattr(self, name)[:, index] for name in _ARRAYS})


def kernel_for(view: View) -> Kernel:
    """The cheapest kernel that gives exactly the view's sight, for stacks that do not narrow it."""
    document = view.slots.document
    real = document != NO_DOCUMENT
    one_document = bool(((document == document[:, :1]) | ~real).all()) and bool(real[:, 0].all())
    if not one_document:
        return "mask"
    rule = view.whole_sight
    if bool((view.slots.stream == view.slots.stream[0, 0]).all()):
        rule = settled(rule, same_stream, True)
    demands = set(rule.demands) - {same_document, everything}
    if not demands and bool(real.all()):
        return "full"
    rising = bool((np.diff(view.slots.order, axis=1) > 0).all())
    padded_at_end = bool((np.diff(real.astype(np.int8), axis=1) <= 0).all())
    if demands == {past} and rising and padded_at_end:
        return "triangle"  # padding stands behind everything real, so nothing real sees it
    return "mask"
