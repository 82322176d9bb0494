"""Cached steps on a processor by one native call each, in place of some hundred small calls of torch.

    prompt -> torch -> keys and values -> handed over here -> a few new slots: one call -> their logits
    source -> one call, or torch -> what the decoder looks at -> each call      -> anything else: given back to torch

A step is native only where each new slot sees exactly the padding-free slots up to itself, and of a source all of its
slots, which is read off the evaluated sight, and where the shape is one that ``native.cpp`` knows. Everything else is
torch's, with equal answers: in fp32 to rounding; in bf16 sums, norms, softmax and the residual stream stay fp32, so it
lies nearer to fp32.

Where the likeliest tokens are wanted, a run of steps is one call: each shows what the one before chose.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ..sight import NO_DOCUMENT, View, seats
from ..sight.rule import FIELDS
from . import compiled
from .cache import Cache
from .call import Call, Fields, Ints, Run, fill, filled, known, padding, room
from .head import Head
from .look import Look
from .packed import LANES, Packed, packed, parts_of, suits
from .sources import Read
from .two import TwoCache

FEW = 64  # new slots in all lines, at most: beyond, torch's products are as quick
ROOM = 128  # slots that a cache grows by
SECONDS = 0.25  # after which a run comes back, so that it can be stopped and its progress shown
NEVER = -2  # of a run: not reached, since its line had ended
_KEPT = (*FIELDS, "tokens")


class Kept:
    """Keys and values of slots as the native step keeps them, and the slots themselves.

    A line has a seat in them, so that lines leave or change places without moving anything.

    Parameters
    ----------
    weights : the packed model. library : the compiled functions.
    cache : what torch made of the slots so far. look : those slots, perhaps none.
    first : [lines] padding slots before each line's text.
    """

    def __init__(self, weights: Packed, library: ctypes.CDLL, cache: Cache, look: Look, first: Ints) -> None:
        self._weights, self._call = weights, Call(weights, library)
        self.count = count = cache.count
        self._first, self._seats = first, np.arange(len(first))
        self._look = look
        self._across: tuple[Ints, Ints] = first, first  # of a source, which slots are seen; read off in each step
        self._fields = np.stack([getattr(self._look, name).numpy() for name in _KEPT])
        self._positions = self._look.positions.numpy()
        shape, blocks = weights.shape, _blocks(count + 1)
        self._keys, self._values = room(shape, (shape.layers, len(first)), blocks, weights.dtype)
        self._widen(blocks)
        fill(self._keys, self._values, (cache.keys, cache.values))

    def _widen(self, blocks: int) -> None:
        """Room for the fields and positions of so many blocks of slots."""
        more = blocks * LANES - self._fields.shape[2]
        self._fields = np.pad(self._fields, ((0, 0), (0, 0), (0, more)))
        self._positions = np.pad(self._positions, ((0, 0), (0, more), (0, 0))[: self._positions.ndim])

    def _grow(self, slots: int) -> None:
        """Make room for so many slots."""
        old = self._keys.shape[3]
        if slots <= old * LANES:
            return
        blocks = _blocks(slots)
        keys, values = room(self._weights.shape, tuple(self._keys.shape[:2]), blocks, self._keys.dtype)
        keys[:, :, :, :old] = self._keys
        values[:, :, :, : old * LANES] = self._values
        self._keys, self._values = keys, values
        self._widen(blocks)

    def cut(self, count: int) -> None:
        """Forget every slot after the first ``count``."""
        self.count = min(self.count, count)

    def lines(self, index: Tensor) -> None:
        """Keep, repeat or reorder lines."""
        chosen = index.numpy()
        taken = self._seats[chosen]
        again = np.setdiff1d(np.arange(len(taken)), np.unique(taken, return_index=True)[1])
        if len(again):  # a line that is repeated needs keys of its own
            free = np.setdiff1d(np.arange(self._keys.shape[1]), taken)[: len(again)]
            if len(free) < len(again):
                at = torch.from_numpy(taken)
                self._keys, self._values, taken = self._keys[:, at], self._values[:, at], np.arange(len(taken))
            else:
                used, of, to = -(-self.count // LANES), torch.from_numpy(taken[again]), torch.from_numpy(free)
                self._keys[:, to, :, :used] = self._keys[:, of, :, :used]
                self._values[:, to, :, : self.count] = self._values[:, of, :, : self.count]
                taken[again] = free
        self._seats = taken
        self._fields, self._positions = self._fields[:, chosen], self._positions[chosen]
        self._first = self._first[chosen]

    def back(self, cache: Cache) -> None:
        """Everything to torch's form again."""
        count = self.count
        parts: dict[str, Any] = {
            name: torch.from_numpy(self._fields[number, :, :count].copy()) for number, name in enumerate(_KEPT)
        }
        positions = torch.from_numpy(self._positions[:, :count].copy())
        cache.look = replace(self._look, positions=positions, kernel="mask", **parts)
        cache.keys, cache.values = filled(self._keys, self._values, torch.from_numpy(self._seats), count)

    def answer(self, view: View, tokens: NDArray[Any], source: Read | None) -> Tensor | None:
        """Logits [lines, most_asks, vocabulary], and the slots are kept; None, and nothing is: torch must answer."""
        shown = view.shown(tokens)
        if not self._takes(view, shown, source):
            return None
        lines, new = shown.shape
        call, step, slots = self._call, self._call.step, view.slots
        rows = np.arange(lines)[:, None] * new + (np.arange(new) if view.most_asks == new else view.asked_slots[0])
        logits = torch.empty(lines, view.most_asks, self._weights.vocabulary)
        call.point(tokens=shown, positions=slots.positions, segments=slots.segment, rows=rows)
        self._ready(new, rows.size, logits, source)
        call.library.sightline_step(self._weights.address, call.address)
        self.count += new
        step.logits = None
        return logits

    def answers(
        self, view: View, tokens: NDArray[Any], barred: Ints, stops: Sequence[int] | Ints, source: Read | None
    ) -> tuple[Ints, NDArray[np.float64]] | None:
        """Likeliest ids but for those barred, and their log p [rounds, lines], of slots that show the one before.

        Rounds are those of the view's slots, or fewer where every line has written a stop mark, or time is up; a line
        that had ended has ``NEVER``. None, and nothing is kept, where ``answer`` gives None.
        """
        shown = view.shown(tokens)
        if not self._takes(view, shown, source):
            return None
        lines, rounds = shown.shape
        call, slots, size = self._call, view.slots, self._weights.vocabulary
        said, logprobs = np.full((rounds, lines), NEVER), np.zeros((rounds, lines))
        bar = np.zeros(size, np.uint8)
        bar[barred] = 1
        ends = np.asarray(stops, dtype=np.int64)
        logits = torch.empty(lines, size)
        call.point(tokens=shown.T, positions=slots.positions.swapaxes(0, 1), segments=slots.segment.T)
        self._ready(1, lines, logits, source)
        run = Run(rounds, len(ends), SECONDS, *(array.ctypes.data for array in (ends, bar, said, logprobs)))
        done = call.library.sightline_run(self._weights.address, call.address, ctypes.addressof(run))
        held = slice(self.count + 1, self.count + done)
        self._fields[-1, :, held] = said[: done - 1].T
        self.count += done
        return said[:done], logprobs[:done]

    def _ready(self, slots: int, asked: int, logits: Tensor, source: Read | None) -> None:
        call, step = self._call, self._call.step
        call.point(first=self._first, seats=self._seats)
        if source is not None:
            source.beside(call, *self._across)
        step.asked, step.logits = asked, logits.data_ptr()
        call.ready(len(self._seats), slots, self.count, self._keys, self._values)

    def _takes(self, view: View, shown: Ints, source: Read | None) -> bool:
        """Whether the new slots are such as the native step knows; then their fields are written down."""
        slots = view.slots
        lines, new = shown.shape
        held, total = self.count, self.count + new
        if lines != len(self._seats) or slots.positions.ndim != self._positions.ndim:
            return False
        if source is not None and lines != len(source.seats):
            return False
        if not known(self._weights, view, shown):
            return False
        self._grow(total)
        for number, name in enumerate(FIELDS):
            self._fields[number, :, held:total] = getattr(slots, name)
        self._fields[-1, :, held:total] = shown
        self._positions[:, held:total] = slots.positions
        return self._seen(view, new, source)

    def _seen(self, view: View, new: int, source: Read | None) -> bool:
        """Whether each new slot is real and sees exactly the real slots up to itself, and those of the source."""
        held, total = self.count, self.count + new
        all_slots = Fields.of(self._fields[: len(FIELDS), :, :total])
        asking = Fields.of(self._fields[: len(FIELDS), :, held:total])
        real = asking.document != NO_DOCUMENT
        if not bool(real.all()):
            return False
        index = np.arange(total)
        expected = (index >= self._first[:, None])[:, None] & (index <= index[held:, None])
        truth = view.whole_sight(seats(asking, True), seats(all_slots, False))
        if not bool((truth == expected).all()):
            return False
        if source is None:
            return True
        across = source.seen_by(asking, real)
        if across is not None:
            self._across = across
        return across is not None


