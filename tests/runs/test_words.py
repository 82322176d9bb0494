"""cbow from the command line: trained, stopped and gone on with, asked for words, exported, compared."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.torch import load_file

from sightline import hub
from sightline.cli import main
from sightline.errors import SightlineError
from sightline.hub.word2vec import read_vectors
from sightline.objectives.cbow import CBOW
from sightline.runs.embed import embed
from sightline.runs.lexicon import analogy, similar, vectors
from sightline.runs.score import score

OPTIONS = ("--tokenizer", "word", "--threads", "1", "--device", "cpu", "--context", "32", "--batch", "4")
TRAIN = ("--budget", "400steps", "--validations", "4", "--setting", "sample=0", "update=exact")
WEIGHTS = Path("model", "model.safetensors")


def _text() -> str:
    """Kings and queens: who rules is told by the same words, men and women by others."""
    draw = np.random.default_rng(0)
    lines = []
    for _ in range(1500):
        royal, woman = draw.random(2) < 0.5
        who = (("man", "woman"), ("king", "queen"))[int(royal)][int(woman)]
        rules = ("rules the land from his throne", "walks the road to the fields")[1 - int(royal)]
        looks = ("with a long beard", "in a blue dress")[int(woman)]
        lines.append(f"{looks} the {who} {looks} {rules}." if draw.random() < 0.5 else f"the {who} {rules} {looks}.")
    return "\n".join(lines) + "\n"


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("text") / "kings.txt"
    path.write_text(_text(), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def finished(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained") / "cbow"
    assert main(["train", "cbow", str(corpus), *OPTIONS, *TRAIN, "--documents", "lines", "--out", str(folder)]) == 0
    return folder


def test_what_it_holds_is_vectors(corpus: Path, finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["train", "cbow", str(corpus), *OPTIONS, *TRAIN, "--documents", "lines", "--out", str(finished)]
    assert main(words) == 0
    table = load_file(finished / WEIGHTS)
    count, told = len(table["words"]), capsys.readouterr().out.splitlines()[0]
    held = table["inputs"].numel() + table["outputs"].numel()
    assert told.startswith(f"cbow: {count:,} words, {held:,} parameters in their vectors; ")


def error_of(capsys: pytest.CaptureFixture[str]) -> str:
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1
    return lines[0]


def test_the_nearest_words_and_the_fourth_of_an_analogy(finished: Path, tmp_path: Path) -> None:
    near = similar(finished, "king", count=3, json=tmp_path / "near.json")
    assert near.found[0].word in ("man", "queen")
    assert [one.cosine for one in near.found] == sorted((one.cosine for one in near.found), reverse=True)
    record = json.loads((tmp_path / "near.json").read_text(encoding="utf-8"))
    assert [one["word"] for one in record["found"]] == [one.word for one in near.found]
    assert analogy(finished, "man", "king", "woman").found[0].word == "queen"
    assert near.next.startswith("sightline analogy ")


def test_vectors_go_out_and_are_asked_there(finished: Path, tmp_path: Path) -> None:
    told = similar(finished, "king").found
    for name in ("v.txt", "v.bin", "v.tsv"):
        made = vectors(finished, tmp_path / name)
        assert all(path.exists() for path in made.files)
        assert made.words == len(read_vectors(tmp_path / name).words)
        again = similar(tmp_path / name, "king").found
        assert [one.word for one in again] == [one.word for one in told]
    vectors(tmp_path / "v.txt", tmp_path / "w.bin", json=tmp_path / "made.json")
    assert json.loads((tmp_path / "made.json").read_text(encoding="utf-8"))["files"] == [str(tmp_path / "w.bin")]
    assert (read_vectors(tmp_path / "w.bin").vectors == read_vectors(tmp_path / "v.bin").vectors).all()


def test_phrases_are_words_from_the_text_to_other_programs(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["train", "cbow", str(corpus), "--tokenizer", "word+phrases:threshold=0.06", *OPTIONS[2:], *TRAIN]
    assert main([*words, "--documents", "lines", "--out", str(tmp_path / "run")]) == 0
    assert "phrases, such as" in capsys.readouterr().err
    near = [one.word for one in similar(tmp_path / "run", "his_throne", count=40).found]
    assert "land_from" in near
    assert "throne" not in near  # it never stands alone, so nothing was learned of it
    model = hub.load(tmp_path / "run")
    assert model.tokenizer.decode(model.tokenizer.encode("the land, from his throne")) == "the land from his throne"
    vectors(tmp_path / "run", tmp_path / "v.bin")
    assert [one.word for one in similar(tmp_path / "v.bin", "his_throne", count=40).found] == near
    assert main(["similar", str(tmp_path / "run"), "his throne"]) == 2
    assert "Did you mean his_throne" in error_of(capsys)
    assert main([*words, "--documents", "lines", "--out", str(tmp_path / "run")]) == 0  # the same run, finished
    other = ["--tokenizer", "word+phrases", "--documents", "lines", "--out", str(tmp_path / "run")]
    assert main([*words[:3], *OPTIONS[2:], *TRAIN, *other]) == 2
    assert "with the tokenizer word+phrases is not the text" in error_of(capsys)


def test_wrong_words_are_one_line(finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["similar", str(finished), "kingg"]) == 2
    assert "Did you mean king" in error_of(capsys)
    assert main(["similar", str(tmp_path / "absent"), "king"]) == 2
    assert "does not exist" in error_of(capsys)
    assert main(["vectors", str(finished), str(tmp_path / "v.npy")]) == 2
    assert "no layout '.npy'" in error_of(capsys)
    assert main(["analogy", str(finished), "man", "king", "woman"]) == 0
    assert capsys.readouterr().out.splitlines()[0] == "man is to king as woman is to"


def test_the_model_comes_back_and_its_texts_are_means_of_words(finished: Path, tmp_path: Path) -> None:
    model = hub.load(finished)
    assert isinstance(model.objective, CBOW)
    assert (model.objective.sample, model.objective.update) == (0, "exact")
    embed(finished, ("the king",), out=tmp_path / "v.npy")
    ids = model.tokenizer.encode("the king")
    bag = model.stack
    own = bag.inputs.detach().numpy()[bag.ranks[ids]]  # type: ignore[union-attr, index]
    assert np.allclose(np.load(tmp_path / "v.npy")[0], own.mean(0), atol=1e-6)  # type: ignore[operator]
    with pytest.raises(SightlineError, match="no bits per byte"):
        score(finished, ("the king",))


def test_a_run_that_was_killed_goes_on_to_the_same_vectors(
    corpus: Path, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sightline.training import fitting

    words = ["train", "cbow", str(corpus), *OPTIONS, *TRAIN, "--documents", "lines", "--out", str(tmp_path / "run")]
    kept = fitting.saved

    def killed(folder: Path, checkpoint: Any) -> Path:
        path = kept(folder, checkpoint)
        if checkpoint.step == 37:
            raise KeyboardInterrupt
        return path

    monkeypatch.setattr(fitting, "SAVE_SECONDS", -1.0)
    monkeypatch.setattr(fitting, "saved", killed)
    assert main(words) == 130
    monkeypatch.setattr(fitting, "saved", kept)
    assert main(words) == 0
    one, two = (load_file(folder / WEIGHTS) for folder in (finished, tmp_path / "run"))
    assert all((one[name] == two[name]).all() for name in one)
    curves = [
        [
            (point["step"], point["loss"], point["dev"])
            for point in json.loads((folder / "results.json").read_text())["curve"]
        ]
        for folder in (finished, tmp_path / "run")
    ]
    assert curves[0] == curves[1]
    steps = [json.loads(line)["step"] for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert steps == sorted(set(steps))


def test_the_loss_is_an_average_and_falls(finished: Path) -> None:
    curve = json.loads((finished / "results.json").read_text(encoding="utf-8"))["curve"]
    assert curve[0]["loss"] < 6 * np.log(2) + 0.01  # of six answers that know nothing
    assert 0 < curve[-1]["loss"] < curve[0]["loss"]
    dev = [point["dev"] for point in curve if point["dev"] is not None]
    assert len(dev) == 4
    assert np.isfinite(dev).all()


@pytest.mark.parametrize("budget", ["2s", "3ktok", "1e7flop"])
def test_every_budget_buys_steps(corpus: Path, budget: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["train", "cbow", str(corpus), *OPTIONS, "--documents", "lines", "--budget", budget, "--print-recipe"]
    assert main([*words, "--out", str(tmp_path / "run")]) == 0
    steps = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("steps = "))
    count = int(steps.removeprefix("steps = "))
    assert count > 10
    if budget == "3ktok":
        assert count == round(3000 / 128)


def test_several_workers_say_that_they_do_not_repeat(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["train", "cbow", str(corpus), *OPTIONS, "--documents", "lines", "--budget", "20steps", "--threads", "2"]
    assert main([*words, "--out", str(tmp_path / "run")]) == 0
    assert (
        "2 workers write at once, without locks; --threads 1 is slower, and repeats itself" in capsys.readouterr().err
    )


def test_bad_input_is_one_line(
    corpus: Path, finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "one.txt"
    path.write_text("word " * 3000, encoding="utf-8")
    assert main(["train", "cbow", str(path), *OPTIONS, *TRAIN, "--out", str(tmp_path / "a")]) == 2
    assert "1 different word, and there is nothing to tell apart" in error_of(capsys)
    words = ["train", "cbow", str(corpus), *OPTIONS, "--documents", "lines", "--out", str(tmp_path / "b")]
    assert main([*words, "--setting", "shrink=maybe"]) == 2
    assert "shrink is true or false" in error_of(capsys)
    assert main([*words, "--setting", "window=0"]) == 2
    assert "window = 0" in error_of(capsys)
    assert main([*words, "--from", str(finished)]) == 2
    assert "cannot go on from the cbow model" in error_of(capsys)
    copy = tmp_path / "copy"
    shutil.copytree(finished / "model", copy)
    weights = copy / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-50])
    assert main(["similar", str(copy), "king"]) == 2
    assert "model.safetensors" in error_of(capsys)


def test_sentences_shorter_than_a_window_are_learned_from(tmp_path: Path) -> None:
    path = tmp_path / "short.txt"
    pairs = np.random.default_rng(0).integers(0, 60, (3000, 2))
    path.write_text("".join(f"a{chr(97 + one // 10)} b{other}\n" for one, other in pairs), encoding="utf-8")
    words = ["train", "cbow", str(path), *OPTIONS, "--documents", "lines", "--out", str(tmp_path / "run")]
    assert main([*words, *TRAIN, "window=10"]) == 0
    assert similar(tmp_path / "run", "aa").found


def test_it_stands_in_a_comparison_without_bits_or_with_a_pseudo_score_apart(
    corpus: Path, tmp_path: Path, page: str
) -> None:
    text = tmp_path / "page.txt"
    text.write_text(page, encoding="utf-8")
    out = tmp_path / "out"
    words = ["compare", str(text), "--families", "cbow,causal", *OPTIONS[2:], "--budget", "30steps"]
    assert main([*words, "--tokenizer", "byte", "--out", str(out)]) == 0
    results = json.loads((out / "results.json").read_text(encoding="utf-8"))
    cbow, causal = results["families"]
    bits = cbow["scores"][0]
    assert (bits["name"], bits["value"], bits["class"]) == ("bits_per_byte", None, "discriminative")
    assert "cbow gives no probability of tokens" in bits["note"]
    assert causal["scores"][0]["value"] is not None
    assert any(one["value"] is not None for one in cbow["scores"])
    assert not [one for one in results["comparisons"] if one["score"] == "bits_per_byte"]
    assert (out / "report.html").exists()


def test_a_tree_earns_a_pseudo_score(page: str, tmp_path: Path) -> None:
    text = tmp_path / "page.txt"
    text.write_text(page, encoding="utf-8")
    words = ["train", "cbow", str(text), "--budget", "100steps", "--context", "32", "--batch", "4", "--threads", "1"]
    assert main([*words, "--tokenizer", "byte", "--setting", "loss=hierarchical", "--out", str(tmp_path / "run")]) == 0
    bits, *others = json.loads((tmp_path / "run" / "results.json").read_text(encoding="utf-8"))["scores"]
    assert (bits["class"], bits["column"]) == ("pseudo", "infilling")
    assert 0 < bits["value"] < 8
    assert [one["value"] for one in others] == [None, None]  # of a continuation, and of a blank of any length
