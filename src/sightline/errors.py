"""Errors that a person can act on: what happened, why, and what to do next."""

from __future__ import annotations


class SightlineError(Exception):
    """A mistake in what was asked, told in one line.

    The command line prints the line and leaves with exit code 2; nothing was overwritten.

    Parameters
    ----------
    what : the value that is wrong, and the rule it breaks.
    do : what to do about it.
    """

    def __init__(self, what: str, do: str = "") -> None:
        self.what = what.rstrip(".")
        self.do = do.rstrip(".")
        super().__init__(f"{self.what}. {self.do}." if self.do else f"{self.what}.")


class LeakError(SightlineError):
    """An asked slot can reach the token it must answer.

    Parameters
    ----------
    what, do : as in ``SightlineError``.
    picture : the sight that leaks, drawn as text.
    """

    def __init__(self, what: str, do: str, picture: str) -> None:
        super().__init__(what, do)
        self.picture = picture

    def __str__(self) -> str:
        return f"{super().__str__()}\n{self.picture}"


class Stopped(Exception):  # noqa: N818 - a person stopped the work: not an error
    """Long work was interrupted and saved; the message says how to continue."""
