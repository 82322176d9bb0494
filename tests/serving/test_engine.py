"""Engines: the same texts as our own loop by the same rules, and one line about what they cannot do."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any, get_args

import numpy as np
import pytest
import torch

from sightline import hub
from sightline.data import Rows, Tokenizer, train_tokenizer
from sightline.decoders.sampling import GREEDY, Sampling
from sightline.errors import SightlineError
from sightline.hub import ctranslate2 as layout
from sightline.objectives.causal import Causal
from sightline.objectives.model import Model
from sightline.objectives.pen import LINES
from sightline.objectives.writing import Wanted, generate
from sightline.runs import write
from sightline.serving.engine import ENGINES, _own_openmp, opened
from sightline.stacks.head import Head
from sightline.stacks.shape import Shape
from sightline.stacks.transformer import Transformer

PROMPTS = ("", "Two", "roads", "met under", "the elm; 的确.", "x", "")
BIASES = {"attention_bias": True, "output_bias": True, "feed_bias": True}
GPT2 = {"norm_bias": True, "qk_norm": False, "positions": "learned", "activation": "gelu_tanh", **BIASES}
LLAMA = {"norm": "rms", "qk_norm": False, "activation": "silu", "gated": True, "kv_heads": 2}


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return train_tokenizer(PROMPTS, "byte")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "sightline"


@pytest.fixture
def library(peer: Callable[[str], ModuleType]) -> ModuleType:
    return peer("ctranslate2")


def model_of(tokenizer: Tokenizer, settings: dict[str, Any], seed: int = 5) -> Model:
    """A small model with drawn weights and a tied head."""
    torch.manual_seed(seed)
    stack = Transformer(Shape(2, 32, 4, tokenizer.padded, 64, **settings))
    head = Head(32, tokenizer.padded, tokenizer.unpredictable, tied=stack.embedding, bias=True)
    with torch.no_grad():
        for weight in stack.parameters():
            weight.add_(0.2 * torch.randn_like(weight))
    return Model(Causal(tokenizer.vocabulary), stack, head, tokenizer).eval()


@pytest.fixture
def model(tokenizer: Tokenizer) -> Model:
    return model_of(tokenizer, LLAMA)


@pytest.mark.parametrize("settings", [GPT2, LLAMA], ids=["GPT-2", "LLaMA"])
def test_the_likeliest_text_is_our_own_loop_s(
    library: ModuleType, tokenizer: Tokenizer, settings: dict[str, Any]
) -> None:
    model = model_of(tokenizer, settings)
    with torch.no_grad():
        model.head.bias[tokenizer.need("eos")] = 16.0  # so that some texts end before the others
    many = PROMPTS * (LINES // len(PROMPTS) + 1)
    engine = opened("ctranslate2", model)
    for rules in ({}, {"min_length": 12}, {"min_length": 99}):
        ours = generate(model, many, length=24, sampling=GREEDY, **rules)
        theirs = generate(model, many, length=24, sampling=GREEDY, engine=engine, **rules)
        assert [text.text for text in theirs] == [text.text for text in ours]
        assert theirs[0].how == "left to right by CTranslate2 (float32), the likeliest token"
    sizes = [len(new) for new, _ in written(engine, model, length=24)]
    assert min(sizes) < 24 == max(sizes)


def written(engine: Any, model: Model, **changed: Any) -> list[tuple[list[int], float]]:
    """What the engine itself hands back."""
    vocabulary = model.objective.vocabulary
    prompts = [[vocabulary.bos, *model.tokenizer.encode(prompt).tolist()] for prompt in PROMPTS]
    never = np.setdiff1d(np.flatnonzero(vocabulary.is_special), [vocabulary.eos]).tolist()
    usual = Wanted(20, GREEDY, stops=(vocabulary.eos,), forbidden=never)
    return engine.write(prompts, replace(usual, **changed))  # type: ignore[no-any-return]


def test_log_p_is_that_among_the_ids_that_may_be_written(library: ModuleType, model: Model) -> None:
    vocabulary = model.objective.vocabulary
    found = written(
        opened("ctranslate2", model), model, stops=(), forbidden=np.flatnonzero(vocabulary.is_special).tolist()
    )
    for prompt, (new, logprob) in zip(PROMPTS, found, strict=True):
        known = [vocabulary.bos, *model.tokenizer.encode(prompt).tolist()]
        rows = Rows.of([np.array([*known, *new])], model.tokenizer)
        with torch.no_grad():
            logits = model.head.logits(model.states(model.objective.read(rows), rows.tokens))[0].double()
        logits[:, torch.from_numpy(vocabulary.is_special)] = -torch.inf
        said = logits.log_softmax(-1)[len(known) - 1 : -1]
        assert logprob == pytest.approx(float(said[torch.arange(len(new)), torch.tensor(new)].sum()), abs=1e-3)


@pytest.mark.parametrize("sampling", [Sampling(30.0), Sampling(30.0, top_k=40), Sampling(30.0, top_p=0.9)], ids=str)
def test_draws_are_allowed_and_repeat_by_seed(library: ModuleType, model: Model, sampling: Sampling) -> None:
    engine = opened("ctranslate2", model)
    marks = set(np.flatnonzero(model.objective.vocabulary.is_special).tolist())
    one, same, other = (written(engine, model, sampling=sampling, seed=seed, length=40) for seed in (-1, -1, 7))
    assert one == same != other
    assert all(len(new) <= 40 and not marks & set(new) for new, _ in one)


def test_draws_follow_the_rule_that_our_own_loop_draws_by(library: ModuleType, model: Model) -> None:
    sampling, draws = Sampling(4.0, top_k=12, top_p=0.8), 4000
    vocabulary = model.objective.vocabulary
    never = np.flatnonzero(vocabulary.is_special).tolist()
    start = [vocabulary.bos, *model.tokenizer.encode("Two").tolist()]
    rows = Rows.of([np.array(start)], model.tokenizer)
    with torch.no_grad():
        logits = model.head.logits(model.states(model.objective.read(rows), rows.tokens))[0, -1]
    logits[never] = -torch.inf
    wanted = sampling.probabilities(logits).numpy()
    engine = opened("ctranslate2", model)
    found = engine.write([start] * draws, Wanted(1, sampling, seed=3, forbidden=never))
    shares = np.bincount([new[0] for new, _ in found], minlength=len(wanted)) / draws
    assert 1 < np.count_nonzero(wanted) < 12  # each cut cuts
    assert not shares[wanted == 0].any()
    assert np.abs(shares - wanted).sum() / 2 < 0.03


def test_eight_bits_write_too(library: ModuleType, model: Model) -> None:
    [text] = generate(model, ["Two"], length=8, sampling=GREEDY, engine=opened("ctranslate2", model, "int8"))
    assert text.text.startswith("Two")
    assert "(int8)" in text.how


def test_the_library_is_loaded_beside_its_own_openmp() -> None:
    """Torch's would serve both, and halve the speed of both; what is loaded later is not touched."""
    before = sys.getdlopenflags()
    with _own_openmp():
        assert sys.getdlopenflags() == before | getattr(os, "RTLD_DEEPBIND", 0)
    assert sys.getdlopenflags() == before


