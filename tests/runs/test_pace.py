"""BANG end to end through the command line: learned on texts, tuned on pairs in each way, and written at any pace."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sightline import hub
from sightline.cli import main

OPTIONS = (
    "--budget", "6steps", "--context", "48", "--batch", "4", "--validations", "2",
    "--threads", "1", "--device", "cpu", "--dtype", "float32",
)  # fmt: skip
WEIGHTS = Path("model", "model.safetensors")
WAYS = {
    "ar": ["way=ar"],
    "semi": ["way=semi", "streams=3", "block=2"],
    "nar": ["way=nar"],
    "mixed": ["way=ar", "nar_share=0.5"],
}
WORDS = ["river", "road", "tree", "boat", "rain", "hill", "wind", "stone"]


@pytest.fixture(scope="module")
def corpora(tmp_path_factory: pytest.TempPathFactory, page: str) -> tuple[Path, Path]:
    """A text, and pairs of words with their letters turned round."""
    folder = tmp_path_factory.mktemp("text")
    (folder / "page.txt").write_text(page[:3000], encoding="utf-8")
    couples = [(f"{one} {other}", f"{one[::-1]} {other[::-1]}") for one in WORDS for other in WORDS]
    lines = "".join(f"{source}\t{target}\n" for source, target in couples)
    (folder / "pairs.tsv").write_text(lines, encoding="utf-8")
    return folder / "page.txt", folder / "pairs.tsv"


@pytest.fixture(scope="module")
def learned(corpora: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of texts."""
    out = tmp_path_factory.mktemp("learned") / "run"
    settings = ["--tokenizer", "byte", "--setting", "streams=3", "stretch=16"]
    assert main(["train", "bang", str(corpora[0]), *OPTIONS, *settings, "--out", str(out)]) == 0
    return out


@pytest.fixture(scope="module")
def tuned(corpora: tuple[Path, Path], learned: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Models of pairs that began with it."""
    folder = tmp_path_factory.mktemp("tuned")
    for name, settings in WAYS.items():
        words = ["train", "bang", str(corpora[1]), *OPTIONS, "--from", str(learned), "--setting", *settings]
        assert main([*words, "--out", str(folder / name)]) == 0
    return {name: folder / name for name in WAYS}


def test_stopped_in_the_middle_it_ends_the_same(
    corpora: tuple[Path, Path], learned: Path, tmp_path: Path, interrupted: Any
) -> None:
    settings = ["--tokenizer", "byte", "--setting", "streams=3", "stretch=16"]
    words = ["train", "bang", str(corpora[0]), *OPTIONS, *settings, "--out", str(tmp_path / "run")]
    with interrupted(4):
        assert main(words) == 130
    assert main(words) == 0
    assert (tmp_path / "run" / WEIGHTS).read_bytes() == (learned / WEIGHTS).read_bytes()


@pytest.mark.parametrize("way", WAYS)
def test_a_way_has_its_score(way: str, tuned: dict[str, Path], learned: Path) -> None:
    record = json.loads((tuned[way] / "results.json").read_text(encoding="utf-8"))
    [score] = [one for one in record["scores"] if one["value"] is not None]
    assert score["name"] == "continuation_bits_per_byte"
    assert score["class"] == ("exact" if way in ("ar", "mixed") else "nar")
    before, after = hub.load(learned), hub.load(tuned[way])
    assert after.tokenizer.fingerprint == before.tokenizer.fingerprint
    assert after.stack.shape == before.stack.shape


PACES = {
    "next": (["--sampler", "next"], "left to right"),
    "blocks": (["--block", "2"], "in blocks of 2"),
    "sure": (["--block", "4", "--sure", "0.3"], "as far as each token has a probability of 0.3"),
    "once": (["--sampler", "once"], "all places at once"),
}


@pytest.mark.parametrize("pace", PACES)
@pytest.mark.parametrize("way", [*WAYS, "learned"])
def test_what_was_learned_one_way_may_be_written_another(
    way: str, pace: str, tuned: dict[str, Path], learned: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options, words = PACES[pace]
    folder = str(tuned.get(way, learned))
    capsys.readouterr()
    assert main(["generate", folder, "river road", "tree", "--length", "7", *options]) == 0
    assert words in capsys.readouterr().out


def test_translate_at_the_pace_of_each(
    tuned: dict[str, Path], corpora: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told = {"ar": "beam of 5", "semi": "in blocks of 2", "nar": "all places at once", "mixed": "beam of 5"}
    for way, words in told.items():
        out = tmp_path / f"{way}.json"
        assert main(["translate", str(tuned[way]), "river road", "tree", "--json", str(out)]) == 0
        assert words in json.loads(out.read_text(encoding="utf-8"))["how"]
    capsys.readouterr()
    assert main(["translate", str(tuned["nar"]), "river road", "--beams", "3"]) == 2
    assert "no beams" in capsys.readouterr().err
    assert main(["translate", str(tuned["nar"]), str(corpora[1]), "--sampler", "next", "--beams", "3"]) == 0
    assert "chrF" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--setting", "way=ar"], "as it was set, reads pairs, and this is a text"),
        (["--setting", "way=semi", "block=0"], "a block of 0 tokens holds nothing"),
        (["--setting", "way=quick"], "way cannot be 'quick'"),
    ],
)
def test_bad_settings_are_told_in_one_line(
    words: list[str], says: str, corpora: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    start = ["train", "bang", str(corpora[0]), *OPTIONS, "--tokenizer", "byte", "--out", str(tmp_path / "no")]
    assert main([*start, *words]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("error: ") and says in error


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--block", "-1"], "a block of -1 tokens holds nothing"),
        (["--sampler", "refine"], "bang is not written by refine"),
        (["--sampler", "once", "--block", "3"], "has no blocks"),
        (["--block", "3", "--sure", "1.5"], "no probability"),
    ],
)
def test_bad_paces_are_told_in_one_line(
    words: list[str], says: str, tuned: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["generate", str(tuned["semi"]), "river", *words]) == 2
    assert says in capsys.readouterr().err
