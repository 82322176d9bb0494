"""BERT with its masked-token head (Devlin et al., 2019), as transformers lays it out."""

from __future__ import annotations

from typing import Any

from ..objectives.masked import Masked
from ..sight import everything
from ..stacks.shape import Shape
from .form import Architecture, Form, Link, Settings, activation_name


def encoder_shape(settings: Settings, width: int, heads: int, hidden: int, table: int | None = None) -> Shape:
    """The stack of BERT and its heirs; the sizes are those that a config.json may leave away."""
    settings.insist("is_decoder", False)
    settings.insist("add_cross_attention", False)
    settings.insist("position_embedding_type", "absolute")
    return Shape(
        layers=settings.whole("num_hidden_layers", 12),
        width=settings.whole("hidden_size", width),
        heads=settings.whole("num_attention_heads", heads),
        vocabulary=settings.whole("vocab_size", 30522),
        context=settings.whole("max_position_embeddings", 512),
        hidden=settings.whole("intermediate_size", hidden),
        table_width=table,
        norm_gain=True,
        norm_bias=True,
        norm_eps=settings.number("layer_norm_eps", 1e-12),
        norm_place="post",
        qk_norm=False,
        embedding_norm=True,
        final_norm=False,
        positions="learned",
        activation=settings.activation("hidden_act", "gelu"),
        attention_bias=True,
        output_bias=True,
        feed_bias=True,
        segments=settings.whole("type_vocab_size", 2),
        dropout=settings.number("hidden_dropout_prob", 0.1),
    )


def _form(settings: Settings) -> Form:
    shape = encoder_shape(settings, 768, 12, 3072)
    return Form(
        shape,
        tied=settings.flag("tie_word_embeddings", True),
        head_bias=True,
        transform=(shape.activation, "layer", shape.norm_eps),
    )


def encoder_settings(form: Form) -> dict[str, Any]:
    """What ``encoder_shape`` reads."""
    shape = form.shape
    return {
        "attention_probs_dropout_prob": shape.dropout,
        "hidden_act": activation_name(shape.activation),
        "hidden_dropout_prob": shape.dropout,
        "hidden_size": shape.width,
        "intermediate_size": shape.feed,
        "is_decoder": False,
        "layer_norm_eps": shape.norm_eps,
        "max_position_embeddings": shape.context,
        "num_attention_heads": shape.heads,
        "num_hidden_layers": shape.layers,
        "type_vocab_size": max(1, shape.segments),
    }


def encoder_links(form: Form, home: str, skipped: int = 0) -> list[Link]:
    """Every tensor of the stack, which transformers keeps under the name ``home``.

    ``skipped`` : rows of its table of positions before that of the first place.
    """
    shape = form.shape
    rows = (shape.width,) * 3
    tables = (("embedding", "word", 0), ("places.0", "position", skipped), ("segments", "token_type", 0))
    links = [
        Link(f"stack.{ours}.weight", (f"{home}.embeddings.{theirs}_embeddings.weight",), skipped=before)
        for ours, theirs, before in tables
    ]
    parts = {
        "attention.out": "attention.output.dense",
        "norm_attention": "attention.output.LayerNorm",
        "feed.up": "intermediate.dense",
        "feed.down": "output.dense",
        "norm_feed": "output.LayerNorm",
    }
    for kind in ("weight", "bias"):
        links.append(Link(f"stack.norm_embedding.{kind}", (f"{home}.embeddings.LayerNorm.{kind}",)))
        for layer in range(shape.layers):
            here, there = f"stack.layers.{layer}", f"{home}.encoder.layer.{layer}"
            joined = tuple(f"{there}.attention.self.{part}.{kind}" for part in ("query", "key", "value"))
            links.append(Link(f"{here}.attention.qkv.{kind}", joined, rows))
            links += [Link(f"{here}.{ours}.{kind}", (f"{there}.{theirs}.{kind}",)) for ours, theirs in parts.items()]
    return links


def _links(form: Form) -> list[Link]:
    links = encoder_links(form, "bert")
    for kind in ("weight", "bias"):
        links.append(Link(f"head.dense.{kind}", (f"cls.predictions.transform.dense.{kind}",)))
        links.append(Link(f"head.norm.{kind}", (f"cls.predictions.transform.LayerNorm.{kind}",)))
    links.append(Link("head.bias", ("cls.predictions.bias",)))
    if not form.tied:  # then transformers keeps two biases and adds the second
        links.append(Link("head.bias", ("cls.predictions.decoder.bias",)))
    return links


BERT = Architecture(
    name="bert",
    class_name="BertForMaskedLM",
    family=Masked,
    sight=everything,
    form=_form,
    settings=encoder_settings,
    links=_links,
    table="cls.predictions.decoder.weight",
    prefix="bert.",
    renamed=((r"LayerNorm\.gamma$", "LayerNorm.weight"), (r"LayerNorm\.beta$", "LayerNorm.bias")),
    # The bias of the table is stored twice by some; pooling and the next-sentence answer take no part.
    unused=r"bert\.(pooler\..*|embeddings\.position_ids)$|cls\.(seq_relationship\..*|predictions\.decoder\.bias)$",
)
