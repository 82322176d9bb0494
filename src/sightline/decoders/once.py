"""What is left of texts that were written all at once: up to the end that they tell, and of equals in a row, one.

    written   </s>  the  the  cat  cat  sat  </s>  on  </s>
    left            the       cat       sat              an end before any word ends nothing

Places that do not know of each other write a word twice, or an end where none is; Qi et al., BANG (2021), mend it so.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from .draft import Written

AGAIN = re.compile(r"(?<!\S)(\S+)(?:\s+\1)+(?!\S)")  # a word that stands twice or more


def left_of(written: Written, stops: Sequence[int]) -> Written:
    """The texts with what is dropped of them outside; log p is kept of all that is written up to the end, and of it."""
    canvas = written.canvas
    mine = canvas.inside & ~canvas.given
    ends = mine & np.isin(canvas.tokens, stops)
    worded = np.cumsum(mine & ~ends, axis=1) > 0
    ended = np.cumsum(ends & worded, axis=1)
    told = mine & worded & ((ended == 0) | (ends & (ended == 1)))
    words = told & ~ends
    again = np.zeros_like(words)
    again[:, 1:] = words[:, 1:] & words[:, :-1] & (canvas.tokens[:, 1:] == canvas.tokens[:, :-1])
    kept = canvas.inside & (canvas.given | (words & ~again))
    return replace(
        written, canvas=replace(canvas, inside=kept), logprobs=np.where(told | canvas.given, written.logprobs, 0.0)
    )


def unrepeated(text: str) -> str:
    """Of equal words in a row, one."""
    return AGAIN.sub(r"\1", text)
