"""The architectures of transformers that this house reads and writes; a new one is one file with its map."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .bart import BART
from .bert import BERT
from .electra import ELECTRA, ELECTRA_GENERATOR
from .form import Architecture
from .gpt2 import GPT2
from .llama import LLAMA
from .marian import MARIAN
from .mistral import MISTRAL
from .mixtral import MIXTRAL
from .modernbert import MODERNBERT
from .qwen import QWEN2, QWEN3
from .roberta import ROBERTA
from .t5 import MT5, T5

# Where several compute the same, the first is the one that we write, the plain one before its heirs, unless a model
# came as another.
ARCHITECTURES: dict[str, Architecture] = {
    one.class_name: one
    for one in (
        GPT2,
        LLAMA,
        MISTRAL,
        MIXTRAL,
        QWEN2,
        QWEN3,
        BERT,
        ROBERTA,
        MODERNBERT,
        ELECTRA,
        ELECTRA_GENERATOR,
        T5,
        MT5,
        BART,
        MARIAN,
    )
}


def architecture_of(config: Mapping[str, Any]) -> Architecture | None:
    """The architecture that a config.json names: by its class where several have one ``model_type``, else the first."""
    alike = [one for one in ARCHITECTURES.values() if one.name == config.get("model_type")]
    named = [one for one in alike if one.class_name in (config.get("architectures") or ())]
    return next(iter(named or alike), None)
