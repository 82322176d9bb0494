"""What follows from a view: leaks at depth, costs, caches, classes of scores, pictures."""

from __future__ import annotations

from xml.etree import ElementTree

import numpy as np
import pytest

from sightline.errors import LeakError
from sightline.sight import (
    NOTHING,
    Depth,
    Slots,
    View,
    as_svg,
    as_text,
    asks_per_slot,
    by_place,
    cacheable,
    drawn,
    everything,
    fixed,
    forbid_leaks,
    isolated,
    itself,
    leaks,
    near,
    past,
    reach,
    score_of,
    visible_pairs,
)

T = 8
PLACE = np.arange(T)


def causal(sight=past, documents=0) -> View:  # type: ignore[no-untyped-def]
    return View.of(Slots.of(PLACE, documents), sight, shows=PLACE, asks=np.r_[1:T, NOTHING])


def bag() -> View:
    """CBOW: a slot sees its neighbours and not itself, and is asked for itself."""
    return View.of(Slots.of(PLACE), near(2) & ~itself, shows=PLACE, asks=PLACE)


def hidden(at: int) -> View:
    shows = np.where(at == PLACE, fixed(9), PLACE)
    return View.of(Slots.of(PLACE), everything, shows=shows, asks=np.where(at == PLACE, PLACE, NOTHING), most_asks=1)


def test_a_bag_of_words_leaks_in_two_layers_and_not_in_one() -> None:
    assert not leaks(bag(), Depth(1, keeps_input=False))
    assert len(leaks(bag(), Depth(2, keeps_input=False), most=99)) == T
    assert leaks(bag(), Depth(1, keeps_input=True))


def test_next_tokens_under_full_sight_leak_with_a_path() -> None:
    found = leaks(causal(everything), Depth(1), most=99)
    assert len(found) == T - 1
    assert found[0].path == (0, 1)
    with pytest.raises(LeakError, match="slot 0 is asked for position 1, which slot 1 shows") as told:
        forbid_leaks(causal(everything), Depth(1), "mispaired")
    assert "■ ■ ■" in str(told.value)


def test_a_window_that_looks_ahead_leaks_only_where_it_reaches() -> None:
    ahead = View.of(Slots.of(PLACE), past | near(1), shows=PLACE, asks=np.r_[3:T, np.full(3, NOTHING)])
    assert not leaks(ahead, Depth(2))
    assert leaks(ahead, Depth(3))
    assert len(leaks(ahead, Depth(3))[0].path) == 4


def test_a_narrowed_layer_reaches_less() -> None:
    narrow = Depth(2, narrowing=(near(1), near(1)))
    i, j = np.indices((T, T))
    assert (reach(causal(), narrow)[0] == ((j <= i) & (i - j <= 2))).all()
    assert visible_pairs(causal(), narrow) == 2 * (2 * T - 1)


def test_declared_and_judged_slots_are_not_leaks() -> None:
    kept = View.of(Slots.of(PLACE), everything, shows=PLACE, asks=np.where(PLACE == 3, 3, NOTHING), declared=PLACE == 3)
    assert not leaks(kept, Depth(2))
    judged = View.of(Slots.of(PLACE), everything, shows=PLACE, judged=np.zeros(T))
    assert not leaks(judged, Depth(2))
    with pytest.raises(ValueError, match="asked for a token or judged"):
        View.of(Slots.of(PLACE), everything, shows=PLACE, asks=PLACE, judged=np.zeros(T))


def test_documents_are_kept_apart_by_default() -> None:
    documents = np.array([0, 0, 0, 1, 1, 1, -1, -1])
    view = View.of(Slots.of(PLACE, documents), everything, shows=PLACE)
    assert isolated([view], Depth(3))
    assert visible_pairs(view, Depth(1)) == 9 + 9
    assert (view.shows[0, 6:] == NOTHING).all()


def test_costs_are_counted() -> None:
    assert visible_pairs(causal(), Depth(3)) == 3 * T * (T + 1) // 2
    assert asks_per_slot(causal()) == (T - 1) / T
    assert asks_per_slot(hidden(2)) == 1 / T


def test_only_states_that_never_change_are_cached() -> None:
    assert cacheable(causal())
    assert not cacheable(causal(everything))
    assert not cacheable(hidden(2))


def test_classes_of_scores() -> None:
    depth = Depth(2)
    assert score_of([causal()], depth) == "exact"
    assert score_of([causal(past & near(1))], Depth(1)) == "exact"  # a chain of finite memory is a chain
    assert score_of([hidden(at) for at in range(T)], depth) == "pseudo"
    several = np.isin(PLACE, (2, 5))
    at_once = View.of(
        Slots.of(PLACE), everything, shows=np.where(several, fixed(9), PLACE), asks=np.where(several, PLACE, NOTHING)
    )
    assert score_of([at_once], depth) == "nar"
    judged = View.of(Slots.of(PLACE), everything, shows=PLACE, judged=np.zeros(T))
    assert score_of([judged], depth) == "discriminative"


def test_views_give_tokens_answers_and_weights() -> None:
    tokens = np.arange(100, 100 + T)[None]
    view = hidden(2)
    assert view.shown(tokens)[0].tolist() == [100, 101, 9, *range(103, 100 + T)]
    assert view.answers(tokens).tolist() == [[102]]
    assert view.answer_weights().tolist() == [[1.0]]
    with pytest.raises(ValueError, match="promises at most 1"):
        View.of(Slots.of(PLACE), everything, shows=PLACE, asks=PLACE, most_asks=1)
    end = View.of(Slots.of(PLACE), past, shows=PLACE, asks=np.where(PLACE == T - 1, fixed(7), NOTHING))
    assert end.answers(tokens)[0, -1] == 7


def test_pictures_are_drawn_by_place() -> None:
    backward = View.of(Slots.of(PLACE[::-1], order=PLACE), past, shows=PLACE[::-1])
    i, j = np.indices((T, T))
    assert (by_place(backward)[0] == (j >= i)).all()
    assert drawn(causal()).splitlines()[1] == "■ ■ · · · · · ·"
    wrong = np.eye(T, dtype=bool)
    assert as_text(np.ones((T, T), bool), wrong).splitlines()[0].startswith("! ■")
    svg = ElementTree.fromstring(as_svg(by_place(causal())[0], wrong, [f"<{at}>" for at in range(T)], "a & b"))
    assert svg.attrib["role"] == "img"
    assert len(svg.findall("{http://www.w3.org/2000/svg}path")) == 3
