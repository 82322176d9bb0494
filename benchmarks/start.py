"""Start-up, whole processes: what a person waits for before anything happens.

    python benchmarks/start.py          `--help`, imports beside the peers', and the first step of `compare`

The first training step of `compare` is counted from the command to the first line of its metrics: reading the text,
training a tokenizer, cutting and packing, the evaluation sample, weights, one step.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from machine import described, write

PYTHON = sys.executable
SIGHTLINE = [PYTHON, "-m", "sightline"]
PROCESSES = {
    "python -c pass": [PYTHON, "-c", "pass"],
    "sightline --help": [*SIGHTLINE, "--help"],
    "import sightline": [PYTHON, "-c", "import sightline"],
    "import torch": [PYTHON, "-c", "import torch"],
    "transformers' GPT-2 class": [PYTHON, "-c", "from transformers import GPT2LMHeadModel"],
    "sightline compare --help": [*SIGHTLINE, "compare", "--help"],
}
AIMS = {"sightline --help": 0.3, "first step of compare": 12.0}


def whole(command: list[str]) -> float:
    start = time.perf_counter()
    subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)
    return time.perf_counter() - start


def first_step() -> float:
    """Seconds from the command to the first step's record."""
    folder = Path(tempfile.mkdtemp())
    command = [*SIGHTLINE, "compare", "python-docs", "--families", "causal", "--budget", "100steps"]
    start = time.perf_counter()
    running = subprocess.Popen(
        [*command, "--out", str(folder / "run")], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    metrics = folder / "run" / "causal" / "seed-0" / "metrics.jsonl"
    while running.poll() is None and not (metrics.exists() and metrics.stat().st_size):
        time.sleep(0.02)
    seconds = time.perf_counter() - start
    assert running.poll() is None, "compare ended before its first step"
    running.kill()
    running.wait()
    shutil.rmtree(folder)
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=5)
    given = parser.parse_args()
    found: dict[str, list[float]] = {name: [] for name in PROCESSES}
    for command in PROCESSES.values():
        whole(command)  # the files are in memory from here on
    for _ in range(given.times):
        for name, command in PROCESSES.items():
            found[name].append(whole(command))
    found["first step of compare"] = [first_step() for _ in range(3)]
    rows: list[dict[str, Any]] = []
    lines = [
        "# Start-up",
        "",
        "Seconds of whole processes in turns, warm page cache; the first step of compare on python-docs, tiny.",
        "",
        "| what | median | fastest, slowest | asked for |",
        "|---|---|---|---|",
    ]
    for name, times in found.items():
        aim = AIMS.get(name)
        rows.append({"what": name, "seconds": times, "aim": aim})
        lines.append(
            f"| {name} | {statistics.median(times):.2f} | {min(times):.2f}, {max(times):.2f} "
            f"| {'' if aim is None else f'{aim:g}'} |"
        )
    write("start", {"about": described(["torch", "transformers"]), "rows": rows}, "\n".join([*lines, ""]))


if __name__ == "__main__":
    main()
