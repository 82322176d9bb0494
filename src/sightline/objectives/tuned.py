r"""A model with a head of its own for labels: what represents a text in each family, and the way to it for gradients.

    rows --read--> states of slots --pool--> a vector for each text --dropout, linear--> classes, or a number
                                   \-------> a vector for each place --mean over a word, linear--> tags, or pointers

One rule for all: a text is its last state where a place sees only what was read before it (so that none but the last
has seen all), and the mean over its places where all see all. Each stream gives a vector (two_way: one for each
direction, backward's last being the first of the text); an encoder and decoder give the encoder's; a bag of words the
mean of the words' own vectors. Devlin et al., BERT (2018); Radford et al., GPT (2018); Peters et al., ELMo (2018).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Literal, cast, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ..data import Rows
from ..errors import SightlineError
from ..sight import NO_DOCUMENT, View, matrix
from ..stacks import lora
from ..stacks.bag import Bag
from ..stacks.pair import Pair
from ..stacks.shape import Shape
from ..stacks.transformer import Transformer
from ..stacks.two import SOURCE, Two
from .model import Model, built
from .places import laid_at_places, read_as_texts

Pool = Literal["mean", "last", "first"]
Tune = Literal["full", "frozen", "lora"]
LOOKED = 256  # places over which the sight is looked at


class Tuned(nn.Module, ABC):
    """A model that learns a task, and which of its weights do.

    Parameters
    ----------
    model : as it is read while it learns. whole : as it is kept, over the same weights.
    tune : of the stack: all of it, nothing, or adapters of low rank. seed : of the adapters.

    Raises
    ------
    SightlineError : adapters do not fit the stack.
    """

    def __init__(self, model: Model, whole: Model, tune: Tune, rank: int, alpha: float, seed: int) -> None:
        super().__init__()
        if tune not in get_args(Tune):
            raise SightlineError(f"there is no way to tune named {tune!r}", f"Choose {', '.join(get_args(Tune))}")
        self.model, self.tune = model, tune
        self._kept_as = (whole,)  # no part of this module: its weights are the model's
        self.model.requires_grad_(False)  # its own head, and a generator, learn only where a task asks them
        if tune == "full":
            self.model.stack.requires_grad_(True)
        elif tune == "lora":
            lora.adapt(self.model.stack, rank, alpha, 0.0, torch.Generator().manual_seed(seed))

    @property
    @abstractmethod
    def represents(self) -> str:
        """What stands for a text and for a word, or how a target is written, in words."""

    @property
    def trained(self) -> list[tuple[str, nn.Parameter]]:
        """What learns, by name."""
        return [(name, weight) for name, weight in self.named_parameters() if weight.requires_grad]

    def whole(self) -> Model:
        """The model as it is kept, adapters folded in."""
        if self.tune == "lora":
            lora.merge(self.model.stack)
        return self._kept_as[0]


class Headed(Tuned):
    """Outputs for texts, words or places, over the states of a model.

    Parameters
    ----------
    model : its stack is read with both sides given where the family can be (``Model.two_sided``).
    outputs : classes, tags, 1 for a number, 2 for pointers.
    pool : what stands for a text, or for a word among its tokens; auto: by the rule above, and a word's mean.
    tune, rank, alpha : see ``Tuned``. dropout : of what enters the head. seed : of the head, and of the adapters.

    Raises
    ------
    SightlineError : the family has no states, or adapters do not fit its stack.
    """

    def __init__(
        self, model: Model, outputs: int, *, pool: Pool | Literal["auto"] = "auto", tune: Tune = "full", rank: int = 8,
        alpha: float = 16.0, dropout: float = 0.1, seed: int = 0,
    ) -> None:  # fmt: skip
        if model.numbers or not isinstance(model.stack, Transformer | Pair | Two | Bag):
            raise SightlineError(
                f"{model.objective.family} keeps no states that a head could learn from", "Use another family"
            )
        super().__init__(model.two_sided, model, tune, rank, alpha, seed)
        self.pool = pooled_by(self.model) if pool == "auto" else pool
        self.word_pool: Pool = "mean" if pool == "auto" else pool
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(self._width(), outputs)
        with torch.no_grad():
            self.head.weight.normal_(0, 0.02, generator=torch.Generator().manual_seed(seed))
            self.head.bias.zero_()
        self.kept: dict[str, list[Tensor]] = {}  # vectors of a frozen stack, by side
        self.to(model.device)

    @torch.no_grad()
    def _width(self) -> int:
        return int(self.places(_looked_at(self.model, 2))[0].shape[2])

    def _states(self, rows: Rows) -> tuple[Tensor, View]:
        view = read_as_texts(self.model, rows)
        if isinstance(self.model.stack, Bag):
            return self.model.layers(view, rows.tokens)[0], view
        return self.model.states(view, rows.tokens), view

    def places(self, rows: Rows) -> tuple[Tensor, NDArray[np.bool_]]:
        """A vector for each place [rows, places, width], and which places are shown."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and self.tune != "frozen"):
            states, view = self._states(rows)
            stream = SOURCE if isinstance(self.model.stack, Two) else None
            laid, there = laid_at_places(view, [states], rows.tokens.shape, stream)
        return laid[0].float(), there

    def texts(self, rows: Rows) -> Tensor:
        """A vector for each row [rows, width]."""
        if self.pool != "mean":
            with torch.set_grad_enabled(torch.is_grad_enabled() and self.tune != "frozen"):
                return self._ends(*self._states(rows)).float()
        laid, there = self.places(rows)
        text = there & ~self.model.objective.vocabulary.is_special[rows.tokens]
        text = np.where(text.any(1, keepdims=True), text, there)
        share = torch.from_numpy(text / text.sum(1, keepdims=True)).float().to(laid.device)
        return torch.einsum("rpw,rp->rw", laid, share)

    def _ends(self, states: Tensor, view: View) -> Tensor:
        """The state of the first or the last slot of each stream, as it is read; of two stacks, of one of them."""
        real = view.slots.document != NO_DOCUMENT
        streams = np.unique(view.slots.stream[real])
        if isinstance(self.model.stack, Two):  # the encoder's first, or the decoder's last where it is shown anything
            streams = streams[-1:] if self.pool == "last" else streams[:1]
        found = []
        for stream in streams:
            own = real & (view.slots.stream == stream)
            at = own.argmax(1) if self.pool == "first" else own.shape[1] - 1 - own[:, ::-1].argmax(1)
            index = torch.from_numpy(at).to(states.device)[:, None, None]
            found.append(states.gather(1, index.expand(-1, 1, states.shape[2]))[:, 0])
        return torch.cat(found, dim=1)

    def words(self, rows: Rows, line: NDArray[np.int64], first: NDArray[np.int64], last: NDArray[np.int64]) -> Tensor:
        """A vector for each word [words, width], whose tokens are [first, last) of a line."""
        laid, _ = self.places(rows)
        on = [torch.from_numpy(part).to(laid.device) for part in (line, first, last)]
        if self.word_pool == "first":
            return laid[on[0], on[1]]
        if self.word_pool == "last":
            return laid[on[0], on[2] - 1]
        running = nn.functional.pad(laid.cumsum(1), (0, 0, 1, 0))  # sums of stretches are differences of running sums
        return (running[on[0], on[2]] - running[on[0], on[1]]) / (on[2] - on[1])[:, None]

    def outputs(self, vectors: Tensor) -> Tensor:
        """The head's outputs for vectors."""
        return cast(Tensor, self.head(self.dropout(vectors)))

    @property
    def represents(self) -> str:
        of = (
            "each direction's "
            if isinstance(self.model.stack, Pair)
            else "the encoder's "
            if self.pool == "mean" and isinstance(self.model.stack, Two)
            else ""
        )
        words = {"mean": "mean state", "last": "last state", "first": "first state"}
        return f"texts by {of}{words[self.pool]}, words by their tokens' {words[self.word_pool]}"


