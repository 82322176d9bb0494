"""The native step of two stacks: a source read in one call, and a decoder that answers as torch's does."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from test_native import VARIANTS, VOCABULARY, close

from sightline.sight import NO_DOCUMENT, NOTHING, Slots, View, opening, past, same_stream
from sightline.stacks import compiled, native, packed, sources
from sightline.stacks.head import Head
from sightline.stacks.look import Look
from sightline.stacks.lora import adapt
from sightline.stacks.shape import Shape
from sightline.stacks.two import Two, TwoCache, sides

SOURCE, TARGET = 21, 24
MANY = 256  # slots that the tests have answered whole
BESIDE = [variant for variant in VARIANTS if not variant.get("parallel")] + [
    {"positions": "sinusoidal", "sines_first": True}
]


@pytest.fixture(scope="session")
def cached(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(autouse=True)
def built_once(cached: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("XDG_CACHE_HOME", str(cached))
    monkeypatch.delenv("SIGHTLINE_NATIVE", raising=False)
    monkeypatch.setattr(sources, "MANY", dict.fromkeys(sources.MANY, MANY))
    library = compiled.library
    library.cache_clear()
    with torch.no_grad():
        yield
    library.cache_clear()


def parts(half: bool = False, layers: int = 5, decoder: int = 2, **shape: Any) -> tuple[Two, Head]:
    torch.manual_seed(0)
    stack = Two(Shape(layers, 32, 4, VOCABULARY, 64, **shape), decoder).eval()
    head = Head(32, VOCABULARY, np.array([0, VOCABULARY - 1]), bias="feed_bias" in shape)
    for name, weight in (*stack.named_parameters(), *head.named_parameters()):
        if name.endswith("bias"):
            torch.nn.init.normal_(weight)
    torch.nn.init.normal_(head.weight)
    return (stack.bfloat16(), head.bfloat16()) if half else (stack, head)


def question(lines: int, dimensions: int = 1, source: int = SOURCE, padded: int = 7) -> tuple[View, np.ndarray]:
    """Sources of several lengths, padded behind, and targets of several lengths that end together."""
    own = np.broadcast_to(np.arange(source), (lines, source))
    there = own < source - (np.arange(lines)[:, None] * 5) % padded
    place = np.arange(TARGET) - (np.arange(lines)[::-1, None] % 5)
    known = np.concatenate([own, np.maximum(place, 0)], axis=1)
    side = np.repeat([0, 1], [source, TARGET])
    real = np.concatenate([there, place >= 0], axis=1)
    positions = np.where(real, known, 0)
    slots = Slots.of(
        known,
        np.where(real, 0, NO_DOCUMENT),
        order=np.arange(source + TARGET),
        segment=side,
        stream=side,
        positions=positions if dimensions == 1 else np.stack([positions // 3, positions % 3], axis=-1),
    )
    tokens = np.random.default_rng(0).integers(1, VOCABULARY - 1, (lines, 64))
    shows = np.where(side == 0, known + 30, known)
    asks = np.where(side == 0, NOTHING, 0)
    return View.of(slots, opening | past, shows=np.where(known == 10, NOTHING, shows), asks=asks), tokens


def whole(stack: Two, head: Head, view: View, tokens: np.ndarray) -> torch.Tensor:
    """Torch's answers to all slots of the target."""
    source, target = (Look.of(part, tokens) for part in sides(view))
    return head.logits(stack(source, target)[:, source.tokens.shape[1] :])


def piece(view: View, start: int, end: int) -> View:
    """Slots of the target."""
    before = sides(view)[0].slots.count
    return view.columns(slice(before + start, before + end))


def by_torch(stack: Two, head: Head, view: View, tokens: np.ndarray, cache: TwoCache) -> torch.Tensor:
    return head.logits(stack(None, Look.of(sides(view)[1], tokens), cache))


def begun(stack: Two, head: Head, view: View, tokens: np.ndarray, natively: bool, target: int = 14) -> TwoCache:
    """A cache of the source, read by either, and of the target's first slots, by torch."""
    cache = TwoCache()
    source, _ = sides(view)
    made = sources.read(stack, head, source, tokens) if natively else None
    if made is not None:
        cache.hand_over(made[0])
    else:
        assert not natively
        stack(Look.of(source, tokens), None, cache)
    if target:
        by_torch(stack, head, piece(view, 0, target), tokens, cache)
    return cache


@pytest.mark.parametrize("natively", [False, True])
@pytest.mark.parametrize("lines", [1, 3, 11])
@pytest.mark.parametrize("shape", BESIDE, ids=str)
def test_it_answers_as_torch_does(shape: dict[str, Any], lines: int, natively: bool) -> None:
    stack, head = parts(**shape)
    view, tokens = question(lines, stack.shape.position_tables)
    right = whole(stack, head, view, tokens)
    cache = begun(stack, head, view, tokens, natively)
    for start, end in ((14, 15), (15, 16), (16, 20), (20, 21)):
        assert close(native.answered(stack, head, piece(view, start, end), tokens, cache), right[:, start:end])
        assert cache.count == SOURCE + end and cache.target.handed is not None and cache.handed is not None
    cache.cut(SOURCE + 17)
    assert close(native.answered(stack, head, piece(view, 17, 18), tokens, cache), right[:, 17:18])
    assert close(by_torch(stack, head, piece(view, 18, TARGET), tokens, cache), right[:, 18:])
    assert cache.target.handed is None
    assert close(native.answered(stack, head, piece(view, 23, 24), tokens, cut(cache, 23)), right[:, 23:])
    cache.cut(SOURCE - 1)
    assert cache.count == 0 and cache.handed is None and cache.source is None


