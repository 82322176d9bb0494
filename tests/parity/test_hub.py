"""The same random weights give the same logits here and in transformers, and folders go both ways without a scratch."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from sightline.data import Rows, Tokenizer, train_tokenizer
from sightline.hub import load, save
from sightline.hub.form import Form
from sightline.objectives.causal import Causal
from sightline.objectives.electra import Electra
from sightline.objectives.electra import changed as changed_view
from sightline.objectives.masked import Masked
from sightline.objectives.model import Model
from sightline.objectives.places import laid_at_places, read_as_texts
from sightline.stacks.head import Head
from sightline.stacks.shape import Shape
from sightline.stacks.transformer import Transformer

TOLERANCE = 1e-4
TEXT = "Two roads met under the elm; 的确."


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return train_tokenizer([TEXT], "byte")


def gpt2(transformers: ModuleType, vocabulary: int, **changed: Any) -> Any:
    settings = {"n_positions": 64, "n_embd": 32, "n_layer": 3, "n_head": 4, "bos_token_id": 1, "eos_token_id": 2}
    return transformers.GPT2LMHeadModel(transformers.GPT2Config(vocab_size=vocabulary, **settings | changed))


def llama(transformers: ModuleType, vocabulary: int, **changed: Any) -> Any:
    settings = {
        "hidden_size": 32,
        "intermediate_size": 56,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 64,
    }
    return transformers.LlamaForCausalLM(transformers.LlamaConfig(vocab_size=vocabulary, **settings | changed))


def bert(transformers: ModuleType, vocabulary: int, **changed: Any) -> Any:
    settings = {
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "max_position_embeddings": 64,
    }
    return transformers.BertForMaskedLM(transformers.BertConfig(vocab_size=vocabulary, **settings | changed))


def electra(transformers: ModuleType, vocabulary: int, **changed: Any) -> Any:
    """The generator; its tables are of another width than its states."""
    return transformers.ElectraForMaskedLM(electra_config(transformers, vocabulary, **changed))


def electra_config(transformers: ModuleType, vocabulary: int, **changed: Any) -> Any:
    settings = {
        "embedding_size": 24,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "max_position_embeddings": 64,
    }
    return transformers.ElectraConfig(vocab_size=vocabulary, **settings | changed)


CASES: list[tuple[Any, dict[str, Any]]] = [
    (gpt2, {}),
    (gpt2, {"tie_word_embeddings": False, "n_inner": 40, "activation_function": "relu"}),
    (llama, {}),
    (llama, {"tie_word_embeddings": True, "attention_bias": True, "mlp_bias": True, "head_dim": 12}),
    (llama, {"num_key_value_heads": 1, "rope_parameters": {"rope_type": "default", "rope_theta": 500.0}}),
    (bert, {}),
    (bert, {"tie_word_embeddings": False, "type_vocab_size": 3, "layer_norm_eps": 1e-6}),
    (electra, {}),
    (electra, {"embedding_size": 48, "hidden_act": "relu"}),
]
NAMES = [f"{make.__name__}-{number}" for number, (make, _) in enumerate(CASES)]


def shaken(module: torch.nn.Module) -> None:
    """Every weight drawn anew, biases and gains too: a map that forgets one must not pass by a fresh 0 or 1."""
    torch.manual_seed(0)
    with torch.no_grad():
        for weight in module.parameters():
            weight.add_(0.2 * torch.randn_like(weight))
        if hasattr(module, "cls"):  # an untied BERT keeps a bias that it never adds: it would not come back
            module.cls.predictions.bias.copy_(module.cls.predictions.decoder.bias)


def their_logits(module: Any, ids: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        return module.eval()(input_ids=torch.from_numpy(ids)[None]).logits[0].numpy()


def our_logits(model: Model, ids: np.ndarray) -> np.ndarray:
    """Logits of every slot: the text is shown, and states go through the head."""
    rows = Rows.of([ids.astype(np.int32)], model.tokenizer)
    with torch.no_grad():
        return model.eval().head.logits(model.states(model.objective.read(rows), rows.tokens))[0].numpy()


@pytest.mark.parametrize(("make", "changed"), CASES, ids=NAMES)
def test_their_folder_gives_the_same_logits(
    transformers: ModuleType, tokenizer: Tokenizer, tmp_path: Path, make: Any, changed: dict[str, Any]
) -> None:
    theirs = make(transformers, tokenizer.padded, **changed)
    shaken(theirs)
    theirs.save_pretrained(tmp_path)
    tokenizer.save(tmp_path)
    model = load(tmp_path)
    assert isinstance(model.objective, Masked if make in (bert, electra) else Causal)
    ids = tokenizer.encode(TEXT).astype(np.int64)
    here, there = our_logits(model, ids), their_logits(theirs, ids)
    may = np.setdiff1d(np.arange(tokenizer.padded), tokenizer.unpredictable)
    assert np.abs(there[:, may]).max() > 0.5
    np.testing.assert_allclose(here[:, may], there[:, may], atol=TOLERANCE, rtol=0)
    assert np.isneginf(here[:, tokenizer.unpredictable]).all()


@pytest.mark.parametrize(("make", "changed"), CASES, ids=NAMES)
def test_our_folder_loads_there_unchanged(
    transformers: ModuleType, tokenizer: Tokenizer, tmp_path: Path, make: Any, changed: dict[str, Any]
) -> None:
    first = make(transformers, tokenizer.padded, **changed)
    shaken(first)
    first.save_pretrained(tmp_path / "theirs")
    tokenizer.save(tmp_path / "theirs")
    save(load(tmp_path / "theirs"), tmp_path / "ours")
    assert "There" not in (tmp_path / "ours" / "README.md").read_text()
    again, told = type(first).from_pretrained(tmp_path / "ours", output_loading_info=True)
    assert not told["missing_keys"] and not told["unexpected_keys"] and not told["mismatched_keys"]
    for name, weight in first.state_dict().items():
        assert torch.equal(weight, again.state_dict()[name]), name
    ids = tokenizer.encode(TEXT).astype(np.int64)
    assert (their_logits(first, ids) == their_logits(again, ids)).all()
    for name in ("bos", "eos", "pad"):
        assert getattr(again.config, f"{name}_token_id") == getattr(tokenizer, name)


@pytest.mark.parametrize("changed", [{}, {"embedding_size": 32}, {"hidden_act": "relu"}])
def test_a_discriminator_goes_both_ways(
    transformers: ModuleType, tokenizer: Tokenizer, tmp_path: Path, changed: dict[str, Any]
) -> None:
    """ELECTRA's: the same labels' logits and the same loss here and there, and back again without a scratch."""
    theirs = transformers.ElectraForPreTraining(electra_config(transformers, tokenizer.padded, **changed)).eval()
    shaken(theirs)
    theirs.save_pretrained(tmp_path / "theirs")
    tokenizer.save(tmp_path / "theirs")
    model = load(tmp_path / "theirs").eval()
    assert isinstance(model.objective, Electra) and model.generator is None
    ids = tokenizer.encode(TEXT).astype(np.int64)
    here, there = our_logits(model, ids), their_logits(theirs, ids)
    assert there.std() > 0.1
    np.testing.assert_allclose(here, there, atol=TOLERANCE, rtol=0)

    rows = Rows.of([ids.astype(np.int32)], tokenizer)
    (judging,) = model.objective.examine(rows)
    replaced = np.arange(len(ids))[None] % 3 == 0
    other = (ids[None] + 1) % tokenizer.size
    view = changed_view(judging, np.arange(len(ids))[None], other, replaced)
    with torch.no_grad():
        mean = model.grade(view, rows.tokens).total.item() / len(ids)
        shown = torch.from_numpy(np.where(replaced, other, ids[None]))
        loss = theirs(input_ids=shown, labels=torch.from_numpy(replaced.astype(np.int64))).loss.item()
    assert mean == pytest.approx(loss, abs=1e-5)

    save(model, tmp_path / "ours")
    again, told = type(theirs).from_pretrained(tmp_path / "ours", output_loading_info=True)
    assert not told["missing_keys"] and not told["unexpected_keys"] and not told["mismatched_keys"]
    for name, weight in theirs.state_dict().items():
        assert torch.equal(weight, again.state_dict()[name]), name


def test_a_trained_pair_loads_there_in_two_halves(
    transformers: ModuleType, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    """A judge and its generator over one set of tables: both folders give their logits in transformers."""
    narrow = transformers.ElectraForMaskedLM(
        electra_config(transformers, tokenizer.padded, hidden_size=16, num_attention_heads=2, intermediate_size=24)
    )
    wide = transformers.ElectraForPreTraining(electra_config(transformers, tokenizer.padded))
    for name, half in (("wide", wide), ("narrow", narrow)):
        shaken(half)
        half.save_pretrained(tmp_path / name)
        tokenizer.save(tmp_path / name)
    pair = load(tmp_path / "wide")
    pair.generator = load(tmp_path / "narrow")
    pair.share_tables()
    save(pair, tmp_path / "pair")
    back = load(tmp_path / "pair").eval()
    assert back.generator is not None and back.generator.stack.embedding is back.stack.embedding
    assert back.generator.head.weight is back.stack.embedding.weight
    ids = tokenizer.encode(TEXT).astype(np.int64)
    judge = transformers.ElectraForPreTraining.from_pretrained(tmp_path / "pair")
    generator = transformers.ElectraForMaskedLM.from_pretrained(tmp_path / "pair" / "generator")
    np.testing.assert_allclose(our_logits(back, ids), their_logits(judge, ids), atol=TOLERANCE, rtol=0)
    may = np.setdiff1d(np.arange(tokenizer.padded), tokenizer.unpredictable)
    here, there = our_logits(back.generator, ids), their_logits(generator, ids)
    np.testing.assert_allclose(here[:, may], there[:, may], atol=TOLERANCE, rtol=0)


def made_here(shape: Shape, objective: Any, tokenizer: Tokenizer, form: Form) -> Model:
    torch.manual_seed(1)
    stack = Transformer(shape)
    head = Head(
        shape.width,
        shape.vocabulary,
        objective.vocabulary.unpredictable,
        tied=stack.embedding if form.tied else None,
        bias=form.head_bias,
        transform=form.transform,
    )
    model = Model(objective, stack, head, tokenizer)
    shaken(model)
    return model


LLAMA_LIKE = {"norm": "rms", "norm_gain": True, "qk_norm": False, "activation": "silu", "gated": True}


@pytest.mark.parametrize("tied", [False, True])
def test_a_model_made_here_in_their_form_loads_there(
    transformers: ModuleType, tokenizer: Tokenizer, tmp_path: Path, tied: bool
) -> None:
    shape = Shape(2, 32, 4, tokenizer.padded, 48, kv_heads=2, hidden=40, **LLAMA_LIKE)
    model = made_here(shape, Causal(tokenizer.vocabulary), tokenizer, Form(shape, tied))
    save(model, tmp_path / "model")
    there = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "model")
    ids = tokenizer.encode(TEXT).astype(np.int64)
    may = np.setdiff1d(np.arange(tokenizer.padded), tokenizer.unpredictable)
    assert type(there).__name__ == "LlamaForCausalLM"
    np.testing.assert_allclose(our_logits(model, ids)[:, may], their_logits(there, ids)[:, may], atol=TOLERANCE, rtol=0)
    auto = transformers.AutoTokenizer.from_pretrained(tmp_path / "model")
    assert auto(TEXT, add_special_tokens=False)["input_ids"] == ids.tolist()


def test_shards_are_read(transformers: ModuleType, tokenizer: Tokenizer, tmp_path: Path) -> None:
    theirs = llama(transformers, tokenizer.padded)
    shaken(theirs)
    theirs.save_pretrained(tmp_path, max_shard_size="40KB")
    tokenizer.save(tmp_path)
    assert len(list(tmp_path.glob("model-*.safetensors"))) > 1
    ids = tokenizer.encode(TEXT).astype(np.int64)
    may = np.setdiff1d(np.arange(tokenizer.padded), tokenizer.unpredictable)
    here = our_logits(load(tmp_path), ids)
    np.testing.assert_allclose(here[:, may], their_logits(theirs, ids)[:, may], atol=TOLERANCE, rtol=0)


def test_old_names_and_missing_prefixes_are_read(
    transformers: ModuleType, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    """bert-base-uncased calls a norm's gain gamma; the first gpt2 has no prefix and keeps its mask as a buffer."""
    from safetensors.torch import load_file, save_file

    ids = tokenizer.encode(TEXT).astype(np.int64)
    may = np.setdiff1d(np.arange(tokenizer.padded), tokenizer.unpredictable)
    for make in (gpt2, bert):
        theirs, folder = make(transformers, tokenizer.padded), tmp_path / make.__name__
        shaken(theirs)
        theirs.save_pretrained(folder)
        tokenizer.save(folder)
        named = load_file(folder / "model.safetensors")
        if make is gpt2:
            named = {name.removeprefix("transformer."): tensor for name, tensor in named.items()}
            named["h.0.attn.bias"] = torch.ones(1, 1, 64, 64).tril()
        else:
            named = {
                name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): tensor
                for name, tensor in named.items()
            }
            named["bert.pooler.dense.weight"] = torch.zeros(32, 32)
        save_file(named, folder / "model.safetensors", metadata={"format": "pt"})
        here = our_logits(load(folder), ids)
        np.testing.assert_allclose(here[:, may], their_logits(theirs, ids)[:, may], atol=TOLERANCE, rtol=0)


