"""The loop with real stacks: caches, batches, beams."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from sightline.decoders.canvas import Canvas
from sightline.decoders.draft import Written
from sightline.decoders.loop import write
from sightline.decoders.policy import Beam, NextPlace, Policy, Refine
from sightline.decoders.sampling import GREEDY, Sampling
from sightline.objectives.model import Model
from sightline.sight import View
from sightline.stacks.cache import Cache

BOS, EOS = 1, 2
FORBIDDEN = (0, 1, 2, 3)
ONE_SIDED = ["causal", "backward", "prefix"]
Small = Callable[..., Model]


def laid(model: Model, prompts: list[list[int]], length: int) -> Canvas:
    if model.objective.writes_from == "right":
        return Canvas.of([([], length, [*prompt, EOS]) for prompt in prompts])
    return Canvas.of([([BOS, *prompt], length, []) for prompt in prompts])


def written(
    model: Model,
    prompts: list[list[int]],
    length: int = 8,
    policy: Policy | None = None,
    sampling: Sampling = GREEDY,
    cached: bool = True,
    seed: int = 0,
    stops: tuple[int, ...] | None = None,
) -> Written:
    return write(
        model.objective.fill,
        model.logits,
        laid(model, prompts, length),
        policy or NextPlace(),
        sampling,
        stops=model.objective.stops if stops is None else stops,
        forbidden=FORBIDDEN,
        make_cache=Cache if cached else None,
        generator=torch.Generator().manual_seed(seed),
    )


def texts(done: Written) -> list[list[int]]:
    return [done.canvas.text(line).tolist() for line in range(done.canvas.lines)]


PROMPTS = [[5, 6, 7], [8], [9, 10, 11, 12, 13, 14], [4, 4], [15, 16, 17]]


@pytest.mark.parametrize("positions", ["rope", "learned", "relative", "alibi"])
@pytest.mark.parametrize("family", ONE_SIDED)
def test_cached_equals_uncached(small: Small, family: str, positions: str) -> None:
    model = small(family, positions=positions)
    assert texts(written(model, PROMPTS, cached=True)) == texts(written(model, PROMPTS, cached=False))


@pytest.mark.parametrize("family", ONE_SIDED)
def test_with_a_cache_only_what_is_new_is_fed(small: Small, family: str) -> None:
    model = small(family)
    fed: list[int] = []
    plain = model.logits

    def counted(view: View, tokens: np.ndarray, cache: Cache | None = None) -> torch.Tensor:
        fed.append(view.slots.count)
        return plain(view, tokens, cache)

    write(model.objective.fill, counted, laid(model, [[5, 6, 7], [8]], 6), NextPlace(), stops=(), make_cache=Cache)
    assert fed == [4, 1, 1, 1, 1, 1]


@pytest.mark.parametrize("family", ONE_SIDED)
@pytest.mark.parametrize("policy", [NextPlace(), Beam(3)])
def test_a_batch_equals_one_by_one(small: Small, family: str, policy: Policy) -> None:
    """Ids 4 to 9 as stops, so that lines leave the batch at different times."""
    model = small(family, seed=3)
    stops = tuple(range(4, 10))
    together = written(model, PROMPTS, policy=policy, stops=stops)
    alone = [written(model, [prompt], policy=policy, stops=stops) for prompt in PROMPTS]
    assert texts(together) == [texts(one)[0] for one in alone]
    assert len({len(text) for text in texts(together)}) > 2
    np.testing.assert_allclose(together.total, [one.total[0] for one in alone], atol=1e-4)


def test_refinement_in_a_batch_equals_one_by_one(small: Small) -> None:
    model = small("masked")
    gaps = [[[BOS, 5], 4, [6, EOS]], [[BOS], 7, [8, 9, 10, EOS]], [[BOS, 4], 1, [EOS]]]

    def refined(lines: list[list[object]]) -> list[list[int]]:
        canvas = Canvas.laid(lines)  # type: ignore[arg-type]
        return texts(write(model.objective.fill, model.logits, canvas, Refine(5), forbidden=FORBIDDEN))

    assert refined(gaps) == [refined([line])[0] for line in gaps]


@pytest.mark.parametrize("family", ONE_SIDED)
def test_log_probabilities_are_the_model_s(small: Small, family: str) -> None:
    """The sum over what was written is what the family's own score says of the finished text."""
    from sightline.data import Rows

    model = small(family)
    prompts = [[5, 6, 7], [9, 10, 11]]
    done = written(model, prompts, sampling=Sampling(0.7), stops=())
    wanted = [~done.canvas.given[line] for line in range(2)]
    nats, asked = model.examined(Rows.of(list(done.canvas.tokens), model.tokenizer, wanted=wanted))
    assert asked.tolist() == [8, 8]
    np.testing.assert_allclose(-done.total, nats, rtol=1e-4)


