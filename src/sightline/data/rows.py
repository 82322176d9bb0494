"""Documents to rows: a memory-mapped stream of tokens, cut into rows of one length.

    documents -> <s> ... </s> <s> ... </s> <s> ...      tokens.bin, with the offset where each document begins
    rows         |---- row 0 ----|---- row 1 ----|      row r = tokens[r T : (r + 1) T]; the last is filled up

A row may hold the end of one document and the beginning of the next; ``documents`` says which token is whose.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from pathlib import Path
from typing import IO, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ..errors import SightlineError
from ..files import read_json, whole_folder, write_json
from ..progress import bar, say
from .documents import Document
from .pairs import TAB
from .pool import Batch, Piece, Stream, encoded, workers_for
from .store import Documents, byte_count, decoded
from .tokenizer import Tokenizer

LAYOUT = 1  # of the folder; raise it when it changes
HEAD, TOKENS, OFFSETS, BYTES, NAMES = "head.json", "tokens.bin", "offsets.npy", "bytes.npy", "documents.jsonl"
BATCH = 1 << 20  # bytes of text encoded at a time; longer documents are cut


@dataclass(frozen=True, eq=False)
class TokenFile:
    """Tokenized documents on disk.

    tokens [token_count] uint16 or uint32, memory-mapped; document i is ``tokens[offsets[i]:offsets[i + 1]]``, begun by
    bos and ended by eos. offsets [document_count + 1]; bytes [document_count]: UTF-8 bytes of each text.
    """

    folder: Path
    tokens: NDArray[Any]
    offsets: NDArray[np.int64]
    bytes: NDArray[np.int64]
    fingerprint: str

    @classmethod
    def open(cls, folder: Path) -> TokenFile:
        """Open a folder that ``tokenized`` made.

        Raises
        ------
        SightlineError : it is none, or a file in it was cut short.
        """
        head = read_json(folder / HEAD)
        if not isinstance(head, dict) or head.get("layout") != LAYOUT:
            raise SightlineError(f"{folder} is not a token folder of this version", "Tokenize the corpus again")
        width = np.dtype(head["dtype"]).itemsize
        try:
            size = (folder / TOKENS).stat().st_size
            offsets = np.load(folder / OFFSETS, allow_pickle=False)
            lengths = np.load(folder / BYTES, allow_pickle=False)
            (folder / NAMES).stat()
        except (OSError, ValueError, EOFError) as error:
            raise SightlineError(
                f"{folder} is damaged: a file is missing or cut short ({error})", "Remove it and tokenize again"
            ) from error
        whole = len(lengths) == head["documents"] == len(offsets) - 1 and offsets[-1] == head["tokens"]
        if size != head["tokens"] * width or not whole:
            raise SightlineError(
                f"{folder / TOKENS} is cut short: {size:,} bytes of {head['tokens'] * width:,}",
                "Remove it and tokenize again",
            )
        tokens = np.memmap(folder / TOKENS, head["dtype"], "r", shape=(head["tokens"],))
        return cls(folder, tokens, offsets, lengths, head["fingerprint"])

    @property
    def token_count(self) -> int:
        """Tokens, bos and eos included."""
        return len(self.tokens)

    @property
    def document_count(self) -> int:
        """Documents."""
        return len(self.bytes)

    @cached_property
    def ids(self) -> tuple[str, ...]:
        """The documents' ids, read when first asked for."""
        with open(self.folder / NAMES, encoding="utf-8", newline="\n") as handle:
            return tuple(json.loads(line) for line in handle)

    def document(self, index: int) -> NDArray[np.int32]:
        """The tokens of one document, bos and eos included."""
        return np.asarray(self.tokens[self.offsets[index] : self.offsets[index + 1]], np.int32)

    def name(self, index: int) -> str:
        """The id of one document."""
        return self.ids[index]


