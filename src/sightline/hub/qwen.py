"""Qwen2 (Yang et al., 2024) and Qwen3 (Yang et al., 2025), as transformers lays them out.

Qwen2 is LLaMA with biases of queries, keys and values; Qwen3 has norms of queries and keys in their stead. Some layers
of either may look a window back.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, cast

from ..objectives.causal import Causal
from ..sight import past
from .form import Architecture, Form, Settings
from .llama import decoder_links, decoder_settings, decoder_shape
from .mistral import NEAR, WHOLE, WINDOW, kinds_of, window, windows_by_layer

USUAL: Mapping[str, Any] = {"vocab_size": 151936, "intermediate_size": 22016, "max_position_embeddings": 32768}
WHOLE_LAYERS = 28  # that have no window, where it leaves the setting away
HEAD = 128  # width of a Qwen3's head, where a config.json leaves it away


def _qwen2(settings: Settings) -> Form:
    shape = replace(decoder_shape(settings.over(USUAL)), attention_bias=True)
    return Form(
        replace(shape, windows=_windows(settings, shape.layers)), tied=settings.flag("tie_word_embeddings", False)
    )


def _qwen3(settings: Settings) -> Form:
    own = settings.over({**USUAL, "head_dim": HEAD})
    shape = replace(decoder_shape(own, settings.flag("attention_bias", False)), qk_norm=True)
    return Form(
        replace(shape, windows=_windows(settings, shape.layers)), tied=settings.flag("tie_word_embeddings", False)
    )


def _windows(settings: Settings, layers: int) -> tuple[int | None, ...]:
    """Reach of the layers: where there are windows, those of all but the first ``max_window_layers`` have one."""
    reach = window(settings, WINDOW) if settings.flag("use_sliding_window", False) else ()
    whole = settings.number("max_window_layers", WHOLE_LAYERS)
    kinds = [WHOLE if layer < whole else NEAR for layer in range(layers)]
    windows = () if not reach else windows_by_layer(settings, layers, cast(int, reach[0]), kinds)
    return windows if any(one is not None for one in windows) else ()


def _window_settings(form: Form) -> dict[str, Any]:
    """What ``_windows`` reads."""
    reaches = [reach for layer in range(form.shape.layers) if (reach := form.shape.window(layer)) is not None]
    if not reaches:
        return {"use_sliding_window": False}
    return {"layer_types": kinds_of(form.shape), "sliding_window": reaches[0] + 1, "use_sliding_window": True}


def _qwen2_settings(form: Form) -> dict[str, Any]:
    return decoder_settings(form) | _window_settings(form)


def _qwen3_settings(form: Form) -> dict[str, Any]:
    return decoder_settings(form) | {"attention_bias": form.shape.attention_bias} | _window_settings(form)


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
