"""Fine-tuning through the command line: a task is learned, kept, and gone on with; mistakes are told in one line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer as Engine
from tokenizers import models, normalizers, pre_tokenizers, trainers

import sightline as sl
from sightline import hub
from sightline.cli import main
from sightline.errors import SightlineError
from sightline.training import finetuning

HOW = ("--threads", "1", "--device", "cpu")
QUICK: dict[str, Any] = {"threads": 1, "device": "cpu"}
SMALL = (
    "--budget", "2steps", "--context", "64", "--batch", "2", "--tokenizer", "byte", "--validations", "1",
    "--dtype", "float32", "--compile", "off", *HOW,
)  # fmt: skip


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory, page: str) -> Path:
    path = tmp_path_factory.mktemp("text") / "page.txt"
    path.write_text(page, encoding="utf-8")
    return path


def learned(family: str, text: Path, folder: Path, *more: str) -> Path:
    assert main(["train", family, str(text), *SMALL, *more, "--out", str(folder / family)]) == 0
    return folder / family


@pytest.fixture(scope="module")
def masked(text: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return learned("masked", text, tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def letters(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Texts of a's or of b's, in which the label stands."""
    folder = tmp_path_factory.mktemp("letters")
    for side, count in (("train", 32), ("dev", 8), ("test", 12)):
        lines = [f"{'ab'[at % 2] * (3 + at % 7)} {side}{at}\t{('no', 'yes')[at % 2]}\n" for at in range(count)]
        (folder / f"{side}.tsv").write_text("".join(lines), encoding="utf-8")
    return folder


