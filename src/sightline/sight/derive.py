"""What follows from a view, without weights: leaks, cost, which slots may be cached, and what a score is worth.

Three facts come from the stack: how deep it is, whether a slot keeps its own input from layer to layer (a residual
stream does, a bag of words does not), and by which rule each layer narrows the sight (it may never widen it).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from .rule import Rule, everything
from .view import NO_DOCUMENT, NOTHING, Bools, Ints, Slots, View, seats

Score = Literal["exact", "bound", "nar", "pseudo", "discriminative", "density"]


@dataclass(frozen=True)
class Depth:
    """What a stack does to a sight.

    Parameters
    ----------
    layers : how many times sight is applied.
    keeps_input : a slot's state keeps what the slot itself shows.
    narrowing : one rule per layer that is joined to the sight by ``&``; empty where no layer narrows.
    """

    layers: int
    keeps_input: bool = True
    narrowing: tuple[Rule, ...] = ()

    def rules(self, sight: Rule) -> list[Rule]:
        """The sight of each layer."""
        narrow = self.narrowing or (everything,) * self.layers
        return [sight & rule for rule in narrow]


def matrix(rule: Rule, slots: Slots) -> Bools:
    """The rule as truth values [lines, slots, slots]: line, asker, seen."""
    shape = (slots.lines, slots.count, slots.count)
    truth = np.broadcast_to(rule(seats(slots, True), seats(slots, False)), shape)
    return np.asarray(truth, dtype=np.bool_)


def visible_pairs(view: View, depth: Depth) -> int:
    """How many (asker, seen) pairs the stack's layers look at together: the cost of attention."""
    real = view.slots.document != NO_DOCUMENT
    pairs = real[:, :, None] & real[:, None, :]
    counts: dict[Rule, int] = {}
    total = 0
    for rule in depth.rules(view.whole_sight):
        if rule not in counts:
            counts[rule] = int((matrix(rule, view.slots) & pairs).sum())
        total += counts[rule]
    return total


def asks_per_slot(view: View) -> float:
    """Answers per slot that is not padding: how much signal one pass gives."""
    return view.ask_count / max(1, int((view.slots.document != NO_DOCUMENT).sum()))


def reach(view: View, depth: Depth) -> Bools:
    """Whose input can reach whose state at the stack's depth, [lines, slots, slots]."""
    count = view.slots.count
    identity = np.broadcast_to(np.eye(count, dtype=np.bool_), (view.slots.lines, count, count))
    reached = identity
    rules = depth.rules(view.whole_sight)
    steps = {rule: matrix(rule, view.slots) | (identity & depth.keeps_input) for rule in set(rules)}
    for rule in rules:
        grown = np.matmul(steps[rule].astype(np.float32), reached.astype(np.float32)) > 0
        if len(steps) == 1 and depth.keeps_input and bool((grown == reached).all()):
            break  # the same rule everywhere and nothing new: deeper layers add nothing
        reached = grown
    return reached


@dataclass(frozen=True)
class Leak:
    """A way by which an asked slot can reach its own answer.

    Parameters
    ----------
    line : line of the view.
    slot : the asked slot.
    position : the position it must answer.
    path : slots from the asked one to the one that shows the answer, a step per layer that moves.
    """

    line: int
    slot: int
    position: int
    path: tuple[int, ...]

    def __str__(self) -> str:
        way = " from ".join(f"slot {slot}" for slot in self.path)
        return f"slot {self.slot} is asked for position {self.position}, which slot {self.path[-1]} shows ({way})"


def leaks(view: View, depth: Depth, most: int = 10) -> list[Leak]:
    """Asked slots that can reach a slot showing their answer; declared and judged slots are not counted.

    Decidable from the sight alone, at the stack's depth. At most ``most`` are returned.
    """
    asked = (view.asks >= 0) & (view.weights > 0)
    if view.declared is not None:
        asked = asked & ~view.declared
    shows_answer = (view.shows[:, None, :] == view.asks[:, :, None]) & asked[:, :, None]
    if not bool(shows_answer.any()):
        return []
    found = np.argwhere(reach(view, depth) & shows_answer)
    once: dict[tuple[int, int], int] = {}
    for line, slot, shower in found.tolist():
        once.setdefault((line, slot), shower)
    return [
        Leak(line, slot, int(view.asks[line, slot]), _path(view, depth, line, slot, shower))
        for (line, slot), shower in list(once.items())[:most]
    ]


def _path(view: View, depth: Depth, line: int, slot: int, shower: int) -> tuple[int, ...]:
    """The shortest way, layer by layer from the top, from ``slot`` down to ``shower``."""
    one = view.lines(slice(line, line + 1))
    steps = [matrix(rule, one.slots)[0] for rule in depth.rules(one.whole_sight)]
    fronts: list[dict[int, tuple[int, ...]]] = [{slot: (slot,)}]
    for step in reversed(steps):
        front: dict[int, tuple[int, ...]] = {}
        for at, way in fronts[-1].items():
            if depth.keeps_input:
                front.setdefault(at, way)
            for to in np.flatnonzero(step[at]).tolist():
                longer = way if to == at else (*way, to)
                if to not in front or len(longer) < len(front[to]):
                    front[to] = longer
        fronts.append(front)
    return fronts[-1].get(shower, (slot, shower))


