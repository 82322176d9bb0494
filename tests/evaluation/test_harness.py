"""lm-evaluation-harness through the adapter, on local files: causal as by its own class, others beside it."""

from __future__ import annotations

import contextlib
import json
import logging
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any
from zlib import crc32

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer as Engine
from tokenizers import decoders, models, pre_tokenizers, processors, trainers

from sightline import hub
from sightline.data import Tokenizer, train_tokenizer
from sightline.errors import SightlineError
from sightline.evaluation.continuation import Scorer
from sightline.evaluation.suite import task_of
from sightline.objectives.backward import Backward
from sightline.objectives.base import Objective
from sightline.objectives.diffusion import Diffusion
from sightline.objectives.electra import Electra
from sightline.objectives.masked import Masked
from sightline.objectives.model import built
from sightline.runs.harness import register
from sightline.stacks.shape import Shape

Evaluate = Callable[..., dict[str, Any]]
TOLERANCE = 1e-4
CONTEXT = 256


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without the warnings and bars of the harness and of what it loads, which are theirs."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logging.disable(logging.WARNING)
        try:
            yield
        finally:
            logging.disable(logging.NOTSET)


@pytest.fixture(scope="module")
def lm_eval(peer: Callable[[str], ModuleType], tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModuleType]:
    with quiet(), pytest.MonkeyPatch.context() as patched:
        patched.setenv("HF_HOME", str(tmp_path_factory.mktemp("cache")))
        module = peer("lm_eval")
        peer("lm_eval.models.huggingface")
        datasets = peer("datasets")
        patched.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("datasets"))
        datasets.disable_progress_bars()
        register()
        yield module


