"""llama.cpp over exported files: the tokens of a text are ours, and so are logits, states and greedy texts.

Its Python binding is built from source, so it belongs to no extra: where it is missing, in CI too, these are skipped.
Keys and values are kept in float32 here. It computes GELU by a table in half precision, which bounds GPT-2 and BERT;
without GELU its logits are ours to some 1e-6 of the largest.
"""

from __future__ import annotations

import ctypes
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from tokenizers import AddedToken, decoders, models, normalizers, pre_tokenizers, trainers
from tokenizers import Tokenizer as Engine

from sightline import hub
from sightline.data import Rows, Tokenizer, train_tokenizer
from sightline.decoders.sampling import GREEDY
from sightline.hub import gguf as layout
from sightline.objectives.causal import Causal
from sightline.objectives.denoise import Denoise
from sightline.objectives.masked import Masked
from sightline.objectives.model import Model, built
from sightline.objectives.writing import generate
from sightline.stacks.head import Head
from sightline.stacks.makes import MAKES
from sightline.stacks.shape import Shape
from sightline.stacks.two import Two

library = pytest.importorskip("llama_cpp")

TEXT = "Two roads met under the elm; 的确, isn't it?"
MAKE_OF = {"gpt2": 1e-3, "llama": 1e-5}  # farthest of a logit, as a share of the largest
CONTEXT = 256  # llama.cpp rounds up to it


@pytest.fixture(scope="module")
def tokenizer(page: str) -> Tokenizer:
    return train_tokenizer([page], "bpe", 600)


def drawn(model: Model) -> Model:
    """Every weight moved, biases and gains too."""
    torch.manual_seed(5)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.1 * torch.randn_like(weight))
    return model.eval()


def causal(tokenizer: Tokenizer, make: str, **changed: Any) -> Model:
    shape = replace(MAKES[make].of(Shape(3, 32, 4, tokenizer.padded, CONTEXT)), **changed)
    return drawn(built(Causal(tokenizer.vocabulary), shape, tokenizer, 3, replace(MAKES[make], changes={}, tied=False)))


def opened(path: Path, **settings: Any) -> Any:
    fixed = {"n_ctx": CONTEXT, "n_threads": 1, "verbose": False, "type_k": 0, "type_v": 0}
    return library.Llama(str(path), **fixed, **settings)


def farthest(there: NDArray[Any], here: NDArray[Any]) -> float:
    real = np.isfinite(here)
    return float(np.abs(there - here)[real].max() / np.abs(here[real]).max())


@pytest.mark.parametrize("make", MAKE_OF)
def test_logits_and_texts(make: str, tokenizer: Tokenizer, tmp_path: Path) -> None:
    model = causal(tokenizer, make, **({"kv_heads": 2} if make == "llama" else {}))
    layout.write(model, tmp_path / "m.gguf")
    peer = opened(tmp_path / "m.gguf", logits_all=True)
    ids = peer.tokenize(TEXT.encode(), add_bos=True)
    assert ids == [tokenizer.bos, *tokenizer.encode(TEXT)]
    peer.eval(ids)
    rows = Rows.of([np.array(ids)], tokenizer)
    with torch.no_grad():
        here = model.head.logits(model.states(model.objective.read(rows), rows.tokens))[0].numpy()  # type: ignore[operator]
    assert farthest(np.array(peer.scores[: len(ids)]), here[:, : tokenizer.size]) < MAKE_OF[make]

    barred = np.flatnonzero(tokenizer.vocabulary.is_special[: tokenizer.size])
    barred = barred[barred != tokenizer.eos]
    text: list[int] = []
    while len(text) < 60:
        logits = np.array(peer.scores[peer.n_tokens - 1])
        logits[barred] = -np.inf
        if (best := int(logits.argmax())) == tokenizer.eos:
            break
        text.append(best)
        peer.eval([best])
    assert len(set(text)) > 5
    rows = Rows.of([np.array([*ids, *text])], tokenizer)
    with torch.no_grad():
        here = model.head.logits(model.states(model.objective.read(rows), rows.tokens))[0].numpy()  # type: ignore[operator]
    here[:, barred] = -np.inf
    best, second = np.sort(here[len(ids) - 1 : -1])[:, :-3:-1].T
    sure = best - second > 2 * MAKE_OF[make] * np.abs(here[np.isfinite(here)]).max()  # else either may be the likeliest
    assert sure.mean() > 0.9
    assert (here[len(ids) - 1 : -1].argmax(1) == text)[sure].all()
    if sure.all():
        assert generate(model, [TEXT], length=60, sampling=GREEDY)[0].pieces[0] == tokenizer.decode(text)


