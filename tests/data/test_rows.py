"""Token files and rows: what is written comes back, and a row says which token is whose."""

from __future__ import annotations

import json
import time
from pathlib import Path

import numpy as np
import pytest

from sightline.data import Document, Packed, Rows, TokenFile, Tokenizer, tokenized, train_tokenizer
from sightline.errors import SightlineError

TEXTS = ["The tide goes out.", "It comes back; 人也一样。", "é", "Gulls noisy. " * 9, "wind south-west"]
DOCUMENTS = [Document(f"d{n}", text) for n, text in enumerate(TEXTS)]


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return train_tokenizer(["x"], "byte")


@pytest.fixture
def file(tmp_path: Path, tokenizer: Tokenizer) -> TokenFile:
    return tokenized(DOCUMENTS, tokenizer, tmp_path / "tokens")


def test_documents_come_back(file: TokenFile, tokenizer: Tokenizer) -> None:
    assert file.document_count == len(TEXTS)
    assert file.token_count == sum(len(text.encode()) + 2 for text in TEXTS) == file.offsets[-1]
    assert file.tokens.dtype == np.uint16
    for n, text in enumerate(TEXTS):
        ids = file.document(n)
        assert ids[0] == tokenizer.bos and ids[-1] == tokenizer.eos
        assert tokenizer.decode(ids) == text
        assert file.bytes[n] == len(text.encode())
        assert file.name(n) == f"d{n}"


def test_reused_when_it_is_the_same_and_made_again_when_not(file: TokenFile, tokenizer: Tokenizer) -> None:
    stamp = (file.folder / "tokens.bin").stat().st_ino
    assert tokenized(DOCUMENTS, tokenizer, file.folder).fingerprint == file.fingerprint
    assert (file.folder / "tokens.bin").stat().st_ino == stamp
    changed = tokenized([*DOCUMENTS[:-1], Document("d4", "wind north")], tokenizer, file.folder)
    assert changed.fingerprint != file.fingerprint
    assert tokenizer.decode(changed.document(4)) == "wind north"
    other = tokenized(DOCUMENTS, train_tokenizer(["abc"], "char"), file.folder)
    assert other.fingerprint != file.fingerprint


@pytest.mark.parametrize("name", ["tokens.bin", "offsets.npy", "bytes.npy", "head.json", "documents.jsonl"])
def test_a_file_cut_short_is_an_error_and_is_made_again(file: TokenFile, tokenizer: Tokenizer, name: str) -> None:
    path = file.folder / name
    if name == "documents.jsonl":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(SightlineError, match="cut short"):
        TokenFile.open(file.folder)
    if name != "head.json":
        assert tokenized(DOCUMENTS, tokenizer, file.folder).name(2) == "d2"


def test_a_folder_with_other_things_is_left_alone(tmp_path: Path, tokenizer: Tokenizer) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(SightlineError, match="holds other files"):
        tokenized(DOCUMENTS, tokenizer, tmp_path)
    assert (tmp_path / "thesis.txt").read_text() == "years of work"
    with pytest.raises(SightlineError, match="no document"):
        tokenized([], tokenizer, tmp_path / "new")


