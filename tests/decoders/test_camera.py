"""A camera sees what each round leaves, whatever the policy."""

from __future__ import annotations

from typing import Any

import pytest
from test_loop import FORBIDDEN, PROMPTS, laid

from sightline.decoders.canvas import Canvas
from sightline.decoders.film import OPENED, Camera
from sightline.decoders.loop import write
from sightline.decoders.policy import AllAtOnce, NextPlace, Policy, Refine, Surest
from sightline.decoders.speculative import Drafter
from sightline.stacks.cache import Cache


def watched(model: Any, canvas: Canvas, policy: Policy, lines: int = 2, **settings: Any) -> tuple[Camera, Any]:
    camera = Camera(lines)
    done = write(model.objective.fill, model.logits, canvas, policy, forbidden=FORBIDDEN, on_round=camera, **settings)
    return camera, done


@pytest.mark.parametrize(
    ("family", "policy"),
    [
        ("causal", NextPlace()),
        ("backward", NextPlace()),
        ("masked", AllAtOnce()),
        ("masked", Surest(3)),
        ("masked", Refine(4)),
    ],
    ids=str,
)
def test_the_last_of_each_place_is_the_text(small: Any, family: str, policy: Policy) -> None:
    model = small(family)
    both = family == "masked"
    canvas = Canvas.of([([1, *prompt], 9, [2]) for prompt in PROMPTS]) if both else laid(model, PROMPTS, 9)
    camera, done = watched(model, canvas, policy, stops=() if both else (5, 6, 7))
    for line, scenes in enumerate(camera.scenes):
        text: dict[int, int] = {}
        for _, place, token in sorted(scenes, key=lambda scene: scene[0]):
            text[place] = token
        first = int((~done.canvas.given[line]).argmax())
        written = {
            place - first: int(done.canvas.tokens[line, place])
            for place in range(done.canvas.places)
            if done.canvas.inside[line, place] and not done.canvas.given[line, place]
        }
        assert {place: token for place, token in text.items() if token != OPENED} == written
    numbers = [number for number, _, _ in camera.scenes[0]]
    assert numbers == sorted(numbers) and numbers[0] == 1
    if isinstance(policy, NextPlace):
        assert numbers == list(range(1, len(numbers) + 1))
        steps = [place for _, place, _ in camera.scenes[0]]
        assert steps == sorted(steps, reverse=family == "backward")


def test_a_draft_is_written_in_fewer_rounds(small: Any) -> None:
    from sightline.decoders.drafters import ByModel

    model = small("causal")
    drafter: Drafter = ByModel(model.objective.fill, model.logits, Cache, 64)
    camera, _ = watched(
        model, laid(model, PROMPTS[:1], 11), NextPlace(), 1, make_cache=Cache, drafter=drafter, lookahead=4
    )
    assert [number for number, _, _ in camera.scenes[0]] == [1] + [2] * 5 + [3] * 5
