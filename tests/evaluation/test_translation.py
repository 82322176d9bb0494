"""BLEU and chrF of a corpus, with intervals."""

from __future__ import annotations

import pytest

from sightline.errors import SightlineError
from sightline.evaluation.translation import translation_scores


def test_scores_run_from_nothing_to_the_references_themselves() -> None:
    references = ["a dog runs on the beach", "two men stand in the rain", "the sun is up"]
    for score in translation_scores(references, references):
        assert score.value == pytest.approx(100) and score.low == score.high == pytest.approx(100)
    for score in translation_scores(["xx", "yy", "zz"], references):
        assert score.value == pytest.approx(0, abs=1e-3) and "nrefs:1" in score.signature


def test_texts_that_share_a_word_here_and_there() -> None:
    """Some draws of the bootstrap then hold no common word at all."""
    bleu, chrf = translation_scores(["12"] + ["xx yy"] * 5, ["12", *["34 56"] * 5], draws=200)
    assert bleu.low <= bleu.value <= bleu.high and chrf.low <= chrf.value <= chrf.high


def test_each_text_has_a_reference() -> None:
    with pytest.raises(SightlineError, match="2 texts do not stand beside 1 references"):
        translation_scores(["a", "b"], ["a"])
    with pytest.raises(SightlineError, match="0 texts"):
        translation_scores([], [])
