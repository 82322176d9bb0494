"""The native step: it answers as torch does, or leaves the answer to torch."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sightline.sight import NO_DOCUMENT, NOTHING, Slots, View, everything, near, past
from sightline.stacks import compiled, native
from sightline.stacks.cache import Cache
from sightline.stacks.head import Head
from sightline.stacks.look import Look
from sightline.stacks.shape import Shape
from sightline.stacks.transformer import Transformer

T, VOCABULARY = 40, 50
VARIANTS: list[dict[str, Any]] = [
    {},
    {"norm": "rms", "kv_heads": 1},
    {"norm": "rms", "activation": "silu", "gated": True, "kv_heads": 2, "qk_norm": False},
    {"positions": "learned", "activation": "gelu_tanh", "qk_norm": False, "norm_bias": True, "feed_bias": True}
    | {"attention_bias": True, "output_bias": True},
    {"positions": "none", "activation": "gelu", "gated": True, "norm_gain": False},
    {"activation": "relu", "parallel": True, "embedding_norm": True, "final_norm": False},
    {"head_width": 6, "hidden": 39, "segments": 2, "blank": True},
    {"position_tables": 2, "kv_heads": 1},
    {"stretch": (8.0, 1.0, 4.0, 16.0), "rope_base": 500.0},
    {"stretch": (4.0, 16.0, 32.0, 1.0, 1.3), "rope_base": 500.0},
    {"positions": "learned", "position_tables": 2},
]


@pytest.fixture(scope="session")
def cached(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(autouse=True)
def built_once(cached: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("XDG_CACHE_HOME", str(cached))
    monkeypatch.delenv("SIGHTLINE_NATIVE", raising=False)
    library = compiled.library
    library.cache_clear()
    with torch.no_grad():
        yield
    library.cache_clear()


def parts(half: bool = False, **shape: Any) -> tuple[Transformer, Head]:
    torch.manual_seed(0)
    stack = Transformer(Shape(3, 32, 4, VOCABULARY, 64, **shape)).eval()
    head = Head(32, VOCABULARY, np.array([0, VOCABULARY - 1]), bias="feed_bias" in shape)
    for name, weight in (*stack.named_parameters(), *head.named_parameters()):
        if name.endswith("bias"):
            torch.nn.init.normal_(weight)
    torch.nn.init.normal_(head.weight)
    return (stack.bfloat16(), head.bfloat16()) if half else (stack, head)


def question(lines: int, sight: Any = past, dimensions: int = 1) -> tuple[View, np.ndarray]:
    """Lines that end together, each with less padding before it than the one above."""
    place = np.arange(T) - (np.arange(lines)[::-1, None] % 7)
    known = np.maximum(place, 0)
    positions = known if dimensions == 1 else np.stack([known // 3, known % 3], axis=-1)
    slots = Slots.of(place, np.where(place >= 0, 0, NO_DOCUMENT), segment=known > 4, positions=positions)
    tokens = np.random.default_rng(0).integers(1, VOCABULARY - 1, (lines, T))
    view = View.of(slots, sight, shows=np.where(place == 20, NOTHING, known), asks=np.where(place < T, 0, NOTHING))
    return view, tokens


def piece(view: View, start: int, end: int) -> View:
    slots = view.slots.take(slice(start, end))
    return View.of(slots, view.sight, shows=view.shows[:, start:end], asks=view.asks[:, start:end])


def by_torch(
    stack: Transformer, head: Head, view: View, tokens: np.ndarray, cache: Cache | None = None
) -> torch.Tensor:
    return head.logits(stack(Look.of(view, tokens), cache))


def close(one: torch.Tensor | None, other: torch.Tensor, gap: float = 1e-4) -> bool:
    assert one is not None and one.shape == other.shape
    assert torch.equal(one == -torch.inf, other == -torch.inf)
    return bool(((one - other).nan_to_num(0).abs() <= gap * other[other.isfinite()].abs().max()).all())


@pytest.mark.parametrize("lines", [1, 3, 16])
@pytest.mark.parametrize("shape", VARIANTS, ids=str)
def test_it_answers_as_torch_does(shape: dict[str, Any], lines: int) -> None:
    stack, head = parts(**shape)
    view, tokens = question(lines, dimensions=stack.shape.position_tables)
    whole = by_torch(stack, head, view, tokens)
    cache = Cache()
    by_torch(stack, head, piece(view, 0, 14), tokens, cache)
    for start, end in ((14, 15), (15, 16), (16, 20), (20, 21), (21, 22), (22, 32 if lines < 16 else 26)):
        assert close(native.answered(stack, head, piece(view, start, end), tokens, cache), whole[:, start:end])
        assert cache.count == end and cache.handed is not None
    cache.cut(17)
    assert close(native.answered(stack, head, piece(view, 17, 18), tokens, cache), whole[:, 17:18])
    rest = piece(view, 18, T)
    assert (native.answered(stack, head, rest, tokens, cache) is None) == (lines * (T - 18) > native.FEW)
    cache.cut(18)
    assert close(by_torch(stack, head, rest, tokens, cache), whole[:, 18:])
    assert cache.handed is None


@pytest.mark.parametrize("shape", VARIANTS, ids=str)
def test_a_short_prompt_needs_no_torch(shape: dict[str, Any]) -> None:
    stack, head = parts(**shape)
    view, tokens = question(1, dimensions=stack.shape.position_tables)
    cache = Cache()
    said = native.answered(stack, head, piece(view, 0, 30), tokens, cache)
    assert close(said, by_torch(stack, head, piece(view, 0, 30), tokens))
    assert cache.count == 30 and cache.handed is not None
    assert close(by_torch(stack, head, piece(view, 30, T), tokens, cache), by_torch(stack, head, view, tokens)[:, 30:])


def test_a_padded_prompt_is_torchs() -> None:
    stack, head = parts()
    view, tokens = question(3)
    cache = Cache()
    assert native.answered(stack, head, piece(view, 0, 14), tokens, cache) is None
    assert cache.count == 0 and cache.handed is None


@pytest.mark.parametrize("lines", [1, 16])
@pytest.mark.parametrize("shape", VARIANTS[:4], ids=str)
def test_in_half_precision_it_is_as_near_to_fp32_as_torch(shape: dict[str, Any], lines: int) -> None:
    """Within 5 % of the largest logit of fp32's answer with the same weights."""
    stack, head = parts(half=True, **shape)
    view, tokens = question(lines)
    cache = Cache()
    by_torch(stack, head, piece(view, 0, 14), tokens, cache)
    mine = native.answered(stack, head, piece(view, 14, 15), tokens, cache)
    exact = by_torch(stack.float(), head.float(), view, tokens)[:, 14:15]
    assert close(mine, exact, 0.05)


