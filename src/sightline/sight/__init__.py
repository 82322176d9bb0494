"""Who may see whom; what a question to a stack is; what follows from it.

Integers and booleans only: nothing here knows weights, files, devices or what a token means, and nothing here imports
torch or a kernel.
"""

from .derive import (
    Depth,
    Leak,
    Score,
    asks_per_slot,
    cacheable,
    isolated,
    leaks,
    matrix,
    reach,
    score_of,
    unasked,
    visible_pairs,
)
from .drawing import as_svg, as_text, by_place, drawn
from .guard import forbid_leaks
from .rule import (
    OPENING,
    Rule,
    asker,
    by_order,
    earlier_segment,
    everything,
    future,
    itself,
    near,
    opening,
    past,
    same_document,
    same_segment,
    same_stream,
    seen,
    streams,
)
from .view import NO_DOCUMENT, NOTHING, Slots, View, fixed, seats, side_by_side

__all__ = [
    "NOTHING",
    "NO_DOCUMENT",
    "OPENING",
    "Depth",
    "Leak",
    "Rule",
    "Score",
    "Slots",
    "View",
    "as_svg",
    "as_text",
    "asker",
    "asks_per_slot",
    "by_order",
    "by_place",
    "cacheable",
    "drawn",
    "earlier_segment",
    "everything",
    "fixed",
    "forbid_leaks",
    "future",
    "isolated",
    "itself",
    "leaks",
    "matrix",
    "near",
    "opening",
    "past",
    "reach",
    "same_document",
    "same_segment",
    "same_stream",
    "score_of",
    "seats",
    "seen",
    "side_by_side",
    "streams",
    "unasked",
    "visible_pairs",
]
