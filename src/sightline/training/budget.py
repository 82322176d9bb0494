"""Budgets: tokens, steps, operations or seconds; each becomes a number of steps before the run starts."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Literal

from ..errors import SightlineError

Kind = Literal["tokens", "steps", "flops", "seconds"]
_UNITS: dict[str, tuple[Kind, float]] = {
    "s": ("seconds", 1),
    "sec": ("seconds", 1),
    "m": ("seconds", 60),
    "min": ("seconds", 60),
    "h": ("seconds", 3600),
    "tok": ("tokens", 1),
    "ktok": ("tokens", 1e3),
    "mtok": ("tokens", 1e6),
    "gtok": ("tokens", 1e9),
    "btok": ("tokens", 1e9),
    "step": ("steps", 1),
    "steps": ("steps", 1),
    "flop": ("flops", 1),
    "flops": ("flops", 1),
    "gflop": ("flops", 1e9),
    "tflop": ("flops", 1e12),
    "pflop": ("flops", 1e15),
}
_EXAMPLES = "60s, 5m, 2h, 20Mtok, 500steps or 1e15flop"


@dataclass(frozen=True)
class Budget:
    """What a family may spend on training.

    Parameters
    ----------
    text : as given. kind : what is counted. amount : how much of it.
    """

    text: str
    kind: Kind
    amount: float

    @classmethod
    def parse(cls, text: str) -> Budget:
        """A budget from words such as ``5m`` (minutes) or ``20Mtok`` (corpus tokens)."""
        match = re.fullmatch(r"\s*([0-9][0-9_]*\.?[0-9]*(?:[eE][+-]?[0-9]+)?)\s*([A-Za-z]+)\s*", text)
        unit = _UNITS.get(match[2].lower()) if match else None
        if match is None or unit is None:
            raise SightlineError(f"the budget {text!r} cannot be read", f"Write a number and a unit: {_EXAMPLES}")
        amount = float(match[1].replace("_", "")) * unit[1]
        if not amount > 0 or math.isinf(amount):
            raise SightlineError(f"the budget {text!r} buys nothing", f"Write more than zero: {_EXAMPLES}")
        return cls(text.strip(), unit[0], amount)

    def steps(self, tokens_per_step: float, flops_per_step: float, seconds_per_step: float | None) -> int:
        """Whole steps that the budget buys, at least one."""
        per_step: float | None = {
            "tokens": tokens_per_step,
            "steps": 1.0,
            "flops": flops_per_step,
            "seconds": seconds_per_step,
        }[self.kind]
        if not per_step:
            raise SightlineError(f"the budget {self.text} cannot be counted in steps", "Give tokens or steps instead")
        return max(1, round(self.amount / per_step))
