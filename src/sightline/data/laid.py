"""Examples as tokens: what a model reads of each, and where among the tokens its words or its answers lie.

text        bos text eos                     cut at the context
pair        bos text sep pair eos            the longer side is cut
words       bos w o rds eos                  and each word's tokens [first, last); long sentences in parts
target      bos source sep target eos        both sides are cut, so that every line has room for the longest target;
                                             before a target what it ``opens`` with, if anything
Around texts and words an adopted tokenizer's template goes before bos and eos.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..errors import SightlineError
from ..progress import bar
from .examples import Example
from .tokenizer import Tokenizer

MARKS = 3  # of a pair


@dataclass(frozen=True, eq=False)
class Laid:
    """One line that is read.

    Parameters
    ----------
    ids : with marks. item : number of the example it is of.
    first, last : of ``words``, the tokens [first, last) of each. begin : number of the first of them in its sentence.
    """

    ids: NDArray[np.int32]
    item: int
    first: NDArray[np.int64]
    last: NDArray[np.int64]
    begin: int = 0


NO_WORDS = np.zeros(0, np.int64)


def texts_laid(items: Sequence[Example], tokenizer: Tokenizer, context: int, sep: int) -> tuple[list[Laid], int]:
    """Texts and pairs, parted by the mark ``sep`` (-1: by none); and how many were cut at the context."""
    firsts = tokenizer.encode_many([one.text for one in items], "tokenizing")
    seconds = tokenizer.encode_many([one.pair for one in items], "tokenizing")
    found, cut = [], 0
    for number, (first, second) in enumerate(zip(firsts, seconds, strict=True)):
        paired = bool(items[number].pair)
        room = context - (MARKS if paired else MARKS - 1)
        over = len(first) + len(second) - room
        cut += over > 0
        if over > 0:
            short = max(room // 2, room - min(len(first), len(second)))  # the longer side gives way first
            first, second = (first[:short], second[: room - min(len(first), short)])
        inner = np.concatenate([first, _mark(sep), second]) if paired else first
        found.append(Laid(_framed(inner, tokenizer), number, NO_WORDS, NO_WORDS))
    return found, cut


@dataclass(frozen=True)
class Room:
    """Most tokens of a source and of its target, without marks."""

    source: int
    target: int

    @classmethod
    def within(cls, context: int, longest: int, one_stack: bool, opens: int = 0) -> Room:
        """Room in a context that both share, where the targets come to half of it at most; or in one for each.

        ``opens`` : marks that a target begins with.
        """
        if not one_stack:
            return cls(context - 2, context - 1 - opens)
        context -= opens
        target = min(longest, (context - MARKS) // 2)
        return cls(context - MARKS - target, target)


def targets_laid(
    sources: Sequence[NDArray[np.int32]], targets: Sequence[NDArray[np.int32]], tokenizer: Tokenizer, room: Room
) -> list[NDArray[np.int32]]:
    """A line for each source and its target, cut where they exceed the room."""
    middle = np.array([tokenizer.need("sep"), *tokenizer.opens], np.int32)
    return [
        _between(np.concatenate([source[: room.source], middle, target[: room.target]]), tokenizer)
        for source, target in zip(sources, targets, strict=True)
    ]


def words_laid(items: Sequence[Example], tokenizer: Tokenizer, context: int) -> list[Laid]:
    """Sentences of words, each word's tokens known."""
    found = []
    with bar("tokenizing", len(items), "sentences") as shown:
        for number, one in enumerate(items):
            found += list(_parts(one.words, 0, number, tokenizer, context))
            shown.advance()
    return found


def _parts(words: Sequence[str], begin: int, item: int, tokenizer: Tokenizer, context: int) -> Iterator[Laid]:
    """A sentence whole, or in halves of halves that fit; a single word that does not fit is cut."""
    ids, first, last = _spelled(words, tokenizer)
    if len(ids) <= context or len(words) == 1:
        yield Laid(ids[:context], item, np.minimum(first, context - 1), np.minimum(last, context), begin)
        return
    middle = len(words) // 2
    yield from _parts(words[:middle], begin, item, tokenizer, context)
    yield from _parts(words[middle:], begin + middle, item, tokenizer, context)


