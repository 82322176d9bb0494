"""A stack that fits itself in parts: as the loop, but the stack makes its own steps.

    passes over the text -> parts -> dev, best weights, checkpoint -> the next part

Stopped or killed, the run goes on behind the last part that was saved; with one worker, to the same vectors.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from ..errors import Stopped
from ..objectives.model import Model
from ..progress import bar, say
from ..stacks.bag import Bag, Lesson
from .checkpoint import Checkpoint, generator_state, newest, saved
from .log import Log
from .loop import SAVE_SECONDS, Point, Trained, interruptible
from .settings import Settings

TIMED = 1_000_000  # tokens of a throw-away fit
FINE = 20  # parts between two looks at dev, so that little is lost when a run is stopped


@dataclass
class _State:
    seconds: float = 0.0
    tokens: float = 0.0
    asked: float = 0.0
    best_step: int = 0
    best_dev: float | None = None
    curve: list[dict[str, Any]] = field(default_factory=list)


def fit(
    model: Model,
    tokens: NDArray[Any],
    offsets: NDArray[Any],
    settings: Settings,
    folder: Path,
    *,
    tokens_per_step: int,
    flops_per_step: float = 0.0,
    workers: int = 1,
    validate: Callable[[Model], float] | None = None,
    title: str = "fit",
    again: str = "give the same command again",
) -> Trained:
    """Fit the model's stack to ``settings.steps`` steps of ``tokens_per_step``, going on from a checkpoint, if any.

    Parameters
    ----------
    tokens, offsets : as the stack's ``fit`` takes them.
    workers : threads that may write to the vectors at once. The other arguments are those of ``loop.train``.

    Raises
    ------
    Stopped : after Ctrl-C, once a checkpoint is on the disk.
    SightlineError : what the stack's ``fit`` raises, or a checkpoint that cannot be written or read.
    """
    stack = model.stack
    assert isinstance(stack, Bag)
    parts = min(settings.steps, settings.validations * FINE)
    marks = {round(parts * part / settings.validations) for part in range(1, settings.validations + 1)}
    state, best, done = _State(), dict[str, Tensor](), 0
    found = newest(folder / "checkpoints")
    if found is not None:
        stack.hold(**found.weights)
        state, best, done = _State(**found.state), found.best, found.step
    if (workers := stack.workers(workers)) > 1:
        say(f"{title}: {workers} workers write at once, without locks; --threads 1 is slower, and repeats itself")
    log = Log(folder, _steps(settings, done, parts))
    clock = saved_at = time.monotonic()

    with interruptible() as stop, bar(title, 1.0) as shown, contextlib.closing(log):
        shown.advance(done / parts)

        def watch(part: int, lesson: Lesson) -> None:
            nonlocal clock, saved_at, best
            state.seconds += time.monotonic() - clock
            step = _steps(settings, part, parts)
            state.tokens, state.asked = float(step * tokens_per_step), state.asked + lesson.answers
            dev = None
            if validate is not None and part in marks:
                dev = validate(model)
                if state.best_dev is None or dev < state.best_dev:
                    state.best_dev, state.best_step = dev, step
                    best = {name: value.clone() for name, value in stack.tensors().items()}
            if lesson.answers or (dev is not None and state.curve):  # a short text has parts without a word
                loss = lesson.nats if lesson.answers else state.curve[-1]["loss"]
                point = Point(step, int(state.tokens), flops_per_step * step, state.seconds, loss, dev)
                state.curve.append(asdict(point))
                record = {name: value for name, value in asdict(point).items() if value is not None and name != "step"}
                log.record(step, **record, tokens_per_second=state.tokens / max(state.seconds, 1e-9))
            if stop.wanted or part == parts or time.monotonic() - saved_at > SAVE_SECONDS:
                saved(
                    folder / "checkpoints",
                    Checkpoint(part, stack.tensors(), {}, best, asdict(state), generator_state()),
                )
                saved_at = time.monotonic()
            if stop.wanted and part < parts:
                raise Stopped(f"Stopped after step {step} of {settings.steps}, saved. To continue, {again}.")
            clock = time.monotonic()

        stack.fit(
            tokens, offsets, shown, passes=settings.steps * tokens_per_step / len(tokens), seed=settings.seed,
            workers=workers, parts=parts, done=done, watch=watch,
        )  # fmt: skip
    if best:
        stack.hold(**best)
    read = settings.steps * tokens_per_step
    return Trained(
        curve=tuple(Point(**point) for point in state.curve),
        best_step=state.best_step or settings.steps,
        best_dev=state.best_dev,
        steps=settings.steps,
        seconds=state.seconds,
        tokens=read,
        slots=read,
        asked=state.asked,
        skipped=0,
    )


def _steps(settings: Settings, part: int, parts: int) -> int:
    return round(settings.steps * part / parts)


def seconds_of(model: Model, tokens: NDArray[Any], tokens_per_step: int, workers: int) -> float:
    """The time of a step, from a throw-away fit to the beginning of the text."""
    stack = model.stack
    assert isinstance(stack, Bag)
    twin = Bag(stack.vocabulary, stack.width, stack.manner)
    some = np.asarray(tokens[:TIMED])
    passes = max(1.0, TIMED / len(some))
    ends: list[float] = []
    twin.fit(some, passes=passes, workers=workers, parts=2, watch=lambda part, lesson: ends.append(time.perf_counter()))
    return (ends[1] - ends[0]) * 2 * tokens_per_step / (passes * len(some))  # the first part compiles
