"""A task as a model is taught it: the loss of its items, the answers to them, and the figures of the answers."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from ..data.examples import Example, Examples
from ..objectives.model import Model
from ..objectives.tuned import Tuned
from .score import Score

Ints = NDArray[np.int64]
Kind = TypeVar("Kind", bound=Tuned)


@dataclass(frozen=True)
class Answer:
    """What was told of an item, how right that is (nan: not known), and the outputs behind it."""

    predicted: Any
    correct: float
    scores: tuple[float, ...] = ()


class Teaching(ABC, Generic[Kind]):
    """A task's items, laid out for a model.

    Parameters
    ----------
    examples : in three sides; only test is there where nothing is learned any more.
    model : by whose tokenizer and context they are laid.
    told : by train, where it is not there.

    Attributes
    ----------
    notes : what was done to the items, a line each.
    """

    by: str  # the figure of dev that chooses the epoch, more is better
    examples: Examples
    notes: list[str]
    told: Mapping[str, float]  # numbers of train that answers need

    def __init__(self, examples: Examples, model: Model, told: Mapping[str, float] | None = None) -> None:
        self.examples = examples
        self.notes = []
        self.told = dict(told or {})

    @abstractmethod
    def tuned(self, model: Model, **how: Any) -> Kind:
        """The model as it learns this task; ``how``: see ``Tuned`` and its kinds."""

    @property
    @abstractmethod
    def lengths(self) -> Ints:
        """Tokens of each line of train."""

    @abstractmethod
    def loss(self, tuned: Kind, numbers: Ints) -> Tensor:
        """Mean loss of lines of train."""

    @abstractmethod
    def answers(self, tuned: Kind, side: str) -> list[Answer]:
        """What the model tells of a side's items."""

    @abstractmethod
    def marked(self, item: Example, predicted: Any, scores: tuple[float, ...] = ()) -> Answer:
        """What was told of an item, beside its right answer."""

    def answer(self, item: Example, predicted: Any, scores: tuple[float, ...] = ()) -> Answer:
        """What was told of an item, whose right answer may not be known."""
        return self.marked(item, predicted, scores) if item.answered else Answer(predicted, math.nan, scores)

    @abstractmethod
    def dev(self, tuned: Kind) -> float:
        """The figure of dev by which the epoch is chosen."""

    @abstractmethod
    def figures(self, items: Sequence[Example], seeds: Sequence[Sequence[Answer]]) -> list[Score]:
        """The task's figures, the headline first, over answers of several seeds."""

    @abstractmethod
    def gold(self, item: Example) -> Any:
        """The right answer, as it is kept beside the one that was told."""

    @abstractmethod
    def floor(self, items: Sequence[Example]) -> list[Answer]:
        """What needs no model: the answer that is commonest in train, or the like."""
