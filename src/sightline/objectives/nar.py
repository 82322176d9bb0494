"""Non-autoregressive translation: every place of the target in one pass, each without regard to the others.

    source    bos  ich  sah  es  sep                       asked of bos: 4
    target    [mask] [mask] [mask] [mask]                  p(target | source) = p(4 | source) * prod_t p(y_t | source)
    asks      I      saw    it     end

Where a source has several good targets a place does not know which of them its neighbour is in: targets of another
model (`sightline distill`) are easier to learn. Gu et al., Non-Autoregressive Neural Machine Translation (2018), with
a length in place of fertilities.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from ..data import RowDraws
from .at_once import AtOnce, Bools
from .base import Sampler


@dataclass(frozen=True)
class Nar(AtOnce):
    """All of a target, given its source and its length.

    Parameters
    ----------
    smoothing : share of each answer's probability that training gives to all tokens alike, in [0, 1); scores have none.
    encoder_layers, decoder_layers : of each stack; 0: half of the size's.
    """

    family: ClassVar[str] = "nar"
    title: ClassVar[str] = "nar: a whole target in one pass, its length told first"
    decoder: ClassVar[str] = "every place at once, for a few lengths; the source read once"
    sampler: ClassVar[Sampler] = "once"

    def hidden(self, target: Bools, documents: NDArray[np.integer], draws: RowDraws) -> Bools:
        return np.asarray(target)
