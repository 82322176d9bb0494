"""An encoder and a decoder, end to end through the command line: stopped, continued, scored, written with, seen."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sightline import hub
from sightline.cli import main
from sightline.runs.embed import embed

OPTIONS = (
    "--budget", "6steps", "--context", "48", "--batch", "4", "--tokenizer", "byte", "--validations", "2",
    "--threads", "1", "--device", "cpu", "--dtype", "float32",
)  # fmt: skip
CHINESE = "春天来了，河水慢慢地涨起来，孩子们在岸边放风筝。老人坐在树下，讲着从前的故事，谁也不着急回家。\n" * 3
WEIGHTS = Path("model", "model.safetensors")
KINDS = {
    "spans": ["encoder_layers=3", "decoder_layers=1"],
    "infilling": ["noise=infilling", "rate=0.3"],
}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory, page: str) -> Path:
    path = tmp_path_factory.mktemp("text") / "page.txt"
    path.write_text(page[:3000] + CHINESE, encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def finished(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A trained model of each kind of noise."""
    folder = tmp_path_factory.mktemp("trained")
    for kind, settings in KINDS.items():
        words = ["train", "denoise", str(corpus), *OPTIONS, "--setting", *settings, "--out", str(folder / kind)]
        assert main(words) == 0
    return {path.name: path for path in folder.iterdir()}


def test_stopped_in_the_middle_it_ends_the_same(
    corpus: Path, finished: dict[str, Path], tmp_path: Path, interrupted: Any
) -> None:
    words = ["train", "denoise", str(corpus), *OPTIONS, "--setting", *KINDS["spans"], "--out", str(tmp_path / "run")]
    with interrupted(4):
        assert main(words) == 130
    assert (tmp_path / "run" / "checkpoints" / "step-00000004").exists()
    assert main(words) == 0
    assert (tmp_path / "run" / WEIGHTS).read_bytes() == (finished["spans"] / WEIGHTS).read_bytes()


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_tells_what_its_blanks_are_worth(kind: str, finished: dict[str, Path]) -> None:
    """Spans end by themselves, so a blank of any length has a likelihood; a text written whole has none of a blank."""
    record = json.loads((finished[kind] / "results.json").read_text(encoding="utf-8"))
    scores = {one["name"]: one for one in record["scores"]}
    assert scores["bits_per_byte"]["value"] is None and scores["continuation_bits_per_byte"]["value"] is None
    blank = scores["infilling_bits_per_byte"]
    assert blank["class"] == "exact" and (blank["value"] is None) == (kind == "infilling")
    model = hub.load(finished[kind])
    depths = len(model.stack.encoder.layers), len(model.stack.decoder.layers)  # type: ignore[union-attr,arg-type]
    assert depths == ((3, 1) if kind == "spans" else (2, 2))


@pytest.mark.parametrize("kind", KINDS)
def test_every_verb(kind: str, finished: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = str(finished[kind])
    capsys.readouterr()
    assert main(["generate", folder, "The river", "春天", "--length", "5"]) == 0
    assert main(["generate", folder, "The river", "春天", "--length", "5", "--beams", "3"]) == 0
    assert main(["fill", folder, "The ___:3 rose."]) == 0
    assert " rose." in capsys.readouterr().out
    embed(finished[kind], ("a river", "春天来了"), out=tmp_path / "one.npy")
    assert np.load(tmp_path / "one.npy").shape == (2, 128)
    capsys.readouterr()
    assert main(["see", folder, "--text", "a river", "--json", str(tmp_path / "seen.json")]) == 0
    seen = json.loads((tmp_path / "seen.json").read_text(encoding="utf-8"))
    assert seen["declared"] == seen["measured"]
    assert seen["leaks"] == []


def test_it_is_compared_where_it_may_be(corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [
        "compare", str(corpus), "--families", "denoise,blank", "--budget", "4steps", "--context", "48", "--batch", "4",
        "--tokenizer", "byte", "--threads", "1", "--device", "cpu", "--dtype", "float32",
        "--out", str(tmp_path / "run"),
    ]  # fmt: skip
    assert main(words) == 0
    told = json.loads((tmp_path / "run" / "results.json").read_text(encoding="utf-8"))
    assert {one["family"] for one in told["families"]} == {"denoise", "blank"}


def test_one_stack_is_not_two(
    corpus: Path, finished: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["train", "causal", str(corpus), *OPTIONS, "--from", str(finished["spans"]), "--out", str(tmp_path / "no")]
    assert main(words) == 2
    assert "one stack is not two" in capsys.readouterr().err
    words = ["train", "denoise", str(corpus), *OPTIONS, "--setting", "noise=swaps", "--out", str(tmp_path / "no")]
    assert main(words) == 2
    assert "noise cannot be 'swaps'" in capsys.readouterr().err
