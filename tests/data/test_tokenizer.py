"""Tokenizers: what comes back, what is reserved, where words begin, and that the fast way gives the same ids."""

from __future__ import annotations

import json
import os
import sys
from itertools import chain, pairwise
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer as Engine
from tokenizers import models, pre_tokenizers

from sightline.data import Tokenizer, bulk, default_size, read, tokenizer_for, train_tokenizer, trainer
from sightline.errors import SightlineError

PAGE = (Path(__file__).parent.parent / "texts" / "page.txt").read_bytes().decode()
KINDS = ("bpe", "byte", "char", "wordpiece")
HELD: dict[str, Tokenizer] = {}


def made(kind: str) -> Tokenizer:
    if kind not in HELD:
        HELD[kind] = train_tokenizer([PAGE], kind, 1024 if kind in ("bpe", "wordpiece") else None)  # type: ignore[arg-type]
    return HELD[kind]


def engine_ids(tokenizer: Tokenizer, text: str) -> list[int]:
    """What the tokenizer.json itself gives, by the library that everybody else uses."""
    return list(tokenizer._engine.encode(text, add_special_tokens=False).ids)


@pytest.mark.parametrize("kind", KINDS)
def test_reserved_ids_and_padding(kind: str) -> None:
    tokenizer = made(kind)
    assert tokenizer.kind == kind
    assert [tokenizer.pad, tokenizer.bos, tokenizer.eos, tokenizer.mask, tokenizer.cls, tokenizer.sep] == list(range(6))
    assert tokenizer.modes == (6, 7, 8)
    assert tokenizer.spares == tuple(range(9, 109))
    assert tokenizer.padded % 64 == 0 and 0 <= tokenizer.padded - tokenizer.size < 64
    assert set(tokenizer.unpredictable) == {0, *range(tokenizer.size, tokenizer.padded)}
    assert tokenizer.special_ids.shape == tokenizer.starts_word.shape == (tokenizer.padded,)
    special = 110 if kind == "wordpiece" else 109
    assert tokenizer.special_ids[:special].all() and not tokenizer.special_ids[special : tokenizer.size].any()
    assert tokenizer.special_ids[tokenizer.size :].all()
    assert tokenizer.vocabulary.specials == tuple(range(special))
    assert tokenizer.vocabulary.mask == tokenizer.need("mask") == 3


@pytest.mark.parametrize("kind", ["bpe", "byte", "char"])
@settings(max_examples=60, deadline=None)
@given(text=st.text(st.characters(codec="utf-8"), max_size=60) | st.text("a \n\r\t的é</s>mk'1", max_size=40))
def test_lossless_and_equal_to_the_library(kind: str, text: str) -> None:
    tokenizer = made(kind)
    ids = tokenizer.encode(text)
    assert ids.dtype == np.int32
    assert tokenizer.decode(ids) == text
    assert tokenizer.token_bytes(ids) == len(text.encode())
    assert ids.tolist() == engine_ids(tokenizer, text)
    assert not tokenizer.special_ids[ids].any()


def test_every_code_point_goes_the_same_fast_way() -> None:
    """tiktoken's and tokenizers' regular expressions must sort all characters alike."""
    tokenizer = made("bpe")
    assert tokenizer._bulk is not None
    points = [
        chr(code) for code in range(sys.maxunicode + 1) if not 0xD800 <= code < 0xE000 and chr(code).isprintable()
    ]
    points = [*points[:3000], *points[3000::40], *(chr(code) for code in range(0x2000, 0x2070))]
    for start in range(0, len(points), 500):
        text = "".join(f"a{point}b 1{point}2 {point}{point}" for point in points[start : start + 500])
        assert tokenizer.encode(text).tolist() == engine_ids(tokenizer, text)


def test_a_long_text_is_cut_where_it_does_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = made("bpe")
    whole = tokenizer.encode(PAGE * 2).tolist()
    assert whole == engine_ids(tokenizer, PAGE * 2)
    for chunk in (1, 50, 777):
        monkeypatch.setattr(bulk, "CHUNK", chunk)
        assert len(list(bulk.cut_blocks([PAGE]))) > 10
        assert tokenizer.encode(PAGE * 2).tolist() == whole


