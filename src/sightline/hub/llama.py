"""LLaMA (Touvron et al., 2023) with grouped-query attention (Ainslie et al., 2023), as transformers lays it out."""

from __future__ import annotations

from typing import Any

from ..objectives.causal import Causal
from ..sight import past
from ..stacks.transformer import Shape
from .form import Architecture, Form, Link, Settings, activation_name


def _rope_base(settings: Settings) -> float:
    """The base of the plain rotation; stretched rotations are refused."""
    rope = settings.get("rope_parameters") or settings.get("rope_scaling") or {}
    inner = Settings(rope if isinstance(rope, dict) else {"rope_type": rope}, f"{settings.file}, rope_parameters,")
    inner.insist("rope_type", "default")
    inner.insist("type", "default")
    return inner.number("rope_theta", settings.number("rope_theta", 10_000.0))


def _form(settings: Settings) -> Form:
    width, heads = settings.whole("hidden_size", 4096), settings.whole("num_attention_heads", 32)
    bias = settings.flag("attention_bias", False)
    return Form(
        Shape(
            layers=settings.whole("num_hidden_layers", 32),
            width=width,
            heads=heads,
            vocabulary=settings.whole("vocab_size", 32000),
            context=settings.whole("max_position_embeddings", 2048),
            kv_heads=settings.whole("num_key_value_heads", heads),
            head_width=settings.whole("head_dim", width // heads),
            hidden=settings.whole("intermediate_size", 11008),
            norm="rms",
            norm_gain=True,
            norm_eps=settings.number("rms_norm_eps", 1e-6),
            qk_norm=False,
            rope_base=_rope_base(settings),
            activation=settings.activation("hidden_act", "silu"),
            gated=True,
            attention_bias=bias,
            output_bias=bias,
            feed_bias=settings.flag("mlp_bias", False),
            dropout=settings.number("attention_dropout", 0.0),
        ),
        tied=settings.flag("tie_word_embeddings", False),
    )


def _settings(form: Form) -> dict[str, Any]:
    shape = form.shape
    return {
        "attention_bias": shape.attention_bias,
        "attention_dropout": shape.dropout,
        "head_dim": shape.of_head,
        "hidden_act": activation_name(shape.activation),
        "hidden_size": shape.width,
        "intermediate_size": shape.feed,
        "max_position_embeddings": shape.context,
        "mlp_bias": shape.feed_bias,
        "num_attention_heads": shape.heads,
        "num_hidden_layers": shape.layers,
        "num_key_value_heads": shape.shared_heads,
        "rms_norm_eps": shape.norm_eps,
        "rope_parameters": {"rope_theta": shape.rope_base, "rope_type": "default"},
        "rope_theta": shape.rope_base,
    }


def _links(form: Form) -> list[Link]:
    shape = form.shape
    rows = tuple(count * shape.of_head for count in (shape.heads, shape.shared_heads, shape.shared_heads))
    links = [Link("stack.embedding.weight", ("model.embed_tokens.weight",))]
    for layer in range(shape.layers):
        here, there = f"stack.layers.{layer}", f"model.layers.{layer}"
        links.append(Link(f"{here}.norm_attention.weight", (f"{there}.input_layernorm.weight",)))
        links.append(Link(f"{here}.norm_feed.weight", (f"{there}.post_attention_layernorm.weight",)))
        for kind in ("weight", "bias") if shape.attention_bias else ("weight",):
            joined = tuple(f"{there}.self_attn.{part}_proj.{kind}" for part in "qkv")
            links.append(Link(f"{here}.attention.qkv.{kind}", joined, rows))
            links.append(Link(f"{here}.attention.out.{kind}", (f"{there}.self_attn.o_proj.{kind}",)))
        for kind in ("weight", "bias") if shape.feed_bias else ("weight",):
            for part in ("gate", "up", "down"):
                links.append(Link(f"{here}.feed.{part}.{kind}", (f"{there}.mlp.{part}_proj.{kind}",)))
    links.append(Link("stack.norm_final.weight", ("model.norm.weight",)))
    return links


LLAMA = Architecture(
    name="llama",
    class_name="LlamaForCausalLM",
    family=Causal,
    sight=past,
    form=_form,
    settings=_settings,
    links=_links,
    table="lm_head.weight",
    prefix="model.",
    unused=r".*rotary_emb\.inv_freq$",
)
