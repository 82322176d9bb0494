"""What is asked: one file per family, and the model that binds objective, stack, head and tokenizer.

A family says what each slot shows, asks and may see, and names its natural stack and decoder; everything else is
derived. It knows no files, no devices, no steps and no learning rates.
"""

from .backward import Backward
from .bang import Bang
from .base import Objective
from .blank import Blank
from .block_diffusion import BlockDiffusion
from .causal import Causal
from .cbow import CBOW
from .cmlm import Cmlm
from .denoise import Denoise
from .diffusion import Diffusion
from .electra import Electra
from .hybrid import Hybrid
from .linear import LinearAR
from .masked import Masked
from .mix import Mix
from .nar import Nar
from .ngram import NGram
from .permuted import Permuted
from .prefix import Prefix
from .seq2seq import Seq2Seq
from .two_way import TwoWay

# Every family by its name, in the order in which they are told of. NumPy only: naming a family does not load torch.
FAMILIES: dict[str, type[Objective]] = {
    kind.family: kind
    for kind in (
        Causal,
        Backward,
        Masked,
        Electra,
        Prefix,
        Blank,
        Mix,
        Hybrid,
        Diffusion,
        BlockDiffusion,
        Permuted,
        TwoWay,
        Denoise,
        Bang,
        Seq2Seq,
        Nar,
        Cmlm,
        CBOW,
        NGram,
        LinearAR,
    )
}

__all__ = [
    "CBOW",
    "FAMILIES",
    "Backward",
    "Bang",
    "Blank",
    "BlockDiffusion",
    "Causal",
    "Cmlm",
    "Denoise",
    "Diffusion",
    "Electra",
    "Hybrid",
    "LinearAR",
    "Masked",
    "Mix",
    "NGram",
    "Nar",
    "Objective",
    "Permuted",
    "Prefix",
    "Seq2Seq",
    "TwoWay",
]
