"""T5 (Raffel et al., 2020), as transformers lays it out: version 1.0, and version 1.1 with its gate (Shazeer, 2020).

Version 1.0 reads and answers with one table and scales states before it; version 1.1 has a table for its answers, and
so has mT5 (Xue et al., 2021), which is one in a hundred languages.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ..objectives.denoise import Denoise
from ..objectives.seq2seq import Seq2Seq
from ..objectives.sides import SEEN
from ..stacks.parts import Activation
from ..stacks.shape import Shape
from .form import ACTIVATIONS, Architecture, Form, Link, Settings

# Activation and gate by the name of the feed-forward layer; the first name of each is the one we write.
FEEDS: dict[str, tuple[Activation, bool]] = {
    **{name: (activation, False) for name, activation in ACTIVATIONS.items()},
    **{f"gated-{name}": (activation, True) for name, activation in ACTIVATIONS.items()},
    "gated-gelu": ("gelu_tanh", True),  # whatever "gelu" is elsewhere
}
MT5_USUAL: Mapping[str, Any] = {
    "d_ff": 1024,
    "feed_forward_proj": "gated-gelu",
    "num_heads": 6,
    "num_layers": 8,
    "vocab_size": 250112,
}


def _form(settings: Settings) -> Form:
    settings.insist("is_encoder_decoder", True)
    width = settings.whole("d_model", 512)
    encoder = settings.whole("num_layers", 6)
    decoder = settings.whole("num_decoder_layers", encoder)
    activation, gated = settings.one_of("feed_forward_proj", "relu", FEEDS)
    tied = settings.flag("tie_word_embeddings", True)
    scaled = settings.flag("scale_decoder_outputs", tied)  # written by transformers 5, which calls every T5 tied
    return Form(
        Shape(
            layers=encoder + decoder,
            width=width,
            heads=settings.whole("num_heads", 8),
            vocabulary=settings.whole("vocab_size", 32128),
            context=settings.whole("n_positions", 512),
            head_width=settings.whole("d_kv", 64),
            hidden=settings.whole("d_ff", 2048),
            norm="rms",
            norm_gain=True,
            norm_eps=settings.number("layer_norm_epsilon", 1e-6),
            qk_norm=False,
            positions="relative",
            relative_buckets=settings.whole("relative_attention_num_buckets", 32),
            relative_furthest=settings.whole("relative_attention_max_distance", 128),
            activation=activation,
            gated=gated,
            dropout=settings.number("dropout_rate", 0.1),
            scale=1.0,
        ),
        tied=tied,
        scale=width**-0.5 if scaled else 1.0,
        decoder=decoder,
    )


def _settings(form: Form) -> dict[str, Any]:
    shape, (encoder, decoder) = form.shape, form.depths
    feed = (shape.activation, shape.gated)
    return {
        "d_ff": shape.feed,
        "d_kv": shape.of_head,
        "d_model": shape.width,
        "dropout_rate": shape.dropout,
        "feed_forward_proj": next((name for name, one in FEEDS.items() if one == feed), "relu"),  # else it does not fit
        "is_encoder_decoder": True,
        "layer_norm_epsilon": shape.norm_eps,
        "n_positions": shape.context,
        "num_decoder_layers": decoder,
        "num_heads": shape.heads,
        "num_layers": encoder,
        "relative_attention_max_distance": shape.relative_furthest,
        "relative_attention_num_buckets": shape.relative_buckets,
        "scale_decoder_outputs": form.scale != 1.0,
    }


def _links(form: Form) -> list[Link]:
    shape = form.shape
    rows = (shape.heads * shape.of_head,) * 3
    feeds = {"feed.gate": "wi_0", "feed.up": "wi_1"} if shape.gated else {"feed.up": "wi"}
    links = [Link("stack.embedding.weight", ("shared.weight",))]

    def link(ours: str, *theirs: str) -> None:
        sizes = rows[: len(theirs)] if len(theirs) > 1 else ()
        links.append(Link(f"stack.{ours}.weight", tuple(f"{name}.weight" for name in theirs), sizes))

    for side, layers in zip(("encoder", "decoder"), form.depths, strict=True):
        link(f"{side}.relative", f"{side}.block.0.layer.0.SelfAttention.relative_attention_bias")
        for layer in range(layers):
            here, there = f"{side}.layers.{layer}", f"{side}.block.{layer}.layer"
            link(f"{here}.attention.qkv", *(f"{there}.0.SelfAttention.{part}" for part in "qkv"))
            link(f"{here}.attention.out", f"{there}.0.SelfAttention.o")
            link(f"{here}.norm_attention", f"{there}.0.layer_norm")
            if side == "decoder":
                link(f"{here}.cross.queries", f"{there}.1.EncDecAttention.q")
                link(f"{here}.cross.kv", *(f"{there}.1.EncDecAttention.{part}" for part in "kv"))
                link(f"{here}.cross.out", f"{there}.1.EncDecAttention.o")
                link(f"{here}.norm_cross", f"{there}.1.layer_norm")
            last = 2 if side == "decoder" else 1
            for ours, theirs in (feeds | {"feed.down": "wo"}).items():
                link(f"{here}.{ours}", f"{there}.{last}.DenseReluDense.{theirs}")
            link(f"{here}.norm_feed", f"{there}.{last}.layer_norm")
        link(f"{side}.norm_final", f"{side}.final_layer_norm")
    return links


def _mt5_form(settings: Settings) -> Form:
    """A T5 1.1, whose states are not scaled whatever its config.json says of the table (two, in published files)."""
    return replace(_form(settings.over(MT5_USUAL)), scale=1.0)


def _mt5_settings(form: Form) -> dict[str, Any]:
    return {name: value for name, value in _settings(form).items() if name != "scale_decoder_outputs"}


T5 = Architecture(
    name="t5",
    class_name="T5ForConditionalGeneration",
    family=Denoise,
    sight=SEEN,
    form=_form,
    settings=_settings,
    links=_links,
    table="lm_head.weight",
    prefix="",
    # Old files hold the one table three times, and a table of distances across that was never read.
    unused=r"(en|de)coder\.(embed_tokens|block\.0\.layer\.1\.EncDecAttention\.relative_attention_bias)\.weight$",
    fields={"start": "pad"},
    also=(Seq2Seq,),
)

MT5 = replace(T5, name="mt5", class_name="MT5ForConditionalGeneration", form=_mt5_form, settings=_mt5_settings)
