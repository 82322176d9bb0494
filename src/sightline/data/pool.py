"""Encoding on all cores: workers that each answer batch after batch, in order.

    batches of pieces -> worker 1 -> token streams
                      -> worker 2 ->               handed back in the order of the batches

A piece is a document or a stretch of a long one. On a few cores a worker is a thread: encoding a batch hardly
needs the interpreter's lock, and a thread starts at once. On more it is a process with the tokenizer: a fresh
interpreter that is spoken to by pipes, not a copy of this one, since copies of a process with threads may hang, and a
script without a main guard would start itself again. What a worker answers is what this process would have
computed; if one fails, its batch is encoded here.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import subprocess
import sys
from collections import deque
from collections.abc import Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import IO, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..progress import say
from .layout import Role
from .tokenizer import Tokenizer

THREADED = 4  # workers, up to which they are threads
WORTH = 24 << 20  # bytes of text per worker from which on the start of a process (half a second) is worth it
LITTLE = 2 << 20  # bytes of text from which on threads are worth it
MOST = 16  # workers: beyond, one process cannot feed them
AHEAD = 2  # batches under way per worker
START = "import sys; sys.path[:0] = sys.argv[1:]; from sightline.data.pool import serve; serve()"


class Piece(NamedTuple):
    """A text in UTF-8, or a stretch of one; bos stands before the first piece of a document, eos behind the last.

    Of a pair the source is the ``first`` piece and the target the ``last``; sep stands behind a ``source``. A target
    that opens as a text of its own is a ``first`` piece too.
    """

    raw: bytes
    first: bool = True
    last: bool = True
    source: bool = False


Batch = list[Piece]


@dataclass(frozen=True)
class Stream:
    """The tokens of a batch in a row, marks included, and how many [pieces] each piece gave."""

    tokens: NDArray[Any]
    counts: NDArray[np.int64]


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def workers_for(size: int) -> int:
    """How many workers a text of ``size`` bytes is worth; 0: no other than the thread that asks."""
    count = min(cores(), MOST)
    while count > THREADED and size < WORTH * count:
        count -= 1
    return count if size >= LITTLE and count > 1 else 0


def encoded(
    batches: Iterable[Batch], tokenizer: Tokenizer, dtype: np.dtype[Any], workers: int
) -> Generator[Stream, None, None]:
    """The tokens of each batch, in order; the same for any number of ``workers`` (0: none but this thread)."""
    if not workers:
        for batch in batches:
            yield streamed(batch, tokenizer, dtype)
        return
    pool = _Pool(tokenizer, dtype, workers)
    under_way: deque[Future[Stream]] = deque()
    try:
        for batch in batches:
            under_way.append(pool.submit(batch))
            if len(under_way) >= AHEAD * workers:
                yield under_way.popleft().result()
        while under_way:
            yield under_way.popleft().result()
    finally:  # also when whoever listens stops half-way, and on Ctrl-C
        pool.close()


def streamed(batch: Batch, tokenizer: Tokenizer, dtype: np.dtype[Any]) -> Stream:
    """The tokens of a batch, worked out here."""
    ids, counts = tokenizer.encode_joined([piece.raw.decode("utf-8") for piece in batch])
    first, last, source = (np.array([getattr(piece, mark) for piece in batch]) for mark in ("first", "last", "source"))
    counts = counts + first + last + source
    ends = np.cumsum(counts)
    marks: dict[Role, NDArray[np.int64]] = {
        "bos": (ends - counts)[first],
        "eos": ends[last] - 1,
        "sep": ends[source] - 1,
    }
    tokens = np.empty(ends[-1], dtype)
    text = np.ones(len(tokens), bool)
    for mark, places in marks.items():
        if len(places):
            tokens[places], text[places] = tokenizer.need(mark), False
    tokens[text] = ids
    return Stream(tokens, counts)


class _Pool:
    """Threads that encode, or that speak to a process each."""

    def __init__(self, tokenizer: Tokenizer, dtype: np.dtype[Any], count: int) -> None:
        self._tokenizer, self._dtype = tokenizer, dtype
        self._closing = False
        self._workers = [_started() if count > THREADED else None for _ in range(count)]
        self._idle: queue.SimpleQueue[subprocess.Popen[bytes] | None] = queue.SimpleQueue()
        self._threads = ThreadPoolExecutor(count, "encoding")
        self._greeting = json.dumps([dtype.str, *tokenizer.told()]).encode("utf-8")
        for worker in self._workers:
            self._threads.submit(self._greet, worker)

    def submit(self, batch: Batch) -> Future[Stream]:
        return self._threads.submit(self._answer, batch)

    def close(self) -> None:
        self._closing = True
        for worker in self._workers:
            if worker is not None:
                worker.kill()  # they own nothing that could be lost
        self._threads.shutdown(wait=True, cancel_futures=True)
        for worker in self._workers:
            if worker is not None:
                with contextlib.suppress(OSError), worker:
                    pass  # closes the pipes and waits for the end

    def _greet(self, worker: subprocess.Popen[bytes] | None) -> None:
        if worker is not None:
            try:
                _send(_pipe(worker.stdin), self._greeting)
            except OSError:
                worker = None
        self._idle.put(worker)

    def _answer(self, batch: Batch) -> Stream:
        worker = self._idle.get()
        try:
            if worker is not None:
                return _asked(worker, batch, self._dtype)
        except (OSError, EOFError, ValueError):
            worker = None
            if not self._closing:
                say("A process that encodes text has stopped; its work is done here.")
        finally:
            self._idle.put(worker)
        if self._closing:
            raise EOFError("the pool is closed")
        return streamed(batch, self._tokenizer, self._dtype)


def _started() -> subprocess.Popen[bytes] | None:
    """A process; None where none can be started, and the thread encodes itself."""
    try:
        return subprocess.Popen(
            [sys.executable, "-c", START, *(path or os.getcwd() for path in sys.path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            process_group=0,  # Ctrl-C is this process's to handle
            env=os.environ | {"TOKENIZERS_PARALLELISM": "false", "OMP_NUM_THREADS": "1"},
        )
    except OSError:
        return None


def _pipe(pipe: IO[bytes] | None) -> IO[bytes]:
    assert pipe is not None
    return pipe


def _asked(worker: subprocess.Popen[bytes], batch: Batch, dtype: np.dtype[Any]) -> Stream:
    to, back = _pipe(worker.stdin), _pipe(worker.stdout)
    about = np.array([(len(piece.raw), *piece[1:]) for piece in batch], np.int64)
    _send(to, about.tobytes())
    _send(to, b"".join(piece.raw for piece in batch))
    counts = np.frombuffer(_received(back), np.int64)
    return Stream(np.frombuffer(_received(back), dtype), counts)


def _send(pipe: IO[bytes], content: bytes | memoryview) -> None:
    pipe.write(len(content).to_bytes(8, "little"))
    pipe.write(content)
    pipe.flush()


def _received(pipe: IO[bytes]) -> bytes:
    """What the other end sent.

    Raises
    ------
    EOFError : it is gone.
    """
    head = pipe.read(8)
    size = int.from_bytes(head, "little")
    content = pipe.read(size) if len(head) == 8 else b""
    if len(head) < 8 or len(content) < size:
        raise EOFError("the other process is gone")
    return content


def serve() -> None:
    """A worker's life: the tokenizer, then batch after batch until the pipe is closed."""
    source, sink = sys.stdin.buffer, sys.stdout.buffer
    try:
        kind, *told = json.loads(_received(source))
        tokenizer, dtype = Tokenizer.of_told(*told), np.dtype(kind)
        while True:
            about = np.frombuffer(_received(source), np.int64).reshape(-1, 4).tolist()
            whole = memoryview(_received(source))
            batch, at = [], 0
            for size, *marks in about:
                batch.append(Piece(bytes(whole[at : at + size]), *map(bool, marks)))
                at += size
            stream = streamed(batch, tokenizer, dtype)
            _send(sink, stream.counts.tobytes())
            _send(sink, stream.tokens.tobytes())
    except (EOFError, BrokenPipeError):
        os._exit(0)  # the other process is done, or gone: nothing to flush
