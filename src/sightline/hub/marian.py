"""Marian (Junczys-Dowmunt et al., 2018), as transformers lays it out: the first transformer, for translation.

Vaswani et al. (2017) with one table, sinusoids whose sines stand before their cosines, and stacks of any two depths
(a deep encoder and a shallow decoder: Kasai et al., 2021).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ..objectives.denoise import Denoise
from ..objectives.seq2seq import Seq2Seq
from ..objectives.sides import SEEN
from .bart import layer_links, pair_form, pair_settings
from .form import Architecture, Form, Link, Settings

EPS = 1e-5  # of every norm: no setting


def _form(settings: Settings) -> Form:
    settings.insist("is_encoder_decoder", True)
    settings.insist("tie_word_embeddings", True)
    settings.insist("share_encoder_decoder_embeddings", True)
    for other in ("normalize_before", "normalize_embedding", "add_final_layer_norm"):  # in old files
        settings.insist(other, False)
    form = pair_form(settings, 58101)
    shape = form.shape
    settings.insist("decoder_vocab_size", shape.vocabulary)
    shape = replace(
        shape,
        norm_eps=EPS,
        embedding_norm=False,
        positions="sinusoidal",
        sines_first=True,
        embedding_scale=shape.width**0.5 if settings.flag("scale_embedding", False) else 1.0,
    )
    return replace(form, shape=shape)


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
