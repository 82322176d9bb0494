"""Sequence-level distillation: a corpus of pairs whose targets are what a teacher writes (Kim and Rush, 2016).

    corpus   train  A dog barks.  Ein Hund bellt.  --teacher, beam-->  train  A dog barks.  Der Hund bellt.
             dev, test                             --as they are---->  dev, test

What one model writes varies less than what many people wrote, so that places which ignore each other (nar, cmlm) agree
more often. Give it to all that are compared: a model that writes left to right learns from it too.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from json import dumps
from pathlib import Path
from typing import Annotated, Any

import tyro

from ..errors import SightlineError
from ..files import fingerprint, locked, read_json, whole_folder, write_json
from ..progress import bar, say
from .ready import Dtype, ready
from .shards import forget, in_shards

MADE_OF = ".made_of.json"  # in the folder: hidden, so that it is no part of the corpus
EACH = 500  # sources of a shard: what a stop loses at most


@dataclass(frozen=True)
class Distilled:
    """A corpus of pairs with a teacher's targets.

    Parameters
    ----------
    folder : of the corpus. teacher : folder of the model. how : by which decoder it wrote.
    pairs : of the training part. left_out : sources too long for the teacher, or whose target came out empty or equal.
    next : a command to go on with.
    """

    folder: Path
    teacher: Path
    how: str
    pairs: int
    left_out: int
    next: str

    def __str__(self) -> str:
        return f"{self.pairs:,} pairs, {self.left_out:,} left out\n    ({self.how})\n{self.folder}"


def distill(
    teacher: Annotated[Path, tyro.conf.Positional],
    corpus: Annotated[str, tyro.conf.Positional],
    *,
    out: Path,
    beams: int = 5,
    length_penalty: float = 1.0,
    length: int = 0,
    candidates: int = 5,
    iterations: int = 10,
    sampler: str = "",
    block: int = 0,
    merge: bool = False,
    sides: str = "",
    slots: int = 8192,
    seed: int = 0,
    device: str = "auto",
    threads: int = 0,
    dtype: Dtype = "auto",
    json: Path | None = None,
) -> Distilled:
    """Make a corpus of pairs whose training targets are a model's; dev and test stay. It goes on where it was stopped.

    Examples:
        sightline distill runs/teacher multi30k/ --sides en-de --out distilled/
        sightline compare distilled/ --families seq2seq,nar,cmlm --budget 10m

    Args:
        teacher: a model folder of a family of pairs, or the folder of a run.
        corpus: of pairs (see train).
        out: the folder of the new corpus.
        beams: width of the search, where the teacher writes left to right; 1: the likeliest token after token.
        length_penalty: finished texts are ordered by log p / tokens ** this.
        length: most tokens of a target; 0: twice those of its source and a few.
        candidates: how many lengths are tried, where the teacher tells lengths (nar, cmlm).
        iterations: in how many rounds such a teacher writes.
        sampler: which places it writes when (see translate).
        block: with surest, places that are finished before the next so many are begun.
        merge: of equal tokens side by side keep one.
        sides: which of the corpus are source and target (see train).
        slots: places that are worked on together; fewer need less memory.
        seed: of whatever a family draws.
        device: auto, cpu, cuda, ...
        threads: of the CPU; 0: as many as there are cores.
        dtype: auto is float32, in which results repeat.
        json: also write what became of it to this file.
    """
    from ..data import read
    from ..data.pairs import parted
    from ..hub import weights_fingerprint
    from ..objectives.translating import translate

    found = read(corpus, sides=sides)
    if found.kind != "pairs":
        raise SightlineError(f"{corpus} holds texts, not pairs", "Name its sides, such as --sides en-de")
    settings: dict[str, Any] = {
        "beams": beams, "length_penalty": length_penalty, "length": length, "candidates": candidates,
        "iterations": iterations, "sampler": sampler, "block": block, "merge": merge, "seed": seed,
    }  # fmt: skip
    out = Path(out)
    with ready(teacher, "", device, threads, dtype) as (path, model):
        mark = {
            "teacher": fingerprint(weights_fingerprint(path), model.objective.family),
            "corpus": found.fingerprint,
            "setting": fingerprint(*settings.values()),
        }
        if (made := _made(out, mark)) is not None:
            return _told(out, path, made, json)
        sources = [parted(document.text)[0] for document in found.train]
        how = [""]

        def work(few: Sequence[str]) -> list[str]:
            fits = (len(model.tokenizer.encode(source)) + 2 <= model.context for source in few)  # and two marks
            texts = translate(
                model, [source if room else "" for source, room in zip(few, fits, strict=True)], **settings, slots=slots
            )
            how[0] = texts[0].how
            return [text.text for text in texts]

        aside = out.with_name(f".{out.name}.shards")
        say(f"{len(sources):,} sources; what is done lies in {aside} until all are")
        pairs: list[tuple[str, str]] = []
        with locked(aside), bar("distilling", len(sources), "sources") as shown:
            targets = in_shards(sources, aside, fingerprint(*mark.values()), work, EACH)
            for source, target in zip(sources, targets, strict=True):
                pairs += [(source, target)] if _is_pair(source, target) else []
                shown.advance()
            if not pairs:
                raise SightlineError("the teacher wrote no target that is one", "Train it longer, or name another")
            made = mark | {"how": how[0], "pairs": len(pairs), "left_out": len(sources) - len(pairs)}
            with whole_folder(out) as folder:
                _write(folder / "train.jsonl", pairs)
                for part in ("dev", "test"):
                    _write(folder / f"{part}.jsonl", [parted(document.text) for document in found.part(part)])
                write_json(folder / MADE_OF, made)
            forget(aside)
    return _told(out, path, made, json)


def _made(out: Path, mark: dict[str, str]) -> dict[str, Any] | None:
    """What is told of the folder where it is whole already; None where it is to be made.

    Raises
    ------
    SightlineError : it holds something else.
    """
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return None
    if not (out / MADE_OF).is_file():
        raise SightlineError(f"{out} holds something else than a distilled corpus", "Choose another --out")
    told: dict[str, Any] = read_json(out / MADE_OF)
    for name, value in mark.items():
        if told.get(name) != value:
            raise SightlineError(f"{out} was made with another {name}", "Choose another --out, or remove it")
    return told


def _told(out: Path, teacher: Path, told: dict[str, Any], file: Path | None) -> Distilled:
    again = f"sightline compare {shlex.quote(str(out))} --families seq2seq,nar,cmlm"
    result = Distilled(out, teacher, told["how"], told["pairs"], told["left_out"], again)
    if file is not None:
        write_json(Path(file), asdict(result) | {"folder": str(out), "teacher": str(teacher)})
    return result


def _is_pair(source: str, target: str) -> bool:
    from ..data.pairs import joined

    try:
        joined(source, target)
    except ValueError:
        return False
    return True


def _write(path: Path, pairs: Sequence[tuple[str, str]]) -> None:
    """A record a line: a text may hold tabs and ends of lines."""
    with open(path, "w", encoding="utf-8", newline="\n") as handle:
        for source, target in pairs:
            handle.write(dumps({"source": source, "target": target}, ensure_ascii=False) + "\n")
