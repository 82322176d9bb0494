"""A model: objective, stack, head and tokenizer together; what a user holds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ..errors import SightlineError
from ..sight import Depth, View, forbid_leaks, visible_pairs
from ..stacks.cache import Cache
from ..stacks.head import Head
from ..stacks.look import Kernel, Look, on_device
from ..stacks.native import answered
from ..stacks.static import replayed
from ..stacks.table import Table, TableHead
from ..stacks.transformer import Shape, Transformer
from .base import Objective

if TYPE_CHECKING:
    from ..data import Rows, Tokenizer


@dataclass(frozen=True)
class Answers:
    """Grades of a view's answers.

    Parameters
    ----------
    total : sum of weight * nats, with its gradient.
    nats, logsumexp : [lines, most_asks], without gradient; 0 where a line asks less.
    """

    total: Tensor
    nats: Tensor
    logsumexp: Tensor


class Model(nn.Module):
    """An objective with the stack that answers it, the head that grades, and the tokenizer.

    Parameters
    ----------
    objective : the family.
    stack : looks in, states out; its width is the head's.
    head : states in, nats out.
    tokenizer : text to ids and back.
    """

    def __init__(self, objective: Objective, stack: nn.Module, head: nn.Module, tokenizer: Tokenizer) -> None:
        super().__init__()
        rows = stack.shape.vocabulary if isinstance(stack, Transformer) else objective.vocabulary.padded
        if rows < objective.vocabulary.size:
            raise SightlineError(
                f"the tokenizer knows {objective.vocabulary.size} ids but the model has {rows} rows",
                "Use the tokenizer the model was trained with",
            )
        self.objective = objective
        self.stack = stack
        self.head = head
        self.tokenizer = tokenizer
        self.kernel: Kernel | None = None  # fixed by a compiled run, so that no batch builds another graph
        self.compiled_steps = False  # cached steps on a GPU go through torch.compile: for long or many texts

    @property
    def depth(self) -> Depth:
        """What the stack does to a sight."""
        return cast(Depth, self.stack.depth)

    @property
    def two_sided(self) -> Model:
        """The same weights, read with both sides given (see ``Objective.two_sided``)."""
        objective = self.objective.two_sided
        if objective is self.objective:
            return self
        return Model(objective, self.stack, self.head, self.tokenizer).train(self.training)

    @property
    def context(self) -> int:
        """Positions the stack was made for."""
        return self.stack.shape.context if isinstance(self.stack, Transformer) else 256

    @property
    def device(self) -> torch.device:
        return next((weight.device for weight in self.parameters()), torch.device("cpu"))

    def parameter_counts(self) -> tuple[int, int]:
        """Parameters without, and of, the embedding tables and the output table."""
        tables = {id(weight): weight.numel() for weight in self._tables()}
        everything = {id(weight): weight.numel() for weight in self.parameters()}
        return sum(everything.values()) - sum(tables.values()), sum(tables.values())

    def _tables(self) -> list[Tensor]:
        tables = [module.weight for module in self.modules() if isinstance(module, nn.Embedding)]
        return tables + ([self.head.weight] if isinstance(self.head, Head) else [])

    def look(self, view: View, tokens: NDArray[Any]) -> Look:
        """The view over the rows' tokens, on the model's device."""
        look = Look.of(view, tokens, self.device, self.kernel)
        return cast(Transformer, self.stack).with_blocks(look) if look.kernel == "flex" else look

    def states(self, view: View, tokens: NDArray[Any], cache: Cache | None = None) -> Tensor:
        """States [lines, slots, width] of the view's slots."""
        return cast(Tensor, self.stack(self.look(view, tokens), cache))

    def layers(self, view: View, tokens: NDArray[Any]) -> list[Tensor]:
        """States after the embedding and after each layer, the last one normed: [lines, slots, width] each."""
        taps: list[Tensor] = []
        last = self.stack(self.look(view, tokens), None, taps)
        return [*taps[:-1], cast(Tensor, last)]

    def _index(self, view: View) -> Tensor | None:
        """Where the asked slots stand, [lines, most_asks], or None where every slot is asked."""
        if view.most_asks == view.slots.count:
            return None
        return on_device(np.ascontiguousarray(view.asked_slots[0]), self.device)

    def _asked(self, index: Tensor | None, states: Tensor) -> Tensor:
        """States of the asked slots, [lines, most_asks, width]."""
        return states if index is None else states.gather(1, index[..., None].expand(-1, -1, states.shape[-1]))

    def grade(self, view: View, tokens: NDArray[Any]) -> Answers:
        """Nats of the view's answers over the rows' tokens [rows, positions]."""
        picked = self._asked(self._index(view), self.states(view, tokens))
        shape = picked.shape[:2]
        answers = on_device(view.answers(tokens), picked.device)
        weights = on_device(view.answer_weights(), picked.device)
        graded = self.head(picked.flatten(0, 1), answers.flatten(), weights.flatten())
        return Answers(graded.total, graded.nats.view(shape), graded.logsumexp.view(shape))

    def logits(self, view: View, tokens: NDArray[Any], cache: Cache | None = None) -> Tensor:
        """Logits [lines, most_asks, vocabulary] of the asked slots, for a decoder."""
        if cache is not None and view.settled is None:  # the quick steps are of texts that grow slot by slot
            if self.device.type == "cuda":
                quick = replayed(self.stack, self.head, view, tokens, cache, self.compiled_steps)
            else:
                quick = answered(self.stack, self.head, view, tokens, cache)
            if quick is not None:
                return quick
        head = cast(Head, self.head)  # or a table's, which answers the same calls
        return head.logits(self._asked(self._index(view), self.states(view, tokens, cache)))

    @torch.no_grad()
    def examined(self, rows: Rows) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """The family's score of each row: summed nats of its wanted positions, and how many were asked."""
        nats, asked = np.zeros(rows.count), np.zeros(rows.count, dtype=np.int64)
        for view in self.objective.examine(rows):
            graded = self.grade(view, rows.tokens)
            per_line = (graded.nats.double().cpu().numpy() * view.answer_weights()).sum(1)
            np.add.at(nats, view.lines_of, per_line)
            np.add.at(asked, view.lines_of, (view.answer_weights() > 0).sum(1))
        return nats, asked

    def check(self, rows: Rows, views: list[View]) -> None:
        """Raise ``LeakError`` if any of the views lets an asked slot reach its answer at this stack's depth."""
        for view in views:
            forbid_leaks(view.lines(slice(0, 4)), self.depth, self.objective.family)

    def flops(self, view: View) -> float:
        """Floating-point operations of one forward pass over the view: 2 per weight and slot, 4 per visible pair.

        Counted as in Kaplan et al. (2020) plus attention over visible pairs only, and the head on asked slots only; a
        training step costs three times that.
        """
        if not isinstance(self.stack, Transformer):
            return 0.0
        shape: Shape = self.stack.shape
        slots = view.slots.lines * view.slots.count
        body = sum(weight.numel() for weight in self.stack.layers.parameters() if weight.dim() == 2)
        sample = view.lines(slice(0, 8))
        pairs = visible_pairs(sample, self.depth) * view.slots.lines / sample.slots.lines
        attention = 4.0 * pairs * shape.heads * shape.of_head
        asked = view.slots.lines * view.most_asks if view.most_asks < view.slots.count else view.ask_count
        return 2.0 * body * slots + attention + 2.0 * asked * shape.width * shape.vocabulary


def built(objective: Objective, shape: Shape, tokenizer: Tokenizer, seed: int = 0) -> Model:
    """A fresh model of a family; the same seed gives the same weights."""
    if objective.stack == "table":
        table = Table(getattr(objective, "n"), objective.vocabulary)  # noqa: B009 - a family of tables says how far it looks
        return Model(objective, table, TableHead(table), tokenizer)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        stack = Transformer(shape)
        head = Head(shape.width, shape.vocabulary, objective.vocabulary.unpredictable)
    return Model(objective, stack, head, tokenizer)
