"""GGUF, the file of llama.cpp: which of its architectures a model is, the tensors under its names, and the settings.

    form --> the nearest that llama.cpp computes; equal? --> tensors renamed --> f32, f16, bf16 or q8_0 --> read back

A model is written only where llama.cpp computes the same function of the same tokens; the one liberty is named in
``notes``. Names and keys are those of the package gguf (extra ``export``), which also turns numbers into 8 bits.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import IO, Any, Literal

import numpy as np
from torch import Tensor

from ..errors import SightlineError
from ..files import fingerprint, whole_file
from ..objectives.causal import Causal
from ..objectives.denoise import Denoise
from ..objectives.model import Model
from ..objectives.seq2seq import Seq2Seq
from ..objectives.sides import SEEN
from ..progress import bar
from ..sight import everything, past
from ..stacks.head import Head
from ..stacks.shape import Shape
from ..stacks.transformer import Transformer
from ..stacks.two import Two
from .form import Form
from .gguf_tokens import Tokens, framed, tokens_of

Dtype = Literal["f32", "f16", "bf16", "q8_0"]
FILE_TYPES: dict[Dtype, int] = {"f32": 0, "f16": 1, "bf16": 32, "q8_0": 7}  # llama.cpp's ``LlamaFileType``
PLAIN = {"F32": "float32", "F16": "float16"}
BLOCK = 32  # numbers of a row that share a scale in q8_0
FURTHEST = 128  # distance of T5's last bucket, fixed in llama.cpp
WHOLE = re.compile(r"position_embd|token_types|attn_rel_b")  # tables that llama.cpp adds, and keeps in float32
NAME = re.compile(r"stack\.(?:(encoder|decoder)\.)?(?:layers\.(\d+)\.)?(.+)\.(weight|bias)")


@dataclass(frozen=True)
class Layout:
    """An architecture of llama.cpp.

    Parameters
    ----------
    name : ``general.architecture``.
    form : of a form, the nearest that it computes.
    parts : names of our tensors there, where those of ``SAME`` do not hold; several where it keeps one in parts.
    pairs : queries and keys are stored with the two numbers that turn together side by side.
    answers : it has a head; an encoder ends with its states.
    made_by : a command that trains one.
    """

    name: str
    form: Callable[[Form], Form]
    parts: Mapping[str, tuple[str, ...]]
    pairs: bool = False
    answers: bool = True
    made_by: str = ""


def _like(shape: Shape, free: tuple[str, ...], **fixed: Any) -> Shape:
    """A shape that is free in its sizes and in what is named; all else is fixed, or the stack's default."""
    sizes = ("layers", "width", "heads", "vocabulary", "context", "hidden", "norm_eps", "dropout", *free)
    return Shape(**{name: getattr(shape, name) for name in sizes}, **{"qk_norm": False, **fixed})


BIASES = {"attention_bias": True, "output_bias": True, "feed_bias": True}


def _gpt2(form: Form) -> Form:
    fixed = {"norm_bias": True, "positions": "learned", "activation": "gelu_tanh", **BIASES}
    return Form(_like(form.shape, (), **fixed), tied=form.tied)


def _llama(form: Form) -> Form:
    free = ("kv_heads", "head_width", "rope_base", *BIASES)
    return Form(_like(form.shape, free, norm="rms", activation="silu", gated=True), tied=form.tied)


def _bert(form: Form) -> Form:
    """Any head: none is written. Its activation is the hyperbolic one, for either of ours."""
    near = form.shape.activation if form.shape.activation in ("gelu", "gelu_tanh") else "gelu"
    place = {"norm_bias": True, "norm_place": "post", "embedding_norm": True, "final_norm": False}
    fixed = {**place, "positions": "learned", "activation": near}
    return replace(form, shape=_like(form.shape, ("segments", *BIASES), **fixed), body=None, decoder=None)


def _t5(form: Form) -> Form:
    free = ("head_width", "relative_buckets", "gated")
    activation = "gelu_tanh" if form.shape.gated else "relu"
    fixed = {"norm": "rms", "positions": "relative", "relative_furthest": FURTHEST, "scale": 1.0}
    shape = _like(form.shape, free, activation=activation, **fixed)
    shallow = min(form.depths)  # it keeps one list of layers, as long as the encoder's, and refuses a deeper decoder
    return Form(shape, tied=form.tied, scale=form.scale, decoder=shallow)


