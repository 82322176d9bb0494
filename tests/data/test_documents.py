"""Reading: every format, every way for a row to be bad, and how a corpus comes to be split."""

from __future__ import annotations

import gzip
import io
import json
import random
import sys
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from sightline.data import Corpus, kind_of, read
from sightline.errors import SightlineError

TEXTS = [f"Document {n} says something of its own: {n * 7919}.\r\n的确 {n}\n" for n in range(120)]


def jsonl(path: Path, texts: list[str], **more: object) -> None:
    rows = ({"text": text, "n": n, **more} for n, text in enumerate(texts))
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8", newline="")


def parquet(path: Path, texts: list[str]) -> None:
    pq.write_table(pa.table({"text": texts, "n": list(range(len(texts)))}), path, row_group_size=7)


def arrow_file(path: Path, texts: list[str]) -> None:
    table = pa.table({"text": texts})
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=7)


def arrow_stream(path: Path, texts: list[str]) -> None:
    table = pa.table({"text": texts})
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=7)


def lines(path: Path, texts: list[str]) -> None:
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts), encoding="utf-8", newline="")


WRITERS: dict[str, Callable[[Path, list[str]], None]] = {
    "a.jsonl": lines,
    "a.json": lines,
    "a.parquet": parquet,
    "a.arrow": arrow_file,
    "b.arrow": arrow_stream,
}


def everything(corpus: Corpus) -> list[str]:
    return sorted(document.text for document in (*corpus.train, *corpus.dev, *corpus.test))


def zst(content: bytes) -> bytes:
    return zstandard.ZstdCompressor(level=1).compress(content)


@pytest.mark.parametrize("packed", ["", ".gz", ".zst"])
@pytest.mark.parametrize("name", WRITERS)
def test_every_format_gives_the_same_texts(tmp_path: Path, name: str, packed: str) -> None:
    plain = tmp_path / name
    WRITERS[name](plain, TEXTS)
    file = tmp_path / (name + packed)
    if packed:
        file.write_bytes((gzip.compress if packed == ".gz" else zst)(plain.read_bytes()))
    corpus = read(file)
    assert everything(corpus) == sorted(TEXTS)
    assert not corpus.bad
    assert corpus.train and corpus.dev and corpus.test


@pytest.mark.parametrize("packed", ["", ".gz", ".zst"])
@pytest.mark.parametrize("suffix", [".txt", ".md"])
def test_a_text_file_is_one_document_and_keeps_its_bytes(tmp_path: Path, page: str, suffix: str, packed: str) -> None:
    content = page.replace("\n", "\r\n").encode()
    file = tmp_path / f"story{suffix}{packed}"
    file.write_bytes({"": bytes, ".gz": gzip.compress, ".zst": zst}[packed](content))
    corpus = read(file)
    assert (len(corpus.train), len(corpus.dev), len(corpus.test)) == (1, 1, 1)
    joined = corpus.train[0].text + corpus.dev[0].text + corpus.test[0].text
    assert joined.encode() == content
    assert corpus.bytes("train") + corpus.bytes("dev") + corpus.bytes("test") == len(content)
    assert 0.03 < corpus.bytes("test") / len(content) < 0.07


