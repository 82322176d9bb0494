"""The step that a GPU replays, of two stacks: on a processor it runs as it is, and answers as torch's caches do."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from test_native import VARIANTS, close
from test_native_two import SOURCE, TARGET, by_torch, parts, piece, question

from sightline.sight import View
from sightline.stacks import static
from sightline.stacks.look import Look
from sightline.stacks.two import Two, TwoCache, sides

BESIDE = [variant for variant in VARIANTS if not variant.get("parallel")]
MORE: list[dict[str, Any]] = [{"norm_place": "post"}, {"positions": "relative"}, {"positions": "sinusoidal"}]


@pytest.fixture(autouse=True)
def no_slopes(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(static, "LEAST", 8)
    monkeypatch.setattr(static, "SOURCES", 4)
    with torch.no_grad():
        yield


def begun(stack: Two, head: Any, view: View, tokens: np.ndarray) -> tuple[TwoCache, TwoCache]:
    """Two caches of the sources, and of the targets' first slots."""
    caches = TwoCache(), TwoCache()
    for cache in caches:
        stack(Look.of(sides(view)[0], tokens), None, cache)
        by_torch(stack, head, piece(view, 0, 14), tokens, cache)
    return caches


def own(view: View) -> View:
    """As a model gives it."""
    return sides(view)[1]


@pytest.mark.parametrize("shape", [*BESIDE, *MORE], ids=str)
def test_it_answers_as_growing_caches_do(shape: dict[str, Any]) -> None:
    stack, head = parts(**shape)
    view, tokens = question(3, stack.shape.position_tables)
    cache, growing = begun(stack, head, view, tokens)
    for at in (*range(14, 19), 16, *range(17, TARGET - 2)):
        for one in (cache, growing):
            one.cut(SOURCE + at)
        new = piece(view, at, at + 1)
        expected = by_torch(stack, head, new, tokens, growing)
        assert close(static.replayed(stack, head, own(new), tokens, cache), expected)
        assert cache.count == SOURCE + at + 1 and cache.target.handed is not None
    rest = piece(view, TARGET - 2, TARGET)
    assert static.replayed(stack, head, own(rest), tokens, cache) is None  # more than one slot a line
    assert close(by_torch(stack, head, rest, tokens, cache), by_torch(stack, head, rest, tokens, growing))
    assert cache.target.handed is None


def test_lines_leave_change_places_and_are_repeated() -> None:
    """Their sources with them."""
    stack, head = parts()
    view, tokens = question(6)
    cache, growing = begun(stack, head, view, tokens)
    lines = np.arange(6)
    for at, index in enumerate(([0, 1, 2, 3, 4, 5], [5, 4, 2, 0, 1], [3, 0], [0, 0, 1, 0], [2, 3])):
        lines = lines[index]
        for one in (cache, growing):
            one.lines(torch.tensor(index))
        new = piece(view.lines(lines), 14 + at, 15 + at)
        new = View.of(new.slots, new.sight, shows=new.shows, asks=new.asks)
        said = static.replayed(stack, head, own(new), tokens[lines], cache)
        assert close(said, by_torch(stack, head, new, tokens[lines], growing))


def test_the_next_text_takes_the_last_step_with_its_own_source() -> None:
    stack, head = parts()
    steps = []
    for source in (SOURCE, SOURCE - 1, SOURCE + 9):  # room for a source is a multiple of four
        view, tokens = question(2, source=source)
        cache, growing = (TwoCache(), TwoCache())
        for one in (cache, growing):
            stack(Look.of(sides(view)[0], tokens), None, one)
            by_torch(stack, head, piece(view, 0, 14), tokens, one)
        new = piece(view, 14, 15)
        said = static.replayed(stack, head, own(new), tokens, cache)
        assert close(said, by_torch(stack, head, new, tokens, growing))
        steps.append(static._last[stack])
        del cache
    assert steps[0] is not steps[2]


def test_a_run_shows_what_each_step_chose() -> None:
    stack, head = parts()
    view, tokens = question(3)
    cache, growing = begun(stack, head, view, tokens)
    assert static.replayed(stack, head, own(piece(view, 14, 15)), tokens, cache) is not None
    by_torch(stack, head, piece(view, 14, 15), tokens, growing)
    said = static.replayed_run(stack, head, own(piece(view, 15, 19)), tokens, cache, np.array([3]))
    assert said is not None and cache.count == SOURCE + 19
    shown = tokens.copy()
    for at in range(4):
        new = piece(view, 15 + at, 16 + at)
        logits = by_torch(stack, head, new, shown, growing)[:, 0]
        logits[:, 3] = -torch.inf
        assert np.array_equal(said[0][at], logits.argmax(-1).numpy())
        if at < 3:
            shown[np.arange(3), piece(view, 16 + at, 17 + at).shows[:, 0]] = said[0][at]


def test_a_decoder_that_cannot_be_captured_is_launched_step_by_step(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def captured(call: Any) -> Any:
        raise RuntimeError("operation not permitted when stream is capturing\nand more")

    monkeypatch.setattr(static, "captured", captured)
    stack, head = parts()
    view, tokens = question(2)
    cache, _ = begun(stack, head, view, tokens)
    assert static.replayed(stack, head, own(piece(view, 14, 15)), tokens, cache) is not None
    assert isinstance(cache.target.handed, static.Static)
    step = cache.target.handed._step
    assert static.capturing(step, lambda: 1) is None and step.plain and static.capturing(step, lambda: 1) is None
    assert capsys.readouterr().err.count("not replayed as a graph (operation not permitted") == 1
    step.source, step.plain = None, False
    with pytest.raises(RuntimeError):
        static.capturing(step, lambda: 1)
