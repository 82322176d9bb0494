"""BART (Lewis et al., 2020), as transformers lays it out."""

from __future__ import annotations

from typing import Any

from ..objectives.denoise import Denoise
from ..objectives.seq2seq import Seq2Seq
from ..objectives.sides import SEEN
from ..stacks.shape import Shape
from .form import Architecture, Form, Link, Settings, activation_name

OFFSET = 2  # rows of its tables of positions before that of the first place


def _form(settings: Settings) -> Form:
    settings.insist("is_encoder_decoder", True)
    settings.insist("scale_embedding", False)
    settings.insist("tie_word_embeddings", True)  # else each stack has a table of its own
    return pair_form(settings, 50265)


def pair_form(settings: Settings, vocabulary: int) -> Form:
    """The form of BART, and of its heirs but for a few parts; ``vocabulary`` where config.json leaves it away."""
    heads, hidden = settings.whole("encoder_attention_heads", 16), settings.whole("encoder_ffn_dim", 4096)
    settings.insist("decoder_attention_heads", heads)
    settings.insist("decoder_ffn_dim", hidden)
    decoder = settings.whole("decoder_layers", 12)
    return Form(
        Shape(
            layers=settings.whole("encoder_layers", 12) + decoder,
            width=settings.whole("d_model", 1024),
            heads=heads,
            vocabulary=settings.whole("vocab_size", vocabulary),
            context=settings.whole("max_position_embeddings", 1024),
            hidden=hidden,
            norm_gain=True,
            norm_bias=True,
            norm_place="post",
            qk_norm=False,
            embedding_norm=True,
            final_norm=False,
            positions="learned",
            activation=settings.activation("activation_function", "gelu"),
            attention_bias=True,
            output_bias=True,
            feed_bias=True,
            dropout=settings.number("dropout", 0.1),
        ),
        tied=True,
        head_bias=True,
        decoder=decoder,
    )


def pair_settings(form: Form) -> dict[str, Any]:
    """What BART and its heirs call the sizes of both stacks."""
    shape, (encoder, decoder) = form.shape, form.depths
    return {
        "activation_function": activation_name(shape.activation),
        "attention_dropout": shape.dropout,
        "d_model": shape.width,
        "decoder_attention_heads": shape.heads,
        "decoder_ffn_dim": shape.feed,
        "decoder_layers": decoder,
        "dropout": shape.dropout,
        "encoder_attention_heads": shape.heads,
        "encoder_ffn_dim": shape.feed,
        "encoder_layers": encoder,
        "forced_eos_token_id": None,  # a text that is cut off at the most tokens is not ended by a mark
        "is_encoder_decoder": True,
        "max_position_embeddings": shape.context,
    }


def _settings(form: Form) -> dict[str, Any]:
    return pair_settings(form) | {"scale_embedding": False}


def layer_links(form: Form) -> list[Link]:
    """Every tensor of the layers of both stacks."""
    width = form.shape.width
    links = []
    parts = {
        "attention.out": "self_attn.out_proj",
        "norm_attention": "self_attn_layer_norm",
        "feed.up": "fc1",
        "feed.down": "fc2",
        "norm_feed": "final_layer_norm",
    }
    crossing = {
        "cross.queries": "encoder_attn.q_proj",
        "cross.out": "encoder_attn.out_proj",
        "norm_cross": "encoder_attn_layer_norm",
    }
    for side, layers in zip(("encoder", "decoder"), form.depths, strict=True):
        here, there = f"stack.{side}", f"model.{side}"
        for kind in ("weight", "bias"):
            for layer in range(layers):
                at, to = f"{here}.layers.{layer}", f"{there}.layers.{layer}"
                joined = {"attention.qkv": [f"self_attn.{part}_proj" for part in "qkv"]}
                single = parts
                if side == "decoder":
                    joined["cross.kv"] = [f"encoder_attn.{part}_proj" for part in "kv"]
                    single = parts | crossing
                for ours, names in joined.items():
                    theirs = tuple(f"{to}.{name}.{kind}" for name in names)
                    links.append(Link(f"{at}.{ours}.{kind}", theirs, (width,) * len(names)))
                links += [Link(f"{at}.{ours}.{kind}", (f"{to}.{name}.{kind}",)) for ours, name in single.items()]
    return links


def _links(form: Form) -> list[Link]:
    links = [Link("stack.embedding.weight", ("model.shared.weight",))]
    for side in ("encoder", "decoder"):
        here, there = f"stack.{side}", f"model.{side}"
        links.append(Link(f"{here}.places.0.weight", (f"{there}.embed_positions.weight",), skipped=OFFSET))
        for kind in ("weight", "bias"):
            links.append(Link(f"{here}.norm_embedding.{kind}", (f"{there}.layernorm_embedding.{kind}",)))
    links.append(Link("head.bias", ("final_logits_bias",), lifted=True, optional=True))
    return [*links, *layer_links(form)]


BART = Architecture(
    name="bart",
    class_name="BartForConditionalGeneration",
    family=Denoise,
    sight=SEEN,
    form=_form,
    settings=_settings,
    links=_links,
    table="lm_head.weight",
    prefix="model.",
    unused=r"model\.(en|de)coder\.(embed_tokens\.weight|version)$",  # old files hold the one table three times
    fields={"noise": "infilling", "rate": 0.3, "start": "eos"},
    also=(Seq2Seq,),
)
