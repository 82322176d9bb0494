"""The benchmark for a GPU runs with torch, NumPy, safetensors and tokenizers alone; here in a processor's size."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
BLOCKED = ["datasets", "huggingface_hub", "matplotlib", "pandas", "psutil", "pyarrow", "rich", "sacrebleu", "scipy"]
BLOCKED += ["sklearn", "statsmodels", "tensorboardX", "tiktoken", "tomli_w", "transformers", "tyro", "zstandard"]
# An interpreter that finds none of them, as where they are not installed.
WITHOUT = f"""
import runpy, sys
from importlib.machinery import PathFinder
class Found(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name.partition(".")[0] in {BLOCKED} else super().find_spec(name, path, target)
sys.meta_path = [Found if finder is PathFinder else finder for finder in sys.meta_path]
sys.argv = sys.argv[1:]
sys.path.insert(0, sys.argv[0].rpartition("/")[0])
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def run(part: str, folder: Path, *more: str) -> tuple[subprocess.CompletedProcess[str], dict[str, object], str]:
    python = folder / "python"
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{folder / "without.py"}" "$@"\n')
    python.chmod(0o755)
    (folder / "without.py").write_text(WITHOUT)
    done = subprocess.run(
        [ROOT / "benchmarks" / "gpu.sh", "--part", part, "--device", "cpu", "--size", "tiny", *more],
        env=os.environ | {"PYTHON": str(python), "OUT": str(folder / "out")},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    record = json.loads((folder / "out" / f"gpu-{part}.json").read_text())
    return done, record, (folder / "out" / f"gpu-{part}.md").read_text()


@pytest.mark.parametrize(("part", "rows"), [("train", 10), ("decode", 8), ("peers", 8)])
def test_each_part_runs_on_a_processor_with_four_libraries(part: str, rows: int, tmp_path: Path) -> None:
    done, record, page = run(part, tmp_path)
    assert len(record["rows"]) == rows == len(done.stdout.splitlines())  # type: ignore[arg-type]
    for row in record["rows"]:  # type: ignore[attr-defined]
        if row.get("side") == "transformers":
            assert row["note"] == "transformers is not installed"
        else:
            assert row["tokens/s"] > 0 and "note" not in row
            assert row.get("MFU") is None  # of a card that is not known nothing is claimed
    assert "only that the part runs" in page
    assert page.count("\n| ") == rows + 1


def test_a_run_out_of_time_says_what_was_not_taken(tmp_path: Path) -> None:
    _, record, page = run("train", tmp_path, "--minutes", "0")
    assert {row["note"] for row in record["rows"]} == {"not taken: out of time"}  # type: ignore[attr-defined]
    assert "not taken" in page
