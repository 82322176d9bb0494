"""Train, dev and test: by the names that files carry, else by content hash, else by the tail of a long document.

text -> blake2b -> 0 ... 0.90 ... 0.95 ... 1        equal texts fall on the same side; adding texts moves none
                   train |   dev   |  test
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Literal

from ..errors import SightlineError
from .source import Document

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

    train: tuple[Document, ...]
    dev: tuple[Document, ...]
    test: tuple[Document, ...]
    how: str


def split_named(path: PurePath) -> Split | None:
    """The split that a path names: by its folders first, then by parts of the file's name (``wiki.train.tokens``)."""
    for part in path.parts:
        for word in re.split(r"[._\-]", part.lower()):
            if word in WORDS:
                return WORDS[word]
    return None


def place(text: str) -> float:
    """Where a text falls between 0 and 1, by its content alone."""
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8"), digest_size=8).digest(), "big") / 2**64


def by_content(documents: Sequence[Document], name: str) -> Parts:
    """90 / 5 / 5 by content hash; where that leaves a side empty, by its rank; a few documents are cut by a tail."""
    places = [place(document.text) for document in documents]
    ranked = sorted(set(places))
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
    return Parts(kept, (dev_tail,), (test_tail,), how)


def _sides(
    documents: Sequence[Document], places: Sequence[float], dev_from: float, test_from: float
) -> tuple[tuple[Document, ...], tuple[Document, ...], tuple[Document, ...]]:
    """Train, dev and test, cut at two places."""
    sides: tuple[list[Document], list[Document], list[Document]] = ([], [], [])
    for document, at in zip(documents, places, strict=True):
        sides[0 if at < dev_from else 1 if at < test_from else 2].append(document)
    return tuple(sides[0]), tuple(sides[1]), tuple(sides[2])


def completed(train: Sequence[Document], dev: Sequence[Document], test: Sequence[Document], name: str) -> Parts:
    """A split by names, whose missing dev or test is taken from train: 5% by content hash, else a tail."""
    how = "by the names of files and folders"
    sides: dict[str, tuple[Document, ...]] = {"dev": tuple(dev), "test": tuple(test)}
    kept = tuple(train)
    for side, low in (("dev", 0.0), ("test", SHARE)):
        if sides[side]:
            continue
        taken = tuple(document for document in kept if low <= place(document.text) < low + SHARE)
        if taken and len(taken) < len(kept):
            ids = {id(document) for document in taken}
            kept = tuple(document for document in kept if id(document) not in ids)
            how += f"; no {side} was there: 5% of train by content hash"
        else:
            kept, taken = _tails(kept, 1, name, side)
            how += f"; no {side} was there: the tail of train's largest document"
        sides[side] = taken
    return Parts(kept, sides["dev"], sides["test"], how)


def _tails(
    documents: Sequence[Document], count: int, name: str, side: str = "dev"
) -> tuple[tuple[Document, ...], tuple[Document, ...]]:
    """Cut ``count`` tails off the largest document, each 5% of the corpus, at most a quarter of the document."""
    index = max(range(len(documents)), key=lambda at: len(documents[at].text))
    largest, total = documents[index], sum(len(document.text) for document in documents)
    length = len(largest.text)
    if length < 20:
        raise SightlineError(f"{name} holds {total} characters: too few for train, dev and test", "Give more text")
    each = min(max(1, round(SHARE * total)), length // 4)
    first = _boundary(largest.text, length - count * each, each)
    cuts = [first] if count == 1 else [first, _boundary(largest.text, length - each, each)]
    names = (side,) if count == 1 else ("dev", "test")
    ends = [*cuts[1:], length]
    tails = tuple(
        Document(f"{largest.id}#{word}", largest.text[start:end], largest.label)
        for word, start, end in zip(names, cuts, ends, strict=True)
    )
    head = Document(f"{largest.id}#train", largest.text[: cuts[0]], largest.label)
    return (*documents[:index], head, *documents[index + 1 :]), tails


def _boundary(text: str, at: int, room: int) -> int:
    """The end of a paragraph, else of a line, at most a quarter of ``room`` behind ``at``; else ``at`` itself."""
    window = text[at : at + room // 4]
    for end in ("\n\n", "\r\n\r\n", "\n"):
        found = window.find(end)
        if found >= 0:
            return at + found + len(end)
    return at + 1 if room > 1 and text[at - 1 : at + 1] == "\r\n" else at
