"""The guides' examples are files: every one is run here, and every page shows them letter for letter.

The commands and calls are run as they stand, in a folder with a small corpus; but every budget becomes a few steps, and
`tiny` a stack that is tinier yet. They show nothing about quality here: only that they run, and what they print.
"""

from __future__ import annotations

import contextlib
import functools
import io
import re
import runpy
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest

from sightline import cli
from sightline.objectives import FAMILIES
from sightline.runs.families import families

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
CODE = DOCS / "code"
PAGES = sorted(DOCS.rglob("*.md"))
# In the order in which they stand in the guides; what a later one needs, an earlier one made.
EXAMPLES = (
    "leak.py",
    "isolation.py",
    "data.py",
    "quickstart.sh",
    "see.py",
    "adopt.sh",
    "compare.py",
    "training.sh",
    "finetuning.sh",
    "new_family.py",
    "towards.py",
    "lossless.py",
    "engine.py",
    "significance.py",
    "export.sh",
    "forecasting.py",
    "forecasting.sh",
)
NEEDS = {
    "see.py": "quickstart.sh", "adopt.sh": "quickstart.sh", "finetuning.sh": "quickstart.sh",
    "towards.py": "new_family.py",
}  # fmt: skip
PEERS = {"engine.py": "ctranslate2", "export.sh": "gguf"}  # what an example imports beside the default installation
SHOWN_ALONE = ("ending.py",)  # imported by others
BLOCK = re.compile(r"^```(\w+) (output of |part of )?code/(\S+)\n(.*?)^```$", flags=re.MULTILINE | re.DOTALL)
STEPS = "2steps"


def small(program: str) -> str:
    """A program with every budget in it made small."""
    return re.sub(r'(--budget |budget=")\w+', rf"\g<1>{STEPS}", program)


def run_shell(path: Path) -> None:
    """Each command of a shell file, in this process; a line may go on behind a backslash."""
    for line in small(path.read_text(encoding="utf-8")).replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        if words:
            assert words[0] == "sightline", line
            assert cli.main(words[1:]) == 0, line


def run_python(path: Path, folder: Path) -> None:
    """A script, as its own main module."""
    copy = folder / path.name
    copy.write_text(small(path.read_text(encoding="utf-8")), encoding="utf-8")
    runpy.run_path(str(copy), run_name="__main__")


@pytest.fixture(scope="module")
def printed(
    tmp_path_factory: pytest.TempPathFactory, peer: Callable[[str], ModuleType]
) -> Iterator[Callable[[str], str]]:
    """What an example prints; each is run once, after those it needs."""
    import sightline.evaluation.passage as passage
    import sightline.evaluation.sample as sample
    import sightline.runs.measure as measure
    from sightline.stacks import sizes

    place = tmp_path_factory.mktemp("guide")
    text = (ROOT / "tests" / "texts" / "page.txt").read_bytes().decode("utf-8").split("\n\n")
    (place / "corpus").mkdir()
    for side, paragraphs in (("train", text[:-16]), ("valid", text[-16:-8]), ("test", text[-8:])):
        (place / "corpus" / f"{side}.txt").write_text("\n\n".join(paragraphs) * 2, encoding="utf-8")
    months = [
        f"S{one},{2015 + at // 12}-{at % 12 + 1:02}-01,{50 + 7 * one + at**3 // 5 % 11}"
        for one in (1, 2)
        for at in range(96)
    ]
    (place / "reviews").mkdir()
    for side, count in (("train", 16), ("dev", 4), ("test", 4)):
        items = [f'{{"sentence": "{("bad", "good")[at % 2]} {at} {side}", "label": {at % 2}}}' for at in range(count)]
        (place / "reviews" / f"{side}.jsonl").write_text("\n".join(items), encoding="utf-8")
    (place / "sales.csv").write_text("\n".join(["unique_id,ds,y", *months]), encoding="utf-8")
    scripts = tmp_path_factory.mktemp("scripts")
    evaluated = measure.evaluated

    @functools.cache
    def run(name: str) -> str:
        if name in NEEDS:
            run(NEEDS[name])
        if name in PEERS:
            peer(PEERS[name])
            patch.setenv("XDG_CACHE_HOME", str(place / "cache"))
        with contextlib.redirect_stdout(io.StringIO()) as said:
            if name.endswith(".sh"):
                run_shell(CODE / name)
            else:
                run_python(CODE / name, scripts)
        FAMILIES.pop("ending", None)  # what an example enters is not there for the next
        return said.getvalue()

    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        patch.syspath_prepend(str(CODE))
        patch.setitem(sizes.SIZES, "tiny", sizes.Size(layers=2, width=32, heads=2, context=64, batch=256))
        patch.setattr(sample, "PILOT_BYTES", 64)
        patch.setattr(sample, "LITTLE", 16)
        patch.setattr(measure, "LEAST_SECONDS", 0.2)
        patch.setattr(passage, "passages", functools.partial(passage.passages, count=2))
        patch.setattr(measure, "evaluated", lambda ground, model, seconds, seed: evaluated(ground, model, 0.2, seed))
        yield run
    sys.modules.pop("ending", None)


