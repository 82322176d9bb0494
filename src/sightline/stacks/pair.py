"""Two stacks side by side that share their ends: one table of token vectors below, one head above, nothing between.

    stream 0   vectors -> half 0 -> states                the halves never meet, so that what one is asked
    stream 1   vectors -> half 1 -> states                may be shown to the other (Peters et al., ELMo, 2018)

A size's layers are shared between the halves. Which way a half reads is written in the view, not here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal, cast, get_args

from torch import Tensor, nn

from ..errors import SightlineError
from ..sight import Depth
from .cache import Cache
from .characters import Characters, ids_of_pieces
from .look import Look
from .lstm import LSTM
from .shape import Shape
from .transformer import Transformer

Body = Literal["transformer", "lstm", "original"]
ORIGINAL_LAYERS, ORIGINAL_CELLS, ORIGINAL_DROPOUT = 2, 8, 0.1  # of a half; cells for each channel


def half_shape(shape: Shape, body: Body) -> Shape:
    """The shape of one half of a pair of this shape."""
    if body not in get_args(Body):
        raise SightlineError(f"there is no pair of {body!r}", f"Choose from {', '.join(get_args(Body))}")
    if body == "original":
        return replace(shape, layers=ORIGINAL_LAYERS, dropout=ORIGINAL_DROPOUT, final_norm=False)
    if shape.layers < 2:
        raise SightlineError(f"two halves cannot share {shape.layers} layer", "Use 2 or more")
    return replace(shape, layers=shape.layers // 2)


def cells_of(width: int, body: Body) -> int:
    """Cells of a layer: the original's 8 for each channel, else as many as make a transformer's layer in weights."""
    return ORIGINAL_CELLS * width if body == "original" else -(-4 * width // 24) * 8


class Pair(nn.Module):
    """States of the slots of a look whose slots are all of one stream, by that stream's half.

    Parameters
    ----------
    shape : of both halves together.
    body : two transformers, two LSTMs, or the original: LSTMs of two layers over characters, whatever ``shape`` says.
    pieces : the bytes that each token stands for, where its characters are read. bos, eos : marks that begin and end.
    """

    def __init__(
        self, shape: Shape, body: Body = "transformer", pieces: Sequence[bytes] = (), bos: int = -1, eos: int = -1
    ) -> None:
        super().__init__()
        self.shape, self.body = shape, body
        half = half_shape(shape, body)
        self.embedding: nn.Embedding | Characters
        if body == "original":
            if not pieces:
                raise SightlineError(
                    "characters are read from a tokenizer's pieces, and there is none", "Give the model a tokenizer"
                )
            self.embedding = Characters(shape.width, ids_of_pieces(pieces, bos, eos, shape.vocabulary))
        else:
            self.embedding = nn.Embedding(shape.vocabulary, shape.width)
            nn.init.normal_(self.embedding.weight)
        if body == "transformer":
            self.halves = nn.ModuleList(Transformer(half, table=False) for _ in range(2))
        else:
            cells = cells_of(shape.width, body)
            self.halves = nn.ModuleList(LSTM(half, cells, table=False) for _ in range(2))

    @property
    def _first(self) -> Transformer | LSTM:
        return cast(Transformer | LSTM, self.halves[0])

    @property
    def packs(self) -> bool:
        """Whether a half tells packed documents apart by itself."""
        return self._first.packs

    @property
    def depth(self) -> Depth:
        """What each half does to a sight."""
        return self._first.depth

    @property
    def width(self) -> int:
        """Width of a half's states."""
        return self.shape.width

    def flops(self, slots: float, pairs: float) -> float:
        """Operations of one pass over slots of either half."""
        ends = self.embedding.flops(slots) if isinstance(self.embedding, Characters) else 0.0
        return ends + self._first.flops(slots, pairs)

    def readied(self, look: Look) -> Look:
        """See ``Transformer``."""
        return self._first.readied(look)

    def forward(
        self, look: Look, cache: Cache | None = None, taps: list[Tensor] | None = None, stream: int = 0
    ) -> Tensor:
        """As the halves' own; ``stream`` is that of the look's slots."""
        shown = self.embedding(look.tokens.clamp(min=0))
        return cast(Tensor, self.halves[stream](look, cache, taps, shown))
