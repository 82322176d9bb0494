"""The n-gram table beside the textbook: Chen and Goodman's formulas in exact fractions, word by word."""

from __future__ import annotations

from collections import Counter
from fractions import Fraction

import numpy as np
import pytest

from sightline.data import Rows, train_tokenizer
from sightline.data.vocabulary import Vocabulary
from sightline.objectives.model import Model, built
from sightline.objectives.ngram import NGram
from sightline.stacks.shape import Shape
from sightline.stacks.table import NO_TOKEN, Table

BEGIN, END = 0, 1
WORDS = Vocabulary(size=24, padded=24, bos=BEGIN, eos=END, specials=(BEGIN, END))
Gram = tuple[int, ...]
ORDERS = (2, 3, 4, 5, 6, 7)


def chain(documents: int = 50, seed: int = 4) -> list[list[int]]:
    """Texts in which some words follow others often and others seldom, so that every count of counts is there."""
    rng = np.random.default_rng(seed)
    texts = []
    for _ in range(documents):
        text = [int(rng.integers(2, 24))]
        while len(text) < 30 and rng.random() > 0.08:
            text.append(2 + int(text[-1] * 2 + min(rng.geometric(0.5), 20)) % 22)
        texts.append([BEGIN, *text, END])
    return texts


class Textbook:
    """Equations 24 to 27 of Chen and Goodman (1998), and for shorter n-grams Kneser and Ney's counts of contexts.

    What begins a text has nothing before it, so there an n-gram's own count stands; the start of a text is itself no
    word that is predicted.
    """

    def __init__(self, n: int, texts: list[list[int]], discount: Fraction | None = None) -> None:
        whole = [Counter(tuple(t[at : at + k]) for t in texts for at in range(len(t) - k + 1)) for k in range(1, n + 2)]
        self.counts: list[dict[Gram, int]] = []
        for k in range(1, n + 1):
            if k == n:
                self.counts.append(dict(whole[k - 1]))
                continue
            contexts = Counter(gram[1:] for gram in whole[k])
            begins = {gram: count for gram, count in whole[k - 1].items() if gram[0] == BEGIN and k > 1}
            self.counts.append({gram: count for gram, count in (contexts | begins).items() if gram != (BEGIN,)})
        self.discounts = [self._estimated(counts) if discount is None else [discount] * 3 for counts in self.counts]

    @staticmethod
    def _estimated(counts: dict[Gram, int]) -> list[Fraction]:
        n1, n2, n3, n4 = (sum(count == wanted for count in counts.values()) for wanted in (1, 2, 3, 4))
        if not n1 * n2 * n3 * n4:
            return [Fraction(1, 2), Fraction(1), Fraction(3, 2)]
        y = Fraction(n1, n1 + 2 * n2)
        found = [1 - 2 * y * n2 / n1, 2 - 3 * y * n3 / n2, 3 - 4 * y * n4 / n3]
        whole = all(0 <= one <= most for one, most in zip(found, (1, 2, 3), strict=True))
        return found if whole else [Fraction(1, 2), Fraction(1), Fraction(3, 2)]

    def p(self, word: int, history: Gram) -> Fraction:
        shorter = self.p(word, history[1:]) if history else Fraction(1, WORDS.size)
        counts, discounts = self.counts[len(history)], self.discounts[len(history)]
        behind = [count for gram, count in counts.items() if gram[:-1] == history]
        if not behind:
            return shorter
        n1, n2, n3 = (sum(min(count, 3) == wanted for count in behind) for wanted in (1, 2, 3))
        freed = Fraction(discounts[0] * n1 + discounts[1] * n2 + discounts[2] * n3) / sum(behind)
        count = counts.get((*history, word), 0)
        own = (count - discounts[min(count, 3) - 1]) / sum(behind) if count else Fraction(0)
        return own + freed * shorter


def table(n: int, texts: list[list[int]], discount: float | None = None) -> Table:
    made = Table(n, WORDS, None if discount is None else (discount,) * 3)
    made.fit(np.concatenate(texts), np.cumsum([0, *map(len, texts)])[:-1])
    return made


def histories(n: int, texts: list[list[int]]) -> list[Gram]:
    """Of the first texts, the beginnings too short for n included, and some that never occurred."""
    seen = [tuple(text[max(0, at - n + 1) : at]) for text in texts[:3] for at in range(1, len(text))]
    never = np.random.default_rng(1).integers(0, WORDS.size, (6, n - 1)).tolist()
    return [*seen, (), (END,), *map(tuple, never)]


def padded(n: int, given: list[Gram]) -> np.ndarray:
    return np.array([[NO_TOKEN] * (n - 1 - len(history)) + list(history) for history in given])


