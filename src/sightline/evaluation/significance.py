"""Whether one model is better than another: tests on the same items, what a number of items can show, many tests.

                    B right   B wrong
    A right           both    only A        McNemar: of the items that one alone got right, are as many A's as B's?
    A wrong         only B   neither        The others say nothing about which is better.

A test is chosen before the figures are seen; how small a difference it could have found belongs beside every "not
decided". Dror et al., The hitchhiker's guide to testing statistical significance in natural language processing (2018);
Card et al., With little power comes great responsibility (2020).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import stats

LEVEL, POWER = 0.05, 0.8
ROUNDS = 60  # of an iteration that halves what is wrong each time, or better
ALIKE = 0.5  # discordance of two models that are right half of the time, each without regard to the other

Rule = Literal["exact", "mid", "chi2"]
Correction = Literal["holm", "bh", "none"]
RULES: dict[str, str] = {"exact": "exact binomial", "mid": "mid-p", "chi2": "chi-square, corrected for continuity"}


@dataclass(frozen=True)
class McNemar:
    """What right and wrong answers of two models to the same items say.

    Parameters
    ----------
    first, second : items that the first alone, the second alone got right. n : items. p : two-sided.
    rule : how p came about.
    """

    first: int
    second: int
    n: int
    p: float
    rule: str

    @property
    def discordance(self) -> float:
        """Share of the items that one of the two alone got right."""
        return (self.first + self.second) / self.n


def mcnemar(first: Any, second: Any, rule: Rule = "exact") -> McNemar:
    """McNemar's test (1947) of two models' right (1) and wrong (0) answers to the same items [n].

    Parameters
    ----------
    rule : ``exact`` is a binomial test of the discordant items, which never errs too often; ``mid`` counts the observed
        split half, and errs about as often as it says (Fagerland et al., 2013); ``chi2`` is for many discordant items.

    Raises
    ------
    ValueError : answers that are neither 1 nor 0, or two lists of different lengths, or nothing.
    """
    one, two = np.asarray(first), np.asarray(second)
    if one.shape != two.shape or one.ndim != 1 or not one.size:
        raise ValueError(f"a paired test needs two lists of answers to the same items: {one.shape} and {two.shape}")
    if not np.isin(np.concatenate([one, two]), (0, 1)).all():
        raise ValueError("McNemar's test is of right and wrong answers: 1 and 0")
    right, other = int(((one == 1) & (two == 0)).sum()), int(((one == 0) & (two == 1)).sum())
    return McNemar(right, other, one.size, _p_of_split(right, other, rule), RULES[rule])


def _p_of_split(first: int, second: int, rule: Rule) -> float:
    fewer, both = min(first, second), first + second
    if both == 0:
        return 1.0
    if rule == "chi2":
        return float(stats.chi2.sf((abs(first - second) - 1) ** 2 / both, 1))
    exact = min(1.0, 2 * float(stats.binom.cdf(fewer, both, 0.5)))
    at = float(stats.binom.pmf(fewer, both, 0.5))
    if rule == "exact":
        return exact
    return 1 - at / 2 if first == second else exact - at


def detectable(n: int, discordance: float = ALIKE, level: float = LEVEL, power: float = POWER) -> float | None:
    """The smallest difference in accuracy that n shared items find this often; None: they find none.

        sqrt(n) d = z(1 - level / 2) sqrt(s) + z(power) sqrt(s - d²)       solved for d, of a discordance s

    The left side is what is expected of only-A minus only-B in its own unit, the roots on the right its deviations
    without and with a difference: Miettinen (1968), Connor, Sample size for testing differences in proportions for the
    paired-sample design (1987).

    Parameters
    ----------
    discordance : the share of items that one of the two alone gets right, in (0, 1]. Before anything is measured it is
        taken as 0.5: models that are no more alike than chance, at an accuracy of a half, which is the worst there is
        unless the two are opposed. Models that err alike find smaller differences.
    """
    if n < 1 or not 0 < discordance <= 1 or not 0 < level < 1 or not level / 2 < power < 1:
        raise ValueError(f"nothing can be found with n = {n}, discordance {discordance}, level {level}, power {power}")
    sure, often = float(stats.norm.ppf(1 - level / 2)), float(stats.norm.ppf(power))
    under = n + often**2 - sure**2
    if under < 0:
        return None
    found = math.sqrt(discordance) * (math.sqrt(n) * sure + often * math.sqrt(under)) / (n + often**2)
    return found if found <= discordance else None  # no difference is larger than what it is made of


def detectable_beside(n: int, right: float) -> float | None:
    """The same once one model's accuracy is known, and nothing of the other's: the two no more alike than chance.

        s = a (1 - b) + b (1 - a),  b = a - d or a + d, whichever is nearer to a half and so differs on more items

    It begins with the discordance of ``detectable``, which it never goes above, and lowers it until s and d agree.
    """
    if not 0 <= right <= 1:
        raise ValueError(f"an accuracy is a share, not {right}")
    found = detectable(n)
    for _ in range(ROUNDS if found is not None else 0):
        discordance = 2 * right * (1 - right) + abs(2 * right - 1) * (found or 0.0)
        lower = detectable(n, min(discordance, ALIKE))
        if lower is None:
            break
        found = lower
    return found


def detectable_mean(n: int, deviation: float, level: float = LEVEL, power: float = POWER) -> float:
    """The same for the mean of paired differences with this standard deviation: (z + z) deviation / sqrt(n)."""
    return float((stats.norm.ppf(1 - level / 2) + stats.norm.ppf(power)) * deviation / math.sqrt(n))


def adjusted(p: Sequence[float], correction: Correction = "holm") -> NDArray[np.float64]:
    """p-values of several tests made together, to be read against the same level as one.

    Parameters
    ----------
    correction : ``holm`` keeps the chance of even one false finding below the level (Holm, 1979), whatever the tests
        have to do with each other; ``bh`` keeps the share of false ones among the findings below it (Benjamini and
        Hochberg, 1995), for tests that are independent or move together; ``none`` leaves them.
    """
    values = np.asarray(p, np.float64)
    count = len(values)
    if correction == "none" or not count:
        return values
    order = np.argsort(values, kind="stable")
    ranked = values[order]
    if correction == "holm":
        ranked = np.maximum.accumulate(ranked * np.arange(count, 0, -1))
    else:
        ranked = np.minimum.accumulate((ranked * count / np.arange(1, count + 1))[::-1])[::-1]
    back = np.empty(count)
    back[order] = np.minimum(ranked, 1.0)
    return back
