"""Tags of words, read off frozen vectors: the same small tagger for whatever gives a word a vector.

    sentence --model, frozen--> vectors of each word in each layer --mix, one hidden layer--> a tag for each word

The layers' mix is learned with the tagger (Peters et al., ELMo, 2018); the epoch is chosen on dev, accuracy is told on
test. A word's vector is the mean over its tokens.
"""

from __future__ import annotations

import gzip
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from ..data import Rows
from ..data.examples import Example
from ..data.laid import words_laid
from ..errors import SightlineError
from ..objectives.model import Model
from ..progress import bar
from ..stacks.mix import Mix
from .score import Measured
from .understanding import states_by_place

NAME, UNIT = "tagging_accuracy", "accuracy"
TEXTS_AT_ONCE = 32
WORDS_AT_ONCE = 256
HIDDEN, EPOCHS, RATE, DECAY = 256, 6, 3e-3, 0.01
TAG = 3  # the column of a .conllu file that holds the universal part of speech


@dataclass(frozen=True)
class Sentence:
    """Words and the tag of each."""

    words: tuple[str, ...]
    tags: tuple[str, ...]


@dataclass(frozen=True)
class Tagging:
    """What a tagger reached.

    Parameters
    ----------
    measured : right tags on test and words, one of each for a sentence. dev : accuracy of the chosen epoch.
    shares : of the layers in the learned mix. scale : gamma, by which the mix is multiplied.
    """

    measured: Measured
    dev: float
    shares: tuple[float, ...]
    scale: float


def sentences_of(path: Path) -> list[Sentence]:
    """The sentences of a ``.conllu`` or ``.conllu.gz`` file, each with its universal parts of speech.

    Raises
    ------
    SightlineError : the file is missing, or no sentence of it has ten columns.
    """
    try:
        with (
            gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else open(path, encoding="utf-8") as handle
        ):
            found = list(_parsed(handle.read()))
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise SightlineError(f"{path} cannot be read ({error})", "Check the path") from error
    if not found:
        raise SightlineError(f"{path} holds no sentence in the CoNLL-U format", "Give a .conllu file")
    return found


def _parsed(text: str) -> Iterator[Sentence]:
    for block in text.split("\n\n"):
        cells = [line.split("\t") for line in block.splitlines() if line and not line.startswith("#")]
        words = [line for line in cells if len(line) == 10 and line[0].isdigit()]  # no ranges, no empty nodes
        if words:
            yield Sentence(tuple(line[1] for line in words), tuple(line[TAG] for line in words))


def word_vectors(model: Model, sentences: Sequence[Sentence]) -> list[NDArray[np.float32]]:
    """Vectors of every word in every layer of the model: [words, width] each, sentence after sentence.

    Sentences longer than the model's context are read in parts.

    Raises
    ------
    SightlineError : a model whose states are no numbers.
    """
    items = [Example("", "", words=one.words) for one in sentences]
    parts = words_laid(items, model.tokenizer, model.context)
    order = sorted(range(len(parts)), key=lambda at: len(parts[at].ids))
    held: list[list[NDArray[np.float32]]] = [[] for _ in parts]
    was_training = model.training
    model.eval()
    with bar(f"reading with {model.objective.family}", len(parts), "sentences") as shown:
        for start in range(0, len(order), TEXTS_AT_ONCE):
            batch = order[start : start + TEXTS_AT_ONCE]
            layers, _ = states_by_place(model, Rows.of([parts[at].ids for at in batch], model.tokenizer))
            if not layers:
                raise SightlineError(f"{model.objective.family} keeps no states to read off", "Use another family")
            # Sums of stretches are differences of running sums.
            running = [F.pad(layer.double().cumsum(1), (0, 0, 1, 0)).cpu().numpy() for layer in layers]
            for line, at in enumerate(batch):
                first, last = parts[at].first, parts[at].last
                size = (last - first)[:, None]
                held[at] = [((one[line, last] - one[line, first]) / size).astype(np.float32) for one in running]
            shown.advance(len(batch))
    model.train(was_training)
    return [np.concatenate([one[layer] for one in held]) for layer in range(len(held[0]))]