@pytest.mark.parametrize("kind", ["Bert", "Electra"])
def test_the_second_of_two_texts_is_told_by_its_segment(
    kind: str, tokenizer: Tokenizer, transformers: ModuleType, tmp_path: Path
) -> None:
    settings = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = getattr(transformers, f"{kind}Config")(vocab_size=tokenizer.padded, **settings)
    name = "BertForMaskedLM" if kind == "Bert" else "ElectraForPreTraining"
    theirs = getattr(transformers, name)(config).eval()
    table = theirs.base_model.embeddings.token_type_embeddings.weight
    with torch.no_grad():
        table.add_(torch.randn_like(table))  # drawn small, a segment would make little difference
    theirs.save_pretrained(tmp_path)
    tokenizer.save(tmp_path)
    model = load(tmp_path).eval()
    texts = [tokenizer.encode(text).tolist() for text in ("Two roads met", "under the elm", "的确")]
    sep, eos = model.objective.parting, tokenizer.vocabulary.eos
    rows = Rows.of([[1, *texts[0], sep, *texts[1], eos], [1, *texts[2], eos]], tokenizer)
    segments = torch.zeros(rows.tokens.shape, dtype=torch.long)
    segments[0, len(texts[0]) + 2 :] = 1
    with torch.no_grad():
        held = torch.from_numpy(rows.documents >= 0)
        ids = torch.from_numpy(rows.tokens).long()
        right = theirs.base_model(ids, attention_mask=held, token_type_ids=segments).last_hidden_state
        view = read_as_texts(model, rows)
        found, _ = laid_at_places(view, [model.states(view, rows.tokens)], rows.tokens.shape)
        plain = model.states(model.objective.read(rows), rows.tokens)
    assert torch.allclose(found[0][held], right[held], atol=TOLERANCE)
    assert not torch.allclose(plain[held], right[held], atol=0.01)
