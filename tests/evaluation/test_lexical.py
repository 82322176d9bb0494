"""Agreement of word vectors with people, on vectors whose answers are known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from sightline.errors import SightlineError
from sightline.evaluation.lexical import Question, answered_right, pairs_in, questions_in, ranked_alike
from sightline.objectives.lexicon import Lexicon

ANGLES = np.radians([0, 10, 30, 60, 90])
WORDS = Lexicon(("a", "b", "c", "d", "e"), np.stack([np.cos(ANGLES), np.sin(ANGLES)], 1).astype(np.float32))


def test_ranks_are_correlated_over_pairs_that_are_known() -> None:
    pairs = [("a", "b", 9.0), ("a", "c", 7.0), ("a", "d", 5.0), ("a", "e", 1.0), ("a", "zebra", 9.0)]
    found = ranked_alike(WORDS, pairs)
    assert (found.value, found.asked, found.of) == (pytest.approx(1.0), 4, 5)
    turned = [(one, other, -value) for one, other, value in pairs]
    assert ranked_alike(WORDS, turned).value == pytest.approx(-1.0)
    assert np.isnan(ranked_alike(WORDS, pairs[:2]).value)


def test_analogies_are_right_or_not() -> None:
    corners = Lexicon(
        ("a", "A", "b", "B", "c"), np.array([[1, 0, 0], [1, 0, 2], [0, 1, 0], [0, 1, 2], [0, -1, 0]], np.float32)
    )
    asked = [
        Question("s", "a", "A", "b", "B"),
        Question("s", "a", "A", "b", "c"),
        Question("s", "a", "A", "b", "zebra"),
    ]
    found = answered_right(corners, asked)
    assert (found.value, found.asked, found.of) == (0.5, 2, 3)
    assert np.isnan(answered_right(corners, asked[2:]).value)


def test_the_lists_are_read_and_wrong_lines_named(tmp_path: Path) -> None:
    pairs, questions = tmp_path / "pairs.txt", tmp_path / "questions.txt"
    pairs.write_text("tiger\tcat\t7.35\nstock egg 1.81\n", encoding="utf-8")
    assert pairs_in(pairs) == [("tiger", "cat", 7.35), ("stock", "egg", 1.81)]
    questions.write_text(": capitals\nAthens Greece Paris France\n: gram1\na b c d\n", encoding="utf-8")
    assert [one.section for one in questions_in(questions)] == ["capitals", "gram1"]
    pairs.write_text("tiger cat\n", encoding="utf-8")
    with pytest.raises(SightlineError, match="line 1 is no pair"):
        pairs_in(pairs)
    questions.write_text("a b c\n", encoding="utf-8")
    with pytest.raises(SightlineError, match="line 1 is no analogy"):
        questions_in(questions)
