"""Tables of numbers in compare: both families, their scores, the page; and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import sightline as sl
from sightline.cli import main
from sightline.stacks import sizes

QUICK = ("--budget", "6steps", "--context", "32", "--batch", "4", "--threads", "1", "--device", "cpu")


@pytest.fixture(autouse=True)
def tinier(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sizes.SIZES, "tiny", sizes.Size(layers=2, width=16, heads=2, context=32, batch=128))


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("series") / "walks.csv"
    generator = np.random.default_rng(0)
    lines = ["unique_id,ds,y"]
    for number in range(4):
        value = 0.0
        for step in range(120):
            value = 0.4 * value + generator.normal()
            lines.append(f"W{number},{step},{1000 * number + value:.6f}")
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


def test_numbers_are_compared(table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "run"
    assert main(["compare", str(table), *QUICK, "--dtype", "float32", "--horizon", "6", "--out", str(out)]) == 0
    shown = capsys.readouterr().out
    assert "nats per number" in shown
    assert "next: sightline forecast" in shown
    results = json.loads((out / "results.json").read_text(encoding="utf-8"))
    assert [one["family"] for one in results["families"]] == ["linear", "causal"]
    for family in results["families"]:
        scores = {score["name"]: score for score in family["scores"]}
        assert scores["nats_per_number"]["class"] == "density"
        assert scores["nats_per_number"]["column"] == "next number"
        assert scores["nats_per_number"]["n"] == 4 * 2  # blocks, for series are few
        for name in ("mase", "crps"):
            assert scores[name]["class"] == "task"
            assert 0 < scores[name]["value"] < 20
    linear, causal = results["families"]
    assert linear["scores"][0]["value"] < causal["scores"][0]["value"]  # six steps have taught little
    floor = {score["name"]: score["value"] for score in results["floors"][0]["scores"]}
    assert linear["scores"][0]["value"] < floor["nats_per_number"]
    assert {one["score"] for one in results["comparisons"]} == {"nats_per_number", "mase", "crps"}
    page = (out / "report.html").read_text(encoding="utf-8")
    assert "nats per number" in page
    assert "bits per byte</th>" not in page

    before = (out / "causal" / "seed-0" / "results.json").read_bytes()
    again = ["compare", str(table), *QUICK, "--dtype", "float32", "--horizon", "6", "--out", str(out)]
    assert main(again) == 0
    assert (out / "causal" / "seed-0" / "results.json").read_bytes() == before
    assert json.loads((out / "results.json").read_text(encoding="utf-8"))["families"] == results["families"]


def test_the_scores_of_regressions_are_those_of_each_series_alone(table: Path, tmp_path: Path) -> None:
    result = sl.compare(str(table), families="linear", horizon=6, out=tmp_path / "run", threads=1, device="cpu")
    assert result is not None
    score = next(one for one in result.results["families"][0]["scores"] if one["name"] == "nats_per_number")
    values = np.loadtxt(table, delimiter=",", skiprows=1, usecols=2).reshape(4, 120)
    total = 0.0
    for one in values:
        train = one[: 120 - 12 - 6]
        scaled = (one - train.mean()) / train.std()
        fitted = sl.AR("bic").fit(scaled[: len(train)])
        p = int(fitted.orders[0])
        for at in range(108, 120):
            mean = fitted.constant[0] + fitted.phi[0] @ scaled[at - p : at][::-1]
            z = (scaled[at] - mean) ** 2 / fitted.variance[0]
            total += 0.5 * (z + np.log(2 * np.pi * fitted.variance[0]))
    assert score["value"] == pytest.approx(total / 48, abs=1e-9)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--families", "linear,masked"], "masked reads text, and this is a table of numbers"),
        (["--horizon", "50"], "series W0 has 120 values: too few to train on"),
        (["--field", "z"], "has no column 'z'"),
        (["--context", "16", "--horizon", "16"], "a horizon of 16 leaves no past in rows of 16 numbers"),
    ],
)
def test_bad_requests(
    words: list[str], message: str, table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["compare", str(table), *QUICK, *words, "--out", str(tmp_path / "run")]) == 2
    assert message in capsys.readouterr().err


def test_gaps_constants_and_texts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    gap = tmp_path / "gap.csv"
    gap.write_text("ds,y\n" + "".join(f"{at},{at % 7}\n" for at in range(90) if at != 40), encoding="utf-8")
    flat = tmp_path / "flat.csv"
    flat.write_text("y\n" + "5\n" * 90, encoding="utf-8")
    text = tmp_path / "text.txt"
    text.write_text("some words " * 50, encoding="utf-8")
    for words, message in (
        (["compare", str(gap), *QUICK], "series gap has missing values"),
        (["compare", str(flat), *QUICK], "series flat is constant"),
        (["compare", str(text), "--families", "causal,linear"], "linear reads numbers, and this is a text"),
        (["train", "linear", str(text)], "linear reads numbers, and this is a text"),
    ):
        assert main(words) == 2
        assert message in capsys.readouterr().err
    assert not list(tmp_path.glob("runs/*"))