@pytest.mark.parametrize("lines", [9, 17, 33, 64])
def test_many_rows_of_halves_are_answered_as_one_alone(lines: int) -> None:
    """Where the processor has tiles, many rows go through them, in groups that may overlap."""
    stack, head = parts(half=True)
    view, tokens = question(lines)

    def answers(view: View, tokens: np.ndarray) -> torch.Tensor:
        cache = Cache()
        by_torch(stack, head, piece(view, 0, 14), tokens, cache)
        said = native.answered(stack, head, piece(view, 14, 15), tokens, cache)
        assert said is not None
        return said

    together = answers(view, tokens)
    for line in (0, lines // 2, lines - 1):
        alone = slice(line, line + 1)
        assert close(together[alone], answers(view.lines(alone), tokens[alone]), 0.02)


def test_lines_leave_change_places_and_are_repeated() -> None:
    stack, head = parts()
    view, tokens = question(5)
    whole = by_torch(stack, head, view, tokens)
    cache = Cache()
    by_torch(stack, head, piece(view, 0, 14), tokens, cache)
    native.answered(stack, head, piece(view, 14, 15), tokens, cache)
    lines = np.arange(5)
    for at, index in enumerate(([4, 2, 0, 1], [0, 0, 3, 2], [2, 3])):
        lines = lines[index]
        cache.lines(torch.tensor(index))
        new = piece(view, 15 + at, 16 + at).lines(lines)
        new = View.of(new.slots, new.sight, shows=new.shows, asks=new.asks)
        said = native.answered(stack, head, new, tokens[lines], cache)
        assert close(said, whole[lines, 15 + at : 16 + at])


@pytest.mark.parametrize("sight", [everything, past & near(4)])
def test_another_sight_is_torch_s(sight: Any) -> None:
    """A new slot that sees less than all before it, or one that others ahead of it are shown to."""
    stack, head = parts()
    view, tokens = question(3, sight)
    cache = Cache()
    by_torch(stack, head, piece(view, 0, 14), tokens, cache)
    assert native.answered(stack, head, piece(view, 14, 17), tokens, cache) is None
    assert cache.handed is None


@pytest.mark.parametrize(
    "shape",
    [
        {"norm_place": "post"},
        {"positions": "alibi"},
        {"positions": "relative"},
        {"windows": (None, 2)},
        {"embedding_scale": 2.0},
        {"experts": 3},
    ],
    ids=str,
)
def test_another_architecture_is_torch_s(shape: dict[str, Any]) -> None:
    stack, head = parts(**shape)
    view, tokens = question(3)
    cache = Cache()
    by_torch(stack, head, piece(view, 0, 14), tokens, cache)
    assert native.answered(stack, head, piece(view, 14, 15), tokens, cache) is None


def test_a_head_that_scales_its_states_is_torch_s() -> None:
    stack, head = parts()
    head.scale = 0.5
    view, tokens = question(3)
    cache = Cache()
    by_torch(stack, head, piece(view, 0, 14), tokens, cache)
    assert native.answered(stack, head, piece(view, 14, 15), tokens, cache) is None


def test_weights_that_have_learnt_are_packed_anew() -> None:
    stack, head = parts()
    view, tokens = question(2)
    for _ in range(2):
        cache = Cache()
        by_torch(stack, head, piece(view, 0, 14), tokens, cache)
        said = native.answered(stack, head, piece(view, 14, 15), tokens, cache)
        assert close(said, by_torch(stack, head, view, tokens)[:, 14:15])
        stack.layers[1].feed.up.weight.data[3, 5] += 2  # type: ignore[union-attr,operator]


def test_code_for_an_older_processor_answers_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    flags = tuple("-march=haswell" if flag == "-march=native" else flag for flag in compiled.FLAGS)
    library = compiled.load(flags)
    monkeypatch.setattr(compiled, "library", lambda: library)
    for half in (False, True):
        stack, head = parts(half)
        view, tokens = question(7)
        cache = Cache()
        by_torch(stack, head, piece(view, 0, 14), tokens, cache)
        said = native.answered(stack, head, piece(view, 14, 15), tokens, cache)
        assert close(said, by_torch(stack.float(), head.float(), view, tokens)[:, 14:15], 0.05 if half else 1e-4)


def test_without_a_compiler_torch_answers_and_one_line_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    stack, head = parts()
    view, tokens = question(1)
    for _ in range(2):
        cache = Cache()
        by_torch(stack, head, piece(view, 0, 14), tokens, cache)
        assert native.answered(stack, head, piece(view, 14, 15), tokens, cache) is None
    assert capsys.readouterr().err.count("no C++ compiler") == 1


def test_two_processes_build_at_once(tmp_path: Path) -> None:
    """Quick flags: it is the renaming that is tried."""
    flags = ("-O0", "-shared", "-fPIC", "-fopenmp", "-std=c++17")
    command = [sys.executable, "-c", f"from sightline.stacks.compiled import build; print(build({flags}))"]
    environment = os.environ | {
        "XDG_CACHE_HOME": str(tmp_path),
        "PYTHONPATH": str(Path(compiled.__file__).parents[2]),
    }
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) for _ in range(2)]
    said = [process.communicate()[0].strip() for process in running]
    assert said[0] == said[1]
    assert [path.name for path in (tmp_path / "sightline").iterdir()] == [Path(said[0]).name]
