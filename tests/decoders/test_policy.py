"""Schedules, and the loop with a model whose answers are written down."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pytest
import torch
from torch import Tensor

from sightline.decoders.canvas import Canvas
from sightline.decoders.draft import Draft
from sightline.decoders.loop import write
from sightline.decoders.policy import AllAtOnce, Ancestral, Beam, Leading, NextPlace, Policy, Refine, Surest
from sightline.decoders.sampling import GREEDY, Sampling
from sightline.errors import SightlineError
from sightline.sight import NO_DOCUMENT, NOTHING, Slots, View, everything, fixed

MASK = 9


def hidden(canvas: Canvas) -> View:
    """Every open place is a mask that asks for itself."""
    place = np.arange(canvas.places)
    return View.of(
        Slots.of(place, np.where(canvas.inside, 0, NO_DOCUMENT)),
        everything,
        shows=np.where(canvas.open, fixed(MASK), place),
        asks=np.where(canvas.open, place, NOTHING),
    )


@dataclass
class Oracle:
    """Answers ``reference`` at each place, with a sureness of its own for each; remembers what it was asked."""

    reference: np.ndarray
    sureness: np.ndarray
    asked: list[list[list[int]]] = field(default_factory=list)
    shown: list[np.ndarray] = field(default_factory=list)

    def __call__(self, view: View, tokens: np.ndarray, cache: None) -> Tensor:
        self.asked.append([np.flatnonzero(line != NOTHING).tolist() for line in view.asks])
        self.shown.append(view.shown(tokens))
        logits = torch.zeros(*self.reference.shape, 10)
        logits.scatter_(2, torch.from_numpy(self.reference)[..., None], torch.from_numpy(self.sureness)[..., None])
        return logits[: view.slots.lines]


def oracle(lines: int, places: int) -> Oracle:
    rng = np.random.default_rng(0)
    sureness = rng.permutation(lines * places).reshape(lines, places) * 0.01 + 1
    return Oracle(rng.integers(0, 9, (lines, places)), sureness.astype(np.float32))


def blanks(*gaps: int) -> Canvas:
    return Canvas.of([([], gap, []) for gap in gaps])


@pytest.mark.parametrize(
    ("places", "iterations", "number", "reopened"),
    [(10, 10, 8, 2), (10, 10, 1, 9), (10, 10, 9, 1), (6, 10, 9, 1), (7, 4, 1, 5), (7, 4, 2, 3), (0, 4, 1, 0)],
)
def test_mask_predict_schedule(places: int, iterations: int, number: int, reopened: int) -> None:
    """Whole numbers: 10 * (1 - 8/10) in doubles would give 1."""
    assert Refine(iterations).reopened(np.array([places]), number).tolist() == [reopened]


def test_refine_asks_fewer_each_round_and_only_the_least_sure() -> None:
    answers = oracle(1, 10)
    done = write(hidden, answers, blanks(10), Refine(5))
    assert [len(asked[0]) for asked in answers.asked] == [10, 8, 6, 4, 2]
    least = np.argsort(answers.sureness[0])
    assert answers.asked[1][0] == sorted(least[:8].tolist())
    assert done.canvas.tokens.tolist() == answers.reference.tolist()
    assert done.rounds == 5
    assert done.film[0].max() == 5


def test_refine_touches_only_open_places() -> None:
    canvas = Canvas.laid([[[5, 6], 3, [7], 2, [8]]])
    answers = oracle(1, canvas.places)
    done = write(hidden, answers, canvas, Refine(4))
    assert done.canvas.tokens[0, [0, 1, 5, 8]].tolist() == [5, 6, 7, 8]
    assert done.film[0, [0, 1, 5, 8]].tolist() == [0, 0, 0, 0]
    for asked in answers.asked:
        assert set(asked[0]) <= {2, 3, 4, 6, 7}
    for shown in answers.shown:
        assert shown[0, [0, 1, 5, 8]].tolist() == [5, 6, 7, 8]


def test_one_iteration_is_all_at_once() -> None:
    one = write(hidden, oracle(2, 6), blanks(6, 4), Refine(1))
    other = write(hidden, oracle(2, 6), blanks(6, 4), AllAtOnce())
    assert one.canvas.tokens.tolist() == other.canvas.tokens.tolist()
    assert one.rounds == other.rounds == 1


def test_surest_shares_places_out_evenly_and_never_revises() -> None:
    steps = Surest(4)
    assert [int(steps.quota(np.array([10]), number)[0]) for number in range(1, 5)] == [3, 3, 2, 2]
    answers = oracle(1, 10)
    done = write(hidden, answers, blanks(10), steps)
    surest_first = np.argsort(-answers.sureness[0])
    assert np.bincount(done.film[0])[1:].tolist() == [3, 3, 2, 2]
    assert done.film[0, surest_first].tolist() == [1, 1, 1, 2, 2, 2, 3, 3, 4, 4]
    assert done.canvas.tokens.tolist() == answers.reference.tolist()


def test_surest_with_as_many_steps_as_places_writes_one_a_round() -> None:
    done = write(hidden, oracle(2, 5), blanks(5, 3), Surest(5))
    assert sorted(done.film[0].tolist()) == [1, 2, 3, 4, 5]
    assert sorted(done.film[1, :3].tolist()) == [1, 2, 3]


def test_surest_block_by_block_finishes_each_before_the_next() -> None:
    answers = oracle(2, 8)
    done = write(hidden, answers, Canvas.laid([[[5], 7], [[5, 6], 4]]), Surest(2, block=4))
    assert sorted(done.film[0, 1:5].tolist()) == [1, 1, 2, 2]
    assert sorted(done.film[0, 5:].tolist()) == [3, 3, 4]
    assert sorted(done.film[1, 2:6].tolist()) == [1, 1, 2, 2]
    aligned = write(hidden, oracle(2, 8), Canvas.laid([[[5], 7], [[5, 6], 4]]), Surest(4, block=4, aligned=True))
    assert sorted(aligned.film[0, 1:4].tolist()) == [1, 2, 3]
    assert sorted(aligned.film[0, 4:].tolist()) == [4, 5, 6, 7]
    assert sorted(aligned.film[1, 2:4].tolist()) == [1, 2]
    assert sorted(aligned.film[1, 4:6].tolist()) == [3, 4]


def test_blocks_of_one_place_go_from_left_to_right_and_one_block_is_none() -> None:
    assert write(hidden, oracle(1, 5), blanks(5), Surest(1, block=1)).film[0].tolist() == [1, 2, 3, 4, 5]
    whole, one = (write(hidden, oracle(1, 9), blanks(9), Surest(3, block)).film[0].tolist() for block in (0, 9))
    assert whole == one


def test_a_drawn_order_is_no_order_of_sureness_and_repeats_by_seed() -> None:
    films = []
    for seed in (1, 1, 2):
        policy, draws = Surest(12, by="chance"), torch.Generator().manual_seed(seed)
        films.append(write(hidden, oracle(1, 12), blanks(12), policy, generator=draws).film[0].tolist())
    assert films[0] == films[1] != films[2]
    assert sorted(films[0]) == list(range(1, 13))
    assert films[0] != write(hidden, oracle(1, 12), blanks(12), Surest(12)).film[0].tolist()


@pytest.mark.parametrize("remask", [0.0, 0.1, 1.0])
def test_ancestral_leaves_a_share_of_masks_that_falls_evenly(remask: float) -> None:
    """At time t a share t is open, however many are opened again (the marginals of the noise)."""
    left: list[float] = []
    again = 0

    def watch(draft: Draft, number: int) -> None:
        nonlocal again
        left.append(float(draft.canvas.open[0].mean()))
        again += int((draft.canvas.open & (draft.film > 0)).sum())

    generator = torch.Generator().manual_seed(0)
    answers = oracle(1, 4000)
    write(hidden, answers, blanks(4000), Ancestral(5, remask), generator=generator, on_round=watch)
    assert left == pytest.approx([0.8, 0.6, 0.4, 0.2, 0.0], abs=0.04)
    assert (again > 0) == (remask > 0)


def test_while_nothing_is_written_nothing_is_asked_anew() -> None:
    answers = oracle(1, 2)
    done = write(hidden, answers, blanks(2), Ancestral(200), generator=torch.Generator().manual_seed(3))
    assert done.rounds > 50
    assert len(answers.asked) <= 2


def test_next_place_goes_left_to_right_even_where_all_are_asked() -> None:
    done = write(hidden, oracle(1, 5), blanks(5), NextPlace())
    assert done.film[0].tolist() == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("policy", [NextPlace(), AllAtOnce(), Surest(3), Refine(4), Beam(2)])
def test_lines_come_back_in_order_whatever_their_length(policy: Policy) -> None:
    answers = oracle(4, 6)
    answers.reference[:] = np.arange(4)[:, None]
    sizes = (2, 6, 1, 4)

    def logits(view: View, tokens: np.ndarray, cache: None) -> Tensor:
        whose = tokens[:, -1]  # a given last token names the line
        return answers(view, tokens, cache).new_tensor(np.eye(10)[whose])[:, None].expand(-1, view.slots.count, -1)

    canvas = Canvas.laid([[size, [], [0] * (6 - size), [line]] for line, size in enumerate(sizes)])
    done = write(hidden, logits, canvas, policy)
    assert done.owners.tolist() == [0, 1, 2, 3]
    for line, size in enumerate(sizes):
        assert done.canvas.tokens[line, :size].tolist() == [line] * size
    assert bool(done.canvas.done.all())


def test_a_stop_puts_the_rest_outside_and_waits_for_the_least_length() -> None:
    answers = Oracle(np.array([[3, 7, 3, 3, 3]]), np.full((1, 5), 20, np.float32))
    done = write(hidden, answers, blanks(5), NextPlace(), stops=[7])
    assert done.canvas.text(0).tolist() == [3, 7]
    assert done.canvas.inside[0].tolist() == [True, True, False, False, False]
    later = write(hidden, answers, blanks(5), NextPlace(), stops=[7], min_length=2)
    assert later.canvas.text(0).tolist()[0] == 3
    assert 7 not in later.canvas.text(0)[:2].tolist()


def test_forbidden_ids_are_never_written_but_stops_are() -> None:
    answers = Oracle(np.array([[3, 7, 4]]), np.full((1, 3), 20, np.float32))
    done = write(hidden, answers, blanks(3), NextPlace(), forbidden=[3, 7], stops=[7])
    assert done.canvas.text(0)[0] != 3
    assert done.canvas.text(0)[1] == 7
    with pytest.raises(SightlineError, match="every token is forbidden"):
        write(hidden, answers, blanks(3), NextPlace(), forbidden=range(10))


def test_a_place_nobody_asks_about_is_an_error() -> None:
    def silent(canvas: Canvas) -> View:
        return View.of(Slots.of(np.arange(canvas.places)), everything, shows=np.arange(canvas.places))

    with pytest.raises(SightlineError, match="nothing is asked about line 0"):
        write(silent, oracle(1, 3), blanks(3), NextPlace())


def test_nothing_open_needs_no_round() -> None:
    done = write(hidden, oracle(1, 2), Canvas.of([([4, 5], 0, [])]), NextPlace())
    assert done.rounds == 0
    assert done.canvas.text(0).tolist() == [4, 5]


def test_each_round_is_told() -> None:
    films: list[int] = []

    def tell(draft: Draft, number: int) -> None:
        films.append(int((draft.film == number).sum()))

    write(hidden, oracle(1, 6), blanks(6), Surest(3), on_round=tell)
    assert films == [2, 2, 2]


@pytest.mark.parametrize(
    "make",
    [
        lambda: Refine(0),
        lambda: Surest(0),
        lambda: Surest(2, block=-1),
        lambda: Ancestral(0),
        lambda: Ancestral(2, 1.5),
        lambda: Beam(0),
        lambda: Beam(2, n_best=3),
        lambda: Beam(2, -1.0),
    ],
)
def test_bad_settings_are_clear_errors(make: object) -> None:
    assert callable(make)
    with pytest.raises(SightlineError):
        make()


def test_a_beam_draws_nothing() -> None:
    with pytest.raises(SightlineError, match="temperature 0"):
        write(hidden, oracle(1, 3), blanks(3), Beam(2), Sampling())
    assert write(hidden, oracle(1, 3), blanks(3), Beam(1), GREEDY).rounds == 3


def block_of_three(canvas: Canvas) -> View:
    """The next three open places of each line, each a mask that asks for itself."""
    view = hidden(canvas)
    asked = canvas.open & (np.cumsum(canvas.open, axis=1) <= 3)
    return View.of(view.slots, everything, shows=view.shows, asks=np.where(asked, view.asks, NOTHING))


def test_blocks_are_written_in_order() -> None:
    answers = oracle(2, 7)
    done = write(block_of_three, answers, blanks(7, 5), Leading())
    assert done.film.tolist() == [[1, 1, 1, 2, 2, 2, 3], [1, 1, 1, 2, 2, 0, 0]]
    assert done.canvas.tokens[0].tolist() == answers.reference[0].tolist()


def test_of_a_block_the_sure_beginning_is_kept() -> None:
    """A token below the bar is written only as the first of its block; what follows it waits too."""
    answers = oracle(1, 6)
    answers.sureness[:] = [[9, 9, 0.1, 0.1, 9, 9]]
    done = write(block_of_three, answers, blanks(6), Leading(sure=0.5))
    assert done.film.tolist() == [[1, 1, 2, 3, 3, 3]]
    assert done.rounds == 3
    with pytest.raises(SightlineError, match="no probability"):
        Leading(sure=1.0)


def test_what_stands_behind_an_end_in_its_block_is_no_part_of_the_text() -> None:
    answers = oracle(1, 7)
    answers.reference[:] = [[0, 5, 2, 6, 7, 7, 7]]
    done = write(block_of_three, answers, Canvas.laid([[[4], 6]]), Leading(), stops=(2,))
    assert done.canvas.text(0).tolist() == [4, 5, 2]
    assert (done.logprobs[0] != 0).tolist() == [False, True, True, False, False, False, False]
    assert done.film.tolist() == [[0, 1, 1, 0, 0, 0, 0]]
