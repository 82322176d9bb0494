from __future__ import annotations

from copy import deepcopy
from typing import Any

import numpy as np
import pytest

from sightline.sight import Slots, View, as_svg, as_text, by_place, everything, future, past


def score(
    name: str, value: float | None, half: float = 0.0, class_: str = "exact", column: str = "", **more: Any
) -> Any:
    ends = {"low": value - half, "high": value + half} if value is not None and half else {"low": None, "high": None}
    unit = "bits/byte" if name.endswith("bits_per_byte") else ""
    return {"name": name, "value": value, "unit": unit, "class": class_, "column": column, "n": 40, **ends, **more}


def family(name: str, bits: float, rule: Any, side: str = "left", **more: Any) -> dict[str, Any]:
    places = np.arange(6)
    view = View.of(Slots.of(places), rule, shows=places)
    seen, _ = by_place(view)
    steps = [1, 5, 20, 60, 120, 200]
    return {
        "family": name,
        "title": f"{name}: a way to read",
        "parameters": 803_456,
        "embedding_parameters": 262_144,
        "tokens_seen": 2_000_000,
        "slots_seen": 2_000_000,
        "asked": 1_990_000,
        "seconds": 41.5,
        "flops": 1.2e13,
        "tokens_per_second": 48_000 if name != "masked" else 40_000,
        "learning_rate": 0.003,
        "best_step": 200,
        "rule": str(rule),
        "stack": "transformer",
        "decoder": "one by one",
        "sight_svg": as_svg(seen, title=name),
        "sight_text": as_text(seen),
        "scores": [
            score("bits_per_byte", bits, 0.02, column="whole text", context_rule="each token given those before it"),
            score("understanding_accuracy", 0.71, 0.06, "task", "understanding", note="layer 2 chosen on dev"),
            score("chrf", 21.4, 1.5, "task", side),
            score("infill_chrf", 22.0, 1.5, "task", "both"),
        ],
        "samples": [
            {
                "kind": "beginning" if side == "right" else "continuation",
                "given": "[...] over the bridge" if side == "right" else "She walked [...]",
                "side": side,
                "written": "<script>alert('x')</script> & \x06 slowly",
                "truth": "home",
                "how": "one by one",
            }
        ],
        "curve": [
            {
                "step": at,
                "tokens": at * 10_000,
                "flops": at * 6e10,
                "seconds": at * 0.2,
                "loss": 3 + 4 / at,
                "dev_bits_per_byte": 2 + 2 / at,
            }
            for at in steps
        ],
        "seeds": [{"seed": 0}],
        **more,
    }


WHOLE: dict[str, Any] = {
    "schema": 1,
    "corpus": {"name": "page <one>", "bytes": 2_400_000, "split": "by content"},
    "budget": {"text": "2Mtok", "kind": "tokens", "amount": 2e6},
    "versions": {"python": "3.11", "torch": "2"},
    "machine": {"cores": 2},
    "command": "sightline compare page --families causal,backward,masked --budget 2Mtok",
    "seed": 0,
    "size": "tiny",
    "tokenizer": {"kind": "bpe", "size": 2048},
    "evaluation": {"note": "40 of 400 test documents, 100,000 bytes, drawn by seed"},
    "families": [
        family("causal", 2.1, past),
        family("backward", 2.15, future, "right"),
        family("masked", 1.2, everything),
    ],
    "floors": [{"name": "a copied training passage", "scores": [score("chrf", 14.0, 1.0, "task", "nothing")]}],
    "comparisons": [
        {"a": "causal", "b": "backward", "score": "bits_per_byte", "difference": -0.05, "low": -0.06, "high": -0.04}
    ],
}
WHOLE["families"][0]["scores"].insert(1, score("continuation_bits_per_byte", 2.0, 0.03, column="continuation"))
WHOLE["families"][1]["scores"].insert(
    1,
    score(
        "continuation_bits_per_byte", None, column="continuation", note="backward gives no likelihood of a continuation"
    ),
)
WHOLE["families"][2]["scores"][0].update({"class": "pseudo", "column": "infilling"})


@pytest.fixture
def results() -> dict[str, Any]:
    return deepcopy(WHOLE)
