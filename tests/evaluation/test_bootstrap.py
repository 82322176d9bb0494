"""Intervals that hold what they promise, and comparisons that are made only where they may be."""

from __future__ import annotations

import json

import numpy as np
import pytest
from scipy import stats

from sightline.evaluation import Measured, compared, scored
from sightline.evaluation.bootstrap import difference, ratio, wilson


def test_a_ratio_of_sums_and_not_a_mean_of_ratios() -> None:
    found = ratio([1.0, 10.0], [1.0, 5.0])
    assert found.value == pytest.approx(11 / 6)
    assert found.low is not None and found.high is not None
    assert found.low <= found.value <= found.high


def test_the_interval_covers_the_truth_as_often_as_it_says() -> None:
    generator = np.random.default_rng(0)
    hits = 0
    for trial in range(200):
        sizes = generator.integers(50, 500, size=60).astype(float)
        nats = sizes * 2.0 + generator.normal(0, 40, size=60)
        found = ratio(nats, sizes, seed=trial, draws=400)
        assert found.low is not None and found.high is not None
        hits += found.low <= 2.0 <= found.high
    assert 0.88 <= hits / 200 <= 0.99


def test_it_agrees_with_the_textbook_on_a_mean() -> None:
    values = np.random.default_rng(1).normal(3, 1, size=400)
    found = ratio(values, np.ones(400), draws=4000)
    half = stats.t.ppf(0.975, 399) * values.std(ddof=1) / 20
    assert found.low == pytest.approx(values.mean() - half, abs=0.02)
    assert found.high == pytest.approx(values.mean() + half, abs=0.02)


def test_pairing_removes_what_the_documents_share() -> None:
    generator = np.random.default_rng(2)
    hard = generator.normal(0, 50, size=80)
    sizes = np.full(80, 100.0)
    one, two = 200 + hard, 205 + hard + generator.normal(0, 1, size=80)
    paired = difference(one, sizes, two, sizes)
    assert paired.value == pytest.approx(-0.05, abs=0.01)
    assert paired.excludes_zero
    alone = ratio(one, sizes), ratio(two, sizes)
    assert alone[0].high is not None and alone[1].low is not None
    assert alone[0].high > alone[1].low, "side by side the intervals meet"


def test_several_seeds_widen_the_interval() -> None:
    sizes = np.full(50, 100.0)
    alike = np.stack([np.full(50, 200.0)] * 3)
    apart = np.stack([np.full(50, value) for value in (190.0, 200.0, 210.0)])
    narrow, wide = ratio(alike, sizes), ratio(apart, sizes)
    assert narrow.value == wide.value == pytest.approx(2.0)
    assert narrow.low == narrow.high == pytest.approx(2.0)
    assert wide.low is not None and wide.low < 1.95


def test_one_document_has_no_interval() -> None:
    assert ratio([3.0], [2.0]).low is None


def test_two_families_are_measured_on_the_same_documents() -> None:
    with pytest.raises(ValueError, match="same documents"):
        difference([1.0, 2.0], [1.0, 1.0], [1.0], [1.0])


def test_wilson_against_scipy() -> None:
    for right, asked in ((0, 10), (7, 20), (200, 200)):
        theirs = stats.binomtest(right, asked).proportion_ci(method="wilson")
        ours = wilson(right, asked)
        assert (ours.low, ours.high) == (pytest.approx(theirs.low, abs=1e-9), pytest.approx(theirs.high, abs=1e-9))


def measured(class_: str = "exact", column: str = "whole text", shift: float = 0.0) -> Measured:
    top = np.linspace(10, 20, 40) + shift
    return Measured("bits_per_byte", "bits/byte", class_, column, top, np.full(40, 10.0))


def test_a_pseudo_score_is_compared_with_no_exact_one() -> None:
    assert compared([measured()], [measured("pseudo", "infilling")]) is None
    assert compared([measured()], [measured(column="continuation")]) is None
    assert compared([measured()], [Measured.none("bits_per_byte", "bits/byte", "exact", "whole text", "why")]) is None
    found = compared([measured()], [measured(shift=1.0)])
    assert found is not None and found.value == pytest.approx(-0.1) and found.excludes_zero


def test_a_score_tells_its_seeds_and_keeps_its_reasons() -> None:
    found = scored([measured(), measured(shift=0.5)])
    assert found.n == 40 and "2 seeds" in found.note
    assert "<=" in str(scored([measured("bound")]))
    record = found.record()
    assert list(record)[:8] == ["name", "value", "unit", "class", "column", "low", "high", "n"]
    assert json.loads(json.dumps(record)) == record
    right = Measured(
        "understanding_accuracy", "accuracy", "task", "understanding", np.repeat([0.0, 1.0], 10), np.ones(20)
    )
    theirs = stats.binomtest(10, 20).proportion_ci(method="wilson")
    assert scored([right]).low == pytest.approx(theirs.low, abs=1e-9)
