"""The picture of the house, held by reading the imports: floors, strangers, names, and the price of ``import``."""

from __future__ import annotations

import ast
import keyword
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
HOUSE = ROOT / "src" / "sightline"

FLOORS = {
    "errors": 0,
    "progress": 0,
    "files": 0,
    "memory": 0,
    "sight": 1,
    "data": 1,
    "stacks": 2,
    "decoders": 2,
    "objectives": 3,
    "evaluation": 4,
    "training": 4,
    "planning": 4,
    "hub": 4,
    "trust": 5,
    "serving": 5,
    "report": 6,
    "releasing": 6,
    "runs": 7,
    "cli": 8,
    "__main__": 9,
}
ROOMS = [name for name, floor in FLOORS.items() if 1 <= floor <= 7]
# What a room is a stranger to, wherever in a file it would be imported.
STRANGERS = {
    "sight": {"torch", "triton", "numba", "jax", "transformers", "tokenizers", "safetensors"},
    "data": {"torch", "triton", "transformers"},
    "stacks": {"tokenizers", "transformers", "tiktoken"},
    "report": {"torch", "transformers", "tokenizers"},
}


@dataclass(frozen=True)
class Import:
    """One imported module, in full, as a file of the house asks for it."""

    file: Path
    line: int
    module: str
    inside_function: bool

    @property
    def where(self) -> str:
        return f"{self.file.as_posix()}:{self.line}"

    @property
    def asks(self) -> str:
        """The room or floor-0 module that imports."""
        return self.file.parts[0].removesuffix(".py")

    @property
    def asked(self) -> str | None:
        """The room or floor-0 module that is imported; None for other people's libraries."""
        parts = self.module.split(".")
        return (parts[1] if len(parts) > 1 else "") if parts[0] == "sightline" else None


def imports_of(source: str, file: Path) -> Iterator[Import]:
    """Every import in a file that lies at ``file`` below the package, relative ones resolved, lazy ones marked."""

    def walk(node: ast.AST, inside: bool) -> Iterator[Import]:
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(file, node.lineno, alias.name, inside)
        elif isinstance(node, ast.ImportFrom):
            home = ["sightline", *file.parent.parts]
            start = home[: len(home) - node.level + 1] if node.level else []
            base = ".".join([*start, *([node.module] if node.module else [])])
            # `from .. import files` and `from sightline import files` name rooms in the list, not in the module.
            for alias in node.names:
                yield Import(file, node.lineno, f"{base}.{alias.name}", inside)
        for child in ast.iter_child_nodes(node):
            yield from walk(child, inside or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda))

    yield from walk(ast.parse(source), False)


def sources() -> list[Path]:
    return sorted(HOUSE.rglob("*.py"))


def all_imports() -> list[Import]:
    return [
        found
        for path in sources()
        for found in imports_of(path.read_text(encoding="utf-8"), path.relative_to(HOUSE))
        if path != HOUSE / "__init__.py"
    ]


def direction_broken(found: Import) -> str | None:
    """Why an import is against the house's direction, or None."""
    asks, asked = found.asks, found.asked
    if asked is None or asked == asks:
        return None
    if asked in ("", "__version__"):
        return None
    if asked not in FLOORS:
        return f"{found.where}: sightline.{asked} is on no floor: import it from its room"
    floor, below = FLOORS[asks], FLOORS[asked]
    if below < floor or (asked == "errors" and floor == 0):
        return None
    way = "sideways" if below == floor else "up"
    return f"{found.where}: {asks} (floor {floor}) imports {way}, {asked} (floor {below})"


def stranger_met(found: Import) -> str | None:
    """Why an import brings a stranger into its room, or None."""
    library = found.module.split(".")[0]
    if library in STRANGERS.get(found.asks, set()):
        return f"{found.where}: {found.asks}/ is a stranger to {library}"
    return None


def hidden(found: Import) -> str | None:
    """Why an import may not stand inside a function, or None."""
    if found.inside_function and found.asked is not None and found.asks not in ("runs", "cli", "__main__"):
        return f"{found.where}: {found.module} is imported inside a function; only runs/ and cli may"
    return None


def direction_words(text: str) -> list[str]:
    """Each use of the word that no stack may know, torch's own keyword set aside."""
    return re.findall(r"(?<!is_)causal", text, flags=re.IGNORECASE)


def complaints(rule: object) -> list[str]:
    assert callable(rule)
    return [complaint for found in all_imports() if (complaint := rule(found)) is not None]


def test_every_file_lies_on_a_floor() -> None:
    homes = {path.relative_to(HOUSE).parts[0].removesuffix(".py") for path in sources()} - {"__init__"}
    assert homes <= FLOORS.keys(), f"no floor for {sorted(homes - FLOORS.keys())}"
    deep = [path.relative_to(HOUSE) for path in sources() if len(path.relative_to(HOUSE).parts) > 2]
    assert not deep, f"rooms are one level deep: {deep}"


