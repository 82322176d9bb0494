"""Two models on the same items, task by task: figures, their difference, a test, and what they allow to be said.

    one seed a side, right and wrong       McNemar's test; Wilson's intervals; the difference by a paired bootstrap
    one seed a side, other scores          a paired bootstrap
    several seeds on a side                seeds and items as random effects (effects.py)

The test is settled by what was measured, never by how it came out; p-values are corrected over the tasks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from .bootstrap import DRAWS, Interval, ratio, tested, wilson
from .effects import Effect, as_means, difference_effect, mean_effect
from .score import Measured
from .significance import LEVEL, Correction, McNemar, Rule, adjusted, detectable, detectable_mean, mcnemar

MORE_DRAWS = 10_000  # for a p that survives a correction over a hundred tasks
COUNTS = 400_000_000  # draws times items, at most
LIKELIHOODS = ("bit", "nat", "perplexity")  # how their units begin: less is better, and classes may not be mixed
SHARES = ("of 1", "accuracy")

Verdict = Literal["A is better", "B is better", "not decided at this size", "not comparable"]


@dataclass(frozen=True)
class Contrast:
    """A task on which two models were asked the same.

    Parameters
    ----------
    task, unit : of the score; n : items; seeds : runs of each side.
    first, second : each side's value. difference : the first minus the second, paired.
    p, corrected : of no difference, alone and among the tasks. rule : the test.
    split : the items that one side alone got right, where there is one seed a side.
    effect : what varies, where a side has several seeds.
    detectable : the smallest difference that would be found with power 0.8, given how alike the two have shown to be.
    less : whether less is better. note : what a reader must know. refused : why there is no comparison.
    """

    task: str
    unit: str
    n: int
    seeds: tuple[int, int]
    first: Interval
    second: Interval
    difference: Interval | None = None
    p: float = 1.0
    corrected: float = 1.0
    rule: str = ""
    split: McNemar | None = None
    effect: Effect | None = None
    detectable: float | None = None
    less: bool = False
    note: str = ""
    refused: str = ""

    def verdict(self, level: float = LEVEL) -> Verdict:
        """What may be said."""
        if self.difference is None:
            return "not comparable"
        if self.corrected >= level or self.difference.value == 0:
            return "not decided at this size"
        return "A is better" if (self.difference.value > 0) != self.less else "B is better"

    def record(self) -> dict[str, Any]:
        """As plain JSON."""
        ends = {"A": self.first, "B": self.second, "difference": self.difference}
        split, effect = self.split, self.effect
        return {
            "task": self.task, "unit": self.unit, "n": self.n, "seeds": list(self.seeds),
            **{name: None if one is None else [one.value, one.low, one.high] for name, one in ends.items()},
            "p": self.p, "p_corrected": self.corrected, "test": self.rule,
            "only_A": None if split is None else split.first, "only_B": None if split is None else split.second,
            "deviation_between_seeds": None if effect is None else list(effect.seeds),
            "deviation_between_items": None if effect is None else effect.items,
            "detectable": self.detectable, "verdict": self.verdict(), "note": self.note, "refused": self.refused,
        }  # fmt: skip


def contrasted(
    tasks: Mapping[str, tuple[Sequence[Measured], Sequence[Measured]]],
    *,
    rule: Rule = "exact",
    correction: Correction = "holm",
    seed: int = 0,
) -> list[Contrast]:
    """Compare two models task by task; each side has a ``Measured`` for each of its seeds, of the same items in order.

    Raises
    ------
    ValueError : the runs of a task were not measured on the same number of items.
    """
    found = [_contrast(task, *sides, rule, seed) for task, sides in tasks.items()]
    made = [at for at, one in enumerate(found) if one.difference is not None]
    for at, p in zip(made, adjusted([found[at].p for at in made], correction), strict=True):
        found[at] = replace(found[at], corrected=float(p))
    return found


def is_likelihood(one: Measured) -> bool:
    """Whether it says how probable texts are, rather than how many answers are right."""
    return one.unit.lower().startswith(LIKELIHOODS)


def is_share(unit: str) -> bool:
    """Whether values of this unit are shares of what was asked, to be told in percent."""
    return unit in SHARES


def _contrast(task: str, first: Sequence[Measured], second: Sequence[Measured], rule: Rule, seed: int) -> Contrast:
    sizes = {len(one.top) for one in (*first, *second)}
    if len(sizes) > 1:
        raise ValueError(f"{task} was measured on different numbers of items: {sorted(sizes)}")
    (n,) = sizes
    one, two = first[0], second[0]
    tops, bottoms = zip(*((_stacked(side, "top"), _stacked(side, "bottom")) for side in (first, second)), strict=True)
    seeds = (len(first), len(second))
    plain = all(bool((bottom == 1).all()) for bottom in bottoms)
    yes_or_no = plain and all(bool(np.isin(top, (0, 1)).all()) for top in tops)
    here, there = (_alone(top, bottom, yes_or_no, seed) for top, bottom in zip(tops, bottoms, strict=True))
    found = Contrast(task, one.unit, n, seeds, here, there, less=is_likelihood(one), note=_note(one, two, seeds))
    refused = _refused(one, two)
    if refused:
        return replace(found, refused=refused)
    each = [as_means(top, bottom) for top, bottom in zip(tops, bottoms, strict=True)]
    apart = each[0].mean(0) - each[1].mean(0)
    of_mean = detectable_mean(n, float(apart.std(ddof=1))) if n > 1 and apart.std() else None
    if max(seeds) > 1:
        effect = difference_effect(*each)
        told = "seeds and items as random effects"
        least = effect.detectable
        return replace(found, difference=effect.interval, p=effect.p, rule=told, effect=effect, detectable=least)
    draws = max(DRAWS, min(MORE_DRAWS, COUNTS // n))
    between, p = tested(tops[0], bottoms[0], tops[1], bottoms[1], seed, draws)
    if not yes_or_no:
        return replace(found, difference=between, p=p, rule="paired bootstrap", detectable=of_mean)
    split = mcnemar(tops[0][0], tops[1][0], rule)
    least = detectable(n, split.discordance) if split.discordance else None
    told = f"McNemar, {split.rule}"
    return replace(found, difference=between, p=split.p, rule=told, split=split, detectable=least)


def _stacked(runs: Sequence[Measured], name: Literal["top", "bottom"]) -> Any:
    return np.stack([getattr(one, name) for one in runs])


def _alone(top: Any, bottom: Any, yes_or_no: bool, seed: int) -> Interval:
    """One side's value with its interval."""
    if len(top) > 1:
        return mean_effect(as_means(top, bottom)).interval
    return wilson(int(top.sum()), top.shape[1]) if yes_or_no else ratio(top, bottom, seed)


def _refused(one: Measured, two: Measured) -> str:
    """Why two scores may not be subtracted; empty where they may."""
    if one.unit != two.unit:
        return f"one is in {one.unit}, the other in {two.unit}"
    if is_likelihood(one) and one.class_ != two.class_:
        return (
            f"likelihoods of different classes ({one.class_} and {two.class_}) are no two figures of one kind: "
            "compare accuracies"
        )
    return ""


def _note(one: Measured, two: Measured, seeds: tuple[int, int]) -> str:
    notes = []
    if not is_likelihood(one) and (one.class_, one.context_rule) != (two.class_, two.context_rule):
        notes.append(f"answers chosen by different rules: A {_how(one)}, B {_how(two)}")
    if is_likelihood(one) and one.class_ == "bound":
        notes.append("both are bounds: what lies under them may differ otherwise")
    if max(seeds) > 1 and min(seeds) == 1:
        notes.append(f"{'AB'[seeds.index(1)]} is one run: what another seed would change there is not known")
    return "; ".join(notes)


def _how(one: Measured) -> str:
    return ": ".join(part for part in (one.class_ if one.class_ != "task" else "", one.context_rule) if part) or "task"