def test_a_task_is_learned_and_every_answer_kept(
    masked: Path, letters: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    words = ["finetune", str(masked), str(letters), "--columns", "text=1,label=2", "--seeds", "2", "--epochs", "12"]
    words += ["--batch", "4", "--rate", "2e-3", *HOW, "--out", str(out)]
    assert main(words) == 0
    told = capsys.readouterr().out
    results = json.loads((out / "results.json").read_text(encoding="utf-8"))
    assert results["scores"][0]["value"] > 0.9 > results["floor"][0]["value"]
    assert [one["name"] for one in results["scores"]] == ["accuracy", "macro_f1", "matthews"]
    lines = [json.loads(line) for line in (out / "predictions.jsonl").read_text(encoding="utf-8").splitlines()]
    assert len(lines) == 2 * 12 and {one["seed"] for one in lines} == {0, 1}
    assert set(lines[0]) == {"item", "group", "gold", "predicted", "correct", "scores", "seed", "in_train"}
    head = json.loads((out / "task.json").read_text(encoding="utf-8"))
    assert head["labels"] == ["no", "yes"] and head["pool"] == "auto"
    assert load_file(out / "head.safetensors")["weight"].shape == (2, 128)
    assert hub.load(out / "model").objective.family == "masked"  # an ordinary model folder
    assert "next: sightline finetune" in told
    before = (out / "results.json").read_bytes()
    assert main(words) == 0 and (out / "results.json").read_bytes() == before  # nothing is run again
    assert main([*words[:-2], "--epochs", "3", "--out", str(out)]) == 2
    assert "a fine-tuning of another kind (epochs 12, not 3)" in capsys.readouterr().err


def test_stopped_after_an_epoch_it_ends_the_same(
    masked: Path, letters: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {"columns": "text=1,label=2", "seeds": 1, "epochs": 3, "patience": 0, **QUICK}
    whole = sl.finetune(masked, letters, out=tmp_path / "whole", **settings)
    plain, calls = finetuning._batches, []

    def stopping(*given: Any) -> Any:
        calls.append(given)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return plain(*given)

    with monkeypatch.context() as patched:
        patched.setattr(finetuning, "_batches", stopping)
        words = ["finetune", str(masked), str(letters), "--columns", "text=1,label=2", "--seeds", "1", "--epochs", "3"]
        assert main([*words, "--patience", "0", *HOW, "--out", str(tmp_path / "stopped")]) == 130
    again = sl.finetune(masked, letters, out=tmp_path / "stopped", **settings)
    assert len(calls) == 3  # one epoch was left
    files = [(folder / "predictions.jsonl").read_text(encoding="utf-8") for folder in (whole.folder, again.folder)]
    assert files[0] == files[1]


@pytest.mark.parametrize(
    ("family", "pool"),
    [("causal", "last"), ("electra", "mean"), ("prefix", "mean"), ("two_way", "last"), ("denoise", "mean")],
)
def test_each_family_states_what_represents_a_text(
    family: str, pool: str, text: Path, letters: Path, tmp_path: Path
) -> None:
    model = learned(family, text, tmp_path)
    found = sl.finetune(
        model, letters, columns="text=1,label=2", seeds=1, epochs=1, tune="lora", out=tmp_path / "out", **QUICK
    )
    assert f"{pool} state, words" in found.results["represents"]
    frozen = sl.finetune(
        model, letters, columns="text=1,label=2", seeds=1, epochs=2, tune="frozen", out=tmp_path / "frozen", **QUICK
    )
    assert frozen.results["seeds"][0]["parameters"] < 1000
    held, begun = (load_file(folder / "model" / "model.safetensors") for folder in (frozen.folder, model))
    assert set(held) == set(begun) == set(load_file(found.folder / "model" / "model.safetensors"))
    assert all(bool((held[name] == begun[name]).all()) for name in held)


def test_tags_pairs_and_numbers(masked: Path, tmp_path: Path) -> None:
    line = "In O\nNew B-LOC\nYork I-LOC\nAnn B-PER\nran O\n\n"
    for side in ("train", "dev", "test"):
        (tmp_path / f"{side}.conll").write_text(line * 4 + "x O\n" * 40, encoding="utf-8")
    found = sl.finetune(masked, tmp_path, seeds=1, epochs=20, batch=2, rate=2e-3, out=tmp_path / "tags", **QUICK)
    assert [one.name for one in found.scores] == ["span_f1", "accuracy"] and found.scores[1].value == 1.0
    pairs = tmp_path / "pairs.csv"
    rows = [f"one {at},two {at},{at / 7:.3f}\n" for at in range(40)]
    pairs.write_text("text,pair,score\n" + "".join(rows), encoding="utf-8")
    found = sl.finetune(masked, pairs, seeds=1, epochs=1, from_scratch=True, out=tmp_path / "numbers", **QUICK)
    assert [one.name for one in found.scores] == ["pearson", "spearman", "mean_absolute_error"]
    assert found.results["items"] == {"train": 32, "dev": 4, "test": 4}


def test_answers_in_a_context_longer_than_the_model_reads(masked: Path, tmp_path: Path) -> None:
    for side, count in (("train", 12), ("dev", 2), ("test", 2)):
        lines = []
        for at in range(count):
            context = f"{'y' * (at % 5)} padding is here {'. ' * (15 * (at % 2))}the 京都 is <b{at % 4}> and on"
            answer = f"<b{at % 4}>"
            told = {"text": [answer], "answer_start": [context.index(answer)]}
            lines.append(json.dumps({"context": context, "question": "Where?", "answers": told}) + "\n")
        (tmp_path / f"{side}.jsonl").write_text("".join(lines), encoding="utf-8")
    settings: dict[str, Any] = {"seeds": 1, "epochs": 6, "batch": 4, "rate": 3e-3, "patience": 0, **QUICK}
    found = sl.finetune(masked, tmp_path, out=tmp_path / "out", **settings)
    assert [one.name for one in found.scores] == ["f1", "exact_match"]
    losses = found.results["seeds"][0]["losses"]
    assert losses[-1] < 0.7 * losses[0]
    records = [
        json.loads(line) for line in (found.folder / "predictions.jsonl").read_text(encoding="utf-8").splitlines()
    ]
    assert [one["gold"] for one in records] == [["<b0>"], ["<b1>"]] and all("scores" in one for one in records)


def test_answers_are_learned_whatever_cuts_the_text(
    text: Path, tmp_path: Path, peer: Callable[[str], ModuleType]
) -> None:
    """WordPiece of our own, and an adopted BERT without case and accents: answers stand as in their contexts."""
    lines, names = [], ("Zoé", "ÅSA Ek", "de Groot", "Iñaki")
    for at in range(12):
        context = f"{'So ' * (at % 3)}{names[at % 4]} met  {names[(at + 1 + at // 4) % 4]} in Köln."
        told = {"text": [names[at % 4]], "answer_start": [context.index(names[at % 4])]}
        lines.append(json.dumps({"context": context, "question": "Who met?", "answers": told}) + "\n")
    for side in ("train", "dev", "test"):
        (tmp_path / f"{side}.jsonl").write_text("".join(lines), encoding="utf-8")
    ours = learned("masked", text, tmp_path, "--tokenizer", "wordpiece:300")
    sl.adopt(str(bert(peer("transformers"), tmp_path / "theirs", [*lines, *names])), out=tmp_path / "adopted")
    settings: dict[str, Any] = {"seeds": 1, "epochs": 20, "batch": 4, "rate": 3e-3, "patience": 0, "dropout": 0.0}
    for model in (ours, tmp_path / "adopted"):
        found = sl.finetune(model, tmp_path, out=tmp_path / f"{model.name}-out", **settings, **QUICK)
        assert [one.value for one in found.scores] == [1.0, 1.0]
        kept = (found.folder / "predictions.jsonl").read_text(encoding="utf-8").splitlines()
        assert {one["predicted"] for one in map(json.loads, kept)} == set(names)


def bert(transformers: ModuleType, folder: Path, texts: list[str]) -> Path:
    """A small one as they are published: WordPiece, small letters, no accents."""
    engine = Engine(models.WordPiece(unk_token="[UNK]"))
    engine.normalizer, engine.pre_tokenizer = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
    marks = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    how = trainers.WordPieceTrainer(vocab_size=160, special_tokens=marks, show_progress=False)
    engine.train_from_iterator(texts, how)
    names = {f"{name}_token": f"[{name.upper()}]" for name in ("pad", "unk", "cls", "sep", "mask")}
    transformers.PreTrainedTokenizerFast(tokenizer_object=engine, **names).save_pretrained(folder)
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = transformers.BertConfig(vocab_size=engine.get_vocab_size(), max_position_embeddings=64, **sizes)
    transformers.BertForMaskedLM(config).save_pretrained(folder)
    return folder


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--columns", "text=1,label=9"], "no column '9' for label (there are: 1, 2)"),
        (["--seeds", "0"], "--seeds 0 is none at all"),
        (["--rate", "0"], "--rate 0 teaches nothing"),
        (["--rate", "1e-3", "1e-4", "--tune", "frozen"], "a frozen stack has no rate to choose"),
        (["--dropout", "1"], "--dropout 1 is no share"),
        (["--test", "none.tsv"], "--test none.tsv is neither in"),
    ],
)
def test_mistakes(
    words: list[str], told: str, masked: Path, letters: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["finetune", str(masked), str(letters), *words, *HOW, "--out", str(tmp_path / "out")]) == 2
    assert told in capsys.readouterr().err
    assert not (tmp_path / "out" / "results.json").exists()


