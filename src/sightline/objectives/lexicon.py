"""Words and their vectors: what is like a word, and what is to one word as another is to a third.

    king - man + woman  ->  queen        by cosine; the three that were given are left out

Mikolov et al., Linguistic Regularities in Continuous Space Word Representations (2013).
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from ..errors import SightlineError
from ..stacks.bag import Bag
from ..stacks.transformer import Transformer
from .model import token_table

if TYPE_CHECKING:
    from .model import Model

SPACE = "␣"  # how a token shows the space before its word


@dataclass(frozen=True, eq=False)
class Lexicon:
    """Words and one vector for each.

    Parameters
    ----------
    words : [W], each once; the commonest first where that is known. vectors : [W, width] float32.

    Raises
    ------
    SightlineError : numbers that do not fit, or a word twice.
    """

    words: tuple[str, ...]
    vectors: NDArray[np.float32]

    def __post_init__(self) -> None:
        if self.vectors.ndim != 2 or len(self.words) != len(self.vectors):
            raise SightlineError(
                f"{len(self.words):,} words and vectors of shape {self.vectors.shape} do not fit", "Give one for each"
            )
        if len(self._numbers) != len(self.words):
            twice = next(word for at, word in enumerate(self.words) if self._numbers[word] != at)
            raise SightlineError(f"the word {twice!r} has two vectors", "Keep one of them")

    @classmethod
    def of(cls, model: Model) -> Lexicon:
        """The words of a model, as its tokenizer shows them, with their input vectors.

        A bag's words are those of its text. Spaces before words show as ``␣``.

        Raises
        ------
        SightlineError : the model keeps no vector for each token.
        """
        stack, show = model.stack, model.tokenizer.show
        if isinstance(stack, Bag):
            seen = stack.counts > 0
            ids, vectors = stack.words[seen].tolist(), stack.inputs[seen]
        elif isinstance(stack, Transformer):
            ids = model.objective.vocabulary.ordinary.tolist()
            vectors = token_table(stack).weight[torch.as_tensor(ids)]
        else:
            raise SightlineError(
                f"{model.objective.family} keeps no vectors of words", "Use cbow, or a family with a transformer"
            )
        return cls(tuple(show(id) for id in ids), vectors.detach().float().cpu().numpy())

    @cached_property
    def _numbers(self) -> dict[str, int]:
        return {word: at for at, word in enumerate(self.words)}

    @cached_property
    def directions(self) -> NDArray[np.float32]:
        """The vectors at length 1; a vector of zeros stays one."""
        lengths = np.linalg.norm(self.vectors, axis=1, keepdims=True)
        return np.asarray(self.vectors / np.maximum(lengths, 1e-12), np.float32)

    def __contains__(self, word: str) -> bool:
        return word in self._numbers or SPACE + word in self._numbers

    def number(self, word: str) -> int:
        """Where a word stands; of tokens, the one with a space before it is meant first.

        Raises
        ------
        SightlineError : it has no vector; words that look like it are named.
        """
        found = self._numbers.get(SPACE + word, self._numbers.get(word))
        if found is not None:
            return found
        close = difflib.get_close_matches(word, self.words, n=3)
        raise SightlineError(
            f"{word!r} is none of the {len(self.words):,} words",
            f"Did you mean {', '.join(close)}?" if close else "Use a word of the text that was fitted",
        )

    def similar(self, word: str, count: int = 10) -> list[tuple[str, float]]:
        """The words whose vectors point most nearly the same way, with their cosines, the nearest first."""
        at = self.number(word)
        return self._nearest(self.directions[at], {at}, count)

    def analogy(self, one: str, other: str, third: str, count: int = 10) -> list[tuple[str, float]]:
        """What is to ``third`` as ``other`` is to ``one``: words near ``other - one + third``, with their cosines."""
        numbers = [self.number(word) for word in (one, other, third)]
        a, b, c = self.directions[numbers]
        wanted = b - a + c
        return self._nearest(wanted / max(float(np.linalg.norm(wanted)), 1e-12), set(numbers), count)

    def _nearest(self, direction: NDArray[np.float32], without: set[int], count: int) -> list[tuple[str, float]]:
        if count < 1:
            raise SightlineError(f"{count} words are none", "Use 1 or more")
        cosines = self.directions @ direction
        cosines[list(without)] = -np.inf
        best = np.argsort(-cosines, kind="stable")[: min(count, len(cosines) - len(without))]
        return [(self.words[at], float(cosines[at])) for at in best]

    def answers(self, questions: Sequence[tuple[str, str, str]]) -> list[str]:
        """The best answer to each analogy; as ``analogy``, many at once."""
        found: list[str] = []
        for start in range(0, len(questions), 512):
            numbers = np.array([[self.number(word) for word in one] for one in questions[start : start + 512]])
            a, b, c = (self.directions[numbers[:, at]] for at in range(3))
            cosines = (b - a + c) @ self.directions.T
            np.put_along_axis(cosines, numbers, -np.inf, axis=1)
            found += [self.words[at] for at in cosines.argmax(1)]
        return found
