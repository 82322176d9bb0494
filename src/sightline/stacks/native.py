"""Cached steps on a processor by one native call each, in place of some hundred small calls of torch.

    prompt -> torch -> keys and values -> handed over here -> a few new slots: one call -> their logits
                                                           -> anything else: given back to torch

A step is native only where each new slot sees exactly the padding-free slots up to itself, which is read off the
evaluated sight, and where the shape is one that ``native.cpp`` knows. Everything else is torch's, with equal answers:
in fp32 to rounding; in bf16 sums, norms, softmax and the residual stream stay fp32, so it lies nearer to fp32.

Memory: the matrices are packed anew for the native step, which costs their size once more while the model lives.
"""

from __future__ import annotations

import contextlib
import ctypes
import mmap
import weakref
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ..sight import NO_DOCUMENT, NOTHING, View, seats
from ..sight.rule import FIELDS
from . import compiled
from .cache import Cache
from .head import Head
from .look import Look
from .transformer import Shape, Transformer

LANES = 16
FEW = 64  # new slots in all lines, at most: beyond, torch's products are as quick
ROOM = 128  # slots that a cache grows by
WIDEST = 256  # of a head
ACTIVATIONS = ("gelu", "gelu_tanh", "relu", "relu2", "silu")  # as native.cpp numbers them
_KEPT = (*FIELDS, "tokens")

_Pointer, _Number = ctypes.c_void_p, ctypes.c_int64


class _Normed(ctypes.Structure):
    _fields_ = [("there", _Number), ("gain", _Pointer), ("bias", _Pointer)]


class _Matrix(ctypes.Structure):
    _fields_ = [("packed", _Pointer), ("bias", _Pointer)]


class _Layer(ctypes.Structure):
    _fields_ = [
        *((name, _Normed) for name in ("attention", "queries", "keys", "feed")),
        *((name, _Matrix) for name in ("qkv", "out", "up", "gate", "down")),
    ]


_SIZES = ("layers", "width", "heads", "shared", "head", "hidden", "vocabulary", "context")
_KINDS = ("half", "rms", "rope", "parallel", "activation", "tables", "barred_count")


class _Plan(ctypes.Structure):
    _fields_ = [
        *((name, _Number) for name in (*_SIZES, *_KINDS)),
        ("eps", ctypes.c_double),
        ("scale", ctypes.c_double),
        ("embedding", _Pointer),
        ("places", _Pointer * 2),
        *((name, _Pointer) for name in ("segments", "blank", "frequencies", "barred", "layer")),
        ("norm_embedding", _Normed),
        ("norm_final", _Normed),
        ("table", _Matrix),
    ]


class _Step(ctypes.Structure):
    _fields_ = [
        *((name, _Number) for name in ("lines", "slots", "held", "blocks", "asked", "threads")),
        *((name, _Pointer) for name in ("tokens", "positions", "segments", "first", "seats", "rows")),
        ("seat_count", _Number),
        *((name, _Pointer) for name in ("keys", "values", "logits", "scratch")),
    ]


def held_by(shape: Shape) -> bool:
    """Whether ``native.cpp`` knows this architecture."""
    return (
        shape.norm_place == "pre"
        and shape.positions in ("rope", "learned", "none")
        and shape.position_tables <= 2
        and shape.of_table == shape.width
        and shape.first_norm
        and all(window is None for window in shape.windows)
        and shape.of_head <= WIDEST
    )


