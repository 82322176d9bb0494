"""A model: objective, stack, head and tokenizer together; what a user holds."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ..errors import SightlineError
from ..sight import Depth, View, forbid_leaks, unasked, visible_pairs
from ..stacks.bag import Bag, BagHead
from ..stacks.cache import Cache
from ..stacks.experts import unevenness
from ..stacks.head import Head
from ..stacks.hogwild import Manner
from ..stacks.judge import Judge
from ..stacks.linear import Linear, LinearHead
from ..stacks.look import Kernel, Look, on_device
from ..stacks.makes import HOUSE, Make
from ..stacks.native import answered, answered_run
from ..stacks.numbers import DensityHead
from ..stacks.pair import Body, Pair
from ..stacks.regressions import Regressions
from ..stacks.shape import Shape
from ..stacks.sources import answered_whole, read
from ..stacks.static import replayed, replayed_run
from ..stacks.table import Table, TableHead
from ..stacks.transformer import Transformer
from ..stacks.two import Two, TwoCache, sides
from .base import Objective

if TYPE_CHECKING:
    from ..data import Rows, Tokenizer
    from ..data.vocabulary import Vocabulary


@dataclass(frozen=True)
class Answers:
    """Grades of a view's answers.

    Parameters
    ----------
    total : sum of weight * nats, with its gradient.
    nats, logsumexp : [lines, most_asks], without gradient; 0 where a line asks less.
    lengths : grades of the lengths that were told beside them, [lines, n]; None: the family tells none.
    """

    total: Tensor
    nats: Tensor
    logsumexp: Tensor
    lengths: Answers | None = None


class Model(nn.Module):
    """An objective with the stack that answers it, the head that grades, and the tokenizer.

    Parameters
    ----------
    objective : the family.
    stack : looks in, states out; its width is the head's.
    head : states in, nats out.
    tokenizer : text to ids and back; None where the model reads numbers.
    generator : a model that proposes tokens to this one, where the family has one (see ``Objective.generator``); its
        stack shares the tables of this one's. It answers the views that ask for tokens, this one those that judge.
    lengths : states of an encoder in, nats of lengths out, where the family tells lengths; it never answers 0.
    """

    def __init__(
        self,
        objective: Objective,
        stack: nn.Module,
        head: nn.Module,
        tokenizer: Tokenizer | None,
        generator: Model | None = None,
        lengths: Head | None = None,
    ) -> None:
        super().__init__()
        rows = stack.shape.vocabulary if isinstance(stack, Transformer | Pair | Two) else objective.vocabulary.padded
        if rows < objective.vocabulary.size:
            raise SightlineError(
                f"the tokenizer knows {objective.vocabulary.size} ids but the model has {rows} rows",
                "Use the tokenizer the model was trained with",
            )
        if objective.shows_nothing and isinstance(stack, Transformer) and stack.blank is None:
            raise SightlineError(
                f"{objective.family} has slots that show nothing, for which this stack has no vector",
                f"Begin with fresh weights, or with a model of {objective.family}",
            )
        if (objective.stack == "two") != isinstance(stack, Two):
            raise SightlineError(
                f"{objective.family} is asked of {'two stacks' if objective.stack == 'two' else 'one stack'}, "
                "which this model has not",
                "Use a model of a family with the same stacks, or begin with fresh weights",
            )
        asked, found = (getattr(part, "body", None) for part in (objective, stack))
        if asked is not None and asked != found:
            raise SightlineError(
                f"{objective.family} is asked of two halves of {asked}, but the model has "
                f"{'one stack' if found is None else f'halves of {found}'}",
                f"Use --setting body={found}" if found else "Use a model of a family with two halves",
            )
        if isinstance(stack, Transformer) and objective.position_tables > stack.shape.position_tables:
            raise SightlineError(
                f"{objective.family} tells places in {objective.position_tables} dimensions, the stack in one",
                "Begin with fresh weights: leave --from away",
            )
        if isinstance(stack, Two) and objective.by_place and not stack.shape.by_place:
            raise SightlineError(
                f"{objective.family} tells hidden places apart by where they stand, which this stack is not told "
                f"(positions: {stack.shape.positions})",
                "Begin with fresh weights, or with a stack of learned or sinusoidal positions",
            )
        if objective.tells_lengths and lengths is None:
            raise SightlineError(
                f"{objective.family} tells how long a target is, for which this model has no head",
                "Begin with fresh weights, or with a model of cmlm or nar",
            )
        self.objective = objective
        self.stack = stack
        self.head = head
        self.tokenizer = cast("Tokenizer", tokenizer)
        self.numbers = tokenizer is None  # it reads numbers, and no verb of texts may be asked of it
        self.generator = generator
        self.lengths = lengths
        self.came_as = ""  # the class of transformers that its folder named: it is written as such again, if it can be
        self._kernel: Kernel | None = None
        self.compiled_steps = False  # cached steps on a GPU go through torch.compile: for long or many texts

    @property
    def halves(self) -> tuple[Model, ...]:
        """A model for each half of the family, over this stack and head; itself where the family has no halves."""
        kinds = self.objective.halves
        if len(kinds) == 1:
            return (self,)
        return tuple(Model(kind, self.stack, self.head, self.tokenizer).train(self.training) for kind in kinds)

    @property
    def kernel(self) -> Kernel | None:
        """Fixed by a compiled run, so that no batch builds another graph; the generator's too."""
        return self._kernel

    @kernel.setter
    def kernel(self, kernel: Kernel | None) -> None:
        self._kernel = kernel
        if self.generator is not None:
            self.generator.kernel = kernel

    @property
    def stacks(self) -> list[nn.Module]:
        """The model's stack and, where it has one, its generator's."""
        return [self.stack, *([] if self.generator is None else self.generator.stacks)]

    def share_tables(self) -> None:
        """Let the generator's stack read and train the tables of this one's: tokens, learned places, segments."""
        if self.generator is None:
            return
        mine, other = cast(Transformer, self.stack), cast(Transformer, self.generator.stack)
        tied = isinstance(self.generator.head, Head) and self.generator.head.weight is token_table(other).weight
        other.embedding, other.segments = mine.embedding, mine.segments
        if mine.shape.positions == "learned":
            other.places = mine.places
        if tied:
            cast(Head, self.generator.head).weight = token_table(mine).weight

    def answering(self, view: View) -> Model:
        """Who answers a view: the generator where tokens are asked for and there is one, else this model."""
        other = self.generator
        return self if other is None or view.judged is not None or unasked(view) else other

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
        return self.stack.shape.context if isinstance(self.stack, Transformer | Pair | Two) else 256

    @property
    def device(self) -> torch.device:
        return next((weight.device for weight in self.parameters()), torch.device("cpu"))

    def parameter_counts(self) -> tuple[int, int]:
        """Parameters without, and of, the embedding tables and the output table."""
        if isinstance(self.stack, Regressions):
            return self.stack.coefficients, 0
        tables = {id(weight): weight.numel() for weight in self._tables()}
        everything = {id(weight): weight.numel() for weight in self.parameters()}
        return sum(everything.values()) - sum(tables.values()), sum(tables.values())

    @property
    def holds(self) -> str:
        """What it learned, in words: parameters, or what stands for them."""
        stack, (plain, tables) = self.stack, self.parameter_counts()
        if isinstance(stack, Table):
            return f"{stack.grams:,} n-grams of up to {stack.n} tokens, no parameters"
        if isinstance(stack, Bag):
            return f"{len(stack.words):,} words, {tables:,} parameters in their vectors"
        if isinstance(stack, Regressions):
            count = len(stack.names)
            return f"{count:,} regression{'s' * (count != 1)} on up to {stack.p} numbers, {plain:,} coefficients"
        if isinstance(stack, Linear):
            return f"regressions on up to {stack.p} numbers, {stack.coefficients.numel():,} coefficients"
        return f"{plain:,} parameters" + (f" and {tables:,} in tables" if tables else "")

    def _tables(self) -> list[Tensor]:
        if isinstance(self.stack, Bag):
            return list(self.stack.parameters())
        tables = [module.weight for module in self.modules() if isinstance(module, nn.Embedding)]
        return tables + [module.weight for module in self.modules() if isinstance(module, Head)]

    def look(self, view: View, tokens: NDArray[Any]) -> Look:
        """The view over the rows' tokens, on the model's device."""
        look = Look.of(view, tokens, self.device, self.kernel)
        return look if self.kernel is None else cast(Transformer, self.stack).readied(look)

    def states(self, view: View, tokens: NDArray[Any], cache: Cache | TwoCache | None = None) -> Tensor:
        """States [lines, slots, width] of the view's slots."""
        return self.answering(view)._passed(view, tokens, cache, None)

    def layers(self, view: View, tokens: NDArray[Any]) -> list[Tensor]:
        """States after the embedding and after each layer, the last one normed: [lines, slots, width] each."""
        taps: list[Tensor] = []
        last = self._passed(view, tokens, None, taps)
        return [*taps[:-1], last]

    def cache(self) -> Cache | TwoCache:
        """An empty cache of the kind that the stack fills."""
        return TwoCache() if isinstance(self.stack, Two) else Cache()

    def _passed(
        self, view: View, tokens: NDArray[Any], cache: Cache | TwoCache | None, taps: list[Tensor] | None
    ) -> Tensor:
        """Through the stack, stream by stream where it is a pair, and side by side where it is two."""
        if isinstance(self.stack, Two):
            parts = sides(view)
            if isinstance(cache, TwoCache) and not parts[1].slots.count and taps is None and self.device.type != "cuda":
                made = read(self.stack, self.head, parts[0], tokens)
                if made is not None:
                    cache.hand_over(made[0])
                    return made[1]
            source, target = (self.look(part, tokens) if part.slots.count else None for part in parts)
            return cast(Tensor, self.stack(source, target, cache, taps))
        assert not isinstance(cache, TwoCache)
        if not isinstance(self.stack, Pair):
            return self._once(view, tokens, cache, taps)
        states, tapped = [], []
        for part in view.by_stream():
            own: list[Tensor] = []
            stream = int(part.slots.stream[0, 0])
            states.append(self._once(part, tokens, cache, None if taps is None else own, stream=stream))
            tapped.append(own)
        if taps is not None:
            taps.extend(torch.cat(layer, dim=1) for layer in zip(*tapped, strict=True))
        return states[0] if len(states) == 1 else torch.cat(states, dim=1)

    def _once(
        self, view: View, tokens: NDArray[Any], cache: Cache | None, taps: list[Tensor] | None, **stream: int
    ) -> Tensor:
        """Through the stack, document by document where it cannot tell packed ones apart.

        While a text is written, with a cache, each line holds one document.
        """
        packs = getattr(self.stack, "packs", True)
        apart, index = (view, None) if packs or cache is not None else view.apart()
        states = cast(Tensor, self.stack(self.look(apart, tokens), cache, taps, **stream))
        if apart is view or index is None:
            return states
        where = on_device(index.ravel(), states.device)

        def back(laid: Tensor) -> Tensor:
            return laid.flatten(0, 1).index_select(0, where).view(*index.shape, -1)

        if taps is not None:
            taps[:] = [back(tap) for tap in taps]
        return back(states)

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
        if (other := self.answering(view)) is not self:
            return other.grade(view, tokens)
        states = self.states(view, tokens)
        graded = self._graded(view, tokens, self._asked(self._index(view), states))
        return graded if self.lengths is None else replace(graded, lengths=self._lengths_graded(view, states))

    def _graded(self, view: View, tokens: NDArray[Any], picked: Tensor) -> Answers:
        more = {"smoothing": share} if (share := self.objective.smooths) else {}  # not every head can
        weights = view.answer_weights()
        graded = _graded_by(self.head, picked, view.answers(tokens), weights, **more)
        shape = getattr(self.stack, "shape", None)
        if not isinstance(shape, Shape) or not shape.experts or (uneven := unevenness(self.stack)) is None:
            return graded
        return replace(graded, total=graded.total + shape.balance * float(weights.sum()) * uneven)

    def _lengths_graded(self, view: View, states: Tensor) -> Answers:
        slots, lengths = self.objective.lengths(view)
        picked = self._asked(on_device(slots, states.device), states)
        return _graded_by(cast(Head, self.lengths), picked, lengths, (lengths > 0).astype(np.float32))

    def length_logits(self, view: View, tokens: NDArray[Any], cache: Cache | TwoCache | None = None) -> Tensor:
        """Logits [lines, lengths from 0 up] of how long the target of each line's one document is."""
        slots, _ = self.objective.lengths(view)
        states = self._asked(on_device(slots, self.device), self.states(view, tokens, cache))
        return cast(Head, self.lengths).logits(states[:, 0])

    def grade_and_draw(
        self, view: View, tokens: NDArray[Any], lots: NDArray[np.float64], temperature: float
    ) -> tuple[Answers, NDArray[np.int64]]:
        """As ``grade``, and for each answer an id [lines, most_asks] drawn from what the model says there.

        Parameters
        ----------
        lots : [lines, most_asks] in [0, 1), one for each draw. No gradient flows through the draws.
        """
        picked = self._asked(self._index(view), self.states(view, tokens))
        graded = self._graded(view, tokens, picked)
        head = cast(Head, self.head)
        real = on_device(view.asked_slots[1], picked.device)
        drawn = torch.zeros(real.shape, dtype=torch.long, device=picked.device)
        drawn[real] = head.drawn(picked.detach()[real], on_device(lots, picked.device)[real], temperature)
        return graded, drawn.cpu().numpy()

    def logits(self, view: View, tokens: NDArray[Any], cache: Cache | TwoCache | None = None) -> Tensor:
        """Logits [lines, most_asks, vocabulary] of the asked slots, for a decoder."""
        if isinstance(cache, TwoCache):
            view = self._source_read(view, tokens, cache)
        quick = None
        if isinstance(cache, TwoCache) and view.settled is not None and self.device.type != "cuda":
            quick = answered_whole(self.stack, self.head, view, tokens, cache)
        elif cache is not None and view.settled is None:  # the quick steps are of texts that grow slot by slot
            if self.device.type != "cuda":
                quick = answered(self.stack, self.head, view, tokens, cache)
            else:
                quick = replayed(self.stack, self.head, self._own(view), tokens, cache, self.compiled_steps)
        if quick is not None:
            return quick
        head = cast(Head, self.head)  # or a table's, which answers the same calls
        return head.logits(self._asked(self._index(view), self.states(view, tokens, cache)))

    def _source_read(self, view: View, tokens: NDArray[Any], cache: TwoCache) -> View:
        """The view without a source that is new, which is read before; one that asks more is left as it is."""
        if cache.count:  # what is held begins with a source
            return view
        source, target = sides(view)
        if not source.slots.count or view.most_asks > target.slots.count:
            return view
        self._passed(view.columns(slice(0, source.slots.count)), tokens, cache, None)
        return view.tail(source.slots.count)

    def answers(
        self,
        view: View,
        tokens: NDArray[Any],
        cache: Cache | TwoCache,
        barred: NDArray[np.int64],
        stops: NDArray[np.int64],
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]] | None:
        """Likeliest ids but for those barred, and their log p [rounds, lines], of slots that show the one before.

        Where a run of steps is planned at once (see ``stacks/static.py`` and ``stacks/native.py``), of as many rounds
        as there are slots, or fewer; else None.
        """
        if self.device.type != "cuda":
            return answered_run(self.stack, self.head, view, tokens, cache, barred, stops)
        return replayed_run(self.stack, self.head, self._own(view), tokens, cache, barred, self.compiled_steps)

    def _own(self, view: View) -> View:
        """A view of new slots with the rule as it is where only they and their like are seen."""
        return sides(view)[1] if isinstance(self.stack, Two) else view

    @torch.no_grad()
    def examined(self, rows: Rows, infill: bool = False) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """The family's score of each row: summed nats of its wanted positions, and how many were asked.

        ``infill``: the wanted positions are blanks with both sides given, and the end of each is asked too.
        """
        nats, asked = np.zeros(rows.count), np.zeros(rows.count, dtype=np.int64)
        for view in self.objective.infill(rows) if infill else self.objective.examine(rows):
            graded = self.grade(view, rows.tokens)
            per_line = (graded.nats.double().cpu().numpy() * view.answer_weights()).sum(1)
            if graded.lengths is not None:
                per_line += graded.lengths.nats.double().cpu().numpy().sum(1)
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
        if (other := self.answering(view)) is not self:
            return other.flops(view)
        stack = self.stack
        if isinstance(stack, Bag):
            return stack.operations(visible_pairs(view, self.depth), view.ask_count)
        if not isinstance(stack, Transformer | Pair | Two):
            return 0.0
        asked = view.slots.lines * view.most_asks if view.most_asks < view.slots.count else view.ask_count
        head = 2.0 * asked * sum(weight.numel() for weight in self.head.parameters() if weight.dim() == 2)
        sample = view.lines(slice(0, 8))
        times = view.slots.lines / sample.slots.lines
        if isinstance(stack, Two):
            return times * stack.operations(sample) + head
        pairs = times * visible_pairs(sample, self.depth)
        return stack.flops(view.slots.lines * view.slots.count, pairs) + head


