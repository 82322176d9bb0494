"""One text, several families of language models, one budget, one honest page.

An objective says what each token may see and what is asked; a stack answers; a decoder writes. Every command of
``sightline`` is a function here with the same name and the same arguments::

    import sightline as sl

    sl.compare("python-docs", ...)

Nothing is loaded before it is used: ``import sightline`` costs milliseconds and does not import torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

__all__ = [
    "AR",
    "SightlineError",
    "__version__",
    "adopt",
    "analogy",
    "compare",
    "distill",
    "embed",
    "evaluate",
    "export",
    "families",
    "fill",
    "finetune",
    "forecast",
    "generate",
    "latency",
    "predict",
    "probe",
    "read",
    "score",
    "see",
    "similar",
    "train",
    "translate",
    "vectors",
    "versus",
]

if TYPE_CHECKING:
    from .data import read
    from .errors import SightlineError
    from .runs.adopt import adopt
    from .runs.compare import compare
    from .runs.distill import distill
    from .runs.embed import embed
    from .runs.evaluate import evaluate
    from .runs.export import export
    from .runs.families import families
    from .runs.finetune import finetune
    from .runs.forecast import forecast
    from .runs.latency import latency
    from .runs.lexicon import analogy, similar, vectors
    from .runs.predict import predict
    from .runs.probe import probe
    from .runs.score import score
    from .runs.see import see
    from .runs.train import train
    from .runs.translate import translate
    from .runs.versus import versus
    from .runs.write import fill, generate
    from .stacks.autoregression import AR

_HOMES = {
    "AR": "stacks.autoregression",
    "SightlineError": "errors",
    "adopt": "runs.adopt",
    "analogy": "runs.lexicon",
    "compare": "runs.compare",
    "distill": "runs.distill",
    "embed": "runs.embed",
    "export": "runs.export",
    "evaluate": "runs.evaluate",
    "families": "runs.families",
    "fill": "runs.write",
    "finetune": "runs.finetune",
    "forecast": "runs.forecast",
    "generate": "runs.write",
    "latency": "runs.latency",
    "predict": "runs.predict",
    "probe": "runs.probe",
    "read": "data",
    "score": "runs.score",
    "see": "runs.see",
    "similar": "runs.lexicon",
    "train": "runs.train",
    "translate": "runs.translate",
    "vectors": "runs.lexicon",
    "versus": "runs.versus",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(__all__))
