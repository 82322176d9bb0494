"""Lossless acceleration: a drafter proposes the next tokens, one pass of the model checks them all.

    written   the  cat                      a drafter proposes         sat  on   a
    one pass  the  cat | sat  on   a        the model would write      sat  on   the  mat
                                            kept                       sat  on   the           3 tokens in one round

The likeliest token: kept is the longest beginning of the draft that the model would have written itself, and the token
behind it. Drawn tokens: what was drawn from q is kept with chance min(1, p / q); where it is not, one is drawn from
what p has more of than q, and the rest of the draft is thrown away. Both are what is drawn from: after temperature and
cuts, without what may not be written. So the text has the model's own distribution, whatever the drafter.

Where each token adds a slot to the view, the draft is laid out as if it were written, and every new slot asked. Where
a view's last slots change with each token (blocks of a diffusion, streams), a copy of the line is asked for each
beginning of the draft. Lines go on together: a round writes as many tokens on each line that does not end in it.

Leviathan et al., Fast Inference from Transformers via Speculative Decoding (2023); Chen et al., Accelerating Large
Language Model Decoding with Speculative Sampling (2023); the likeliest: Stern et al., Blockwise Parallel Decoding
(2018).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from ..sight import View
from . import ahead
from .allowance import Allowance
from .canvas import Canvas
from .draft import Asked, Draft, Ints, Move
from .questions import Questions
from .sampling import likeliest


@dataclass(frozen=True)
class Proposal:
    """Tokens for the next places of each line.

    Parameters
    ----------
    tokens : [lines, ahead] ids, 1 or more of each line.
    chances : [lines, ahead, vocabulary] what each was drawn from, given those before it; None: it was not drawn.
    """

    tokens: Ints
    chances: Tensor | None = None


class Drafter(Protocol):
    """Proposes tokens. It may keep what it likes of the texts so far, and is told how they go on."""

    def propose(self, draft: Draft, places: Ints, allowance: Allowance) -> Proposal | None:
        """Tokens for the first of these ``places`` [lines, ahead], the next ones in the order of writing; or none."""

    def heard(self, asked: Asked) -> None:
        """The model's answers of a round, those that were asked together with the last token of each line."""

    def take(self, lines: Ints) -> None:
        """Go on with these lines."""