def _blocks(slots: int) -> int:
    """Blocks of 16 slots in which so many have room, and more that may come."""
    return -(-(slots + ROOM) // ROOM) * ROOM // LANES


def answered(
    stack: nn.Module, head: nn.Module, view: View, tokens: NDArray[Any], cache: Cache | TwoCache
) -> Tensor | None:
    """Logits [lines, most_asks, vocabulary] of a view whose slots follow those in the cache, by one native call.

    Of two stacks the source is in the cache already. None where torch must answer: no machine code, an architecture or
    a sight that is not the native step's, a long or uneven prompt.
    """
    if view.slots.count > 1 and view.shows.size > FEW:
        return None
    kept = _kept(stack, head, view, tokens, cache)
    said = None if kept is None else kept.answer(view, tokens, _source(cache))
    if said is not None and kept is not None:
        _own(cache).hand_over(kept)
    return said


def answered_run(
    stack: nn.Module,
    head: nn.Module,
    view: View,
    tokens: NDArray[Any],
    cache: Cache | TwoCache,
    barred: Ints,
    stops: Sequence[int] | Ints,
) -> tuple[Ints, NDArray[np.float64]] | None:
    """Ids and log p [rounds, lines] of as many steps as the view has slots, or fewer, by one call; see ``Kept``.

    None where torch must answer, slot by slot.
    """
    kept = _kept(stack, head, view, tokens, cache)
    said = None if kept is None else kept.answers(view, tokens, barred, stops, _source(cache))
    if said is not None and kept is not None:
        _own(cache).hand_over(kept)
    return said


def _kept(stack: nn.Module, head: nn.Module, view: View, tokens: NDArray[Any], cache: Cache | TwoCache) -> Kept | None:
    """What holds the slots of the cache, and its source; None where it may hold none."""
    own = _own(cache)
    if own.handed is not None:
        assert isinstance(own.handed, Kept)
        return own.handed
    if not suits(stack, head) or (parts := parts_of(stack)) is None:
        return None
    look, library = own.look or Look.of(view, tokens).columns(slice(0, 0)), compiled.library()
    first = padding(look.document.numpy())
    if library is None or first is None:
        return None
    assert isinstance(head, Head)
    decoder, table = parts
    weights = packed(decoder, table, head, library)
    if isinstance(cache, TwoCache) and cache.handed is None:
        if cache.source is None:
            return None
        cache.hand_over(Read.of(cache.source, weights))
    return Kept(weights, library, own, look, first)


def _own(cache: Cache | TwoCache) -> Cache:
    """What the layers that write hold of their own slots."""
    return cache.target if isinstance(cache, TwoCache) else cache


def _source(cache: Cache | TwoCache) -> Read | None:
    """The source in native form, if there is one."""
    held = cache.handed if isinstance(cache, TwoCache) else None
    return held if isinstance(held, Read) else None
