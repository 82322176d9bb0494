"""Marian (Junczys-Dowmunt et al., 2018), as transformers lays it out: the first transformer, for translation.

Vaswani et al. (2017) with one table, sinusoids whose sines stand before their cosines, and stacks of any two depths
(a deep encoder and a shallow decoder: Kasai et al., 2021).
"""

from __future__ import annotations

from typing import Any

from ..objectives.denoise import Denoise
from ..objectives.seq2seq import Seq2Seq
from ..objectives.sides import SEEN
from ..stacks.transformer import Shape
from .bart import layer_links, pair_settings
from .form import Architecture, Form, Link, Settings

EPS = 1e-5  # of every norm: no setting


def _form(settings: Settings) -> Form:
    settings.insist("is_encoder_decoder", True)
    settings.insist("tie_word_embeddings", True)
    settings.insist("share_encoder_decoder_embeddings", True)
    for other in ("normalize_before", "normalize_embedding", "add_final_layer_norm"):  # in old files
        settings.insist(other, False)
    heads, hidden = settings.whole("encoder_attention_heads", 16), settings.whole("encoder_ffn_dim", 4096)
    vocabulary, width = settings.whole("vocab_size", 58101), settings.whole("d_model", 1024)
    settings.insist("decoder_attention_heads", heads)
    settings.insist("decoder_ffn_dim", hidden)
    settings.insist("decoder_vocab_size", vocabulary)
    decoder = settings.whole("decoder_layers", 12)
    return Form(
        Shape(
            layers=settings.whole("encoder_layers", 12) + decoder,
            width=width,
            heads=heads,
            vocabulary=vocabulary,
            context=settings.whole("max_position_embeddings", 1024),
            hidden=hidden,
            norm_gain=True,
            norm_bias=True,
            norm_eps=EPS,
            norm_place="post",
            qk_norm=False,
            final_norm=False,
            positions="sinusoidal",
            sines_first=True,
            embedding_scale=width**0.5 if settings.flag("scale_embedding", False) else 1.0,
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


def _settings(form: Form) -> dict[str, Any]:
    own = {"decoder_vocab_size": form.shape.vocabulary, "share_encoder_decoder_embeddings": True}
    return pair_settings(form) | own | {"scale_embedding": form.shape.embedding_scale != 1.0}


def _links(form: Form) -> list[Link]:
    links = [Link("stack.embedding.weight", ("model.shared.weight",)), *layer_links(form)]
    return [*links, Link("head.bias", ("final_logits_bias",), lifted=True, optional=True)]


MARIAN = Architecture(
    name="marian",
    class_name="MarianMTModel",
    family=Seq2Seq,
    sight=SEEN,
    form=_form,
    settings=_settings,
    links=_links,
    table="lm_head.weight",
    prefix="model.",
    # Sinusoids are no weights, and old files hold the one table three times.
    unused=r"model\.(en|de)coder\.embed_(positions|tokens)\.weight$",
    fields={"start": "pad"},
    also=(Denoise,),
)
