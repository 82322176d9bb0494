"""ELECTRA: what is asked, what is put in, who learns from what, and what it may not do."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from sightline.data import Draws, Rows, Tokenizer, train_tokenizer
from sightline.errors import SightlineError
from sightline.evaluation.bits import bits_per_byte
from sightline.evaluation.sample import evaluation_sample
from sightline.evaluation.understanding import vectors
from sightline.objectives.electra import GENERATOR, Electra
from sightline.objectives.filling import fill
from sightline.objectives.model import Model, built, narrowed
from sightline.objectives.writing import generate
from sightline.sight import NO_DOCUMENT, NOTHING
from sightline.stacks.head import Head
from sightline.stacks.shape import Shape

SAID = "The cat sat on the mat. The dog saw the cat. 猫坐在垫子上。 " * 8


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return train_tokenizer([SAID], "bpe", 480)


def made(tokenizer: Tokenizer, seed: int = 1, **fields: Any) -> Model:
    shape = Shape(layers=2, width=32, heads=4, vocabulary=tokenizer.padded, context=64)
    return built(Electra(tokenizer.vocabulary, **fields), shape, tokenizer, seed)


def rows_of(tokenizer: Tokenizer, count: int = 4, length: int = 40) -> Rows:
    """Rows of text, the last of them shorter than the others."""
    ids = tokenizer.encode(SAID)
    cut = [
        np.r_[tokenizer.bos, ids[at * 7 : at * 7 + length - 2 - 9 * (at == count - 1)], tokenizer.eos]
        for at in range(count)
    ]
    return Rows.of(cut, tokenizer)


def learnt(model: Model, rows: Rows, seed: int = 3) -> tuple[list[Any], dict[str, float], list[Any]]:
    """Views, counts and terms of a step."""
    draws = Draws(seed)
    views = model.objective.ask(rows, draws.of(rows), 0.0)
    return views, model.objective.counts(views), model.objective.learn(model, rows, views, draws.of(rows, stream=1))


def seen_by_the_judge(model: Model, rows: Rows, monkeypatch: pytest.MonkeyPatch, seed: int = 3) -> Any:
    """The judge's view as it is graded, with the generator's tokens in it."""
    seen = []
    grade = Model.grade
    monkeypatch.setattr(Model, "grade", lambda self, view, tokens: (seen.append(view), grade(self, view, tokens))[1])
    learnt(model, rows, seed)
    monkeypatch.undo()
    return seen[0]


def test_every_token_is_judged_and_a_share_is_proposed_for(tokenizer: Tokenizer) -> None:
    rows = rows_of(tokenizer)
    views, counts, terms = learnt(made(tokenizer), rows)
    question, judging = views
    text = ~tokenizer.vocabulary.is_special[rows.tokens]
    assert counts == {GENERATOR: np.rint(0.15 * text.sum(1)).sum(), "electra": (rows.documents >= 0).sum()}
    assert (judging.judged >= 0).tolist() == (rows.documents != NO_DOCUMENT).tolist()
    assert [(term.name, term.weight) for term in terms] == [(GENERATOR, 1.0), ("electra", 50.0)]
    assert (question.asks == NOTHING).sum() == rows.tokens.size - counts[GENERATOR]


def test_shares_over_many_rows(tokenizer: Tokenizer) -> None:
    """15% of the text asked for; of these 85% masks and 15% as they are, none random."""
    rows = rows_of(tokenizer, 1)
    many = replace(rows.take(np.zeros(600, int)), numbers=np.arange(600))
    question, _ = Electra(tokenizer.vocabulary).ask(many, Draws(0).of(many), 0.0)
    asked, masked = question.asks != NOTHING, question.shows < 0
    text = ~tokenizer.vocabulary.is_special[many.tokens]
    assert asked.sum() / text.sum() == pytest.approx(0.15, abs=0.02)
    assert (masked & asked).sum() / asked.sum() == pytest.approx(0.85, abs=0.02)
    shown = question.shown(many.tokens)
    assert (shown[masked] == tokenizer.mask).all() and (shown[~masked] == many.tokens[~masked]).all()


def test_labels_are_one_exactly_where_another_token_stands(
    tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows, model = rows_of(tokenizer), made(tokenizer)
    view = seen_by_the_judge(model, rows, monkeypatch)
    other = (view.shown(rows.tokens) != rows.tokens) & (rows.documents >= 0)
    assert other.any()
    assert (view.judged == np.where(rows.documents < 0, -1, other)).all()
    asked = model.objective.ask(rows, Draws(3).of(rows), 0.0)[0].asks != NOTHING
    assert not (other & ~asked).any()


def test_a_lucky_draw_counts_as_original(tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    rows, model = rows_of(tokenizer), made(tokenizer)
    right = iter(model.objective.ask(rows, Draws(3).of(rows), 0.0))
    answers = next(right).answers(rows.tokens)
    real = model.objective.ask(rows, Draws(3).of(rows), 0.0)[0].asked_slots[1]
    monkeypatch.setattr(Head, "drawn", lambda self, states, lots, warmth: torch.from_numpy(answers[real]))
    view = seen_by_the_judge(model, rows, monkeypatch)
    assert (view.judged <= 0).all() and (
        view.shown(rows.tokens)[rows.documents >= 0] == rows.tokens[rows.documents >= 0]
    ).all()


def test_draws_follow_the_generator_and_their_number(tokenizer: Tokenizer) -> None:
    """Drawn ids are distributed as the softmax says, at any temperature; barred ids never come."""
    head = made(tokenizer).generator.head  # type: ignore[union-attr]
    states = torch.randn(1, head.weight.shape[1], generator=torch.Generator().manual_seed(0)) * 20  # type: ignore[union-attr,index]
    lots = torch.rand(40_000, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    for warmth in (1.0, 0.5):
        ids = head.drawn(states.expand(len(lots), -1), lots, warmth)  # type: ignore[union-attr,operator]
        share = torch.bincount(ids, minlength=tokenizer.padded) / len(lots)
        expected = torch.softmax(head.logits(states)[0] / warmth, -1)  # type: ignore[union-attr,operator]
        assert (share - expected).abs().max() < 0.01
        assert not share[torch.from_numpy(tokenizer.unpredictable)].any()
    ends = head.drawn(states.expand(2, -1), torch.tensor([0.0, 1 - 2**-53], dtype=torch.float64))  # type: ignore[union-attr,operator]
    assert not np.isin(ends.numpy(), tokenizer.unpredictable).any()


def test_draws_ignore_the_batch_and_follow_the_visit(tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    rows, model = rows_of(tokenizer), made(tokenizer).eval()
    whole = seen_by_the_judge(model, rows, monkeypatch)
    for line in range(rows.count):
        alone = seen_by_the_judge(model, rows.take(slice(line, line + 1)), monkeypatch)
        assert (alone.shows[0] == whole.shows[line]).all()
    again = seen_by_the_judge(model, replace(rows, visits=rows.visits + 1), monkeypatch)
    assert (again.shows != whole.shows).any()


def test_the_judge_teaches_the_generator_nothing_but_its_tables(tokenizer: Tokenizer) -> None:
    model, rows = made(tokenizer), rows_of(tokenizer)
    _, _, terms = learnt(model, rows)
    terms[1].total.backward()
    generator = model.generator
    assert generator is not None
    taught = {name for name, weight in generator.named_parameters() if weight.grad is not None}
    assert taught == {"stack.embedding.weight"}
    assert generator.stack.embedding is model.stack.embedding
    model.zero_grad()
    learnt(model, rows)[2][0].total.backward()
    mine = {name for name, weight in model.named_parameters() if weight.grad is not None}
    assert mine == {"stack.embedding.weight", *(f"generator.{name}" for name, _ in generator.named_parameters())} - {
        "generator.stack.embedding.weight"
    }


def test_it_starts_at_the_base_rate_and_learns_to_tell(tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before training the judge knows no more than how often tokens are replaced; a page by heart it tells apart."""
    model, rows = made(tokenizer), rows_of(tokenizer)
    _, counts, terms = learnt(model, rows)
    assert float(terms[1].total.detach()) / counts["electra"] == pytest.approx(np.log(2), abs=0.05)
    optimizer = torch.optim.AdamW(model.stack.parameters(), lr=3e-3)
    optimizer.add_param_group({"params": model.head.parameters()})
    for _ in range(60):
        optimizer.zero_grad()
        learnt(model, rows)[2][1].total.backward()
        optimizer.step()
    view = seen_by_the_judge(model.eval(), rows, monkeypatch)
    with torch.no_grad():
        says = model.head.logits(model.states(view, rows.tokens)).numpy() > 0  # type: ignore[operator]
    real = view.judged >= 0
    assert (says == (view.judged == 1))[real].mean() > 0.99


