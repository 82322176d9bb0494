"""Masked and block diffusion: two estimators of one bound, what it bounds, and the two ends of block diffusion."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from checks import BOS, EOS, LETTERS, MASK, WORDS, Subject, packed, rows_from, single

from sightline.data import Draws, Rows
from sightline.decoders.canvas import Canvas
from sightline.decoders.loop import write
from sightline.decoders.policy import Ancestral, Policy, Surest
from sightline.errors import SightlineError
from sightline.objectives import BlockDiffusion, Diffusion
from sightline.objectives.diffusion import Groups
from sightline.objectives.model import Model
from sightline.sight import NOTHING, View, matrix
from sightline.stacks.cache import Cache

L, V = 4, 3  # tokens and words of the tiny language
NEVER = tuple(id for id in range(LETTERS.size) if id not in (0, 1, LETTERS.eos))


def copies(text: tuple[int, ...], count: int) -> Rows:
    """One text in many rows, each with draws of its own."""
    tokens = np.tile(np.array(text), (count, 1))
    return rows_from(tokens, np.zeros_like(tokens))


def model_of(kind: type[Any], vocabulary: Any = WORDS, **fields: Any) -> Model:
    return Subject(lambda words: kind(words, **fields)).model(vocabulary)


# ------------------------------------------------------------------------------------ the bound, by all of its masks


def all_masks() -> np.ndarray:
    """Every choice of hidden places but none, [masks, L]."""
    return np.array(list(itertools.product((False, True), repeat=L)))[1:]


def oracle() -> Callable[[tuple[int, ...]], dict[tuple[bool, ...], np.ndarray]]:
    """A language of ``V`` words in ``L`` places, and -log p(x_i | what is shown) for every mask of a text."""
    p = np.random.default_rng(4).dirichlet(np.full(V**L, 0.3)).reshape((V,) * L) + 1e-4
    p /= p.sum()

    def nats(text: tuple[int, ...]) -> dict[tuple[bool, ...], np.ndarray]:
        found = {}
        for mask in all_masks():
            shown = p[tuple(slice(None) if hidden else word for word, hidden in zip(text, mask, strict=True))]
            each = np.zeros(L)
            for place in np.flatnonzero(mask):
                axis = int(mask[:place].sum())
                others = tuple(at for at in range(shown.ndim) if at != axis)
                each[place] = -np.log(shown.sum(others)[text[place]] / shown.sum())
            found[tuple(mask.tolist())] = each
        found["exact"] = -np.log(p[text])  # type: ignore[index]
        return found

    return nats


ESTIMATORS = [
    {"masks": "drawn"},
    {"masks": "drawn", "times": "drawn"},
    {"masks": "drawn", "schedule": "cosine"},
    {"masks": "counted"},
]


def estimates(view: View, nats: Callable[[tuple[bool, ...]], np.ndarray]) -> np.ndarray:
    """What each line of a view comes to, [lines], with these nats of each mask's places."""
    table = {mask: nats(mask) for mask in map(tuple, np.unique(view.asks != NOTHING, axis=0).tolist()) if any(mask)}
    hidden = view.asks != NOTHING
    return np.array(
        [
            float((table[tuple(mask)] * weight).sum()) if any(mask) else 0.0
            for mask, weight in zip(hidden.tolist(), view.weights, strict=True)
        ]
    )


def test_with_the_true_conditionals_every_estimator_averages_to_the_exact_nats() -> None:
    """The oracle test: -log p(x) of the language itself, whatever order the words are asked in."""
    conditionals = oracle()
    spread: dict[str, list[float]] = {}
    for text in ((0, 1, 2, 0), (2, 2, 1, 0)):
        nats = conditionals(text)
        rows = copies(tuple(word + 4 for word in text), 12_000)
        for fields in ESTIMATORS:
            (view,) = Diffusion(WORDS, **fields).ask(rows, Draws(1).of(rows), 0.0)  # type: ignore[arg-type]
            got = estimates(view, nats.__getitem__)
            error = got.std() / math.sqrt(len(got))
            assert got.mean() == pytest.approx(float(nats["exact"]), abs=4.5 * error)  # type: ignore[index]
            spread.setdefault(fields["masks"], []).append(got.std())
    assert max(spread["counted"]) < min(spread["drawn"])


def test_without_the_weight_it_is_no_bound() -> None:
    """The classic trap, and proof that the oracle test can fail."""
    text = (0, 1, 2, 0)
    nats = oracle()(text)
    rows = copies(tuple(word + 4 for word in text), 4000)
    (view,) = Diffusion(WORDS).ask(rows, Draws(1).of(rows), 0.0)
    got = estimates(replace(view, weights=(view.weights > 0).astype(np.float32)), nats.__getitem__)
    assert abs(got.mean() - float(nats["exact"])) > 20 * got.std() / math.sqrt(len(got))  # type: ignore[index]


