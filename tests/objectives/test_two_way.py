"""Both directions: each half is the one-way model that it claims to be, and together they see everything."""

from __future__ import annotations

from dataclasses import replace
from typing import get_args

import numpy as np
import pytest
import torch

from sightline.data import Draws, Rows, Tokenizer, train_tokenizer
from sightline.errors import SightlineError
from sightline.evaluation.bits import bits_per_byte, continuation_bits_per_byte, whole_texts
from sightline.evaluation.sample import Piece, Sample, with_marks
from sightline.evaluation.understanding import states_by_place, vectors
from sightline.objectives import Backward, Causal, TwoWay
from sightline.objectives.model import Model, built
from sightline.objectives.two_way import Body
from sightline.stacks.pair import Body as Built
from sightline.stacks.shape import Shape

TEXTS = ["The river rose, and the town watched it.", "水涨船高。", "A boat passed."]
BODIES = get_args(Body)


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return train_tokenizer(TEXTS, "byte")


def made(tokenizer: Tokenizer, body: Body, layers: int = 4) -> Model:
    shape = Shape(layers, 32, 4, tokenizer.padded, 64, rope_base=100.0)
    model = built(TwoWay(tokenizer.vocabulary, body), shape, tokenizer, seed=2)
    with torch.no_grad():
        torch.nn.init.normal_(model.head.weight, std=0.5)  # type: ignore[arg-type]
    return model.eval()


def rows_of(tokenizer: Tokenizer) -> Rows:
    return Rows.of([with_marks(tokenizer.encode(text), tokenizer) for text in TEXTS], tokenizer)


def test_the_stack_is_made_of_what_the_family_names() -> None:
    assert get_args(Body) == get_args(Built)


@pytest.mark.parametrize("body", BODIES)
def test_each_half_is_a_model_of_its_own_and_the_score_is_their_mean(tokenizer: Tokenizer, body: Body) -> None:
    model, rows = made(tokenizer, body), rows_of(tokenizer)
    first, second = model.halves
    nats = model.examined(rows)[0]
    one, two = first.examined(rows)[0], second.examined(rows)[0]
    assert np.allclose(nats, (one + two) / 2, rtol=1e-6)
    assert (np.abs(one - two) > 1e-3).all()
    views = model.objective.ask(rows, Draws(1).of(rows), 0.0)
    (term,) = model.objective.learn(model, rows, views, Draws(1).of(rows, stream=1))
    loss = float(term.total.detach()) / model.objective.counts(views)[term.name]
    counts = [sum(half.objective.counts(list(half.objective.examine(rows))).values()) for half in model.halves]
    assert counts[0] == counts[1]
    assert loss == pytest.approx(float(one.sum() / counts[0] + two.sum() / counts[1]) / 2, rel=1e-5)


def test_the_first_half_is_the_causal_model_of_its_weights(tokenizer: Tokenizer) -> None:
    model, rows = made(tokenizer, "transformer"), rows_of(tokenizer)
    lone = built(Causal(tokenizer.vocabulary), Shape(2, 32, 4, tokenizer.padded, 64, rope_base=100.0), tokenizer)
    lone.stack.load_state_dict(  # type: ignore[union-attr]
        {"embedding.weight": model.stack.embedding.weight} | dict(model.stack.halves[0].state_dict())  # type: ignore[union-attr,index,operator]
    )
    lone.head.load_state_dict(model.head.state_dict())
    assert np.allclose(model.halves[0].examined(rows)[0], lone.examined(rows)[0], atol=1e-5)
    lone.objective = Backward(tokenizer.vocabulary)
    lone.stack.load_state_dict(  # type: ignore[union-attr]
        {"embedding.weight": model.stack.embedding.weight} | dict(model.stack.halves[1].state_dict())  # type: ignore[union-attr,index,operator]
    )
    assert np.allclose(model.halves[1].examined(rows)[0], lone.examined(rows)[0], atol=1e-5)


@pytest.mark.parametrize("body", BODIES)
def test_states_at_a_place_stand_side_by_side_and_have_read_it(tokenizer: Tokenizer, body: Body) -> None:
    model, rows = made(tokenizer, body), rows_of(tokenizer)
    layers, text = states_by_place(model, rows)
    assert [layer.shape for layer in layers] == [(3, rows.length, 64)] * 3
    assert (text == (rows.documents >= 0) & (rows.tokens != tokenizer.bos) & (rows.tokens != tokenizer.eos)).all()
    real = torch.from_numpy(rows.documents >= 0)
    assert torch.allclose(layers[0][..., :32][real], layers[0][..., 32:][real])  # a token's vector, twice
    changed = rows.tokens.copy()
    changed[0, 9] = (changed[0, 9] + 1) % 200
    other, _ = states_by_place(model, replace(rows, tokens=changed))
    moved = (layers[-1][..., :32] != other[-1][..., :32]).any(-1)[0].numpy()
    assert moved[9:40].all() and not moved[:9].any()
    moved = (layers[-1][..., 32:] != other[-1][..., 32:]).any(-1)[0].numpy()
    assert moved[:10].all() and not moved[10:].any()


