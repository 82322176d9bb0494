from __future__ import annotations

import random
from collections.abc import Callable

import numpy as np
import pytest

from sightline.data import Document, Tokenizer, train_tokenizer
from sightline.objectives.backward import Backward
from sightline.objectives.base import Objective
from sightline.objectives.causal import Causal
from sightline.objectives.masked import Masked
from sightline.objectives.model import Model, built
from sightline.objectives.ngram import NGram
from sightline.objectives.permuted import Permuted
from sightline.objectives.prefix import Prefix
from sightline.stacks.shape import Shape

WORDS = ["the", "a", "river", "house", "stone", "sings", "under", "quiet", "red", "bird", "水", "山", "slowly", "and"]
Make = Callable[[type[Objective]], Model]


def prose(seed: int, words: int) -> str:
    drawn = random.Random(seed)
    return " ".join(drawn.choice(WORDS) for _ in range(words)) + ".\n"


@pytest.fixture(scope="session")
def tokenizer() -> Tokenizer:
    return train_tokenizer([prose(0, 50)], "byte")


@pytest.fixture(scope="session")
def documents() -> tuple[Document, ...]:
    return tuple(Document(f"d{number}", prose(number, 5 + number % 7)) for number in range(40))


@pytest.fixture(scope="session")
def make(tokenizer: Tokenizer, documents: tuple[Document, ...]) -> Make:
    held: dict[type[Objective], Model] = {}
    shape = Shape(layers=2, width=16, heads=2, vocabulary=tokenizer.padded, context=32)

    def one(kind: type[Objective]) -> Model:
        if kind not in held:
            held[kind] = built(kind(tokenizer.vocabulary), shape, tokenizer, seed=3)
            if kind is NGram:
                marks = tokenizer.vocabulary
                texts = [np.array([marks.bos, *tokenizer.encode(one.text), marks.eos]) for one in documents]
                offsets = np.cumsum([0, *(len(text) for text in texts)])[:-1]
                held[kind].stack.fit(np.concatenate(texts), offsets)  # type: ignore[operator]
        return held[kind]

    return one


FAMILIES = (Causal, Backward, Prefix, Masked, Permuted, NGram)