@pytest.fixture(scope="module")
def files(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A few real minimal pairs and multiple choices as plain JSON lines."""
    folder = tmp_path_factory.mktemp("files")
    found = {}
    for name, source in (("blimp", "blimp/blimp.jsonl.gz"), ("copa", "copa/copa.jsonl")):
        task = task_of(shared_data / "benchmarks" / source).drawn(24, 0)
        found[name] = folder / f"{name}.jsonl"
        rows: list[dict[str, Any]] = []
        for item in task.items:
            good, bad = item.choices
            pair = {"sentence_good": good, "sentence_bad": bad}
            rows.append(
                pair if name == "blimp" else {"query": item.contexts[0], "choices": [good, bad], "gold": item.gold}
            )
        found[name].write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
    return found


@pytest.fixture(scope="module")
def tokenizer(files: dict[str, Path]) -> Tokenizer:
    return train_tokenizer([path.read_text(encoding="utf-8") for path in files.values()], "bpe", 500)


@pytest.fixture(scope="module")
def folders(
    peer: Callable[[str], ModuleType], tokenizer: Tokenizer, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Path]:
    transformers = peer("transformers")
    folder = tmp_path_factory.mktemp("models")
    torch.manual_seed(3)
    for name, make in (("gpt2", _gpt2), ("llama", _llama)):
        theirs = make(transformers, tokenizer)
        theirs.save_pretrained(folder / f"their-{name}")
        tokenizer.save(folder / f"their-{name}")
        hub.save(hub.load(folder / f"their-{name}"), folder / name)
    shape = Shape(layers=2, width=32, heads=2, vocabulary=tokenizer.padded, context=CONTEXT)
    kinds: dict[str, type[Objective]] = {
        "masked": Masked, "diffusion": Diffusion, "electra": Electra, "backward": Backward,
    }  # fmt: skip
    for name, kind in kinds.items():
        hub.save(built(kind(tokenizer.vocabulary), shape, tokenizer, seed=1), folder / name)
    return {path.name: path for path in folder.iterdir()}


@torch.no_grad()
def _gpt2(transformers: ModuleType, tokenizer: Tokenizer) -> Any:
    """Random, but that marks and padding are unlikely: the last norm adds a column of its own."""
    settings = {"n_positions": CONTEXT, "n_embd": 32, "n_layer": 2, "n_head": 4, "bos_token_id": 1, "eos_token_id": 2}
    model = transformers.GPT2LMHeadModel(transformers.GPT2Config(vocab_size=tokenizer.padded, **settings))
    for weight in model.parameters():
        weight.add_(0.2 * torch.randn_like(weight))
    model.transformer.ln_f.weight[0], model.transformer.ln_f.bias[0] = 0.0, 30.0
    model.transformer.wte.weight[:, 0] = 0.0
    model.transformer.wte.weight[np.flatnonzero(tokenizer.special_ids), 0] = -30.0
    return model


@torch.no_grad()
def _llama(transformers: ModuleType, tokenizer: Tokenizer) -> Any:
    """As ``_gpt2``, with a column that no layer writes to."""
    settings = {"hidden_size": 32, "intermediate_size": 56, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = transformers.LlamaConfig(
        vocab_size=tokenizer.padded, max_position_embeddings=CONTEXT, tie_word_embeddings=False, **settings
    )
    model = transformers.LlamaForCausalLM(config)
    for weight in model.parameters():
        weight.add_(0.2 * torch.randn_like(weight))
    model.model.embed_tokens.weight[:, 0] = 3.0
    for layer in model.model.layers:
        layer.self_attn.o_proj.weight[0] = layer.mlp.down_proj.weight[0] = 0.0
    model.lm_head.weight[:, 0] = 0.0
    model.lm_head.weight[np.flatnonzero(tokenizer.special_ids), 0] = -1e3
    return model


@pytest.fixture(scope="module")
def evaluate(lm_eval: ModuleType, files: dict[str, Path]) -> Evaluate:
    """The harness on both files; of generative and rolling tasks on one of them."""
    from lm_eval.tasks import TaskManager

    manager = TaskManager(include_defaults=False)
    common = {"dataset_path": "json", "test_split": "test", "num_fewshot": 0}

    def config(name: str, kind: str, **more: Any) -> dict[str, Any]:
        data = {"dataset_kwargs": {"data_files": {"test": str(files[name.split("-")[0]])}}}
        metrics = {"multiple_choice": ["acc", "acc_norm"], "generate_until": ["exact_match"]}
        names = metrics.get(kind, ["byte_perplexity"])
        aggregation = "weighted_perplexity" if kind == "loglikelihood_rolling" else "mean"
        higher = kind != "loglikelihood_rolling"
        listed = [{"metric": one, "aggregation": aggregation, "higher_is_better": higher} for one in names]
        return common | data | more | {"task": name, "output_type": kind, "metric_list": listed}

    pairs: dict[str, Any] = {
        "doc_to_text": "",
        "doc_to_target": 0,
        "doc_to_choice": "{{[sentence_good, sentence_bad]}}",
    }
    cast: dict[str, Any] = {"doc_to_text": "{{query}}", "doc_to_target": "gold", "doc_to_choice": "choices"}
    tasks = {
        "multiple_choice": [config("blimp", "multiple_choice", **pairs), config("copa", "multiple_choice", **cast)],
        "rolling": [
            config("blimp-rolling", "loglikelihood_rolling", doc_to_text="", doc_to_target="{{sentence_good}}")
        ],
        "generate": [
            config("copa-written", "generate_until", doc_to_text="{{query}}", doc_to_target="{{choices[gold]}}",
                   generation_kwargs={"until": ["."], "do_sample": False, "max_gen_toks": 8})
        ],
    }  # fmt: skip

    def run(model: str, kind: str = "multiple_choice", **arguments: Any) -> dict[str, Any]:
        asked = [dict(task) for task in tasks[kind]]
        with quiet():
            found: dict[str, Any] = lm_eval.simple_evaluate(
                model=model, model_args=arguments, tasks=asked, device="cpu", task_manager=manager, bootstrap_iters=0
            )
        return found

    return run


def answers(found: dict[str, Any], task: str) -> list[Any]:
    return [sample["resps"] for sample in sorted(found["samples"][task], key=lambda sample: sample["doc_id"])]


@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_causal_numbers_are_those_of_its_own_class(name: str, evaluate: Evaluate, folders: dict[str, Path]) -> None:
    ours = evaluate("sightline", path=str(folders[name]))
    theirs = evaluate("hf", pretrained=str(folders[name]), add_bos_token=True, dtype="float32")
    for task in ("blimp", "copa"):
        for metric in ("acc,none", "acc_norm,none"):
            assert ours["results"][task][metric] == theirs["results"][task][metric]
        logs = [np.array([[one[0][0] for one in item] for item in answers(found, task)]) for found in (ours, theirs)]
        assert logs[0].shape == (24, 2)
        np.testing.assert_allclose(*logs, atol=TOLERANCE * 10, rtol=0)
        likeliest = [[[one[0][1] for one in item] for item in answers(found, task)] for found in (ours, theirs)]
        assert likeliest[0] == likeliest[1]
    assert 0 < ours["results"]["blimp"]["acc,none"] < 1
    assert ours["config"]["score_class"] == "exact" and "exact: log p" in ours["config"]["score_rules"]["whole"]


def test_a_model_of_others_is_asked_as_the_harness_asks_it_by_itself(
    evaluate: Evaluate, peer: Callable[[str], ModuleType], files: dict[str, Path], tmp_path: Path
) -> None:
    """A GPT-2 with its kind of tokenizer: no mark before a context, one where a context is empty."""
    engine = Engine(models.BPE())
    engine.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    engine.decoder = decoders.ByteLevel()
    engine.post_processor = processors.ByteLevel(trim_offsets=False)
    marks = ["<|endoftext|>"]
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(vocab_size=500, special_tokens=marks, initial_alphabet=alphabet, show_progress=False)
    engine.train_from_iterator([path.read_text(encoding="utf-8") for path in files.values()], trainer)
    engine.save(str(tmp_path / "tokenizer.json"))
    names = {"tokenizer_class": "GPT2Tokenizer", "bos_token": marks[0], "eos_token": marks[0]}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(names), encoding="utf-8")
    torch.manual_seed(3)
    _gpt2(peer("transformers"), Tokenizer.load(tmp_path)).save_pretrained(tmp_path)
    for kind, task in (("multiple_choice", "blimp"), ("multiple_choice", "copa"), ("generate", "copa-written")):
        ours = evaluate("sightline", kind, path=str(tmp_path))
        theirs = evaluate("hf", kind, pretrained=str(tmp_path), dtype="float32")
        one, other = answers(ours, task), answers(theirs, task)
        if kind == "generate":
            assert [item[0][0].rstrip("\ufffd") for item in one] == [item[0][0].rstrip("\ufffd") for item in other]
        else:
            logs = [np.array([[answer[0][0] for answer in item] for item in side]) for side in (one, other)]
            np.testing.assert_allclose(*logs, atol=TOLERANCE * 10, rtol=0)


def test_causal_texts_and_written_answers_are_those_of_its_own_class(
    evaluate: Evaluate, folders: dict[str, Path]
) -> None:
    for kind, task in (("rolling", "blimp-rolling"), ("generate", "copa-written")):
        ours = evaluate("sightline", kind, path=str(folders["gpt2"]))
        marked = kind == "generate"  # of a whole text it puts one mark before the text by itself, and asks a second
        theirs = evaluate("hf", kind, pretrained=str(folders["gpt2"]), add_bos_token=marked, dtype="float32")
        one, other = answers(ours, task), answers(theirs, task)
        if kind == "rolling":
            assert np.ravel(one).astype(float) == pytest.approx(np.ravel(other).astype(float), abs=TOLERANCE * 10)
        else:
            # Ours leave a letter away that was cut in the middle of its bytes.
            texts = [[item[0][0].rstrip("\ufffd") for item in side] for side in (one, other)]
            assert texts[0] == texts[1] and any(texts[0])


@pytest.mark.parametrize(("name", "class_"), [("masked", "pseudo"), ("diffusion", "bound")])
def test_other_families_are_asked_by_their_own_rule(
    name: str, class_: str, evaluate: Evaluate, folders: dict[str, Path], files: dict[str, Path]
) -> None:
    found = evaluate("sightline", path=str(folders[name]), looks=4)
    assert found["config"]["family"] == name and found["config"]["score_class"] == class_
    scorer = Scorer.of(hub.load(folders[name]), looks=4)
    task = task_of(files["copa"])
    requests = [request for item in task.items for request in item.requests]
    keys = [crc32(f"copa:{number}".encode()) for number, item in enumerate(task.items) for _ in item.requests]
    expected = scorer.score(requests, "continuation", items=keys).logp.reshape(-1, 2)
    logs = np.array([[one[0][0] for one in item] for item in answers(found, "copa")])
    np.testing.assert_allclose(logs, expected, atol=TOLERANCE, rtol=0)
    right = expected.argmax(1) == np.array([item.gold for item in task.items])
    assert found["results"]["copa"]["acc,none"] == pytest.approx(right.mean())
    assert 0 <= found["results"]["blimp"]["acc,none"] <= 1


@pytest.mark.parametrize(
    ("name", "kind", "why"),
    [
        ("electra", "multiple_choice", "no probability of any text"),
        ("electra", "generate", "writes nothing"),
        ("masked", "rolling", "would print them as a perplexity"),
        ("backward", "generate", "stands before a text"),
    ],
)
def test_a_request_without_meaning_ends_the_run(
    name: str, kind: str, why: str, evaluate: Evaluate, folders: dict[str, Path]
) -> None:
    with pytest.raises(SightlineError, match=why):
        evaluate("sightline", kind, path=str(folders[name]))


def test_without_a_model_or_the_extra_it_says_what_to_do(lm_eval: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    adapter = register()
    assert register() is adapter
    with pytest.raises(SightlineError, match="path=RUN"):
        adapter()
    monkeypatch.setitem(__import__("sys").modules, "lm_eval.models", None)
    with pytest.raises(SightlineError, match=r"sightline\[harness\]"):
        register()
