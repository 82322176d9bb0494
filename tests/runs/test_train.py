"""train, end to end through the command line: resuming, killing, continuing, refusing."""

from __future__ import annotations

import json
import os
import pty
import shutil
import signal
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from sightline.cli import main
from sightline.files import file_fingerprint
from sightline.runs import ground

SOURCES = str(Path(__file__).resolve().parents[2] / "src")
OPTIONS = (
    "--budget", "6steps", "--context", "32", "--batch", "4", "--tokenizer", "byte", "--validations", "2",
    "--threads", "1", "--device", "cpu", "--dtype", "float32",
)  # fmt: skip
WEIGHTS = Path("model", "model.safetensors")
CHINESE = """春天来了，河水慢慢地涨起来，孩子们在岸边放风筝。老人坐在树下，讲着从前的故事，谁也不着急回家。
天黑以前，渔船一条一条靠了岸，船上的灯像星星一样亮着。第二天早上，市场里又满是卖鱼的声音。
"""


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory, page: str) -> Path:
    """The page as one document."""
    path = tmp_path_factory.mktemp("text") / "page.txt"
    path.write_text(page[:5000], encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def finished(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained") / "causal"
    assert main(["train", "causal", str(corpus), *OPTIONS, "--seed", "3", "--out", str(folder)]) == 0
    return folder


def contents(folder: Path) -> dict[str, str]:
    files = [path for path in folder.rglob("*") if path.is_file() and path.name != ".lock"]
    return {str(path.relative_to(folder)): file_fingerprint(path) for path in files}


def line_of(capsys: pytest.CaptureFixture[str]) -> str:
    """The one line that an error is."""
    shown = capsys.readouterr()
    lines = [line for line in shown.err.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1, shown.err
    assert shown.err.splitlines()[-1] == lines[0]
    assert shown.out == ""
    return lines[0]


def recipe_of(folder: Path) -> dict[str, Any]:
    return tomllib.loads((folder / "recipe.toml").read_text(encoding="utf-8"))


# -- the same command again


def test_a_finished_run_is_left_as_it_is(
    corpus: Path, finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = contents(finished)
    monkeypatch.setattr("sightline.training.loop.train", None)  # nothing may train
    words = ["train", "causal", str(corpus), *OPTIONS, "--seed", "3", "--out", str(finished)]
    assert main([*words, "--json", str(tmp_path / "record.json")]) == 0
    shown = capsys.readouterr()
    assert "is finished" in shown.err
    assert str(finished / "model") in shown.out.splitlines()
    assert contents(finished) == before
    record = json.loads((tmp_path / "record.json").read_text(encoding="utf-8"))
    assert record == json.loads((finished / "results.json").read_text(encoding="utf-8"))
    assert record["scores"][0]["name"] == "bits_per_byte"
    (floor,) = record["floors"]
    assert floor["tokens"] == 6 * 4 * 32  # as much as the run itself could read
    assert [one["n"] for one in floor["scores"]] == [one["n"] for one in record["scores"]]
    (told,) = [line for line in shown.out.splitlines() if line.startswith("floor: ")]
    assert f"n-gram counts of {floor['tokens']:,} tokens, exact: {floor['scores'][0]['value']:.3f} whole text" in told


def test_the_floor_is_what_counting_alone_comes_to(corpus: Path, finished: Path, tmp_path: Path) -> None:
    out = tmp_path / "counts"
    assert main(["train", "ngram", str(corpus), *OPTIONS, "--seed", "3", "--out", str(out)]) == 0
    counts, neural = (json.loads((folder / "results.json").read_text(encoding="utf-8")) for folder in (out, finished))
    assert counts["floors"] == []
    assert counts["scores"] == neural["floors"][0]["scores"]


@pytest.mark.parametrize(("family", "setting"), [("hybrid", "masked=0.5"), ("block_diffusion", "block=8")])
def test_stopped_in_the_middle_it_ends_the_same(
    corpus: Path, tmp_path: Path, family: str, setting: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Draws are keyed by row and visit, so that a run goes on bit for bit."""
    words = ["train", family, str(corpus), *OPTIONS, "--setting", setting, "--seed", "3", "--budget", "4steps"]
    assert main([*words, "--out", str(tmp_path / "whole")]) == 0
    plain = ground.Ground.rows_of

    def stopping(self: ground.Ground, *rest: Any) -> Any:
        rows_of = plain(self, *rest)

        def rows(step: int) -> Any:
            if step == 1 and (tmp_path / "cut" / "metrics.jsonl").exists():
                signal.raise_signal(signal.SIGINT)
            return rows_of(step)

        return rows

    with monkeypatch.context() as patched:
        patched.setattr(ground.Ground, "rows_of", stopping)
        assert main([*words, "--out", str(tmp_path / "cut")]) == 130
    assert not (tmp_path / "cut" / WEIGHTS).exists()
    assert main([*words, "--out", str(tmp_path / "cut")]) == 0
    assert (tmp_path / "cut" / WEIGHTS).read_bytes() == (tmp_path / "whole" / WEIGHTS).read_bytes()


def test_killed_in_the_middle_it_ends_the_same(corpus: Path, finished: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    words = ["train", "causal", str(corpus), *OPTIONS, "--seed", "3", "--out", str(out)]
    code = """
import os, signal, sys
from sightline.cli import main
from sightline.runs import ground
from sightline.training import loop
loop.SAVE_SECONDS = 0.0
plain = ground.Ground.rows_of
def deadly(self, *rest):
    rows_of = plain(self, *rest)
    def rows(step):
        if step == 4 and (self.train.folder.parent.parent / "checkpoints").exists():
            os.kill(os.getpid(), signal.SIGKILL)
        return rows_of(step)
    return rows
ground.Ground.rows_of = deadly
sys.exit(main())
"""
    done = subprocess.run(
        [sys.executable, "-c", code, *words],
        env=os.environ | {"PYTHONPATH": SOURCES, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        timeout=120,
    )
    assert done.returncode == -9, done.stderr
    assert sorted(path.name for path in (out / "checkpoints").glob("step-*")) == ["step-00000003", "step-00000004"]
    assert not (out / "model").exists()
    assert main(words) == 0
    assert (out / WEIGHTS).read_bytes() == (finished / WEIGHTS).read_bytes()
    steps = [json.loads(line)["step"] for line in (out / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    assert steps == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize(
    ("family", "words", "message"),
    [
        ("backward", [], "family ('causal' there, 'backward' now)"),
        ("causal", ["--budget", "7steps"], "budget"),
        ("causal", ["--seed", "4"], "seed (3 there, 4 now)"),
        ("causal", ["--context", "64"], "context (32 there, 64 now)"),
        ("causal", ["--size", "mini"], "size"),
        ("causal", ["--batch", "8"], "batch (4 there, 8 now)"),
        ("causal", ["--accumulation", "2"], "accumulation (1 there, 2 now)"),
        ("causal", ["--validations", "3"], "validations (2 there, 3 now)"),
        ("causal", ["--rate", "0.5"], "optimization.matrix_rate"),
        ("causal", ["--optimization.clip", "2"], "optimization.clip (1.0 there, 2.0 now)"),
        ("causal", ["--schedule.kind", "cosine"], "schedule.kind ('linear' there, 'cosine' now)"),
        ("causal", ["--dtype", "bfloat16"], "dtype"),
        ("causal", ["--compile", "on"], "compile"),
        ("causal", ["--tokenizer", "char"], "is not the text"),
        ("ngram", ["--setting", "n=3"], "family"),
    ],
)
def test_another_run_is_refused(
    corpus: Path, finished: Path, family: str, words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = contents(finished)
    assert main(["train", family, str(corpus), *OPTIONS, "--seed", "3", *words, "--out", str(finished)]) == 2
    line = line_of(capsys)
    assert message in line
    assert "another --out" in line
    assert contents(finished) == before


def test_a_comparison_is_no_place_for_one_family(
    corpus: Path, finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    both = tmp_path / "both"
    both.mkdir()
    (both / "recipe.toml").write_text('families = ["causal"]\n', encoding="utf-8")
    assert main(["train", "causal", str(corpus), *OPTIONS, "--out", str(both)]) == 2
    assert "is the recipe of a comparison" in line_of(capsys)
    assert main(["compare", str(corpus), "--out", str(finished)]) == 2
    assert "is the recipe of the training of one family" in line_of(capsys)


# -- recipes and settings


def test_a_saved_recipe_gives_the_same_weights(corpus: Path, finished: Path, tmp_path: Path) -> None:
    moved = tmp_path / "moved.txt"
    shutil.copy(corpus, moved)
    out = tmp_path / "again"
    words = ["train", "causal", str(moved), "--recipe", str(finished / "recipe.toml"), "--out", str(out)]
    assert main(words) == 0
    assert (out / WEIGHTS).read_bytes() == (finished / WEIGHTS).read_bytes()
    again, first = recipe_of(out), recipe_of(finished)
    assert again["source"].pop("corpus") != first["source"].pop("corpus")
    assert again == first
    assert main(words) == 0, "the same command continues"


def test_a_recipe_takes_no_options_that_change_it(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--recipe", str(finished / "recipe.toml"), "--out", str(tmp_path / "out")]
    assert main(["train", *words, "--batch", "9"]) == 2
    assert "batch = 9 cannot be given beside --recipe" in line_of(capsys)
    assert main(["train", "backward", *words]) == 2
    assert "family = 'backward' cannot be given beside --recipe" in line_of(capsys)
    assert not (tmp_path / "out").exists()


def test_a_recipe_of_another_text_is_refused(
    finished: Path, tmp_path: Path, page: str, capsys: pytest.CaptureFixture[str]
) -> None:
    source = Path(recipe_of(finished)["source"]["corpus"])
    text = (finished / "recipe.toml").read_text(encoding="utf-8")
    other = tmp_path / "other.txt"
    other.write_text(page[5000:], encoding="utf-8")
    changed = tmp_path / "recipe.toml"
    changed.write_text(text.replace(str(source), str(other)), encoding="utf-8")
    assert main(["train", "--recipe", str(changed), "--out", str(tmp_path / "out")]) == 2
    assert "is not the text that the recipe was made with" in line_of(capsys)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('family = "causal"', 'family = "bert"', "there is no family 'bert'"),
        ("batch = 4", 'batch = "four"', "batch = 'four' is not of type int"),
        ("batch = 4", "bach = 4", "has no setting 'bach'"),
        ('kind = "muon"', 'kind = "sgd"', "kind = 'sgd' is not of type"),
        ('budget = "6steps"', 'budget = "much"', "'much' cannot be read"),
        ('family = "causal"', "", "is incomplete"),
        ("version = 1", "version = 2", "a recipe of version 2"),
        ("version = 1", "version = ", "is not a recipe"),
    ],
)
def test_a_recipe_with_mistakes(
    finished: Path, tmp_path: Path, old: str, new: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    text = (finished / "recipe.toml").read_text(encoding="utf-8")
    assert old in text
    (tmp_path / "recipe.toml").write_text(text.replace(old, new), encoding="utf-8")
    assert main(["train", "--recipe", str(tmp_path / "recipe.toml"), "--out", str(tmp_path / "out")]) == 2
    assert message in line_of(capsys)
    assert not (tmp_path / "out").exists()


def test_settings_reach_the_recipe(corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    words = [
        "train", "masked", str(corpus), *OPTIONS, "--setting", "hide=word", "rate=0.2", "--optimization.matrix-rate",
        "0.01", "--schedule.kind", "cosine", "--accumulation", "2", "--out", str(out), "--print-recipe",
    ]  # fmt: skip
    assert main(words) == 0
    recipe = tomllib.loads(capsys.readouterr().out)
    assert recipe["fields"] == {"hide": "word", "rate": 0.2}
    assert recipe["settings"]["optimization"]["matrix_rate"] == 0.01
    assert recipe["settings"]["schedule"]["kind"] == "cosine"
    assert (recipe["settings"]["steps"], recipe["settings"]["accumulation"]) == (6, 2)
    assert not out.exists()


@pytest.mark.parametrize(
    ("family", "words", "message"),
    [
        ("masked", ["--setting", "hide=page"], "hide cannot be 'page'. Choose from token, word, span"),
        ("masked", ["--setting", "rate=much"], "rate must be a number, not 'much'"),
        ("masked", ["--setting", "rate=1.5"], "1.5"),
        ("masked", ["--setting", "rate=0"], "a mask rate of 0.0 asks nothing"),
        ("masked", ["--setting", "rate=1"], "a mask rate of 1.0 asks everything and shows nothing"),
        ("masked", ["--setting", "segmented=yes"], "segmented is true or false, not 'yes'"),
        ("electra", ["--setting", "rate=0"], "a mask rate of 0.0 asks nothing"),
        ("electra", ["--setting", "share=2"], "stronger than the judge"),
        ("masked", ["--like", "gpt"], "no recipe named 'gpt'. Choose from gpt2, llama, roberta, modernbert, electra"),
        ("causal", ["--like", "roberta"], "roberta is a recipe for masked, not for causal. Train masked"),
        ("hybrid", ["--setting", "masked=2"], "no share of them"),
        ("diffusion", ["--setting", "most=2"], "no part of (0, 1]"),
        ("block_diffusion", ["--setting", "block=0"], "a block of 0 tokens holds nothing"),
        ("block_diffusion", ["--setting", "block=33"], "a block of 33 tokens is longer than a row of 32"),
        ("ngram", ["--setting", "n=1"], "n-gram of 1"),
        ("permuted", ["--setting", "last=0"], "the last 0.0 of an order is nothing"),
        ("permuted", ["--init", "counts"], "what permuted asks shows nothing"),
        ("causal", ["--setting", "hide"], "'hide' is not a setting of causal"),
        ("causal", ["--accumulation", "3"], "does not divide into 3"),
        ("causal", ["--context", "-5"], "a context of -5"),
        ("causal", ["--validations", "0"], "0 validations"),
        ("causal", ["--schedule.warmup", "2"], "a warm-up of 2.0"),
    ],
)
def test_bad_settings(
    corpus: Path, family: str, words: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert main(["train", family, str(corpus), *OPTIONS, *words, "--out", str(out)]) == 2
    assert message in line_of(capsys)
    assert not (out / "model").exists()
    assert not (out / "recipe.toml").exists()


def test_accumulation_leaves_the_losses_alone(corpus: Path, tmp_path: Path) -> None:
    losses = []
    for parts in ("1", "4"):
        out = tmp_path / parts
        words = ["train", "prefix", str(corpus), *OPTIONS, "--budget", "3steps", "--accumulation", parts]
        assert main([*words, "--out", str(out)]) == 0
        lines = (out / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
        losses.append([json.loads(line)["loss"] for line in lines])
    assert len(losses[0]) == 3
    assert losses[0] == pytest.approx(losses[1], abs=1e-4)


# -- recipes by name, and a family of two halves


@pytest.mark.parametrize(
    ("family", "like", "class_", "rate"),
    [
        ("causal", "gpt2", "GPT2LMHeadModel", 6e-4),
        ("causal", "llama", "LlamaForCausalLM", 3e-4),
        ("masked", "roberta", "BertForMaskedLM", 5e-4),
        ("masked", "modernbert", "ModernBertForMaskedLM", 8e-4),
        ("electra", "electra", "ElectraForPreTraining", 5e-4),
    ],
)
def test_trained_like_a_published_model(
    corpus: Path, tmp_path: Path, family: str, like: str, class_: str, rate: float
) -> None:
    out = tmp_path / "out"
    words = ["train", family, str(corpus), *OPTIONS, "--budget", "2steps", "--like", like, "--schedule.floor", "0.1"]
    assert main([*words, "--out", str(out)]) == 0
    recipe = recipe_of(out)
    assert recipe["settings"]["optimization"]["rate"] == rate
    assert recipe["settings"]["optimization"]["kind"] == "adamw"
    assert recipe["settings"]["schedule"]["floor"] == 0.1 and recipe["settings"]["schedule"]["warmup"] > 0
    config = json.loads((out / "model" / "config.json").read_text(encoding="utf-8"))
    assert config["architectures"] == [class_]
    if like == "electra":
        half = json.loads((out / "model" / "generator" / "config.json").read_text(encoding="utf-8"))
        assert half["architectures"] == ["ElectraForMaskedLM"]
        assert (half["hidden_size"], half["embedding_size"], config["embedding_size"]) == (32, 128, 128)
    if like == "modernbert":
        assert config["local_attention"] == 128 and config["tie_word_embeddings"]


def test_electra_end_to_end(corpus: Path, finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Trained, embedded, its generator used; and told in one line what it does not do."""
    out = tmp_path / "out"
    assert main(["train", "electra", str(corpus), *OPTIONS, "--out", str(out)]) == 0
    shown = capsys.readouterr().out
    assert "sightline embed" in shown and "bits_per_byte" not in shown
    folder, generator = out / "model", out / "model" / "generator"
    assert main(["embed", str(folder), "The sea.", "--out", str(tmp_path / "vectors.npy")]) == 0
    assert main(["fill", str(generator), "The ___ sea."]) == 0
    assert main(["score", str(generator), "The sea."]) == 0
    assert "pseudo" in capsys.readouterr().out
    for words in (["fill", str(folder), "The ___ sea."], ["generate", str(folder), "The"]):
        assert main(words) == 2
        assert "its generator, a masked model, lies in generator/ beside it. Name that folder" in line_of(capsys)
    assert main(["score", str(folder), "The sea."]) == 2
    assert "electra gives no probability of tokens" in line_of(capsys)
    assert main(["train", "electra", str(corpus), *OPTIONS, "--from", str(out), "--out", str(tmp_path / "on")]) == 0
    assert (tmp_path / "on" / "model" / "generator" / "model.safetensors").exists()
    for family, start in (("masked", out), ("electra", finished)):
        words = ["train", family, str(corpus), *OPTIONS, "--from", str(start), "--out", str(tmp_path / "no")]
        capsys.readouterr()
        assert main(words) == 2
        assert f"{family} cannot go on from the" in line_of(capsys)


# -- going on from a model


@pytest.mark.parametrize("family", ["causal", "prefix", "masked"])
def test_from_a_model(corpus: Path, finished: Path, tmp_path: Path, family: str) -> None:
    """With a rate of next to nothing, the weights stay those of the model that was begun with."""
    out = tmp_path / "out"
    words = ["train", family, str(corpus), *OPTIONS, "--budget", "1steps", "--rate", "1e-9", "--from", str(finished)]
    assert main([*words, "--out", str(out)]) == 0
    begun, ended = load_file(finished / WEIGHTS), load_file(out / WEIGHTS)
    assert set(begun) == set(ended)
    for name, weight in begun.items():
        torch.testing.assert_close(ended[name], weight, atol=1e-6, rtol=1e-5)
    assert recipe_of(out)["family"] == family
    assert recipe_of(out)["start"] == str(finished)
    name = Path("model", "tokenizer.json")
    assert (out / name).read_bytes() == (finished / name).read_bytes()


def test_from_what_cannot_be_continued(
    corpus: Path, finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert main(["train", "ngram", str(corpus), *OPTIONS, "--from", str(finished), "--out", str(out)]) == 2
    assert "ngram cannot go on from the causal model" in line_of(capsys)
    assert main(["train", "permuted", str(corpus), *OPTIONS, "--from", str(finished), "--out", str(out)]) == 2
    assert "permuted has slots that show nothing" in line_of(capsys)
    assert main(["train", "causal", str(corpus), *OPTIONS, "--from", str(corpus.parent), "--out", str(out)]) == 2
    assert "holds no model" in line_of(capsys)
    assert not out.exists()


# -- other texts, other stacks


@pytest.mark.parametrize(
    ("family", "setting"), [("masked", "hide=word"), ("hybrid", "masked=0.5"), ("block_diffusion", "block=2")]
)
def test_chinese(family: str, setting: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    corpus, out = tmp_path / "文.txt", tmp_path / "跑"
    corpus.write_text(CHINESE * 12, encoding="utf-8")
    words = ["train", family, str(corpus), *OPTIONS, "--tokenizer", "char", "--setting", setting]
    assert main([*words, "--budget", "2steps", "--out", str(out)]) == 0
    assert str(out / "model") in capsys.readouterr().out.splitlines()
    assert main(["fill", str(out), "春天来了，[MASK]慢慢地涨起来"]) == 0


@pytest.mark.parametrize(("budget", "tokens"), [("400tok", 400), ("2steps", 256), ("1Mtok", None)])
def test_counts_read_what_the_budget_buys(
    corpus: Path, tmp_path: Path, budget: str, tokens: int | None, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert main(["train", "ngram", str(corpus), *OPTIONS, "--budget", budget, "--out", str(out)]) == 0
    record = json.loads((out / "results.json").read_text(encoding="utf-8"))
    whole = json.loads((out / "data" / "train" / "head.json").read_text(encoding="utf-8"))["tokens"]
    assert record["tokens_seen"] == (tokens or whole)
    assert record["scores"][0]["class"] == "exact"


# -- what is shown while it runs


def test_the_progress_line_is_for_terminals(corpus: Path, tmp_path: Path) -> None:
    """On a terminal: loss, bits per byte, rate and MFU, and a bar inside a bar is silent."""
    code = """
import sys
from sightline.cli import main
from sightline.progress import bar
with bar("outer", 2) as outer, bar("inner", 2) as inner:
    outer.advance(1, "out words")
    inner.advance(1, "in words")
sys.exit(main())
"""
    words = ["train", "causal", str(corpus), *OPTIONS, "--out", str(tmp_path / "out")]
    ours, theirs = pty.openpty()
    environment = os.environ | {"PYTHONPATH": SOURCES, "OMP_NUM_THREADS": "1", "TERM": "xterm", "COLUMNS": "200"}
    with subprocess.Popen(
        [sys.executable, "-c", code, *words], env=environment, stdout=subprocess.PIPE, stderr=theirs
    ) as running:
        os.close(theirs)
        shown = b""
        while True:
            try:
                part = os.read(ours, 65536)
            except OSError:  # the terminal is gone with its last writer
                break
            if not part:
                break
            shown += part
        os.close(ours)
    text = shown.decode("utf-8")
    assert running.returncode == 0, text
    for wanted in ("loss ", "bits/byte", "tokens/s", "MFU ", "%", "out words"):
        assert wanted in text, wanted
    assert "in words" not in text


def test_no_progress_line_elsewhere(corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["train", "causal", str(corpus), *OPTIONS, "--budget", "1steps", "--out", str(tmp_path / "out")]
    assert main(words) == 0
    shown = capsys.readouterr()
    assert "MFU" not in shown.err
    assert "\x1b" not in shown.err + shown.out