def _graded_by(head: nn.Module, picked: Tensor, answers: NDArray[Any], weights: NDArray[Any], **more: float) -> Answers:
    """Grades of answers [lines, n], with their weights, given states [lines, n, width]."""
    right, weight = (on_device(part, picked.device).flatten() for part in (answers, weights))
    graded = head(picked.flatten(0, 1), right, weight, **more)
    return Answers(graded.total, graded.nats.view(answers.shape), graded.logsumexp.view(answers.shape))


def built(objective: Objective, shape: Shape, tokenizer: Tokenizer | None, seed: int = 0, make: Make = HOUSE) -> Model:
    """A fresh model of a family, with its generator if it has one; the same seed gives the same weights.

    Where the shape has no vocabulary the model reads numbers, and its head is a density.

    Parameters
    ----------
    shape : of its size, which ``make`` changes to its own.
    """
    return _built(objective, make.of(shape), tokenizer, seed, make)


def _built(objective: Objective, shape: Shape, tokenizer: Tokenizer | None, seed: int, make: Make) -> Model:
    if objective.stack == "table":
        table = Table(getattr(objective, "n"), objective.vocabulary)  # noqa: B009 - a family of tables says how far it looks
        return Model(objective, table, TableHead(table), tokenizer)
    if isinstance(objective, Manner):
        bag = Bag(objective.vocabulary, shape.width, objective)
        return Model(objective, bag, BagHead(bag), tokenizer)
    if objective.stack == "linear":
        window = Linear(getattr(objective, "p"))  # noqa: B009 - likewise
        return Model(objective, window, LinearHead(window), tokenizer)
    alike = objective.by_place and not shape.by_place  # slots would be
    shape = replace(
        shape,
        blank=shape.blank or objective.shows_nothing,
        position_tables=max(shape.position_tables, objective.position_tables),
        placed=shape.placed or (alike and objective.any_pace),
        positions="sinusoidal" if alike and not objective.any_pace else shape.positions,
    )
    body: Body | None = getattr(objective, "body", None)  # a family of pairs says what they are made of
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        stack: Transformer | Pair | Two
        if objective.stack == "two":
            stack = two_of(objective, shape)
        else:
            stack = Transformer(shape) if body is None else paired(body, shape, objective.vocabulary, tokenizer)
        head: nn.Module
        if not shape.vocabulary:
            head = DensityHead(shape.width)
        elif objective.score_class == "discriminative":
            head = Judge(shape.width)
        else:
            barred, tied = objective.vocabulary.unpredictable, token_table(stack) if make.tied else None
            head = Head(
                shape.width,
                shape.vocabulary,
                barred,
                tied,
                make.head_bias,
                make.transform,
                transform_bias=make.transform_bias,
            )
        lengths = lengths_of(shape) if objective.tells_lengths else None
    model = Model(objective, stack, head, tokenizer, lengths=lengths)
    if objective.generator is not None:
        proposing, share = objective.generator
        model.generator = _built(proposing, narrowed(shape, share), tokenizer, seed + 1, make)
        model.share_tables()
    return model


