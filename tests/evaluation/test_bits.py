"""Bits per byte: every token asked once, with enough context, and summed to the likelihood that a plain loop finds."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sightline.data import Document, Rows, Tokenizer, train_tokenizer
from sightline.errors import SightlineError
from sightline.evaluation import (
    bits_per_byte,
    continuation_bits_per_byte,
    evaluation_sample,
    infilling_bits_per_byte,
    scored,
)
from sightline.evaluation.bits import Side, windows
from sightline.objectives.backward import Backward
from sightline.objectives.blank import Blank
from sightline.objectives.causal import Causal
from sightline.objectives.masked import Masked
from sightline.objectives.model import Model, built
from sightline.objectives.prefix import Prefix
from sightline.stacks.shape import Shape

Make = Any


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_each_wanted_token_is_asked_once_with_half_a_window(data: st.DataObject) -> None:
    length = data.draw(st.integers(1, 90))
    first = data.draw(st.integers(0, length - 1))
    last = data.draw(st.integers(first + 1, length))
    context = data.draw(st.integers(4, 40))
    side: Side = data.draw(st.sampled_from(["left", "right", "both"]))
    asked = np.zeros(length, dtype=int)
    for window in windows(length, first, last, context, side):
        assert 0 <= window.start <= window.first < window.last <= window.end <= length
        assert window.end - window.start <= context
        asked[window.first : window.last] += 1
        for place in range(window.first, window.last):
            before, after = place - window.start, window.end - 1 - place
            if side == "left":
                assert before >= min(place, context // 2)
            elif side == "right":
                assert after >= min(length - 1 - place, context // 2)
            else:
                assert before >= min(place, context // 4)
                assert after >= min(length - 1 - place, context // 4)
    assert (asked[first:last] == 1).all()
    assert asked.sum() == last - first


def test_a_context_too_short_to_slide_is_refused() -> None:
    with pytest.raises(SightlineError, match="too short"):
        list(windows(10, 0, 10, 3, "left"))


def nats_by_hand(model: Model, tokens: np.ndarray, context: int) -> float:
    """Causal nats of a document by one forward pass per token: the slow and plain way, same windows."""
    total = 0.0
    for place in range(1, len(tokens)):
        half = context // 2
        start = 0 if place < context else (place // half - 1) * half
        rows = Rows.of([tokens[start:place]], model.tokenizer)
        view = model.objective.read(rows)
        with torch.no_grad():
            states = model.states(view, rows.tokens)[0, -1:]
            total -= float(model.head.logits(states).log_softmax(-1)[0, int(tokens[place])])  # type: ignore[operator]
    return total


def test_windows_sum_to_what_a_plain_loop_finds(make: Make, tokenizer: Tokenizer) -> None:
    model = make(Causal)
    text = "the quiet river sings under the old stone house and then slowly walks over 水 and 山."
    sample = evaluation_sample([Document("one", text)], tokenizer)
    found = bits_per_byte(model, sample)
    expected = nats_by_hand(model, sample.tokens[0], model.context)
    assert found.top.sum() * math.log(2) == pytest.approx(expected, rel=1e-5)
    assert found.bottom.sum() == len(text.encode())


def test_short_documents_are_one_window_each(make: Make, tokenizer: Tokenizer, documents: tuple[Document, ...]) -> None:
    short = [replace(one, text=one.text[:20]) for one in documents]
    sample = evaluation_sample(short, tokenizer)
    assert not sample.blocks and len(sample.pieces) == 40
    for kind in (Causal, Backward, Prefix):
        model = make(kind)
        nats, _ = model.examined(Rows.of(list(sample.tokens), tokenizer))
        found = bits_per_byte(model, sample)
        assert np.allclose(found.top * math.log(2), nats, rtol=1e-5)
        assert found.class_ == "exact" and found.column == "whole text"


def test_a_continuation_asks_the_second_half_only(make: Make, tokenizer: Tokenizer) -> None:
    documents = [Document(str(number), "abcdefgh" * 2) for number in range(30)]
    sample = evaluation_sample(documents, tokenizer)
    for kind in (Causal, Prefix):
        model = make(kind)
        whole, half = bits_per_byte(model, sample), continuation_bits_per_byte(model, sample)
        assert (half.bottom == 8).all() and (whole.bottom == 16).all()
        assert (half.top < whole.top).all() and half.column == "continuation"
    assert "no likelihood" in continuation_bits_per_byte(make(Backward), sample).missing
    causal = make(Causal)
    wanted = [np.arange(len(ids)) >= 9 for ids in sample.tokens]
    nats, _ = causal.examined(Rows.of(list(sample.tokens), tokenizer, wanted=wanted))
    assert np.allclose(continuation_bits_per_byte(causal, sample).top * math.log(2), nats, rtol=1e-5)


def test_an_infilling_asks_a_blank_and_its_end(make: Make, tokenizer: Tokenizer) -> None:
    documents = [Document(str(number), "abcdefgh" * 2) for number in range(30)]
    sample = evaluation_sample(documents, tokenizer)
    model = make(Blank)
    found = infilling_bits_per_byte(model, sample)
    assert (found.class_, found.column) == ("exact", "infilling") and "both sides" in found.context_rule
    assert (found.bottom == 8).all(), "a quarter of the context, in the middle"
    wanted = [(np.arange(len(ids)) >= 5) & (np.arange(len(ids)) < 13) for ids in sample.tokens]
    nats, asked = model.examined(Rows.of(list(sample.tokens), tokenizer, wanted=wanted), infill=True)
    assert (asked == 9).all(), "the end of the blank too"
    assert np.allclose(found.top * math.log(2), nats, rtol=1e-5)
    for kind in (Causal, Masked):
        assert "no likelihood of a blank" in infilling_bits_per_byte(make(kind), sample).missing


def test_who_never_saw_an_empty_opening_scores_no_whole_text(make: Make, tokenizer: Tokenizer) -> None:
    sample = evaluation_sample([Document(str(number), "a river sings") for number in range(30)], tokenizer)
    model = built(Prefix(tokenizer.vocabulary, empty=0), make(Causal).stack.shape, tokenizer)  # type: ignore[arg-type]
    assert "not trained to write whole texts" in bits_per_byte(model, sample).missing
    assert continuation_bits_per_byte(model, sample).value is not None


def test_a_pseudo_score_stands_in_no_exact_column(make: Make, tokenizer: Tokenizer) -> None:
    sample = evaluation_sample([Document(str(number), "a river sings") for number in range(30)], tokenizer)
    found = bits_per_byte(make(Masked), sample)
    assert found.class_ == "pseudo" and found.column != "whole text"
    assert "no likelihood" in found.note


def test_a_share_of_tokens_estimates_the_whole_pseudo_score(make: Make, tokenizer: Tokenizer) -> None:
    documents = [Document(str(number), "the old bird sings over the river" * (1 + number % 2)) for number in range(30)]
    sample = evaluation_sample(documents, tokenizer)
    model = make(Masked)
    whole, part = bits_per_byte(model, sample), bits_per_byte(model, replace(sample, share=0.4))
    assert part.bottom.sum() < 0.6 * whole.bottom.sum()
    assert part.value == pytest.approx(whole.value, abs=0.1)
    again = bits_per_byte(make(Causal), replace(sample, share=0.4))
    assert again.bottom.sum() == whole.bottom.sum(), "a one-pass family asks everything"


def test_a_tokenizer_that_loses_text_earns_no_bits() -> None:
    lossy = train_tokenizer(["the quiet river sings under the old house " * 20], "wordpiece", 256)
    assert not lossy.lossless
    shape = Shape(layers=1, width=8, heads=1, vocabulary=lossy.padded, context=32)
    model = built(Causal(lossy.vocabulary), shape, lossy)
    sample = evaluation_sample([Document("one", "The River, sings")], lossy)
    found = scored([bits_per_byte(model, sample)])
    assert found.value is None and "byte for byte" in found.note
    assert found.record()["value"] is None
