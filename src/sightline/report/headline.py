"""The headline table as words: one line per family, one cell per figure. The page and the terminal show the same."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .record import Family, Results, Score


@dataclass(frozen=True)
class Cell:
    """One cell.

    Parameters
    ----------
    text : the figure. spread : its interval. small : what it was given, or why it is empty.
    muted : not to be compared with the cells above and below it.
    """

    text: str
    spread: str = ""
    small: str = ""
    muted: bool = False


@dataclass(frozen=True)
class Heading:
    """The head of a column: its name, its unit, and what is better."""

    name: str
    unit: str = ""


@dataclass(frozen=True)
class Headline:
    """The table; ``names`` are the families, in the order of ``lines``."""

    headings: tuple[Heading, ...]
    names: tuple[tuple[str, str], ...]
    lines: tuple[tuple[Cell, ...], ...]


EMPTY = Cell("–")


def headline(results: Results) -> Headline:
    """Every family's figures; a pseudo score stands in a column of its own, present only where there is one."""
    families = results.families
    if results.numbers:
        return _of_numbers(families)
    own = any((score := family.own_scale()) is not None and score.value is not None for family in families)
    infill = any(family.score("infill_chrf") is not None for family in families)
    headings = [
        Heading("parameters", "without embeddings"),
        Heading("bits per byte", "whole text, lower is better"),
        Heading("continuation", "bits per byte, second half given the first"),
    ]
    if own:
        headings.append(Heading("pseudo bits per byte", "not comparable"))
    headings += [Heading("understanding", "probe accuracy"), Heading("writing", "chrF")]
    if infill:
        headings.append(Heading("infilling", "chrF"))
    headings += [
        Heading("tokens", "read"),
        Heading("slots", "fed"),
        Heading("compute", "FLOPs"),
        Heading("time", "training"),
        Heading("speed", "tokens/s"),
    ]
    lines = tuple(tuple(_line(family, own, infill)) for family in families)
    return Headline(tuple(headings), tuple((family.family, family.title) for family in families), lines)


def _of_numbers(families: Sequence[Family]) -> Headline:
    """The table for series of numbers: a density instead of bits, forecasts instead of writing."""
    headings = (
        Heading("parameters"),
        Heading("nats per number", "density of the next number, lower is better"),
        Heading("MASE", "forecast, lower is better"),
        Heading("CRPS", "forecast, standard deviations, lower is better"),
        Heading("numbers", "read"),
        Heading("compute", "FLOPs"),
        Heading("time", "training"),
        Heading("speed", "numbers/s"),
    )
    lines = tuple(
        (
            Cell(count(family.parameters), small=_embeddings(family)),
            *(_scored(family.score(name), 3) for name in ("nats_per_number", "mase", "crps")),
            Cell(count(family.tokens_seen)),
            Cell(power(family.flops)),
            Cell(duration(family.seconds)),
            Cell(count(family.tokens_per_second)),
        )
        for family in families
    )
    return Headline(headings, tuple((family.family, family.title) for family in families), lines)


def _line(family: Family, own: bool, infill: bool) -> list[Cell]:
    cells = [
        Cell(count(family.parameters), small=_embeddings(family)),
        _bits(family.likelihood(), family.own_scale()),
        _scored(family.score("continuation_bits_per_byte"), 3),
    ]
    if own:
        own_scale = family.own_scale()
        found = _scored(own_scale, 3)
        cells.append(Cell(found.text, found.spread, own_scale.class_ if own_scale else "", muted=True))
    cells += [_scored(family.score("understanding_accuracy"), 1, 100, "%"), _given(family.score("chrf"))]
    if infill:
        cells.append(_given(family.score("infill_chrf")))
    return [
        *cells,
        Cell(count(family.tokens_seen)),
        Cell(count(family.slots_seen)),
        Cell(power(family.flops)),
        Cell(duration(family.seconds)),
        Cell(count(family.tokens_per_second)),
    ]


def _embeddings(family: Family) -> str:
    return f"+ {count(family.embedding_parameters)} embeddings" if family.embedding_parameters else ""


def _bits(score: Score | None, own_scale: Score | None) -> Cell:
    if score is not None:
        return _scored(score, 3)
    if own_scale is not None and own_scale.value is None:
        return Cell("–", small=own_scale.note)
    return Cell("–", small="no likelihood of texts" if own_scale is not None else "")


def _given(score: Score | None) -> Cell:
    cell = _scored(score, 1)
    if score is None or score.value is None or not score.column:
        return cell
    return Cell(cell.text, cell.spread, f"given {score.column}")


def _scored(score: Score | None, digits: int, scale: float = 1, sign: str = "") -> Cell:
    if score is None:
        return EMPTY
    if score.value is None:
        return Cell("–", small=f"not measured: {score.note}" if score.note else "not measured")
    bound = "<= " if score.class_ == "bound" else ""
    return Cell(f"{bound}{score.value * scale:.{digits}f}{sign}", spread(score, digits, scale))


def spread(score: Score, digits: int, scale: float = 1) -> str:
    """The 95% interval, or nothing."""
    if score.low is None or score.high is None:
        return ""
    return f"{score.low * scale:.{digits}f}–{score.high * scale:.{digits}f}"


def count(value: float | None) -> str:
    """A count with three digits and a letter: 812 k, 10.3 M."""
    if value is None:
        return "–"
    for limit, letter in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= limit * 0.9995:
            return f"{_three(value / limit)} {letter}"
    return f"{value:.0f}"


def power(value: float | None) -> str:
    """A large number as a power of ten: 1.2e15."""
    return "–" if not value else f"{value:.1e}".replace("e+", "e")


def duration(seconds: float | None) -> str:
    """Seconds, minutes or hours."""
    if seconds is None:
        return "–"
    if seconds < 120:
        return f"{seconds:.1f} s" if seconds < 9.95 else f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def _three(value: float) -> str:
    return f"{value:.0f}" if value >= 99.95 else f"{value:.1f}" if value >= 9.995 else f"{value:.2f}"