@pytest.mark.parametrize(
    "text", [" " * 200_000, "=" * 100_000, "的" * 50_000, "a" * 50_000], ids=["space", "=", "的", "a"]
)
def test_endless_runs(text: str) -> None:
    tokenizer = made("bpe")
    assert tokenizer.decode(tokenizer.encode(text)) == text


@pytest.mark.parametrize("kind", KINDS)
def test_many_equals_one_by_one(kind: str) -> None:
    tokenizer = made(kind)
    texts = [PAGE[at : at + 300] for at in range(0, 3000, 300)] + ["", "x"]
    many = tokenizer.encode_many(iter(texts), title="test")
    assert [ids.tolist() for ids in many] == [tokenizer.encode(text).tolist() for text in texts]
    assert tokenizer.encode_many([]) == []


@pytest.mark.parametrize("kind", KINDS)
def test_texts_in_one_call_are_the_texts_one_by_one(kind: str) -> None:
    """Also beside white space, which is cut by what follows it, and beside parts of what stands between two texts."""
    tokenizer, joint = made(kind), bulk.JOINT
    plain = ["", "a", " ", "b  ", "  c", "\n", "", "'s", "1", "234", "的", "😀", joint[:2], joint[2:], joint[:1] * 3]
    for texts in (plain, [*plain, f"x{joint}y", joint, joint * 2], [joint + joint[:3], joint[3:]], [""], ["", ""]):
        ids, counts = tokenizer.encode_joined(texts)
        whole = [tokenizer.encode(text).tolist() for text in texts]
        assert counts.tolist() == [len(one) for one in whole] and ids.tolist() == list(chain(*whole))
        assert [one.tolist() for one in tokenizer.encode_batch(texts)] == whole
        assert tokenizer.kind == "wordpiece" or whole == [engine_ids(tokenizer, text) for text in texts]


def test_what_stands_between_texts_overlaps_itself_nowhere() -> None:
    """A text could otherwise end in a part of it and hide a whole one, with their number unchanged."""
    assert not any(bulk.JOINT.startswith(bulk.JOINT[at:]) for at in range(1, len(bulk.JOINT)))


def test_more_white_space_than_tiktoken_bears() -> None:
    tokenizer, text = made("bpe"), f"a{' ' * 1_100_000}b"
    assert tokenizer._bulk is not None
    with pytest.raises(ValueError):
        tokenizer._bulk.encoding.encode_to_numpy(text, disallowed_special=())
    ids, counts = tokenizer.encode_joined(["first", text, ""])
    assert counts.tolist() == [len(tokenizer.encode("first")), len(ids) - len(tokenizer.encode("first")), 0]
    assert tokenizer.decode(ids) == f"first{text}"


def test_half_a_character_is_replaced() -> None:
    tokenizer = made("bpe")
    assert tokenizer.decode(tokenizer.encode("a\ud83d b")) == "a\ufffd b"
    assert tokenizer.decode(tokenizer.encode_batch(["x", "a\ud83d b"])[1]) == "a\ufffd b"


@pytest.mark.parametrize("kind", KINDS)
def test_text_that_looks_special_stays_text(kind: str) -> None:
    tokenizer = made(kind)
    ids = tokenizer.encode("before <s> </s><pad> <mask> <mode:1> <spare:7> after")
    unknown = tokenizer._engine.token_to_id("<unk>")
    assert not [id for id in ids if tokenizer.special_ids[id] and id != unknown]


@pytest.mark.parametrize("kind", KINDS)
def test_saved_and_loaded(tmp_path: Path, kind: str) -> None:
    tokenizer = made(kind)
    tokenizer.save(tmp_path)
    for path in (tmp_path, tmp_path / "tokenizer.json"):
        again = Tokenizer.load(path)
        assert again.fingerprint == tokenizer.fingerprint
        assert again.encode(PAGE).tolist() == tokenizer.encode(PAGE).tolist()
        assert (again.kind, again.lossless, again.size) == (tokenizer.kind, tokenizer.lossless, tokenizer.size)
        assert again.vocabulary == tokenizer.vocabulary
        assert (again._bulk is None) == (tokenizer._bulk is None)


