"""GPT-BERT: which rows are causal, which slot is asked for a hidden token, and that each way is what it is alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from checks import MASK, WORDS, Subject, packed, rows_from, single, writes_the_same_with_a_cache

from sightline.data import Draws, Rows
from sightline.errors import SightlineError
from sightline.objectives import Causal, Hybrid, Masked
from sightline.objectives.hybrid import MaskedNext
from sightline.objectives.model import Model
from sightline.sight import NOTHING, cacheable, leaks


def many(count: int, visit: int = 0) -> Rows:
    rows = packed(count)
    return Rows(**vars(rows) | {"visits": np.full(count, visit)})


def weights_of(kind: type, **fields: float) -> Model:
    return Subject(lambda vocabulary: kind(vocabulary, **fields)).model()


@pytest.mark.parametrize("masked", [15 / 16, 0.75, 0.5, 0.6, 0.0, 1.0])
def test_the_share_of_rows_is_a_quota(masked: float) -> None:
    """Of any stretch of rows the share is causal, to within one row; over visits every row has its turn."""
    hybrid = Hybrid(WORDS, masked=masked)
    turns = np.stack([hybrid.causal_rows(many(160, visit)) for visit in range(20)])
    assert (np.abs(turns.sum(1) - (1 - masked) * 160) <= 1).all()
    for start in (0, 7, 50):
        assert abs(turns[0, start : start + 32].sum() - (1 - masked) * 32) <= 1
    assert (np.abs(turns.sum(0) - (1 - masked) * 20) <= 1).all()


def test_causal_rows_are_causal_and_give_its_nats() -> None:
    """With equal weights a causal row gets exactly what the causal family gives it, beside masked rows or not."""
    rows = packed(8)
    hybrid, causal = weights_of(Hybrid, masked=0.5), weights_of(Causal)
    (view,) = hybrid.objective.ask(rows, Draws(3).of(rows), 0.2)
    (plain,) = causal.objective.ask(rows, Draws(3).of(rows), 0.2)
    left = hybrid.objective.causal_rows(rows)
    assert left.sum() == 4
    assert (view.asks[left] == plain.asks[left]).all()
    assert (view.shows[left] == plain.shows[left]).all()
    mine, its = hybrid.grade(view, rows.tokens), causal.grade(plain, rows.tokens)
    assert torch.allclose(mine.nats[left], its.nats[left], atol=1e-5)
    assert np.allclose(hybrid.examined(rows)[0], causal.examined(rows)[0], atol=1e-5)


def test_masked_rows_are_masked_and_give_its_nats() -> None:
    rows = packed(8)
    hybrid = weights_of(Hybrid, masked=0.5)
    both = hybrid.two_sided
    assert isinstance(both.objective, MaskedNext)
    (view,) = hybrid.objective.ask(rows, Draws(3).of(rows), 0.2)
    (plain,) = both.objective.ask(rows, Draws(3).of(rows), 0.2)
    masked = ~hybrid.objective.causal_rows(rows)
    index = np.flatnonzero(masked)
    alone = both.states(plain, rows.tokens)[index]
    assert torch.allclose(hybrid.states(view, rows.tokens)[index], alone, atol=1e-5)
    assert (view.asks[masked] == plain.asks[masked]).all()


def test_a_hidden_token_is_asked_of_the_slot_before_it() -> None:
    rows = packed(6)
    family = MaskedNext(WORDS, rate=0.4, random=0.0, kept=0.0)
    (view,) = family.ask(rows, Draws(1).of(rows), 0.0)
    line, slot = np.nonzero(view.asks != NOTHING)
    position = view.asks[line, slot]
    assert len(line) > 10
    assert (position == slot + 1).all()
    assert (view.shown(rows.tokens)[line, position] == MASK).all()
    assert (rows.documents[line, slot] == rows.documents[line, position]).all()
    assert (view.answers(rows.tokens)[view.answer_weights() > 0] == rows.tokens[line, position]).all()
    hidden = view.shown(rows.tokens) == MASK
    assert hidden.sum() == len(line), "a token that is hidden and not asked for"


def test_an_unhidden_next_token_would_leak() -> None:
    """The trap of the family: predicting next tokens that are shown, while both sides are seen."""
    rows = single(count=1)
    family = MaskedNext(WORDS, rate=0.3, random=0.0, kept=1.0)
    (view,) = family.ask(rows, Draws(1).of(rows), 0.0)
    assert view.declared is not None
    assert view.declared.sum() == view.ask_count
    undeclared = type(view)(**vars(view) | {"declared": None, "_asked": {}})
    assert len(leaks(undeclared, weights_of(Causal).depth)) == view.ask_count


def test_without_masked_rows_it_is_causal_and_keeps_states() -> None:
    subject = Subject(lambda vocabulary: Hybrid(vocabulary, masked=0.0))
    (view,) = subject.make(WORDS).ask(single(), Draws(1).of(single()), 0.0)
    assert cacheable(view)
    writes_the_same_with_a_cache(subject)


def test_with_both_sides_given_states_are_not_kept() -> None:
    rows = single()
    for family in (Masked(WORDS), MaskedNext(WORDS)):
        assert not any(cacheable(view) for view in family.examine(rows))


def test_the_pseudo_score_reads_off_the_slot_before() -> None:
    """Start mark and one word: the word is read at slot 0."""
    rows = rows_from(np.array([[1, 7, 2]]), np.zeros((1, 3), int))
    model = weights_of(Hybrid).two_sided
    (view,) = model.objective.examine(rows)
    assert view.asks.tolist() == [[1, NOTHING, NOTHING]]
    logits = model.logits(view, rows.tokens)[0, 0].detach().double()
    assert model.examined(rows)[0][0] == pytest.approx(float(logits.logsumexp(0) - logits[7]), abs=1e-5)


def test_rows_of_both_ways_weigh_by_their_share() -> None:
    """A masked row's answers weigh as much as the row's tokens, so the loss has the rows' shares."""
    rows = single(length=40, count=16)
    hybrid = Hybrid(WORDS, masked=0.75, rate=0.25, rate_end=None)
    (view,) = hybrid.ask(rows, Draws(5).of(rows), 0.0)
    weight = view.weights.sum(1)
    left = hybrid.causal_rows(rows)
    assert weight[left].sum() / weight.sum() == pytest.approx(0.25, abs=0.02)


@pytest.mark.parametrize(
    ("fields", "word"),
    [({"masked": 1.5}, "no share"), ({"rate": 1.0}, "shows nothing"), ({"longest": 0}, "at most 0 tokens")],
)
def test_bad_settings_are_clear_errors(fields: dict[str, float], word: str) -> None:
    with pytest.raises(SightlineError, match=word):
        Hybrid(WORDS, **fields)  # type: ignore[arg-type]
