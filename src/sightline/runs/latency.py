"""How quickly models write on this machine: one text at a time, and in the largest batch that pays."""

from __future__ import annotations

import shlex
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from ..errors import SightlineError
from ..files import write_json
from .ready import Dtype, ready
from .recipe import Recipe
from .translate import sources_of

if TYPE_CHECKING:
    from ..evaluation.latency import Rate, Speed

Part = Literal["train", "dev", "test"]

PROMPT = 80  # letters of a document that a family without sources goes on from


@dataclass(frozen=True)
class Latency:
    """The speeds of models, the first of which the others are told beside.

    Parameters
    ----------
    models : their folders. families : of each. speeds : of each (see ``evaluation/latency.py``).
    texts : how many were written for. beams : width of the search. machine : device, threads and type.
    next : a command to go on with.
    """

    models: tuple[Path, ...]
    families: tuple[str, ...]
    speeds: tuple[Speed, ...]
    texts: int
    beams: int
    machine: str
    next: str

    def __str__(self) -> str:
        first = self.speeds[0]
        head = ("model", "S_1 texts/s", "tokens/s", "ms a text", "S_max texts/s", "tokens/s", "batch", "read, written")
        rows = [head]
        for path, speed in zip(self.models, self.speeds, strict=True):
            alone, most = speed.alone, speed.most
            rows.append(
                (
                    _name(path),
                    _beside(alone, first.alone),
                    f"{alone.tokens_per_second:,.0f}",
                    f"{1e3 * alone.middle / alone.texts:,.1f}",
                    _beside(most, first.most),
                    f"{most.tokens_per_second:,.0f}",
                    f"{most.batch}",
                    f"{speed.source:.1f}, {alone.tokens / alone.texts:.1f}",
                )
            )
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        table = ["  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
        ended = "; ".join(f"{_name(path)}: {one.stopped}" for path, one in zip(self.models, self.speeds, strict=True))
        passes = len(first.alone.seconds)
        return "\n".join(
            [
                *table,
                "",
                f"{self.texts:,} texts; median of {passes} passes [slowest to fastest]; {self.machine}",
                *(f"{_name(path)}: {one.how}" for path, one in zip(self.models, self.speeds, strict=True)),
                "S_1: one text at a time. S_max: the size of batch that wrote most texts a second, doubled until "
                f"it did not pay ({ended}).",
                "Cutting and joining of tokens is not timed; neither padding nor end marks are counted.",
            ]
        )

    def record(self) -> dict[str, Any]:
        """As plain JSON."""
        return {
            "texts": self.texts,
            "beams": self.beams,
            "machine": self.machine,
            "models": [
                {
                    "model": str(path),
                    "family": family,
                    "how": speed.how,
                    "read": speed.source,
                    "written": speed.alone.tokens / speed.alone.texts,
                    "S_1": _rate(speed.alone),
                    "S_max": _rate(speed.most),
                    "texts_per_second_by_batch": {str(batch): rate for batch, rate in speed.tried.items()},
                    "stopped": speed.stopped,
                }
                for path, family, speed in zip(self.models, self.families, self.speeds, strict=True)
            ],
        }


def _name(path: Path) -> str:
    return path.parent.name if path.name == "model" and path.parent.name else path.name


def _rate(rate: Rate) -> dict[str, Any]:
    return asdict(rate) | {
        "texts_per_second": rate.texts_per_second,
        "tokens_per_second": rate.tokens_per_second,
    }


def _beside(rate: Rate, first: Rate) -> str:
    """Texts a second with their range, and beside the first model's."""
    low, high = rate.texts / max(rate.seconds), rate.texts / min(rate.seconds)
    times = "" if rate is first else f" ({rate.texts_per_second / first.texts_per_second:.2f} x)"
    return f"{rate.texts_per_second:,.2f} [{low:,.2f} to {high:,.2f}]{times}"


def latency(
    folders: Annotated[tuple[Path, ...], tyro.conf.Positional],
    *,
    source_file: str = "",
    part: Part = "test",
    sides: str = "",
    texts: int = 64,
    beams: int = 1,
    length: int = 0,
    candidates: int = 5,
    iterations: int = 10,
    sampler: str = "",
    block: int = 0,
    repeats: int = 3,
    largest: int = 4096,
    device: str = "auto",
    threads: int = 0,
    dtype: Dtype = "auto",
    json: Path | None = None,
) -> Latency:
    """Measure how quickly models write, by both measures of Kasai et al. (2021); several stand beside the first.

    S_1 is one text at a time, S_max the size of batch that writes most; one figure alone flatters one kind of model.

    Examples:
        sightline latency runs/deep
        sightline latency runs/six-six runs/twelve-one --source-file news.en --dtype bfloat16
        sightline latency runs/causal --source-file prompts.txt --length 32

    Args:
        folders: folders of runs or models that write.
        source_file: a file with a source (or a prompt) in each line, or a corpus of pairs; none: the first run's own.
        part: of a corpus, which side of its split.
        sides: of a corpus of pairs, which are source and target (see train).
        texts: how many are written for, from the first on.
        beams: width of the search; 1: the likeliest token after token.
        length: most tokens written; 0: as the family does, or 40 after a prompt.
        candidates: of a family that tells lengths (nar, cmlm), how many are tried.
        iterations: of a family that writes in rounds, how many.
        sampler: of a family that writes in several orders, in which (see translate); none: its own.
        block: places that it writes before the next so many are begun; 0: its own.
        repeats: passes over the texts, the models in turns.
        largest: batch that is tried, at most.
        device: auto, cpu, cuda, ...
        threads: of the CPU; 0: as many as there are cores.
        dtype: auto is float32.
        json: also write every figure to this file.
    """
    import torch

    from ..evaluation.latency import speeds

    named: Any = folders  # in Python one folder may be given as it is
    paths = [Path(folder) for folder in ([named] if isinstance(named, str | Path) else named)]
    if not paths:
        raise SightlineError("no model was named", "Name the folder of one run, or of several")
    if texts < 1:
        raise SightlineError(f"{texts} texts measure nothing", "Use 1 or more")
    with ExitStack() as opened:
        found = [opened.enter_context(ready(path, "", device, threads, dtype)) for path in paths]
        models = [model for _, model in found]
        given = _given(source_file, paths[0], part, sides, models[0].objective.reads == "pairs")[:texts]
        measured = speeds(
            models,
            given,
            beams=beams,
            length=length,
            candidates=candidates,
            iterations=iterations,
            sampler=sampler,
            block=block,
            repeats=repeats,
            largest=largest,
        )
        place = models[0].device.type
        kind = str(next(models[0].parameters()).dtype).removeprefix("torch.")
    where = torch.cuda.get_device_name() if place == "cuda" else f"{place}, {_threads(torch.get_num_threads())}"
    result = Latency(
        tuple(path for path, _ in found),
        tuple(model.objective.family for model in models),
        tuple(measured),
        len(given),
        beams,
        f"{where}, {kind}",
        f"sightline latency {' '.join(shlex.quote(str(path)) for path in paths)} --beams {5 if beams == 1 else 1}",
    )
    if json is not None:
        write_json(Path(json), result.record())
    return result


def _threads(count: int) -> str:
    return f"{count} thread{'s' * (count > 1)}"


def _given(source_file: str, folder: Path, part: Part, sides: str, pairs: bool) -> list[str]:
    """Sources or prompts: of a file's lines, of a corpus, or of that which the run was trained on."""
    if not source_file:
        recipe = next((one for one in (folder, folder.parent) if (one / "recipe.toml").is_file()), None)
        if recipe is None:
            raise SightlineError(f"{folder} does not say what it was trained on", "Name texts: --source-file FILE")
        source = Recipe.load(recipe / "recipe.toml").source
        source_file, sides = source.corpus, sides or source.sides
        if not Path(source_file).exists():
            raise SightlineError(
                f"{source_file}, which {folder} was trained on, is not there",
                "Name texts: --source-file FILE",
            )
    elif not Path(source_file).expanduser().exists():
        raise SightlineError(f"{source_file} does not exist", "Name a file with a text in each line, or a corpus")
    if pairs:
        return [text for text in sources_of([source_file], part, sides)[0] if text.strip()]
    if Path(source_file).expanduser().is_file():
        texts = sources_of([source_file], part, "")[0]
    else:
        from ..data import read

        texts = [line for document in read(source_file).part(part) for line in document.text.splitlines()]
    return [text[:PROMPT] for text in texts if text.strip()]
