"""What is answered whole by one native call: a source that an encoder reads, a target whose places see each other.

source -> encoder, all slots see each other -> states -> keys and values of each layer of a decoder
target -> decoder, all slots see each other, and the source -> logits          nothing of it is kept
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ..sight import NO_DOCUMENT, View
from ..sight.rule import FIELDS
from . import compiled
from .call import Call, Fields, Ints, fill, filled, known, range_of, room, sight_of
from .head import Head
from .layer import Source
from .look import Look
from .packed import LANES, Packed, held_by, packed, suits
from .two import Two, TwoCache

# Slots in all lines, at most: beyond, torch's products are as quick.
MANY = {torch.float32: 64, torch.bfloat16: 256}


@dataclass(frozen=True)
class Read:
    """A source as the native step's layers look at it.

    Parameters
    ----------
    look : its slots [lines, slots].
    keys, values : of each layer and seat, see ``room``. seats : [lines] where a line lies; lines may share a seat.
    """

    look: Look
    keys: Tensor = field(repr=False)
    values: Tensor = field(repr=False)
    seats: Ints

    @classmethod
    def of(cls, source: Source, weights: Packed) -> Read:
        """What torch made of it."""
        lines, slots = source.look.tokens.shape
        keys, values = room(weights.shape, (weights.shape.layers, lines), -(-slots // LANES), weights.dtype)
        fill(keys, values, (source.keys, source.values))
        return cls(source.look, keys, values, np.arange(lines))

    def lines(self, index: Tensor) -> Read:
        """Some of the lines, or lines repeated: nothing is moved."""
        return replace(self, look=self.look.lines(index), seats=self.seats[index.numpy()])

    def back(self) -> Source:
        """In torch's form."""
        keys, values = filled(self.keys, self.values, torch.from_numpy(self.seats), self.look.tokens.shape[1])
        return Source(self.look, keys, values)

    def seen_by(self, asking: Any, real: NDArray[np.bool_]) -> tuple[Ints, Ints] | None:
        """From where and to where [lines] its slots are seen by the real ones of those that ask; see ``range_of``."""
        theirs = Fields.of([getattr(self.look, name).numpy() for name in FIELDS])
        return range_of(sight_of(self.look.sight, asking, theirs), real)

    def beside(self, call: Call, firsts: Ints, ends: Ints) -> None:
        """Let the call look at these slots of it."""
        to = call.step.source
        to.blocks, to.seat_count = self.keys.shape[3], self.keys.shape[1]
        to.keys, to.values = self.keys.data_ptr(), self.values.data_ptr()
        call.point(to=to, seats=self.seats, firsts=firsts, ends=ends)


def read(stack: Two, head: nn.Module, view: View, tokens: NDArray[Any]) -> tuple[Read, Tensor] | None:
    """A source and its states [lines, slots, width], by one native call.

    None where torch must read it: where it could not write, many slots, an encoder or a sight of another kind.
    """
    if view.shows.size > _most(head) or not suits(stack, head) or not held_by(stack.encoder.shape):
        return None
    library = compiled.library()
    if library is None:
        return None
    assert isinstance(head, Head)
    table = stack.embedding.weight
    weights, writes = packed(stack.encoder, table, None, library), packed(stack.decoder, table, head, library)
    call = _whole(view, tokens, weights, library)
    if call is None:
        return None
    lines, count = view.shows.shape
    seat = np.arange(lines)
    room_for = room(writes.shape, (writes.shape.layers, lines), -(-count // LANES), writes.dtype)
    made = Read(Look.of(view, tokens), *room_for, seat)
    made.beside(call, seat, seat)
    states = torch.empty(lines, count, weights.shape.width)
    call.point(rows=np.arange(view.shows.size))
    call.step.asked, call.step.logits = view.shows.size, states.data_ptr()
    _ready(call, lines, count)
    library.sightline_read(weights.address, writes.address, call.address)
    return made, states.to(weights.dtype)


def answered_whole(
    stack: nn.Module, head: nn.Module, view: View, tokens: NDArray[Any], cache: TwoCache
) -> Tensor | None:
    """Logits [lines, most_asks, vocabulary] of a target whose slots all see each other, and of which nothing is held.

    None where torch must answer; see ``read``.
    """
    if view.shows.size > _most(head) or cache.target.count or not view.shows.size or not suits(stack, head):
        return None
    library = compiled.library()
    if library is None or not isinstance(stack, Two):
        return None
    assert isinstance(head, Head)
    weights = packed(stack.decoder, stack.embedding.weight, head, library)
    call = _whole(view, tokens, weights, library)
    if call is None:
        return None
    if cache.handed is None and cache.source is not None:
        cache.hand_over(Read.of(cache.source, weights))
    source, slots = cache.handed, view.slots
    across = source.seen_by(slots, slots.document != NO_DOCUMENT) if isinstance(source, Read) else None
    if across is None or not isinstance(source, Read) or len(source.seats) != slots.lines:
        return None
    source.beside(call, *across)
    lines, count = view.shows.shape
    rows = np.arange(lines)[:, None] * count + view.asked_slots[0]
    logits = torch.empty(lines, view.most_asks, weights.vocabulary)
    call.point(rows=rows)
    call.step.asked, call.step.logits = rows.size, logits.data_ptr()
    _ready(call, lines, count)
    library.sightline_step(weights.address, call.address)
    return logits


def _most(head: nn.Module) -> int:
    return MANY.get(head.weight.dtype, 0) if isinstance(head, Head) else 0


def _whole(view: View, tokens: NDArray[Any], weights: Packed, library: ctypes.CDLL) -> Call | None:
    """A call for all slots of the view; None unless each real slot sees all real ones of its line, padded behind."""
    shown, slots = view.shown(tokens), view.slots
    real = slots.document != NO_DOCUMENT
    seen = range_of(sight_of(view.whole_sight, slots, slots), real) if known(weights, view, shown) else None
    if seen is None or bool(seen[0].any()) or not np.array_equal(real, np.arange(slots.count) < seen[1][:, None]):
        return None
    call = Call(weights, library)
    call.point(tokens=shown, positions=slots.positions, segments=slots.segment)
    call.point(seats=np.arange(slots.lines), counts=seen[1])
    call.step.whole = 1
    return call


def _ready(call: Call, lines: int, count: int) -> None:
    """Room for the keys and values of one layer."""
    weights = call.weights
    call.spare = room(weights.shape, (lines,), -(-count // LANES), weights.dtype)
    call.ready(lines, count, 0, *call.spare)
