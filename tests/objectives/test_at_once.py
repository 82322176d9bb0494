"""Targets written all at once: one pass (nar), and Mask-Predict (cmlm)."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "conformance"))
from checks import BOS, END, EOS, LETTERS, MASK, WORDS, Subject, rows_from

from sightline.data import Draws, Rows
from sightline.errors import SightlineError
from sightline.objectives import Cmlm, Nar
from sightline.objectives.at_once import LENGTH
from sightline.sight import NOTHING, Depth, matrix, score_of
from sightline.stacks.look import kernel_for
from sightline.stacks.two import sides

SEP = WORDS.sep
KINDS = {"nar": Nar, "cmlm": Cmlm}


def paired(pairs: list[tuple[list[int], list[int]]], rows: int = 1, length: int | None = None) -> Rows:
    """Pairs, packed in order into so many rows."""
    each = -(-len(pairs) // rows)
    lines = [
        [[BOS, *source, SEP, *target, EOS] for source, target in pairs[at : at + each]]
        for at in range(0, len(pairs), each)
    ]
    width = length or max(sum(map(len, line)) for line in lines)
    tokens, documents = np.zeros((len(lines), width), np.int64), np.full((len(lines), width), -1)
    for row, line in enumerate(lines):
        at = 0
        for number, document in enumerate(line):
            tokens[row, at : at + len(document)], documents[row, at : at + len(document)] = document, number
            at += len(document)
    return rows_from(tokens, documents)


def some(count: int, seed: int = 0) -> list[tuple[list[int], list[int]]]:
    draw = np.random.default_rng(seed)
    return [tuple(draw.integers(4, END, draw.integers(2, 7)).tolist() for _ in range(2)) for _ in range(count)]  # type: ignore[misc]


PAIRS = paired(some(8), rows=4)


@pytest.mark.parametrize("kind", KINDS.values())
def test_a_source_and_its_target_stand_apart(kind: type[Any]) -> None:
    pairs = [([4, 5, 6], [7, 8]), ([9], [10, 11, 12])]
    rows = paired(pairs)
    (view,) = kind(WORDS).ask(rows, Draws(0).of(rows), 0.0)
    source, target = sides(view)
    assert source.shown(rows.tokens).tolist() == [[BOS, 4, 5, 6, SEP, BOS, 9, SEP]]
    assert source.slots.positions.tolist() == [[0, 1, 2, 3, 4, 0, 1, 2]]
    assert target.slots.positions.tolist() == [[0, 1, 2, 0, 1, 2, 3]]
    answers = np.array([7, 8, EOS, 10, 11, 12, EOS])
    hidden = target.asks[0] != NOTHING
    assert (target.shown(rows.tokens)[0] == np.where(hidden, MASK, answers)).all()
    assert target.answers(rows.tokens)[0, : hidden.sum()].tolist() == answers[hidden].tolist()
    assert hidden.all() == (kind is Nar) or hidden.sum() == 7
    slots, lengths = kind(WORDS).lengths(view)
    assert slots.tolist() == [[0, 5]] and lengths.tolist() == [[3, 4]]


def test_how_many_are_hidden_is_uniform_and_which_ones_is_too() -> None:
    rows = paired([([4], [5, 6, 7, 8])] * 500, rows=500)
    hidden = np.concatenate(
        [
            (sides(view)[1].asks != NOTHING)
            for seed in range(10)
            for view in Cmlm(WORDS).ask(rows, Draws(seed).of(rows), 0.0)
        ]
    )
    counts = np.bincount(hidden.sum(1), minlength=6)
    assert counts[0] == 0 and (np.abs(counts[1:] / len(hidden) - 0.2) < 0.02).all()  # 1 to N, N included
    assert (np.abs(hidden.mean(0) - 0.6) < 0.02).all()  # a mean of 3 of 5
    alone = hidden[hidden.sum(1) == 1].mean(0)
    assert (np.abs(alone - 0.2) < 0.05).all()


@pytest.mark.parametrize("kind", KINDS.values())
def test_who_sees_whom(kind: type[Any]) -> None:
    rows = paired([([4, 5, 6], [7, 8])])
    (view,) = kind(WORDS).examine(rows)
    assert matrix(view.whole_sight, view.slots)[0].astype(int).tolist() == [
        *[[1, 1, 1, 1, 1, 0, 0, 0]] * 5,  # the source, all of itself
        *[[0, 1, 1, 1, 1, 1, 1, 1]] * 3,  # the target, itself and the source but for the slot that tells its length
    ]
    assert [kernel_for(part) for part in sides(view)] == ["full"] * 2
    model = Subject(kind).model()
    entered: list[torch.Tensor] = []
    model.stack.decoder.layers[0].cross.register_forward_pre_hook(lambda _, given: entered.extend(given[1:3]))  # type: ignore[union-attr,index]
    states = model.states(view, rows.tokens)[0, 5:]
    slopes = torch.autograd.grad((states * torch.arange(states.shape[1]).sin()).sum(), entered)
    assert all((slope[0, :, 0] == 0).all() and (slope[0, :, 1:] != 0).all() for slope in slopes)


@pytest.mark.parametrize("kind", KINDS.values())
def test_what_moves_what(kind: type[Any]) -> None:
    """Another source moves all that is said; another target token moves what is shown beside it, where it is shown."""
    model = Subject(kind).model()
    rows = paired([([4, 5, 6], [7, 8, 9, 10])])
    (view,) = model.objective.ask(rows, Draws(1).of(rows), 0.0)

    def said(tokens: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        with torch.no_grad():
            return model.states(view, tokens)[0, 5:], model.length_logits(view, tokens)[0]

    before, told = said(rows.tokens)
    for at in range(1, 9):
        other = rows.tokens.copy()
        other[0, at] = (other[0, at] - 3) % 12 + 4 if at != 4 else 30
        after, length = said(other)
        moved = (after != before).any(1)
        shown = at < 5 or view.shows[0, at] >= 0
        assert bool(moved.all()) == shown and bool(moved.any()) == shown
        assert bool((length != told).any()) == (at < 5)


@pytest.mark.parametrize("kind", KINDS.values())
def test_the_score_is_of_one_pass_and_of_the_length(kind: type[Any]) -> None:
    """A likelihood that adds up to one: over the lengths, and given one over all texts of it."""
    vocabulary = replace(LETTERS, never=tuple(range(4, 10)))
    model = Subject(kind).model(vocabulary)
    ids = np.setdiff1d(np.arange(vocabulary.size), vocabulary.unpredictable)
    rows = rows_from(np.array([[2, 0, 5, 1, 1]]), np.zeros((1, 5)))
    told = model.length_logits(next(iter(model.objective.examine(rows))), rows.tokens)[0].detach().log_softmax(0)
    assert float(told[0]) == -torch.inf and float(told.exp().sum()) == pytest.approx(1)
    for length in (1, 2):
        texts = np.array([[2, 0, 5, *rest] for rest in np.ndindex(*(len(ids),) * length)])
        nats, asked = model.examined(rows_from(texts, np.zeros_like(texts)))
        assert (asked == length).all()
        assert np.exp(-nats).sum() == pytest.approx(float(told[length].exp()), rel=1e-5)
    view = next(iter(model.objective.examine(PAIRS)))
    assert score_of([view], Depth(4)) == "nar"


def test_one_pass_of_cmlm_is_nar() -> None:
    """The same weights: the same score, and the same loss where all is hidden."""
    cmlm, nar = Subject(Cmlm).model(), Subject(Nar).model()
    nar.load_state_dict(cmlm.state_dict())
    for one, other in zip(cmlm.examined(PAIRS), nar.examined(PAIRS), strict=True):
        assert (one == other).all()


@pytest.mark.parametrize("kind", KINDS.values())
def test_the_loss_is_summed_and_divided_by_what_is_hidden(kind: type[Any]) -> None:
    model = Subject(kind).model()
    views = model.objective.ask(PAIRS, Draws(0).of(PAIRS), 0.0)
    terms = {term.name: term for term in model.objective.learn(model, PAIRS, views, Draws(0).of(PAIRS, 1))}
    hidden = sum(int(view.wanted.sum()) for view in views)
    assert model.objective.counts(views) == {model.objective.family: hidden, LENGTH: hidden}
    assert all(term.weight == 1 for term in terms.values())
    _, lengths = model.objective.lengths(views[0])
    logits = [model.length_logits(next(iter(model.objective.examine(row))), row.tokens) for row in _alone(PAIRS)]
    each = [
        -float(one[0].detach().log_softmax(0)[size]) for one, size in zip(logits, lengths[lengths > 0], strict=True)
    ]
    assert float(terms[LENGTH].total.detach()) == pytest.approx(sum(each), rel=1e-5)


def _alone(rows: Rows) -> list[Rows]:
    """A row of its own for each document."""
    found = []
    for line in range(rows.count):
        for document in range(int(rows.documents[line].max()) + 1):
            ids = rows.tokens[line][rows.documents[line] == document][None]
            found.append(rows_from(ids, np.zeros_like(ids)))
    return found


@pytest.mark.parametrize("kind", KINDS.values())
def test_packed_pairs_and_padded_ones_are_scored_alike(kind: type[Any]) -> None:
    model = Subject(kind).model()
    packed, _ = model.examined(PAIRS)
    apart = np.array([model.examined(row)[0][0] for row in _alone(PAIRS)])
    assert np.allclose(packed, apart.reshape(-1, 2).sum(1), atol=1e-4)
    (views, padded) = (paired(some(8), rows=4, length=40), model.examined(paired(some(8), rows=4, length=40))[0])
    assert views.length == 40 and np.allclose(packed, padded, atol=1e-4)


def test_columns_of_rows_are_fixed_where_they_say_it() -> None:
    (view,) = Cmlm(WORDS).ask(replace(PAIRS, halves=(20, 24)), Draws(0).of(PAIRS), 0.0)
    assert [part.slots.count for part in sides(view)] == [20, 24] and view.most_asks == 24


@pytest.mark.parametrize("mark", ["mask", "sep", "eos"])
def test_marks_that_a_tokenizer_must_have(mark: str) -> None:
    with pytest.raises(SightlineError, match=f"no {mark} token"):
        Cmlm(replace(WORDS, **{mark: -1}))
