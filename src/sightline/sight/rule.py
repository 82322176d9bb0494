"""Who may see whom, as an expression: comparisons of two slots' fields, joined by ``&``, ``|`` and ``~``.

    past   = seen.order <= asker.order               ■ · · ·
    window = past & near(1)                          ■ ■ · ·      row: the slot that asks (asker)
                                                     · ■ ■ ·      column: the slot that is seen
                                                     · · ■ ■

A rule keeps its structure. NumPy evaluates it to a matrix for leaks, costs and pictures; called with tensors, or with
scalars inside a compiled mask function, the same object gives the same truth, since it uses nothing but operators.
"""

from __future__ import annotations

import operator
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, Protocol

Field = Literal["place", "order", "document", "segment", "stream"]
FIELDS: tuple[Field, ...] = ("place", "order", "document", "segment", "stream")
OPENING = 0  # the segment that `opening` lets everybody see
MAIN = 1  # the stream of real tokens that predicting streams look at


class Seat(Protocol):
    """Anything with a slot's five fields, as arrays, tensors or scalars that broadcast against each other."""

    place: Any
    order: Any
    document: Any
    segment: Any
    stream: Any


class Value(ABC):
    """A number that depends on the asking and the seen slot: a field, a constant, a sum or a difference."""

    @abstractmethod
    def of(self, asker: Any, seen: Any) -> Any:
        """The number itself, for these two slots."""

    @property
    @abstractmethod
    def text(self) -> str:
        """The expression as it would be typed."""

    def __add__(self, other: Value | int) -> Value:
        return Sum(self, 1, as_value(other))

    def __sub__(self, other: Value | int) -> Value:
        return Sum(self, -1, as_value(other))

    def __le__(self, other: Value | int) -> Rule:
        return Compare(self, "<=", as_value(other))

    def __lt__(self, other: Value | int) -> Rule:
        return Compare(self, "<", as_value(other))

    def __ge__(self, other: Value | int) -> Rule:
        return Compare(self, ">=", as_value(other))

    def __gt__(self, other: Value | int) -> Rule:
        return Compare(self, ">", as_value(other))

    def __eq__(self, other: Value | int) -> Rule:  # type: ignore[override]
        return Compare(self, "==", as_value(other))

    def __ne__(self, other: Value | int) -> Rule:  # type: ignore[override]
        return Compare(self, "!=", as_value(other))

    __hash__ = object.__hash__


@dataclass(frozen=True, eq=False)
class FieldOf(Value):
    """One field of one of the two slots."""

    side: Literal["asker", "seen"]
    name: Field

    def of(self, asker: Any, seen: Any) -> Any:
        return getattr(asker if self.side == "asker" else seen, self.name)

    @property
    def text(self) -> str:
        return f"{self.side}.{self.name}"


@dataclass(frozen=True, eq=False)
class Constant(Value):
    """A whole number."""

    number: int

    def of(self, asker: Any, seen: Any) -> Any:
        return self.number

    @property
    def text(self) -> str:
        return str(self.number)


@dataclass(frozen=True, eq=False)
class Sum(Value):
    """``left + sign * right``."""

    left: Value
    sign: int
    right: Value

    def of(self, asker: Any, seen: Any) -> Any:
        left, right = self.left.of(asker, seen), self.right.of(asker, seen)
        return left + right if self.sign > 0 else left - right

    @property
    def text(self) -> str:
        return f"({self.left.text} {'+' if self.sign > 0 else '-'} {self.right.text})"


def as_value(number: Value | int) -> Value:
    """A constant made of a number; a value is left as it is."""
    return number if isinstance(number, Value) else Constant(int(number))


@dataclass(frozen=True)
class Side:
    """One of the two slots in a rule; its attributes are the fields that a rule may compare."""

    side: Literal["asker", "seen"]

    def __getattr__(self, name: str) -> FieldOf:
        if name not in FIELDS:
            raise AttributeError(f"a slot has no field {name!r}; it has {', '.join(FIELDS)}")
        return FieldOf(self.side, name)


asker = Side("asker")
seen = Side("seen")

_OPERATORS: dict[str, Callable[[Any, Any], Any]] = {
    "<=": operator.le,
    "<": operator.lt,
    ">=": operator.ge,
    ">": operator.gt,
    "==": operator.eq,
    "!=": operator.ne,
}


class Rule(ABC):
    """Who may see whom. Two rules are equal when they are the same expression."""

    @abstractmethod
    def holds(self, asker: Any, seen: Any) -> Any:
        """Truth for the two slots, in whatever array type their fields are."""

    def __call__(self, asker: Any, seen: Any) -> Any:
        """The same; graphs take ``holds``, since torch 2.11's compiler asks what is called whether it is true."""
        return self.holds(asker, seen)

    @property
    @abstractmethod
    def text(self) -> str:
        """The rule as it would be typed; equal rules have equal text."""

    def __and__(self, other: Rule) -> Rule:
        return All.of(self, other)

    def __or__(self, other: Rule) -> Rule:
        return AnyOf.of(self, other)

    def __invert__(self) -> Rule:
        return self.part if isinstance(self, Not) else Not(self)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Rule) and self.text == other.text

    def __hash__(self) -> int:
        return hash(self.text)

    def __str__(self) -> str:
        return self.text

    def __bool__(self) -> bool:
        raise TypeError("a rule is not true or false by itself: join rules with & | ~, and call one with two slots")

    @property
    def demands(self) -> tuple[Rule, ...]:
        """The rules that must all hold, in a fixed order; a kernel is chosen by looking at them."""
        return (self,)


