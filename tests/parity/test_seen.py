"""What other people's models see, measured on folders that transformers wrote."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from sightline.data import train_tokenizer
from sightline.errors import SightlineError
from sightline.runs.see import see

TEXT = "one two three four five six seven"
SMALL = {
    "vocab_size": 400,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "max_position_embeddings": 32,
}


@pytest.fixture(scope="module")
def transformers(peer: Callable[[str], ModuleType]) -> ModuleType:
    return peer("transformers")


def written(transformers: ModuleType, name: str, folder: Path, **settings: Any) -> Path:
    """A random model of a class, saved as its owner would; remarks and bars are not for the tests' output."""
    logs = transformers.utils.logging
    logs.set_verbosity_error()
    logs.disable_progress_bar()
    kind = getattr(transformers, name)
    kind(kind.config_class(**settings)).save_pretrained(folder)
    return folder


def gpt2(transformers: ModuleType, folder: Path, **settings: Any) -> Path:
    plain = {"vocab_size": 400, "n_positions": 32, "n_embd": 16, "n_layer": 2, "n_head": 2}
    return written(transformers, "GPT2LMHeadModel", folder, **plain, bos_token_id=1, eos_token_id=2, **settings)


def test_gpt2_is_exactly_causal(transformers: ModuleType, tmp_path: Path) -> None:
    seen = see(gpt2(transformers, tmp_path), text=TEXT)
    assert (seen.declared, seen.declared_matrix, seen.measured) == (None, None, "past")
    assert (seen.measured_matrix == np.tril(np.ones((7, 7), dtype=bool))).all()
    assert seen.tokens == tuple(TEXT.split())
    assert not seen.leaks
    assert "has no tokenizer" in str(seen)
    record = json.loads(json.dumps(seen.record()))
    assert record["declared_matrix"] is None
    assert record["measured"] == "past"


def test_bert_is_exactly_full(transformers: ModuleType, tmp_path: Path) -> None:
    seen = see(written(transformers, "BertForMaskedLM", tmp_path, **SMALL), text=TEXT)
    assert seen.measured == "everything"
    assert seen.measured_matrix.all()
    assert not seen.leaks
    assert "no leak can be named" in str(seen)


def test_a_full_stack_asked_for_the_next_token_leaks(transformers: ModuleType, tmp_path: Path) -> None:
    folder = written(transformers, "BertForMaskedLM", tmp_path, **SMALL)
    config = folder / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"architectures": ["BertLMHeadModel"]}))
    seen = see(folder, text=TEXT)
    assert seen.measured == "everything"
    assert [(leak.slot, leak.answer) for leak in seen.leaks] == [(slot, slot + 1) for slot in range(6)]
    config.write_text(json.dumps(json.loads(config.read_text()) | {"is_decoder": True}))
    assert (see(folder, text=TEXT).measured, see(folder, text=TEXT).leaks) == ("past", ())


def test_a_window_is_measured_at_the_depth_of_the_stack(transformers: ModuleType, tmp_path: Path) -> None:
    folder = written(transformers, "MistralForCausalLM", tmp_path, **SMALL, num_key_value_heads=1, sliding_window=2)
    assert see(folder, text=TEXT).measured == "past & near(2)"


def test_two_stacks_are_measured_side_by_side(transformers: ModuleType, tmp_path: Path) -> None:
    shape = {"vocab_size": 400, "d_model": 16, "d_ff": 24, "num_layers": 2, "num_heads": 2, "d_kv": 8}
    seen = see(written(transformers, "T5ForConditionalGeneration", tmp_path, **shape), text="one two three four")
    full, none, past = np.ones((4, 4), bool), np.zeros((4, 4), bool), np.tril(np.ones((4, 4), bool))
    assert (seen.measured_matrix == np.block([[full, none], [full, past]])).all()
    assert seen.measured is None
    assert not seen.leaks
    assert (seen.tokens[0], seen.tokens[4]) == ("source one", "target one")


def test_the_folder_s_own_tokenizer_is_used(transformers: ModuleType, tmp_path: Path) -> None:
    folder, tokenizer = gpt2(transformers, tmp_path / "model"), train_tokenizer([TEXT], "byte")
    named = see(folder, text="a 的", tokenizer=str(saved_tokenizer(tokenizer, tmp_path / "tokenizer")))
    tokenizer.save(folder)
    own = see(folder, text="a 的")
    assert len(own.tokens) == len(named.tokens) == 5
    assert own.tokens[0] == named.tokens[0] == "a"
    assert own.measured == named.measured == "past"
    assert "no tokenizer" not in str(own)


def saved_tokenizer(tokenizer: Any, folder: Path) -> Path:
    tokenizer.save(folder)
    return folder


def complaint(folder: Path, **options: Any) -> str:
    with pytest.raises(SightlineError) as caught:
        see(folder, text=TEXT, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_folders_that_cannot_be_looked_at(transformers: ModuleType, tmp_path: Path) -> None:
    folder = gpt2(transformers, tmp_path)
    weights, config = folder / "model.safetensors", folder / "config.json"
    content, settings = weights.read_bytes(), json.loads(config.read_text())
    weights.write_bytes(content[: len(content) // 2])
    assert "does not open" in complaint(folder)
    weights.unlink()
    assert "holds no weights" in complaint(folder)
    (folder / "pytorch_model.bin").write_bytes(b"")
    assert "pickled weights" in complaint(folder)
    weights.write_bytes(content)
    config.write_text(json.dumps(settings | {"model_type": "mystery", "auto_map": {"AutoConfig": "mine.Config"}}))
    (folder / "mine.py").write_text("raise SystemExit('code of the folder was run')")
    assert "does not open" in complaint(folder)
    config.write_text(json.dumps(settings))
    assert see(folder, text=TEXT).measured == "past"


def test_ids_beyond_the_model_s_rows(transformers: ModuleType, tmp_path: Path) -> None:
    small = written(transformers, "BertForMaskedLM", tmp_path, **SMALL | {"vocab_size": 200})
    train_tokenizer([TEXT], "byte").save(small)
    assert "but the model has 200 rows" in complaint(small)


def test_a_text_longer_than_the_context_is_cut(transformers: ModuleType, tmp_path: Path) -> None:
    seen = see(gpt2(transformers, tmp_path), text="word " * 50, replacements=1)
    assert len(seen.tokens) == 32
    assert "the text has 50 tokens; the first 32 are looked at" in str(seen)
