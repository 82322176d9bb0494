"""Use a model: write on, fill blanks, score a text, turn texts into vectors."""

from __future__ import annotations

import json as jsons
import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar, cast

import tyro

from ..errors import SightlineError
from ..files import whole_file, write_json
from ..progress import say
from .texts import Cut, Part, prompts, read_all

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ..evaluation.score import Score
    from ..objectives.model import Model
    from ..objectives.pen import Text
    from ..objectives.writing import Engine

Dtype = Literal["auto", "float32", "bfloat16"]
Loop = Literal["sightline", "ctranslate2"]

SHOWN = 20  # documents that are listed one by one
VECTORS = Path("vectors.npy")


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


@dataclass(frozen=True)
class Embedding:
    """Vectors of texts, in a file.

    Parameters
    ----------
    model : its folder. family : of the model. path : of the vectors, in the order of ``ids``.
    width : of a vector. layer : whose states were averaged; 0 is the embedding, None a mix of all.
    shares : of each layer. next : a command to go on with.
    """

    model: Path
    family: str
    path: Path
    ids: tuple[str, ...]
    width: int
    layer: int | None
    shares: tuple[float, ...]
    next: str

    def __str__(self) -> str:
        mixed = " + ".join(f"{share:.3g} x layer {at}" for at, share in enumerate(self.shares))
        what = mixed if self.layer is None else f"layer {self.layer}"
        return f"{len(self.ids):,} vectors of width {self.width}: mean states of {what}\n{self.path}"

    def record(self) -> dict[str, Any]:
        """As plain JSON."""
        return asdict(self) | {"model": str(self.model), "path": str(self.path), "ids": list(self.ids)}


Result = TypeVar("Result", Writing, Scoring, Embedding)


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
        model = _two_sided(model) if both_sides else model
        with drafting(drafter, device, threads, dtype) as drafts:
            found = written(
                model, given, length=length, sampling=sampling, seed=seed, n_best=n, beams=beams, iterations=iterations,
                sampler=sampler, block=block, sure=sure, engine=other, drafter=drafts, lookahead=lookahead,
                films=int(film is not None),
            )  # fmt: skip
    again = f"sightline score {shlex.quote(str(path))} {_quoted(found[0].text)}"
    result = Writing(path, model.objective.family, tuple(given), tuple(found), again)
    if film is not None:
        _film_to(film, result)
    return _kept(result, json)


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
    again = f"sightline see {shlex.quote(str(path))} --text {_quoted(found[0].text)}"
    return _kept(Writing(path, model.objective.family, tuple(given), tuple(found), again), json)


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
        model = _two_sided(model) if both_sides else model
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
    again = f"sightline see {shlex.quote(str(path))} --text {_quoted(found[0].text)}"
    scores = tuple(scored([one], seed) for one in measured)
    return _kept(Scoring(path, model.objective.family, scores, tuple(each), again), json)


def embed(
    folder: Annotated[Path, tyro.conf.Positional],
    texts: Annotated[tuple[str, ...], tyro.conf.Positional] = (),
    *,
    layer: int | None = None,
    mix: str = "",
    out: Path | None = None,
    part: Part = "all",
    field: str = "text",
    documents: Cut = "file",
    tokenizer: str = "",
    seed: int = 0,
    device: str = "auto",
    threads: int = 0,
    dtype: Dtype = "auto",
    json: Path | None = None,
) -> Embedding:
    """Turn texts into vectors: the mean of a layer's states, or of a mix of all layers', over a text's tokens.

    Examples:
        sightline embed runs/mine/model "one text" "another text"
        sightline embed runs/mine/model corpus.jsonl --layer 2 --out vectors.parquet
        sightline embed runs/mine/model corpus.jsonl --mix even

    Args:
        folder: a model folder, or the folder of a run.
        texts: texts, files or folders (as for train), python-docs, or - for standard input.
        layer: 0 is the embedding, 1 the first layer, -1 the last. Default: the last; of cbow, the embedding.
        mix: all layers together instead: even, or a weight for each from the embedding on, as in 0,1,2 (they are
            brought to a sum of 1).
        out: a file ending in .npy, .safetensors, .parquet or .jsonl; the last two hold the documents' names too.
            Default: vectors.npy, which is not written over.
        part: of a corpus: all of it, or one side of the split that training makes.
        field: the field of a record that holds the text.
        documents: what a document of a .txt file is.
        tokenizer: a tokenizer.json, for a folder that has none.
        seed: of nothing here: vectors are not drawn.
        device: auto, cpu, cuda, ...
        threads: of the CPU; 0: as many as there are cores.
        dtype: auto is float32, in which results repeat.
        json: also write what was made, with the documents' names in order, to this file.
    """
    import numpy as np

    from ..evaluation.understanding import vectors

    target = _target(out)
    found = read_all(texts, part=part, field=field, documents=documents)
    with ready(folder, tokenizer, device, threads, dtype) as (path, model):
        layers = vectors(model, [one.text for one in found])
        if not layers:
            raise SightlineError(
                f"{model.objective.family} keeps no states to average", "Use a family with a transformer"
            )
        usual = None if model.depth.keeps_input else 0  # a bag's states are of the words around
        shares = _shares(mix, usual if layer is None and not mix else layer, len(layers))
        long = sum(len(one) > model.context - 2 for one in model.tokenizer.encode_many([one.text for one in found]))
        if long:
            say(f"{long:,} texts are longer than the model's context; their first {model.context - 2} tokens are read")
    chosen = np.sum([np.float32(share) * one for share, one in zip(shares, layers, strict=True) if share], axis=0)
    ids = tuple(one.id for one in found)
    _written_to(target, chosen, ids)
    again = f"sightline score {shlex.quote(str(path))} {_quoted(found[0].text)}"
    at = None if mix else shares.index(1.0)
    made = Embedding(path, model.objective.family, target, ids, int(chosen.shape[1]), at, shares, again)
    return _kept(made, json)


