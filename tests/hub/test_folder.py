"""Model folders: what is saved comes back, the same model is the same bytes, and what is broken is told in one line."""

from __future__ import annotations

import json
import pickle
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from sightline import hub
from sightline.data import Rows, Tokenizer, train_tokenizer
from sightline.errors import SightlineError
from sightline.hub import folder as folders
from sightline.hub.schema import fits
from sightline.objectives.backward import Backward
from sightline.objectives.bang import Bang
from sightline.objectives.base import Objective
from sightline.objectives.blank import Blank
from sightline.objectives.block_diffusion import BlockDiffusion
from sightline.objectives.causal import Causal
from sightline.objectives.cmlm import Cmlm
from sightline.objectives.denoise import Denoise
from sightline.objectives.diffusion import Diffusion
from sightline.objectives.electra import Electra
from sightline.objectives.hybrid import Hybrid
from sightline.objectives.masked import Masked
from sightline.objectives.mix import Mix
from sightline.objectives.model import Model, built
from sightline.objectives.nar import Nar
from sightline.objectives.ngram import NGram
from sightline.objectives.prefix import Prefix
from sightline.objectives.seq2seq import Seq2Seq
from sightline.objectives.two_way import TwoWay
from sightline.sight import Rule, everything
from sightline.stacks.head import Head
from sightline.stacks.shape import Shape
from sightline.stacks.transformer import Transformer
from sightline.stacks.two import Two

TEXT = "Two roads met under the elm; 的确."
GPT2 = {
    "norm_gain": True,
    "norm_bias": True,
    "qk_norm": False,
    "positions": "learned",
    "activation": "gelu_tanh",
    "attention_bias": True,
    "output_bias": True,
    "feed_bias": True,
}
LLAMA = {"norm": "rms", "norm_gain": True, "qk_norm": False, "activation": "silu", "gated": True}
T5 = {"norm": "rms", "qk_norm": False, "positions": "relative", "activation": "silu", "gated": True, "scale": 1.0}
BART = GPT2 | {"activation": "gelu", "norm_place": "post", "embedding_norm": True, "final_norm": False}


@dataclass(frozen=True)
class Mispaired(Causal):
    """A family of another package, which sees what it is asked for."""

    strength: float = 1.0
    family: ClassVar[str] = "mispaired"

    @property
    def rule(self) -> Rule:
        return everything


@dataclass(frozen=True)
class Peeping(Causal):
    """Calls itself causal and is not: transformers would compute something else."""

    @property
    def rule(self) -> Rule:
        return everything


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return train_tokenizer([TEXT], "byte")


def fresh(objective: Objective, tokenizer: Tokenizer, **changed: Any) -> Model:
    return built(objective, Shape(2, 16, 2, tokenizer.padded, 48, **changed), tokenizer, seed=3)


def logits(model: Model) -> np.ndarray:
    rows = Rows.of([model.tokenizer.encode(TEXT)], model.tokenizer)
    with torch.no_grad():
        return model.eval().head.logits(model.states(model.objective.read(rows), rows.tokens)).numpy()


@pytest.fixture
def saved(tokenizer: Tokenizer, tmp_path: Path) -> Path:
    return hub.save(fresh(Causal(tokenizer.vocabulary), tokenizer), tmp_path / "model")


@pytest.fixture
def llama(tokenizer: Tokenizer, tmp_path: Path) -> Path:
    """A folder in transformers' layout."""
    return hub.save(fresh(Causal(tokenizer.vocabulary), tokenizer, **LLAMA), tmp_path / "model")


def broken(folder: Path, says: str, **how: Any) -> None:
    """Loading must fail with one line that says so, and leave every file as it was."""
    before = {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}
    with pytest.raises(SightlineError, match=says) as caught:
        hub.load(folder, **how)
    assert "\n" not in str(caught.value)
    assert caught.value.do
    assert before == {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def edit(path: Path, **changed: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changed))