class Packed:
    """A model's weights as the native step reads them.

    Parameters
    ----------
    stack, head : of one type, fp32 or bf16, on a processor.
    library : the compiled functions.
    """

    def __init__(self, stack: Transformer, head: Head, library: ctypes.CDLL) -> None:
        self._library = library
        self._threads = torch.get_num_threads()
        self._held: list[Tensor] = []  # what the plan points to
        linears = [part.weight for part in stack.modules() if isinstance(part, nn.Linear)]
        self._free = _huge(sum(map(_packed_size, [*linears, head.weight])), head.weight.dtype)
        shape = stack.shape
        self.shape = shape
        self.dtype = head.weight.dtype
        self.vocabulary = head.weight.shape[0]
        learned, tables = shape.positions == "learned", shape.position_tables
        share = shape.of_head // tables  # of a head, that a dimension of the positions turns
        layers = (_Layer * shape.layers)()
        for to, layer in zip(layers, stack.layers, strict=True):
            attention: Any = layer.attention
            feed: Any = layer.feed
            to.attention = self._norm(layer.norm_attention)  # type: ignore[arg-type]
            to.feed = self._norm(layer.norm_feed)  # type: ignore[arg-type]
            to.queries = self._norm(getattr(attention, "norm_q", None))
            to.keys = self._norm(getattr(attention, "norm_k", None))
            to.qkv, to.out = self._linear(attention.qkv), self._linear(attention.out)
            to.up, to.down = self._linear(feed.up), self._linear(feed.down)
            to.gate = _Matrix() if feed.gate is None else self._linear(feed.gate)
        self._layers = layers
        barred = head.barred.long().contiguous()
        plan = _Plan(
            layers=shape.layers,
            width=shape.width,
            heads=shape.heads,
            shared=shape.shared_heads,
            head=shape.of_head,
            hidden=shape.feed,
            vocabulary=self.vocabulary,
            context=shape.context,
            half=self.dtype == torch.bfloat16,
            rms=shape.norm == "rms",
            rope=shape.position_tables if shape.positions == "rope" else 0,
            parallel=shape.parallel,
            activation=ACTIVATIONS.index(shape.activation),
            tables=shape.position_tables if learned else 0,
            barred_count=len(barred),
            eps=shape.norm_eps,
            scale=shape.attention_scale,
            embedding=self._raw(cast(nn.Embedding, stack.embedding).weight),
            segments=None if stack.segments is None else self._raw(stack.segments.weight),
            blank=None if stack.blank is None else self._raw(stack.blank),
            frequencies=self._raw(
                (1.0 / shape.rope_base ** (torch.arange(0, share, 2, dtype=torch.float32) / share)).repeat(tables)
            ),
            barred=self._raw(barred),
            layer=ctypes.addressof(layers),
            norm_embedding=self._norm(stack.norm_embedding),
            norm_final=self._norm(stack.norm_final),
            table=self._matrix(head.weight, head.bias),
        )
        if learned:
            for number, table in enumerate(stack.places):
                plan.places[number] = self._raw(table.weight)  # type: ignore[arg-type]
        self._plan = plan
        self.address = ctypes.addressof(plan)

    def _raw(self, tensor: Tensor) -> int:
        """Where a tensor's numbers lie; it lives as long as the plan."""
        held = tensor.detach().contiguous()
        self._held.append(held)
        return held.data_ptr()

    def _norm(self, norm: nn.Module | None) -> _Normed:
        if norm is None:
            return _Normed()
        gain, bias = getattr(norm, "weight", None), getattr(norm, "bias", None)
        return _Normed(
            1,
            None if gain is None else self._raw(gain.detach().float()),
            None if bias is None else self._raw(bias.detach().float()),
        )

    def _linear(self, linear: nn.Linear) -> _Matrix:
        return self._matrix(linear.weight, linear.bias)

    def _matrix(self, weight: Tensor, bias: Tensor | None) -> _Matrix:
        outputs, depth = weight.shape
        size = _packed_size(weight)
        to, self._free = self._free[:size], self._free[size:]
        held = weight.detach().contiguous()
        self._library.sightline_pack(
            held.data_ptr(), to.data_ptr(), outputs, depth, weight.element_size(), self._threads
        )
        if bias is None:
            return _Matrix(self._raw(to), None)
        padded = torch.zeros(-(-outputs // LANES) * LANES)
        padded[:outputs] = bias.detach().float()
        return _Matrix(self._raw(to), self._raw(padded))


def _packed_size(weight: Tensor) -> int:
    """Numbers of a packed matrix: outputs up to a multiple of 16, and in half precision inputs to a multiple of 2."""
    outputs, depth = weight.shape
    return -(-outputs // LANES) * LANES * (depth + depth % 2 * (weight.element_size() == 2))


def _huge(count: int, dtype: torch.dtype) -> Tensor:
    """So many numbers in large pages where the system gives them: every step reads all weights, each page once."""
    page = 1 << 21
    block = mmap.mmap(-1, count * dtype.itemsize + page, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        with contextlib.suppress(OSError):
            block.madvise(mmap.MADV_HUGEPAGE)
    whole = torch.frombuffer(block, dtype=dtype)
    return whole[-whole.data_ptr() % page // dtype.itemsize :][:count]


_packed: weakref.WeakKeyDictionary[nn.Module, tuple[int, Packed]] = weakref.WeakKeyDictionary()


def _weights(stack: Transformer, head: Head) -> list[Tensor]:
    return [*stack.parameters(), *head.parameters(), head.barred]


def packed(stack: Transformer, head: Head, library: ctypes.CDLL) -> Packed:
    """The packed weights, made anew where any word of a weight has changed since."""
    mark = 0
    for weight in _weights(stack, head):
        held = weight.detach().contiguous()
        mark = library.sightline_mark(held.data_ptr(), held.numel() * held.element_size(), mark)
        mark ^= weight.data_ptr()
    known = _packed.get(stack)
    if known is None or known[0] != mark:
        known = _packed[stack] = (mark, Packed(stack, head, library))
    return known[1]


def suits(stack: nn.Module, head: nn.Module) -> bool:
    """Whether the native step may answer for this model as it stands now: its parts, device, type and mode."""
    if type(stack) is not Transformer or type(head) is not Head or not held_by(stack.shape):
        return False
    if stack.training or torch.is_grad_enabled() or torch.is_autocast_enabled("cpu"):
        return False
    if head.dense is not None or head.scale != 1.0:
        return False
    dtype = head.weight.dtype
    return dtype in (torch.float32, torch.bfloat16) and all(
        weight.dtype == dtype and weight.device.type == "cpu" for weight in (*stack.parameters(), *head.parameters())
    )


class Kept:
    """Keys and values of slots as the native step keeps them, and the slots themselves.

    Keys are [layers, seats, heads, blocks, width, 16], values [layers, seats, heads, slots, width padded to 16]; a line
    has a seat in them, so that lines leave or change places without moving anything.

    Parameters
    ----------
    weights : the packed model. library : the compiled functions.
    cache : what torch made of the slots so far. look : those slots, perhaps none.
    first : [lines] padding slots before each line's text.
    """

    def __init__(
        self, weights: Packed, library: ctypes.CDLL, cache: Cache, look: Look, first: NDArray[np.int64]
    ) -> None:
        self._weights, self._library = weights, library
        self.count = count = cache.count
        self._first, self._seats = first, np.arange(len(first))
        self._look = look
        self._fields = np.stack([getattr(self._look, name).numpy() for name in _KEPT])
        self._positions = self._look.positions.numpy()
        shape = weights.shape
        self._head = shape.of_head
        blocks = _blocks(count + 1)
        over = (shape.layers, len(first), shape.shared_heads, blocks)
        self._keys = torch.empty(*over, self._head, LANES, dtype=weights.dtype)
        self._values = torch.empty(*over[:3], blocks * LANES, -(-self._head // LANES) * LANES, dtype=weights.dtype)
        self._widen(blocks)
        used = -(-count // LANES)
        for layer, (keys, values) in enumerate(zip(cache.keys, cache.values, strict=True)):
            padded = torch.nn.functional.pad(keys, (0, 0, 0, used * LANES - count))
            self._keys[layer, :, :, :used] = padded.view(*padded.shape[:2], used, LANES, self._head).transpose(3, 4)
            self._values[layer, :, :, :count, : self._head] = values
        self._step = _Step()
        self._address = ctypes.addressof(self._step)
        self._scratch = torch.empty(0, dtype=torch.uint8)
        self._room: tuple[int, int, int] | None = None

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
        keys = self._keys.new_empty(*self._keys.shape[:3], blocks, *self._keys.shape[4:])
        values = self._values.new_empty(*self._values.shape[:3], blocks * LANES, self._values.shape[4])
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
        seats_of = self._seats[chosen]
        if len(np.unique(seats_of)) < len(seats_of):  # a line that is repeated needs keys of its own
            at = torch.from_numpy(seats_of)
            self._keys, self._values = self._keys[:, at], self._values[:, at]
            seats_of = np.arange(len(chosen))
        self._seats = seats_of
        self._fields, self._positions = self._fields[:, chosen], self._positions[chosen]
        self._first = self._first[chosen]

    def back(self, cache: Cache) -> None:
        """Everything to torch's form again."""
        count, at = self.count, torch.from_numpy(self._seats)
        parts: dict[str, Any] = {
            name: torch.from_numpy(self._fields[number, :, :count].copy()) for number, name in enumerate(_KEPT)
        }
        positions = torch.from_numpy(self._positions[:, :count].copy())
        cache.look = replace(self._look, positions=positions, kernel="mask", **parts)
        cache.keys = [keys[at].transpose(3, 4).flatten(2, 3)[:, :, :count] for keys in self._keys]
        cache.values = [values[at][:, :, :count, : self._head] for values in self._values]

    def answer(self, view: View, tokens: NDArray[Any]) -> Tensor | None:
        """Logits [lines, most_asks, vocabulary], and the slots are kept; None, and nothing is: torch must answer."""
        slots, shape = view.slots, self._weights.shape
        lines, new = slots.place.shape
        held, total = self.count, self.count + new
        if lines != len(self._seats) or slots.positions.ndim != self._positions.ndim:
            return None
        shown = view.shown(tokens)
        tables = 1 if slots.positions.ndim == 2 else slots.positions.shape[2]
        if int(shown.max()) >= shape.vocabulary or int(shown.min()) < NOTHING:
            return None
        if shape.positions != "none" and tables != shape.position_tables:
            return None
        if shape.positions == "learned" and (int(slots.positions.max()) >= shape.context or slots.positions.min() < 0):
            return None  # torch says what is wrong
        if shape.segments and not 0 <= int(slots.segment.min()) <= int(slots.segment.max()) < shape.segments:
            return None
        self._grow(total)
        for number, name in enumerate(FIELDS):
            self._fields[number, :, held:total] = getattr(slots, name)
        self._fields[-1, :, held:total] = shown
        self._positions[:, held:total] = slots.positions
        if not self._seen(view, new):
            return None
        rows = np.arange(lines)[:, None] * new + (np.arange(new) if view.most_asks == new else view.asked_slots[0])
        logits = torch.empty(lines, view.most_asks, self._weights.vocabulary)
        arrays = [
            np.ascontiguousarray(array, dtype=np.int64)
            for array in (shown, slots.positions, slots.segment, self._first, self._seats, rows)
        ]
        step = self._step
        step.lines, step.slots, step.held, step.asked = lines, new, held, rows.size
        step.blocks, step.threads = self._keys.shape[3], torch.get_num_threads()
        step.tokens, step.positions, step.segments, step.first, step.seats, step.rows = (
            array.__array_interface__["data"][0] for array in arrays
        )
        step.seat_count = self._keys.shape[1]
        step.keys, step.values, step.logits = self._keys.data_ptr(), self._values.data_ptr(), logits.data_ptr()
        room = (lines * new, step.blocks, step.threads)
        if room != self._room:
            size = self._library.sightline_room(self._weights.address, self._address)
            self._scratch, self._room = torch.empty(size + 64, dtype=torch.uint8), room
        step.scratch = -(-self._scratch.data_ptr() // 64) * 64
        self._library.sightline_step(self._weights.address, self._address)
        self.count = total
        return logits

    def _seen(self, view: View, new: int) -> bool:
        """Whether each new slot is real and sees exactly the real slots up to itself."""
        held, total = self.count, self.count + new
        all_slots = _Fields(*self._fields[: len(FIELDS), :, :total])
        asking = _Fields(*self._fields[: len(FIELDS), :, held:total])
        if bool((asking.document == NO_DOCUMENT).any()):
            return False
        index = np.arange(total)
        expected = (index >= self._first[:, None])[:, None] & (index <= index[held:, None])
        truth = view.whole_sight(seats(asking, True), seats(all_slots, False))
        return bool((truth == expected).all())


@dataclass(frozen=True)
class _Fields:
    place: NDArray[np.int64]
    order: NDArray[np.int64]
    document: NDArray[np.int64]
    segment: NDArray[np.int64]
    stream: NDArray[np.int64]


def _blocks(slots: int) -> int:
    """Blocks of 16 slots in which so many have room, and more that may come."""
    return -(-(slots + ROOM) // ROOM) * ROOM // LANES


def _padding(document: NDArray[np.int64]) -> NDArray[np.int64] | None:
    """[lines] padding slots before the text, or None where there is padding elsewhere."""
    real = document != NO_DOCUMENT
    first = document.shape[1] - real.sum(1)
    return first if bool((real == (np.arange(document.shape[1]) >= first[:, None])).all()) else None


def answered(stack: nn.Module, head: nn.Module, view: View, tokens: NDArray[Any], cache: Cache) -> Tensor | None:
    """Logits [lines, most_asks, vocabulary] of a view whose slots follow those in the cache, by one native call.

    None where torch must answer: no machine code, an architecture or a sight that is not the native step's, a long or
    uneven prompt.
    """
    if view.slots.count > 1 and view.shows.size > FEW:
        return None
    kept = cache.handed
    if kept is None:
        if not suits(stack, head):
            return None
        look = cache.look or Look.of(view, tokens).columns(slice(0, 0))
        first = _padding(look.document.numpy())
        library = compiled.library() if first is not None else None
        if library is None or first is None:
            return None
        assert isinstance(stack, Transformer) and isinstance(head, Head)
        kept = Kept(packed(stack, head, library), library, cache, look, first)
        said = kept.answer(view, tokens)
        if said is not None:
            cache.hand_over(kept)
        return said
    assert isinstance(kept, Kept)
    return kept.answer(view, tokens)
