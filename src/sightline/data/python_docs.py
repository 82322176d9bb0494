"""The embedded corpus: the documentation that every Python carries, about 2.4 MB of English about programs.

    pydoc_data (language reference, a document per topic)  ┐
    docstrings of the standard library, read with ast       ├-> paragraphs never said before -> split by module -> cache
    (a document per module, nothing is imported)            ┘

It differs from one Python version to the next, so no expected number may depend on it.
"""

from __future__ import annotations

import ast
import contextlib
import gc
import hashlib
import json
import os
import re
import sys
import sysconfig
import tempfile
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ..errors import SightlineError
from ..files import fingerprint, whole_folder
from ..progress import bar

NAME = "python-docs"
RECIPE = 1  # raise it when the text that is made changes
REFERENCE = "reference"
SKIPPED = frozenset(
    [
        "test",
        "tests",
        "idle_test",
        "idlelib",
        "site-packages",
        "dist-packages",
        "lib-dynload",
        "turtledemo",
        "_bundled",
        "pydoc_data",
        "__pycache__",
    ]
)
LONG = 40  # characters: shorter paragraphs ("Return self.") may repeat


@dataclass(frozen=True)
class _Page:
    """A module's docstrings, each under its qualified name, or a topic of the reference."""

    name: str
    label: str
    sections: tuple[tuple[str, str], ...]


def folder() -> tuple[Path, tuple[str, ...]]:
    """The folder with ``train.jsonl``, ``dev.jsonl`` and ``test.jsonl``, and what there is to say about it.

    Built once per Python and kept in ``$XDG_CACHE_HOME/sightline`` (or ``~/.cache/sightline``); where that cannot
    be written, in a temporary folder. Rows have the fields ``id``, ``label`` (top-level module or "reference") and
    ``text``.
    """
    library = Path(sysconfig.get_path("stdlib"))
    sources = _sources(library)
    topics = _topics(library)
    listing = (f"{file.relative_to(library)} {file.stat().st_size}" for file in sources)
    mark = fingerprint(RECIPE, sys.version, len(topics), *listing)
    notes = () if topics else ("python-docs: this Python has no pydoc_data, so docstrings only",)
    kept = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "sightline" / f"{NAME}-{mark}"
    if kept.is_dir():
        return kept, notes
    try:
        _build(kept, library, sources, topics)
        return kept, notes
    except OSError as error:
        if kept.is_dir():  # another process was faster: what it made is the same
            return kept, notes
        made = Path(tempfile.gettempdir()) / f"sightline-{os.getuid()}-{NAME}-{mark}"
        if not made.is_dir():
            _build(made, library, sources, topics)
        return made, (
            *notes,
            f"python-docs: {kept.parent} cannot be written ({error.strerror}), so it is in {made.parent}",
        )


def _sources(library: Path) -> list[Path]:
    files: list[Path] = []
    for here, folders, names in os.walk(library):
        folders[:] = sorted(name for name in folders if name not in SKIPPED and not name.startswith("config-"))
        files.extend(Path(here) / name for name in sorted(names) if name.endswith(".py"))
    return files


def _topics(library: Path) -> dict[str, str]:
    """The language reference: a dictionary of strings, read as data from its source."""
    file = library / "pydoc_data" / "topics.py"
    if not file.is_file():
        return {}
    for node in _parsed(file).body:
        if isinstance(node, (ast.Assign, ast.AnnAssign)) and isinstance(node.value, ast.Dict):
            return {str(name): str(text) for name, text in ast.literal_eval(node.value).items()}
    return {}


def _parsed(file: Path) -> ast.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # invalid escapes in other people's strings
        return ast.parse(file.read_bytes())


def _build(kept: Path, library: Path, sources: list[Path], topics: dict[str, str]) -> None:
    said: set[str] = set()
    parts: dict[str, list[str]] = {"train": [], "dev": [], "test": []}
    with bar("python-docs", len(sources) + len(topics), "pages") as shown, _no_collection():
        for page in _pages(library, sources, topics):
            sections = ((heading, _unsaid(text, said)) for heading, text in page.sections)
            text = "\n\n".join(f"{heading}\n\n{text}" if heading else text for heading, text in sections if text)
            if len(text) >= LONG:
                row = {"id": page.name, "label": page.label, "text": text + "\n"}
                parts[_side(page.name)].append(json.dumps(row, ensure_ascii=False) + "\n")
            shown.advance()
    if not all(parts.values()):
        raise SightlineError(
            f"the standard library in {library} carries too few docstrings for a corpus", "Name a corpus of your own"
        )
    with whole_folder(kept) as aside:
        for side, lines in parts.items():
            (aside / f"{side}.jsonl").write_text("".join(lines), encoding="utf-8", newline="")


@contextlib.contextmanager
def _no_collection() -> Iterator[None]:
    """Parsing makes millions of live nodes; the cycle collector would look through them again and again."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


def _side(name: str) -> str:
    """Train, dev or test by the module's name, so that it stays where it is from one version to the next."""
    place = int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "big") / 2**64
    return "train" if place < 0.9 else "dev" if place < 0.95 else "test"


def _pages(library: Path, sources: list[Path], topics: dict[str, str]) -> Iterator[_Page]:
    for name in sorted(topics):
        yield _Page(f"{REFERENCE}/{name}", REFERENCE, (("", topics[name]),))
    for file in sources:
        parts = file.relative_to(library).with_suffix("").parts
        module = ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)
        try:
            sections = tuple(_docstrings(_parsed(file), module))
        except (SyntaxError, ValueError, RecursionError):  # templates and test data that are no programs
            continue
        yield _Page(module, module.split(".")[0], sections)


def _docstrings(
    node: ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef, name: str
) -> Iterator[tuple[str, str]]:
    text = ast.get_docstring(node)
    if text and text.strip():
        yield name, text
    for child in _defined(node):
        yield from _docstrings(child, f"{name}.{child.name}")


def _defined(node: ast.AST) -> Iterator[ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef]:
    """Classes and functions defined in a block, looking into statements (``if``, ``try``) but not into expressions."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            yield child
        elif isinstance(child, (ast.stmt, ast.excepthandler)):
            yield from _defined(child)


def _unsaid(text: str, said: set[str]) -> str:
    """The text without the long paragraphs that an earlier page has already."""
    kept: list[str] = []
    for paragraph in re.split(r"\n[ \t]*\n", text):
        key = " ".join(paragraph.split())
        if len(key) >= LONG:
            if key in said:
                continue
            said.add(key)
        kept.append(paragraph)
    return "\n\n".join(kept).strip("\n").rstrip()
