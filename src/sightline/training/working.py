"""The weights that a step works with: the model's own or, in half precision, copies of them.

    weights, float32 --copied once a step--> copies, bfloat16 --forward, backward--> slopes --added--> float32

Copying once a step costs less than casting at every product, and what passes between products stays in half precision,
which halves the memory that a processor moves. Tables of embeddings are the model's own, read in float32: the slope of
a common token is a sum over all its places, in which bfloat16 would lose the small ones.
"""

from __future__ import annotations

import copy
import functools

import torch
from torch import Tensor, nn

from ..objectives.model import Model


class Working:
    """A model as a step works with it.

    Parameters
    ----------
    model : holds the weights, and is updated. dtype : of the copies; in float32 the model works itself.

    Attributes
    ----------
    model : what answers in a step; it has the given model's objective and tokenizer.
    """

    def __init__(self, model: Model, dtype: torch.dtype) -> None:
        self.model = model
        self._pairs: list[tuple[Tensor, Tensor]] = []
        if dtype == torch.float32:
            return
        self.model = copy.deepcopy(model, {id(part): part for part in (model.tokenizer, model.objective)})
        own = dict(model.named_parameters())
        tables = {id(module.weight) for module in model.modules() if isinstance(module, nn.Embedding)}
        for place, module in self.model.named_modules():
            for name, weight in module.named_parameters(place, recurse=False):
                leaf = name.rpartition(".")[2]
                original = own.get(name, getattr(model.get_submodule(place), leaf))  # a tied table has one name only
                if id(original) in tables:
                    setattr(module, leaf, original)
                else:
                    weight.data = weight.data.to(dtype)
                    weight.register_post_accumulate_grad_hook(functools.partial(_hand_over, original))
                    self._pairs.append((original, weight))

    @torch.no_grad()
    def refresh(self) -> None:
        """Take over the weights as they are now: before each step."""
        if self._pairs:
            torch._foreach_copy_([copied for _, copied in self._pairs], [weight for weight, _ in self._pairs])


@torch.no_grad()
def _hand_over(weight: Tensor, copied: Tensor) -> None:
    """Add the slope of a copy to that of its weight, as soon as it is whole: no second set of slopes is ever held."""
    assert copied.grad is not None
    if weight.grad is None:
        weight.grad = copied.grad.to(weight.dtype)
    else:
        weight.grad += copied.grad
    copied.grad = None
