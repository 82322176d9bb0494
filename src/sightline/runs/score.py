"""Use a model: bits per byte of texts, with class and interval."""

from __future__ import annotations

import shlex
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from ..errors import SightlineError
from .ready import Dtype, kept, quoted, ready, two_sided
from .texts import Cut, Part, read_all

if TYPE_CHECKING:
    from ..evaluation.score import Score

SHOWN = 20  # documents that are listed one by one


@dataclass(frozen=True)
class ScoredDocument:
    """What one document got: ``bits`` over ``bytes`` of it."""

    id: str
    bits: float
    bytes: int

    @property
    def bits_per_byte(self) -> float:
        return self.bits / self.bytes


@dataclass(frozen=True)
class Scoring:
    """What a model makes of texts.

    Parameters
    ----------
    model : its folder. family : of the model.
    scores : over all documents, each with class, column, context rule and 95% interval.
    documents : the first score, one by one. next : a command to go on with.
    """

    model: Path
    family: str
    scores: tuple[Score, ...]
    documents: tuple[ScoredDocument, ...]
    next: str

    def __str__(self) -> str:
        unit = self.scores[0].unit
        lines = [f"{one.bits_per_byte:8.3f} {unit}  {one.bytes:>11,} bytes  {one.id}" for one in self.documents[:SHOWN]]
        if len(self.documents) > SHOWN:
            lines.append(f"... and {len(self.documents) - SHOWN:,} more documents (--json FILE holds them all)")
        for score in self.scores:
            lines += ["", str(score), *(f"    {words}" for words in (score.context_rule, score.note) if words)]
        return "\n".join(lines)

    def record(self) -> dict[str, Any]:
        """As plain JSON."""
        return {
            "model": str(self.model),
            "family": self.family,
            "scores": [score.record() for score in self.scores],
            "documents": [asdict(one) | {"bits_per_byte": one.bits_per_byte} for one in self.documents],
        }


def score(
    folder: Annotated[Path, tyro.conf.Positional],
    texts: Annotated[tuple[str, ...], tyro.conf.Positional] = (),
    *,
    part: Part = "all",
    continuation: bool = False,
    both_sides: bool = False,
    infilling: bool = False,
    share: float = 1.0,
    field: str = "text",
    documents: Cut = "file",
    tokenizer: str = "",
    seed: int = 0,
    device: str = "auto",
    threads: int = 0,
    dtype: Dtype = "auto",
    json: Path | None = None,
) -> Scoring:
    """Measure texts in bits per byte, with the score's class, column, context rule and 95% interval.

    Examples:
        sightline score runs/mine/model "A sentence of your own."
        sightline score runs/mine/model corpus/ --part test --json scores.json
        sightline score runs/mine/model - < page.txt

    Args:
        folder: a model folder, or the folder of a run.
        texts: texts, files or folders (as for train), python-docs, or - for standard input.
        part: of a corpus: all of it, or one side of the split that training makes.
        continuation: also score the second half of each document given the first.
        both_sides: ask each token given all others, where the family has that way too (hybrid): a pseudo score.
        infilling: also score a blank in the middle of each document given both sides (blank).
        share: of the tokens to ask, for families that need a pass for each one (masked).
        field: the field of a record that holds the text.
        documents: what a document of a .txt file is.
        tokenizer: a tokenizer.json, for a folder that has none.
        seed: of the intervals, and of the share.
        device: auto, cpu, cuda, ...
        threads: of the CPU; 0: as many as there are cores.
        dtype: auto is float32, in which results repeat.
        json: also write the scores, and those of every document, to this file.
    """
    from ..evaluation.bits import continuation_bits_per_byte, infilling_bits_per_byte, whole_texts
    from ..evaluation.sample import all_pieces
    from ..evaluation.score import scored

    if not 0 < share <= 1:
        raise SightlineError(f"a share of {share} is not one of the tokens", "Use a number above 0, up to 1")
    found = read_all(texts, part=part, field=field, documents=documents)
    with ready(folder, tokenizer, device, threads, dtype) as (path, model):
        model = two_sided(model) if both_sides else model
        sample = all_pieces(found, model.tokenizer, share, seed)
        whole, *halves = whole_texts(model, sample)
        if whole.missing and not (model.tokenizer.lossless or sample.whole):
            raise SightlineError(f"no bits per byte: {whole.missing}", "Use a model with a byte-level tokenizer")
        measured = [whole, *halves, *([continuation_bits_per_byte(model, sample)] if continuation else [])]
        measured += [infilling_bits_per_byte(model, sample)] if infilling else []
        known = next((one for one in measured if not one.missing), None)
        if known is None:
            other = (
                "Give --continuation or --infilling, for what it was trained on"
                if model.objective.score_class in ("exact", "nar")
                else "Use a model with a family whose answers are a distribution over tokens"
            )
            raise SightlineError(f"no bits per byte: {whole.missing}", other)
    bits, sizes = [0.0] * len(found), [0] * len(found)
    for piece, top, bottom in zip(sample.pieces, known.top, known.bottom, strict=True):
        bits[piece.document] += float(top)
        sizes[piece.document] += int(bottom)
    each = [ScoredDocument(one.id, bits[at], sizes[at]) for at, one in enumerate(found) if sizes[at]]
    again = f"sightline see {shlex.quote(str(path))} --text {quoted(found[0].text)}"
    scores = tuple(scored([one], seed) for one in measured)
    return kept(Scoring(path, model.objective.family, scores, tuple(each), again), json)
