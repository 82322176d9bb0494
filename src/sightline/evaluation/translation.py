"""How near written targets come to references: BLEU and chrF over a corpus, with intervals and signatures.

BLEU: Papineni et al. (2002); chrF: Popovic (2015); both by sacreBLEU (Post, 2018), whose signature says how.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF, CHRFScore

from ..errors import SightlineError

DRAWS = 1000  # of the bootstrap over sentences


@dataclass(frozen=True)
class CorpusScore:
    """One score of a corpus.

    Parameters
    ----------
    name : BLEU or chrF. value, low, high : from 0 to 100, with the 95% interval over drawn sentences.
    signature : how it was worked out, as sacreBLEU says it.
    """

    name: str
    value: float
    low: float
    high: float
    signature: str

    def __str__(self) -> str:
        return f"{self.name} {self.value:.2f} ({self.low:.2f} to {self.high:.2f})  {self.signature}"


class _Chrf(CHRF):
    """chrF whose drawn scores are all of one type: sacreBLEU takes no mean of some in float32 and some that are 0."""

    def _compute_score_from_stats(self, stats: list[int]) -> CHRFScore:
        found = super()._compute_score_from_stats(stats)
        found.score = float(found.score)
        return found


def translation_scores(
    written: Sequence[str], references: Sequence[str], draws: int = DRAWS
) -> tuple[CorpusScore, ...]:
    """BLEU and chrF of texts against one reference each.

    Chinese and Japanese references are cut into characters, as BLEU is used for them; all others by its own rule.

    Raises
    ------
    SightlineError : not as many texts as references, or none.
    """
    if len(written) != len(references) or not references:
        raise SightlineError(
            f"{len(written):,} texts do not stand beside {len(references):,} references", "Give one for each"
        )
    scores = []
    for metric in (BLEU(tokenize=cut_of(references), effective_order=False), _Chrf()):
        found = metric.corpus_score(list(written), [list(references)], n_bootstrap=draws if len(written) > 1 else 1)
        half = float(getattr(found, "_ci", 0.0)) if len(written) > 1 else 0.0
        middle = float(getattr(found, "_mean", found.score)) if half > 0 else found.score
        signature = str(metric.get_signature())
        scores.append(CorpusScore(found.name.rstrip("2+"), found.score, middle - half, middle + half, signature))
    return tuple(scores)


def cut_of(references: Sequence[str]) -> str:
    """How sacreBLEU is to cut texts like these into words."""
    text = "".join(references[:1000])
    kana, han = (len(re.findall(letters, text)) for letters in ("[\u3040-\u30ff]", "[\u4e00-\u9fff]"))
    if kana > 0.05 * len(text):
        return "char"
    return "zh" if han > 0.2 * len(text) else "13a"
