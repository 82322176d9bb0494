"""What a family is: an objective, which makes views (who sees what, what is asked) and grades the answers.

rows --ask--> views --stack, head--> nats --learn--> terms of the loss
rows --examine--> views whose nats are the family's score
canvas --fill--> a view that asks for open places; a decoder accepts some of the answers, and asks again
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from ..data import RowDraws, Rows
from ..data.vocabulary import Vocabulary
from ..decoders.canvas import Canvas
from ..errors import SightlineError
from ..sight import NO_DOCUMENT, Rule, Score, View

if TYPE_CHECKING:
    from torch import Tensor

    from .model import Model

Column = Literal["whole text", "continuation", "infilling", "next number"]
Given = Literal["left", "right", "both"]
Stack = Literal["transformer", "pair", "two", "table", "bag", "linear"]
Sampler = Literal["next", "blocks", "once", "refine", "surest", "random", "ancestral", "remasking"]


@dataclass(frozen=True)
class Term:
    """One part of the loss: ``weight * total / count``, where ``count`` is summed over the whole step first.

    Parameters
    ----------
    name : of the part, for logs.
    total : sum over answers of weight * nats, a tensor with its gradient.
    weight : of this part among the others.
    """

    name: str
    total: Tensor
    weight: float = 1.0


@dataclass(frozen=True)
class Objective(ABC):
    """A family of language models.

    Class attributes say what the family is; the fields are its few settings. A new family is one file that defines
    ``rule``, ``ask``, ``examine``, ``fill`` and ``read``; everything else (targets, leaks, cost, cacheability, the
    class of its score, its drawing) is derived.
    """

    vocabulary: Vocabulary

    family: ClassVar[str]
    title: ClassVar[str]
    score_class: ClassVar[Score]
    stack: ClassVar[Stack] = "transformer"
    decoder: ClassVar[str]
    writes: ClassVar[bool] = True  # False: it has no distribution over tokens to write from
    writes_from: ClassVar[Given]
    fills_from: ClassVar[Given | None] = None  # what is known of a blank's sides; None: what it writes from
    segments: ClassVar[int] = 2  # that its views tell apart at most; 0: any number
    shows_nothing: ClassVar[bool] = False  # some of its slots show no token, and need a vector in its stead
    sampler: ClassVar[Sampler] = "next"
    settles: ClassVar[bool] = False  # a view of a canvas says which of its states are settled, though others change
    by_place: ClassVar[bool] = False  # all its slots may show the same: only where each stands tells them apart
    any_pace: ClassVar[bool] = False  # it writes token by token, in blocks of any size, or all at once
    tells_lengths: ClassVar[bool] = False  # its encoder tells how long a target is, by a head of its own
    reads: ClassVar[Literal["text", "pairs", "numbers"]] = "text"
    on_pairs: ClassVar[Mapping[str, Any]] = {}  # settings with which it reads pairs, where it usually reads texts

    @property
    @abstractmethod
    def columns(self) -> tuple[Column, ...]:
        """The columns of a table of scores that the family may stand in; the first is its own, none is possible."""

    @property
    @abstractmethod
    def rule(self) -> Rule:
        """The sight of the family's views, within a document."""

    @abstractmethod
    def ask(self, rows: Rows, draws: RowDraws, progress: float) -> list[View]:
        """Training views of the rows; ``progress`` runs from 0 to 1 over the budget."""

    @abstractmethod
    def examine(self, rows: Rows) -> Iterator[View]:
        """Views that ask each wanted position of the rows exactly once: their nats are the score."""

    @property
    def examined_how(self) -> str:
        """How the views of ``examine`` ask, in words, for a family whose score is no likelihood."""
        return "each token hidden alone and asked given all others"

    @abstractmethod
    def fill(self, canvas: Canvas) -> View:
        """A view that asks for open places of the canvas, given those that are written."""

    def filling(self, block: int) -> Callable[[Canvas], View]:
        """Where ``any_pace``: ``fill`` for the next ``block`` open places, 0: all, instead of the next."""
        return self.fill

    @abstractmethod
    def read(self, rows: Rows) -> View:
        """A view that shows the rows and asks nothing: its states represent the text."""

    def pictured(self, rows: Rows) -> View:
        """The view that is drawn of the family."""
        return next(iter(self.examine(rows)))

    @property
    def halves(self) -> tuple[Objective, ...]:
        """The objectives, over one stack, whose scores the family's own is the mean of; the first is that which writes.

        A family whose stack is not parted is its own only half.
        """
        return (self,)

    def depths(self, layers: int) -> tuple[int, int]:
        """Layers of the encoder and of the decoder, of a size of so many; of one stack all are the decoder's."""
        return 0, layers

    @property
    def begins_with(self) -> int | None:
        """The mark that a target of two stacks begins with; None: the stack is one."""
        return None

    @property
    def parting(self) -> int:
        """The mark between two texts that are read as one: sep; eos where that parts source and target, or is none."""
        marks = self.vocabulary
        return marks.sep if self.stack != "two" and marks.sep >= 0 else marks.eos

    @property
    def smooths(self) -> float:
        """Share of an answer's probability that training gives to all tokens alike (label smoothing)."""
        return 0.0

    @property
    def position_tables(self) -> int:
        """In how many dimensions its views tell places (GLM: 2)."""
        return 1

    @property
    def infills(self) -> bool:
        """Whether it writes a gap token after token, sees both sides of it, and can end it by itself."""
        return False

    @property
    def fills_in_order(self) -> bool:
        """Whether it fills blank after blank, each token after token, with both sides in view."""
        return self.infills

    def infill(self, rows: Rows) -> Iterator[View]:
        """Where ``infills``: views that ask each run of wanted positions, and its end, given all the rest."""
        raise SightlineError(
            f"{self.family} gives no likelihood of a blank that both sides surround",
            "Use blank, or a mixture that holds it",
        )

    @property
    def foresees(self) -> bool:
        """Whether its views ask for places behind the next one too, so that it may draft for itself."""
        return False

    def foresee(self, canvas: Canvas, ahead: int) -> View:
        """As ``fill``, with places behind the next one asked too, some ``ahead``; the next is answered as by ``fill``.

        Its slots begin together in all lines, and ``View.settled`` tells which of them the next round may keep.
        """
        return self.fill(canvas)

    @property
    def stops(self) -> tuple[int, ...]:
        """Marks that end a text when written."""
        return self.vocabulary.stops

    @property
    def generator(self) -> tuple[Objective, float] | None:
        """A family that proposes tokens to this one and is trained beside it, and its width as a share of this one's.

        None: there is no other. The generator's stack shares this one's tables (ELECTRA).
        """
        return None

    @property
    def scores_from(self) -> Given:
        """The side of a long text that its windows take along when they are scored."""
        return self.writes_from

    @property
    def pace(self) -> int:
        """Where ``any_pace``: how many tokens it writes at a time by itself; 0: all."""
        return 1

    @property
    def blocks_of(self) -> int:
        """Places that are written before the next so many are begun, counted from the beginning; 0: no blocks."""
        return 0

    @property
    def two_sided(self) -> Objective:
        """The family as it is read with both sides given: another where it has two ways to be read, else itself."""
        return self

    def lengths(self, view: View) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Where ``tells_lengths``: slots [lines, n] that tell a length each, and these; 0: not asked."""
        raise SightlineError(f"{self.family} tells no lengths", "Use a family that does: nar or cmlm")

    def counts(self, views: list[View]) -> dict[str, float]:
        """The answers of each term's name, from the views alone: what a term's total is divided by."""
        totals: dict[str, float] = {}
        for view in views:
            name = self.term(view)
            totals[name] = totals.get(name, 0.0) + float(view.weights.sum())
        return totals

    def term(self, view: View) -> str:
        """The part of the loss that a view's nats belong to, which is divided by its own answers."""
        return view.kind

    def learn(self, model: Model, rows: Rows, views: list[View], draws: RowDraws) -> list[Term]:
        """The terms of the loss: by default the weighted nats of every view."""
        return [Term(self.term(view), model.grade(view, rows.tokens).total) for view in views]


