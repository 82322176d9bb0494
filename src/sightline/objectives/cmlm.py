"""Mask-Predict: hidden tokens of a target from those that are shown, and from its source.

    source    bos  ich  sah  es  sep         asked of bos: 4
    target    I  [mask]  it  [mask]          how many are hidden is drawn from 1 to all of them, and which ones then
    asks          saw         end

It writes all places from nothing but masks, hides the least sure of them again, and answers them anew with the others
in sight: a few rounds, of which the first is `nar`. The score is of that one pass; of several there is no likelihood.

Hidden are 1 to N of N, as in the paper (its code leaves N out). Ghazvininejad et al., Mask-Predict (2019).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from ..data import RowDraws
from .at_once import AtOnce, Bools
from .base import Sampler, within_document
from .diffusion import Groups


@dataclass(frozen=True)
class Cmlm(AtOnce):
    """A drawn number of a target's tokens, given the rest of them and the source.

    Parameters
    ----------
    smoothing : share of each answer's probability that training gives to all tokens alike, in [0, 1); scores have none.
    encoder_layers, decoder_layers : of each stack; 0: half of the size's.
    """

    family: ClassVar[str] = "cmlm"
    title: ClassVar[str] = "cmlm (Mask-Predict): hidden tokens of a target, in a few rounds"
    decoder: ClassVar[str] = "all places, then the least sure again, for a few lengths; the source read once"
    sampler: ClassVar[Sampler] = "refine"

    def hidden(self, target: Bools, documents: NDArray[np.integer], draws: RowDraws) -> Bools:
        groups = Groups.of(within_document(documents) == 0)
        count = np.take_along_axis(draws.uniform(target.shape[1]), groups.first, axis=1)
        hidden, _ = groups.counted(target, count, draws.uniform(target.shape[1]))
        return hidden
