"""The native step's machine code: compiled at first use for this processor, and kept in the user's cache folder.

Where there is no compiler, or a processor without AVX2, there is none, and one line says what is lost. Set
``SIGHTLINE_NATIVE=0`` to do without it.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from ..files import cache_folder, fingerprint
from ..progress import say

SOURCE = Path(__file__).with_name("native.cpp")
FLAGS = ("-O3", "-march=native", "-std=c++17", "-fopenmp", "-shared", "-fPIC")
LOST = "Texts are written by torch alone, several times slower on a processor"
SECONDS = 300  # after which a compiler is given up


class _MissingError(Exception):
    """Why there is no machine code."""


def _processor() -> str:
    """Name and instructions of the processor, as the kernel lists them; empty where it lists none."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return ""
    wanted = ("model name", "flags")
    return "\n".join(next((line for line in lines if line.startswith(name)), "") for name in wanted)


def _compiler() -> str:
    """The compiler's path: ``$CXX`` or ``c++``."""
    found = shutil.which(os.environ.get("CXX") or "c++")
    if found is None:
        raise _MissingError("there is no C++ compiler (c++)")
    return found


def _run(command: list[str]) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise _MissingError(f"{command[0]} did not run ({error})") from error
    if done.returncode:
        first = next((line for line in done.stderr.splitlines() if "error" in line), done.stderr[:200])
        raise _MissingError(f"{command[0]} failed: {first.strip()}")
    return done.stdout


def build(flags: tuple[str, ...] = FLAGS) -> Path:
    """The shared library for these flags, from the cache folder or compiled now: written aside, then renamed."""
    processor = _processor()
    if "avx2" not in processor or "fma" not in processor:
        raise _MissingError("the processor has no AVX2, or does not say so")
    compiler = _compiler()
    mark = fingerprint(SOURCE.read_bytes(), *flags, _run([compiler, "--version"]), processor)
    library = cache_folder() / f"native-{mark}.so"
    if library.exists():
        return library
    try:
        library.parent.mkdir(parents=True, exist_ok=True)
        descriptor, aside = tempfile.mkstemp(prefix=f".{library.name}.", dir=library.parent)
        os.close(descriptor)
    except OSError as error:
        raise _MissingError(f"the cache folder cannot be written ({error})") from error
    try:
        _run([compiler, *flags, "-o", aside, str(SOURCE)])
        os.replace(aside, library)  # whole or absent: of two processes the later one wins, with the same code
    finally:
        with contextlib.suppress(OSError):
            os.unlink(aside)
    return library


def load(flags: tuple[str, ...] = FLAGS) -> ctypes.CDLL:
    """The library's functions, with their types."""
    try:
        # OpenMP's functions are found in the library that torch has loaded: one set of threads serves both.
        library = ctypes.CDLL(str(build(flags)))
    except OSError as error:
        raise _MissingError(f"the compiled library does not load ({error})") from error
    pointer, number = ctypes.c_void_p, ctypes.c_int64
    library.sightline_step.argtypes, library.sightline_step.restype = [pointer, pointer], None
    library.sightline_read.argtypes, library.sightline_read.restype = [pointer, pointer, pointer], None
    library.sightline_run.argtypes, library.sightline_run.restype = [pointer, pointer, pointer], number
    library.sightline_room.argtypes, library.sightline_room.restype = [pointer, pointer], number
    library.sightline_pack.argtypes = [pointer, pointer, number, number, number, number]
    library.sightline_pack.restype = None
    library.sightline_mark.argtypes = [pointer, number, ctypes.c_uint64]
    library.sightline_mark.restype = ctypes.c_uint64
    return library


@functools.cache
def library() -> ctypes.CDLL | None:
    """The functions, or None where they cannot be had; why is said once."""
    if os.environ.get("SIGHTLINE_NATIVE", "1") == "0":
        return None
    try:
        return load()
    except _MissingError as reason:
        say(f"{LOST}: {reason}")
        return None
