"""Makes of a transformer by name: what a published architecture does otherwise than the house, at any size."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from ..errors import SightlineError
from .parts import Activation, Norm
from .shape import Shape


@dataclass(frozen=True)
class Make:
    """A make.

    Parameters
    ----------
    changes : fields of the shape and their values. feed : width of the feed-forward layer as a multiple of the stack's.
    tied, head_bias, transform, transform_bias : of the head (see ``Head``).
    """

    changes: Mapping[str, Any] = field(default_factory=dict)
    feed: float = 4.0
    tied: bool = False
    head_bias: bool = False
    transform: tuple[Activation, Norm, float] | None = None
    transform_bias: bool = True

    def of(self, shape: Shape) -> Shape:
        """The house's shape of a size, in this make."""
        return replace(shape, hidden=round(self.feed * shape.width), **self.changes) if self.changes else shape


HOUSE = Make()
MAKES: dict[str, Make] = {
    "": HOUSE,
    # Radford et al. (2019); without the dropout of 0.1, which pays only where a text is read many times.
    "gpt2": Make(
        {
            "norm_bias": True,
            "qk_norm": False,
            "positions": "learned",
            "activation": "gelu_tanh",
            "attention_bias": True,
            "output_bias": True,
            "feed_bias": True,
        },
        tied=True,
    ),
    # Touvron et al. (2023). There a layer is 8/3 times the width, rounded up to 256; 2.75 is that of its small heirs.
    "llama": Make(
        {
            "norm": "rms",
            "norm_eps": 1e-5,
            "qk_norm": False,
            "rope_base": 10_000.0,
            "activation": "silu",
            "gated": True,
        },
        feed=2.75,
    ),
    # Devlin et al. (2019) as Liu et al. (RoBERTa, 2019) and Clark et al. (ELECTRA, 2020) took it over: one segment.
    "bert": Make(
        {
            "norm_bias": True,
            "norm_eps": 1e-12,
            "norm_place": "post",
            "qk_norm": False,
            "embedding_norm": True,
            "final_norm": False,
            "positions": "learned",
            "activation": "gelu",
            "attention_bias": True,
            "output_bias": True,
            "feed_bias": True,
            "segments": 1,
            "dropout": 0.1,
        },
        tied=True,
        head_bias=True,
        transform=("gelu", "layer", 1e-12),
    ),
    # Warner et al. (2024), by its repository: every third layer sees all, the others 64 tokens on either side. There
    # attention drops 10% of its output.
    "modernbert": Make(
        {
            "embedding_norm": True,
            "first_norm": False,
            "qk_norm": False,
            "rope_base": 10_000.0,
            "activation": "gelu",
            "gated": True,
            "windows": (None, 64, 64),
        },
        feed=1.5,
        tied=True,
        head_bias=True,
        transform=("gelu", "layer", 1e-5),
        transform_bias=False,
    ),
}


def make(name: str) -> Make:
    """The make of this name; the house's own has none."""
    if name not in MAKES:
        raise SightlineError(f"there is no make {name!r} of a stack", f"Choose from {', '.join(filter(None, MAKES))}")
    return MAKES[name]
