"""Spans that are cut out of rows: how they are drawn, and the slots of what is left and of what is written.

    text      the  cat  sat  on  the  mat  .          two spans: "cat sat" and "mat"
    part A    the  [1]  on   the [2]  .               what is left, a mark for each span; seen by all, asked nothing
    part B    <2>  mat  |  <1>  cat  sat              a mark begins a span; each slot is asked for the next token, the
              mat  end  |  cat  sat  end              last one for the mark that ends it

GLM and T5's span corruption on one stack differ in their marks, in the order of part B and in how places are told.
NumPy only; arrays are [rows, places] without a loop over rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..data import RowDraws
from ..decoders.canvas import Canvas
from ..errors import SightlineError
from ..sight import NO_DOCUMENT, NOTHING, OPENING, Rule, Slots, View, opening, past
from .base import within_document

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

PARTS: Rule = opening | past  # part A sees itself, part B sees part A and what was written before
WRITTEN = 1  # the segment, and the stream, of part B
NEVER = 2.0  # a lot that is never among the smallest


@dataclass(frozen=True)
class Spans:
    """Places that are cut out of rows.

    Parameters
    ----------
    hidden : [rows, places]. begins : the first place of each span, a part of ``hidden``.
    """

    hidden: Bools
    begins: Bools

    @property
    def first(self) -> Ints:
        """For each hidden place the first place of its span, [rows, places]; elsewhere meaningless."""
        index = np.arange(self.hidden.shape[1])
        return np.maximum.accumulate(np.where(self.begins, index, 0), axis=1)

    @property
    def last(self) -> Ints:
        """For each hidden place the last place of its span, [rows, places]; elsewhere meaningless."""
        index = np.arange(self.hidden.shape[1])
        ends = np.where(self.hidden & ~self.goes_on, index, index[-1])
        return np.flip(np.minimum.accumulate(np.flip(ends, 1), axis=1), 1)

    @property
    def goes_on(self) -> Bools:
        """Whether the next place belongs to the same span, [rows, places]."""
        more = np.zeros_like(self.hidden)
        more[:, :-1] = self.hidden[:, :-1] & self.hidden[:, 1:] & ~self.begins[:, 1:]
        return more

    def at_most(self, count: int) -> Spans:
        """The first ``count`` spans of each row; what the others hid is shown."""
        number = np.cumsum(self.begins, axis=1)
        return Spans(self.hidden & (number <= count), self.begins & (number <= count))

    def within(self, most: int) -> Spans:
        """The first spans of each row, whole, that hide ``most`` places together; what the others hid is shown."""
        ends = np.cumsum(self.hidden, axis=1)
        fits = np.take_along_axis(ends, self.last, axis=1) <= most
        return Spans(self.hidden & fits, self.begins & fits)

    def number(self, documents: NDArray[Any]) -> Ints:
        """For each hidden place which span of its document it is in, from 0 up, [rows, places]."""
        seen = np.cumsum(self.begins, axis=1)
        start = np.arange(documents.shape[1]) - within_document(documents)
        before: Ints = np.take_along_axis(seen - self.begins, start, axis=1)
        return np.asarray(seen - before - 1)


def poisson(draws: RowDraws, text: Bools, documents: NDArray[Any], rate: float, mean: float, longest: int) -> Spans:
    """GLM's spans (Du et al., 2022): drawn until a share ``rate`` of the text [rows, places] is hidden, never touching.

    Lengths are Poisson's around ``mean``, from 1 to ``longest``; any arrangement with a token between two spans is
    equally likely. A span that meets the end of its document ends there.
    """
    tokens = text.sum(1)[:, None]
    most = most_spans(text.shape[1], rate, mean)
    terms = np.cumsum(np.log(np.arange(1, longest + 1)))
    chances = np.exp(np.arange(1, longest + 1) * np.log(mean) - terms - mean)
    sums = np.cumsum(chances) / chances.sum()
    length = np.minimum(1 + np.searchsorted(sums[:-1], draws.uniform(most)), tokens)
    ends = np.cumsum(length, axis=1)
    used = (ends - length < rate * tokens) & (ends + np.arange(most) <= tokens) & (length > 0)
    # The last span drawn is longer than others on average: shuffled, it may stand anywhere.
    shuffled = np.argsort(np.where(used, draws.uniform(most), NEVER), axis=1)
    length = np.take_along_axis(np.where(used, length, 0), shuffled, axis=1)
    count = used.sum(1)[:, None]
    gaps = _distinct(draws, tokens - length.sum(1, keepdims=True) + 1, count, most, text.shape[1] + 1)
    return _laid(gaps + np.cumsum(length, axis=1) - length, length, text, documents)


def composed(draws: RowDraws, text: Bools, documents: NDArray[Any], rate: float, mean: float) -> Spans:
    """T5's spans: a fixed number of tokens in a fixed number of spans, cut at random (Raffel et al., 2020).

    round(rate * N) of a row's N tokens in round(that / mean) spans; what is left is cut into as many parts, and parts
    alternate, one that is left first. So the first token is always left, and the last always hidden.
    """
    tokens = text.sum(1)[:, None]
    hidden = np.clip(np.rint(rate * tokens), 1, np.maximum(tokens - 1, 0)).astype(np.int64)
    hidden = np.where(tokens > 1, hidden, 0)
    count = np.minimum(np.maximum(np.rint(hidden / mean), 1), np.minimum(hidden, tokens - hidden)).astype(np.int64)
    most = usual_spans(text.shape[1], rate, mean)
    count = np.minimum(count, most)
    length, left = (_parts(draws, whole, count, most, text.shape[1]) for whole in (hidden, tokens - hidden))
    return _laid(np.cumsum(left, axis=1) + np.cumsum(length, axis=1) - length, length, text, documents)


def usual_spans(places: int, rate: float, mean: float) -> int:
    """Spans of a row of so many places, on average, rounded up.

    Raises
    ------
    SightlineError : spans longer than a row.
    """
    if mean > places:
        raise SightlineError(
            f"spans of {mean:g} tokens do not fit rows of {places}", "Use a longer --context or shorter spans"
        )
    return int(np.ceil(rate * places / mean))


def most_spans(places: int, rate: float, mean: float) -> int:
    """Spans of a row where their lengths are drawn, at most: half as many again as on average, and a few."""
    return min(places, int(1.5 * usual_spans(places, rate, mean)) + 4)


def of_stretches(draws: RowDraws, text: Bools, documents: NDArray[Any], rate: float, stretch: int) -> Spans:
    """One span of each ``stretch`` tokens of a document, somewhere in it: a share ``rate``, rounded down, but at least
    one token (ProphetNet: Qi et al., 2020). A stretch of one token stays as it is.
    """
    index, place = within_document(documents), np.arange(text.shape[1])
    begins = text.copy()
    begins[:, 1:] &= ~text[:, :-1] | (documents[:, 1:] != documents[:, :-1]) | ((index[:, 1:] - 1) % stretch == 0)
    whole = Spans(text, begins)
    size = whole.last - whole.first + 1
    length = np.where(size > 1, np.maximum(1, np.floor(rate * size).astype(np.int64)), 0)
    lot = np.take_along_axis(draws.uniform(text.shape[1]), whole.first, axis=1)
    start = whole.first + np.floor(lot * (size - length + 1)).astype(np.int64)
    hidden = text & (place >= start) & (place < start + length)
    return Spans(hidden, hidden & (place == start))


def sentences(draws: RowDraws, text: Bools, documents: NDArray[Any], ends: Bools, rate: float) -> Spans:
    """Whole sentences, drawn until a share ``rate`` of the text is hidden; ``ends`` are their last tokens."""
    place = np.arange(text.shape[1])
    breaks = ~text | ends
    begins = text.copy()
    begins[:, 1:] &= breaks[:, :-1] | (documents[:, 1:] != documents[:, :-1])
    whole = Spans(text, begins)
    lot = np.where(text, np.take_along_axis(draws.uniform(text.shape[1]), whole.first, axis=1), NEVER)
    quota = np.ceil(rate * text.sum(1)).astype(np.int64) - 1
    last = np.take_along_axis(np.sort(lot, axis=1), np.clip(quota, 0, len(place) - 1)[:, None], axis=1)
    hidden = text & (lot <= last)
    return Spans(hidden, hidden & begins)


def tails(split: NDArray[Any], documents: NDArray[Any]) -> Spans:
    """The rest of each document from its place number ``split`` [rows, places] on, as one span."""
    index = within_document(documents)
    real = documents != NO_DOCUMENT
    return Spans(real & (index >= split), real & (index == split))


def wanted_runs(wanted: Bools, documents: NDArray[Any]) -> tuple[Spans, Ints]:
    """Each run of wanted places [rows, places] of a document, its first place left out, and how long it is.

    The length is read at the first place of a run.
    """
    hidden = wanted & (within_document(documents) > 0) & (documents != NO_DOCUMENT)
    begins = hidden.copy()
    begins[:, 1:] &= ~hidden[:, :-1] | (documents[:, 1:] != documents[:, :-1])
    found = Spans(hidden, begins)
    size = np.zeros(hidden.shape, np.int64)
    np.add.at(size, (np.nonzero(hidden)[0], found.first[hidden]), 1)
    return found, size


def _distinct(draws: RowDraws, among: Ints, count: Ints, most: int, width: int) -> Ints:
    """For each row ``count`` [rows, 1] different numbers below ``among`` [rows, 1], rising: [rows, most], then 0."""
    lots = np.where(np.arange(width) < among, draws.uniform(width), NEVER)
    chosen = np.argsort(lots, axis=1)[:, :most]
    chosen = np.pad(chosen, ((0, 0), (0, most - chosen.shape[1])))
    wanted = np.arange(most) < count
    rising = np.sort(np.where(wanted, chosen, width), axis=1)
    return np.where(wanted, rising, 0)


def _parts(draws: RowDraws, whole: Ints, count: Ints, most: int, width: int) -> Ints:
    """``whole`` [rows, 1] as a sum of ``count`` numbers from 1 up, all such sums alike: [rows, most], then 0."""
    cuts = 1 + _distinct(draws, whole - 1, count - 1, most, width)
    number = np.arange(most)
    ends = np.where(number < count - 1, cuts, whole)
    starts = np.concatenate([np.zeros_like(whole), ends[:, :-1]], axis=1)
    return np.where(number < count, ends - starts, 0)


def infilled(
    draws: RowDraws, text: Bools, documents: NDArray[Any], units: Bools, rate: float, mean: float
) -> tuple[Spans, Bools]:
    """BART's spans (Lewis et al., 2020): lengths are Poisson's around ``mean``, none among them, until a share ``rate``
    of a row's units is hidden.

    ``units`` are the first tokens of words, or every token. A span of no length hides nothing: it is a mark more, which
    stands before a place that is left; there are never so many that what is left grows longer than the text. Any
    arrangement with a unit between two spans is equally likely.

    Returns
    -------
    the spans, and the places [rows, places] before which a mark is put in.
    """
    starts = text & units
    count = starts.sum(1)[:, None]
    most = most_spans(text.shape[1], rate, mean)
    numbers = np.arange(int(4 * mean) + 8)
    terms = np.concatenate([[0.0], np.cumsum(np.log(numbers[1:]))])
    sums = np.cumsum(np.exp(numbers * np.log(mean) - terms - mean))
    drawn = np.searchsorted(sums[:-1] / sums[-1], draws.uniform(most))
    budget = np.ceil(rate * count).astype(np.int64)
    ends = np.minimum(np.cumsum(drawn, axis=1), budget)
    length = np.diff(ends, axis=1, prepend=0)
    used = np.cumsum(drawn, axis=1) - drawn < budget
    whole = used & (length > 0) & (ends + np.cumsum(length > 0, axis=1) - 1 <= count)
    shuffled = np.argsort(np.where(whole, draws.uniform(most), NEVER), axis=1)
    length = np.take_along_axis(np.where(whole, length, 0), shuffled, axis=1)
    gaps = _distinct(draws, count - length.sum(1, keepdims=True) + 1, whole.sum(1)[:, None], most, text.shape[1] + 1)
    spans = _laid(gaps + np.cumsum(length, axis=1) - length, length, text, documents, starts)
    lots = np.where(text & ~spans.hidden, draws.uniform(text.shape[1]), NEVER)
    rank = np.argsort(np.argsort(lots, axis=1), axis=1)
    more = np.minimum((used & (drawn == 0)).sum(1), spans.hidden.sum(1) - spans.begins.sum(1))
    return spans, (rank < more[:, None]) & (lots < NEVER)


def _laid(starts: Ints, lengths: Ints, text: Bools, documents: NDArray[Any], units: Bools | None = None) -> Spans:
    """Spans of so many units from the unit number ``starts`` on, [rows, most] each, as places of rows.

    Units begin where ``units`` says, with every token of the text unless given; a span that would go over a mark or
    into another document ends before it.
    """
    units = text if units is None else units
    rows, places = text.shape
    used = lengths > 0
    row = np.broadcast_to(np.arange(rows)[:, None], starts.shape)[used]
    edges = np.zeros((rows, places + 1), np.int64)
    begun = np.zeros((rows, places), np.bool_)
    np.add.at(edges, (row, starts[used]), 1)
    np.add.at(edges, (row, (starts + lengths)[used]), -1)
    begun[row, starts[used]] = True
    number = np.maximum(np.cumsum(units, axis=1) - 1, 0)
    inside = np.cumsum(edges, axis=1) > 0
    hidden = text & np.take_along_axis(inside, number, axis=1)
    begins = units & np.take_along_axis(begun, number, axis=1)
    index = np.arange(places)
    before = np.zeros_like(hidden)
    before[:, 1:] = hidden[:, :-1] & (documents[:, 1:] == documents[:, :-1])
    broken = np.maximum.accumulate(np.where(hidden & ~begins & ~before, index, -1), axis=1)
    return Spans(hidden & (broken < Spans(hidden, begins).first), begins)


@dataclass(frozen=True)
class Marks:
    """The marks of spans, as codes of a view (see ``sight.fixed``), [rows, places] read at a span's first place.

    Parameters
    ----------
    stands : in part A for the span. opens : at the beginning of the span in part B.
    ends : asked for after the span's last token; ``NOTHING`` where nothing ends it.
    """

    stands: ArrayLike
    opens: ArrayLike
    ends: ArrayLike = NOTHING


def parted(
    documents: NDArray[Any],
    spans: Spans,
    marks: Marks,
    *,
    kind: str,
    most: int,
    asked: ArrayLike = True,
    lots: NDArray[Any] | None = None,
    shows: ArrayLike | None = None,
    flat: bool = False,
    most_asks: int | None = None,
    sight: Rule = PARTS,
) -> View:
    """The view of rows whose spans are cut out: part A, then part B, filled up to places + 2 * ``most`` slots.

    Parameters
    ----------
    asked : whether the token of a hidden place is asked for, [rows, places].
    lots : the order of the spans in part B, read at their first places; None: as they stand.
    shows : what part B shows for a hidden place; its own token unless given.
    flat : places are told in one dimension, part B going on after part A (T5, UniLM); else in two (GLM): where the span
        stands in part A, and how far within the span.
    """
    places = documents.shape[1]
    ends = np.broadcast_to(marks.ends, documents.shape)
    index, first, more = np.arange(places), spans.first, spans.goes_on
    following = np.where(more, index + 1, np.take_along_axis(ends, first, axis=1))
    wanted = np.broadcast_to(asked, documents.shape)
    nexts = np.ones_like(more)  # an end is asked for with the span's last token
    nexts[:, :-1] = wanted[:, 1:]
    asks = np.where(np.where(more, nexts, wanted), following, NOTHING)
    return _slots(
        documents,
        spans,
        marks,
        written=spans.hidden,
        begun=spans.begins,
        shows=np.broadcast_to(index if shows is None else shows, documents.shape),
        opener_asks=np.where(wanted, index, NOTHING),
        asks=asks,
        lots=lots,
        flat=flat,
        width=places + 2 * most,
        most_asks=most_asks,
        kind=kind,
        sight=sight,
    )


def gaps(canvas: Canvas) -> tuple[Spans, Ints]:
    """The gaps of a canvas [lines, places] as spans, and how many places each had, read at its first place."""
    hole = ~canvas.given
    begins = canvas.inside & hole
    begins[:, 1:] &= ~hole[:, :-1]
    index = np.arange(canvas.places)
    edge = np.flip(np.minimum.accumulate(np.flip(np.where(hole, canvas.places, index), 1), axis=1), 1)
    size = np.where(edge < canvas.places, edge - index, canvas.places)
    return Spans(canvas.inside & hole, begins), size


def next_of_gap(
    canvas: Canvas,
    spans: Spans,
    marks: Marks,
    stops: ArrayLike,
    *,
    kind: str,
    flat: bool = False,
    sight: Rule = PARTS,
) -> View:
    """The slots of a canvas whose gaps are written one after the other, the last of which asks for the next open place.

    Lines end together, so that a cache can hold what stands before.
    """
    waits = ~canvas.done
    at = canvas.open.argmax(1)[:, None]
    index = np.arange(canvas.places)
    reached = index <= np.where(waits[:, None], at, canvas.places)
    written = spans.hidden & ~canvas.open & ~np.isin(canvas.tokens, stops)
    view = _slots(
        np.where(canvas.inside, 0, NO_DOCUMENT),
        spans,
        marks,
        written=written,
        begun=spans.begins & reached,
        shows=np.broadcast_to(index, canvas.open.shape),
        opener_asks=np.full(canvas.open.shape, NOTHING),
        asks=np.full(canvas.open.shape, NOTHING),
        lots=None,
        flat=flat,
        width=None,
        most_asks=1,
        kind=kind,
        sight=sight,
    )
    asks = np.full(view.asks.shape, NOTHING)
    asks[:, -1:] = np.where(waits[:, None], at, NOTHING)
    return View.of(view.slots, view.sight, shows=view.shows, asks=asks, most_asks=1, kind=kind)


def _slots(
    documents: NDArray[Any],
    spans: Spans,
    marks: Marks,
    *,
    written: Bools,
    begun: Bools,
    shows: NDArray[Any],
    opener_asks: NDArray[Any],
    asks: NDArray[Any],
    lots: NDArray[Any] | None,
    flat: bool,
    width: int | None,
    most_asks: int | None,
    kind: str,
    sight: Rule,
) -> View:
    """Part A, the openers and the tokens of part B, brought into order.

    ``width`` None: as many slots as the fullest line has, the others padded before their beginning.
    """
    places = documents.shape[1]
    index, first = np.arange(places), spans.first
    left = (documents != NO_DOCUMENT) & (~spans.hidden | spans.begins)
    rank = index if lots is None else np.argsort(np.argsort(np.where(spans.begins, lots, NEVER), axis=1), axis=1)
    rank = np.take_along_axis(np.broadcast_to(rank, documents.shape), first, axis=1)
    span = places + rank * (places + 1)
    far = places * (places + 3)
    absent = -1 if width is None else far
    key = np.concatenate(
        [
            np.where(left, index, absent),
            np.where(begun, span, absent),
            np.where(written, span + 1 + index - first, absent),
        ],
        axis=1,
    )
    present = (key >= 0) & (key < far)
    order = np.argsort(key, axis=1, kind="stable")
    order = order[:, :width] if width is not None else order[:, 3 * places - int(present.sum(1).max(initial=0)) :]
    group, place = np.divmod(order, places)
    in_a, opener = group == 0, group == 1
    line = np.arange(len(documents))[:, None]

    def there(of_places: ArrayLike) -> Any:
        """What a place has, at each slot that shows it."""
        values = np.asarray(of_places)
        return values if values.ndim == 0 else np.broadcast_to(values, documents.shape)[line, place]

    real = np.take_along_axis(present, order, axis=1)
    document = np.where(real, there(documents), NO_DOCUMENT)
    slot = np.arange(order.shape[1])
    part = np.where(in_a & real, OPENING, WRITTEN)
    if flat:
        by = np.argsort(document, axis=1, kind="stable")
        positions = np.empty_like(order)
        np.put_along_axis(positions, by, within_document(np.take_along_axis(document, by, axis=1)), axis=1)
        positions = np.where(real, positions, 0)
    else:
        count = np.cumsum(left, axis=1)
        start = index - within_document(documents)
        stands = count - np.take_along_axis(count - left, start, axis=1) - 1  # in part A, from 0 in each document
        stands = np.where(spans.hidden, np.take_along_axis(stands, first, axis=1), stands)
        inner = np.where(in_a, 0, np.where(opener, 1, 2 + place - there(first)))
        positions = np.where(real[..., None], np.stack([there(stands), inner], axis=-1), 0)
    beginning = np.where(opener, there(marks.opens), there(shows))
    return View.of(
        Slots.of(place - opener, document, order=slot, segment=part, stream=part, positions=positions),
        sight,
        shows=np.where(in_a, there(np.where(spans.begins, marks.stands, index)), beginning),
        asks=np.where(in_a, NOTHING, np.where(opener, there(opener_asks), there(asks))),
        most_asks=most_asks,
        kind=kind,
    )
