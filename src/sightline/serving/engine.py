"""Engines: other people's loops that write with a model's weights, by the same rules as our own.

model --hub--> the engine's own layout, made once and kept in the user's cache folder --> its loop
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch

from ..errors import SightlineError
from ..files import cache_folder, fingerprint, whole_folder
from ..hub import ctranslate2 as layout
from ..objectives.model import Model
from ..objectives.pen import LINES, Ids
from ..objectives.writing import Engine, Wanted
from ..progress import bar

TYPES = ("float32", "int8")
RANDOM = 2**32 - 1  # the seed by which CTranslate2 means: none


class CTranslate2:
    """CTranslate2's generator over a converted copy of a model's weights, on the processor.

    Parameters
    ----------
    model : whose weights are copied; it may be thrown away afterwards.
    dtype : ``float32``, or ``int8`` (matrices in 8 bits) where the processor does; on one it has no half precision.
    threads : of one generation.

    Raises
    ------
    SightlineError : the model is not one that CTranslate2 holds, the library is not installed, the processor has no
        such type, or the cache folder cannot be written.
    """

    def __init__(self, model: Model, dtype: str, threads: int) -> None:
        if missing := layout.lacks(model):
            raise SightlineError(
                f"CTranslate2 cannot do this model: it has no place for {', '.join(missing)}",
                "Leave --engine away: Sightline's own loop writes with every model",
            )
        try:
            with _own_openmp():
                from ctranslate2 import get_supported_compute_types
        except ImportError as error:
            raise SightlineError(
                f"the engine CTranslate2 is not installed ({error})", "pip install 'sightline[ctranslate2]'"
            ) from error
        can = [kind for kind in TYPES if kind in get_supported_compute_types("cpu")]
        if dtype not in can:
            raise SightlineError(
                f"CTranslate2 does not compute in {dtype} on this processor", f"Use one of {', '.join(can)}"
            )
        self.name = f"CTranslate2 ({dtype})"
        self._names = [layout.named(id) for id in range(model.objective.vocabulary.padded)]
        self._folder = cache_folder() / f"ctranslate2-{_mark(model, dtype)}"
        self._settings = {"device": "cpu", "compute_type": dtype, "intra_threads": threads}
        self._generator = self._kept() or self._made(model, dtype)

    def _open(self) -> Any:
        from ctranslate2 import Generator

        return Generator(str(self._folder), **self._settings)

    def _kept(self) -> Any:
        """A generator over the folder in the cache, or None where there is none or it is not whole."""
        try:
            return self._open() if (self._folder / layout.LAST).is_file() else None
        except RuntimeError:  # cut short
            return None

    def _made(self, model: Model, dtype: str) -> Any:
        try:
            with whole_folder(self._folder) as aside:
                layout.write(model, aside, dtype)
        except OSError as error:
            if (other := self._kept()) is not None:  # another process was quicker
                return other
            raise SightlineError(
                f"the model cannot be kept in CTranslate2's layout in {self._folder.parent} ({error.strerror})",
                "Make room there, or set XDG_CACHE_HOME to another folder",
            ) from error
        return self._open()

    def write(self, prompts: Sequence[Ids], wanted: Wanted) -> list[tuple[Ids, float]]:
        """What follows each prompt; see ``objectives.writing.Engine``."""
        sampling = wanted.sampling
        if sampling.min_p:
            raise SightlineError(
                f"CTranslate2 draws with temperature, top-k and top-p, not with min-p ({sampling.min_p:g})",
                "Leave --min-p or --engine away",
            )
        if not sampling.greedy:
            self._seed(wanted.seed)
        drawn = {
            "sampling_temperature": sampling.temperature,
            "sampling_topk": min(sampling.top_k, len(self._names)),
            "sampling_topp": sampling.top_p,
        }
        written: dict[int, tuple[Ids, float]] = {}
        with bar("writing", len(prompts), "texts") as shown:
            for batch in _batches(prompts):
                results = self._generator.generate_batch(
                    [[self._names[id] for id in prompts[line]] for line in batch],
                    max_length=wanted.length,
                    min_length=min(wanted.min_length, wanted.length),
                    end_token=list(wanted.stops),
                    suppress_sequences=[[self._names[id]] for id in wanted.forbidden],
                    include_prompt_in_result=False,
                    return_scores=True,
                    length_penalty=0,  # the score is then the plain sum of log p
                    **({"sampling_topk": 1} if sampling.greedy else drawn),
                )
                for line, result in zip(batch, results, strict=True):
                    written[line] = (result.sequences_ids[0], result.scores[0])
                shown.advance(len(batch))
        return [written[line] for line in range(len(prompts))]

    def _seed(self, seed: int) -> None:
        """Begin the draws with this seed. The library reads it once, when a generator's thread starts: a new one."""
        from ctranslate2 import set_random_seed

        set_random_seed(seed % RANDOM)
        self._generator = None  # its memory first
        self._generator = self._open()


@contextmanager
def _own_openmp() -> Iterator[None]:
    """Have a library that is loaded now find its OpenMP beside itself, and not in what torch has loaded.

    Where both share one, it counts more threads than cores, lets all of them sleep between two pieces of work, and
    torch's and the engine's speed are halved.
    """
    before = sys.getdlopenflags()
    sys.setdlopenflags(before | getattr(os, "RTLD_DEEPBIND", 0))  # glibc's
    try:
        yield
    finally:
        sys.setdlopenflags(before)


def _batches(prompts: Sequence[Ids]) -> Iterator[list[int]]:
    """Numbers of prompts that go together: of like lengths, and those of one token by themselves.

    The library reads as many tokens at once as the shortest has but one, and feeds the others one by one; beside a
    prompt of a single token it counts what it is fed as written (its version 4.8).
    """
    order = sorted(range(len(prompts)), key=lambda line: len(prompts[line]))
    single = sum(len(prompt) == 1 for prompt in prompts)
    for part in (order[:single], order[single:]):
        for start in range(0, len(part), LINES):
            yield part[start : start + LINES]


ENGINES: dict[str, Callable[[Model, str, int], Engine]] = {"ctranslate2": CTranslate2}


def opened(name: str, model: Model, dtype: str = "float32", threads: int = 0) -> Engine:
    """The engine of this name with a copy of the model's weights, for ``objectives.writing.generate``.

    Parameters
    ----------
    dtype : in which it computes. threads : of the processor; 0: as many as torch uses.

    Raises
    ------
    SightlineError : there is no such engine, or it cannot be had for this model (see its class).
    """
    if name not in ENGINES:
        raise SightlineError(f"there is no engine {name!r}", f"Choose one of {', '.join(ENGINES)}")
    return ENGINES[name](model, dtype, threads or torch.get_num_threads())


def _mark(model: Model, dtype: str) -> str:
    """Changes when the converted model would be another."""
    state = layout.state_of(model)
    parts = [part for name, tensor in state.items() for part in (name, fingerprint(tensor.numpy().tobytes()))]
    return fingerprint(layout.REVISION, dtype, repr(model.stack.shape), *parts)
