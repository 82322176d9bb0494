"""Train, dev and test: by the names that files carry, else by content hash, else by the tail of a long document.

text -> blake2b -> 0 ... 0.90 ... 0.95 ... 1        equal texts fall on the same side; adding texts moves none
                   train |   dev   |  test
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ..errors import SightlineError
from .store import Documents

Split = Literal["train", "dev", "test"]
SPLITS: tuple[Split, ...] = ("train", "dev", "test")
WORDS: dict[str, Split] = {
    "train": "train",
    "valid": "dev",
    "validation": "dev",
    "dev": "dev",
    "val": "dev",
    "test": "test",
}
SHARE = 0.05  # of dev, and of test
FEW = 10  # documents: fewer are not drawn from


@dataclass(frozen=True)
class Parts:
    """The three sides of a corpus and one sentence on how they came about."""

    train: Documents
    dev: Documents
    test: Documents
    how: str


def split_named(path: str) -> Split | None:
    """The split that a path names: by its folders first, then by parts of the file's name (``wiki.train.tokens``)."""
    return next((WORDS[word] for word in re.split(r"[./_\-]", path.lower()) if word in WORDS), None)


def by_content(documents: Documents, name: str) -> Parts:
    """90 / 5 / 5 by content hash; where that leaves a side empty, by its rank; a few documents are cut by a tail."""
    places = documents.places()
    ranked = np.unique(places)
    train, dev, test = _sides(documents, places, 1 - 2 * SHARE, 1 - SHARE)
    if train and dev and test:
        return Parts(train, dev, test, "by content hash of each document: 90% train, 5% dev, 5% test")
    if len(ranked) >= FEW:
        each = max(1, round(SHARE * len(ranked)))
        how = f"by rank of content hash, since {len(documents)} documents are few: the last {each} are test, {each} dev"
        return Parts(*_sides(documents, places, ranked[-2 * each], ranked[-each]), how)
    kept, (dev_tail, test_tail) = _tails(documents, 2, name)
    how = f"{len(documents)} documents are too few to draw from: dev and test are the tail of the largest"
    if len(documents) == 1:
        how = "one document, cut by its tail: the last 10% are dev, then test (5% each)"
    return Parts(kept, dev_tail, test_tail, how)


def _sides(
    documents: Documents, places: NDArray[np.float64], dev_from: float, test_from: float
) -> tuple[Documents, Documents, Documents]:
    """Train, dev and test, cut at two places."""
    train, before_test = places < dev_from, places < test_from
    return documents.take(train), documents.take(~train & before_test), documents.take(~train & ~before_test)


def completed(train: Documents, dev: Documents, test: Documents, name: str) -> Parts:
    """A split by names, whose missing dev or test is taken from train: 5% by content hash, else a tail."""
    how = "by the names of files and folders"
    sides = {"dev": dev, "test": test}
    kept = train
    for side, low in (("dev", 0.0), ("test", SHARE)):
        if sides[side]:
            continue
        places = kept.places()
        drawn = (low <= places) & (places < low + SHARE)
        taken = kept.take(drawn)
        if taken and len(taken) < len(kept):
            kept = kept.take(~drawn)
            how += f"; no {side} was there: 5% of train by content hash"
        else:
            kept, (taken,) = _tails(kept, 1, name, side)
            how += f"; no {side} was there: the tail of train's largest document"
        sides[side] = taken
    return Parts(kept, sides["dev"], sides["test"], how)


def _tails(documents: Documents, count: int, name: str, side: str = "dev") -> tuple[Documents, tuple[Documents, ...]]:
    """Cut ``count`` tails off the largest document, each 5% of the corpus, at most a quarter of the document."""
    lengths = [documents.characters(at) for at in range(len(documents))]
    length, total = max(lengths), sum(lengths)
    at = lengths.index(length)
    if length < 20:
        raise SightlineError(f"{name} holds {total} characters: too few for train, dev and test", "Give more text")
    each = min(max(1, round(SHARE * total)), length // 4)
    first = _boundary(documents, at, length - count * each, each)
    cuts = [first] if count == 1 else [first, _boundary(documents, at, length - each, each)]
    names = ("train", side) if count == 1 else ("train", "dev", "test")
    places = [0, *(documents.offset(at, cut) for cut in cuts), int(documents.sizes()[at])]
    store, whole, label = documents.store, int(documents.numbers[at]), documents.name(at)
    head, *tails = (
        store.view(whole, f"{label}#{word}", start, end)
        for word, start, end in zip(names, places[:-1], places[1:], strict=True)
    )
    numbers = documents.numbers.copy()
    numbers[at] = head
    return Documents(store, numbers), tuple(Documents(store, np.array([tail])) for tail in tails)


def _boundary(documents: Documents, document: int, at: int, room: int) -> int:
    """The end of a paragraph, else of a line, at most a quarter of ``room`` behind ``at``; else ``at`` itself."""
    window = documents.stretch(document, at, room // 4)
    for end in ("\n\n", "\r\n\r\n", "\n"):
        found = window.find(end)
        if found >= 0:
            return at + found + len(end)
    return at + 1 if room > 1 and documents.stretch(document, at - 1, 2) == "\r\n" else at
