"""How quickly models write: what is counted, and when larger batches are given up."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch

from sightline.data import Tokenizer, train_tokenizer
from sightline.errors import SightlineError
from sightline.evaluation import latency
from sightline.evaluation.latency import Rate, speeds
from sightline.objectives.causal import Causal
from sightline.objectives.cmlm import Cmlm
from sightline.objectives.electra import Electra
from sightline.objectives.model import Model, built
from sightline.objectives.nar import Nar
from sightline.objectives.seq2seq import Seq2Seq
from sightline.objectives.translating import translate
from sightline.progress import bar
from sightline.stacks.shape import Shape

TEXTS = ["a dog", "", "a big dog runs", "cats", "two of the cats sit there"]


@pytest.fixture(scope="module")
def letters() -> Tokenizer:
    return train_tokenizer(["abcdefghijklmnop"], "byte")


def model(kind: type, letters: Tokenizer, **settings: int) -> Model:
    torch.set_num_threads(1)
    shape = Shape(4, 32, 4, letters.padded, 96)
    return built(kind(letters.vocabulary, **settings), shape, letters).eval()


def test_what_is_written_is_counted_and_not_what_pads(letters: Tokenizer) -> None:
    """The tokens are those of the verb itself, one text at a time or all together; empty texts are left away."""
    deep, shallow = (model(Seq2Seq, letters, decoder_layers=layers) for layers in (2, 1))
    with torch.no_grad():
        found = speeds([deep, shallow], TEXTS, length=9, repeats=2, largest=4)
        written = translate(deep, [text for text in TEXTS if text], length=9)
    assert len(found) == 2
    speed = found[0]
    assert (speed.alone.batch, speed.alone.texts, len(speed.alone.seconds)) == (1, 4, 2)
    assert speed.alone.tokens == speed.most.tokens * speed.alone.texts / speed.most.texts <= 4 * 9
    assert speed.alone.tokens >= sum(bool(text.text) for text in written) and "likeliest" in speed.how
    assert speed.source == sum(len(letters.encode(text)) for text in TEXTS) / 4
    assert set(speed.tried) <= {1, 2, 4} and speed.stopped
    assert deep.tokenizer is letters


def test_one_pass_and_rounds_of_told_lengths(letters: Tokenizer) -> None:
    """Several lengths are tried, one is counted; words say how."""
    with torch.no_grad():
        found = speeds([model(Nar, letters), model(Cmlm, letters)], TEXTS, candidates=3, iterations=2, largest=2)
    assert all("3 lengths" in speed.how and speed.alone.tokens > 0 for speed in found)
    assert "2 rounds" in found[1].how
    with torch.no_grad():
        (easy,) = speeds(
            [model(Cmlm, letters)], TEXTS, length=6, iterations=2, sampler="surest", block=3, repeats=1, largest=1
        )
    assert "surest places first" in easy.how and "block of 3" in easy.how


def test_a_family_without_sources_goes_on_from_prompts(letters: Tokenizer) -> None:
    with torch.no_grad():
        (speed,) = speeds([model(Causal, letters)], TEXTS, repeats=1, largest=2)
    assert 0 < speed.alone.tokens <= 4 * latency.LENGTH


def test_a_rate_is_the_median_pass_s() -> None:
    rate = Rate(batch=2, texts=10, tokens=50, seconds=(1.0, 4.0, 2.0))
    assert rate.texts_per_second == 5 and rate.tokens_per_second == 25


@pytest.mark.parametrize(
    ("rates", "tried", "why"),
    [
        ({1: 1.0, 2: 2.0, 4: 3.0, 8: 3.0, 16: 2.9, 32: 9.0}, 16, "no quicker at 16"),
        ({1: 1.0, 2: 2.0, 4: 2.0, 8: 3.0, 16: 4.0, 32: 5.0}, 32, "no larger batch than 32 was asked for"),
        ({1: 1.0, 2: 2.0, 4: None}, 2, "memory was short at 4"),
    ],
)
def test_batches_are_doubled_while_it_pays(
    rates: dict[int, float | None], tried: int, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def timed(write: latency.Write, texts: Sequence[str], batch: int) -> Rate:
        rate = rates[batch]
        if rate is None:
            raise RuntimeError("[enforce fail] not enough memory: you tried to allocate 9 bytes")
        return Rate(batch, 100, 100, (100 / rate,))

    monkeypatch.setattr(latency, "_timed", timed)
    with bar("", 1) as shown:
        found, said = latency._doubled(lambda texts: [], ["a"], 32, shown)
    assert max(found) == tried and said == why


def test_memory_that_would_not_do_is_not_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    held = iter(range(0, 10_000, 1000))
    monkeypatch.setattr(latency, "held", lambda: next(held))
    monkeypatch.setattr(latency, "available", lambda: 5000)
    monkeypatch.setattr(latency, "_timed", lambda write, texts, batch: Rate(batch, batch, batch, (1.0,)))
    with bar("", 1) as shown:
        found, said = latency._doubled(lambda texts: [], ["a"], 4096, shown)
    assert list(found) == [1, 2, 4] and said == "memory would be short at 8"


def test_another_mistake_is_not_taken_for_a_lack_of_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(write: latency.Write, texts: Sequence[str], batch: int) -> Rate:
        raise RuntimeError("shapes do not fit")

    monkeypatch.setattr(latency, "_timed", wrong)
    with bar("", 1) as shown, pytest.raises(RuntimeError, match="shapes"):
        latency._doubled(lambda texts: [], ["a"], 4, shown)


def test_what_measures_nothing_is_refused(letters: Tokenizer) -> None:
    one = model(Seq2Seq, letters)
    with pytest.raises(SightlineError, match="no text to write for"):
        speeds([one], ["", " "])
    for wrong in ({"beams": 0}, {"repeats": 0}, {"largest": 0}, {"length": -1}):
        with pytest.raises(SightlineError, match="measure nothing"):
            speeds([one], TEXTS, **wrong)
    with pytest.raises(SightlineError, match="writes none"):
        speeds([model(Electra, letters)], TEXTS)
    assert one.tokenizer is letters
