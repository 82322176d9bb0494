"""Targets of a told length: a few lengths for each source, all their places open, and of each source the best.

    source --encoder, once--> lengths 4, 5, 3  ->  _ _ _ _      a policy writes them together (see decoders/policy.py)
                                                   _ _ _ _ _    and the highest mean of log p is kept
                                                   _ _ _

Ghazvininejad et al., Mask-Predict (2019).
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray

from ..decoders.canvas import Canvas
from ..decoders.loop import write
from ..decoders.policy import Policy
from .pen import Ids, Pen

FEWEST = 2  # tokens of a target, its end included: no shorter one is tried


@torch.no_grad()
def by_lengths(
    pen: Pen, sources: list[Ids], policy: Policy, candidates: int, longest: int
) -> tuple[list[Ids], list[float]]:
    """The target of each source, without its end, and the sum of its log p.

    Parameters
    ----------
    sources : between their marks. candidates : lengths that are tried of each, the likeliest up to the ``longest``.
    policy : which places are written when.
    """
    model, objective = pen.model, pen.model.objective
    given = Canvas.laid([[source] for source in sources])
    view, cache = objective.fill(given), model.cache()
    told = model.length_logits(view, given.tokens, cache).double().cpu().numpy()
    lengths = [likeliest_lengths(line, longest, candidates) for line in told]
    owners = np.repeat(np.arange(len(sources)), [len(each) for each in lengths])
    cache.lines(torch.from_numpy(owners))
    places = np.concatenate(lengths).tolist()
    canvas = Canvas.laid([[sources[owner], count] for owner, count in zip(owners, places, strict=True)])
    done = write(
        objective.fill,
        model.logits,
        canvas,
        policy,
        pen.sampling,
        forbidden=np.setdiff1d(pen.forbidden, objective.vocabulary.eos),
        make_cache=lambda: cache,
        generator=pen.generator,
        owners=owners,
        held=objective.fill(canvas).columns(slice(0, view.slots.count)),
    )
    written = done.canvas.inside & ~done.canvas.given & (done.canvas.tokens != objective.vocabulary.eos)
    return [ids[here].tolist() for ids, here in zip(done.canvas.tokens, written, strict=True)], done.total.tolist()


def likeliest_lengths(logits: NDArray[np.float64], longest: int, count: int) -> NDArray[np.int64]:
    """At most ``count`` lengths up to the ``longest``, the likeliest first, by logits [lengths from 0 up].

    As Mask-Predict has it, a length below 2 is taken as 2; none is taken twice.
    """
    best = np.argsort(-logits[: longest + 1], kind="stable")[:count]
    return np.array(list(dict.fromkeys(np.maximum(best, FEWEST).tolist())))


def without_repeats(ids: Ids) -> Ids:
    """Of equal ids side by side, one."""
    return [*ids[:1], *(after for before, after in pairwise(ids) if after != before)]
