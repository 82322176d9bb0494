"""Scores of continuations: each family by its own rule, alike however they are batched, and refused where senseless."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from sightline.data import Rows, Tokenizer
from sightline.errors import SightlineError
from sightline.evaluation.answers import Asking
from sightline.evaluation.continuation import Question, Scorer
from sightline.evaluation.suite import Item, Task
from sightline.objectives.backward import Backward
from sightline.objectives.base import Objective
from sightline.objectives.block_diffusion import BlockDiffusion
from sightline.objectives.causal import Causal
from sightline.objectives.cbow import CBOW
from sightline.objectives.denoise import Denoise
from sightline.objectives.diffusion import Diffusion
from sightline.objectives.electra import Electra
from sightline.objectives.hybrid import Hybrid
from sightline.objectives.masked import Masked
from sightline.objectives.model import Model
from sightline.objectives.prefix import Prefix
from sightline.objectives.seq2seq import Seq2Seq
from sightline.objectives.two_way import TwoWay

Make = Callable[[type[Objective]], Model]

PAIR = ("the red", " bird sings")
LONG = ("the river " * 9, "sings")


@pytest.mark.parametrize("kind", [Causal, Prefix])
def test_exact_scores_are_the_chain_rule(make: Make, kind: type[Objective], tokenizer: Tokenizer) -> None:
    model = make(kind)
    scores = Scorer.of(model).score([PAIR], "continuation")
    ids = np.array([tokenizer.need("bos"), *tokenizer.encode("the red bird sings")])
    rows = Rows.of([ids], tokenizer, wanted=[np.arange(len(ids)) > len("the red")])
    (view,) = model.objective.examine(rows)
    with torch.no_grad():
        logits = model.logits(view, rows.tokens)[0].log_softmax(-1)
    expected = sum(float(logits[at, ids[at + 1]]) for at in range(len("the red"), len(ids) - 1))
    assert scores.logp[0] == pytest.approx(expected, abs=1e-4)
    assert scores.asked[0] == len(" bird sings")


def test_spaces_at_the_end_of_a_context_belong_to_what_follows(make: Make) -> None:
    scorer = Scorer.of(make(Causal))
    moved, plain = scorer.score([("the red ", "bird"), ("the red", " bird")], "continuation").logp
    assert moved == plain


@pytest.mark.parametrize("kind", [Causal, Masked, Prefix, Diffusion, BlockDiffusion, Hybrid, TwoWay, Denoise, Backward])
def test_a_batch_scores_what_each_scores_alone(make: Make, kind: type[Objective]) -> None:
    scorer = Scorer.of(make(kind), looks=3)
    requests = [PAIR, LONG, ("a stone", " sings under the house")]
    together = scorer.score(requests, "continuation")
    alone = [scorer.score([one], "continuation", items=[at]).logp[0] for at, one in enumerate(requests)]
    assert together.logp == pytest.approx(alone, abs=1e-4)
    assert together.cut.tolist() == [False, True, False]
    assert np.isfinite(together.looks).all() and len(together.looks) == (3 if "iffusion" in kind.__name__ else 1)


@pytest.mark.parametrize("kind", [Causal, Prefix, TwoWay, Denoise])
def test_whether_it_is_the_likeliest_costs_no_other_score(make: Make, kind: type[Objective]) -> None:
    scorer = Scorer.of(make(kind))
    plain = scorer.score([PAIR, LONG], "continuation")
    told = scorer.score([PAIR, LONG], "continuation", greedy=True)
    assert told.logp == pytest.approx(plain.logp, abs=1e-4) and not plain.greedy.any()


def test_the_likeliest_token_is_told(make: Make, tokenizer: Tokenizer) -> None:
    model = make(Causal)
    letters = [chr(code) for code in range(32, 127)]
    scores = Scorer.of(model).score([("the", letter) for letter in letters], "continuation", greedy=True)
    assert scores.greedy.sum() <= 1
    if scores.greedy.any():
        assert scores.greedy.argmax() == scores.logp.argmax()


def test_a_backward_model_scores_both_together(make: Make) -> None:
    scorer = Scorer.of(make(Backward))
    joint = scorer.score([PAIR], "continuation").logp[0]
    assert joint == pytest.approx(scorer.score([("", "the red bird sings")], "whole").logp[0], abs=1e-5)
    assert "together" in scorer.rule("continuation")


def test_halves_score_sentences_by_their_mean(make: Make) -> None:
    model = make(TwoWay)
    whole = Scorer.of(model).score([("", "the red bird")], "whole").logp[0]
    each = [Scorer.of(half).score([("", "the red bird")], "whole").logp[0] for half in model.halves]
    assert len(each) == 2 and whole == pytest.approx(np.mean(each), abs=1e-5)


def test_what_is_hidden_beside_a_token_is_a_choice(make: Make) -> None:
    model = make(Masked)
    word, token = (Scorer.of(model, within=one) for one in ("word", "token"))  # type: ignore[arg-type]
    assert word.score([PAIR], "continuation").logp[0] != token.score([PAIR], "continuation").logp[0]
    assert "later tokens of its word" in word.rule("whole") and "alone" in token.rule("whole")


def test_candidates_of_an_item_are_drawn_alike(make: Make) -> None:
    scorer = Scorer.of(make(Diffusion), looks=4)
    one, two = scorer.score([PAIR, PAIR], "continuation", items=[5, 5]).looks.T
    assert (one == two).all()
    other = scorer.score([PAIR], "continuation", items=[6]).looks.T
    assert (one != other[0]).any()


@pytest.mark.parametrize(
    ("kind", "question", "why"),
    [
        (Electra, "whole", "no probability of any text"),
        (CBOW, "continuation", "no probability of any text"),
        (Seq2Seq, "whole", "has no source"),
        (Denoise, "whole", "not trained to write whole texts"),
        (Backward, "word", "sees only what follows"),
    ],
)
def test_a_question_without_meaning_is_refused(make: Make, kind: type[Objective], question: Question, why: str) -> None:
    scorer = Scorer.of(make(kind))
    assert why in scorer.refusal(question)
    with pytest.raises(SightlineError, match=why):
        scorer.score([PAIR], question)


def test_settings_that_a_family_has_not_are_refused(make: Make) -> None:
    with pytest.raises(SightlineError, match="one side only"):
        Scorer.of(make(Causal), both_sides=True)
    with pytest.raises(SightlineError, match="tell no error"):
        Scorer.of(make(Diffusion), looks=1)
    assert "pseudo" in Scorer.of(make(Hybrid), both_sides=True).rule("whole")
    with pytest.raises(SightlineError, match="has no token"):
        Scorer.of(make(Causal)).score([("the", "")], "continuation")


@pytest.mark.parametrize("kind", [Causal, Masked, Diffusion, BlockDiffusion, Seq2Seq, Denoise])
def test_every_kind_of_item_has_a_record(make: Make, kind: type[Objective], tmp_path: object) -> None:
    asking = Asking(Scorer.of(make(kind), looks=2), length=6)
    word = Item("w", "", ("the red",), ("bird",), 0)
    choice = Item("c", "", ("the", "the"), ("red bird", "house"), 1)
    number = Item("n", "", ("2 and 2?",), ("#### 4",), "4")
    for task_kind, item in (("word", word), ("choice", choice), ("number", number)):
        task = Task("t", task_kind, (item,), None, 1, "")  # type: ignore[arg-type]
        ((record,),) = asking.records(task, task.items)
        assert record["item"] == item.id and record["correct"] in (0.0, 1.0)
        assert len(record["scores"]) == (0 if task_kind == "number" else len(item.choices))
        assert ("error" in record) == (asking.scorer.objective.score_class == "bound" and task_kind != "number")
