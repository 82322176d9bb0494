"""Qwen2 (Yang et al., 2024) and Qwen3 (Yang et al., 2025), as transformers lays them out.

Qwen2 is LLaMA with biases of queries, keys and values; Qwen3 has norms of queries and keys in their stead.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ..objectives.causal import Causal
from ..sight import past
from .form import Architecture, Form, Settings
from .llama import decoder_links, decoder_settings, decoder_shape

USUAL: Mapping[str, Any] = {"vocab_size": 151936, "intermediate_size": 22016, "max_position_embeddings": 32768}
HEAD = 128  # width of a Qwen3's head, where a config.json leaves it away


def _qwen2(settings: Settings) -> Form:
    settings.insist("use_sliding_window", False)
    shape = replace(decoder_shape(settings.over(USUAL)), attention_bias=True)
    return Form(shape, tied=settings.flag("tie_word_embeddings", False))


def _qwen3(settings: Settings) -> Form:
    settings.insist("use_sliding_window", False)
    own = settings.over({**USUAL, "head_dim": HEAD})
    shape = replace(decoder_shape(own, settings.flag("attention_bias", False)), qk_norm=True)
    return Form(shape, tied=settings.flag("tie_word_embeddings", False))


def _qwen2_settings(form: Form) -> dict[str, Any]:
    return decoder_settings(form) | {"use_sliding_window": False}


def _qwen3_settings(form: Form) -> dict[str, Any]:
    return decoder_settings(form) | {"attention_bias": form.shape.attention_bias, "use_sliding_window": False}


QWEN2 = Architecture(
    name="qwen2",
    class_name="Qwen2ForCausalLM",
    family=Causal,
    sight=past,
    form=_qwen2,
    settings=_qwen2_settings,
    links=decoder_links,
    table="lm_head.weight",
    prefix="model.",
    unused=r".*rotary_emb\.inv_freq$",
)

QWEN3 = Architecture(
    name="qwen3",
    class_name="Qwen3ForCausalLM",
    family=Causal,
    sight=past,
    form=_qwen3,
    settings=_qwen3_settings,
    links=decoder_links,
    table="lm_head.weight",
    prefix="model.",
)
