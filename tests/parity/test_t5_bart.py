"""T5 and BART here and in transformers: the same logits, the same texts token by token, folders that go both ways."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from sightline.data import Draws, Rows, Tokenizer, train_tokenizer
from sightline.decoders.canvas import Canvas
from sightline.decoders.loop import write
from sightline.decoders.policy import NextPlace
from sightline.hub import Form, load, save
from sightline.objectives import Denoise
from sightline.objectives.model import Model
from sightline.sight import NO_DOCUMENT, View
from sightline.stacks.shape import Shape
from sightline.stacks.two import Two, sides

TOLERANCE = 1e-4
TEXTS = ("Two roads met under the elm; 的确.", "A cat sat on the mat and saw the moon. It was late.", "Rain.")
WRITTEN = 16


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return train_tokenizer(TEXTS, "byte")


def ids_of(tokenizer: Tokenizer) -> dict[str, Any]:
    return {f"{mark}_token_id": getattr(tokenizer, mark) for mark in ("pad", "bos", "eos")}


def t5(transformers: ModuleType, tokenizer: Tokenizer, **changed: Any) -> Any:
    settings = {
        "vocab_size": tokenizer.padded,
        "d_model": 32,
        "d_kv": 12,
        "d_ff": 48,
        "num_layers": 2,
        "num_decoder_layers": 3,
        "num_heads": 4,
        "relative_attention_num_buckets": 8,
        "relative_attention_max_distance": 20,
        "decoder_start_token_id": tokenizer.pad,
    }
    config = transformers.T5Config(**ids_of(tokenizer) | settings | changed)
    torch.manual_seed(0)
    model = transformers.T5ForConditionalGeneration(config)
    if changed.get("tie_word_embeddings") is False:  # which a fresh T5 passes over
        model.lm_head.weight = torch.nn.Parameter(model.lm_head.weight.detach().clone())
    return model


def bart(transformers: ModuleType, tokenizer: Tokenizer, **changed: Any) -> Any:
    settings = {
        "vocab_size": tokenizer.padded,
        "d_model": 32,
        "encoder_layers": 2,
        "decoder_layers": 3,
        "encoder_attention_heads": 4,
        "decoder_attention_heads": 4,
        "encoder_ffn_dim": 48,
        "decoder_ffn_dim": 48,
        "max_position_embeddings": 96,
        "decoder_start_token_id": tokenizer.eos,
        "forced_eos_token_id": None,
    }
    config = transformers.BartConfig(**ids_of(tokenizer) | settings | changed)
    torch.manual_seed(0)
    return transformers.BartForConditionalGeneration(config)


CASES: list[tuple[Any, dict[str, Any]]] = [
    (t5, {}),
    (t5, {"num_layers": 3, "num_decoder_layers": 1, "feed_forward_proj": "gated-silu", "layer_norm_epsilon": 1e-3}),
    (t5, {"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False}),
    (bart, {}),
    (bart, {"encoder_layers": 1, "decoder_layers": 2, "activation_function": "relu"}),
]
NAMES = [f"{make.__name__}-{number}" for number, (make, _) in enumerate(CASES)]


def shaken(module: torch.nn.Module, lively: float = 1.0) -> None:
    """Every weight drawn anew, biases, gains and the bias that BART keeps as a buffer too.

    ``lively`` : how much larger matrices are than as drawn, so that answers hang on what is shown, not on biases.
    """
    torch.manual_seed(0)
    with torch.no_grad():
        for name, weight in module.named_parameters():
            matrix = weight.dim() > 1
            weight.add_(0.2 * torch.randn_like(weight) * (1 if matrix else 1 / lively))
            if matrix and "shared" not in name:
                weight.mul_(lively)
        if hasattr(module, "final_logits_bias"):
            module.final_logits_bias.copy_(0.2 * torch.randn_like(module.final_logits_bias))


def question(model: Model, texts: tuple[str, ...] = TEXTS) -> tuple[View, Rows]:
    """A view as in training, over texts of different lengths."""
    tokenizer = model.tokenizer
    ids = [np.r_[tokenizer.bos, tokenizer.encode(text), tokenizer.eos].astype(np.int32) for text in texts]
    rows = Rows.of(ids, tokenizer)
    (view,) = model.objective.ask(rows, Draws(0).of(rows), 0.0)
    return view, rows


def our_logits(model: Model, view: View, rows: Rows) -> np.ndarray:
    """Of every slot of the target, [lines, slots, vocabulary]."""
    source, _ = sides(view)
    with torch.no_grad():
        states = model.eval().states(view, rows.tokens)[:, source.slots.count :]
        return model.head.logits(states).numpy()


def their_logits(module: Any, view: View, rows: Rows) -> np.ndarray:
    given = {}
    for prefix, part in zip(("", "decoder_"), sides(view), strict=True):
        given[f"{prefix}input_ids"] = torch.from_numpy(np.maximum(part.shown(rows.tokens), 0))
        given[f"{prefix}attention_mask"] = torch.from_numpy((part.slots.document != NO_DOCUMENT).astype(np.int64))
    with torch.no_grad():
        return module.eval()(**given).logits.numpy()


def assert_same(model: Model, module: Any) -> None:
    view, rows = question(model)
    here, there = our_logits(model, view, rows), their_logits(module, view, rows)
    real = sides(view)[1].slots.document != NO_DOCUMENT
    barred = model.objective.vocabulary.unpredictable
    may = np.setdiff1d(np.arange(here.shape[-1]), barred)
    assert len(set(real.sum(1).tolist())) == len(TEXTS)
    assert there[real][:, may].std() > 0.1
    np.testing.assert_allclose(here[real][:, may], there[real][:, may], atol=TOLERANCE, rtol=0)
    assert np.isneginf(here[real][:, barred]).all()


def folder_of(module: Any, tokenizer: Tokenizer, folder: Path) -> Path:
    module.save_pretrained(folder)
    tokenizer.save(folder)
    return folder


@pytest.mark.parametrize(("make", "changed"), CASES, ids=NAMES)
def test_their_folder_gives_the_same_logits(
    transformers: ModuleType, tokenizer: Tokenizer, tmp_path: Path, make: Any, changed: dict[str, Any]
) -> None:
    theirs = make(transformers, tokenizer, **changed)
    shaken(theirs)
    model = load(folder_of(theirs, tokenizer, tmp_path))
    assert isinstance(model.objective, Denoise)
    assert model.objective.noise == ("spans" if make is t5 else "infilling")
    assert model.objective.begins_with == theirs.config.decoder_start_token_id
    assert (model.head.weight is model.stack.embedding.weight) == (changed.get("tie_word_embeddings") is not False)
    assert_same(model, theirs)


@pytest.mark.parametrize(("make", "changed"), CASES, ids=NAMES)
def test_their_folder_writes_the_same_texts(
    transformers: ModuleType, tokenizer: Tokenizer, tmp_path: Path, make: Any, changed: dict[str, Any]
) -> None:
    """Greedily, a batch of three here with the source and the target so far kept, each by itself there."""
    theirs = make(transformers, tokenizer, **changed)
    shaken(theirs, 3.0 if make is t5 else 5.0)
    model = load(folder_of(theirs, tokenizer, tmp_path)).eval()
    objective, barred = model.objective, model.objective.vocabulary.unpredictable
    stops, said = list(objective.stops), set[int]()
    lines = []
    for text in TEXTS:
        ids = tokenizer.encode(text).tolist()
        half = len(ids) // 2
        lines.append([[tokenizer.bos, *ids[:half]], WRITTEN, [*ids[half:], tokenizer.eos]])
    done = write(
        objective.fill,
        model.logits,
        Canvas.laid(lines),
        NextPlace(),
        stops=stops,
        forbidden=barred,
        min_length=12,
        make_cache=model.cache,
    )
    for owner, line in zip(done.owners, range(len(lines)), strict=True):
        written = done.canvas.inside[line] & ~done.canvas.given[line]
        here = done.canvas.tokens[line][written].tolist()
        canvas = Canvas.laid([lines[int(owner)]])
        source, target = (part.shown(canvas.tokens) for part in sides(objective.fill(canvas)))
        found = theirs.eval().generate(
            input_ids=torch.from_numpy(source),
            attention_mask=torch.ones_like(torch.from_numpy(source)),
            decoder_input_ids=torch.from_numpy(target),
            do_sample=False,
            num_beams=1,
            min_new_tokens=12,
            max_new_tokens=WRITTEN,
            eos_token_id=stops,
            suppress_tokens=barred.tolist(),
            use_cache=False,  # there it has no room for a decoder that is deeper than the encoder
            output_scores=True,
            return_dict_in_generate=True,
        )
        there = found.sequences[0, target.shape[1] :].tolist()
        best = torch.stack(found.scores)[:, 0].topk(2).values
        assert (best[:, 0] - best[:, 1]).min() > 10 * TOLERANCE  # no answer is a matter of rounding
        assert len(here) >= 12
        assert here == there
        said.update(here)
    assert len(said) > 3


@pytest.mark.parametrize(("make", "changed"), CASES, ids=NAMES)
def test_our_folder_loads_there_unchanged(
    transformers: ModuleType, tokenizer: Tokenizer, tmp_path: Path, make: Any, changed: dict[str, Any]
) -> None:
    first = make(transformers, tokenizer, **changed)
    shaken(first)
    model = load(folder_of(first, tokenizer, tmp_path / "theirs"))
    save(model, tmp_path / "ours")
    assert json.loads((tmp_path / "ours" / "config.json").read_text())["model_type"] == make.__name__
    again = reopened(transformers, tmp_path / "ours")
    assert type(again) is type(first)
    for name, weight in first.state_dict().items():
        skipped = 2 if "embed_positions" in name else 0  # rows that nothing reads
        assert torch.equal(weight[skipped:], again.state_dict()[name][skipped:]), name
    view, rows = question(model)
    assert (their_logits(first, view, rows) == their_logits(again, view, rows)).all()
    for name in ("bos", "eos", "pad"):
        assert getattr(again.config, f"{name}_token_id") == getattr(tokenizer, name)


def reopened(transformers: ModuleType, folder: Path) -> Any:
    again, told = transformers.AutoModelForSeq2SeqLM.from_pretrained(folder, output_loading_info=True)
    assert not told["missing_keys"] and not told["unexpected_keys"] and not told["mismatched_keys"]
    return again


SIZES: dict[str, Any] = {"layers": 5, "width": 32, "heads": 4, "context": 96, "hidden": 40, "qk_norm": False}
T5_LIKE = SIZES | {"norm": "rms", "positions": "relative", "activation": "relu", "head_width": 6, "scale": 1.0}
BART_LIKE = SIZES | {
    "norm_bias": True,
    "norm_place": "post",
    "embedding_norm": True,
    "final_norm": False,
    "positions": "learned",
    "activation": "gelu",
    "attention_bias": True,
    "output_bias": True,
    "feed_bias": True,
}


@pytest.mark.parametrize(
    ("shape", "form", "fields", "name"),
    [
        (T5_LIKE, {"tied": True, "scale": 32**-0.5}, {"start": "pad"}, "T5ForConditionalGeneration"),
        (T5_LIKE | {"gated": True, "activation": "gelu_tanh"}, {}, {}, "T5ForConditionalGeneration"),
        (T5_LIKE, {"tied": True}, {}, "T5ForConditionalGeneration"),
        (BART_LIKE, {"tied": True, "head_bias": True}, {"noise": "infilling"}, "BartForConditionalGeneration"),
        (
            BART_LIKE,
            {"tied": True, "head_bias": True},
            {"noise": "infilling", "start": "eos"},
            "BartForConditionalGeneration",
        ),
    ],
    ids=["t5", "t5 1.1", "t5 unscaled", "bart", "bart begun with its end"],
)
def test_a_model_made_here_in_their_form_loads_there(
    transformers: ModuleType,
    tokenizer: Tokenizer,
    tmp_path: Path,
    shape: dict[str, Any],
    form: dict[str, Any],
    fields: dict[str, Any],
    name: str,
) -> None:
    objective = Denoise(tokenizer.vocabulary, **fields)
    torch.manual_seed(1)
    stack = Two(Shape(vocabulary=tokenizer.padded, **shape), 2)
    head = Form(stack.shape, decoder=2, **form).head(stack, objective.vocabulary.unpredictable)
    model = Model(objective, stack, head, tokenizer)
    shaken(model)
    save(model, tmp_path)
    there = reopened(transformers, tmp_path)
    assert type(there).__name__ == name
    assert_same(model, there)
    assert load(tmp_path).objective == objective
    view, rows = question(model)
    source = torch.from_numpy(np.maximum(sides(view)[0].shown(rows.tokens), 0))[:1]
    began = there.generate(input_ids=source, max_new_tokens=3)[0].numpy()
    assert began[0] == objective.begins_with
    assert not np.isin(began[1:], objective.vocabulary.unpredictable).any()


def test_a_table_that_differs_is_its_own(transformers: ModuleType, tokenizer: Tokenizer, tmp_path: Path) -> None:
    """transformers 5 calls every T5 tied, and unties it where the file holds two tables: so do we."""
    theirs = t5(transformers, tokenizer, feed_forward_proj="gated-gelu", tie_word_embeddings=False)
    shaken(theirs)
    folder_of(theirs, tokenizer, tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    for said in ({"tie_word_embeddings": True, "scale_decoder_outputs": False}, {"tie_word_embeddings": False}):
        kept = {name: value for name, value in config.items() if name != "scale_decoder_outputs"}
        (tmp_path / "config.json").write_text(json.dumps(kept | said))
        assert_same(load(tmp_path), theirs)


def test_old_names_and_missing_parts_are_read(transformers: ModuleType, tokenizer: Tokenizer, tmp_path: Path) -> None:
    """Old files hold the one table again for each stack; a BART saved without its head has no bias of answers."""
    from safetensors.torch import load_file, save_file

    for make in (t5, bart):
        theirs, folder = make(transformers, tokenizer), tmp_path / make.__name__
        shaken(theirs)
        if make is bart:
            theirs.final_logits_bias.zero_()
        folder_of(theirs if make is t5 else theirs.model, tokenizer, folder)
        tensors = load_file(folder / "model.safetensors")
        for side in ("encoder", "decoder"):
            tensors[f"{side}.embed_tokens.weight"] = tensors["shared.weight"].clone()
        if make is t5:
            across = "decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight"
            tensors[across] = torch.zeros(8, 4)
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
        assert_same(load(folder), theirs)


def test_a_tokenizer_of_t5_brings_its_sentinels(tokenizer: Tokenizer, tmp_path: Path) -> None:
    tokenizer.save(tmp_path)
    file = tmp_path / "tokenizer.json"
    named = file.read_text(encoding="utf-8")
    for number in range(len(tokenizer.spares)):
        named = named.replace(f"<spare:{number}>", f"<extra_id_{number}>")
    file.write_text(named, encoding="utf-8")
    again = Tokenizer.load(file)
    assert again.spares == tokenizer.spares
    assert replace(again.vocabulary, spares=()) == replace(tokenizer.vocabulary, spares=())