FAMILIES: list[Callable[[Any], Objective]] = [
    Causal,
    Backward,
    lambda v: Prefix(v, empty=0.25),
    lambda v: Masked(v, rate=0.3, rate_end=0.1, hide="span"),
    lambda v: Electra(v, rate=0.25, share=0.5),
    TwoWay,
    lambda v: TwoWay(v, "lstm"),
    lambda v: TwoWay(v, "original"),
    lambda v: Hybrid(v, masked=0.75, rate_end=None),
    lambda v: Diffusion(v, masks="counted", least=0.01),
    lambda v: BlockDiffusion(v, block=2, schedule="cosine"),
    lambda v: Blank(v, forget=0.1, shuffle=False),
    lambda v: Mix(v, members="ul2", by=2),
    lambda v: Denoise(v, encoder_layers=2, decoder_layers=1),
    lambda v: Denoise(v, "infilling", rate=0.3, start="eos"),
    lambda v: Bang(v, streams=3),
    lambda v: Cmlm(v, encoder_layers=2, decoder_layers=1),
    Nar,
]
KINDS = [
    "causal", "backward", "prefix", "masked", "electra",
    "two_way", "two_way, lstm", "two_way, original", "hybrid", "diffusion", "blocks", "blank", "mix",
    "denoise", "denoise, infilling", "bang", "cmlm", "nar",
]  # fmt: skip


@pytest.mark.parametrize("make", FAMILIES, ids=KINDS)
def test_every_family_comes_back(tokenizer: Tokenizer, tmp_path: Path, make: Callable[[Any], Objective]) -> None:
    model = fresh(make(tokenizer.vocabulary), tokenizer)
    hub.save(model, tmp_path / "model", recipe={"seed": 1}, results={"bits": 2.5}, data_fingerprint="abc")
    again = hub.load(tmp_path / "model")
    assert again.objective == model.objective
    assert again.stack.shape == model.stack.shape
    assert again.tokenizer.fingerprint == tokenizer.fingerprint
    assert (logits(again) == logits(model)).all()
    if model.lengths is not None and again.lengths is not None:
        assert (again.lengths.weight == model.lengths.weight).all() and again.lengths.barred.tolist() == [0]
    assert all(weight.requires_grad and not weight.is_meta for weight in again.parameters())
    config = json.loads((tmp_path / "model" / "config.json").read_text())
    assert config["model_type"] == "sightline"
    card = (tmp_path / "model" / "README.md").read_text()
    assert "bits | 2.5" in card
    assert "abc" in card
    assert "Sightline loads it." in card


def test_a_generator_comes_back_over_the_same_tables(tokenizer: Tokenizer, tmp_path: Path) -> None:
    model = fresh(Electra(tokenizer.vocabulary), tokenizer, positions="learned")
    folder = hub.save(model, tmp_path / "model")
    again = hub.load(folder)
    assert again.generator is not None and model.generator is not None
    assert (logits(again.generator) == logits(model.generator)).all()
    assert again.generator.stack.embedding is again.stack.embedding
    assert again.generator.stack.places is again.stack.places
    assert [name for name, _ in again.named_parameters()] == [name for name, _ in model.named_parameters()]
    assert hub.load(folder / "generator").objective == model.generator.objective
    other = hub.load(folder / "generator")
    with torch.no_grad():
        other.stack.embedding.weight.add_(1)
    hub.save(other, folder / "generator")
    broken(folder, "belong to different models: their tables differ")
    shutil.rmtree(folder / "generator")
    assert hub.load(folder).generator is None


SHAPES: list[dict[str, Any]] = [
    {"table_width": 24, "first_norm": False, "embedding_norm": True},
    {"windows": (None, 2), "dropout": 0.1, "parallel": True},
    {"windows": (None, 2), "window_base": 50.0},
    {"stretch": (4.0,)},
    {"stretch": (4.0, 16.0, 32.0, 1.0, 1.3)},
    {"positions": "relative", "norm_place": "sandwich", "kv_heads": 1, "norm": "rms", "norm_gain": True},
    {"position_tables": 2},
    {"experts": 3, "chosen": 1, "balance": 0.1},
    {"positions": "sinusoidal", "sines_first": True, "embedding_scale": 4.0},
    {"positions": "learned", "position_tables": 1, "segments": 2, "blank": True, "embedding_norm": True},
    {"positions": "alibi", "gated": True, "activation": "gelu", "head_width": 6, "hidden": 20, "scale": 0.5},
    GPT2,
    LLAMA | {"kv_heads": 1, "dropout": 0.1},
]


