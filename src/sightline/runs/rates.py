"""Learning rates by family and size, as factors of the optimizer's defaults: from one sweep, equal trials each.

`benchmarks/rates.py` makes the sweep and stores what it saw (`benchmarks/results/rates-tiny-*.md`). At tiny, 1,000
steps, none of causal, backward, masked and prefix gained more by another factor than two seeds of one setting differ.
Of the others, swept over 200 steps, seven are best at 1; two_way and electra gain at 2 what causal gained there and did
not keep. So all keep 1. A size that was never swept takes its family's factor at the nearest smaller size.
"""

from __future__ import annotations

from ..stacks.sizes import SIZES

RATES: dict[str, dict[str, float]] = {}


def rate_factor(family: str, size: str) -> float:
    """The factor for this family at this size; 1 where the family was never swept."""
    table = RATES.get(family, {})
    smaller = [name for name in list(SIZES)[: list(SIZES).index(size) + 1] if name in table]
    return table[smaller[-1]] if smaller else 1.0
