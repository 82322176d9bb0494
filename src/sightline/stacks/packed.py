"""A model's weights as the native step reads them: matrices packed 16 outputs wide, and a plan of where all of it lies.

Memory: the matrices are packed anew for the native step, which costs their size once more while the model lives.
"""

from __future__ import annotations

import contextlib
import ctypes
import mmap
import weakref
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any, cast

import torch
from torch import Tensor, nn

from .head import Head
from .parts import frequencies, sinusoids
from .shape import Shape
from .transformer import Transformer
from .two import Two

LANES = 16
WIDEST = 256  # of a head
TABLES = ("learned", "sinusoidal")  # positions of which there are as many as the context
ACTIVATIONS = ("gelu", "gelu_tanh", "relu", "relu2", "silu")  # as native.cpp numbers them

Pointer, Number = ctypes.c_void_p, ctypes.c_int64


class _Normed(ctypes.Structure):
    _fields_ = [("there", Number), ("gain", Pointer), ("bias", Pointer)]


class _Matrix(ctypes.Structure):
    _fields_ = [("packed", Pointer), ("bias", Pointer)]


class _Layer(ctypes.Structure):
    _fields_ = [
        *((name, _Normed) for name in ("attention", "queries", "keys", "feed")),
        *((name, _Normed) for name in ("cross", "cross_queries", "cross_keys")),
        *((name, _Matrix) for name in ("qkv", "out", "up", "gate", "down", "cross_q", "cross_kv", "cross_out")),
    ]


_SIZES = ("layers", "width", "heads", "shared", "head", "hidden", "vocabulary", "context")
_KINDS = ("half", "rms", "rope", "parallel", "activation", "tables", "barred_count")


class _Plan(ctypes.Structure):
    _fields_ = [
        *((name, Number) for name in (*_SIZES, *_KINDS)),
        ("eps", ctypes.c_double),
        ("scale", ctypes.c_double),
        ("embedding", Pointer),
        ("places", Pointer * 2),
        *((name, Pointer) for name in ("segments", "blank", "frequencies", "barred", "layer")),
        ("norm_embedding", _Normed),
        ("norm_final", _Normed),
        ("table", _Matrix),
    ]


def held_by(shape: Shape) -> bool:
    """Whether ``native.cpp`` knows this architecture."""
    return (
        shape.norm_place == "pre"
        and shape.positions in ("rope", "none", *TABLES)
        and shape.position_tables <= 2
        and shape.of_table == shape.width
        and shape.first_norm
        and shape.embedding_scale == 1.0
        and not shape.experts
        and all(window is None for window in shape.windows)
        and shape.of_head <= WIDEST
    )


class Packed:
    """A model's weights as the native step reads them.

    Parameters
    ----------
    stack, table, head : layers, the tokens' vectors and what grades, of one type, fp32 or bf16, on a processor; an
        encoder has no head.
    library : the compiled functions.
    """

    def __init__(self, stack: Transformer, table: Tensor, head: Head | None, library: ctypes.CDLL) -> None:
        self._library = library
        self._threads = torch.get_num_threads()
        self._held: list[Tensor] = []  # what the plan points to
        linears = [part.weight for part in stack.modules() if isinstance(part, nn.Linear)]
        if head is not None:
            linears.append(head.weight)
        self._free = _huge(sum(map(_packed_size, linears)), table.dtype)
        shape = stack.shape
        self.shape = shape
        self.dtype = table.dtype
        self.vocabulary = (table if head is None else head.weight).shape[0]
        tables = shape.position_tables
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
            across: Any = layer.cross
            if across is not None:
                to.cross = self._norm(layer.norm_cross)  # type: ignore[arg-type]
                to.cross_queries = self._norm(getattr(across, "norm_q", None))
                to.cross_keys = self._norm(getattr(across, "norm_k", None))
                to.cross_q, to.cross_kv = self._linear(across.queries), self._linear(across.kv)
                to.cross_out = self._linear(across.out)
        self._layers = layers
        places = [cast(nn.Embedding, one).weight for one in stack.places] if shape.positions == "learned" else []
        if shape.positions == "sinusoidal" or shape.placed:
            places = [sinusoids(torch.arange(shape.context)[None], shape.width, shape.sines_first)[0].to(self.dtype)]
        barred = torch.empty(0, dtype=torch.long) if head is None else head.barred.long().contiguous()
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
            tables=len(places),
            barred_count=len(barred),
            eps=shape.norm_eps,
            scale=shape.attention_scale,
            embedding=self._raw(table),
            segments=None if stack.segments is None else self._raw(stack.segments.weight),
            blank=None if stack.blank is None else self._raw(stack.blank),
            frequencies=self._raw(frequencies(share, shape.rope_base, shape.stretch).repeat(tables)),
            barred=self._raw(barred),
            layer=ctypes.addressof(layers),
            norm_embedding=self._norm(stack.norm_embedding),
            norm_final=self._norm(stack.norm_final),
            table=_Matrix() if head is None else self._matrix(head.weight, head.bias),
        )
        for number, place in enumerate(places):
            plan.places[number] = self._raw(place)
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


