"""Masked: what is hidden, how much of it, anew at each visit; and how a word of several tokens is scored."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from sightline.data import Draws, Rows, Tokenizer, train_tokenizer
from sightline.data.segmenter import word_begins
from sightline.errors import SightlineError
from sightline.objectives.masked import Masked
from sightline.objectives.model import built
from sightline.sight import NOTHING
from sightline.stacks.shape import Shape

SAID = "The lighthouse keepers remembered every winter storm. 北京大学的学生在图书馆里读书。 " * 6
HAN = "北京大学的学生在图书馆里读书，他们喜欢自然语言处理。"


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return train_tokenizer([SAID], "bpe", 460)


@pytest.fixture(scope="module")
def letters() -> Tokenizer:
    """A token for each character, so that words have several."""
    return train_tokenizer([SAID + HAN], "char")


def rows_of(tokenizer: Tokenizer, text: str = SAID, copies: int = 1) -> Rows:
    """The text as one row, as many times; each copy has its number."""
    row = Rows.of([np.r_[tokenizer.bos, tokenizer.encode(text), tokenizer.eos]], tokenizer)
    return replace(row.take(np.zeros(copies, int)), numbers=np.arange(copies))


def asked(objective: Masked, rows: Rows, progress: float = 0.0, seed: int = 5) -> np.ndarray:
    (view,) = objective.ask(rows, Draws(seed).of(rows), progress)
    return view.asks != NOTHING


def groups(starts: np.ndarray, hidden: np.ndarray) -> list[np.ndarray]:
    """What is hidden of each group of a row."""
    cuts = [*np.flatnonzero(starts), len(starts)]
    return [hidden[a:b] for a, b in pairwise(cuts)]


def test_each_visit_hides_anew_and_a_visit_repeats_itself(tokenizer: Tokenizer) -> None:
    rows, objective = rows_of(tokenizer), Masked(tokenizer.vocabulary)
    first, again, next_time = (asked(objective, replace(rows, visits=np.array([n]))) for n in (0, 0, 1))
    assert (first == again).all() and (first != next_time).any()


def test_bert_s_mixture(tokenizer: Tokenizer) -> None:
    """15% of the text; of it 80% masks, 10% random words, 10% as they are; no mark is hidden or drawn."""
    rows = rows_of(tokenizer, copies=400)
    (view,) = Masked(tokenizer.vocabulary, rate=0.15).ask(rows, Draws(1).of(rows), 0.0)
    hidden, shown = view.asks != NOTHING, view.shown(rows.tokens)
    special = tokenizer.vocabulary.is_special
    assert hidden.sum() / (~special[rows.tokens]).sum() == pytest.approx(0.15, abs=0.006)  # in whole tokens of each row
    assert not hidden[special[rows.tokens]].any()
    mask = shown[hidden] == tokenizer.mask
    kept = view.shows[hidden] >= 0
    assert [mask.mean(), kept.mean()] == pytest.approx([0.8, 0.1], abs=0.02)
    assert not special[shown[hidden & (view.shows < 0) & (shown != tokenizer.mask)]].any()
    assert (shown[~hidden] == rows.tokens[~hidden]).all()


@pytest.mark.parametrize("text", [SAID, HAN * 4])
def test_a_word_is_hidden_whole_or_not_at_all(letters: Tokenizer, text: str) -> None:
    rows = rows_of(letters, text, copies=20)
    hidden = asked(Masked(letters.vocabulary, hide="word"), rows)
    for starts, line in zip(rows.word_starts, hidden, strict=True):
        assert all(part.all() or not part.any() for part in groups(starts, line))
    most = max(len(part) for part in groups(rows.word_starts[0], hidden.any(0)) if part.any())
    assert most > 5 if text == SAID else most == 1  # a Chinese character is a word


def test_chinese_words_by_a_segmenter(letters: Tokenizer, peer: Callable[[str], ModuleType]) -> None:
    words = peer("rjieba").cut(HAN)
    assert "图书馆" in words
    rows = rows_of(letters, HAN, copies=60)
    starts = rows.segmented_starts[0]
    ids = rows.tokens[0]
    cuts = [*np.flatnonzero(starts), len(ids)]
    assert [letters.decode(ids[a:b]) for a, b in pairwise(cuts)][1:-1] == words
    hidden = asked(Masked(letters.vocabulary, hide="word", segmented=True), rows)
    assert all(part.all() or not part.any() for line in hidden for part in groups(starts, line))
    one_by_one = asked(Masked(letters.vocabulary, hide="word"), rows)
    assert not all(part.all() or not part.any() for line in one_by_one for part in groups(starts, line))


def test_english_words_stay_what_they_are_under_a_segmenter(
    tokenizer: Tokenizer, peer: Callable[[str], ModuleType]
) -> None:
    peer("rjieba")
    for kind in ("byte", "char", "wordpiece"):
        other = train_tokenizer([SAID], kind, 460 if kind == "wordpiece" else None)  # type: ignore[arg-type]
        rows = rows_of(other, "The keepers' storm, remembered in winter: 图书馆.")
        before, after = rows.word_starts[0], rows.segmented_starts[0]
        gone = [other.decode(rows.tokens[0, at : at + 1]) for at in np.flatnonzero(before & ~after)]
        assert not (after & ~before).any() and len(gone) == 2  # of the three characters of 图书馆, the last two


def test_a_segmenter_takes_characters_that_are_cut_apart(peer: Callable[[str], ModuleType]) -> None:
    peer("rjieba")
    text = HAN.encode()[1:-2]
    begins = word_begins(text)
    assert len(begins) == len(text) + 1 and begins[0] and begins[-1]
    whole = word_begins(HAN.encode())
    assert (begins[6:60] == whole[7:61]).all()


def test_without_a_segmenter_it_says_what_to_install(tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "rjieba", None)
    objective = Masked(tokenizer.vocabulary, hide="word", segmented=True)
    with pytest.raises(SightlineError, match=r"rjieba is not installed.*pip install 'sightline\[chinese\]'"):
        asked(objective, rows_of(tokenizer, HAN))
    assert asked(replace(objective, segmented=False), rows_of(tokenizer, HAN)).any()


def test_spans_are_geometric_clipped_and_of_whole_words(tokenizer: Tokenizer) -> None:
    """SpanBERT's: a mean of 3.8 words from p = 0.2 up to 10; the lengths of all spans follow that."""
    objective = Masked(tokenizer.vocabulary, hide="span")
    rows = rows_of(tokenizer, copies=600)
    words = rows.word_starts
    found = objective._groups(rows, Draws(2).of(rows))
    lengths = []
    for line, starts in zip(found, words, strict=True):
        first = np.flatnonzero(np.r_[True, line[1:] != line[:-1]])
        assert starts[first].all()
        lengths += [starts[a:b].sum() for a, b in pairwise(first)][:8]  # the row's end cuts the last one short
    share = np.bincount(lengths, minlength=11)[1:] / len(lengths)
    expected = 0.2 * 0.8 ** np.arange(10) / (1 - 0.8**10)
    assert share == pytest.approx(expected, abs=0.015)
    assert np.mean(lengths) == pytest.approx(3.797, abs=0.08)
    assert max(lengths) == 10
    hidden = asked(objective, rows)
    quota = np.rint(0.3 * (~tokenizer.vocabulary.is_special[rows.tokens]).sum(1))
    assert (hidden.sum(1) == quota).all()