def test_a_family_without_states_is_refused(text: Path, letters: Path, tmp_path: Path) -> None:
    model = learned("ngram", text, tmp_path)
    with pytest.raises(SightlineError, match="ngram keeps no states"):
        sl.finetune(model, letters, columns="text=1,label=2", out=tmp_path / "out", **QUICK)


@pytest.mark.parametrize(("width", "size", "rate"), [(768, 0.04, 5e-5), (128, 0.045, 3e-4), (128, 0.2, 1.33e-3)])
def test_the_rate_grows_with_narrowness_and_with_the_weights(width: int, size: float, rate: float) -> None:
    stack = torch.nn.Linear(width, width)
    stack.width = width  # type: ignore[assignment]
    with torch.no_grad():
        stack.weight.normal_(0, size, generator=torch.Generator().manual_seed(0))
    assert finetuning.usual_rate(stack) == pytest.approx(rate, rel=0.02)


def test_of_several_rates_dev_chooses(
    masked: Path, letters: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    words = ["finetune", str(masked), str(letters), "--columns", "text=1,label=2", "--seeds", "2", "--epochs", "2"]
    words += ["--patience", "0", "--rate", "1e-5", "3e-3", *HOW, "--out", str(out)]
    assert main(words) == 0
    results = json.loads((out / "results.json").read_text(encoding="utf-8"))
    tried = results["tried"]
    assert (
        list(tried) == ["1e-05", "0.003"]
        and results["rate"] == float(max(tried, key=lambda rate: tried[rate])) == 0.003
    )
    assert "rate 0.003, chosen on dev" in capsys.readouterr().out
    plain = sl.finetune(
        masked, letters, columns="text=1,label=2", seeds=2, epochs=2, patience=0, rate=3e-3, out=tmp_path / "plain",
        **QUICK,
    )  # fmt: skip
    assert [one["dev"] for one in results["seeds"]] == [one["dev"] for one in plain.results["seeds"]]
    files = [(folder / "predictions.jsonl").read_text(encoding="utf-8") for folder in (out, plain.folder)]
    assert files[0] == files[1] and hub.load(out / "model").objective.family == "masked"
    before = (out / "results.json").read_bytes()
    assert main(words) == 0 and (out / "results.json").read_bytes() == before  # nothing is run again
    assert not list((out / "rates").rglob("model"))