def tokenized(
    documents: Sequence[Document],
    tokenizer: Tokenizer,
    folder: Path,
    title: str = "",
    workers: int | None = None,
    pairs: bool = False,
) -> TokenFile:
    """Tokenize documents into a folder, or open the folder if it holds exactly them already.

    Parameters
    ----------
    pairs : each text is ``source<TAB>target``, and becomes bos, source, sep, target, eos; without bos where there is
        none, and with another before the target where it ``opens``.
    workers : threads or processes that encode (see ``pool``); 0 is this thread alone, None one per core where the text
        is large enough to repay their start. What is written does not depend on them.

    Raises
    ------
    SightlineError : no document, a tokenizer without begin and end (of pairs also sep), or a folder that holds
        something else.
    """
    folder = Path(folder)
    if not documents:
        raise SightlineError("there is no document to tokenize", "Give a corpus with text")
    if pairs:
        tokenizer.need_targets()
    for mark in ("eos", "sep") if pairs else ("bos", "eos"):
        tokenizer.need(mark)
    lengths = _lengths(documents)
    if folder.exists():
        if any(folder.iterdir()) and not (folder / HEAD).is_file():
            raise SightlineError(f"{folder} holds other files than tokens", "Name a new folder")
        try:
            kept = TokenFile.open(folder)
            if kept.fingerprint == _content(documents, lengths, tokenizer, title, pairs):
                return kept
        except SightlineError as error:  # made from the corpus, so it can be made again
            say(f"{error} It is made again now.")
    dtype = np.dtype("<u2" if tokenizer.padded <= 1 << 16 else "<u4")
    total = int(lengths.sum())
    workers = workers_for(total) if workers is None else workers
    marked = _Mark(tokenizer, pairs)
    ends = _Ends(len(documents))
    with whole_folder(folder) as aside:
        with (
            open(aside / TOKENS, "wb") as handle,
            open(aside / NAMES, "w", encoding="utf-8", newline="\n") as names,
            bar(title or "tokenizing", total, "bytes") as shown,
        ):
            sent: deque[Batch] = deque()

            def batches() -> Iterator[Batch]:
                for batch in _batches(_pieces(documents, lengths, tokenizer, marked, names, pairs)):
                    sent.append(batch)
                    yield batch

            with contextlib.closing(encoded(batches(), tokenizer, dtype, workers)) as streams:
                for stream in streams:
                    batch = sent.popleft()
                    handle.write(stream.tokens.data)
                    ends.add(batch, stream)
                    shown.advance(sum(len(piece.raw) for piece in batch))
        np.save(aside / OFFSETS, ends.offsets, allow_pickle=False)
        np.save(aside / BYTES, lengths, allow_pickle=False)
        head = {"layout": LAYOUT, "dtype": dtype.str, "tokens": int(ends.offsets[-1]), "documents": len(documents)}
        write_json(aside / HEAD, head | {"fingerprint": marked.fingerprint, "tokenizer": tokenizer.fingerprint})
    return TokenFile.open(folder)


class _Mark:
    """The fingerprint of a tokenizer and of documents, which are fed to it one after the other."""

    def __init__(self, tokenizer: Tokenizer, pairs: bool) -> None:
        self._digest = hashlib.blake2b(digest_size=8)
        self._gathered: list[bytes] = []
        self._size = 0
        for part in (str(LAYOUT).encode(), tokenizer.fingerprint.encode(), *_of_pairs(tokenizer, pairs)):
            self._gathered += (len(part).to_bytes(8, "little"), part)

    def document(self, name: bytes, size: int) -> None:
        """A document begins; its ``size`` bytes are to be added."""
        self._gathered += (len(name).to_bytes(8, "little"), name, size.to_bytes(8, "little"))

    def add(self, raw: bytes) -> None:
        self._gathered.append(raw)
        self._size += len(raw)
        if self._size >= BATCH:  # a long stretch is hashed without holding up other threads
            self._digest.update(b"".join(self._gathered))
            self._gathered, self._size = [], 0

    @property
    def fingerprint(self) -> str:
        self._digest.update(b"".join(self._gathered))
        self._gathered, self._size = [], 0
        return self._digest.hexdigest()