@pytest.mark.parametrize(("share", "heads"), [(0.25, 1), (0.5, 2), (1.0, 4), (0.01, 1)])
def test_the_generator_is_as_deep_and_narrower(tokenizer: Tokenizer, share: float, heads: int) -> None:
    shape = Shape(layers=3, width=32, heads=4, vocabulary=64, context=64, kv_heads=2, hidden=96)
    small = narrowed(shape, share)
    assert (small.layers, small.heads, small.width, small.of_head) == (3, heads, heads * 8, 8)
    assert (small.feed, small.of_table) == (heads * 24, 32)
    model = built(Electra(tokenizer.vocabulary, share=share), replace(shape, vocabulary=tokenizer.padded), tokenizer)
    assert model.generator is not None and model.generator.stack.width == heads * 8
    twins = [name for name, _ in model.named_parameters(remove_duplicate=False) if name.endswith("embedding.weight")]
    assert (
        len(twins) == 2 and len({id(weight) for name, weight in model.named_parameters() if "embedding" in name}) == 1
    )


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"rate": 0.0}, "a mask rate of 0.0 asks nothing"),
        ({"rate": 1.0}, "a mask rate of 1.0 asks everything"),
        ({"share": 0.0}, "a generator of 0.0 of the judge's width"),
        ({"share": 1.5}, "a generator of 1.5 of the judge's width"),
        ({"weight": 0.0}, "a weight of 0.0 teaches nothing"),
        ({"temperature": 0.0}, "a temperature of 0.0 teaches nothing"),
        ({"kept": 1.5}, "kept 1.5"),
    ],
)
def test_settings_that_mean_nothing(tokenizer: Tokenizer, fields: dict[str, float], message: str) -> None:
    with pytest.raises(SightlineError, match=message):
        Electra(tokenizer.vocabulary, **fields)


