"""Families that do not exist yet, stated as throw-away objectives: a core that assumes slots = tokens fails here.

Each passes the static leak check, has a planted bug that the check must catch, and learns on the real stack.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch

from sightline.data.vocabulary import Vocabulary
from sightline.errors import LeakError
from sightline.objectives.base import Term
from sightline.objectives.model import Model
from sightline.sight import (
    NOTHING,
    Depth,
    Rule,
    Slots,
    View,
    asker,
    by_order,
    cacheable,
    everything,
    fixed,
    forbid_leaks,
    leaks,
    matrix,
    past,
    seen,
    streams,
)
from sightline.stacks.head import Head
from sightline.stacks.shape import Shape
from sightline.stacks.transformer import Transformer

T, MASK, START, END, SENTINEL = 12, 61, 62, 63, 60
SPAN = np.arange(4, 7)  # the positions that are cut out
DEPTH = Depth(layers=3)


@dataclass(frozen=True)
class Shapely:
    """A throw-away family: a view over one row of T tokens, and the rule of its planted bug."""

    view: View
    planted: View
    shape: dict[str, object]


def bang() -> Shapely:
    """Main stream, and two streams of masks; stream k of column m is asked for y_{m+k-1} (Qi et al., 2021)."""
    column = np.arange(1, T)
    stream = np.repeat([0, 1, 2], T - 1)
    m = np.tile(column, 3)
    answer = m + stream - 1
    shows = np.where(stream == 0, m - 1, fixed(MASK))
    asks = np.where((stream > 0) & (answer < T), answer, NOTHING)
    slots = Slots.of(np.where(stream == 0, m - 1, answer), order=m, stream=stream)
    chain = (seen.stream > 0) & (seen.stream <= asker.stream) & (seen.order == asker.order)
    view = View.of(slots, ((seen.stream == 0) & past) | chain, shows=shows, asks=asks)
    late = (seen.stream == 0) & (seen.order <= asker.order + 1)
    return Shapely(view, replace(view, sight=late | chain), {})


def xlnet() -> Shapely:
    """Content and query streams over a drawn order (Yang et al., 2019); the first query sees nothing at all."""
    order = np.tile(np.random.default_rng(3).permutation(T), 2)
    query = np.repeat([0, 1], T)
    place = np.tile(np.arange(T), 2)
    slots = Slots.of(place, order=order, stream=query, positions=place)
    shows, asks = np.where(query == 1, NOTHING, place), np.where(query == 1, place, NOTHING)
    view = View.of(slots, (streams(0, 0) & past) | (streams(1, 0) & by_order), shows=shows, asks=asks, most_asks=T)
    return Shapely(view, replace(view, sight=(streams(0, 0) | streams(1, 0)) & past), {"blank": True})


def t5() -> Shapely:
    """Source with a sentinel for the span, target that writes sentinel and span (Raffel et al., 2020)."""
    source = np.r_[0:4, fixed(SENTINEL), 7:T]
    target = np.r_[fixed(START), fixed(SENTINEL), SPAN]
    asks = np.r_[np.full(len(source), NOTHING), fixed(SENTINEL), SPAN, fixed(END)]
    stream = np.repeat([0, 1], [len(source), len(target)])
    order = np.r_[np.arange(len(source)), np.arange(len(target))]
    sight = streams(0, 0) | streams(1, 0) | (streams(1, 1) & past)
    view = View.of(Slots.of(order, stream=stream), sight, shows=np.r_[source, target], asks=asks, most_asks=5)
    uncorrupted = np.r_[0:4, SPAN[0], 7:T, target]
    return Shapely(view, replace(view, shows=uncorrupted[None]), {"positions": "relative"})


def electra() -> Shapely:
    """The discriminator judges every token it is shown (Clark et al., 2020): labels, not tokens, are asked."""
    place = np.arange(T)
    replaced = np.isin(place, SPAN)
    shows = np.where(replaced, fixed(7), place)
    view = View.of(Slots.of(place), everything, shows=shows, judged=replaced.astype(int))
    return Shapely(view, View.of(Slots.of(place), everything, shows=shows, asks=place), {})


FAMILIES: list[Callable[[], Shapely]] = [bang, xlnet, t5, electra]


@pytest.fixture(params=FAMILIES, ids=lambda family: family.__name__)
def shapely(request: pytest.FixtureRequest) -> Shapely:
    return request.param()


def test_does_not_leak_and_its_planted_bug_does(shapely: Shapely) -> None:
    forbid_leaks(shapely.view, DEPTH, "throw-away")
    assert leaks(shapely.planted, DEPTH)
    with pytest.raises(LeakError, match="is asked for position"):
        forbid_leaks(shapely.planted, DEPTH, "throw-away")


def model_of(shapely: Shapely) -> Model:
    torch.manual_seed(0)
    stack = Transformer(Shape(3, 32, 4, 64, 32, **shapely.shape))  # type: ignore[arg-type]
    head = Head(32, 64, np.arange(0))
    return Model(_Owner(), stack, head, None)  # type: ignore[arg-type]


class _Owner:
    stack = "transformer"
    vocabulary = Vocabulary(64, 64)
    shows_nothing = False  # the shapes say so themselves
    position_tables = 1
    by_place = tells_lengths = False
    smooths = 0.0


def test_learns_a_row_by_heart_on_the_real_stack(shapely: Shapely) -> None:
    tokens = np.random.default_rng(0).integers(0, 50, (1, T))
    model = model_of(shapely)
    judge = torch.nn.Linear(32, 1)
    optimizer = torch.optim.AdamW([*model.parameters(), *judge.parameters()], lr=5e-3)
    losses = []
    for _ in range(100):
        term = graded(model, judge, shapely.view, tokens)
        loss = term.total / max(1.0, float(shapely.view.weights.sum()))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.2 * losses[0]


def graded(model: Model, judge: torch.nn.Module, view: View, tokens: np.ndarray) -> Term:
    if view.judged is None:
        return Term("asked", model.grade(view, tokens).total)
    scores = judge(model.states(view, tokens))[..., 0]
    labels = torch.from_numpy(view.judged).float()
    return Term("judged", torch.nn.functional.binary_cross_entropy_with_logits(scores, labels, reduction="sum"))


def test_perturbing_what_a_slot_may_not_see_moves_nothing(shapely: Shapely) -> None:
    tokens = np.random.default_rng(1).integers(0, 50, (1, T))
    model = model_of(shapely).eval()
    from sightline.sight import reach

    reached = reach(shapely.view, DEPTH)[0]
    before = model.states(shapely.view, tokens)[0]
    for position in range(T):
        other = tokens.copy()
        other[0, position] = (tokens[0, position] + 1) % 50
        moved = (model.states(shapely.view, other)[0] - before).abs().amax(-1).detach().numpy() > 0
        allowed = reached[:, shapely.view.shows[0] == position].any(1)
        assert not (moved & ~allowed).any()


def test_bangs_main_stream_may_be_kept() -> None:
    assert cacheable(bang().view)


def test_a_slot_that_sees_nothing_gets_nothing() -> None:
    shapely = xlnet()
    blind = ~matrix(shapely.view.whole_sight, shapely.view.slots)[0].any(1)
    assert blind.sum() == 1
    model = model_of(shapely).eval()
    tokens = np.random.default_rng(1).integers(0, 50, (1, T))
    states = model.states(shapely.view, tokens)[0][torch.from_numpy(blind)]
    other = model.states(shapely.view, (tokens + 5) % 50)[0][torch.from_numpy(blind)]
    assert torch.isfinite(states).all()
    assert torch.equal(states, other)


def test_rules_print_as_they_are_typed() -> None:
    rule: Rule = xlnet().view.sight
    assert rule.text == "(by_order & streams(1, 0)) | (past & streams(0, 0))"
