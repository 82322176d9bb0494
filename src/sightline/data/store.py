"""Documents that are kept outside memory and read when they are asked for.

    names, labels, texts -> one stream of bytes: in memory while it is short, then in a nameless temporary file
    columns of numbers   -> where each lies (40 bytes a document)
    Documents            -> some of them in some order, a sequence like any other

A corpus may be larger than memory, and a run asks for few of its texts after they are tokenized. The file has no name,
so that it is gone with the process, however that ends.
"""

from __future__ import annotations

import codecs
import hashlib
import os
import tempfile
import weakref
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import IO, overload

import numpy as np
from numpy.typing import NDArray

from ..errors import SightlineError
from .pairs import parted
from .source import Document

HELD = 32 << 20  # bytes that stay in memory before the file is begun
FLUSHED = 1 << 20  # bytes gathered for one write
BLOCK = 1 << 20  # bytes read at a time from a long text


class Store:
    """Names, labels and texts, added at the end and read at any place.

    Raises
    ------
    SightlineError : the temporary file cannot be written.
    """

    def __init__(self, held: int = HELD) -> None:
        self._most = held
        self._file: IO[bytes] | None = None
        self._written = 0  # bytes in the file; the rest is in the tail
        self._tail = bytearray()
        self._names, self._texts, self._sizes = array("q"), array("q"), array("q")
        self._name_sizes, self._label_sizes = array("i"), array("i")
        self._places = array("Q")

    def __len__(self) -> int:
        return len(self._texts)

    @property
    def held(self) -> int:
        """Bytes of texts and names that are in memory."""
        return len(self._tail)

    def append(self, document: Document) -> None:
        """Add a document."""
        raw = document.text.encode("utf-8")
        digest = hashlib.blake2b(raw, digest_size=8).digest()
        name = document.id.encode("utf-8", "surrogatepass")
        label = None if document.label is None else document.label.encode("utf-8", "surrogatepass")
        at = self._written + len(self._tail)
        self._names.append(at)
        self._name_sizes.append(len(name))
        self._label_sizes.append(-1 if label is None else len(label))
        self._texts.append(at + len(name) + len(label or b""))
        self._sizes.append(len(raw))
        self._places.append(int.from_bytes(digest, "big"))
        self._add(b"".join((name, label or b"", raw)))

    def append_blocks(self, name: str, blocks: Iterable[bytes]) -> None:
        """Add a document whose text comes in blocks; if they raise, nothing is added."""
        before, digest = self._end, hashlib.blake2b(digest_size=8)
        at = self._named(name, None)
        start = self._end
        try:
            for block in blocks:
                digest.update(block)
                self._add(block)
        except BaseException:
            self._cut(before)
            raise
        self._entered(at, name, None, start, self._end - start, digest.digest())

    def view(self, index: int, name: str, start: int, stop: int) -> int:
        """A new document that is a stretch of another's bytes, which are not copied; returns its index."""
        digest = hashlib.blake2b(digest_size=8)
        for block in self.blocks(index, start, stop):
            digest.update(block)
        label = self.label(index)
        at = self._named(name, label)
        self._entered(at, name, label, self._texts[index] + start, stop - start, digest.digest())
        return len(self) - 1

    def forget(self, count: int) -> None:
        """Take away all documents but the first ``count``."""
        if count == len(self):
            return
        self._cut(self._names[count])
        for column in (self._names, self._texts, self._sizes, self._name_sizes, self._label_sizes, self._places):
            del column[count:]

    def name(self, index: int) -> str:
        """A document's id."""
        return self._read(self._names[index], self._name_sizes[index]).decode("utf-8", "surrogatepass")

    def label(self, index: int) -> str | None:
        """A document's label, or None."""
        size = self._label_sizes[index]
        if size < 0:
            return None
        return self._read(self._names[index] + self._name_sizes[index], size).decode("utf-8", "surrogatepass")

    def raw(self, index: int, start: int = 0, stop: int | None = None) -> bytes:
        """A document's text in UTF-8, or a stretch of it."""
        whole = self._sizes[index]
        stop = whole if stop is None else min(stop, whole)
        return self._read(self._texts[index] + start, stop - start)

    def blocks(self, index: int, start: int = 0, stop: int | None = None) -> Iterator[bytes]:
        """A document's text in blocks."""
        stop = self._sizes[index] if stop is None else stop
        for at in range(start, stop, BLOCK):
            yield self.raw(index, at, min(at + BLOCK, stop))

    def records(self, numbers: NDArray[np.int64]) -> Iterator[tuple[bytes, bytes, bytes | None]]:
        """Name, label ("" for none) and text of some documents; None for a text longer than ``BLOCK``.

        Neighbours are read together, which is several times faster than one by one.
        """
        columns = (self._names, self._name_sizes, self._label_sizes, self._texts, self._sizes)
        start, window, last = 0, b"", numbers[-1] if len(numbers) else 0
        for at in range(0, len(numbers), 1 << 12):  # numbers as Python's, a few at a time
            few = numbers[at : at + (1 << 12)]
            places = zip(few.tolist(), *(np.asarray(column)[few].tolist() for column in columns), strict=True)
            for number, begin, name, label, text, size in places:
                label = max(0, label)
                head, whole = name + label, size <= BLOCK and text == begin + name + label
                until = text + size if whole else begin + head
                if begin < start or until > start + len(window):
                    ahead = 0 if number == last else min(BLOCK, self._end - begin)
                    start, window = begin, self._read(begin, max(until - begin, ahead))
                here = begin - start
                raw: bytes | None
                if whole:
                    raw = window[here + head : here + head + size]
                else:
                    raw = None if size > BLOCK else self.raw(number)
                yield window[here : here + name], window[here + name : here + head], raw

    # The columns are looked into, not copied: a corpus of a million files asks for one document a million times.

    def sizes(self, numbers: NDArray[np.int64]) -> NDArray[np.int64]:
        """UTF-8 bytes of some texts."""
        return np.asarray(self._sizes)[numbers]

    def places(self, numbers: NDArray[np.int64]) -> NDArray[np.float64]:
        """Where some texts fall between 0 and 1, by their content alone."""
        return np.asarray(self._places)[numbers].astype(np.float64) / 2**64

    def labelled(self, numbers: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Which of some documents have a label."""
        known: NDArray[np.bool_] = np.asarray(self._label_sizes)[numbers] >= 0
        return known

    @property
    def _end(self) -> int:
        return self._written + len(self._tail)

    def _named(self, name: str, label: str | None) -> int:
        at = self._end
        self._add((name + (label or "")).encode("utf-8", "surrogatepass"))
        return at

    def _entered(self, at: int, name: str, label: str | None, start: int, size: int, digest: bytes) -> None:
        self._names.append(at)
        self._name_sizes.append(len(name.encode("utf-8", "surrogatepass")))
        self._label_sizes.append(-1 if label is None else len(label.encode("utf-8", "surrogatepass")))
        self._texts.append(start)
        self._sizes.append(size)
        self._places.append(int.from_bytes(digest, "big"))

    def _add(self, raw: bytes) -> None:
        self._tail += raw
        if len(self._tail) < (self._most if self._file is None else FLUSHED):
            return
        try:
            if self._file is None:
                self._file = tempfile.TemporaryFile(prefix="sightline-", buffering=0)  # noqa: SIM115, it lives with us
                weakref.finalize(self, self._file.close)
            with memoryview(self._tail) as left:
                done = 0
                while done < len(left):
                    done += os.pwrite(self._file.fileno(), left[done:], self._written + done)
        except OSError as error:
            raise SightlineError(
                f"the text is kept in {tempfile.gettempdir()} while it is prepared, which failed ({error.strerror})",
                "Make room there, or name another folder with the environment variable TMPDIR",
            ) from error
        self._written += len(self._tail)
        self._tail = bytearray()

    def _cut(self, end: int) -> None:
        """Drop all bytes behind ``end``."""
        if end < self._written:
            self._written = end
            self._tail = bytearray()
        else:
            del self._tail[end - self._written :]

    def _read(self, at: int, size: int) -> bytes:
        if at >= self._written:
            return bytes(self._tail[at - self._written : at - self._written + size])
        assert self._file is not None
        parts, stop = [], min(at + size, self._written)
        while at < stop:
            part = os.pread(self._file.fileno(), stop - at, at)
            if not part:
                raise SightlineError("the temporary file with the text was cut short", "Give the command again")
            parts.append(part)
            at += len(part)
            size -= len(part)
        if size:
            parts.append(bytes(self._tail[:size]))
        return parts[0] if len(parts) == 1 else b"".join(parts)


class Documents(Sequence[Document]):
    """Some documents of a store in some order: a sequence whose texts are read when asked for."""

    def __init__(self, store: Store, numbers: NDArray[np.int64] | None = None) -> None:
        self.store = store
        self.numbers = np.arange(len(store), dtype=np.int64) if numbers is None else np.asarray(numbers, np.int64)

    def __len__(self) -> int:
        return len(self.numbers)

    @overload
    def __getitem__(self, at: int) -> Document: ...
    @overload
    def __getitem__(self, at: slice) -> Documents: ...
    def __getitem__(self, at: int | slice) -> Document | Documents:
        if isinstance(at, slice):
            return self.take(at)
        index = int(self.numbers[at])
        return Document(self.store.name(index), self.store.raw(index).decode("utf-8"), self.store.label(index))

    def __iter__(self) -> Iterator[Document]:
        return (self[at] for at in range(len(self)))

    def __repr__(self) -> str:
        return f"Documents({len(self):,}, {int(self.sizes().sum()):,} bytes)"

    def take(self, which: slice | NDArray[np.bool_] | NDArray[np.int64]) -> Documents:
        """Some of the documents, by numbers or by truths."""
        return Documents(self.store, self.numbers[which])

    def name(self, at: int) -> str:
        """The id of one document; its text is not read."""
        return self.store.name(int(self.numbers[at]))

    def sizes(self) -> NDArray[np.int64]:
        """UTF-8 bytes of each text."""
        return self.store.sizes(self.numbers)

    def places(self) -> NDArray[np.float64]:
        """Where each text falls between 0 and 1, by its content alone."""
        return self.store.places(self.numbers)

    def labelled(self) -> NDArray[np.bool_]:
        """Which documents have a label."""
        return self.store.labelled(self.numbers)

    def raw(self, at: int) -> bytes:
        """One text in UTF-8."""
        return self.store.raw(int(self.numbers[at]))

    def blocks(self, at: int) -> Iterator[bytes]:
        """One text in UTF-8, in blocks that may cut a character."""
        return self.store.blocks(int(self.numbers[at]))

    def characters(self, at: int) -> int:
        """The length of one text in characters."""
        return sum(len(text) for text in decoded(self.blocks(at)))

    def offset(self, at: int, character: int) -> int:
        """The byte of one text at which a character begins."""
        passed = 0
        for text in decoded(self.blocks(at)):
            if character <= len(text):
                return passed + len(text[:character].encode("utf-8"))
            passed += len(text.encode("utf-8"))
            character -= len(text)
        return passed

    def stretch(self, at: int, character: int, count: int) -> str:
        """At most ``count`` characters of one text from ``character`` on."""
        start = self.offset(at, character)
        raw = self.store.raw(int(self.numbers[at]), start, start + 4 * count)  # no character is longer than four bytes
        return raw.decode("utf-8", "ignore")[:count]  # only the last one can be cut

    def content(self, told: Callable[[int], None] | None = None) -> str:
        """The fingerprint of texts and labels, in their order; ``told`` hears how many bytes were looked at."""
        digest = hashlib.blake2b(digest_size=8)
        gathered, size = list[bytes](), 0
        for at, (_, label, raw) in enumerate(self.store.records(self.numbers)):
            length = self.store.sizes(self.numbers[at : at + 1]).item() if raw is None else len(raw)
            gathered.append(length.to_bytes(8, "little"))
            for block in self.blocks(at) if raw is None else (raw,):
                gathered.append(block)
                size += len(block)
                if size >= BLOCK // 4:  # long stretches are hashed outside the interpreter's lock
                    digest.update(b"".join(gathered))
                    if told is not None:
                        told(size)
                    gathered, size = [], 0
            gathered += (len(label).to_bytes(8, "little"), label)
        digest.update(b"".join(gathered))
        return digest.hexdigest()


class Texts(Sequence[str]):
    """The texts of documents, each read when asked for; of pairs all sources, and then all targets."""

    def __init__(self, documents: Sequence[Document], pairs: bool = False) -> None:
        self._documents, self._pairs = documents, pairs

    def __len__(self) -> int:
        return len(self._documents) * (1 + self._pairs)

    @overload
    def __getitem__(self, at: int) -> str: ...
    @overload
    def __getitem__(self, at: slice) -> list[str]: ...
    def __getitem__(self, at: int | slice) -> str | list[str]:
        if isinstance(at, slice):
            return [self[one] for one in range(*at.indices(len(self)))]
        at += len(self) if at < 0 else 0
        if not 0 <= at < len(self):
            raise IndexError(at)
        side, number = divmod(at, len(self._documents))
        text = self._documents[number].text
        return parted(text)[side] if self._pairs else text

    def __iter__(self) -> Iterator[str]:
        for side in range(1 + self._pairs):
            for document in self._documents:
                yield parted(document.text)[side] if self._pairs else document.text


def decoded(blocks: Iterable[bytes]) -> Iterator[str]:
    """Blocks of UTF-8 as text; a block may cut a character."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    for block in blocks:
        yield decoder.decode(block)


def byte_count(text: str) -> int:
    """UTF-8 bytes of a text."""
    return len(text) if text.isascii() else len(text.encode("utf-8"))


def text_bytes(documents: Sequence[Document]) -> int:
    """UTF-8 bytes of all texts."""
    if isinstance(documents, Documents):
        return int(documents.sizes().sum())
    return sum(byte_count(document.text) for document in documents)


def labels_of(documents: Sequence[Document]) -> Iterator[str | None]:
    """The label of each document; their texts are not read."""
    if isinstance(documents, Documents):
        return (documents.store.label(number) for number in documents.numbers.tolist())
    return (document.label for document in documents)