def by_mask(model: Model, text: tuple[int, ...]) -> dict[tuple[bool, ...], np.ndarray]:
    """The model's own nats of the hidden places, for every mask."""
    masks = all_masks()
    rows = copies(text, len(masks))
    diffusion = model.objective
    assert isinstance(diffusion, Diffusion)
    view = diffusion._view(rows, masks, np.ones(masks.shape))
    with torch.no_grad():
        nats = model.grade(view, rows.tokens).nats.double().numpy()
    return {tuple(mask.tolist()): each for mask, each in zip(masks, nats, strict=True)}


def exhaustive(nats: dict[tuple[bool, ...], np.ndarray]) -> tuple[float, float]:
    """The bound, the mean over all orders; and -log p of a text written in an order drawn evenly, by all orders."""
    chains = []
    for order in itertools.permutations(range(L)):
        hidden = np.ones(L, bool)
        total = 0.0
        for place in order:
            total += nats[tuple(hidden.tolist())][place]
            hidden[place] = False
        chains.append(total)
    return float(np.mean(chains)), -float(np.log(np.mean(np.exp(-np.array(chains)))))


def test_a_model_s_score_is_its_bound_by_all_masks() -> None:
    """Both estimators against the sum over all masks, within their Monte Carlo error."""
    text = (5, 9, 4, 7)
    model = model_of(Diffusion)
    nats = by_mask(model, text)
    bound, exact = exhaustive(nats)
    assert exact < bound
    rows = copies(text, 4000)
    (examined,) = model.objective.examine(rows)
    (drawn,) = model.objective.ask(rows, Draws(2).of(rows), 0.0)
    for view in (examined, drawn):
        got = estimates(view, nats.__getitem__)
        assert got.mean() == pytest.approx(bound, abs=4.5 * got.std() / math.sqrt(len(got)))
    few = rows.take(slice(0, 50))
    assert model.examined(few)[0] == pytest.approx(estimates(examined, nats.__getitem__)[:50], rel=1e-4)


def test_texts_written_in_a_drawn_order_add_up_to_one_and_the_bound_is_above() -> None:
    """The exhaustive likelihood of a tiny language: every text of two letters and an end mark, in all orders."""
    words = replace(LETTERS, never=NEVER)
    model = model_of(Diffusion, words)
    total = 0.0
    for text in itertools.product((0, 1, LETTERS.eos), repeat=L):
        bound, exact = exhaustive(by_mask(model, text))
        assert exact <= bound + 1e-9
        total += math.exp(-exact)
    assert total == pytest.approx(1, abs=1e-5)


# ------------------------------------------------------------------------------------------------------------- draws


def test_counted_masks_hide_just_as_many_as_were_drawn() -> None:
    rng = np.random.default_rng(0)
    starts = rng.random((50, 30)) < 0.2
    starts[:, 0] = True
    groups = Groups.of(starts)
    candidates = rng.random(starts.shape) < 0.7
    time, lot = rng.random(starts.shape), rng.random(starts.shape)
    time = np.take_along_axis(time, groups.first, axis=1)
    hidden, weights = groups.counted(candidates, time, lot)
    assert not (hidden & ~candidates).any()
    for row in range(50):
        for group in range(groups.number[row].max() + 1):
            mine = groups.number[row] == group
            size = int((candidates[row] & mine).sum())
            if not size:
                continue
            count = 1 + int(time[row][mine][0] * size)
            assert hidden[row][mine].sum() == count
            assert lot[row][mine & hidden[row]].max() < lot[row][mine & candidates[row] & ~hidden[row]].min(initial=2)
            assert (weights[row] * hidden[row])[mine].sum() == pytest.approx(size)


def test_even_times_cover_the_levels_of_a_row_and_each_is_uniform() -> None:
    tokens = np.full((500, 64), 7)
    rows = rows_from(tokens, np.zeros_like(tokens))
    shares = {}
    for times in ("even", "drawn"):
        family = BlockDiffusion(WORDS, "drawn", times, block=8)  # type: ignore[arg-type]
        (view,) = family.ask(rows, Draws(1).of(rows), 0.0)  # type: ignore[arg-type]
        hidden = (view.asks[:, 64:] != NOTHING).reshape(500, 8, 8).mean(2)
        assert hidden[:, 3].mean() == pytest.approx(0.5, abs=0.06)
        shares[times] = hidden.mean(1).std()
    assert shares["even"] < 0.65 * shares["drawn"]


