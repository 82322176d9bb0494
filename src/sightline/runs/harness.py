"""lm-evaluation-harness with our models: its own command line, where ``--model sightline`` is known.

    python -m sightline.runs.harness run --model sightline --model_args path=runs/mine --tasks blimp

In Python ``register()`` comes first, then ``lm_eval.simple_evaluate(model="sightline", model_args="path=runs/mine")``.
The harness has no entry point by which it would find models of other packages by itself.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import SightlineError

if TYPE_CHECKING:
    from ..objectives.model import Model


def register() -> type:
    """Make ``sightline`` known to the harness; its class.

    Raises
    ------
    SightlineError : the harness is not installed.
    """
    from ..evaluation.harness import adapter

    return adapter(_loaded)


def _loaded(path: str, device: str, dtype: str) -> Model:
    from .ready import ready

    if dtype not in ("float32", "bfloat16"):
        raise SightlineError(f"there are no numbers of the type {dtype!r} here", "Use float32 or bfloat16")
    with ready(Path(path), "", device, 0, dtype) as (_, model):  # type: ignore[arg-type]
        return model


def main() -> int:
    """The harness's command line."""
    try:
        register()
        from lm_eval.__main__ import cli_evaluate

        cli_evaluate()
    except SightlineError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
