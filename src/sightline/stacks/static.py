"""Cached steps on a GPU: one new slot a line, everything in place, captured once as a CUDA graph and replayed.

    prompt -> torch -> keys and values -> handed over here -> a new slot a line -> [stack and head, replayed] -> logits
                                                           -> anything else: given back to torch

A step through Python launches some hundred kernels, each of which takes a GPU less time than its launch. Here the same
stack and head read and write buffers of a fixed size, so that all launches are one. Slots not filled yet have no
document, so the view's own sight hides them: whatever a sight allows holds here too.

Where the likeliest tokens are wanted, a run of steps is planned at once: each shows what the one before chose, on the
device, and the answers are fetched together. Python then costs a run what it costs a step elsewhere.

Memory: what ``Cache`` says, for room that doubles as it is needed, and the graph's own activations. The last step of a
stack is kept for the next text where its room is below 1 GiB.

Of two stacks the decoder's steps are replayed, beside a source in buffers of a fixed size too.
"""

from __future__ import annotations

import contextlib
import functools
import gc
import weakref
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from ..progress import say
from ..sight import NO_DOCUMENT, Rule, View
from ..sight.rule import FIELDS
from .cache import Cache
from .head import Head
from .layer import Source
from .look import Look, on_device
from .shape import Shape
from .transformer import Transformer
from .two import Two, TwoCache

LEAST = 256  # slots that room is made for
MOST = 64  # steps of a run
SOURCES = 64  # slots that room for a source is a multiple of
SPARE = 2**30  # bytes of room, above which a step is not kept for the next text
_NAMES = ("tokens", *FIELDS)
T = TypeVar("T")


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