def pooled_by(model: Model) -> Pool:
    """What stands for a text where nobody says it: the mean where the first place sees the last, else the last."""
    if isinstance(model.stack, Bag):
        return "mean"
    view = model.objective.read(_looked_at(model, min(LOOKED, model.context)))
    real = view.slots.document[0] != NO_DOCUMENT
    own = np.flatnonzero(real & (view.slots.stream[0] == view.slots.stream[0, real].min()))
    seen = matrix(view.whole_sight, view.slots.take(own))[0]
    return "mean" if bool(seen[0, -1] and seen[-1, 0]) else "last"


def _looked_at(model: Model, length: int) -> Rows:
    return Rows.of([np.full(length, int(model.objective.vocabulary.ordinary[0]), np.int32)], model.tokenizer)


def renewed(model: Model, seed: int) -> Model:
    """The same stack with fresh weights: what the tuned model is compared with."""
    stack = model.stack
    if isinstance(stack, Bag):
        bag = Bag(stack.vocabulary, stack.width, stack.manner)
        drawn = np.random.default_rng(seed).random(tuple(stack.inputs.shape), dtype=np.float32)
        inputs = torch.from_numpy((drawn * 2 - 1) / np.float32(stack.width))
        bag.hold(stack.words.cpu(), stack.counts.cpu(), inputs, torch.zeros_like(stack.outputs, device="cpu"))
        return Model(model.objective, bag, model.head, model.tokenizer)
    shape = getattr(stack, "shape", None)
    if not isinstance(shape, Shape):
        raise SightlineError(f"{model.objective.family} has no stack to renew", "Leave --from-scratch away")
    return built(model.objective, shape, model.tokenizer, seed)
