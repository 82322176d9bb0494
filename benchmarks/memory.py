"""Memory: the head and its loss, beside plain forms; and page faults of a training step.

    python benchmarks/memory.py

The head: forward and backward at 4,096 answers, width 512, 16,384 ids. *Added* is what the peak of a process of its own
rises by over its inputs, weights and their slopes. Page faults are counted over whole steps of a tiny model, with the
allocator as the command line sets it and as the C library has it.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from machine import described, peak_memory, write
from torch import Tensor
from torch.nn import functional as F

from sightline.memory import keep_freed_memory
from sightline.stacks.head import Head

N, WIDTH, VOCABULARY = 4096, 512, 16384


def ours(states: Tensor, head: Head, answers: Tensor) -> Tensor:
    return head(states, answers, torch.ones(N)).total


def plain(states: Tensor, head: Head, answers: Tensor) -> Tensor:
    return F.cross_entropy((states @ head.weight.T).float(), answers, reduction="sum")


def fused(states: Tensor, head: Head, answers: Tensor) -> Tensor:
    return F.linear_cross_entropy(states, head.weight, answers, reduction="sum")


def compiled(states: Tensor, head: Head, answers: Tensor) -> Tensor:
    return _COMPILED(states, head, answers)


_COMPILED: Callable[[Tensor, Head, Tensor], Tensor] = torch.compile(fused)
FORMS = {"Sightline": ours, "plain": plain, "linear_cross_entropy": fused, "linear_cross_entropy, compiled": compiled}


def head_alone(form: str, dtype: str) -> None:
    """Prints the median seconds and the MiB that the peak rose by."""
    torch.manual_seed(0)
    kind = getattr(torch, dtype)
    head = Head(WIDTH, VOCABULARY, np.array([0])).to(kind)
    states = torch.randn(N, WIDTH, dtype=kind, requires_grad=True)
    answers = torch.randint(1, VOCABULARY, (N,))
    head.weight.grad, states.grad = torch.zeros_like(head.weight), torch.zeros_like(states)
    before = peak_memory()
    times = []
    for _ in range(6):
        start = time.perf_counter()
        FORMS[form](states, head, answers).backward()
        times.append(time.perf_counter() - start)
    print(sorted(times)[2], peak_memory() - before)


def faults_alone(kept: bool, dtype: str) -> None:
    """Prints the page faults of a step, after ten that warm up."""
    if kept:
        keep_freed_memory()
    from training import WORKS, sightline

    with tempfile.TemporaryDirectory() as folder:
        step = sightline(WORKS["10M-causal"], "muon", Path(folder), dtype)
        for _ in range(6):
            step()
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        for _ in range(6):
            step()
    print((resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) / 6)


def child(*words: str) -> list[float]:
    done = subprocess.run([sys.executable, __file__, *words], capture_output=True, text=True, check=True)
    return [float(word) for word in done.stdout.split()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--head", default="", choices=("", *FORMS), help="print one form's figures and stop")
    parser.add_argument("--faults", default="", choices=("", "kept", "given back"))
    parser.add_argument("--dtype", default="bfloat16", choices=("float32", "bfloat16"))
    parser.add_argument("--threads", type=int, default=2)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    if given.head:
        head_alone(given.head, given.dtype)
        return
    if given.faults:
        faults_alone(given.faults == "kept", given.dtype)
        return
    rows: list[dict[str, Any]] = []
    lines = [
        "# Memory",
        "",
        f"The head and its loss, forward and backward: {N:,} answers, width {WIDTH}, {VOCABULARY:,} ids.",
        "",
        "| form | type | ms | MiB added |",
        "|---|---|---|---|",
    ]
    for dtype in ("float32", "bfloat16"):
        for form in FORMS:
            seconds, added = child("--head", form, "--dtype", dtype, "--threads", str(given.threads))
            rows.append({"form": form, "dtype": dtype, "seconds": seconds, "added": added})
            lines.append(f"| {form} | {dtype} | {1e3 * seconds:.0f} | {added:.0f} |")
    lines += ["", "Page faults of a training step at 10 M parameters, eager.", "", "| allocator | type | page faults |"]
    lines.append("|---|---|---|")
    for dtype in ("float32", "bfloat16"):
        for kept in ("given back", "kept"):
            (faults,) = child("--faults", kept, "--dtype", dtype, "--threads", str(given.threads))
            rows.append({"allocator": kept, "dtype": dtype, "faults": faults})
            lines.append(f"| memory {kept} | {dtype} | {faults:,.0f} |")
    write("memory", {"about": described(["torch"]), "rows": rows}, "\n".join([*lines, ""]))


if __name__ == "__main__":
    main()
