"""How good word vectors are: do they rank pairs of words as people do, and do they answer analogies.

    tiger  cat     7.35      rank correlation (Spearman) of cosines with people's numbers; pairs with a word that has
    stock  egg     1.81      no vector are left out, and counted
    Athens Greece  Baghdad ?     share of analogies of which the nearest word is the right one

WordSim-353: Finkelstein et al. (2002); SimLex-999: Hill et al. (2015); MEN: Bruni et al. (2014); analogies: Mikolov et
al., Efficient Estimation of Word Representations in Vector Space (2013).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.stats import spearmanr

from ..errors import SightlineError
from ..objectives.lexicon import Lexicon


@dataclass(frozen=True)
class Agreement:
    """What vectors reached on one list.

    Parameters
    ----------
    value : rank correlation, or share of right answers. asked : entries all of whose words have vectors, of ``of``.
    """

    value: float
    asked: int
    of: int


@dataclass(frozen=True)
class Question:
    """``one`` is to ``other`` as ``third`` is to ``answer``; ``section`` is of the list it stands in."""

    section: str
    one: str
    other: str
    third: str
    answer: str


def pairs_in(path: Path) -> list[tuple[str, str, float]]:
    """Pairs of words with a number, three words a line.

    Raises
    ------
    SightlineError : another kind of line.
    """
    pairs = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        try:
            one, other, value = line.split()
            pairs.append((one, other, float(value)))
        except ValueError as error:
            raise SightlineError(f"{path}, line {number} is no pair with a number: {line!r}", "Correct it") from error
    return pairs


def questions_in(path: Path) -> list[Question]:
    """Analogies, four words a line, in sections that begin with ``: name``.

    Raises
    ------
    SightlineError : another kind of line.
    """
    questions, section = [], ""
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        words = line.split()
        if words[:1] == [":"]:
            section = " ".join(words[1:])
        elif len(words) == 4:
            questions.append(Question(section, *words))
        else:
            raise SightlineError(f"{path}, line {number} is no analogy: {line!r}", "Write four words")
    return questions


def ranked_alike(lexicon: Lexicon, pairs: Sequence[tuple[str, str, float]]) -> Agreement:
    """Rank correlation of cosines with people's numbers, over pairs whose words both have vectors."""
    known = [pair for pair in pairs if pair[0] in lexicon and pair[1] in lexicon]
    if len(known) < 3:
        return Agreement(float("nan"), len(known), len(pairs))
    ones = lexicon.directions[[lexicon.number(one) for one, _, _ in known]]
    others = lexicon.directions[[lexicon.number(other) for _, other, _ in known]]
    found = spearmanr((ones * others).sum(1), np.array([value for _, _, value in known]))
    return Agreement(float(found.statistic), len(known), len(pairs))


def answered_right(lexicon: Lexicon, questions: Iterable[Question]) -> Agreement:
    """Share of analogies whose nearest word is the right one, over those whose words all have vectors."""
    asked = list(questions)
    known = [one for one in asked if all(word in lexicon for word in (one.one, one.other, one.third, one.answer))]
    if not known:
        return Agreement(float("nan"), 0, len(asked))
    found = lexicon.answers([(one.one, one.other, one.third) for one in known])
    right = sum(word == lexicon.words[lexicon.number(one.answer)] for word, one in zip(found, known, strict=True))
    return Agreement(right / len(known), len(known), len(asked))