SAME = {
    "embedding": ("token_embd",),
    "places.0": ("position_embd",),
    "segments": ("token_types",),
    "norm_embedding": ("token_embd_norm",),
    "norm_attention": ("attn_norm",),
    "attention.qkv": ("attn_q", "attn_k", "attn_v"),
    "attention.out": ("attn_output",),
    "norm_feed": ("ffn_norm",),
    "feed.gate": ("ffn_gate",),
    "feed.up": ("ffn_up",),
    "feed.down": ("ffn_down",),
    "norm_final": ("output_norm",),
}
GPT2 = Layout("gpt2", _gpt2, {"attention.qkv": ("attn_qkv",)}, made_by="sightline train causal CORPUS --like gpt2")
LLAMA = Layout("llama", _llama, {}, pairs=True, made_by="sightline train causal CORPUS --like llama")
BERT = Layout(
    "bert",
    _bert,
    {"norm_attention": ("attn_output_norm",), "norm_feed": ("layer_output_norm",)},
    answers=False,
    made_by="sightline train masked CORPUS --like roberta",
)
T5 = Layout(
    "t5",
    _t5,
    {
        "attention.out": ("attn_o",),
        "relative": ("blk.0.attn_rel_b",),
        "norm_cross": ("cross_attn_norm",),
        "cross.queries": ("cross_attn_q",),
        "cross.kv": ("cross_attn_k", "cross_attn_v"),
        "cross.out": ("cross_attn_o",),
    },
)


@dataclass(frozen=True)
class Written:
    """What was written: the architecture, tensors and bytes of the file, and what a user of it must know."""

    architecture: str
    tensors: int
    size: int
    notes: tuple[str, ...]


def _candidates(model: Model) -> tuple[Layout, ...]:
    """The architectures with this model's sight and stacks; none where llama.cpp has no such sight."""
    objective = model.objective
    if isinstance(model.stack, Two):
        return (T5,) if objective.family in (Denoise.family, Seq2Seq.family) and objective.rule == SEEN else ()
    if not isinstance(model.stack, Transformer) or model.numbers:
        return ()
    if objective.rule == everything:
        return (BERT,)
    return (GPT2, LLAMA) if objective.family == Causal.family and objective.rule == past else ()


def _differences(layout: Layout, form: Form) -> list[str]:
    """Where a form is not what an architecture computes."""
    here, there = form.plain, layout.form(form).plain
    pairs: list[tuple[str, Any, Any]] = [(name.name, here.shape, there.shape) for name in fields(Shape)]
    pairs += [(name.name, here, there) for name in fields(Form) if name.name != "shape"]
    return [
        f"{name} is {getattr(one, name)} ({getattr(other, name)} there)"
        for name, one, other in pairs
        if getattr(one, name) != getattr(other, name)
    ]


def layout_of(model: Model) -> Layout:
    """The architecture of llama.cpp that computes exactly this model.

    Raises
    ------
    SightlineError : there is none; the sight, or every setting that the nearest lacks, is named.
    """
    objective, stack, head = model.objective, model.stack, model.head
    candidates = _candidates(model)
    if not candidates or not isinstance(stack, Transformer | Two):
        raise SightlineError(
            f"llama.cpp has no architecture for {objective.family}: it reads left to right (GPT-2, LLaMA), sees "
            "everything (BERT), or writes what an encoder read (T5)",
            "Export it as huggingface, or train causal, masked or denoise",
        )
    if candidates[0].answers and not isinstance(head, Head):
        raise SightlineError(f"llama.cpp has no head that answers as {objective.family}'s", "Export it as huggingface")
    form = Form.of(stack, head) if isinstance(head, Head) and candidates[0].answers else Form(stack.shape)
    lacking = {layout.name: _differences(layout, form) for layout in candidates}
    found = min(candidates, key=lambda layout: len(lacking[layout.name]))
    if lacking[found.name]:
        made = found.made_by or "Adopt a T5 and go on with it"
        raise SightlineError(
            f"llama.cpp has no such {objective.family} model: "
            f"beside its {found.name}, {', '.join(lacking[found.name])}",
            f"{made} makes one that it has" if found.made_by else made,
        )
    return found