@pytest.mark.parametrize("n", ORDERS)
def test_every_order_equals_the_textbook_and_sums_to_one(n: int) -> None:
    texts = chain()
    made, book, given = table(n, texts), Textbook(n, texts), histories(n, texts)
    assert any(level.discounts[1] != 0.5 for level in made.levels)  # estimated, not fallen back on
    p = made.distribution(padded(n, given))
    np.testing.assert_allclose(
        p, [[float(book.p(word, one)) for word in range(WORDS.size)] for one in given], atol=1e-13
    )
    np.testing.assert_allclose(p.sum(1), 1, atol=1e-12)
    assert all(
        sum(book.p(word, one) for word in range(WORDS.size)) == 1 for one in given[::9]
    )  # the book is right, too


def test_one_discount_for_all_counts_is_plain_kneser_ney() -> None:
    """p(w|h) = max(c(hw) - D, 0) / c(h) + D * N1+(h.) / c(h) * p(w|h')."""
    texts = chain(12)
    made, book, given = table(3, texts, 0.75), Textbook(3, texts, Fraction(3, 4)), histories(3, texts)
    expected = [[float(book.p(word, one)) for word in range(WORDS.size)] for one in given]
    np.testing.assert_allclose(made.distribution(padded(3, given)), expected, atol=1e-13)


@pytest.mark.parametrize(
    "texts",
    [
        [[BEGIN, 5, END]],  # shorter than most n
        [[BEGIN, 5], [BEGIN, 6, 7, END]],
        [[BEGIN, *[5] * 40, END]],  # one word: no count of counts says a discount
        [[BEGIN, 5, END]] * 9,
    ],
    ids=["short", "ragged", "one word", "one text"],
)
@pytest.mark.parametrize("n", [2, 4, 7])
def test_little_text_backs_off_to_what_there_is(texts: list[list[int]], n: int) -> None:
    made, book = table(n, texts), Textbook(n, texts)
    given = [*histories(n, texts)[:12], (5,) * (n - 1), (END,) * (n - 1)]
    expected = [[float(book.p(word, one)) for word in range(WORDS.size)] for one in given]
    p = made.distribution(padded(n, given))
    np.testing.assert_allclose(p, expected, atol=1e-13)
    np.testing.assert_allclose(made.probabilities(padded(n, given), np.full(len(given), 5)), p[:, 5], atol=1e-15)
    again = Table.from_tensors(WORDS, made.tensors())
    assert (again.distribution(padded(n, given)) == p).all()


def family(n: int, texts: list[str]) -> Model:
    tokenizer = train_tokenizer(texts, "byte")
    model = built(NGram(tokenizer.vocabulary, n=n), Shape(1, 8, 1, tokenizer.padded, 16), tokenizer)
    ids = [[tokenizer.bos, *tokenizer.encode(text).tolist(), tokenizer.eos] for text in texts]
    model.stack.fit(np.concatenate(ids))  # type: ignore[operator]
    return model


@pytest.mark.parametrize("n", [2, 5])
def test_the_family_scores_a_text_by_the_chain_rule(n: int) -> None:
    """Start mark given, end mark asked; English and Chinese."""
    texts = ["the cat sat. the cat ran.", "the dog sat.", "猫坐着。猫跑了。"]
    model = family(n, texts)
    ids = [model.tokenizer.bos, *model.tokenizer.encode("the 猫 sat.").tolist(), model.tokenizer.eos]
    nats, asked = model.examined(Rows.of([ids], model.tokenizer))
    whole = np.array([[NO_TOKEN] * n + ids])
    steps = [whole[:, at - n + 1 : at] for at in range(n + 1, whole.shape[1])]
    p = [model.stack.distribution(step)[0, whole[0, n + 1 + at]] for at, step in enumerate(steps)]  # type: ignore[operator]
    assert asked[0] == len(ids) - 1
    assert nats[0] == pytest.approx(-np.log(p).sum(), rel=1e-12)


def test_it_ends_where_its_texts_ended() -> None:
    from sightline.decoders.sampling import GREEDY
    from sightline.objectives.writing import generate

    model = family(4, ["猫坐着。"] * 3 + ["a cat."] * 3)
    for prompt, rest in (("猫", "坐着。"), ("a c", "at."), ("a cat.", "")):
        assert generate(model, [prompt], length=40, sampling=GREEDY)[0].pieces == (rest,)
    drawn = generate(model, [""] * 8, length=40, seed=3)
    assert all(len(model.tokenizer.encode(text.text)) < 40 for text in drawn)
