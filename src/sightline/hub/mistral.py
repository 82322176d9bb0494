"""Mistral 7B (Jiang et al., 2023), as transformers lays it out: LLaMA whose tokens look a window back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ..errors import SightlineError
from ..objectives.causal import Causal
from ..sight import past
from ..stacks.shape import Shape
from .form import Architecture, Form, Settings
from .llama import decoder_links, decoder_settings, decoder_shape

USUAL: Mapping[str, Any] = {"num_key_value_heads": 8, "intermediate_size": 14336, "max_position_embeddings": 131072}
WINDOW = 4096  # tokens that one sees, itself among them, where a config.json leaves the setting away


WHOLE, NEAR = "full_attention", "sliding_attention"  # what transformers calls layers without and with a window


def window(settings: Settings, usual: int | None) -> tuple[int | None, ...]:
    """Reach of the layers; null says that they see all that is past."""
    if usual is None or "sliding_window" in settings.values:
        usual = None if settings.get("sliding_window") is None else settings.whole("sliding_window")
    return () if usual is None else (usual - 1,)


def windows_by_layer(settings: Settings, layers: int, reach: int, usual: list[str]) -> tuple[int | None, ...]:
    """Reach of each layer; ``usual`` : their kinds, where ``layer_types`` does not tell them."""
    kinds = settings.get("layer_types", usual)
    if not isinstance(kinds, list) or len(kinds) != layers or not set(kinds) <= {WHOLE, NEAR}:
        raise SightlineError(
            f"{settings.file} says layer_types = {kinds!r}, where {layers} of {WHOLE} and {NEAR} are needed",
            "Correct it or copy it again",
        )
    return tuple(None if kind == WHOLE else reach for kind in kinds)


def kinds_of(shape: Shape) -> list[str]:
    """What ``windows_by_layer`` reads."""
    return [WHOLE if shape.window(layer) is None else NEAR for layer in range(shape.layers)]


def window_settings(form: Form) -> dict[str, Any]:
    """What ``window`` reads; of windows that differ no single number tells, and then the forms do not agree."""
    reach = form.shape.window(0)
    return {"sliding_window": None if reach is None else reach + 1}


def _form(settings: Settings) -> Form:
    shape = replace(decoder_shape(settings.over(USUAL)), windows=window(settings, WINDOW))
    return Form(shape, tied=settings.flag("tie_word_embeddings", False))


def _settings(form: Form) -> dict[str, Any]:
    return decoder_settings(form) | window_settings(form)


MISTRAL = Architecture(
    name="mistral",
    class_name="MistralForCausalLM",
    family=Causal,
    sight=past,
    form=_form,
    settings=_settings,
    links=decoder_links,
    table="lm_head.weight",
    prefix="model.",
    unused=r".*rotary_emb\.inv_freq$",
)