@pytest.mark.parametrize(
    ("fields", "at"),
    [
        ({}, [0.3, 0.3, 0.3, 0.3]),
        ({"rate_end": 0.1}, [0.3, 0.25, 0.2, 0.1]),
        ({"rate_end": 0.1, "course": "cosine"}, [0.3, 0.1 + 0.1 * (1 + 0.5**0.5), 0.2, 0.1]),
        ({"rate_end": 0.1, "course": "half"}, [0.3, 0.3, 0.1, 0.1]),
    ],
)
def test_the_rate_s_course(tokenizer: Tokenizer, fields: dict[str, Any], at: list[float]) -> None:
    objective = Masked(tokenizer.vocabulary, **fields)
    assert [objective.rate_at(progress) for progress in (0.0, 0.25, 0.5, 1.0)] == pytest.approx(at)
    rows = rows_of(tokenizer, copies=3)
    shapes = {objective.ask(rows, Draws(0).of(rows), progress)[0].most_asks for progress in (0.0, 0.5, 1.0)}
    assert len(shapes) == 1  # one shape over the whole run


def test_each_row_may_draw_its_own_rate(tokenizer: Tokenizer) -> None:
    rows = rows_of(tokenizer, copies=400)
    objective = Masked(tokenizer.vocabulary, rate=0.1, rate_high=0.7)
    share = asked(objective, rows).sum(1) / (~tokenizer.vocabulary.is_special[rows.tokens]).sum(1)
    assert share.min() == pytest.approx(0.1, abs=0.02) and share.max() == pytest.approx(0.7, abs=0.02)
    assert np.histogram(share, 3, (0.1, 0.7))[0] / 400 == pytest.approx([1 / 3] * 3, abs=0.07)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"rate": 0.0}, "a mask rate of 0.0 asks nothing. Choose a share between 0 and 1"),
        ({"rate": 1.0}, "a mask rate of 1.0 asks everything and shows nothing"),
        ({"rate_end": 1.0}, "a mask rate_end of 1.0 asks everything"),
        ({"rate_high": 0.0}, "a mask rate_high of 0.0 asks nothing"),
        ({"rate_high": 0.2}, "need an upper end"),
        ({"rate_high": 0.5, "rate_end": 0.1}, "do not move as well"),
        ({"random": 0.6, "kept": 0.6}, "Keep their sum within 1"),
        ({"span": 0.5}, "shorter than a word"),
        ({"longest": 0}, "shorter than a word"),
    ],
)
def test_settings_that_mean_nothing(tokenizer: Tokenizer, fields: dict[str, Any], message: str) -> None:
    with pytest.raises(SightlineError, match=message):
        Masked(tokenizer.vocabulary, **fields)


