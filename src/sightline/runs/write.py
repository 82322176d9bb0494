"""Use a model: write on from a text, and fill its blanks."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from ..errors import SightlineError
from ..files import whole_file
from .ready import Dtype, drafting, kept, quoted, ready, two_sided
from .texts import Cut, prompts

if TYPE_CHECKING:
    from ..objectives.model import Model
    from ..objectives.pen import Text
    from ..objectives.writing import Engine

Loop = Literal["sightline", "ctranslate2"]


@dataclass(frozen=True)
class Writing:
    """What a model wrote.

    Parameters
    ----------
    model : its folder. family : of the model.
    prompts : as given. texts : several for each prompt where several were asked for, side by side.
    next : a command to go on with.
    """

    model: Path
    family: str
    prompts: tuple[str, ...]
    texts: tuple[Text, ...]
    next: str

    def __str__(self) -> str:
        shown = [f"{text.text}\n    ({_origin(text)})" for text in self.texts]
        return "\n\n".join([*shown, *([self._drafting] if self.texts[0].drafter else [])])

    @property
    def accepted(self) -> float:
        """Mean accepted length: tokens that a round wrote, on average; 0 where rounds were not counted."""
        return sum(text.tokens for text in self.texts) / max(1, sum(text.rounds for text in self.texts))

    @property
    def _drafting(self) -> str:
        tokens, rounds = (sum(getattr(text, name) for text in self.texts) for name in ("tokens", "rounds"))
        return (
            f"drafted by {self.texts[0].drafter}: {tokens:,} tokens in {rounds:,} rounds, "
            f"mean accepted length {self.accepted:.2f}"
        )

    def record(self) -> dict[str, Any]:
        """As plain JSON."""
        each = max(1, len(self.texts) // max(1, len(self.prompts)))
        texts = [{"prompt": self.prompts[at // each]} | asdict(text) for at, text in enumerate(self.texts)]
        drafted = {"mean_accepted_length": self.accepted} if self.texts and self.texts[0].drafter else {}
        return {"model": str(self.model), "family": self.family, **drafted, "texts": texts}


def _origin(text: Text) -> str:
    sides = "both sides" if text.given == "both" else f"the {text.given}"
    return f"given {sides}; {text.how}; log p {text.logprob:.1f}"


def generate(
    folder: Annotated[Path, tyro.conf.Positional],
    texts: Annotated[tuple[str, ...], tyro.conf.Positional] = (),
    *,
    length: int = 64,
    temperature: float = 0.8,
    top_k: int = 0,
    top_p: float = 0.95,
    min_p: float = 0.0,
    greedy: bool = False,
    beams: int = 1,
    n: int = 1,
    iterations: int = 10,
    sampler: str = "",
    block: int = 0,
    sure: float = 0.0,
    both_sides: bool = False,
    engine: Loop = "sightline",
    drafter: str = "",
    lookahead: int = 5,
    field: str = "text",
    documents: Cut = "file",
    tokenizer: str = "",
    seed: int = 0,
    device: str = "auto",
    threads: int = 0,
    dtype: Dtype | Literal["int8"] = "auto",
    film: Path | None = None,
    json: Path | None = None,
) -> Writing:
    """Write on from a text: what follows it or, for a backward model, what comes before.

    Examples:
        sightline generate runs/mine/model "The function returns" --length 40
        sightline generate runs/mine/model "The function returns" --greedy
        sightline generate runs/mine/model - --documents lines < prompts.txt
        sightline generate runs/mine/model "The function returns" --greedy --drafter lookup

    Args:
        folder: a model folder, or the folder of a run.
        texts: what to write on from, or - for standard input; nothing: from the empty text.
        length: most tokens to write.
        temperature: of the draws; below 1 plays safe, 0 takes the likeliest.
        top_k: draw from the k likeliest only; 0: from all.
        top_p: draw from the fewest likeliest that reach this probability together; 1: from all.
        min_p: draw from those with at least this share of the likeliest one's probability; 0: from all.
        greedy: take the likeliest token each time.
        beams: search this wide for the likeliest text instead of drawing; 1: draw.
        n: texts for each prompt.
        iterations: rounds of refinement, for families that see both sides; of each block, for those that write blocks.
        sampler: refine (write all, open the least sure again), surest or random (a few places a round), ancestral or
            remasking (masked diffusion run backwards), for families that fill masks; next (token by token), blocks or
            once (all at once), for bang. Default: the family's own.
        block: with surest or random, places that are finished before the next so many are begun; 0: no blocks. For
            bang, tokens that are written at a time.
        sure: of a block of bang's, the probability that each token after the first must have to be kept.
        both_sides: write as a family that sees both sides, where the family has that way too (hybrid).
        engine: whose loop writes: our own, or ctranslate2 (pip install 'sightline[ctranslate2]'), on the CPU, for the
            architectures that it holds (GPT-2's and LLaMA's).
        drafter: goes ahead of the model, which checks several tokens in one pass and so writes the same texts sooner:
            the folder of a quicker model with the same tokenizer, lookup (what followed in the text before), or self
            (bang, block_diffusion). Default: none.
        lookahead: most tokens that the drafter proposes in a round.
        field: the field of a record on standard input that holds the text.
        documents: what a text on standard input is: all of it, its lines, or what blank lines part.
        tokenizer: a tokenizer.json, for a folder that has none.
        seed: of the draws.
        device: auto, cpu, cuda, ...
        threads: of the CPU; 0: as many as there are cores.
        dtype: auto is float32, in which results repeat; int8 with an engine only.
        film: also draw how the first text was written, round by round, as an animated SVG file.
        json: also write the texts to this file.
    """
    from ..decoders.sampling import GREEDY, Sampling
    from ..objectives.writing import generate as written

    sampling = GREEDY if greedy or beams > 1 else Sampling(temperature, top_k, top_p, min_p)
    if film is not None and (beams > 1 or engine != "sightline"):
        raise SightlineError("there is no film of a beam, nor of an engine", "Leave --film away, or beams and engine")
    given = prompts(texts, field, documents) or [""]
    with _engaged(engine, folder, tokenizer, device, threads, dtype) as (path, model, other):
        model = two_sided(model) if both_sides else model
        with drafting(drafter, device, threads, dtype) as drafts:
            found = written(
                model, given, length=length, sampling=sampling, seed=seed, n_best=n, beams=beams, iterations=iterations,
                sampler=sampler, block=block, sure=sure, engine=other, drafter=drafts, lookahead=lookahead,
                films=int(film is not None),
            )  # fmt: skip
    again = f"sightline score {shlex.quote(str(path))} {quoted(found[0].text)}"
    result = Writing(path, model.objective.family, tuple(given), tuple(found), again)
    if film is not None:
        _film_to(film, result)
    return kept(result, json)


def _film_to(path: Path, made: Writing) -> None:
    """Draw how the first text was written."""
    from ..report.film import drawn

    text, prompt = made.texts[0], made.prompts[0]
    if not text.film:
        raise SightlineError(
            f"{made.family} writes several lengths side by side, of which there is no film", "Leave --film away"
        )
    sides = ("", prompt) if text.given == "right" else (prompt, "")
    with whole_file(Path(path), "w") as handle:
        handle.write(drawn(text.film, *sides, f"{made.family}, {text.how}") + "\n")


def fill(
    folder: Annotated[Path, tyro.conf.Positional],
    texts: Annotated[tuple[str, ...], tyro.conf.Positional] = (),
    *,
    candidates: int = 8,
    iterations: int = 10,
    sampler: str = "",
    temperature: float | None = None,
    top_p: float = 0.95,
    field: str = "text",
    documents: Cut = "file",
    tokenizer: str = "",
    seed: int = 0,
    device: str = "auto",
    threads: int = 0,
    dtype: Dtype = "auto",
    json: Path | None = None,
) -> Writing:
    """Fill the blanks of a text: ___ is a blank of one token, ___:5 one of five, ___:? of any length (blank, ul2).

    A masked model sees both sides and refines all blanks together; a blank model writes them one after the other and
    ends them itself. A causal, prefix or backward model draws candidates from its side and keeps the one under which
    the rest of the text is likeliest.

    Examples:
        sightline fill runs/mine/model "The ___ returns a list of ___:3."
        sightline fill runs/mine/model - --documents lines < sentences.txt

    Args:
        folder: a model folder, or the folder of a run.
        texts: with blanks, or - for standard input.
        candidates: for each blank, where the family sees one side only.
        iterations: rounds of refinement, for families that see both sides.
        sampler: which places are written when, for families that fill masks (see generate). Default: the family's own.
        temperature: of the draws, 0 takes the likeliest. Default: the likeliest in refinement, else 0.8.
        top_p: draw from the fewest likeliest that reach this probability together; 1: from all.
        field: the field of a record on standard input that holds the text.
        documents: what a text on standard input is: all of it, its lines, or what blank lines part.
        tokenizer: a tokenizer.json, for a folder that has none.
        seed: of the draws.
        device: auto, cpu, cuda, ...
        threads: of the CPU; 0: as many as there are cores.
        dtype: auto is float32, in which results repeat.
        json: also write the texts to this file.
    """
    from ..decoders.sampling import Sampling
    from ..objectives.filling import fill as filled

    given = prompts(texts, field, documents)
    if not given:
        raise SightlineError("fill needs a text with a blank", "For example: sightline fill FOLDER 'The ___ sat.'")
    sampling = None if temperature is None else Sampling(temperature, top_p=top_p)
    with ready(folder, tokenizer, device, threads, dtype) as (path, model):
        found = filled(
            model, given, candidates=candidates, sampling=sampling, seed=seed, iterations=iterations, sampler=sampler
        )
    again = f"sightline see {shlex.quote(str(path))} --text {quoted(found[0].text)}"
    return kept(Writing(path, model.objective.family, tuple(given), tuple(found), again), json)


@contextmanager
def _engaged(
    name: Loop, folder: Path, tokenizer: str, device: str, threads: int, dtype: Dtype | Literal["int8"]
) -> Iterator[tuple[Path, Model, Engine | None]]:
    """As ``ready``, with the engine that is to write; None: our own loop."""
    if name == "sightline":
        if dtype == "int8":
            raise SightlineError("the type 'int8' is an engine's", "Use float32 or bfloat16, or --engine ctranslate2")
        with ready(folder, tokenizer, device, threads, dtype) as (path, model):
            yield path, model, None
        return
    from ..serving.engine import opened

    if device not in ("auto", "cpu"):
        raise SightlineError(
            f"{name} writes on the processor here, not on {device!r}", "Leave --device or --engine away"
        )
    with ready(folder, tokenizer, "cpu", threads, "float32") as (path, model):
        yield path, model, opened(name, model, "float32" if dtype == "auto" else dtype, threads)
