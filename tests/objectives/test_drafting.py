"""A drafter as a user asks for it: which fits which model, and the same texts with and without it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from sightline.data import Rows, Tokenizer, train_tokenizer
from sightline.data.draws import Draws
from sightline.decoders.canvas import Canvas
from sightline.decoders.drafters import ByModel, Lookup
from sightline.decoders.loop import write
from sightline.decoders.policy import NextPlace
from sightline.decoders.sampling import GREEDY, Sampling
from sightline.errors import SightlineError
from sightline.objectives import FAMILIES, Objective
from sightline.objectives.drafting import Ahead, Drafts, checkable
from sightline.objectives.model import Model, built
from sightline.objectives.writing import generate
from sightline.stacks.cache import Cache
from sightline.stacks.shape import Shape
from sightline.stacks.table import Table

PROMPTS = 1000
NEAR = 1e-4  # a tie by rounding: the two likeliest ids differ by less
Make = Callable[..., Model]


@pytest.fixture(scope="module")
def make(page: str) -> Make:
    """A random model of a family, or a fitted table, over the bytes or pieces of the page."""
    tokenizers = {"byte": train_tokenizer([page], "byte"), "bpe": train_tokenizer([page], "bpe", 480)}

    def model(family: str, kind: str = "bpe", seed: int = 1, **settings: object) -> Model:
        torch.set_num_threads(1)
        tokenizer = tokenizers[kind]
        objective = FAMILIES[family](tokenizer.vocabulary, **settings)
        shape = Shape(layers=2, width=32, heads=4, vocabulary=tokenizer.padded, context=128)
        made = built(objective, shape, tokenizer, seed)
        if isinstance(made.stack, Table):
            marks = tokenizer.vocabulary
            made.stack.fit(np.concatenate([[marks.bos], tokenizer.encode(page), [marks.eos]]))
        return made.eval()

    return model


def learnt(model: Model, text: str, steps: int) -> Model:
    """The model after so many steps on pieces of a text."""
    ids = model.tokenizer.encode(text)
    marks = model.objective.vocabulary
    rows = Rows.of([np.array([marks.bos, *ids[at : at + 46]]) for at in range(0, len(ids) - 46, 46)], model.tokenizer)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    model.train()
    for step in range(steps):
        some = rows.take(slice(8 * step % rows.count, 8 * step % rows.count + 8))
        draws = Draws(step)
        views = model.objective.ask(some, draws.of(some), 0.0)
        terms = model.objective.learn(model, some, views, draws.of(some, stream=1))
        loss = sum(term.total for term in terms) / sum(model.objective.counts(views).values())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model.eval()


def test_a_thousand_prompts(make: Make, page: str) -> None:
    """Trained model and trained drafter, greedy: token for token what the plain loop writes; ties are listed."""
    model, other = learnt(make("causal", "byte"), page, 90), learnt(make("causal", "byte", 2), page, 60)
    ids = model.tokenizer.encode(page)
    marks = model.objective.vocabulary
    rng = np.random.default_rng(0)
    starts, sizes = rng.integers(0, len(ids) - 12, PROMPTS), rng.integers(1, 12, PROMPTS)
    prompts = [[marks.bos, *ids[at : at + size]] for at, size in zip(starts, np.sort(sizes), strict=True)]
    rounds = {"plain": 0, "model": 0, "lookup": 0}
    ties: list[tuple[int, int, float]] = []
    for start in range(0, PROMPTS, 4):
        canvas = Canvas.of([(prompt, 12, []) for prompt in prompts[start : start + 4]])
        drafters = {
            "plain": None,
            "model": ByModel(other.objective.fill, other.logits, Cache, other.context),
            "lookup": Lookup(),
        }
        done = {
            name: write(
                model.objective.fill, model.logits, canvas, NextPlace(), stops=model.objective.stops,
                forbidden=np.flatnonzero(marks.is_special), make_cache=Cache, drafter=drafter, lookahead=3,
            )
            for name, drafter in drafters.items()
        }  # fmt: skip
        for name, one in done.items():
            rounds[name] += one.rounds
            for line in range(canvas.lines):
                plain, quick = (which.canvas.text(line).tolist() for which in (done["plain"], one))
                if plain != quick:
                    at = next(i for i, pair in enumerate(zip(plain, quick, strict=False)) if pair[0] != pair[1])
                    ties.append((start + line, at, gap(model, plain[:at])))
    assert all(distance < NEAR for _, _, distance in ties), ties
    assert len(ties) <= 2, ties
    assert rounds["model"] < 0.8 * rounds["plain"]


@torch.no_grad()
def gap(model: Model, text: list[int]) -> float:
    """By how much the likeliest next id is above the second."""
    canvas = Canvas.of([(text, 1, [])])
    said = model.logits(model.objective.fill(canvas), canvas.tokens)[0, 0]
    first, second = said.topk(2).values
    return float(first - second)


# -- generate


WRITERS = [
    name
    for name, kind in FAMILIES.items()
    if kind.reads in ("text", "pairs") and kind.writes and (kind.sampler == "next" or name == "block_diffusion")
]
CANNOT = ("mix", "permuted")


@pytest.mark.parametrize("family", WRITERS)
def test_every_family_that_writes_in_order_takes_a_drafter(make: Make, family: str) -> None:
    model, prompts = make(family), ["The river ran past the house, the river", "One"]
    order = {"sampler": "next"} if model.objective.foresees else {}
    assert checkable(model.objective) == (family not in CANNOT)
    if family in CANNOT:
        with pytest.raises(SightlineError, match="no pass checks several"):
            generate(model, prompts, length=12, drafter="lookup")
        return
    drafters: list[Drafts] = ["lookup", make("backward" if family == "backward" else "ngram")]
    drafters += ["self"] if model.objective.foresees else []
    if family == "backward":
        drafters = ["lookup", make("backward", seed=1)]
    plain = generate(model, prompts, length=24, sampling=GREEDY, **order)  # type: ignore[arg-type]
    for drafter in drafters:
        for quick, slow in zip(
            generate(model, prompts, length=24, sampling=GREEDY, drafter=drafter), plain, strict=True
        ):
            assert quick.text == slow.text
            assert quick.logprob == pytest.approx(slow.logprob, abs=1e-3)
            assert quick.rounds <= slow.rounds == slow.tokens == quick.tokens
            assert quick.drafter and not slow.drafter


def test_drawn_texts_repeat_by_seed(make: Make) -> None:
    model = make("causal")
    one, same, other = (
        generate(model, ["The"], length=12, seed=seed, drafter=make("causal", seed=2), n_best=2) for seed in (1, 1, 2)
    )
    assert one == same != other
    assert one[0].text != one[1].text


def test_a_model_that_is_its_own_drafter_needs_a_sixth_of_the_rounds(make: Make) -> None:
    model = make("causal")
    [text] = generate(model, ["The"], length=31, sampling=Sampling(0.5), min_length=31, drafter=model, lookahead=5)
    assert (text.tokens, text.rounds) == (31, 6)  # the prompt's round, then five of six
    [none] = generate(model, ["The"], length=31, sampling=GREEDY, min_length=31, drafter=model, lookahead=0)
    assert none.rounds == 31


@pytest.mark.parametrize(
    ("family", "drafter", "message"),
    [
        ("causal", ("causal", "byte"), "the drafter has another tokenizer"),
        ("causal", ("backward", "bpe"), "backward does not write one place after the other in the order of causal"),
        ("causal", ("masked", "bpe"), "masked does not write one place after the other"),
        ("causal", ("electra", "bpe"), "electra does not write"),
        ("causal", "self", "cannot draft for itself"),
        ("causal", "nobody", "there is no drafter 'nobody'"),
        ("masked", "lookup", "masked writes in any order of places"),
    ],
)
def test_what_does_not_fit_is_said_in_a_line(make: Make, family: str, drafter: object, message: str) -> None:
    goes = make(*drafter) if isinstance(drafter, tuple) else drafter
    with pytest.raises(SightlineError, match=message) as caught:
        generate(make(family), ["The"], length=4, drafter=goes)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)


def test_settings_that_a_drafter_has_no_part_in(make: Make) -> None:
    model = make("causal")
    with pytest.raises(SightlineError, match="lookahead of -1"):
        generate(model, ["The"], drafter="lookup", lookahead=-1)
    with pytest.raises(SightlineError, match="leave beams"):
        generate(model, ["The"], length=4, drafter="lookup", beams=2)
    with pytest.raises(SightlineError, match="leave beams"):
        generate(make("block_diffusion"), ["The"], length=4, drafter="self", sampler="surest")


def test_blocks_of_one_foresee_nothing(make: Make) -> None:
    [text] = generate(make("block_diffusion", block=1), ["The"], length=9, sampling=GREEDY, drafter="self")
    assert text.rounds == text.tokens


@pytest.mark.parametrize("family", [name for name, kind in FAMILIES.items() if kind.foresees is not Objective.foresees])
def test_what_is_foreseen_begins_with_what_fill_says(make: Make, family: str) -> None:
    """The contract of ``Objective.foresee``: the first answer of each line is the one that is written."""
    model = make(family)
    marks = model.objective.vocabulary
    given = [marks.bos, 105, 106, *([marks.sep] if model.objective.reads == "pairs" else [])]
    canvas = Canvas.of([(given, 9, []), (given[:1] + given[2:], 9, [])])
    first = []
    for view in (model.objective.fill(canvas), model.objective.foresee(canvas, 3)):
        assert view.settled is not None
        with torch.no_grad():
            said = model.logits(view, canvas.tokens)
        index, real = view.asked_slots
        assert real.any(1).all()
        places = np.take_along_axis(view.asks, index, axis=1)
        order = np.where(real, places, canvas.places).argmin(1)
        first.append((np.take_along_axis(places, order[:, None], 1), said[torch.arange(2), torch.from_numpy(order)]))
    assert np.array_equal(first[0][0], first[1][0])
    torch.testing.assert_close(first[0][1], first[1][1], atol=1e-5, rtol=1e-4)
    assert real.sum(1).max() > 1


@pytest.mark.parametrize("way", ["ar", "semi", "nar"])
def test_streams_draft_and_the_first_of_them_verifies(make: Make, way: str) -> None:
    """BANG tuned on pairs in any way: what it foresees changes nothing of what it writes token by token."""
    model, sources = make("bang", way=way), ["The river ran past the house", "One", "A bridge was there before"]
    plain = generate(model, sources, length=20, sampling=GREEDY, sampler="next")
    drafted = generate(model, sources, length=20, sampling=GREEDY, drafter="self", lookahead=3)
    assert [text.text for text in drafted] == [text.text for text in plain]
    assert sum(text.rounds for text in drafted) < sum(text.rounds for text in plain)


def test_a_tokenizer_that_cuts_alike_is_the_same(make: Make, page: str) -> None:
    model = make("causal")
    again: Tokenizer = train_tokenizer([page], "bpe", 480)
    shape = Shape(layers=1, width=16, heads=2, vocabulary=again.padded, context=128)
    other = built(FAMILIES["causal"](again.vocabulary), shape, again, 3).eval()
    assert Ahead.of(model, other, 4).name == "causal"
