"""Writing: the same passages for all, what each was given told, and scores that know a copy from noise."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
from sacrebleu.metrics.chrf import CHRF

from sightline.data import Document, Tokenizer
from sightline.evaluation import Written, copied, copies, passages, scored, written_by
from sightline.evaluation.writing import texts_scored
from sightline.objectives.backward import Backward
from sightline.objectives.causal import Causal
from sightline.objectives.masked import Masked

Make = Any
WORDS = ["the", "a", "river", "house", "stone", "sings", "under", "quiet", "red", "bird", "水", "山", "slowly", "and"]


def prose(seed: int, words: int) -> str:
    drawn = random.Random(seed)
    return " ".join(drawn.choice(WORDS) for _ in range(words)) + ".\n"


LONG = [Document(str(number), prose(number, 60)) for number in range(5)]


def test_passages_are_drawn_whole_and_by_seed(tokenizer: Tokenizer) -> None:
    drawn = passages(LONG, tokenizer, count=6, length=10, side=12, seed=1)
    assert drawn == passages(LONG, tokenizer, count=6, length=10, side=12, seed=1)
    assert drawn != passages(LONG, tokenizer, count=6, length=10, side=12, seed=2)
    assert len(drawn) == 6
    for one in drawn:
        joined = one.left + one.truth + one.right
        assert any(joined in document.text for document in LONG) and "\ufffd" not in joined
        assert len(tokenizer.encode(one.truth)) == one.tokens == 10
    assert passages([Document("short", "no")], tokenizer) == ()


@pytest.mark.parametrize(("kind", "side", "form"), [(Causal, "left", "continuation"), (Backward, "right", "beginning")])
def test_a_family_writes_from_its_side(make: Make, tokenizer: Tokenizer, kind: Any, side: str, form: str) -> None:
    drawn = passages(LONG, tokenizer, count=3, length=5, side=8)
    found = written_by(make(kind), drawn, seed=4)
    again = written_by(make(kind), drawn, seed=4)
    assert [one.written for one in found.samples] == [one.written for one in again.samples]
    assert {one.name for one in found.measured} == {"chrf", "distinct_2", "repetition", "infill_chrf"}
    first = found.samples[0]
    assert (first.kind, first.side) == (form, side) and first.truth == drawn[0].truth
    assert first.given == (f"{drawn[0].left}[...]" if side == "left" else f"[...]{drawn[0].right}")
    chrf = next(one for one in found.measured if one.name == "chrf")
    assert chrf.column == side


def test_a_family_of_both_sides_shows_its_blanks_first(make: Make, tokenizer: Tokenizer) -> None:
    found = written_by(make(Masked), passages(LONG, tokenizer, count=2, length=4, side=8))
    assert found.samples[0].kind == "blank" and found.samples[0].side == "both"
    infill = next(one for one in found.measured if one.name == "infill_chrf")
    assert infill.column == "both" and infill.value is not None


def test_no_passage_is_said(make: Make) -> None:
    found = written_by(make(Causal), ())
    assert all("shorter than a passage" in one.missing for one in found.measured) and not found.samples


def wrote(written: str, truth: str = "the river sings") -> Written:
    return Written("continuation", "x[...]", "left", written, truth, "by hand")


def test_scores_know_a_copy_from_noise() -> None:
    chrf, distinct, repetition = texts_scored([wrote("the river sings over stones"), wrote("the river sings under it")])
    assert chrf.top[0] == pytest.approx(CHRF().sentence_score("the river sings over stones", ["the river sings"]).score)
    # the-river and river-sings twice, four other pairs once: six different ones of eight
    assert distinct.value == pytest.approx(6 / 8)
    assert repetition.value == 0
    assert texts_scored([wrote("the river sings")])[0].value == pytest.approx(100)
    looped = texts_scored([wrote("on and on and on and on and")])[2]
    assert looped.value == pytest.approx(3 / 5)


def test_a_chinese_character_is_a_word() -> None:
    distinct = texts_scored([wrote("山水山水")])[1]
    assert distinct.bottom.sum() == 3 and distinct.value == pytest.approx(2 / 3)


def test_too_few_words_leave_the_cell_empty() -> None:
    assert texts_scored([wrote("one")])[1].missing


def test_the_floor_is_a_stretch_of_training_text(tokenizer: Tokenizer) -> None:
    drawn = passages(LONG, tokenizer, count=3, length=10, side=12)
    texts = copies(LONG, tokenizer, count=3, length=10, seed=1)
    assert texts == copies(LONG, tokenizer, count=3, length=10, seed=1)
    for text in texts:
        assert any(text.strip("\ufffd") in document.text for document in LONG)
    found = copied(drawn, texts)
    assert scored([found[0]]).value is not None and found[0].column == "nothing"
    assert np.isfinite(found[0].top).all()
