"""--init counts: the pairs of a text, and a run that begins from them."""

from __future__ import annotations

import itertools
import json
import tomllib
from collections import Counter
from pathlib import Path

import pytest

from sightline.cli import main
from sightline.data import Document, Packed, tokenized, train_tokenizer
from sightline.objectives import Backward, Causal
from sightline.runs.counted import pairs

OPTIONS = (
    "--budget", "4steps", "--context", "32", "--batch", "4", "--tokenizer", "byte", "--validations", "2",
    "--threads", "1", "--device", "cpu", "--dtype", "float32",
)  # fmt: skip


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory, page: str) -> Path:
    path = tmp_path_factory.mktemp("text") / "page.txt"
    path.write_text(page[:5000], encoding="utf-8")
    return path


@pytest.mark.parametrize("family", [Causal, Backward])
def test_pairs_are_neighbours_within_a_document_and_a_row(family: type[Causal], tmp_path: Path) -> None:
    texts = ["abracadabra", "a bad cab", "dabba dabba"]
    tokenizer = train_tokenizer(texts, "char")
    file = tokenized([Document(str(number), text) for number, text in enumerate(texts)], tokenizer, tmp_path / "text")
    packed = Packed(file, 8, tokenizer)
    found = pairs(family(tokenizer.vocabulary), packed, seed=0)
    wanted: Counter[tuple[int, int]] = Counter()
    ids = [[int(i) for i in file.tokens[a:b]] for a, b in itertools.pairwise(file.offsets)]
    place = 0
    for document in ids:
        for left, right in itertools.pairwise(document):
            if (place + 1) % 8:  # a pair across two rows is never asked
                wanted[(left, right) if family is Causal else (right, left)] += 1
            place += 1
        place += 1
    got = dict(zip(zip(found.shown.tolist(), found.asked.tolist(), strict=True), found.counts.tolist(), strict=True))
    assert got == wanted


def test_a_run_from_counts_begins_lower_and_says_so(corpus: Path, tmp_path: Path) -> None:
    first = {}
    for init in ("random", "counts"):
        folder = tmp_path / init
        assert main(["train", "causal", str(corpus), *OPTIONS, "--init", init, "--out", str(folder)]) == 0
        lines = (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
        first[init] = next(record["loss"] for line in lines if "loss" in (record := json.loads(line)))
        recipe = tomllib.loads((folder / "recipe.toml").read_text(encoding="utf-8"))
        assert recipe["init"] == init
        assert recipe["settings"]["optimization"]["table_rate"] == pytest.approx(0.01 if init == "random" else 0.0003)
    assert first["counts"] < first["random"] - 1


def test_another_beginning_is_another_run(corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["train", "causal", str(corpus), *OPTIONS, "--out", str(tmp_path / "run")]
    assert main(words) == 0
    assert main([*words, "--init", "counts"]) == 2
    assert "init ('random' there, 'counts' now)" in capsys.readouterr().err


def test_what_cannot_begin_from_counts_is_refused(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base = [str(corpus), *OPTIONS, "--init", "counts"]
    assert main(["train", "ngram", *base, "--out", str(tmp_path / "a")]) == 2
    assert "Leave --init away" in capsys.readouterr().err
    assert main(["train", "causal", *base, "--from", str(tmp_path), "--out", str(tmp_path / "b")]) == 2
    assert "Leave --from or --init away" in capsys.readouterr().err
