"""Stretches: the characters that each token stands for, as they stand in the text, by every kind of tokenizer."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Regex, decoders, models, normalizers, pre_tokenizers, trainers
from tokenizers import Tokenizer as Engine

from sightline.data import Tokenizer, train_tokenizer
from sightline.data.phrases import Phrasing

PAGE = (Path(__file__).parent.parent / "texts" / "page.txt").read_bytes().decode()
TEXT = "Café  Déjà-vu in ÀB, 京都 is\tthe naïve cafe\u0301 of 2024 (ﬁsh) \U0001f600!"
WORDS = ("Café", "Déjà", "vu", "ÀB", "京", "都", "the", "naïve", "cafe\u0301", "2024", "ﬁsh")
LEARNED = [TEXT, *PAGE.splitlines()]
SPECIALS = ["<pad>", "<unk>", "<s>", "</s>"]


def uncased() -> Engine:
    """BERT's: letters made small, accents taken off."""
    engine = Engine(models.WordPiece(unk_token="[UNK]"))
    engine.normalizer, engine.pre_tokenizer = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
    marks = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    engine.train_from_iterator(
        LEARNED, trainers.WordPieceTrainer(vocab_size=300, special_tokens=marks, show_progress=False)
    )
    return engine


def unigram() -> Engine:
    """T5's: compatible characters made one, spaces joined, and one before the text."""
    engine = Engine(models.Unigram())
    engine.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Replace(Regex(" {2,}"), " ")])
    engine.pre_tokenizer, engine.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
    how = trainers.UnigramTrainer(vocab_size=300, special_tokens=SPECIALS, unk_token="<unk>", show_progress=False)
    engine.train_from_iterator(LEARNED, how)
    return engine


def spaced() -> Engine:
    """LLaMA's: no cutting at all, a space before the text, and bytes for what is not known."""
    engine = Engine(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    engine.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    engine.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    marks = [*SPECIALS, *(f"<0x{byte:02X}>" for byte in range(256))]
    how = trainers.BpeTrainer(vocab_size=500, special_tokens=marks, limit_alphabet=60, show_progress=False)
    engine.train_from_iterator(LEARNED, how)
    return engine


def byte_level(composed: bool) -> Engine:
    """GPT-2's, or Qwen's, which composes letters; RoBERTa's trimming of spaces, and a space before the text."""
    engine = Engine(models.BPE())
    engine.pre_tokenizer, engine.decoder = pre_tokenizers.ByteLevel(add_prefix_space=composed), decoders.ByteLevel()
    if composed:
        from tokenizers import processors

        engine.normalizer, engine.post_processor = normalizers.NFC(), processors.ByteLevel(trim_offsets=True)
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    how = trainers.BpeTrainer(vocab_size=400, special_tokens=SPECIALS, initial_alphabet=alphabet, show_progress=False)
    engine.train_from_iterator(LEARNED, how)
    return engine


MADE = {
    **{kind: lambda kind=kind: train_tokenizer(LEARNED, kind) for kind in ("byte", "char", "word")},
    **{kind: lambda kind=kind: train_tokenizer(LEARNED, kind, 600) for kind in ("bpe", "wordpiece")},
    "phrases": lambda: train_tokenizer([*LEARNED, *["the naïve"] * 9], "word", phrases=Phrasing(1, 1.0)),
    "uncased": lambda: Tokenizer(uncased()),
    "unigram": lambda: Tokenizer(unigram()),
    "spaced": lambda: Tokenizer(spaced()),
    "gpt2": lambda: Tokenizer(byte_level(False)),
    "composed": lambda: Tokenizer(byte_level(True)),
}
HELD: dict[str, Tokenizer] = {}


def made(name: str) -> Tokenizer:
    if name not in HELD:
        HELD[name] = MADE[name]()
    return HELD[name]


def told(name: str, word: str, text: str = TEXT) -> str:
    """What the tokens tell that a word touches, looked for as answers and words are."""
    _, first, last = made(name).stretches(text)
    start = text.index(word)
    begin, end = last.searchsorted(start, side="right"), first.searchsorted(start + len(word))
    return text[first[begin] : last[end - 1]]


@pytest.mark.parametrize("name", MADE)
def test_words_come_back_as_they_stand_in_the_text(name: str) -> None:
    for word in WORDS:
        found = told(name, word)
        assert word in found and len(found) <= len(word) + (12 if name in ("phrases", "spaced", "composed") else 4)
    exact = name in ("byte", "char", "word", "wordpiece", "uncased")
    assert not exact or all(told(name, word) == word for word in WORDS if word not in "京都")


@pytest.mark.parametrize("name", MADE)
@settings(max_examples=60, deadline=None)
@given(text=st.text("aB \n\t的京éÀ\u0301\u200bﬁ½</s>'1\U0001f600", max_size=30) | st.just(TEXT) | st.just(""))
def test_stretches_are_in_order_and_of_the_same_ids(name: str, text: str) -> None:
    tokenizer = made(name)
    ids, first, last = tokenizer.stretches(text)
    assert ids.tolist() == tokenizer.encode(text).tolist() and len(ids) == len(first) == len(last)
    assert (first <= last).all() and (first[1:] >= first[:-1]).all() and (last[1:] >= last[:-1]).all()
    assert not len(ids) or (first[0] >= 0 and last[-1] <= len(text))
    if name in ("bpe", "byte", "char", "gpt2"):
        gone = [at for at in range(len(text)) if not ((first <= at) & (at < last)).any()]
        assert not gone  # nothing is lost
        for id, begin, end in zip(ids, first, last, strict=True):
            assert tokenizer.pieces[id] in text[begin:end].encode()


def test_a_character_in_two_tokens_is_of_both_and_an_invented_space_of_none() -> None:
    ids, first, last = made("byte").stretches("a京b")
    assert first.tolist() == [0, 1, 1, 1, 2] and last.tolist() == [1, 2, 2, 2, 3] and len(ids) == 5
    for name in ("unigram", "spaced"):
        tokenizer = made(name)
        ids, first, last = tokenizer.stretches("\U0001f600 x")
        assert tokenizer.pieces[ids[0]] == b" " and (first[0], last[0]) == (0, 0)
        assert (first[1], last[1]) == (0, 1)


def test_an_accent_that_is_taken_off_stays_with_its_letter() -> None:
    assert told("uncased", "cafe\u0301", "a cafe\u0301 there") == "cafe\u0301"
    assert told("uncased", "ÀB") == "ÀB"


def test_a_phrase_reaches_from_its_first_word_to_its_last() -> None:
    assert made("phrases").phrases
    assert told("phrases", "naïve", "saw the  naïve one") == "the  naïve"