@pytest.mark.parametrize("changed", SHAPES, ids=range(len(SHAPES)))
def test_every_shape_comes_back(tokenizer: Tokenizer, tmp_path: Path, changed: dict[str, Any]) -> None:
    model = fresh(Causal(tokenizer.vocabulary), tokenizer, **changed)
    again = hub.load(hub.save(model, tmp_path / "model"))
    assert hub.Form(again.stack.shape).plain == hub.Form(model.stack.shape).plain
    assert (logits(again) == logits(model)).all()


@pytest.mark.parametrize("tied", [False, True])
def test_every_head_comes_back(tokenizer: Tokenizer, tmp_path: Path, tied: bool) -> None:
    objective = Masked(tokenizer.vocabulary)
    stack = Transformer(Shape(1, 16, 2, tokenizer.padded, 48))
    head = Head(
        16,
        tokenizer.padded,
        objective.vocabulary.unpredictable,
        stack.embedding if tied else None,
        bias=True,
        transform=("relu", "rms" if tied else "layer", 1e-3),
        scale=0.25 if tied else 1.0,
        transform_bias=tied,
    )
    torch.nn.init.normal_(head.bias)
    model = Model(objective, stack, head, tokenizer)
    again = hub.load(hub.save(model, tmp_path / "model"))
    assert (again.head.weight is again.stack.embedding.weight) == tied
    assert (logits(again) == logits(model)).all()


def test_a_table_comes_back(tokenizer: Tokenizer, tmp_path: Path) -> None:
    model = built(NGram(tokenizer.vocabulary, n=3), Shape(1, 16, 2, tokenizer.padded, 48), tokenizer)
    ids = np.concatenate([[tokenizer.bos], tokenizer.encode(TEXT * 3), [tokenizer.eos]])
    model.stack.fit(ids)
    again = hub.load(hub.save(model, tmp_path / "model"))
    assert again.objective == model.objective
    assert (logits(again) == logits(model)).all()


@pytest.mark.parametrize(
    ("make", "changed", "name"),
    [
        (Causal, GPT2, "gpt2"),
        (Causal, LLAMA, "llama"),
        (Causal, LLAMA | {"rope_base": 500.0, "kv_heads": 1, "hidden": 24, "head_width": 10}, "llama"),
        (Backward, LLAMA, "sightline"),
        (Prefix, LLAMA, "sightline"),
        (Peeping, LLAMA, "sightline"),
        (Causal, LLAMA | {"windows": (3,)}, "mistral"),
        (Causal, LLAMA | {"windows": (3, 3)}, "mistral"),
        (Causal, LLAMA | {"windows": (None, 3)}, "sightline"),
        (Causal, LLAMA | {"attention_bias": True}, "qwen2"),
        (Causal, LLAMA | {"attention_bias": True, "output_bias": True}, "llama"),
        (Causal, LLAMA | {"qk_norm": True}, "qwen3"),
        (Causal, LLAMA | {"experts": 3, "windows": (4,)}, "mixtral"),
        (Causal, LLAMA | {"experts": 3, "qk_norm": True}, "sightline"),
        (Causal, LLAMA | {"qk_norm": True, "windows": (None, 3)}, "qwen3"),
        (Causal, LLAMA | {"qk_norm": True, "windows": (3, 5)}, "sightline"),
        (Causal, LLAMA | {"windows": (None,)}, "llama"),
        (Causal, GPT2 | {"norm_bias": False}, "sightline"),
        (Causal, GPT2 | {"head_width": 6}, "sightline"),
        (Causal, GPT2 | {"parallel": True}, "sightline"),
        (Causal, {}, "sightline"),
        (Denoise, T5, "t5"),
        (Denoise, T5 | {"gated": False, "activation": "relu", "head_width": 6, "relative_furthest": 40}, "t5"),
        (Denoise, T5 | {"activation": "gelu"}, "sightline"),
        (Denoise, T5 | {"scale": None}, "sightline"),
        (Denoise, T5 | {"relative_both_ways": False}, "sightline"),
        (Denoise, BART, "sightline"),
        (Seq2Seq, T5, "t5"),
        (Causal, T5, "sightline"),
    ],
)
def test_transformers_is_named_only_where_it_computes_the_same(
    tokenizer: Tokenizer, tmp_path: Path, make: Any, changed: dict[str, Any], name: str
) -> None:
    folder = hub.save(fresh(make(tokenizer.vocabulary), tokenizer, **changed), tmp_path / "model")
    assert json.loads((folder / "config.json").read_text())["model_type"] == name


