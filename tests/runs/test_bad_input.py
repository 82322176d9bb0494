"""What is wrong is told in one line (what, why, what to do), with exit code 2, and nothing is overwritten or lost."""

from __future__ import annotations

import errno
import json
import shutil
import signal
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from sightline import files
from sightline.cli import main
from sightline.files import file_fingerprint, locked
from sightline.runs import ground

OPTIONS = (
    "--context", "32", "--batch", "4", "--tokenizer", "byte", "--threads", "1", "--device", "cpu", "--dtype", "float32",
)  # fmt: skip
QUICK = (*OPTIONS, "--budget", "3steps", "--validations", "1")


def contents(folder: Path) -> dict[str, str]:
    found = [path for path in folder.rglob("*") if path.is_file() and path.name != ".lock"]
    return {str(path.relative_to(folder)): file_fingerprint(path) for path in found}


def line_of(capsys: pytest.CaptureFixture[str]) -> str:
    """The one line that an error is: what and why, then what to do."""
    shown = capsys.readouterr()
    lines = [line for line in shown.err.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1, shown.err
    assert shown.err.splitlines()[-1] == lines[0]
    assert "Traceback" not in shown.err
    assert shown.out == ""
    assert lines[0].count(". ") >= 1, "what to do is missing"
    return lines[0]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory, page: str) -> Path:
    path = tmp_path_factory.mktemp("text") / "page.txt"
    path.write_text(page[:4000], encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def finished(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained") / "run"
    assert main(["train", "causal", str(corpus), *QUICK, "--out", str(folder)]) == 0
    return folder


# -- texts


@pytest.mark.parametrize("command", [["train", "causal"], ["compare"]])
@pytest.mark.parametrize(
    ("name", "content", "options", "message"),
    [
        ("absent.txt", None, [], "absent.txt does not exist"),
        ("empty.txt", b"", [], "holds no document"),
        ("blank.txt", b" \n\n ", [], "holds no document"),
        ("tiny.txt", b"too short", [], "too few for train, dev and test"),
        ("latin.txt", b"caf\xe9 au lait " * 40, [], "not UTF-8"),
        ("rows.jsonl", b'{"body": "a text"}\n' * 40, [], 'no field "text"'),
        ("broken.jsonl", b'{"text": \n' * 40, [], "not JSON"),
        ("pairs.tsv", b"a\tb\n" * 40, [], "1 different pair, too few"),
        ("numbers.csv", b"1,2\n" * 40, [], "Name the column with --value (train, compare: --field)"),
        ("rows.jsonl", b'{"text": "some text of its own"}\n' * 40, ["--label", "topic"], 'the label field "topic"'),
        ("mixed.jsonl", b'{"text": "a text"}\nnot json\n' * 40, ["--strict"], "(strict)"),
    ],
)
def test_texts(
    command: list[str],
    name: str,
    content: bytes | None,
    options: list[str],
    message: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path, out = tmp_path / name, tmp_path / "out"
    if content is not None:
        path.write_bytes(content)
    assert main([*command, str(path), *OPTIONS, *options, "--out", str(out)]) == 2
    assert message in line_of(capsys)
    assert not out.exists()
    assert content is None or path.read_bytes() == content


def test_an_empty_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "texts").mkdir()
    assert main(["compare", str(tmp_path / "texts"), *OPTIONS, "--out", str(tmp_path / "out")]) == 2
    assert "is an empty folder" in line_of(capsys)


@pytest.mark.parametrize("command", [["train", "causal"], ["compare", "--families", "causal"]])
def test_less_than_one_row(command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, out = tmp_path / "short.txt", tmp_path / "out"
    path.write_text("A sentence, and then one more of them.\n" * 2, encoding="utf-8")
    words = [*command, str(path), *OPTIONS, "--context", "128", "--out", str(out)]
    assert main(words) == 2
    line = line_of(capsys)
    assert "fewer than one row of 128" in line
    assert "shorter context" in line


def test_dev_and_test_without_text_come_from_train(tmp_path: Path, page: str) -> None:
    texts, out = tmp_path / "texts", tmp_path / "out"
    texts.mkdir()
    (texts / "train.txt").write_text(page[:4000], encoding="utf-8")
    for name in ("valid", "test"):
        (texts / f"{name}.txt").touch()
    assert main(["train", "causal", str(texts), *QUICK, "--out", str(out)]) == 0
    record = json.loads((out / "results.json").read_text(encoding="utf-8"))
    assert record["scores"][0]["value"] > 0


def test_bad_rows_are_passed_over_and_counted(tmp_path: Path, page: str, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [json.dumps({"text": page[at : at + 200]}) for at in range(0, 6000, 200)]
    path = tmp_path / "rows.jsonl"
    path.write_bytes("\n".join([*rows, "not json", '{"body": 1}']).encode() + b"\n\xff\xfe\n")
    assert main(["train", "ngram", str(path), *QUICK, "--out", str(tmp_path / "out")]) == 0
    assert "3 bad rows passed over" in capsys.readouterr().err


@pytest.mark.parametrize(("content", "tokenizer"), [("a" * 4000, "byte"), ("猫" * 4000, "char"), ("ha " * 2000, "bpe")])
def test_one_word_is_counted_too(content: str, tokenizer: str, tmp_path: Path) -> None:
    """No count of counts says a discount; and no document is left so short that n-grams of seven are missed."""
    path, out = tmp_path / "one.txt", tmp_path / "out"
    path.write_text(content, encoding="utf-8")
    words = ["--tokenizer", tokenizer, "--setting", "n=7", "--budget", "1Mtok", "--out", str(out)]
    assert main(["train", "ngram", str(path), *OPTIONS, *words]) == 0
    record = json.loads((out / "results.json").read_text(encoding="utf-8"))
    assert 0 < record["scores"][0]["value"] < 0.5
    assert main(["generate", str(out), "", "--length", "4"]) == 0


# -- families, sizes, budgets


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["train", "causl", "{}"], "there is no family 'causl'. Choose from causal, "),
        (["compare", "{}", "--families", "causl"], "there is no family 'causl'. Choose from causal, "),
        (["train", "causal", "{}", "--size", "huge"], "there is no size 'huge'. Choose one of tiny, "),
        (["compare", "{}", "--size", "huge"], "there is no size 'huge'. Choose one of tiny, "),
        (["train", "causal", "{}", "--budget", "soon"], "the budget 'soon' cannot be read. Write a number and a unit"),
        (["compare", "{}", "--budget", "5"], "the budget '5' cannot be read. Write a number and a unit"),
        (["compare", "{}", "--tokenizer", "morse"], "morse"),
        (["train", "causal", "{}", "--tokenizer", "bpe:20"], "20"),
        (["train", "causal", "{}", "--device", "abacus"], "the device 'abacus' is not to be had"),
    ],
)
def test_words(
    corpus: Path, words: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert main([*(word.format(corpus) for word in words), "--out", str(out)]) == 2
    assert message in line_of(capsys)
    assert not (out / "recipe.toml").exists()


# -- folders


@pytest.mark.parametrize("command", [["train", "causal"], ["compare", "--families", "causal"]])
@pytest.mark.parametrize("name", ["notes.txt", "model/config.json", "data/mine.csv", "data/train/essay.txt"])
def test_a_folder_with_other_files(
    corpus: Path, command: list[str], name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / name).write_text("mine", encoding="utf-8")
    assert main([*command, str(corpus), *OPTIONS, "--budget", "3steps", "--out", str(tmp_path)]) == 2
    assert "holds " in line_of(capsys)
    assert (tmp_path / name).read_text(encoding="utf-8") == "mine"
    assert not (tmp_path / "recipe.toml").exists()


def test_a_file_is_no_folder(corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    out.write_text("mine", encoding="utf-8")
    assert main(["train", "causal", str(corpus), *QUICK, "--out", str(out)]) == 2
    assert "is a file, not a folder" in line_of(capsys)
    assert out.read_text(encoding="utf-8") == "mine"


def test_a_folder_in_use(corpus: Path, finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with locked(finished):
        assert main(["train", "causal", str(corpus), *QUICK, "--out", str(finished)]) == 2
    assert "is in use by another run" in line_of(capsys)


def test_another_run(corpus: Path, finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = contents(finished)
    assert main(["train", "masked", str(corpus), *QUICK, "--out", str(finished)]) == 2
    assert "holds another run" in line_of(capsys)
    assert contents(finished) == before


# -- what was cut short


def unfinished(finished: Path, folder: Path) -> Path:
    """The run as it was when its last step was saved, with one older checkpoint beside."""
    shutil.copytree(finished, folder)
    shutil.rmtree(folder / "model")
    (folder / "results.json").unlink()
    return folder


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize("name", ["model.safetensors", "optimizer.safetensors", "state.json", "best.safetensors"])
def test_a_checkpoint_cut_short_falls_back(
    corpus: Path,
    finished: Path,
    name: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    out = tmp_path / "run"
    words = ["train", "causal", str(corpus), *QUICK, "--out", str(out)]
    monkeypatch.setattr("sightline.training.loop.SAVE_SECONDS", 0.0)
    assert main(words) == 0
    unfinished(out, tmp_path / "cut")
    newest = tmp_path / "cut" / "checkpoints" / "step-00000003"
    assert newest.with_name("step-00000002").is_dir()
    cut(newest / name)
    capsys.readouterr()
    assert main([*words[:-1], str(tmp_path / "cut")]) == 0
    told = capsys.readouterr().err
    assert "step-00000003" in told
    assert "Passed over" in told
    weights = Path("model", "model.safetensors")
    assert (tmp_path / "cut" / weights).read_bytes() == (out / weights).read_bytes()
    assert (out / weights).read_bytes() == (finished / weights).read_bytes()


def test_no_whole_checkpoint(corpus: Path, finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = unfinished(finished, tmp_path / "run")
    for path in (out / "checkpoints").glob("*/model.safetensors"):
        cut(path)
    before = contents(out / "checkpoints")
    assert main(["train", "causal", str(corpus), *QUICK, "--out", str(out)]) == 2
    assert "no checkpoint in" in line_of(capsys)
    assert contents(out / "checkpoints") == before
    assert not (out / "model").exists()


def test_a_checkpoint_of_another_vocabulary(
    corpus: Path, finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = unfinished(finished, tmp_path / "run")
    for path in (out / "checkpoints").glob("*/model.safetensors"):
        weights = load_file(path)
        weights["stack.embedding.weight"] = weights["stack.embedding.weight"][:-64].clone()
        save_file(weights, path)
    assert main(["train", "causal", str(corpus), *QUICK, "--out", str(out)]) == 2
    assert "holds another model" in line_of(capsys)


def test_a_vocabulary_that_does_not_fit_the_model(
    corpus: Path, finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path / "other"
    words = ["train", "ngram", str(corpus), *QUICK, "--tokenizer", "bpe:600", "--out", str(other)]
    assert main(words) == 0
    capsys.readouterr()
    mixed = shutil.copytree(finished / "model", tmp_path / "mixed")
    shutil.copy(other / "model" / "tokenizer.json", mixed / "tokenizer.json")
    before = contents(mixed)
    assert main(["score", str(mixed), "a text"]) == 2
    assert "not the one the model was trained with" in line_of(capsys)
    assert main(["train", "causal", str(corpus), *QUICK, "--from", str(mixed), "--out", str(tmp_path / "out")]) == 2
    assert "not the one the model was trained with" in line_of(capsys)
    (mixed / "sightline.toml").write_text(
        (mixed / "sightline.toml").read_text(encoding="utf-8").replace("[tokenizer]\nfingerprint", "[tokenizer]\nwas"),
        encoding="utf-8",
    )
    assert main(["score", str(mixed), "a text"]) == 2
    assert "ids, but the model has" in line_of(capsys)
    assert contents(mixed).keys() == before.keys()
    assert not (tmp_path / "out").exists()


def test_prepared_text_cut_short_is_made_again(corpus: Path, finished: Path, tmp_path: Path) -> None:
    out = unfinished(finished, tmp_path / "run")
    for name in ("data/train/tokens.bin", "data/tokenizer/tokenizer.json"):
        cut(out / name)
    assert main(["train", "causal", str(corpus), *QUICK, "--out", str(out)]) == 0
    for name in ("data/train/tokens.bin", "data/tokenizer/tokenizer.json", "model/model.safetensors"):
        assert (out / name).read_bytes() == (finished / name).read_bytes(), name


# -- a full disk


def full(*_: object, **__: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_full_disk_while_saving_loses_nothing(
    corpus: Path, finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "run"
    words = ["train", "causal", str(corpus), *QUICK, "--out", str(out)]
    plain = ground.Ground.rows_of

    def stopping(self: ground.Ground, *rest: object) -> object:
        rows_of = plain(self, *rest)  # type: ignore[arg-type]

        def rows(step: int) -> object:
            if step == 1 and (out / "metrics.jsonl").exists():
                signal.raise_signal(signal.SIGINT)
            return rows_of(step)

        return rows

    with monkeypatch.context() as patched:
        patched.setattr(ground.Ground, "rows_of", stopping)
        assert main(words) == 130
    before = contents(out / "checkpoints")
    assert {Path(name).parts[0] for name in before} == {"step-00000002"}
    capsys.readouterr()
    with monkeypatch.context() as patched:
        patched.setattr("sightline.training.checkpoint.save_file", full)
        assert main(words) == 2
    assert "could not be written" in line_of(capsys)
    assert contents(out / "checkpoints") == before
    assert main(words) == 0
    weights = Path("model", "model.safetensors")
    assert (out / weights).read_bytes() == (finished / weights).read_bytes()


def test_a_full_disk_at_the_end_keeps_the_results(
    corpus: Path, finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    held = tmp_path / "record.json"
    held.write_text("mine\n", encoding="utf-8")
    words = ["train", "causal", str(corpus), *QUICK, "--out", str(finished), "--json", str(held)]
    before = contents(finished)
    with monkeypatch.context() as patched:
        patched.setattr(files.os, "fsync", full)
        assert main(words) == 2
    assert "No space left on device. Make room; what was there before is whole" in line_of(capsys)
    assert held.read_text(encoding="utf-8") == "mine\n"
    assert [path.name for path in tmp_path.iterdir()] == ["record.json"]
    assert contents(finished) == before
