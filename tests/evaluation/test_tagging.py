"""Words and their tokens, the tagger, and what it is measured by."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from sightline.data import Tokenizer, train_tokenizer
from sightline.errors import SightlineError
from sightline.evaluation.score import scored
from sightline.evaluation.tagging import Sentence, commonest_tags, sentences_of, tagged, word_vectors
from sightline.objectives.base import Objective
from sightline.objectives.causal import Causal
from sightline.objectives.model import Model, built
from sightline.objectives.ngram import NGram
from sightline.objectives.two_way import TwoWay
from sightline.stacks.shape import Shape

CONLLU = """# text = dell'acqua
1-2\tdell'acqua\t_\t_\t_\t_\t_\t_\t_\t_
1\tdella\tla\tDET\t_\t_\t2\tdet\t_\t_
2\tacqua\tacqua\tNOUN\t_\t_\t0\troot\t_\t_
2.1\tche\tche\tPRON\t_\t_\t_\t_\t_\t_

1\t水\t水\tNOUN\t_\t_\t0\troot\t_\t_
"""
SENTENCES = [
    Sentence(("The", "river", "rises", "slowly", "."), ("DET", "NOUN", "VERB", "ADV", "PUNCT")),
    Sentence(("水", "rises"), ("NOUN", "VERB")),
    Sentence(tuple(["a", "very", "long", "one"] * 12), tuple(["DET", "ADV", "ADJ", "NOUN"] * 12)),
]


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return train_tokenizer([" ".join(one.words) for one in SENTENCES] * 5, "bpe", 400)


def model_of(kind: Callable[..., Objective], tokenizer: Tokenizer, context: int = 24) -> Model:
    shape = Shape(2, 16, 2, tokenizer.padded, context, rope_base=100.0)
    return built(kind(tokenizer.vocabulary), shape, tokenizer, seed=1).eval()


def test_sentences_come_without_ranges_and_empty_nodes(tmp_path: Path) -> None:
    found = [Sentence(("della", "acqua"), ("DET", "NOUN")), Sentence(("水",), ("NOUN",))]
    (tmp_path / "a.conllu").write_text(CONLLU, encoding="utf-8")
    (tmp_path / "a.conllu.gz").write_bytes(gzip.compress(CONLLU.encode()))
    assert sentences_of(tmp_path / "a.conllu") == sentences_of(tmp_path / "a.conllu.gz") == found
    (tmp_path / "b.conllu").write_text("no sentence\n")
    (tmp_path / "b.conllu.gz").write_bytes(gzip.compress(CONLLU.encode())[:-9])
    for name, message in (("b.conllu", "no sentence"), ("b.conllu.gz", "cannot be read"), ("c.conllu", "cannot be")):
        with pytest.raises(SightlineError, match=message):
            sentences_of(tmp_path / name)


def test_a_words_vector_is_the_mean_of_its_tokens(tokenizer: Tokenizer) -> None:
    model = model_of(Causal, tokenizer)
    layers = word_vectors(model, SENTENCES[:2])
    assert [layer.shape for layer in layers] == [(7, 16)] * 3
    ids = [tokenizer.encode(" ".join(SENTENCES[1].words))]
    table = model.stack.embedding.weight  # type: ignore[union-attr]
    sizes = np.cumsum([len(tokenizer.pieces[id]) for id in ids[0]])
    water = int((sizes <= 3).sum())  # three bytes
    expected = table[torch.from_numpy(ids[0][:water])].mean(0)  # type: ignore[index]
    assert np.allclose(layers[0][5], expected.detach().numpy(), atol=1e-5)
    expected = table[torch.from_numpy(ids[0][water:])].mean(0)  # type: ignore[index]
    assert np.allclose(layers[0][6], expected.detach().numpy(), atol=1e-5)


def test_long_sentences_are_read_in_parts_and_order_is_kept(tokenizer: Tokenizer) -> None:
    model = model_of(TwoWay, tokenizer)
    together = word_vectors(model, SENTENCES)
    assert together[0].shape == (55, 32)
    for at, (start, stop) in enumerate(((0, 5), (5, 7), (7, 55))):
        alone = word_vectors(model, SENTENCES[at : at + 1])
        assert all(np.allclose(many[start:stop], one, atol=1e-5) for many, one in zip(together, alone, strict=True))


def test_the_tagger_finds_the_layer_that_knows() -> None:
    """Layer 1 holds the tag, layers 0 and 2 are noise; a sentence is right or wrong by its own words."""
    rng = np.random.default_rng(0)
    tags = ["A", "B", "C"]
    sides = []
    for count in (120, 30, 40):
        sentences = [Sentence(("w",) * 5, tuple(rng.choice(tags, 5).tolist())) for _ in range(count)]
        known = np.array([tags.index(tag) for one in sentences for tag in one.tags])
        noise = [rng.normal(size=(len(known), 6)).astype(np.float32) for _ in range(3)]
        layers = [noise[0], np.eye(6, dtype=np.float32)[known] + 0.1 * noise[1], 100 * noise[2]]
        sides.append((sentences, layers))
    found = tagged(*sides, epochs=150)  # type: ignore[arg-type]
    assert found.measured.value > 0.95 and found.dev > 0.95  # type: ignore[operator]
    assert found.shares[1] == max(found.shares) and sum(found.shares) == pytest.approx(1)
    assert found.measured.bottom.tolist() == [5.0] * 40
    again = tagged(*sides, epochs=150)  # type: ignore[arg-type]
    assert again.shares == found.shares
    blind = [(sentences, [layers[0]]) for sentences, layers in sides]
    assert 0.2 < tagged(*blind, epochs=2).measured.value < 0.5  # type: ignore[arg-type, operator]


def test_a_tag_that_training_never_saw_is_wrong() -> None:
    one = [np.ones((1, 2), np.float32)]
    seen, new = [Sentence(("a",), ("A",))], [Sentence(("a",), ("B",))]
    assert tagged((seen, one), (seen, one), (new, one), epochs=1).measured.value == 0.0


def test_the_floor_is_each_words_commonest_tag() -> None:
    train = [Sentence(("a", "a", "a", "b"), ("X", "X", "Y", "Y")), Sentence(("b", "c"), ("Y", "Y"))]
    test = [Sentence(("a", "b", "new"), ("X", "Y", "Y")), Sentence(("a",), ("Y",))]
    found = commonest_tags(train, test)
    assert found.top.tolist() == [3.0, 0.0] and found.bottom.tolist() == [3.0, 1.0]
    assert scored([found]).value == 0.75


def test_what_cannot_be_laid_beside_words_is_one_clear_line(tokenizer: Tokenizer) -> None:
    with pytest.raises(SightlineError, match="ngram keeps no states"):
        counted = model_of(NGram, tokenizer)
        word_vectors(counted, SENTENCES[:1])


def test_words_of_a_tokenizer_that_drops_spaces_have_their_own_tokens() -> None:
    tokenizer = train_tokenizer(["The river rises slowly."], "wordpiece", 192)
    model = model_of(Causal, tokenizer)
    (table, *_) = word_vectors(model, SENTENCES[:1])
    weights = model.stack.embedding.weight  # type: ignore[union-attr]
    for at, word in enumerate(SENTENCES[0].words):
        expected = weights[torch.from_numpy(tokenizer.encode(word))].mean(0)  # type: ignore[index]
        assert np.allclose(table[at], expected.detach().numpy(), atol=1e-5)
