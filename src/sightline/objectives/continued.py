"""Another family, the same weights: a stack that learned to answer one kind of question is asked another.

causal  ■ · ·    masked  ■ ■ ■     A stack knows no direction, so what it learned stays as it is: other views, other
        ■ ■ ·            ■ ■ ■     answers. The tokenizer may lack marks that the new family shows or asks for
        ■ ■ ■            ■ ■ ■     (<mask>, <sep>, modes, sentinels): these get rows of the tables.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from dataclasses import fields as dataclass_fields
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn

from ..data import Tokenizer
from ..data.layout import MODES, SPARES, SPECIALS
from ..data.marks import ending_sources, with_tokens
from ..data.vocabulary import Vocabulary
from ..errors import SightlineError
from ..stacks.head import Head
from ..stacks.pair import Pair
from ..stacks.shape import Shape
from ..stacks.transformer import Transformer
from ..stacks.two import Two
from . import FAMILIES
from .base import Objective
from .model import Model, token_table

# What a mark is called in a tokenizer that has none.
CALLED: dict[str, str] = {str(role): name for role, name in SPECIALS.items()}


@dataclass(frozen=True)
class _Wishing(Vocabulary):
    """A vocabulary that has every mark that is needed of it, and keeps the names of those that it would have to gain.

    The ids that it makes up stand behind its own: a family may be made of it, and no view.
    """

    wishes: dict[str, None] = field(default_factory=dict)

    def need(self, mark: str) -> int:
        if (id := int(getattr(self, mark))) >= 0:
            return id
        self.wishes[CALLED[mark]] = None
        return self.padded

    def need_some(self, marks: Literal["modes", "spares"], count: int, what: str) -> tuple[int, ...]:
        names = MODES if marks == "modes" else SPARES
        if len(getattr(self, marks)) >= count or count > len(names):
            return super().need_some(marks, count, what)
        self.wishes.update(dict.fromkeys(names))
        return tuple(range(self.padded, self.padded + count))


def continued(model: Model, family: str, fields: Mapping[str, Any]) -> tuple[Model, tuple[str, ...]]:
    """The weights of a model as a model of another family (or of its own, set otherwise); names of the tokens added.

    ``model`` is used up: its stack and head become the new one's, and its tables grow where they must.

    Raises
    ------
    SightlineError : no such family or setting; a stack that does not serve it, or lacks what it needs.
    """
    kind = FAMILIES[family]
    here, there = kind.stack, model.objective.stack
    if here != there or here not in ("transformer", "pair", "two"):
        raise SightlineError(
            f"{family} cannot go on from the {model.objective.family} model",
            "A stack that fits itself begins anew, and one stack is not two: continue a transformer with a family of "
            "transformers, a pair with a family of pairs, an encoder and decoder with one of both",
        )
    classes = {model.objective.score_class, kind.score_class}
    if len(classes) > 1 and "discriminative" in classes:
        raise SightlineError(
            f"{family} cannot go on from the {model.objective.family} model",
            "One judges tokens and the other predicts them: begin anew, or continue with the same family",
        )
    held, rows = model.tokenizer, cast(Transformer | Pair | Two, model.stack).shape.vocabulary
    if kind.stack == "two" and kind.reads == "pairs" and held.sep is None:
        held = ending_sources(held)
    if held.frames and family != model.objective.family and kind.stack != "two":
        held = held.framing(False)  # another question than its makers asked of texts
    fields = handed_on(model.objective, family, fields)
    added = lacking(kind, held, rows, fields)
    tokenizer = with_tokens(held, added) if added else held
    rows = rows if tokenizer.size <= rows else tokenizer.padded
    if added:
        new = [id for name in added if (id := tokenizer.id_of(name)) is not None]
        _give_rows(model, rows, new, sorted(set(range(held.size)) - set(new)))
    if family != model.objective.family and isinstance(model.stack, Transformer):
        _without_segments(model.stack, kind)
    objective = kind(replace(tokenizer.vocabulary, padded=rows, ends=model.objective.vocabulary.ends), **fields)
    if isinstance(model.head, Head):
        model.head.barred = torch.as_tensor(objective.vocabulary.unpredictable, dtype=torch.long, device=model.device)
    generator = model.generator if family == model.objective.family else None
    changed = Model(objective, model.stack, model.head, tokenizer, generator, model.lengths)
    changed.came_as = model.came_as
    return changed, added


def handed_on(before: Objective, family: str, fields: Mapping[str, Any]) -> dict[str, Any]:
    """A family's settings, and where they do not say in which mark a target begins, that which was learned."""
    start = getattr(before, "start", "")
    known = start and "start" in {one.name for one in dataclass_fields(FAMILIES[family])}
    return dict(fields) | ({"start": start} if known and not fields.get("start") else {})


