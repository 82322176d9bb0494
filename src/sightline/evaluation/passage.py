"""Held-out passages: what stands before, what is to be written, what stands after. The same for all families."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..data import Document, Tokenizer
from ..data.pairs import parted

TRIES = 50  # places looked at for each passage


@dataclass(frozen=True)
class Passage:
    """A stretch of a document in three parts.

    Parameters
    ----------
    left, truth, right : texts that follow one another. tokens : of ``truth``.
    pair : ``left`` is a source and ``truth`` its target, and nothing follows.
    """

    left: str
    truth: str
    right: str
    tokens: int
    pair: bool = False


def passages(
    documents: Sequence[Document],
    tokenizer: Tokenizer,
    *,
    count: int = 16,
    length: int = 32,
    side: int = 64,
    seed: int = 0,
) -> tuple[Passage, ...]:
    """Draw passages of ``side``, ``length`` and ``side`` tokens; fewer, or none, where the documents are too short.

    What is to be written begins at the beginning of a word wherever the tokenizer shows one, and no part is cut
    within a character. Longer documents are drawn more often.
    """
    whole = 2 * side + length
    ids = [one for one in tokenizer.encode_many([document.text for document in documents]) if len(one) >= whole]
    if not ids:
        return ()
    generator = np.random.default_rng((seed, 6))
    places = np.array([len(one) - whole + 1 for one in ids], dtype=np.float64)
    drawn: list[Passage] = []
    taken: set[tuple[int, int]] = set()
    for at in generator.choice(len(ids), size=count * TRIES, p=places / places.sum()).tolist():
        start = int(generator.integers(places[at]))
        found = _passage(ids[at], start, tokenizer, length, side, strict=len(taken) < count * TRIES // 2)
        key = (at, start // whole)  # no two passages from one stretch
        if found is not None and key not in taken:
            drawn.append(found)
            taken.add(key)
        if len(drawn) == count:
            break
    return tuple(drawn)


def pair_passages(
    documents: Sequence[Document], tokenizer: Tokenizer, *, count: int = 64, seed: int = 0
) -> tuple[Passage, ...]:
    """Pairs drawn by seed, each a source whose target is to be written; all of them are as long as the longest."""
    drawn = np.random.default_rng((seed, 6)).permutation(len(documents))[:count]
    sides = [parted(documents[at].text) for at in drawn.tolist()]
    longest = max((len(tokenizer.encode(target)) for _, target in sides), default=0)
    return tuple(Passage(source, target, "", longest, pair=True) for source, target in sides)


def pair_copies(documents: Sequence[Document], *, count: int, seed: int = 0) -> tuple[str, ...]:
    """Targets drawn from the training pairs: what writing for a source must beat."""
    drawn = np.random.default_rng((seed, 7)).integers(len(documents), size=count)
    return tuple(parted(documents[at].text)[1] for at in drawn.tolist())


def copies(
    documents: Sequence[Document], tokenizer: Tokenizer, *, count: int, length: int, seed: int = 0
) -> tuple[str, ...]:
    """Random stretches of the training text, ``length`` tokens each: what writing must beat."""
    generator = np.random.default_rng((seed, 7))
    sizes = np.array([len(document.text) for document in documents], dtype=np.float64)
    texts = []
    for at in generator.choice(len(documents), size=count, p=sizes / sizes.sum()).tolist():
        text = documents[at].text
        start = int(generator.integers(max(1, len(text) - 40 * length)))
        ids = tokenizer.encode(text[start : start + 80 * length])  # a stretch is enough: documents may be long
        words = np.flatnonzero(tokenizer.starts_word[ids])
        first = int(words[0]) if len(words) and words[0] + length <= len(ids) else 0
        texts.append(tokenizer.decode(ids[first : first + length]))
    return tuple(texts)


def _passage(
    ids: NDArray[np.int32], start: int, tokenizer: Tokenizer, length: int, side: int, strict: bool
) -> Passage | None:
    """The passage that starts here, or None where it would be cut within a character or a word."""
    middle, end, last = start + side, start + side + length, start + 2 * side + length
    if strict and tokenizer.starts_word[ids].any() and not tokenizer.starts_word[ids[middle]]:
        return None
    left, truth, right = (
        tokenizer.decode(ids[first:stop]) for first, stop in ((start, middle), (middle, end), (end, last))
    )
    joined = left + truth + right
    if tokenizer.lossless and joined != tokenizer.decode(ids[start:last]):
        return None
    if "\ufffd" in joined or not truth.strip():
        return None
    return Passage(left, truth, right, length)
