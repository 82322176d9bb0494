"""Views laid otherwise: side by side, stream by stream, a line for each document."""

from __future__ import annotations

import numpy as np
import pytest

from sightline.sight import NO_DOCUMENT, NOTHING, Depth, Slots, View, matrix, past, reach, same_stream, side_by_side

PLACE = np.arange(9)
PACKED = np.array(
    [
        [0, 0, 0, 1, 1, 1, 1, -1, -1],
        [3, 3, 3, 3, 3, 3, 3, 3, 3],
        [-1, 0, 0, 1, 2, 2, 2, 2, 2],
        [-1, -1, -1, -1, -1, -1, -1, -1, -1],
    ]
)


def view(documents: object = PACKED, positions: object = None) -> View:
    slots = Slots.of(PLACE, documents, segment=PLACE % 2, positions=positions)
    return View.of(slots, past, shows=PLACE, asks=np.r_[1:9, NOTHING], lines_of=np.arange(slots.lines) + 5)


def test_apart_is_a_line_for_each_document() -> None:
    laid, index = view(positions=np.stack(np.broadcast_arrays(np.arange(4)[:, None], PLACE), -1)).apart()
    assert laid.slots.document.tolist() == [
        [0, 0, 0] + [-1] * 6,
        [1, 1, 1, 1] + [-1] * 5,
        [3] * 9,
        [0, 0] + [-1] * 7,
        [1] + [-1] * 8,
        [2] * 5 + [-1] * 4,
    ]
    assert laid.lines_of.tolist() == [5, 5, 6, 7, 7, 7]
    assert laid.shows[1].tolist() == [3, 4, 5, 6] + [NOTHING] * 5
    assert laid.slots.positions.shape == (6, 9, 2)
    real = PACKED != NO_DOCUMENT
    for name in ("place", "order", "document", "segment"):
        back = getattr(laid.slots, name).ravel()[index]
        assert (back[real] == getattr(view().slots, name)[real]).all()
    assert (laid.shows.ravel()[index][real] == view().shows[real]).all()
    assert (index[~real] == 0).all()


def test_apart_leaves_alone_what_is_laid_so() -> None:
    for documents in (0, np.array([[4] * 9, [2] * 5 + [-1] * 4])):
        same = view(documents)
        laid, index = same.apart()
        assert laid is same
        assert (index == np.arange(index.size).reshape(index.shape)).all()
    empty, index = view(PACKED[3:]).apart()
    assert (empty.slots.document == NO_DOCUMENT).all() and (index == 0).all()


def test_views_side_by_side_do_not_see_each_other_and_come_apart_again() -> None:
    first, second = view(), view().lines(slice(None))
    both = side_by_side(first, second)
    assert both.sight == past & same_stream
    assert both.slots.count == 18 and both.ask_count == 2 * first.ask_count and both.most_asks == 18
    square, half = matrix(both.whole_sight, both.slots), matrix(first.whole_sight, first.slots)
    assert (square[:, :9, :9] == half).all() and (square[:, 9:, 9:] == half).all()
    assert not square[:, :9, 9:].any() and not square[:, 9:, :9].any()
    assert not reach(both, Depth(4))[:, :9, 9:].any()
    one, two = both.by_stream()
    assert (one.slots.stream == 0).all() and (two.slots.stream == 1).all()
    assert (one.asks == first.asks).all() and (two.shows == second.shows).all()
    assert first.by_stream()[0] is first


def test_streams_that_are_mixed_up_are_not_told_apart() -> None:
    mixed = Slots.of(PLACE, 0, stream=PLACE % 2)
    with pytest.raises(ValueError, match="stand in order"):
        View.of(mixed, past, shows=PLACE).by_stream()
    with pytest.raises(ValueError, match="one rule"):
        side_by_side(view(), view(0))