@pytest.mark.parametrize("kind", KINDS)
def test_transformers_reads_it(tmp_path: Path, kind: str) -> None:
    if os.environ.get("CI") != "true":
        pytest.importorskip("transformers")
    from transformers import AutoTokenizer

    tokenizer = made(kind)
    tokenizer.save(tmp_path)
    other = AutoTokenizer.from_pretrained(tmp_path, local_files_only=True)
    assert other(PAGE, add_special_tokens=False)["input_ids"] == tokenizer.encode(PAGE).tolist()
    assert (other.pad_token_id, other.bos_token_id, other.eos_token_id, other.mask_token_id) == (0, 1, 2, 3)
    assert (other.cls_token, other.sep_token) == ("<cls>", "<sep>")
    assert other("<mode:1><spare:5>", add_special_tokens=False)["input_ids"] == [7, 14]
    if tokenizer.lossless:
        assert other.decode(tokenizer.encode(PAGE)) == PAGE


def test_what_is_lossless() -> None:
    assert {kind: made(kind).lossless for kind in KINDS} == {
        "bpe": True,
        "byte": True,
        "char": True,
        "wordpiece": False,
    }


@pytest.mark.parametrize("kind", KINDS)
def test_training_twice_gives_the_same(kind: str) -> None:
    first, second = (
        train_tokenizer([PAGE, PAGE[::-1]], kind, 700 if kind in ("bpe", "wordpiece") else None)  # type: ignore[arg-type]
        for _ in range(2)
    )
    assert first.fingerprint == second.fingerprint
    assert first.fingerprint != made(kind).fingerprint or kind in ("byte", "char")


def test_characters_keep_one_id_each_and_spell_the_rest() -> None:
    tokenizer = made("char")
    assert len(tokenizer.encode(PAGE)) == len(PAGE)
    assert len(tokenizer.encode("葡萄")) == 6  # not in the page: three bytes each
    assert len(tokenizer.encode("a葡b")) == 5
    assert len(made("byte").encode("月")) == 3


def words(tokenizer: Tokenizer, text: str) -> list[str]:
    """A text cut where words begin."""
    ids = tokenizer.encode(text)
    starts = tokenizer.word_starts(ids[None], np.zeros((1, len(ids)), np.int32))[0]
    cuts = [*np.flatnonzero(starts), len(ids)]
    return [tokenizer.decode(ids[a:b]) for a, b in pairwise(cuts)]


def test_where_words_begin() -> None:
    text = "The keeper's 1234 gulls,\n\nnaïve 今晚 noisy!"
    # A space that is a token of its own, as before 1234 here, is a word of its own.
    assert "|".join(words(made("bpe"), text)) == "The| keeper|'s| |1234| gulls|,|\n|\n|naïve| |今|晚| noisy|!"
    for kind in ("byte", "char"):
        found = "|".join(words(made(kind), text))
        assert found == "The| |keeper|'|s| |1234| |gulls|,|\n|\n|naïve| |今|晚| |noisy|!"
    assert words(made("wordpiece"), "The keepers 今晚 noisy!") == ["The", "keepers", "今", "晚", "noisy", "!"]
    assert words(made("bpe"), "葡萄 sea") == ["葡", "萄", " sea"]


def test_documents_and_specials_are_words() -> None:
    tokenizer = made("byte")
    a = int(tokenizer.encode("a")[0])
    tokens = np.array([[a, a, tokenizer.eos, tokenizer.bos, a, a, a, tokenizer.pad]])
    documents = np.array([[0, 0, 0, 1, 1, 1, 2, -1]])
    assert tokenizer.word_starts(tokens, documents)[0].astype(int).tolist() == [1, 0, 1, 1, 1, 0, 1, 0]