def _shares(mix: str, layer: int | None, count: int) -> tuple[float, ...]:
    """The share of each of ``count`` layers in the vectors."""
    if not mix:
        at = count - 1 if layer is None else layer
        if not -count <= at < count:
            raise SightlineError(f"there is no layer {at}", f"Use 0 (the embedding) to {count - 1}")
        return tuple(float(number == at % count) for number in range(count))
    if layer is not None:
        raise SightlineError(f"layer {layer} and a mix of all were both asked for", "Leave one away")
    words = ["1"] * count if mix == "even" else mix.split(",")
    try:
        weights = [float(word) for word in words]
    except ValueError:
        weights = []
    if len(weights) != count or not all(0 <= one < float("inf") for one in weights) or not sum(weights):
        raise SightlineError(
            f"a mix of {mix!r} is not one of {count} layers",
            f"Write even, or {count} weights of 0 or more with commas between, such as {','.join(['1'] * count)}",
        )
    return tuple(one / sum(weights) for one in weights)


@contextmanager
def ready(folder: Path, tokenizer: str, device: str, threads: int, dtype: Dtype) -> Iterator[tuple[Path, Model]]:
    """The model of a folder on its device, to be read and not trained; with the folder that it was found in."""
    import torch

    from .. import hub
    from ..data import Tokenizer
    from .ground import machine

    path = hub.located(folder)
    place, _, kind = machine(device, threads, "float32" if dtype == "auto" else dtype)
    model = hub.load(path, tokenizer=Tokenizer.load(tokenizer) if tokenizer else None)
    with torch.no_grad():
        yield path, model.to(place, getattr(torch, kind)).eval()


@contextmanager
def _engaged(
    name: Loop, folder: Path, tokenizer: str, device: str, threads: int, dtype: Dtype | Literal["int8"]
) -> Iterator[tuple[Path, Model, Engine | None]]:
    """As ``_ready``, with the engine that is to write; None: our own loop."""
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


@contextmanager
def drafting(
    drafter: str, device: str, threads: int, dtype: Dtype | Literal["int8"]
) -> Iterator[Model | Literal["lookup", "self"] | None]:
    """Who goes ahead, by name or by the folder of a model; None: nobody."""
    if drafter in ("lookup", "self"):
        yield cast('Literal["lookup", "self"]', drafter)
    elif not drafter:
        yield None
    else:
        with ready(Path(drafter), "", device, threads, "auto" if dtype == "int8" else dtype) as (_, model):
            yield model


def _two_sided(model: Model) -> Model:
    """The model read with both sides given; an error where its family has no such way."""
    if model.objective.two_sided.writes_from != "both":
        raise SightlineError(f"{model.objective.family} is read from one side only", "Leave --both-sides away")
    return model.two_sided


def _quoted(text: str) -> str:
    """The beginning of a text as a shell takes it, on one line."""
    return shlex.quote(" ".join(text.split())[:40].lstrip("-") or "a text")


def _kept(result: Result, path: Path | None) -> Result:
    if path is not None:
        write_json(Path(path), result.record())
    return result


def _target(out: Path | None) -> Path:
    """Where vectors go; refused before any work is done."""
    if out is None and VECTORS.exists():
        raise SightlineError(f"{VECTORS} is there already", "Name another file with --out, or the same to replace it")
    target = Path(out or VECTORS)
    if target.suffix not in (".npy", ".safetensors", ".parquet", ".jsonl"):
        raise SightlineError(
            f"vectors cannot be written as {target.suffix or target.name!r}",
            "End --out in .npy .safetensors .parquet .jsonl",
        )
    return target


def _written_to(path: Path, vectors: NDArray[np.float32], ids: Sequence[str]) -> None:
    import numpy as np

    with whole_file(path) as handle:
        if path.suffix == ".npy":
            np.save(handle, vectors, allow_pickle=False)
        elif path.suffix == ".safetensors":
            from safetensors.numpy import save

            handle.write(save({"vectors": vectors}, {"ids": jsons.dumps(list(ids))}))
        elif path.suffix == ".parquet":
            import pyarrow as pa
            import pyarrow.parquet as pq

            column = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), vectors.shape[1])
            pq.write_table(pa.table({"id": list(ids), "vector": column}), handle)
        else:
            for name, vector in zip(ids, vectors.tolist(), strict=True):
                handle.write(jsons.dumps({"id": name, "vector": vector}, ensure_ascii=False).encode() + b"\n")
