"""Fine-tune a model on labelled items: several seeds, the best epoch on dev, every answer on test kept."""

from __future__ import annotations

import math
import shlex
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from json import dumps, loads
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast

import tyro

from ..errors import SightlineError, Stopped
from ..files import locked, read_json, whole_file, whole_folder, write_json
from ..progress import say
from .ready import quoted

if TYPE_CHECKING:
    from ..data.examples import Examples
    from ..evaluation.score import Score
    from ..evaluation.teaching import Answer, Teaching
    from ..objectives.model import Model
    from ..objectives.tuned import Tuned
    from ..training.finetuning import Tuning

SETTINGS, RESULTS, PREDICTIONS = "finetune.json", "results.json", "predictions.jsonl"
TASK, HEAD = "task.json", "head.safetensors"
DONE, TRIED = "done.json", "rates"  # of a seed; folder of the rates that were tried
FROZEN_RATE = 3e-3
HEAD_TIMES, LORA_TIMES = 3.0, 10.0  # the stack's rate


@dataclass(frozen=True)
class Finetuned:
    """What fine-tuning came to.

    Parameters
    ----------
    folder : of predictions, results, and the model of the seed that was best on dev. model : its folder.
    results : as in ``results.json``. scores : on test, the headline first. next : a command to go on with.
    """

    folder: Path
    model: Path
    results: dict[str, Any]
    scores: tuple[Score, ...]
    next: str

    def __str__(self) -> str:
        record = self.results
        seeds = len(record["seeds"])
        begun = " from scratch" if record["from_scratch"] else ""
        lines = [
            f"{record['family']}, {record['task']}: {record['tune']}{begun}, "
            f"{seeds} seed{'s' * (seeds != 1)}, {record['represents']}"
        ]
        lines += [f"test {score}" for score in self.scores]
        if record["without_shared"]:
            told = ", ".join(
                f"{one['name']} {one['value']:.3f}" for one in record["without_shared"] if one["value"] is not None
            )
            lines.append(f"without the {record['shared']:,} test items that are in train: {told}")
        floor = ", ".join(f"{one['name']} {one['value']:.3f}" for one in record["floor"] if one["value"] is not None)
        lines.append(f"floor, the commonest answer: {floor}")
        if record["tried"]:
            told = ", ".join(f"{rate} {dev:.3f}" for rate, dev in record["tried"].items())
            lines.append(f"rate {record['rate']:g}, chosen on dev: {told}")
        dev = ", ".join(f"{one['best_dev']:.3f} after epoch {one['best_epoch']}" for one in record["seeds"])
        return "\n".join([*lines, f"dev {record['chosen_by']}: {dev}", f"{self.folder / PREDICTIONS}", str(self.model)])


