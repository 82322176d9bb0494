"""ModernBERT (Warner et al., 2024), as transformers lays it out.

Layers normed before, the first attention not at all; gates; of three layers two look a window far, and turn places by
a base of their own.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ..objectives.masked import Masked
from ..sight import everything
from ..stacks.shape import Shape
from .form import Architecture, Form, Link, Settings, activation_name
from .llama import rotation
from .mistral import NEAR, WHOLE, kinds_of, windows_by_layer


def _base(settings: Settings, kind: str, old: str, usual: float) -> float:
    """Of the rotation in one kind of layer; ``old`` : what it was called once."""
    kinds = settings.get("rope_parameters", {})
    own = kinds.get(kind) if isinstance(kinds, dict) else kinds
    return rotation(replace(settings, values={**settings.values, "rope_parameters": own}), usual, old)[0]


def _form(settings: Settings) -> Form:
    bias, norm_bias = settings.flag("attention_bias", False), settings.flag("norm_bias", False)
    settings.insist("classifier_bias", norm_bias)  # our head has a bias of dense layer and norm, or none
    layers, every = settings.whole("num_hidden_layers", 22), settings.whole("global_attn_every_n_layers", 3)
    reach, eps = settings.whole("local_attention", 128) // 2, settings.number("norm_eps", 1e-5)
    kinds = [WHOLE if layer % every == 0 else NEAR for layer in range(layers)]
    return Form(
        Shape(
            layers=layers,
            width=settings.whole("hidden_size", 768),
            heads=settings.whole("num_attention_heads", 12),
            vocabulary=settings.whole("vocab_size", 50368),
            context=settings.whole("max_position_embeddings", 8192),
            hidden=settings.whole("intermediate_size", 1152),
            norm_gain=True,
            norm_bias=norm_bias,
            norm_eps=eps,
            qk_norm=False,
            embedding_norm=True,
            first_norm=False,
            rope_base=_base(settings, WHOLE, "global_rope_theta", 160_000.0),
            window_base=_base(settings, NEAR, "local_rope_theta", 10_000.0),
            activation=settings.activation("hidden_activation", "gelu"),
            gated=True,
            attention_bias=bias,
            output_bias=bias,
            feed_bias=settings.flag("mlp_bias", False),
            windows=windows_by_layer(settings, layers, reach, kinds),
            dropout=settings.number("attention_dropout", 0.0),
        ),
        tied=settings.flag("tie_word_embeddings", True),
        head_bias=settings.flag("decoder_bias", True),
        transform=(settings.activation("classifier_activation", "gelu"), "layer", eps),
        transform_bias=norm_bias,
    )


def _settings(form: Form) -> dict[str, Any]:
    shape = form.shape
    reaches = [shape.window(layer) for layer in range(shape.layers)]
    bases = {WHOLE: shape.rope_base, NEAR: shape.window_base or shape.rope_base}
    return {
        "attention_bias": shape.attention_bias,
        "attention_dropout": shape.dropout,
        "classifier_activation": activation_name(form.transform[0] if form.transform else shape.activation),
        "classifier_bias": shape.norm_bias,
        "cls_token_id": None,
        "decoder_bias": form.head_bias,
        "embedding_dropout": shape.dropout,
        "hidden_activation": activation_name(shape.activation),
        "hidden_size": shape.width,
        "intermediate_size": shape.feed,
        "layer_types": kinds_of(shape),
        "local_attention": 2 * next((reach for reach in reaches if reach), 64),
        "max_position_embeddings": shape.context,
        "mlp_bias": shape.feed_bias,
        "mlp_dropout": shape.dropout,
        "norm_bias": shape.norm_bias,
        "norm_eps": shape.norm_eps,
        "num_attention_heads": shape.heads,
        "num_hidden_layers": shape.layers,
        "rope_parameters": {kind: {"rope_theta": base, "rope_type": "default"} for kind, base in bases.items()},
        "sep_token_id": None,
    }


def _links(form: Form) -> list[Link]:
    shape = form.shape
    links: list[Link] = []

    def link(ours: str, theirs: str, bias: bool, share: tuple[int, int] = (0, 1)) -> None:
        for kind in ("weight", "bias") if bias else ("weight",):
            links.append(Link(f"{ours}.{kind}", (f"{theirs}.{kind}",), share=share))

    link("stack.embedding", "model.embeddings.tok_embeddings", False)
    link("stack.norm_embedding", "model.embeddings.norm", shape.norm_bias)
    for layer in range(shape.layers):
        here, there = f"stack.layers.{layer}", f"model.layers.{layer}"
        if layer:
            link(f"{here}.norm_attention", f"{there}.attn_norm", shape.norm_bias)
        link(f"{here}.attention.qkv", f"{there}.attn.Wqkv", shape.attention_bias)
        link(f"{here}.attention.out", f"{there}.attn.Wo", shape.output_bias)
        link(f"{here}.norm_feed", f"{there}.mlp_norm", shape.norm_bias)
        link(f"{here}.feed.gate", f"{there}.mlp.Wi", shape.feed_bias, (0, 2))
        link(f"{here}.feed.up", f"{there}.mlp.Wi", shape.feed_bias, (1, 2))
        link(f"{here}.feed.down", f"{there}.mlp.Wo", shape.feed_bias)
    link("stack.norm_final", "model.final_norm", shape.norm_bias)
    link("head.dense", "head.dense", form.transform_bias)
    link("head.norm", "head.norm", form.transform_bias)
    if form.head_bias:
        links.append(Link("head.bias", ("decoder.bias",)))
    return links


MODERNBERT = Architecture(
    name="modernbert",
    class_name="ModernBertForMaskedLM",
    family=Masked,
    sight=everything,
    form=_form,
    settings=_settings,
    links=_links,
    table="decoder.weight",
    prefix="model.",
)
