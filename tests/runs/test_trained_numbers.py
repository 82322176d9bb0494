"""Tables of numbers in train: both families as in compare, resuming, what is refused; forecasts by what was trained."""

from __future__ import annotations

import json
import signal
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

import sightline as sl
from sightline import hub
from sightline.cli import main
from sightline.data.series import number_rows
from sightline.objectives.model import Model
from sightline.runs import numbers
from sightline.stacks import sizes
from sightline.stacks.regressions import Regressions

QUICK = (
    "--budget", "6steps", "--context", "32", "--batch", "4", "--threads", "1", "--device", "cpu", "--dtype", "float32",
    "--horizon", "6",
)  # fmt: skip
WEIGHTS = Path("model", "model.safetensors")
SERIES, LENGTH = 4, 120


@pytest.fixture(autouse=True)
def tinier(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sizes.SIZES, "tiny", sizes.Size(layers=2, width=16, heads=2, context=32, batch=128))


def walks() -> np.ndarray:
    generator = np.random.default_rng(0)
    values = np.zeros((SERIES, LENGTH))
    for at in range(1, LENGTH):
        values[:, at] = 0.7 * values[:, at - 1] + generator.normal(size=SERIES)
    return values + 1000 * np.arange(SERIES)[:, None]


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("series") / "walks.csv"
    lines = [f"W{one},{at},{value:.12f}" for one, row in enumerate(walks()) for at, value in enumerate(row)]
    path.write_text("\n".join(["unique_id,ds,y", *lines]), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def trained(table: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A run folder of each family."""
    runs = {family: tmp_path_factory.mktemp("trained") / family for family in numbers.FAMILIES}
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sizes.SIZES, "tiny", sizes.Size(layers=2, width=16, heads=2, context=32, batch=128))
        for family, folder in runs.items():
            assert main(["train", family, str(table), *QUICK, "--out", str(folder)]) == 0
    return runs


def record_of(folder: Path) -> dict[str, Any]:
    record: dict[str, Any] = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    return record


def line_of(capsys: pytest.CaptureFixture[str]) -> str:
    """The one line that an error is."""
    shown = capsys.readouterr()
    lines = [line for line in shown.err.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1, shown.err
    assert shown.out == ""
    return lines[0]


# -- training


@pytest.mark.parametrize("family", numbers.FAMILIES)
def test_the_same_command_again_prints_what_is_there(
    family: str, table: Path, trained: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    out = trained[family]
    before = {path: path.read_bytes() for path in (out / WEIGHTS, out / "results.json", out / "recipe.toml")}
    assert main(["train", family, str(table), *QUICK, "--out", str(out)]) == 0
    shown = capsys.readouterr()
    assert "is finished" in shown.err
    holds = {"linear": "linear: 4 regressions on up to ", "causal": "causal: 6,355 parameters; 768 numbers in "}[family]
    assert shown.out.startswith(holds)
    assert " 0 parameters" not in shown.out
    for words in (
        "nats per number, density, next number",
        "MASE, task, forecast",
        "standard deviations, task, forecast",
    ):
        assert words in shown.out
    assert "floor: the last number again: " in shown.out
    assert f"next: sightline forecast {table} --model {out / 'model'} --horizon 6" in shown.out
    assert {path: path.read_bytes() for path in before} == before
    recipe = tomllib.loads((out / "recipe.toml").read_text(encoding="utf-8"))
    assert (recipe["family"], recipe["horizon"]) == (family, 6)


def test_scores_are_those_of_a_comparison(table: Path, trained: dict[str, Path], tmp_path: Path) -> None:
    result = sl.compare(
        str(table), families="linear,causal", budget="6steps", context=32, batch=4, threads=1, device="cpu",
        dtype="float32", horizon=6, out=tmp_path / "both",
    )  # fmt: skip
    assert result is not None
    for family in result.results["families"]:
        name = family["family"]
        record = record_of(trained[name])
        assert record["scores"] == family["scores"]
        assert record["floors"] == result.results["floors"]
        one, other = trained[name] / WEIGHTS, tmp_path / "both" / name / "seed-0" / WEIGHTS
        assert one.read_bytes() == other.read_bytes()
    recipe = tmp_path / "both" / "causal" / "seed-0" / "recipe.toml"
    assert main(["train", "--recipe", str(recipe), "--out", str(tmp_path / "again")]) == 0
    assert (tmp_path / "again" / WEIGHTS).read_bytes() == (trained["causal"] / WEIGHTS).read_bytes()


def test_stopped_in_the_middle_it_ends_the_same(
    table: Path, trained: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain, out = numbers.NumberGround.rows_of, tmp_path / "run"

    def stopping(self: numbers.NumberGround, *rest: Any) -> Any:
        rows_of = plain(self, *rest)

        def rows(step: int) -> Any:
            if step == 3 and (out / "metrics.jsonl").exists():
                signal.raise_signal(signal.SIGINT)
            return rows_of(step)

        return rows

    words = ["train", "causal", str(table), *QUICK, "--out", str(out)]
    with monkeypatch.context() as patched:
        patched.setattr(numbers.NumberGround, "rows_of", stopping)
        assert main(words) == 130
    assert not (out / WEIGHTS).exists()
    assert main(words) == 0
    assert (out / WEIGHTS).read_bytes() == (trained["causal"] / WEIGHTS).read_bytes()


def test_p_is_a_setting(table: Path, tmp_path: Path) -> None:
    result = sl.train("linear", str(table), setting=("p=3",), horizon=6, threads=1, device="cpu", out=tmp_path / "run")
    assert result is not None
    model = hub.load(result.folder, numbers=True)
    assert model.objective.p == 3  # type: ignore[attr-defined]
    alone = sl.AR(3).fit(walks()[:, : LENGTH - 12 - 6])
    fitted = model.stack.fitted
    for name in ("phi", "constant", "variance", "recent", "orders", "equations"):
        assert np.allclose(getattr(fitted, name), getattr(alone, name), rtol=1e-7)


@pytest.mark.parametrize("column", ["y", "only", "price"])
def test_parquet_with_a_column_of_numbers(column: str, tmp_path: Path) -> None:
    values = walks()[0]
    columns = {column: values} | ({"note": ["a"] * LENGTH} if column == "price" else {})
    pyarrow.parquet.write_table(pa.table(columns), tmp_path / "one.parquet")
    field = "price" if column == "price" else "text"
    result = sl.train(
        "linear", str(tmp_path / "one.parquet"), field=field, threads=1, device="cpu", out=tmp_path / "run"
    )
    assert result is not None
    assert str(result).startswith("linear: 1 regression on up to ")
    assert (" --value price --model " in result.next) == (column == "price")


@pytest.mark.parametrize(
    ("family", "words", "message"),
    [
        ("masked", [], "masked reads text, and this is a table of numbers. Choose from linear, causal"),
        ("linear", ["--setting", "p=51"], "are too short for p = 51 (W0: 102 values; 104 are needed)"),
        ("linear", ["--setting", "p=0"], "an autoregression on 0 numbers looks at nothing"),
        ("linear", ["--setting", "n=3"], "'n=3' is not a setting of linear"),
        ("linear", ["--field", "z"], "has no column 'z'"),
        ("linear", ["--horizon", "50"], "series W0 has 120 values: too few to train on"),
        ("linear", ["--horizon", "-1"], "a horizon of -1 means nothing"),
        ("causal", ["--context", "6"], "a horizon of 6 leaves no past in rows of 6 numbers"),
        ("causal", ["--init", "counts"], "--init counts is for texts"),
        ("causal", ["--from", "elsewhere"], "--from is for texts"),
    ],
)
def test_bad_requests(
    family: str, words: list[str], message: str, table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", family, str(table), *QUICK, *words, "--out", str(tmp_path / "run")]) == 2
    assert message in line_of(capsys)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("family", numbers.FAMILIES)
@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.full(LENGTH, 5.0), "series one is constant (one: every value is 5)"),
        (np.where(np.arange(LENGTH) == 40, np.nan, walks()[0]), "series one has missing values"),
        (np.where(np.arange(LENGTH) == 40, np.inf, walks()[0]), "series one has infinite values"),
        (walks()[0, :12], "series one has 12 values: too few to train on"),
        (None, "does not exist"),
    ],
)
def test_bad_tables(
    family: str, values: np.ndarray | None, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("one.csv", "one.parquet"):
        path = tmp_path / name
        if values is not None and name.endswith(".csv"):
            path.write_text("y\n" + "".join(f"{value}\n" for value in values), encoding="utf-8")
        elif values is not None:
            pyarrow.parquet.write_table(pa.table({"y": values}), path)
        assert main(["train", family, str(path), *QUICK, "--out", str(tmp_path / "run")]) == 2
        assert message in line_of(capsys)
        assert not (tmp_path / "run").exists()


def test_texts(tmp_path: Path, page: str, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "page.txt"
    path.write_text(page[:4000], encoding="utf-8")
    for words, message in (
        (["linear"], "linear reads numbers, and this is a text"),
        (["causal", "--horizon", "6"], "a text has no horizon"),
    ):
        assert main(["train", words[0], str(path), *words[1:], "--out", str(tmp_path / "run")]) == 2
        assert message in line_of(capsys)


def test_another_table_is_another_run(
    table: Path, trained: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path / "other.csv"
    other.write_text(table.read_text(encoding="utf-8").replace("W1,7,", "W1,7,1"), encoding="utf-8")
    for path, words, message in (
        (other, [], "does not hold the numbers that the recipe was made with"),
        (table, ["--horizon", "5"], "horizon (6 there, 5 now)"),
        (table, ["--setting", "p=2"], "fields ({} there, {'p': 2} now)"),
    ):
        assert main(["train", "linear", str(path), *QUICK, *words, "--out", str(trained["linear"])]) == 2
        assert message in line_of(capsys)


# -- forecasts by what was trained


def test_regressions_go_on_from_the_ends_of_series(table: Path, trained: dict[str, Path], tmp_path: Path) -> None:
    held = hub.load(trained["linear"], numbers=True).stack
    assert isinstance(held, Regressions)
    wanted = held.fitted.apply(walks()).predict(5)
    result = sl.forecast(table, model=trained["linear"], horizon=5, out=tmp_path / "ahead.csv")
    assert np.allclose(result.forecast.mean, wanted.mean)  # type: ignore[union-attr]
    assert np.allclose(result.forecast.deviation, wanted.deviation)  # type: ignore[union-attr]
    assert "behind 120 values" in str(result)
    assert (tmp_path / "ahead.csv").read_text(encoding="utf-8").splitlines()[0].split(",")[2] == '"AR"'
    swapped = {f"W{one}": walks()[one, :100] for one in (2, 0)}
    found = sl.forecast(swapped, model=trained["linear"], horizon=5).forecast.middle
    assert np.allclose(found[1], held.fitted.take(np.array([0])).apply(walks()[:1, :100]).predict(5).mean[0])


def test_the_neural_model_takes_new_series(
    table: Path, trained: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["forecast", str(table), "--model", str(trained["causal"]), "--horizon", "4"]
    assert main([*words, "--holdout", "6", "--json", str(tmp_path / "ahead.json")]) == 0
    shown = capsys.readouterr().out
    assert "W0: causal behind 120 values, medians of sampled paths" in shown
    for measure in ("MASE", "sMAPE", "CRPS", "within 95%"):
        assert measure in shown
    record = json.loads((tmp_path / "ahead.json").read_text(encoding="utf-8"))
    assert record["method"] == "causal"
    assert list(record["series"][0]) == ["unique_id", "forecast"]
    plain = walks()[1]
    one, other, again = (
        sl.forecast({"new": values}, model=trained["causal"], horizon=4, seed=3).forecast
        for values in (plain, 100 + 7 * plain, plain)
    )
    assert np.allclose(other.middle, 100 + 7 * one.middle, rtol=1e-4)  # units do not matter
    assert (again.middle == one.middle).all()
    (low, high), (lower, higher) = one.interval(50), one.interval(95)
    assert (lower <= low).all() and (low <= one.middle).all() and (one.middle <= high).all() and (high <= higher).all()


def test_one_law_for_all_series_forecasts_too(tmp_path: Path) -> None:
    from sightline.data.vocabulary import Vocabulary
    from sightline.objectives import LinearAR
    from sightline.stacks.linear import Linear, LinearHead

    stack = Linear(2)
    stack.fit(walks()[0])
    folder = hub.save(Model(LinearAR(Vocabulary(0, 0), p=2), stack, LinearHead(stack), None), tmp_path / "model")
    found = sl.forecast({"a": walks()[0], "b": walks()[1]}, model=folder, horizon=3).forecast
    wanted = sl.AR(2).fit(walks()[0])
    assert np.allclose(found.middle[0], wanted.predict(3).mean[0])
    assert np.allclose(found.middle[1], wanted.apply(walks()[1]).predict(3).mean[0])


@pytest.mark.parametrize(
    ("family", "words", "message"),
    [
        ("linear", ["--p", "3"], "--p tells how to fit, and a model is fitted. Leave --p or --model away"),
        ("causal", ["--missing", "drop"], "--missing tells how to fit"),
        ("causal", ["--horizon", "32"], "a horizon of 32 leaves no past in rows of 32 numbers. Use --horizon 31"),
        ("causal", ["--level", "100"], "an interval of 100.0% is none"),
        ("linear", ["--holdout", "120"], "series W0, with 120 values, has none left once 120 are held out"),
    ],
)
def test_bad_forecasts(
    family: str,
    words: list[str],
    message: str,
    table: Path,
    trained: dict[str, Path],
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["forecast", str(table), "--model", str(trained[family]), *words]) == 2
    assert message in line_of(capsys)


def test_series_that_the_regressions_do_not_know(trained: dict[str, Path]) -> None:
    rows = {"W1": walks()[1], "X": walks()[0], "Z": walks()[2]}
    with pytest.raises(sl.SightlineError, match="holds no regression of series X and 1 more"):
        sl.forecast(rows, model=trained["linear"])
    result = sl.forecast(rows, model=trained["linear"], skip=True)
    assert (result.table.names, sorted(result.skipped)) == (("W1",), ["X", "Z"])
    for values, message in ((np.ones(80), "is constant"), (np.r_[walks()[0], np.nan], "has missing values")):
        with pytest.raises(sl.SightlineError, match=message):
            sl.forecast({"new": values}, model=trained["causal"])


def test_a_model_of_texts_forecasts_nothing(tmp_path: Path, page: str, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "page.txt"
    path.write_text(page[:4000], encoding="utf-8")
    words = ["--tokenizer", "byte", "--threads", "1", "--device", "cpu", "--out", str(tmp_path / "run")]
    assert main(["train", "ngram", str(path), "--context", "32", *words]) == 0
    shown = capsys.readouterr().out
    counted = shown.split(" n-grams of up to ")[0].removeprefix("ngram: ")
    assert int(counted.replace(",", "")) > 1000
    assert "no parameters; " in shown
    with pytest.raises(sl.SightlineError, match="reads texts, not numbers"):
        sl.forecast(walks(), model=tmp_path / "run")


@pytest.mark.parametrize("family", numbers.FAMILIES)
def test_a_model_of_numbers_answers_no_texts(family: str, trained: dict[str, Path]) -> None:
    with pytest.raises(sl.SightlineError, match=r"reads numbers, not texts\. To forecast .* forecast SERIES --model"):
        sl.generate(trained[family], ("a text",))
    card = (trained[family] / "model" / "README.md").read_text(encoding="utf-8")
    assert "sightline forecast series.csv --model THIS_FOLDER" in card


def test_regressions_answer_no_rows(trained: dict[str, Path]) -> None:
    model = hub.load(trained["linear"], numbers=True)
    with pytest.raises(sl.SightlineError, match="one law for each of 4 series answers no rows"):
        model.examined(number_rows([walks()[0]], LENGTH))
