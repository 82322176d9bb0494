"""Use a model of pairs: the targets of sentences, of a file's lines, or of a corpus whose own targets are known."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from ..errors import SightlineError
from ..files import fingerprint, whole_file, write_json
from ..progress import say
from .ready import Dtype, drafting, ready
from .shards import EACH, forget, in_shards
from .texts import lines_of, several

if TYPE_CHECKING:
    from ..evaluation.translation import CorpusScore

SHOWN = 5  # texts that are shown where there are many


@dataclass(frozen=True)
class Translations:
    """What a model wrote for sources.

    Parameters
    ----------
    model : its folder. family : of the model. sources, texts : one beside the other.
    how : by which decoder. scores : against the corpus's own targets, where they are known.
    out : the file of the texts, a line each. next : a command to go on with.
    accepted : where a drafter went ahead, tokens that a round wrote, on average.
    """

    model: Path
    family: str
    sources: tuple[str, ...]
    texts: tuple[str, ...]
    how: str
    scores: tuple[CorpusScore, ...]
    out: Path | None
    next: str
    accepted: float | None = None

    def __str__(self) -> str:
        lines = list(self.texts if len(self.texts) <= SHOWN else ())
        if not lines:
            pairs = zip(self.sources[:SHOWN], self.texts, strict=False)
            lines = [line for source, text in pairs for line in (source, f"    {text}")]
            lines.append(f"... and {len(self.texts) - SHOWN:,} more" + (f" in {self.out}" if self.out else ""))
        rate = "" if self.accepted is None else f"; mean accepted length {self.accepted:.2f}"
        return "\n".join([*lines, *map(str, self.scores), f"    ({self.how}{rate})"])

    def record(self) -> dict[str, Any]:
        """As plain JSON."""
        return asdict(self) | {"model": str(self.model), "out": None if self.out is None else str(self.out)}


def translate(
    folder: Annotated[Path, tyro.conf.Positional],
    sources: Annotated[tuple[str, ...], tyro.conf.Positional],
    *,
    beams: int = 0,
    length_penalty: float = 1.0,
    length: int = 0,
    candidates: int = 5,
    iterations: int = 10,
    sampler: str = "",
    block: int = 0,
    sure: float = 0.0,
    merge: bool = False,
    drafter: str = "",
    lookahead: int = 5,
    part: Literal["train", "dev", "test"] = "test",
    sides: str = "",
    out: Path | None = None,
    slots: int = 8192,
    seed: int = 0,
    device: str = "auto",
    threads: int = 0,
    dtype: Dtype = "auto",
    json: Path | None = None,
) -> Translations:
    """Write the targets of sources with a model of pairs; of a corpus of pairs, also how near they come to its own.

    Examples:
        sightline translate runs/mine/model "A dog runs on the beach."
        sightline translate runs/mine/model news.en --out news.de
        sightline translate runs/mine/model multi30k/ --sides en-de --part test
        sightline translate runs/cmlm/model news.en --out news.de --iterations 4 --candidates 5

    Args:
        folder: a model folder, or the folder of a run.
        sources: texts, a file with a source in each line, or a corpus of pairs.
        beams: width of the search; 1: the likeliest token after token; 0: 5 where a text is written so, else 1.
        length_penalty: finished texts are ordered by log p / tokens ** this.
        length: most tokens of a target; 0: twice those of its source and a few, or as many where bang writes at once.
        candidates: how many lengths are tried, where a family tells lengths (nar, cmlm).
        iterations: in how many rounds it writes (nar in one).
        sampler: which places it writes when: refine, once, surest, ... (see generate), or how bang writes: next (token
            by token), blocks or once. Default: its own.
        block: with surest, places that are finished before the next so many are begun; 1: left to right. For bang,
            tokens that are written at a time.
        sure: of a block of bang's, the probability that each token after the first must have to be kept.
        merge: of equal tokens side by side keep one: what is written at once may repeat itself.
        drafter: goes ahead of a text that is written token by token, and the model checks: the same targets, one at a
            time, in fewer rounds (see generate): the folder of a quicker model, lookup, or self (bang).
        lookahead: most tokens that the drafter proposes in a round.
        part: of a corpus of pairs, which side of its split.
        sides: of a corpus of pairs, which are source and target (see train).
        out: write the targets to this file, a line each; the same command goes on where it was stopped.
        slots: places that are worked on together; fewer need less memory.
        seed: of whatever a family draws.
        device: auto, cpu, cuda, ...
        threads: of the CPU; 0: as many as there are cores.
        dtype: auto is float32, in which results repeat.
        json: also write sources, targets and scores to this file.
    """
    from ..evaluation.translation import translation_scores
    from ..hub import learned_pairs, weights_fingerprint
    from ..objectives.translating import translate as written

    given, truths = sources_of(several(sources), part, sides)
    if not any(source.strip() for source in given):
        raise SightlineError("every source is empty", "Give a text, a file with one in each line, or a corpus of pairs")
    settings: dict[str, Any] = {
        "beams": beams, "length_penalty": length_penalty, "length": length, "candidates": candidates,
        "iterations": iterations, "sampler": sampler, "block": block, "sure": sure, "merge": merge, "seed": seed,
    }  # fmt: skip
    how: list[str] = []
    tokens, rounds = 0, 0
    on = device, threads, dtype
    with ready(folder, "", *on) as (path, model), drafting(drafter, *on) as drafts:
        behind = model.objective.reads != "pairs" and learned_pairs(path)

        def work(few: Sequence[str]) -> list[str]:
            nonlocal tokens, rounds
            found = written(model, few, **settings, drafter=drafts, lookahead=lookahead, slots=slots, of_texts=behind)
            how[:] = [found[0].how]
            tokens, rounds = tokens + sum(one.tokens for one in found), rounds + sum(one.rounds for one in found)
            return [_line(text.text) for text in found]

        if out is None or len(given) <= EACH:
            texts = work(given)
        else:
            weights = weights_fingerprint(path)
            mark = fingerprint(weights, "\n".join(given), *settings.values())
            aside = Path(out).with_name(f".{Path(out).name}.shards")
            say(f"{len(given):,} sources; what is done lies in {aside} until all are")
            texts = list(in_shards(given, aside, mark, work))
    if out is not None:
        with whole_file(Path(out), "w") as handle:
            handle.write("".join(f"{text}\n" for text in texts))
        forget(Path(out).with_name(f".{Path(out).name}.shards"))
    scores = translation_scores(texts, truths) if truths else ()
    quicker = "--candidates 1" if model.objective.tells_lengths else "--beams 1"
    again = f"sightline translate {shlex.quote(str(path))} {shlex.quote(given[0][:40])} {quicker}"
    told = how[0] if how else "taken from shards"
    accepted = tokens / rounds if drafter and rounds else None
    result = Translations(path, model.objective.family, tuple(given), tuple(texts), told, scores, out, again, accepted)
    if json is not None:
        write_json(Path(json), result.record())
    return result


def _line(text: str) -> str:
    """A target on one line."""
    return " ".join(text.splitlines())


def sources_of(words: list[str], part: Literal["train", "dev", "test"], sides: str) -> tuple[list[str], list[str]]:
    """Sources, and their own targets where a corpus of pairs was named."""
    from ..data import kind_of, read
    from ..data.pairs import parted

    sources: list[str] = []
    for word in words:
        path = Path(word).expanduser()
        if len(word) > 255 or not path.exists():
            sources.append(word)
        elif path.is_dir() or kind_of(path) == "pairs" or sides:
            if len(words) > 1:
                raise SightlineError("a corpus of pairs stands alone", "Name it without other texts")
            corpus = read(path, sides=sides)
            if corpus.kind != "pairs":
                raise SightlineError(f"{path} holds texts, not pairs", "Name its sides, such as --sides en-de")
            pairs = [parted(document.text) for document in corpus.part(part)]
            return [source for source, _ in pairs], [target for _, target in pairs]
        else:
            sources += lines_of(path)
    return sources, []
