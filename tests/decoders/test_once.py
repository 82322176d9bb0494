"""What is left of texts that were written all at once."""

from __future__ import annotations

import numpy as np
import pytest

from sightline.decoders.canvas import Canvas
from sightline.decoders.draft import Written
from sightline.decoders.once import left_of, unrepeated

END = 2


def written(given: list[int], new: list[int]) -> Written:
    canvas = Canvas.laid([[given, len(new)]])
    places = np.arange(len(given), len(given) + len(new))
    canvas = canvas.written(np.zeros(len(new), np.int64), places, np.array(new))
    logprobs = np.where(canvas.given, 0.0, -1.0)
    return Written(canvas, np.array([0]), logprobs, np.ones(logprobs.shape, np.int64), np.zeros(1), 1)


@pytest.mark.parametrize(
    ("new", "left", "answers"),
    [
        ([5, 6, 7], [5, 6, 7], 3),
        ([5, 6, END, 7, END], [5, 6], 3),  # up to the end, and the end itself is scored
        ([END, END, 5, END, 6], [5], 2),  # an end before any word ends nothing
        ([5, 5, 6, 6, 6, 5, END], [5, 6, 5], 7),  # of equals in a row one, though all were answered
        ([END, END], [], 0),
    ],
)
def test_what_is_left(new: list[int], left: list[int], answers: int) -> None:
    done = left_of(written([1, 5], new), [END])
    mine = done.canvas.inside & ~done.canvas.given
    assert done.canvas.tokens[mine].tolist() == left
    assert done.total[0] == -answers
    assert done.canvas.text(0).tolist() == [1, 5, *left]


def test_equal_words_in_a_row() -> None:
    assert unrepeated("the the cat cat cat sat the") == "the cat sat the"
    assert unrepeated("a an  an and and. and") == "a an and and. and"
    assert unrepeated("") == ""
