"""A probe finds what states hold, and a question is made from a corpus or refused with a reason."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest

from sightline.data import Corpus, Document, Rows, Tokenizer
from sightline.evaluation import NoTask, Task, probe_floors, probed, scored, task_for
from sightline.evaluation.task import paragraphs
from sightline.evaluation.understanding import vectors
from sightline.objectives.backward import Backward
from sightline.objectives.causal import Causal
from sightline.objectives.masked import Masked
from sightline.objectives.ngram import NGram
from sightline.objectives.prefix import Prefix

Make = Any
WORDS = ["the", "a", "river", "house", "stone", "sings", "under", "quiet", "red", "bird", "水", "山", "slowly", "and"]


def prose(seed: int, words: int) -> str:
    drawn = random.Random(seed)
    return " ".join(drawn.choice(WORDS) for _ in range(words)) + ".\n"


def corpus(train: Any, dev: Any = (), test: Any = ()) -> Corpus:
    return Corpus("made up", tuple(train), tuple(dev), tuple(test), (), "", "", "", ())


def letters(side: int, count: int) -> tuple[tuple[str, int], ...]:
    drawn = np.random.default_rng(side)
    both = ("aab ", "xyy ")
    return tuple((both[at % 2] * int(drawn.integers(2, 5)), at % 2) for at in range(count))


@pytest.mark.parametrize("kind", [Causal, Backward, Prefix, Masked])
def test_a_probe_reads_off_what_is_plain_to_see(make: Make, kind: Any) -> None:
    task = Task(letters(0, 40), letters(1, 20), letters(2, 20), ("ab", "xy"), "which letters", "")
    found = probed(make(kind), task)
    score = scored([found.measured])
    assert score.value == 1.0 and score.n == 20 and found.layer >= 0
    assert score.low is not None and score.low > 0.8


def test_a_probe_finds_nothing_in_noise(make: Make) -> None:
    drawn = np.random.default_rng(5)
    sides = [tuple((prose(int(drawn.integers(1 << 30)), 4), int(drawn.integers(2))) for _ in range(60)) for _ in "tdt"]
    score = scored([probed(make(Causal), Task(*sides, ("a", "b"), "nothing", "")).measured])  # type: ignore[arg-type]
    assert score.low is not None and score.low < 0.5 < (score.high or 0) + 0.15


def test_a_table_has_no_states(make: Make) -> None:
    task = Task(letters(0, 10), letters(1, 4), letters(2, 4), ("ab", "xy"), "which letters", "")
    assert "no states" in probed(make(NGram), task).measured.missing
    assert probed(make(Causal), NoTask("why not")).measured.missing == "why not"


def test_vectors_average_text_alone(make: Make, tokenizer: Tokenizer) -> None:
    model = make(Backward)
    texts = ["a river", "the old bird", "x"]
    together, alone = vectors(model, texts), [vectors(model, [text]) for text in texts]
    for layer, states in enumerate(together):
        assert np.allclose(states, np.concatenate([one[layer] for one in alone]), atol=1e-5)
    marks = tokenizer.vocabulary
    ids = np.array([marks.bos, *tokenizer.encode(texts[0]), marks.eos])
    rows = Rows.of([ids], tokenizer)
    by_hand = model.layers(model.objective.read(rows), rows.tokens)[-1][0, 1:-1].mean(0)
    assert np.allclose(alone[0][-1][0], by_hand.detach().numpy(), atol=1e-5)


def test_the_floors_are_the_commonest_class_and_a_bag_of_words() -> None:
    truth = tuple((f"{'rain wind' if at % 3 else 'bread salt'} {at}", int(at % 3 == 0)) for at in range(60))
    floors = probe_floors(Task(truth[:30], truth[30:45], truth[45:], ("weather", "food"), "", ""))
    common, words = (scored([floor]).value for floor in floors.values())
    assert common == pytest.approx(10 / 15) and words == 1.0


def test_a_named_label_is_the_question() -> None:
    sides = [[Document(str(at), prose(at, 5), "even" if at % 2 == 0 else "odd") for at in range(20)] for _ in range(3)]
    task = task_for(corpus(*sides), label="parity")
    assert isinstance(task, Task) and task.classes == ("even", "odd") and "parity" in task.what
    assert len(task.train) == len(task.test) == 20
    refused = task_for(corpus([Document("a", "text", "one")], sides[1], sides[2]), label="parity")
    assert isinstance(refused, NoTask) and "needs two" in refused.why


def test_paragraphs_of_held_out_documents_come_first() -> None:
    long = [Document(f"d{at}", "\n\n".join(prose(100 * at + part, 50) for part in range(20))) for at in range(12)]
    held = task_for(corpus(long[:4], long[4:6], long[6:]))
    assert isinstance(held, Task) and "test side" in held.note and len(held.classes) == 6
    seen = task_for(corpus(long[:4], long[4:5], long[5:6]))
    assert isinstance(seen, Task) and "all sides" in seen.note
    texts = [{text for text, _ in side} for side in (seen.train, seen.dev, seen.test)]
    assert not texts[0] & texts[1] and not texts[0] & texts[2] and not texts[1] & texts[2]
    assert isinstance(task_for(corpus(long[:1])), NoTask)


def test_paragraphs_are_neither_tiny_nor_endless() -> None:
    text = "short\n\n" * 40 + "\n\n" + "水" * 900 + "\n\n" + prose(1, 400)
    sizes = [len(one.encode()) for one in paragraphs(text)]
    assert sizes and all(100 <= size <= 800 for size in sizes)
