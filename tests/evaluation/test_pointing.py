"""Answers in a context: where their tokens are, windows that cover all, and how answers are compared."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from sightline.data import train_tokenizer
from sightline.data.examples import Example
from sightline.data.laid import contexts_laid, texts_laid, words_laid
from sightline.errors import SightlineError
from sightline.evaluation.pointing import exact, shared, words_of
from sightline.objectives.causal import Causal
from sightline.objectives.seq2seq import Seq2Seq


def test_every_window_knows_the_bytes_of_its_tokens(page: str) -> None:
    tokenizer = train_tokenizer([page], "bpe", 400)
    context = page[:900]
    start = context.index(" ", 700) + 1
    item = Example("q", "here", "What is it?", context, answers=((context[start : start + 12], start),))
    lines, answers = contexts_laid([item], tokenizer, 64, tokenizer.vocabulary.sep)
    assert len(lines) > 3 and lines[0].first[0] == 0 and lines[-1].last[-1] == len(context)
    assert all(one.first[0] <= other.last[-1] for one, other in zip(lines[1:], lines, strict=False))  # no gap
    held = [(line, answer) for line, answer in zip(lines, answers, strict=True) if answer != (0, 0)]
    assert held and len(held) < len(lines)
    for line, (first, last) in held:
        told = context[line.first[first - 1] : line.last[last - 1]]
        assert item.answers[0][0].strip() in told and len(told) < 30
        ids = line.ids[line.begin : line.begin + len(line.first)]
        assert tokenizer.decode(ids) == context[line.first[0] : line.last[-1]]
        assert len(line.ids) <= 64


@pytest.mark.parametrize("kind", ["bpe", "byte", "char", "wordpiece", "word"])
def test_every_kind_points_at_an_answer(page: str, kind: str) -> None:
    context = "Née in Köln, she paints 京都 — and  Straßen."
    tokenizer = train_tokenizer([page, context], kind, 600 if kind in ("bpe", "wordpiece") else None)  # type: ignore[arg-type]
    for answer in ("Née", "Köln", "京都", "Straßen"):
        item = Example("q", "here", "What?", context, answers=((answer, context.index(answer)),))
        (line,), ((first, last),) = contexts_laid([item], tokenizer, 128, tokenizer.vocabulary.sep)
        assert context[line.first[first - 1] : line.last[last - 1]].strip() == answer


def test_an_answer_that_is_not_there_is_refused(page: str) -> None:
    tokenizer = train_tokenizer([page], "byte")
    wrong = Example("q", "x.json line 3", "Who?", "Ann ran.", answers=(("Bob", 0),))
    with pytest.raises(SightlineError, match=r"x\.json line 3: the answer 'Bob' does not stand in its context"):
        contexts_laid([wrong], tokenizer, 64, -1)
    moved = Example("q", "x.json line 3", "Who?", "Ann ran.", answers=(("ran", 0),))  # a wrong offset is mended
    assert contexts_laid([moved], tokenizer, 64, -1)[1] == [(5, 7)]


def test_an_answer_that_the_tokenizer_drops_or_nobody_knows_is_in_no_line(page: str) -> None:
    tokenizer = train_tokenizer([page], "word")
    for answers in ((("!", 8),), ()):
        item = Example("q", "here", "What?", "the end ! of it", answers=answers)
        assert contexts_laid([item], tokenizer, 64, -1)[1] == [(0, 0)]


def test_two_texts_are_parted_by_a_mark_that_means_nothing_else(page: str) -> None:
    vocabulary = train_tokenizer([page], "byte").vocabulary
    assert Causal(vocabulary).parting == vocabulary.sep
    assert Causal(replace(vocabulary, sep=-1)).parting == vocabulary.eos  # adopted ones mostly have no sep
    assert Seq2Seq(vocabulary).parting == vocabulary.eos  # sep parts a source from its target


def test_answers_are_compared_by_their_words() -> None:
    item = Example("q", "", "", "", answers=(("the Broncos", 0), ("Denver Broncos!", 0)))
    assert exact("Broncos", item) == 1.0 and exact("Denver", item) == 0.0
    assert shared("Denver", item) == pytest.approx(2 / 3)
    assert words_of("光荣和ω-force。") == ["光", "荣", "和", "ω", "force"]


@pytest.mark.parametrize("kind", ["bpe", "wordpiece"])
def test_words_keep_their_tokens_and_pairs_their_shorter_side(page: str, kind: str) -> None:
    tokenizer = train_tokenizer([page, "京都"], kind, 400)  # type: ignore[arg-type]
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