def test_the_same_model_is_the_same_bytes(tokenizer: Tokenizer, tmp_path: Path) -> None:
    folders = [
        hub.save(
            fresh(Causal(tokenizer.vocabulary), tokenizer), tmp_path / name, recipe={"b": [1, None], "a": {"c": None}}
        )
        for name in ("one", "two")
    ]
    files = [{path.name: path.read_bytes() for path in folder.iterdir()} for folder in folders]
    assert files[0] == files[1]
    assert set(files[0]) == {
        "README.md",
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "sightline.toml",
        "tokenizer.json",
        "tokenizer_config.json",
    }


def test_saving_again_replaces_a_model_and_nothing_else(tokenizer: Tokenizer, saved: Path, tmp_path: Path) -> None:
    model = fresh(Backward(tokenizer.vocabulary), tokenizer)
    assert hub.load(hub.save(model, saved)).objective.family == "backward"
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "thesis.txt").write_text("years of work")
    with pytest.raises(SightlineError, match="holds something else than a model"):
        hub.save(model, mine)
    assert (mine / "thesis.txt").read_text() == "years of work"


def test_a_full_disk_loses_nothing(tokenizer: Tokenizer, saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = {path.name: path.read_bytes() for path in saved.iterdir()}

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(folders, "card", full)
    with pytest.raises(SightlineError, match="No space left"):
        hub.save(fresh(Backward(tokenizer.vocabulary), tokenizer), saved)
    assert {path.name: path.read_bytes() for path in saved.iterdir()} == before
    assert list(saved.parent.iterdir()) == [saved]


def test_a_model_is_found_from_its_run(tokenizer: Tokenizer, tmp_path: Path) -> None:
    model = fresh(Causal(tokenizer.vocabulary), tokenizer)
    inner = hub.save(model, tmp_path / "compare" / "causal" / "seed-0" / "model")
    assert hub.located(inner) == hub.located(inner.parent) == hub.located(tmp_path / "compare") == inner
    hub.save(model, tmp_path / "compare" / "masked" / "model")
    with pytest.raises(SightlineError, match="holds 2 models") as caught:
        hub.located(tmp_path / "compare")
    assert str(inner) in str(caught.value)
    (tmp_path / "empty").mkdir()
    nothing = ((tmp_path / "none", "does not exist"), (tmp_path / "empty", "holds no model"), (__file__, "is a file"))
    for path, says in nothing:
        with pytest.raises(SightlineError, match=says):
            hub.located(path)


def test_a_file_cut_short(saved: Path) -> None:
    whole = {path.name: path.read_bytes() for path in saved.iterdir()}
    for name, says in (
        ("model.safetensors", "is not whole safetensors"),
        ("config.json", "is not whole JSON"),
        ("tokenizer.json", "is not a whole tokenizer"),
        ("sightline.toml", "is not whole TOML"),
    ):
        (saved / name).write_bytes(whole[name][: len(whole[name]) // 2].rstrip(b"\n") + b"[")
        broken(saved, says)
        (saved / name).write_bytes(whole[name])
    hub.load(saved)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("model.safetensors", "holds no weights"),
        ("tokenizer.json", "has no tokenizer.json"),
        ("sightline.toml", "sightline.toml is missing"),
        ("config.json", "holds no model"),
    ],
)
def test_a_missing_file(saved: Path, name: str, says: str) -> None:
    (saved / name).unlink()
    broken(saved, says)


def test_pickled_weights_are_refused_and_never_read(saved: Path, tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> tuple[Any, ...]:
            return Path.touch, (tmp_path / "exploded",)

    (saved / "model.safetensors").unlink()
    (saved / "pytorch_model.bin").write_bytes(pickle.dumps(Bomb()))
    broken(saved, r"pickled weights.*convert them once with transformers: Sightline.from_pretrained")
    assert not (tmp_path / "exploded").exists()


def test_shards_must_lie_in_the_folder(saved: Path) -> None:
    (saved / "model.safetensors").rename(saved / "model-1.safetensors")
    index = saved / "model.safetensors.index.json"
    for name, says in (("../x.safetensors", "does not list files of its own"), ("model-2.safetensors", "is missing")):
        index.write_text(json.dumps({"weight_map": {"a": name}}))
        broken(saved, says)
    index.write_text(json.dumps({"weight_map": {"a": "model-1.safetensors"}}))
    assert hub.load(saved).objective.family == "causal"


def test_an_architecture_that_is_not_known(saved: Path) -> None:
    edit(saved / "config.json", model_type="mystery")
    broken(
        saved,
        r"model_type = 'mystery'.*gpt2, llama, mistral, mixtral, qwen2, qwen3, bert, roberta, modernbert, electra, "
        "t5, mt5, bart, marian, sightline",
    )
    edit(saved / "config.json", model_type="sightline", layout=99)
    broken(saved, "layout 99")


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"num_hidden_layers": 3}, "disagree: layers is 3 and 2"),
        ({"intermediate_size": 10}, r"is 64 x 16, but config.json makes it 10 x 16"),
        ({"hidden_act": "tanh"}, "hidden_act = 'tanh'"),
        ({"hidden_size": "wide"}, "hidden_size = 'wide'"),
        ({"num_key_value_heads": 0}, "num_key_value_heads = 0"),
        ({"attention_bias": 1}, "attention_bias = 1"),
        ({"rms_norm_eps": -1}, "rms_norm_eps = -1"),
        ({"rope_parameters": {"rope_type": "dynamic", "factor": 4}}, "rope_type = 'dynamic'.*linear, llama3, yarn"),
        ({"rope_parameters": {"rope_type": "llama3", "factor": 4}}, "gives no low_freq_factor"),
        ({"attention_bias": True}, r"lacks model.layers.0.self_attn.q_proj.bias and 7 more"),
        ({"quantization_config": {"bits": 4}}, "quantised"),
        ({"vocab_size": 128}, "disagree: vocabulary is 128"),
    ],
)
def test_settings_that_do_not_fit(llama: Path, changed: dict[str, Any], says: str) -> None:
    edit(llama / "config.json", **changed)
    broken(llama, says)


