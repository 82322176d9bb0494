"""Tiny random models of each family over a small vocabulary."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from sightline.data import Tokenizer, train_tokenizer
from sightline.data.vocabulary import Vocabulary
from sightline.objectives.backward import Backward
from sightline.objectives.base import Objective
from sightline.objectives.block_diffusion import BlockDiffusion
from sightline.objectives.causal import Causal
from sightline.objectives.masked import Masked
from sightline.objectives.model import Model, built
from sightline.objectives.prefix import Prefix
from sightline.stacks.shape import Shape

FAMILIES: dict[str, type[Objective]] = {
    "causal": Causal,
    "backward": Backward,
    "prefix": Prefix,
    "masked": Masked,
    "block_diffusion": BlockDiffusion,
}
SMALL = Vocabulary(size=20, padded=24, pad=0, bos=1, eos=2, mask=3, specials=(0, 1, 2, 3))


@pytest.fixture(scope="session")
def letters() -> Tokenizer:
    return train_tokenizer(["abcdefghijklmnop"], "byte")


@pytest.fixture
def small(letters: Tokenizer) -> Callable[..., Model]:
    """Makes a random model: family, seed, and parts of its shape. The vocabulary is ``SMALL``, not the tokenizer's."""

    def make(family: str, seed: int = 0, **shape: object) -> Model:
        torch.set_num_threads(1)
        parts: dict[str, object] = {"layers": 2, "width": 32, "heads": 4, "vocabulary": 24, "context": 64}
        model = built(FAMILIES[family](SMALL), Shape(**parts | shape), letters, seed)  # type: ignore[arg-type]
        with torch.no_grad():
            model.head.weight.mul_(60)  # sharp enough that the likeliest token is no matter of rounding
        return model.eval()

    return make
