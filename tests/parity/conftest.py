"""Second implementations: where one is missing the test is skipped, but never where everything must be there."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable
from types import ModuleType

import pytest


@pytest.fixture(scope="session")
def peer() -> Callable[[str], ModuleType]:
    """Another implementation by its module's name."""

    def imported(name: str) -> ModuleType:
        try:
            return importlib.import_module(name)
        except ImportError as error:
            if os.environ.get("CI") == "true":
                pytest.fail(f"{name} is not installed: pip install 'sightline[test]' ({error})")
            pytest.skip(f"{name} is not installed")

    return imported
