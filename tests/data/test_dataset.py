"""Hugging Face data sets by name: what is taken for a name, what is read, what is said when it cannot be had."""

from __future__ import annotations

import builtins
import os
import socket
from pathlib import Path
from typing import Any

import pytest

from sightline.data import read
from sightline.data.dataset import looks_like
from sightline.errors import SightlineError

datasets = pytest.importorskip("datasets") if os.environ.get("CI") != "true" else __import__("datasets")


@pytest.mark.parametrize("name", ["org/name", "imdb", "org/name:part", "hf:anything", "a-b/c.d_e"])
def test_names(name: str) -> None:
    assert looks_like(name)


@pytest.mark.parametrize("name", ["./a/b", "a/b/c", "corpus.txt", "x/y.jsonl", "a.jsonl.gz", "/a/b", "../a", "a/", ""])
def test_paths(name: str) -> None:
    assert not looks_like(name)


def test_a_folder_that_is_here_makes_a_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "data").mkdir()
    monkeypatch.chdir(tmp_path)
    assert not looks_like("data/corpus")
    with pytest.raises(SightlineError, match="data/corpus does not exist"):
        read("data/corpus")


def test_rows_of_a_data_set(monkeypatch: pytest.MonkeyPatch) -> None:
    def loaded(path: str, name: str | None) -> Any:
        assert (path, name) == ("org/name", "part")
        made = {split: [f"{split} {n}" for n in range(4)] for split in ("train", "validation", "test")}
        made["train"][2] = "  "
        tables = {
            s: datasets.Dataset.from_dict({"body": t, "kind": list("abab"), "n": [1] * 4}) for s, t in made.items()
        }
        return datasets.DatasetDict(tables)

    monkeypatch.setattr(datasets, "load_dataset", loaded)
    corpus = read("org/name:part", field="body", label="kind")
    assert [document.text for document in corpus.train] == ["train 0", "train 1", "train 3"]
    assert [document.label for document in corpus.dev] == ["a", "b", "a", "b"]
    assert [(row.file, row.line, row.reason) for row in corpus.bad] == [("train", 3, "empty")]
    with pytest.raises(SightlineError, match=r"fields: body, kind, n.*--field"):
        read("org/name:part")


def test_no_network_is_one_clear_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(path: str, name: str | None) -> Any:
        raise ConnectionError("no route\nmore lines")

    monkeypatch.setattr(datasets, "load_dataset", refused)
    with pytest.raises(SightlineError, match=r"org/name does not exist here.*no route") as caught:
        read("org/name")
    assert "\n" not in str(caught.value)


def test_no_package_is_one_clear_line(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = builtins.__import__

    def without(name: str, *more: Any, **named: Any) -> Any:
        if name == "datasets":
            raise ImportError(name)
        return plain(name, *more, **named)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(SightlineError, match=r"does not exist here.*pip install 'sightline\[hub\]'"):
        read("org/name")


@pytest.mark.parametrize(("found", "proxy", "offline"), [(False, "", "1"), (True, "", None), (False, "http://p", None)])
def test_a_mistyped_path_does_not_wait_for_a_hub_out_of_reach(
    monkeypatch: pytest.MonkeyPatch, found: bool, proxy: str, offline: str | None
) -> None:
    def looked_up(host: str, port: int) -> list[Any]:
        assert (host, port) == ("huggingface.co", 443)
        if not found:
            raise OSError("no such name")
        return []

    def refused(path: str, name: str | None) -> Any:
        assert os.environ.get("HF_HUB_OFFLINE") == offline
        raise ConnectionError("no")

    for name in ("HF_HUB_OFFLINE", "HF_ENDPOINT", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "")  # set first, so that what the code sets is taken back after the test
        monkeypatch.delenv(name)
    if proxy:
        monkeypatch.setenv("HTTPS_PROXY", proxy)
    monkeypatch.setattr(socket, "getaddrinfo", looked_up)
    monkeypatch.setattr(datasets, "load_dataset", refused)
    with pytest.raises(SightlineError, match="does not exist here"):
        read("corpuss")