def _of_pairs(tokenizer: Tokenizer, pairs: bool) -> list[bytes]:
    return [b"pairs", *(b"opened" for _ in tokenizer.opens)] if pairs else []


class _Ends:
    """Where documents end in the stream of tokens, counted piece by piece."""

    def __init__(self, documents: int) -> None:
        self.offsets = np.zeros(documents + 1, np.int64)
        self._done = 0  # documents that have ended
        self._tokens = 0

    def add(self, batch: Batch, stream: Stream) -> None:
        ends = self._tokens + np.cumsum(stream.counts)
        ended = ends[[piece.last for piece in batch]]
        self.offsets[self._done + 1 : self._done + 1 + len(ended)] = ended
        self._done += len(ended)
        self._tokens = int(ends[-1])


def _lengths(documents: Sequence[Document]) -> NDArray[np.int64]:
    """UTF-8 bytes of each text."""
    if isinstance(documents, Documents):
        return documents.sizes()
    return np.array([byte_count(document.text) for document in documents], np.int64)


def _content(
    documents: Sequence[Document], lengths: NDArray[np.int64], tokenizer: Tokenizer, title: str, pairs: bool
) -> str:
    """The fingerprint of a token file of these documents."""
    mark = _Mark(tokenizer, pairs)
    with bar(f"{title or 'tokens'}: are they there?", int(lengths.sum()), "bytes") as shown:
        for at, (name, raw) in enumerate(_texts(documents)):
            mark.document(name, int(lengths[at]))
            for block in _blocks(documents, at) if raw is None else (raw,):
                mark.add(block)
                shown.advance(len(block))
    return mark.fingerprint


def _texts(documents: Sequence[Document]) -> Iterator[tuple[bytes, bytes | None]]:
    """Each document's id and text in UTF-8; None for a long text of a store (see ``_blocks``)."""
    if isinstance(documents, Documents):
        for name, _, raw in documents.store.records(documents.numbers):
            yield name, raw
    else:
        for document in documents:
            yield document.id.encode("utf-8"), document.text.encode("utf-8")


def _blocks(documents: Sequence[Document], at: int) -> Iterator[bytes]:
    """A long text in blocks."""
    assert isinstance(documents, Documents)
    return documents.blocks(at)


def _pieces(
    documents: Sequence[Document],
    lengths: NDArray[np.int64],
    tokenizer: Tokenizer,
    mark: _Mark,
    names: IO[str],
    pairs: bool,
) -> Iterator[Piece]:
    """Short texts whole, long ones in pieces; on the way their ids are written and they are fingerprinted."""
    for at, (name, whole) in enumerate(_texts(documents)):
        names.write(json.encoder.encode_basestring_ascii(name.decode("utf-8")) + "\n")
        mark.document(name, int(lengths[at]) if whole is None else len(whole))
        if pairs:
            whole = b"".join(_blocks(documents, at)) if whole is None else whole
            mark.add(whole)
            source, _, target = whole.partition(TAB.encode())
            yield Piece(source, first=tokenizer.bos is not None, last=False, source=True)
            yield Piece(target, first=bool(tokenizer.opens))
            continue
        if whole is not None and len(whole) <= BATCH:
            mark.add(whole)
            yield Piece(whole)
            continue
        blocks = _blocks(documents, at) if whole is None else iter([whole])
        first = True
        held: str | None = None  # a piece is handed on when it is known whether another follows
        for piece in tokenizer.divided(decoded(blocks)):
            if held is not None:
                raw = held.encode("utf-8")
                mark.add(raw)
                yield Piece(raw, first, False)
                first = False
            held = piece
        raw = (held or "").encode("utf-8")
        mark.add(raw)
        yield Piece(raw, first)