def _answer_time(view: View) -> dict[tuple[int, int], float]:
    """When each asked position gets its answer, by the order of the slot that asks: (row, position) -> order."""
    times: dict[tuple[int, int], float] = {}
    for line, slot in np.argwhere((view.asks >= 0) & (view.weights > 0)).tolist():
        key = (int(view.lines_of[line]), int(view.asks[line, slot]))
        times[key] = min(times.get(key, np.inf), float(view.slots.order[line, slot]))
    return times


def cacheable(view: View) -> bool:
    """Whether the state of a slot whose token is known never changes when later answers are written.

    A slot that asks in its own place (a mask) is replaced by its answer, and so is a mask whose token none shows and
    only slots of other places are asked for (the slot before it, in masked next-token prediction). A slot that stays,
    and that others look at, must not see such a slot, nor a slot whose token is answered later than its own. A mark
    that stays (the beginning of a blank) is put there when the last token that it sees is known.
    """
    times = _answer_time(view)
    replaced = (view.asks >= 0) & (view.slots.place == view.asks) & (view.shows != view.asks)
    asked, shown = (
        ((codes[:, None, :] == view.slots.place[:, :, None]) & (codes[:, None, :] >= 0)).any(-1)
        for codes in (view.asks, view.shows)
    )
    own = ((view.slots.place[:, None, :] == view.slots.place[:, :, None]) & replaced[:, None, :]).any(-1)
    replaced |= (view.shows < NOTHING) & asked & ~shown & ~own
    known = np.full(view.shows.shape, -np.inf)
    for line, slot in np.argwhere(view.shows >= 0).tolist():
        known[line, slot] = times.get((int(view.lines_of[line]), int(view.shows[line, slot])), -np.inf)
    seen_by = matrix(view.whole_sight, view.slots)
    marks = (view.shows < NOTHING) & ~replaced
    if marks.any():
        latest = np.where(seen_by & (view.shows >= 0)[:, None, :], known[:, None, :], -np.inf).max(2)
        known = np.where(marks, latest, known)
    real = view.slots.document != NO_DOCUMENT
    others = seen_by & ~np.eye(view.slots.count, dtype=np.bool_)
    stays = real & ~replaced & others.any(1)
    pairs = seen_by & stays[:, :, None] & real[:, None, :]
    changes = replaced[:, None, :] | (known[:, None, :] > known[:, :, None])
    return not bool((pairs & changes).any())


def score_of(views: Iterable[View], depth: Depth, numbers: bool = False) -> Score:
    """What the views' answers, summed, are: the likelihood of one distribution over the asked tokens, or not.

    Every asked position stands in a graph with an arrow to each asked position that its answer may depend on. Where
    the arrows leave only one order, that is a chain rule: ``exact`` (a chain of finite memory too), or a ``density``
    where the answers are ``numbers``. No circle, but
    answers that ignore each other: ``nar``. A circle is no distribution over texts: ``pseudo``. Judged slots answer no
    token: ``discriminative``.
    """
    sees: dict[tuple[int, int], set[tuple[int, int]]] = {}
    documents: dict[tuple[int, int], tuple[int, int]] = {}
    judged = False
    for view in views:
        reached = reach(view, depth)
        judged = judged or (view.judged is not None and bool((view.judged >= 0).any()))
        for line, slot in np.argwhere((view.asks >= 0) & (view.weights > 0)).tolist():
            row = int(view.lines_of[line])
            shown = view.shows[line][reached[line, slot]]
            asked = (row, int(view.asks[line, slot]))
            documents[asked] = (row, int(view.slots.document[line, slot]))
            sees.setdefault(asked, set()).update((row, int(position)) for position in shown if position >= 0)
    if not sees:
        return "discriminative" if judged else "exact"
    ranked = _topological(sees)
    if ranked is None:
        return "pseudo"
    chains: dict[tuple[int, int], list[tuple[int, int]]] = {}
    for asked in ranked:
        chains.setdefault(documents[asked], []).append(asked)
    for chain in chains.values():
        if any(before not in sees[asked] for before, asked in itertools.pairwise(chain)):
            return "nar"
    return "density" if numbers else "exact"


def _topological(sees: dict[tuple[int, int], set[tuple[int, int]]]) -> list[tuple[int, int]] | None:
    """The asked positions, each after all those it sees; None where they see each other in a circle."""
    waits = {asked: {other for other in others if other in sees} for asked, others in sees.items()}
    followers: dict[tuple[int, int], list[tuple[int, int]]] = {asked: [] for asked in sees}
    for asked, others in waits.items():
        for other in others:
            followers[other].append(asked)
    ready = sorted(asked for asked, others in waits.items() if not others)
    order: list[tuple[int, int]] = []
    while ready:
        asked = ready.pop()
        order.append(asked)
        for follower in followers[asked]:
            waits[follower].discard(asked)
            if not waits[follower]:
                ready.append(follower)
    return order if len(order) == len(sees) else None


def isolated(views: Sequence[View], depth: Depth) -> bool:
    """Whether no slot of one document can reach a slot of another."""
    for view in views:
        document: Ints = view.slots.document
        if bool((reach(view, depth) & (document[:, :, None] != document[:, None, :])).any()):
            return False
    return True


def unasked(view: View) -> bool:
    """Whether the view asks nothing at all (a reading, for vectors)."""
    return bool((view.asks == NOTHING).all()) and view.judged is None
