"""The error that names a leak, with its picture."""

from __future__ import annotations

from ..errors import LeakError
from .derive import Depth, leaks
from .drawing import drawn
from .view import View


def forbid_leaks(view: View, depth: Depth, family: str) -> None:
    """Raise ``LeakError`` with the picture of the sight if any asked slot can reach its answer."""
    found = leaks(view, depth, most=3)
    if not found:
        return
    first = view.lines(slice(found[0].line, found[0].line + 1))
    raise LeakError(
        f"{family} leaks: {found[0]}",
        f"Hide the answer, narrow the sight ({view.sight}), or declare the leak",
        drawn(first),
    )