def within_document(documents: NDArray[Any]) -> NDArray[np.int64]:
    """For each place [lines, places], how many places of its document stand before it in the row."""
    index = np.arange(documents.shape[1])
    starts = np.concatenate([np.ones_like(documents[:, :1], dtype=bool), documents[:, 1:] != documents[:, :-1]], axis=1)
    first = np.maximum.accumulate(np.where(starts, index, 0), axis=1)
    return index - first


def after_document(documents: NDArray[Any]) -> NDArray[np.int64]:
    """For each place, how many places of its document stand behind it in the row."""
    return within_document(documents[:, ::-1])[:, ::-1]


def next_in_document(documents: NDArray[Any]) -> NDArray[np.bool_]:
    """Whether the next place of the row belongs to the same document."""
    same = np.zeros(documents.shape, dtype=np.bool_)
    same[:, :-1] = (documents[:, 1:] == documents[:, :-1]) & (documents[:, :-1] != NO_DOCUMENT)
    return same


def text_places(rows: Rows, vocabulary: Vocabulary) -> NDArray[np.bool_]:
    """Which places [rows, length] hold text rather than a mark or padding."""
    text: NDArray[np.bool_] = ~vocabulary.is_special[rows.tokens] & (rows.documents != NO_DOCUMENT)
    return text


def first_wanted(rows: Rows) -> NDArray[np.int64]:
    """For each place, how many places of its document stand before the document's first wanted place (at least 1)."""
    index = within_document(rows.documents)
    far = np.where(rows.wanted, index, rows.length)
    split = np.full(rows.tokens.shape, rows.length, dtype=np.int64)
    for document in range(int(rows.documents.max(initial=-1)) + 1):
        inside = rows.documents == document
        split = np.where(inside, np.where(inside, far, rows.length).min(1, keepdims=True), split)
    return np.maximum(split, 1)
