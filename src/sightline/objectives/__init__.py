"""What is asked: one file per family, and the model that binds objective, stack, head and tokenizer.

A family says what each slot shows, asks and may see, and names its natural stack and decoder; everything else is
derived. It knows no files, no devices, no steps and no learning rates.
"""

from .backward import Backward
from .base import Objective
from .blank import Blank
from .causal import Causal
from .masked import Masked
from .mix import Mix
from .ngram import NGram
from .prefix import Prefix

# Every family by its name, in the order in which they are told of. NumPy only: naming a family does not load torch.
FAMILIES: dict[str, type[Objective]] = {
    kind.family: kind for kind in (Causal, Backward, Masked, Prefix, Blank, Mix, NGram)
}

__all__ = ["FAMILIES", "Backward", "Blank", "Causal", "Masked", "Mix", "NGram", "Objective", "Prefix"]