def test_showing_and_decoding() -> None:
    tokenizer = made("bpe")
    shown = [tokenizer.show(int(id)) for id in tokenizer.encode(" the\n月é")]
    assert shown[:2] == ["␣the", "⏎"]
    assert tokenizer.show(3) == "<mask>" and tokenizer.show(10**6) == "<1000000>"
    ids = [1, *tokenizer.encode("tide"), 2]
    assert tokenizer.decode(ids) == "tide"
    assert tokenizer.decode(ids, specials=True) == "<s>tide</s>"
    assert tokenizer.token_bytes(ids) == 4
    assert tokenizer.decode(made("byte").encode("")) == ""
    with pytest.raises(SightlineError, match=r"id 999999 is not in a vocabulary of 1,024"):
        tokenizer.decode([999999])


def test_sizes() -> None:
    assert [default_size(int(size)) for size in (1e3, 1e7, 5e7, 5e8, 5e9)] == [2048, 4096, 8192, 16384, 32768]
    assert made("bpe").size == 1024
    with pytest.raises(SightlineError, match="too small"):
        train_tokenizer([PAGE], "bpe", 200)
    with pytest.raises(SightlineError, match="no kind of tokenizer 'bpe:400'"):
        train_tokenizer(["a text"], cast(Any, "bpe:400"))
    with pytest.raises(SightlineError, match="no text"):
        train_tokenizer([], "bpe")


def test_a_sample_is_bounded_and_drawn_across_documents() -> None:
    texts = [chr(97 + n) * 40_000 for n in range(26)]
    total = 26 * 40_000
    sample = list(trainer._sample(texts, total, total // 4, 0))
    assert sum(map(len, sample)) <= total // 4
    assert sum(map(len, sample)) > total // 8
    assert len({part[0] for part in sample}) > 8
    assert sample == list(trainer._sample(texts, total, total // 4, 0))
    assert sample != list(trainer._sample(texts, total, total // 4, 1))
    assert list(trainer._sample(texts, total, total, 0)) == texts


def test_by_setting(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(PAGE)
    corpus = read(tmp_path / "a.txt")
    assert tokenizer_for(corpus, "bpe:600").size == 600
    assert tokenizer_for(corpus, "byte").kind == "byte"
    made("bpe").save(tmp_path / "held")
    assert tokenizer_for(corpus, str(tmp_path / "held")).fingerprint == made("bpe").fingerprint
    for wrong in ("bpe:many", "byte:300", "nothing-here"):
        with pytest.raises(SightlineError, match=r"wordpiece:8000"):
            tokenizer_for(corpus, wrong)
    (tmp_path / "bad.json").write_text('{"model": ')
    with pytest.raises(SightlineError, match="not a whole tokenizer"):
        tokenizer_for(corpus, str(tmp_path / "bad.json"))


def other_peoples(folder: Path, names: list[str], **config: str) -> Tokenizer:
    """A byte-level tokenizer as others make them."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    engine = Engine(models.BPE({name: id for id, name in enumerate([*letters, *names])}, []))
    engine.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    from tokenizers import decoders

    engine.decoder = decoders.ByteLevel()
    engine.add_special_tokens(names)
    folder.mkdir()
    (folder / "tokenizer.json").write_text(engine.to_str())
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return Tokenizer.load(folder)


def test_existing_tokenizers_bring_what_they_have(tmp_path: Path) -> None:
    gpt = other_peoples(tmp_path / "gpt", ["<|endoftext|>"])
    assert gpt.bos == gpt.eos == 256 and gpt.pad is None and gpt.mask is None and gpt.filler == 0
    assert gpt.modes == () and gpt.lossless
    assert gpt.padded == 320 and set(gpt.unpredictable) == set(range(257, 320))
    assert gpt.vocabulary.mask == -1 and gpt.vocabulary.bos == 256
    with pytest.raises(SightlineError, match=r"has no mask token.*tokenizer\.json"):
        gpt.need("mask")
    bert = other_peoples(tmp_path / "bert", ["[PAD]", "[CLS]", "[SEP]", "[MASK]"])
    assert (bert.pad, bert.cls, bert.sep, bert.mask) == (256, 257, 258, 259)
    assert (bert.bos, bert.eos) == (257, 258)
    own = other_peoples(tmp_path / "own", ["<x>", "<y>"], bos_token="<x>", pad_token="<y>")
    assert (own.bos, own.eos, own.pad) == (256, 256, 257)
