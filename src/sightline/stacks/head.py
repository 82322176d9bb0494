"""The head: states of asked slots in; nats and logsumexp out, in chunks, so that no loss ever holds all logits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ..errors import SightlineError
from .parts import Activation, Norm, activated, norm

CHUNK = 2**23  # logits worked out at once, 32 MiB in fp32: smaller chunks add to the table's gradient more often
WIDE = 2**28  # the same on a GPU, 512 MiB in half precision: the table's gradient is read and written once a chunk


@dataclass(frozen=True)
class Graded:
    """Grades of N answers.

    Parameters
    ----------
    total : sum of weight * nats, with its gradient.
    nats : -log p of each answer [N], without gradient.
    logsumexp : of each answer's logits [N], without gradient.
    """

    total: Tensor
    nats: Tensor
    logsumexp: Tensor


class _Grade(torch.autograd.Function):
    """Cross entropy whose gradient is formed in the forward pass, chunk by chunk: logits live for one chunk only.

    In half precision, logits and shares are read and written in half; what is graded without a gradient is worked out
    in float32 from the products on. An answer's weight scales its state and its slope, never a whole row of logits.

    Label smoothing (Szegedy et al., 2016) is for learning alone: without a gradient, the total is of nats as they are.
    """

    @staticmethod
    def forward(
        ctx: Any,
        states: Tensor,
        table: Tensor,
        bias: Tensor | None,
        answers: Tensor,
        weights: Tensor,
        barred: Tensor,
        smoothing: float,
        learning: bool,
    ) -> tuple[Tensor, Tensor, Tensor]:
        kind = product_type(states)
        kept = table.to(kind)
        nats = torch.empty(answers.shape, dtype=torch.float32, device=states.device)
        sums = torch.empty_like(nats)
        wanted = learning and any(ctx.needs_input_grad[:3])  # which torch says of weights under no_grad too
        d_states = torch.empty_like(states) if wanted else None
        d_table = torch.zeros_like(table, dtype=torch.float32) if wanted else None
        d_bias = torch.zeros_like(bias, dtype=torch.float32) if wanted and bias is not None else None
        each = smoothing / (table.shape[0] - len(barred)) if wanted else 0.0  # of what is smoothed, for each token
        spread = torch.zeros((), dtype=torch.float32, device=answers.device)  # what smoothing adds to the total
        rows = max(1, (CHUNK if states.device.type == "cpu" else WIDE) // table.shape[0])
        for start in range(0, answers.shape[0], rows):
            part = slice(start, start + rows)
            x, answer, weight = states[part].to(kind), answers[part, None], weights[part, None]
            logits = x @ kept.T
            if bias is not None:
                logits += bias
            heap = (
                logits.sum(-1, dtype=torch.float32) - logits[:, barred].sum(-1, dtype=torch.float32) if each else None
            )
            logits.index_fill_(1, barred, -torch.inf)  # by index, a GPU would be waited for
            if d_states is None or d_table is None:
                logits = logits.float()
                sums[part] = logits.logsumexp(-1)
                nats[part] = sums[part] - logits.gather(1, answer)[:, 0]
                nats[part].masked_fill_(weight[:, 0] == 0, 0.0)
                continue
            chosen = logits.gather(1, answer).float()
            slope = torch.softmax(logits, -1)
            share = slope.gather(1, answer)
            log_p = share.float().log()
            unasked = weight[:, 0] == 0  # a line that asks less than others: it answers padding, whose p is 0
            nats[part] = -log_p[:, 0].masked_fill(unasked, 0.0)
            sums[part] = (chosen - log_p)[:, 0].masked_fill(unasked, 0.0)
            # By index: any scatter into half precision works on a copy of the whole in float32.
            if heap is not None:
                spread += weights[part] @ (smoothing * (sums[part] - nats[part]) - each * heap).masked_fill(
                    unasked, 0.0
                )
                slope.sub_(each).index_fill_(1, barred, 0.0)
                share = share - each
            slope[torch.arange(len(answer), device=answer.device), answer[:, 0]] = share[:, 0] - (1 - smoothing)
            if d_bias is not None:
                d_bias += weights[part] @ slope.float()
            d_states[part] = (slope @ kept * weight).to(d_states.dtype)
            d_table += slope.T @ (x * weight).to(kind)
        if d_states is not None and d_table is not None:
            d_bias = None if bias is None or d_bias is None else d_bias.to(bias.dtype)
            ctx.save_for_backward(d_states, d_table.to(table.dtype), d_bias)
        ctx.mark_non_differentiable(nats, sums)
        return (nats * weights).sum() + spread, nats, sums

    @staticmethod
    def backward(ctx: Any, grad: Tensor, *_: Any) -> Any:
        d_states, d_table, d_bias = ctx.saved_tensors
        return d_states * grad, d_table * grad, None if d_bias is None else d_bias * grad, *[None] * 5


def _heap(logits: Tensor, barred: Tensor) -> Tensor:
    """The sum [N] of all logits [N, vocabulary] that may be predicted."""
    return logits.sum(-1, dtype=torch.float32) - logits[:, barred].sum(-1, dtype=torch.float32)


def product_type(states: Tensor) -> torch.dtype:
    """The type in which the table is read: autocast's where that is on."""
    place = states.device.type
    return torch.get_autocast_dtype(place) if torch.is_autocast_enabled(place) else states.dtype


