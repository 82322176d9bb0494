"""Both directions, end to end through the command line: stopped and continued, scored, read, written with, seen."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sightline import hub
from sightline.cli import main
from sightline.errors import SightlineError
from sightline.runs.embed import embed

OPTIONS = (
    "--budget", "6steps", "--context", "32", "--batch", "4", "--tokenizer", "byte", "--validations", "2",
    "--threads", "1", "--device", "cpu", "--dtype", "float32",
)  # fmt: skip
CHINESE = "春天来了，河水慢慢地涨起来，孩子们在岸边放风筝。老人坐在树下，讲着从前的故事，谁也不着急回家。\n" * 3
WEIGHTS = Path("model", "model.safetensors")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory, page: str) -> Path:
    path = tmp_path_factory.mktemp("text") / "page.txt"
    path.write_text(page[:3000] + CHINESE, encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def finished(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A trained model of each kind that is quick to train."""
    folder = tmp_path_factory.mktemp("trained")
    for body in ("transformer", "lstm"):
        words = ["train", "two_way", str(corpus), *OPTIONS, "--setting", f"body={body}", "--out", str(folder / body)]
        assert main(words) == 0
    return {path.name: path for path in folder.iterdir()}


def test_stopped_in_the_middle_it_ends_the_same(
    corpus: Path, finished: dict[str, Path], tmp_path: Path, interrupted: Any
) -> None:
    words = ["train", "two_way", str(corpus), *OPTIONS, "--setting", "body=lstm", "--out", str(tmp_path / "run")]
    with interrupted(4):
        assert main(words) == 130
    assert (tmp_path / "run" / "checkpoints" / "step-00000004").exists()
    assert main(words) == 0
    assert (tmp_path / "run" / WEIGHTS).read_bytes() == (finished["lstm"] / WEIGHTS).read_bytes()


@pytest.mark.parametrize("body", ["transformer", "lstm"])
def test_a_run_tells_two_exact_scores_and_their_mean(body: str, finished: dict[str, Path]) -> None:
    record = json.loads((finished[body] / "results.json").read_text(encoding="utf-8"))
    scores = {one["name"]: one for one in record["scores"]}
    assert {name: one["class"] for name, one in scores.items()} == {
        "bits_per_byte": "bound",
        "causal_bits_per_byte": "exact",
        "backward_bits_per_byte": "exact",
        "continuation_bits_per_byte": "exact",
        "infilling_bits_per_byte": "exact",  # which it has not
    }
    assert scores["infilling_bits_per_byte"]["value"] is None
    mean = (scores["causal_bits_per_byte"]["value"] + scores["backward_bits_per_byte"]["value"]) / 2
    assert scores["bits_per_byte"]["value"] == pytest.approx(mean)
    assert hub.load(finished[body]).objective.body == body  # type: ignore[attr-defined]


@pytest.mark.parametrize("body", ["transformer", "lstm"])
def test_every_verb(body: str, finished: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = str(finished[body])
    capsys.readouterr()
    assert main(["score", folder, "春天来了 and the river rose"]) == 0
    assert "bits_per_byte: <= " in capsys.readouterr().out
    assert main(["generate", folder, "The river", "春天", "--length", "5"]) == 0
    assert main(["fill", folder, "The ___ rose."]) == 0
    capsys.readouterr()
    assert main(["see", folder, "--text", "a river", "--json", str(tmp_path / "seen.json")]) == 0
    seen = json.loads((tmp_path / "seen.json").read_text(encoding="utf-8"))
    assert seen["declared"] == seen["measured"] == "everything"  # together; no leak, since neither half is asked so
    assert seen["leaks"] == []


def test_vectors_of_a_layer_and_of_a_mix(finished: dict[str, Path], tmp_path: Path) -> None:
    texts = ("a river", "春天来了")
    layers = []
    for layer in range(3):
        embed(finished["lstm"], texts, layer=layer, out=tmp_path / "one.npy")
        layers.append(np.load(tmp_path / "one.npy"))
    assert layers[0].shape == (2, 256)
    assert np.allclose(layers[0][:, :128], layers[0][:, 128:])
    made = embed(finished["lstm"], texts, mix="even", out=tmp_path / "mix.npy")
    assert np.allclose(np.load(tmp_path / "mix.npy"), np.mean(layers, axis=0), atol=1e-6)
    assert made.layer is None and "0.333 x layer 2" in str(made)
    embed(finished["lstm"], texts, mix="0,1,3", out=tmp_path / "mix.npy")
    assert np.allclose(np.load(tmp_path / "mix.npy"), layers[1] / 4 + 3 * layers[2] / 4, atol=1e-6)
    for mix in ("1,2", "a,b,c", "0,0,0", "1,-1,1"):
        with pytest.raises(SightlineError, match="is not one of 3 layers"):
            embed(finished["lstm"], texts, mix=mix, out=tmp_path / "mix.npy")
    with pytest.raises(SightlineError, match="both asked for"):
        embed(finished["lstm"], texts, layer=1, mix="even", out=tmp_path / "mix.npy")


def test_another_body_is_one_clear_line(
    corpus: Path, finished: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["train", "two_way", str(corpus), *OPTIONS]
    for setting, message in (("body=gru", "body cannot be 'gru'"), ("cells=3", "is not a setting of two_way")):
        assert main([*words, "--setting", setting, "--out", str(tmp_path / "no")]) == 2
        assert message in capsys.readouterr().err
    assert main([*words, "--from", str(finished["lstm"]), "--out", str(tmp_path / "no")]) == 2
    assert "Use --setting body=lstm" in capsys.readouterr().err
    assert main(["train", "causal", *words[2:], "--from", str(finished["lstm"]), "--out", str(tmp_path / "no")]) == 2
    assert "causal cannot go on from the two_way model" in capsys.readouterr().err