class _Looked:
    """Stacks whose weights were looked at, where none changes: at their words, and at their types."""

    def __init__(self) -> None:
        self.packed: weakref.WeakSet[nn.Module] = weakref.WeakSet()
        self.suits: weakref.WeakSet[nn.Module] = weakref.WeakSet()


_looked_at: ContextVar[_Looked | None] = ContextVar("looked at", default=None)


@contextlib.contextmanager
def steady() -> Iterator[None]:
    """No weight changes in here: whether one has is asked once of a stack, which takes as long as a step."""
    mark = _looked_at.set(_looked_at.get() or _Looked())
    try:
        yield
    finally:
        _looked_at.reset(mark)


def packed(stack: Transformer, table: Tensor, head: Head | None, library: ctypes.CDLL) -> Packed:
    """The packed weights, made anew where any word of a weight has changed since."""
    known, seen = _packed.get(stack), _looked_at.get()
    if known is not None and seen is not None and stack in seen.packed:
        return known[1]
    mark = 0
    weights = [*stack.parameters(), table, *([] if head is None else [*head.parameters(), head.barred])]
    for weight in {id(weight): weight for weight in weights}.values():
        held = weight.detach().contiguous()
        mark = library.sightline_mark(held.data_ptr(), held.numel() * held.element_size(), mark)
        mark ^= weight.data_ptr()
    if known is None or known[0] != mark:
        known = _packed[stack] = (mark, Packed(stack, table, head, library))
    if seen is not None:
        seen.packed.add(stack)
    return known[1]


def parts_of(stack: nn.Module) -> tuple[Transformer, Tensor] | None:
    """The layers that write, and the table of tokens' vectors; None: of another stack."""
    if type(stack) is Transformer and stack.embedding is not None:
        return stack, stack.embedding.weight
    return (stack.decoder, stack.embedding.weight) if type(stack) is Two else None


def suits(stack: nn.Module, head: nn.Module) -> bool:
    """Whether the native step may answer for this model as it stands now: its parts, device, type and mode."""
    if type(head) is not Head or (parts := parts_of(stack)) is None or not held_by(parts[0].shape):
        return False
    if stack.training or torch.is_grad_enabled() or torch.is_autocast_enabled("cpu"):
        return False
    if head.dense is not None or head.scale != 1.0:
        return False
    seen, dtype = _looked_at.get(), head.weight.dtype
    if seen is not None and stack in seen.suits:
        return True
    right = dtype in (torch.float32, torch.bfloat16) and all(
        weight.dtype == dtype and weight.device.type == "cpu" for weight in (*stack.parameters(), *head.parameters())
    )
    if seen is not None and right:
        seen.suits.add(stack)
    return right
