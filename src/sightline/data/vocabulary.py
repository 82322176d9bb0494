"""What a family must know of a tokenizer: how many ids there are, and which of them are marks rather than text."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ..errors import SightlineError


@dataclass(frozen=True)
class Vocabulary:
    """Ids of a tokenizer.

    Parameters
    ----------
    size : ids known to the tokenizer.
    padded : rows of the embedding table (``size`` rounded up).
    pad, bos, eos, mask, cls, sep : ids of the marks; -1 where the tokenizer has none.
    modes : ids that name a mode of a mixture. spares : ids that mean nothing yet (sentinels of cut-out spans).
    specials : every id that is a mark, ascending.
    never : marks that a family never predicts, besides padding.
    ends : ids that end a text when written, besides eos (the end of a turn beside that of a document).
    """

    size: int
    padded: int
    pad: int = -1
    bos: int = -1
    eos: int = -1
    mask: int = -1
    cls: int = -1
    sep: int = -1
    modes: tuple[int, ...] = ()
    spares: tuple[int, ...] = ()
    specials: tuple[int, ...] = ()
    never: tuple[int, ...] = ()
    ends: tuple[int, ...] = ()

    def need(self, mark: str) -> int:
        """The id of a mark, or an error that says what to do where the tokenizer lacks it."""
        token = int(getattr(self, mark))
        if token < 0:
            raise SightlineError(
                f"the tokenizer has no {mark} token, which this family needs",
                "Train one (leave --tokenizer away) or add the token to its tokenizer.json",
            )
        return token

    def need_some(self, marks: Literal["modes", "spares"], count: int, what: str) -> tuple[int, ...]:
        """The first ``count`` of several ids, or an error where there are fewer; ``what`` needs them."""
        there: tuple[int, ...] = getattr(self, marks)
        if len(there) < count:
            kind = "mode" if marks == "modes" else "spare"
            raise SightlineError(
                f"{what} needs {count} {kind} tokens, and the tokenizer has {len(there)}",
                "Train one (leave --tokenizer away) or choose settings that need fewer",
            )
        return there[:count]

    @property
    def stops(self) -> tuple[int, ...]:
        """Ids that end a text when written."""
        return (self.eos, *self.ends)

    @cached_property
    def ordinary(self) -> NDArray[np.int64]:
        """Ids that stand for text, ascending."""
        return np.setdiff1d(np.arange(self.size), np.asarray(self.specials, dtype=np.int64))

    @cached_property
    def is_special(self) -> NDArray[np.bool_]:
        """For each of the ``padded`` ids, whether it is a mark or padding of the table."""
        special = np.ones(self.padded, dtype=np.bool_)
        special[self.ordinary] = False
        return special

    @cached_property
    def unpredictable(self) -> NDArray[np.int64]:
        """Ids never predicted: the padding mark unless it ends a text too, the padding of the table, and ``never``."""
        marks = [*([self.pad] if self.pad >= 0 and self.pad not in self.ends else []), *self.never]
        return np.concatenate([np.arange(self.size, self.padded), np.array(marks, dtype=np.int64)])
