"""A Hugging Face data set as documents (extra ``hub``); code that a data set brings along is never run."""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

from ..errors import SightlineError
from .compression import PACKED
from .source import FORMATS, BadRow, Item, Reading, fields_read

PREFIX = "hf:"


def looks_like(name: str) -> bool:
    """Whether a name that is no path can be a data set: ``hf:anything``, ``org/name``, ``name``, ``org/name:part``."""
    if name.startswith(PREFIX):
        return True
    if not re.fullmatch(r"\w[\w.\-]*(/\w[\w.\-]*)?(:[\w.\-]+)?", name) or Path(name).suffix in (*FORMATS, *PACKED):
        return False
    return "/" not in name or not Path(name).parts[0:1] or not Path(Path(name).parts[0]).is_dir()


def rows(name: str, reading: Reading) -> Iterator[tuple[str, Item]]:
    """Every row with the split that it comes in.

    Raises
    ------
    SightlineError : the package is missing, or the data set cannot be had (no such name, no network).
    """
    path, _, configuration = name.removeprefix(PREFIX).partition(":")
    here = f"{name} does not exist here"
    offline_where_unreachable()
    try:
        import datasets
    except ImportError as error:
        raise SightlineError(
            f"{here}, and to read it as a Hugging Face data set the package `datasets` is missing",
            "Check the path, or install it: pip install 'sightline[hub]'",
        ) from error
    try:
        loaded = datasets.load_dataset(path, configuration or None)
    except Exception as error:  # the library raises a dozen kinds: no such name, no network, code needed, ...
        first = (str(error).splitlines() or [type(error).__name__])[0][:200].rstrip(".")
        raise SightlineError(
            f"{here}, and as a Hugging Face data set it cannot be had ({first})",
            "Check the path or the name, and the network; a configuration is named org/name:configuration",
        ) from error
    for split, table in loaded.items():
        if reading.pairs and "translation" in table.column_names:  # the layout that the hub's translations have
            table = table.flatten().rename_columns(
                {f"translation.{side}": side for side in table.features["translation"]}
            )
        lacking = [field for field in reading.fields if field not in table.column_names]
        if lacking:
            there = ", ".join(table.column_names[:8])
            yield split, BadRow(split, None, f'no field "{lacking[0]}" (fields: {there})')
            continue
        wanted = [column for column in (*reading.fields, reading.label) if column in table.column_names]
        for number, fields in enumerate(table.select_columns(wanted), 1):
            yield split, fields_read(fields, split, number, reading)


def offline_where_unreachable() -> None:
    """Where the hub's name cannot be looked up, only what was fetched before is asked for: else a mistyped path would
    wait half a minute for five retries.
    """
    decided = ("HF_HUB_OFFLINE", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy")
    if any(os.environ.get(name) for name in decided):
        return
    host = urlsplit(os.environ.get("HF_ENDPOINT") or "https://huggingface.co").hostname
    try:
        socket.getaddrinfo(host, 443)
    except OSError:
        os.environ["HF_HUB_OFFLINE"] = "1"  # read when the library is imported
