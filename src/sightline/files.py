"""Files that are whole or absent: written aside, flushed to disk, then renamed; and fingerprints of content."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

from .errors import SightlineError


def flushed(path: Path) -> None:
    """Force a file or a folder entry to the disk (a rename is only durable once its folder is)."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextlib.contextmanager
def whole_file(path: Path, mode: str = "wb") -> Iterator[IO[Any]]:
    """Open ``path`` for writing so that readers see the old content or the new, never a part.

    On any failure, a full disk included, what was there stays.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    encoding = None if "b" in mode else "utf-8"
    descriptor, aside = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".aside", dir=path.parent)
    os.chmod(aside, 0o666 & ~_umask())  # mkstemp makes files private; results are ordinary files
    try:
        with os.fdopen(descriptor, mode, encoding=encoding) as handle:
            yield handle
            handle.flush()
            os.fsync(handle.fileno())
        os.replace(aside, path)
        flushed(path.parent)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(aside)
        raise


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


@contextlib.contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """Fill a folder aside and rename it into place; an existing folder is replaced only once the new one is whole."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".aside", dir=path.parent))
    os.chmod(aside, 0o777 & ~_umask())
    try:
        yield aside
        for inner in sorted(aside.rglob("*")):
            flushed(inner)
        flushed(aside)
        old = None
        if path.exists():
            old = path.parent / f".{path.name}.{os.getpid()}.old"
            os.replace(path, old)
        os.replace(aside, path)
        flushed(path.parent)
        if old is not None:
            shutil.rmtree(old, ignore_errors=True)
    except BaseException:
        shutil.rmtree(aside, ignore_errors=True)
        raise


def cache_folder() -> Path:
    """``$XDG_CACHE_HOME/sightline`` or ``~/.cache/sightline``: what can be made again, and may be deleted any time."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "sightline"


def write_json(path: Path, value: Any) -> None:
    """Write ``value`` as indented JSON, whole or not at all."""
    with whole_file(path, "w") as handle:
        json.dump(value, handle, ensure_ascii=False, indent=2, allow_nan=False)
        handle.write("\n")


def read_json(path: Path) -> Any:
    """Read JSON, naming the file in the error when it is missing or cut short."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise SightlineError(f"{path} does not exist", "Check the path") from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise SightlineError(
            f"{path} is not whole JSON ({error})", "It may have been cut short: make it again"
        ) from error


def fingerprint(*parts: bytes | str | int | float | None) -> str:
    """Sixteen hexadecimal digits that change when any part changes."""
    digest = hashlib.blake2b(digest_size=8)
    for part in parts:
        content = part if isinstance(part, bytes) else str(part).encode()
        digest.update(len(content).to_bytes(8, "little"))
        digest.update(content)
    return digest.hexdigest()


def file_fingerprint(path: Path, progress: Callable[[int], None] | None = None) -> str:
    """The fingerprint of a file's bytes, read in blocks of 1 MiB."""
    digest = hashlib.blake2b(digest_size=8)
    with open(path, "rb") as handle:
        while block := handle.read(1 << 20):
            digest.update(block)
            if progress is not None:
                progress(len(block))
    return digest.hexdigest()


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold a folder for one run; a second one is refused at once. The kernel frees the lock even after ``kill -9``."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / ".lock", "a+", encoding="utf-8") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            handle.seek(0)
            holder = handle.read().strip() or "unknown"
            raise SightlineError(
                f"{folder} is in use by another run (process {holder})", "Wait for it, stop it, or choose another --out"
            ) from error
        handle.truncate(0)
        handle.write(str(os.getpid()))
        handle.flush()
        yield
