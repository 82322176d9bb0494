"""CBOW against gensim: the same draws, tree and noise, so with one worker the same vectors.

Both look the sigmoid up in 1,000 steps. A product that rounds to the other side of a step (another library orders its
additions) changes one update by 0.3% of the rate, some 1e-4: that is allowed where many products are taken. A wrong
draw, turn or window changes vectors by 1e-2 and more. The golden, 720 words and a constant rate, is held to 1e-5.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from gensim.models import Word2Vec

from sightline.data.vocabulary import Vocabulary
from sightline.stacks.bag import Bag
from sightline.stacks.hogwild import Manner

RATE = 0.025


def corpus(seed: int) -> tuple[list[np.ndarray], int]:
    """About 720 words in documents of 1 to 24; ids by first appearance, which breaks gensim's ties too."""
    draw = np.random.default_rng(seed)
    chance = 1 / np.arange(1, 41)
    documents = [draw.choice(40, draw.integers(1, 25), p=chance / chance.sum()) for _ in range(58)]
    first = {word: at for at, word in enumerate(dict.fromkeys(int(word) for one in documents for word in one))}
    return [np.array([first[int(word)] for word in one]) for one in documents], len(first)


@pytest.mark.parametrize(
    ("theirs", "manner", "passes", "tolerance"),
    [
        # nothing drawn, and a rate that stays
        ({"hs": 1, "negative": 0, "sample": 0, "shrink_windows": False, "min_alpha": RATE},
         Manner(loss="hierarchical", sample=0, shrink=False), 1, 1e-5),
        ({"hs": 1, "negative": 0, "sample": 0}, Manner(loss="hierarchical", sample=0), 1, 3e-4),
        ({"hs": 1, "negative": 0, "sample": 2e-2}, Manner(loss="hierarchical", sample=2e-2), 1, 3e-4),
        ({"hs": 0, "negative": 5, "sample": 0}, Manner(sample=0), 1, 3e-4),
        ({"hs": 0, "negative": 3, "sample": 2e-2, "window": 3, "vector_size": 24},
         Manner(negatives=3, sample=2e-2, window=3), 2, 3e-4),
    ],
    ids=["golden", "tree", "tree, thinned", "noise", "noise, thinned, two passes"],
)  # fmt: skip
def test_the_vectors_are_gensims(
    theirs: dict[str, Any], manner: Manner, passes: int, tolerance: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    documents, count = corpus(1)
    settings = {"vector_size": 16, "window": 5, "alpha": RATE, "min_alpha": 1e-4, **theirs}
    model = Word2Vec(
        [[str(word) for word in one] for one in documents],
        min_count=1, workers=1, seed=7, epochs=passes, **settings,
    )  # fmt: skip
    bag = Bag(
        Vocabulary(count, count), settings["vector_size"], replace(manner, update="original", rate=settings["alpha"])
    )
    monkeypatch.setattr("sightline.stacks.bag.LEAST_RATE", settings["min_alpha"])
    one_after_another = np.random.RandomState(7)
    bag.fit(
        np.concatenate(documents),
        np.cumsum([0, *map(len, documents)])[:-1],
        passes=passes,
        seed=7,
        draws=lambda chunk: one_after_another,
    )
    assert [str(word) for word in bag.words.tolist()] == model.wv.index_to_key
    assert np.abs(bag.inputs.detach().numpy() - model.wv.vectors).max() < tolerance
    outputs = model.syn1 if manner.loss == "hierarchical" else model.syn1neg
    rows = len(bag.outputs)
    assert np.abs(bag.outputs.detach().numpy() - outputs[:rows]).max() < tolerance
    assert np.abs(outputs).max() > 1e-3  # it learned something
