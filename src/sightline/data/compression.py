"""Files as streams of bytes, unpacked on the way (``.gz``, ``.zst``); one that is cut short or damaged is noticed."""

from __future__ import annotations

import contextlib
import gzip
import io
import os
import stat
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

PACKED = (".gz", ".zst")
BLOCK = 1 << 18  # bytes read at a time
SMALL = 1 << 13  # bytes that gzip's reader unpacks at a time: of damaged ones nothing is had
DAMAGED = (EOFError, zlib.error, OSError)  # what reading such a file may raise


class _Unpacked(io.RawIOBase):
    """A packed file as a stream of bytes."""

    def __init__(self, handle: IO[bytes], blocks: Iterator[bytes]) -> None:
        self._handle, self._blocks = handle, blocks
        self._ready = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if not self._ready:
            self._ready = memoryview(next(self._blocks, b""))
        count = min(len(buffer), len(self._ready))
        buffer[:count] = self._ready[:count]
        self._ready = self._ready[count:]
        return count

    def close(self) -> None:
        self._handle.close()
        super().close()


def _zst_blocks(handle: IO[bytes]) -> Iterator[bytes]:
    """A .zst file unpacked; unlike zstandard's own reader it notices a file that is cut short."""
    import zstandard  # here, so that who reads no such file need not have it

    frame, begun = zstandard.ZstdDecompressor().decompressobj(), False
    while packed := (frame.unused_data if frame.eof else b"") or handle.read(BLOCK):
        if frame.eof:
            frame = zstandard.ZstdDecompressor().decompressobj()
        begun = True
        try:
            block = frame.decompress(packed)
        except zstandard.ZstdError as error:
            raise EOFError(str(error)) from error
        if block:
            yield block
    if begun and not frame.eof:
        raise EOFError("it ends in the middle of a frame")


def _gz_blocks(handle: IO[bytes]) -> Iterator[bytes]:
    """A .gz file unpacked; from where a block is odd by gzip's own reader, which is slower and words the error."""
    done, member = 0, zlib.decompressobj(31)
    with contextlib.suppress(zlib.error):
        packed = handle.read(BLOCK)
        while packed:
            if member.eof:
                member = zlib.decompressobj(31)
            if block := member.decompress(packed, BLOCK):
                done += len(block)
                yield block
            packed = member.unconsumed_tail or member.unused_data or handle.read(BLOCK)
        if member.eof:
            return
    handle.seek(0)
    with gzip.GzipFile(fileobj=handle) as odd:
        odd.seek(done)
        while block := odd.read1(SMALL):
            yield block


class _Told(io.FileIO):
    """A file that tells how many bytes were read."""

    def __init__(self, path: Path | str, told: Callable[[int], None]) -> None:
        super().__init__(path, "rb")
        self._told = told

    def readinto(self, buffer: Any) -> int:
        count = super().readinto(buffer)
        self._told(count)
        return count


def opened(path: Path | str, told: Callable[[int], None] | None = None) -> IO[bytes]:
    """The bytes of a file, unpacked; ``told`` hears how many bytes of a file were read that is not read at once."""
    suffix = os.path.splitext(path)[1].lower()
    raw = io.FileIO(path) if told is None else _Told(path, told)
    about = os.fstat(raw.fileno())
    small = stat.S_ISREG(about.st_mode) and about.st_size <= BLOCK
    if small and suffix not in PACKED:
        with raw:
            return io.BytesIO(raw.readall())
    handle = io.BufferedReader(raw, BLOCK)
    if suffix not in PACKED:
        return handle
    blocks = _gz_blocks(handle) if suffix == ".gz" else _zst_blocks(handle)
    return io.BufferedReader(_Unpacked(handle, blocks), BLOCK)
