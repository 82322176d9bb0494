"""The C library's allocator, told to keep what a program frees: for whole programs only, never on import; what is left.

By default glibc maps every large block anew and unmaps it when freed, so that each activation of each step pays for its
page faults: some 50,000 a step at 10 M parameters, a tenth to a third of a small model's time. The price of keeping the
memory is that the process does not shrink before it ends.
"""

from __future__ import annotations

import ctypes
import os
import platform
import resource
import sys
from pathlib import Path

SWITCH = "SIGHTLINE_MALLOC"  # 0 leaves the allocator as it is
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX = -1, -2, -4  # glibc's malloc.h
_NEVER = 2**31 - 1
_AHEAD = 64 << 20  # bytes asked of the system at a time


def keep_freed_memory() -> bool:
    """Have glibc reuse freed blocks instead of returning them; before the first large allocation.

    Returns whether it was done: not on other C libraries, and not with ``SIGHTLINE_MALLOC=0``.
    """
    if os.environ.get(SWITCH, "1") == "0" or platform.libc_ver()[0] != "glibc":
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    settings = ((_MMAP_MAX, 0), (_TRIM_THRESHOLD, _NEVER), (_TOP_PAD, _AHEAD))
    return all([bool(mallopt(name, value)) for name, value in settings])


def held() -> int:
    """Bytes that this process held at most so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def available() -> int | None:
    """Bytes that the system can still give; None where it does not say (it is asked as Linux is)."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable")), None)