def test_lines_and_blank_blocks(tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    body = "".join(f"first {n}\nsecond {n}\n\n" for n in range(60))
    file.write_text(body, newline="")
    by_line = read(file, documents="lines")
    assert everything(by_line) == sorted(f"{word} {n}" for n in range(60) for word in ("first", "second"))
    assert any("60 blank lines" in note for note in by_line.notes)
    assert not by_line.bad
    by_block = read(file, documents="blank")
    assert everything(by_block) == sorted(f"first {n}\nsecond {n}" for n in range(60))
    numbers = {d.id: d.text for d in (*by_block.train, *by_block.dev, *by_block.test)}
    assert numbers["a.txt:4"] == "first 1\nsecond 1"


def test_bad_rows_are_counted_and_named(tmp_path: Path) -> None:
    rows = [json.dumps({"text": text}).encode() for text in TEXTS[:40]]
    rows[3] = b'{"text": "caf\xe9"}'
    rows[5] = b"{not json"
    rows[7] = b'{"body": "x"}'
    rows[9] = b'{"text": 7}'
    rows[11] = b'{"text": "  "}'
    rows[13] = b"[1, 2]"
    rows[15] = b'{"text": "half a character: \\ud83d"}'
    rows[17] = b'{"text": null}'
    (tmp_path / "a.jsonl").write_bytes(b"\n".join(rows))
    corpus = read(tmp_path / "a.jsonl")
    found = {row.line: row.reason for row in corpus.bad}
    assert sorted(found) == [4, 6, 8, 10, 12, 14, 16, 18]
    assert all(row.file == "a.jsonl" for row in corpus.bad)
    for line, words in {
        4: "not UTF-8: byte 0xe9",
        6: "not JSON",
        8: 'no field "text" (fields: body)',
        10: "holds a number",
        12: "empty",
        14: "not a JSON object",
        16: "half a character",
        18: "holds nothing",
    }.items():
        assert words in found[line]
    assert len(everything(corpus)) == 32
    assert "8 bad rows" in corpus.summary() and "a.jsonl:4" in corpus.summary()
    with pytest.raises(SightlineError, match=r"a\.jsonl:4: not UTF-8.*strict"):
        read(tmp_path / "a.jsonl", strict=True)


def test_a_text_file_that_is_not_utf8_names_its_line(tmp_path: Path) -> None:
    (tmp_path / "good.txt").write_text("Good text. " * 20)
    (tmp_path / "bad.txt").write_bytes(b"one\ntwo\nthr\xffe\n")
    corpus = read(tmp_path)
    assert [(row.file, row.line) for row in corpus.bad] == [("bad.txt", 3)]
    assert "byte 0xff at offset 11" in corpus.bad[0].reason
    (tmp_path / "utf16.txt").write_bytes("wide".encode("utf-16"))
    assert any("UTF-16" in row.reason for row in read(tmp_path).bad)


@pytest.mark.parametrize("name", ["a.jsonl.gz", "a.jsonl.zst", "a.txt.gz", "a.txt.zst", "a.parquet", "a.arrow"])
def test_a_file_that_is_cut_short_is_said(tmp_path: Path, name: str) -> None:
    plain = tmp_path / name.removesuffix(".gz").removesuffix(".zst")
    draw = random.Random(0)
    noise = [f"{text} {draw.getrandbits(64)}" for text in TEXTS * 20]
    if plain.suffix == ".txt":
        plain.write_text("".join(noise))
    else:
        WRITERS[plain.name](plain, noise)
    content = plain.read_bytes()
    plain.unlink()
    if name.endswith(".gz"):
        content = gzip.compress(content)
    elif name.endswith(".zst"):
        content = zst(content)
    (tmp_path / name).write_bytes(content[: len(content) * 2 // 3])
    (tmp_path / "good.txt").write_text("Good text. " * 20)
    corpus = read(tmp_path)
    cut = [row for row in corpus.bad if row.file == name and row.line is None]
    assert len(cut) == 1, corpus.bad
    assert "cut short" in cut[0].reason or "not a whole" in cut[0].reason


def test_two_zst_frames_are_one_file(tmp_path: Path) -> None:
    (tmp_path / "a.txt.zst").write_bytes(zst(b"one and " * 9) + zst(b"two and " * 9))
    corpus = read(tmp_path / "a.txt.zst")
    assert corpus.train[0].text + corpus.dev[0].text + corpus.test[0].text == "one and " * 9 + "two and " * 9


def test_bad_utf8_in_parquet_spoils_only_its_row(tmp_path: Path) -> None:
    values = pa.array([text.encode() for text in TEXTS] + [b"caf\xe9"], pa.binary()).view(pa.string())
    pq.write_table(pa.table({"text": values}), tmp_path / "a.parquet")
    corpus = read(tmp_path / "a.parquet")
    assert everything(corpus) == sorted(TEXTS)
    assert [(row.line, "not UTF-8" in row.reason) for row in corpus.bad] == [(121, True)]


def test_byte_order_mark_is_taken_off_and_said(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbf" + b"Text without end. " * 9)
    corpus = read(tmp_path)
    assert corpus.train[0].text.startswith("Text")
    assert any("byte-order mark" in note for note in corpus.notes)


def test_names_make_the_split(tmp_path: Path) -> None:
    jsonl(tmp_path / "wiki.train.jsonl", TEXTS[:40])
    jsonl(tmp_path / "wiki_valid.jsonl", TEXTS[40:50])
    (tmp_path / "test").mkdir()
    jsonl(tmp_path / "test" / "train_notes.jsonl", TEXTS[50:60])  # the folder speaks first
    (tmp_path / "SOURCE_README.txt").write_text("about it")
    (tmp_path / "other.txt").write_text("not of it")
    (tmp_path / "table.csv").write_text("1,2\n")
    corpus = read(tmp_path)
    assert (len(corpus.train), len(corpus.dev), len(corpus.test)) == (40, 10, 10)
    assert corpus.how_split == "by the names of files and folders"
    told = "\n".join(corpus.notes)
    assert "SOURCE_README.txt" in told and "other.txt" in told and ".csv" in told
    assert "wiki.train.jsonl" in corpus.tree and corpus.fingerprint in corpus.tree


@pytest.mark.parametrize("texts", [TEXTS, ["".join(TEXTS)]], ids=["many", "one"])
def test_a_missing_dev_is_taken_from_train_and_said(tmp_path: Path, texts: list[str]) -> None:
    jsonl(tmp_path / "train.jsonl", texts)
    jsonl(tmp_path / "test.jsonl", ["the test"])
    corpus = read(tmp_path)
    assert corpus.dev and [document.text for document in corpus.test] == ["the test"]
    assert "no dev was there" in corpus.how_split
    assert sum(len(text) for text in everything(corpus)) == sum(map(len, texts)) + len("the test")


def test_hash_split_keeps_texts_where_they_are(tmp_path: Path) -> None:
    jsonl(tmp_path / "a.jsonl", TEXTS)
    before = read(tmp_path)
    jsonl(tmp_path / "b.jsonl", [f"more {n}" for n in range(500)] + TEXTS[:5])
    after = read(tmp_path)
    for split in ("train", "dev", "test"):
        old, new = ({document.text for document in corpus.part(split)} for corpus in (before, after))  # type: ignore[arg-type]
        assert old <= new
    sides = [{document.text for document in after.part(split)} for split in ("train", "dev", "test")]  # type: ignore[arg-type]
    assert not sides[0] & sides[1] and not sides[0] & sides[2] and not sides[1] & sides[2]
    share = len(after.test) / len(everything(after))
    assert 0.02 < share < 0.09


def test_too_few_documents_are_cut_by_a_tail(tmp_path: Path, page: str) -> None:
    for n in range(3):
        (tmp_path / f"{n}.txt").write_text(page * (n + 1), newline="")
    corpus = read(tmp_path)
    assert len(corpus.train) == 3 and len(corpus.dev) == 1 and len(corpus.test) == 1
    assert "too few" in corpus.how_split
    assert corpus.train[2].text + corpus.dev[0].text + corpus.test[0].text == page * 3
    assert corpus.dev[0].id == "2.txt#dev"


@pytest.mark.parametrize("count", [10, 11, 22, 40])
def test_few_documents_stay_whole(tmp_path: Path, count: int) -> None:
    jsonl(tmp_path / "a.jsonl", TEXTS[:count])
    corpus = read(tmp_path)
    assert corpus.train and corpus.dev and corpus.test
    assert everything(corpus) == sorted(TEXTS[:count])


def test_equal_texts_never_meet(tmp_path: Path) -> None:
    jsonl(tmp_path / "a.jsonl", TEXTS[:12] * 3)
    corpus = read(tmp_path)
    sides = [{document.text for document in side} for side in (corpus.train, corpus.dev, corpus.test)]
    assert all(sides) and sum(map(len, sides)) == 12


def test_fingerprint_knows_content_and_options_but_no_paths(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        jsonl(tmp_path / name / f"{name}.jsonl", TEXTS, kind="k")
    first, second = read(tmp_path / "one"), read(tmp_path / "two")
    assert first.fingerprint == second.fingerprint
    assert read(tmp_path / "one", label="kind").fingerprint != first.fingerprint
    jsonl(tmp_path / "two" / "two.jsonl", [*TEXTS[:-1], "changed"])
    assert read(tmp_path / "two").fingerprint != first.fingerprint


def test_field_and_label(tmp_path: Path) -> None:
    rows = [{"body": text, "topic": n % 3} for n, text in enumerate(TEXTS)]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    corpus = read(tmp_path / "a.jsonl", field="body", label="topic")
    assert {document.label for document in corpus.train} == {"0", "1", "2"}
    with pytest.raises(SightlineError, match=r"no document.*fields: body, topic.*--field"):
        read(tmp_path / "a.jsonl")
    with pytest.raises(SightlineError, match="label field"):
        read(tmp_path / "a.jsonl", field="body", label="colour")


@pytest.mark.parametrize("rows", [True, False])
def test_standard_input(monkeypatch: pytest.MonkeyPatch, page: str, rows: bool) -> None:
    content = "\n".join(json.dumps({"text": text}) for text in TEXTS) if rows else page

    class Input:
        buffer = io.BytesIO(content.encode())

    monkeypatch.setattr(sys, "stdin", Input)
    corpus = read("-")
    assert (
        everything(corpus) == sorted(TEXTS)
        if rows
        else "".join(d[0].text for d in (corpus.train, corpus.dev, corpus.test)) == page
    )
    assert corpus.name == "standard input"


def test_a_saved_hugging_face_folder_is_read(tmp_path: Path) -> None:
    for split in ("train", "validation", "test"):
        (tmp_path / split).mkdir()
        arrow_stream(tmp_path / split / "data-00000-of-00001.arrow", [f"{split} {text}" for text in TEXTS[:5]])
        (tmp_path / split / "state.json").write_text('{"_fingerprint": "0"}')
    (tmp_path / "dataset_dict.json").write_text('{"splits": []}')
    corpus = read(tmp_path)
    assert [len(corpus.part(split)) for split in ("train", "dev", "test")] == [5, 5, 5]  # type: ignore[arg-type]
    assert not corpus.bad


def test_numbers_are_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_text("one\teins\n")
    (tmp_path / "b.csv").write_text("1,2\n")
    assert (kind_of(tmp_path / "a.tsv"), kind_of(tmp_path / "b.csv"), kind_of(tmp_path)) == (
        "pairs",
        "numbers",
        "pairs",
    )
    with pytest.raises(SightlineError, match=r"holds numbers \(\.csv\), not text") as caught:
        read(tmp_path / "b.csv")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda folder: folder / "absent.txt", "does not exist"),
        (lambda folder: folder / "absent", "does not exist"),
        (lambda folder: folder, "is an empty folder"),
    ],
)
def test_nothing_there(tmp_path: Path, make: Callable[[Path], Path], words: str) -> None:
    with pytest.raises(SightlineError, match=words):
        read(make(tmp_path))


def test_nothing_in_it(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(" \n")
    with pytest.raises(SightlineError, match=r"holds no document: 1 bad row, the first a\.txt: empty"):
        read(tmp_path / "a.txt")
    (tmp_path / "a.txt").write_text("tiny")
    with pytest.raises(SightlineError, match="too few"):
        read(tmp_path / "a.txt")
    (tmp_path / "a.txt").unlink()
    (tmp_path / "a.png").write_bytes(b"\x89PNG")
    with pytest.raises(SightlineError, match="no file that can be read as text"):
        read(tmp_path)
    with pytest.raises(SightlineError, match="documents='words' is not known"):
        read(tmp_path, documents="words")  # type: ignore[arg-type]


@pytest.mark.parametrize("ending", ["\n", "\r\n", ""])
@pytest.mark.parametrize("length", [20, 21, 23, 40, 79, 80, 400, 4001])
def test_a_tail_is_never_empty_and_nothing_is_lost(tmp_path: Path, length: int, ending: str) -> None:
    text = ("x" + ending) * length
    text = text[:length]
    (tmp_path / "a.txt").write_bytes(text.encode())
    corpus = read(tmp_path / "a.txt")
    parts = [corpus.train[0].text, corpus.dev[0].text, corpus.test[0].text]
    assert all(parts) and "".join(parts) == text
    if ending == "\r\n" and length > 100:
        assert not any(part.startswith("\n") for part in parts)


def test_real_corpora(shared_data: Path) -> None:
    news = read(shared_data / "lm_en" / "wikinews")
    assert (len(news.train), len(news.dev), len(news.test)) == (17968, 369, 368)
    assert not news.bad
    shakespeare = read(shared_data / "lm_en" / "tinyshakespeare")
    whole = (shared_data / "lm_en" / "tinyshakespeare" / "input.txt").read_bytes().decode()
    assert "".join(part[0].text for part in (shakespeare.train, shakespeare.dev, shakespeare.test)) == whole
    wiki = read(shared_data / "lm_en" / "wikitext2")
    assert (len(wiki.train), len(wiki.dev), len(wiki.test)) == (1, 1, 1)
    assert any("SOURCE_README.txt" in note for note in wiki.notes)