def bart_like(tokenizer: Tokenizer) -> Model:
    objective = Denoise(tokenizer.vocabulary, "infilling", start="eos")
    stack = Two(Shape(2, 16, 2, tokenizer.padded, 48, **BART), 1)
    form = hub.Form(stack.shape, tied=True, head_bias=True, decoder=1)
    return Model(objective, stack, form.head(stack, objective.vocabulary.unpredictable), tokenizer)


@pytest.mark.parametrize(
    ("name", "changed", "says"),
    [
        ("t5", {"feed_forward_proj": "gated-tanh"}, r"feed_forward_proj = 'gated-tanh', where one of .*gated-gelu"),
        ("t5", {"feed_forward_proj": ["relu"]}, r"feed_forward_proj = \['relu'\]"),
        ("t5", {"is_encoder_decoder": False}, "is_encoder_decoder = False"),
        ("t5", {"num_decoder_layers": 2}, "disagree: layers is 3 and 2"),
        ("t5", {"num_decoder_layers": 0}, "num_decoder_layers = 0"),
        ("t5", {"scale_decoder_outputs": 1}, "scale_decoder_outputs = 1"),
        ("bart", {"scale_embedding": True}, "scale_embedding = True"),
        ("bart", {"tie_word_embeddings": False}, "tie_word_embeddings = False"),
        ("bart", {"decoder_ffn_dim": 32}, "decoder_ffn_dim = 32"),
        ("bart", {"decoder_attention_heads": 1}, "decoder_attention_heads = 1"),
        ("bart", {"max_position_embeddings": 40}, "embed_positions.weight in .* is 50 x 16, .* makes it 42 x 16"),
    ],
)
def test_settings_of_two_stacks_that_do_not_fit(
    tokenizer: Tokenizer, tmp_path: Path, name: str, changed: dict[str, Any], says: str
) -> None:
    model = bart_like(tokenizer) if name == "bart" else fresh(Denoise(tokenizer.vocabulary), tokenizer, **T5)
    folder = hub.save(model, tmp_path / "model")
    assert json.loads((folder / "config.json").read_text())["model_type"] == name
    edit(folder / "config.json", **changed)
    broken(folder, says)


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"decoder": None}, "lacks stack.layers.0.attention.qkv.weight"),
        ({"decoder": 2}, "cannot be an encoder and a decoder of 2"),
        ({"decoder": "deep"}, "decoder = 'deep'"),
        ({"stack": "transformer"}, "lacks stack.layers.0.attention.qkv.weight"),
    ],
)
def test_two_stacks_of_ours_that_do_not_fit(
    tokenizer: Tokenizer, tmp_path: Path, changed: dict[str, Any], says: str
) -> None:
    folder = hub.save(fresh(Denoise(tokenizer.vocabulary), tokenizer), tmp_path / "model")
    edit(folder / "config.json", **changed)
    broken(folder, says)


