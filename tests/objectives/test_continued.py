"""Another family, the same weights: what was learned helps, what is seen is the new family's, and rows are the mean."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer as Engine
from tokenizers import decoders, models, pre_tokenizers

from sightline.data import Draws, Rows, Tokenizer, train_tokenizer
from sightline.data.marks import with_tokens
from sightline.errors import SightlineError
from sightline.evaluation.perturbation import Probe, measured_sight
from sightline.objectives import FAMILIES
from sightline.objectives.causal import Causal
from sightline.objectives.continued import continued
from sightline.objectives.masked import Masked
from sightline.objectives.model import Model, built, token_table
from sightline.sight import reach
from sightline.stacks.makes import make
from sightline.stacks.shape import Shape

SENTENCE = "Two roads met under the elm, and one of them went on."


def gpt2_like(more: tuple[str, ...] = ()) -> Tokenizer:
    """Bytes and one mark, as GPT-2 has; and ids that are kept back, as LLaMA 3 has."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    engine = Engine(models.BPE({token: id for id, token in enumerate([*letters, "<|endoftext|>", *more])}, []))
    engine.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    engine.decoder = decoders.ByteLevel()
    engine.add_special_tokens(["<|endoftext|>", *more])
    return Tokenizer(engine)


def model_of(tokenizer: Tokenizer, rows: int = 0, seed: int = 0, **changed: Any) -> Model:
    rows = rows or tokenizer.size
    objective = Causal(replace(tokenizer.vocabulary, padded=rows))
    return built(objective, Shape(2, 64, 4, rows, 64, **changed), tokenizer, seed)


def cut(tokenizer: Tokenizer, text: str, length: int = 64) -> Rows:
    ids = tokenizer.encode(text)
    return Rows.of([ids[at : at + length] for at in range(0, len(ids) - length, length)], tokenizer)


def loss(model: Model, rows: Rows, visit: int = 0) -> torch.Tensor:
    draws = Draws(visit)
    views = model.objective.ask(rows, draws.of(rows), 0.5)
    terms = model.objective.learn(model, rows, views, draws.of(rows, stream=1))
    return torch.stack([term.total for term in terms]).sum() / sum(model.objective.counts(views).values())


def taught(model: Model, rows: Rows, steps: int) -> None:
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    order = np.random.default_rng(0)
    model.train()
    for step in range(steps):
        optimizer.zero_grad()
        loss(model, rows.take(order.integers(rows.count, size=12)), step + 1).backward()
        optimizer.step()
    model.eval()


def test_what_was_learned_from_the_left_helps_to_fill_blanks(page: str) -> None:
    """A masked model that begins as a causal one is ahead of one that begins anew, after as many masked steps."""
    tokenizer = gpt2_like()
    rows = cut(tokenizer, page)
    held, kept = rows.take(slice(0, 24)), rows.take(slice(24, rows.count))
    before = model_of(tokenizer)
    taught(before, kept, 120)
    after, added = continued(before, "masked", {})
    assert added == ("<mask>",)
    fresh = built(Masked(after.objective.vocabulary), after.stack.shape, after.tokenizer, seed=1)  # type: ignore[arg-type]
    for model in (after, fresh):
        taught(model, kept, 40)
    with torch.no_grad():
        reached = [
            float(np.mean([float(loss(model, held, visit)) for visit in range(500, 504)])) for model in (after, fresh)
        ]
    assert reached[0] < reached[1] - 0.1, reached


@pytest.mark.parametrize("family", ["masked", "prefix", "hybrid", "diffusion", "block_diffusion", "backward", "mix"])
def test_it_sees_what_the_new_family_says(family: str) -> None:
    tokenizer = gpt2_like()
    model, _ = continued(model_of(tokenizer), family, {"block": 4} if family == "block_diffusion" else {})
    ids = model.tokenizer.encode("one elm, two").astype(np.int64)
    view = model.objective.read(Rows.of([ids.astype(np.int32)], model.tokenizer))

    def outputs(texts: np.ndarray) -> tuple[torch.Tensor]:
        lines = view.lines(np.zeros(len(texts), np.int64))
        return (model.eval().states(replace(lines, lines_of=np.arange(len(texts))), texts),)

    shows = view.shows[0]
    seen = measured_sight(Probe(outputs, shows, (token_table(model.stack),), tokenizer.vocabulary.ordinary), ids, 2, 0)
    declared = np.zeros_like(seen)
    slots = np.flatnonzero(shows >= 0)
    np.logical_or.at(
        declared, (shows[slots][:, None], shows[slots][None]), reach(view, model.depth)[0][np.ix_(slots, slots)]
    )
    np.testing.assert_array_equal(seen, declared)


