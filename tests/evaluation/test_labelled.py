"""Figures of labels against scikit-learn's and SciPy's; entities against a count by hand."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics

from sightline.evaluation.labelled import macro_f1, matthews, pearson, spearman, whole_score
from sightline.evaluation.labelling import entities


@pytest.mark.parametrize("classes", [2, 5])
def test_class_figures_are_scikit_learns(classes: int) -> None:
    draws = np.random.default_rng(0)
    gold = draws.integers(classes, size=200).astype(float)
    told = np.where(draws.random(200) < 0.6, gold, draws.integers(classes, size=200))
    assert macro_f1(gold, told) == pytest.approx(metrics.f1_score(gold, told, average="macro"))
    assert matthews(gold, told) == pytest.approx(metrics.matthews_corrcoef(gold, told))
    assert matthews(gold, np.zeros(200)) == 0.0


def test_correlations_are_scipys() -> None:
    draws = np.random.default_rng(0)
    gold = draws.normal(size=50).round(1)
    told = gold + draws.normal(size=50)
    assert pearson(gold, told) == pytest.approx(stats.pearsonr(gold, told).statistic)
    assert spearman(gold, told) == pytest.approx(stats.spearmanr(gold, told).statistic)
    assert pearson(gold, np.ones(50)) == 0.0


def test_a_whole_score_has_an_interval_over_items_and_seeds() -> None:
    draws = np.random.default_rng(0)
    gold = draws.integers(2, size=300).astype(float)
    told = np.stack([np.where(draws.random(300) < share, gold, 1 - gold) for share in (0.7, 0.8, 0.9)])
    found = whole_score("matthews", matthews, gold, told)
    assert found.low is not None and found.value is not None and found.high is not None
    assert found.low < found.value < found.high and found.high - found.low > 0.1


def test_entities_are_right_in_kind_and_both_ends() -> None:
    gold = ["B-PER", "I-PER", "O", "B-LOC", "O"]
    assert entities(gold, gold, ["PER", "LOC"]) == (2, 4)
    assert entities(gold, ["B-PER", "O", "O", "B-LOC", "O"], ["PER", "LOC"]) == (1, 4)
    assert entities(gold, ["O"] * 5, ["PER", "LOC"]) == (0, 2)
