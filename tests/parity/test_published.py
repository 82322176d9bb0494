"""What published folders hold beside the plain case: several ends of a text, and folders written again as they were."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer as Engine
from tokenizers import decoders, models, pre_tokenizers, trainers

import sightline as sl
from sightline import hub
from sightline.data import train_tokenizer
from sightline.decoders.sampling import GREEDY
from sightline.objectives.model import Model
from sightline.objectives.writing import generate

TEXTS = ["The cat sat on the mat, and who sees whom?", "Two roads met under the elm; 的确."] * 8
PROMPT = "The cat sat on"
MARKS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|fim|>"]
OVER, START, TURN, OTHER = range(4)
SIZES = {
    "hidden_size": 32,
    "intermediate_size": 56,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 96,
}
WRITTEN = 24


def chatting(transformers: ModuleType, folder: Path, ends: int | list[int] | None, **config: Any) -> Any:
    """A folder like those of Qwen2's chat models: a turn ends in one mark, and a text, as padding, in another."""
    engine = Engine(models.BPE())
    engine.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    engine.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    engine.train_from_iterator(
        TEXTS, trainers.BpeTrainer(vocab_size=300, special_tokens=MARKS, initial_alphabet=alphabet, show_progress=False)
    )
    folder.mkdir()
    engine.save(str(folder / "tokenizer.json"))
    names = {"bos_token": MARKS[START], "eos_token": MARKS[TURN], "pad_token": MARKS[OVER]}
    (folder / "tokenizer_config.json").write_text(json.dumps(names | {"tokenizer_class": "PreTrainedTokenizerFast"}))
    torch.manual_seed(3)
    ids = {"bos_token_id": START, "eos_token_id": TURN, "pad_token_id": OVER} | config
    module = transformers.Qwen2ForCausalLM(
        transformers.Qwen2Config(vocab_size=engine.get_vocab_size(), **SIZES, **ids, tie_word_embeddings=False)
    ).eval()
    with torch.no_grad():
        for weight in module.parameters():
            weight.add_(0.2 * torch.randn_like(weight))
    module.generation_config.eos_token_id, module.generation_config.pad_token_id = ends, OVER
    module.save_pretrained(folder)
    return module


def written_there(module: Any, ids: list[int], barred: list[int]) -> list[int]:
    """What transformers writes behind a prompt, by the folder's own ends."""
    given = torch.tensor([ids])
    found = module.generate(
        given,
        attention_mask=torch.ones_like(given),
        do_sample=False,
        num_beams=1,
        max_new_tokens=WRITTEN,
        suppress_tokens=barred,
    )
    return list(found[0, len(ids) :].tolist())


def answered_by(module: Any, mark: int, instead: int) -> None:
    """Exchange two rows of the head, so that one is written where the other was."""
    with torch.no_grad():
        rows = module.lm_head.weight
        rows[[mark, instead]] = rows[[instead, mark]]


@pytest.mark.parametrize("end", [TURN, OVER])
def test_each_of_several_ends_ends_a_text(transformers: ModuleType, tmp_path: Path, end: int) -> None:
    module = chatting(transformers, tmp_path / "theirs", [TURN, OVER])
    ids = hub.load(tmp_path / "theirs").tokenizer.encode(PROMPT).tolist()
    barred = [START, OTHER]
    free = written_there(module, ids, barred)
    at = next(at for at in range(5, len(free) - 1) if free[at] not in free[:at])
    answered_by(module, end, free[at])
    module.save_pretrained(tmp_path / "theirs")

    model = hub.load(tmp_path / "theirs")
    vocabulary = model.objective.vocabulary
    assert (vocabulary.eos, vocabulary.ends, model.objective.stops) == (TURN, (OVER,), (TURN, OVER))
    hub.save(model, tmp_path / "ours")
    for name in ("config.json", "generation_config.json"):
        told = json.loads((tmp_path / "ours" / name).read_text())
        assert (told["eos_token_id"], told["pad_token_id"]) == ([TURN, OVER], OVER)
    again = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "ours")
    back = hub.load(tmp_path / "ours")
    assert back.objective == model.objective

    there = written_there(module, ids, barred)
    assert there == [*free[:at], end] == written_there(again, ids, barred)
    for mine in (model, back):
        (text,) = generate(mine, [PROMPT], length=WRITTEN, sampling=GREEDY)
        assert text.tokens == len(there) and text.text == PROMPT + mine.tokenizer.decode(there)


