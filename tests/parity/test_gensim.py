"""CBOW and phrases against gensim: the same draws, tree and noise, so with one worker the same vectors.

Both look the sigmoid up in 1,000 steps. A product that rounds to the other side of a step (another library orders its
additions) changes one update by 0.3% of the rate, some 1e-4: that is allowed where many products are taken. A wrong
draw, turn or window changes vectors by 1e-2 and more. The golden, 720 words and a constant rate, is held to 1e-5.

Phrases, without connector words: the same pairs, scores to 1e-9 and joined sentences, pass for pass.
"""

from __future__ import annotations

import re
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gensim.models import Phrases, Word2Vec
from numpy.typing import NDArray

from sightline.data import Phrasing, read, train_tokenizer
from sightline.data.phrases import Lesson, learned
from sightline.data.vocabulary import Vocabulary
from sightline.stacks.bag import Bag
from sightline.stacks.hogwild import Manner

RATE = 0.025
WORDS = re.compile(r"[^\W\d_]+")
SHARES = np.array([9, 7, 5, 4, 3, 2, 1]) / 31


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


def sentences_of(page: str) -> list[list[str]]:
    return [WORDS.findall(one.lower()) for one in page.split(".")]


def drawn_sentences(seed: int) -> list[list[str]]:
    """Few words in nearly every pair: long phrases, and the same words in many orders."""
    draw = np.random.default_rng(seed)
    return [[chr(97 + at) for at in draw.choice(7, draw.integers(0, 30), p=SHARES)] for _ in range(150)]


def numbered(sentences: list[list[str]]) -> tuple[NDArray[np.int32], NDArray[np.int64], list[str]]:
    """Words by number, how many each sentence has, and the words."""
    words = list(dict.fromkeys(word for one in sentences for word in one))
    number = {word: at for at, word in enumerate(words)}
    ids = np.array([number[word] for one in sentences for word in one], np.int32)
    return ids, np.array([len(one) for one in sentences], np.int64), words


def assert_gensims(sentences: list[list[str]], phrasing: Phrasing) -> list[Lesson]:
    """Each pass: the same pairs, scores and sentences; gives the passes."""
    ids, counts, words = numbered(sentences)
    names, lessons = learned(ids, counts, words, phrasing)
    for lesson in lessons:
        model = Phrases(
            sentences,
            min_count=phrasing.count,
            threshold=phrasing.above,
            scoring="default" if phrasing.score == "counts" else "npmi",
        )
        neighbours = {pair for one in sentences for pair in pairwise(one)}
        theirs = {pair: score for pair in neighbours if (score := model.score_candidate(*pair, [])[1]) is not None}
        ours = {
            (names[left], names[right]): score
            for (left, right), score in zip(lesson.joins.pairs, lesson.scores, strict=True)
        }
        assert ours.keys() == theirs.keys()
        assert all(abs(ours[pair] - theirs[pair]) <= 1e-9 * max(1, abs(theirs[pair])) for pair in theirs)
        sentences = [model[one] for one in sentences]
        ids, counts = lesson.joins.apply(ids, counts)
        assert counts.tolist() == [len(one) for one in sentences]
        assert len(set(names)) == len(names)
        assert [names[id] for id in ids] == [word for one in sentences for word in one]
    return lessons


@pytest.mark.parametrize(
    "phrasing",
    [
        Phrasing(),
        Phrasing(count=1, threshold=5, passes=3),
        Phrasing(count=2, threshold=0.5, passes=2),
        Phrasing(score="npmi", count=2, passes=3),
        Phrasing(score="npmi", count=1, threshold=-1, passes=2),
    ],
    ids=["usual", "three passes", "low", "npmi", "npmi, nearly all"],
)
def test_the_phrases_are_gensims(phrasing: Phrasing, page: str) -> None:
    assert_gensims(sentences_of(page * 3), phrasing)
    found = assert_gensims(sentences_of(page), phrasing)
    assert len(found[0].counts) > 10 or phrasing == Phrasing()
    low = 0.02 if phrasing.score == "counts" else -0.03
    drawn = assert_gensims(drawn_sentences(1), replace(phrasing, threshold=low, passes=3))
    assert len(drawn) == 3
    assert sum(len(one.counts) for one in drawn) > 30


def test_phrases_of_news_are_gensims_and_names(shared_data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sightline.data.trainer.RARE", 1)  # gensim counts pairs of all words, and so do we
    news = read(shared_data / "lm_en" / "wikinews").train
    texts = [news[at].text for at in range(1000)]
    plain = train_tokenizer(texts, "word")
    tokenizer = train_tokenizer(texts, "word", phrases=Phrasing(passes=2))
    sentences = [[plain.show(id) for id in ids.tolist()] for ids in plain.encode_many(texts)]
    for _ in range(2):
        model = Phrases(sentences)
        sentences = [model[one] for one in sentences]
    cut = [[tokenizer.show(id) for id in ids.tolist()] for ids in tokenizer.encode_many(texts)]
    assert cut == sentences
    assert {"New_York", "United_States", "Prime_Minister", "Los_Angeles"} <= {word for one in cut for word in one}
