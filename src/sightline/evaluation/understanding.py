"""Understanding: how much a linear probe reads off a model's frozen states. Common ground for all families.

    text --read--> states of each layer --mean over text tokens--> one vector --logistic regression--> class

The layer and the strength of the regularisation are chosen on dev; accuracy is told on test. Alain and Bengio,
Understanding intermediate layers using linear classifier probes (2016).
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from ..data import Rows
from ..files import whole_file
from ..objectives.model import Model
from ..objectives.places import laid_at_places, read_as_texts
from ..progress import bar
from .score import Measured
from .task import NoTask, Task

NAME, UNIT = "understanding_accuracy", "accuracy"
STRENGTHS = (0.001, 0.01, 0.1, 1.0)
TEXTS_AT_ONCE = 32
ITERATIONS = 200


@dataclass(frozen=True)
class Understanding:
    """What a probe reached.

    Parameters
    ----------
    measured : right answers on test, one per text. layer : 0 is the embedding; -1 where nothing was measured.
    strength : the C of the regression. dev : accuracy on dev of the choice.
    """

    measured: Measured
    layer: int = -1
    strength: float = 0.0
    dev: float = 0.0


@dataclass(frozen=True)
class Probe:
    """What was read off one layer.

    Parameters
    ----------
    layer : 0 is the embedding. strength : the C that was best on dev. dev : accuracy there.
    predicted : class numbers on test.
    """

    layer: int
    strength: float
    dev: float
    predicted: NDArray[np.int64]


def probes(
    sides: Sequence[Sequence[NDArray[np.float32]]],
    answers: Sequence[NDArray[np.int64]],
    title: str,
    kept: Path | None = None,
) -> list[Probe]:
    """A linear probe for each layer, of standardised vectors, as strong as was best on dev.

    Parameters
    ----------
    sides : of train, dev and test, for each layer [items, width]. answers : class numbers of the three.
    """
    found = []
    with bar(title, len(sides[0]) * len(STRENGTHS), "probes") as shown:
        for layer, (train, dev, test) in enumerate(zip(*sides, strict=True)):
            place = None if kept is None else kept / f"{layer}.npz"
            if place is not None and place.exists():
                with np.load(place) as held:
                    found.append(Probe(layer, float(held["strength"]), float(held["dev"]), held["predicted"]))
                shown.advance(len(STRENGTHS))
                continue
            scale = StandardScaler().fit(train)
            train, dev, test = (scale.transform(one) for one in (train, dev, test))
            tried = []
            for strength in STRENGTHS:
                probe = _probe(train, answers[0], strength)
                right = float((probe.predict(dev) == answers[1]).mean())
                tried.append(Probe(layer, strength, right, probe.predict(test)))
                shown.advance(1)
            best = max(tried, key=lambda one: (one.dev, -one.strength))
            if place is not None:
                with whole_file(place) as handle:
                    np.savez(handle, strength=best.strength, dev=best.dev, predicted=best.predicted)
            found.append(best)
    return found


def probed(model: Model, task: Task | NoTask) -> Understanding:
    """Probe the frozen model; empty, with the reason, where there is no question or no states to probe."""
    if isinstance(task, NoTask):
        return Understanding(_unmeasured(task.why))
    sides = [vectors(model, [text for text, _ in side]) for side in (task.train, task.dev, task.test)]
    if not sides[0]:
        return Understanding(_unmeasured(f"{model.objective.family} keeps no states to read off"))
    answers = [np.array([label for _, label in side]) for side in (task.train, task.dev, task.test)]
    found = probes(sides, answers, f"probing {model.objective.family}")
    best = max(found, key=lambda one: (one.dev, -one.layer))
    note = f"{task.what}; layer {best.layer} and C {best.strength:g} chosen on dev; {task.note}"
    return Understanding(_accuracy(best.predicted == answers[2], note), best.layer, best.strength, best.dev)


def vectors(model: Model, texts: Sequence[str]) -> list[NDArray[np.float32]]:
    """For each layer one vector per text, [texts, width]: the mean state over the slots that show text.

    Texts are cut at the model's context. Empty where the stack's states are no numbers to average.
    """
    tokenizer, most = model.tokenizer, model.context - 2
    ids = [
        np.array([*tokenizer.before(len(one) > 0), *one[:most], *tokenizer.behind], np.int32)
        for one in tokenizer.encode_many(texts)
    ]
    return line_vectors(model, ids)


def line_vectors(model: Model, ids: Sequence[NDArray[np.int32]]) -> list[NDArray[np.float32]]:
    """The same of lines that are laid out, with their marks."""
    model = model.two_sided
    pooled: list[list[NDArray[np.float32]]] = []
    was_training = model.training
    model.eval()
    order = sorted(range(len(ids)), key=lambda at: len(ids[at]))
    with torch.no_grad(), bar(f"reading with {model.objective.family}", len(ids), "texts") as shown:
        for start in range(0, len(order), TEXTS_AT_ONCE):
            rows = Rows.of([ids[at] for at in order[start : start + TEXTS_AT_ONCE]], model.tokenizer)
            layers, text = states_by_place(model, rows)
            if not layers:
                return []
            share = torch.from_numpy(text / text.sum(1, keepdims=True)).float().to(layers[0].device)
            pooled.append([torch.einsum("rpw,rp->rw", one.float(), share).cpu().numpy() for one in layers])
            shown.advance(rows.count)
    model.train(was_training)
    back = np.argsort(order)
    return [np.concatenate([batch[layer] for batch in pooled])[back] for layer in range(len(pooled[0]))]


@torch.no_grad()
def states_by_place(model: Model, rows: Rows) -> tuple[list[Tensor], NDArray[np.bool_]]:
    """States of each layer at the places of the rows, and which places hold text.

    Returns
    -------
    layers : [rows, places, width] each. Where a family reads in several streams, their states at a place stand side by
        side, so that width is theirs together; layer 0 is then the token's vector once for each. Empty where the
        stack's states are no numbers.
    text : [rows, places]; where a row is of marks alone, all that are shown.
    """
    view = read_as_texts(model, rows)
    layers = model.layers(view, rows.tokens)
    if not layers[-1].is_floating_point():
        return [], np.zeros(rows.tokens.shape, np.bool_)
    laid, there = laid_at_places(view, layers, rows.tokens.shape)
    text = there & ~model.objective.vocabulary.is_special[rows.tokens]
    return laid, np.where(text.any(1, keepdims=True), text, there)


def probe_floors(task: Task | NoTask) -> dict[str, Measured]:
    """What needs no model: always the commonest class, and a regression on the texts' tf-idf words and characters."""
    if isinstance(task, NoTask):
        return {}
    truth = np.array([label for _, label in task.test])
    commonest = np.bincount([label for _, label in task.train]).argmax()
    return {
        "the commonest class": _accuracy(truth == commonest, task.what),
        "a bag of words (tf-idf)": _accuracy(_bag_of_words(task) == truth, task.what),
    }


