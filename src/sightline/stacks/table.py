"""A table of n-grams: counts instead of weights, fitted in one pass, with interpolated modified Kneser-Ney smoothing.

    p(w | h) = max(c(h w) - D, 0) / c(h)  +  g(h) * p(w | h')         h' is h without its first token
    p(w | )  = max(c(w) - D, 0) / c()     +  g() / ids                D depends on the count: one of 0, D1, D2, D3+

The longest n-grams are counted as they stand; shorter ones by how many different tokens stand before them, except
those that begin a document, which nothing precedes. Chen and Goodman, An Empirical Study of Smoothing Techniques for
Language Modeling (1998); Kneser and Ney (1995).

Shapes: N histories, n tokens of the longest n-gram, V rows of the vocabulary.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ..data.vocabulary import Vocabulary
from ..errors import SightlineError
from ..progress import Bar
from ..sight import NO_DOCUMENT, Depth
from .cache import Cache
from .head import Graded
from .history import histories
from .look import Look

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

NO_TOKEN = -1  # in a history: nothing stands there
UNSEEN = -1  # instead of the number of a history: it never occurred
FALLBACK = (0.5, 1.0, 1.5)  # discounts where the counts of counts are too few to tell (as in KenLM)


@dataclass(frozen=True, eq=False)
class Level:
    """All n-grams of one length.

    Parameters
    ----------
    keys : ascending; number of the history among the n-grams one shorter, times V, plus the token.
    counts : of each key; 0 where the n-gram occurs only as a history.
    discounts : what is taken off a count of 0, 1, 2, and 3 or more.
    totals : sum of the counts behind each history.
    freed : share of each history's probability that is left to shorter histories; 1 where nothing was counted.
    """

    keys: Ints
    counts: Ints
    discounts: Floats
    totals: Ints
    freed: Floats

    @classmethod
    def of(cls, keys: Ints, counts: Ints, discounts: Floats, histories: int, vocabulary: int) -> Level:
        """The level, with what follows from its counts."""
        history = keys // vocabulary
        totals = np.bincount(history, weights=counts, minlength=histories).astype(np.int64)
        taken = np.bincount(history, weights=discounts[np.minimum(counts, 3)], minlength=histories)
        freed = np.where(totals > 0, taken / np.maximum(totals, 1), 1.0)
        return cls(keys, counts, discounts, totals, freed)

    def find(self, keys: Ints) -> Ints:
        """The number of each n-gram, or ``UNSEEN``; negative keys are never found."""
        if not len(self.keys):
            return np.full(keys.shape, UNSEEN)
        at = np.minimum(np.searchsorted(self.keys, keys), len(self.keys) - 1)
        return np.where(self.keys[at] == keys, at, UNSEEN)


def discounts_of(counts: Ints) -> tuple[float, float, float]:
    """D1, D2 and D3+ from the counts of counts (Chen and Goodman, 1998, equation 26).

    On tiny data, where one of the four counts of counts is zero or a discount falls outside [0, count], ``FALLBACK``.
    """
    n1, n2, n3, n4 = (int((counts == count).sum()) for count in (1, 2, 3, 4))
    if not min(n1, n2, n3, n4):
        return FALLBACK
    share = n1 / (n1 + 2 * n2)
    found = (1 - 2 * share * n2 / n1, 2 - 3 * share * n3 / n2, 3 - 4 * share * n4 / n3)
    fits = all(0 <= discount <= count for count, discount in enumerate(found, start=1))
    return found if fits else FALLBACK


class Table(nn.Module):
    """Counts of up to n tokens; as a stack, its states are the histories themselves.

    Parameters
    ----------
    n : tokens of the longest n-gram, the predicted one included; at least 2.
    vocabulary : ids; those that are never predicted have probability 0.
    discounts : D1, D2 and D3+ of every length, instead of what the counts of counts say.
    """

    repeats: ClassVar[bool] = False  # one pass over the text tells all

    def __init__(self, n: int, vocabulary: Vocabulary, discounts: Sequence[float] | None = None) -> None:
        super().__init__()
        if n < 2:
            raise SightlineError(f"an n-gram of {n} tokens looks at nothing", "Use 2 or more")
        self.n = n
        self.vocabulary = vocabulary
        self.given_discounts = discounts
        self.levels: list[Level] = []
        self._predictable = np.ones(vocabulary.padded, dtype=np.bool_)
        self._predictable[vocabulary.unpredictable] = False

    @property
    def depth(self) -> Depth:
        """One look, in which each slot also reads its own token."""
        return Depth(1, keeps_input=True)

    @property
    def width(self) -> int:
        """Width of the states: tokens of a history."""
        return self.n - 1

    @property
    def grams(self) -> int:
        """Different n-grams of every length that were counted."""
        return sum(int((level.counts > 0).sum()) for level in self.levels)

    def fit(self, tokens: NDArray[Any], offsets: NDArray[Any] | None = None, progress: Bar | None = None) -> None:
        """Count the n-grams of a flat array of documents, each ``[bos] tokens [eos]``; no n-gram spans two.

        Memory: about 16 bytes for each token and length, while fitting three times that.

        Parameters
        ----------
        tokens : [tokens] ids.
        offsets : where documents start (an end mark behind the last is allowed); None: at every bos.
        progress : advanced by 1 for each of the n lengths.

        Raises
        ------
        SightlineError : ids outside the vocabulary or never predicted, or no document of two tokens.
        """
        ids = np.asarray(tokens).astype(np.int64)
        index = self._index_in_document(ids, offsets)
        V = self.vocabulary.padded
        grams = np.zeros(len(ids), dtype=np.int64)  # number of the n-gram that ends at each place; the empty one is 0
        histories, unfinished = 1, None
        levels: list[Level] = []
        for length in range(1, self.n + 1):
            at = np.flatnonzero(index >= length - 1)
            history = grams[at - 1] if length > 1 else grams[at]
            keys, first, number, counts = np.unique(
                history * V + ids[at], return_index=True, return_inverse=True, return_counts=True
            )
            if unfinished is not None:  # now it is known what stands before the n-grams one shorter
                before = np.bincount(grams[at[first]], minlength=len(unfinished))
                opens = grams[index == length - 2] if length > 2 else grams[:0]  # a lone first token is not predicted
                adjusted = before + np.bincount(opens, minlength=len(unfinished))
                levels.append(self._level(unfinished, adjusted, histories))
                histories = len(unfinished)
            if length == self.n:
                levels.append(self._level(keys, counts, histories))
            grams = np.full(len(ids), UNSEEN)
            grams[at] = number
            unfinished = keys
            if progress is not None:
                progress.advance(1)
        self.levels = levels

    def _index_in_document(self, ids: Ints, offsets: NDArray[Any] | None) -> Ints:
        """How many tokens of its document stand before each token; checks the ids on the way."""
        V = self.vocabulary.padded
        if len(ids) and (int(ids.min()) < 0 or int(ids.max()) >= V):
            raise SightlineError(
                f"ids from {int(ids.min())} to {int(ids.max())} do not fit a vocabulary of {V}",
                "Use the tokenizer that made them",
            )
        if len(ids) and not bool(self._predictable[ids].all()):
            wrong = int(ids[~self._predictable[ids]][0])
            raise SightlineError(f"id {wrong} stands for padding, which has no count", "Leave padding out")
        starts = np.flatnonzero(ids == self.vocabulary.bos) if offsets is None else np.asarray(offsets, dtype=np.int64)
        starts = np.unique(np.concatenate([[0], starts[starts < len(ids)]]))
        index = np.arange(len(ids)) - np.repeat(starts, np.diff(np.append(starts, len(ids))))
        if not bool((index > 0).any()):
            raise SightlineError("no document has two tokens, so nothing can be counted", "Give the table more text")
        return index.astype(np.int64)

    def _level(self, keys: Ints, counts: Ints, histories: int) -> Level:
        found = discounts_of(counts) if self.given_discounts is None else self.given_discounts
        return Level.of(keys, counts, np.array([0.0, *found]), histories, self.vocabulary.padded)

    def forward(self, look: Look, cache: Cache | None = None, taps: list[Tensor] | None = None) -> Tensor:
        """Histories [lines, slots, n - 1] of the slots: the tokens last in order that each may see, the latest last.

        ``NO_TOKEN`` stands where there is none. With a cache, slots may also see those held.
        """
        shown = look if cache is None else cache.seen_with(look)
        readable = (shown.tokens >= 0) & (shown.document != NO_DOCUMENT)
        states = histories(look, shown, self.width, readable, NO_TOKEN)
        if taps is not None:
            taps.extend([states, states])
        if cache is not None:
            cache.look = shown
        return states

    def probabilities(self, histories: Ints, answers: Ints) -> Floats:
        """p of each answer [N] after its history [N, n - 1]."""
        self._need_fit()
        p = self._predictable[answers] / self._predictable.sum()
        for length, level in enumerate(self._counted):
            history = self._numbers(histories, length)
            known = np.maximum(history, 0)
            seen = (history != UNSEEN) & (level.totals[known] > 0)
            gram = level.find(np.where(seen, history * self.vocabulary.padded + answers, UNSEEN))
            count = np.where(gram != UNSEEN, level.counts[np.maximum(gram, 0)], 0)
            own = (count - level.discounts[np.minimum(count, 3)]) / np.maximum(level.totals[known], 1)
            p = np.where(seen, own + level.freed[known] * p, p)
        return np.asarray(p)

    def distribution(self, histories: Ints) -> Floats:
        """p of every id after each history: [N, V] from [N, n - 1]."""
        self._need_fit()
        V = self.vocabulary.padded
        p = np.tile(self._predictable / self._predictable.sum(), (len(histories), 1))
        for length, level in enumerate(self._counted):
            history = self._numbers(histories, length)
            lines = np.flatnonzero((history != UNSEEN) & (level.totals[np.maximum(history, 0)] > 0))
            history = history[lines]
            p[lines] *= level.freed[history, None]
            first, behind = np.searchsorted(level.keys, history * V), np.searchsorted(level.keys, (history + 1) * V)
            many = behind - first  # the n-grams of one history stand side by side
            line = np.repeat(lines, many)
            gram = np.arange(many.sum()) + np.repeat(first - np.cumsum(many) + many, many)
            count = level.counts[gram]
            own = (count - level.discounts[np.minimum(count, 3)]) / np.repeat(level.totals[history], many)
            p[line, level.keys[gram] % V] += own
        return p

    def _numbers(self, histories: Ints, length: int) -> Ints:
        """The number [N] of the last ``length`` tokens of each history among the n-grams of that length."""
        number = np.zeros(len(histories), dtype=np.int64)
        for step in range(length):
            token = histories[:, self.width - length + step]
            known = (number != UNSEEN) & (token != NO_TOKEN)
            number = self.levels[step].find(np.where(known, number * self.vocabulary.padded + token, UNSEEN))
        return number

    @property
    def _counted(self) -> list[Level]:
        """The lengths that occur: where every document is shorter than n, the longest do not."""
        return [level for level in self.levels if len(level.keys)]

    def _need_fit(self) -> None:
        if not self.levels:
            raise SightlineError("the table has counted nothing yet", "Fit it to a text first")

    def tensors(self) -> dict[str, Tensor]:
        """The counts as tensors, for a weights file: keys and counts of each length, and the discounts."""
        self._need_fit()
        named: dict[str, Tensor] = {}
        for length, level in enumerate(self.levels, start=1):
            named[f"keys.{length}"] = torch.from_numpy(level.keys)
            named[f"counts.{length}"] = torch.from_numpy(level.counts)
        named["discounts"] = torch.from_numpy(np.stack([level.discounts[1:] for level in self.levels]))
        return named

    @classmethod
    def from_tensors(cls, vocabulary: Vocabulary, tensors: Mapping[str, Tensor]) -> Table:
        """The table that gave these ``tensors``; raises ``SightlineError`` where they do not fit together."""
        n = sum(name.startswith("keys.") for name in tensors)
        wanted = {f"{part}.{length}" for length in range(1, n + 1) for part in ("keys", "counts")} | {"discounts"}
        if n < 2 or wanted != set(tensors) or tensors["discounts"].shape != (n, 3):
            raise SightlineError("these tensors are not a table of n-grams", "Give a file that a table was saved to")
        table = cls(n, vocabulary)
        histories = 1
        for length, discounts in enumerate(tensors["discounts"].double().numpy(), start=1):
            keys, counts = (tensors[f"{part}.{length}"].long().numpy() for part in ("keys", "counts"))
            rising = bool((np.diff(keys) > 0).all())
            within = not len(keys) or bool(keys[0] >= 0 and keys[-1] < histories * vocabulary.padded)
            if keys.shape != counts.shape or not rising or not within or bool((counts < 0).any()):
                raise SightlineError(
                    f"the table's counts of {length} tokens do not fit a vocabulary of {vocabulary.padded}",
                    "Use the tokenizer it was fitted with, or fit it again",
                )
            table.levels.append(
                Level.of(keys, counts, np.array([0.0, *discounts.tolist()]), histories, vocabulary.padded)
            )
            histories = len(keys)
        return table


class TableHead(nn.Module):
    """From histories to the table's probabilities: nothing is learned, so grades carry no gradient."""

    def __init__(self, table: Table) -> None:
        super().__init__()
        self.table = table

    def forward(self, states: Tensor, answers: Tensor, weights: Tensor) -> Graded:
        """Grades of answers [N] given histories [N, n - 1]; an answer of weight 0 has 0 nats, an impossible one inf."""
        real = (weights > 0).cpu().numpy()
        nats = np.zeros(len(real))
        with np.errstate(divide="ignore"):
            nats[real] = -np.log(self.table.probabilities(states.cpu().numpy()[real], answers.cpu().numpy()[real]))
        graded = torch.from_numpy(nats).to(states.device)
        total = (graded[weights > 0] * weights[weights > 0]).sum()
        return Graded(total, graded, torch.zeros_like(graded))

    def logits(self, states: Tensor) -> Tensor:
        """Log-probabilities [..., V] in double precision, already normalised; -inf where an id is never predicted."""
        histories = states.reshape(-1, self.table.width).cpu().numpy()
        with np.errstate(divide="ignore"):
            logs = torch.from_numpy(np.log(self.table.distribution(histories)))
        return logs.to(states.device).view(*states.shape[:-1], -1)
