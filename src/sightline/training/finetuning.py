"""Fine-tuning: epochs over a few labelled items, the best on dev kept, stopped early where dev grows no better.

    items --drawn anew each epoch, like lengths together--> batches --loss--> AdamW --epoch--> dev, checkpoint

The rate warms up, then falls in a straight line to nothing. After each epoch all lies on the disk, so that a run that
was stopped goes on behind the last whole epoch, on a CPU bit for bit. Devlin et al., BERT (2018); Mosbach et al., On
the Stability of Fine-tuning BERT (2021), for the warm-up, the small rate and the many epochs.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ..errors import SightlineError
from ..objectives.tuned import Tuned
from ..progress import bar
from .checkpoint import Checkpoint, generator_state, newest, saved
from .loop import autocast

LIKE = 32  # batches whose items are sorted by length together
CLIP = 1.0  # of the gradient's norm
# BERT-base: the published rate, its width, and about the root mean square of its learned matrices.
RATE, WIDTH, WEIGHT = 5e-5, 768, 0.045


@dataclass(frozen=True)
class Tuning:
    """How a head, and the stack below it, learn.

    Parameters
    ----------
    rate : of the stack, at its highest. head_rate : of the head. warmup : share of the steps. decay : of matrices.
    patience : epochs that dev may be no better before it is enough; 0: all epochs are run.
    """

    epochs: int = 10
    batch: int = 16
    rate: float = 3e-4
    head_rate: float = 1e-3
    warmup: float = 0.1
    decay: float = 0.01
    patience: int = 3
    dtype: str = "float32"


@dataclass(frozen=True)
class Course:
    """What one seed came to: dev after each epoch, the best of them, and seconds of training."""

    dev: tuple[float, ...]
    losses: tuple[float, ...]
    best_epoch: int
    seconds: float

    @property
    def best(self) -> float:
        """Dev after the epoch that was kept."""
        return self.dev[self.best_epoch - 1]

    def record(self) -> dict[str, Any]:
        """As plain JSON."""
        return asdict(self) | {"best_dev": self.best}


def usual_rate(stack: nn.Module) -> float:
    """The rate of a stack where nobody names one: BERT-base's, changed with the width and the size of the weights.

    AdamW moves every weight by about the rate, however large the weight: what is larger, as after Muon, needs longer
    steps to change as much (Shazeer and Stern, Adafactor, 2018, scale theirs so). Smaller ones keep the plain rate.
    """
    sizes = [float(weight.detach().square().mean().sqrt()) for weight in stack.parameters() if weight.dim() > 1]
    return RATE * WIDTH / int(cast(Any, stack).width) * max(1.0, float(np.median(sizes or [WEIGHT])) / WEIGHT)


def finetuned(
    tuned: Tuned,
    lengths: NDArray[np.int64],
    loss: Callable[[NDArray[np.int64]], Tensor],
    measure: Callable[[], float],
    tuning: Tuning,
    folder: Path,
    *,
    seed: int = 0,
    title: str = "tuning",
) -> Course:
    """Train until dev is best; the module ends with the weights of that epoch.

    Parameters
    ----------
    lengths : tokens of each item [items]. loss : mean loss of the items of these numbers, with its gradient.
    measure : dev as it is now, more is better. folder : of checkpoints, from which it goes on.

    Raises
    ------
    SightlineError : the loss is no number.
    """
    weights = dict(tuned.trained)
    optimizer = _optimizer(weights, tuning)
    steps = -(-len(lengths) // tuning.batch)
    rise = max(1, round(tuning.warmup * steps * tuning.epochs))
    dev, losses, seconds, best = list[float](), list[float](), 0.0, dict[str, Tensor]()
    held = newest(folder)
    if held is not None:
        _taken(weights, held.weights)
        _state_taken(optimizer, weights, held.optimizer)
        dev, losses, best = list(held.state["dev"]), list(held.state["losses"]), held.best
        seconds = float(held.state["seconds"])
    with torch.random.fork_rng(devices=[]), bar(title, steps * tuning.epochs, "steps") as shown:
        shown.advance(steps * len(dev))
        for epoch in range(len(dev), tuning.epochs):
            if _enough(dev, tuning.patience):
                break
            torch.manual_seed(seed * 1000 + epoch)
            tuned.train()
            start, total = time.perf_counter(), 0.0
            for number, batch in enumerate(_batches(lengths, tuning.batch, (seed, epoch, 12))):
                at = epoch * steps + number
                for group in optimizer.param_groups:
                    left = (steps * tuning.epochs - at) / max(1, steps * tuning.epochs - rise)
                    group["lr"] = group["highest"] * min((at + 1) / rise, left)
                with autocast(tuned.model.device, tuning.dtype):
                    value = loss(batch)
                optimizer.zero_grad(set_to_none=True)
                value.backward()  # type: ignore[no-untyped-call]
                torch.nn.utils.clip_grad_norm_(weights.values(), CLIP)
                optimizer.step()
                total += float(value.detach()) * len(batch)
                shown.advance(1, f"epoch {epoch + 1}" + (f", dev {max(dev):.3f}" if dev else ""))
            if not np.isfinite(total):
                raise SightlineError(f"the loss is no number in epoch {epoch + 1}", "Use a smaller --rate")
            seconds += time.perf_counter() - start
            tuned.eval()
            with torch.no_grad(), autocast(tuned.model.device, tuning.dtype):
                dev.append(float(measure()))
            losses.append(total / len(lengths))
            if dev[-1] >= max(dev):
                best = {name: weight.detach().cpu().clone() for name, weight in weights.items()}
            current = {name: weight.detach() for name, weight in weights.items()}
            state = {"dev": dev, "losses": losses, "seconds": seconds}
            tensors = _state_told(optimizer, weights)
            saved(folder, Checkpoint(epoch + 1, current, tensors, best, state, generator_state()))
    _taken(weights, best)
    tuned.eval()
    return Course(tuple(dev), tuple(losses), int(np.flatnonzero(np.array(dev) == max(dev))[-1]) + 1, seconds)


def _enough(dev: list[float], patience: int) -> bool:
    """Whether dev has been no better for so many epochs."""
    return bool(patience) and len(dev) > patience and max(dev[-patience:]) <= max(dev[:-patience])


def _batches(lengths: NDArray[np.int64], batch: int, key: tuple[int, ...]) -> Iterator[NDArray[np.int64]]:
    """All items once, in drawn order; within a stretch of batches those of like lengths stand together."""
    draws = np.random.default_rng(key)
    order = draws.permutation(len(lengths))
    parts = []
    for start in range(0, len(order), LIKE * batch):
        stretch = order[start : start + LIKE * batch]
        stretch = stretch[np.argsort(lengths[stretch], kind="stable")]
        parts += [stretch[at : at + batch] for at in range(0, len(stretch), batch)]
    for at in draws.permutation(len(parts)):
        yield parts[at]


def _optimizer(weights: Mapping[str, Tensor], tuning: Tuning) -> torch.optim.AdamW:
    """AdamW: matrices decay, vectors do not; the head, which is fresh, has a rate of its own."""
    groups = []
    for head in (False, True):
        for decays in (False, True):
            own = [
                one for name, one in weights.items() if name.startswith("head.") == head and (one.dim() > 1) == decays
            ]
            rate = tuning.head_rate if head else tuning.rate
            if own:
                decay = tuning.decay if decays else 0.0
                groups.append({"params": own, "lr": rate, "highest": rate, "weight_decay": decay})
    return torch.optim.AdamW(groups, betas=(0.9, 0.999), eps=1e-8)


@torch.no_grad()
def _taken(weights: Mapping[str, Tensor], held: Mapping[str, Tensor]) -> None:
    for name, weight in weights.items():
        weight.copy_(held[name])


def _state_told(optimizer: torch.optim.AdamW, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    names = {id(weight): name for name, weight in weights.items()}
    return {
        f"{names[id(weight)]}/{key}": torch.as_tensor(value).detach().clone()
        for weight, state in optimizer.state.items()
        for key, value in state.items()
    }


def _state_taken(optimizer: torch.optim.AdamW, weights: Mapping[str, Tensor], tensors: dict[str, Tensor]) -> None:
    for name, value in tensors.items():
        weight, _, key = name.rpartition("/")
        held = weights[weight]
        optimizer.state[held][key] = value if key == "step" else value.to(held.device)
