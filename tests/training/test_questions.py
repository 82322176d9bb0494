"""Questions made ahead are those that would be made when they are wanted."""

from __future__ import annotations

import threading
from typing import Any, cast

import pytest

from sightline.training.questions import Asker, Questions


def numbered(number: int) -> Questions:
    return Questions(cast(Any, number), [], [])


def test_the_next_step_s_are_made_while_the_present_is_worked_on() -> None:
    made: dict[int, threading.Event] = {number: threading.Event() for number in range(5)}
    names: dict[int, str] = {}

    def make(number: int) -> Questions:
        names[number] = threading.current_thread().name
        made[number].set()
        return numbered(number)

    asker = Asker(make, 4, ahead=True)
    for number in range(4):
        assert asker(number).rows == number
        assert number == 3 or made[number + 1].wait(10)
    assert not made[4].is_set()  # there is no step after the last
    here = threading.current_thread().name
    assert names[0] == here and all(names[number] != here for number in (1, 2, 3))


def test_another_step_than_the_next_is_made_when_wanted() -> None:
    asker = Asker(numbered, 100, ahead=True)
    assert [asker(number).rows for number in (3, 3, 9, 4, 5)] == [3, 3, 9, 4, 5]


def test_without_cores_to_spare_nothing_is_made_ahead() -> None:
    made: list[int] = []
    asker = Asker(lambda number: made.append(number) or numbered(number), 100, ahead=False)  # type: ignore[func-returns-value]
    asker(0)
    assert made == [0]


def test_what_fails_beside_fails_where_it_is_wanted() -> None:
    def make(number: int) -> Questions:
        if number == 1:
            raise OSError("the disk is gone")
        return numbered(number)

    asker = Asker(make, 10, ahead=True)
    asker(0)
    with pytest.raises(OSError, match="disk is gone"):
        asker(1)
