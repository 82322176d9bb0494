"""Phrases: joined from left to right within a text, kept in tokenizer.json, and told apart from what is none."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sightline.data import Phrasing, Tokenizer, read, tokenizer_for, train_tokenizer, trainer
from sightline.data.phrases import Joins
from sightline.errors import SightlineError

PLACES = ("New York City", "New York", "Los Angeles", "York", "City", "New")


def made_text(seed: int) -> str:
    """Sixty words in any order, and now and then the name of a place, in sentences of seven."""
    draw = np.random.default_rng(seed)
    common = [a + b for a in "bdgklmprst" for b in ("a", "e", "i", "o", "u", "ei")]
    words = [PLACES[draw.integers(6)] if draw.random() < 0.1 else common[draw.integers(60)] for _ in range(1400)]
    return "".join(f"{' '.join(words[at : at + 7])}.\n" for at in range(0, len(words), 7))


TEXTS = [made_text(0), made_text(1)]
OFTEN = Phrasing(threshold=8, passes=2)


@pytest.fixture(scope="module")
def cut() -> Tokenizer:
    return train_tokenizer(TEXTS, "word", phrases=OFTEN)


def words(tokenizer: Tokenizer, text: str) -> list[str]:
    return [tokenizer.show(id) for id in tokenizer.encode(text).tolist()]


def one_after_another(texts: list[list[int]], pairs: dict[tuple[int, int], int]) -> Iterator[list[int]]:
    """The same joining, word by word."""
    for text in texts:
        out: list[int] = []
        at = 0
        while at < len(text):
            found = pairs.get((text[at], text[at + 1])) if at + 1 < len(text) else None
            out.append(text[at] if found is None else found)
            at += 1 if found is None else 2
        yield out


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.lists(st.integers(0, 4), max_size=9), max_size=6),
    st.sets(st.tuples(st.integers(0, 4), st.integers(0, 4))),
)
def test_pairs_join_from_left_to_right_within_their_text(texts: list[list[int]], pairs: set[tuple[int, int]]) -> None:
    named = {pair: 5 + at for at, pair in enumerate(sorted(pairs))}
    joins = Joins.of([(*pair, id) for pair, id in named.items()])
    ids, counts = joins.apply(
        np.array([id for text in texts for id in text], np.int32), np.array([len(text) for text in texts], np.int64)
    )
    wanted = list(one_after_another(texts, named))
    assert counts.tolist() == [len(text) for text in wanted]
    assert ids.tolist() == [id for text in wanted for id in text]
    assert ids.dtype == np.int32


def test_words_become_phrases_of_two_and_three(cut: Tokenizer) -> None:
    assert words(cut, "New York City, or Los Angeles!") == ["New_York_City", "<unk>", "Los_Angeles"]
    assert words(cut, "New New\nYork ba York") == ["New", "New_York", "ba", "York"]
    assert [one.tolist() for one in cut.encode_batch(["New", "York", "", "New York"])] == [
        cut.encode(text).tolist() for text in ("New", "York", "", "New York")
    ]
    assert cut.kind == "word"
    assert not cut.lossless
    assert "pairs joined" in repr(cut)


def test_text_comes_back_with_a_space_between_words(cut: Tokenizer) -> None:
    ids = cut.encode("ba New York City be bi Los Angeles.")
    assert cut.decode(ids) == "ba New York City be bi Los Angeles"
    assert cut.encode(cut.decode(ids)).tolist() == ids.tolist()
    plain = train_tokenizer(TEXTS, "word")
    assert plain.decode(plain.encode(TEXTS[0])) == cut.decode(cut.encode(TEXTS[0]))
    assert cut.decode([cut.need("bos"), *ids[:2]], specials=True) == "<s> ba New York City"
    assert cut.token_bytes(ids) == len("baNew_York_CitybebiLos_Angeles")


def test_a_tokenizer_json_holds_the_phrases(cut: Tokenizer, tmp_path: Path) -> None:
    cut.save(tmp_path)
    back = Tokenizer.load(tmp_path)
    assert back.phrases == cut.phrases
    assert back.fingerprint == cut.fingerprint != train_tokenizer(TEXTS, "word").fingerprint
    assert words(back, TEXTS[0]) == words(cut, TEXTS[0])
    told = Tokenizer.of_told(*cut.told())
    assert told.fingerprint == cut.fingerprint
    assert told.encode(TEXTS[1]).tolist() == cut.encode(TEXTS[1]).tolist()
    again = train_tokenizer(TEXTS, "word", phrases=OFTEN)
    assert again.fingerprint == cut.fingerprint


def test_a_file_that_does_not_fit_is_one_line(cut: Tokenizer, tmp_path: Path) -> None:
    cut.save(tmp_path)
    file = tmp_path / "tokenizer.json"
    layout = json.loads(file.read_text(encoding="utf-8"))
    for phrases, words in (
        ([[["New", "Shire"]]], "'New_Shire' of the phrases is not in the vocabulary"),
        ([["New York"]], "not a whole tokenizer"),
        (7, "not a whole tokenizer"),
    ):
        file.write_text(json.dumps(layout | {"phrases": phrases}), encoding="utf-8")
        with pytest.raises(SightlineError, match=words):
            Tokenizer.load(tmp_path)
    train_tokenizer(TEXTS, "byte").save(tmp_path)
    file.write_text(json.dumps(json.loads(file.read_text()) | {"phrases": [[["a", "b"]]]}), encoding="utf-8")
    with pytest.raises(SightlineError, match="byte has none"):
        Tokenizer.load(tmp_path)


def test_a_small_vocabulary_keeps_the_words_of_its_phrases() -> None:
    for size in (112, 115, 120, 140, 175, 200):
        tokenizer = train_tokenizer(TEXTS, "word", size, phrases=OFTEN)
        assert tokenizer.size <= size
        names = {tokenizer.show(id) for id in range(tokenizer.size)}
        assert all({*pair, "_".join(pair)} <= names for one in tokenizer.phrases for pair in one)


def test_what_is_rare_in_a_large_text_is_no_phrase() -> None:
    rare, known = "Ottoline Marsh ", "Green Door "
    texts = [*TEXTS * 100, *[known] * 9, *[rare] * 4]
    assert sum(map(len, texts)) > trainer.RARE_FROM
    tokenizer = train_tokenizer(texts, "word", phrases=Phrasing(count=1))
    assert words(tokenizer, known + rare) == ["Green_Door", "<unk>", "<unk>"]


def test_chinese_characters_join_too() -> None:
    text = "我在北京看海。北京的海不好看，他说。你在北京吗？他在看海。" * 2
    tokenizer = train_tokenizer([text], "word", phrases=Phrasing(count=1, threshold=2))
    assert "北_京" in words(tokenizer, "北京的海")


def test_a_text_too_short_says_so_and_goes_on(capsys: pytest.CaptureFixture[str]) -> None:
    for text, why in (("one two three", "the highest score is"), ("word", "no pair is common"), ("...", "no pair")):
        tokenizer = train_tokenizer([text], "word", phrases=Phrasing())
        told = capsys.readouterr().err.splitlines()
        assert len(told) == 1
        assert why in told[0]
        assert "every word stays alone" in told[0]
        assert not tokenizer.phrases
        assert tokenizer.fingerprint == train_tokenizer([text], "word").fingerprint
    train_tokenizer(TEXTS, "word", phrases=OFTEN)
    assert "phrases, such as" in capsys.readouterr().err


def test_by_setting(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("".join(TEXTS))
    corpus = read(tmp_path / "a.txt")
    assert words(tokenizer_for(corpus, "word+phrases:threshold=8,passes=2"), "New York City") == ["New_York_City"]
    assert words(tokenizer_for(corpus, "word+phrases:threshold=8"), "New York City") == ["New_York", "City"]
    assert words(tokenizer_for(corpus, "word+phrases"), "Los Angeles") == ["Los_Angeles"]
    assert words(tokenizer_for(corpus, "word+phrases:score=npmi,count=3"), "Los Angeles") == ["Los_Angeles"]
    assert words(tokenizer_for(corpus, "word+phrases:threshold=1e6"), "Los Angeles") == ["Los", "Angeles"]
    assert tokenizer_for(corpus, "word:120+phrases").size == 120
    for wrong, why in (
        ("word+", "is not known"),
        ("word+spaces", "is not known"),
        ("bpe+phrases", "bpe has none"),
        ("char+phrases", "char has none"),
        ("wordpiece:800+phrases", "wordpiece has none"),
        ("word:9+phrases", "no room for words"),
        ("word+phrases:more=1", "is not a setting of phrases"),
        ("word+phrases:count", "is not a setting of phrases"),
        ("word+phrases:count=few", "must be a whole number"),
        ("word+phrases:threshold=high", "must be a number"),
        ("word+phrases:threshold=0", "a threshold of 0 means nothing"),
        ("word+phrases:threshold=nan", "a threshold of nan means nothing"),
        ("word+phrases:threshold=inf", "a threshold of inf means nothing"),
        ("word+phrases:score=npmi,threshold=10", "Use -1 to 1"),
        ("word+phrases:score=best", "Choose from counts, npmi"),
        ("word+phrases:count=0", "Use 1 or more"),
        ("word+phrases:passes=0", "Use 1 or more"),
    ):
        with pytest.raises(SightlineError, match=why):
            tokenizer_for(corpus, wrong)
