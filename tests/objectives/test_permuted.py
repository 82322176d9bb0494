"""Any order is exact, partial prediction, and what is written is what is scored."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from sightline.data import Draws, Rows, Tokenizer, train_tokenizer
from sightline.data.vocabulary import Vocabulary
from sightline.decoders.canvas import Canvas
from sightline.decoders.loop import write
from sightline.decoders.policy import NextPlace, Surest
from sightline.decoders.sampling import GREEDY
from sightline.errors import SightlineError
from sightline.objectives import Causal, Permuted
from sightline.objectives.filling import fill
from sightline.objectives.model import Model, built
from sightline.objectives.permuted import FIRST, QUERY, TEXT
from sightline.objectives.writing import generate
from sightline.sight import NOTHING, Depth, View, matrix, reach, score_of
from sightline.stacks.cache import Cache
from sightline.stacks.shape import Shape
from sightline.stacks.transformer import Transformer

WORDS = Vocabulary(20, 20, pad=0, bos=1, eos=2, specials=(0, 1, 2))
DEEP = Depth(layers=3)
SAID = "The cat sat on the mat. The dog saw the cat. 猫坐在垫子上。 " * 8


def rows_of(tokens: np.ndarray, wanted: np.ndarray | None = None, documents: np.ndarray | None = None) -> Rows:
    count, everywhere = len(tokens), np.ones(tokens.shape, bool)
    documents = np.zeros(tokens.shape, np.int32) if documents is None else documents
    number = np.arange(count)
    wanted = everywhere if wanted is None else wanted
    return Rows(tokens.astype(np.int32), documents, number, number * 0, everywhere, documents.astype(int), wanted)


def text(length: int, count: int = 1) -> Rows:
    tokens = np.random.default_rng(length).integers(3, 20, (count, length))
    tokens[:, 0], tokens[:, -1] = WORDS.bos, WORDS.eos
    return rows_of(tokens)


def lively(vocabulary: Vocabulary, tokenizer: Tokenizer | None = None, **settings: float) -> Model:
    """A random model whose answers differ."""
    model = built(Permuted(vocabulary, **settings), Shape(2, 32, 4, vocabulary.padded, 96), tokenizer, seed=2)  # type: ignore[arg-type]
    with torch.no_grad():
        model.head.weight.normal_(std=0.5, generator=torch.Generator().manual_seed(1))  # type: ignore[operator,union-attr]
    return model.eval()


def nats_of(model: Model, view: View, rows: Rows) -> np.ndarray:
    with torch.no_grad():
        nats = model.grade(view, rows.tokens).nats.double().numpy()
    return (nats * view.answer_weights()).sum(1)  # type: ignore[no-any-return]


# -- any order


@pytest.mark.parametrize("seed", range(4))
def test_with_right_conditionals_every_order_gives_the_same_exact_score(seed: int) -> None:
    """What a query may see at any depth is all that stands before it in the order: the chain rule needs no more."""
    rng = np.random.default_rng(seed)
    joint = rng.dirichlet(np.ones(3**4)).reshape((3,) * 4)
    rows = rows_of(np.array([[7, *rng.integers(0, 3, 4)]]))  # a start mark and four words of three
    rank = np.r_[0, rng.permutation(4)][None]
    view = Permuted(WORDS).examine_in(rows, rank)
    reached, nats = reach(view, DEEP)[0], 0.0

    def likelihood(known: set[int]) -> float:
        kept = tuple(int(rows.tokens[0, place]) if place in known else slice(None) for place in range(1, 5))
        return float(joint[kept].sum())

    for slot in np.flatnonzero(view.asks[0] != NOTHING):
        known = {int(place) for place in view.shows[0][reached[slot]] if place > 0}
        asked = int(view.asks[0, slot])
        assert known == {place for place in range(1, 5) if rank[0, place] < rank[0, asked]}
        nats -= np.log(likelihood(known | {asked}) / likelihood(known))
    assert nats == pytest.approx(-np.log(likelihood({1, 2, 3, 4})), abs=1e-12)
    assert score_of([view], DEEP) == "exact"


def test_probabilities_of_all_texts_sum_to_one_in_any_order() -> None:
    letters = Vocabulary(3, 3, bos=2, specials=(2,))
    model = lively(letters)
    whole = np.array([(2, *words) for words in itertools.product(range(3), repeat=3)])
    scores = []
    for order in itertools.permutations(range(3)):
        rank = np.broadcast_to(np.r_[0, order], whole.shape)
        rows = rows_of(whole)
        scores.append(nats_of(model, model.objective.examine_in(rows, rank), rows))  # type: ignore[attr-defined]
        assert np.exp(-scores[-1]).sum() == pytest.approx(1, abs=1e-5)
    left_to_right, _ = model.examined(rows_of(whole))
    assert np.allclose(left_to_right, scores[0], atol=1e-5)
    assert np.ptp(scores, axis=0).max() > 0.1  # one text has several likelihoods ...
    mixture = -np.log(np.exp(-np.array(scores)).mean(0))
    assert (mixture <= np.mean(scores, axis=0) + 1e-9).all()  # ... and their mean bounds their mixture's


def test_given_sides_see_each_other() -> None:
    rows = text(8)
    wanted = np.isin(np.arange(8), (3, 4))[None]
    view = Permuted(WORDS).examine_in(rows_of(rows.tokens, wanted), np.array([[0, 0, 0, 2, 1, 0, 0, 0]]))
    seen = matrix(view.whole_sight, view.slots)[0]
    given = [0, 1, 2, 5, 6, 7]
    assert seen[np.ix_(given, given)].all()
    assert not seen[np.ix_(given, [3, 4])].any()
    assert [view.shows[0][row[:8].nonzero()].tolist() for row in seen[8:]] == [sorted([*given, 4]), given]


# -- training


def orders(view: View, count: int) -> np.ndarray:
    return view.slots.order[:, :count]


def test_partial_prediction_asks_for_the_last_of_the_order() -> None:
    rows = text(60, 400)
    family = Permuted(WORDS, last=1 / 6, whole=0)
    (view,) = family.ask(rows, Draws(1).of(rows), 0.0)
    asked = np.zeros((400, 60), bool)
    assert view.slots.count == 70 and view.most_asks == 10
    np.put_along_axis(asked, view.asks[:, 60:], True, axis=1)
    assert (asked.sum(1) == 10).all()
    assert not asked[:, 0].any()  # the start is given
    order = orders(view, 60)
    assert (order[~asked] == FIRST).all()
    assert (np.sort(order[asked].reshape(400, 10), axis=1) == np.arange(51, 61)).all()
    share = asked.mean(0)[1:]
    assert share.min() > 0.08
    assert share.max() < 0.28
    assert len({tuple(np.argsort(line[places])) for line, places in zip(order, asked, strict=True)}) == 400
    assert family.columns == ("infilling",)


def test_the_share_of_whole_documents() -> None:
    rows = text(20, 400)
    rows = rows_of(rows.tokens, documents=np.broadcast_to(np.arange(20) // 10, (400, 20)).astype(np.int32))
    (view,) = Permuted(WORDS, last=0.2, whole=0.25).ask(rows, Draws(1).of(rows), 0.0)
    asked = np.zeros((400, 20), bool)
    for line, slot in np.argwhere(view.asks != NOTHING):
        asked[line, view.asks[line, slot]] = True
    whole = asked.reshape(800, 10).sum(1) == 9
    assert whole.mean() == pytest.approx(0.25, abs=0.05)
    assert asked.reshape(800, 10)[~whole].sum(1).mean() == pytest.approx(2, abs=0.3)
    assert view.slots.count == 40 and view.most_asks == 20
    again = Permuted(WORDS, last=0.2, whole=0.25).ask(rows, Draws(2).of(rows), 0.0)[0]
    assert (orders(view, 20) != orders(again, 20)).any(1).mean() > 0.9


def test_all_of_it_from_left_to_right_shows_what_causal_shows() -> None:
    rows = text(9)
    (mine,), (causal,) = Permuted(WORDS).examine(rows), Causal(WORDS).examine(rows)
    known = {}
    for view in (mine, causal):
        reached = reach(view, DEEP)[0]
        for slot in np.flatnonzero(view.asks[0] != NOTHING):
            places = view.shows[0][reached[slot]]
            known.setdefault(int(view.asks[0, slot]), []).append(set(places[places >= 0].tolist()))
    assert len(known) == 8
    assert all(one == other for one, other in known.values())


def test_it_is_read_as_a_text_that_sees_itself() -> None:
    rows = text(9)
    view = Permuted(WORDS).read(rows)
    assert view.slots.count == 9
    assert matrix(view.whole_sight, view.slots).all()
    assert (view.asks == NOTHING).all()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"last": 0.0}, "is nothing"),
        ({"last": 1.5}, "is more than there is"),
        ({"whole": -0.1}, "no share"),
        ({"whole": 2.0}, "no share"),
    ],
)
def test_settings_out_of_range(settings: dict[str, float], message: str) -> None:
    with pytest.raises(SightlineError, match=message):
        Permuted(WORDS, **settings)


def test_a_stack_without_a_vector_for_queries_is_refused() -> None:
    model = lively(WORDS)
    bare = Transformer(Shape(1, 32, 4, 20, 32))
    with pytest.raises(SightlineError, match="slots that show nothing"):
        Model(model.objective, bare, model.head, None)  # type: ignore[arg-type]


# -- writing


@pytest.mark.parametrize("cached", [True, False])
def test_what_is_written_has_the_likelihood_that_it_scores(cached: bool) -> None:
    model = lively(WORDS)
    canvas = Canvas.of([([1, 5, 9], 6, []), ([1, 7], 6, [])])
    make = Cache if cached else None
    done = write(model.objective.fill, model.logits, canvas, NextPlace(), GREEDY, make_cache=make)
    for line in range(2):
        ids = done.canvas.text(line)
        wanted = ~done.canvas.given[line][: len(ids)]
        nats, _ = model.examined(rows_of(ids[None], wanted[None]))
        assert -nats[0] == pytest.approx(done.total[line], abs=1e-4)


def test_blanks_may_be_filled_in_any_order_and_each_is_a_chain_rule() -> None:
    model = lively(WORDS)
    canvas = Canvas.laid([[[1, 5, 9], 2, [4, 4], 1, [8, 2]], [[1, 6], 3, [3, 2]]])
    for policy in (NextPlace(), Surest(3)):
        done = write(model.objective.fill, model.logits, canvas, policy, GREEDY)
        assert done.rounds == 3
        for line in range(2):
            ids, film = done.canvas.text(line), done.film[line][: len(done.canvas.text(line))]
            nats = 0.0
            for number in (1, 2, 3):  # what came before is given, what came later comes later in the order
                rows = rows_of(ids[None], (film >= number)[None])
                view = model.objective.examine_in(rows, film[None])  # type: ignore[attr-defined]
                with torch.no_grad():
                    graded = model.grade(view, rows.tokens).nats[0].numpy()
                places = view.asks[0, view.asked_slots[0][0]]
                nats += float(graded[places == np.flatnonzero(film == number)].item())
            assert -nats == pytest.approx(done.total[line], abs=1e-4)


def test_a_line_with_nothing_behind_its_blank_is_written_from_the_left() -> None:
    """Beside one with a blank, and with the same answers as alone."""
    model = lively(WORDS)
    mixed = Canvas.laid([[[1, 5, 9], 3], [[1, 6], 2, [3, 2]]])
    view = model.objective.fill(mixed)
    assert (view.asks != NOTHING).sum(1).tolist() == [1, 2]
    assert view.slots.stream[0, 0] == TEXT and view.slots.stream[0, 3] == QUERY
    alone = model.objective.fill(mixed.take(slice(0, 1)))
    with torch.no_grad():
        one = model.logits(alone, mixed.tokens[:1])[0, 0]
        beside = model.logits(view, mixed.tokens)[0, 3]
    assert torch.allclose(one, beside, atol=1e-5)


@pytest.fixture(scope="module")
def bytewise() -> Model:
    tokenizer = train_tokenizer([SAID], "byte")
    return lively(tokenizer.vocabulary, tokenizer)


def test_the_verbs_know_its_sides(bytewise: Model) -> None:
    written = generate(bytewise, ["The cat", "猫"], length=6, seed=1)
    assert [text.given for text in written] == ["left", "left"]
    texts = fill(bytewise, ["The ___:3 sat", "猫___:2在 ___:1"])
    assert [text.given for text in texts] == ["both", "both"]
    assert texts[0].how.startswith("one token a round, the surest first")
    assert [len(text.pieces) for text in texts] == [1, 2]
    (drawn,) = fill(bytewise, ["The ___:3 sat"], sampling=None, seed=3)
    assert drawn.text == texts[0].text  # the likeliest, whatever the seed
