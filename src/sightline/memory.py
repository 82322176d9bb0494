"""The C library's allocator, told to keep what a program frees: for whole programs only, never on import.

By default glibc maps every large block anew and unmaps it when freed, so that each activation of each step pays for its
page faults: some 50,000 a step at 10 M parameters, a tenth to a third of a small model's time. The price of keeping the
memory is that the process does not shrink before it ends.
"""

from __future__ import annotations

import ctypes
import os
import platform

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
