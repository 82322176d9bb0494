"""What a run found: ``results.json`` read with checks, so that the page and the tables can trust it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..errors import SightlineError
from .film import Film

SCHEMA = 1
COMPARABLE = ("exact", "bound")  # classes that may stand in one column of bits per byte


@dataclass(frozen=True)
class Score:
    """One score; ``value`` is None where it was not measured, and ``note`` says why."""

    name: str
    value: float | None
    unit: str
    class_: str
    column: str
    low: float | None
    high: float | None
    n: int
    note: str
    context_rule: str

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> Score:
        """A score from its record."""
        return cls(
            name=str(record["name"]),
            value=_number(record.get("value")),
            unit=str(record.get("unit", "")),
            class_=str(record.get("class", "")),
            column=str(record.get("column", "")),
            low=_number(record.get("low")),
            high=_number(record.get("high")),
            n=int(record.get("n") or 0),
            note=str(record.get("note") or ""),
            context_rule=str(record.get("context_rule") or ""),
        )


@dataclass(frozen=True)
class Sample:
    """A text that a family wrote, and what it was given."""

    kind: str
    given: str
    side: str
    written: str
    truth: str
    how: str
    film: Film = ()


@dataclass(frozen=True)
class Point:
    """One point of a loss curve."""

    step: float
    tokens: float
    flops: float
    seconds: float
    loss: float
    dev: float | None


@dataclass(frozen=True)
class Family:
    """One family's record."""

    family: str
    title: str
    parameters: float | None
    embedding_parameters: float | None
    tokens_seen: float | None
    slots_seen: float | None
    asked: float | None
    seconds: float | None
    flops: float | None
    tokens_per_second: float | None
    learning_rate: float | None
    best_step: float | None
    rule: str
    stack: str
    decoder: str
    sight_svg: str
    sight_text: str
    scores: tuple[Score, ...]
    samples: tuple[Sample, ...]
    curve: tuple[Point, ...]
    seeds: int

    def score(self, name: str) -> Score | None:
        """The score of this name, measured or not."""
        return next((score for score in self.scores if score.name == name), None)

    def likelihood(self) -> Score | None:
        """Bits per byte where they are comparable with those of other families; None for a pseudo score."""
        score = self.score("bits_per_byte")
        return score if score is not None and score.class_ in COMPARABLE and score.column == "whole text" else None

    @property
    def judges(self) -> bool:
        """Whether it labels tokens rather than predicting them: its loss is in nats of labels."""
        score = self.score("bits_per_byte")
        return score is not None and score.class_ == "discriminative"

    def own_scale(self) -> Score | None:
        """Bits per byte of another class, which may be compared with nothing beside it."""
        score = self.score("bits_per_byte")
        return score if score is not None and self.likelihood() is None else None


@dataclass(frozen=True)
class Comparison:
    """A paired difference of one score between two families: ``a`` minus ``b``."""

    a: str
    b: str
    score: str
    difference: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Floor:
    """What needs no training: the line that a family has to beat."""

    name: str
    scores: tuple[Score, ...]


