"""The score of a continuation given its context, or of a sentence by itself: each family by its own rule.

    exact    log p(continuation | context), token after token; backward, which sees only what follows: of both together
    pseudo   each token of the continuation hidden (and the later ones of its word), given all others
    bound    at least minus the mean over drawn masks, with the Monte Carlo error of that mean
    nar      given the context as a source, answers that ignore each other

A family for which a question has no meaning refuses it, and says why. Salazar et al., Masked Language Model Scoring
(2020); Kauf and Ivanova, A Better Way to Do Masked Language Model Scoring (2023).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from ..data import Rows
from ..errors import SightlineError
from ..objectives.base import Objective
from ..objectives.masked import Masked
from ..objectives.model import Model
from ..progress import bar
from ..sight import View
from .bits import Side, Window, batches, windows

Question = Literal["whole", "continuation", "word"]
Within = Literal["word", "token"]
Row = tuple[int, NDArray[np.int32], NDArray[np.bool_]]  # the number of its request, tokens, which are asked

LOOKS = 16  # at a text whose score is drawn


@dataclass(frozen=True)
class Scores:
    """What requests got; all arrays are [requests] but ``looks``.

    Parameters
    ----------
    looks : [looks, requests] log p in nats, one row unless the score is drawn. asked : tokens.
    greedy : whether every token asked was the likeliest where it was asked; False where that was not wanted.
    cut : whether the model's context is shorter than the request.
    """

    looks: NDArray[np.float64]
    asked: NDArray[np.int64]
    greedy: NDArray[np.bool_]
    cut: NDArray[np.bool_]

    @property
    def logp(self) -> NDArray[np.float64]:
        return np.asarray(self.looks.mean(0))


@dataclass(frozen=True)
class Scorer:
    """A model and how it is asked.

    Parameters
    ----------
    looks : draws for a bound; the candidates of one item get the same ones, so that their difference varies least.
    """

    model: Model
    looks: int = LOOKS

    @classmethod
    def of(cls, model: Model, within: Within = "word", both_sides: bool = False, looks: int = LOOKS) -> Scorer:
        """How a model is asked.

        Parameters
        ----------
        within : of a masked family, what is hidden beside the token asked for: the later tokens of its word, or none.
        both_sides : ask with both sides given, where the family has that way too (hybrid).

        Raises
        ------
        SightlineError : a model of numbers, or settings that its family has not.
        """
        if model.numbers:
            raise SightlineError("this model reads numbers, and a benchmark is of texts", "Use `sightline forecast`")
        if looks < 2:
            raise SightlineError(f"{looks} draws tell no error", "Use 2 or more, such as 16")
        if both_sides:
            if model.objective.two_sided.writes_from != "both":
                raise SightlineError(f"{model.objective.family} is read from one side only", "Leave --both-sides away")
            model = model.two_sided
        objective = model.objective
        if isinstance(objective, Masked) and objective.within != within:
            asked = replace(objective, within=within)
            model = Model(asked, model.stack, model.head, model.tokenizer).train(model.training)
        return cls(model, looks)

    @property
    def objective(self) -> Objective:
        return self.model.objective

    def refusal(self, question: Question) -> str:
        """Why the question has no meaning for the family; empty where it has one."""
        objective = self.objective
        family, columns = objective.family, objective.columns
        if objective.score_class == "discriminative":
            return f"{family} learned to tell tokens from drawn ones, and gives no probability of any text"
        if not columns:
            return f"{family} gives no probability of tokens"
        if question == "whole":
            if objective.reads == "pairs":
                return f"{family} scores the target of a pair; a sentence by itself has no source"
            if objective.score_class != "pseudo" and not self._members("whole text"):
                return f"{family}, as it was set, was not trained to write whole texts"
        if question == "word" and objective.writes_from == "right":
            return f"{family} sees only what follows, and behind the last word nothing does"
        return ""

    def rule(self, question: Question) -> str:
        """By what rule the family scores, in words."""
        objective = self.objective
        kind, way = objective.score_class, objective.examined_how
        what = "sentence" if question == "whole" else "continuation"
        if kind == "pseudo":
            return f"pseudo-log-likelihood of the {what}: {way}"
        if kind == "bound":
            given = "" if question == "whole" else " given its context"
            return f"bound: log p of the {what}{given} is at least this; the mean of {self.looks} drawn masks"
        if kind == "nar":
            return f"nar: the continuation as the target of its context, answers that ignore each other: {way}"
        if question == "whole":
            halves = self._members("whole text")
            mean = f"the mean of the {len(halves)} halves' " if len(halves) > 1 else ""
            return f"exact: {mean}log p of the sentence"
        if objective.reads == "pairs":
            return "exact: log p(continuation and its end | context), as the target of a pair"
        if self._joint:
            return "exact: log p(context and continuation together), right to left"
        if "continuation" not in objective.columns:
            return "exact: log p(continuation | context), as the end of a text that was cut out"
        return "exact: log p(continuation | context)"

    def marks(self, question: Question) -> str:
        """Which special tokens stand around what is scored."""
        tokens, objective = self.model.tokenizer, self.objective
        begin, end = (f"{tokens.show(mark)} " if mark is not None else "" for mark in (tokens.bos, tokens.eos))
        if objective.reads == "pairs":
            middle = " ".join(map(tokens.show, [tokens.need("sep"), *tokens.opens]))
            asked = "the target's marks are" if tokens.opens else "the end is"
            return f"{begin}context {middle} continuation {end}({asked} asked too)".strip()
        if question != "whole":
            begin = "".join(f"{tokens.show(mark)} " for mark in tokens.before())
        return f"{begin}text{f' {end}' if self._ends(question) and end else ''}".rstrip() + " (marks are not asked)"

    @property
    def _joint(self) -> bool:
        """Whether only whole texts are scored: what follows a context is then scored with it."""
        return self.objective.columns == ("whole text",)

    def _ends(self, question: Question) -> bool:
        """Whether what is scored is followed by the end mark: where the family sees it or begins with it."""
        asked = self._members("whole text") if question == "whole" else [self.model]
        backward = any(one.objective.writes_from == "right" for one in asked)
        return backward or self.objective.score_class in ("pseudo", "bound")

    def _members(self, column: str) -> list[Model]:
        return [half for half in self.model.halves if column in half.objective.columns]

    def score(
        self,
        requests: Sequence[tuple[str, str]],
        question: Question,
        *,
        items: Sequence[int] | None = None,
        greedy: bool = False,
        title: str = "",
    ) -> Scores:
        """Log p of each continuation given its context.

        Parameters
        ----------
        items : the number of the item that each request belongs to, which keys the draws of a bound. Default: 0, 1 ...
        greedy : also tell whether the family's own likeliest tokens are these; left-to-right families only.

        Raises
        ------
        SightlineError : the family refuses the question, or a continuation has no token.
        """
        if why := self.refusal(question):
            raise SightlineError(why, "Use a family for which the task has a meaning")
        rows, asked, cut = self._rows(requests, question)
        keys = np.arange(len(requests)) if items is None else np.asarray(items)
        members = self._members("whole text") if question == "whole" else self._members("continuation")
        halves = members or [self.model]
        drawn = self.looks if self.objective.score_class == "bound" else 1
        logp = np.zeros((drawn, len(requests)))
        likeliest = np.full(len(requests), greedy)
        was_training = self.model.training
        self.model.eval()
        with bar(title or f"scoring {self.objective.family}", len(rows) * len(halves), "texts") as shown:
            for half in halves:
                for _, batch in batches(rows):
                    owners = np.array([owner for owner, _, _ in batch])
                    held = Rows.of(
                        [ids for _, ids, _ in batch],
                        self.model.tokenizer,
                        wanted=[ask for _, _, ask in batch],
                        numbers=keys[owners],
                    )
                    for look in range(drawn):
                        visited = replace(held, visits=np.full(held.count, look))
                        if greedy:
                            nats, best = _graded(half, visited)
                            np.logical_and.at(likeliest, owners, best)
                        else:
                            nats, _ = half.examined(visited)
                        np.add.at(logp[look], owners, -nats / len(halves))
                    shown.advance(len(batch))
        self.model.train(was_training)
        return Scores(logp, asked, likeliest, cut)

    def _rows(
        self, requests: Sequence[tuple[str, str]], question: Question
    ) -> tuple[list[Row], NDArray[np.int64], NDArray[np.bool_]]:
        """The rows of each request, with what is asked in them; how many tokens are asked; which are cut."""
        side: Side = self.objective.scores_from
        counts = np.zeros(len(requests), np.int64)
        rows: list[Row] = []
        cut = np.zeros(len(requests), np.bool_)
        for number, (ids, first, last) in enumerate(self._laid(requests, question)):
            counts[number] = last - first
            if last <= first:
                raise SightlineError(f"a continuation has no token: {requests[number][1][:40]!r}", "Mend the item")
            over = len(ids) - self.model.context
            cut[number] = over > 0
            if over > 0 and self.objective.reads == "pairs":  # a source loses its beginning
                ids, first, last = np.delete(ids, np.s_[1 : 1 + over]), first - over, last - over
                if first < 2:
                    raise SightlineError(
                        f"a continuation of {last - first} tokens does not fit a context of {self.model.context}",
                        "Use a model of a longer one",
                    )
            for window in self._windows(len(ids), first, last, side):
                ask = np.zeros(window.end - window.start, np.bool_)
                ask[window.first - window.start : window.last - window.start] = True
                rows.append((number, ids[window.start : window.end], ask))
        return rows, counts, cut

    def _windows(self, length: int, first: int, last: int, side: Side) -> Iterator[Window]:
        context = self.model.context
        if length <= context:
            yield Window(0, length, first, last)
        elif side == "left" and last - first < context:  # the context loses its beginning, as in the harness
            yield Window(last - context, last, first, last)
        else:
            yield from windows(length, first, last, context, side)

    def _laid(
        self, requests: Sequence[tuple[str, str]], question: Question
    ) -> Iterator[tuple[NDArray[np.int32], int, int]]:
        """The ids of each request between its marks, and where what is asked begins and ends."""
        tokenizer, pairs = self.model.tokenizer, self.objective.reads == "pairs"
        marks = tokenizer.vocabulary
        bos = [marks.bos] if marks.bos >= 0 else []
        end = [marks.eos] if marks.eos >= 0 and (self._ends(question) or pairs) else []
        if pairs:
            tokenizer.need_targets()
        sides = [_moved(context, continuation, pairs) for context, continuation in requests]
        contexts = tokenizer.encode_batch([context for context, _ in sides])
        joined = [rest if pairs else context + rest for context, rest in sides]
        for context, rest in zip(contexts, tokenizer.encode_batch(joined), strict=True):
            after = [*tokenizer.opens, *rest] if pairs else rest[len(context) :]
            begin = bos if pairs or not len(context) else tokenizer.before()
            middle = [tokenizer.need("sep")] if pairs else []
            ids = np.array([*begin, *context, *middle, *after, *end], np.int32)
            last = len(ids) - (0 if pairs else len(end))
            first = (
                len(begin) if self._joint and question != "whole" else last - len(after) - (len(end) if pairs else 0)
            )
            yield ids, first, last


def _moved(context: str, continuation: str, pairs: bool) -> tuple[str, str]:
    """White space at the end of a context belongs to the continuation, as in the harness; a target begins without."""
    if pairs:
        return context, continuation.lstrip()
    bare = context.rstrip()
    return bare, context[len(bare) :] + continuation


@torch.no_grad()
def _graded(model: Model, rows: Rows) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Summed nats of each row's wanted tokens, and whether each of them was the likeliest."""
    nats, best = np.zeros(rows.count), np.ones(rows.count, np.bool_)
    for whole in model.objective.examine(rows):
        view = _narrow(whole)
        logits = model.logits(view, rows.tokens)
        right = torch.as_tensor(view.answers(rows.tokens), device=logits.device)
        weights = view.answer_weights()
        lost = (logits.logsumexp(-1) - logits.gather(-1, right[..., None])[..., 0]).double().cpu().numpy()
        hit = (logits.argmax(-1) == right).cpu().numpy()
        lost[weights == 0] = 0.0  # of what was not asked, where padding may be barred
        np.add.at(nats, view.lines_of, (lost * weights).sum(1))
        np.logical_and.at(best, view.lines_of, (hit | (weights == 0)).all(1))
    return nats, best


def _narrow(view: View) -> View:
    """The view with no more answers a line than its busiest line has."""
    most = max(1, int(view.wanted.sum(1).max(initial=0)))
    return view if most >= view.most_asks else replace(view, most_asks=most, _asked={})
