"""What every result of a benchmark is stored with: machine, versions, command, date. Needs Python alone."""

from __future__ import annotations

import datetime
import json
import os
import platform
import resource
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
RESULTS = Path(os.environ.get("OUT") or HERE / "results")


def data_folder() -> Path:
    """The folder of real data sets: $SIGHTLINE_DATA, or ../shared/data beside the checkout."""
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
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "machine": f"{name}, {os.cpu_count()} cores, {memory >> 30} GiB",
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


def write(name: str, record: dict[str, Any], table: str, show: bool = True) -> None:
    """Store a result as JSON and as Markdown, in ``results`` or in the folder that $OUT names."""
    RESULTS.mkdir(parents=True, exist_ok=True)
    (RESULTS / f"{name}.json").write_text(json.dumps(record, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    about = record["about"]
    versions = ", ".join(f"{package} {number}" for package, number in about["versions"].items())
    foot = f"\n{about['machine']}; Python {about['python']}, {versions}; `{about['command']}`; {about['date']}.\n"
    (RESULTS / f"{name}.md").write_text(table + foot, encoding="utf-8")
    if show:
        print(table + foot)