def _spelled(
    words: Sequence[str], tokenizer: Tokenizer
) -> tuple[NDArray[np.int32], NDArray[np.int64], NDArray[np.int64]]:
    """Ids with marks, and each word's tokens [first, last); a word of no token takes the one before it."""
    spaces = ["", *(" " if spaced(one, two) else "" for one, two in itertools.pairwise(words))]
    inside, begins, ends = tokenizer.stretches("".join(a + b for a, b in zip(spaces, words, strict=True)))
    ids, marks = _framed(inside, tokenizer), len(tokenizer.before(len(inside) > 0))
    sizes = np.array([len(word) for word in words])
    stops = np.cumsum(sizes + np.array([len(space) for space in spaces]))
    first = marks + np.searchsorted(ends, stops - sizes, side="right")
    last = np.clip(marks + np.searchsorted(begins, stops, side="left"), 1, len(ids))
    return ids, np.minimum(first, last - 1).astype(np.int64), last.astype(np.int64)


def spaced(one: str, two: str) -> bool:
    """Whether a space stands between two words: not where either ends so in a script that writes none."""
    return not (one and two and _unspaced(one[-1]) and _unspaced(two[0]))


def _unspaced(letter: str) -> bool:
    return "\u2e80" <= letter <= "\u9fff" or "\uf900" <= letter <= "\uffef" or letter >= "\U00020000"


def _mark(id: int) -> NDArray[np.int32]:
    return np.array([id] if id >= 0 else [], np.int32)


def _framed(ids: NDArray[np.int32], tokenizer: Tokenizer) -> NDArray[np.int32]:
    """A text that is read whole, in the marks that its tokenizer puts around it."""
    return np.array([*tokenizer.before(len(ids) > 0), *ids, *tokenizer.behind], np.int32)


def _between(ids: NDArray[np.int32], tokenizer: Tokenizer) -> NDArray[np.int32]:
    marks = tokenizer.vocabulary
    return np.concatenate([_mark(marks.bos), ids, _mark(marks.eos)])


def contexts_laid(
    items: Sequence[Example], tokenizer: Tokenizer, context: int, sep: int
) -> tuple[list[Laid], list[tuple[int, int]]]:
    """Questions with their contexts, long ones in windows that overlap by half.

    Of a line ``first`` and ``last`` are the characters [first, last) of the context that each of its tokens stands for,
    and ``begin`` is the place of the first of these tokens.

    Returns
    -------
    lines : in order of the items. answers : for each line the tokens of its context, counted from 1, with which the
        item's first answer begins and ends; 0, 0 where the line does not hold all of it, or none is known.

    Raises
    ------
    SightlineError : an answer is not where it should be.
    """
    questions = tokenizer.encode_many([one.text for one in items], "tokenizing")
    known: dict[str, tuple[NDArray[np.int32], NDArray[np.int64], NDArray[np.int64]]] = {}  # many ask about one
    lines, answers = [], []
    with bar("tokenizing", len(items), "contexts") as shown:
        for number, (item, question) in enumerate(zip(items, questions, strict=True)):
            if item.pair not in known:
                known[item.pair] = tokenizer.stretches(item.pair)
            inside, first, last = known[item.pair]
            head = np.concatenate([_mark(tokenizer.vocabulary.bos), question[: context // 4], _mark(sep)])
            room = max(2, context - len(head) - 1)
            begin, end = _answer_at(item) if item.answers else (0, 0)
            begin, end = (int(np.searchsorted(last, begin, side="right")), int(np.searchsorted(first, end)))
            for at in range(0, max(1, len(inside) - room // 2), room // 2):
                part = slice(at, at + room)
                ids = np.concatenate([head, inside[part], _mark(tokenizer.vocabulary.eos)])
                lines.append(Laid(ids, number, first[part], last[part], len(head)))
                held = at <= begin < end <= at + room
                answers.append((begin + 1 - at, end - at) if held else (0, 0))
            shown.advance()
    return lines, answers


def _answer_at(item: Example) -> tuple[int, int]:
    """The characters [first, last) of the first answer in the context; looked for where its offset is wrong."""
    text, start = item.answers[0]
    if item.pair[start : start + len(text)] != text or not text:
        start = item.pair.find(text)
        if start < 0 or not text:
            raise SightlineError(
                f"{item.where}: the answer {text[:40]!r} does not stand in its context", "Mend the item"
            )
    return start, start + len(text)
