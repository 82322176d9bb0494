"""Curves: what is drawn of many points, and of many lines."""

from __future__ import annotations

import re

from sightline.report.chart import FEWER_POINTS, MOST_POINTS, Line, curves


def drawn(count: int, lines: int) -> list[list[tuple[float, float]]]:
    """The points that each line tells, of so many points on a slope with a jitter of 1 up and down."""
    points = tuple((float(at), 1000.0 - at + (-1) ** at) for at in range(count))
    svg = curves([Line(f"line{number}", number, False, points) for number in range(lines)], "x", "y", str)
    return [
        [(float(x), float(y)) for *_, x, y in (point.split(",") for point in told.split(" "))]
        for told in re.findall(r'data-points="([^"]*)"', svg)
    ]


def test_few_points_are_drawn_as_they_are() -> None:
    (line,) = drawn(100, 1)
    assert len(line) == 100


def test_many_points_become_means_between_the_first_and_the_last() -> None:
    for lines, most in ((1, MOST_POINTS), (9, FEWER_POINTS)):
        for line in drawn(800, lines):
            assert len(line) == most
            assert line[0][0] == 0 and line[-1][0] == 799
            assert all(abs(y - (1000 - x)) < 0.5 for x, y in line[1:-1])  # the jitter is gone
