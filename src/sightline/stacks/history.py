"""What each slot has seen last: the memory of stacks that look a fixed number of slots back (tables, regressions)."""

from __future__ import annotations

import torch
from torch import Tensor

from .attention import allowed
from .look import Look

PAIRS = 2**22  # (asking, seen) pairs looked at together


def histories(look: Look, shown: Look, count: int, readable: Tensor, nothing: float) -> Tensor:
    """What the slots last in order that each may see show: [lines, slots, count], the latest last.

    Parameters
    ----------
    look, shown : the slots that ask, and those that may be seen (with a cache there are more of them).
    readable : [lines, seen slots], which of them show something.
    nothing : stands where fewer than ``count`` are seen.
    """
    lines, slots = look.tokens.shape
    reach = min(count, shown.tokens.shape[1])
    states = torch.full((lines, slots, count), nothing, dtype=shown.tokens.dtype, device=look.tokens.device)
    step = max(1, PAIRS // max(1, slots * shown.tokens.shape[1]))
    for start in range(0, lines, step):
        part = torch.arange(start, min(start + step, lines), device=look.tokens.device)
        asking, seen = look.lines(part), shown.lines(part)
        truth = allowed(look.sight, asking, seen) & readable[part][:, None, :]
        nowhere = int(shown.order.min()) - 1
        latest = torch.where(truth, seen.order[:, None, :], nowhere).topk(reach, dim=-1)
        index, found = latest.indices.flip(-1), latest.values.flip(-1) > nowhere
        token = seen.tokens[:, None, :].expand(-1, slots, -1).gather(2, index)
        states[part, :, count - reach :] = torch.where(found, token, nothing)
    return states
