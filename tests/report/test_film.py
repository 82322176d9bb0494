"""A film says what happened, stands by itself, and moves without a script."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from copy import deepcopy
from typing import Any

import pytest

from sightline.report.film import drawn
from sightline.report.page import page

LINE = [(1, 0, " a"), (2, 1, " <b>"), (3, 2, "猫\n")]
REFINED = [(1, 0, "a"), (1, 1, "b"), (1, 2, "c"), (2, 1, ""), (3, 1, "d"), (3, 2, "e")]


def seen_at(svg: str, share: float) -> list[str]:
    """The texts that are seen after this share of the film."""
    frames = dict(re.findall(r"@keyframes (\S+?)\{((?:[^{}]*\{[^{}]*\})*)\}", svg))

    def shines(label: str) -> bool:
        at, value = 0.0, "0"
        for stop, opacity in re.findall(r"([\d.]+%|to)\{opacity:(\d)\}", frames[label]):
            place = 100.0 if stop == "to" else float(stop[:-1])
            if place <= 100 * share and place >= at:
                at, value = place, opacity
        return value == "1"

    root = ElementTree.fromstring(svg)
    return [
        part.text or ""
        for part in root.iter("{http://www.w3.org/2000/svg}text")
        if (label := part.get("class")) is not None and shines(label)
    ]


def test_left_to_right_a_token_a_round() -> None:
    svg = drawn(LINE, "before", title="one & two")
    root = ElementTree.fromstring(svg)
    assert root.get("aria-label") == "one & two: 3 rounds"
    step, whole = 0.7, 3 * 0.7 + 2.0
    texts = [seen_at(svg, (number + 0.5) * step / whole) for number in range(3)]
    assert texts == [[" a"], [" a", " <b>"], [" a", " <b>", "猫↵"]]
    assert seen_at(svg, 0.99) == texts[-1]


def test_what_is_replaced_goes() -> None:
    svg = drawn(REFINED)
    whole = 3 * 0.7 + 2.0
    texts = [seen_at(svg, (number + 0.5) * 0.7 / whole) for number in range(3)]
    assert texts == [["a", "b", "c"], ["a", "c"], ["a", "d", "e"]]
    assert re.findall(r'class="\S+-1-"', svg)  # what stays is there where nothing moves


def test_all_at_once_is_one_round() -> None:
    svg = drawn([(1, place, "x") for place in range(5)])
    assert seen_at(svg, 0.01) == ["x"] * 5
    assert "1 round" in svg and "1 rounds" not in svg


def test_there_is_no_script_and_nothing_is_fetched() -> None:
    svg = drawn(LINE, "<script>alert(1)</script>", "onload=alert(1)", '"><script>')
    tags = {element.tag.partition("}")[2] for element in ElementTree.fromstring(svg).iter()}
    assert tags == {"svg", "style", "rect", "path", "text"}
    assert "href" not in svg and "url(" not in svg
    assert "prefers-reduced-motion" in svg


def test_nothing_written_is_no_film() -> None:
    assert drawn([]) == ""
    assert drawn([(1, 0, "")]) == ""


@pytest.mark.parametrize("wide", ["漢字" * 30, "letters " * 30])
def test_it_stays_within_its_width(wide: str) -> None:
    svg = drawn([(number + 1, number, wide[number : number + 4]) for number in range(50)], wide, wide)
    for element in ElementTree.fromstring(svg).iter():
        if element.tag.endswith("text"):
            assert float(element.get("x") or 0) < 640


def test_a_page_shows_a_film_of_each_family(results: dict[str, Any]) -> None:
    assert "How they wrote" not in page(results)
    filmed = deepcopy(results)
    for family in filmed["families"]:
        family["samples"][0]["film"] = [list(scene) for scene in LINE]
    text = page(filmed)
    assert text.index("How they wrote") < text.index("What they wrote")
    names = re.findall(r'<svg[^>]* id="(\w+)"', text)
    assert len(set(names)) == len(names) == 3