def finetune(
    model: Annotated[Path, tyro.conf.Positional],
    data: Annotated[Path, tyro.conf.Positional],
    *,
    task: Literal["auto", "classify", "regress", "tag", "spans", "text"] = "auto",
    columns: str = "",
    train: str = "",
    dev: str = "",
    test: str = "",
    tune: Literal["full", "frozen", "lora"] = "full",
    from_scratch: bool = False,
    pool: Literal["auto", "mean", "last", "first"] = "auto",
    seeds: int = 3,
    seed: int = 0,
    epochs: int = 10,
    patience: int = 3,
    batch: int = 16,
    rate: tuple[float, ...] | float = (),
    head_rate: float = 0.0,
    warmup: float = 0.1,
    decay: float = 0.01,
    dropout: float = 0.1,
    rank: int = 8,
    alpha: float = 16.0,
    limit: int = 0,
    out: Path | None = None,
    device: str = "auto",
    threads: int = 0,
    dtype: Literal["auto", "float32", "bfloat16"] = "float32",
    json: Path | None = None,
) -> Finetuned:
    """Fine-tune a model of any family on labelled items or on targets of sources, and measure it on test.

    Examples:
        sightline finetune runs/mine reviews/ --out runs/reviews
        sightline finetune runs/mine cola/ --columns text=4,label=2 --train in_domain_train.tsv --dev in_domain_dev.tsv
        sightline finetune runs/mine pairs.csv --columns text=premise,pair=hypothesis,label=gold --tune lora
        sightline finetune runs/mine ewt/ --columns tags=5 --tune frozen --seeds 5
        sightline finetune runs/mine summaries.jsonl --task text --columns source=article,target=summary

    Args:
        model: a model folder, or the folder of a run.
        data: a folder with files named train, dev and test, or one file, from which dev and test are cut:
            .jsonl .json .tsv .csv .conllu .conll .txt .parquet .arrow, also .gz and .zst.
        task: classify or regress a text or a pair of texts, tag words, spans (answers in a context), text (a target
            written for a source). auto: by the columns.
        columns: which column is what, as text=sentence,label=label; by number in tables without a header
            (text=1,label=2), and in files of words and tags (words=1,tags=4). Of what is not named the usual names
            are looked for: text or sentence, pair, label, words, tags, context, question, answers, source, target.
        train: the file of training items, in the folder or elsewhere.
        dev: the file by which the epoch is chosen.
        test: the file on which results are told.
        tune: full: all weights of the stack; frozen: none, only a head on its states; lora: adapters of low rank.
        from_scratch: begin with fresh weights of the same stack, to see what pretraining gave.
        pool: what stands for a text: its mean, last or first state, and for a word of its tokens. auto: the last where
            a place sees only what was read before it, else the mean; of an encoder and decoder the encoder's mean.
        seeds: how many are run, each with its own head, order and dropout.
        seed: the first of them; also of what is cut off train.
        epochs: at most; the one best on dev is kept.
        patience: stop when dev was no better for so many epochs; 0: never.
        batch: items of an update.
        rate: of the stack, at its highest; of several each is tried with the first seed, and dev chooses. Default:
            5e-5, as for BERT-base; more in proportion where a stack is narrower, or its weights are larger (as those
            that Muon trained); ten times as much for adapters.
        head_rate: of the head; 0: three times the stack's, 0.003 where that is frozen.
        warmup: share of the steps in which the rates rise; they then fall in a straight line.
        decay: of matrices, decoupled.
        dropout: of what enters the head; where targets are learned, of what each part of a layer adds.
        rank: of adapters.
        alpha: of adapters; their product counts alpha / rank.
        limit: training items at most, drawn by seed; 0: all.
        out: the folder of results; the same command given again goes on there. Default: runs/MODEL-DATA-TUNE.
        device: auto, cpu, cuda, ...
        threads: of the CPU; 0: as many as there are cores.
        dtype: float32, in which results repeat, bfloat16, or auto.
        json: also write the results to this file.
    """
    from ..data.examples import read_examples
    from .ground import machine

    rates = list(rate) if isinstance(rate, tuple | list) else [rate]
    settings: dict[str, Any] = {
        "task": task, "tune": tune, "from_scratch": from_scratch, "pool": pool, "epochs": epochs, "patience": patience,
        "batch": batch, "rate": rates, "head_rate": head_rate, "warmup": warmup, "decay": decay, "dropout": dropout,
        "rank": rank, "alpha": alpha, "dtype": dtype,
    }  # fmt: skip
    _sound(settings | {"seeds": seeds})
    found = read_examples(
        data, task=task, columns=columns, named={"train": train, "dev": dev, "test": test}, seed=seed, limit=limit
    )
    for note in found.notes:
        say(note)
    place, _, kind = machine(device, threads, dtype)
    work = _Work(model, found, settings | {"task": found.task, "dtype": kind}, place)
    name = "-".join([work.path.parent.name if work.path.name == "model" else work.path.name, data.stem, tune])
    folder = Path(out) if out else Path("runs") / f"{name}{'-scratch' if from_scratch else ''}"
    try:
        with locked(folder):
            work.claims(folder)
            work.choose(folder, seed)
            for number in range(seed, seed + seeds):
                work.seed(folder, number)
            results, scores = work.results(folder, range(seed, seed + seeds))
    except KeyboardInterrupt as stop:
        raise Stopped(f"Stopped. To continue, give the same command again (it goes on in {folder}).") from stop
    if json is not None:
        write_json(Path(json), results)
    if found.task == "text":
        following = f"sightline translate {shlex.quote(str(folder))} {quoted(found.test[0].text)}"
    else:
        following = f"sightline finetune {shlex.quote(str(model))} {shlex.quote(str(data))}"
        following += "".join(
            f" --{name} {value}"
            for name, value in (("columns", columns), ("train", train), ("dev", dev), ("test", test))
            if value
        )
        following += " --from-scratch" if not from_scratch else " --tune frozen"
    return Finetuned(folder, folder / "model", results, scores, following)


def _sound(settings: Mapping[str, Any]) -> None:
    """Refuse settings that mean nothing."""
    for name in ("seeds", "epochs", "batch"):
        if settings[name] < 1:
            raise SightlineError(f"--{name} {settings[name]} is none at all", "Give 1 or more")
    for name in ("head_rate", "decay", "patience"):
        if settings[name] < 0:
            raise SightlineError(f"--{name.replace('_', '-')} {settings[name]:g} is below 0", "Give 0 or more")
    for rate in settings["rate"]:
        if not 0 < rate < math.inf:
            raise SightlineError(f"--rate {rate:g} teaches nothing", "Give more than 0, such as 5e-5")
    if len(settings["rate"]) > 1 and settings["tune"] == "frozen":
        raise SightlineError("a frozen stack has no rate to choose", "Leave --rate away; the head's is --head-rate")
    for name in ("warmup", "dropout"):
        if not 0 <= settings[name] < 1:
            raise SightlineError(f"--{name} {settings[name]:g} is no share", "Give 0 or more, and less than 1")


