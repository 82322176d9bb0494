"""Preparing text that is larger than memory: what is held; blocks, pieces and workers change nothing."""

from __future__ import annotations

import gzip
import io
import json
import os
import random
import re
import signal
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from sightline.data import (
    Document,
    Documents,
    Phrasing,
    Tokenizer,
    bulk,
    labels_of,
    pool,
    read,
    rows,
    source,
    tokenized,
    train_tokenizer,
)
from sightline.data.compression import DAMAGED
from sightline.data.pool import Piece, Stream
from sightline.data.source import Reading, Remark, documents_from
from sightline.data.store import Store, byte_count
from sightline.errors import SightlineError

PAGE = (Path(__file__).parent.parent / "texts" / "page.txt").read_bytes().decode()
WORDS = ["sea", "tide", "naïve", "的确，中文", "gull", "\u3000", "wind-south", "12345", "😀", "x" * 50]
ENDS = [" ", "  ", "\n", "\r\n", "\n\n", "\r\n \t\r\n", "\n   \n\n", "   \n", "\t", "\r", "\n\r\r\n\n"]


def text_of(words: int, seed: int = 0) -> str:
    draw = random.Random(seed)
    return "".join(draw.choice(WORDS) + (draw.choice(ENDS) if draw.random() < 0.3 else " ") for _ in range(words))


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return train_tokenizer([PAGE, text_of(500)], "bpe", 700)


def several() -> list[Document]:
    return [Document(f"d{n}", text_of(1 + n * 37 % 90, n)) for n in range(80)]


def content(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in sorted(folder.iterdir())}


# The store


@pytest.mark.parametrize("held", [0, 100, 1 << 30])
def test_documents_come_back_from_memory_and_from_disk(held: int) -> None:
    store, documents = Store(held), several()
    documents[3] = Document("名", "text", "the label")
    documents[4] = Document("", "an empty label", "")
    for document in documents:
        store.append(document)
    kept = Documents(store)
    assert list(kept) == documents and kept[-1] == documents[-1] and list(kept[3:5]) == documents[3:5]
    assert kept.sizes().tolist() == [byte_count(document.text) for document in documents]
    assert [kept.name(at) for at in range(len(kept))] == [document.id for document in documents]
    assert list(labels_of(kept)) == [document.label for document in documents] == list(labels_of(documents))
    with pytest.raises(IndexError):
        kept[len(documents)]
    store.forget(5)
    store.append(documents[9])
    assert list(Documents(store)) == [*documents[:5], documents[9]]


def test_a_text_in_blocks_is_whole_or_absent() -> None:
    store = Store(0)
    store.append(Document("a", "first"))
    store.append_blocks("b", ["的".encode()[:1], "的".encode()[1:], b" end"])

    def broken() -> Iterator[bytes]:
        yield b"half"
        raise ValueError

    with pytest.raises(ValueError):
        store.append_blocks("c", broken())
    store.append(Document("d", "last"))
    assert [(one.id, one.text) for one in Documents(store)] == [("a", "first"), ("b", "的 end"), ("d", "last")]
    same = Store()
    same.append(Document("b", "的 end"))
    assert same.places(np.array([0])) == store.places(np.array([1]))


def test_stretches_by_characters() -> None:
    store, text = Store(0), "a的😀é" * 50
    store.append(Document("a", text))
    kept = Documents(store)
    assert kept.characters(0) == len(text)
    for at in (0, 1, 3, 77, len(text)):
        assert kept.offset(0, at) == len(text[:at].encode())
        assert kept.stretch(0, at, 9) == text[at : at + 9]
    view = store.view(0, "b", kept.offset(0, 3), kept.offset(0, 60))
    assert store.raw(view).decode() == text[3:60]


def test_memory_holds_little_of_a_large_corpus(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tokenizer: Tokenizer
) -> None:
    """Counted by what Python allocates, with a small limit: 25 MB of text under 8 MB."""
    monkeypatch.setattr("sightline.data.documents.Store", lambda: Store(1 << 20))
    file = tmp_path / "a.jsonl.gz"
    with gzip.open(file, "wb", 1) as handle:
        for n in range(3000):
            handle.write(json.dumps({"text": f"{n} " + "tide and wind " * 600}).encode() + b"\n")
    byte = train_tokenizer(["x"], "byte")
    monkeypatch.setattr(rows, "BATCH", 1 << 16)
    tracemalloc.start()
    corpus = read(file)
    tokenized(corpus.train, byte, tmp_path / "tokens", workers=0)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert corpus.bytes("train") > 20e6
    assert peak < 8e6, peak


def test_no_room_for_the_text_is_one_clear_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "pwrite", full)
    store = Store(0)
    with pytest.raises(SightlineError, match=r"No space left.*TMPDIR"):
        store.append(Document("a", "text"))


# Blocks of a file


