"""ELECTRA: a small generator puts likely tokens in place of some; every token is judged, original or replaced.

    the  ■ ■ ■ ■   judged: original      generator: p(x_i | the corrupted text) for each hidden i, as masked does
    dog  ■ ■ ■ ■           replaced      judge: P(token i was replaced | the text with the generator's tokens), all i
    sat  ■ ■ ■ ■           original
    .    ■ ■ ■ ■           original      discriminative: no distribution over tokens, so nothing to score or write with

The judge never sees a mask, so texts look to it in training as they do in use, and all tokens teach it rather than a
few. It is kept; the generator only makes its questions hard, and lies beside it as a masked model of its own.

Clark et al., ELECTRA (2020), by its repository: 15% of the tokens are proposed for, of which the generator is shown 85%
as masks and the rest as they are; what it draws stands in all of these places; a lucky draw counts as original. There,
places are drawn with replacement, so slightly fewer than 15%; here exactly that share of each row.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from numpy.typing import NDArray

from ..data import RowDraws, Rows
from ..decoders.canvas import Canvas
from ..errors import SightlineError
from ..sight import NO_DOCUMENT, Rule, Score, Slots, View, everything, fixed
from .base import Column, Given, Objective, Term, within_document
from .masked import Masked

if TYPE_CHECKING:
    from .model import Model

GENERATOR = "generator"  # its questions and its part of the loss


@dataclass(frozen=True)
class Electra(Objective):
    """Judge every token of a text in which a generator has replaced some.

    Parameters
    ----------
    rate : share of a row's text tokens that the generator proposes for, in (0, 1); 0.25 for large models.
    kept : of these, the share that the generator is shown as it is (a declared leak), in [0, 1]; the rest are masks.
    share : the generator's width as a share of the judge's, in (0, 1], to the nearest whole head: 1/4 for small models,
        1/3 for base; it is as deep, and its stack reads the judge's tables. One as strong as the judge does harm.
    weight : of the judge's loss beside the generator's; its mean is small.
    temperature : of the draws from the generator, above 0; no gradient flows through them.
    """

    rate: float = 0.15
    kept: float = 0.15
    share: float = 0.25
    weight: float = 50.0
    temperature: float = 1.0

    family: ClassVar[str] = "electra"
    title: ClassVar[str] = "electra: every token judged, original or replaced"
    score_class: ClassVar[Score] = "discriminative"
    decoder: ClassVar[str] = "nothing: it judges"
    writes: ClassVar[bool] = False
    writes_from: ClassVar[Given] = "both"

    def __post_init__(self) -> None:
        self._masked()  # which checks rate and kept
        if not 0 < self.share <= 1:
            raise SightlineError(
                f"a generator of {self.share} of the judge's width is none, or stronger than the judge",
                "Choose a share above 0, up to 1, such as 0.25",
            )
        for name in ("weight", "temperature"):
            if not 0 < getattr(self, name) < float("inf"):
                raise SightlineError(f"a {name} of {getattr(self, name)} teaches nothing", "Choose a number above 0")

    @property
    def columns(self) -> tuple[Column, ...]:
        return ()

    @property
    def rule(self) -> Rule:
        return everything

    def _masked(self) -> Masked:
        return Masked(self.vocabulary, rate=self.rate, random=0.0, kept=self.kept)

    @property
    def generator(self) -> tuple[Objective, float]:
        return self._masked(), self.share

    def ask(self, rows: Rows, draws: RowDraws, progress: float) -> list[View]:
        """The generator's question, and the judge's before anything is replaced: ``learn`` puts in what is drawn."""
        (question,) = self._masked().ask(rows, draws, progress)
        return [replace(question, kind=GENERATOR), self._view(rows, rows.documents != NO_DOCUMENT)]

    def learn(self, model: Model, rows: Rows, views: list[View], draws: RowDraws) -> list[Term]:
        """The generator's nats, then the judge's over the text with the generator's tokens in it."""
        question, judging = views
        if model.generator is None:
            raise SightlineError(
                "this model has a judge but no generator, without which there is nothing to judge",
                "Train on from a folder that holds both, or begin anew",
            )
        index, real = question.asked_slots
        lots = np.take_along_axis(draws.uniform(rows.length), index, axis=1)
        graded, drawn = model.generator.grade_and_draw(question, rows.tokens, lots, self.temperature)
        replaced = real & (drawn != question.answers(rows.tokens))
        judged = model.grade(changed(judging, index, drawn, replaced), rows.tokens)
        return [Term(GENERATOR, graded.total), Term(self.family, judged.total, self.weight)]

    def examine(self, rows: Rows) -> Iterator[View]:
        """Every wanted token of the text as it stands, all of them original."""
        yield self._view(rows, rows.wanted)

    def read(self, rows: Rows) -> View:
        return self._view(rows, None)

    def _view(self, rows: Rows, judged: NDArray[np.bool_] | None) -> View:
        place = np.arange(rows.length)
        return View.of(
            Slots.of(place, rows.documents, positions=within_document(rows.documents)),
            self.rule,
            shows=place,
            judged=None if judged is None else np.where(judged, 0, -1),
            kind=self.family,
        )

    def fill(self, canvas: Canvas) -> View:
        raise SightlineError("electra judges tokens and has none to write", "Ask its generator, a masked model")


def changed(view: View, slots: NDArray[np.int64], tokens: NDArray[np.int64], replaced: NDArray[np.bool_]) -> View:
    """A judging view in which other tokens stand in some slots, which are labelled 1.

    Parameters
    ----------
    slots, tokens, replaced : [lines, n]; where ``replaced``, the slot shows the token.
    """
    assert view.judged is not None
    shows, labels = view.shows.copy(), view.judged.copy()
    line, column = np.nonzero(replaced)
    slot = slots[line, column]
    shows[line, slot] = fixed(tokens[line, column])
    labels[line, slot] = 1
    return replace(view, shows=shows, judged=labels, _asked={})