@pytest.mark.parametrize("name", EXAMPLES)
def test_example_runs(name: str, printed: Callable[[str], str]) -> None:
    assert printed(name).strip()


def test_every_example_is_run_and_shown() -> None:
    files = {path.name for path in CODE.iterdir() if path.is_file()}
    shown = {name for page in PAGES for _, output, name, _ in BLOCK.findall(page.read_text("utf-8")) if not output}
    assert files == {*EXAMPLES, *SHOWN_ALONE}
    assert shown == files


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(DOCS)))
def test_page_shows_the_files(page: Path, printed: Callable[[str], str]) -> None:
    for _, output, name, shown in BLOCK.findall(page.read_text(encoding="utf-8")):
        if output == "output of ":
            assert shown.split() == printed(name).split(), f"{page.name} shows another output of {name}"
        elif output:
            assert shown.strip() in printed(name), f"{page.name} shows what {name} does not print"
        else:
            assert shown == (CODE / name).read_text(encoding="utf-8"), f"{page.name} shows another {name}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(DOCS)))
def test_links_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8"))
    local = [link.split("#")[0] for link in links if "://" not in link]
    assert [link for link in local if link and not (page.parent / link).exists()] == []


def test_every_page_is_in_the_index() -> None:
    index = (DOCS / "README.md").read_text(encoding="utf-8")
    assert [str(page.relative_to(DOCS)) for page in PAGES if f"]({page.relative_to(DOCS)})" not in index] == [
        "README.md"
    ]


def test_a_page_that_differs_is_noticed() -> None:
    page = "```python code/leak.py\nother\n```\n"
    assert BLOCK.findall(page) == [("python", "", "leak.py", "other\n")]
    assert small('sl.train("a", budget="5m")\nsightline x --budget 1e15flop') == (
        f'sl.train("a", budget="{STEPS}")\nsightline x --budget {STEPS}'
    )


def test_readme_example_runs(printed: Callable[[str], str]) -> None:
    """The Python of the README is the guide's."""
    blocks = re.findall(r"^```python\n(.*?)^```$", (ROOT / "README.md").read_text("utf-8"), re.MULTILINE | re.DOTALL)
    assert blocks
    calls = [line for block in blocks for line in block.splitlines() if "(" in line and not line.startswith("#")]
    tested = "\n".join((CODE / name).read_text(encoding="utf-8") for name in EXAMPLES if name.endswith(".py"))
    assert [line for line in calls if line not in tested] == []


def test_family_pages_are_up_to_date() -> None:
    """`python docs/families/make.py` has been run since the families last changed."""
    made = runpy.run_path(str(DOCS / "families" / "make.py"))["made"]()
    folder = DOCS / "families"
    assert {path.name for path in folder.glob("*.md")} == {name for name in made if name.endswith(".md")}
    assert [name for name, text in made.items() if (folder / name).read_text(encoding="utf-8") != text] == []


def test_the_guides_name_commands_that_exist() -> None:
    named = {
        word
        for page in (*PAGES, ROOT / "README.md")
        for word in re.findall(r"`sightline ([a-z]+)\b", page.read_text(encoding="utf-8"))
    }
    assert named <= {*cli.COMMANDS, "help"}


def test_readme_draws_the_families_as_they_are() -> None:
    drawn = str(families()).split("\n\n")[0]
    assert all(drawn in (ROOT / name).read_text(encoding="utf-8") for name in ("README.md", "README.zh-CN.md"))


def test_help_is_what_the_guide_says() -> None:
    """The overview in the guide is what the program prints, also as a program of its own."""
    told = subprocess.run([sys.executable, "-m", "sightline", "--help"], capture_output=True, text=True, check=True)
    assert told.stdout.strip() in (DOCS / "quickstart.md").read_text(encoding="utf-8")
