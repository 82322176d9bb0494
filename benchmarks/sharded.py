"""A training step in several processes that share the model (FSDP2), beside the same step in one.

    python benchmarks/sharded.py                              two processes over gloo, one thread each
    torchrun --nproc-per-node 8 benchmarks/sharded.py --backend nccl --device cuda --dtype bfloat16 --size large

Outside of torchrun it starts itself under it. First the losses of both are compared, step by step, from the same
weights on the same rows. Then the sides take turns: all processes together, the first one alone with one thread, and
alone with as many threads as there are processes, while the others wait. *Efficiency* is the tokens a second of all
processes over those of one, times their number.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import psutil
import torch
import torch.distributed as dist
from machine import RESULTS, described, write
from paired import Timed, interleaved

from sightline.data import Order, Rows, train_tokenizer
from sightline.memory import keep_freed_memory
from sightline.objectives import Causal, Masked
from sightline.objectives.model import built
from sightline.stacks.sizes import shape, size
from sightline.training.loop import stepper
from sightline.training.settings import Optimization, Settings
from sightline.training.world import World

VOCABULARY = 8192
ROWS = 4096  # of letters, in another order each epoch
FAMILIES = {"causal": Causal, "masked": Masked}


def maker(given: argparse.Namespace, world: World | None) -> Callable[[], float]:
    """A step of the loop that gives its loss; the same weights and rows however many processes take it."""
    tokenizer = train_tokenizer(["abc"], "byte")
    chosen = shape(given.size, VOCABULARY)
    model = built(FAMILIES[given.family](tokenizer.vocabulary), chosen, tokenizer).to(given.place)
    order = Order(ROWS, 0)
    rank, count = (0, 1) if world is None else (world.rank, world.count)

    def rows_of(step: int) -> Rows:
        numbers, visits = order.at(order.shard(step * given.batch, given.batch, rank, count))
        letters = [np.random.default_rng(int(number)).integers(97, 123, chosen.context) for number in numbers]
        rows = Rows.of(letters, tokenizer)
        return Rows(rows.tokens, rows.documents, numbers, visits, rows.word_starts, rows.origins, rows.wanted)

    settings = Settings(10**6, given.batch, dtype=given.dtype, optimization=Optimization(given.optimizer))
    step, numbers = stepper(model, rows_of, settings, world), itertools.count()
    return lambda: step(next(numbers))


def cpu_seconds(given: argparse.Namespace) -> Callable[[], float]:
    """What all processes on this machine have used of its cores, for the watch on other load."""
    own = torch.tensor([float(os.getpid())], dtype=torch.float64, device=given.place)
    pids = [torch.empty_like(own) for _ in range(dist.get_world_size())]
    dist.all_gather(pids, own)
    here = int(os.environ.get("LOCAL_WORLD_SIZE", len(pids)))
    processes = [psutil.Process(int(pid)) for pid in pids[:here]]

    def used() -> float:
        return sum(process.cpu_times().user + process.cpu_times().system for process in processes)

    return used


def on_one_page(record: dict[str, Any]) -> str:
    lines = [
        "# One step in several processes: FSDP2 beside one process",
        "",
        "Tokens a second of whole steps, the sides in turns: median [slowest, fastest block]. Losses are compared from",
        "the same weights on the same rows. Efficiency: over one process (one thread), times the number of processes.",
        "",
        "| work | side | tokens/s | ms a step | efficiency | largest difference of losses |",
        "|---|---|---|---|---|---|",
    ]
    for row in record["rows"]:
        efficiency = "" if row["efficiency"] is None else f"{row['efficiency']:.0%}"
        gap = "" if row["gap"] is None else f"{row['gap']:.1e} over {row['compared']} steps"
        lines.append(
            f"| {row['work']} | {row['side']} | {Timed(**row['timed']).rate(row['tokens'])} "
            f"| {1e3 * row['timed']['median']:.0f} | {efficiency} | {gap} |"
        )
    return "\n".join([*lines, ""])


def measured(given: argparse.Namespace, world: World) -> list[dict[str, Any]]:
    """The first process leads: it compares, times, and tells the others when to step."""
    torch.set_num_threads(1)
    together = maker(given, world)
    if world.rank:
        while obeyed(world):
            together()
        return []
    alone = maker(given, None)

    def all_of_them() -> float:
        torch.set_num_threads(1)
        told(world, True)
        return finished(together(), given.place)

    def one_with(threads: int) -> Callable[[], float]:
        def step() -> float:
            torch.set_num_threads(threads)
            return finished(alone(), given.place)

        return step

    ours, theirs = [[side() for _ in range(given.compared)] for side in (all_of_them, one_with(1))]
    gap = max(abs(one - other) for one, other in zip(ours, theirs, strict=True))
    print(f"losses {ours[0]:.4f} to {ours[-1]:.4f}, largest difference {gap:.1e}", flush=True)
    many, one_alone = f"{world.count} processes, {given.backend}", "one process, one thread"
    sides = {many: all_of_them, one_alone: one_with(1), f"one process, {world.count} threads": one_with(world.count)}
    if given.place.type == "cuda":  # threads are a processor's
        one_alone = "one process"
        sides = {many: all_of_them, one_alone: one_with(1)}
    timed = interleaved(sides, given.blocks, given.seconds, given.used)
    told(world, False)
    tokens = given.batch * size(given.size).context
    work = f"{given.size}, {given.family}, {given.optimizer}, {given.batch} rows, {given.dtype}"
    return [
        {
            "work": work,
            "side": name,
            "tokens": tokens,
            "timed": one.record(),
            "efficiency": timed[one_alone].median / one.median / world.count if name == many else None,
            "gap": gap if name == many else None,
            "compared": given.compared,
            "about": described(["torch"]),
        }
        for name, one in timed.items()
    ]


def finished(loss: float, place: torch.device) -> float:
    if place.type == "cuda":
        torch.cuda.synchronize()
    return loss


def told(world: World, go: bool) -> None:
    dist.broadcast(torch.tensor([int(go)], device=world.device), 0)


def obeyed(world: World) -> bool:
    word = torch.zeros(1, dtype=torch.int64, device=world.device)
    dist.broadcast(word, 0)
    return bool(word)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", default="mini")
    parser.add_argument("--family", default="causal", choices=FAMILIES)
    parser.add_argument("--optimizer", default="adamw", choices=("adamw", "muon"))
    parser.add_argument("--batch", type=int, default=8, help="rows of a step, of all processes together")
    parser.add_argument("--dtype", default="float32", choices=("float32", "bfloat16"))
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--backend", default="gloo", choices=("gloo", "nccl"))
    parser.add_argument("--processes", type=int, default=2, help="where torchrun does not say")
    parser.add_argument("--compared", type=int, default=10, help="steps whose losses are compared")
    parser.add_argument("--blocks", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=4.0, help="of a block")
    given = parser.parse_args()
    if "RANK" not in os.environ:
        os.environ.setdefault("OMP_NUM_THREADS", "1")
        run = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(given.processes)]
        os.execv(sys.executable, [sys.executable, *run, *sys.argv])
    keep_freed_memory()
    given.place = torch.device(given.device)
    if given.device == "cuda":
        given.place = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        torch.cuda.set_device(given.place)
    dist.init_process_group(given.backend)
    given.used = cpu_seconds(given)
    rows = measured(given, World.joined(given.place))
    if rows:
        # Works measured before stay.
        file = RESULTS / "sharded.json"
        kept = json.loads(file.read_text(encoding="utf-8"))["rows"] if file.exists() else []
        rows = [row for row in kept if row["work"] != rows[0]["work"]] + rows
        record = {"about": described(["torch"]), "rows": rows}
        write("sharded", record, on_one_page(record))
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
