"""RoBERTa (Liu et al., 2019), as transformers lays it out: BERT whose places are counted from behind padding's id.

Where its head has the layers' activation it computes what a BERT does: trained here it is written as one, adopted as a
RoBERTa again.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ..errors import SightlineError
from ..objectives.masked import Masked
from ..sight import everything
from .bert import encoder_links, encoder_settings, encoder_shape
from .form import Architecture, Form, Link, Settings

PAD = 1  # id of padding where a config.json leaves it away


def _form(settings: Settings) -> Form:
    shape, pad = encoder_shape(settings, 768, 12, 3072), settings.get("pad_token_id", PAD)
    if not isinstance(pad, int) or not 0 <= pad < shape.context - 1:
        raise SightlineError(
            f"{settings.file} says pad_token_id = {pad!r}, which leaves no place of max_position_embeddings = "
            f"{shape.context}: a RoBERTa counts them from behind it",
            "Correct it or copy it again",
        )
    return Form(
        replace(shape, context=shape.context - pad - 1),
        tied=settings.flag("tie_word_embeddings", True),
        head_bias=True,
        transform=("gelu", "layer", shape.norm_eps),  # whatever the layers' activation is
        pad=pad,
    )


def _settings(form: Form) -> dict[str, Any]:
    return encoder_settings(form) | {"max_position_embeddings": form.shape.context + form.pad + 1}


def _links(form: Form) -> list[Link]:
    links = encoder_links(form, "roberta", skipped=form.pad + 1)
    for kind in ("weight", "bias"):
        links.append(Link(f"head.dense.{kind}", (f"lm_head.dense.{kind}",)))
        links.append(Link(f"head.norm.{kind}", (f"lm_head.layer_norm.{kind}",)))
    links.append(Link("head.bias", ("lm_head.bias",)))
    if not form.tied:  # then transformers keeps two biases and adds the second
        links.append(Link("head.bias", ("lm_head.decoder.bias",)))
    return links


ROBERTA = Architecture(
    name="roberta",
    class_name="RobertaForMaskedLM",
    family=Masked,
    sight=everything,
    form=_form,
    settings=_settings,
    links=_links,
    table="lm_head.decoder.weight",
    prefix="roberta.",
    # The bias of the table is stored twice by some; pooling takes no part.
    unused=r"roberta\.(pooler\..*|embeddings\.position_ids)$|lm_head\.decoder\.bias$",
)