def cut(cache: TwoCache, target: int) -> TwoCache:
    cache.cut(SOURCE + target)
    return cache


@pytest.mark.parametrize("shape", BESIDE, ids=str)
def test_a_text_needs_no_torch(shape: dict[str, Any]) -> None:
    stack, head = parts(**shape)
    view, tokens = question(1, stack.shape.position_tables)
    cache = begun(stack, head, view, tokens, True, target=0)
    said = native.answered(stack, head, piece(view, 0, 1), tokens, cache)
    assert close(said, whole(stack, head, view, tokens)[:, :1])


def test_it_sees_what_adapters_learned() -> None:
    stack, head = parts()
    view, tokens = question(3)
    plain = whole(stack, head, view, tokens)
    for weight in adapt(stack, 3, feed=True, generator=torch.Generator().manual_seed(0)):
        weight.normal_(std=0.3)
    cache = begun(stack, head, view, tokens, True)
    said, right = native.answered(stack, head, piece(view, 14, 15), tokens, cache), whole(stack, head, view, tokens)
    assert close(said, right[:, 14:15]) and not close(said, plain[:, 14:15], 1e-2)


@pytest.mark.parametrize("shape", BESIDE[:4], ids=str)
def test_a_source_is_read_as_torch_reads_it(shape: dict[str, Any]) -> None:
    stack, head = parts(**shape)
    view, tokens = question(4)
    source, _ = sides(view)
    found, states = sources.read(stack, head, source, tokens), stack(Look.of(source, tokens), None)
    right = stack.decoder.source(Look.of(source, tokens), states)
    assert found is not None
    made = found[0]
    there = torch.from_numpy(source.slots.document != NO_DOCUMENT)
    assert close(found[1][there], states[there])
    for mine, theirs in ((made.back().keys, right.keys), (made.back().values, right.values)):
        for one, other in zip(mine, theirs, strict=True):
            assert close(one.transpose(1, 2)[there], other.transpose(1, 2)[there])


@pytest.mark.parametrize("lines", [1, 9])
@pytest.mark.parametrize("shape", BESIDE[:4], ids=str)
def test_in_half_precision_it_is_as_near_to_fp32_as_torch(shape: dict[str, Any], lines: int) -> None:
    """Within 5 % of the largest logit of fp32's answer with the same weights."""
    stack, head = parts(half=True, **shape)
    view, tokens = question(lines)
    cache = begun(stack, head, view, tokens, True)
    mine = native.answered(stack, head, piece(view, 14, 15), tokens, cache)
    assert close(mine, whole(stack.float(), head.float(), view, tokens)[:, 14:15], 0.05)


def test_lines_leave_change_places_and_are_repeated() -> None:
    """As beams do it; the source is never moved, and torch can have it back in their order."""
    stack, head = parts()
    view, tokens = question(5)
    right = whole(stack, head, view, tokens)
    cache = begun(stack, head, view, tokens, True)
    native.answered(stack, head, piece(view, 14, 15), tokens, cache)
    assert isinstance(cache.handed, sources.Read)
    keys, lines = cache.handed.keys, np.arange(5)
    for at, index in enumerate(([4, 2, 0, 1], [0, 0, 3, 2], [2, 3])):
        lines = lines[index]
        cache.lines(torch.tensor(index))
        new = piece(view, 15 + at, 16 + at).lines(lines)
        new = View.of(new.slots, new.sight, shows=new.shows, asks=new.asks)
        said = native.answered(stack, head, new, tokens[lines], cache)
        assert close(said, right[lines, 15 + at : 16 + at])
    assert cache.handed.keys is keys
    new = piece(view, 18, 20).lines(lines)
    new = View.of(new.slots, new.sight, shows=new.shows, asks=new.asks)
    assert close(by_torch(stack, head, new, tokens[lines], cache), right[lines, 18:20])


def test_a_source_of_which_nothing_is_left_is_seen_as_nothing() -> None:
    stack, head = parts(output_bias=True)
    view, tokens = question(2)
    document = view.slots.document.copy()
    document[1, :SOURCE] = NO_DOCUMENT
    slots = Slots(**{**vars(view.slots), "document": document})
    view = View.of(slots, view.sight, shows=view.shows, asks=view.asks)
    cache = begun(stack, head, view, tokens, True)
    said = native.answered(stack, head, piece(view, 14, 15), tokens, cache)
    assert close(said, whole(stack, head, view, tokens)[:, 14:15])


