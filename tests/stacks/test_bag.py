"""A bag of words: the compiled loop against torch's gradient, noise, trees, documents, workers, parts, bad input."""

from __future__ import annotations

import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

from sightline.data import Rows
from sightline.data.vocabulary import Vocabulary
from sightline.errors import SightlineError
from sightline.objectives.cbow import CBOW
from sightline.objectives.model import Model, built
from sightline.stacks import hogwild
from sightline.stacks.bag import Bag, Lesson
from sightline.stacks.hogwild import DOMAIN, Manner, Noise, huffman, kept_below
from sightline.stacks.shape import Shape

PAD, BOS, EOS = 0, 1, 2
WORDS = Vocabulary(20, 24, pad=PAD, bos=BOS, eos=EOS, specials=(PAD, BOS, EOS))
PLAIN = Manner(sample=0, shrink=False, window=2, update="exact")


def text(documents: int = 6, longest: int = 9, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Documents of uneven words, with their marks, and where they start."""
    draw = np.random.default_rng(seed)
    parts = [
        [BOS, *(3 + draw.integers(0, 17, draw.integers(1, longest + 1)) // (1 + draw.integers(0, 2))), EOS]
        for _ in range(documents)
    ]
    return np.concatenate(parts), np.cumsum([0, *map(len, parts)])[:-1]


def fitted(manner: Manner, seed: int = 3, scale: float = 0.0, **how: object) -> Bag:
    """A bag that has counted the text, with vectors of size ``scale`` where that is not 0; then fitted as told."""
    tokens, offsets = text()
    bag = Bag(WORDS, 8, manner)
    bag.count(tokens, seed)
    if scale:
        draw = np.random.default_rng(seed)
        for weight in (bag.inputs, bag.outputs):
            weight.data = torch.from_numpy(draw.normal(0, scale, tuple(weight.shape)).astype(np.float32))
    if how:
        bag.fit(tokens, offsets, done=0, seed=seed, **how)  # type: ignore[arg-type]
    return bag


def learned(bag: Bag, passes: float = 1.0) -> Lesson:
    """One part over the text, from the vectors as they are."""
    tokens, offsets = text()
    told: list[Lesson] = []
    bag.fit(tokens, offsets, passes=2 * passes, parts=2, done=1, watch=lambda part, lesson: told.append(lesson))
    return told[0]


def judged(bag: Bag) -> tuple[torch.Tensor, int]:
    """Nats of all words of the text by torch, and their number."""
    tokens, offsets = text()
    model = Model(CBOW(WORDS, **vars(bag.manner)), bag, _head(bag), None)  # type: ignore[arg-type]
    ends = [*offsets[1:], len(tokens)]
    total, count = torch.zeros(()), 0
    for start, end in zip(offsets, ends, strict=True):
        if end - start < 4:
            continue  # one word alone: the loop passes it over
        ids = tokens[start:end][None]
        documents = np.zeros_like(ids)
        zero, everywhere = np.zeros(1, int), np.ones(ids.shape, bool)
        rows = Rows(ids.astype(np.int32), documents.astype(np.int32), zero, zero, everywhere, documents, everywhere)
        for view in model.objective.examine(rows):
            total, count = total + model.grade(view, rows.tokens).total, count + view.ask_count
    return total, count


def _head(bag: Bag) -> torch.nn.Module:
    from sightline.stacks.bag import BagHead

    return BagHead(bag)


def test_the_loop_steps_along_the_gradient_and_tells_the_loss() -> None:
    """With a rate near 0 a pass changes the vectors by the rate times the gradient of its nats."""
    rate = 1e-4
    bag = fitted(replace(PLAIN, loss="hierarchical", rate=rate), scale=0.7)
    nats, count = judged(bag)
    nats.backward()  # type: ignore[no-untyped-call]
    before = [weight.detach().clone() for weight in (bag.inputs, bag.outputs)]
    slopes = [weight.grad for weight in (bag.inputs, bag.outputs)]
    lesson = learned(bag)
    assert lesson.answers == count
    assert lesson.nats == pytest.approx(float(nats.detach()) / count, rel=1e-3)
    for weight, old, slope in zip((bag.inputs, bag.outputs), before, slopes, strict=True):
        assert slope is not None
        assert torch.allclose((old - weight.detach()) / rate, slope, atol=0.02, rtol=0.02)


def test_the_original_update_gives_every_word_the_whole_sum() -> None:
    """word2vec's step for a context of two words is twice the gradient's."""
    tokens, offsets = np.array([3, 4, 5]), np.array([0])
    steps = {}
    for update in ("exact", "original"):
        bag = Bag(WORDS, 8, replace(PLAIN, window=1, loss="hierarchical", rate=1e-3, update=update))  # type: ignore[arg-type]
        bag.count(tokens, 1)
        bag.outputs.data = torch.full_like(bag.outputs, 0.1)
        old = bag.inputs.detach().clone()
        bag.fit(tokens, offsets, passes=2, parts=2, done=1)
        steps[update] = (bag.inputs.detach() - old)[bag.ranks[3]]  # seen beside another by the middle word alone
    assert torch.allclose(steps["original"], 2 * steps["exact"], rtol=0.02, atol=1e-7)


def test_drawn_noise_costs_on_average_what_the_head_says() -> None:
    bag = fitted(replace(PLAIN, rate=1e-9, negatives=3), scale=0.7)
    nats, count = judged(bag)
    lesson = learned(bag, passes=400)
    assert lesson.nats == pytest.approx(float(nats.detach()) / count, rel=0.01)


def test_noise_is_drawn_by_its_shares() -> None:
    counts = np.array([1000, 300, 20, 20, 1, 0])
    noise = Noise.of(counts)
    assert noise.shares == pytest.approx(counts**0.75 / (counts**0.75).sum(), abs=1e-8)
    draws = np.random.default_rng(0).integers(0, DOMAIN, 2000)
    first = noise.guide[draws >> hogwild.BUCKET]
    meant = np.searchsorted(noise.cumulative, draws)
    assert (first <= meant).all()
    assert (meant - first).max() <= 3  # the guide leaves little to search
    assert (counts[meant] > 0).all()


def test_frequent_words_stay_with_the_chance_of_word2vec() -> None:
    counts = np.array([500, 100, 26, 9374])
    assert kept_below(counts, 1e-3)[:3] / (2**32 - 1) == pytest.approx([0.161, 0.416, 1.0], abs=0.01)


def test_the_tree_is_huffmans_and_a_distribution() -> None:
    counts = np.array([50, 20, 10, 10, 5, 3, 1, 1])
    tree = huffman(counts)
    lengths = np.diff(tree.starts)
    share = counts / counts.sum()
    entropy = -(share * np.log2(share)).sum()
    assert entropy <= (share * lengths).sum() < entropy + 0.1
    assert (0.5**lengths).sum() == 1  # every way ends in a word
    assert (tree.nodes[tree.starts[:-1]] == len(counts) - 2).all()  # and begins at the root
    bag = fitted(replace(PLAIN, loss="hierarchical"), scale=0.7)
    logits = _head(bag).logits(torch.randn(5, 8, generator=torch.Generator().manual_seed(0)))  # type: ignore[operator]
    assert torch.allclose(logits.exp().sum(-1), torch.ones(5), atol=1e-5)
    assert bool((logits[:, [PAD, BOS, EOS]] == -torch.inf).all())


def test_no_window_reaches_over_the_end_of_a_document() -> None:
    """Two documents side by side teach what they teach one after the other."""
    one, other = np.array([BOS, 3, 4, 5, EOS]), np.array([BOS, 6, 7, EOS])
    bags = []
    for parts in ([np.concatenate([one, other])], [one, other]):
        bag = Bag(WORDS, 8, replace(PLAIN, loss="hierarchical"))
        bag.count(np.concatenate([one, other]), 1)
        bag.outputs.data = torch.full_like(bag.outputs, 0.1)
        for tokens in parts:
            bag.manner = replace(bag.manner, rate=1e-4)  # as low as it falls: the same for all
            bag.fit(tokens, None, passes=2, parts=2, done=1)
        bags.append(bag)
    assert torch.equal(bags[0].inputs, bags[1].inputs)


def test_short_documents_and_words_alone_are_no_trouble() -> None:
    tokens = np.array([BOS, 3, EOS, BOS, EOS, BOS, 4, 5, EOS])
    bag = Bag(WORDS, 8, Manner(sample=0))
    told: list[Lesson] = []
    bag.fit(tokens, None, passes=3, watch=lambda part, lesson: told.append(lesson))
    assert (told[0].words, told[0].answers) == (9, 6)
    assert bool(torch.isfinite(bag.inputs).all())


@pytest.mark.parametrize("loss", ["negative", "hierarchical"])
def test_one_worker_repeats_itself_and_several_come_near(loss: str) -> None:
    """A tree is learned by one, however many there are."""
    tokens = np.concatenate([[BOS], 3 + np.random.default_rng(0).zipf(1.5, 60_000) % 17, [EOS]])
    bags = []
    for workers in (1, 1, 2):
        bag = Bag(WORDS, 8, Manner(loss=loss))  # type: ignore[arg-type]
        told: list[Lesson] = []
        bag.fit(
            tokens, None, passes=2, workers=workers, seed=5, watch=lambda part, lesson, told=told: told.append(lesson)
        )  # type: ignore[misc]
        bags.append((bag, told[0].nats))
    (one, nats), (again, same), (_, near) = bags
    assert torch.equal(one.inputs, again.inputs)
    assert torch.equal(one.outputs, again.outputs)
    assert nats == same
    assert near == pytest.approx(nats, rel=0.02)
    assert (near == nats) == (loss == "hierarchical")


def test_parts_change_nothing_and_a_bag_goes_on_behind_them() -> None:
    manner = Manner(sample=0.05, window=3)
    tokens, offsets = text(documents=3000, longest=20)
    whole, halves = Bag(WORDS, 8, manner), Bag(WORDS, 8, manner)
    whole.fit(tokens, offsets, passes=2.5, seed=1)
    kept: dict[int, dict[str, torch.Tensor]] = {}

    def watch(part: int, lesson: Lesson) -> None:
        kept[part] = {name: value.clone() for name, value in halves.tensors().items()}

    halves.fit(tokens, offsets, passes=2.5, seed=1, parts=4, watch=watch)
    assert torch.equal(whole.inputs, halves.inputs)
    resumed = Bag(WORDS, 8, manner)
    resumed.hold(**{name: value.clone() for name, value in kept[2].items()})
    resumed.fit(tokens, offsets, passes=2.5, seed=1, parts=4, done=2)
    assert torch.equal(whole.inputs, resumed.inputs)
    assert not torch.equal(kept[2]["inputs"], whole.inputs)


def test_it_learns_which_words_stand_in_for_each_other() -> None:
    """Words of one class have the same neighbours; their vectors come to point the same way, and the loss falls."""
    draw = np.random.default_rng(0)
    frames = np.stack([draw.integers(3, 6, 8000), draw.integers(6, 9, 8000), draw.integers(9, 12, 8000)], 1)
    tokens = frames.ravel()
    told: list[Lesson] = []
    bag = Bag(WORDS, 8, Manner(sample=0, window=2, rate=0.1))
    bag.fit(tokens, np.arange(0, len(tokens), 3), passes=4, parts=4, watch=lambda part, lesson: told.append(lesson))
    vectors = torch.nn.functional.normalize(bag.inputs.detach()[torch.from_numpy(bag.ranks[3:12])], dim=1)
    cosines = vectors @ vectors.T
    same = torch.block_diag(*[torch.ones(3, 3)] * 3).bool()
    assert cosines[same].mean() > cosines[~same].mean() + 0.5
    assert told[-1].nats < 0.95 * told[0].nats


def test_it_comes_back_from_its_tensors() -> None:
    bag = fitted(Manner(sample=0), passes=1)
    again = Bag.from_tensors(WORDS, bag.tensors(), bag.manner)
    for name, value in bag.tensors().items():
        assert torch.equal(value, again.tensors()[name])


def test_fresh_models_of_a_family_are_built(tmp_path: object) -> None:
    model = built(CBOW(WORDS), Shape(2, 8, 2, WORDS.padded, 16), None)  # type: ignore[arg-type]
    assert isinstance(model.stack, Bag)
    assert model.parameter_counts() == (0, 0)
    model.stack.fit(*text())
    assert model.parameter_counts() == (0, 2 * 17 * 8)


@pytest.mark.parametrize(
    ("setting", "message"),
    [({"window": 0}, "window = 0"), ({"negatives": 0}, "negatives = 0"), ({"sample": 1.0}, "no relative frequency"),
     ({"rate": 0.0}, "rate of 0.0"), ({"rate": float("inf")}, "rate of inf")],
)  # fmt: skip
def test_settings_that_mean_nothing(setting: dict[str, float], message: str) -> None:
    with pytest.raises(SightlineError, match=message):
        Manner(**setting)  # type: ignore[arg-type]
    with pytest.raises(SightlineError, match=message):
        CBOW(WORDS, **setting)  # type: ignore[arg-type]


def test_clear_errors() -> None:
    with pytest.raises(SightlineError, match="1 different word, and there is nothing to tell apart"):
        Bag(WORDS, 8, Manner()).fit(np.array([BOS, 5, 5, 5, EOS]))
    with pytest.raises(SightlineError, match="0 different words"):
        Bag(WORDS, 8, Manner()).fit(np.array([BOS, EOS]))
    with pytest.raises(SightlineError, match="do not fit a vocabulary of 24"):
        Bag(WORDS, 8, Manner()).fit(np.array([BOS, 99]))
    with pytest.raises(SightlineError, match="read nothing yet"):
        Bag(WORDS, 8, Manner()).tensors()
    tensors = fitted(Manner(sample=0), passes=1).tensors()
    with pytest.raises(SightlineError, match="not a bag"):
        Bag.from_tensors(WORDS, {"inputs": tensors["inputs"]}, Manner())
    with pytest.raises(SightlineError, match="do not fit a vocabulary"):
        Bag.from_tensors(WORDS, tensors, Manner(loss="hierarchical"))
    with pytest.raises(SightlineError, match="do not fit a vocabulary"):
        Bag.from_tensors(Vocabulary(19, 24, specials=(0, 1, 2)), tensors, Manner())


def test_without_numba_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "numba", None)
    hogwild.compiled.cache_clear()
    try:
        with pytest.raises(SightlineError, match=r"pip install 'sightline\[vectors\]'"):
            Bag(WORDS, 8, Manner()).fit(*text())
    finally:
        monkeypatch.undo()
        hogwild.compiled.cache_clear()


def test_a_worker_that_fails_is_heard(monkeypatch: pytest.MonkeyPatch) -> None:
    def draws(number: int) -> np.random.RandomState:
        raise ValueError("no numbers")

    with pytest.raises(ValueError, match="no numbers"):
        Bag(WORDS, 8, Manner()).fit(*text(), workers=2, draws=draws)