def tensors_of(model: Model, layout: Layout) -> dict[str, Tensor]:
    """The tensors under llama.cpp's names, in float32, without the rows of ids that no text has.

    T5's scale before the table of answers has no place there and goes into the gain of the decoder's last norm.
    """
    stack, rows = model.stack, model.tokenizer.size
    assert isinstance(stack, Transformer | Two)
    shape, parts = stack.shape, {**SAME, **layout.parts}
    state = {name: tensor.detach().float().cpu() for name, tensor in model.state_dict().items()}
    tied = getattr(model.head, "weight", None) is getattr(stack.embedding, "weight", None)
    scale = model.head.scale if isinstance(model.head, Head) else 1.0
    found: dict[str, Tensor] = {}
    for ours, tensor in state.items():
        if ours == "head.weight":
            found |= {"output.weight": tensor[:rows]} if layout.answers and not tied else {}
            continue
        if (named := NAME.fullmatch(ours)) is None:
            continue  # of a head that is not written
        side, layer, part, kind = named.groups()
        where = ("" if side is None else f"{side[:3]}.") + ("" if layer is None else f"blk.{layer}.")
        names = parts[part]
        heads = (shape.heads, shape.shared_heads, shape.shared_heads)[-len(names) :]
        sizes = [count * shape.of_head for count in heads] if len(names) > 1 else [len(tensor)]
        for name, piece, count in zip(names, tensor.split(sizes), heads, strict=True):
            piece = _beside(piece, count) if layout.pairs and name in ("attn_q", "attn_k") else piece
            piece = piece[:rows] if part == "embedding" else piece
            piece = piece * scale if f"{where}{name}" == "dec.output_norm" else piece
            found[f"{where}{name}.{kind}"] = piece.contiguous()
    return found


def _beside(rows: Tensor, heads: int) -> Tensor:
    """Rows of each head, whose first half turns with the second, so that each stands beside its partner."""
    return rows.reshape(heads, 2, -1, *rows.shape[1:]).transpose(1, 2).reshape(rows.shape)


def write(model: Model, path: Path, dtype: Dtype = "f32", name: str = "", template: str | None = None) -> Written:
    """Write a GGUF file, read it back, then put it in its place.

    Parameters
    ----------
    dtype : of matrices; norms, biases and tables of places stay in float32. name : of the model. template : for chats.

    Raises
    ------
    SightlineError : llama.cpp has no such model or no such tokenizer, or the package gguf is missing.
    """
    layout, tokens = layout_of(model), tokens_of(model)
    gguf = _package()
    tensors = tensors_of(model, layout)
    kinds = {key: _kind(gguf, key, tensor, dtype) for key, tensor in tensors.items()}
    writer = gguf.GGUFWriter(None, layout.name)
    _settings(gguf, writer, model, layout, name or path.stem, dtype)
    _vocabulary(writer, model, layout, tokens, template)
    for key, tensor in tensors.items():
        room = tuple(gguf.quants.quant_shape_to_byte_shape(tensor.shape, kinds[key]))
        plain = PLAIN.get(kinds[key].name)  # NumPy's types are told by their numbers, others by their bytes
        stored = tuple(tensor.shape) if plain else room
        writer.add_tensor_info(key, stored, np.dtype(plain or "uint8"), math.prod(room), kinds[key])
    with whole_file(path, "w+b") as handle:
        writer.fout, writer.state = [handle], gguf.gguf_writer.WriterState.EMPTY
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        marks: dict[str, str] = {}
        with bar("writing", sum(tensor.numel() for tensor in tensors.values()), "numbers") as shown:
            for key, tensor in tensors.items():
                data = gguf.quants.quantize(tensor.numpy(), kinds[key])
                marks[key] = fingerprint(data.tobytes())
                writer.write_tensor_data(data)
                shown.advance(tensor.numel())
        handle.flush()
        size = handle.tell()
        _verified(gguf, handle, path, marks)
    return Written(layout.name, len(tensors), size, tuple(_notes(model, layout, tokens, dtype, kinds)))


def _package() -> Any:
    try:
        import gguf
    except ImportError as error:
        raise SightlineError(
            f"GGUF is written by a package that is missing ({error})", "pip install 'sightline[export]'"
        ) from error
    return gguf


def _kind(gguf: Any, key: str, tensor: Tensor, dtype: Dtype) -> Any:
    types = gguf.GGMLQuantizationType
    if dtype == "f32" or tensor.dim() < 2 or WHOLE.search(key):
        return types.F32
    if dtype == "q8_0" and tensor.shape[-1] % BLOCK:
        return types.F16
    return getattr(types, dtype.upper())


def _verified(gguf: Any, handle: IO[bytes], path: Path, marks: Mapping[str, str]) -> None:
    """What stands in the file is what was meant to, tensor by tensor."""
    back = {one.name: fingerprint(one.data.tobytes()) for one in gguf.GGUFReader(handle).tensors}
    if back != marks:
        wrong = next(key for key in {**marks, **back} if back.get(key) != marks.get(key))
        raise SightlineError(f"{path} was not written whole ({wrong} differs when it is read back)", "Check the disk")


