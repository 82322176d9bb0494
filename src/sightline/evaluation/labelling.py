"""Tasks of labels: what a head tells of a text, of its words, or of its places, and the figures of the answers.

items --laid--> lines --Headed--> outputs --loss, or answers--> figures with intervals, records an item
"""

from __future__ import annotations

from abc import abstractmethod
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from ..data import Rows
from ..data.examples import Example, Examples
from ..data.laid import Laid, texts_laid, words_laid
from ..errors import SightlineError
from ..objectives.model import Model
from ..objectives.tuned import Headed
from ..progress import bar
from .labelled import macro_f1, matthews, measured, pearson, spearman, whole_score
from .score import Measured, Score, scored
from .teaching import Answer, Ints, Teaching

AT_ONCE = 64  # lines answered together
OUTSIDE = "O"  # the tag of what is no entity
SIDES = ("train", "dev", "test")


class Labelling(Teaching[Headed]):
    """A task whose answers a head tells from states."""

    outputs: int

    def __init__(self, examples: Examples, model: Model, told: Mapping[str, float] | None = None) -> None:
        super().__init__(examples, model, told)
        self.tokenizer = model.tokenizer
        self.sides = {side: self.laid(getattr(examples, side), model) for side in SIDES}
        self.notes = list(dict.fromkeys(self.notes))  # test may be dev again

    @abstractmethod
    def laid(self, items: Sequence[Example], model: Model) -> list[Laid]:
        """The lines of a side's items."""

    @abstractmethod
    def loss_of(self, tuned: Headed, lines: Sequence[Laid], vectors: Tensor) -> Tensor:
        """Mean loss of lines of train, whose vectors are given one below the other."""

    @abstractmethod
    def vectors_of(self, tuned: Headed, lines: Sequence[Laid]) -> list[Tensor]:
        """For each line what the head is given, [n, width]."""

    @abstractmethod
    def answered(self, items: Sequence[Example], lines: Sequence[Laid], outputs: Sequence[Tensor]) -> list[Answer]:
        """An answer for each item, from the outputs [n, outputs] of all lines."""

    def tuned(self, model: Model, **how: Any) -> Headed:
        return Headed(model, self.outputs, **how)

    def measured(self, items: Sequence[Example], answers: Sequence[Answer]) -> Measured:
        """How right each item's answer is, for comparisons in pairs."""
        return measured("accuracy", [one.correct for one in answers])

    def chooses(self, answers: Sequence[Answer]) -> float:
        """The figure of dev by which the epoch is chosen."""
        return float(np.mean([one.correct for one in answers]))

    def dev(self, tuned: Headed) -> float:
        return self.chooses(self.answers(tuned, "dev"))

    @property
    def lengths(self) -> Ints:
        return np.array([len(one.ids) for one in self.sides["train"]], np.int64)

    def loss(self, tuned: Headed, numbers: Ints) -> Tensor:
        lines = [self.sides["train"][number] for number in numbers]
        if tuned.tune == "frozen":
            kept = self._kept(tuned, "train")
            return self.loss_of(tuned, lines, torch.cat([kept[number] for number in numbers]))
        return self.loss_of(tuned, lines, torch.cat(self.vectors_of(tuned, lines)))

    @torch.no_grad()
    def answers(self, tuned: Headed, side: str) -> list[Answer]:
        tuned.eval()
        outputs = [tuned.outputs(one).float().cpu() for one in self._kept(tuned, side)]
        return self.answered(getattr(self.examples, side), self.sides[side], outputs)

    @torch.no_grad()
    def _kept(self, tuned: Headed, side: str) -> list[Tensor]:
        """The vectors of a side; those of a frozen stack are worked out once."""
        if side in tuned.kept:
            return tuned.kept[side]
        lines, was_training = self.sides[side], tuned.training
        tuned.eval()
        order = sorted(range(len(lines)), key=lambda at: len(lines[at].ids))
        found: list[Tensor] = [torch.zeros(0)] * len(lines)
        with bar(f"reading {side}", len(lines), "lines") as shown:
            for start in range(0, len(order), AT_ONCE):
                part = order[start : start + AT_ONCE]
                for at, vectors in zip(part, self.vectors_of(tuned, [lines[at] for at in part]), strict=True):
                    found[at] = vectors
                shown.advance(len(part))
        tuned.train(was_training)
        if tuned.tune == "frozen":
            tuned.kept[side] = found
        return found

    def _rows(self, lines: Sequence[Laid]) -> Rows:
        return Rows.of([one.ids for one in lines], self.tokenizer)


class _OfTexts(Labelling):
    """A label for a text or a pair."""

    def laid(self, items: Sequence[Example], model: Model) -> list[Laid]:
        lines, cut = texts_laid(items, model.tokenizer, model.context, model.objective.parting)
        if cut:
            self.notes.append(f"{cut:,} of {len(items):,} texts were cut at the context of {model.context} tokens")
        return lines

    def vectors_of(self, tuned: Headed, lines: Sequence[Laid]) -> list[Tensor]:
        return list(torch.split(tuned.texts(self._rows(lines)), 1))


