"""GPT-2 (Radford et al., Language Models are Unsupervised Multitask Learners, 2019), as transformers lays it out."""

from __future__ import annotations

from typing import Any

from ..objectives.causal import Causal
from ..sight import past
from ..stacks.shape import Shape
from .form import Architecture, Form, Link, Settings, activation_name


def _form(settings: Settings) -> Form:
    settings.insist("scale_attn_weights", True)
    settings.insist("scale_attn_by_inverse_layer_idx", False)
    settings.insist("add_cross_attention", False)
    width = settings.whole("n_embd", 768)
    return Form(
        Shape(
            layers=settings.whole("n_layer", 12),
            width=width,
            heads=settings.whole("n_head", 12),
            vocabulary=settings.whole("vocab_size", 50257),
            context=settings.whole("n_positions", 1024),
            hidden=settings.whole("n_inner", 4 * width),
            norm_gain=True,
            norm_bias=True,
            norm_eps=settings.number("layer_norm_epsilon", 1e-5),
            qk_norm=False,
            positions="learned",
            activation=settings.activation("activation_function", "gelu_new"),
            attention_bias=True,
            output_bias=True,
            feed_bias=True,
            dropout=settings.number("resid_pdrop", 0.1),
        ),
        tied=settings.flag("tie_word_embeddings", True),
    )


def _settings(form: Form) -> dict[str, Any]:
    shape = form.shape
    return {
        "activation_function": activation_name(shape.activation),
        "attn_pdrop": shape.dropout,
        "embd_pdrop": shape.dropout,
        "layer_norm_epsilon": shape.norm_eps,
        "n_embd": shape.width,
        "n_head": shape.heads,
        "n_inner": shape.feed,
        "n_layer": shape.layers,
        "n_positions": shape.context,
        "resid_pdrop": shape.dropout,
    }


def _links(form: Form) -> list[Link]:
    links = [
        Link("stack.embedding.weight", ("transformer.wte.weight",)),
        Link("stack.places.0.weight", ("transformer.wpe.weight",)),
    ]
    parts = [
        ("norm_attention", "ln_1", False),
        ("attention.qkv", "attn.c_attn", True),
        ("attention.out", "attn.c_proj", True),
        ("norm_feed", "ln_2", False),
        ("feed.up", "mlp.c_fc", True),
        ("feed.down", "mlp.c_proj", True),
    ]
    for layer in range(form.shape.layers):
        for ours, theirs, turned in parts:
            here, there = f"stack.layers.{layer}.{ours}", f"transformer.h.{layer}.{theirs}"
            links.append(Link(f"{here}.weight", (f"{there}.weight",), turned=turned))
            links.append(Link(f"{here}.bias", (f"{there}.bias",)))
    links += [Link(f"stack.norm_final.{kind}", (f"transformer.ln_f.{kind}",)) for kind in ("weight", "bias")]
    return links


GPT2 = Architecture(
    name="gpt2",
    class_name="GPT2LMHeadModel",
    family=Causal,
    sight=past,
    form=_form,
    settings=_settings,
    links=_links,
    table="lm_head.weight",
    prefix="transformer.",
    unused=r"transformer\.h\.\d+\.attn\.(masked_)?bias$",
)
