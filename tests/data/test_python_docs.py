"""The embedded corpus, built from a small library of our own and once from this Python's."""

from __future__ import annotations

import sysconfig
from pathlib import Path

import pytest

from sightline.data import python_docs, read

REPEATED = "This long paragraph stands in several modules, word for word, and is told once."


@pytest.fixture
def library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A standard library of sixty modules."""
    folder = tmp_path / "lib"
    for n in range(60):
        (folder / f"p{n % 4}").mkdir(parents=True, exist_ok=True)
        (folder / f"p{n % 4}" / f"m{n}.py").write_text(
            f'"""Module {n} has a docstring of its own, which is long enough."""\n'
            f"raise SystemExit('imported')\n"
            f"if True:\n    class C:\n        def f(self):\n            '''Function number {n} does something.\n\n"
            f"            {REPEATED}\n            '''\n            def inner(): '''An inner one of {n}, told.'''\n"
        )
    (folder / "test").mkdir()
    (folder / "test" / "secret.py").write_text('"""Tests are never part of the corpus, however long they are."""')
    (folder / "broken.py").write_text('"""Broken"""\ndef (')
    (folder / "pydoc_data").mkdir()
    (folder / "pydoc_data" / "topics.py").write_text(
        "topics = {'while': 'The while statement is used for repeated execution.'}"
    )
    monkeypatch.setattr(sysconfig, "get_path", lambda name: str(folder))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return folder


def texts() -> dict[str, str]:
    corpus = read("python-docs")
    return {d.id: d.text for d in (*corpus.train, *corpus.dev, *corpus.test)}


def test_docstrings_are_read_and_nothing_is_run(library: Path) -> None:
    corpus = read("python-docs")
    found = texts()
    assert len(found) == 61
    assert "p1.m1\n\nModule 1 has" in found["p1.m1"]
    assert "p1.m1.C.f\n\nFunction number 1" in found["p1.m1"]
    assert "p1.m1.C.f.inner\n\nAn inner one of 1" in found["p1.m1"]
    assert "while statement" in found["reference/while"]
    assert sum(text.count(REPEATED) for text in found.values()) == 1
    assert not any("never part" in text for text in found.values())
    assert {d.label for d in corpus.train} <= {"p0", "p1", "p2", "p3", "reference"}
    assert "by module" in corpus.how_split


def test_built_once_and_again_when_the_sources_change(library: Path, tmp_path: Path) -> None:
    first, _ = python_docs.folder()
    stamp = (first / "train.jsonl").stat().st_mtime_ns
    again, _ = python_docs.folder()
    assert again == first and (again / "train.jsonl").stat().st_mtime_ns == stamp
    (library / "p0" / "new.py").write_text('"""A new module with a docstring that is long enough."""')
    changed, _ = python_docs.folder()
    assert changed != first and first.is_dir()
    assert "p0.new" in texts()


def test_no_pydoc_data_is_said(library: Path) -> None:
    (library / "pydoc_data" / "topics.py").unlink()
    corpus = read("python-docs")
    assert any("docstrings only" in note for note in corpus.notes)
    assert len(texts()) == 60


def test_a_cache_that_cannot_be_written_is_said(library: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import tempfile

    (tmp_path / "cache").write_text("a file where the folder should be")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.setattr(tempfile, "gettempdir", lambda: str(tmp_path / "elsewhere"))
    assert any("cannot be written" in note for note in read("python-docs").notes)


def test_this_python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    corpus = read("python-docs")
    total = sum(corpus.bytes(split) for split in ("train", "dev", "test"))
    assert 1e6 < total < 5e6
    assert corpus.bytes("test") > 30_000 and corpus.bytes("dev") > 30_000
    assert not corpus.bad
    names = [{d.id for d in side} for side in (corpus.train, corpus.dev, corpus.test)]
    assert not names[0] & names[1] and not names[0] & names[2]
    assert any("asyncio." in name for side in names for name in side)
