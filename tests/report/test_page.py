"""The page: one file, nothing fetched, no text taken for markup, and no pseudo score in an exact column."""

from __future__ import annotations

import json
import re
from copy import deepcopy
from html.parser import HTMLParser
from itertools import combinations, pairwise
from pathlib import Path
from typing import Any

import pytest

from sightline.errors import SightlineError
from sightline.report import page, write_report
from sightline.report.chart import COLOURS, Line, Whisker, curves, ticks, whiskers
from sightline.report.style import CSS

VOID = {"meta", "br"}


class Reader(HTMLParser):
    """Checks that tags close in turn, and keeps what tests ask for."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.cells: list[list[str]] = []
        self.words: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)
        if tag == "tr":
            self.cells.append([])
        if tag in ("td", "th") and self.cells:
            self.cells[-1].append("")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open.pop() == tag, f"</{tag}> closes something else"

    def handle_data(self, data: str) -> None:
        self.words.append(data)
        if {"td", "th"} & set(self.open) and self.cells and self.cells[-1]:
            self.cells[-1][-1] += f"{data} "


def read(text: str) -> Reader:
    reader = Reader()
    reader.feed(text)
    reader.close()
    assert not reader.open
    return reader


def test_the_page_is_whole_and_self_contained(results: dict[str, Any], tmp_path: Path) -> None:
    path = write_report(results, tmp_path / "report.html")
    text = path.read_text(encoding="utf-8")
    reader = read(text)
    assert not re.search(r"https?:|//[a-z]|@import|url\(|<link|<iframe|<img", text)
    assert "src" not in {name for _, attributes in reader.tags for name in attributes}
    assert len(text) < 100_000
    ids = [attributes["id"] for _, attributes in reader.tags if "id" in attributes]
    assert len(ids) == len(set(ids))


def test_what_users_and_models_wrote_is_text(results: dict[str, Any]) -> None:
    text = page(results)
    assert text.count("<script") == 1 and "alert" in text
    assert "page &lt;one&gt;" in text and "\x06" not in text
    words = "".join(read(text).words)
    assert "<script>alert('x')</script> & ␆ slowly" in words


def test_a_pseudo_score_never_stands_in_the_exact_column(results: dict[str, Any]) -> None:
    reader = read(page(results))
    head, *lines = [line for line in reader.cells if len(line) > 8]
    exact = next(at for at, cell in enumerate(head) if cell.startswith("bits per byte"))
    pseudo = next(at for at, cell in enumerate(head) if cell.startswith("pseudo"))
    assert "not comparable" in head[pseudo]
    by_name = {line[0].split()[0]: line for line in lines}
    assert by_name["causal"][exact].startswith("2.100 2.080–2.120")
    assert by_name["masked"][exact].startswith("–") and "1.2" not in by_name["masked"][exact]
    assert by_name["masked"][pseudo].startswith("1.200") and by_name["causal"][pseudo].startswith("–")


def test_a_bound_is_marked(results: dict[str, Any]) -> None:
    results["families"][1]["scores"][0]["class"] = "bound"
    assert "<= 2.150" in "".join(" ".join(line) for line in read(page(results)).cells)


def test_everything_asked_for_is_there(results: dict[str, Any]) -> None:
    text = page(results)
    for heading in (
        "Which family to take for what",
        "The same text and budget",
        "Differences",
        "Learning",
        "Who sees whom",
        "What they wrote",
        "Floors",
        "What may be compared",
        "How this came about",
    ):
        assert heading in text
    assert text.count('class="chart"') == 6, "loss and dev bits, each over tokens, FLOPs and seconds"
    assert text.count('class="sight"') == 3 and "2.40 MB of text" in text
    assert "not measured: backward gives no likelihood" in text
    assert results["command"] in text


@pytest.mark.parametrize(
    "drawing",
    [
        '<svg onload="x()"></svg>',
        "<svg><script>x()</script></svg>",
        '<svg><a href="x">y</a></svg>',
        "<svg><foreignObject>y</foreignObject></svg>",
        "not a drawing",
    ],
)
def test_a_drawing_that_could_act_is_replaced_by_text(results: dict[str, Any], drawing: str) -> None:
    results["families"][0]["sight_svg"] = drawing
    text = page(results)
    assert drawing not in text and "<pre>■ ·" in text


def test_little_is_enough_for_a_page(results: dict[str, Any]) -> None:
    bare = {"schema": 1, "families": [{"family": "causal", "scores": [], "curve": [], "samples": []}]}
    read(page(bare))
    for one in results["families"]:
        one["curve"] = one["curve"][:1]
        for score in one["scores"]:
            score["low"] = score["high"] = None
    read(page(results))


@pytest.mark.parametrize(
    "broken",
    [{}, {"schema": 2}, {"schema": 1, "families": [{}]}, {"schema": 1, "families": [{"family": "a", "scores": [3]}]}],
)
def test_results_that_are_not_whole_are_refused_and_nothing_is_overwritten(broken: Any, tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    path.write_text("before")
    with pytest.raises(SightlineError):
        write_report(broken, path)
    assert path.read_text() == "before"


def test_results_survive_json(results: dict[str, Any]) -> None:
    assert page(json.loads(json.dumps(results))) == page(results)


def test_a_curve_reads_back_its_values() -> None:
    line = Line("causal", 0, False, tuple((float(at), 10.0 / at) for at in range(1, 1001)))
    drawn = curves([line], "tokens", "loss", lambda value: f"{value:.0f}")
    points = re.search(r'data-points="([^"]+)"', drawn)
    assert points is not None
    told = [point.split(",") for point in points[1].split(" ")]
    assert len(told) <= 160 and (told[0][1], told[-1][1], told[-1][2]) == ("1", "1000", "0.010")
    assert all(float(a[0]) < float(b[0]) for a, b in pairwise(told))
    assert curves([Line("one", 0, False, ((1.0, 1.0),))], "tokens", "loss", str) == ""


def test_ticks_are_round_and_inside() -> None:
    assert ticks(0, 10, 5) == [0, 2, 4, 6, 8, 10]
    assert ticks(1.93, 2.21, 5) == [2.0, 2.1, 2.2]
    assert ticks(3, 3, 5) == [3]


def test_whiskers_stay_in_order() -> None:
    drawn = whiskers([Whisker("a", 1.0, 0.9, 1.1, 0), Whisker("b", 2.0, None, None, 1)], "bits")
    left, right = (float(found) for found in re.findall(r'circle cx="([\d.]+)"', drawn))
    assert left < right and whiskers([], "bits") == ""


def test_fifteen_families_keep_their_colours_and_fold_their_differences(results: dict[str, Any]) -> None:
    one = results["families"][0]
    results["families"] = [{**deepcopy(one), "family": f"family{number}"} for number in range(15)]
    pairs = combinations([family["family"] for family in results["families"]], 2)
    results["comparisons"] = [{**results["comparisons"][0], "a": a, "b": b} for a, b in pairs]
    text = page(results)
    read(text)
    assert "<details><summary>All 105 differences</summary>" in text
    colours = {text.partition(f'data-name="family{number}"')[0].rpartition('stroke="')[2][:10] for number in range(15)}
    assert len(colours) == 15
    styles = re.findall(r"--c(\d+): (#\w+)", CSS)
    assert len(styles) == len(set(styles)) == len({colour for _, colour in styles}) == 2 * COLOURS  # light and dark


@pytest.mark.parametrize(
    ("class_", "why"),
    [("pseudo", "given all the others"), ("nar", "independent"), ("discriminative", "judges"), ("density", "numbers")],
)
def test_why_a_score_stands_alone_is_said_by_its_class(results: dict[str, Any], class_: str, why: str) -> None:
    results["families"][2]["scores"][0]["class"] = class_
    (said,) = re.findall(rf"May not be compared: masked, whose score is {class_}\.[^<]*", page(results))
    assert why in said
