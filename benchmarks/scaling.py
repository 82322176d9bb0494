"""What a training step costs as it grows: time, operations and memory against length, width, vocabulary and batch.

    python benchmarks/scaling.py                      the mini shape, causal and masked: about twelve minutes
    python benchmarks/scaling.py --minutes 3          as much as three minutes hold; the same command goes on
    python benchmarks/scaling.py --size tiny --families causal

One axis moves at a time, tokens of a step stay the same where they can (a row longer than that is a step of one row).
Each point is a process of its own, in which it takes turns with the middle of the axes, so that a drift of the machine
leaves their ratio alone. Operations are the model's own count. A *bend* is where time a token grows by a quarter more
than operations a token from one point to the next; what grew is read off a profile of one step.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from html import escape
from pathlib import Path
from typing import Any

import torch
from machine import RESULTS, described, peak_memory, write
from paired import Timed, interleaved

from sightline.memory import keep_freed_memory
from sightline.report.chart import HEIGHT, WIDTH, Line, curves
from sightline.report.style import CSS
from sightline.stacks.sizes import size
from sightline.training.machine import dtype_for
from training import Work, counted

BEND = 1.25
FAMILIES = ("causal", "masked")
AXES = ("length", "width", "vocabulary", "batch")
PARTS = {
    "attention": r"_Attend(Backward)?|aten::scaled_dot_product_attention|ScaledDotProduct\w+Backward0",
    "products of the layers": r"aten::linear|(Mm|Addmm|Linear|MkldnnLinear)Backward0",
    "head": r"_Grade(Backward)?",
    "optimizer": r"Optimizer\.step#\w+\.step",
}


def middle(name: str, family: str) -> Work:
    """The point that all axes share."""
    chosen = size(name)
    batch = chosen.batch // chosen.context
    return Work("", family, chosen.layers, chosen.width, chosen.heads, chosen.context, 8192, batch)


def along(axis: str, base: Work) -> list[Work]:
    """The points of an axis; heads keep their width."""
    if axis == "length":
        return [
            replace(base, context=length, batch=max(1, base.tokens // length))
            for length in (128, 256, 512, 1024, 2048, 4096)
        ]
    if axis == "width":
        each = base.width // base.heads
        return [replace(base, width=each * heads, heads=heads) for heads in (2, 3, 4, 6, 8, 12)]
    if axis == "vocabulary":
        return [replace(base, vocabulary=2**power) for power in range(10, 16)]
    return [replace(base, batch=2**power) for power in range(6)]


def value(axis: str, work: Work) -> int:
    return int({"length": work.context, "width": work.width, "vocabulary": work.vocabulary, "batch": work.batch}[axis])


@dataclass(frozen=True)
class Measured:
    """A point.

    Parameters
    ----------
    timed : of one step. base : of one step at the middle of the axes, in the same process.
    flops : of one step, and of one at the middle. memory : MiB that training added to the process.
    parts : seconds of a step by what it did, from a profile; empty off a processor. kernel : of attention.
    """

    work: Work
    timed: Timed
    base: Timed
    flops: float
    base_flops: float
    base_tokens: int
    memory: float
    parts: dict[str, float]
    kernel: str

    @classmethod
    def read(cls, row: dict[str, Any]) -> Measured:
        plain = row | {"work": Work(**row["work"]), "timed": Timed(**row["timed"]), "base": Timed(**row["base"])}
        return cls(**plain)

    @property
    def time(self) -> float:
        """Time a token, over that at the middle."""
        return self.timed.median / self.base.median * self.base_tokens / self.work.tokens

    @property
    def operations(self) -> float:
        """Operations a token, over those at the middle."""
        return self.flops / self.base_flops * self.base_tokens / self.work.tokens


def alone(work: Work, base: Work, given: argparse.Namespace) -> Measured:
    """One point, in this process."""

    def made(work: Work, folder: Path) -> tuple[Callable[[], None], float]:
        step, flops = counted(work, given.optimizer, folder, given.dtype, given.device)

        def whole() -> None:
            step()
            if given.device == "cuda":
                torch.cuda.synchronize()

        return whole, flops

    def held() -> float:
        return torch.cuda.max_memory_allocated() / 2**20 if given.device == "cuda" else peak_memory()

    with tempfile.TemporaryDirectory() as folder:
        before = held()
        step, flops = made(work, Path(folder) / "point")
        for _ in range(3):
            step()
        memory = held() - before
        parts, kernel = profiled(step) if given.device == "cpu" else ({}, "")
        if work == base:
            timed = interleaved({"point": step}, given.blocks, given.seconds)
            return Measured(work, timed["point"], timed["point"], flops, flops, base.tokens, memory, parts, kernel)
        other, base_flops = made(base, Path(folder) / "middle")
        timed = interleaved({"point": step, "middle": other}, given.blocks, given.seconds)
        return Measured(work, timed["point"], timed["middle"], flops, base_flops, base.tokens, memory, parts, kernel)


def profiled(step: Callable[[], None]) -> tuple[dict[str, float], str]:
    """Seconds of one step by what it did, and the kernel that attention took."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        start = time.perf_counter()
        step()
        total = time.perf_counter() - start
    events = [(event.key, event.cpu_time_total / 1e6) for event in profile.key_averages()]
    parts = {
        part: sum(seconds for name, seconds in events if re.fullmatch(names, name)) for part, names in PARTS.items()
    }
    parts["the rest"] = total - sum(parts.values())
    return parts, "our blocks" if any(name == "_Attend" for name, _ in events) else "torch's kernel"