def paired(body: Body, shape: Shape, vocabulary: Vocabulary, tokenizer: Tokenizer | None) -> Pair:
    """A fresh pair of stacks; only the original reads a tokenizer's pieces."""
    pieces = tokenizer.pieces if tokenizer is not None and body == "original" else ()
    return Pair(shape, body, pieces, vocabulary.bos, vocabulary.eos)


def two_of(objective: Objective, shape: Shape) -> Two:
    """A fresh encoder and decoder of the depths that the family wants of a size."""
    encoder, decoder = objective.depths(shape.layers)
    return Two(replace(shape, layers=encoder + decoder), decoder)


def lengths_of(shape: Shape) -> Head:
    """A fresh head that tells lengths of 1 up to the context."""
    return Head(shape.width, shape.context + 1, np.zeros(1, dtype=np.int64))


def token_table(stack: nn.Module) -> nn.Embedding:
    """The table of token vectors of a stack that has its own."""
    return cast(nn.Embedding, stack.embedding)


def narrowed(shape: Shape, share: float) -> Shape:
    """The shape of about this share of the width: as deep, with fewer heads of the same width, and with its tables."""
    heads = max(1, round(share * shape.heads))
    return replace(
        shape,
        width=heads * shape.of_head,
        heads=heads,
        kv_heads=None if shape.kv_heads is None else max(1, round(share * shape.kv_heads)),
        head_width=shape.of_head,
        hidden=max(1, round(shape.feed * heads * shape.of_head / shape.width)),
        table_width=shape.of_table,
    )
