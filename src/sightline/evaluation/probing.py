"""Labelled items read off a frozen model's states, layer by layer, by linear probes.

    texts --states, mean over their tokens----> logistic regression of each layer --> class
    words --states, mean over each's tokens---> logistic regression of each layer --> tag

Strengths and the best layer are chosen on dev; every layer is told on test. A probe of words may learn words rather
than read tags off: the control task gives each word a random tag, the same wherever it stands, which only learning by
heart can tell. What a probe does better than that is its selectivity (Hewitt and Liang, Designing and interpreting
probes with control tasks, 2019).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..data.examples import Example, Examples
from ..data.laid import texts_laid
from ..errors import SightlineError
from ..objectives.model import Model
from .score import Measured
from .tagging import Sentence, by_sentence, commonest_tags, word_vectors
from .task import Task
from .understanding import Probe, line_vectors, probe_floors, probes

MOST_WORDS = 20_000  # of train, and of dev: more make a linear probe hardly better, and much slower


@dataclass(frozen=True)
class LayerProbe:
    """What was read off a layer.

    Parameters
    ----------
    layer : 0 is the embedding. strength : C, chosen on dev. dev : accuracy there. measured : on test, by item.
    control : the same of the control task, where it was asked for.
    """

    layer: int
    strength: float
    dev: float
    measured: Measured
    control: Measured | None = None

    @property
    def selectivity(self) -> float | None:
        """Accuracy above that of the control task."""
        if self.control is None:
            return None
        return float(self.measured.value or 0.0) - float(self.control.value or 0.0)


@dataclass(frozen=True)
class Probing:
    """What was read off a model.

    Parameters
    ----------
    layers : all of them. best : the number of the one that was best on dev, the lowest of several.
    predicted : by that one, for each test item a label, or a label for each word.
    floors : by what needs no model. notes : what was cut.
    """

    layers: tuple[LayerProbe, ...]
    best: int
    predicted: tuple[Any, ...]
    floors: dict[str, Measured]
    notes: tuple[str, ...]


def probe_layers(
    model: Model, examples: Examples, *, control: bool = False, seed: int = 0, kept: Path | None = None
) -> Probing:
    """Probe every layer of a frozen model.

    Parameters
    ----------
    control : beside tags also random tags of words, drawn by seed as often as the true ones stand in train.
    kept : a folder for the layers that are done, from which the same work goes on.

    Raises
    ------
    SightlineError : items without classes or tags, a control task of texts, a family without states.
    """
    if examples.task not in ("classify", "tag"):
        raise SightlineError(f"a linear probe tells classes or tags, not {examples.task}", "Use finetune for that")
    if control and examples.task != "tag":
        raise SightlineError(
            "the control task is of words: a random class of whole texts can be learned by no probe",
            "Leave --control away",
        )
    model = model.two_sided
    if examples.task == "tag":
        return _tags(model, examples, control, seed, kept)
    return _classes(model, examples, kept)


def _classes(model: Model, examples: Examples, kept: Path | None) -> Probing:
    number = {label: at for at, label in enumerate(examples.labels)}
    parts = (examples.train, examples.dev, examples.test)
    laid = [texts_laid(part, model.tokenizer, model.context, model.objective.parting) for part in parts]
    sides = [line_vectors(model, [line.ids for line in lines]) for lines, _ in laid]
    if not sides[0]:
        raise SightlineError(f"{model.objective.family} keeps no states to read off", "Use another family")
    answers = [np.array([number[one.label] for one in part], np.int64) for part in parts]
    found = probes(sides, answers, f"probing {model.objective.family}", kept)
    told = [tuple((_joined(one), number[one.label]) for one in part) for part in parts]
    task = Task(told[0], told[1], told[2], examples.labels, "the label of a text", "")
    layers = tuple(_of_texts(one, answers[2]) for one in found)
    best = _best(found)
    cut = sum(count for _, count in laid)
    notes = (f"{cut:,} texts were cut at the context of {model.context} tokens",) if cut else ()
    labels = tuple(examples.labels[at] for at in found[best].predicted)
    return Probing(layers, best, labels, probe_floors(task), notes)


def _joined(one: Example) -> str:
    """What a bag of words reads: it knows no order, nor which words are of the pair."""
    return f"{one.text}\n{one.pair}" if one.pair else one.text


def _of_texts(one: Probe, truth: NDArray[np.int64]) -> LayerProbe:
    right = (one.predicted == truth).astype(np.float64)
    measured = Measured("probe_accuracy", "accuracy", "task", "understanding", right, np.ones(len(right)))
    return LayerProbe(one.layer, one.strength, one.dev, measured)


def _tags(model: Model, examples: Examples, control: bool, seed: int, kept: Path | None) -> Probing:
    notes: list[str] = []
    train, dev = (_few(part, name, seed, notes) for part, name in ((examples.train, "train"), (examples.dev, "dev")))
    test = [Sentence(one.words, one.tags) for one in examples.test]
    number = {tag: at for at, tag in enumerate(examples.labels)}
    sides = [word_vectors(model, part) for part in (train, dev, test)]
    answers = [_numbered(part, number) for part in (train, dev, test)]
    found = probes(sides, answers, f"probing {model.objective.family}", kept)
    layers = [
        LayerProbe(one.layer, one.strength, one.dev, by_sentence(test, one.predicted == answers[2], ""))
        for one in found
    ]
    if control:
        drawn = control_tags([*train, *dev, *test], answers[0], seed)
        random = [np.array([drawn[word] for one in part for word in one.words]) for part in (train, dev, test)]
        aside = None if kept is None else kept / "control"
        beside = probes(sides, random, f"probing {model.objective.family}: control", aside)
        layers = [
            LayerProbe(one.layer, one.strength, one.dev, one.measured,
                       by_sentence(test, other.predicted == random[2], "random tags of words"))
            for one, other in zip(layers, beside, strict=True)
        ]  # fmt: skip
    best = _best(found)
    ends = np.cumsum([len(one.words) for one in test])[:-1]
    told = [[examples.labels[at] for at in part] for part in np.split(found[best].predicted, ends)]
    floors = {
        "the commonest tag": by_sentence(test, answers[2] == np.bincount(answers[0]).argmax(), ""),
        "each word its commonest tag": commonest_tags(train, test),
    }
    return Probing(tuple(layers), best, tuple(told), floors, tuple(notes))


def control_tags(sentences: Sequence[Sentence], answers: NDArray[np.int64], seed: int) -> dict[str, int]:
    """A random tag for each word, drawn from the tags of train."""
    draws = np.random.default_rng((seed, 12))
    words = sorted({word for one in sentences for word in one.words})
    return dict(zip(words, draws.choice(answers, len(words)).tolist(), strict=True))


def _few(part: Sequence[Example], name: str, seed: int, notes: list[str]) -> list[Sentence]:
    """Whole sentences, drawn by seed, of no more than so many words."""
    sizes = np.array([len(one.words) for one in part])
    if sizes.sum() <= MOST_WORDS:
        return [Sentence(one.words, one.tags) for one in part]
    order = np.random.default_rng((seed, 13)).permutation(len(part))
    count = max(1, int((np.cumsum(sizes[order]) <= MOST_WORDS).sum()))
    notes.append(
        f"{sizes[order[:count]].sum():,} of {sizes.sum():,} words of {name}, in sentences drawn by seed {seed}"
    )
    return [Sentence(part[at].words, part[at].tags) for at in sorted(order[:count].tolist())]


def _numbered(part: Sequence[Sentence], number: dict[str, int]) -> NDArray[np.int64]:
    return np.array([number[tag] for one in part for tag in one.tags], np.int64)


def _best(found: Sequence[Probe]) -> int:
    return max(found, key=lambda one: (one.dev, -one.layer)).layer
