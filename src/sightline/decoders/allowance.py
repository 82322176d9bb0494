"""What may be written at a place, and how it is drawn: the same for every writer of a text, drafters included."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..errors import SightlineError
from ..sight import View
from .draft import Asked, Bools, Draft, Ints
from .sampling import Sampling


@dataclass(frozen=True)
class Allowance:
    """The rules of one writing.

    Parameters
    ----------
    sampling : how a token is drawn.
    stops : ids that end their line when written.
    barred : ids never written, no stop among them.
    min_length : tokens a line must have written before it may stop.
    generator : the randomness of the draws; its device is where they are made.
    """

    sampling: Sampling
    stops: Ints
    barred: Ints
    min_length: int = 0
    generator: torch.Generator | None = None

    def early(self, draft: Draft, more: Ints | int = 0) -> Bools:
        """Lines that may not stop yet; ``more`` tokens written than the draft says, broadcast against [lines]."""
        if self.min_length <= 0 or not len(self.stops):
            return np.zeros(np.broadcast_shapes((draft.canvas.lines,), np.shape(more)), np.bool_)
        return np.asarray((draft.writable & ~draft.canvas.open).sum(1) + more < self.min_length)

    def allowed(self, said: Tensor, early: Bools) -> Tensor:
        """Logits [K, vocabulary] with -inf at ids that may not be written, stops where it is too ``early`` [K]."""
        allowed = said
        if len(self.barred):
            allowed = said.index_fill(1, torch.from_numpy(self.barred).to(said.device), -torch.inf)
        rows = np.flatnonzero(early)
        if len(rows):
            allowed = allowed.clone() if allowed is said else allowed
            row, column = (torch.from_numpy(index).to(said.device) for index in np.ix_(rows, self.stops))
            allowed[row, column] = -torch.inf
        return allowed

    def asked(self, view: View, said: Tensor, draft: Draft) -> Asked:
        """The answers [lines, most_asks, vocabulary] place by place, with what may not be written barred."""
        index, real = view.asked_slots
        answered = real.any(1)
        if not answered.all():
            raise SightlineError(
                f"nothing is asked about line {int(draft.owners[answered.argmin()])}, which has open places",
                "Give each text at least the mark it starts from",
            )
        line, column = np.nonzero(real)
        place = view.asks[line, index[line, column]]
        if len(line) == real.size:  # every answer is wanted, in this order already
            flat = said.flatten(0, 1)
        else:
            flat = said[torch.from_numpy(line).to(said.device), torch.from_numpy(column).to(said.device)]
        return Asked(line, place, flat, self.allowed(flat, self.early(draft)[line]))

    def drawn(self, chances: Tensor) -> Ints:
        """An id [N] for each line of chances [N, vocabulary], which need not sum to 1."""
        device = chances.device if self.generator is None else self.generator.device
        drawn = torch.multinomial(chances.to(device), 1, generator=self.generator)[:, 0]
        return np.asarray(drawn.cpu().numpy())

    def lots(self, count: int, device: torch.device) -> Tensor:
        """Numbers [count] in [0, 1), in double precision."""
        source = device if self.generator is None else self.generator.device
        return torch.rand(count, generator=self.generator, dtype=torch.float64, device=source).to(device)