def test_rooms_state_their_law() -> None:
    for room in sorted(path.name for path in HOUSE.iterdir() if path.is_dir() and path.name in FLOORS):
        law = ast.get_docstring(ast.parse((HOUSE / room / "__init__.py").read_text(encoding="utf-8")))
        assert law, f"{room}/__init__.py does not say what lives there"


def test_imports_point_down() -> None:
    assert complaints(direction_broken) == []


def test_rooms_stay_strangers() -> None:
    assert complaints(stranger_met) == []


def test_only_runs_and_cli_import_rooms_inside_functions() -> None:
    assert complaints(hidden) == []


def test_stacks_know_no_direction() -> None:
    uses = {
        path.name: words
        for path in sorted((HOUSE / "stacks").rglob("*.py"))
        if (words := direction_words(path.read_text(encoding="utf-8")) + direction_words(path.stem))
    }
    assert uses == {}


@pytest.mark.parametrize(
    ("file", "source", "rule"),
    [
        ("sight/rule.py", "from ..data import Rows", direction_broken),
        ("sight/rule.py", "from .. import stacks", direction_broken),
        ("stacks/attention.py", "def f():\n    import sightline.decoders.loop", direction_broken),
        ("data/rows.py", "if TYPE_CHECKING:\n    from ..objectives.causal import Causal", direction_broken),
        ("training/loop.py", "from sightline.hub import save", direction_broken),
        ("files.py", "from .progress import bar", direction_broken),
        ("sight/rule.py", "import torch.nn", stranger_met),
        ("data/rows.py", "def f():\n    from torch import Tensor", stranger_met),
        ("training/loop.py", "def f():\n    from ..sight import View", hidden),
    ],
)
def test_the_rules_catch_what_they_forbid(file: str, source: str, rule: object) -> None:
    assert callable(rule)
    assert any(rule(found) for found in imports_of(source, Path(file)))


@pytest.mark.parametrize(
    ("file", "source"),
    [
        ("objectives/causal.py", "from ..sight import past\nfrom ..stacks.transformer import Transformer"),
        ("objectives/causal.py", "from .model import Model\nfrom .. import files"),
        ("runs/train.py", "def train():\n    import torch\n    from ..training.loop import run"),
        ("files.py", "from .errors import SightlineError"),
        ("cli.py", "from . import __version__\nfrom sightline.errors import SightlineError"),
    ],
)
def test_the_rules_let_pass_what_they_allow(file: str, source: str) -> None:
    for found in imports_of(source, Path(file)):
        assert not (direction_broken(found) or stranger_met(found) or hidden(found))


def test_the_word_is_found_and_the_keyword_is_not() -> None:
    assert direction_words("sdpa(q, k, v, is_causal=True)") == []
    assert direction_words("a Causal mask; causal_mask = is_causal") == ["Causal", "causal"]


def test_no_public_function_bears_the_name_of_a_room_or_keyword() -> None:
    import sightline

    taken = {*ROOMS, "cli", *keyword.kwlist}
    public = set(sightline.__all__)
    for path in sources():
        body = ast.parse(path.read_text(encoding="utf-8")).body
        functions = {node.name for node in body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
        public |= {name for name in functions if not name.startswith("_")}
    assert public & taken == set()


def test_every_public_name_is_there() -> None:
    import sightline

    assert set(sightline.__all__) <= set(dir(sightline))
    for name in sightline.__all__:
        assert getattr(sightline, name) is not None
    with pytest.raises(AttributeError, match="no_such_word"):
        _ = sightline.no_such_word


def timed(code: str) -> tuple[float, str]:
    """Seconds and standard output of ``code`` in a fresh interpreter, the best of five: the machine may be shared."""
    environment = os.environ | {"PYTHONPATH": str(HOUSE.parent), "PYTHONWARNINGS": "error"}
    best, output = float("inf"), ""
    for _ in range(5):
        start = time.perf_counter()
        done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=60)
        best = min(best, time.perf_counter() - start)
        assert done.returncode == 0, done.stderr
        output = done.stdout
    return best, output


SEEN = "print('torch loaded' if 'torch' in sys.modules else 'no torch')"


def test_import_is_light() -> None:
    seconds, output = timed(f"import sys, sightline; {SEEN}")
    assert output == "no torch\n"
    assert seconds < 0.3


def test_help_is_light() -> None:
    code = f"""
import sys
sys.argv = ["sightline", "--help"]
from sightline.cli import main
try:
    status = main()
except SystemExit as leave:
    status = leave.code
assert status in (0, None), status
{SEEN}
"""
    seconds, output = timed(code)
    assert output.endswith("no torch\n")
    for word in ("compare", "train", "generate", "fill", "score", "embed", "see", "families"):
        assert word in output, f"--help does not name {word}"
    assert seconds < 0.3


def test_sight_and_data_load_without_torch() -> None:
    done = subprocess.run(
        [sys.executable, "-c", f"import sys, sightline.sight, sightline.data; {SEEN}"],
        env=os.environ | {"PYTHONPATH": str(HOUSE.parent)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.stdout == "no torch\n", done.stdout + done.stderr
