"""CTranslate2's layout: a converted model computes the same logits, and what it has no place for is named."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from sightline.data import Rows, Tokenizer, train_tokenizer
from sightline.hub import ctranslate2 as layout
from sightline.objectives import FAMILIES
from sightline.objectives.causal import Causal
from sightline.objectives.model import Model, built
from sightline.stacks.head import Head
from sightline.stacks.shape import Shape
from sightline.stacks.transformer import Transformer

TEXT = "Two roads met under the elm; 的确."
BIASES = {"attention_bias": True, "output_bias": True, "feed_bias": True}
GPT2 = {"norm_bias": True, "qk_norm": False, "positions": "learned", "activation": "gelu_tanh", **BIASES}
LLAMA = {"norm": "rms", "qk_norm": False, "activation": "silu", "gated": True, "kv_heads": 2}
LAYOUTS: dict[str, tuple[dict[str, Any], dict[str, bool]]] = {
    "GPT-2": (GPT2, {}),
    "GPT-2, tied": (GPT2, {"tied": True}),
    "GPT-2, erf": (GPT2 | {"activation": "gelu", "norm_eps": 0.1}, {"bias": True}),
    "LLaMA": (LLAMA, {}),
    "LLaMA, tied": (LLAMA, {"tied": True}),
    "LLaMA, multi-query, another base": (LLAMA | {"kv_heads": 1, "rope_base": 96.0, "norm_eps": 0.1}, {}),
    "LLaMA, heads of their own, wider": (LLAMA | {"kv_heads": 4, "head_width": 12, "hidden": 40}, {}),
    "LLaMA, biases": (LLAMA | BIASES, {"bias": True}),
    "norms without gain and bias, relu": ({"qk_norm": False, "activation": "relu", "norm_gain": False}, {}),
}


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return train_tokenizer([TEXT], "byte")


def model_of(tokenizer: Tokenizer, settings: dict[str, Any], tied: bool = False, bias: bool = False) -> Model:
    """A small model whose every weight is drawn, biases and gains too."""
    torch.manual_seed(5)
    stack = Transformer(Shape(2, 32, 4, tokenizer.padded, 48, **settings))
    never = tokenizer.unpredictable
    head = Head(32, tokenizer.padded, never, tied=stack.embedding if tied else None, bias=bias)
    with torch.no_grad():
        for weight in (*stack.parameters(), *head.parameters()):
            weight.add_(0.2 * torch.randn_like(weight))
    return Model(Causal(tokenizer.vocabulary), stack, head, tokenizer).eval()


@pytest.mark.parametrize("name", LAYOUTS)
def test_the_converted_model_gives_the_same_logits(
    name: str, tokenizer: Tokenizer, peer: Callable[[str], ModuleType], tmp_path: Path
) -> None:
    library = peer("ctranslate2")
    settings, ends = LAYOUTS[name]
    model = model_of(tokenizer, settings, **ends)
    assert layout.lacks(model) == ()
    layout.write(model, tmp_path, "float32")
    generator = library.Generator(str(tmp_path), compute_type="float32", intra_threads=1)
    rows = Rows.of([tokenizer.encode(TEXT)], tokenizer)
    there = np.array(generator.forward_batch(rows.tokens.tolist()))
    with torch.no_grad():
        here = model.head.logits(model.states(model.objective.read(rows), rows.tokens)).numpy()
    real = np.isfinite(here)
    assert real.sum() == here.size - rows.tokens.size * len(tokenizer.unpredictable)
    np.testing.assert_allclose(there[real], here[real], atol=2e-5, rtol=2e-5)


def test_eight_bits_are_near_and_leave_the_model_alone(
    tokenizer: Tokenizer, peer: Callable[[str], ModuleType], tmp_path: Path
) -> None:
    library = peer("ctranslate2")
    model = model_of(tokenizer, GPT2, tied=True)
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    found = {}
    for kind in ("int8", "float32"):
        (tmp_path / kind).mkdir()
        layout.write(model, tmp_path / kind, kind)
        generator = library.Generator(str(tmp_path / kind), compute_type=kind, intra_threads=1)
        found[kind] = np.array(generator.forward_batch([tokenizer.encode(TEXT).tolist()]))
    assert all(torch.equal(weight, before[name]) for name, weight in model.state_dict().items())
    assert 0 < (found["int8"] - found["float32"]).std() < 0.05 * found["float32"].std()


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"qk_norm": True}, "normed queries and keys"),
        ({"activation": "relu2"}, "the activation relu2"),
        ({"positions": "alibi"}, "alibi positions"),
        ({"positions": "learned", "position_tables": 2}, "2 tables of positions"),
        ({"norm_place": "post"}, "norms in post place"),
        ({"embedding_norm": True}, "a norm of the embedding"),
        ({"final_norm": False}, "no norm at the end"),
        ({"windows": (None, 8)}, "windows"),
        ({"parallel": True}, "parallel blocks"),
        ({"segments": 2}, "a table of segments"),
        ({"scale": 0.5}, "a scale of its own for attention"),
    ],
)
def test_what_has_no_place_is_named(changed: dict[str, Any], words: str, tokenizer: Tokenizer) -> None:
    assert layout.lacks(model_of(tokenizer, LLAMA | changed)) == (words,)


def test_other_sights_and_stacks_have_no_place(tokenizer: Tokenizer) -> None:
    shape = replace(model_of(tokenizer, LLAMA).stack.shape, layers=2)  # type: ignore[arg-type, type-var]
    lacking = {
        name: layout.lacks(built(kind(tokenizer.vocabulary), shape, tokenizer)) for name, kind in FAMILIES.items()
    }
    assert lacking.pop("linear") == ("a linear instead of a transformer",)
    assert lacking.pop("causal") == ()
    assert lacking.pop("electra") == ("a judge instead of a head that predicts tokens",)
    assert lacking.pop("ngram") == ("a table instead of a transformer",)
    assert lacking.pop("two_way") == ("a pair instead of a transformer",)
    for name in [name for name, kind in FAMILIES.items() if kind.stack == "two"]:
        assert lacking.pop(name) == ("an encoder and a decoder instead of one transformer",)
    assert lacking.pop("cbow") == ("a bag instead of a transformer",)
    assert lacking.pop("blank") == ("the sight of blank", "2 tables of positions")
    assert lacking == {name: (f"the sight of {name}",) for name in lacking}


def test_what_stands_before_the_table_has_no_place(tokenizer: Tokenizer) -> None:
    model = model_of(tokenizer, LLAMA)
    model.head = Head(32, tokenizer.padded, tokenizer.unpredictable, transform=("gelu", "layer", 1e-5))
    assert layout.lacks(model) == ("a dense layer before the table",)
    model.head = Head(32, tokenizer.padded, tokenizer.unpredictable, scale=0.5)
    assert layout.lacks(model) == ("a scale before the table",)
