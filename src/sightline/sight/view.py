"""A view: one question to a stack. Slots, what each shows, what each must answer, and who may see whom.

    text        the  cat  sat  .            a row of four tokens, positions 0 to 3
    shows         0    1    2   3           causal: every slot shows its own token ...
    asks          1    2    3   -           ... and must answer the next
    shows         0    M    2   3           masked: slot 1 shows the fixed mask token ...
    asks          -    1    -   -           ... and must answer what stood there

Slots are not tokens: a view may have several slots for one place (BANG, GLM, XLNet, block diffusion) or leave places
out. NumPy only; the arrays have one line per question and one column per slot.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import lru_cache
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .rule import FIELDS, Rule, same_document, same_stream

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]
Floats = NDArray[np.float32]

NOTHING = -1  # in `shows` and `asks`: no token
NO_DOCUMENT = -1  # in `document`: padding, which only padding sees


def fixed(token: ArrayLike) -> Any:
    """The code, in ``shows`` or ``asks``, of a token id that does not come from the row (mask, sentinel, end)."""
    return -2 - np.asarray(token)


@lru_cache(maxsize=256)
def _within_document(sight: Rule) -> Rule:
    return sight & same_document  # joined once: a text that is written asks for it at every token


def resolved(codes: Ints, tokens: NDArray[Any], nothing: int) -> Ints:
    """Token ids [lines, slots] of codes [lines, slots]: from ``tokens`` [lines, positions], fixed, or ``nothing``.

    Numbers instead of ids stay what they are, and NaN shows nothing.
    """
    from_row = tokens[np.arange(len(codes))[:, None], np.maximum(codes, 0)]
    if tokens.dtype.kind == "f":
        return np.where(codes >= 0, from_row, np.nan if nothing == NOTHING else nothing)
    if codes.min(initial=0) >= 0:
        return from_row.astype(np.int64)
    return np.where(codes >= 0, from_row, np.where(codes == NOTHING, nothing, -2 - codes)).astype(np.int64)


def _whole(part: NDArray[Any], shape: tuple[int, ...]) -> Ints:
    """An array of its own, by an assignment: NumPy's broadcasting functions take longer to call than to copy."""
    whole = np.empty(shape, np.int64)
    whole[...] = part
    return whole


@dataclass(frozen=True)
class Slots:
    """The places of a stack's input; every array is [lines, slots].

    place : where in the text, for pictures and windows.
    order : what ``past`` compares.
    document : documents never see each other; ``NO_DOCUMENT`` is padding.
    segment, stream : free marks for rules (the opening of a prefix, the streams of BANG).
    positions : what the stack is fed as position ids, [lines, slots] or [lines, slots, 2]; ``order`` unless given.
    """

    place: Ints
    order: Ints
    document: Ints
    segment: Ints
    stream: Ints
    positions: Ints

    @classmethod
    def of(
        cls,
        place: ArrayLike,
        document: ArrayLike = 0,
        *,
        order: ArrayLike | None = None,
        segment: ArrayLike = 0,
        stream: ArrayLike = 0,
        positions: ArrayLike | None = None,
    ) -> Slots:
        """Slots from what broadcasts to [lines, slots]; ``order`` follows ``place``, ``positions`` follow the order."""
        order = place if order is None else order
        parts = [np.atleast_2d(np.asarray(part)) for part in (place, order, document, segment, stream)]
        shape = np.broadcast(*parts).shape
        place, order, document, segment, stream = (_whole(part, shape) for part in parts)
        fed = order if positions is None else np.asarray(positions, dtype=np.int64)
        return cls(place, order, document, segment, stream, _whole(fed, shape) if fed.ndim < 3 else fed)

    @property
    def lines(self) -> int:
        return int(self.place.shape[0])

    @property
    def count(self) -> int:
        """Slots of each line."""
        return int(self.place.shape[1])

    def take(self, columns: Any) -> Slots:
        """The slots at these columns, in every line."""
        return Slots(**{name: getattr(self, name)[:, columns] for name in (*FIELDS, "positions")})


@dataclass(frozen=True)
class _Seats:
    place: Any
    order: Any
    document: Any
    segment: Any
    stream: Any


def seats(slots: Any, as_asker: bool) -> _Seats:
    """The five fields shaped to broadcast to [lines, askers, seen]; NumPy arrays and tensors alike."""
    columns = (slice(None), slice(None), None) if as_asker else (slice(None), None, slice(None))
    return _Seats(*(getattr(slots, name)[columns] for name in FIELDS))


