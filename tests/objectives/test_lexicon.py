"""Words and their vectors: neighbours, analogies, what is not there."""

from __future__ import annotations

import numpy as np
import pytest

from sightline.data import train_tokenizer
from sightline.errors import SightlineError
from sightline.objectives.causal import Causal
from sightline.objectives.lexicon import Lexicon
from sightline.objectives.model import built
from sightline.objectives.ngram import NGram
from sightline.stacks.shape import Shape

# Two axes: who (man, woman), and what (king or not); lengths do not matter.
ROYAL = Lexicon(
    ("man", "woman", "king", "queen", "␣stone", "stone"),
    np.array([[1, 0, 0], [0, 1, 0], [1, 0, 3], [0, 2, 6], [-1, -1, 0], [0, 0, -1]], np.float32),
)


def test_neighbours_are_by_cosine_and_leave_out_the_word() -> None:
    found = ROYAL.similar("king", 2)
    assert found[0][0] == "queen"
    assert found[0][1] == pytest.approx(18 / (10**0.5 * 40**0.5))
    assert len(ROYAL.similar("king", 99)) == 5


def test_analogies_leave_out_all_three() -> None:
    assert ROYAL.analogy("man", "king", "woman")[0][0] == "queen"
    assert {word for word, _ in ROYAL.analogy("man", "king", "woman", 99)} == {"queen", "␣stone", "stone"}
    assert ROYAL.answers([("man", "king", "woman"), ("woman", "queen", "man")]) == ["queen", "king"]


def test_a_word_with_a_space_before_it_is_meant_first() -> None:
    assert ROYAL.number("stone") == 4
    assert "stone" in ROYAL
    assert "rock" not in ROYAL


def test_what_is_not_there_is_told_with_what_looks_like_it() -> None:
    with pytest.raises(SightlineError, match=r"'quen' is none of the 6 words. Did you mean queen"):
        ROYAL.similar("quen")
    with pytest.raises(SightlineError, match="Use a word of the text"):
        ROYAL.analogy("man", "xyzzy", "woman")
    with pytest.raises(SightlineError, match="0 words are none"):
        ROYAL.similar("king", 0)
    with pytest.raises(SightlineError, match="'a' has two vectors"):
        Lexicon(("a", "b", "a"), np.zeros((3, 2), np.float32))
    with pytest.raises(SightlineError, match="do not fit"):
        Lexicon(("a", "b"), np.zeros((3, 2), np.float32))


def test_a_transformer_has_vectors_of_tokens_and_a_table_has_none() -> None:
    tokenizer = train_tokenizer(["some text"], "byte")
    shape = Shape(1, 8, 1, tokenizer.padded, 16)
    lexicon = Lexicon.of(built(Causal(tokenizer.vocabulary), shape, tokenizer))
    assert lexicon.vectors.shape == (256, 8)
    assert "a" in lexicon
    with pytest.raises(SightlineError, match="ngram keeps no vectors"):
        Lexicon.of(built(NGram(tokenizer.vocabulary), shape, tokenizer))
