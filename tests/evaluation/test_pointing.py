"""Answers in a context: where their tokens are, windows that cover all, and how answers are compared."""

from __future__ import annotations

import numpy as np
import pytest

from sightline.data import train_tokenizer
from sightline.data.examples import Example
from sightline.data.laid import contexts_laid, texts_laid, words_laid
from sightline.errors import SightlineError
from sightline.evaluation.pointing import _ends, exact, shared, words_of


def test_every_window_knows_the_bytes_of_its_tokens(page: str) -> None:
    tokenizer = train_tokenizer([page], "bpe", 400)
    context = page[:900]
    start = context.index(" ", 700) + 1
    item = Example("q", "here", "What is it?", context, answers=((context[start : start + 12], start),))
    lines, answers = contexts_laid([item], tokenizer, 64, tokenizer.vocabulary.sep)
    raw = context.encode()
    assert len(lines) > 3 and lines[0].first[0] == 0 and lines[-1].last[-1] == len(raw)
    assert all(one.first[0] <= other.last[-1] for one, other in zip(lines[1:], lines, strict=False))  # no gap
    held = [(line, answer) for line, answer in zip(lines, answers, strict=True) if len(answer)]
    assert held and len(held) < len(lines)
    for line, answer in held:
        first, last = _ends(line, answer)
        told = raw[line.first[first - 1] : line.last[last - 1]].decode()
        assert item.answers[0][0].strip() in told and len(told) < 30
        ids = line.ids[line.begin : line.begin + len(line.first)]
        assert tokenizer.decode(ids).encode() == raw[line.first[0] : line.last[-1]]
        assert len(line.ids) <= 64


def test_an_answer_that_is_not_there_is_refused(page: str) -> None:
    tokenizer = train_tokenizer([page], "byte")
    wrong = Example("q", "x.json line 3", "Who?", "Ann ran.", answers=(("Bob", 0),))
    with pytest.raises(SightlineError, match=r"x\.json line 3: the answer 'Bob' does not stand in its context"):
        contexts_laid([wrong], tokenizer, 64, -1)
    moved = Example("q", "x.json line 3", "Who?", "Ann ran.", answers=(("ran", 0),))  # a wrong offset is mended
    assert contexts_laid([moved], tokenizer, 64, -1)[1][0].tolist() == [4, 7]


def test_answers_are_compared_by_their_words() -> None:
    item = Example("q", "", "", "", answers=(("the Broncos", 0), ("Denver Broncos!", 0)))
    assert exact("Broncos", item) == 1.0 and exact("Denver", item) == 0.0
    assert shared("Denver", item) == pytest.approx(2 / 3)
    assert words_of("光荣和ω-force。") == ["光", "荣", "和", "ω", "force"]


def test_words_keep_their_tokens_and_pairs_their_shorter_side(page: str) -> None:
    tokenizer = train_tokenizer([page], "bpe", 400)
    words = ("The", "reading", "room", "京", "都", ",", "quietly")
    (line,) = words_laid([Example("s", "", words=words)], tokenizer, 64)
    spelled = [tokenizer.decode(line.ids[a:b]).strip() for a, b in zip(line.first, line.last, strict=True)]
    assert [word in piece for word, piece in zip(words, spelled, strict=True)] == [True] * len(words)
    parts = words_laid([Example("s", "", words=words * 9)], tokenizer, 32)
    assert sum(len(part.first) for part in parts) == 63 and all(len(part.ids) <= 32 for part in parts)
    assert [part.begin for part in parts] == np.cumsum([0, *(len(part.first) for part in parts)])[:-1].tolist()
    pair = Example("p", "", text="one", pair="word " * 80)
    (line,), cut = texts_laid([pair], tokenizer, 32, tokenizer.vocabulary.sep)
    assert cut == 1 and len(line.ids) == 32 and "one" in tokenizer.decode(line.ids)