@pytest.mark.parametrize(
    ("generation", "config", "ends"),
    [
        (None, [TURN, OVER], (OVER,)),
        ([TURN, 40], TURN, (40,)),  # a list is meant, be it of ordinary tokens
        (OVER, 40, (OVER,)),  # what generates is told by generation_config.json
        (None, 40, ()),  # a default for another vocabulary
        ([TURN, 9999, OVER, OVER], TURN, (OVER,)),
    ],
)
def test_which_ends_are_meant(
    transformers: ModuleType, tmp_path: Path, generation: Any, config: Any, ends: tuple[int, ...]
) -> None:
    chatting(transformers, tmp_path / "theirs", None)
    for name, value in (("generation_config.json", generation), ("config.json", config)):
        file = tmp_path / "theirs" / name
        file.write_text(json.dumps(json.loads(file.read_text()) | {"eos_token_id": value}))
    vocabulary = hub.load(tmp_path / "theirs").objective.vocabulary
    assert (vocabulary.eos, vocabulary.ends) == (TURN, ends)


def test_ends_stay_under_another_sight(transformers: ModuleType, tmp_path: Path) -> None:
    chatting(transformers, tmp_path / "theirs", [TURN, OVER])
    found = sl.adopt(str(tmp_path / "theirs"), family="prefix", out=tmp_path / "ours")
    assert found.tokenizer.endswith("; a text also ends in <|endoftext|>")
    model = hub.load(tmp_path / "ours")
    assert isinstance(model, Model) and model.objective.family == "prefix"
    assert model.objective.stops[:2] == (TURN, OVER)
    assert OVER not in model.objective.vocabulary.unpredictable
    assert not np.isin(model.objective.stops, model.objective.vocabulary.unpredictable).any()


@pytest.mark.parametrize(
    ("name", "settings"),
    [("RobertaForMaskedLM", {"type_vocab_size": 1}), ("MistralForCausalLM", {"sliding_window": None, "head_dim": 8})],
)
def test_what_it_came_as_it_stays(
    transformers: ModuleType, tmp_path: Path, name: str, settings: dict[str, Any]
) -> None:
    """An older class computes the same, and is what one that was trained here is written as."""
    tokenizer = train_tokenizer(TEXTS, "byte")
    kind = getattr(transformers, name)
    ids = {f"{mark}_token_id": getattr(tokenizer, mark) for mark in ("pad", "bos", "eos")}
    sizes = SIZES if "Mistral" in name else {key: size for key, size in SIZES.items() if "key" not in key}
    kind(kind.config_class(vocab_size=tokenizer.padded, **sizes, **ids, **settings)).save_pretrained(tmp_path / "a")
    tokenizer.save(tmp_path / "a")
    family = hub.load(tmp_path / "a").objective.family
    sl.adopt(str(tmp_path / "a"), out=tmp_path / "b")
    sl.adopt(str(tmp_path / "b"), family=family, out=tmp_path / "c")
    for folder in ("b", "c"):
        assert json.loads((tmp_path / folder / "config.json").read_text())["architectures"] == [name]
    anew = hub.load(tmp_path / "c")
    anew.came_as = ""
    hub.save(anew, tmp_path / "d")
    older = json.loads((tmp_path / "d" / "config.json").read_text())["architectures"]
    assert older == [{"RobertaForMaskedLM": "BertForMaskedLM", "MistralForCausalLM": "LlamaForCausalLM"}[name]]
