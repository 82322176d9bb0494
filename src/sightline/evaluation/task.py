"""A question about texts, made from what a corpus knows: its labels, or which document a paragraph is from."""

from __future__ import annotations

import itertools
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from ..data import Corpus, Document, labels_of

CLASSES = 10  # the K largest
LEAST = 15  # texts a class needs
MOST_TEXTS = 1000  # over all classes and sides
PARAGRAPH = (200, 800)  # bytes: shorter ones are joined, longer ones cut


@dataclass(frozen=True)
class Task:
    """Texts with labels, in three sides; choice on dev, report on test.

    Parameters
    ----------
    train, dev, test : (text, class number).
    classes : names by number. what : the question, in words. note : where the texts come from.
    """

    train: tuple[tuple[str, int], ...]
    dev: tuple[tuple[str, int], ...]
    test: tuple[tuple[str, int], ...]
    classes: tuple[str, ...]
    what: str
    note: str


@dataclass(frozen=True)
class NoTask:
    """Why a corpus gives no question."""

    why: str


def task_for(corpus: Corpus, label: str | None = None, seed: int = 0) -> Task | NoTask:
    """The question for a corpus.

    Parameters
    ----------
    label : the field that labels came from, where the user named one: the texts are then whole documents. Otherwise
        paragraphs are asked for the largest of the labels a source gives, or of the documents.
    """
    if label is not None:
        return _by_label(corpus, label, seed)
    parts = (corpus.train, corpus.dev, corpus.test)
    count = sum(map(len, parts))
    labels = {one for part in parts for one in labels_of(part) if one is not None}
    by_label = 2 <= len(labels) < count
    kind = "labels" if by_label else "documents"
    # Read only when it comes to them: all sides may be more than memory holds.
    sides: tuple[tuple[str, Iterable[Document], int], ...] = (
        ("the test side, which no family was trained on", corpus.test, 4),
        ("the dev and test sides, which no family was trained on", itertools.chain(corpus.dev, corpus.test), 4),
        ("all sides: every family was trained on most of these paragraphs", itertools.chain(*parts), 2),
    )
    for where, documents, least in sides:
        found = _paragraphs_of(documents, by_label)
        large = sorted(
            ((name, texts) for name, texts in found.items() if len(texts) >= LEAST), key=lambda one: -len(one[1])
        )
        if len(large) >= least:
            chosen = dict(large[:CLASSES])
            what = f"which of the {len(chosen)} largest {kind} a paragraph is from"
            return _split(chosen, what, f"paragraphs of {where}", seed)
    one = "one document" if count == 1 else f"no two {kind} with {LEAST} paragraphs"
    return NoTask(f"the corpus has {one} to ask about, and no label was named (--label FIELD)")


def _by_label(corpus: Corpus, label: str, seed: int) -> Task | NoTask:
    """Whole documents by their label, on the corpus's own sides."""
    counts = Counter(one for one in labels_of(corpus.train) if one is not None)
    classes = tuple(sorted(name for name, _ in counts.most_common(50)))
    if len(classes) < 2:
        return NoTask(f"the field {label!r} has {len(classes)} value(s) on the training side, and a question needs two")
    number = {name: at for at, name in enumerate(classes)}
    generator = np.random.default_rng((seed, 4))
    most = {"train": 2 * MOST_TEXTS, "dev": MOST_TEXTS // 2, "test": MOST_TEXTS}

    def side(documents: Sequence[Document], limit: int) -> tuple[tuple[str, int], ...]:
        known = [(at, number[one]) for at, one in enumerate(labels_of(documents)) if one in number]
        drawn = (known[at] for at in generator.permutation(len(known))[:limit])
        return tuple((documents[at].text, label) for at, label in drawn)

    train, dev, test = (side(getattr(corpus, name), limit) for name, limit in most.items())
    if not dev or not test:
        return NoTask(f"no document on the dev or test side has one of the values of {label!r}")
    dropped = len(counts) - len(classes)
    note = "whole documents, cut at the model's context" + (f"; {dropped:,} rarer values left out" if dropped else "")
    return Task(train, dev, test, classes, f"the field {label!r} of a document", note)


def _paragraphs_of(documents: Iterable[Document], by_label: bool) -> dict[str, list[str]]:
    found: dict[str, list[str]] = defaultdict(list)
    for document in documents:
        name = document.label if by_label else document.id
        if name is not None:
            found[name].extend(paragraphs(document.text))
    return found


def paragraphs(text: str) -> list[str]:
    """Pieces of 200 to 800 bytes: stretches between blank lines, short ones joined, long ones cut at white space."""
    least, most = PARAGRAPH
    pieces: list[str] = []
    open_one = ""
    for stretch in re.split(r"\n\s*\n", text):
        open_one = f"{open_one}\n\n{stretch.strip()}".strip()
        while len(open_one.encode()) > most:
            cut = _cut(open_one, most)
            pieces.append(open_one[:cut].strip())
            open_one = open_one[cut:].strip()
        if len(open_one.encode()) >= least:
            pieces.append(open_one)
            open_one = ""
    return [piece for piece in pieces if len(piece.encode()) >= least // 2]


def _cut(text: str, most: int) -> int:
    """Characters that fit in ``most`` bytes, up to the last white space in the second half of them, if there is any."""
    fits = len(text.encode()[:most].decode(errors="ignore"))
    spaces = [found.start() for found in re.finditer(r"\s", text[:fits])]
    return spaces[-1] if spaces and spaces[-1] > fits // 2 else fits


def _split(texts: dict[str, list[str]], what: str, note: str, seed: int) -> Task:
    """Three fifths of each class to train, a fifth each to dev and test; no more than ``MOST_TEXTS`` in all."""
    classes = tuple(sorted(texts))
    each = MOST_TEXTS // len(classes)
    generator = np.random.default_rng((seed, 5))
    sides: tuple[list[tuple[str, int]], ...] = ([], [], [])
    for number, name in enumerate(classes):
        once = list(dict.fromkeys(texts[name]))
        drawn = [once[at] for at in generator.permutation(len(once))[:each]]
        fifth = max(1, len(drawn) // 5)
        for side, part in zip(sides, (drawn[2 * fifth :], drawn[:fifth], drawn[fifth : 2 * fifth]), strict=True):
            side.extend((text, number) for text in part)
    train, dev, test = (tuple(side) for side in sides)
    return Task(train, dev, test, classes, what, note)
