"""Several processes that share a step learn what one would: two of them, over gloo, each on its half of the rows."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
from safetensors.torch import load_file, save_file
from torch import multiprocessing

from sightline.data import Order, Rows
from sightline.data.vocabulary import Vocabulary
from sightline.errors import SightlineError
from sightline.objectives import Causal, Electra, Masked, NGram, Objective, Prefix
from sightline.objectives.model import Model, built
from sightline.stacks.shape import Shape
from sightline.training.loop import stepper
from sightline.training.settings import Optimization, Settings
from sightline.training.world import World

WORDS = Vocabulary(32, 32, pad=0, bos=1, eos=2, mask=3, specials=(0, 1, 2, 3))
SHAPE = Shape(2, 18, 3, 32, 16)  # two processes cut q, k and v's 54 rows in the middle of the keys
BATCH, STEPS, PROCESSES = 4, 6, 2
ORDER = Order(20, 5)
# With a large eps, and without clipping, AdamW's steps tell the size of a slope as well as its direction.
SIZED, ADAMW = Optimization("adamw", eps=0.1, clip=0.0), Optimization("adamw", weight_decay=0.1)
CASES: dict[str, tuple[Callable[[Vocabulary], Objective], Settings]] = {
    "sized": (Causal, Settings(STEPS, BATCH, optimization=SIZED)),
    "causal": (Causal, Settings(STEPS, BATCH, optimization=ADAMW)),
    "prefix": (Prefix, Settings(STEPS, BATCH, optimization=ADAMW)),
    "masked, accumulated": (Masked, Settings(STEPS, BATCH, accumulation=2, optimization=ADAMW)),
    "muon": (Causal, Settings(STEPS, BATCH, optimization=Optimization("muon"))),
    "half precision": (Causal, Settings(STEPS, BATCH, dtype="bfloat16", optimization=ADAMW)),
}


def rows_at(index: np.ndarray) -> Rows:
    """Rows of unequal length: the processes answer unequal counts."""
    numbers, visits = ORDER.at(index)
    tokens = np.stack([np.random.default_rng(int(number)).integers(4, 32, 16) for number in numbers]).astype(np.int32)
    real = np.arange(16) < 6 + numbers[:, None] % 11
    documents = np.where(real, 0, -1)
    tokens = np.where(real, tokens, 0).astype(np.int32)
    return Rows(tokens, documents.astype(np.int32), numbers, visits, real, documents.astype(np.int64), real)


def learned(case: str, world: World | None) -> tuple[list[float], Model]:
    """The losses of the steps, and the model after them."""
    make, settings = CASES[case]
    model = built(make(WORDS), SHAPE, None, 1)  # type: ignore[arg-type]
    rank, count = (0, 1) if world is None else (world.rank, world.count)
    step = stepper(model, lambda number: rows_at(ORDER.shard(number * BATCH, BATCH, rank, count)), settings, world)
    return [step(number) for number in range(STEPS)], model


def process(rank: int, folder: Path) -> None:
    """What each of the processes does."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=PROCESSES)
    world = World.joined("cpu")
    for case in CASES:
        losses, model = learned(case, world)
        shares = sum(world.held(weight).numel() for weight in model.parameters())
        weights = {name: world.whole(weight.detach()) for name, weight in model.named_parameters()}
        (folder / f"{case}-{rank}.json").write_text(json.dumps({"losses": losses, "shares": shares}))
        if rank == 0:
            save_file(weights, folder / f"{case}.safetensors")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of what two processes came to."""
    folder = tmp_path_factory.mktemp("world")
    multiprocessing.spawn(process, (folder,), PROCESSES)
    return folder


@pytest.mark.parametrize("case", CASES)
def test_two_processes_learn_what_one_does(case: str, shared: Path) -> None:
    losses, model = learned(case, None)
    told = [json.loads((shared / f"{case}-{rank}.json").read_text()) for rank in range(PROCESSES)]
    assert told[0]["losses"] == told[1]["losses"]
    half = case == "half precision"
    assert told[0]["losses"] == pytest.approx(losses, rel=1e-2 if half else 1e-5)
    found = load_file(shared / f"{case}.safetensors")
    assert found.keys() == dict(model.named_parameters()).keys()
    if not half:
        for name, weight in model.named_parameters():
            torch.testing.assert_close(found[name], weight.detach(), rtol=1e-3, atol=1e-4, msg=name)


@pytest.mark.parametrize("case", CASES)
def test_each_process_holds_its_share(case: str, shared: Path) -> None:
    _, model = learned(case, None)
    everything = sum(weight.numel() for weight in model.parameters())
    shares = [json.loads((shared / f"{case}-{rank}.json").read_text())["shares"] for rank in range(PROCESSES)]
    assert sum(shares) == everything and max(shares) < 0.6 * everything


def test_what_cannot_be_shared_is_refused() -> None:
    world = World(0, 2, torch.device("cpu"))
    model = built(Causal(WORDS), SHAPE, None, 1)  # type: ignore[arg-type]
    with pytest.raises(SightlineError, match="3 rows cannot be shared by 2"):
        world.share(model, Settings(STEPS, 3))
    with pytest.raises(SightlineError, match="compiled"):
        world.share(model, Settings(STEPS, BATCH, compiled=True))
    with pytest.raises(SightlineError, match="is not shared among processes"):
        world.share(built(NGram(WORDS), SHAPE, None), Settings(STEPS, BATCH))  # type: ignore[arg-type]
    with pytest.raises(SightlineError, match="electra has two stacks"):
        world.share(built(Electra(WORDS), SHAPE, None), Settings(STEPS, BATCH))  # type: ignore[arg-type]
    with pytest.raises(SightlineError, match="torchrun"):
        World.joined("cpu")