def test_a_target_that_begins_otherwise(tokenizer: Tokenizer, tmp_path: Path) -> None:
    folder = hub.save(bart_like(tokenizer), tmp_path / "model")
    for file in ("config.json", "generation_config.json"):
        assert json.loads((folder / file).read_text())["decoder_start_token_id"] == tokenizer.eos
    (folder / "sightline.toml").unlink()
    assert hub.load(folder).objective == Denoise(tokenizer.vocabulary, "infilling", rate=0.3, start="eos")
    edit(folder / "config.json", decoder_start_token_id=tokenizer.mask)
    broken(folder, f"decoder_start_token_id = {tokenizer.mask}.*only {tokenizer.eos}")


def test_a_folder_without_our_notes_is_adopted(llama: Path, tokenizer: Tokenizer) -> None:
    (llama / "sightline.toml").unlink()
    assert hub.load(llama).objective == Causal(tokenizer.vocabulary)
    edit(llama / "config.json", vocab_size=128)
    broken(llama, "knows 365 ids, but the model has 128 rows")


def test_weights_of_another_model(llama: Path) -> None:
    file = llama / "model.safetensors"
    tensors = load_file(file)
    save_file(tensors | {"score.weight": torch.zeros(2)}, file)
    broken(llama, r"holds score.weight, for which a LlamaForCausalLM has no place")
    save_file({name: tensor for name, tensor in tensors.items() if "norm" not in name}, file)
    broken(llama, r"lacks model.norm.weight and 4 more")


def test_own_weights_that_do_not_fit(saved: Path) -> None:
    file = saved / "model.safetensors"
    tensors = load_file(file)
    save_file(tensors | {"stack.embedding.weight": torch.zeros(3, 3)}, file)
    broken(saved, r"stack.embedding.weight in .* is 3 x 3, but config.json makes it 384 x 16")
    save_file(tensors | {"extra": torch.zeros(1)}, file)
    broken(saved, "holds extra, which config.json has no place for")
    del tensors["head.weight"]
    save_file(tensors, file)
    broken(saved, "lacks head.weight")


def test_another_tokenizer(saved: Path) -> None:
    train_tokenizer([TEXT], "char").save(saved)
    broken(saved, "is not the one the model was trained with")


def test_own_settings_that_do_not_fit(saved: Path) -> None:
    config = json.loads((saved / "config.json").read_text())
    for changed, says in (
        ({"layers": "two"}, "layers = 'two'"),
        ({"colour": 1}, "a setting 'colour'"),
        ({"heads": 3}, "does not divide into 3 heads"),
    ):
        edit(saved / "config.json", shape=config["shape"] | changed)
        broken(saved, says)
    edit(saved / "config.json", shape=None)
    broken(saved, "does not give the shape and the head")


def noted(folder: Path, pattern: str, replacement: str) -> None:
    file = folder / "sightline.toml"
    text, count = re.subn(pattern, replacement, file.read_text())
    assert count
    file.write_text(text)


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("os:system", "code of os is not run unasked"),
        ("sightline_evil.x:Y", "code of sightline_evil is not run unasked"),
        ("sightline.objectives.causal:Missing", "is not to be had"),
        ("sightline.objectives.nowhere:Causal", "is not to be had"),
        ("sightline.stacks.shape:Shape", "is no objective"),
        ("sightline.objectives.causal.Causal", "names no objective"),
        ("__import__('os')", "names no objective"),
    ],
)
def test_an_objective_that_is_none(saved: Path, path: str, says: str) -> None:
    noted(saved, r'class = ".*"', f'class = "{path}"')
    broken(saved, re.escape(says))


def test_a_family_of_another_package_is_loaded_only_when_named(tokenizer: Tokenizer, tmp_path: Path) -> None:
    model = fresh(Mispaired(tokenizer.vocabulary, strength=0.5), tokenizer)
    folder = hub.save(model, tmp_path / "model")
    home = Mispaired.__module__.partition(".")[0]
    broken(folder, f"code of {home} is not run unasked.*package")
    broken(folder, "is not run unasked", package="elsewhere")
    assert hub.load(folder, package=home).objective == model.objective


