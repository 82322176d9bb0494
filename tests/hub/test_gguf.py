"""GGUF: files are read back, every tensor is ours after the change of layout, and what llama.cpp lacks is named."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from tokenizers import Regex, decoders, models, normalizers, pre_tokenizers, processors
from tokenizers import Tokenizer as Engine

from sightline.data import Tokenizer, train_tokenizer
from sightline.errors import SightlineError
from sightline.hub import gguf as layout
from sightline.hub.gguf_tokens import GPT4, tokens_of
from sightline.objectives import FAMILIES
from sightline.objectives.causal import Causal
from sightline.objectives.denoise import Denoise
from sightline.objectives.masked import Masked
from sightline.objectives.model import Model, built
from sightline.stacks.head import Head
from sightline.stacks.makes import MAKES
from sightline.stacks.shape import Shape
from sightline.stacks.transformer import Transformer
from sightline.stacks.two import Two

TEXT = "Two roads met under the elm; 的确."
BIASES = {"attention_bias": True, "output_bias": True, "feed_bias": True}
GPT2 = {"norm_bias": True, "qk_norm": False, "positions": "learned", "activation": "gelu_tanh", **BIASES}
LLAMA = {"norm": "rms", "qk_norm": False, "activation": "silu", "gated": True, "kv_heads": 2, "rope_base": 500.0}
T5 = {"norm": "rms", "qk_norm": False, "positions": "relative", "activation": "relu", "scale": 1.0, "head_width": 16}
LAYOUTS: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "GPT-2": ("gpt2", GPT2, {}),
    "GPT-2, tied": ("gpt2", GPT2, {"tied": True}),
    "LLaMA": ("llama", LLAMA, {}),
    "LLaMA, tied, heads of their own": (
        "llama",
        LLAMA | {"kv_heads": 4, "head_width": 12, "hidden": 40},
        {"tied": True},
    ),
    "LLaMA, biases": ("llama", LLAMA | BIASES, {}),
    "T5 1.0": ("t5", T5, {"tied": True, "scale": 0.25}),
    "T5 1.1": ("t5", T5 | {"activation": "gelu_tanh", "gated": True}, {}),
}


@pytest.fixture(autouse=True)
def gguf(peer: Callable[[str], ModuleType]) -> ModuleType:
    """The package that reads the files back."""
    return peer("gguf")


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return train_tokenizer([TEXT * 20], "bpe", 400)


def model_of(tokenizer: Tokenizer, name: str) -> Model:
    """A small model whose every weight is drawn, biases and gains too."""
    arch, settings, ends = LAYOUTS[name]
    torch.manual_seed(5)
    shape = Shape(3, 32, 4, tokenizer.padded, 48, **settings)
    stack = Two(shape, 1) if arch == "t5" else Transformer(shape)
    tied = stack.embedding if ends.get("tied") else None
    head = Head(32, tokenizer.padded, tokenizer.unpredictable, tied=tied, scale=ends.get("scale", 1.0))
    with torch.no_grad():
        for weight in dict.fromkeys((*stack.parameters(), *head.parameters())):
            weight.add_(0.2 * torch.randn_like(weight))
    family = Denoise if arch == "t5" else Causal
    return Model(family(tokenizer.vocabulary), stack, head, tokenizer).eval()


def back(path: Path) -> tuple[dict[str, NDArray[np.float32]], dict[str, Any]]:
    """Tensors in float32 and settings of a file."""
    import gguf

    reader = gguf.GGUFReader(path)
    tensors = {one.name: gguf.quants.dequantize(one.data, one.tensor_type) for one in reader.tensors}
    return tensors, {key: field.contents() for key, field in reader.fields.items()}


def turned(rows: NDArray[np.float32], heads: int) -> NDArray[np.float32]:
    """Queries or keys of Hugging Face's layout in llama.cpp's, number by number."""
    out, size = np.empty_like(rows), len(rows) // heads
    for head in range(heads):
        for pair in range(size // 2):
            out[head * size + 2 * pair] = rows[head * size + pair]
            out[head * size + 2 * pair + 1] = rows[head * size + pair + size // 2]
    return out


@pytest.mark.parametrize("name", LAYOUTS)
def test_every_tensor_comes_back(name: str, tokenizer: Tokenizer, tmp_path: Path) -> None:
    model = model_of(tokenizer, name)
    made = layout.write(model, tmp_path / "model.gguf")
    tensors, settings = back(tmp_path / "model.gguf")
    assert made.architecture == settings["general.architecture"] == LAYOUTS[name][0]
    state = {key: tensor.numpy() for key, tensor in model.state_dict().items()}
    shape, rows = model.stack.shape, tokenizer.size
    wanted = {"token_embd.weight": state["stack.embedding.weight"][:rows]}
    if not LAYOUTS[name][2].get("tied"):
        wanted["output.weight"] = state["head.weight"][:rows]
    sizes = np.cumsum([count * shape.of_head for count in (shape.heads, shape.shared_heads)])
    for key, value in state.items():
        part = key.removeprefix("stack.")
        if part in ("embedding.weight", "head.weight"):
            continue
        part = part.replace("encoder.layers.", "enc.blk.").replace("decoder.layers.", "dec.blk.")
        part = part.replace("layers.", "blk.").replace("places.0", "position_embd")
        part = part.replace("encoder.", "enc.").replace("decoder.", "dec.").replace("norm_final", "output_norm")
        part = part.replace("relative", "blk.0.attn_rel_b").replace("norm_cross", "cross_attn_norm")
        part = part.replace("cross.queries", "cross_attn_q").replace("cross.out", "cross_attn_o")
        part = part.replace("norm_attention", "attn_norm").replace("norm_feed", "ffn_norm").replace("feed.", "ffn_")
        part = part.replace("attention.out", "attn_o" if "c." in part else "attn_output")
        if "attention.qkv" in part and LAYOUTS[name][0] != "gpt2":
            q, k, v = np.split(value, sizes)
            if LAYOUTS[name][0] == "llama":
                q, k = turned(q, shape.heads), turned(k, shape.shared_heads)
            wanted |= {
                part.replace("attention.qkv", f"attn_{one}"): it for one, it in zip("qkv", (q, k, v), strict=True)
            }
        elif "cross.kv" in part:
            k, v = np.split(value, 2)
            wanted |= {part.replace("cross.kv", f"cross_attn_{one}"): it for one, it in zip("kv", (k, v), strict=True)}
        else:
            wanted[part.replace("attention.qkv", "attn_qkv")] = value
    if "scale" in LAYOUTS[name][2]:
        wanted["dec.output_norm.weight"] = wanted["dec.output_norm.weight"] * np.float32(LAYOUTS[name][2]["scale"])
    assert tensors.keys() == wanted.keys()
    for key, value in wanted.items():
        np.testing.assert_array_equal(tensors[key], value, err_msg=key)


@pytest.mark.parametrize("name", LAYOUTS)
def test_names_are_those_of_the_architecture(name: str, tokenizer: Tokenizer, gguf: ModuleType) -> None:
    model = model_of(tokenizer, name)
    arch = next(key for key, value in gguf.MODEL_ARCH_NAMES.items() if value == LAYOUTS[name][0])
    known = {gguf.TENSOR_NAMES[one] for one in gguf.MODEL_TENSORS[arch]}
    for key in layout.tensors_of(model, layout.layout_of(model)):
        plain = key.rpartition(".")[0]
        assert any(plain == one.format(bid=bid) for one in known for bid in range(3)), key


def test_settings_and_vocabulary(tokenizer: Tokenizer, tmp_path: Path) -> None:
    layout.write(model_of(tokenizer, "LLaMA"), tmp_path / "m.gguf", name="mine", template="{{ it }}")
    _, settings = back(tmp_path / "m.gguf")
    expected = {
        "general.name": "mine",
        "general.file_type": 0,
        "llama.block_count": 3,
        "llama.context_length": 48,
        "llama.embedding_length": 32,
        "llama.feed_forward_length": 128,
        "llama.attention.head_count": 4,
        "llama.attention.head_count_kv": 2,
        "llama.attention.key_length": 8,
        "llama.rope.dimension_count": 8,
        "llama.rope.freq_base": 500.0,
        "llama.vocab_size": tokenizer.size,
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "gpt-2",
        "tokenizer.ggml.bos_token_id": tokenizer.bos,
        "tokenizer.ggml.eos_token_id": tokenizer.eos,
        "tokenizer.ggml.padding_token_id": tokenizer.pad,
        "tokenizer.ggml.add_bos_token": True,
        "tokenizer.ggml.suppress_tokens": [tokenizer.pad],
        "tokenizer.chat_template": "{{ it }}",
    }
    assert {key: settings[key] for key in expected} == expected
    assert settings["llama.attention.layer_norm_rms_epsilon"] == pytest.approx(1e-5)
    assert len(settings["tokenizer.ggml.tokens"]) == tokenizer.size
    assert settings["tokenizer.ggml.tokens"][tokenizer.mask or 0] == "<mask>"
    assert settings["tokenizer.ggml.token_type"].count(3) == len(tokenizer.vocabulary.specials)

    layout.write(model_of(tokenizer, "T5 1.0"), tmp_path / "t5.gguf")
    _, settings = back(tmp_path / "t5.gguf")
    assert (settings["t5.block_count"], settings["t5.decoder_block_count"]) == (2, 1)
    assert settings["t5.decoder_start_token_id"] == tokenizer.bos
    assert settings["t5.attention.relative_buckets_count"] == 32


@pytest.mark.parametrize(
    ("name", "template", "wanted"),
    [
        ("GPT-2", None, (True, False)),  # ours: as in training
        ("T5 1.0", None, (True, True)),
        ("GPT-2", "", (False, False)),  # GPT-2's and Qwen's, which leaves texts as they are
        ("LLaMA", "<s> $A", (True, False)),
        ("T5 1.0", "$A </s>", (False, True)),
    ],
)
def test_marks_around_a_text(name: str, template: str | None, wanted: tuple[bool, bool], tmp_path: Path) -> None:
    """As the tokenizer of the folder puts them, where it says so."""
    engine = Engine.from_str(train_tokenizer([TEXT * 20], "bpe", 400).told()[0])
    if template is not None:
        marks = [(mark, engine.token_to_id(mark)) for mark in ("<s>", "</s>") if mark in template]
        whole = processors.TemplateProcessing(single=template, special_tokens=marks) if template else None
        engine.post_processor = whole or processors.ByteLevel(trim_offsets=False)
    tokenizer = Tokenizer(engine)
    model = model_of(tokenizer, name)
    layout.write(model, tmp_path / "m.gguf")
    settings = back(tmp_path / "m.gguf")[1]
    assert (settings["tokenizer.ggml.add_bos_token"], settings["tokenizer.ggml.add_eos_token"]) == wanted
    assert "tokenizer.ggml.eot_token_id" not in settings


def test_the_end_of_a_turn(tokenizer: Tokenizer, tmp_path: Path) -> None:
    model = model_of(tokenizer, "LLaMA")
    model.objective = Causal(replace(tokenizer.vocabulary, ends=(tokenizer.need("sep"),)))
    layout.write(model, tmp_path / "m.gguf")
    settings = back(tmp_path / "m.gguf")[1]
    ends = [settings[f"tokenizer.ggml.{end}_token_id"] for end in ("eos", "eot")]
    assert ends == [tokenizer.eos, tokenizer.sep]


@pytest.mark.parametrize(("dtype", "bound"), [("f16", 5e-4), ("bf16", 4e-3), ("q8_0", 5e-3)])
def test_shorter_numbers_are_near(dtype: Any, bound: float, tokenizer: Tokenizer, tmp_path: Path) -> None:
    model = model_of(tokenizer, "GPT-2")
    layout.write(model, tmp_path / "whole.gguf")
    made = layout.write(model, tmp_path / "short.gguf", dtype)
    whole, short = back(tmp_path / "whole.gguf")[0], back(tmp_path / "short.gguf")[0]
    assert made.size < (tmp_path / "whole.gguf").stat().st_size * 0.7
    for key, value in whole.items():
        if value.ndim < 2 or key == "position_embd.weight":
            np.testing.assert_array_equal(short[key], value)
        else:
            assert 0 < np.abs(short[key] - value).max() <= bound * np.abs(value).max(), key


def test_rows_that_eight_bits_do_not_fit(tokenizer: Tokenizer, tmp_path: Path) -> None:
    made = layout.write(model_of(tokenizer, "LLaMA, tied, heads of their own"), tmp_path / "m.gguf", "q8_0")
    assert any("6 matrices are in f16" in note for note in made.notes)


def test_an_encoder_ends_with_its_states(tokenizer: Tokenizer, tmp_path: Path) -> None:
    make = MAKES["bert"]
    shape = make.of(Shape(2, 32, 4, tokenizer.padded, 48))
    model = built(Masked(tokenizer.vocabulary), shape, tokenizer, 1, make)
    made = layout.write(model, tmp_path / "m.gguf")
    tensors, settings = back(tmp_path / "m.gguf")
    assert made.architecture == "bert"
    state = {key: value.detach().numpy() for key, value in model.state_dict().items()}
    pairs = {
        "token_types.weight": state["stack.segments.weight"],
        "token_embd_norm.bias": state["stack.norm_embedding.bias"],
        "blk.1.attn_k.weight": state["stack.layers.1.attention.qkv.weight"][32:64],
        "blk.1.attn_output_norm.weight": state["stack.layers.1.norm_attention.weight"],
        "blk.0.layer_output_norm.bias": state["stack.layers.0.norm_feed.bias"],
    }
    for key, value in pairs.items():
        np.testing.assert_array_equal(tensors[key], value)
    assert "output.weight" not in tensors and not any("head" in key or "norm_final" in key for key in tensors)
    assert settings["bert.attention.causal"] is False and settings["bert.pooling_type"] == 1
    assert settings["tokenizer.ggml.add_eos_token"] and settings["tokenizer.ggml.token_type_count"] == 1


@pytest.mark.parametrize(
    ("family", "says"),
    [
        ("causal", "no such causal model: beside its llama, norm is layer"),
        ("masked", "no such masked model: beside its bert"),
        ("backward", "no architecture for backward"),
        ("prefix", "no architecture for prefix"),
        ("two_way", "no architecture for two_way"),
        ("blank", "no architecture for blank"),
        ("hybrid", "no architecture for hybrid"),
        ("bang", "no architecture for bang"),
        ("denoise", "no such denoise model: beside its t5"),
    ],
)
def test_what_llama_cpp_has_not_is_named(family: str, says: str, tokenizer: Tokenizer) -> None:
    model = built(FAMILIES[family](tokenizer.vocabulary), Shape(2, 32, 4, tokenizer.padded, 48), tokenizer)
    with pytest.raises(SightlineError, match=says) as caught:
        layout.layout_of(model)
    assert "\n" not in str(caught.value) and caught.value.do
    if family == "causal":
        assert "qk_norm is True (False there)" in str(caught.value) and "--like llama" in str(caught.value)


def test_a_decoder_deeper_than_its_encoder(tokenizer: Tokenizer) -> None:
    """llama.cpp refuses to open one."""
    model = model_of(tokenizer, "T5 1.1")
    model = Model(model.objective, Two(model.stack.shape, 2), model.head, tokenizer)
    with pytest.raises(SightlineError, match=r"decoder is 2 \(1 there\)"):
        layout.layout_of(model)


def test_a_failed_write_leaves_what_was_there(
    tokenizer: Tokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gguf: ModuleType
) -> None:
    path = tmp_path / "m.gguf"
    path.write_bytes(b"mine")
    plain = gguf.GGUFWriter.write_tensor_data

    def wrong(self: Any, tensor: NDArray[Any]) -> None:
        plain(self, tensor + 1)

    monkeypatch.setattr(gguf.GGUFWriter, "write_tensor_data", wrong)
    with pytest.raises(SightlineError, match="was not written whole"):
        layout.write(model_of(tokenizer, "GPT-2"), path)
    assert path.read_bytes() == b"mine" and list(tmp_path.iterdir()) == [path]


# -- tokenizers


def words_of(engine: Engine) -> Any:
    """What becomes of a tokenizer, whatever the model."""

    class Held:
        tokenizer = Tokenizer(engine)

    return tokens_of(Held())  # type: ignore[arg-type]


def test_each_kind_of_tokenizer() -> None:
    kinds = {kind: train_tokenizer([TEXT * 5], kind)._engine for kind in ("byte", "char")}
    found = {kind: words_of(engine) for kind, engine in kinds.items()}
    assert found["byte"].model == "gpt2" and found["byte"].merges == ["<pad> <pad>"]
    assert found["char"].model == "llama" and found["char"].flags == {"add_space_prefix": False}
    assert found["char"].types.count(6) == 256 and "▁" in found["char"].names and " " not in found["char"].names

    pieces = words_of(train_tokenizer([TEXT * 20], "wordpiece", 240)._engine)
    assert pieces.model == "bert" and pieces.flags["normalizer.lowercase"] is False
    assert "▁T" in pieces.names and "o" in pieces.names and not any(name.startswith("##") for name in pieces.names)
    assert pieces.names[pieces.unknown] == "<unk>"


def test_tokenizers_of_other_people() -> None:
    spaced = Engine(models.BPE({"<unk>": 0, "<0x0A>": 1, "▁": 2, "a": 3, "b": 4, "▁a": 5, "▁ab": 6},
                               [("▁", "a"), ("▁a", "b")], byte_fallback=True, unk_token="<unk>"))  # fmt: skip
    spaced.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    spaced.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    found = words_of(spaced)
    assert found.model == "llama" and found.flags == {"add_space_prefix": True} and found.unknown == 0
    assert found.scores[5] > found.scores[6] > found.scores[3]

    unigram = Engine(models.Unigram([("<unk>", 0.0), ("▁a", -1.5), ("b", -2.0)], 0))
    unigram.pre_tokenizer, unigram.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
    found = words_of(unigram)
    assert (found.model, found.unknown, found.types[0]) == ("t5", 0, 2)
    assert found.scores == [0.0, -1.5, -2.0] and found.flags["add_space_prefix"]

    first, pattern = train_tokenizer([TEXT * 20], "bpe", 400)._engine, r"\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|"
    assert "four digits" in words_of(first).notes[0]
    for name, there in (("llama-bpe", GPT4 % "{1,3}"), ("qwen2", GPT4 % "")):
        assert (pattern in there) is (name == "llama-bpe")
        cut = pre_tokenizers.Split(Regex(there), "isolated")
        first.pre_tokenizer = pre_tokenizers.Sequence([cut, pre_tokenizers.ByteLevel(False, use_regex=False)])
        assert (words_of(first).pre, words_of(first).notes) == (name, ())

    with pytest.raises(SightlineError, match="no tokenizer of word"):
        words_of(train_tokenizer([TEXT * 5], "word")._engine)
    odd = train_tokenizer([TEXT * 20], "bpe", 400)._engine
    odd.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split("x", "isolated"), pre_tokenizers.ByteLevel(False, use_regex=False)]
    )
    with pytest.raises(SightlineError, match="no tokenizer that cuts words by"):
        words_of(odd)
