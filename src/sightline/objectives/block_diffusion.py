"""Block diffusion: blocks from left to right, and masked diffusion within a block.

    clean   the   ■ ■ · ·   · · · ·                        a clean block sees itself and those before it; a noised one
            cat   ■ ■ · ·   · · · ·                        itself and the clean ones before it
            sat   ■ ■ ■ ■   · · · ·
            .     ■ ■ ■ ■   · · · ·                        -log p(x) <= sum over blocks of the block's bound, given
    noised  MASK  · · · ·   ■ ■ · ·   asked for: the       those before it (and how many tokens it has)
            cat   · · · ·   ■ ■ · ·
            MASK  ■ ■ · ·   · · ■ ■   asked for: sat       blocks of one token: exact, and a causal model; one block
            .     ■ ■ · ·   · · ■ ■                        for all: masked diffusion

Both streams run in one pass. Clean blocks never change, so while a text is written their states are kept.

Arriola et al., Block Diffusion: Interpolating Between Autoregressive and Diffusion Language Models (2025).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from ..data import RowDraws, Rows
from ..decoders.canvas import Canvas
from ..errors import SightlineError
from ..sight import NO_DOCUMENT, NOTHING, Rule, Slots, View, asker, earlier_segment, fixed, same_segment, seen
from .base import Given, within_document
from .diffusion import Diffusion, Groups

CLEAN, NOISED = 0, 1  # streams


@dataclass(frozen=True)
class BlockDiffusion(Diffusion):
    """Masked diffusion of one block after the other, all blocks of a row in one pass of two streams.

    Parameters
    ----------
    block : tokens of a block, 1 or more; blocks are counted from the beginning of each document. Each draws a level.
    masks, times, schedule, least, most : as for ``diffusion``, for each block.
    """

    block: int = 4

    family: ClassVar[str] = "block_diffusion"
    title: ClassVar[str] = "block diffusion (BD3-LM): blocks left to right, diffusion within a block"
    segments: ClassVar[int] = 0  # each block is one
    decoder: ClassVar[str] = "block by block, finished blocks cached; within a block the surest first"
    writes_from: ClassVar[Given] = "left"
    settles: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.block < 1:
            raise SightlineError(f"a block of {self.block} tokens holds nothing", "Use 1 or more, such as 4")

    @property
    def rule(self) -> Rule:
        """A block sees itself in its own stream, and the clean blocks before it."""
        return (same_segment & (seen.stream == asker.stream)) | (earlier_segment & (seen.stream == CLEAN))

    @property
    def blocks_of(self) -> int:
        return self.block

    @property
    def foresees(self) -> bool:
        return True

    def ask(self, rows: Rows, draws: RowDraws, progress: float) -> list[View]:
        if self.block > rows.length:
            raise SightlineError(
                f"a block of {self.block} tokens is longer than a row of {rows.length}",
                "Use shorter blocks, or `diffusion`, which takes all for one",
            )
        return super().ask(rows, draws, progress)

    def read(self, rows: Rows) -> View:
        """The clean stream alone."""
        place = np.arange(rows.length)
        index = within_document(rows.documents)
        slots = Slots.of(place, rows.documents, segment=index // self.block, stream=CLEAN, positions=index)
        return View.of(slots, self.rule, shows=place, kind=self.family)

    def counts(self, views: list[View]) -> dict[str, float]:
        return {self.family: super().counts(views)[self.family] / 2}

    def _groups(self, rows: Rows) -> Groups:
        """What shares a level: a block of a document."""
        return Groups.of(within_document(rows.documents) % self.block == 0)

    def _view(self, rows: Rows, hidden: NDArray[np.bool_], weights: NDArray[np.float64] | NDArray[np.bool_]) -> View:
        place = np.broadcast_to(np.arange(rows.length), hidden.shape)
        index = within_document(rows.documents)

        def both(clean: NDArray[np.integer], noised: NDArray[np.integer]) -> NDArray[np.integer]:
            return np.concatenate([clean, noised], axis=1)

        slots = Slots.of(
            both(place, place),
            both(rows.documents, rows.documents),
            segment=both(index, index) // self.block,
            stream=np.repeat([CLEAN, NOISED], rows.length),
            positions=both(index, index),
        )
        nothing = np.full_like(place, NOTHING)
        return View.of(
            slots,
            self.rule,
            shows=both(place, np.where(hidden, fixed(self.vocabulary.mask), place)),
            asks=both(nothing, np.where(hidden, place, NOTHING)),
            weights=np.concatenate([weights, weights], axis=1),
            most_asks=rows.length,
            kind=self.family,
        )

    def fill(self, canvas: Canvas) -> View:
        """Finished blocks clean, and the first block with an open place noised; lines begin together, so that the
        columns of finished blocks stay where they are in a cache.
        """
        begins = canvas.inside.argmax(1)[:, None]
        place = np.arange(canvas.places)
        block = (place - begins) // self.block
        waits = ~canvas.done[:, None]
        current = np.take_along_axis(block, canvas.open.argmax(1)[:, None], axis=1)
        noised = waits & (block == current)
        document = np.where(canvas.inside & ~(waits & (block > current)), 0, NO_DOCUMENT)
        width = canvas.places - int((document != NO_DOCUMENT).any(0)[::-1].argmax())
        asked = canvas.open & noised
        slots = Slots.of(
            place,
            document,
            segment=block,
            stream=np.where(noised, NOISED, CLEAN),
            positions=np.maximum(place - begins, 0),
        ).take(slice(0, width))
        return View.of(
            slots,
            self.rule,
            shows=np.where(canvas.open, fixed(self.vocabulary.mask), place)[:, :width],
            asks=np.where(asked, place, NOTHING)[:, :width],
            most_asks=max(1, int(asked.sum(1).max())),
            settled=int(noised[~canvas.done].argmax(1).min()) if waits.any() else width,
            kind=self.family,
        )
