"""Which family to take for what: computed from scores and their intervals, never written by hand.

A family is recommended where its score is better than every other's by more than chance: the paired difference excludes
zero, or, where no pair was measured, the intervals do not meet. Else: not decided at this budget, between these.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .headline import count
from .record import COMPARABLE, Family, Results, Score


@dataclass(frozen=True)
class _Question:
    """What one takes a family for, and the score that answers it."""

    purpose: str
    score: str
    lower_is_better: bool
    digits: int
    unit: str
    scale: float = 1.0


_QUESTIONS = (
    _Question("to model whole texts", "bits_per_byte", True, 3, "bits per byte"),
    _Question("to continue a text", "continuation_bits_per_byte", True, 3, "bits per byte"),
    _Question("to tell texts apart (frozen states and a linear probe)", "understanding_accuracy", False, 1, "%", 100.0),
    _Question("to fill a blank that both sides surround", "infill_chrf", False, 1, "chrF"),
    _Question("to foresee the next number", "nats_per_number", True, 3, "nats per number"),
    _Question("to forecast the middle of what comes", "mase", True, 3, "MASE"),
    _Question("to forecast with intervals", "crps", True, 3, "CRPS"),
)
_ON_PAIRS = {
    "to continue a text": "to model the targets of sources",
    "to write on from a beginning": "to write the target of a source",
}
_WRITING = _Question("", "chrf", False, 1, "chrF")


def recommend(results: Mapping[str, Any]) -> list[str]:
    """One sentence for each purpose that the results can speak to."""
    return recommended(Results.of(results))


def recommended(results: Results) -> list[str]:
    """As ``recommend``, for results already read."""
    sentences = []
    for question in _QUESTIONS:
        if said := _answer(results, question, _entrants(results, question.score)):
            sentences.append(said)
    for side in ("left", "right", "both"):
        entrants = [one for one in _entrants(results, "chrf") if one[1].column == side]
        purpose = {"left": "to write on from a beginning", "right": "to write up to an end"}.get(
            side, "to write with both sides given"
        )
        if said := _answer(results, _WRITING, entrants, purpose):
            sentences.append(said)
    if said := _fastest(results):
        sentences.append(said)
    sentences += _own_scales(results)
    return sentences


def _entrants(results: Results, name: str) -> list[tuple[Family, Score]]:
    """Families with a measured score of this name that may be ranked; a pseudo likelihood never is."""
    found = []
    for family in results.families:
        score = family.score(name)
        if score is None or score.value is None:
            continue
        if name.endswith("bits_per_byte") and (score.class_ not in COMPARABLE or score.column == "infilling"):
            continue
        found.append((family, score))
    return found


def _answer(results: Results, question: _Question, entrants: Sequence[tuple[Family, Score]], purpose: str = "") -> str:
    if not entrants:
        return ""
    purpose = purpose or question.purpose
    purpose = _ON_PAIRS.get(purpose, purpose) if results.pairs else purpose
    sign = 1 if question.lower_is_better else -1
    ranked = sorted(entrants, key=lambda one: sign * _value(one[1]))
    best, score = ranked[0]
    figure = _figure(score, question)
    beaten = _beats_floors(results, question, score)
    if len(ranked) == 1:
        return f"{_capital(purpose)}: {best.family} is the only one measured here, at {figure}.{beaten}"
    bounds = [
        (family.family, other) for family, other in ranked[1:] if score.class_ == "exact" and other.class_ == "bound"
    ]
    ranked = [one for one in ranked if one[0].family not in dict(bounds)]
    beaten = _only_bounded(question, best.family, bounds) + beaten
    level = [
        family.family for family, other in ranked[1:] if not _better(results, question, best, score, family, other)
    ]
    if not level:
        if len(ranked) == 1:
            return f"{_capital(purpose)}: {best.family} has the best value, {figure}.{beaten}"
        second, runner_up = ranked[1]
        return (
            f"{_capital(purpose)}: take {best.family}, {figure}; the next is {second.family}, "
            f"{_figure(runner_up, question)}, and the difference is more than chance.{beaten}"
        )
    among = _listed([best.family, *level])
    worse = [family.family for family, _ in ranked[1:] if family.family not in level]
    tail = f" {_listed(worse)} {'is' if len(worse) == 1 else 'are'} behind." if worse else ""
    return (
        f"{_capital(purpose)}: not decided at this budget between {among} ({best.family} has the best value, {figure}, "
        f"within chance of the other{'s' if len(level) > 1 else ''}).{tail}{beaten}"
    )


def _only_bounded(question: _Question, best: str, bounds: Sequence[tuple[str, Score]]) -> str:
    """That nothing is decided about those whose true value may lie anywhere below what is known of it."""
    if not bounds:
        return ""
    known = _listed([f"{family} ({_figure(score, question)})" for family, score in bounds])
    return f" Only a bound is known of {known}: whether {best} is better is not decided."


def _better(results: Results, question: _Question, best: Family, score: Score, other: Family, others: Score) -> bool:
    """Whether the best is better than another by more than chance."""
    paired = results.difference(best.family, other.family, question.score)
    if paired is not None:
        if paired.low is None or paired.high is None:
            return False
        return paired.high < 0 if question.lower_is_better else paired.low > 0
    if None in (score.low, score.high, others.low, others.high):
        return False
    if question.lower_is_better:
        return bool(score.high < others.low)  # type: ignore[operator]
    return bool(score.low > others.high)  # type: ignore[operator]


def _beats_floors(results: Results, question: _Question, score: Score) -> str:
    """A warning for each floor that the best does not clear by its own interval."""
    warnings = []
    for floor in results.floors:
        line = next((one for one in floor.scores if one.name == question.score and one.value is not None), None)
        if line is None or (line.class_ == "task") != (score.class_ == "task"):
            continue
        edge = score.high if question.lower_is_better else score.low
        edge = _value(score) if edge is None else edge
        clear = edge < _value(line) if question.lower_is_better else edge > _value(line)
        if not clear:
            warnings.append(
                f" But {floor.name} reaches {_figure(line, question)}: nothing here is clearly above that floor."
            )
    return "".join(warnings)


def _fastest(results: Results) -> str:
    timed = [one for one in results.families if one.tokens_per_second]
    if len(timed) < 2:
        return ""
    unit = "numbers" if results.numbers else "tokens"
    first, second, *_ = sorted(timed, key=lambda one: -(one.tokens_per_second or 0))
    return (
        f"For speed of training: {first.family} reads {count(first.tokens_per_second)} {unit}/s, {second.family} "
        f"{count(second.tokens_per_second)} (one measurement on this machine, no interval)."
    )


def _own_scales(results: Results) -> list[str]:
    sentences = []
    for family in results.families:
        score = family.own_scale()
        if score is not None and score.value is not None:
            sentences.append(
                f"{_capital(family.family)} is not ranked by bits per byte: its {score.value:.3f} is a {score.class_} "
                f"score, which is no likelihood of texts and says nothing beside an exact one."
            )
    return sentences


def _value(score: Score) -> float:
    return score.value if score.value is not None else float("nan")


def _figure(score: Score, question: _Question) -> str:
    bound = "<= " if score.class_ == "bound" else ""
    gap = "" if question.unit == "%" else " "
    return f"{bound}{_value(score) * question.scale:.{question.digits}f}{gap}{question.unit}"


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