def test_another_encoder_is_read_by_torch_and_the_decoder_is_native() -> None:
    """Sources that stand in two documents, or more of them than a call takes."""
    stack, head = parts()
    view, tokens = question(3)
    document = view.slots.document.copy()
    document[:, :5] = 1
    source = sides(View.of(Slots(**{**vars(view.slots), "document": document}), view.sight, shows=view.shows))[0]
    assert sources.read(stack, head, source, tokens) is None
    view, tokens = question(MANY // SOURCE + 1)
    assert sources.read(stack, head, sides(view)[0], tokens) is None
    cache = begun(stack, head, view, tokens, False)
    said = native.answered(stack, head, piece(view, 14, 15), tokens, cache)
    assert close(said, whole(stack, head, view, tokens)[:, 14:15])


def at_once(lines: int) -> tuple[View, np.ndarray]:
    """Targets padded behind, whose places see each other and the source but for its first slot."""
    view, tokens = question(lines)
    place = np.arange(TARGET)
    real = np.concatenate(
        [view.slots.document[:, :SOURCE] == 0, place < TARGET - (np.arange(lines)[:, None] * 5) % 9], axis=1
    )
    segment = np.where(np.arange(SOURCE + TARGET) == 0, 2, view.slots.stream)
    document = np.where(real, 0, NO_DOCUMENT)
    slots = Slots(**{**vars(view.slots), "document": document, "segment": segment})
    slots.positions[:, SOURCE:] = place
    shows = np.where(np.arange(SOURCE + TARGET) < SOURCE, view.shows, np.where(view.shows % 3 > 0, view.shows, 5))
    sight = opening | same_stream
    return View.of(slots, sight, shows=shows, asks=np.where(view.shows % 3 > 0, view.asks, NOTHING)), tokens


@pytest.mark.parametrize("natively", [False, True])
@pytest.mark.parametrize("lines", [1, 3, 7])
@pytest.mark.parametrize("shape", [{}, *BESIDE[-3:]], ids=str)
def test_a_target_whose_places_see_each_other_is_answered_whole(
    shape: dict[str, Any], lines: int, natively: bool
) -> None:
    """In round after round, nothing of it is kept; but of several lengths and with lines repeated."""
    stack, head = parts(**(shape | {"segments": 0, "position_tables": 1}))
    view, tokens = at_once(lines)
    right = whole(stack, head, view, tokens)
    cache = begun(stack, head, view, tokens, natively, target=0)
    target = view.tail(SOURCE)
    real = torch.from_numpy(target.slots.document != NO_DOCUMENT)
    for _ in range(2):
        said = sources.answered_whole(stack, head, target, tokens, cache)
        assert said is not None and close(said[real], right[real])
        assert cache.count == SOURCE
    lines_of = np.r_[np.arange(lines)[::-1], 0]
    cache.lines(torch.from_numpy(lines_of))
    again = target.lines(lines_of)
    again = View.of(again.slots, again.sight, shows=again.shows, asks=again.asks)
    said = sources.answered_whole(stack, head, again, tokens[lines_of], cache)
    assert said is not None and close(said[real[lines_of]], right[lines_of][real[lines_of]])


def test_what_does_not_see_all_of_its_line_is_not_answered_whole() -> None:
    stack, head = parts()
    view, tokens = question(2)
    cache = begun(stack, head, view, tokens, True, target=0)
    assert sources.answered_whole(stack, head, view.tail(SOURCE), tokens, cache) is None
    view, tokens = at_once(MANY // TARGET + 1)
    cache = begun(stack, head, view, tokens, False, target=0)
    assert sources.answered_whole(stack, head, view.tail(SOURCE), tokens, cache) is None


@pytest.mark.parametrize("shape", [{"norm_place": "post"}, {"positions": "relative"}], ids=str)
def test_another_architecture_is_torch_s(shape: dict[str, Any]) -> None:
    stack, head = parts(**shape)
    view, tokens = question(3)
    assert sources.read(stack, head, sides(view)[0], tokens) is None
    cache = begun(stack, head, view, tokens, False)
    assert native.answered(stack, head, piece(view, 14, 15), tokens, cache) is None


def test_weights_that_have_learnt_are_packed_anew() -> None:
    """Of either stack; but where nothing changes they are looked at once."""
    stack, head = parts()
    view, tokens = question(1)

    def said() -> torch.Tensor | None:
        cache = begun(stack, head, view, tokens, True, target=0)
        return native.answered(stack, head, piece(view, 0, 1), tokens, cache)

    for part in (stack.encoder, stack.decoder):
        assert close(said(), whole(stack, head, view, tokens)[:, :1])
        part.layers[0].feed.up.weight.data[3, 5] += 2  # type: ignore[union-attr,operator]
    with packed.steady():
        before = said()
        assert close(before, whole(stack, head, view, tokens)[:, :1])
        part.layers[0].feed.up.weight.data[3, 5] += 2  # type: ignore[union-attr,operator]
        assert before is not None and close(said(), before, 0.0)
    assert close(said(), whole(stack, head, view, tokens)[:, :1])