@pytest.mark.parametrize("body", BODIES)
def test_a_text_gets_the_same_vector_in_any_company(tokenizer: Tokenizer, body: Body) -> None:
    """No state is carried from call to call, as it was in the original's code."""
    model = made(tokenizer, body)
    together, alone = vectors(model, TEXTS), [vectors(model, [text]) for text in TEXTS]
    assert len(together) == 3 and together[0].shape == (3, 64)
    for at, one in enumerate(alone):
        assert all(np.allclose(many[at], single[0], atol=1e-5) for many, single in zip(together, one, strict=True))


@pytest.mark.parametrize("body", ["transformer", "lstm"])
def test_scores_are_two_exact_ones_and_their_mean_as_a_bound(tokenizer: Tokenizer, body: Body) -> None:
    model = made(tokenizer, body)
    tokens = tuple(with_marks(tokenizer.encode(text * 3), tokenizer) for text in TEXTS)  # longer than the context
    lengths = np.array([len(piece) for piece in tokenizer.pieces])
    weights = tuple(lengths[ids] for ids in tokens)
    pieces = tuple(Piece(at, 0, len(ids), int(weights[at].sum())) for at, ids in enumerate(tokens))
    sample = Sample(tokens, weights, pieces, False, 1.0, 0, "")
    mean, left, right = whole_texts(model, sample)
    assert [one.class_ for one in (mean, left, right)] == ["bound", "exact", "exact"]
    assert [one.name for one in (mean, left, right)] == [
        "bits_per_byte",
        "causal_bits_per_byte",
        "backward_bits_per_byte",
    ]
    assert {one.column for one in (mean, left, right)} == {"whole text"}
    assert mean.value == pytest.approx((left.value + right.value) / 2)  # type: ignore[operator]
    mixture = np.logaddexp2(-left.top, -right.top) - 1  # log2 of the even mixture of the two
    assert (mean.top >= -mixture - 1e-9).all()
    assert (bits_per_byte(model, sample).top == mean.top).all()
    rest = continuation_bits_per_byte(model, sample)
    assert rest.class_ == "exact" and "before it" in rest.context_rule
    assert not model.training


@pytest.mark.parametrize("body", ["transformer", "lstm"])
def test_it_learns_what_is_only_told_from_the_right(tokenizer: Tokenizer, body: Body) -> None:
    """Texts whose first letter depends on the last: the left half cannot know it, the right half can."""
    model = made(tokenizer, body, layers=2)
    model.train()
    texts = [f"{'a' if last == 'y' else 'b'}{middle}{last}" for last in "yz" for middle in ("mn", "no", "om")]
    rows = Rows.of([with_marks(tokenizer.encode(text), tokenizer) for text in texts], tokenizer)
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    for step in range(80):
        views = model.objective.ask(rows, Draws(step).of(rows), 0.0)
        (term,) = model.objective.learn(model, rows, views, Draws(step).of(rows, stream=1))
        optimizer.zero_grad()
        (term.total / model.objective.counts(views)[term.name]).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    model.eval()
    wanted = np.zeros((6, 6), bool)
    wanted[:, 1] = True
    asked = Rows.of(list(rows.tokens), tokenizer, wanted=list(wanted))
    left, right = (half.examined(asked)[0].mean() for half in model.halves)
    assert right < 0.1 < 0.6 < left


def test_a_body_that_does_not_fit_is_one_clear_line(tokenizer: Tokenizer) -> None:
    with pytest.raises(SightlineError, match="no body 'gru'"):
        TwoWay(tokenizer.vocabulary, "gru")  # type: ignore[arg-type]
    pair = made(tokenizer, "lstm")
    with pytest.raises(SightlineError, match="asked of two halves of transformer, but the model has halves of lstm"):
        Model(TwoWay(tokenizer.vocabulary), pair.stack, pair.head, tokenizer)
    lone = built(Causal(tokenizer.vocabulary), Shape(2, 32, 4, tokenizer.padded, 64), tokenizer)
    with pytest.raises(SightlineError, match="the model has one stack"):
        Model(TwoWay(tokenizer.vocabulary), lone.stack, lone.head, tokenizer)
