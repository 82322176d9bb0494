"""What every test may ask for: the shared data sets, a page of text, second implementations, and one thread."""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

# Before any library that starts threads is loaded: the suite runs in two processes of one thread each.
for _name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "RAYON_NUM_THREADS"):
    os.environ.setdefault(_name, "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
# Tests read nothing from the network.
for _name in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "TRANSFORMERS_OFFLINE"):
    os.environ.setdefault(_name, "1")

HERE = Path(__file__).resolve().parent


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """One torch thread, so that two test processes share two cores; torch is not loaded here."""
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.set_num_threads(1)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data sets: $SIGHTLINE_DATA, or ``../shared/data`` beside the checkout."""
    named = os.environ.get("SIGHTLINE_DATA")
    folder = Path(named) if named else HERE.parent.parent / "shared" / "data"
    if not (folder / "README.md").is_file():
        reason = f"no data sets in {folder}: set SIGHTLINE_DATA to the folder that holds them"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    return folder


@pytest.fixture(scope="session")
def page() -> str:
    """A short story and an essay, written for these tests: 12 kB of English with a paragraph of Chinese."""
    return (HERE / "texts" / "page.txt").read_bytes().decode("utf-8")


@pytest.fixture(scope="module")
def transformers(peer: Callable[[str], ModuleType]) -> Iterator[ModuleType]:
    """transformers, without remarks and bars."""
    module = peer("transformers")
    logs = module.utils.logging
    level = logs.get_verbosity()
    logs.set_verbosity_error()
    logs.disable_progress_bar()
    yield module
    logs.set_verbosity(level)


@pytest.fixture
def interrupted(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], contextlib.AbstractContextManager[None]]:
    """Inside, Ctrl-C is pressed when a run asks for the rows of this step; every step before it is saved."""

    @contextlib.contextmanager
    def at(wanted: int) -> Iterator[None]:
        from sightline.runs import ground
        from sightline.training import loop

        plain = ground.Ground.rows_of

        def stopped(self: Any, *rest: Any) -> Any:
            rows_of = plain(self, *rest)

            def rows(step: int) -> Any:
                if step == wanted:
                    raise KeyboardInterrupt
                return rows_of(step)

            return rows

        with monkeypatch.context() as patched:
            patched.setattr(loop, "SAVE_SECONDS", 0.0)
            patched.setattr(ground.Ground, "rows_of", stopped)
            yield

    return at


@pytest.fixture(scope="session")
def peer() -> Callable[[str], ModuleType]:
    """Another implementation by its module's name: skipped where it is missing, never where all must be there."""

    def imported(name: str) -> ModuleType:
        try:
            return importlib.import_module(name)
        except ImportError as error:
            if os.environ.get("CI") == "true":
                pytest.fail(f"{name} is not installed: pip install 'sightline[test]' ({error})")
            pytest.skip(f"{name} is not installed")

    return imported
