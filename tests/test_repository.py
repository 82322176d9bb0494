"""The files around the code: they name no machine, agree with each other, and say the same in both languages."""

from __future__ import annotations

import re
import subprocess
import tomllib
from pathlib import Path

import pytest

import sightline

ROOT = Path(__file__).resolve().parent.parent
ENGLISH = ROOT / "README.md"
CHINESE = ROOT / "README.zh-CN.md"
# Folders that belong to one person's machine; put together so that this file does not name them itself.
OWN = re.compile(r"(?<![\w.~}>$*-])/(?:" + "|".join(("home", "root", "work", "Users")) + r")/[\w.]")


def repository_files() -> list[Path]:
    """Files that git keeps or would keep; in an unpacked archive, everything but what tools leave behind."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=ROOT, capture_output=True
    )
    if listed.returncode == 0:
        return [path for name in listed.stdout.decode().split("\0") if name and (path := ROOT / name).is_file()]
    left_behind = {".venv", "__pycache__", "build", "dist", ".mypy_cache", ".ruff_cache", ".hypothesis"}
    return [path for path in ROOT.rglob("*") if path.is_file() and not left_behind & set(path.relative_to(ROOT).parts)]


def machine_paths(text: str) -> list[str]:
    return [line.strip() for line in text.splitlines() if OWN.search(line)]


def headings(text: str) -> list[int]:
    """The level of each heading, code blocks left out."""
    plain = re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)
    return [len(marks) for marks in re.findall(r"^(#+) ", plain, flags=re.MULTILINE)]


def code_blocks(text: str) -> list[list[str]]:
    """Each code block's lines, language first, without remarks behind ``#``: those are translated."""
    blocks = re.findall(r"^```(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)
    return [[re.sub(r"\s+#\s.*$", "", line).rstrip() for line in block.splitlines()] for block in blocks]


def table_rows(text: str) -> int:
    return len(re.findall(r"^\|", text, flags=re.MULTILINE))


def links(text: str) -> list[str]:
    return re.findall(r"\]\(([^)\s]+)\)", text)


def test_no_file_names_a_machine() -> None:
    found: dict[str, list[str]] = {}
    for path in repository_files():
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue  # pictures and other data
        if lines := machine_paths(text):
            found[str(path.relative_to(ROOT))] = lines
    assert found == {}


def test_the_search_for_machine_paths_finds_them() -> None:
    slash = "/"
    assert machine_paths(f"open('{slash}home{slash}ann{slash}x')")
    assert machine_paths(f"cd {slash}root{slash}x")
    assert machine_paths(f"https://example.org{slash}home{slash}x ~{slash}work{slash}x src{slash}work{slash}x") == []


@pytest.mark.parametrize("readme", [ENGLISH, CHINESE], ids=lambda path: path.name)
def test_readme_shows_how_to_begin(readme: Path) -> None:
    shown = [line for block in code_blocks(readme.read_text(encoding="utf-8")) for line in block]
    assert "make demo" in shown
    assert "make test" in shown


def test_chinese_readme_is_a_full_twin() -> None:
    english, chinese = (path.read_text(encoding="utf-8") for path in (ENGLISH, CHINESE))
    assert headings(chinese) == headings(english)
    assert code_blocks(chinese) == code_blocks(english)
    assert table_rows(chinese) == table_rows(english)
    twins = {ENGLISH.name, CHINESE.name}
    assert [link for link in links(chinese) if link not in twins] == [
        link for link in links(english) if link not in twins
    ]
    assert len(re.findall(r"[\u4e00-\u9fff]", chinese)) > 1000, "the Chinese twin is not in Chinese"


@pytest.mark.parametrize("name", ["README.md", "README.zh-CN.md", "CONTRIBUTING.md", "CHANGELOG.md"])
def test_links_lead_somewhere(name: str) -> None:
    local = [link.split("#")[0] for link in links((ROOT / name).read_text(encoding="utf-8")) if "://" not in link]
    assert [link for link in local if link and not (ROOT / link).exists()] == []


def test_readme_tree_names_every_room_and_no_other() -> None:
    rooms = {path.name for path in (ROOT / "src" / "sightline").iterdir() if (path / "__init__.py").is_file()}
    drawn = set(re.findall(r"^│?\s*[├└]── (\w+)/ ", ENGLISH.read_text(encoding="utf-8"), flags=re.MULTILINE))
    assert drawn == rooms


def test_one_version_everywhere() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["version"] == sightline.__version__
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert re.search(rf"^## \[{re.escape(sightline.__version__)}\]", changelog, flags=re.MULTILINE)


def test_tested_versions_cover_what_is_required() -> None:
    def plain(requirement: str) -> str:
        name = re.match(r"[A-Za-z0-9._-]+", requirement)
        assert name is not None, requirement
        return re.sub(r"[-_.]+", "-", name.group()).lower()

    pins = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if line and not line.startswith("#")]
    assert all(re.fullmatch(r"[\w.-]+==[\w.]+", line) for line in pins), "exact public versions only"
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = sum(project["optional-dependencies"].values(), project["dependencies"])
    assert {plain(need) for need in wanted} - {"sightline"} <= {plain(pin) for pin in pins}
