"""What every result of a benchmark is stored with: machine, versions, command, date; and a watch on other load."""

from __future__ import annotations

import datetime
import json
import platform
import resource
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil

RESULTS = Path(__file__).parent / "results"


def data_folder() -> Path:
    """The folder of real data sets: $SIGHTLINE_DATA, or ../shared/data beside the checkout."""
    import os

    folder = Path(os.environ.get("SIGHTLINE_DATA", Path(__file__).parents[2] / "shared" / "data"))
    if not folder.is_dir():
        sys.exit(f"no data sets in {folder.name}: set SIGHTLINE_DATA to the folder that holds them")
    return folder


def described(packages: Sequence[str]) -> dict[str, Any]:
    """Machine, versions of ``packages``, command and date."""
    from importlib.metadata import version

    name = platform.processor() or platform.machine()
    if Path("/proc/cpuinfo").exists():
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        name = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), name)
    return {
        "machine": f"{name}, {psutil.cpu_count()} cores, {psutil.virtual_memory().total >> 30} GiB",
        "system": platform.system(),
        "python": platform.python_version(),
        "versions": {package: version(package) for package in packages},
        "command": " ".join(["python", "benchmarks/" + Path(sys.argv[0]).name, *sys.argv[1:]]),
        "date": datetime.date.today().isoformat(),
    }


def peak_memory() -> float:
    """MiB that this process held at most since it began.

    Linux's own count: what ``getrusage`` calls the peak is handed on from a large parent to its children.
    """
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) / 1024
    scale = 1 << 20 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / scale


class Quiet:
    """Watches the cores over a block: the share of them that other programs used."""

    def __enter__(self) -> Quiet:
        self._start, self._wall, self._own = psutil.cpu_times(), time.perf_counter(), time.process_time()
        return self

    def __exit__(self, *_: object) -> None:
        now = psutil.cpu_times()
        busy = sum(
            getattr(now, kind) - getattr(self._start, kind) for kind in ("user", "system", "nice") if hasattr(now, kind)
        )
        self.seconds = time.perf_counter() - self._wall
        others = busy - (time.process_time() - self._own)
        self.others = max(0.0, others / (self.seconds * (psutil.cpu_count() or 1)))


def write(name: str, record: dict[str, Any], table: str) -> None:
    """Store a result as JSON and as Markdown."""
    RESULTS.mkdir(parents=True, exist_ok=True)
    (RESULTS / f"{name}.json").write_text(json.dumps(record, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    about = record["about"]
    versions = ", ".join(f"{package} {number}" for package, number in about["versions"].items())
    foot = f"\n{about['machine']}; Python {about['python']}, {versions}; `{about['command']}`; {about['date']}.\n"
    (RESULTS / f"{name}.md").write_text(table + foot, encoding="utf-8")
    print(table + foot)
