"""Cached steps on a GPU: one new slot a line, everything in place, captured once as a CUDA graph and replayed.

    prompt -> torch -> keys and values -> handed over here -> a new slot a line -> [stack and head, replayed] -> logits
                                                           -> anything else: given back to torch

A step through Python launches some hundred kernels, each of which takes a GPU less time than its launch. Here the same
stack and head read and write buffers of a fixed size, so that all launches are one. Slots not filled yet have no
document, so the view's own sight hides them: whatever a sight allows holds here too.

Memory: what ``Cache`` says, for room that doubles as it is needed, and the graph's own activations.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ..sight import NO_DOCUMENT, Rule, View
from ..sight.rule import FIELDS
from .cache import Cache
from .head import Head
from .look import Look, on_device
from .transformer import Transformer

LEAST = 256  # slots that room is made for
_NAMES = ("tokens", *FIELDS)


class Room(Cache):
    """A cache of a fixed size, which new slots are written into.

    Parameters
    ----------
    look : slots [lines, room]; those not filled belong to no document.
    keys, values : of each layer, [lines, heads, room, width].
    at : where the new slots go, [1], on the device.
    """

    def __init__(self, look: Look, keys: list[Tensor], values: list[Tensor], at: Tensor) -> None:
        super().__init__()
        self.look: Look = look
        self.keys, self.values, self.at = keys, values, at

    def seen_with(self, new: Look) -> Look:
        for name in (*_NAMES, "positions"):
            getattr(self.look, name).index_copy_(1, self.at, getattr(new, name))
        return self.look

    def extended(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        return self.keys[layer].index_copy_(2, self.at, keys), self.values[layer].index_copy_(2, self.at, values)

    @property
    def size(self) -> int:
        """Slots there is room for."""
        return self.look.tokens.shape[1]

    def fill(self, look: Look, keys: list[Tensor], values: list[Tensor]) -> None:
        """Hold these slots, from the first on, and no others."""
        lines, count = look.tokens.shape
        for name in (*_NAMES, "positions"):
            getattr(self.look, name)[:lines, :count] = getattr(look, name)
        self.forget(count)
        for mine, theirs in zip((*self.keys, *self.values), (*keys, *values), strict=True):
            mine[:lines, :, :count] = theirs

    def forget(self, count: int) -> None:
        """Nothing is held after the first ``count``."""
        self.look.document[:, count:] = NO_DOCUMENT

    def held(self, lines: Tensor, count: int) -> tuple[Look, list[Tensor], list[Tensor]]:
        """The first ``count`` slots of these lines, copied, with their keys and values."""
        return (
            self.look.columns(slice(0, count)).lines(lines),
            [keys[:, :, :count][lines] for keys in self.keys],
            [values[:, :, :count][lines] for values in self.values],
        )


def answer(stack: nn.Module, head: Head, look: Look, room: Room) -> Tensor:
    """Logits [lines, 1, vocabulary] of a new slot a line, which the room then holds."""
    return head.logits(stack(look, room))


@functools.cache
def compiled_answer() -> Callable[[nn.Module, Head, Look, Room], Tensor]:
    """The same through ``torch.compile``, which takes its time to load."""
    return torch.compile(answer, dynamic=False)


class Step:
    """One new slot for each of so many lines, with room for so many slots.

    Parameters
    ----------
    stack, head : a model's, on one device. like : a look of the kind of those to come (its sight, its positions).
    lines, room : of the buffers.
    compiled : through ``torch.compile``: fewer kernels, after a minute's wait for each new size of the buffers.
    """

    def __init__(self, stack: Transformer, head: Head, like: Look, lines: int, room: int, compiled: bool) -> None:
        self.stack, self.head, self.lines, self.compiled = stack, head, lines, compiled
        shape, device, dtype = stack.shape, head.weight.device, head.weight.dtype
        tables = like.positions.shape[2] if like.positions.dim() == 3 else 1
        self._new = torch.zeros(len(_NAMES) + tables + 1, lines, 1, dtype=torch.long, device=device)  # one copy a step
        self.look = _look(self._new[:-1], like.positions.dim(), like.sight)
        held = torch.zeros(len(_NAMES) + tables, lines, room, dtype=torch.long, device=device)
        buffers = torch.zeros(
            2, shape.layers, lines, shape.shared_heads, room, shape.of_head, dtype=dtype, device=device
        )
        self.room = Room(
            _look(held, like.positions.dim(), like.sight), list(buffers[0]), list(buffers[1]), self._new[-1, 0]
        )
        self._graph = self._captured() if device.type == "cuda" else None

    def _answer(self) -> Tensor:
        return (compiled_answer() if self.compiled else answer)(self.stack, self.head, self.look, self.room)

    def _captured(self) -> torch.cuda.CUDAGraph:
        """What is launched to answer; libraries and compilers do what they do once before that."""
        aside = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(aside):
            for _ in range(2):
                self._answer()
        torch.cuda.current_stream().wait_stream(aside)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            self._logits = self._answer()
        return graph

    def __call__(self, new: NDArray[np.int64]) -> Tensor:
        """Logits [lines, 1, vocabulary], overwritten by the next call.

        ``new`` [numbers, lines]: token, the five fields, positions, and where the slots go.
        """
        self._new[..., 0].copy_(on_device(new, self._new.device))
        if self._graph is None:
            return self._answer()
        self._graph.replay()
        return self._logits


def _look(numbers: Tensor, dimensions: int, sight: Rule) -> Look:
    """A look whose arrays are views of [token, fields, positions; lines; slots]."""
    positions = numbers[len(_NAMES) :]
    return Look(
        positions=positions.permute(1, 2, 0) if dimensions == 3 else positions[0],
        sight=sight,
        **dict(zip(_NAMES, numbers, strict=False)),
    )


class Static:
    """Slots in a step's room. A line has a seat there, so that lines leave without moving anything.

    Parameters
    ----------
    stack, head : the model's. cache : what torch made of the slots so far. compiled : see ``Step``.
    """

    def __init__(self, stack: Transformer, head: Head, cache: Cache, compiled: bool) -> None:
        assert cache.look is not None
        self._parts, self._like, self._compiled = (stack, head), cache.look, compiled
        self.count = cache.count
        self._move(cache.look, cache.keys, cache.values)

    def _move(self, look: Look, keys: list[Tensor], values: list[Tensor], room: int = LEAST) -> None:
        """Into a step of the right size, the old one where it fits."""
        lines, count = look.tokens.shape
        while room <= count:
            room *= 2
        step = getattr(self, "_step", None)
        if step is None or (step.lines, step.room.size) != (lines, room):
            step = Step(*self._parts, self._like, lines, room, self._compiled)
        step.room.fill(look, keys, values)
        self._step, self._seats = step, np.arange(lines)

    def _held(self) -> tuple[Look, list[Tensor], list[Tensor]]:
        room = self._step.room
        return room.held(on_device(self._seats, room.at.device), self.count)

    def cut(self, count: int) -> None:
        """Forget every slot after the first ``count``."""
        if count < self.count:
            self.count = count
            self._step.room.forget(count)

    def lines(self, index: Tensor) -> None:
        """Keep, repeat or reorder lines; where half of the seats are empty, those left move together."""
        self._seats = self._seats[index.cpu().numpy()]
        if len(np.unique(self._seats)) < len(self._seats) or 2 * len(self._seats) <= self._step.lines:
            self._move(*self._held(), room=self._step.room.size)

    def back(self, cache: Cache) -> None:
        """Everything to torch's form again."""
        cache.look, cache.keys, cache.values = self._held()

    def answer(self, view: View, tokens: NDArray[Any]) -> Tensor | None:
        """Logits [lines, 1, vocabulary], and the slots are kept; None, and nothing is: torch must answer."""
        slots = view.slots
        if slots.lines != len(self._seats) or slots.positions.ndim != self._like.positions.dim():
            return None
        if view.whole_sight != self._like.sight:
            return None
        if self.count == self._step.room.size:
            self._move(*self._held())
        positions = np.moveaxis(slots.positions[:, 0].reshape(slots.lines, -1), 1, 0)
        new = np.zeros((len(_NAMES) + len(positions) + 1, self._step.lines), np.int64)
        new[:-1, self._seats] = [
            view.shown(tokens)[:, 0],
            *(getattr(slots, name)[:, 0] for name in FIELDS),
            *positions,
        ]
        new[-1] = self.count
        logits = self._step(new)
        self.count += 1
        if len(self._seats) == self._step.lines and bool((np.diff(self._seats) == 1).all()):
            return logits.clone()
        return logits[on_device(self._seats, logits.device)]


def suits(stack: nn.Module, head: nn.Module) -> bool:
    """Whether a step of this model may be captured as it stands now."""
    if type(stack) is not Transformer or type(head) is not Head:
        return False
    if stack.training or torch.is_grad_enabled() or torch.is_autocast_enabled(head.weight.device.type):
        return False
    return stack.shape.positions != "alibi"  # its slopes come from the processor, in every step


def replayed(
    stack: nn.Module, head: nn.Module, view: View, tokens: NDArray[Any], cache: Cache, compiled: bool = False
) -> Tensor | None:
    """Logits [lines, 1, vocabulary] of a view of one slot a line that follow those in the cache, by one replay.

    None where torch must answer: a prompt, a model that may not be captured, another sight than that of the cache.
    """
    if view.slots.count != 1 or not cache.count:
        return None
    kept = cache.handed
    if kept is None:
        if not suits(stack, head) or view.whole_sight != getattr(cache.look, "sight", None):
            return None
        assert isinstance(stack, Transformer) and isinstance(head, Head)
        kept = Static(stack, head, cache, compiled)
        cache.hand_over(kept)
    assert isinstance(kept, Static)
    return kept.answer(view, tokens)
