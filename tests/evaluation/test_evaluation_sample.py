"""One sample for all families: drawn by seed, sized by time, cut in blocks where documents are few."""

from __future__ import annotations

import numpy as np
import pytest

from sightline.data import Document, Tokenizer
from sightline.errors import SightlineError
from sightline.evaluation import Sample, evaluation_sample

LONG = "水 under the old stone house a quiet river sings. " * 200


def test_all_is_taken_where_nothing_limits(tokenizer: Tokenizer, documents: tuple[Document, ...]) -> None:
    sample = evaluation_sample(documents, tokenizer)
    assert len(sample.pieces) == 40 and not sample.blocks and sample.share == 1
    assert sample.bytes == sum(len(one.text.encode()) for one in documents)


def test_the_seed_draws(tokenizer: Tokenizer, documents: tuple[Document, ...]) -> None:
    one, same, other = (evaluation_sample(documents, tokenizer, seed=seed, most_bytes=600) for seed in (1, 1, 2))
    assert [ids.tolist() for ids in one.tokens] == [ids.tolist() for ids in same.tokens]
    assert [ids.tolist() for ids in one.tokens] != [ids.tolist() for ids in other.tokens]
    assert one.bytes <= 600 and one.seed == 1


def test_few_documents_are_cut_in_blocks_that_lose_no_byte(tokenizer: Tokenizer) -> None:
    sample = evaluation_sample([Document("one", LONG), Document("two", LONG[:700])], tokenizer)
    assert sample.blocks and "blocks" in sample.note and len(sample.pieces) >= 10
    assert sample.bytes == len(LONG.encode()) + len(LONG[:700].encode())
    asked = [np.zeros(len(ids), dtype=int) for ids in sample.tokens]
    for piece in sample.pieces:
        asked[piece.document][piece.first : piece.last] += 1
        assert 400 <= piece.bytes <= 1600
    assert all((one == 1).all() for one in asked)


def test_a_block_begins_with_a_whole_character(tokenizer: Tokenizer) -> None:
    sample = evaluation_sample([Document("one", "水山河" * 2000)], tokenizer)
    for piece in sample.pieces:
        ids = sample.tokens[piece.document][piece.first : piece.last]
        assert "\ufffd" not in tokenizer.decode(ids)


def test_time_buys_bytes(tokenizer: Tokenizer) -> None:
    documents = [Document(str(number), LONG[: 900 + number]) for number in range(60)]
    seconds = 1.0

    def cost(sample: Sample) -> float:
        return sample.bytes * 1e-4

    sample = evaluation_sample(documents, tokenizer, seconds=seconds, cost=cost)
    assert sample.share == 1 and cost(sample) <= seconds
    assert sample.bytes > 5000


def test_a_family_that_asks_one_by_one_is_asked_a_share(tokenizer: Tokenizer) -> None:
    documents = [Document(str(number), LONG[: 900 + number]) for number in range(60)]

    def cost(sample: Sample) -> float:
        return sample.bytes * (1e-6 + 1e-3 * sample.share)

    sample = evaluation_sample(documents, tokenizer, seconds=5.0, cost=cost)
    assert len(sample.pieces) == 60, "all documents serve all families"
    assert sample.share < 0.2 and cost(sample) <= 5.01
    assert "drawn by seed" in sample.note and "%" in sample.note


def test_nothing_to_score_is_said(tokenizer: Tokenizer) -> None:
    with pytest.raises(SightlineError, match="no text"):
        evaluation_sample([], tokenizer)
