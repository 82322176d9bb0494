"""CBOW: its views, its class, the checks of a stack that learns by torch, blanks, and text in Chinese."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "conformance"))
from checks import (
    WORDS,
    Subject,
    accumulates_without_change,
    asks_everything_once,
    does_not_leak,
    gives_the_same_loss_for_the_same_seed,
    moves_only_what_it_may,
    packed,
    scores_as_declared,
    single,
)

from sightline.data import Draws, Rows, train_tokenizer
from sightline.objectives.base import text_places
from sightline.objectives.cbow import CBOW
from sightline.objectives.filling import fill
from sightline.objectives.lexicon import Lexicon
from sightline.objectives.model import built
from sightline.sight import Depth, leaks, matrix
from sightline.stacks.shape import Shape

TREE = Subject(lambda vocabulary: CBOW(vocabulary, loss="hierarchical"))
NOISE = Subject(CBOW)


@pytest.mark.parametrize(
    "check",
    [does_not_leak, moves_only_what_it_may, asks_everything_once, scores_as_declared,
     gives_the_same_loss_for_the_same_seed, accumulates_without_change],
    ids=lambda check: check.__name__,
)  # fmt: skip
@pytest.mark.parametrize("subject", [TREE, NOISE], ids=["hierarchical", "negative"])
def test_it_passes_what_a_stack_with_gradients_must(subject: Subject, check: object) -> None:
    assert callable(check)
    check(subject)


def test_a_residual_stream_would_leak() -> None:
    """In a stack whose slots keep their own input, or look twice, the word asked for comes back: the check knows."""
    [view] = CBOW(WORDS).ask(single(), Draws(1).of(single()), 0.0)
    assert not leaks(view, Depth(1, keeps_input=False))
    assert leaks(view, Depth(1, keeps_input=True))
    assert leaks(view, Depth(2, keeps_input=False))


def test_windows_are_drawn_from_one_to_the_widest() -> None:
    rows = packed(40)
    family = CBOW(WORDS, window=3)
    [view] = family.ask(rows, Draws(3).of(rows), 0.0)
    words = text_places(rows, WORDS)
    truth = matrix(view.whole_sight, view.slots) & words[:, :, None] & words[:, None, :]
    apart = np.abs(np.arange(rows.length)[:, None] - np.arange(rows.length))
    assert not truth[:, apart == 0].any()
    assert not truth[:, apart > 3].any()
    inside = (rows.documents[:, :, None] == rows.documents[:, None, :]) & words[:, :, None] & words[:, None, :]
    share = {far: truth[:, apart == far][inside[:, apart == far]].mean() for far in (1, 2, 3)}
    assert share[1] == 1
    assert share[2] == pytest.approx(2 / 3, abs=0.1)
    assert share[3] == pytest.approx(1 / 3, abs=0.1)
    [wide] = CBOW(WORDS, window=3, shrink=False).ask(rows, Draws(3).of(rows), 0.0)
    every = matrix(wide.whole_sight, wide.slots) & words[:, :, None] & words[:, None, :]
    assert every[:, apart == 3][inside[:, apart == 3]].all()


def test_a_mark_has_no_vector_and_counts_for_nothing() -> None:
    model = NOISE.model()
    rows = single(count=1)
    one, other = (rows.tokens.copy() for _ in range(2))
    one[0, 5], other[0, 5] = WORDS.mask, WORDS.bos
    view = model.objective.read(rows)
    assert torch.equal(model.states(view, one), model.states(view, other))
    assert not torch.equal(model.states(view, one), model.states(view, rows.tokens))
    alone = np.full_like(one, WORDS.mask)
    assert bool((model.states(view, alone) == 0).all())


def test_the_class_hangs_on_the_loss() -> None:
    assert CBOW(WORDS).score_class == "discriminative"
    assert CBOW(WORDS, loss="hierarchical").score_class == "pseudo"


@pytest.mark.parametrize("loss", ["negative", "hierarchical"])
def test_a_page_is_learned_by_heart_and_its_blanks_filled(loss: str) -> None:
    """Chinese text, character by character, over and over: each is known by those around it."""
    text = "春天来了河水慢慢地涨起来孩子们在岸边放风筝老人坐在树下讲着从前的故事"
    tokenizer = train_tokenizer([text], "word")
    how = {"window": 2, "shrink": False, "sample": 0.0, "update": "exact", "rate": 0.5}
    family = CBOW(tokenizer.vocabulary, loss=loss, **how)  # type: ignore[arg-type]
    model = built(family, Shape(1, 48, 1, tokenizer.padded, 64), tokenizer)
    marks = tokenizer.vocabulary
    ids = np.array([marks.bos, *tokenizer.encode(text), marks.eos])
    before = after = 0.0

    def watch(part: int, lesson: object) -> None:
        nonlocal before, after
        before, after = before or lesson.nats, lesson.nats  # type: ignore[attr-defined]

    model.stack.fit(ids, None, passes=400, parts=50, watch=watch)  # type: ignore[operator]
    assert after < 0.25 * before
    model.eval()
    with torch.no_grad():
        [filled] = fill(model, ["河水慢___地涨起来"])
    assert filled.text.replace(" ", "") == "河水慢慢地涨起来"


def test_a_lexicon_holds_the_words_of_the_text_alone() -> None:
    tokenizer = train_tokenizer(["one two three four five"], "word")
    model = built(CBOW(tokenizer.vocabulary), Shape(1, 8, 1, tokenizer.padded, 16), tokenizer)
    model.stack.fit(tokenizer.encode("one two one two three"), np.array([0]))  # type: ignore[operator]
    assert Lexicon.of(model).words[:2] in (("one", "two"), ("two", "one"))
    assert set(Lexicon.of(model).words) == {"one", "two", "three"}


def test_words_it_never_saw_still_have_a_chance() -> None:
    """A tree holds every word of the vocabulary, so that no text has a score of infinity."""
    tokenizer = train_tokenizer(["one two three four five six seven"], "word")
    model = built(CBOW(tokenizer.vocabulary, loss="hierarchical"), Shape(1, 8, 1, tokenizer.padded, 16), tokenizer)
    model.stack.fit(tokenizer.encode("one two one two"), np.array([0]))  # type: ignore[operator]
    rows = Rows.of([tokenizer.encode("one seven two"), tokenizer.encode("six")], tokenizer)
    nats, asked = model.examined(rows)
    assert asked.tolist() == [3, 1]
    assert np.isfinite(nats).all()
    assert (nats > 0).all()
