"""Where sentences end, for families that hide, move or write whole sentences.

A sentence ends at a full stop, a question or exclamation mark or an ellipsis before white space, at the stops of
Chinese and Japanese wherever they stand, before a blank line, and where its text ends; quotes and brackets that close
behind the stop belong to it. Abbreviations count as ends: a rule that knew them would know one language.
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np
from numpy.typing import NDArray

# Over bytes, so that tokens which cut a character apart are counted right.
_CLOSED = "(?:[\"')\\]]|”|’|»|」|』|）|】|》)*"
_ENDS = re.compile(
    "|".join(
        (
            rf"(?:[.!?]|…)+{_CLOSED}(?=\s)",
            f"(?:。|！|？|｡)+{_CLOSED}",
            r"(?<=\S)(?=[ \t\r]*\n[ \t\r]*\n)",
        )
    ).encode("utf-8")
)


def sentence_ends(text: bytes, lengths: NDArray[Any]) -> NDArray[np.bool_]:
    """Which tokens hold the last byte of a sentence; ``lengths`` [N] are the bytes of each token of the text."""
    ends = np.zeros(len(lengths), np.bool_)
    whole = text.rstrip()
    if whole:
        places = [*(match.end() for match in _ENDS.finditer(text)), len(whole)]
        ends[np.searchsorted(np.cumsum(lengths), places)] = True
    return ends
