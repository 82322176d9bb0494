"""The projected LSTM, forward and backward: ours beside torch's, equal weights, in turns.

python benchmarks/lstm.py            on a quiet machine
python benchmarks/lstm.py --busy     beside other programs, which the result then says
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import paired
import torch
from machine import described, write
from torch import Tensor, nn

from sightline.memory import keep_freed_memory
from sightline.stacks.lstm import Layer


@dataclass(frozen=True)
class Work:
    """Two layers: lines x slots of so many channels, with so many cells projected back."""

    lines: int
    slots: int
    width: int
    cells: int

    def __str__(self) -> str:
        return f"{self.lines} x {self.slots} x {self.width}, {self.cells} cells"


WORKS = (Work(16, 128, 512, 1024), Work(4, 256, 128, 176), Work(32, 32, 128, 176))


def both(work: Work) -> dict[str, Callable[[], list[Tensor]]]:
    """States and slopes by either, and ours with products in bfloat16."""
    torch.manual_seed(0)
    layers = [Layer(work.width, work.cells) for _ in range(2)]
    twin = nn.LSTM(work.width, work.cells, num_layers=2, proj_size=work.width, batch_first=True)
    with torch.no_grad():
        for number, layer in enumerate(layers):
            layer.initialise()
            for name, weight in (("ih", layer.enter.weight), ("hh", layer.turn.weight), ("bias", layer.enter.bias)):
                let_in, keep, let_out, new = weight.chunk(4)
                name = "bias_ih" if name == "bias" else f"weight_{name}"
                getattr(twin, f"{name}_l{number}").copy_(torch.cat([let_in, keep, new, let_out]))
            getattr(twin, f"bias_hh_l{number}").zero_()
            getattr(twin, f"weight_hr_l{number}").copy_(layer.out.weight)
    x = torch.randn(work.lines, work.slots, work.width, requires_grad=True)
    slope = torch.randn(work.lines, work.slots, work.width)

    mine = [weight for layer in layers for weight in (layer.out.weight, *layer.parameters())]
    theirs = [weight for number in range(2) for weight in (getattr(twin, f"weight_hr_l{number}"), *twin.parameters())]

    def backward(states: Tensor, weights: list[Tensor]) -> list[Tensor]:
        """States, and the slopes of what enters and of the first projection; those of all weights are worked out."""
        slopes = torch.autograd.grad(states, [x, *weights], slope.to(states.dtype))
        return [states.detach().float(), *slopes[:2]]

    def ours() -> list[Tensor]:
        states = x
        for layer in layers:
            states = layer(states, None, None, 0)
        return backward(states, mine)

    def half() -> list[Tensor]:
        with torch.autocast("cpu", torch.bfloat16):
            return ours()

    return {"ours": ours, "torch": lambda: backward(twin(x)[0], theirs), "ours, bfloat16": half}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--blocks", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--busy", action="store_true")
    given = parser.parse_args()
    keep_freed_memory()
    torch.set_num_threads(given.threads)
    warnings.filterwarnings("ignore", message="LSTM with projections")  # torch says itself that it has no kernel for it
    if given.busy:
        paired.CLEAN = 1.0
    rows: list[dict[str, Any]] = []
    threads = f"{given.threads} thread{'s' if given.threads > 1 else ''}"
    lines = [
        f"# Two layers of projected LSTM, forward and backward: ours beside torch's, {threads}",
        "",
        "Milliseconds a call, median [fastest, slowest] of blocks taken in turns"
        + ("; other programs used the cores meanwhile." if given.busy else "."),
        "",
        "| lines x slots x width | ours, float32 | torch, float32 | torch / ours | ours, bfloat16 |",
        "|---|---|---|---|---|",
    ]
    for work in WORKS:
        sides = both(work)
        mine, theirs = sides["ours"](), sides["torch"]()
        gap = max(float((one - other).abs().max() / other.abs().max()) for one, other in zip(mine, theirs, strict=True))
        assert gap < 1e-4, f"states or slopes differ by {gap:.1e}"
        timed = paired.interleaved(sides, given.blocks, 0.5)
        ratio = timed["torch"].median / timed["ours"].median
        rows.append(
            {"work": vars(work), "ratio": ratio, "largest difference": gap}
            | {name: one.record() for name, one in timed.items()}
        )
        cells = [timed[name].milliseconds() for name in ("ours", "torch", "ours, bfloat16")]
        lines.append(f"| {work} | {cells[0]} | {cells[1]} | {ratio:.2f} | {cells[2]} |")
        print(lines[-1], flush=True)
    write("lstm", {"about": described(["torch"]), "busy": given.busy, "rows": rows}, "\n".join([*lines, ""]))


if __name__ == "__main__":
    main()