def bends(axis: str, points: list[Measured]) -> Iterator[str]:
    """Where time grows faster than operations or attention changes its kernel, and what grew."""
    for one, two in itertools.pairwise(points):
        time, operations = two.time / one.time, two.operations / one.operations
        if time <= BEND * operations and one.kernel == two.kernel:
            continue
        line = (
            f"{axis} {value(axis, one.work):,} to {value(axis, two.work):,}: "
            f"time a token {time:.2f} times, operations {operations:.2f} times"
            f"{', a bend.' if time > BEND * operations else ', which is no bend yet.'}"
        )
        if two.parts:
            each = [{part: s / point.work.tokens for part, s in point.parts.items()} for point in (one, two)]
            part = max(each[1], key=lambda part: each[1][part] - each[0][part] * operations)
            first, second = (1e6 * seconds[part] for seconds in each)
            line += f" What grew most beyond that is {part}: {first:,.1f} to {second:,.1f} µs a token"
            line += f", now by {two.kernel} instead of {one.kernel}." if one.kernel != two.kernel else "."
        yield line


def table(record: dict[str, Any], name: str) -> str:
    points = [Measured.read(row) for row in record["rows"]]
    about = record["settings"]
    lines = [
        f"# Scaling: a training step at {about['size']}, {about['dtype']}, {about['optimizer']}",
        "",
        "Median [fastest, slowest block]; *time* and *FLOPs* are a token's, over those at the middle of the axes, with",
        "which the point took turns; FLOPs are the model's own count. MiB are what training added to a process of its",
        "own. Masked asks for 15%. Shares are of one profiled step. Named below each axis: where time grows by 25%",
        "more than FLOPs from one point to the next, and where attention changes its kernel.",
        "",
        f"![Time and operations a token, doublings against each axis]({name}.svg)",
        "",
    ]
    missing = {work for family in FAMILIES for axis in AXES for work in along(axis, middle(about["size"], family))}
    missing -= {point.work for point in points}
    if missing:
        lines += [f"Not measured yet: {len(missing)} points. The same command goes on.", ""]
    for axis in AXES:
        lines += [
            f"## {axis.capitalize()}",
            "",
            f"| {axis} | family | rows x tokens | ms a step | µs a token | time | GFLOPs | FLOPs | GFLOP/s | MiB "
            "| attention, layers, head, optimizer, rest |",
            "|---|---|---|---|---|---|---|---|---|---|---|",
        ]
        found: list[str] = []
        for family in FAMILIES:
            here = on_axis(axis, family, about["size"], points)
            for point in here:
                work, total, seconds = point.work, sum(point.parts.values()), point.timed.median
                shares = " ".join(f"{part / total:.0%}" for part in point.parts.values()) if total else ""
                lines.append(
                    f"| {value(axis, work):,} | {family} | {work.batch} x {work.context} "
                    f"| {point.timed.milliseconds()} | {1e6 * seconds / work.tokens:,.0f} | {point.time:.2f} "
                    f"| {point.flops / 1e9:,.0f} | {point.operations:.2f} | {point.flops / seconds / 1e9:,.0f} "
                    f"| {point.memory:,.0f} | {shares} |"
                )
            found += [f"- {family}, {line}" for line in bends(axis, here)]
        lines += ["", *(found or [f"No bend: time never grows by {BEND - 1:.0%} more than FLOPs."]), ""]
    return "\n".join(lines)


def on_axis(axis: str, family: str, name: str, points: list[Measured]) -> list[Measured]:
    """What is measured of an axis, in its order."""
    found = {point.work: point for point in points}
    return [found[work] for work in along(axis, middle(name, family)) if work in found]