def test_it_writes_and_scores_nothing_and_says_who_does(tokenizer: Tokenizer) -> None:
    model = made(tokenizer)
    for verb in (lambda one: generate(one, ["The cat"], length=3), lambda one: fill(one, ["The ___ sat."])):
        with pytest.raises(SightlineError, match=r"electra judges tokens and writes none.*generator/"):
            verb(model)
        assert verb(model.generator)[0].text.startswith("The")  # type: ignore[no-untyped-call]
    from sightline.data import Document

    sample = evaluation_sample([Document("one", SAID)], tokenizer)
    measured = bits_per_byte(model, sample)
    assert measured.value is None and measured.missing == "electra gives no probability of tokens"
    assert bits_per_byte(model.generator, sample).class_ == "pseudo"  # type: ignore[arg-type]


def test_its_vectors_are_the_judges(tokenizer: Tokenizer) -> None:
    model = made(tokenizer)
    layers = vectors(model, ["The cat sat.", "猫坐在垫子上。"])
    assert len(layers) == 3 and all(one.shape == (2, 32) for one in layers)


def test_without_a_generator_it_cannot_learn(tokenizer: Tokenizer) -> None:
    model = made(tokenizer)
    model.generator = None
    with pytest.raises(SightlineError, match="no generator"):
        learnt(model, rows_of(tokenizer))
