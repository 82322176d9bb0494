"""The training loop. It knows no family: rows in, views and terms by the objective, one update a step.

    rows of the step -> micro-batches -> views -> counts of the whole step -> terms -> gradients -> guard -> update

A run hands in everything else as values and callables: the number of steps, the cost of one, how to validate, what to
sample. On a CPU a run that was stopped, or killed, goes on bit for bit as if it had not been.
"""

from __future__ import annotations

import contextlib
import math
import signal
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

import torch

from ..data import Draws, Rows
from ..errors import SightlineError, Stopped
from ..objectives.model import Model
from ..progress import bar, say
from .best import Best
from .checkpoint import Checkpoint, generator_state, newest, saved
from .log import Log
from .optimizer import Optimizers
from .questions import Asker, Questions
from .settings import Settings
from .working import Working

if TYPE_CHECKING:
    from .world import World  # brings in torch's distributed rooms, which take long to load

SAVE_SECONDS = 60.0  # a kill loses at most this much work
SKIPS = 50  # steps skipped in a row before the run gives up


@dataclass(frozen=True)
class Point:
    """One point of a run's curve; seconds are training alone, without evaluation, saving and compilation."""

    step: int
    tokens: int
    flops: float
    seconds: float
    loss: float
    dev: float | None = None


@dataclass(frozen=True)
class Trained:
    """What a run came to; the model holds the weights that were best on dev.

    Parameters
    ----------
    curve : loss over the run. best_step : after which dev was best (the last where nothing was validated).
    seconds : of training alone. tokens : corpus tokens read. slots, asked : slots fed and answers graded.
    skipped : steps the guard skipped. waiting : share of the seconds spent on reading rows and making views.
    """

    curve: tuple[Point, ...]
    best_step: int
    best_dev: float | None
    steps: int
    seconds: float
    tokens: int
    slots: int
    asked: float
    skipped: int
    waiting: float = 0.0


@dataclass
class _State:
    """Counters that a checkpoint carries."""

    step: int = 0
    seconds: float = 0.0
    waiting: float = 0.0
    tokens: int = 0
    slots: int = 0
    asked: float = 0.0
    skipped: int = 0
    skipped_in_a_row: int = 0
    best_step: int = 0
    devs: list[float] = field(default_factory=list)
    recent: list[float] = field(default_factory=list)
    since: list[float] = field(default_factory=list)
    curve: list[dict[str, Any]] = field(default_factory=list)


def autocast(device: torch.device | str, dtype: str) -> contextlib.AbstractContextManager[Any]:
    """Matrix products in this type; float32 needs nothing."""
    if dtype == "float32":
        return contextlib.nullcontext()
    return torch.autocast(torch.device(device).type, dtype=torch.bfloat16)


def train(
    model: Model,
    rows_of: Callable[[int], Rows],
    settings: Settings,
    folder: Path,
    *,
    flops_per_step: float = 0.0,
    peak: float = 0.0,
    bytes_per_token: float = 0.0,
    validate: Callable[[Model], float] | None = None,
    sample: Callable[[Model], str] | None = None,
    names: Callable[[Rows], list[str]] | None = None,
    title: str = "train",
    again: str = "give the same command again",
) -> Trained:
    """Train to the end of ``settings.steps``, going on from the newest checkpoint in ``folder`` if there is one.

    Parameters
    ----------
    rows_of : the rows of a step, by its number: index arithmetic, so that resuming is O(1).
    flops_per_step, peak : for the share of the measured matrix-product rate (MFU).
    bytes_per_token : turns nats per token into bits per byte on the progress line.
    validate : dev loss in nats per answer; the weights best by it are kept. sample : a text to look at early.
    names : documents of rows, for the guard's message. again : what to do to continue, for the message on Ctrl-C.

    Raises
    ------
    Stopped : after Ctrl-C, once a checkpoint is on the disk.
    SightlineError : where checkpoints cannot be written or read, or the loss is lost for good.
    """
    return _Loop(model, rows_of, settings, folder, flops_per_step, peak, bytes_per_token, names).run(
        validate, sample, title, again
    )


def stepper(
    model: Model, rows_of: Callable[[int], Rows], settings: Settings, world: World | None = None
) -> Callable[[int], float]:
    """One whole update by its number, outside of any run, and its loss: nothing is guarded, noted or saved.

    In a ``world`` of several processes each reads its share of a step's rows by its own ``rows_of`` (``Order.shard``),
    is left its share of the model, and gives the loss over all of them.
    """
    loop = _Loop(model, rows_of, settings, Path(), 0.0, 0.0, 0.0, None, world, progress=lambda number: 0.0)

    def step(number: int) -> float:
        loss, _, _ = loop.gradients(number)
        loop.optimizers.step(settings.schedule.factor(0, settings.steps))
        return loss

    return step