class Head(nn.Module):
    """From states to a distribution over the vocabulary.

    Parameters
    ----------
    width : of the states. vocabulary : rows of the table.
    barred : ids that are never predicted (padding).
    tied : the embedding table to share, or None for a table of its own.
    bias : a bias per id. scale : of the states, before a tied table of large vectors (T5: 1 / sqrt(width)).
    transform : a dense layer, activation and norm before the table (BERT), which it takes to the width of the table.
        transform_bias : of both.
    """

    barred: Tensor

    def __init__(
        self,
        width: int,
        vocabulary: int,
        barred: NDArray[Any],
        tied: nn.Embedding | None = None,
        bias: bool = False,
        transform: tuple[Activation, Norm, float] | None = None,
        scale: float = 1.0,
        transform_bias: bool = True,
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(vocabulary, width)) if tied is None else tied.weight
        if tied is None:
            nn.init.normal_(self.weight, std=0.02)
        self.bias = nn.Parameter(torch.zeros(vocabulary)) if bias else None
        columns = self.weight.shape[1]
        if columns != width and not transform:
            raise SightlineError(
                f"states {width} wide do not meet a table {columns} wide",
                "Give the head a transform, or untie it",
            )
        self.dense = nn.Linear(width, columns, bias=transform_bias) if transform else None
        self.activation = transform[0] if transform else None
        self.scale = scale
        self.norm = norm(transform[1], columns, transform[2], bias=transform_bias) if transform else None
        self.register_buffer("barred", torch.as_tensor(barred, dtype=torch.long), persistent=False)

    def transformed(self, states: Tensor) -> Tensor:
        """States as the table takes them."""
        if self.dense is not None and self.activation is not None and self.norm is not None:
            states = self.norm(activated(self.dense(states), self.activation))
        return states if self.scale == 1.0 else self.scale * states

    def forward(self, states: Tensor, answers: Tensor, weights: Tensor, smoothing: float = 0.0) -> Graded:
        """Grades of answers [N] given states [N, width]; answers of weight 0 cost nothing on a CPU.

        ``smoothing`` : share of each answer that is learned as all tokens alike; nats are without it.
        """
        if states.device.type == "cpu" and not torch.compiler.is_compiling():
            real = weights > 0
            if not bool(real.all()):
                return self._spread(states, answers, weights, real, smoothing)
        x = self.transformed(states)
        parts = (x, self.weight, self.bias, answers, weights, self.barred, smoothing, torch.is_grad_enabled())
        total, nats, sums = _Grade.apply(*parts)  # type: ignore[no-untyped-call]
        return Graded(total, nats, sums)

    def _spread(self, states: Tensor, answers: Tensor, weights: Tensor, real: Tensor, smoothing: float) -> Graded:
        graded = self.forward(states[real], answers[real], weights[real], smoothing)
        nats, sums = torch.zeros_like(weights), torch.zeros_like(weights)
        nats[real], sums[real] = graded.nats, graded.logsumexp
        return Graded(graded.total, nats, sums)

    def logits(self, states: Tensor) -> Tensor:
        """Logits [..., vocabulary] for a decoder, with padding barred; never for a loss."""
        x = self.transformed(states)
        logits = torch.nn.functional.linear(x, self.weight.to(x.dtype), self.bias).float()  # a tied table stays wide
        return logits.index_fill_(-1, self.barred, -torch.inf)

    @torch.no_grad()
    def drawn(self, states: Tensor, lots: Tensor, temperature: float = 1.0) -> Tensor:
        """Ids [N] drawn for states [N, width], each by its number ``lots`` [N] in [0, 1); nothing flows back.

        Where the sum of probabilities passes the number, the id stands: one number draws from the whole vocabulary.
        """
        ids = torch.empty(len(states), dtype=torch.long, device=states.device)
        rows = max(1, (CHUNK if states.device.type == "cpu" else WIDE) // self.weight.shape[0])
        for start in range(0, len(states), rows):
            part = slice(start, start + rows)
            heaped = torch.softmax(self.logits(states[part]) / temperature, -1).double().cumsum(-1)
            # A lot is scaled by the whole sum, which rounding keeps from being 1; right: never an id of probability 0.
            lot = lots[part, None].double() * heaped[:, -1:]
            ids[part] = torch.searchsorted(heaped, lot, right=True)[:, 0].clamp(max=heaped.shape[1] - 1)
        return ids