@pytest.mark.parametrize("gated", [False, True])
def test_an_encoder_and_its_decoder(gated: bool, tokenizer: Tokenizer, tmp_path: Path) -> None:
    """Beside transformers' T5, which loads the same model's folder."""
    import transformers

    fixed = {"norm": "rms", "qk_norm": False, "positions": "relative", "scale": 1.0, "gated": gated}
    shape = Shape(3, 32, 4, tokenizer.padded, CONTEXT, activation="gelu_tanh" if gated else "relu", **fixed)
    stack = Two(shape, 1)
    tied, scale = (None, 1.0) if gated else (stack.embedding, 32**-0.5)
    head = Head(32, tokenizer.padded, tokenizer.unpredictable, tied=tied, scale=scale)
    model = drawn(Model(Denoise(tokenizer.vocabulary), stack, head, tokenizer))
    layout.write(model, tmp_path / "m.gguf")
    hub.save(model, tmp_path / "model")
    source = [tokenizer.bos, *map(int, tokenizer.encode(TEXT)), tokenizer.eos]
    target = [tokenizer.bos, *map(int, tokenizer.encode("the elm"))]
    oracle = transformers.T5ForConditionalGeneration.from_pretrained(tmp_path / "model").eval()
    with torch.no_grad():
        given = {"input_ids": torch.tensor([source]), "decoder_input_ids": torch.tensor([target])}
        here = oracle(**given).logits[0, :, : tokenizer.size].numpy()
    peer = opened(tmp_path / "m.gguf")
    inner = peer._ctx.ctx
    ids = (ctypes.c_int32 * len(source))(*source)
    assert library.llama_encode(inner, library.llama_batch_get_one(ids, len(source))) == 0
    for token, wanted in zip(target, here, strict=True):
        assert library.llama_decode(inner, library.llama_batch_get_one((ctypes.c_int32 * 1)(token), 1)) == 0
        there = np.ctypeslib.as_array(library.llama_get_logits_ith(inner, -1), (tokenizer.size,))
        assert farthest(there, wanted) < (1e-2 if gated else 1e-5)


def test_states_of_an_encoder(page: str, tmp_path: Path) -> None:
    tokenizer, make = train_tokenizer([page], "wordpiece", 600), MAKES["bert"]
    shape = make.of(Shape(2, 32, 4, tokenizer.padded, CONTEXT))
    model = drawn(built(Masked(tokenizer.vocabulary), shape, tokenizer, 1, make))
    layout.write(model, tmp_path / "m.gguf")
    peer = opened(tmp_path / "m.gguf", embedding=True, pooling_type=0)
    ids = [tokenizer.bos, *map(int, tokenizer.encode(TEXT)), tokenizer.eos]
    assert peer.tokenize(TEXT.encode(), add_bos=True) == ids
    rows = Rows.of([np.array(ids)], tokenizer)
    with torch.no_grad():
        here = model.states(model.objective.read(rows), rows.tokens).numpy().reshape(len(ids), 32)
    assert farthest(np.array(peer.embed(TEXT)), here) < 2e-3


def sentence_pieces(page: str, kind: str) -> Tokenizer:
    """A tokenizer as SentencePiece's come in a tokenizer.json: Unigram, or BPE with bytes to fall back on."""
    lines, marks = page.splitlines(), ["<unk>", "<s>", "</s>"]
    if kind == "unigram":
        engine = Engine(models.Unigram())
        engine.pre_tokenizer, engine.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
        found = trainers.UnigramTrainer(vocab_size=500, special_tokens=marks, unk_token="<unk>", show_progress=False)
        engine.train_from_iterator(lines, found)
        return Tokenizer(engine)
    spaces = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    taught = Engine(models.BPE())
    taught.normalizer = spaces
    taught.train_from_iterator(lines, trainers.BpeTrainer(vocab_size=400, max_token_length=12, show_progress=False))
    layout = json.loads(taught.to_str())["model"]
    names = [*marks, *(f"<0x{byte:02X}>" for byte in range(256)), *sorted(layout["vocab"], key=layout["vocab"].get)]
    merges = [tuple(pair) for pair in layout["merges"]]
    engine = Engine(
        models.BPE({name: id for id, name in enumerate(names)}, merges, byte_fallback=True, unk_token="<unk>")
    )
    engine.normalizer = spaces
    engine.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    engine.add_special_tokens([AddedToken(mark, special=True, normalized=False) for mark in marks])
    return Tokenizer(engine)


@pytest.mark.parametrize("kind", ["bpe", "byte", "char", "wordpiece", "unigram", "spaced"])
def test_texts_become_the_same_tokens(kind: Any, page: str, tmp_path: Path) -> None:
    if kind in ("unigram", "spaced"):
        tokenizer = sentence_pieces(page, kind)
    else:
        tokenizer = train_tokenizer([page], kind, 600 if kind in ("bpe", "wordpiece") else None)
    layout.write(causal(tokenizer, "llama"), tmp_path / "m.gguf")
    peer = library.Llama(str(tmp_path / "m.gguf"), vocab_only=True, verbose=False)
    odd = ["Two  spaces\n\nand\ttabs ", "Isn't it? I'LL", "12 345", "naïve Ünïcode", "日本語"]
    odd += ["<s>no mark</s>"] if kind != "unigram" else []  # whose pieces hold the mark
    for text in [*filter(str.strip, page.splitlines()), *odd]:
        assert peer.tokenize(text.encode(), add_bos=False, special=False) == tokenizer.encode(text).tolist(), text