def test_right_to_left_the_prompt_stays_at_the_end(small: Small) -> None:
    model = small("backward", seed=2)
    done = written(model, PROMPTS, stops=(5, 6, 7, 8))
    for line, prompt in enumerate(PROMPTS):
        assert done.canvas.text(line).tolist()[-len(prompt) - 1 :] == [*prompt, EOS]
        rounds = done.film[line][done.film[line] > 0]
        assert rounds.tolist() == sorted(rounds, reverse=True)
        ended = done.canvas.text(line)[0]
        assert ended in (5, 6, 7, 8) or len(rounds) == 8


@pytest.mark.parametrize("family", ONE_SIDED)
def test_a_beam_of_one_is_greedy(small: Small, family: str) -> None:
    model = small(family, seed=4)
    for stops in ((), (4, 5, 6, 7)):
        greedy, beam = written(model, PROMPTS, stops=stops), written(model, PROMPTS, policy=Beam(1), stops=stops)
        assert texts(beam) == texts(greedy)
        np.testing.assert_allclose(beam.total, greedy.total, atol=1e-5)


def test_a_beam_finds_likelier_texts_than_greedy(small: Small) -> None:
    prompts = [[a, b] for a in range(4, 12) for b in range(12, 16)]
    gains = []
    for seed in range(2):
        model = small("causal", seed=seed)
        with torch.no_grad():
            model.head.weight.mul_(1 / 10)
        greedy = written(model, prompts, stops=(), length=5)
        beam = written(model, prompts, policy=Beam(5), stops=(), length=5)
        gains.append(beam.total - greedy.total)
    gain = np.concatenate(gains)
    assert gain.mean() > 0.05
    assert (gain > -1e-4).mean() > 0.9


def test_a_beam_wide_enough_is_exhaustive(small: Small) -> None:
    """Two letters of 16: a beam of 256 holds every pair, and gives them in order."""
    model = small("causal", seed=5)
    done = written(model, [[5]], policy=Beam(256, n_best=256), stops=(), length=2)
    assert len({tuple(text) for text in texts(done)}) == 256
    assert (np.diff(done.total) <= 1e-9).all()
    np.testing.assert_array_equal(done.owners, 0)


def test_n_best_texts_stand_side_by_side(small: Small) -> None:
    done = written(small("prefix"), PROMPTS[:3], policy=Beam(4, n_best=2), stops=())
    assert done.owners.tolist() == [0, 0, 1, 1, 2, 2]
    assert (done.worth[0::2] >= done.worth[1::2]).all()


def test_length_penalty_orders_finished_texts(small: Small) -> None:
    model = small("causal", seed=6)
    with torch.no_grad():
        model.head.weight.mul_(0)  # even odds: each token costs ln 20
    stops = tuple(range(4, 12))
    short = written(model, [[5]], policy=Beam(60, n_best=1), stops=stops, length=4)
    assert len(texts(short)[0]) == 3
    mean = written(model, [[5]], policy=Beam(60, length_penalty=1.0, n_best=60), stops=stops, length=4)
    assert np.allclose(mean.worth, mean.worth[0])


def test_the_same_seed_writes_the_same(small: Small) -> None:
    model = small("causal")
    with torch.no_grad():
        model.head.weight.mul_(1 / 30)
    one, same, other = (texts(written(model, PROMPTS, sampling=Sampling(), seed=seed)) for seed in (1, 1, 2))
    assert one == same
    assert one != other


def test_a_finished_text_gives_up_its_place_in_the_beam(small: Small) -> None:
    """With half of the letters as stops, some of four lines end in every round: four in all, never refilled."""
    model = small("causal", seed=6)
    with torch.no_grad():
        model.head.weight.mul_(1 / 30)
    live: list[int] = []
    finished: list[int] = []
    write(
        model.objective.fill,
        model.logits,
        laid(model, [[5]], 12),
        Beam(4),
        stops=range(4, 12),
        forbidden=FORBIDDEN,
        make_cache=Cache,
        on_round=lambda draft, number: (
            live.append(draft.canvas.lines),
            finished.append(int(draft.canvas.done.sum())),
        ),
    )
    assert sum(finished) == 4
    assert live == [4 - sum(finished[:number]) for number in range(len(live))]
    assert len(live) > 1