@dataclass(frozen=True)
class Results:
    """All that a page shows."""

    corpus: Mapping[str, Any]
    budget: Mapping[str, Any]
    versions: Mapping[str, Any]
    machine: Mapping[str, Any]
    command: str
    seed: str
    size: str
    tokenizer: Mapping[str, Any]
    evaluation: Mapping[str, Any]
    families: tuple[Family, ...]
    floors: tuple[Floor, ...]
    comparisons: tuple[Comparison, ...]

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> Results:
        """Results from the content of ``results.json``.

        Raises
        ------
        SightlineError : another schema, or a record that lacks what it must have.
        """
        if record.get("schema") != SCHEMA:
            raise SightlineError(
                f"the results have schema {record.get('schema')!r}, and this version reads {SCHEMA}",
                "Make them again with this version",
            )
        try:
            return cls(
                corpus=_mapping(record.get("corpus")),
                budget=_mapping(record.get("budget")),
                versions=_mapping(record.get("versions")),
                machine=_mapping(record.get("machine")),
                command=str(record.get("command") or ""),
                seed=_short(record.get("seed")),
                size=_short(record.get("size")),
                tokenizer=_mapping(record.get("tokenizer")),
                evaluation=_mapping(record.get("evaluation")),
                families=tuple(_family(one) for one in record.get("families") or ()),
                floors=tuple(
                    Floor(str(one["name"]), tuple(Score.of(score) for score in one.get("scores") or ()))
                    for one in record.get("floors") or ()
                ),
                comparisons=tuple(
                    Comparison(
                        str(one["a"]), str(one["b"]), str(one["score"]), float(one["difference"]),
                        _number(one.get("low")), _number(one.get("high")),
                    )
                    for one in record.get("comparisons") or ()
                ),
            )  # fmt: skip
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise SightlineError(f"the results are not whole ({error!r})", "Make them again") from error

    @property
    def numbers(self) -> bool:
        """Whether the corpus is a table of numbers rather than a text."""
        return self.corpus.get("kind") == "numbers"

    @property
    def pairs(self) -> bool:
        """Whether the corpus is of sources and targets."""
        return self.corpus.get("kind") == "pairs"

    def difference(self, a: str, b: str, score: str) -> Comparison | None:
        """The paired difference ``a`` minus ``b``, from whichever way round it was recorded."""
        for one in self.comparisons:
            if one.score != score:
                continue
            if (one.a, one.b) == (a, b):
                return one
            if (one.a, one.b) == (b, a):
                low = None if one.high is None else -one.high
                high = None if one.low is None else -one.low
                return Comparison(a, b, score, -one.difference, low, high)
        return None


def _family(record: Mapping[str, Any]) -> Family:
    def number(name: str) -> float | None:
        return _number(record.get(name))

    def words(name: str) -> str:
        return str(record.get(name) or "")

    return Family(
        family=str(record["family"]),
        title=words("title"),
        parameters=number("parameters"),
        embedding_parameters=number("embedding_parameters"),
        tokens_seen=number("tokens_seen"),
        slots_seen=number("slots_seen"),
        asked=number("asked"),
        seconds=number("seconds"),
        flops=number("flops"),
        tokens_per_second=number("tokens_per_second"),
        learning_rate=number("learning_rate"),
        best_step=number("best_step"),
        rule=words("rule"),
        stack=words("stack"),
        decoder=words("decoder"),
        sight_svg=words("sight_svg"),
        sight_text=words("sight_text"),
        scores=tuple(Score.of(score) for score in record.get("scores") or ()),
        samples=tuple(_sample(one) for one in record.get("samples") or ()),
        curve=tuple(_point(one) for one in record.get("curve") or () if _number(one.get("loss")) is not None),
        seeds=max(1, len(record.get("seeds") or ())),
    )


def _sample(record: Mapping[str, Any]) -> Sample:
    words = {name: str(record.get(name) or "") for name in ("kind", "given", "side", "written", "truth", "how")}
    film = tuple((int(number), int(place), str(piece)) for number, place, piece in record.get("film") or ())
    return Sample(**words, film=film)


def _point(record: Mapping[str, Any]) -> Point:
    step, tokens, flops, seconds, loss = (
        float(_number(record.get(name)) or 0.0) for name in ("step", "tokens", "flops", "seconds", "loss")
    )
    return Point(step, tokens, flops, seconds, loss, _number(record.get("dev_bits_per_byte")))


def _number(value: Any) -> float | None:
    """A finite number, or None."""
    if value is None or isinstance(value, bool):
        return None
    number = float(value)
    return number if math.isfinite(number) else None


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {} if value is None else {"": value}


def _short(value: Any) -> str:
    return "" if value is None else str(value)