def test_marks_that_begin_are_given_and_marks_that_end_are_asked() -> None:
    rows = packed()
    asked = np.zeros(rows.tokens.shape, bool)
    for seed in range(40):
        (view,) = Diffusion(WORDS, "drawn").ask(rows, Draws(seed).of(rows), 0.0)
        asked |= view.asks != NOTHING
    assert asked[rows.tokens == EOS].all()
    assert not asked[rows.tokens == BOS].any()


def test_only_wanted_tokens_are_hidden_when_a_text_is_scored() -> None:
    rows = single()
    half = replace(rows, wanted=np.arange(rows.length) >= 7 | np.zeros_like(rows.wanted))
    for family in (Diffusion(WORDS), BlockDiffusion(WORDS, block=4)):
        (view,) = family.examine(half)
        assert (view.asks[view.asks != NOTHING] >= 7).all()
        assert family.scores_from == "left"


def test_the_mask_is_never_predicted() -> None:
    for kind in (Diffusion, BlockDiffusion):
        model, rows = model_of(kind), single()
        (view,) = model.objective.examine(rows)
        assert torch.isneginf(model.logits(view, rows.tokens)[..., MASK]).all()


# --------------------------------------------------------------------------------------------- block diffusion's ends


def test_one_block_for_all_is_masked_diffusion() -> None:
    """With equal weights and draws, the same masks and the same nats."""
    rows = packed(6)
    whole, blocks = model_of(Diffusion), model_of(BlockDiffusion, block=rows.length)
    assert np.allclose(whole.examined(rows)[0], blocks.examined(rows)[0], atol=1e-4)
    for masks in ("drawn", "counted"):
        views = [
            kind(WORDS, masks=masks, **fields).ask(rows, Draws(3).of(rows), 0.0)[0]
            for kind, fields in ((Diffusion, {}), (BlockDiffusion, {"block": rows.length}))
        ]
        alone, noised = whole.grade(views[0], rows.tokens), blocks.grade(views[1], rows.tokens)
        assert float(alone.total.detach()) == pytest.approx(float(noised.total.detach()), rel=1e-4)


def test_blocks_of_one_see_what_causal_sees_and_are_exact() -> None:
    rows = single(count=1)
    model = model_of(BlockDiffusion, block=1)
    (view,) = model.objective.examine(rows)
    seen = matrix(view.whole_sight, view.slots)[0]
    past = np.tril(np.ones((rows.length, rows.length), bool))
    assert (seen[: rows.length, : rows.length] == past).all()  # clean sees clean
    assert (seen[rows.length :, : rows.length] | seen[rows.length :, rows.length :] == past).all()
    assert not seen[: rows.length, rows.length :].any()
    other = replace(rows, visits=rows.visits + 1)
    assert model.examined(rows)[0] == pytest.approx(model.examined(other)[0])  # nothing is left to chance
    total = 0.0
    for place in range(1, rows.length):  # a clean prefix and one mask, place by place
        canvas = Canvas.of([(rows.tokens[0, :place], 1, [])])
        said = model.logits(model.objective.fill(canvas), canvas.tokens)[0, -1].detach().double()
        total += float(said.logsumexp(0) - said[rows.tokens[0, place]])
    assert model.examined(rows)[0][0] == pytest.approx(total, abs=1e-4)


def test_blocks_of_one_add_up_to_one() -> None:
    model = model_of(BlockDiffusion, replace(LETTERS, never=NEVER), block=1)
    texts = np.array(list(itertools.product((0, 1, LETTERS.eos), repeat=3)))
    whole = np.full((len(texts), 4), LETTERS.bos)
    whole[:, 1:] = texts
    nats, asked = model.examined(rows_from(whole, np.zeros_like(whole)))
    assert (asked == 3).all()
    assert np.exp(-nats).sum() == pytest.approx(1, abs=1e-5)


def test_one_pass_of_two_streams_is_a_pass_for_each_block() -> None:
    rows, block = single(length=12, count=2), 4
    model = model_of(BlockDiffusion, block=block)
    (view,) = model.objective.examine(rows)
    with torch.no_grad():
        nats = model.grade(view, rows.tokens).nats.double().numpy()
    hidden = (view.asks != NOTHING)[:, rows.length :]
    for line in range(2):
        alone = []
        for start in range(0, rows.length, block):
            tokens = rows.tokens[line : line + 1, : start + block].astype(np.int64)
            opened = hidden[line : line + 1, : start + block] & (np.arange(start + block) >= start)
            everywhere = np.ones_like(opened)
            canvas = Canvas(tokens, opened, ~opened, everywhere)
            question = model.objective.fill(canvas)
            said = model.logits(question, tokens)[0].detach().double()
            places = question.asks[0][question.asked_slots[0][0]]
            for row, place in zip(said, places, strict=True):
                if place != NOTHING:
                    alone.append(float(row.logsumexp(0) - row[tokens[0, place]]))
        assert nats[line][: len(alone)] == pytest.approx(alone, abs=1e-4)


