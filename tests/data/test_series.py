"""Tables of numbers: long frames, one column, times on a grid, gaps, and what is refused."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest

from sightline.data.series import read_series
from sightline.errors import SightlineError

LONG = """unique_id,ds,y
B,2024-03-01,3
A,2024-01-01,1
A,2024-02-01,2
B,2024-01-01,1
B,2024-02-01,2
"""


def written(folder: Path, text: str, name: str = "series.csv") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def test_a_long_frame_in_any_order(tmp_path: Path) -> None:
    table = read_series(written(tmp_path, LONG))
    assert table.names == ("B", "A")
    assert [one.tolist() for one in table.values] == [[1, 2, 3], [1, 2]]
    assert table.times(1, 2, 3).astype(str).tolist() == ["2024-03-01", "2024-04-01", "2024-05-01"]
    assert table.notes == ("rows were put in the order of time",)


def test_csv_gz_and_parquet_are_the_same_series(tmp_path: Path) -> None:
    path = written(tmp_path, LONG)
    packed = tmp_path / "series.csv.gz"
    packed.write_bytes(gzip.compress(path.read_bytes()))
    frame = {"unique_id": ["A", "A", "B"], "ds": np.array(["2024-01-01", "2024-02-01", "2024-01-01"], "M8[s]")}
    arrow = pyarrow.table(frame | {"y": [1.0, None, 3.0]})
    pyarrow.parquet.write_table(arrow, tmp_path / "series.parquet")
    assert read_series(packed).fingerprint == read_series(path).fingerprint
    for table in (read_series(tmp_path / "series.parquet"), read_series(arrow)):
        assert table.names == ("A", "B")
        assert np.isnan(table.values[0]).tolist() == [False, True]


def test_one_column_and_arrays(tmp_path: Path) -> None:
    table = read_series(written(tmp_path, "sales\n1\n\n2.5\n", "shop.csv"))
    assert table.names == ("shop",)
    assert table.values[0].tolist() == [1, 2.5]
    assert table.times(0, 2, 2).tolist() == [2, 3]
    assert read_series([1.0, 2.0]).names == ("y",)
    assert read_series([[1.0, 2.0], [3.0, 4.0, 5.0]]).names == ("0", "1")
    assert read_series({"a": [1, 2], "b": np.arange(4)}).values[1].tolist() == [0, 1, 2, 3]


def test_a_data_frame() -> None:
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"unique_id": ["x"] * 3, "ds": [1, 2, 3], "y": [4.0, 5.0, 6.0]})
    table = read_series(frame)
    assert table.names == ("x",)
    assert table.times(0, 3, 1).tolist() == [4]


@pytest.mark.parametrize(
    ("times", "following"),
    [
        (["2024-01-31", "2024-02-29", "2024-03-31"], ["2024-04-30", "2024-05-31"]),
        (["2024-01-15", "2024-02-15", "2024-04-15"], ["2024-05-15", "2024-06-15"]),
        (["2023-12-31", "2024-03-31", "2024-06-30"], ["2024-09-30", "2024-12-31"]),
        (["2020-02-01", "2021-02-01", "2022-02-01"], ["2023-02-01", "2024-02-01"]),
        (["2024-01", "2024-02", "2024-03"], ["2024-04", "2024-05"]),
        (["2024-02-28", "2024-02-29", "2024-03-01"], ["2024-03-02", "2024-03-03"]),
        (["2024-01-01 22:00", "2024-01-01 23:00", "2024-01-02 00:00"], ["2024-01-02T01:00", "2024-01-02T02:00"]),
    ],
)
def test_times_go_on_as_a_calendar_does(times: list[str], following: list[str], tmp_path: Path) -> None:
    table = read_series(written(tmp_path, "ds,y\n" + "".join(f"{time},{at}\n" for at, time in enumerate(times))))
    found = table.times(0, len(table.values[0]), 2).astype("M8[m]")
    assert found.tolist() == np.array(following, "M8[m]").tolist()


def test_a_gap_is_a_missing_value_and_said(tmp_path: Path) -> None:
    table = read_series(written(tmp_path, "ds,y\n2024-01-01,1\n2024-01-02,2\n2024-01-05,5\n"))
    assert np.isnan(table.values[0]).tolist() == [False, False, True, True, False]
    assert table.notes == ("series series: 2 times are missing, the first 2024-01-03",)


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        ("YEAR,SUN\n1700,5\n", {}, r"no column 'y'; it has YEAR, SUN. Name the column with --value"),
        ("ds,y\n1,2\n", {"id": "shop"}, r"no column 'shop'; it has ds, y. Name the column with --id"),
        ("y\nfive\n3\n", {}, "holds 'five', which is no number"),
        ("ds,y\n", {}, "has no rows"),
        ("ds,y\n1,\n2,\n", {}, "the column 'y' of .* is empty"),
        ("ds,y\nnever,1\nlater,2\n", {}, "holds 'never', which is no time"),
        ("ds,y\n1,1\n1,2\n", {}, "two values at 1"),
        ("ds,y\n2024-01-01 00:00,1\n2024-01-01 02:00,2\n2024-01-01 05:00,3\n", {}, "is not evenly spaced: after"),
        ("unique_id,y\n,1\nA,2\n", {"id": "unique_id"}, "rows of .* have no unique_id"),
        ("ds,y\n1,2,3\n", {}, "is no table"),
    ],
)
def test_what_is_refused(text: str, options: dict[str, str], message: str, tmp_path: Path) -> None:
    if "no unique_id" in message:
        arrow = pyarrow.table({"unique_id": [None, "A"], "y": [1.0, 2.0]})
        pyarrow.parquet.write_table(arrow, tmp_path / "series.parquet")
        source = tmp_path / "series.parquet"
    else:
        source = written(tmp_path, text)
    with pytest.raises(SightlineError, match=message):
        read_series(source, **options)


def test_files_that_are_none(tmp_path: Path) -> None:
    damaged = tmp_path / "cut.csv.gz"
    damaged.write_bytes(gzip.compress(b"y\n" + b"1\n" * 9999)[:-9])
    for path, message in (
        (tmp_path / "nowhere.csv", "does not exist"),
        (tmp_path, "is no table"),
        (written(tmp_path, "1", "numbers.txt"), "is no table"),
        (damaged, "is damaged"),
    ):
        with pytest.raises(SightlineError, match=message):
            read_series(path)
    with pytest.raises(SightlineError, match="something else than numbers"):
        read_series(["one", "two"])