def _settings(gguf: Any, writer: Any, model: Model, layout: Layout, name: str, dtype: Dtype) -> None:
    """Sizes and constants, under the keys that llama.cpp reads."""
    stack = model.stack
    assert isinstance(stack, Transformer | Two)
    shape = stack.shape
    decoder = stack.decoder_layers if isinstance(stack, Two) else 0
    writer.add_type("model")
    writer.add_name(name)
    writer.add_description(f"{model.objective.family}, written by Sightline")
    writer.add_file_type(FILE_TYPES[dtype])
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    writer.add_vocab_size(model.tokenizer.size)
    writer.add_context_length(shape.context)
    writer.add_embedding_length(shape.width)
    writer.add_block_count(shape.layers - decoder)
    writer.add_feed_forward_length(shape.feed)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.shared_heads)
    writer.add_key_length(shape.of_head)
    writer.add_value_length(shape.of_head)
    (writer.add_layer_norm_rms_eps if shape.norm == "rms" else writer.add_layer_norm_eps)(shape.norm_eps)
    if shape.positions == "rope":
        writer.add_rope_dimension_count(shape.of_head)
        writer.add_rope_freq_base(shape.rope_base)
    if layout is BERT:
        writer.add_causal_attention(False)
        writer.add_pooling_type(gguf.PoolingType.MEAN)
        writer.add_token_type_count(max(1, shape.segments))
    if decoder:
        writer.add_decoder_block_count(decoder)
        writer.add_relative_attn_buckets_count(shape.relative_buckets)
        writer.add_decoder_start_token_id(model.objective.begins_with)


def _vocabulary(writer: Any, model: Model, layout: Layout, tokens: Tokens, template: str | None) -> None:
    """Tokens, how texts are cut into them, and marks: around a text as its tokenizer says, or as in training."""
    writer.add_tokenizer_model(tokens.model)
    writer.add_tokenizer_pre(tokens.pre)
    writer.add_token_list(tokens.names)
    writer.add_token_types(tokens.types)
    if tokens.scores is not None:
        writer.add_token_scores(tokens.scores)
    if tokens.merges is not None:
        writer.add_token_merges(tokens.merges)
    for key, flag in tokens.flags.items():
        writer.add_bool(f"tokenizer.ggml.{key}", flag)
    if tokens.charsmap:
        writer.add_precompiled_charsmap(tokens.charsmap)
    if tokens.unknown is not None:
        writer.add_unk_token_id(tokens.unknown)
    ids = model.objective.vocabulary
    for mark, add in (("bos", writer.add_bos_token_id), ("eos", writer.add_eos_token_id)):
        if getattr(ids, mark) >= 0:
            add(getattr(ids, mark))
    for mark, add in (("pad", writer.add_pad_token_id), ("mask", writer.add_mask_token_id)):
        if getattr(ids, mark) >= 0:
            add(getattr(ids, mark))
    end = ids.eos if layout is BERT else ids.sep  # its tokenizer ends a text in what it calls sep
    if end >= 0:
        writer.add_sep_token_id(end)
    if ids.ends:
        writer.add_eot_token_id(ids.ends[0])  # it has one key for the end of a turn beside that of a text
    begins, ends = framed(model) or (ids.bos >= 0, layout in (BERT, T5))
    writer.add_add_bos_token(begins)
    writer.add_add_eos_token(ends)
    never = [int(id) for id in ids.unpredictable if id < model.tokenizer.size]
    if layout.answers and never:
        writer.add_array("tokenizer.ggml.suppress_tokens", sorted(never))
    if template:
        writer.add_chat_template(template)


def _notes(model: Model, layout: Layout, tokens: Tokens, dtype: Dtype, kinds: Mapping[str, Any]) -> Iterator[str]:
    yield from tokens.notes
    if layout is BERT:
        if getattr(model.stack, "shape").activation == "gelu":  # noqa: B009 - a transformer's
            yield "llama.cpp computes GELU by its approximation with tanh: states differ in the third digit"
        yield "llama.cpp's mean of a text's states counts its two marks, which sightline embed leaves out"
    ids = model.objective.vocabulary
    if layout is T5 and model.objective.reads == "pairs" and ids.sep != ids.eos:
        yield "a source ends in the mark sep, which llama.cpp does not add: end the text with it"
    coarse = sum(kind.name == "F16" for kind in kinds.values()) if dtype == "q8_0" else 0
    if coarse:
        yield f"{coarse} matrices are in f16: their rows are no multiple of {BLOCK}"
