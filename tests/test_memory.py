"""The allocator keeps what is freed, in programs that ask for it and in no others."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).resolve().parent.parent / "src"
WORK = """
import resource, sys
import numpy as np
import sightline.memory
done = sightline.memory.keep_freed_memory() if sys.argv[1] == "keep" else "not asked"
np.ones(1 << 20)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(50):
    np.ones(1 << 20)
print(done, resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(word: str, **environment: str) -> tuple[str, int]:
    """What `keep_freed_memory` said, and the page faults of writing 8 MiB anew fifty times."""
    done = subprocess.run(
        [sys.executable, "-c", WORK, word],
        # In pages of 2 MiB, which NumPy would ask for, the faults are few, and hang on where an array begins.
        env=os.environ | {"PYTHONPATH": str(SOURCE), "NUMPY_MADVISE_HUGEPAGE": "0"} | environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    said, count = done.stdout.rsplit(maxsplit=1)
    return said, int(count)


def test_freed_memory_is_kept_when_asked_for_and_only_then() -> None:
    said, kept = faults("keep")
    if platform.libc_ver()[0] != "glibc":  # the allocator of glibc alone has these settings
        assert said == "False"
        return
    assert said == "True"
    assert faults("leave")[1] > 10 * max(kept, 50)
    said, switched_off = faults("keep", SIGHTLINE_MALLOC="0")
    assert said == "False" and switched_off > 10 * max(kept, 50)


def test_other_systems_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    from sightline.memory import keep_freed_memory

    monkeypatch.setattr(platform, "libc_ver", lambda: ("", ""))
    assert not keep_freed_memory()
