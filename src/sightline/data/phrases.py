r"""Phrases: words that stand together more often than their counts explain become one word.

    he flew to new york city      counted: how often each word, and each pair of neighbours of one document
    he flew to new_york city      the first pass joins pairs whose score is above a threshold, from left to right
    he flew to new_york_city      a second counts and joins again, over what the first made

    counts    (count(a b) - discount) * kinds / (count(a) * count(b))          kinds: different words and pairs
    npmi      ln(p(a b) / (p(a) p(b))) / -ln p(a b)                            p: count / words of the text

Pairs, scores and order are those of gensim's ``Phrases`` without connector words; word2phrase.c has the words of the
text for ``kinds``, so that its threshold means something else. Mikolov et al., Distributed Representations of Words and
Phrases (2013); Bouma, Normalized (Pointwise) Mutual Information in Collocation Extraction (2009).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from ..errors import SightlineError

Ints = NDArray[np.int64]
Measure = Literal["counts", "npmi"]

LINK = "_"  # between the words of a phrase; no word of ours holds one
USUAL: dict[Measure, float] = {"counts": 10.0, "npmi": 0.5}  # thresholds where none is named


@dataclass(frozen=True)
class Phrasing:
    """When two words become a phrase.

    Parameters
    ----------
    count : ``counts`` takes so many off a pair's occurrences; ``npmi`` joins no pair that has less.
    threshold : what the score must be above; None: 10 for ``counts``, 0.5 for ``npmi``.
    score : counts (word2vec's) or npmi (pointwise mutual information, from -1, never together, to 1, always).
    passes : how often; n passes make phrases of up to 2**n words.

    Raises
    ------
    SightlineError : a setting that means nothing.
    """

    count: int = 5
    threshold: float | None = None
    score: Measure = "counts"
    passes: int = 1

    def __post_init__(self) -> None:
        if self.score not in get_args(Measure):
            raise SightlineError(f"phrases have no score {self.score!r}", f"Choose from {', '.join(get_args(Measure))}")
        for name, value in (("count", self.count), ("passes", self.passes)):
            if value < 1:
                raise SightlineError(f"phrases with {name} = {value} mean nothing", "Use 1 or more")
        least, most = (0, math.inf) if self.score == "counts" else (-1, 1)
        fits = least < self.above < most if self.score == "counts" else least <= self.above <= most
        if not fits:
            raise SightlineError(
                f"a threshold of {self.above:g} means nothing for phrases by {self.score}",
                "Use more than 0, such as 10" if self.score == "counts" else "Use -1 to 1, such as 0.5",
            )

    @property
    def above(self) -> float:
        """The threshold that holds."""
        return USUAL[self.score] if self.threshold is None else self.threshold

    @classmethod
    def of(cls, words: str) -> Phrasing:
        """From ``name=value`` words with commas between them.

        Raises
        ------
        SightlineError : a word without ``=``, an unknown name, or a value that is none.
        """
        kinds = {"count": int, "threshold": float, "score": str, "passes": int}
        values: dict[str, Any] = {}
        for word in filter(None, words.split(",")):
            name, equals, value = word.partition("=")
            if not equals or name not in kinds:
                raise SightlineError(f"{word!r} is not a setting of phrases", f"Write name=value: {', '.join(kinds)}")
            try:
                values[name] = kinds[name](value)
            except ValueError as error:
                sort = "a whole number" if kinds[name] is int else "a number"
                raise SightlineError(f"{name} must be {sort}, not {value!r}", "Correct the value") from error
        return cls(**values)


@dataclass(frozen=True, eq=False)
class Joins:
    """The pairs that one pass makes one word of.

    Parameters
    ----------
    left, right, joined : [P] ids, sorted by the first two.
    """

    left: Ints
    right: Ints
    joined: Ints

    @classmethod
    def of(cls, triples: Sequence[tuple[int, int, int]]) -> Joins:
        """From (left, right, joined), each pair once."""
        left, right, joined = np.array(sorted(triples), np.int64).reshape(-1, 3).T
        return cls(left, right, joined)

    @property
    def pairs(self) -> list[tuple[int, int]]:
        """Left and right of each."""
        return list(zip(self.left.tolist(), self.right.tolist(), strict=True))

    def apply(self, ids: NDArray[np.int32], counts: Ints) -> tuple[NDArray[np.int32], Ints]:
        """Ids [N] of texts in a row, and how many each text has, with the pairs joined from left to right."""
        at, which = self._found(ids, counts)
        if not len(at):
            return ids, counts
        # Of neighbouring finds, which share a word, every second counts: the first, the third...
        begins = np.diff(at, prepend=-2) > 1
        taken = (at - at[begins][np.cumsum(begins) - 1]) % 2 == 0
        at, which = at[taken], which[taken]
        out, kept = ids.copy(), np.ones(len(ids), bool)
        out[at], kept[at + 1] = self.joined[which], False
        texts = np.searchsorted(np.cumsum(counts), at, side="right")
        return out[kept], counts - np.bincount(texts, minlength=len(counts))

    def _found(self, ids: NDArray[np.int32], counts: Ints) -> tuple[Ints, Ints]:
        """Where pairs of one text stand that are to be joined, and which."""
        if len(ids) < 2 or not len(self.left):
            return np.zeros(0, np.int64), np.zeros(0, np.int64)
        size = 1 + max(int(ids.max()), int(self.left.max()), int(self.right.max()))
        first, second = np.zeros(size, bool), np.zeros(size, bool)
        first[self.left], second[self.right] = True, True
        at = np.flatnonzero(first[ids[:-1]] & second[ids[1:]] & _together(counts, len(ids)))
        known, asked = self.left * size + self.right, ids[at].astype(np.int64) * size + ids[at + 1]
        which = np.minimum(np.searchsorted(known, asked), len(known) - 1)
        hit = known[which] == asked
        return at[hit], which[hit]


@dataclass(frozen=True, eq=False)
class Lesson:
    """What one pass found.

    Parameters
    ----------
    joins : the pairs above the threshold. counts, scores : [P] of each. best : the highest score of all pairs.
    """

    joins: Joins
    counts: Ints
    scores: NDArray[np.float64]
    best: float


def learned(
    ids: NDArray[np.int32], counts: Ints, words: Sequence[str], phrasing: Phrasing
) -> tuple[list[str], list[Lesson]]:
    """The phrases of texts.

    Parameters
    ----------
    ids : [N] words of all texts in a row, by number. counts : words of each text; no pair reaches over its end.
    words : each number's word, without ``LINK``.

    Returns
    -------
    ``words`` with the phrases behind them, and what each pass found; passes end where one finds nothing.
    """
    names = list(words)
    lessons: list[Lesson] = []
    for _ in range(phrasing.passes):
        lesson = _pass(ids, counts, names, phrasing)
        lessons.append(lesson)
        if not len(lesson.counts):
            break
        ids, counts = lesson.joins.apply(ids, counts)
    return names, lessons


def _together(counts: Ints, length: int) -> NDArray[np.bool_]:
    """Which of ``length`` words stand in one text with the next: [length - 1]."""
    inside = np.ones(length, bool)
    inside[np.cumsum(counts)[counts > 0] - 1] = False
    return inside[:-1]


def _pass(ids: NDArray[np.int32], counts: Ints, names: list[str], phrasing: Phrasing) -> Lesson:
    """Count, score and choose pairs; their names are put behind ``names``.

    No two pairs have one name, as a_b + c and a + b_c would: between its ends, which nothing was ever joined across, a
    phrase was made by the same pairs in the same order wherever it stands.
    """
    size = len(names)
    keys = (ids[:-1].astype(np.int64) * size + ids[1:])[_together(counts, len(ids))]
    pairs, both = np.unique(keys, return_counts=True)
    left, right = np.divmod(pairs, size)
    alone = np.bincount(ids, minlength=size)
    kinds = int((alone > 0).sum()) + len(pairs)
    scores = _scores(both, alone[left], alone[right], kinds, len(ids), phrasing)
    chosen = np.flatnonzero(scores > phrasing.above)
    joins = Joins(left[chosen], right[chosen], size + np.arange(len(chosen)))
    names += [f"{names[one]}{LINK}{names[other]}" for one, other in joins.pairs]
    return Lesson(joins, both[chosen], scores[chosen], float(scores.max(initial=-math.inf)))


def _scores(both: Ints, left: Ints, right: Ints, kinds: int, words: int, phrasing: Phrasing) -> NDArray[np.float64]:
    """The score of pairs from how often they and their parts occur."""
    if phrasing.score == "counts":
        return np.asarray((both - phrasing.count) / (left * right).astype(np.float64) * kinds)
    p_left, p_right, p_both = left / words, right / words, both / words
    scores = np.log(p_both / (p_left * p_right)) / -np.log(p_both)  # there are less pairs than words: p_both < 1
    return np.where(both >= phrasing.count, scores, -np.inf)