def _batches(pieces: Iterable[Piece]) -> Iterator[Batch]:
    batch: Batch = []
    size = 0
    for piece in pieces:
        batch.append(piece)
        size += len(piece.raw)
        if size >= BATCH:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


@dataclass(frozen=True, eq=False)
class Rows:
    """What a step reads: B rows of T tokens.

    tokens [B, T] int32 (pad where nothing is); documents [B, T] int32: 0, 1, 2 ... within the row, -1 where nothing is;
    numbers [B] int64: which row of the corpus; visits [B] int64: how often it was read before (the epoch);
    word_starts [B, T] bool; origins [B, T] int64: the document's index in its token file, -1 where nothing is;
    wanted [B, T] bool: the positions that an evaluation asks for (in training all that hold a token).
    Draws are keyed by numbers and visits. ``tokenizer`` made the tokens; None where rows are made up.
    turns [B] int64: when a run reads each row, counted from its start (mixtures deal by it); None outside of a run.
    halves: of rows of pairs, how many columns their sources and their targets take at most; None: as they come.
    """

    tokens: NDArray[np.int32]
    documents: NDArray[np.int32]
    numbers: NDArray[np.int64]
    visits: NDArray[np.int64]
    word_starts: NDArray[np.bool_]
    origins: NDArray[np.int64]
    wanted: NDArray[np.bool_]
    tokenizer: Tokenizer | None = None
    turns: NDArray[np.int64] | None = None
    halves: tuple[int, int] | None = None

    @property
    def count(self) -> int:
        """B, the rows."""
        return int(self.tokens.shape[0])

    @property
    def length(self) -> int:
        """T, the tokens of a row."""
        return int(self.tokens.shape[1])

    def take(self, index: slice | NDArray[Any] | Sequence[int]) -> Rows:
        """Some of the rows."""
        arrays = {field.name: getattr(self, field.name) for field in fields(self)}
        parts: dict[str, Any] = {name: part[index] for name, part in arrays.items() if isinstance(part, np.ndarray)}
        return replace(self, **parts)

    @cached_property
    def sentence_ends(self) -> NDArray[np.bool_]:
        """Which tokens [B, T] end a sentence of their document, worked out when a family first asks."""
        if self.tokenizer is None:
            return np.zeros(self.tokens.shape, np.bool_)
        return self._of_documents(self.tokenizer.sentence_ends)

    @cached_property
    def segmented_starts(self) -> NDArray[np.bool_]:
        """As ``word_starts`` [B, T], but Chinese words as a segmenter cuts them, worked out when a family first asks.

        Raises
        ------
        SightlineError : there is no segmenter.
        """
        if self.tokenizer is None:
            return self.word_starts
        return self.word_starts & self._of_documents(self.tokenizer.segmented)

    def _of_documents(self, marked: Callable[[NDArray[np.int32]], NDArray[np.bool_]]) -> NDArray[np.bool_]:
        """What is marked in each document's tokens by themselves; nothing where there is no document."""
        found = np.zeros(self.tokens.shape, np.bool_)
        for row, documents in enumerate(self.documents):
            cuts = [0, *(np.flatnonzero(np.diff(documents)) + 1).tolist(), self.length]
            for start, stop in itertools.pairwise(cuts):
                if documents[start] >= 0:
                    found[row, start:stop] = marked(self.tokens[row, start:stop])
        return found

    @classmethod
    def of(
        cls,
        sequences: Sequence[NDArray[Any] | Sequence[int]],
        tokenizer: Tokenizer,
        length: int | None = None,
        wanted: Sequence[NDArray[Any] | Sequence[bool]] | None = None,
        numbers: NDArray[Any] | Sequence[int] | None = None,
    ) -> Rows:
        """One document a row, filled up at the right to ``length`` (default: the longest).

        The sequences are taken as they are: whoever wants bos and eos puts them. ``wanted`` has a truth per token
        (default all True); ``numbers`` keys the draws (default 0, 1, 2 ...).
        """
        if not sequences:
            raise SightlineError("there are no sequences to make rows of", "Give at least one")
        longest = max(len(sequence) for sequence in sequences)
        width = longest if length is None else length
        if longest > width:
            raise SightlineError(
                f"a text of {longest:,} tokens does not fit a row of {width:,}", "Cut it, or take longer rows"
            )
        tokens = np.full((len(sequences), width), tokenizer.filler, np.int32)
        documents = np.full(tokens.shape, -1, np.int32)
        asked = np.zeros(tokens.shape, bool)
        for row, sequence in enumerate(sequences):
            tokens[row, : len(sequence)] = sequence
            documents[row, : len(sequence)] = 0
            asked[row, : len(sequence)] = True if wanted is None else wanted[row]
        order = np.arange(len(sequences), dtype=np.int64)
        return cls(
            tokens,
            documents,
            order if numbers is None else np.asarray(numbers, np.int64),
            np.zeros(len(sequences), np.int64),
            tokenizer.word_starts(tokens, documents),
            np.where(documents < 0, -1, order[:, None]),
            asked,
            tokenizer,
        )


