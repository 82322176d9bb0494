"""Chinese words, where a segmenter rather than each character says that one begins (extra ``chinese``).

我们在图书馆里读书   ->   我们 | 在 | 图书馆 | 里 | 读书

rjieba: jieba's dictionary and hidden Markov model in Rust, some 4 MB/s on a core; jieba itself takes ten times as long
and has had no release since 2020. Both split scripts with spaces at spaces and punctuation.
"""

from __future__ import annotations

import re
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from ..errors import SightlineError

_LOST = re.compile("[\udc80-\udcff]")  # bytes of a character that was cut apart, as Python keeps them


def word_begins(text: bytes) -> NDArray[np.bool_]:
    """For each byte of the text, and for its end [N + 1], whether a word begins there.

    Raises
    ------
    SightlineError : there is no segmenter.
    """
    whole = _LOST.sub("?", text.decode("utf-8", errors="surrogateescape"))  # one byte each, as before
    begins = np.zeros(len(text) + 1, np.bool_)
    begins[np.cumsum([0, *(len(word.encode("utf-8")) for word in _cut()(whole))])] = True
    return begins


def _cut() -> Callable[[str], list[str]]:
    try:
        from rjieba import cut
    except ImportError as error:
        raise SightlineError(
            "whole Chinese words need a segmenter, and rjieba is not installed",
            "pip install 'sightline[chinese]', or leave segmented away: each character is then a word",
        ) from error
    found: Callable[[str], list[str]] = cut
    return found
