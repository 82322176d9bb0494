"""How quickly models write, by both measures of Kasai et al. (2021): a figure of one alone flatters one kind of model.

    S_1     one text at a time: what a person waits for         a pass that writes many tokens at once wins here
    S_max   the largest batch that pays: what a machine does    and less here, where no part of the machine was idle

Tokens are cut before the clock runs and joined after it; what pads a batch is no token. Models are timed in turns, so
that a drift of the machine meets all of them.
Kasai et al., Deep Encoder, Shallow Decoder: Reevaluating Non-autoregressive Machine Translation (2021).
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ..decoders.sampling import GREEDY
from ..errors import SightlineError
from ..memory import available, held
from ..objectives.model import Model
from ..objectives.pen import Text, reading
from ..objectives.translating import translate
from ..objectives.writing import generate
from ..progress import Bar, bar

GROWTH = 1.03  # of the rate, that a batch twice as large must bring
PATIENCE = 2  # doublings without it, before larger batches are given up
LENGTH = 40  # tokens written by a family that reads no pairs, at most
SLOTS = 1 << 30  # no bound: the batch is the measure's own
MARKS = 2  # before and behind a prompt, at most
LETTER = "x"

Write = Callable[[Sequence[str]], list[Text]]


@dataclass(frozen=True)
class Rate:
    """What was written in batches of one size.

    Parameters
    ----------
    batch : texts together. texts, tokens : written, without end marks. seconds : of each pass over them.
    """

    batch: int
    texts: int
    tokens: int
    seconds: tuple[float, ...]

    @property
    def middle(self) -> float:
        """Seconds of the median pass."""
        return statistics.median(self.seconds)

    @property
    def texts_per_second(self) -> float:
        return self.texts / self.middle

    @property
    def tokens_per_second(self) -> float:
        return self.tokens / self.middle


@dataclass(frozen=True)
class Speed:
    """Both measures of one model.

    Parameters
    ----------
    alone, most : S_1 and S_max. tried : texts a second at each size of batch. stopped : why no larger batch was tried.
    source : mean tokens read of a text, marks not among them. how : by which decoder, in words.
    """

    alone: Rate
    most: Rate
    tried: dict[int, float]
    stopped: str
    source: float
    how: str


def speeds(
    models: Sequence[Model],
    texts: Sequence[str],
    *,
    beams: int = 1,
    length: int = 0,
    candidates: int = 5,
    iterations: int = 10,
    sampler: str = "",
    block: int = 0,
    repeats: int = 3,
    largest: int = 4096,
) -> list[Speed]:
    """Both measures of each model, writing for the same texts.

    Parameters
    ----------
    texts : sources, or prompts of a family that reads no pairs.
    beams : width of the search. length : most tokens written; 0: the family's own, or 40 after a prompt.
    candidates, iterations : lengths that are tried, and rounds, of families that have them. sampler, block : in which
        order a family of several writes; see ``translate``.
    repeats : passes over the texts, in turns. largest : batch that is tried, at most.

    Raises
    ------
    SightlineError : no text, settings that make no sense, or a family that does not write.
    """
    texts = [text for text in texts if text.strip()]
    if not texts:
        raise SightlineError("there is no text to write for", "Give one or more that are not empty")
    if min(beams, repeats, largest) < 1 or length < 0:
        raise SightlineError(
            f"{beams} beams, {repeats} repeats, a length of {length} and batches up to {largest} measure nothing",
            "Use 1 or more, and a length of 0 or more",
        )
    found = []
    with ExitStack() as held_open, bar("timing", (2 * repeats + 1) * len(models) * len(texts), "texts") as shown:
        writers = []
        for model in models:
            known = held_open.enter_context(_cut_before(model, texts, length))
            held_open.enter_context(reading(model))
            wanted = {"beams": beams, "iterations": iterations, "sampler": sampler, "block": block}
            write = _writer(model, length, candidates, wanted)
            writers.append((write, sorted(texts, key=lambda text: len(known[text])), known))
        alone, most = [], []
        hows = [write(ordered[-1:])[0].how for write, ordered, _ in writers]  # warms up
        for _ in range(repeats):
            alone.append([_timed(write, ordered, 1, shown) for write, ordered, _ in writers])
        tried = [_doubled(write, ordered, largest, shown) for write, ordered, _ in writers]
        sizes = [max(rates, key=lambda batch: rates[batch]) for rates, _ in tried]
        for _ in range(repeats):
            most.append([_timed(w, ordered, size, shown) for (w, ordered, _), size in zip(writers, sizes, strict=True)])
        for at, (_, ordered, known) in enumerate(writers):
            mean = float(np.mean([len(known[text]) for text in ordered]))
            found.append(Speed(_joined(alone, at), _joined(most, at), *tried[at], mean, hows[at]))
    return found


def _joined(passes: list[list[Rate]], at: int) -> Rate:
    """The passes of one model as one rate."""
    first = passes[0][at]
    return Rate(first.batch, first.texts, first.tokens, tuple(one[at].seconds[0] for one in passes))


def _writer(model: Model, length: int, candidates: int, wanted: dict[str, Any]) -> Write:
    """Writes for some texts together."""
    wanted = wanted | {"sampling": GREEDY}

    def write(texts: Sequence[str]) -> list[Text]:
        if model.objective.reads == "pairs":
            written = translate(model, texts, length=length, candidates=candidates, slots=SLOTS, **wanted)
        else:
            written = generate(model, texts, length=length or LENGTH, together=len(texts), **wanted)
        if model.device.type == "cuda":
            torch.cuda.synchronize()
        return written

    return write


def _timed(write: Write, texts: Sequence[str], batch: int, shown: Bar | None = None) -> Rate:
    """One pass over the texts, those of like length together; more of them, where there are fewer than a batch."""
    total = max(batch, len(texts))
    texts = [texts[at * len(texts) // total] for at in range(total)]
    tokens, start = 0, time.perf_counter()
    for at in range(0, len(texts), batch):
        tokens += sum(len(piece) for text in write(texts[at : at + batch]) for piece in text.pieces)
    seconds = time.perf_counter() - start
    if shown is not None:
        shown.advance(len(texts))
    return Rate(batch, len(texts), tokens, (seconds,))


def _doubled(write: Write, texts: Sequence[str], largest: int, shown: Bar) -> tuple[dict[int, float], str]:
    """Texts a second at each size of batch, doubled until that no longer pays; and why it ended."""
    rates: dict[int, float] = {}
    batch, worse, before = 1, 0, held()
    while batch <= largest:
        try:
            rate = _timed(write, texts, batch).texts_per_second
        except (MemoryError, RuntimeError) as error:
            if batch == 1 or not _short(error):
                raise
            return rates, f"memory was short at {batch}"
        worse = worse + 1 if rate < GROWTH * max(rates.values(), default=0.0) else 0
        rates[batch] = rate
        if worse == PATIENCE:
            return rates, f"no quicker at {batch}"
        free, need = available(), 2 * (held() - before)
        if free is not None and need > free:
            return rates, f"memory would be short at {2 * batch}"
        batch *= 2
    shown.advance(len(texts))
    return rates, f"no larger batch than {largest} was asked for"


def _short(error: BaseException) -> bool:
    """Whether an error says that there is no memory left."""
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or "memory" in str(error)


class _Known:
    """A tokenizer whose work is done: it looks ids up, and a token that is no end mark is a letter."""

    def __init__(self, tokenizer: Any, ids: dict[str, NDArray[Any]], ends: Sequence[int]) -> None:
        self._tokenizer, self._ids, self._ends = tokenizer, ids, frozenset(ends)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tokenizer, name)

    def encode(self, text: str) -> NDArray[Any]:
        """Ids of a text that was cut before."""
        return self._ids[text]

    def decode(self, ids: Sequence[int]) -> str:
        """A letter for each id but end marks."""
        return LETTER * sum(id not in self._ends for id in ids)


@contextmanager
def _cut_before(model: Model, texts: Sequence[str], length: int) -> Iterator[dict[str, NDArray[Any]]]:
    """The texts' tokens; meanwhile the model takes them from there, and joins none; prompts are cut to their room."""
    tokenizer = model.tokenizer
    most = None if model.objective.reads == "pairs" else max(1, model.context - (length or LENGTH) - MARKS)
    ids = {text: tokenizer.encode(text)[:most] for text in texts}
    model.tokenizer = _Known(tokenizer, ids, model.objective.stops)  # type: ignore[assignment]
    try:
        yield ids
    finally:
        model.tokenizer = tokenizer
