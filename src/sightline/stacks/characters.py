"""Token vectors from characters: convolutions over the bytes of a token's text, two highway layers, a projection.

    " cat"  ->  < 33 100 98 117 > . . .  50 ids: bytes plus one between marks, then filler  -> vectors of 16
            ->  for each span of 1 to 7 ids: filters, the largest value over all places, ReLU
            ->  2 highway layers: gate * relu(A x + a) + (1 - gate) * x                -> width

A text that was never seen gets a vector like any other. Kim et al., Character-aware neural language models (2016);
Srivastava et al., Highway networks (2015); sizes and ids: Peters et al. (2018) and its code.

Shapes: N tokens, L ids of a token, W width.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

LENGTH = 50  # ids of a token; a longer text is cut
NONE, BEGIN_TEXT, END_TEXT, BEGIN, END, FILLER, IDS = 0, 257, 258, 259, 260, 261, 262  # a byte is itself plus one
OF_ID = 16
FILTERS = ((1, 32), (2, 32), (3, 64), (4, 128), (5, 256), (6, 512), (7, 1024))  # at a width of 512
AT_WIDTH = 512
HIGHWAYS = 2
CARRY = -2.0  # bias of the gates: at first nearly everything passes unchanged


def character_ids(text: bytes) -> list[int]:
    """The ``LENGTH`` ids of a token that stands for these bytes, as the original's predictions number them."""
    return _filled([byte + 1 for byte in text[: LENGTH - 2]])


def ids_of_pieces(pieces: Sequence[bytes], bos: int = -1, eos: int = -1, rows: int = 0) -> NDArray[np.int64]:
    """The ids [tokens, ``LENGTH``] of a vocabulary.

    Parameters
    ----------
    pieces : bytes of each token; none for a mark.
    bos, eos : ids of the marks that begin and end a text; other marks are told apart by no character.
    rows : of the table, padding included.
    """
    ids = np.array([character_ids(piece) for piece in pieces], np.int64).reshape(-1, LENGTH)
    for mark, stands in ((bos, BEGIN_TEXT), (eos, END_TEXT)):
        if mark >= 0:
            ids[mark] = _filled([stands])
    return np.concatenate([ids, np.full((max(0, rows - len(ids)), LENGTH), NONE)])


def _filled(inner: list[int]) -> list[int]:
    ids = [BEGIN, *inner, END]
    return ids + [FILLER] * (LENGTH - len(ids))


class Highway(nn.Module):
    """``gate * relu(A x + a) + (1 - gate) * x``: the gate lets the new in."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.new, self.gate = nn.Linear(width, width), nn.Linear(width, width)
        nn.init.normal_(self.new.weight, std=width**-0.5)
        nn.init.normal_(self.gate.weight, std=width**-0.5)
        nn.init.zeros_(self.new.bias)
        nn.init.constant_(self.gate.bias, CARRY)

    def forward(self, x: Tensor) -> Tensor:
        gate = self.gate(x).sigmoid()
        return x + gate * (F.relu(self.new(x)) - x)  # type: ignore[no-any-return]


class Characters(nn.Module):
    """Vectors [..., width] of token ids [...], from the characters of each.

    Parameters
    ----------
    width : of the vectors; the filters are the original's at 512, and in proportion at any other.
    ids : [vocabulary, ``LENGTH``], see ``ids_of_pieces``. They follow from the tokenizer and are saved with it.
    """

    ids: Tensor

    def __init__(self, width: int, ids: NDArray[np.int64]) -> None:
        super().__init__()
        self.register_buffer("ids", torch.from_numpy(ids), persistent=False)
        self.letters = nn.Embedding(IDS, OF_ID, padding_idx=NONE)
        with torch.no_grad():
            self.letters.weight[1:].uniform_(-1, 1)
        counts = [(span, max(1, filters * width // AT_WIDTH)) for span, filters in FILTERS]
        self.filters = nn.ModuleList(nn.Conv1d(OF_ID, filters, span) for span, filters in counts)
        found = sum(filters for _, filters in counts)
        self.highways = nn.Sequential(*(Highway(found) for _ in range(HIGHWAYS)))
        self.out = nn.Linear(found, width)
        nn.init.normal_(self.out.weight, std=found**-0.5)
        nn.init.zeros_(self.out.bias)

    def forward(self, tokens: Tensor) -> Tensor:
        """Each different token is worked out once."""
        different, where = torch.unique(tokens, return_inverse=True)
        return F.embedding(where, self.of(self.ids[different]))

    def of(self, ids_NL: Tensor) -> Tensor:
        """Vectors [N, W] of characters [N, ``LENGTH``], of texts in the vocabulary or not."""
        letters = self.letters(ids_NL).transpose(1, 2).to(self.out.weight.dtype)
        found = torch.cat([F.relu(filters(letters).amax(2)) for filters in self.filters], dim=1)
        return self.out(self.highways(found))  # type: ignore[no-any-return]

    def flops(self, tokens: float) -> float:
        """Operations for so many tokens, counted as if all of them differed."""
        spans = sum(
            weight.numel() * (LENGTH - weight.shape[2] + 1) for weight in self.filters.parameters() if weight.dim() == 3
        )
        dense = [*self.highways.parameters(), *self.out.parameters()]
        return 2.0 * tokens * (spans + sum(weight.numel() for weight in dense if weight.dim() == 2))