def whole_parts(raw: bytes, cut: str) -> list[tuple[int, bytes]]:
    """Documents of a text file and their lines, by one regular expression over the whole of it."""
    separator = rb"\r?\n" if cut == "lines" else rb"(?:[ \t]*\r?\n){2,}"
    found, start, line = [], 0, 1
    for begin, end in [*(m.span() for m in re.finditer(separator, raw)), (len(raw), len(raw))]:
        if raw[start:begin].decode().strip():
            found.append((line, raw[start:begin]))
        line += raw.count(b"\n", start, end)
        start = end
    return found


@pytest.mark.parametrize("block", [3, 7, 64, 1 << 18])
@pytest.mark.parametrize("cut", ["lines", "blank"])
def test_blocks_do_not_move_where_documents_end(monkeypatch: pytest.MonkeyPatch, block: int, cut: str) -> None:
    monkeypatch.setattr(source, "BLOCK", block)
    for seed in range(4):
        raw = ("\ufeff" * (seed % 2) + ENDS[5] * (seed // 2) + text_of(300, seed)).encode()
        items = list(documents_from(io.BytesIO(raw), "a", Reading(documents=cut), "text"))  # type: ignore[arg-type]
        found = [(int(one.id[2:]), one.text.encode()) for one in items if isinstance(one, Document)]
        assert found == whole_parts(raw.removeprefix(source.BOM), cut)
        assert any(isinstance(one, Remark) and "byte-order" in one.text for one in items) == bool(seed % 2)


@pytest.mark.parametrize("block", [2, 3, 5, 1 << 18])
@pytest.mark.parametrize(
    "raw", ["é\n的\n".encode() + b"\xe7\x9a", b"a\n\xc3(", b"\xff\xfea", b"ok \xf0\x9f\x98\x80 \n\x80"]
)
def test_blocks_do_not_move_a_bad_byte(monkeypatch: pytest.MonkeyPatch, block: int, raw: bytes) -> None:
    monkeypatch.setattr(source, "BLOCK", block)
    with pytest.raises(UnicodeDecodeError) as caught:
        raw.decode()
    at = caught.value.start
    (bad,) = documents_from(io.BytesIO(raw), "a", Reading(), "text")
    line = raw.count(b"\n", 0, at) + 1
    assert str(bad).startswith(f"a:{line}: not UTF-8: byte 0x{raw[at]:02x} at offset {at}")
    assert ("UTF-16" in str(bad)) == (raw[:2] == b"\xff\xfe")


def test_nothing_is_taken_of_a_text_file_cut_short(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(PAGE)
    (tmp_path / "b.txt.gz").write_bytes(gzip.compress(text_of(20_000).encode())[:-9000])
    for cut in ("file", "lines", "blank"):
        corpus = read(tmp_path, documents=cut)  # type: ignore[arg-type]
        assert not any(one.id.startswith("b") for side in (corpus.train, corpus.dev, corpus.test) for one in side)
        assert [(row.file, row.line) for row in corpus.bad] == [("b.txt.gz", None)]


@pytest.mark.parametrize("block", [900, 1 << 18])
def test_a_damaged_gz_gives_what_gzip_reads_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block: int) -> None:
    monkeypatch.setattr(source, "BLOCK", block)
    whole = "".join(json.dumps({"text": text_of(40, n)}) + "\n" for n in range(300)).encode()
    packed = gzip.compress(whole)
    broken, wrong = bytearray(packed), bytearray(packed)
    broken[len(packed) // 2] ^= 255
    wrong[-6] ^= 255  # of the sum that is checked at the end
    forms = {
        "whole": packed,
        "two": gzip.compress(whole[:5000]) + gzip.compress(whole[5000:]),
        "padded": packed + bytes(600),
        "cut": packed[:-800],
        "broken": bytes(broken),
        "wrong sum": bytes(wrong),
        "junk behind": packed + b"junk",
        "no gz": whole,
        "nothing": b"",
    }
    for name, raw in forms.items():
        file = tmp_path / "a.jsonl.gz"
        file.write_bytes(raw)
        wanted: list[source.Item] = []
        try:
            with gzip.open(file) as handle:
                wanted.extend(documents_from(handle, "a", Reading(), "rows"))  # type: ignore[arg-type]
        except DAMAGED as error:
            wanted.append(source.damage("a", error))
        assert list(source.documents_in(file, "a", Reading())) == wanted, name
        assert isinstance(wanted[-1], source.BadRow) == (name not in ("whole", "two", "padded")) if wanted else not raw


def test_one_document_of_many_is_read_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """The files of a folder have a fingerprint each, and a window ahead for each would be a megabyte a file."""
    store, asked = Store(), list[int]()
    for document in several():
        store.append(document)
    read_one = Store._read
    monkeypatch.setattr(Store, "_read", lambda self, at, size: asked.append(size) or read_one(self, at, size))
    Documents(store, np.array([3])).content()
    assert 0 < sum(asked) < 10 + byte_count(several()[3].text)
    asked.clear()
    Documents(store).content()
    assert len(asked) < 3


# Pieces and workers


@pytest.mark.parametrize("kind", ["bpe", "byte", "char", "wordpiece", "phrases"])
def test_pieces_and_workers_change_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    """Documents whole, cut across batches, read from disk, and encoded by two threads or processes: the same bytes."""
    documents = [*several(), Document("long", text_of(4000, 7)), Document("空", "的" * 999), Document("end", "x")]
    if kind == "phrases":
        tokenizer = train_tokenizer([document.text for document in documents], "word", phrases=Phrasing(threshold=0.05))
        assert tokenizer.phrases
    else:
        tokenizer = train_tokenizer([PAGE], kind, 700 if kind in ("bpe", "wordpiece") else None)  # type: ignore[arg-type]
    tokenized(documents, tokenizer, tmp_path / "whole", workers=0)
    store = Store(0)
    for document in documents:
        store.append(document)
    monkeypatch.setattr(rows, "BATCH", 3000)
    monkeypatch.setattr(bulk, "CHUNK", 500)
    tokenized(Documents(store), tokenizer, tmp_path / "cut", workers=0)
    tokenized(Documents(store), tokenizer, tmp_path / "threads", workers=2)
    monkeypatch.setattr(pool, "THREADED", 0)
    tokenized(Documents(store), tokenizer, tmp_path / "processes", workers=2)
    for way in ("cut", "threads", "processes"):
        assert content(tmp_path / "whole") == content(tmp_path / way)


def test_a_large_text_gets_workers_and_a_small_one_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "cores", lambda: 2)
    assert [pool.workers_for(size) for size in (0, 1 << 20, pool.LITTLE, 1 << 40)] == [0, 0, 2, 2]
    monkeypatch.setattr(pool, "cores", lambda: 1)
    assert pool.workers_for(1 << 40) == 0
    monkeypatch.setattr(pool, "cores", lambda: 900)
    assert pool.workers_for(pool.LITTLE) == pool.workers_for(pool.WORTH) == pool.THREADED
    assert pool.workers_for(1 << 40) == pool.MOST


def batches(count: int) -> list[list[Piece]]:
    return [
        [Piece(f"batch {n} ".encode() * 40), Piece(f"and {n}".encode(), n % 2 == 0, n % 3 == 0)] for n in range(count)
    ]


def same(one: Stream, other: Stream) -> bool:
    return bool((one.tokens == other.tokens).all()) and one.counts.tolist() == other.counts.tolist()


def watched(monkeypatch: pytest.MonkeyPatch) -> list[subprocess.Popen[bytes]]:
    """The workers that are started from now on."""
    started: list[subprocess.Popen[bytes]] = []
    first = pool._started

    def start() -> subprocess.Popen[bytes] | None:
        worker = first()
        assert worker is not None
        started.append(worker)
        return worker

    monkeypatch.setattr(pool, "_started", start)
    return started


@pytest.mark.parametrize("how", ["killed", "cannot start", "says nonsense"])
def test_a_worker_that_fails_loses_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tokenizer: Tokenizer, how: str
) -> None:
    monkeypatch.setattr(pool, "THREADED", 0)
    dtype = np.dtype("<u2")
    started: list[subprocess.Popen[bytes]] = []
    if how == "cannot start":
        monkeypatch.setattr(sys, "executable", "/nowhere/python")
    else:
        started = watched(monkeypatch)
    if how == "says nonsense":
        monkeypatch.setattr(pool, "START", "print('what?')")
    whole = [pool.streamed(batch, tokenizer, dtype) for batch in batches(30)]
    got = []
    for at, stream in enumerate(pool.encoded(batches(30), tokenizer, dtype, 2)):
        got.append(stream)
        if at == 3 and how == "killed":
            started[0].send_signal(signal.SIGKILL)
    assert len(got) == 30 and all(map(same, got, whole))
    assert ("has stopped" in capsys.readouterr().err) == (how != "cannot start")
    assert all(worker.poll() is not None for worker in started)


def test_stopping_half_way_leaves_no_process_and_no_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tokenizer: Tokenizer
) -> None:
    def stopped(self: object, batch: object, stream: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(pool, "THREADED", 0)
    started = watched(monkeypatch)
    monkeypatch.setattr(rows._Ends, "add", stopped)
    monkeypatch.setattr(rows, "BATCH", 2000)
    begun = time.perf_counter()
    with pytest.raises(KeyboardInterrupt):
        tokenized(several(), tokenizer, tmp_path / "tokens", workers=2)
    assert time.perf_counter() - begun < 5
    assert len(started) == 2 and all(worker.poll() is not None for worker in started)
    assert list(tmp_path.iterdir()) == []
