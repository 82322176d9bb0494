"""Tests of differences, beside statsmodels and scipy, and beside drawn worlds in which the truth is known."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from statsmodels.formula.api import ols
from statsmodels.stats.anova import anova_lm
from statsmodels.stats.contingency_tables import mcnemar as theirs
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.power import NormalIndPower, normal_power_het
from statsmodels.stats.proportion import proportion_confint

from sightline.evaluation.bootstrap import wilson
from sightline.evaluation.effects import as_means, difference_effect, mean_effect
from sightline.evaluation.significance import adjusted, detectable, detectable_beside, detectable_mean, mcnemar


def answers(only_first: int, only_second: int, both: int = 30, neither: int = 20) -> tuple[np.ndarray, np.ndarray]:
    first = np.repeat([1, 0, 1, 0], [only_first, only_second, both, neither])
    second = np.repeat([0, 1, 1, 0], [only_first, only_second, both, neither])
    return first, second


@pytest.mark.parametrize(("first", "second"), [(0, 0), (1, 0), (6, 0), (7, 7), (3, 15), (40, 21), (200, 160)])
def test_mcnemar_is_statsmodels(first: int, second: int) -> None:
    table = [[30, first], [second, 20]]
    found = mcnemar(*answers(first, second))
    assert (found.first, found.second, found.n) == (first, second, 50 + first + second)
    assert found.discordance == (first + second) / found.n
    assert found.p == pytest.approx(theirs(table, exact=True).pvalue, rel=1e-10)
    if first + second:
        assert found.p == pytest.approx(stats.binomtest(first, first + second).pvalue, rel=1e-10)
        by_square = mcnemar(*answers(first, second), rule="chi2").p
        assert by_square == pytest.approx(theirs(table, exact=False, correction=True).pvalue, rel=1e-10)
        mid = mcnemar(*answers(first, second), rule="mid").p
        at = stats.binom.pmf(first, first + second, 0.5)
        assert mid == pytest.approx(1 - at / 2 if first == second else found.p - at, rel=1e-9)


def test_mcnemar_takes_right_and_wrong_only() -> None:
    with pytest.raises(ValueError, match="the same items"):
        mcnemar([1, 0], [1])
    with pytest.raises(ValueError, match="right and wrong"):
        mcnemar([0.5, 1], [1, 1])


def test_wilson_is_statsmodels() -> None:
    for right, asked in ((0, 10), (3, 10), (10, 10), (812, 1000)):
        found = wilson(right, asked)
        assert (found.low, found.high) == pytest.approx(proportion_confint(right, asked, method="wilson"), abs=1e-12)


@pytest.mark.parametrize("correction", ["holm", "bh"])
def test_corrections_are_statsmodels(correction: str) -> None:
    generator = np.random.default_rng(0)
    for values in (generator.random(20) ** 3, np.array([0.04]), np.array([0.01, 0.01, 0.6, 1.0]), np.zeros(0)):
        ours = adjusted(list(values), correction)  # type: ignore[arg-type]
        name = {"holm": "holm", "bh": "fdr_bh"}[correction]
        want = multipletests(values, method=name)[1] if len(values) else values
        assert ours == pytest.approx(want, abs=1e-12)
    assert list(adjusted([0.01, 0.5], "none")) == [0.01, 0.5]


@pytest.mark.parametrize("n", [30, 200, 5000])
@pytest.mark.parametrize("discordance", [0.1, 0.5, 1.0])
def test_what_is_detectable_has_the_power_it_says(n: int, discordance: float) -> None:
    found = detectable(n, discordance)
    if found is None:
        assert n * discordance < 8, "fewer than eight discordant items"
        return
    power = normal_power_het(
        found, n, 0.05 / 2, math.sqrt(discordance), math.sqrt(discordance - found**2), alternative="larger"
    )
    assert power == pytest.approx(0.8, abs=1e-6)


def test_what_is_detectable_is_found_that_often_by_the_test_itself() -> None:
    generator = np.random.default_rng(0)
    n, discordance = 400, 0.3
    gap = detectable(n, discordance)
    assert gap is not None
    shares = [(discordance + gap) / 2, (discordance - gap) / 2, 1 - discordance]
    drawn = generator.multinomial(n, shares, size=2000)
    p = {split: mcnemar(*answers(*split, 0, n - sum(split))).p for split in {(one, two) for one, two, _ in drawn}}
    found = np.mean([p[one, two] < 0.05 for one, two, _ in drawn])
    assert 0.74 < found < 0.83, "the exact test errs on the careful side"


@pytest.mark.parametrize(("right", "n"), [(0.9, 300), (0.2, 400)])
def test_one_models_accuracy_sharpens_what_is_detectable(right: float, n: int) -> None:
    found, worst = detectable_beside(n, right), detectable(n)
    assert found is not None and worst is not None and found < 0.9 * worst
    other = right - found if right > 0.5 else right + found  # the one nearer to a half
    assert found == pytest.approx(detectable(n, right * (1 - other) + other * (1 - right)))
    draws = np.random.default_rng(0)
    p = [mcnemar(draws.random(n) < right, draws.random(n) < other, "mid").p for _ in range(1500)]
    assert np.mean(np.array(p) < 0.05) == pytest.approx(0.8, abs=0.03)


def test_edges_of_what_is_detectable_beside_a_model() -> None:
    assert detectable_beside(300, 0.5) == detectable(300)
    assert detectable_beside(5, 0.9) is None
    perfect = detectable_beside(300, 1.0)
    assert perfect is not None and 0 < perfect < 0.03
    with pytest.raises(ValueError, match="an accuracy is a share"):
        detectable_beside(300, 76.0)


def test_what_a_mean_finds() -> None:
    size = detectable_mean(100, 2.0)
    assert NormalIndPower(ddof=0).power(size / 2.0, 100, 0.05, ratio=0) == pytest.approx(0.8, abs=1e-3)
    with pytest.raises(ValueError, match="nothing can be found"):
        detectable(0)
    assert detectable(3) is None


def world(
    generator: np.random.Generator, seeds: int, of_item: np.ndarray, deviation: float, mean: float = 0.0
) -> np.ndarray:
    of_seed = generator.normal(0, deviation, seeds)
    return mean + of_seed[:, None] + of_item + generator.normal(0, 1, (seeds, len(of_item)))


def test_components_are_those_of_an_analysis_of_variance() -> None:
    generator = np.random.default_rng(1)
    seeds, items = 4, 25
    values = world(generator, seeds, generator.normal(0, 2, items), 1.5, 5.0)
    long = pd.DataFrame(
        [(seed, item, values[seed, item]) for seed in range(seeds) for item in range(items)], columns=["s", "i", "y"]
    )
    table = anova_lm(ols("y ~ C(s) + C(i)", long).fit())
    squares = table["sum_sq"] / table["df"]
    found = mean_effect(values)
    error = math.sqrt((squares["C(s)"] + squares["C(i)"] - squares["Residual"]) / (seeds * items))
    assert found.error == pytest.approx(error, rel=1e-9)
    assert found.seeds[0] == pytest.approx(math.sqrt((squares["C(s)"] - squares["Residual"]) / items), rel=1e-9)
    assert found.interval.value == pytest.approx(values.mean())


def test_one_seed_a_side_is_the_paired_t_test() -> None:
    generator = np.random.default_rng(2)
    one, two = generator.normal(0.3, 1, 40), generator.normal(0, 1, 40)
    found = difference_effect(one, two)
    want = stats.ttest_rel(one, two)
    ends = want.confidence_interval(0.95)
    assert found.p == pytest.approx(want.pvalue) and found.degrees == pytest.approx(39)
    assert (found.interval.low, found.interval.high) == pytest.approx((ends.low, ends.high))
    assert found.seeds == (None, None)


def test_intervals_hold_another_draw_of_seeds_and_items() -> None:
    generator = np.random.default_rng(3)
    hits = items_alone = 0
    for _ in range(300):
        of_item = generator.normal(0, 2, 60)
        one, two = world(generator, 4, of_item, 0.5, 1.0), world(generator, 4, of_item, 0.5)
        found = difference_effect(one, two).interval
        assert found.low is not None and found.high is not None
        hits += found.low <= 1.0 <= found.high
        alone = difference_effect(one.mean(0), two.mean(0)).interval
        assert alone.low is not None and alone.high is not None
        items_alone += alone.low <= 1.0 <= alone.high
    assert 0.90 <= hits / 300 <= 0.995
    assert items_alone / 300 < 0.65, "items alone promise too much"


def test_edges_of_effects() -> None:
    equal = difference_effect(np.ones((2, 5)), np.ones((2, 5)))
    assert equal.p == 1.0 and equal.interval.low == equal.interval.high == 0.0
    assert difference_effect(np.ones((2, 5)), np.zeros((2, 5))).p == 0.0
    assert mean_effect([[1.0]]).interval.low is None
    with pytest.raises(ValueError, match="the same items"):
        difference_effect([1.0, 2.0], [1.0])
    tops, bottoms = np.array([[3.0, 1.0, 8.0]]), np.array([[2.0, 2.0, 4.0]])
    assert as_means(tops, bottoms).mean() == pytest.approx(12 / 8)
    assert (as_means(tops, np.ones(3)) == tops).all()