@dataclass(frozen=True, eq=False)
class Compare(Rule):
    """A comparison of two values."""

    left: Value
    sign: str
    right: Value

    def holds(self, asker: Any, seen: Any) -> Any:
        return _OPERATORS[self.sign](self.left.of(asker, seen), self.right.of(asker, seen))

    @cached_property
    def text(self) -> str:
        return f"{self.left.text} {self.sign} {self.right.text}"


@dataclass(frozen=True, eq=False)
class Named(Rule):
    """A rule with a name of its own, by which it prints and is recognised."""

    name: str
    rule: Rule

    def holds(self, asker: Any, seen: Any) -> Any:
        return self.rule.holds(asker, seen)

    @property
    def text(self) -> str:
        return self.name


@dataclass(frozen=True, eq=False)
class All(Rule):
    """Every part holds."""

    parts: tuple[Rule, ...]

    @staticmethod
    def of(*rules: Rule) -> Rule:
        """The conjunction, flattened, without repeats and without ``everything``, in the order of the parts' text."""
        parts = {part.text: part for rule in rules for part in rule.demands if part != everything}
        if not parts:
            return everything
        ordered = tuple(parts[text] for text in sorted(parts))
        return ordered[0] if len(ordered) == 1 else All(ordered)

    def holds(self, asker: Any, seen: Any) -> Any:
        truth = self.parts[0].holds(asker, seen)
        for part in self.parts[1:]:
            truth = truth & part.holds(asker, seen)
        return truth

    @cached_property
    def text(self) -> str:
        return " & ".join(f"({part.text})" if isinstance(part, AnyOf | Compare) else part.text for part in self.parts)

    @property
    def demands(self) -> tuple[Rule, ...]:
        return self.parts


@dataclass(frozen=True, eq=False)
class AnyOf(Rule):
    """At least one part holds."""

    parts: tuple[Rule, ...]

    @staticmethod
    def of(*rules: Rule) -> Rule:
        """The disjunction, flattened and without repeats, in the order of the parts' text."""
        parts: dict[str, Rule] = {}
        for rule in rules:
            parts |= {part.text: part for part in (rule.parts if isinstance(rule, AnyOf) else (rule,))}
        if everything.text in parts:
            return everything
        ordered = tuple(parts[text] for text in sorted(parts))
        return ordered[0] if len(ordered) == 1 else AnyOf(ordered)

    def holds(self, asker: Any, seen: Any) -> Any:
        truth = self.parts[0].holds(asker, seen)
        for part in self.parts[1:]:
            truth = truth | part.holds(asker, seen)
        return truth

    @cached_property
    def text(self) -> str:
        return " | ".join(f"({part.text})" if isinstance(part, All | Compare) else part.text for part in self.parts)


@dataclass(frozen=True, eq=False)
class Not(Rule):
    """The part does not hold."""

    part: Rule

    def holds(self, asker: Any, seen: Any) -> Any:
        return ~self.part.holds(asker, seen)

    @cached_property
    def text(self) -> str:
        return f"~({self.part.text})"


# The two sides differ in shape, so that `everything` still comes out as a truth for each pair.
everything: Rule = Named("everything", asker.stream - asker.stream == seen.stream - seen.stream)
nothing: Rule = Named("nothing", asker.stream - asker.stream != seen.stream - seen.stream)
past: Rule = Named("past", seen.order <= asker.order)
future: Rule = Named("future", seen.order >= asker.order)
by_order: Rule = Named("by_order", seen.order < asker.order)
itself: Rule = Named("itself", (seen.order == asker.order) & (seen.stream == asker.stream))
same_document: Rule = Named("same_document", seen.document == asker.document)
same_stream: Rule = Named("same_stream", seen.stream == asker.stream)
same_segment: Rule = Named("same_segment", seen.segment == asker.segment)
earlier_segment: Rule = Named("earlier_segment", seen.segment < asker.segment)
opening: Rule = Named("opening", seen.segment == OPENING)
main: Rule = Named("main", seen.stream == MAIN)
own_column: Rule = Named("own_column", (seen.order == asker.order) & (seen.stream <= asker.stream))
streamed: Rule = (main & past) | own_column  # of slots of one order, a column, the lower streams: BANG


def near(reach: int) -> Rule:
    """Places at most ``reach`` apart, on either side: ``|i - j| <= reach``."""
    if reach < 0:
        raise ValueError(f"near({reach}): a reach is 0 or more places")
    return Named(f"near({reach})", (asker.place - seen.place <= reach) & (seen.place - asker.place <= reach))


def streams(asking: int, shown: int) -> Rule:
    """An asker of stream ``asking`` and a seen slot of stream ``shown``."""
    return Named(f"streams({asking}, {shown})", (asker.stream == asking) & (seen.stream == shown))


def settled(rule: Rule, fact: Rule, truth: bool) -> Rule:
    """The rule among pairs for which ``fact``, a part of it, always holds or never does.

    What is left may be plain: of ``opening | past``, where all that is seen is the opening, ``everything``.
    """
    if rule == fact:
        return everything if truth else nothing
    if isinstance(rule, Not):
        part = settled(rule.part, fact, truth)
        return nothing if part == everything else everything if part == nothing else ~part
    if not isinstance(rule, All | AnyOf):
        return rule
    parts = [settled(part, fact, truth) for part in rule.parts]
    if isinstance(rule, All):
        return nothing if nothing in parts else All.of(*parts)
    rest = [part for part in parts if part != nothing]
    return AnyOf.of(*rest) if len(rest) > 1 else (rest or [nothing])[0]
