"""Answers that stand in a context: where they begin and where they end, each pointed at among the context's tokens.

    <s> question <sep> context </s>      a score for each token to begin the answer, and one to end it; the first slot
     *                 * * * * *          stands for "not in this window", in which a long context is read

Exact match and F1 of words as SQuAD counts them (Rajpurkar et al., 2016), letters being the words of Chinese.
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ..data.examples import Example, Examples
from ..data.laid import Laid, contexts_laid
from ..objectives.model import Model
from ..objectives.tuned import Headed
from .labelled import measured
from .labelling import Labelling
from .score import Measured, Score, scored
from .teaching import Answer

LONGEST = 40  # tokens of an answer
HAN = r"[\u3400-\u9fff\uf900-\ufaff]"


class Pointing(Labelling):
    """An answer by its two ends; the epoch is chosen by F1."""

    by, outputs = "f1", 2

    def __init__(self, examples: Examples, model: Model, told: Mapping[str, float] | None = None) -> None:
        self._targets: dict[int, tuple[int, int]] = {}  # of lines of train, by the line's own number in memory
        super().__init__(examples, model, told)

    def laid(self, items: Sequence[Example], model: Model) -> list[Laid]:
        lines, answers = contexts_laid(items, model.tokenizer, model.context, model.objective.parting)
        for line, answer in zip(lines, answers, strict=True):
            self._targets[id(line)] = answer
        return lines

    def vectors_of(self, tuned: Headed, lines: Sequence[Laid]) -> list[Tensor]:
        states, _ = tuned.places(self._rows(lines))
        return [
            torch.cat([states[at, :1], states[at, line.begin : line.begin + len(line.first)]])
            for at, line in enumerate(lines)
        ]

    def loss_of(self, tuned: Headed, lines: Sequence[Laid], vectors: Tensor) -> Tensor:
        scores = torch.split(tuned.outputs(vectors).float(), [1 + len(line.first) for line in lines])
        padded = torch.nn.utils.rnn.pad_sequence(list(scores), batch_first=True, padding_value=-1e4)
        right = torch.tensor([self._targets[id(line)] for line in lines], device=vectors.device)
        return F.cross_entropy(padded.transpose(1, 2).flatten(0, 1), right.flatten())

    def answered(self, items: Sequence[Example], lines: Sequence[Laid], outputs: Sequence[Tensor]) -> list[Answer]:
        best: list[tuple[float, str]] = [(-np.inf, "")] * len(items)
        for line, scores in zip(lines, outputs, strict=True):
            shares = scores.log_softmax(0)[1:]
            if not len(shares):
                continue
            pairs = (shares[:, None, 0] + shares[None, :, 1]).triu()
            allowed = torch.ones_like(pairs).triu() * torch.ones_like(pairs).tril(LONGEST - 1)
            at = int(pairs.masked_fill(allowed == 0, -np.inf).argmax())
            start, end = divmod(at, len(shares))
            if (score := float(pairs[start, end])) > best[line.item][0]:
                best[line.item] = score, items[line.item].pair[line.first[start] : line.last[end]].strip()
        told = [text for _, text in best]
        return [self.answer(item, text) for item, text in zip(items, told, strict=True)]

    def marked(self, item: Example, predicted: Any, scores: tuple[float, ...] = ()) -> Answer:
        return Answer(predicted, exact(predicted, item), (round(shared(predicted, item), 5),))

    def measured(self, items: Sequence[Example], answers: Sequence[Answer]) -> Measured:
        return measured("f1", [shared(one.predicted, item) for one, item in zip(answers, items, strict=True)])

    def chooses(self, answers: Sequence[Answer]) -> float:
        return float(np.mean([one.scores[0] for one in answers]))

    def figures(self, items: Sequence[Example], seeds: Sequence[Sequence[Answer]]) -> list[Score]:
        whole = [measured("exact_match", [one.correct for one in answers]) for answers in seeds]
        return [scored([self.measured(items, answers) for answers in seeds]), scored(whole)]

    def gold(self, item: Example) -> Any:
        return list(dict.fromkeys(text for text, _ in item.answers))

    def floor(self, items: Sequence[Example]) -> list[Answer]:
        """The context's beginning, as long as an answer of train usually is."""
        usual = int(np.median([len(one.answers[0][0]) for one in self.examples.train]))
        told = [one.pair[:usual] for one in items]
        return [self.marked(one, text) for one, text in zip(items, told, strict=True)]


def words_of(text: str) -> list[str]:
    """Words without case, punctuation and articles; each letter of Chinese by itself."""
    kept = "".join(
        " " if one in string.punctuation or one in "，。、；：？！“”‘’《》（）【】" else one for one in text.lower()
    )
    return re.sub(rf"({HAN})", r" \1 ", re.sub(r"\b(a|an|the)\b", " ", kept)).split()


def exact(told: str, item: Example) -> float:
    """Whether one of the answers has the same words."""
    return float(any(words_of(told) == words_of(text) for text, _ in item.answers))


def shared(told: str, item: Example) -> float:
    """F1 of words with the answer that shares most."""
    return max(_f1(words_of(told), words_of(text)) for text, _ in item.answers)


def _f1(told: list[str], gold: list[str]) -> float:
    both = sum((Counter(told) & Counter(gold)).values())
    return 2 * both / (len(told) + len(gold)) if told or gold else 1.0