def _bag_of_words(task: Task) -> NDArray[Any]:
    """Predictions on test; words or, where text is not spaced, characters, and C, are chosen on dev."""
    train, dev, test = ([text for text, _ in side] for side in (task.train, task.dev, task.test))
    answers = [np.array([label for _, label in side]) for side in (task.train, task.dev)]
    tried = []
    for number, (analyzer, lengths) in enumerate((("word", (1, 1)), ("char", (1, 2)))):
        words = TfidfVectorizer(
            analyzer=analyzer, ngram_range=lengths, token_pattern=r"(?u)\w+" if analyzer == "word" else None,
            sublinear_tf=True, max_features=20_000,
        )  # fmt: skip
        counted = words.fit_transform(train)
        for strength in (1.0, 10.0):
            probe = _probe(counted, answers[0], strength)
            right = float((probe.predict(words.transform(dev)) == answers[1]).mean())
            tried.append((right, -number, -strength, probe.predict(words.transform(test))))
    return np.asarray(max(tried, key=lambda one: one[:3])[3])


def _probe(features: Any, answers: NDArray[Any], strength: float) -> LogisticRegression:
    probe = LogisticRegression(C=strength, max_iter=ITERATIONS)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # an unconverged probe is one candidate among others
        return probe.fit(features, answers)


def _accuracy(correct: NDArray[Any], note: str) -> Measured:
    right = correct.astype(np.float64)
    return Measured(NAME, UNIT, "task", "understanding", right, np.ones(len(right)), note=note)


def _unmeasured(why: str) -> Measured:
    return Measured.none(NAME, UNIT, "task", "understanding", why)
