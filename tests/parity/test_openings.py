"""Prefix, UniLM and GLM beside transformers: their stacks with equal weights, under masks written out by hand here."""

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
from sightline.hub import load
from sightline.objectives import Blank, Prefix
from sightline.objectives.model import Model
from sightline.stacks.transformer import Transformer

TOLERANCE = 1e-4
TEXT = "Two roads met under the elm; 的确."


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return train_tokenizer([TEXT], "byte")


def theirs(peer: Callable[[str], ModuleType], kind: str, tokenizer: Tokenizer, folder: Path) -> tuple[Any, Model]:
    """A random model of transformers, and the same as ours."""
    transformers = peer("transformers")
    if kind == "gpt2":
        sizes = {"n_positions": 64, "n_embd": 32, "n_layer": 3, "n_head": 4, "bos_token_id": 1, "eos_token_id": 2}
        config = transformers.GPT2Config(vocab_size=tokenizer.padded, attn_implementation="eager", **sizes)
        model = transformers.GPT2LMHeadModel(config)
    else:
        sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4}
        config = transformers.BertConfig(
            vocab_size=tokenizer.padded, max_position_embeddings=64, attn_implementation="eager", **sizes
        )
        model = transformers.BertForMaskedLM(config)
    torch.manual_seed(0)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.2 * torch.randn_like(weight))
    model.eval().save_pretrained(folder)
    tokenizer.save(folder)
    return model, load(folder)


def hidden(sees: np.ndarray) -> torch.Tensor:
    """What is added to the scores, [1, 1, slots, slots]."""
    return torch.from_numpy(np.where(sees, 0.0, -1e9)).float()[None, None]


def nats(logits: torch.Tensor, at: list[int], answers: list[int], tokenizer: Tokenizer) -> float:
    """Of these answers, among ids that are ever predicted."""
    said = logits.index_fill(-1, torch.from_numpy(tokenizer.vocabulary.unpredictable), -torch.inf)
    return -float(said.log_softmax(-1)[at, answers].sum())


def test_a_prefix_over_gpt2_s_weights(peer: Callable[[str], ModuleType], tokenizer: Tokenizer, tmp_path: Path) -> None:
    other, ours = theirs(peer, "gpt2", tokenizer, tmp_path)
    ids = [1, *tokenizer.encode(TEXT).tolist(), 2]
    count, split = len(ids), 11
    place = np.arange(count)
    sees = (place[None] <= place[:, None]) | (place[None] < split)
    with torch.no_grad():
        logits = other(input_ids=torch.tensor([ids]), attention_mask=hidden(sees)).logits[0]
    model = Model(Prefix(ours.objective.vocabulary), ours.stack, ours.head, tokenizer).eval()
    got, asked = model.examined(Rows.of([ids], tokenizer, wanted=[place >= split]))
    assert asked[0] == count - split
    assert got[0] == pytest.approx(
        nats(logits, list(range(split - 1, count - 1)), ids[split:], tokenizer), rel=TOLERANCE
    )


def test_unilm_over_bert_s_weights(peer: Callable[[str], ModuleType], tokenizer: Tokenizer, tmp_path: Path) -> None:
    """Token after token: a mask is appended, read where it stands, and replaced; the source sees itself both ways."""
    other, ours = theirs(peer, "bert", tokenizer, tmp_path)
    ids = [1, *tokenizer.encode(TEXT[:20]).tolist(), 2]
    split, total = 9, 0.0
    for at in range(split, len(ids)):
        shown = [*ids[:at], tokenizer.vocabulary.mask]
        place = np.arange(at + 1)
        sees = (place[None] <= place[:, None]) | (place[None] < split)
        kinds = torch.from_numpy((place >= split).astype(np.int64))[None]
        with torch.no_grad():
            said = other(input_ids=torch.tensor([shown]), attention_mask=hidden(sees), token_type_ids=kinds).logits[0]
        total += nats(said, [at], [ids[at]], tokenizer)
    model = Model(Prefix(ours.objective.vocabulary, at_mask=0.15), ours.stack, ours.head, tokenizer).eval()
    wanted = np.arange(len(ids)) >= split
    got, asked = model.examined(Rows.of([ids], tokenizer, wanted=[wanted]))
    assert asked[0] == len(ids) - split
    assert got[0] == pytest.approx(total, rel=TOLERANCE)


def test_glm_over_gpt2_s_weights(peer: Callable[[str], ModuleType], tokenizer: Tokenizer, tmp_path: Path) -> None:
    """Du et al. (2022), written out: two blanks, part B behind part A, two tables of places added up."""
    other, ours = theirs(peer, "gpt2", tokenizer, tmp_path)
    marks = tokenizer.vocabulary
    ids = [1, *tokenizer.encode(TEXT[:20]).tolist(), 2]
    spans = [(4, 7), (12, 13)]
    second = torch.randn(64, 32, generator=torch.Generator().manual_seed(5))
    part_a = [*ids[:4], marks.mask, *ids[7:12], marks.mask, *ids[13:]]
    line, answers = list(part_a), []
    one, two = list(range(len(part_a))), [0] * len(part_a)
    for start, stop in spans:
        mask = 4 if start == 4 else 10
        line += [marks.sep, *ids[start:stop]]
        answers += [*ids[start:stop], marks.eos]
        one += [mask] * (stop - start + 1)
        two += range(1, stop - start + 2)
    place = np.arange(len(line))
    sees = (place[None] < len(part_a)) | (place[None] <= place[:, None])
    with torch.no_grad():
        shown = other.transformer.wte(torch.tensor([line])) + second[torch.tensor([two])]
        logits = other(
            inputs_embeds=shown, position_ids=torch.tensor([one]), attention_mask=hidden(sees)
        ).logits[0]  # fmt: skip
    stack = ours.stack
    assert isinstance(stack, Transformer)
    wider = Transformer(replace(stack.shape, position_tables=2))
    wider.load_state_dict({**stack.state_dict(), "places.1.weight": second})
    model = Model(Blank(ours.objective.vocabulary, sentences=0), wider, ours.head, tokenizer).eval()
    wanted = np.isin(np.arange(len(ids)), [4, 5, 6, 12])
    got, asked = model.examined(Rows.of([ids], tokenizer, wanted=[wanted]), infill=True)
    assert asked[0] == len(answers)
    assert got[0] == pytest.approx(nats(logits, list(range(len(part_a), len(line))), answers, tokenizer), rel=TOLERANCE)
