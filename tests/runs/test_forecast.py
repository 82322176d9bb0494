"""The command forecast: from a file to forecasts with intervals, and what it refuses in one line."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow.csv
import pyarrow.parquet
import pytest

import sightline as sl
from sightline.cli import main

SERIES = 5


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five monthly series of different lengths."""
    path = tmp_path_factory.mktemp("series") / "sales.csv"
    generator = np.random.default_rng(0)
    lines = ["unique_id,ds,y"]
    for number in range(SERIES):
        value = 0.0
        for month in range(60 + 12 * number):
            value = 0.8 * value + generator.normal()
            lines.append(f"S{number},{np.datetime64('2010-01') + month}-01,{value + 50:.6f}")
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


def test_forecast_from_the_command_line(table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, record = tmp_path / "ahead.csv", tmp_path / "ahead.json"
    words = ["forecast", str(table), "--p", "2", "--horizon", "3", "--level", "50", "95", "--holdout", "6"]
    assert main([*words, "--out", str(out), "--json", str(record)]) == 0
    shown = capsys.readouterr()
    assert "S0: AR(2) by ols from 60 values" in shown.out
    assert "and 2 more series" in shown.out
    for measure in ("MASE", "sMAPE", "CRPS", "within 95%"):
        assert measure in shown.out
    frame = pyarrow.csv.read_csv(out).to_pydict()
    assert list(frame) == ["unique_id", "ds", "AR", "AR-lo-50", "AR-hi-50", "AR-lo-95", "AR-hi-95"]
    assert len(frame["AR"]) == 3 * SERIES
    assert [str(one) for one in frame["ds"][:3]] == ["2015-01-01", "2015-02-01", "2015-03-01"]
    held = json.loads(record.read_text(encoding="utf-8"))
    assert held["series"][0]["p"] == 2
    assert np.allclose(held["series"][0]["forecast"]["AR"], frame["AR"][:3])
    again = sl.forecast(table, p="2", horizon=3)
    assert np.allclose(again.forecast.mean.ravel(), frame["AR"])


def test_python_takes_arrays(tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(size=(3, 80)).cumsum(1)
    result = sl.forecast(values, horizon=4, p="bic", out=tmp_path / "ahead.parquet")
    assert result.forecast.mean.shape == (3, 4)
    assert np.allclose(result.forecast.mean, sl.AR("bic").fit(values).predict(4).mean)
    frame = pyarrow.parquet.read_table(tmp_path / "ahead.parquet").to_pydict()
    assert frame["ds"][:4] == [80, 81, 82, 83]


def test_a_gap_is_said_and_may_be_dropped(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "gap.csv"
    values = np.random.default_rng(0).normal(size=60)
    path.write_text("ds,y\n" + "".join(f"{at},{value}\n" for at, value in enumerate(values) if at != 30), "utf-8")
    assert main(["forecast", str(path), "--p", "1"]) == 2
    shown = capsys.readouterr().err
    assert "series gap: 1 time is missing, the first 30" in shown
    assert "error: series gap has missing values (gap: 1 missing value in 60, the first at position 30)." in shown
    assert main(["forecast", str(path), "--p", "1", "--missing", "drop"]) == 0


def test_series_that_cannot_be_fitted_are_named_and_may_be_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    good = np.random.default_rng(0).normal(size=80)
    rows = {"flat": np.ones(80), "good": good, "short": good[:5], "gap": np.where(np.arange(80) == 9, np.nan, good)}
    with pytest.raises(sl.SightlineError, match="--skip"):
        sl.forecast(rows, p="3")
    result = sl.forecast(rows, p="3", skip=True, holdout=2)
    assert result.table.names == ("good",)
    assert sorted(result.skipped) == ["flat", "gap", "short"]
    assert capsys.readouterr().err.count("left out: ") == 3
    with pytest.raises(sl.SightlineError, match="no series can be fitted"):
        sl.forecast({"flat": np.ones(80), "short": good[:3]}, p="3", skip=True)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--horizon", "0"], "a horizon of 0 means nothing"),
        (["--p", "fpe"], "p cannot be 'fpe'"),
        (["--p", "-1"], "an order of -1 lags means nothing"),
        (["--p", "40"], "series S0, S1 are too short for p = 40 (S0: 60 values; 82 are needed)"),
        (["--level", "120"], "an interval of 120.0% is none"),
        (["--value", "z"], "has no column 'z'; it has unique_id, ds, y"),
        (["--out", "ahead.xls"], "ends neither in .csv nor in .parquet"),
        (["--holdout", "60"], "series S0, with 60 values, has none left once 60 are held out"),
        (["--method", "burg", "--missing", "drop"], "burg needs every value"),
    ],
)
def test_bad_requests_are_one_line(
    words: list[str], message: str, table: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["forecast", str(table), *words]) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    lines = [line for line in shown.err.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1
    assert message in lines[0]


def test_nothing_of_torch_is_loaded() -> None:
    import os
    import subprocess
    import sys

    run = "import sys, numpy as np, sightline as sl; sl.forecast(np.arange(40.0) % 7, p='3')"
    code = f"{run}; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=os.environ, timeout=60)
    assert done.stdout.strip() == "False", done.stderr