@pytest.mark.parametrize("length", [2, 3, 7, 16, 64, 101, 150])
def test_packing_tells_whose_each_token_is(file: TokenFile, tokenizer: Tokenizer, length: int) -> None:
    packed = Packed(file, length, tokenizer)
    assert packed.count == -(-file.token_count // length)
    owner = np.repeat(np.arange(file.document_count), np.diff(file.offsets))
    numbers = np.random.default_rng(0).permutation(packed.count)
    rows = packed.rows(numbers, np.full(packed.count, 3))
    assert (rows.count, rows.length) == (packed.count, length)
    assert rows.tokens.dtype == np.int32 and rows.documents.dtype == np.int32
    for b, number in enumerate(numbers):
        span = slice(number * length, (number + 1) * length)
        real = len(owner[span])
        assert rows.tokens[b, :real].tolist() == file.tokens[span].tolist()
        assert rows.origins[b, :real].tolist() == owner[span].tolist()
        assert rows.documents[b, :real].tolist() == (owner[span] - owner[span][0]).tolist()
        assert (rows.tokens[b, real:] == tokenizer.pad).all()
        assert (rows.documents[b, real:] == -1).all() and (rows.origins[b, real:] == -1).all()
        assert rows.wanted[b].tolist() == [True] * real + [False] * (length - real)
        assert rows.word_starts[b, 0] and not rows.word_starts[b, real:].any()
    assert (rows.numbers == numbers).all() and (rows.visits == 3).all()


def test_rows_do_not_depend_on_their_neighbours(file: TokenFile, tokenizer: Tokenizer) -> None:
    packed = Packed(file, 16, tokenizer)
    numbers = np.arange(packed.count)
    together = packed.rows(numbers, numbers * 0)
    for number in numbers:
        alone = packed.rows(numbers[number : number + 1], np.zeros(1, np.int64))
        for name in ("tokens", "documents", "origins", "word_starts", "wanted"):
            assert (getattr(alone, name)[0] == getattr(together, name)[number]).all()
    with pytest.raises(IndexError):
        packed.rows(np.array([packed.count]), np.zeros(1, np.int64))


def test_taking_some(file: TokenFile, tokenizer: Tokenizer) -> None:
    packed = Packed(file, 16, tokenizer)
    rows = packed.rows(np.arange(6), np.arange(6))
    part = rows.take(slice(2, 4))
    assert part.count == 2 and part.numbers.tolist() == [2, 3] and (part.tokens == rows.tokens[2:4]).all()
    assert rows.take([5, 0]).visits.tolist() == [5, 0]


def test_a_corpus_smaller_than_a_row(file: TokenFile, tokenizer: Tokenizer) -> None:
    with pytest.raises(
        SightlineError, match=rf"has {file.token_count} tokens, fewer than one row of 1,024.*shorter context"
    ):
        Packed(file, 1024, tokenizer)
    with pytest.raises(SightlineError, match="rows of 1"):
        Packed(file, 1, tokenizer)


def test_one_document_a_row(tokenizer: Tokenizer) -> None:
    sequences = [tokenizer.encode("tide"), tokenizer.encode("a b")]
    rows = Rows.of(sequences, tokenizer, length=6, wanted=[[True, False, True, True], [False] * 3], numbers=[8, 9])
    assert rows.tokens[1, 3:].tolist() == [tokenizer.pad] * 3
    assert rows.documents.tolist() == [[0, 0, 0, 0, -1, -1], [0, 0, 0, -1, -1, -1]]
    assert rows.origins.tolist() == [[0, 0, 0, 0, -1, -1], [1, 1, 1, -1, -1, -1]]
    assert rows.wanted.astype(int).tolist() == [[1, 0, 1, 1, 0, 0], [0] * 6]
    assert rows.word_starts.astype(int).tolist() == [[1, 0, 0, 0, 0, 0], [1, 1, 1, 0, 0, 0]]
    assert rows.numbers.tolist() == [8, 9]
    assert Rows.of(sequences, tokenizer).length == 4
    with pytest.raises(SightlineError, match="does not fit a row of 3"):
        Rows.of(sequences, tokenizer, length=3)
    with pytest.raises(SightlineError, match="no sequences"):
        Rows.of([], tokenizer)


def test_wide_ids(tmp_path: Path) -> None:
    wide = train_tokenizer(
        [
            "".join(chr(code) for code in range(0x4E00, 0x4E00 + 20_000))
            + "".join(map(chr, range(0x20000, 0x20000 + 46_000)))
        ],
        "char",
    )
    assert wide.padded > 1 << 16
    file = tokenized([Document("a", chr(0x20000 + 45_999))], wide, tmp_path / "tokens")
    assert file.tokens.dtype == np.uint32 and wide.decode(file.document(0)) == chr(0x20000 + 45_999)
    assert json.loads((tmp_path / "tokens" / "head.json").read_text())["dtype"] == "<u4"


def test_rows_are_ready_in_well_under_a_millisecond(tmp_path: Path, tokenizer: Tokenizer) -> None:
    documents = [Document(str(n), "word " * (20 + n % 50)) for n in range(4000)]
    packed = Packed(tokenized(documents, tokenizer, tmp_path / "tokens"), 256, tokenizer)
    numbers, best = np.arange(32) * 7, 1.0
    for _ in range(30):
        start = time.perf_counter()
        packed.rows(numbers, numbers)
        best = min(best, time.perf_counter() - start)
    assert best < 2e-3  # measured 0.3 ms; the machine may be shared


def test_sentences_end_where_a_reader_would_say(tokenizer: Tokenizer) -> None:
    text = 'He said: "Go!" Then 3.5 left... A title\n\n今天下雨。他说：“好！”然后走了？ End'
    pieces = ['He said: "Go!"', " Then 3.5 left...", " A title", "\n\n今天下雨。", "他说：“好！”", "然后走了？", " End"]
    for kind in ("bpe", "byte", "char"):
        made = train_tokenizer([text], kind)
        rows = Rows.of([[made.bos, *made.encode(text), made.eos], made.encode("No stop")], made)
        ends = np.flatnonzero(rows.sentence_ends[0]) + 1
        assert [made.decode(part) for part in np.split(rows.tokens[0], ends)] == [*pieces, ""]
        assert np.flatnonzero(rows.sentence_ends[1]).tolist() == [len(made.encode("No stop")) - 1]
    words = train_tokenizer([text], "wordpiece")  # which drops line ends, and so the title
    ids = words.encode(text)
    ends = np.flatnonzero(words.sentence_ends(ids)) + 1
    assert [words.decode(part)[:2] for part in np.split(ids, ends)] == ["He", "Th", "A ", "他 ", "然 ", "En", ""]


def test_sentences_end_with_their_document_and_rows_can_be_taken(file: TokenFile, tokenizer: Tokenizer) -> None:
    packed = Packed(file, 32, tokenizer)
    rows = packed.rows(np.arange(packed.count), np.zeros(packed.count))
    assert np.array_equal(rows.take([2, 0]).sentence_ends, rows.sentence_ends[[2, 0]])
    last = file.offsets[1] - 2  # the full stop of the first document, before its end mark
    assert rows.sentence_ends.ravel()[: last + 2].nonzero()[0].tolist() == [last]