def test_a_token_is_scored_without_the_later_pieces_of_its_word(tokenizer: Tokenizer) -> None:
    """PLL-word-l2r, by hand: for each token a text with it and what follows it in its word hidden."""
    rows = rows_of(tokenizer, "The zebra sat. 葡萄")
    ids, starts = rows.tokens[0], rows.word_starts[0]
    word = np.cumsum(starts)
    assert np.bincount(word).max() > 2
    shape = Shape(2, 32, 4, tokenizer.padded, 64)
    totals = {}
    for within in ("word", "token"):
        model = built(Masked(tokenizer.vocabulary, within=within), shape, tokenizer, seed=2).eval()  # type: ignore[arg-type]
        torch.nn.init.normal_(model.head.weight, generator=torch.Generator().manual_seed(4))  # answers that differ
        by_hand = 0.0
        for at in np.flatnonzero(~tokenizer.vocabulary.is_special[ids]):
            later = (word == word[at]) & (np.arange(len(ids)) >= at) if within == "word" else np.arange(len(ids)) == at
            text = Rows.of([np.where(later, tokenizer.mask, ids)], tokenizer)
            with torch.no_grad():
                states = model.states(model.objective.read(text), text.tokens)
                by_hand -= float(model.head.logits(states)[0, at].log_softmax(-1)[ids[at]])  # type: ignore[operator]
        totals[within] = float(model.examined(rows)[0][0])
        assert totals[within] == pytest.approx(by_hand, abs=5e-3)
    assert totals["word"] != pytest.approx(totals["token"], abs=0.05)


def test_unilm_s_draws_are_of_one_token_or_of_two_or_three_in_a_row(tokenizer: Tokenizer) -> None:
    """Dong et al. (2019): 80% of the draws hide one token, 20% two or three in a row."""
    objective, rows = Masked(tokenizer.vocabulary, hide="gram", rate=0.15), rows_of(tokenizer, copies=600)
    found = objective._groups(rows, Draws(2).of(rows))
    lengths = [length for line in found for length in np.diff(np.flatnonzero(np.diff(line, prepend=-1)))]
    assert np.bincount(lengths)[1:] / len(lengths) == pytest.approx([0.8, 0.1, 0.1], abs=0.01)
    hidden, alone = asked(objective, rows), asked(replace(objective, hide="token"), rows)
    assert (hidden.sum(1) == alone.sum(1)).all(), "as many, whatever is drawn"
    assert (hidden[:, 1:] & hidden[:, :-1]).sum() > 1.5 * (alone[:, 1:] & alone[:, :-1]).sum()
