"""A model that learns to write the target of a source, as its family writes one.

family                             learns as                          the source
seq2seq, cmlm, nar; bang           itself (bang: on pairs)            read by the encoder
another encoder and decoder        seq2seq                            read by the encoder
causal, two_way                    itself, asked for targets alone    seen by what stands behind it
another of one stack               prefix                             seen both ways: the opening

The weights stay, the sight changes (see ``continued``): BERT writes as UniLM does, T5 as T5. Dong et al., UniLM (2019);
Raffel et al., T5 (2020); Radford et al., GPT-2 (2019), for a source in front of its target.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..data import Draws, Rows
from ..errors import SightlineError
from ..sight import NO_DOCUMENT
from ..stacks.layer import dropping
from . import FAMILIES
from .base import Objective
from .continued import continued
from .model import Model
from .pen import Text
from .sides import behind_sep
from .translating import translate
from .tuned import Tune, Tuned

LEFT_TO_RIGHT = ("causal", "two_way")


class Targets(Tuned):
    """A model while it learns pairs.

    Parameters
    ----------
    model : of any family that predicts tokens; it is used up. dropout : of what each part of a layer adds.
    tune, rank, alpha, seed : see ``Tuned``.

    Raises
    ------
    SightlineError : the family cannot go on with pairs, or nothing of it would learn.
    """

    def __init__(
        self, model: Model, *, tune: Tune = "full", rank: int = 8, alpha: float = 16.0, dropout: float = 0.1,
        seed: int = 0,
    ) -> None:  # fmt: skip
        if tune == "frozen":
            raise SightlineError("targets have no head of their own that could learn alone", "Use --tune full or lora")
        family, settings = learning_pairs(model.objective)
        told, self.added = continued(model, family, settings)
        super().__init__(told, told, tune, rank, alpha, seed)
        if tune == "full":
            self.model.head.requires_grad_(True)
            if self.model.lengths is not None:
                self.model.lengths.requires_grad_(True)
        dropping(self.model.stack, dropout)

    @property
    def represents(self) -> str:
        objective = self.model.objective
        by = "the encoder" if objective.begins_with is not None else "the stack that writes"
        return f"sources read by {by}, targets written as {objective.family} writes"

    def whole(self) -> Model:
        dropping(self.model.stack, 0.0)
        return super().whole()

    def loss(self, rows: Rows) -> Tensor:
        """Mean loss of the targets' tokens; what a family draws is drawn by torch's own generator."""
        objective = self.model.objective
        draws = Draws(int(torch.randint(1 << 31, ()))).of(rows)
        views = objective.ask(rows, draws, 1.0)
        counts = objective.counts(views)
        terms = objective.learn(self.model, rows, views, draws)
        return torch.stack([term.weight * term.total / counts[term.name] for term in terms]).sum()

    @torch.no_grad()
    def nats(self, rows: Rows) -> NDArray[np.float64]:
        """Of each row's target [rows], by the family's own score."""
        return self.model.examined(rows)[0]

    @torch.no_grad()
    def written(self, sources: Sequence[str], length: int) -> list[Text]:
        """The likeliest target of each source, as the family writes it; ``length``: tokens at most."""
        return translate(self.model, sources, length=length, of_texts=self.model.objective.reads != "pairs")


def learning_pairs(objective: Objective) -> tuple[str, dict[str, Any]]:
    """As which family, and with what settings, a family learns pairs."""
    own = {field.name: getattr(objective, field.name) for field in fields(objective) if field.name != "vocabulary"}
    if objective.reads == "pairs" or objective.family in LEFT_TO_RIGHT:
        return objective.family, own
    if objective.on_pairs:
        return objective.family, own | dict(objective.on_pairs)
    if objective.stack == "two":
        return "seq2seq", {name: own[name] for name in _settings("seq2seq") if name in own}
    return "prefix", {name: own[name] for name in ("both_ways",) if name in own}


def _settings(family: str) -> set[str]:
    return {field.name for field in fields(FAMILIES[family])} - {"vocabulary"}


def rows_of_pairs(lines: Sequence[NDArray[Any]], model: Model) -> Rows:
    """Lines of source, sep and target as rows that are asked for their targets."""
    rows = Rows.of(lines, model.tokenizer)
    behind = behind_sep(rows.tokens, rows.documents, model.objective.vocabulary.sep)
    given = (rows.documents != NO_DOCUMENT) & ~behind
    return replace(rows, wanted=behind, halves=(int(given.sum(1).max()), int(behind.sum(1).max())))