def drawing(record: dict[str, Any]) -> str:
    """All axes, doublings of the cost of a token against the axis: both logarithmic."""
    points = [Measured.read(row) for row in record["rows"]]
    wide, high, head = WIDTH + 20, HEIGHT + 30, 60
    style = re.sub(r"@media.*?\} \}", "", CSS[: CSS.index("*")], flags=re.DOTALL)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {2 * wide} {2 * high + head}" '
        f'font-family="system-ui, sans-serif" font-size="13"><style>{escape(style)}</style>'
        f'<rect width="100%" height="100%" fill="var(--page)"/>'
        '<text x="10" y="22" fill="var(--ink)" font-size="15">Doublings of a token\'s cost from the middle of the axes '
        f"({escape(record['settings']['size'])}, {escape(record['settings']['dtype'])})</text>"
    ]
    for place, (family, kind) in enumerate((family, kind) for family in FAMILIES for kind in ("time", "operations")):
        dash = ' stroke-dasharray="6 4"' if kind == "operations" else ""
        colour, x = FAMILIES.index(family), 10 + 200 * place
        parts.append(
            f'<path d="M{x} 42h26" stroke="var(--c{colour})" stroke-width="2"{dash}/>'
            f'<text x="{x + 32}" y="46" fill="var(--ink)">{family}, {kind}</text>'
        )
    for place, axis in enumerate(AXES):
        lines = []
        least = value(axis, along(axis, middle(record["settings"]["size"], "causal"))[0])
        for colour, family in enumerate(FAMILIES):
            here = on_axis(axis, family, record["settings"]["size"], points)
            for kind in ("time", "operations"):
                marks = tuple(
                    (math.log2(value(axis, point.work) / least), math.log2(getattr(point, kind))) for point in here
                )
                lines.append(Line(f"{family}, {kind}", colour, kind == "operations", marks))
        chart = curves(lines, axis, "doublings", lambda x, least=least: f"{round(least * 2**x):,}")  # type: ignore[misc]
        x, y = 10 + wide * (place % 2), head + high * (place // 2)
        parts.append(chart.replace("<svg ", f'<svg x="{x}" y="{y}" width="{WIDTH}" height="{HEIGHT}" ', 1))
    return "".join([*parts, "</svg>"]) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", default="mini")
    parser.add_argument("--families", default=",".join(FAMILIES))
    parser.add_argument("--axes", default=",".join(AXES))
    parser.add_argument("--optimizer", default="muon", choices=("muon", "adamw"))
    parser.add_argument("--dtype", default="auto", choices=("auto", "float32", "bfloat16"))
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--blocks", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=0.8, help="of a block, at least one step")
    parser.add_argument("--minutes", type=float, default=math.inf, help="begin no further point after this long")
    parser.add_argument("--alone", default="", help="a point as JSON: measure it, print it, and stop")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    if given.alone:
        keep_freed_memory()
        work = Work(**json.loads(given.alone))
        print(json.dumps(asdict(alone(work, middle(given.size, work.family), given))))
        return
    given.dtype = dtype_for(given.dtype, given.device)
    name = "scaling" if given.size == "mini" and given.device == "cpu" else f"scaling-{given.size}-{given.device}"
    settings = {key: getattr(given, key) for key in ("size", "device", "dtype", "optimizer", "threads")}
    file = RESULTS / f"{name}.json"
    record = {"about": described(["torch"]), "settings": settings, "rows": []}
    if file.exists():
        kept = json.loads(file.read_text(encoding="utf-8"))
        if kept["settings"] != settings:
            sys.exit(f"{name}.json holds points of {kept['settings']}: move it away to measure others")
        record["rows"] = kept["rows"]
    wanted = [
        work
        for family in given.families.split(",")
        for axis in given.axes.split(",")
        for work in along(axis, middle(given.size, family))
    ]
    done = {Measured.read(row).work for row in record["rows"]}
    missing = [work for work in dict.fromkeys(wanted) if work not in done]
    start = time.monotonic()
    for number, work in enumerate(missing):
        if time.monotonic() - start > 60 * given.minutes:
            print(f"{len(missing) - number} points are left: give the same command again")
            break
        words = [f"--{key}={item}" for key, item in settings.items()]
        words += [f"--blocks={given.blocks}", f"--seconds={given.seconds}", f"--alone={json.dumps(asdict(work))}"]
        child = subprocess.run([sys.executable, __file__, *words], capture_output=True, text=True)
        if child.returncode:
            sys.exit(child.stderr)
        row = json.loads(child.stdout.splitlines()[-1])
        point = Measured.read(row)
        told = f"{number + 1}/{len(missing)} {work.family} {work.batch} x {work.context}, width {work.width}, "
        told += f"{work.vocabulary:,} ids"
        if min(point.timed.blocks, point.base.blocks) < min(2, given.blocks):
            print(f"{told}: too much other load; not kept", flush=True)
            continue
        record["rows"].append(row)
        file.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
        print(f"{told}: {point.timed.milliseconds()} ms, {time.monotonic() - start:.0f} s", flush=True)
    (RESULTS / f"{name}.svg").write_text(drawing(record), encoding="utf-8")
    write(name, record, table(record, name))


if __name__ == "__main__":
    main()
