"""The n-gram table beside a second Kneser-Ney, written with dictionaries and no cleverness."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch

from sightline.data.vocabulary import Vocabulary
from sightline.errors import SightlineError
from sightline.sight import NO_DOCUMENT, Slots, View, near, past
from sightline.stacks.cache import Cache
from sightline.stacks.look import Look
from sightline.stacks.table import FALLBACK, NO_TOKEN, Table, TableHead, discounts_of

PAD, BOS, EOS = 0, 1, 2
VOCABULARY = Vocabulary(size=14, padded=16, pad=PAD, bos=BOS, eos=EOS, specials=(PAD, BOS, EOS))


def corpus(documents: int = 12, seed: int = 0) -> list[list[int]]:
    """Short documents of a chain that likes some successors, so that n-grams recur."""
    rng = np.random.default_rng(seed)
    texts = []
    for _ in range(documents):
        text = [int(rng.integers(3, 14))]
        for _ in range(int(rng.integers(0, 25))):
            text.append(3 + (text[-1] * 3 + int(rng.choice([0, 0, 0, 1, 5]))) % 11)
        texts.append([BOS, *text, EOS])
    return texts


def fitted(n: int, texts: list[list[int]], discounts: tuple[float, float, float] | None = None) -> Table:
    table = Table(n, VOCABULARY, discounts)
    table.fit(np.concatenate(texts).astype(np.uint16), np.cumsum([0, *map(len, texts)]))
    return table


class Reference:
    """Interpolated modified Kneser-Ney, n-gram by n-gram."""

    def __init__(self, n: int, texts: list[list[int]]) -> None:
        self.counts: list[Counter[tuple[int, ...]]] = []
        for length in range(1, n + 1):
            raw = Counter(tuple(text[at : at + length]) for text in texts for at in range(len(text) - length + 1))
            longer = {tuple(text[at : at + length + 1]) for text in texts for at in range(len(text) - length)}
            if length == n:
                self.counts.append(raw)
                continue
            adjusted: Counter[tuple[int, ...]] = Counter()
            for gram, count in raw.items():
                preceded = sum(1 for other in longer if other[1:] == gram)
                adjusted[gram] = count if gram[0] == BOS and length > 1 else preceded
            self.counts.append(adjusted)
        self.discounts = [discounts_of(np.array(list(counts.values()))) for counts in self.counts]

    def p(self, word: int, history: tuple[int, ...]) -> float:
        lower = self.p(word, history[1:]) if history else (0.0 if word in (PAD, 14, 15) else 1 / 13)
        counts, discounts = self.counts[len(history)], self.discounts[len(history)]
        behind = [count for gram, count in counts.items() if gram[:-1] == history and count > 0]
        if not behind:
            return lower
        total = sum(behind)
        freed = sum(discounts[min(count, 3) - 1] for count in behind) / total
        count = counts[(*history, word)]
        own = count - discounts[min(count, 3) - 1] if count else 0.0
        return own / total + freed * lower


@pytest.mark.parametrize("n", [2, 3, 5])
def test_it_equals_the_reference(n: int) -> None:
    texts = corpus()
    table, reference = fitted(n, texts), Reference(n, texts)
    histories = [tuple(text[max(0, at - n + 1) : at]) for text in texts[:4] for at in range(1, len(text))]
    histories += [(3, 9, 4, 4)[: n - 1], (), (7,)]
    padded = np.array([[NO_TOKEN] * (n - 1 - len(history)) + list(history) for history in histories])
    expected = [[reference.p(word, history) for word in range(16)] for history in histories]
    np.testing.assert_allclose(table.distribution(padded), expected, atol=1e-12)


@pytest.mark.parametrize("n", [2, 4])
def test_probabilities_sum_to_one_for_seen_and_unseen_histories(n: int) -> None:
    table = fitted(n, corpus())
    histories = np.random.default_rng(1).integers(-1, 14, (200, n - 1))
    p = table.distribution(histories)
    np.testing.assert_allclose(p.sum(1), 1, atol=1e-9)
    assert (p >= 0).all()
    assert (p[:, VOCABULARY.unpredictable] == 0).all()
    words = np.arange(200) % 16
    np.testing.assert_allclose(table.probabilities(histories, words), p[np.arange(200), words], atol=1e-15)


def test_without_discounts_a_seen_history_gives_relative_frequencies() -> None:
    texts = [[BOS, 3, 4, 5, 3, 4, 6, 3, 4, 5, EOS]]
    table = fitted(3, texts, discounts=(0.0, 0.0, 0.0))
    p = table.distribution(np.array([[3, 4]]))[0]
    assert p[5] == pytest.approx(2 / 3)
    assert p[6] == pytest.approx(1 / 3)
    assert p.sum() == pytest.approx(1)


def test_no_n_gram_crosses_documents() -> None:
    apart = fitted(2, [[BOS, 3, EOS], [BOS, 4, EOS]])
    marked = Table(2, VOCABULARY)
    marked.fit(np.array([BOS, 3, EOS, BOS, 4, EOS]))  # without offsets, documents start at bos
    for table in (apart, marked):
        assert EOS * 16 + BOS not in (table.levels[1].keys % 256).tolist()
        assert len(table.levels[1].keys) == 4


def test_discounts_follow_the_counts_of_counts() -> None:
    counts = np.array([1] * 10 + [2] * 5 + [3] * 3 + [4] * 2)
    share = 10 / 20
    expected = (1 - 2 * share * 5 / 10, 2 - 3 * share * 3 / 5, 3 - 4 * share * 2 / 3)
    assert discounts_of(counts) == pytest.approx(expected)
    assert discounts_of(np.array([1, 1, 2])) == FALLBACK
    assert discounts_of(np.array([1] + [2] * 2 + [3] * 50 + [4])) == FALLBACK  # D2 would be below 0


def view_of(tokens: np.ndarray, document: np.ndarray | int = 0, reach: int = 1) -> View:
    place = np.arange(tokens.shape[1])
    return View.of(Slots.of(place, np.broadcast_to(document, tokens.shape)), past & near(reach), shows=place)


def test_states_are_what_the_sight_shows() -> None:
    tokens = np.array([[BOS, 5, 6, BOS, 7, PAD]])
    documents = np.array([[0, 0, 0, 1, 1, NO_DOCUMENT]])
    table = Table(3, VOCABULARY)
    states = table(Look.of(view_of(tokens, documents), tokens))
    expected = [[NO_TOKEN, BOS], [BOS, 5], [5, 6], [NO_TOKEN, BOS], [BOS, 7], [NO_TOKEN, NO_TOKEN]]
    assert states[0].tolist() == expected
    narrow = table(Look.of(view_of(tokens, documents, reach=0), tokens))
    assert narrow[0, 2].tolist() == [NO_TOKEN, 6]


def test_cached_states_equal_uncached() -> None:
    tokens = np.random.default_rng(2).integers(3, 14, (3, 7))
    table = Table(4, VOCABULARY)
    whole = table(Look.of(view_of(tokens, reach=2), tokens))
    cache = Cache()
    view = view_of(tokens, reach=2)
    first = View.of(view.slots.take(slice(0, 4)), view.sight, shows=np.arange(4))
    parts = [table(Look.of(first, tokens), cache), table(Look.of(view.tail(4), tokens), cache)]
    assert torch.equal(torch.cat(parts, dim=1), whole)
    cache.cut(5)
    assert torch.equal(table(Look.of(view.tail(5), tokens), cache), whole[:, 5:])


def test_the_head_grades_and_bars_padding() -> None:
    table = fitted(3, corpus())
    head = TableHead(table)
    states = torch.tensor([[BOS, 5], [NO_TOKEN, BOS], [5, 5]])
    logits = head.logits(states)
    assert logits.shape == (3, 16)
    assert torch.allclose(logits.exp().sum(-1), torch.ones(3, dtype=torch.float64))
    assert bool((logits[:, VOCABULARY.unpredictable] == -torch.inf).all())
    answers, weights = torch.tensor([6, 7, PAD]), torch.tensor([1.0, 2.0, 0.0])
    graded = head(states, answers, weights)
    assert graded.nats[:2].tolist() == pytest.approx([-float(logits[0, 6]), -float(logits[1, 7])])
    assert float(graded.total) == pytest.approx(float(graded.nats[0] + 2 * graded.nats[1]))
    assert float(graded.nats[2]) == 0


def test_it_comes_back_from_its_tensors() -> None:
    table = fitted(4, corpus())
    again = Table.from_tensors(VOCABULARY, table.tensors())
    histories = np.random.default_rng(3).integers(-1, 14, (50, 3))
    assert np.array_equal(again.distribution(histories), table.distribution(histories))


def test_clear_errors() -> None:
    with pytest.raises(SightlineError, match="2 or more"):
        Table(1, VOCABULARY)
    with pytest.raises(SightlineError, match="counted nothing"):
        Table(2, VOCABULARY).distribution(np.array([[3]]))
    with pytest.raises(SightlineError, match="do not fit a vocabulary of 16"):
        Table(2, VOCABULARY).fit(np.array([BOS, 99]))
    with pytest.raises(SightlineError, match="padding"):
        Table(2, VOCABULARY).fit(np.array([BOS, PAD]))
    with pytest.raises(SightlineError, match="nothing can be counted"):
        Table(2, VOCABULARY).fit(np.array([BOS]))
    tensors = fitted(2, corpus()).tensors()
    with pytest.raises(SightlineError, match="not a table"):
        Table.from_tensors(VOCABULARY, {"keys.1": tensors["keys.1"]})
    with pytest.raises(SightlineError, match="do not fit a vocabulary"):
        Table.from_tensors(Vocabulary(size=3, padded=4, pad=PAD, bos=BOS, eos=EOS), tensors)