@pytest.mark.parametrize("tied", [False, True])
def test_new_rows_are_the_mean_of_the_others(tied: bool) -> None:
    """Their logit is then the mean of the others', so that what was likely stays so."""
    tokenizer = gpt2_like()
    model = model_of(tokenizer)
    head: Any = model.head
    head.bias = torch.nn.Parameter(torch.randn(tokenizer.size))
    table = token_table(model.stack)
    if tied:
        head.weight = table.weight
    before = [part.detach().clone() for part in (table.weight, head.weight, head.bias)]
    after, added = continued(model, "masked", {})
    assert added == ("<mask>",)
    mask = after.objective.vocabulary.mask
    assert mask == tokenizer.size == 257
    head = after.head
    assert (head.weight is token_table(after.stack).weight) == tied
    for old, new in zip(before, (token_table(after.stack).weight, head.weight, head.bias), strict=True):
        assert new.shape == (320, *old.shape[1:])  # a multiple of 64
        torch.testing.assert_close(new[:257], old, rtol=0, atol=0)
        torch.testing.assert_close(new[mask], old.mean(0))
    assert after.stack.shape.vocabulary == 320
    states = torch.randn(3, 64)
    logits = torch.nn.functional.linear(states, head.weight, head.bias)
    torch.testing.assert_close(logits[:, mask], logits[:, :257].mean(-1))


def test_free_rows_are_taken_before_the_table_grows() -> None:
    model, added = continued(model_of(gpt2_like(), rows=300), "diffusion", {})
    assert (added, model.objective.vocabulary.mask) == (("<mask>",), 257)
    assert token_table(model.stack).weight.shape[0] == model.objective.vocabulary.padded == 300


def test_an_id_held_in_reserve_is_taken_before_a_free_row() -> None:
    tokenizer = gpt2_like(("<|reserved_special_token_0|>", "<|reserved_special_token_1|>"))
    model, _ = continued(model_of(tokenizer), "masked", {})
    assert model.tokenizer.mask == 257
    assert model.tokenizer.size == tokenizer.size
    assert model.tokenizer.id_of("<|reserved_special_token_0|>") is None
    table = token_table(model.stack).weight
    torch.testing.assert_close(table[257], table[[*range(257), 258]].mean(0))
    np.testing.assert_array_equal(model.tokenizer.encode(SENTENCE), tokenizer.encode(SENTENCE))


def test_text_is_cut_as_before_and_marks_stay_text() -> None:
    tokenizer = gpt2_like()
    grown = with_tokens(tokenizer, ["<mask>", "<sep>", "<|endoftext|>"])
    assert (grown.size, grown.mask, grown.sep) == (tokenizer.size + 2, tokenizer.size, tokenizer.size + 1)
    for text in (SENTENCE, "no <mask> here, <|endoftext|>"):
        np.testing.assert_array_equal(grown.encode(text), tokenizer.encode(text))
        assert grown.decode(grown.encode(text)) == text


def test_answers_that_a_family_bars_are_barred() -> None:
    """No text holds a mask, says diffusion; and a model that goes on from it may write any token again."""
    tokenizer = train_tokenizer([SENTENCE], "byte")
    model, added = continued(model_of(tokenizer, tokenizer.padded), "diffusion", {})
    assert not added
    head: Any = model.head
    assert tokenizer.mask in head.barred.tolist()
    model, _ = continued(model, "causal", {})
    assert tokenizer.mask not in head.barred.tolist()
    assert model.objective.vocabulary.never == ()


def test_a_table_of_segments_too_small_is_folded_away_exactly() -> None:
    tokenizer = train_tokenizer([SENTENCE], "byte")
    like = make("bert")
    model = built(Masked(tokenizer.vocabulary), Shape(2, 32, 2, tokenizer.padded, 64), tokenizer, 0, like)
    stack: Any = model.stack
    torch.nn.init.normal_(stack.segments.weight)
    rows = Rows.of([tokenizer.encode(SENTENCE)], tokenizer)
    with torch.no_grad():
        before = model.eval().states(model.objective.read(rows), rows.tokens)
        after, _ = continued(model, "diffusion", {})
        assert after.stack.shape.segments == 0
        torch.testing.assert_close(after.states(after.objective.read(rows), rows.tokens), before)
        prefix, _ = continued(after, "block_diffusion", {"block": 4})
        prefix.states(prefix.objective.read(rows), rows.tokens)


@pytest.mark.parametrize(
    ("family", "says"),
    [
        ("permuted", "show nothing, for which this stack has no vector"),
        ("blank", "tells places in 2 dimensions"),
        ("two_way", "cannot go on from the causal model"),
        ("seq2seq", "one stack is not two"),
        ("electra", "One judges tokens"),
        ("ngram", "cannot go on from the causal model"),
    ],
)
def test_a_stack_that_cannot_serve_a_family_says_so(family: str, says: str) -> None:
    with pytest.raises(SightlineError, match=says) as caught:
        continued(model_of(gpt2_like()), family, {})
    assert "\n" not in str(caught.value)


def test_every_family_either_goes_on_or_says_why_not() -> None:
    """A family that goes on can ask, learn, examine and read at once."""
    rows = 0
    for family in FAMILIES:
        try:
            model, _ = continued(model_of(gpt2_like()), family, {})
        except SightlineError:
            continue
        rows += 1
        held = cut(model.tokenizer, SENTENCE * 3, 48)
        assert torch.isfinite(loss(model, held))
        next(iter(model.objective.examine(held)))
    assert rows >= 8
