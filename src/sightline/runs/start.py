"""The model that a run begins with: new weights, or those of the model that it goes on from."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, cast

from ..errors import SightlineError
from .recipe import Recipe

if TYPE_CHECKING:
    from ..objectives import Objective
    from ..objectives.model import Model
    from .ground import Ground


def begun_with(wanted: Recipe) -> Model | None:
    """The model that a run continues, with its own tokenizer unless the source names a file."""
    from .. import hub
    from ..data import Tokenizer
    from ..objectives import FAMILIES
    from ..objectives.model import Model as Whole

    if not wanted.start:
        return None
    named = Path(wanted.source.tokenizer).exists()
    model = hub.load(hub.located(wanted.start), tokenizer=Tokenizer.load(wanted.source.tokenizer) if named else None)
    here, there = FAMILIES[wanted.family].stack, model.objective.stack
    if here != there or here not in ("transformer", "pair", "two"):
        raise SightlineError(
            f"{wanted.family} cannot go on from the {model.objective.family} model in {wanted.start}",
            "A stack that fits itself begins anew, and one stack is not two: continue a transformer with a family of "
            "transformers, a pair with a family of pairs, an encoder and decoder with one of both",
        )
    classes = {model.objective.score_class, FAMILIES[wanted.family].score_class}
    if len(classes) > 1 and "discriminative" in classes:
        raise SightlineError(
            f"{wanted.family} cannot go on from the {model.objective.family} model in {wanted.start}",
            "One judges tokens and the other predicts them: begin anew, or continue with the same family",
        )
    if wanted.context > model.context and getattr(model.stack.shape, "positions", "") == "learned":
        raise SightlineError(
            f"{wanted.start} has {model.context} positions, fewer than rows of {wanted.context} tokens",
            f"Use --context {model.context}",
        )
    objective = FAMILIES[wanted.family](model.objective.vocabulary, **wanted.fields)
    Whole(
        objective, model.stack, model.head, model.tokenizer, lengths=model.lengths
    )  # refuses a stack that lacks what the family needs
    return model


def fresh(ground: Ground, recipe: Recipe, objective: Objective, begun: Model | None = None) -> Model:
    """The model that the run begins with, on its device: new weights, or those of the model that it goes on from."""
    from ..objectives.model import Model as Whole
    from ..objectives.model import built
    from ..stacks import makes, sizes
    from ..stacks.counted import begin_from
    from ..stacks.head import Head
    from ..stacks.transformer import Transformer, dropping
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
