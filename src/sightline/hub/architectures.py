"""The architectures of transformers that this house reads and writes; a new one is one file with its map."""

from __future__ import annotations

from .bert import BERT
from .form import Architecture
from .gpt2 import GPT2
from .llama import LLAMA

ARCHITECTURES: dict[str, Architecture] = {one.name: one for one in (GPT2, LLAMA, BERT)}