def lacking(kind: type[Objective], tokenizer: Tokenizer, rows: int, fields: Mapping[str, Any]) -> tuple[str, ...]:
    """Names of the tokens that a family needs and a tokenizer lacks; every document needs an end, every pair a sep.

    A sep that is the end too is one (``ending_sources``).
    """
    known = tokenizer.vocabulary
    told = {item.name: getattr(known, item.name) for item in dataclass_fields(known)}
    wishing = _Wishing(**told | {"padded": max(rows, known.size)})
    objective = kind(wishing, **fields)
    wishing.need("eos")
    if objective.reads == "pairs":
        wishing.need("sep")
    return tuple(wishing.wishes)


def _give_rows(model: Model, rows: int, new: Sequence[int], others: Sequence[int]) -> None:
    """Let the tables have ``rows`` rows, those of ``new`` and behind them the mean of the rows of ``others``.

    A row of zeros, or drawn small, has a logit near 0, which may be far above those of real tokens: the model would
    write nothing but the new ones. The mean's logit is the mean of the others', so it takes at most the share of one
    token among them, and what was learned stays (Hewitt, Initializing New Word Embeddings for Pretrained Language
    Models, 2021). Of an embedding the mean is the token that the stack is surprised by least.
    """
    table, head = token_table(model.stack), model.head
    if not isinstance(table, nn.Embedding):
        raise SightlineError(
            "this model spells its vectors from characters, so a token cannot be added", "Begin with fresh weights"
        )
    tied = isinstance(head, Head) and head.weight is table.weight
    table.weight = _grown(table.weight, rows, new, others)
    table.num_embeddings = rows
    if isinstance(head, Head):
        head.weight = table.weight if tied else _grown(head.weight, rows, new, others)
        if head.bias is not None:
            head.bias = _grown(head.bias, rows, new, others)
    _reshape(model.stack, vocabulary=rows)


@torch.no_grad()
def _without_segments(stack: Transformer, kind: type[Objective]) -> None:
    """Fold a table of segments that has fewer rows than the family's views have segments into that of places.

    The first row stands for all, as it did for every text that is no pair: what the stack computes of it is the same.
    """
    table = stack.segments
    if table is None or 0 < kind.segments <= table.num_embeddings:
        return
    if stack.shape.positions != "learned":
        raise SightlineError(
            f"{kind.family} tells more segments apart than the {table.num_embeddings} that this stack has",
            "Begin with fresh weights",
        )
    cast(nn.Embedding, stack.places[0]).weight += table.weight[0]
    stack.segments = None
    _reshape(stack, segments=0)


def _reshape(stack: nn.Module, **changes: int) -> None:
    """Write a changed size into the shape of every part."""
    for module in stack.modules():
        if isinstance(shape := getattr(module, "shape", None), Shape):
            module.shape = replace(shape, **changes)  # type: ignore[arg-type, assignment]


@torch.no_grad()
def _grown(table: Tensor, rows: int, new: Sequence[int], others: Sequence[int]) -> nn.Parameter:
    """A table [rows, ...] or bias [rows]; the mean is taken in double precision."""
    place = torch.as_tensor(others, device=table.device)
    mean = table.index_select(0, place).double().mean(0).to(table.dtype)
    whole = torch.cat([table, mean.expand(rows - len(table), *mean.shape)])
    whole[torch.as_tensor(new, device=table.device)] = mean
    return nn.Parameter(whole.contiguous())
