"""Mixtral (Jiang et al., 2024), as transformers lays it out: Mistral with a mixture of experts in each layer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ..objectives.causal import Causal
from ..sight import past
from .form import Architecture, Form, Link, Settings
from .llama import attention_links, decoder_settings, decoder_shape
from .mistral import USUAL, window, window_settings

OWN: Mapping[str, Any] = {**USUAL, "rms_norm_eps": 1e-5, "rope_theta": 1_000_000.0}
PARTS = {"gate": "w1", "up": "w3", "down": "w2"}


def _form(settings: Settings) -> Form:
    shape = replace(
        decoder_shape(settings.over(OWN)),
        windows=window(settings, None),
        experts=settings.whole("num_local_experts", 8),
        chosen=settings.whole("num_experts_per_tok", 2),
        balance=settings.number("router_aux_loss_coef", 0.001),
    )
    return Form(shape, tied=settings.flag("tie_word_embeddings", False))


def _settings(form: Form) -> dict[str, Any]:
    own = {
        "num_experts_per_tok": form.shape.chosen,
        "num_local_experts": form.shape.experts,
        "router_aux_loss_coef": form.shape.balance,
    }
    return decoder_settings(form) | window_settings(form) | own


def _links(form: Form) -> list[Link]:
    links = attention_links(form)
    for layer in range(form.shape.layers):
        here, there = f"stack.layers.{layer}.feed", f"model.layers.{layer}.block_sparse_moe"
        links.append(Link(f"{here}.router.weight", (f"{there}.gate.weight",)))
        links += [
            Link(f"{here}.each.{expert}.{ours}.weight", (f"{there}.experts.{expert}.{theirs}.weight",))
            for expert in range(form.shape.experts)
            for ours, theirs in PARTS.items()
        ]
    return links


MIXTRAL = Architecture(
    name="mixtral",
    class_name="MixtralForCausalLM",
    family=Causal,
    sight=past,
    form=_form,
    settings=_settings,
    links=_links,
    table="lm_head.weight",
    prefix="model.",
)
