"""Measured sight: which tokens a slot's output really depends on, by changing them one at a time and by the gradient.

    the text        The  cat  sat        output of the slot that shows "cat": a
    one change      The  dog  sat        ... moved: row "cat" sees column "cat"
    another         The  cat  ran        ... did not: it does not see "sat"

Nothing is read from a mask or a configuration: a model is a function from ids to numbers here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ..errors import SightlineError
from ..progress import bar

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

MOVED = 1e-5  # of the outputs' root mean square; fp32 sums in another order differ by less
TOGETHER = 32 << 20  # output numbers held at once


@dataclass(frozen=True)
class Probe:
    """A model as a function.

    Parameters
    ----------
    outputs : ids [N, tokens] to outputs [N, slots, features], in one or several parts whose slots stand side by side;
        differentiable, in fp32, without dropout.
    shows : the token that each slot shows [slots], or -1.
    tables : the embedding tables that ids go through, each called once for its slots (or once for each part); none:
        no gradient is taken.
    alphabet : ids that may stand in for another.
    """

    outputs: Callable[[Ints], Sequence[Tensor]]
    shows: Ints
    tables: tuple[nn.Module, ...]
    alphabet: Ints


def measured_sight(probe: Probe, ids: Ints, replacements: int = 3, seed: int = 0) -> Bools:
    """Truth values [tokens, tokens]: whether any output of a slot that shows token i moves when token j changes.

    The union of random replacements of each token and of the gradient of a random projection of the output.

    Parameters
    ----------
    ids : the text [tokens].
    replacements : other ids tried for each token.

    Raises
    ------
    SightlineError : the outputs are not numbers.
    """
    rng = np.random.default_rng(seed)
    tokens, slots = len(ids), len(probe.shows)
    with torch.no_grad():
        first = [part.float().cpu() for part in probe.outputs(ids[None])]
    scales = [_scale(part) for part in first]
    room = max(1, TOGETHER // max(1, sum(part.numel() for part in first)))
    by_slot = np.zeros((slots, tokens), dtype=np.bool_)
    changed, column = _changed(ids, probe.alphabet, replacements, rng)
    asked = np.flatnonzero(probe.shows >= 0)
    with bar("measuring", len(changed) + len(asked), "passes") as shown:
        for start in range(0, len(changed), room):
            part = slice(start, start + room)
            with torch.no_grad():
                moved = _moved(probe.outputs(changed[part]), first, scales)
            np.logical_or.at(by_slot.T, column[part], moved)
            shown.advance(len(moved))
        if probe.tables:
            for start in range(0, len(asked), room):
                index = asked[start : start + room]
                by_slot[index] |= _gradient(probe, ids, index, tokens, seed)
                shown.advance(len(index))
    seen = np.zeros((tokens, tokens), dtype=np.bool_)
    np.logical_or.at(seen, probe.shows[asked], by_slot[asked])
    return seen


def _scale(part: Tensor) -> float:
    finite = part[torch.isfinite(part)]
    if bool(torch.isnan(part).any()) or not finite.numel():
        raise SightlineError(
            "the model's outputs are not numbers for this text", "Try another text, or check its weights"
        )
    return float(finite.double().square().mean().sqrt())


def _changed(ids: Ints, alphabet: Ints, times: int, rng: np.random.Generator) -> tuple[Ints, Ints]:
    """Copies of the text [tokens * times, tokens] with one token replaced by another id, and which token that is."""
    if len(np.setdiff1d(alphabet, ids[:1])) < 1:
        raise SightlineError(
            f"a vocabulary of {len(alphabet)} ids has nothing to replace a token by", "Choose another model"
        )
    column = np.repeat(np.arange(len(ids)), times)
    copies = np.repeat(ids[None], len(column), axis=0)
    for copy, token in enumerate(column):
        copies[copy, token] = rng.choice(alphabet[alphabet != ids[token]])
    return copies, column


def _moved(outputs: Sequence[Tensor], first: Sequence[Tensor], scales: Sequence[float]) -> Bools:
    """Which slots of each copy [N, slots] differ from the first text's."""
    moved = []
    for part, reference, scale in zip(outputs, first, scales, strict=True):
        now = part.float().cpu()
        still = (now == reference) | ((now - reference).abs() <= MOVED * scale)
        moved.append(~still.all(-1))
    return np.asarray(torch.cat(moved, dim=1).numpy(), dtype=np.bool_)


def _gradient(probe: Probe, ids: Ints, index: Ints, tokens: int, seed: int) -> Bools:
    """For each slot of ``index``, the tokens [tokens] through whose embedding its output has a gradient."""
    draws = torch.Generator().manual_seed(seed)
    with torch.enable_grad(), _leaves(probe.tables) as leaves:
        parts = probe.outputs(np.repeat(ids[None], len(index), axis=0))
        total, start = torch.zeros((), dtype=torch.float64), 0
        for part in parts:
            for copy, slot in enumerate(index):
                if start <= slot < start + part.shape[1]:
                    row = part[copy, slot - start]
                    row = torch.where(torch.isfinite(row), row, 0.0).double().cpu()
                    total = total + row @ torch.randn(row.shape, generator=draws, dtype=torch.float64)
            start += part.shape[1]
        reached = torch.zeros(len(index), 0, dtype=torch.bool)
        if leaves and total.requires_grad:
            slopes = torch.autograd.grad(total, leaves, allow_unused=True)
            paths = [_nonzero(slope, leaf) for slope, leaf in zip(slopes, leaves, strict=True)]
            reached = torch.cat(paths, dim=1)
    seen = np.zeros((len(index), tokens), dtype=np.bool_)
    if reached.shape[1] == len(probe.shows):  # a table that is asked otherwise says nothing about single slots
        shown = probe.shows >= 0
        np.logical_or.at(seen.T, probe.shows[shown], reached.numpy().T[shown])
    return seen


def _nonzero(slope: Tensor | None, leaf: Tensor) -> Tensor:
    return torch.zeros(leaf.shape[:2], dtype=torch.bool) if slope is None else (slope != 0).any(-1).cpu()


@contextmanager
def _leaves(tables: Sequence[nn.Module]) -> Iterator[list[Tensor]]:
    """What the tables give, in the order of their calls, cut loose so that gradients end there."""
    leaves: list[Tensor] = []

    def cut(module: nn.Module, inputs: object, output: Tensor) -> Tensor:
        leaf = output.detach().requires_grad_(True)
        leaves.append(leaf)
        return leaf

    with ExitStack() as hooks:
        for table in tables:
            hooks.callback(table.register_forward_hook(cut).remove)
        yield leaves


def named_sight(seen: Bools) -> str | None:
    """The name of the one rule that gives exactly this matrix [tokens, tokens]; None where none does, or several do.

    Reaches that a text of this length cannot tell from a rule without reach are not tried.
    """
    place = np.arange(len(seen))
    back = place[:, None] - place[None, :]  # how far the seen token lies behind
    rules: dict[str, Bools] = {
        "past": back >= 0,
        "future": back <= 0,
        "everything": np.ones_like(seen),
        "by_order": back > 0,
        "itself": back == 0,
    }
    for reach in range(1, len(seen) - 1):
        close = np.abs(back) <= reach
        rules[f"near({reach})"] = close
        rules[f"past & near({reach})"] = close & (back >= 0)
        rules[f"future & near({reach})"] = close & (back <= 0)
    fitting = [name for name, rule in rules.items() if bool((rule == seen).all())]
    return fitting[0] if len(fitting) == 1 else None