class Drafting:
    """A writing in which a drafter goes ahead.

    Parameters
    ----------
    fill, questions : the model's, as the loop has them.
    drafter : of these lines. lookahead : most tokens of a proposal, 1 or more.
    """

    def __init__(
        self,
        fill: Callable[[Canvas], View],
        questions: Questions[Any],
        drafter: Drafter,
        lookahead: int,
        allowance: Allowance,
    ) -> None:
        self.fill, self.questions, self.drafter = fill, questions, drafter
        self.lookahead, self.allowance = lookahead, allowance
        self.backwards: bool | None = None  # not known before the first round

    def heard(self, draft: Draft, asked: Asked) -> None:
        """A round went by without a draft: its answers."""
        if self.backwards is None:
            first = asked.first
            self.backwards = bool((first.place != draft.canvas.open.argmax(1)[first.line]).any())
        self.drafter.heard(asked)

    def round(self, draft: Draft) -> Move | None:
        """What a round with a draft writes, 1 to ``lookahead`` + 1 tokens of each line; None: go on without."""
        if self.backwards is None:
            return None
        places = ahead.places_of(draft.canvas, self.lookahead + 1, self.backwards)
        proposal = None if places is None else self.drafter.propose(draft, places[:, :-1], self.allowance)
        if places is None or proposal is None:
            return None
        places = places[:, : proposal.tokens.shape[1] + 1]
        held = self.questions.held
        asked = self._checked(draft, places, proposal.tokens)
        if asked is None:
            return None
        lines, rounds = places.shape
        first = asked.first
        tokens, lengths = verdict(proposal, first.allowed.view(lines, rounds, -1), self.allowance)
        lengths = together(tokens, lengths, self.allowance.stops, draft.canvas.open.sum(1))
        last = np.arange(lines) * rounds + lengths - 1
        if self.questions.settles:
            self.questions.take(last)
        else:
            self.questions.keep(held + int(lengths.max()))
        heard = np.flatnonzero(np.isin(asked.line, last))
        self.drafter.heard(replace(asked.take(heard), line=asked.line[heard] // rounds))
        line, number = np.nonzero(np.arange(rounds) < lengths[:, None])
        kept = first.take(line * rounds + number)
        written = torch.from_numpy(tokens[line, number]).to(kept.said.device)
        return Move(None, line, places[line, number], tokens[line, number], kept.logprob(written))

    def _checked(self, draft: Draft, places: Ints, tokens: Ints) -> Asked | None:
        """The answers for ``places`` [lines, rounds], each given the tokens before it: a line of its own for each."""
        lines, rounds = places.shape
        if not self.questions.settles:
            said = self.questions.verify(self.fill, draft.canvas, places, tokens)
            if said is None:
                return None
            early = self.allowance.early(draft, np.arange(rounds)[:, None]).T.ravel()
            flat = said.flatten(0, 1)
            return Asked(np.arange(lines * rounds), places.ravel(), flat, self.allowance.allowed(flat, early))
        self.questions.take(np.repeat(np.arange(lines), rounds))
        copies = draft.take(np.repeat(np.arange(lines), rounds))
        copy, number = np.nonzero(np.arange(rounds - 1) < np.tile(np.arange(rounds), lines)[:, None])
        line = copy // rounds
        copies = replace(copies, canvas=copies.canvas.written(copy, places[line, number], tokens[line, number]))
        view, said = self.questions.put(self.fill(copies.canvas), copies.canvas.tokens)
        return self.allowance.asked(view, said, copies)


def verdict(proposal: Proposal, allowed: Tensor, allowance: Allowance) -> tuple[Ints, Ints]:
    """What the model writes of a proposal, and behind it: tokens [lines, ahead + 1], and how many of them [lines].

    Parameters
    ----------
    allowed : [lines, ahead + 1, vocabulary] the model's logits at each place, given the tokens proposed before it.
    """
    proposed = proposal.tokens
    if allowance.sampling.greedy:
        tokens = likeliest(allowed)[1].cpu().numpy()
        return tokens, 1 + np.cumprod(tokens[:, :-1] == proposed, axis=1).sum(1)
    lines, count = proposed.shape
    tokens, lengths = np.zeros((lines, count + 1), np.int64), np.zeros(lines, np.int64)
    going = np.arange(lines)
    for number in range(count + 1):
        p = allowance.sampling.probabilities(allowed[torch.from_numpy(going).to(allowed.device), number])
        if number < count:
            token, stays = _kept(p, proposed[going, number], _chances(proposal, going, number, p), allowance)
        else:
            token, stays = allowance.drawn(p), np.zeros(len(going), np.bool_)
        tokens[going, number], lengths[going] = token, number + 1
        going = going[stays & ~np.isin(token, allowance.stops)]
        if not len(going):
            break
    return tokens, lengths


def _chances(proposal: Proposal, lines: Ints, number: int, p: Tensor) -> Tensor:
    """What a token was drawn from [lines, vocabulary]; all of it at the token where it was not drawn."""
    if proposal.chances is None:
        token = torch.from_numpy(proposal.tokens[lines, number]).to(p.device)
        return torch.zeros_like(p).scatter_(1, token[:, None], 1.0)
    q = proposal.chances[torch.from_numpy(lines).to(proposal.chances.device), number].to(p)
    missing = p.shape[1] - q.shape[1]  # of rows that one of two models has for no token
    return torch.nn.functional.pad(q, (0, missing)) if missing else q


def _kept(p: Tensor, proposed: Ints, q: Tensor, allowance: Allowance) -> tuple[Ints, Any]:
    """The token [lines] of each line and whether it is the proposed one, by the rule of acceptance."""
    at = torch.from_numpy(proposed).to(p.device)[:, None]
    lot = allowance.lots(len(p), p.device)[:, None]
    stays = (lot * q.gather(1, at) < p.gather(1, at))[:, 0]
    more = (p - q).clamp(min=0)
    more = torch.where(more.sum(1, keepdim=True) > 0, more, p)
    token = proposed.copy()
    gone = np.flatnonzero(~stays.cpu().numpy())
    if len(gone):
        token[gone] = allowance.drawn(more[torch.from_numpy(gone).to(more.device)])
    return token, stays.cpu().numpy()


def together(tokens: Ints, lengths: Ints, stops: Ints, room: Ints) -> Ints:
    """How many [lines] of the tokens [lines, rounds] are written: up to a stop, and on lines that go on as many each.

    How far a line goes must not hang on its own tokens but for the rule of acceptance, or what is thrown away would be
    drawn twice. So a line is cut at the shortest of those that go on, but not because it ends itself.

    Parameters
    ----------
    lengths : [lines] tokens that the model agrees to. room : [lines] places that are open.
    """
    number = np.arange(tokens.shape[1])
    ends = np.isin(tokens, stops) & (number < lengths[:, None])
    stopped = ends.any(1)
    own = np.where(stopped, ends.argmax(1) + 1, lengths)
    goes_on = ~stopped & (own < room)
    return np.asarray(np.minimum(own, own[goes_on].min(initial=tokens.shape[1])))