# -- what is refused, in one line


def refused(message: str, call: Callable[[], object]) -> None:
    with pytest.raises(SightlineError, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)


def test_an_unlike_model_is_refused_before_the_library_is_asked_for(
    tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ctranslate2", None)
    unlike = model_of(tokenizer, {})
    refused("normed queries and keys, the activation relu2.*Leave --engine away", lambda: opened("ctranslate2", unlike))


def test_without_the_library_a_line_says_what_to_install(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ctranslate2", None)
    refused(r"pip install 'sightline\[ctranslate2\]'", lambda: opened("ctranslate2", model))


def test_no_such_engine(model: Model) -> None:
    refused("no engine 'abacus'.*ctranslate2", lambda: opened("abacus", model))


def test_what_the_engine_lacks_is_refused(library: ModuleType, model: Model) -> None:
    refused("does not compute in bfloat16.*float32", lambda: opened("ctranslate2", model, "bfloat16"))
    engine = opened("ctranslate2", model)
    refused("not with min-p", lambda: generate(model, ["x"], length=8, sampling=Sampling(min_p=0.1), engine=engine))
    refused("not a beam of 3", lambda: generate(model, ["x"], length=8, beams=3, engine=engine))
    refused("exceed the model's context, 64", lambda: generate(model, ["x"], length=64, engine=engine))


# -- the cache


def test_the_converted_model_is_made_once(
    library: ModuleType, model: Model, tokenizer: Tokenizer, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened("ctranslate2", model)
    [kept] = cache.iterdir()
    opened("ctranslate2", model_of(tokenizer, LLAMA, seed=6))
    opened("ctranslate2", model, "int8")
    assert len(list(cache.iterdir())) == 3
    before = kept.stat().st_mtime_ns
    monkeypatch.setattr(layout, "write", lambda *_: pytest.fail("converted again"))
    opened("ctranslate2", model)
    assert kept.stat().st_mtime_ns == before


@pytest.mark.parametrize("damage", ["model.bin cut short", "config.json", "vocabulary.json"])
def test_a_folder_that_is_not_whole_is_made_anew(library: ModuleType, model: Model, cache: Path, damage: str) -> None:
    whole = written(opened("ctranslate2", model), model)
    [kept] = cache.iterdir()
    if damage == "model.bin cut short":
        (kept / "model.bin").write_bytes((kept / "model.bin").read_bytes()[:-1000])
    else:
        (kept / damage).unlink()
    assert written(opened("ctranslate2", model), model) == whole
    assert [path.name for path in cache.iterdir()] == [kept.name]
    assert sorted(path.name for path in kept.iterdir()) == ["config.json", "model.bin", "vocabulary.json"]


def test_a_cache_that_cannot_be_written_is_named(library: ModuleType, model: Model, cache: Path) -> None:
    cache.parent.mkdir()
    cache.write_text("a file, not a folder", encoding="utf-8")
    refused("cannot be kept.*XDG_CACHE_HOME", lambda: opened("ctranslate2", model))


# -- the command


def test_the_command_writes_through_an_engine(library: ModuleType, model: Model, tmp_path: Path) -> None:
    folder = hub.save(model, tmp_path / "model")
    before = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    ours, theirs = (
        write.generate(folder, ("Two", "roads met"), length=16, greedy=True, engine=engine)
        for engine in get_args(write.Loop)
    )
    assert [text.text for text in theirs.texts] == [text.text for text in ours.texts]
    assert "by CTranslate2 (float32)" in str(theirs)
    drawn = write.generate(folder, ("Two",), length=8, n=2, engine="ctranslate2", dtype="int8").texts
    assert len({text.text for text in drawn}) == 2
    assert {path.name: path.stat().st_mtime_ns for path in folder.iterdir()} == before


def test_the_command_names_every_engine() -> None:
    assert get_args(write.Loop) == ("sightline", *ENGINES)


def test_the_command_refuses_what_no_engine_does(model: Model, tmp_path: Path) -> None:
    folder = hub.save(model, tmp_path / "model")
    refused("'int8' is an engine's", lambda: write.generate(folder, ("x",), dtype="int8"))
    refused("not on 'cuda'", lambda: write.generate(folder, ("x",), engine="ctranslate2", device="cuda"))