class RowReader(Protocol):
    """Where a run reads its rows by number: ``count`` of them, ``length`` tokens each."""

    count: int
    length: int

    def rows(self, numbers: NDArray[Any], visits: NDArray[Any]) -> Rows:
        """The rows of these numbers; ``visits`` is carried along for the draws."""


class Packed:
    """The token stream of a file in rows of ``length`` tokens; ``count`` rows, the last one filled up.

    Raises
    ------
    SightlineError : the file has fewer tokens than one row.
    """

    def __init__(self, file: TokenFile, length: int, tokenizer: Tokenizer) -> None:
        if length < 2:
            raise SightlineError(f"rows of {length} tokens cannot ask for anything", "Take a length of 2 or more")
        if file.token_count < length:
            raise SightlineError(
                f"the corpus has {file.token_count:,} tokens, fewer than one row of {length:,}",
                "Give more text, a smaller --size or a shorter context",
            )
        self.file, self.length, self.tokenizer = file, length, tokenizer
        self.count = -(-file.token_count // length)

    def rows(self, numbers: NDArray[Any], visits: NDArray[Any]) -> Rows:
        """The rows of these numbers; ``visits`` is carried along for the draws."""
        numbers, visits = np.asarray(numbers, np.int64), np.asarray(visits, np.int64)
        if len(numbers) and (numbers.min() < 0 or numbers.max() >= self.count):
            raise IndexError(f"row {numbers.min()} to {numbers.max()} of {self.count}")
        total, offsets = self.file.token_count, self.file.offsets
        starts = numbers * self.length
        at = starts[:, None] + np.arange(self.length)
        filled = at < total
        tokens = self.file.tokens[np.minimum(at, total - 1)].astype(np.int32)
        tokens[~filled] = self.tokenizer.filler
        # The documents that begin inside each row, after its first token: mark their places and count them up.
        first = np.searchsorted(offsets, starts, "right") - 1
        last = np.searchsorted(offsets, np.minimum(starts + self.length, total) - 1, "right") - 1
        begun = last - first
        row = np.repeat(np.arange(len(numbers)), begun)
        within = np.arange(len(row)) - np.repeat(np.cumsum(begun) - begun, begun) + 1
        marks = np.zeros(at.shape, np.int32)
        marks[row, offsets[first[row] + within] - starts[row]] = 1
        documents = np.cumsum(marks, axis=1, dtype=np.int32)
        origins = documents + first[:, None]
        if not filled.all():
            documents[~filled] = -1
            origins[~filled] = -1
        word_starts = self.tokenizer.word_starts(tokens, documents)
        return Rows(tokens, documents, numbers, visits, word_starts, origins, filled, self.tokenizer)
