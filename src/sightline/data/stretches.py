"""Which characters of a text its tokens stand for, whatever was done to the text before it was cut.

Café 京      bpe        Caf é ␣ä ¸Ń       0-3 3-4 4-6 5-6      a character in two tokens is of both
            WordPiece  ca ##fe 京         0-2 2-4 5-6          what is dropped, as spaces, is of none
            Unigram    ▁ Café ▁ 京        0-0 0-4 4-5 5-6      a space that the text has not stands for nothing
"""

from __future__ import annotations

from collections.abc import Sequence
from unicodedata import category

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Ends = tuple[Ints, Ints]  # first and last of each token: the characters [first, last)


def by_sizes(text: str, sizes: Ints) -> Ends:
    """Of tokens whose pieces joined are the text, from their bytes."""
    last = np.cumsum(sizes)
    first = last - sizes
    if text.isascii():
        return first, last
    begun = np.cumsum((np.frombuffer(text.encode(), np.uint8) & 0xC0) != 0x80, dtype=np.int64)
    return begun[first] - 1, begun[last - 1]


def by_offsets(text: str, offsets: Sequence[tuple[int, int]], pieces: Sequence[bytes]) -> Ends:
    """Of tokens whose offsets the ``tokenizers`` library kept through every normalizer, never falling.

    An accent that was taken off goes with its letter, so that a stretch is what stands in the text.
    """
    first, last = ([ends[side] for ends in offsets] for side in (0, 1))
    for at, piece in enumerate(pieces):
        if piece.isspace() and not text[first[at] : last[at]].isspace():  # sentencepiece's space before a text
            last[at] = first[at]
    if not text.isascii():
        for at, stop in zip(range(len(last)), [*first[1:], len(text)], strict=False):
            while first[at] < last[at] < stop and category(text[last[at]])[0] == "M":
                last[at] += 1
    return np.maximum.accumulate(np.array(first, np.int64)), np.maximum.accumulate(np.array(last, np.int64))
