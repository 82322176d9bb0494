"""The algebra of rules: structure kept, one truth in every array type."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sightline.sight import (
    Slots,
    asker,
    everything,
    future,
    itself,
    matrix,
    near,
    opening,
    past,
    same_document,
    seats,
    seen,
    settled,
)
from sightline.sight import streams as of_streams

T = 6
SLOTS = Slots.of(np.arange(T), [0, 0, 0, 1, 1, -1], segment=[0, 0, 1, 1, 1, 1], stream=[0, 1, 0, 1, 0, 1])
RULES = [
    past,
    future,
    everything,
    itself,
    same_document,
    opening,
    near(2),
    of_streams(1, 0),
    past & near(1),
    past | opening,
    ~past,
    (asker.place - seen.place == 2) & same_document,
]


@pytest.mark.parametrize("rule", RULES, ids=str)
def test_one_truth_for_arrays_tensors_and_scalars(rule) -> None:  # type: ignore[no-untyped-def]
    truth = matrix(rule, SLOTS)[0]

    class Tensors:
        place, order, document, segment, stream = (
            torch.from_numpy(getattr(SLOTS, name)) for name in ("place", "order", "document", "segment", "stream")
        )

    by_tensors = torch.as_tensor(rule(seats(Tensors, True), seats(Tensors, False))).expand(1, T, T)[0]
    assert (by_tensors.numpy() == truth).all()

    class At:
        def __init__(self, slot: int) -> None:
            for name in ("place", "order", "document", "segment", "stream"):
                setattr(self, name, getattr(SLOTS, name)[0, slot])

    for i in range(T):
        for j in range(T):
            assert bool(rule(At(i), At(j))) == truth[i, j]


def test_named_rules_are_what_they_say() -> None:
    i, j = np.indices((T, T))
    assert (matrix(past, SLOTS)[0] == (j <= i)).all()
    assert (matrix(future, SLOTS)[0] == (j >= i)).all()
    assert (matrix(near(2), SLOTS)[0] == (abs(i - j) <= 2)).all()
    assert matrix(everything, SLOTS).all()


def test_equal_rules_are_the_same_expression_in_any_order() -> None:
    assert past & near(3) == near(3) & past
    assert hash(past & near(3)) == hash(near(3) & past)
    assert (past & past) == past
    assert (past & everything) == past
    assert (past | everything) == everything
    assert ~~past == past
    assert past != future
    assert set((past & near(3) & same_document).demands) == {past, near(3), same_document}


def test_rules_print_as_typed() -> None:
    assert str(past & near(3)) == "near(3) & past"
    assert str((past | opening) & same_document) == "(opening | past) & same_document"


def test_mistakes_are_refused() -> None:
    with pytest.raises(TypeError, match="join rules with"):
        bool(past)
    with pytest.raises(AttributeError, match="no field 'colour'"):
        asker.colour  # noqa: B018
    with pytest.raises(ValueError, match="reach"):
        near(-1)


def test_a_rule_is_plainer_where_a_part_of_it_is_settled() -> None:
    prefix = past | opening
    assert settled(prefix, opening, True) == everything
    assert settled(prefix, opening, False) == past
    assert settled(opening & past, opening, True) == past
    assert settled(~opening & past, opening, False) == past
    never = settled(opening & past, opening, False)
    order = np.arange(4)
    slots = Slots.of(order)
    assert not matrix(never, slots).any()
    assert settled(near(2) | (past & ~opening), opening, True) == near(2)
    assert settled(past, opening, True) == past