@dataclass(frozen=True)
class View:
    """One question to a stack for each line.

    Parameters
    ----------
    slots : the places of the input, [lines, slots].
    sight : who may see whom within a document; documents never see each other (see ``whole_sight``).
    shows : for each slot the position of the row whose token it shows, a ``fixed`` token, or ``NOTHING``.
    asks : for each slot the position whose token it must answer, a ``fixed`` token, or ``NOTHING``.
    weights : the weight of each answer; 0 where nothing is asked.
    most_asks : answers per line, fixed for a kind of view; lines that ask less are padded with weight 0.
    lines_of : the row that each line questions; a row may be questioned by several lines.
    kind : names the shape of the question; a run compiles one graph per kind.
    judged : labels about the tokens shown (-1: none), answered like tokens; the leak rule is not for such slots.
    declared : slots where a leak is meant (BERT's kept tokens).
    settled : while a text is written, how many slots from the front see none behind them, so that their states may be
        kept; None: all before the first that asks.
    """

    slots: Slots
    sight: Rule
    shows: Ints
    asks: Ints
    weights: Floats
    most_asks: int
    lines_of: Ints
    kind: str = "view"
    judged: Ints | None = None
    declared: Bools | None = None
    settled: int | None = None
    _asked: dict[str, tuple[Ints, Bools]] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def of(
        cls,
        slots: Slots,
        sight: Rule,
        *,
        shows: ArrayLike,
        asks: ArrayLike = NOTHING,
        weights: ArrayLike = 1.0,
        most_asks: int | None = None,
        lines_of: ArrayLike | None = None,
        kind: str = "view",
        judged: ArrayLike | None = None,
        declared: ArrayLike | None = None,
        settled: int | None = None,
    ) -> View:
        """A view from whatever broadcasts to [lines, slots]; padding slots show and ask nothing."""
        shape = slots.place.shape
        real = slots.document != NO_DOCUMENT

        def spread(value: ArrayLike, empty: Any, dtype: Any) -> NDArray[Any]:
            whole = np.full(shape, empty, dtype)
            np.copyto(whole, value, where=real, casting="unsafe")
            return whole

        asked = spread(asks, NOTHING, np.int64)
        labels = None if judged is None else spread(judged, -1, np.int64)
        if labels is not None and bool(((labels >= 0) & (asked != NOTHING)).any()):
            raise ValueError("a slot is either asked for a token or judged, not both")
        wanted = asked != NOTHING if labels is None else (asked != NOTHING) | (labels >= 0)
        weight = np.zeros(shape, np.float32)
        np.copyto(weight, weights, where=wanted, casting="unsafe")
        most = shape[1] if most_asks is None else most_asks
        busiest = int(wanted.sum(1).max(initial=0))
        if busiest > most:
            raise ValueError(f"a line asks {busiest} answers, but this kind of view promises at most {most}")
        return cls(
            slots=slots,
            sight=sight,
            shows=spread(shows, NOTHING, np.int64),
            asks=asked,
            weights=weight,
            most_asks=most,
            lines_of=np.arange(shape[0]) if lines_of is None else np.asarray(lines_of, dtype=np.int64),
            kind=kind,
            judged=labels,
            declared=None if declared is None else spread(declared, False, np.bool_),
            settled=settled,
        )

    @property
    def whole_sight(self) -> Rule:
        """The family's sight within each document: packed documents never see each other."""
        return _within_document(self.sight)

    @property
    def wanted(self) -> Bools:
        """Which slots [lines, slots] must answer, with a token or with a label."""
        asked = self.asks != NOTHING
        return np.asarray(asked if self.judged is None else asked | (self.judged >= 0))

    @property
    def asked_slots(self) -> tuple[Ints, Bools]:
        """Slot indexes [lines, most_asks] of the answers, in slot order, and which of them are real."""
        if "slots" not in self._asked:
            asked = self.wanted
            if self.most_asks == self.slots.count:
                index = np.broadcast_to(np.arange(self.slots.count), asked.shape)
                self._asked["slots"] = (index, asked)
            elif self.most_asks == 1 and self.slots.count:
                index = asked.argmax(1)[:, None]
                self._asked["slots"] = (index, asked[np.arange(len(asked))[:, None], index])
            else:
                index = np.argsort(~asked, axis=1, kind="stable")[:, : self.most_asks]
                self._asked["slots"] = (index, np.take_along_axis(asked, index, axis=1))
        return self._asked["slots"]

    def shown(self, tokens: NDArray[Any], nothing: int = NOTHING) -> Ints:
        """The token ids that the slots show, [lines, slots], from the rows' tokens [rows, positions]."""
        return resolved(self.shows, tokens[self.lines_of], nothing)

    def answers(self, tokens: NDArray[Any]) -> Ints:
        """The right answers [lines, most_asks], ids or labels; 0, with weight 0, where a line asks less."""
        index, real = self.asked_slots
        codes = np.take_along_axis(self.asks, index, axis=1)
        right = resolved(codes, tokens[self.lines_of], 0)
        if self.judged is not None:
            labels = np.take_along_axis(self.judged, index, axis=1)
            right = np.where(labels >= 0, labels, right)
        return np.where(real, right, 0)

    def answer_weights(self) -> Floats:
        """The weights of ``answers``, [lines, most_asks]."""
        index, real = self.asked_slots
        return np.where(real, np.take_along_axis(self.weights, index, axis=1), 0).astype(np.float32)

    @property
    def ask_count(self) -> int:
        """How many answers carry weight."""
        return int((self.weights > 0).sum())

    def lines(self, keep: Any) -> View:
        """The view of some of the lines only (a slice or an index array)."""
        slots = Slots(**{name: getattr(self.slots, name)[keep] for name in (*FIELDS, "positions")})
        names = ("shows", "asks", "weights", "lines_of", "judged", "declared")
        parts: dict[str, Any] = {name: None if (part := getattr(self, name)) is None else part[keep] for name in names}
        return replace(self, slots=slots, _asked={}, **parts)

    def of_rows(self, rows: Ints) -> View:
        """The view, made of some rows, as a question about the rows that these were taken from."""
        return replace(self, lines_of=rows[self.lines_of], _asked={})

    def tail(self, start: int) -> View:
        """The slots from column ``start`` on: what is new to a cache that holds those before it."""
        return self.columns(slice(start, None))

    def columns(self, part: slice) -> View:
        """Some of the slots of every line."""
        names = ("shows", "asks", "weights", "judged", "declared")
        parts: dict[str, Any] = {
            name: None if (held := getattr(self, name)) is None else held[:, part] for name in names
        }
        slots = self.slots.take(part)
        return replace(self, slots=slots, most_asks=min(self.most_asks, slots.count), _asked={}, **parts)

    def by_stream(self) -> list[View]:
        """The slots of each stream, which stand one behind the other and alike in every line."""
        stream = self.slots.stream
        if not bool((stream == stream[:1]).all()) or bool((np.diff(stream[0]) < 0).any()):
            raise ValueError("streams are told apart by columns only where they stand in order, alike in every line")
        cuts = [0, *(np.flatnonzero(np.diff(stream[0])) + 1).tolist(), self.slots.count]
        return [self.columns(slice(start, stop)) for start, stop in pairwise(cuts)] if len(cuts) > 2 else [self]

    def apart(self) -> tuple[View, Ints]:
        """The view with a line for each document of each line, from its first slot on, and where each slot went.

        For stacks that read a line as one sequence. Asks stay behind: only slots, and what they show, are taken along.

        Returns
        -------
        view : itself where it is laid so already. index : [lines, slots], the slot's number among the new view's slots,
            line after line; 0 for padding.
        """
        document = self.slots.document
        real = document != NO_DOCUMENT
        begins = real.copy()
        begins[:, 1:] &= document[:, 1:] != document[:, :-1]
        if bool((begins[:, 1:].sum() == 0) and begins[:, 0].all()):
            return self, np.arange(document.size).reshape(document.shape)
        line = np.nonzero(begins)[0]
        number = np.cumsum(begins).reshape(document.shape) - 1  # of the document that a slot belongs to
        first = np.maximum.accumulate(np.where(begins, np.arange(document.shape[1]), 0), axis=1)
        within = np.arange(document.shape[1]) - first
        width = int((within + 1)[real].max(initial=1))

        def laid(part: NDArray[Any], empty: int) -> NDArray[Any]:
            whole = np.full((max(1, len(line)), width, *part.shape[2:]), empty, part.dtype)
            whole[number[real], within[real]] = part[real]
            return whole

        slots = Slots(
            **{name: laid(getattr(self.slots, name), NO_DOCUMENT if name == "document" else 0) for name in FIELDS},
            positions=laid(self.slots.positions, 0),
        )
        shows = laid(self.shows, NOTHING)
        lines_of = self.lines_of[line] if len(line) else self.lines_of[:1]
        view = View.of(slots, self.sight, shows=shows, lines_of=lines_of, kind=self.kind)
        return view, np.where(real, number * width + within, 0)


def side_by_side(*views: View) -> View:
    """One view of several: the slots of each are a stream of their own, and no stream sees another."""
    first = views[0]
    if any(view.sight != first.sight or view.slots.lines != first.slots.lines for view in views):
        raise ValueError("views stand side by side where they have one rule and the same lines")

    def joined(parts: list[NDArray[Any]]) -> NDArray[Any]:
        return np.concatenate(parts, axis=1)

    fields = {name: joined([getattr(view.slots, name) for view in views]) for name in (*FIELDS, "positions")}
    streams = joined([np.full_like(view.slots.stream, number) for number, view in enumerate(views)])
    return replace(
        first,
        slots=Slots(**fields | {"stream": streams}),
        sight=first.sight & same_stream,
        shows=joined([view.shows for view in views]),
        asks=joined([view.asks for view in views]),
        weights=joined([view.weights for view in views]),
        most_asks=sum(view.most_asks for view in views),
        _asked={},
    )
