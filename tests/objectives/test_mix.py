"""Mixtures: quotas, marks of modes, whose score and pen they use, recipes, and what cannot be mixed."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

from sightline.data import Draws, Rows, Tokenizer, train_tokenizer
from sightline.errors import SightlineError
from sightline.objectives import Causal, Masked, Mix
from sightline.objectives.deal import dealt, hand, shares
from sightline.objectives.mix import RECIPES
from sightline.sight import NOTHING, OPENING, fixed
from sightline.sight.derive import matrix


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return train_tokenizer(["a page of text 一页文字"], "byte")


def page(tokenizer: Tokenizer, count: int, length: int = 96) -> Rows:
    marks = tokenizer.vocabulary
    words = np.random.default_rng(1).integers(110, tokenizer.size, (count, length - 2))
    rows = Rows.of([[marks.bos, *line, marks.eos] for line in words], tokenizer)
    return replace(rows, turns=np.arange(count))


def test_every_hand_holds_the_shares() -> None:
    weights = (Fraction(1, 2), Fraction(1, 3), Fraction(1, 6))
    assert hand(weights).tolist() == [0, 1, 0, 2, 0, 1] or sorted(hand(weights)) == [0, 0, 0, 1, 1, 2]
    assert shares((0.5, 0.3, 0.2), "x") == (Fraction(1, 2), Fraction(3, 10), Fraction(1, 5))
    cards = hand(shares((0.97, 0.03), "x"))
    assert len(cards) == 100 and cards.sum() == 3
    early = np.cumsum(hand(weights) == 0) / np.arange(1, 7)
    assert np.abs(early - 0.5).max() <= 0.5, "spread over the hand"


def test_rows_are_dealt_by_turn_and_epoch_by_epoch(tokenizer: Tokenizer) -> None:
    rows = page(tokenizer, 4)
    weights = shares((0.5, 0.5), "x")
    assert dealt(rows, weights).tolist() == [0, 1, 0, 1]
    assert dealt(replace(rows, turns=rows.turns + 1), weights).tolist() == [1, 0, 1, 0]
    unread = replace(rows, turns=None)
    assert (dealt(unread, weights) != dealt(replace(unread, visits=rows.visits + 1), weights)).all()


def test_a_batch_of_whole_hands_has_fixed_quotas(tokenizer: Tokenizer) -> None:
    mix, rows = Mix(tokenizer.vocabulary, RECIPES["ul2"]), page(tokenizer, 24)
    for step in range(3):
        views = mix.ask(replace(rows, turns=np.arange(24) + 24 * step), Draws(1).of(rows), 0.0)
        assert [view.slots.lines for view in views] == [4, 4, 8, 2, 2, 2, 2]
        assert sorted(np.concatenate([view.lines_of for view in views])) == list(range(24))
    assert len({view.kind for view in views}) == 7


def test_the_first_mark_of_each_text_is_its_mode_s(tokenizer: Tokenizer) -> None:
    marks = tokenizer.vocabulary
    mix = Mix(marks, RECIPES["ul2"])
    rows = page(tokenizer, 24)
    for view in (*mix.ask(rows, Draws(1).of(rows), 0.0), *mix.examine(rows), mix.read(rows), *mix.infill(rows)):
        shown = view.shown(rows.tokens)
        assert set(shown[:, 0]) <= set(marks.modes)
        assert not np.isin(shown[:, 1:], [marks.bos, *marks.modes]).any()
    named = {view.kind: int(view.shown(rows.tokens)[0, 0]) for view in mix.ask(rows, Draws(1).of(rows), 0.0)}
    assert [marks.modes.index(token) for token in named.values()] == [0, 0, 1, 2, 2, 2, 2]


def test_a_mode_stands_where_reading_begins(tokenizer: Tokenizer) -> None:
    marks = tokenizer.vocabulary
    mix, rows = Mix(marks, "1/2 causal, 1/2 backward:B"), page(tokenizer, 2)
    views = mix.ask(rows, Draws(1).of(rows), 0.0)
    (plain,), backward = Causal(marks).ask(rows, Draws(1).of(rows), 0.0), views[1]
    assert (views[0].shows == plain.shows[:1]).all(), "without a mode a text begins as it is"
    assert backward.shows[0, 0] == fixed(marks.modes[0]) and backward.slots.place[0, 0] == rows.length - 1


def test_members_ask_as_they_do_by_themselves(tokenizer: Tokenizer) -> None:
    marks, rows = tokenizer.vocabulary, page(tokenizer, 4)
    mix = Mix(marks, "1/2 masked rate=0.4, 1/2 causal")
    masked, causal = mix.ask(rows, Draws(1).of(rows), 0.3)
    (alone,) = Masked(marks, rate=0.4).ask(rows, Draws(1).of(rows), 0.3)
    assert masked.lines_of.tolist() == [0, 2] and causal.lines_of.tolist() == [1, 3]
    assert (masked.shows == alone.shows[[0, 2]]).all() and (masked.asks == alone.asks[[0, 2]]).all()
    assert mix.counts([masked, causal]) == {"mix": float(masked.ask_count + causal.ask_count)}


def test_the_score_is_that_of_the_chosen_member(tokenizer: Tokenizer) -> None:
    marks = tokenizer.vocabulary
    told = "1/2 masked, 1/4 backward, 1/4 causal"
    assert (Mix(marks, told).score_class, Mix(marks, told).writes_from) == ("exact", "right")
    assert (Mix(marks, told, by=0).score_class, Mix(marks, told, by=0).writes_from) == ("pseudo", "both")
    assert Mix(marks, told, by=2).columns == ("whole text", "continuation")
    assert Mix(marks, "ul2").columns == ("continuation", "infilling") and Mix(marks, "ul2").infills
    assert Mix(marks, "unilm").columns == ("whole text", "continuation")
    assert Mix(marks, "1/2 blank, 1/2 causal").position_tables == 2


def test_unilm_is_the_published_mixture(tokenizer: Tokenizer) -> None:
    """Dong et al. (2019): rows both ways, sequence to sequence, left to right, right to left; 15% asked at the mask."""
    mix, rows = Mix(tokenizer.vocabulary), page(tokenizer, 48)
    views = mix.ask(rows, Draws(1).of(rows), 0.0)
    assert [view.slots.lines for view in views] == [16, 16, 8, 8], "1/3, 1/3, 1/6, 1/6"
    place = np.arange(rows.length)
    left, masks = place[None] <= place[:, None], 0
    for number, view in enumerate(views):
        hidden = view.asks != NOTHING
        assert (view.asks[hidden] == view.slots.place[hidden]).all(), "each where it stands"
        opening = np.where(view.slots.segment == OPENING, place, 0).max(1)  # its last place
        sees = np.zeros((view.slots.lines, rows.length, rows.length), np.bool_)
        at = view.slots.place
        sees[np.arange(len(at))[:, None, None], at[:, :, None], at[:, None]] = matrix(view.sight, view.slots)
        if number == 1:
            assert (opening > 0).all() and len(set(opening)) > 8, "openings of all lengths"
            assert (sees == (left | (place <= opening[:, None, None]))).all()
        else:
            assert (sees == (np.ones_like(left), None, left, left.T)[number]).all()
        asked = rows.length - 2 if number == 0 else rows.length - 1 - (opening if number == 1 else 0)
        assert (np.abs(hidden.sum(1) - 0.15 * asked) <= 1).all()
        shows = view.shows[hidden]
        masks += (shows == fixed(tokenizer.mask)).sum()
    assert masks / sum((view.asks != NOTHING).sum() for view in views) == pytest.approx(0.8, abs=0.05)
    assert "rate=0.15 hide=gram" in RECIPES["unilm"] and RECIPES["unilm"].count("at_mask=0.15 hide=gram") == 3


def test_published_recipes() -> None:
    """Denoisers of Tay et al. (2022): mean span and rate; equal thirds of R, S and X."""
    assert "prefix:R denoise=0.15 span=3" in RECIPES["ul2"]
    weights = [Fraction(part.split()[0]) for part in RECIPES["ul2"].split(",")]
    assert sum(weights) == 1 and weights[0] + weights[1] == weights[2] == sum(weights[3:]) == Fraction(1, 3)


@pytest.mark.parametrize(
    ("members", "by", "says"),
    [
        ("1/2 causal, 1/3 masked", -1, "are 0.5 [+] 0.333333 = 0.833333"),
        ("3/2 causal, -1/2 masked", -1, "weights of the mixture"),
        ("causal", -1, "'causal' is no member of a mixture"),
        ("1/0 causal", -1, "is no member"),
        ("", -1, "is no member"),
        ("1 ngram", -1, "'ngram' cannot be mixed into one stack"),
        ("1 mix", -1, "'mix' cannot be mixed"),
        ("1 causal colour=red", -1, "'colour=red' is not a setting of causal"),
        ("1 masked rate=much", -1, "rate must be a number, not 'much'"),
        ("1 prefix both_ways=maybe", -1, "both_ways is true or false"),
        ("1/4 causal:A, 1/4 causal:B, 1/4 causal:C, 1/4 causal:D", -1, "a mixture of 4 modes needs 4 mode tokens"),
        ("1 causal", 1, "there is no member 1 among 1"),
    ],
)
def test_what_cannot_be_mixed_is_one_clear_line(tokenizer: Tokenizer, members: str, by: int, says: str) -> None:
    with pytest.raises(SightlineError, match=says) as caught:
        Mix(tokenizer.vocabulary, members, by)
    assert "\n" not in str(caught.value) and caught.value.do


def test_a_tokenizer_without_the_marks_is_one_clear_line(tokenizer: Tokenizer) -> None:
    bare = replace(tokenizer.vocabulary, modes=(), spares=(), mask=-1)
    with pytest.raises(SightlineError, match="no mask token"):
        Mix(bare)
    with pytest.raises(SightlineError, match="needs 1 spare token"):
        Mix(bare, "ul2")
    with pytest.raises(SightlineError, match="a mixture of 1 modes needs 1 mode token"):
        Mix(bare, "1 causal:A")


def test_spans_longer_than_a_row_are_one_clear_line(tokenizer: Tokenizer) -> None:
    rows = page(tokenizer, 12, 40)
    with pytest.raises(SightlineError, match="spans of 64 tokens do not fit rows of 40"):
        Mix(tokenizer.vocabulary, "ul2").ask(rows, Draws(1).of(rows), 0.0)


def test_a_mixture_without_one_that_infills_says_so(tokenizer: Tokenizer) -> None:
    words, rows = tokenizer.vocabulary, page(tokenizer, 2)
    mixture = Mix(words, members="1/2 causal, 1/2 masked")
    with pytest.raises(SightlineError, match="mix gives no likelihood of a blank"):
        next(iter(mixture.infill(rows)))
    with pytest.raises(SightlineError, match="causal gives no likelihood of a blank"):
        Causal(words).infill(rows)