def test_fields_of_a_family_are_checked(tokenizer: Tokenizer, tmp_path: Path) -> None:
    folder = hub.save(fresh(Masked(tokenizer.vocabulary, rate=0.15), tokenizer), tmp_path / "model")
    whole = (folder / "sightline.toml").read_text()
    for pattern, replacement, says in (
        ("rate = 0.15", 'rate = "much"', "rate = 'much', which does not fit Masked"),
        ("rate = 0.15", "pace = 0.15", "gives Masked a setting 'pace'"),
        ("rate = 0.15", "rate = 1.5", "a mask rate of 1.5"),
        ('hide = "token"', 'hide = "sound"', "hide = 'sound'"),
        ("rate = 0.15", "vocabulary = 3", "vocabulary"),
    ):
        noted(folder, pattern, replacement)
        broken(folder, re.escape(says))
        (folder / "sightline.toml").write_text(whole)


def test_a_family_defined_in_a_function_cannot_be_saved(tokenizer: Tokenizer, tmp_path: Path) -> None:
    @dataclass(frozen=True)
    class Local(Causal):
        pass

    with pytest.raises(SightlineError, match="defined inside a function"):
        hub.save(fresh(Local(tokenizer.vocabulary), tokenizer), tmp_path / "model")
    assert not list(tmp_path.iterdir())


def test_a_vocabulary_with_more_rows_than_the_tokenizer_knows(tokenizer: Tokenizer, llama: Path) -> None:
    """GPT-2's 50257 rows are no multiple of 64: the model's rows decide what is barred, not the tokenizer's."""
    tensors = load_file(llama / "model.safetensors")
    rows = tokenizer.size + 2
    for name in ("model.embed_tokens.weight", "lm_head.weight"):
        tensors[name] = tensors[name][:rows].contiguous()
    save_file(tensors, llama / "model.safetensors")
    edit(llama / "config.json", vocab_size=rows)
    (llama / "sightline.toml").unlink()
    model = hub.load(llama)
    found = logits(model)
    assert found.shape[-1] == rows
    assert np.isneginf(found[..., [tokenizer.pad, rows - 1, rows - 2]]).all()
    assert np.isfinite(np.delete(found, [tokenizer.pad, rows - 1, rows - 2], axis=-1)).all()
    assert hub.load(hub.save(model, llama.parent / "again")).objective == model.objective


def test_values_against_annotations() -> None:
    assert fits([1, None], tuple[int | None, ...])
    assert fits(1, float)
    assert fits(None, float | None)
    assert not fits(True, int)
    assert not fits(1.0, int)
    assert not fits([1, "a"], tuple[int, ...])
    assert not fits(["gelu", "layer"], tuple[str, str, float])


def test_plain_forms_tell_equal_from_unequal() -> None:
    shape = Shape(2, 16, 2, 64, 32, **LLAMA)
    plain = hub.Form(shape).plain
    assert hub.Form(replace(shape, kv_heads=2, hidden=64, head_width=8, windows=(None,), norm_bias=True)).plain == plain
    for changed in ({"kv_heads": 1}, {"rope_base": 1.0}, {"windows": (2,)}, {"scale": 1.0}, {"norm_eps": 1e-6}):
        assert hub.Form(replace(shape, **changed)).plain != plain


def test_a_moved_folder_loads(saved: Path, tmp_path: Path) -> None:
    moved = tmp_path / "elsewhere"
    shutil.move(saved, moved)
    assert hub.load(moved).objective.family == "causal"


def test_weights_are_told_apart_in_one_file_and_in_several(tokenizer: Tokenizer, tmp_path: Path) -> None:
    model = fresh(Causal(tokenizer.vocabulary), tokenizer)
    one = hub.weights_fingerprint(hub.save(model, tmp_path / "one"))
    several = hub.save(model, tmp_path / "several", shard=10_000)
    assert one == hub.weights_fingerprint(hub.save(hub.load(several), tmp_path / "one"))
    before = hub.weights_fingerprint(several)
    with torch.no_grad():
        next(iter(model.parameters())).add_(1)
    assert hub.weights_fingerprint(hub.save(model, several, shard=10_000)) != before
    lost = sorted(several.glob("model-*.safetensors"))[1]
    lost.unlink()
    broken(several, f"{lost.name} is missing, though model.safetensors.index.json names it")
