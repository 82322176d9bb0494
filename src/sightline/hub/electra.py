"""ELECTRA (Clark et al., 2020), as transformers lays it out: the discriminator, and its generator.

Both are BERT's stack with tables of a width of their own and a projection behind them. A generator whose tables are as
wide as its states has none, computes what a BERT does, and is written as one.
"""

from __future__ import annotations

from typing import Any

from ..objectives.electra import Electra
from ..objectives.masked import Masked
from ..sight import everything
from ..stacks.shape import Shape
from .bert import encoder_links, encoder_settings, encoder_shape
from .form import Architecture, Form, Link, Settings


def _shape(settings: Settings) -> Shape:
    return encoder_shape(settings, 256, 4, 1024, settings.whole("embedding_size", 128))


def _discriminator(settings: Settings) -> Form:
    shape = _shape(settings)
    return Form(shape, judge=shape.activation)


def _generator(settings: Settings) -> Form:
    shape = _shape(settings)
    settings.insist("tie_word_embeddings", True)
    # gelu, whatever the layers' activation is
    return Form(shape, tied=True, head_bias=True, transform=("gelu", "layer", shape.norm_eps))


def _settings(form: Form) -> dict[str, Any]:
    return encoder_settings(form) | {"embedding_size": form.shape.of_table}


def _stack_links(form: Form) -> list[Link]:
    links = encoder_links(form, "electra")
    if form.shape.of_table != form.shape.width:
        links += [Link(f"stack.project.{kind}", (f"electra.embeddings_project.{kind}",)) for kind in ("weight", "bias")]
    return links


def _discriminator_links(form: Form) -> list[Link]:
    return [
        *_stack_links(form),
        *(Link(f"head.dense.{kind}", (f"discriminator_predictions.dense.{kind}",)) for kind in ("weight", "bias")),
        Link("head.bias", ("discriminator_predictions.dense_prediction.bias",)),
    ]


def _generator_links(form: Form) -> list[Link]:
    return [
        *_stack_links(form),
        *(Link(f"head.dense.{kind}", (f"generator_predictions.dense.{kind}",)) for kind in ("weight", "bias")),
        *(Link(f"head.norm.{kind}", (f"generator_predictions.LayerNorm.{kind}",)) for kind in ("weight", "bias")),
        Link("head.bias", ("generator_lm_head.bias",)),
    ]


ELECTRA = Architecture(
    name="electra",
    class_name="ElectraForPreTraining",
    family=Electra,
    sight=everything,
    form=_discriminator,
    settings=_settings,
    links=_discriminator_links,
    table="discriminator_predictions.dense_prediction.weight",
    prefix="electra.",
    unused=r"electra\.embeddings\.position_ids$",
)

ELECTRA_GENERATOR = Architecture(
    name="electra",
    class_name="ElectraForMaskedLM",
    family=Masked,
    sight=everything,
    form=_generator,
    settings=_settings,
    links=_generator_links,
    table="generator_lm_head.weight",
    prefix="electra.",
    unused=r"electra\.embeddings\.position_ids$",
)