def teaching(examples: Examples, model: Model, told: Mapping[str, float] | None = None) -> Teaching[Any]:
    """What the items of a task are to a model; for targets it is used up.

    ``told`` : the numbers of train that answers need, where nothing is learned any more.
    """
    from ..evaluation.labelling import Classifying, Regressing, Tagging
    from ..evaluation.pointing import Pointing
    from ..evaluation.telling import Telling

    kinds: dict[str, Callable[[Examples, Model, Any], Teaching[Any]]] = {
        "classify": Classifying, "regress": Regressing, "tag": Tagging, "spans": Pointing, "text": Telling
    }  # fmt: skip
    return kinds[examples.task](examples, model, told)


class _Work:
    """A model, a task's items and settings: what every seed begins with."""

    def __init__(self, model: Path, examples: Examples, settings: dict[str, Any], device: str) -> None:
        from .. import hub
        from ..training.finetuning import usual_rate

        self.path, self.settings, self.device = hub.located(model), settings, device
        self.tried: dict[str, float] = {}  # rates, and what each came to on dev
        learned = self._model(None)
        self.usual = usual_rate(learned.stack)  # of fresh weights too: a comparison has one rate
        self.teaching = teaching(examples, learned)
        self.examples = self.teaching.examples
        for note in self.teaching.notes:
            say(note)
        self.mark = hub.model_fingerprint(self.path)

    def _model(self, seed: int | None) -> Model:
        """The model that a seed begins with; None: as it was learned."""
        from .. import hub
        from ..objectives.tuned import renewed

        found = hub.load(self.path)
        if seed is not None and self.settings["from_scratch"]:
            found = renewed(found, seed)
        return found.to(self.device)

    def _tuned(self, seed: int) -> Tuned:
        own = ("pool", "tune", "rank", "alpha", "dropout")
        how = {name: self.settings[name] for name in own}
        return cast("Tuned", self.teaching.tuned(self._model(seed), seed=seed, **how))

    def claims(self, folder: Path) -> None:
        """Take a folder that is new, or of just this work; another's is refused with what differs."""
        mark = self.settings | {"data": self.examples.fingerprint, "model": self.mark}
        path = folder / SETTINGS
        if not path.exists():
            if others := [one.name for one in folder.iterdir() if not one.name.startswith(".")]:
                raise SightlineError(f"{folder} holds other files ({', '.join(others[:3])})", "Choose another --out")
            write_json(path, mark)
            return
        kept = read_json(path)
        differ = [f"{name} {kept.get(name)}, not {value}" for name, value in mark.items() if kept.get(name) != value]
        if differ:
            raise SightlineError(
                f"{folder} holds a fine-tuning of another kind ({'; '.join(differ[:3])})", "Choose another --out"
            )

    def choose(self, folder: Path, seed: int) -> None:
        """Of several rates take the one that is best on dev with this seed, whose run is then the folder's first."""
        rates = self.settings["rate"]
        if len(rates) < 2:
            return
        places = {rate: folder / TRIED / f"{rate:g}" for rate in rates}
        for rate, place in places.items():
            self.settings["rate"] = [rate]
            self.seed(place, seed)
            self.tried[f"{rate:g}"] = read_json(place / f"seed-{seed}" / DONE)["best_dev"]
        best = max(rates, key=lambda rate: self.tried[f"{rate:g}"])
        self.settings["rate"] = [best]
        if not (folder / f"seed-{seed}").exists():
            for name in (HEAD, TASK):
                if (places[best] / name).exists():
                    shutil.copyfile(places[best] / name, folder / name)
            with whole_folder(folder / "model") as aside:
                shutil.copytree(places[best] / "model", aside, dirs_exist_ok=True)
            with whole_folder(folder / f"seed-{seed}") as aside:
                shutil.copytree(places[best] / f"seed-{seed}", aside, dirs_exist_ok=True)
        for place in places.values():
            shutil.rmtree(place / "model", ignore_errors=True)

    def seed(self, folder: Path, seed: int) -> None:
        """Train and answer with one seed, unless that is done; the model best on dev so far is kept."""
        from ..training.finetuning import finetuned

        place = folder / f"seed-{seed}"
        if (place / DONE).exists():
            return
        tuned, task = self._tuned(seed), self.teaching
        parameters = sum(one.numel() for _, one in tuned.trained)  # before adapters are folded in
        tuning = self._tuning()
        course = finetuned(
            tuned, task.lengths, partial(task.loss, tuned), partial(task.dev, tuned), tuning, place / "checkpoints",
            seed=seed, title=f"seed {seed}" + (f", rate {tuning.rate:g}" if folder.parent.name == TRIED else ""),
        )  # fmt: skip
        answers = task.answers(tuned, "test")
        with whole_file(place / PREDICTIONS, "w") as handle:
            for line in self._lines(answers, seed):
                handle.write(dumps(line, ensure_ascii=False) + "\n")
        kept = folder / TASK
        if not kept.exists() or read_json(kept)["best_dev"] < course.best:
            self._kept(folder, tuned, seed, course.best)
        record = {"seed": seed, **course.record(), "parameters": parameters, "represents": tuned.represents}
        write_json(place / DONE, record | {"rate": None if self.settings["tune"] == "frozen" else tuning.rate})
        shutil.rmtree(place / "checkpoints", ignore_errors=True)

    def _tuning(self) -> Tuning:
        from ..training.finetuning import Tuning

        chosen = self.settings
        times = LORA_TIMES if chosen["tune"] == "lora" else 1.0
        plain = chosen["rate"][0] / times if chosen["rate"] else self.usual
        rate, head = plain * times, chosen["head_rate"] or HEAD_TIMES * plain
        if chosen["tune"] == "frozen":
            head = chosen["head_rate"] or FROZEN_RATE
        own = ("epochs", "batch", "warmup", "decay", "patience", "dtype")
        return Tuning(rate=rate, head_rate=head, **{name: chosen[name] for name in own})

    def _kept(self, folder: Path, tuned: Tuned, seed: int, best: float) -> None:
        """The model folder of a seed, and beside it its head, if it has one, and what its outputs mean."""
        from .. import hub
        from ..objectives.tuned import Headed

        if isinstance(tuned, Headed):
            from safetensors.torch import save

            with whole_file(folder / HEAD) as handle:
                state = {name: value.detach().cpu().contiguous() for name, value in tuned.head.state_dict().items()}
                handle.write(save(state))
        recipe: dict[str, Any] = {"finetune": {key: str(value) for key, value in self.settings.items()}}
        if self.examples.task == "text":
            recipe["pairs"] = True
        hub.save(tuned.whole(), folder / "model", recipe=recipe)
        told = {"task": self.examples.task, "labels": list(self.examples.labels), "pool": self.settings["pool"]}
        write_json(folder / TASK, told | {"told": dict(self.teaching.told), "seed": seed, "best_dev": best})

    def _lines(self, answers: Sequence[Answer], seed: int) -> Iterator[dict[str, Any]]:
        for item, answer, shared in zip(self.examples.test, answers, self.examples.shared, strict=True):
            yield {
                "item": item.id, "group": "", "gold": self.teaching.gold(item), "predicted": answer.predicted,
                "correct": answer.correct, "scores": list(answer.scores), "seed": seed, "in_train": shared,
            }  # fmt: skip

    def results(self, folder: Path, seeds: Sequence[int]) -> tuple[dict[str, Any], tuple[Score, ...]]:
        """Join the seeds: all answers in one file, and figures with intervals over items and seeds."""
        from ..evaluation.teaching import Answer

        test, told = self.examples.test, list[list[Answer]]()
        with whole_file(folder / PREDICTIONS, "w") as handle:
            for seed in seeds:
                lines = (folder / f"seed-{seed}" / PREDICTIONS).read_text(encoding="utf-8").splitlines(keepends=True)
                handle.writelines(lines)
                records = [loads(line) for line in lines]
                told.append([Answer(one["predicted"], one["correct"], tuple(one["scores"])) for one in records])
        scores = tuple(self.teaching.figures(test, told))
        clean = [at for at, shared in enumerate(self.examples.shared) if not shared]
        without: list[Score] = []
        if 0 < len(clean) < len(test):
            some = [[answers[at] for at in clean] for answers in told]
            without = self.teaching.figures([test[at] for at in clean], some)
        done = [read_json(folder / f"seed-{seed}" / DONE) for seed in seeds]
        base = self._model(None)
        record = {
            "family": base.objective.family, "model": str(self.path), **self.settings,
            "rate": done[0]["rate"], "tried": self.tried,
            "represents": done[0]["represents"], "chosen_by": self.teaching.by,
            "items": {side: len(getattr(self.examples, side)) for side in ("train", "dev", "test")},
            "shared": len(test) - len(clean), "notes": [*self.examples.notes, *self.teaching.notes],
            "scores": [one.record() for one in scores], "without_shared": [one.record() for one in without],
            "floor": [one.record() for one in self.teaching.figures(test, [self.teaching.floor(test)])],
            "seeds": done,
        }  # fmt: skip
        write_json(folder / RESULTS, record)
        return record, scores