class Classifying(_OfTexts):
    """One of some classes; the epoch is chosen by Matthews' correlation, in which no floor is above 0."""

    by = "matthews"

    def __init__(self, examples: Examples, model: Model, told: Mapping[str, float] | None = None) -> None:
        super().__init__(examples, model, told)
        self.outputs = len(examples.labels)
        self.number = {label: at for at, label in enumerate(examples.labels)}

    def loss_of(self, tuned: Headed, lines: Sequence[Laid], vectors: Tensor) -> Tensor:
        right = [self.number[self.examples.train[one.item].label] for one in lines]
        return F.cross_entropy(tuned.outputs(vectors).float(), torch.tensor(right, device=vectors.device))

    def answered(self, items: Sequence[Example], lines: Sequence[Laid], outputs: Sequence[Tensor]) -> list[Answer]:
        found = []
        for item, logits in zip(items, outputs, strict=True):
            shares = logits[0].log_softmax(0)
            found.append(self.answer(item, self.examples.labels[int(shares.argmax())], _rounded(shares)))
        return found

    def marked(self, item: Example, predicted: Any, scores: tuple[float, ...] = ()) -> Answer:
        return Answer(predicted, float(predicted == item.label), scores)

    def _numbers(self, labels: Sequence[str]) -> NDArray[np.float64]:
        return np.array([self.number[label] for label in labels], np.float64)

    def chooses(self, answers: Sequence[Answer]) -> float:
        gold = self._numbers([one.label for one in self.examples.dev])
        return matthews(gold, self._numbers([one.predicted for one in answers]))

    def figures(self, items: Sequence[Example], seeds: Sequence[Sequence[Answer]]) -> list[Score]:
        gold = self._numbers([one.label for one in items])
        told = np.stack([self._numbers([one.predicted for one in answers]) for answers in seeds])
        return [
            scored([self.measured(items, answers) for answers in seeds]),
            whole_score("macro_f1", macro_f1, gold, told),
            whole_score("matthews", matthews, gold, told),
        ]

    def gold(self, item: Example) -> Any:
        return item.label

    def floor(self, items: Sequence[Example]) -> list[Answer]:
        usual = Counter(one.label for one in self.examples.train).most_common(1)[0][0]
        return [self.marked(one, usual) for one in items]


class Regressing(_OfTexts):
    """A number; learned in standard deviations of train's, told in its own unit."""

    by, outputs = "pearson", 1

    def __init__(self, examples: Examples, model: Model, told: Mapping[str, float] | None = None) -> None:
        super().__init__(examples, model, told)
        if examples.train:
            values = np.array([float(one.label) for one in examples.train])
            self.told = {"mean": float(values.mean()), "deviation": float(values.std()) or 1.0}
        self.mean, self.deviation = self.told["mean"], self.told["deviation"]

    def loss_of(self, tuned: Headed, lines: Sequence[Laid], vectors: Tensor) -> Tensor:
        right = [(float(self.examples.train[one.item].label) - self.mean) / self.deviation for one in lines]
        return F.mse_loss(tuned.outputs(vectors)[:, 0].float(), torch.tensor(right, device=vectors.device))

    def answered(self, items: Sequence[Example], lines: Sequence[Laid], outputs: Sequence[Tensor]) -> list[Answer]:
        told = [round(float(one[0, 0]) * self.deviation + self.mean, 6) for one in outputs]
        return [self.answer(item, one, (one,)) for item, one in zip(items, told, strict=True)]

    def marked(self, item: Example, predicted: Any, scores: tuple[float, ...] = ()) -> Answer:
        return Answer(predicted, -abs(predicted - float(item.label)), scores)

    def measured(self, items: Sequence[Example], answers: Sequence[Answer]) -> Measured:
        return measured("mean_absolute_error", [-one.correct for one in answers])

    def chooses(self, answers: Sequence[Answer]) -> float:
        return pearson(self._gold(self.examples.dev), np.array([one.predicted for one in answers]))

    def _gold(self, items: Sequence[Example]) -> NDArray[np.float64]:
        return np.array([float(one.label) for one in items])

    def figures(self, items: Sequence[Example], seeds: Sequence[Sequence[Answer]]) -> list[Score]:
        told = np.array([[one.predicted for one in answers] for answers in seeds], np.float64)
        whole = [whole_score(one.__name__, one, self._gold(items), told) for one in (pearson, spearman)]
        return [*whole, scored([self.measured(items, answers) for answers in seeds])]

    def gold(self, item: Example) -> Any:
        return float(item.label)

    def floor(self, items: Sequence[Example]) -> list[Answer]:
        return [self.marked(one, self.mean) for one in items]