# ------------------------------------------------------------------------------------------------------------ writing


def prompts() -> Canvas:
    return Canvas.of([([BOS, 5, 6], 12, []), ([BOS], 9, []), ([BOS, *range(4, 12)], 12, []), ([BOS, 4], 3, [])])


@pytest.mark.parametrize("policy", [Surest(2, 4, True), Surest(9, 4, True, "chance"), Surest(1, 4, True)])
def test_states_of_finished_blocks_are_kept_without_a_change(policy: Policy) -> None:
    """Cached and plain writing choose the same tokens with the same probabilities; the cache feeds less."""
    model = model_of(BlockDiffusion, block=4)
    fed: list[int] = []

    def counted(view: View, tokens: np.ndarray, cache: Cache | None) -> torch.Tensor:
        fed.append(view.slots.count)
        return model.logits(view, tokens, cache)

    done = []
    for make in (None, Cache):
        fed.clear()
        generator = torch.Generator().manual_seed(2)
        barred = [0, BOS, MASK]
        done.append(
            write(model.objective.fill, counted, prompts(), policy, stops=[EOS], forbidden=barred,
                  make_cache=make, generator=generator)
        )  # fmt: skip
        done[-1] = (done[-1], sum(fed))  # type: ignore[call-overload]
    (plain, all_slots), (kept, some) = done  # type: ignore[misc]
    assert (plain.canvas.tokens == kept.canvas.tokens).all()  # type: ignore[attr-defined]
    assert np.allclose(plain.logprobs, kept.logprobs, atol=1e-4)  # type: ignore[attr-defined]
    assert some < all_slots
    assert not plain.canvas.open.any()  # type: ignore[attr-defined]


def test_what_is_settled_sees_nothing_behind_it() -> None:
    model = model_of(BlockDiffusion, block=4)
    seen_settled = 0

    def watched(view: View, tokens: np.ndarray, cache: Cache | None) -> torch.Tensor:
        nonlocal seen_settled
        assert view.settled is not None
        assert not matrix(view.whole_sight, view.slots)[:, : view.settled, view.settled :].any()
        assert not (view.asks[:, : view.settled] != NOTHING).any()
        seen_settled = max(seen_settled, view.settled)
        return model.logits(view, tokens, None)

    write(model.objective.fill, watched, prompts(), Surest(2, 4, True), forbidden=[0, BOS, MASK])
    assert seen_settled >= 8


def test_a_stop_within_a_block_ends_the_text_there() -> None:
    """Places before it are still written, places behind it, open or written, fall outside."""
    canvas = Canvas.of([([BOS], 8, [])])
    one = canvas.written(np.array([0]), np.array([6]), np.array([7]), [EOS])
    two = one.written(np.array([0]), np.array([4]), np.array([EOS]), [EOS])
    assert two.inside[0].tolist() == [True] * 5 + [False] * 4
    assert two.open[0].tolist() == [False, True, True, True] + [False] * 5


@pytest.mark.parametrize("policy", [Surest(3), Surest(3, by="chance"), Surest(2, 4), Ancestral(5), Ancestral(6, 0.3)])
def test_samplers_leave_what_is_given_and_leave_no_mask(policy: Policy) -> None:
    model = model_of(Diffusion)
    canvas = Canvas.laid([[[BOS, 5], 7, [6], 2, [EOS]], [[BOS], 5, [EOS]]])
    generator = torch.Generator().manual_seed(1)
    barred = [0, BOS, EOS, MASK]
    done = write(model.objective.fill, model.logits, canvas, policy, forbidden=barred, generator=generator)
    assert not done.canvas.open.any()
    assert (done.canvas.tokens[canvas.given] == canvas.tokens[canvas.given]).all()
    assert not np.isin(done.canvas.tokens[canvas.open], barred).any()


# ---------------------------------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("make", "word"),
    [
        (lambda: BlockDiffusion(WORDS, block=0), "a block of 0 tokens holds nothing"),
        (lambda: Diffusion(WORDS, least=0.0), "no part of"),
        (lambda: Diffusion(WORDS, most=1.5), "no part of"),
        (lambda: Diffusion(replace(WORDS, mask=-1)), "no mask token"),
        (lambda: BlockDiffusion(WORDS, block=99).ask(packed(), Draws(1).of(packed()), 0.0), "longer than a row of 14"),
    ],
)
def test_bad_settings_are_clear_errors(make: Callable[[], object], word: str) -> None:
    with pytest.raises(SightlineError, match=word):
        make()
