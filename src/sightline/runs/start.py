"""The model that a run begins with: new weights, or those of the model that it goes on from."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, cast

from ..errors import SightlineError
from ..progress import say
from .recipe import Recipe

if TYPE_CHECKING:
    from ..objectives import Objective
    from ..objectives.model import Model
    from .ground import Ground

FEW = 6  # names that are listed one by one


def begun_with(wanted: Recipe) -> Model | None:
    """The model that a run continues, with its own tokenizer unless the source names a file.

    Where it is of another family its weights are asked anew, and its tables gain rows for the marks that this needs.
    """
    from .. import hub
    from ..data import Tokenizer
    from ..objectives.continued import continued

    if not wanted.start:
        return None
    named = Path(wanted.source.tokenizer).exists()
    model = hub.load(hub.located(wanted.start), tokenizer=Tokenizer.load(wanted.source.tokenizer) if named else None)
    if wanted.context > model.context and getattr(model.stack.shape, "positions", "") == "learned":
        raise SightlineError(
            f"{wanted.start} has {model.context} positions, fewer than rows of {wanted.context} tokens",
            f"Use --context {model.context}",
        )
    was = model.objective.family
    model, added = continued(model, wanted.family, wanted.fields)
    if added:
        say(f"{wanted.start} learned as {was}; for {wanted.family} it gains {told_tokens(added)}")
    return model


def told_tokens(names: Sequence[str]) -> str:
    """Names of tokens for a person: a hundred sentinels are not listed."""
    return ", ".join(names) if len(names) <= FEW else f"{', '.join(names[:FEW])} and {len(names) - FEW} more"


def fresh(ground: Ground, recipe: Recipe, objective: Objective, begun: Model | None = None) -> Model:
    """The model that the run begins with, on its device: new weights, or those of the model that it goes on from."""
    from ..objectives.model import Model as Whole
    from ..objectives.model import built
    from ..stacks import makes, sizes
    from ..stacks.counted import begin_from
    from ..stacks.head import Head
    from ..stacks.layer import dropping
    from ..stacks.transformer import Transformer
    from .counted import pairs

    if begun is not None:
        if recipe.dropout:
            dropping(begun.stack, recipe.dropout)
        model = Whole(objective, begun.stack, begun.head, ground.tokenizer, begun.generator, begun.lengths)
        return model.to(recipe.device)
    shape = sizes.shape(recipe.size, ground.tokenizer.padded, recipe.context)
    model = built(objective, shape, ground.tokenizer, recipe.seed, makes.make(recipe.make))
    if recipe.dropout:  # of whatever make: it is a matter of training
        dropping(model.stack, recipe.dropout)
    if recipe.init == "counts":
        if objective.stack != "transformer" or not objective.writes:
            raise SightlineError(f"{recipe.family} cannot begin from counts of pairs", "Leave --init away")
        counted = pairs(objective, ground.packed(ground.train, recipe.context), recipe.seed)
        begin_from(counted, cast(Transformer, model.stack), cast(Head, model.head), recipe.seed)
    return model.to(recipe.device)