class Tagging(Labelling):
    """A tag for each word; spans are counted too where tags begin with B- and I-."""

    by = "accuracy"

    def __init__(self, examples: Examples, model: Model, told: Mapping[str, float] | None = None) -> None:
        super().__init__(examples, model, told)
        self.outputs = len(examples.labels)
        self.number = {label: at for at, label in enumerate(examples.labels)}
        kinds = {label[2:] for label in examples.labels if label[:2] in ("B-", "I-")}
        self.kinds = sorted(kinds) if OUTSIDE in examples.labels else []
        if self.kinds:
            self.by = "span_f1"
        if self.kinds and examples.train:
            entities([OUTSIDE], [OUTSIDE], self.kinds)  # refuses at once where the package is missing

    def laid(self, items: Sequence[Example], model: Model) -> list[Laid]:
        return words_laid(items, model.tokenizer, model.context)

    def vectors_of(self, tuned: Headed, lines: Sequence[Laid]) -> list[Tensor]:
        counts = [len(one.first) for one in lines]
        first, last = (np.concatenate([getattr(one, end) for one in lines]) for end in ("first", "last"))
        at = np.repeat(np.arange(len(lines)), counts)
        return list(torch.split(tuned.words(self._rows(lines), at, first, last), counts))

    def loss_of(self, tuned: Headed, lines: Sequence[Laid], vectors: Tensor) -> Tensor:
        right = [
            self.number[tag]
            for one in lines
            for tag in self.examples.train[one.item].tags[one.begin : one.begin + len(one.first)]
        ]
        return F.cross_entropy(tuned.outputs(vectors).float(), torch.tensor(right, device=vectors.device))

    def answered(self, items: Sequence[Example], lines: Sequence[Laid], outputs: Sequence[Tensor]) -> list[Answer]:
        tags: list[list[str]] = [[] for _ in items]
        for line, logits in zip(lines, outputs, strict=True):
            tags[line.item] += [self.examples.labels[at] for at in logits.argmax(1).tolist()]
        return [self.answer(item, told) for item, told in zip(items, tags, strict=True)]

    def marked(self, item: Example, predicted: Any, scores: tuple[float, ...] = ()) -> Answer:
        right = [one == other for one, other in zip(predicted, item.tags, strict=True)]
        return Answer(predicted, float(np.mean(right)), scores)

    def measured(self, items: Sequence[Example], answers: Sequence[Answer]) -> Measured:
        if self.kinds:
            return self._spans(items, answers)
        return self._words(items, answers)

    def _words(self, items: Sequence[Example], answers: Sequence[Answer]) -> Measured:
        sizes = [float(len(one.words)) for one in items]
        return measured("accuracy", [one.correct * size for one, size in zip(answers, sizes, strict=True)], sizes)

    def _spans(self, items: Sequence[Example], answers: Sequence[Answer]) -> Measured:
        """F1 of whole entities, 2 * right / (told + there): a ratio of sums over sentences."""
        counts = [entities(item.tags, one.predicted, self.kinds) for item, one in zip(items, answers, strict=True)]
        return measured("span_f1", [2.0 * right for right, _ in counts], [float(sums) for _, sums in counts])

    def chooses(self, answers: Sequence[Answer]) -> float:
        found = self.measured(self.examples.dev, answers)
        return float(found.top.sum() / max(1.0, found.bottom.sum()))

    def figures(self, items: Sequence[Example], seeds: Sequence[Sequence[Answer]]) -> list[Score]:
        words = scored([self._words(items, answers) for answers in seeds])
        if not self.kinds:
            return [words]
        spans = [self._spans(items, answers) for answers in seeds]
        if any(one.bottom.sum() == 0 for one in spans):
            return [words, Score("span_f1", None, "span_f1", "task", "understanding", note="there are no entities")]
        return [scored(spans), words]

    def gold(self, item: Example) -> Any:
        return list(item.tags)

    def floor(self, items: Sequence[Example]) -> list[Answer]:
        """Each word its commonest tag; one that train lacks the commonest of all."""
        counts: dict[str, Counter[str]] = defaultdict(Counter)
        for one in self.examples.train:
            for word, tag in zip(one.words, one.tags, strict=True):
                counts[word][tag] += 1
        usual = sum(counts.values(), Counter[str]()).most_common(1)[0][0]
        known = {word: tags.most_common(1)[0][0] for word, tags in counts.items()}
        told = [[known.get(word, usual) for word in one.words] for one in items]
        return [self.marked(one, tags) for one, tags in zip(items, told, strict=True)]


def entities(gold: Sequence[str], told: Sequence[str], kinds: Sequence[str]) -> tuple[int, int]:
    """Entities told right in kind and both ends, and the number told plus the number there (nervaluate, strict)."""
    try:
        from nervaluate import Evaluator
    except ImportError as error:
        raise SightlineError("spans of tags are counted by nervaluate", "pip install 'sightline[eval]'") from error
    found = Evaluator([list(gold)], [list(told)], tags=list(kinds), loader="list").evaluate()["overall"]["strict"]
    return int(found.correct), int(found.actual + found.possible)


def _rounded(values: Tensor) -> tuple[float, ...]:
    return tuple(round(value, 5) for value in values.tolist())
