"""generate and fill, as a user calls them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from sightline.data import Rows, Tokenizer, train_tokenizer
from sightline.data.vocabulary import Vocabulary
from sightline.decoders.canvas import Canvas
from sightline.decoders.loop import write
from sightline.decoders.policy import NextPlace
from sightline.decoders.sampling import GREEDY, Sampling
from sightline.errors import SightlineError
from sightline.objectives.backward import Backward
from sightline.objectives.base import Objective
from sightline.objectives.blank import Blank
from sightline.objectives.block_diffusion import BlockDiffusion
from sightline.objectives.causal import Causal
from sightline.objectives.diffusion import Diffusion
from sightline.objectives.filling import fill
from sightline.objectives.hybrid import Hybrid
from sightline.objectives.masked import Masked
from sightline.objectives.mix import Mix
from sightline.objectives.model import Model, built
from sightline.objectives.ngram import NGram
from sightline.objectives.pen import trimmed
from sightline.objectives.permuted import Permuted
from sightline.objectives.prefix import Prefix
from sightline.objectives.two_way import TwoWay
from sightline.objectives.writing import generate
from sightline.stacks.shape import Shape
from sightline.stacks.table import Table

SAID = "The cat sat on the mat. The dog saw the cat. 猫坐在垫子上。 " * 8
FAMILIES: dict[str, type[Objective]] = {
    "causal": Causal,
    "backward": Backward,
    "prefix": Prefix,
    "blank": Blank,
    "mix": Mix,
    "masked": Masked,
    "permuted": Permuted,
    "hybrid": Hybrid,
    "diffusion": Diffusion,
    "block_diffusion": BlockDiffusion,
    "ngram": NGram,
    "two_way": TwoWay,
}
Make = Callable[[str, str], Model]


def ids_of(tokenizer: Tokenizer) -> Vocabulary:
    return tokenizer.vocabulary


@pytest.fixture(scope="module")
def make() -> Make:
    """A random model (or a fitted table) of a family, with a tokenizer of a kind."""
    tokenizers = {"byte": train_tokenizer([SAID], "byte"), "bpe": train_tokenizer([SAID], "bpe", 480)}

    def model(family: str, kind: str = "bpe") -> Model:
        torch.set_num_threads(1)
        tokenizer = tokenizers[kind]
        vocabulary = ids_of(tokenizer)
        shape = Shape(layers=2, width=32, heads=4, vocabulary=vocabulary.padded, context=128)
        made = built(FAMILIES[family](vocabulary), shape, tokenizer, seed=1)
        if isinstance(made.stack, Table):
            made.stack.fit(np.concatenate([[vocabulary.bos], tokenizer.encode(SAID), [vocabulary.eos]]))
        return made

    return model


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("kind", ["byte", "bpe"])
def test_the_prompt_stands_where_it_was_given(make: Make, family: str, kind: str) -> None:
    model = make(family, kind)
    prompts = ["The cat", "", "猫坐", "The dog saw the"]
    texts = generate(model, prompts, length=9, seed=3)
    assert len(texts) == 4
    for prompt, text in zip(prompts, texts, strict=True):
        (piece,) = text.pieces
        right = model.objective.writes_from == "right"
        assert text.text == (piece + prompt if right else prompt + piece)
        assert text.given == ("right" if right else "left")
        assert text.logprob < 0
        assert not (piece.startswith("\ufffd") if right else piece.endswith("\ufffd"))


@pytest.mark.parametrize("family", FAMILIES)
def test_the_same_seed_writes_the_same(make: Make, family: str) -> None:
    model = make(family, "bpe")
    one, same, other = (generate(model, ["The"], length=12, seed=seed)[0].text for seed in (1, 1, 2))
    assert one == same
    assert family == "ngram" or one != other


def test_a_fitted_table_goes_on_as_it_read(make: Make) -> None:
    text = generate(make("ngram", "bpe"), ["The cat sat"], length=4, sampling=GREEDY)[0]
    assert SAID.startswith(text.text)


def test_several_texts_stand_side_by_side(make: Make) -> None:
    model = make("causal", "bpe")
    drawn = generate(model, ["The", "A cat"], length=6, n_best=3)
    assert [text.text.startswith("The") for text in drawn] == [True] * 3 + [False] * 3
    assert len({text.text for text in drawn}) == 6
    beams = generate(model, ["The", "A cat"], length=6, beams=4, n_best=2)
    assert len(beams) == 4
    assert beams[0].logprob >= beams[1].logprob
    assert beams[0].how == "left to right, beam of 4"


def test_training_mode_comes_back(make: Make) -> None:
    model = make("causal", "bpe")
    model.train()
    model.kernel = "triangle"
    generate(model, ["The", "The cat sat"], length=3)
    assert model.training
    assert model.kernel == "triangle"


@pytest.mark.parametrize("family", FAMILIES)
def test_fill_keeps_every_letter_that_was_given(make: Make, family: str) -> None:
    model = make(family, "bpe")
    texts = fill(model, ["The ___ sat on the ___:3.", "[MASK] dog saw 猫", "no end ___:2", "___"], seed=5)
    assert [len(text.pieces) for text in texts] == [2, 1, 1, 1]
    first, second, third, fourth = texts
    assert first.text == f"The {first.pieces[0]} sat on the {first.pieces[1]}."
    assert second.text == f"{second.pieces[0]} dog saw 猫"
    assert third.text == f"no end {third.pieces[0]}"
    assert fourth.text == fourth.pieces[0]
    assert all(text.given == "both" for text in texts)


def test_a_table_fills_in_what_it_read(make: Make) -> None:
    """The given part behind the blank decides between what may follow the part before it."""
    texts = fill(make("ngram", "bpe"), [". The ___ sat on", ". The ___ saw the"], seed=1, candidates=24)
    assert [text.text for text in texts] == [". The cat sat on", ". The dog saw the"]


@pytest.mark.parametrize("family", ["causal", "backward", "prefix"])
def test_the_chosen_candidate_makes_the_rest_likeliest(make: Make, family: str) -> None:
    model = make(family, "byte").eval()
    ids = ids_of(model.tokenizer)
    everything = [int(id) for id in ids.ordinary]  # as many candidates as there are bytes: all of them
    (chosen,) = fill(model, [["ab", 1, "cd"]], sampling=GREEDY, candidates=len(everything))
    left, right = model.tokenizer.encode("ab"), model.tokenizer.encode("cd")
    rows = [np.array([ids.bos, *left, id, *right, ids.eos]) for id in everything]
    wanted = np.isin(np.arange(7), [1, 2] if family == "backward" else [4, 5])
    nats, asked = model.examined(Rows.of(rows, model.tokenizer, wanted=[wanted] * len(rows)))
    assert set(asked.tolist()) == {2}
    best = model.tokenizer.decode([everything[int(nats.argmin())]])
    assert chosen.pieces == (trimmed(best, "both"),)


def test_one_candidate_looks_at_one_side(make: Make) -> None:
    text = fill(make("causal", "byte"), ["a___b"], candidates=1)[0]
    assert text.given == "left"
    assert "candidates" not in text.how


def test_special_marks_are_never_filled_in(make: Make) -> None:
    model = make("masked", "bpe")
    with torch.no_grad():
        assert model.objective.vocabulary.eos >= 0
        weight = model.head.weight
        assert isinstance(weight, torch.Tensor)
        weight[model.objective.vocabulary.eos] = 50 * weight[300]
    text = fill(model, ["The ___:6 mat"])[0]
    assert "<" not in text.text
    assert len(text.pieces[0]) > 0


def test_too_long_is_a_clear_error(make: Make) -> None:
    model = make("causal", "byte")
    with pytest.raises(SightlineError, match="exceed the model's context, 128"):
        generate(model, ["a" * 100], length=64)
    with pytest.raises(SightlineError, match="exceed the model's context"):
        fill(model, ["a ___:200"])


@pytest.mark.parametrize("sampler", ["refine", "surest", "random", "ancestral", "remasking"])
@pytest.mark.parametrize("family", ["masked", "diffusion"])
def test_every_sampler_writes_and_fills(make: Make, family: str, sampler: str) -> None:
    model = make(family, "bpe")
    text = generate(model, ["The cat"], length=10, sampler=sampler, iterations=4)[0]
    assert text.text.startswith("The cat")
    assert "in 4 rounds" in text.how
    assert "[" not in fill(model, ["The ___:3 sat."], sampler=sampler, iterations=3)[0].text


def test_blocks_of_one_place_are_left_to_right(make: Make) -> None:
    """Semi-autoregressive blocks of one token ask as a text written from the left does."""
    model = make("diffusion", "byte").eval()
    text = generate(model, ["ab"], length=5, block=1, sampling=GREEDY)[0]
    beginning = [model.tokenizer.bos, *model.tokenizer.encode("ab")]
    barred = np.flatnonzero(model.objective.vocabulary.is_special)
    left = write(
        model.objective.fill,
        model.logits,
        Canvas.of([(beginning, 5, [model.tokenizer.eos])]),
        NextPlace(),
        forbidden=barred,
    )
    assert left.total[0] == pytest.approx(text.logprob, abs=1e-4)


@pytest.mark.parametrize(
    ("family", "options", "word"),
    [
        ("diffusion", {"iterations": 0}, "0 steps write nothing"),
        ("diffusion", {"block": -1}, "holds nothing"),
        ("diffusion", {"block": 9}, "longer than the 4 that are written"),
        ("diffusion", {"sampler": "best"}, "no sampler 'best'"),
        ("diffusion", {"sampler": "ancestral", "block": 2}, "writes no blocks"),
        ("diffusion", {"beams": 2}, "no beams"),
        ("block_diffusion", {"block": 2}, "trained with blocks of 4, not 2"),
        ("causal", {"sampler": "surest"}, "one place after the other"),
        ("causal", {"block": 2}, "one place after the other"),
        ("masked", {"sampler": "next"}, "has no next place"),
    ],
)
def test_contradictions_of_samplers_are_clear_errors(
    make: Make, family: str, options: dict[str, Any], word: str
) -> None:
    with pytest.raises(SightlineError, match=word):
        generate(make(family, "byte"), ["a"], length=4, **options)


@pytest.mark.parametrize(
    ("call", "word"),
    [
        (lambda model: generate(model, ["a"], length=0), "nothing to write"),
        (lambda model: generate(model, ["a"], n_best=2, sampling=GREEDY), "the likeliest text is one"),
        (lambda model: generate(model, ["a"], beams=2, n_best=3), "cannot give its best 3"),
        (lambda model: generate(model, ["a"], beams=2, sampling=Sampling()), "draws none"),
        (lambda model: fill(model, ["no blank"]), "no blank"),
        (lambda model: fill(model, ["none ___:0"]), "no room"),
        (lambda model: fill(model, ["a ___"], candidates=0), "nothing to choose"),
    ],
)
def test_contradictions_are_clear_errors(make: Make, call: Callable[[Model], object], word: str) -> None:
    with pytest.raises(SightlineError, match=word):
        call(make("causal", "byte"))


def test_half_a_letter_is_cut_off_where_the_writing_ended() -> None:
    assert trimmed("ab\ufffd", "left") == "ab"
    assert trimmed("\ufffdab\ufffd", "right") == "ab\ufffd"
    assert trimmed("\ufffdab\ufffd", "both") == "ab"
