"""The command line: what it prints, how fast, and with which exit code it leaves."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import tomllib
import types
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from sightline import __version__, cli
from sightline.errors import SightlineError, Stopped
from sightline.objectives import FAMILIES

ROOT = Path(__file__).resolve().parent.parent
SOURCES = str(ROOT / "src")


@dataclass(frozen=True)
class Result:
    next: str = "sightline families"

    def __str__(self) -> str:
        return "some/path"


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Put a function of one's own behind ``sightline see``."""

    def put(function: Callable[..., object]) -> None:
        module = types.ModuleType("sightline.runs.see")
        module.see = function  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "sightline.runs.see", module)

    return put


# -- without a command


@pytest.mark.parametrize("words", [[], ["-h"], ["--help"], ["help"]])
def test_overview(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(words) == 0
    shown = capsys.readouterr()
    assert shown.err == ""
    assert shown.out.count("sightline compare") >= 2
    assert max(map(len, shown.out.splitlines())) <= 100
    for name in ("compare", "train", "generate", "fill", "score", "embed", "see", "families"):
        assert any(line.split()[:1] == [name] for line in shown.out.splitlines())


@pytest.mark.parametrize("words", [["--version"], ["-V"]])
def test_version(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(words) == 0
    assert capsys.readouterr().out == f"sightline {__version__}\n"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["compar"], "there is no command 'compar'. Did you mean compare?"),
        (["generated"], "Did you mean generate?"),
        (["xyzzy"], "there is no command 'xyzzy'. The commands are compare, train"),
        (["--seed", "3", "train"], "--seed stands before a command"),
        (["help", "famlies"], "Did you mean families?"),
    ],
)
def test_no_such_command(words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(words) == 2
    shown = capsys.readouterr()
    assert message in shown.err
    assert shown.err.startswith("error: ")
    assert shown.err.count("\n") == 1
    assert shown.out == ""


def test_every_command_is_a_public_function() -> None:
    import sightline

    assert set(cli.COMMANDS) <= set(sightline.__all__)


# -- every command


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_help_of_a_command(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([name, "--help"]) == 0
    shown = capsys.readouterr().out
    assert f"usage: sightline {name} " in shown
    assert f"    sightline {name}" in shown, "no example"
    assert "--json" in shown
    assert "Args:" not in shown
    assert "{None}" not in shown


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_every_argument_is_explained(name: str) -> None:
    import importlib
    import inspect

    function = getattr(importlib.import_module(f"sightline.runs.{cli.COMMANDS[name].module}"), name)
    told = (inspect.getdoc(function) or "").partition("Args:")[2]
    for argument in inspect.signature(function).parameters:
        assert f"\n    {argument}: " in told, f"{name} does not explain {argument}"


@pytest.mark.parametrize("name", ["compare", "train", "generate", "fill", "score", "embed"])
def test_what_every_model_command_takes(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    cli.main([name, "--help"])
    shown = capsys.readouterr().out
    for option in ("--device", "--threads", "--dtype", "--tokenizer", "--seed", "--json"):
        assert option in shown, option


@pytest.mark.parametrize(
    "words",
    [["generate"], ["score", "somewhere", "--lenght", "3"], ["families", "--json"], ["generate", "x", "--length", "a"]],
)
def test_usage_errors_leave_with_2(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(words) == 2
    shown = capsys.readouterr()
    assert shown.err
    assert "Traceback" not in shown.err
    assert shown.out == ""


def test_result_and_next_are_printed_last(command: Callable[..., None], capsys: pytest.CaptureFixture[str]) -> None:
    command(lambda: Result())
    assert cli.main(["see"]) == 0
    assert capsys.readouterr().out == "some/path\n\nnext: sightline families\n"


def test_a_long_path_is_not_wrapped(command: Callable[..., None], capsys: pytest.CaptureFixture[str]) -> None:
    long = "a-folder/" * 40
    command(lambda: types.SimpleNamespace(next=long))
    cli.main(["see"])
    assert f"next: {long}" in capsys.readouterr().out.splitlines()


def test_no_result_prints_nothing(command: Callable[..., None], capsys: pytest.CaptureFixture[str]) -> None:
    command(lambda: None)
    assert cli.main(["see"]) == 0
    assert capsys.readouterr().out == ""


def raising(error: BaseException) -> Callable[[], None]:
    def function() -> None:
        raise error

    return function


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (SightlineError("3 cows are no budget", "Write 60s"), 2, "error: 3 cows are no budget. Write 60s."),
        (Stopped("saved; give the same command again"), 130, "saved; give the same command again"),
        (KeyboardInterrupt(), 130, "stopped"),
        (OSError(errno.ENOSPC, "No space left on device"), 2, "error: No space left on device. Make room"),
        (PermissionError(errno.EACCES, "Permission denied", "locked/x"), 2, "error: locked/x: Permission denied."),
    ],
)  # fmt: skip
def test_how_a_command_ends(
    command: Callable[..., None], capsys: pytest.CaptureFixture[str], error: BaseException, code: int, message: str
) -> None:
    command(raising(error))
    assert cli.main(["see"]) == code
    shown = capsys.readouterr()
    assert message in shown.err
    assert "Traceback" not in shown.err
    assert len(shown.err.strip().splitlines()) == 1


def test_a_bug_is_not_hidden(command: Callable[..., None]) -> None:
    command(raising(ZeroDivisionError()))
    with pytest.raises(ZeroDivisionError):
        cli.main(["see"])


def test_warnings_of_others_are_silent_and_ours_are_not(
    command: Callable[..., None], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "warnoptions", [])

    def function() -> Result:
        warnings.warn_explicit("theirs", UserWarning, "torch/x.py", 1, module="torch.x")
        warnings.warn_explicit("ours", UserWarning, "sightline/x.py", 1, module="sightline.x")
        return Result()

    before = list(warnings.filters)
    command(function)
    with warnings.catch_warnings(record=True) as caught:
        assert cli.main(["see"]) == 0
    assert [str(one.message) for one in caught] == ["ours"]
    assert list(warnings.filters) == before


# -- bad input reaches a person as one clear line, and nothing is made


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["train"], "needs a family and a corpus"),
        (["compare"], "needs a corpus"),
        (["train", "causl", "page.txt"], "there is no family 'causl'"),
        (["compare", "page.txt", "--families", "causal,bert"], "there is no family 'bert'"),
        (["compare", "page.txt", "--families", ""], "no family"),
        (["compare", "page.txt", "--budget", "3cows"], "3cows"),
        (["train", "causal", "page.txt", "--budget", "3cows"], "3cows"),
        (["compare", "page.txt", "--size", "huge"], "there is no size 'huge'"),
        (["compare", "page.txt", "--seeds", "0"], "0 seeds"),
        (["train", "causal", "page.txt", "--size", "huge"], "there is no size 'huge'"),
        (["train", "causal", "page.txt", "--setting", "rate=0.3"], "'rate=0.3' is not a setting of causal"),
        (["train", "causal", "absent.txt"], "absent.txt does not exist"),
        (["compare", "absent.txt"], "absent.txt does not exist"),
        (["train", "causal", "empty.txt"], "empty"),
        (["train", "causal", "numbers.csv"], "numbers.csv has no column 'y'; it has 1, 2"),
        (["train", "causal", "--recipe", "absent.toml"], "absent.toml does not exist"),
        (["train", "--recipe", "page.txt"], "is not a recipe"),
        (["generate", "absent"], "absent does not exist"),
        (["score", ".", "text"], "holds no model"),
        (["families", "--svg", "sheet.png"], "does not end in .svg"),
    ],
)
def test_bad_input(
    words: list[str],
    message: str,
    page: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("page.txt").write_text(page, encoding="utf-8")
    Path("empty.txt").touch()
    Path("numbers.csv").write_text("1,2\n3,4\n", encoding="utf-8")
    assert cli.main(words) == 2
    shown = capsys.readouterr()
    errors = [line for line in shown.err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1, shown.err
    assert message in errors[0]
    assert shown.err.splitlines()[-1] == errors[0]
    assert Path("page.txt").read_text(encoding="utf-8") == page
    assert not list(tmp_path.rglob("model.safetensors"))


# -- whole commands


def test_families_in_full(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "families.json"
    assert cli.main(["families", "--json", str(path)]) == 0
    shown = capsys.readouterr().out
    assert shown.splitlines()[-1].startswith("next: sightline ")
    records = json.loads(path.read_text(encoding="utf-8"))
    assert [record["family"] for record in records] == list(FAMILIES)


def test_train_then_use(page: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Counts need no gradient: a whole run in a second."""
    corpus, out = tmp_path / "page.txt", tmp_path / "run"
    corpus.write_text(page, encoding="utf-8")
    given = ["train", "ngram", str(corpus), "--tokenizer", "byte", "--budget", "1Mtok", "--device", "cpu", "--out"]
    assert cli.main([*given, str(out)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert str(out / "model") in lines, "the path stands alone on a line"
    assert lines[-1].startswith("next: sightline generate ")

    assert cli.main(["generate", str(out), "The", "--length", "5", "--greedy"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("The")
    assert lines[-1].startswith("next: sightline ")

    scores = tmp_path / "scores.json"
    assert cli.main(["score", str(out), str(corpus), "--part", "test", "--json", str(scores)]) == 0
    record = json.loads(scores.read_text(encoding="utf-8"))
    assert record["scores"][0]["class"] == "exact"
    assert 0 < record["scores"][0]["value"] < 8
    assert "next: sightline see" in capsys.readouterr().out

    assert cli.main(["train", "--recipe", str(out / "recipe.toml"), "--out", str(tmp_path / "again")]) == 0
    first, second = (folder / "model" / "model.safetensors" for folder in (out, tmp_path / "again"))
    assert first.read_bytes() == second.read_bytes()


def test_print_recipe_is_toml_and_trains_nothing(page: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    corpus, out = tmp_path / "page.txt", tmp_path / "run"
    corpus.write_text(page, encoding="utf-8")
    words = ["train", "ngram", str(corpus), "--tokenizer", "byte", "--budget", "1Mtok", "--out", str(out)]
    assert cli.main([*words, "--print-recipe"]) == 0
    recipe = tomllib.loads(capsys.readouterr().out)
    assert (recipe["family"], recipe["budget"]) == ("ngram", "1Mtok")
    assert not (out / "model").exists()


# -- in a process of its own


def called(*words: str, **changes: str) -> subprocess.CompletedProcess[str]:
    code = "import sys; from sightline.cli import main; sys.exit(main())"
    environment = os.environ | {"PYTHONPATH": SOURCES} | changes
    return subprocess.run(
        [sys.executable, "-c", code, *words], env=environment, capture_output=True, text=True, timeout=120
    )


def test_exit_codes_of_a_process() -> None:
    wrong = called("compar")
    assert (wrong.returncode, wrong.stdout) == (2, "")
    assert wrong.stderr.count("\n") == 1
    right = called("families", PYTHONIOENCODING="utf-8")
    assert (right.returncode, right.stderr) == (0, "")
    assert "■ · ·" in right.stdout


def test_a_terminal_without_squares_still_gets_its_families() -> None:
    plain = called("families", PYTHONIOENCODING="ascii", PYTHONUTF8="0")
    assert plain.returncode == 0, plain.stderr
    assert "next: sightline" in plain.stdout


def test_a_reader_who_leaves_is_no_error() -> None:
    code = "import sys; from sightline.cli import main; sys.exit(main(['families']))"
    script = f'"{sys.executable}" -c "{code}" | true'
    done = subprocess.run(
        ["sh", "-c", script], env=os.environ | {"PYTHONPATH": SOURCES}, capture_output=True, text=True, timeout=120
    )
    assert done.stderr == ""


def test_help_of_compare_is_light() -> None:
    code = """
import sys, time
start = time.perf_counter()
from sightline.cli import main
main(["compare", "--help"])
heavy = {"torch", "sklearn", "matplotlib", "transformers", "tokenizers"} & set(sys.modules)
print(sorted(heavy), file=sys.stderr)
print(time.perf_counter() - start, file=sys.stderr)
"""
    seconds = []
    for _ in range(3):  # the machine may be shared
        done = subprocess.run(
            [sys.executable, "-c", code],
            env=os.environ | {"PYTHONPATH": SOURCES},
            capture_output=True,
            text=True,
            timeout=120,
        )
        loaded, taken = done.stderr.splitlines()
        assert loaded == "[]"
        seconds.append(float(taken))
    assert min(seconds) < 1.0
