"""CTranslate2's layout of a decoder, from our tensors.

Its own classes of specifications are filled and saved: ``model.bin``, ``config.json`` and ``vocabulary.json``. Tokens
have the names of their ids there, so that no text passes through a vocabulary of strings.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from ..objectives.causal import Causal
from ..objectives.model import Model
from ..sight import past
from ..stacks.head import Head
from ..stacks.parts import Activation
from ..stacks.transformer import Transformer
from ..stacks.two import Two

# Its activations by our names.
ACTIVATIONS: dict[Activation, str] = {"gelu": "GELU", "gelu_tanh": "GELUTanh", "relu": "RELU", "silu": "SWISH"}
LAST = "config.json"  # the file that is written last
REVISION = 1  # of what is written below; raise it when the same weights would be written otherwise


def lacks(model: Model) -> tuple[str, ...]:
    """What of a model CTranslate2 cannot do, in words; empty where it computes exactly this model."""
    stack, head, objective = model.stack, model.head, model.objective
    if isinstance(stack, Two):
        return ("an encoder and a decoder instead of one transformer",)
    if not isinstance(stack, Transformer):
        return (f"a {type(stack).__name__.lower()} instead of a transformer",)
    if not isinstance(head, Head):
        return (f"a {type(head).__name__.lower()} instead of a head that predicts tokens",)
    shape = stack.shape
    found = {
        f"the sight of {objective.family}": objective.family != Causal.family or objective.rule != past,
        "normed queries and keys": shape.qk_norm,
        f"the activation {shape.activation}": shape.activation not in ACTIVATIONS,
        f"{shape.positions} positions": shape.positions not in ("learned", "rope"),
        f"{shape.position_tables} tables of positions": shape.positions in ("learned", "rope")
        and shape.position_tables > 1,
        f"norms in {shape.norm_place} place": shape.norm_place != "pre",
        "a norm of the embedding": shape.embedding_norm,
        "a stretched rotation": shape.positions == "rope" and bool(shape.stretch),
        "a mixture of experts": shape.experts > 0,
        "scaled vectors of tokens": shape.embedding_scale != 1.0,
        "tables of another width": shape.of_table != shape.width,
        "no norm before the first attention": not shape.first_norm,
        "no norm at the end": not shape.final_norm,
        "windows": any(reach is not None for reach in shape.windows),
        "parallel blocks": shape.parallel,
        "a table of segments": shape.segments > 0,
        "a scale of its own for attention": shape.attention_scale != shape.of_head**-0.5,
        "a dense layer before the table": head.dense is not None,
        "a scale before the table": head.scale != 1.0,
    }
    return tuple(words for words, here in found.items() if here)


def named(id: int) -> str:
    """The token that stands for an id."""
    return str(id)


def state_of(model: Model) -> dict[str, Tensor]:
    """The tensors that decide what a model answers, in float32; a tied table once."""
    assert isinstance(model.stack, Transformer)
    tied = model.head.weight is getattr(model.stack.embedding, "weight", None)
    return {
        name: tensor.detach().float().cpu()
        for name, tensor in model.state_dict().items()
        if not (tied and name == "head.weight")
    }


def write(model: Model, folder: Path, quantization: str) -> None:
    """Write a model (one that lacks nothing) into an empty folder, its matrices in this type."""
    from ctranslate2.specs import Activation as Kind
    from ctranslate2.specs import TransformerDecoderModelSpec

    assert isinstance(model.stack, Transformer)
    shape, state = model.stack.shape, state_of(model)
    rotary = {"rotary_dim": 0, "rotary_interleave": False, "rotary_base": shape.rope_base}
    spec = TransformerDecoderModelSpec.from_config(
        shape.layers,
        shape.heads,
        activation=getattr(Kind, ACTIVATIONS[shape.activation]),
        ffn_glu=shape.gated,
        rms_norm=shape.norm == "rms",
        num_heads_kv=shape.shared_heads if shape.shared_heads != shape.heads else None,
        head_dim=shape.of_head if shape.of_head * shape.heads != shape.width else None,
        **(rotary if shape.positions == "rope" else {}),
    )
    decoder = spec.decoder
    decoder.scale_embeddings = False
    decoder.embeddings.weight = state["stack.embedding.weight"].clone()
    if shape.positions == "learned":
        decoder.position_encodings.encodings = state["stack.places.0.weight"].clone()
    for number, layer in enumerate(decoder.layer):
        name = f"stack.layers.{number}"
        _norm(layer.self_attention.layer_norm, state, f"{name}.norm_attention", shape.width)
        _linear(layer.self_attention.linear[0], state, f"{name}.attention.qkv")
        _linear(layer.self_attention.linear[1], state, f"{name}.attention.out")
        _norm(layer.ffn.layer_norm, state, f"{name}.norm_feed", shape.width)
        if shape.gated:
            _linear(layer.ffn.linear_0, state, f"{name}.feed.gate")
            _linear(layer.ffn.linear_0_noact, state, f"{name}.feed.up")
        else:
            _linear(layer.ffn.linear_0, state, f"{name}.feed.up")
        _linear(layer.ffn.linear_1, state, f"{name}.feed.down")
    _norm(decoder.layer_norm, state, "stack.norm_final", shape.width)
    _linear(decoder.projection, {"head.weight": state["stack.embedding.weight"], **state}, "head")
    spec.register_vocabulary([named(id) for id in range(shape.vocabulary)])
    spec.config.layer_norm_epsilon = shape.norm_eps
    marks = model.objective.vocabulary
    spec.config.bos_token, spec.config.eos_token = named(max(marks.bos, 0)), named(max(marks.eos, 0))
    spec.config.unk_token = named(0)
    spec.validate()
    spec.optimize(quantization)
    spec.save(str(folder))


def _linear(there: Any, state: Mapping[str, Tensor], name: str) -> None:
    """Copies: quantising works in place."""
    there.weight = state[f"{name}.weight"].clone()
    if f"{name}.bias" in state:
        there.bias = state[f"{name}.bias"].clone()


def _norm(there: Any, state: Mapping[str, Tensor], name: str, width: int) -> None:
    """A norm without gain or bias has ones and zeros there."""
    first = next(iter(state.values()))
    there.gamma = state.get(f"{name}.weight", first.new_ones(width)).clone()
    if hasattr(there, "beta"):
        there.beta = state.get(f"{name}.bias", first.new_zeros(width)).clone()