def timed_steps(model: Model, rows_of: Callable[[int], Rows], settings: Settings, count: int) -> list[float]:
    """Seconds of each of ``count`` throw-away steps, after two that only warm up; the model is spoilt by it."""
    step = stepper(model, rows_of, settings)
    seconds = []
    for number in range(count + 2):
        start = time.perf_counter()
        step(number)
        if model.device.type == "cuda":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - start)
    return seconds[2:]


class _Loop:
    def __init__(
        self,
        model: Model,
        rows_of: Callable[[int], Rows],
        settings: Settings,
        folder: Path,
        flops_per_step: float,
        peak: float,
        bytes_per_token: float,
        names: Callable[[Rows], list[str]] | None,
        world: World | None = None,
        progress: Callable[[int], float] | None = None,
    ) -> None:
        self.model, self.rows_of, self.settings = model, rows_of, settings
        self.progress = progress or (lambda number: number / settings.steps)
        self.folder, self.flops, self.peak = folder, flops_per_step, peak
        self.bytes_per_token, self.names = bytes_per_token, names
        self.draws = Draws(settings.seed)
        self.world = world
        if world is not None:
            world.share(model, settings)
        self.optimizers = Optimizers(model, settings.optimization, settings.dtype, world)
        self.state = _State()
        self.best = Best(settings.averaged)
        self.heaviest = 1.0  # weight of a term of the loss
        self.saved_at = time.monotonic()
        # A shared model is gathered in the type of the products, and needs no copies.
        self.working = Working(model, getattr(torch, settings.dtype) if world is None else torch.float32)
        self.asker = Asker(self._questions, settings.steps, ahead=model.device.type == "cuda")
        if settings.compiled:
            working = self.working.model  # one graph per kind of view, whatever a batch happens to hold
            working.kernel = working.kernel or ("flex" if working.device.type == "cuda" else "mask")
            for stack in working.stacks:
                stack.compile(dynamic=False)

    def run(
        self,
        validate: Callable[[Model], float] | None,
        sample: Callable[[Model], str] | None,
        title: str,
        again: str,
    ) -> Trained:
        self._resume()
        settings, state = self.settings, self.state
        if settings.compiled and state.step < settings.steps:
            self._compile(state)
        log = Log(self.folder, state.step)
        marks = {round(settings.steps * part / settings.validations) for part in range(1, settings.validations + 1)}
        every = max(1, settings.steps // 200)
        done = state.step
        with interruptible() as stop, bar(title, settings.steps, "") as shown, contextlib.closing(log):
            shown.advance(done)
            while state.step < settings.steps:
                start = time.perf_counter()
                loss = self._step(state.step, log)
                state.seconds += time.perf_counter() - start
                state.step += 1
                if loss is not None:
                    state.since.append(loss)
                at_mark = state.step in marks
                if state.step % every == 0 or at_mark or state.step == settings.steps:
                    with self._eager():
                        self._note(log, validate if at_mark else None, sample if at_mark else None)
                shown.advance(1, self._words())
                last = state.step == settings.steps
                if stop.wanted or last or time.monotonic() - self.saved_at > SAVE_SECONDS:
                    self._save()
                if stop.wanted:
                    raise Stopped(f"Stopped after step {state.step} of {settings.steps}, saved. To continue, {again}.")
        if self.best.devs:
            self._settle(validate)
        if settings.compiled:  # what is asked of a trained model has many shapes, and each would be compiled
            self.working.model.kernel = None
            for stack in self.working.model.stacks:
                stack._compiled_call_impl = None
        return Trained(
            curve=tuple(Point(**point) for point in state.curve),
            best_step=state.best_step or settings.steps,
            best_dev=min(state.devs, default=None),
            steps=state.step,
            seconds=state.seconds,
            tokens=state.tokens,
            slots=state.slots,
            asked=state.asked,
            skipped=state.skipped,
            waiting=self._waiting(),
        )

    def _settle(self, validate: Callable[[Model], float] | None) -> None:
        """Leave the model with the weights best on dev, or with the mean of the best where that does better still."""
        several = len(self.best.devs) > 1 and validate is not None
        self.model.load_state_dict(self.best.mean() if several else self.best.single)
        if several and validate is not None:
            self.model.eval()
            with self._eager(), autocast(self.model.device, self.settings.dtype):
                dev = validate(self.model)
            say(f"dev: {self.best.devs[0]:.4f} at best, {dev:.4f} for the mean of the best {len(self.best.devs)}")
            if dev < self.best.devs[0]:
                self.state.devs = [dev, *self.best.devs]
            else:
                self.model.load_state_dict(self.best.single)

    def _compile(self, state: _State) -> None:
        """One gradient that is thrown away: compiling is not training, and its time is not counted as such."""
        start = time.perf_counter()
        counted = state.tokens, state.slots, state.asked, state.waiting
        with torch.random.fork_rng(devices=[]):
            self.gradients(state.step)
        self.optimizers.drop()
        state.tokens, state.slots, state.asked, state.waiting = counted
        say(f"compiled in {time.perf_counter() - start:.0f} s (not counted)")

    @contextlib.contextmanager
    def _eager(self) -> Iterator[None]:
        """Validation and samples run as written: their shapes are not the run's, and each would be compiled."""
        if not self.settings.compiled:
            yield
            return
        kernel, self.model.kernel = self.model.kernel, None
        try:
            with torch.compiler.set_stance("force_eager"):
                yield
        finally:
            self.model.kernel = kernel

    def _step(self, number: int, log: Log) -> float | None:
        """One guarded update; the loss, or None where the guard skipped it."""
        loss, size_of_gradient, rows = self.gradients(number)
        state = self.state
        if self._bad(loss, size_of_gradient):
            self._skip(number, rows, loss, size_of_gradient, log)
            return None
        self.optimizers.step(self.settings.schedule.factor(number, self.settings.steps))
        state.recent = [*state.recent[-63:], loss]
        state.skipped_in_a_row = 0
        return loss

    def _questions(self, number: int) -> Questions:
        objective, parts = self.model.objective, self.settings.accumulation
        rows = self.rows_of(number)
        size = rows.count // parts
        micro = [rows.take(slice(part * size, (part + 1) * size)) for part in range(parts)]
        return Questions(
            rows, micro, [objective.ask(part, self.draws.of(part), self.progress(number)) for part in micro]
        )

    def gradients(self, number: int) -> tuple[float, float, Rows]:
        """Loss and gradient of one step: what it came to, the gradient's size, and the rows it read."""
        settings, model, state = self.settings, self.working.model, self.state
        objective = model.objective
        start = time.perf_counter()
        questions = self.asker(number)
        rows, micro, views = questions.rows, questions.parts, questions.views
        counts: dict[str, float] = {}
        for asked in views:
            for name, count in objective.counts(asked).items():
                counts[name] = counts.get(name, 0.0) + count
        if self.world is not None:
            counts = self.world.added(counts)
        state.waiting += time.perf_counter() - start
        if number == 0:
            model.check(micro[0], views[0])
        model.train()
        self.working.refresh()
        losses = []
        for part, asked in zip(micro, views, strict=True):
            terms = objective.learn(model, part, asked, self.draws.of(part, stream=1))
            self.heaviest = max(term.weight for term in terms)
            share = torch.stack([term.weight * term.total / max(1.0, counts[term.name]) for term in terms]).sum()
            share.backward()  # type: ignore[no-untyped-call]
            losses.append(share.detach())
        loss = sum(map(float, losses))  # read at the end: a GPU is not waited for in between
        clip = settings.optimization.clip or math.inf
        slopes = [weight.grad for weight in self.model.parameters() if weight.grad is not None]
        norm = torch.nn.utils.get_total_norm(slopes)
        size_of_gradient = float(norm if self.world is None else self.world.whole(norm))
        if size_of_gradient > clip:  # torch's own clipping multiplies all slopes by 1 where none is
            torch.nn.utils.clip_grads_with_norm_(self.model.parameters(), clip, norm)
        if self.world is not None:
            loss = self.world.added({"loss": loss})["loss"]
        state.tokens += int((rows.documents >= 0).sum())
        state.slots += sum(view.slots.lines * view.slots.count for asked in views for view in asked)
        state.asked += sum(view.ask_count for asked in views for view in asked)
        return loss, size_of_gradient, rows

    def _bad(self, loss: float, size_of_gradient: float) -> bool:
        if not math.isfinite(loss) or not math.isfinite(size_of_gradient):
            return True
        recent = self.state.recent
        return len(recent) >= 16 and loss > statistics.median(recent) + self.settings.spike * self.heaviest

    def _skip(self, number: int, rows: Rows, loss: float, size_of_gradient: float, log: Log) -> None:
        """Leave the weights alone, name the documents, and give up only when every step is bad."""
        self.optimizers.drop()
        state = self.state
        state.skipped += 1
        state.skipped_in_a_row += 1
        names = self._worst(rows, number)
        listed = ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
        say(f"Step {number + 1} skipped: loss {loss:.3g}, gradient {size_of_gradient:.3g}; documents: {listed}")
        log.record(number + 1, skipped=f"loss {loss}, gradient {size_of_gradient}; documents: {'; '.join(names)}")
        if state.skipped_in_a_row >= SKIPS:
            raise SightlineError(
                f"{SKIPS} steps in a row had no usable loss (last: {loss:.3g})",
                "Lower the learning rate, or look at the documents named above; the last checkpoint is from before",
            )

    def _worst(self, rows: Rows, number: int) -> list[str]:
        """The documents of the rows that are to blame: those whose own loss is no number, else the highest."""
        losses = []
        with torch.no_grad():
            for line in range(rows.count):
                one = rows.take(slice(line, line + 1))
                views = self.model.objective.ask(one, self.draws.of(one), self.progress(number))
                terms = self.model.objective.learn(self.model, one, views, self.draws.of(one, stream=1))
                losses.append(float(sum(float(term.total) for term in terms)))
        odd = [line for line, loss in enumerate(losses) if not math.isfinite(loss)]
        blamed = odd or sorted(range(rows.count), key=lambda line: -losses[line])[:1]
        if self.names is None:
            return [f"row {int(rows.numbers[line])}" for line in blamed]
        return [name for line in blamed for name in self.names(rows.take(slice(line, line + 1)))]

    def _note(self, log: Log, validate: Callable[[Model], float] | None, sample: Callable[[Model], str] | None) -> None:
        """A point of the curve; at a mark also dev, the best weights, and a sample."""
        state = self.state
        loss = statistics.fmean(state.since) if state.since else math.nan
        state.since = []
        self.model.eval()
        dev = None
        if validate is not None:
            with autocast(self.model.device, self.settings.dtype):
                dev = validate(self.model)
            if self.best.offer(dev, self.model):
                state.best_step = state.step
            state.devs = self.best.devs
        if math.isnan(loss):
            return
        point = Point(state.step, state.tokens, self.flops * state.step, state.seconds, loss, dev)
        state.curve.append(asdict(point))
        record = {name: value for name, value in asdict(point).items() if value is not None and name != "step"}
        record["learning_rate_factor"] = self.settings.schedule.factor(state.step - 1, self.settings.steps)
        record["tokens_per_second"] = state.tokens / max(state.seconds, 1e-9)
        record["waiting"] = self._waiting()
        if sample is not None:
            record["sample"] = sample(self.model)
        log.record(state.step, **record)

    def _waiting(self) -> float:
        """The share of training in which the stack had nothing to do, since rows and views were being made."""
        return self.state.waiting / max(self.state.seconds, 1e-9)

    def _words(self) -> str:
        state = self.state
        if not state.recent:
            return ""
        words = [f"loss {statistics.fmean(state.recent[-16:]):.3f}"]
        if self.bytes_per_token:
            words.append(f"{state.recent[-1] / math.log(2) / self.bytes_per_token:.2f} bits/byte")
        words.append(f"{state.tokens / max(state.seconds, 1e-9):,.0f} tokens/s")
        if self.peak and self.flops:
            words.append(f"MFU {self.flops * state.step / max(state.seconds, 1e-9) / self.peak:.0%}")
        words.append(f"{self._waiting():.1%} waiting for data")
        return "  ".join(words)

    def _save(self) -> None:
        saved(
            self.folder / "checkpoints",
            Checkpoint(
                step=self.state.step,
                weights=dict(self.model.state_dict()),
                optimizer=self.optimizers.tensors(),
                best=self.best.tensors(),
                state={name: value for name, value in asdict(self.state).items() if name != "step"},
                rng=generator_state(),
            ),
        )
        self.saved_at = time.monotonic()

    def _resume(self) -> None:
        found = newest(self.folder / "checkpoints")
        if found is None:
            torch.manual_seed(self.settings.seed)  # of what is dropped out
            return
        shapes = {name: weight.shape for name, weight in self.model.state_dict().items()}
        if {name: weight.shape for name, weight in found.weights.items()} != shapes:
            raise SightlineError(
                f"the checkpoint in {self.folder} holds another model", "Choose another --out, or remove the folder"
            )
        self.model.load_state_dict(found.weights)
        self.optimizers.load(found.optimizer)
        self.state = _State(**{**found.state, "step": found.step})
        self.best.load(found.best, self.state.devs)
        torch.set_rng_state(found.rng)


class _Wish:
    wanted = False


@contextlib.contextmanager
def interruptible() -> Iterator[_Wish]:
    """Ctrl-C (and a polite kill) asks the loop to stop after the step; a second Ctrl-C stops at once."""
    wish = _Wish()

    def asked(number: int, frame: FrameType | None) -> None:
        if wish.wanted:
            raise KeyboardInterrupt
        wish.wanted = True

    try:
        before = {kind: signal.signal(kind, asked) for kind in (signal.SIGINT, signal.SIGTERM)}
    except ValueError:  # not in the main thread: whoever runs us handles signals
        yield wish
        return
    try:
        yield wish
    finally:
        for kind, handler in before.items():
            signal.signal(kind, handler)