class Tagger(nn.Module):
    """A mix of standardised layers, one hidden layer, and the tags; it sees one word's vectors and no other's."""

    def __init__(self, layers: Sequence[NDArray[np.float32]], tags: int) -> None:
        super().__init__()
        self.mix = Mix(len(layers))
        self.hidden, self.out = nn.Linear(layers[0].shape[1], HIDDEN), nn.Linear(HIDDEN, tags)
        nn.init.normal_(self.hidden.weight, std=layers[0].shape[1] ** -0.5)
        nn.init.zeros_(self.hidden.bias)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)
        self.means = [layer.mean(0) for layer in layers]
        self.scales = [1 / np.maximum(layer.std(0), 1e-6) for layer in layers]

    def forward(self, layers: Sequence[NDArray[np.float32]]) -> Tensor:
        """Logits [words, tags] of vectors [words, width] of each layer."""
        ready = [(one - mean) * scale for one, mean, scale in zip(layers, self.means, self.scales, strict=True)]
        return self.out(F.relu(self.hidden(self.mix([torch.from_numpy(one) for one in ready]))))  # type: ignore[no-any-return]


def tagged(
    train: tuple[Sequence[Sentence], Sequence[NDArray[np.float32]]],
    dev: tuple[Sequence[Sentence], Sequence[NDArray[np.float32]]],
    test: tuple[Sequence[Sentence], Sequence[NDArray[np.float32]]],
    *,
    seed: int = 0,
    epochs: int = EPOCHS,
    note: str = "",
) -> Tagging:
    """Train the tagger on sentences and their words' vectors, and measure it.

    Parameters
    ----------
    train, dev, test : sentences, and for each layer the vectors of all their words [words, width].
    seed : of the tagger's weights and of the order in which words are shown.
    """
    names = sorted({tag for sentence in train[0] for tag in sentence.tags})
    answers, on_dev, on_test = (_numbered(sentences, names) for sentences, _ in (train, dev, test))
    draws = np.random.default_rng((seed, 6))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        tagger = Tagger(train[1], len(names))
    optimizer = torch.optim.AdamW(tagger.parameters(), lr=RATE, weight_decay=DECAY)
    steps = -(-len(answers) // WORDS_AT_ONCE)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / (steps * epochs))
    best, chosen, shares, scale = -1.0, np.zeros(0, np.bool_), torch.zeros(0), 0.0
    with bar("tagging", epochs, "epochs") as shown:
        for _ in range(epochs):
            order = draws.permutation(len(answers))
            for start in range(0, len(order), WORDS_AT_ONCE):
                part = order[start : start + WORDS_AT_ONCE]
                loss = F.cross_entropy(tagger([one[part] for one in train[1]]), torch.from_numpy(answers[part]))
                optimizer.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                optimizer.step()
                schedule.step()
            right = float(_right(tagger, dev[1], on_dev).mean())
            if right > best:
                best, chosen = right, _right(tagger, test[1], on_test)
                shares, scale = tagger.mix.weights.detach().softmax(0), float(tagger.mix.gamma.detach())
            shown.advance(1)
    return Tagging(by_sentence(test[0], chosen, note), best, tuple(shares.tolist()), scale)


@torch.no_grad()
def _right(tagger: Tagger, layers: Sequence[NDArray[np.float32]], answers: NDArray[np.int64]) -> NDArray[np.bool_]:
    return np.asarray(tagger(layers).argmax(1).numpy() == answers, np.bool_)


def _numbered(sentences: Sequence[Sentence], names: Sequence[str]) -> NDArray[np.int64]:
    """The number of each word's tag; -1, which no answer equals, for one that training never saw."""
    number = {name: at for at, name in enumerate(names)}
    return np.array([number.get(tag, -1) for sentence in sentences for tag in sentence.tags], np.int64)


def commonest_tags(train: Sequence[Sentence], test: Sequence[Sentence]) -> Measured:
    """The floor: each word its commonest tag in training, the commonest of all where it was never seen."""
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for sentence in train:
        for word, tag in zip(sentence.words, sentence.tags, strict=True):
            counts[word][tag] += 1
    usual = sum(counts.values(), Counter[str]()).most_common(1)[0][0]
    known = {word: tags.most_common(1)[0][0] for word, tags in counts.items()}
    right = [known.get(word, usual) == tag for one in test for word, tag in zip(one.words, one.tags, strict=True)]
    return by_sentence(test, np.array(right), "each word its commonest tag")


def by_sentence(sentences: Sequence[Sentence], right: NDArray[Any], note: str) -> Measured:
    """Right tags and words of each sentence, from the words that are right."""
    sizes = np.array([len(sentence.words) for sentence in sentences])
    top = np.add.reduceat(right.astype(np.float64), np.cumsum(sizes) - sizes)
    return Measured(NAME, UNIT, "task", "understanding", top, sizes.astype(np.float64), note=note)
