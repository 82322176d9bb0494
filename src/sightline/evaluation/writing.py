"""Writing: the same held-out passages and length for all families; what each is given stands in a column.

    left  [ to be written ]  right
    ----> causal, prefix           a continuation, given the left
          backward <--------       a beginning, given the right
    ----> masked <----------       a blank, given both; families of one side draw candidates and keep the one under
                                   which the rest of the passage is likeliest
    source ----> target            of pairs, the likeliest target that a family finds

chrF: Popovic (2015), by sacrebleu; distinct-2: Li et al. (2016); repetition: Welleck et al. (2020), seq-rep-4.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from sacrebleu.metrics.chrf import CHRF

from ..decoders.sampling import Sampling
from ..objectives.filling import fill
from ..objectives.model import Model
from ..objectives.pen import Text
from ..objectives.translating import translate, writes_targets
from ..objectives.writing import generate
from .passage import Passage
from .score import Measured

WORDS = re.compile(
    r"[\u3040-\u30ff\u3400-\u9fff]|[^\W\u3040-\u30ff\u3400-\u9fff]+|[^\w\s]"
)  # a Han character is a word
NAMES = ("chrf", "distinct_2", "repetition")


@dataclass(frozen=True)
class Written:
    """One passage as a family wrote it.

    Parameters
    ----------
    kind : continuation, beginning or blank. given : the text it was given, ``[...]`` where it wrote.
    side : left, right or both. how : by which decoder.
    film : see ``Text``.
    """

    kind: str
    given: str
    side: str
    written: str
    truth: str
    how: str
    film: tuple[tuple[int, int, str], ...] = ()

    def record(self) -> dict[str, Any]:
        """The sample as plain JSON."""
        return asdict(self)


@dataclass(frozen=True)
class Writing:
    """Scores per passage, and the texts."""

    measured: tuple[Measured, ...]
    samples: tuple[Written, ...]


def written_by(
    model: Model, passages: Sequence[Passage], *, sampling: Sampling | None = None, seed: int = 0
) -> Writing:
    """Let a family continue (or lead up to) each passage, and fill the blank in each; both against what stood there."""
    if not passages or not model.objective.writes:
        short = "the test documents are shorter than a passage"
        why = short if model.objective.writes else f"{model.objective.family} writes nothing"
        names = [*NAMES, "infill_chrf"]
        return Writing(tuple(Measured.none(name, _unit(name), "task", "writing", why) for name in names), ())
    if passages[0].pair:
        return _targets(model, passages)
    from_right = model.objective.writes_from == "right"
    prompts = [passage.right if from_right else passage.left for passage in passages]
    blanks: list[list[str | int]] = [[passage.left, passage.tokens, passage.right] for passage in passages]
    drafts = generate(model, prompts, length=passages[0].tokens, sampling=sampling, seed=seed, films=1)
    fills = fill(model, blanks, sampling=sampling, seed=seed)
    written = [_draft(passage, text, from_right) for passage, text in zip(passages, drafts, strict=True)]
    filled = [_blank(passage, text) for passage, text in zip(passages, fills, strict=True)]
    measured = (*texts_scored(written), *texts_scored(filled, "infill_")[:1])
    both = (*filled, *written) if model.objective.writes_from == "both" else (*written, *filled)
    return Writing(measured, both)


def _targets(model: Model, passages: Sequence[Passage]) -> Writing:
    """The likeliest target of each source: by a family of pairs, or by one that goes on behind a source."""
    sources = [passage.left for passage in passages]
    objective = model.objective
    if not writes_targets(objective):
        why = f"{objective.family} writes no target behind a source"
        return Writing(tuple(Measured.none(name, _unit(name), "task", "writing", why) for name in NAMES), ())
    texts = translate(model, sources, of_texts=objective.reads != "pairs")
    written = [
        Written("continuation", f"{passage.left}\n", text.given, text.pieces[0], passage.truth, text.how)
        for passage, text in zip(passages, texts, strict=True)
    ]
    return Writing(texts_scored(written), tuple(written))


def copied(passages: Sequence[Passage], copies: Sequence[str]) -> tuple[Measured, ...]:
    """The floor: random stretches of the training text in place of what a family would write."""
    if not passages:
        return ()
    texts = [
        Written("continuation", passage.left, "nothing", copy, passage.truth, "a random stretch of the training text")
        for passage, copy in zip(passages, copies, strict=True)
    ]
    return (*texts_scored(texts), *([] if passages[0].pair else texts_scored(texts, "infill_")[:1]))


def texts_scored(texts: Sequence[Written], prefix: str = "") -> tuple[Measured, ...]:
    """chrF (0 to 100, mean over passages), distinct-2 over all passages, and repetition within them.

    distinct-2 is the share of different pairs of words among all pairs: each pair counts as one over how often it
    occurs, so that the share is a ratio of sums over passages.
    """
    chrf = CHRF()
    ones = np.ones(len(texts))
    likeness = np.array([chrf.sentence_score(text.written, [text.truth]).score for text in texts])
    words = [WORDS.findall(text.written) for text in texts]
    pairs = [list(pairwise(one)) for one in words]
    often = Counter(pair for one in pairs for pair in one)
    distinct = np.array([sum(1 / often[pair] for pair in one) for one in pairs])
    fours = [list(zip(one, one[1:], one[2:], one[3:], strict=False)) for one in words]
    again = np.array([float(len(one) - len(set(one))) for one in fours])
    sides = sorted({text.side for text in texts})
    column, note = " and ".join(sides), texts[0].how
    return (
        _measured(f"{prefix}chrf", likeness, ones, column, note),
        _measured(f"{prefix}distinct_2", distinct, np.array([float(len(one)) for one in pairs]), column, note),
        _measured(f"{prefix}repetition", again, np.array([float(len(one)) for one in fours]), column, note),
    )


def _measured(name: str, top: Any, bottom: Any, column: str, note: str) -> Measured:
    if not bottom.sum() > 0:
        return Measured.none(name, _unit(name), "task", column, "too few words were written")
    rule = f"given the {column}" if column in ("left", "right") else f"given {column}"
    return Measured(name, _unit(name), "task", column, top, bottom, rule, note)


def _unit(name: str) -> str:
    return "chrF" if name.endswith("chrf") else "share of word pairs" if name.endswith("2") else "share of word 4-grams"


def _draft(passage: Passage, text: Text, from_right: bool) -> Written:
    kind, given = ("beginning", f"[...]{passage.right}") if from_right else ("continuation", f"{passage.left}[...]")
    return Written(kind, given, text.given, text.pieces[0], passage.truth, text.how, text.film)


def _blank(passage: Passage, text: Text) -> Written:
    given = f"{passage.left}[...]{passage.right}"
    return Written("blank", given, text.given, text.pieces[0], passage.truth, text.how)
