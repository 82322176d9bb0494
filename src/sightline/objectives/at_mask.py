"""Asked at the mask: a text is read in one direction, and a hidden token is answered where it stands (UniLM).

    training   the  MASK sat  on   .     asked for: cat       a mask sees what is read before it, other masks too
    a score    the  cat  sat  on   .     shown, never asked   text: what is read before it, and itself
                    Q    Q    Q    Q     asked for: itself    query, a second slot in its place: the text before it
    writing    the  cat  Q               asked for: sat       which then takes the query's place

Nobody sees a query but itself, so one pass scores a text as appending a mask, reading it and replacing it would do
token after token. "Before" is in the order of the slots, from either end of a text.

Dong et al., Unified Language Model Pre-training for Natural Language Understanding and Generation (UniLM, 2019).
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ..data import RowDraws
from ..data.vocabulary import Vocabulary
from ..errors import SightlineError
from ..sight import NO_DOCUMENT, NOTHING, Rule, Slots, View, fixed, itself, seen
from .masked import corrupted, grams, grouped

Hide = Literal["token", "gram"]

TRUE, QUERY = 0, 1  # streams: slots that show the text, and masks that ask beside it
NEVER = 2.0  # a lot that is never among the smallest


def check_share(name: str, share: float) -> None:
    """Refuse a share of tokens to hide that is not in [0, 1)."""
    if not 0 <= share < 1:
        raise SightlineError(
            f"{name} = {share} hides everything or nothing that there is",
            "Use 0 to leave it away, or a share below 1 such as 0.15",
        )


def check(at_mask: float, hide: Hide, vocabulary: Vocabulary) -> None:
    """Refuse settings of a family that is asked at the mask, or a vocabulary without one."""
    check_share("at_mask", at_mask)
    if at_mask:
        vocabulary.need("mask")
    elif hide != "token":
        raise SightlineError(f"hide={hide} says how at_mask hides, and at_mask is 0", "Give both, or leave hide away")


def text_only(before: Rule) -> Rule:
    """The text ``before``, never the queries beside it, and oneself."""
    return (before & (seen.stream == TRUE)) | itself


def hiding(
    text: View, rest: NDArray[np.bool_], share: float, hide: Hide, draws: RowDraws, vocabulary: Vocabulary
) -> View:
    """A view of a text that asks nothing, with a share of ``rest`` [rows, slots] hidden and asked for.

    Of a row's rest ``ceil(share * tokens)``, one by one or by chance two or three neighbours together (``hide``).
    """
    slots = text.slots.count
    lot = draws.uniform(slots)
    if hide == "gram":
        lot = np.take_along_axis(lot, grouped(grams(draws, slots)), axis=1)
    rank = np.argsort(np.argsort(np.where(rest, lot, NEVER), axis=1, kind="stable"), axis=1)
    hidden = rest & (rank < np.ceil(share * rest.sum(1))[:, None])
    shows, kept = corrupted(text.shows, hidden, draws, vocabulary)
    return View.of(
        text.slots,
        text.sight,
        shows=shows,
        asks=np.where(hidden, text.shows, NOTHING),
        most_asks=min(int(np.ceil(share * slots)) + 1, slots),
        declared=kept,
        kind=text.kind,
    )


def beside(text: View, asked: NDArray[np.bool_], mask: int) -> View:
    """A view of a text that asks nothing, and beside it a query for each slot that is ``asked`` [rows, slots]."""
    slots = text.slots

    def twice(field: NDArray[np.int64]) -> NDArray[np.int64]:
        return np.concatenate([field, field], axis=1)

    asking = np.arange(2 * slots.count) >= slots.count
    return View.of(
        Slots.of(
            twice(slots.place),
            np.concatenate([slots.document, np.where(asked, slots.document, NO_DOCUMENT)], axis=1),
            order=twice(slots.order),
            segment=twice(slots.segment),
            stream=np.where(asking, QUERY, TRUE),
            positions=twice(slots.positions),
        ),
        text.sight,
        shows=np.where(asking, fixed(mask), twice(text.shows)),
        asks=np.where(asking, twice(slots.place), NOTHING),
        most_asks=slots.count,
        kind=text.kind,
    )


def behind(text: View, mask: int, segment: int = 0) -> View:
    """What is written, whose last slot asks for the place that comes next, and behind it a query that asks instead."""
    slots, asked = text.slots, text.asks[:, -1:]
    known = np.maximum(asked, 0)  # lines that are done ask nothing

    def longer(field: NDArray[np.int64], last: NDArray[np.int64]) -> NDArray[np.int64]:
        return np.concatenate([field, last], axis=1)

    asking = np.arange(slots.count + 1) == slots.count
    return View.of(
        Slots.of(
            longer(slots.place, known),
            longer(slots.document, np.where(asked == NOTHING, NO_DOCUMENT, 0)),
            order=longer(slots.order, slots.order[:, -1:] + 1),
            segment=longer(slots.segment, np.full_like(asked, segment)),
            stream=np.where(asking, QUERY, TRUE),
            positions=longer(slots.positions, np.where(asked == NOTHING, 0, slots.positions[:, -1:] + 1)),
        ),
        text.sight,
        shows=np.where(asking, fixed(mask), longer(text.shows, known)),
        asks=np.where(asking, longer(text.asks, asked), NOTHING),
        most_asks=1,
        kind=text.kind,
    )
