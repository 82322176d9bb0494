"""LLaMA (Touvron et al., 2023) with grouped-query attention (Ainslie et al., 2023), as transformers lays it out.

Mistral, Mixtral, Qwen2 and Qwen3 are this decoder with a change or two, each in a file of its own.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

from ..errors import SightlineError
from ..objectives.causal import Causal
from ..sight import past
from ..stacks.shape import Shape
from .form import Architecture, Form, Link, Settings, activation_name

LEARNED = "original_max_position_embeddings"  # the context that a rotation was learned in, before it was stretched
# Numbers of a stretched rotation by its kind, in the order of ``Shape.stretch``.
STRETCHES: dict[str, tuple[str, ...]] = {
    "default": (),
    "linear": ("factor",),
    "llama3": ("factor", "low_freq_factor", "high_freq_factor", LEARNED),
    "yarn": ("factor", LEARNED, "beta_fast", "beta_slow", "attention_factor"),
}


def rotation(
    settings: Settings, base: float = 10_000.0, name: str = "rope_theta", stretched: bool = False
) -> tuple[float, tuple[float, ...]]:
    """The base of a rotation, and how it is stretched, which most architectures are not; ``name`` : once, of the base.

    Raises
    ------
    SightlineError : it is stretched in a way that our stack does not compute.
    """
    rope = settings.get("rope_parameters") or settings.get("rope_scaling") or {}
    above = {LEARNED: learned} if (learned := settings.get(LEARNED)) else {}  # where both tell, this holds
    rope = {**rope, **above} if isinstance(rope, dict) else {"rope_type": rope}
    inner = Settings(rope, f"{settings.file}, rope_parameters,")
    told = replace(inner, values={"rope_type": inner.get("rope_type", inner.get("type"))})
    if not stretched:
        told.insist("rope_type", "default")
    names = told.one_of("rope_type", "default", STRETCHES)
    usual = {} if not names else _usual(settings, inner)
    parts = tuple(inner.number(name, usual.get(name, 0.0)) for name in names)
    if 0.0 in parts:
        raise SightlineError(
            f"{inner.file} gives no {names[parts.index(0.0)]} of its stretched rotation",
            "Copy it again: it belongs to another model or is cut",
        )
    return inner.number("rope_theta", settings.number(name, base)), parts


def _usual(settings: Settings, rope: Settings) -> dict[str, float]:
    """What a stretched rotation has where its table leaves numbers away; ``rope`` : the table."""
    context = float(settings.whole("max_position_embeddings", 2048))
    if rope.get("rope_type", rope.get("type")) != "yarn":
        return {LEARNED: context}
    rope.insist("truncate", True)
    factor = rope.number("factor", context / (rope.number(LEARNED, context) or context))
    part, whole = rope.number("mscale", 0.0), rope.number("mscale_all_dim", 0.0)
    sharper = _sharper(factor, part) / _sharper(factor, whole) if part and whole else _sharper(factor)
    return {"factor": factor, LEARNED: context, "beta_fast": 32.0, "beta_slow": 1.0, "attention_factor": sharper}


def _sharper(factor: float, share: float = 1.0) -> float:
    """What queries and keys grow by (YaRN: Peng et al., 2023, section 3.4); ``share`` of it (DeepSeek-V2, 2024)."""
    return 0.1 * share * math.log(factor) + 1.0 if factor > 1 else 1.0


def decoder_shape(settings: Settings, bias: bool = False) -> Shape:
    """The stack of LLaMA and its heirs; ``bias`` : of q, k, v and of the attention's output."""
    width, heads = settings.whole("hidden_size", 4096), settings.whole("num_attention_heads", 32)
    base, stretch = rotation(settings, stretched=True)
    return Shape(
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
        rope_base=base,
        stretch=stretch,
        activation=settings.activation("hidden_act", "silu"),
        gated=True,
        attention_bias=bias,
        output_bias=bias,
        dropout=settings.number("attention_dropout", 0.0),
    )


def decoder_settings(form: Form) -> dict[str, Any]:
    """What ``decoder_shape`` reads."""
    shape = form.shape
    kind = next(kind for kind, parts in STRETCHES.items() if len(parts) == len(shape.stretch))
    stretch = dict(zip(STRETCHES[kind], shape.stretch, strict=True))
    if LEARNED in stretch:
        stretch[LEARNED] = int(stretch[LEARNED])
    return {
        "attention_dropout": shape.dropout,
        "head_dim": shape.of_head,
        "hidden_act": activation_name(shape.activation),
        "hidden_size": shape.width,
        "intermediate_size": shape.feed,
        "max_position_embeddings": shape.context,
        "num_attention_heads": shape.heads,
        "num_hidden_layers": shape.layers,
        "num_key_value_heads": shape.shared_heads,
        "rms_norm_eps": shape.norm_eps,
        "rope_parameters": {"rope_theta": shape.rope_base, "rope_type": kind, **stretch},
        "rope_theta": shape.rope_base,
    }


def attention_links(form: Form) -> list[Link]:
    """Every tensor of the stack but those of its feed-forward layers."""
    shape = form.shape
    rows = tuple(count * shape.of_head for count in (shape.heads, shape.shared_heads, shape.shared_heads))
    links = [
        Link("stack.embedding.weight", ("model.embed_tokens.weight",)),
        Link("stack.norm_final.weight", ("model.norm.weight",)),
    ]
    for layer in range(shape.layers):
        here, there = f"stack.layers.{layer}", f"model.layers.{layer}"
        links.append(Link(f"{here}.norm_attention.weight", (f"{there}.input_layernorm.weight",)))
        links.append(Link(f"{here}.norm_feed.weight", (f"{there}.post_attention_layernorm.weight",)))
        for kind in ("weight", "bias") if shape.attention_bias else ("weight",):
            joined = tuple(f"{there}.self_attn.{part}_proj.{kind}" for part in "qkv")
            links.append(Link(f"{here}.attention.qkv.{kind}", joined, rows))
        for kind in ("weight", "bias") if shape.output_bias else ("weight",):
            links.append(Link(f"{here}.attention.out.{kind}", (f"{there}.self_attn.o_proj.{kind}",)))
        for part in "qk" if shape.qk_norm else "":
            links.append(Link(f"{here}.attention.norm_{part}.weight", (f"{there}.self_attn.{part}_norm.weight",)))
    return links


def decoder_links(form: Form) -> list[Link]:
    """Every tensor of the stack."""
    links = attention_links(form)
    for layer in range(form.shape.layers):
        for kind in ("weight", "bias") if form.shape.feed_bias else ("weight",):
            links += [
                Link(f"stack.layers.{layer}.feed.{part}.{kind}", (f"model.layers.{layer}.mlp.{part}_proj.{kind}",))
                for part in ("gate", "up", "down")
            ]
    return links


def _form(settings: Settings) -> Form:
    shape = decoder_shape(settings, settings.flag("attention_bias", False))
    shape = replace(shape, feed_bias=settings.flag("mlp_bias", False))
    return Form(shape, tied=settings.flag("tie_word_embeddings", False))


def _settings(form: Form) -> dict[str, Any]:
    shape = form.shape
    return decoder_settings(form) | {"attention_bias": shape.attention_bias, "mlp_bias": shape.feed_bias}


LLAMA = Architecture(
    name="llama",
    class_name="LlamaForCausalLM",
    family=Causal,
    sight=past,
    form=_form,
    settings=_settings,
    links=decoder_links,
    table="lm_head.weight",
    prefix="model.",
    unused=r".*rotary_emb\.inv_freq$",
)
