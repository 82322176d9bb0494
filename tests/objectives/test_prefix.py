"""Prefix: what an opening sees, what is hidden where, and that one pass is UniLM's appending of masks."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from sightline.data import Draws, Rows, Tokenizer, train_tokenizer
from sightline.errors import SightlineError
from sightline.objectives import Causal, Objective, Prefix
from sightline.objectives.model import Model, built
from sightline.sight import NOTHING, fixed
from sightline.stacks.shape import Shape


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return train_tokenizer(["a page of text 一页文字"], "byte")


def made(objective: Objective, tokenizer: Tokenizer) -> Model:
    model = built(objective, Shape(2, 32, 4, tokenizer.padded, 96, rope_base=100.0), tokenizer, seed=1)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        torch.nn.init.normal_(model.head.weight, std=0.3)
    return model.eval()


def page(tokenizer: Tokenizer, count: int, length: int = 60) -> Rows:
    marks = tokenizer.vocabulary
    words = np.random.default_rng(1).integers(110, tokenizer.size, (count, length - 2))
    return Rows.of([[marks.bos, *line, marks.eos] for line in words], tokenizer)


def states(model: Model, rows: Rows, split: int) -> torch.Tensor:
    view = model.objective._view(rows, np.full(rows.tokens.shape, split), asking=True)  # type: ignore[attr-defined]
    return model.states(view, rows.tokens).detach()


def test_the_last_token_of_the_opening_is_seen_by_its_first(tokenizer: Tokenizer) -> None:
    rows = page(tokenizer, 1)
    other = page(tokenizer, 1)
    other.tokens[0, 9] += 1
    for both_ways in (True, False):
        model = made(Prefix(tokenizer.vocabulary, both_ways=both_ways), tokenizer)
        before, after = (states(model, one, 10) for one in (rows, other))
        assert torch.equal(before[0, 0], after[0, 0]) != both_ways
        rest = page(tokenizer, 1)
        rest.tokens[0, 10:] += 1
        assert torch.equal(states(model, rest, 10)[0, :10], before[0, :10]), "an opening never sees the rest"


def test_an_opening_without_sight_forward_is_causal(tokenizer: Tokenizer) -> None:
    rows = page(tokenizer, 2)
    one = made(Prefix(tokenizer.vocabulary, both_ways=False), tokenizer)
    two = made(Causal(tokenizer.vocabulary), tokenizer)
    assert torch.equal(states(one, rows, 20), two.states(two.objective.read(rows), rows.tokens))


def test_asked_at_the_mask_one_pass_is_appending_masks(tokenizer: Tokenizer) -> None:
    """UniLM writes by appending a mask, reading it and replacing it: the second stream scores just that."""
    objective = Prefix(tokenizer.vocabulary, at_mask=0.15)
    model = made(objective, tokenizer)
    rows = page(tokenizer, 1, 14)
    wanted = np.arange(14)[None] >= 6
    asked = Rows.of([rows.tokens[0]], tokenizer, wanted=list(wanted))
    nats, count = model.examined(asked)
    total = 0.0
    for place in range(6, 14):
        shown = rows.tokens.copy()
        shown[0, place] = tokenizer.vocabulary.mask
        view = objective._view(rows, np.full((1, 14), 6), asking=False)
        state = model.states(view, shown)[0, place]
        total -= float(model.head.logits(state[None]).log_softmax(-1)[0, rows.tokens[0, place]].detach())
    assert count[0] == 8
    assert nats[0] == pytest.approx(total, rel=1e-5)


def test_a_share_of_the_rest_is_hidden_and_its_end_too(tokenizer: Tokenizer) -> None:
    marks, rows = tokenizer.vocabulary, page(tokenizer, 300)
    (view,) = Prefix(marks, at_mask=0.3, empty=0.2).ask(rows, Draws(1).of(rows), 0.0)
    hidden = view.asks != NOTHING
    rest = (view.slots.segment == 1) & (view.slots.place > 0)
    assert not (hidden & ~rest).any(), "the opening is never asked"
    assert (hidden.sum(1) == np.ceil(0.3 * rest.sum(1))).all()
    assert abs(hidden[:, -1].mean() - 0.3) < 0.1, "stopping is learned"
    shows = view.shows[hidden]
    masked, kept = (shows == fixed(marks.mask)).mean(), (shows >= 0).mean()
    assert abs(masked - 0.8) < 0.03 and abs(kept - 0.1) < 0.03
    assert view.declared is not None and view.declared.sum() == (shows >= 0).sum()


def test_the_rest_is_as_long_as_was_asked_for(tokenizer: Tokenizer) -> None:
    rows = page(tokenizer, 400)
    for mean in (0.25, 0.5):
        (view,) = Prefix(tokenizer.vocabulary, empty=0, rest=mean).ask(rows, Draws(1).of(rows), 0.0)
        share = (view.slots.segment == 1).mean(1)
        assert abs(share.mean() - mean) < 0.03 and share.max() <= 2 * mean


def test_sentinels_pair_spans_with_their_places(tokenizer: Tokenizer) -> None:
    marks, rows = tokenizer.vocabulary, page(tokenizer, 20)
    (view,) = Prefix(marks, denoise=0.3).ask(rows, Draws(1).of(rows), 0.0)
    for line in range(20):
        shown, first = view.shows[line], view.slots.segment[line] == 0
        opening, rest = shown[first].tolist(), shown[~first]
        sentinels = [code for code in opening if code < 0]
        assert sentinels == [fixed(spare) for spare in marks.spares[: len(sentinels)]]
        assert [code for code in rest.tolist() if code < NOTHING] == sentinels
        ends = [code for code in view.asks[line].tolist() if code < NOTHING]
        assert ends == [*sentinels[1:], fixed(marks.eos)]
        place = dict(zip(sentinels, view.slots.place[line][first][np.array(opening) < 0], strict=True))
        for code in sentinels:
            at = int(np.flatnonzero(~first & (shown == code))[0])
            assert view.asks[line, at] == place[code]


def refused(tokenizer: Tokenizer, rows: Rows, says: str, **fields: Any) -> None:
    with pytest.raises(SightlineError, match=says):
        Prefix(tokenizer.vocabulary, **fields).ask(rows, Draws(1).of(rows), 0.0)


def test_more_spans_than_sentinels_and_longer_than_rows_are_clear_errors(tokenizer: Tokenizer) -> None:
    refused(tokenizer, page(tokenizer, 1, 40), "spans of 64 tokens do not fit rows of 40", denoise=0.5, span=64)
    refused(
        tokenizer, page(tokenizer, 1, 400), "needs 134 spare tokens, and the tokenizer has 100", denoise=0.5, span=1.5
    )