class Sums(TorchFunctionMode):
    """A product with one row is written as sums, which a compiler joins with what stands before and behind it.

    At 1 B on an H100 a step takes 8% less time so (benchmarks/results/gpu-decode.md).
    """

    def __torch_function__(self, call: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if call is not F.linear or args[0].numel() != args[0].shape[-1]:
            return call(*args, **(kwargs or {}))
        row, weight, bias = (*args, None)[:3]
        out = (row.reshape(1, -1) * weight).sum(-1).view(*row.shape[:-1], -1)
        return out if bias is None else out + bias


def answer(stack: nn.Module, head: Head, look: Look, room: Room, source: Source | None) -> Tensor:
    """Logits [lines, 1, vocabulary] of a new slot a line, which the room then holds."""
    with Sums() if torch.compiler.is_compiling() and look.tokens.is_cuda else contextlib.nullcontext():
        if source is None:
            return head.logits(stack(look, room))
        assert isinstance(stack, Two)
        return head.logits(stack.written(look, room, source))


def choice(
    stack: nn.Module, head: Head, look: Look, room: Room, source: Source | None, bar: Tensor
) -> tuple[Tensor, Tensor]:
    """The likeliest id of each line [lines] that ``bar`` [vocabulary], 0 or -inf, allows, and its log p."""
    said = answer(stack, head, look, room, source)[:, 0]
    token = (said + bar).argmax(-1)
    return token, said.log_softmax(-1).gather(1, token[:, None])[:, 0]


@functools.cache
def compiled(call: Callable[..., T]) -> Callable[..., T]:
    """The same through ``torch.compile``, which takes its time to load."""
    return torch.compile(call, dynamic=False)


def capturing(step: Step, call: Callable[[], T]) -> tuple[torch.cuda.CUDAGraph, T] | None:
    """See ``captured``; None where a decoder of two stacks cannot be: then its steps are launched one by one."""
    if step.plain:
        return None
    try:
        return captured(call)
    except RuntimeError as error:
        if step.source is None:
            raise
        step.plain = True
        say(f"Steps of this decoder are not replayed as a graph ({str(error).splitlines()[0]}): slower, and as right")
        return None


def captured(call: Callable[[], T]) -> tuple[torch.cuda.CUDAGraph, T]:
    """What is launched by a call, and where its results will lie; libraries do what they do once before that."""
    aside = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    aside.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(aside):
        for _ in range(2):
            call()
    torch.cuda.current_stream().wait_stream(aside)
    graph = torch.cuda.CUDAGraph()
    collects = gc.isenabled()
    gc.disable()  # memory that is given back meanwhile breaks it off
    try:
        with torch.cuda.graph(graph):
            result = call()
    finally:
        if collects:
            gc.enable()
    return graph, result


class Step:
    """One new slot for each of so many lines, with room for so many slots.

    Parameters
    ----------
    stack, head : a model's, on one device. like : a look of the kind of those to come (its sight, its positions).
    lines, room : of the buffers. source : like those to come, where there is one.
    compiled : through ``torch.compile``: fewer kernels, after a minute's wait for each new size of the buffers.
    """

    def __init__(
        self,
        stack: Transformer | Two,
        head: Head,
        like: Look,
        lines: int,
        room: int,
        compiled: bool,
        source: Source | None = None,
    ) -> None:
        self._parts = weakref.ref(stack), weakref.ref(head)  # a step kept for the next text keeps no model alive
        self.lines, self.compiled = lines, compiled
        shape, device, dtype = _shape(stack), head.weight.device, head.weight.dtype
        tables = like.positions.shape[2] if like.positions.dim() == 3 else 1
        self._new = torch.zeros(len(_NAMES) + tables + 1, lines, 1, dtype=torch.long, device=device)  # one copy a step
        self.look = _look(self._new[:-1], like.positions.dim(), like.sight)
        held = torch.zeros(len(_NAMES) + tables, lines, room, dtype=torch.long, device=device)

        def buffers(slots: int) -> tuple[list[Tensor], list[Tensor]]:
            """Keys and values, each on its own: a compiled graph might copy all that share memory."""
            size = (lines, shape.shared_heads, slots, shape.of_head)
            keys, values = (
                [torch.zeros(size, dtype=dtype, device=device) for _ in range(shape.layers)] for _ in range(2)
            )
            return keys, values

        self.room = Room(_look(held, like.positions.dim(), like.sight), *buffers(room), self._new[-1, 0])
        self.source: Source | None = None
        if source is not None:
            slots = _rounded(source)
            numbers = torch.zeros(len(_NAMES) + tables, lines, slots, dtype=torch.long, device=device)
            look = _look(numbers, source.look.positions.dim(), source.look.sight)
            self.source = Source(look, *buffers(slots))
        self._graph: torch.cuda.CUDAGraph | None = None
        self.plain = False  # it could not be captured
        self._run: Run | None = None
        self.user: weakref.ref[Static] | None = None
        self.kind: tuple[Any, ...] = ()

    @classmethod
    def of(
        cls,
        user: Static,
        stack: Transformer | Two,
        head: Head,
        like: Look,
        lines: int,
        room: int,
        compiled: bool,
        source: Source | None,
    ) -> Step:
        """The stack's last step, if it is of this kind and free; else a new one."""
        across = None if source is None else (source.look.sight, _rounded(source))
        kind = (like.sight, like.positions.shape[2:], lines, room, compiled, across, _stored(stack), _stored(head))
        step = _last.get(stack)
        if step is None or step.kind != kind or (step.user is not None and step.user() not in (None, user)):
            step = cls(stack, head, like, lines, room, compiled, source)
            step.kind = kind
            if sum(buffer.nbytes for buffer in (*step.room.keys, *step.room.values)) <= SPARE:
                _last[stack] = step
        step.user = weakref.ref(user)
        return step

    def through(self, call: Callable[..., T]) -> Callable[..., T]:
        """The call as this step makes it."""
        return compiled(call) if self.compiled else call

    @property
    def parts(self) -> tuple[Transformer | Two, Head]:
        """Stack and head."""
        stack, head = (part() for part in self._parts)
        assert isinstance(stack, Transformer | Two) and isinstance(head, Head), "a step outlived its model"
        return stack, head

    def beside(self, source: Source | None) -> None:
        """Look at this source from now on, line by line."""
        mine = self.source
        if source is None or mine is None:
            return
        lines, count = source.look.tokens.shape
        for name in (*_NAMES, "positions"):
            getattr(mine.look, name)[:lines, :count] = getattr(source.look, name)
        mine.look.document[:, count:] = NO_DOCUMENT
        for ours, theirs in zip((*mine.keys, *mine.values), (*source.keys, *source.values), strict=True):
            ours[:lines, :, :count] = theirs

    def _answer(self) -> Tensor:
        return self.through(answer)(*self.parts, self.look, self.room, self.source)

    def __call__(self, new: NDArray[np.int64]) -> Tensor:
        """Logits [lines, 1, vocabulary], overwritten by the next call.

        ``new`` [numbers, lines]: token, the five fields, positions, and where the slots go.
        """
        self.new.copy_(on_device(new, self._new.device))
        if self._new.device.type != "cuda":
            return self._answer()
        if self._graph is None:  # a slot that is overwritten afterwards, by the same numbers, may be written before
            found = capturing(self, self._answer)
            if found is None:
                return self._answer()
            self._graph, self._logits = found
        self._graph.replay()
        return self._logits

    @property
    def new(self) -> Tensor:
        """What is known of the new slots, [numbers, lines]: token, the five fields, positions, where the slots go."""
        return self._new[..., 0]

    def run(self, plan: NDArray[np.int64], bar: Tensor) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """See ``Run``."""
        if self._run is None:
            self._run = Run(self)
        return self._run(self, plan, bar)


_last: weakref.WeakKeyDictionary[nn.Module, Step] = weakref.WeakKeyDictionary()


def _stored(module: nn.Module) -> tuple[int, ...]:
    """Where the weights lie: a captured step reads them there."""
    return tuple(weight.data_ptr() for weight in module.parameters())


class Run:
    """Steps taken one after the other, each of which shows the likeliest allowed token of the one before."""

    def __init__(self, step: Step) -> None:
        device = step.new.device
        self._plan = torch.zeros(MOST, *step.new.shape, dtype=torch.long, device=device)
        self._at = torch.zeros(1, dtype=torch.long, device=device)
        self._tokens = torch.zeros(MOST, step.lines, dtype=torch.long, device=device)
        self._logprobs = torch.zeros(MOST, step.lines, device=device)
        self._bar = torch.zeros(step.parts[1].weight.shape[0], device=device)
        self._graph: torch.cuda.CUDAGraph | None = None

    def _once(self, step: Step) -> None:
        new = step.new
        before = self._tokens.index_select(0, self._at - 1 + (self._at == 0))[0]
        new.copy_(self._plan.index_select(0, self._at)[0])
        new[0] = torch.where(self._at == 0, new[0], before)
        token, logprob = step.through(choice)(*step.parts, step.look, step.room, step.source, self._bar)
        self._tokens.index_copy_(0, self._at, token[None])
        self._logprobs.index_copy_(0, self._at, logprob[None])
        self._at += 1

    def __call__(
        self, step: Step, plan: NDArray[np.int64], bar: Tensor
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Tokens chosen and their log p, [steps, lines] each.

        Parameters
        ----------
        step : that it was made for, and which holds it: held here too, neither would go before a collector comes.
        plan : [2 or more steps, numbers, lines], of each what ``Step`` is given; only the first token is read.
        bar : [vocabulary] added to the logits: -inf at what may not be chosen.
        """
        device, count = self._at.device, len(plan)
        self._plan[:count] = on_device(plan, device)
        self._bar.copy_(bar)
        if device.type == "cuda" and self._graph is None:
            self._at.zero_()
            found = capturing(step, lambda: self._once(step))
            self._graph = None if found is None else found[0]
            step.room.forget(int(plan[0, -1, 0]))  # of steps that only warmed up
        self._at.zero_()
        for _ in range(count):
            self._once(step) if self._graph is None else self._graph.replay()
        return self._tokens[:count].cpu().numpy(), self._logprobs[:count].double().cpu().numpy()


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
    two : where the decoder of two stacks writes, what holds its source, line by line.
    """

    def __init__(
        self, stack: Transformer | Two, head: Head, cache: Cache, compiled: bool, two: TwoCache | None = None
    ) -> None:
        assert cache.look is not None
        self._parts, self._like, self._compiled, self._two = (stack, head), cache.look, compiled, two
        self.count = cache.count
        self._move(cache.look, cache.keys, cache.values)

    def _move(self, look: Look, keys: list[Tensor], values: list[Tensor], room: int = LEAST) -> None:
        """Into a step of the right size, one that is there where it fits."""
        lines, count = look.tokens.shape
        while room <= count:
            room *= 2
        source = None if self._two is None else self._two.source
        self._step = Step.of(self, *self._parts, self._like, lines, room, self._compiled, source)
        self._step.room.fill(look, keys, values)
        self._step.beside(source)
        self._seats = np.arange(lines)

    def _make_room(self, more: int) -> None:
        """For so many slots more."""
        room = self._step.room.size
        while room < self.count + more:
            room *= 2
        if room > self._step.room.size:
            self._move(*self._held(), room=room)

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
        if not self._suits(view):
            return None
        logits = self._step(self._planned(view, tokens)[0])
        self.count += 1
        if len(self._seats) == self._step.lines and bool((np.diff(self._seats) == 1).all()):
            return logits.clone()
        return logits[on_device(self._seats, logits.device)]

    def answers(
        self, view: View, tokens: NDArray[Any], barred: NDArray[Any]
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]] | None:
        """Likeliest ids and their log p [slots, lines], each slot of a line showing that of the one before.

        None, and nothing is kept, where ``answer`` gives None.
        """
        if not self._suits(view):
            return None
        bar = torch.zeros(self._parts[1].weight.shape[0])
        bar[torch.from_numpy(barred)] = -torch.inf
        tokens, logprobs = self._step.run(self._planned(view, tokens), bar)
        self.count += view.slots.count
        return tokens[:, self._seats], logprobs[:, self._seats]

    def _suits(self, view: View) -> bool:
        slots, like = view.slots, self._like
        return (slots.lines, slots.positions.ndim) == (len(self._seats), like.positions.dim()) and (
            view.whole_sight == like.sight
        )

    def _planned(self, view: View, tokens: NDArray[Any]) -> NDArray[np.int64]:
        """What the steps of the view's slots are given, [slots, numbers, lines of the step]; there is room for them."""
        slots = view.slots
        self._make_room(slots.count)
        fields = [view.shown(tokens), *(getattr(slots, name) for name in FIELDS)]
        positions = np.moveaxis(slots.positions.reshape(slots.lines, slots.count, -1), 2, 0)
        plan = np.zeros((slots.count, len(fields) + len(positions) + 1, self._step.lines), np.int64)
        plan[:, :-1, self._seats] = np.stack([*fields, *positions]).transpose(2, 0, 1)
        plan[:, -1] = self.count + np.arange(slots.count)[:, None]
        return plan


def suits(stack: nn.Module, head: nn.Module) -> bool:
    """Whether a step of this model may be captured as it stands now."""
    if type(stack) not in (Transformer, Two) or type(head) is not Head:
        return False
    if stack.training or torch.is_grad_enabled() or torch.is_autocast_enabled(head.weight.device.type):
        return False
    shape = _shape(stack)  # ALiBi's slopes come from the processor, and experts are asked who was chosen, in every step
    return shape.positions != "alibi" and not shape.experts


def _shape(stack: nn.Module) -> Shape:
    """Of the layers that write."""
    assert isinstance(stack, Transformer | Two)
    return stack.decoder.shape if isinstance(stack, Two) else stack.shape


def _rounded(source: Source) -> int:
    """Slots that room is made for."""
    return -(-source.look.tokens.shape[1] // SOURCES) * SOURCES


def replayed(
    stack: nn.Module, head: nn.Module, view: View, tokens: NDArray[Any], cache: Cache | TwoCache, compiled: bool = False
) -> Tensor | None:
    """Logits [lines, 1, vocabulary] of a view of one slot a line that follow those in the cache, by one replay.

    None where torch must answer: a prompt, a model that may not be captured, another sight than that of the cache.
    """
    kept = _kept(stack, head, view, cache, compiled) if view.slots.count == 1 else None
    return None if kept is None else kept.answer(view, tokens)


def replayed_run(
    stack: nn.Module,
    head: nn.Module,
    view: View,
    tokens: NDArray[Any],
    cache: Cache | TwoCache,
    barred: NDArray[Any],
    compiled: bool = False,
) -> tuple[NDArray[np.int64], NDArray[np.float64]] | None:
    """Ids and log p [slots, lines] of as many steps as the view has slots, by as many replays; see ``Static.answers``.

    None where torch must answer, slot by slot.
    """
    kept = _kept(stack, head, view, cache, compiled) if 1 < view.slots.count <= MOST else None
    return None if kept is None else kept.answers(view, tokens, barred)


def _kept(stack: nn.Module, head: nn.Module, view: View, cache: Cache | TwoCache, compiled: bool) -> Static | None:
    """What holds the slots of the cache; None where it may hold none."""
    two, own = (cache, cache.target) if isinstance(cache, TwoCache) else (None, cache)
    if not own.count:
        return None
    if own.handed is None:
        if not suits(stack, head) or view.whole_sight != getattr(own.look, "sight", None):
            return None
        assert isinstance(stack, Transformer | Two) and isinstance(head, Head)
        own.hand_over(Static(stack, head, own, compiled, two))
    assert isinstance(own.handed, Static)
    return own.handed
