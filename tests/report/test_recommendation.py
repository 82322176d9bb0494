"""What is recommended follows from intervals, and "not decided" is an answer."""

from __future__ import annotations

from typing import Any

from sightline.report import headline_text, recommend


def sentence(results: dict[str, Any], beginning: str) -> str:
    return next((said for said in recommend(results) if said.startswith(beginning)), "")


def test_a_paired_difference_decides_where_intervals_meet(results: dict[str, Any]) -> None:
    for one in results["families"][:2]:
        one["scores"][0].update(low=1.9, high=2.3)
    assert sentence(results, "To model whole texts").startswith(
        "To model whole texts: take causal, 2.100 bits per byte"
    )
    results["comparisons"] = []
    said = sentence(results, "To model whole texts")
    assert "not decided at this budget between causal and backward" in said


def test_a_difference_may_be_recorded_the_other_way_round(results: dict[str, Any]) -> None:
    results["comparisons"] = [
        {"a": "backward", "b": "causal", "score": "bits_per_byte", "difference": 0.05, "low": 0.04, "high": 0.06}
    ]
    assert "take causal" in sentence(results, "To model whole texts")
    results["comparisons"][0].update(low=-0.01, high=0.11)
    assert "not decided" in sentence(results, "To model whole texts")


def test_a_pseudo_score_wins_nothing(results: dict[str, Any]) -> None:
    said = recommend(results)
    assert not any("take masked" in one for one in said if "bits per byte" in one)
    assert "Masked is not ranked by bits per byte: its 1.200 is a pseudo score" in " ".join(said)


def test_an_exact_score_never_beats_a_bound_for_certain(results: dict[str, Any]) -> None:
    results["families"][1]["scores"][0]["class"] = "bound"
    said = sentence(results, "To model whole texts")
    assert "causal has the best value, 2.100 bits per byte" in said and "take causal" not in said
    assert "Only a bound is known of backward (<= 2.150 bits per byte): whether causal is better is not decided" in said


def test_level_scores_are_not_decided_and_floors_warn(results: dict[str, Any]) -> None:
    said = sentence(results, "To tell texts apart")
    assert "not decided at this budget between causal, backward and masked" in said
    results["floors"].append(
        {"name": "a bag of words", "scores": [{"name": "understanding_accuracy", "value": 0.8, "class": "task"}]}
    )
    said = sentence(results, "To tell texts apart")
    assert "But a bag of words reaches 80.0%: nothing here is clearly above that floor" in said


def test_writing_is_ranked_only_among_those_given_the_same_side(results: dict[str, Any]) -> None:
    assert "backward is the only one measured here" in sentence(results, "To write up to an end")
    assert "causal and masked" in sentence(results, "To write on from a beginning")


def test_who_lies_behind_is_said(results: dict[str, Any]) -> None:
    for one, value in zip(results["families"], (0.9, 0.88, 0.4), strict=True):
        next(score for score in one["scores"] if score["name"] == "understanding_accuracy").update(
            value=value, low=value - 0.05, high=value + 0.05
        )
    said = sentence(results, "To tell texts apart")
    assert "between causal and backward" in said and "masked is behind" in said


def test_speed_is_told_without_an_interval(results: dict[str, Any]) -> None:
    assert "no interval" in sentence(results, "For speed of training")


def test_nothing_measured_recommends_nothing() -> None:
    assert recommend({"schema": 1, "families": []}) == []


def test_the_terminal_shows_the_same_table(results: dict[str, Any]) -> None:
    text = headline_text(results)
    lines = {line.split("  ")[0]: line for line in text.splitlines()}
    assert "2.100 [2.080–2.120]" in lines["bits per byte"] and "1.200" not in lines["bits per byte"]
    assert "1.200" in lines["pseudo bits per byte"] and "not comparable" in lines["pseudo bits per byte"]
    assert "803 k" in lines["parameters"] and "71.0%" in lines["understanding"]
    assert "(left)" in lines["writing"] and "(right)" in lines["writing"]
    assert text.splitlines()[-1].endswith("A pseudo score is comparable with none of the others.")


def test_many_families_stand_four_abreast(results: dict[str, Any]) -> None:
    one = results["families"][0]
    results["families"] = [{**one, "family": f"family{number}"} for number in range(12)]
    text = headline_text(results)
    heads = [line.split() for line in text.splitlines() if line.lstrip().startswith("family")]
    assert [len(head) for head in heads] == [4, 4, 4]
    assert [name for head in heads for name in head] == [family["family"] for family in results["families"]]
    assert max(map(len, text.splitlines())) <= 160
