"""What a frozen model's layers hold: a linear probe of each on labelled items, beside floors that need no model."""

from __future__ import annotations

import json as jsons
import shlex
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from ..errors import SightlineError, Stopped
from ..files import locked, read_json, whole_file, write_json
from ..progress import say
from .ready import Dtype, ready

if TYPE_CHECKING:
    from ..data.examples import Examples
    from ..evaluation.probing import Probing
    from ..evaluation.score import Measured, Score

MARK = "probe.json"


@dataclass(frozen=True)
class Probed:
    """What was read off a model's layers.

    Parameters
    ----------
    folder : of results.json, predictions.jsonl and layers.svg. model : its folder. results : as in results.json.
    next : a command to go on with.
    """

    folder: Path
    model: Path
    results: dict[str, Any]
    next: str

    def __str__(self) -> str:
        told, control = self.results, "selectivity" in self.results["layers"][0]
        sizes = " / ".join(f"{told['items'][side]:,}" for side in ("train", "dev", "test"))
        rows = [("layer", "C", "dev", "test", *(("control", "selectivity") if control else ()))]
        for one in told["layers"]:
            extra = (f"{one['control']['value']:.1%}", f"{one['selectivity']:+.1%}") if control else ()
            rows.append((_name(one["layer"]), f"{one['C']:g}", f"{one['dev']:.1%}", _share(one["test"]), *extra))
        rows += [(name, "", "", _share(one), *(("", "") if control else ())) for name, one in told["floors"].items()]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        table = [
            "  ".join(
                [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
            )
            for row in rows
        ]
        table[told["best"] + 1] += "  chosen on dev"
        head = f"{told['family']}, {told['task']}: {len(told['labels'])} labels, {sizes} items"
        clean = told["without_shared"]
        beside = [f"without the {told['shared']:,} test items that are in train: {_share(clean)}"] if clean else []
        kept = f"{self.folder}: predictions.jsonl, layers.svg"
        return "\n".join([head, "", *(line.rstrip() for line in table), "", *beside, kept])

    def record(self) -> dict[str, Any]:
        """As plain JSON."""
        return self.results


def probe(
    model: Annotated[Path, tyro.conf.Positional],
    data: Annotated[Path, tyro.conf.Positional],
    *,
    task: Literal["auto", "classify", "tag"] = "auto",
    columns: str = "",
    train: str = "",
    dev: str = "",
    test: str = "",
    limit: int = 5000,
    control: bool = False,
    out: Path | None = None,
    seed: int = 0,
    device: str = "auto",
    threads: int = 0,
    dtype: Dtype = "auto",
    json: Path | None = None,
) -> Probed:
    """Read classes of texts, or tags of words, off each layer of a frozen model by a linear probe.

    Nothing of the model is trained: what a layer's probe tells is what a line through its states can tell. Beside the
    layers stand the commonest answer and what counting words alone reaches.

    Examples:
        sightline probe runs/mine reviews/
        sightline probe runs/mine cola/ --columns text=4,label=2 --train in_domain_train.tsv --dev in_domain_dev.tsv
        sightline probe runs/mine ewt/ --control

    Args:
        model: a model folder, or the folder of a run.
        data: a folder with files named train, dev and test, or one file, from which dev and test are cut (see
            finetune, which reads the same).
        task: classify a text or a pair of texts, or tag words. auto: by the columns.
        columns: which column is what, as text=sentence,label=label; by number in tables without a header.
        train: the file of training items, in the folder or elsewhere.
        dev: the file by which strength and layer are chosen.
        test: the file on which results are told.
        limit: training items at most, drawn by seed; 0: all. Of words 20,000 at most are learned from.
        control: beside tags also random ones, the same for a word wherever it stands (Hewitt and Liang, 2019): what a
            probe does better than that was read off the states, not learned by heart.
        out: the folder of results. Default: runs/MODEL-DATA-probe.
        seed: of what is drawn.
        device: auto, cpu, cuda, ...
        threads: of the CPU; 0: as many as there are cores.
        dtype: auto is float32, in which results repeat.
        json: also write the results to this file.
    """
    from .. import hub
    from ..data.examples import read_examples
    from ..evaluation.probing import probe_layers

    found = read_examples(
        data, task=task, columns=columns, named={"train": train, "dev": dev, "test": test}, seed=seed, limit=limit
    )
    for note in found.notes:
        say(note)
    with ready(model, "", device, threads, dtype) as (path, whole):
        name = path.parent.name if path.name == "model" else path.name
        folder = Path(out) if out else Path("runs") / f"{name}-{data.stem}-probe"
        mark = hub.model_fingerprint(path)
        settings = {"control": control, "seed": seed, "dtype": dtype, "data": found.fingerprint, "model": mark}
        with locked(folder):
            _claimed(folder, settings)
            aside = folder / ".layers"
            try:
                probing = probe_layers(whole, found, control=control, seed=seed, kept=aside)
            except KeyboardInterrupt as stop:
                raise Stopped(f"stopped; the layers that are done are in {folder}: the same command goes on") from stop
            for note in probing.notes:
                say(note)
            results = _record(path, whole.objective.family, found, probing, seed)
            _saved(folder, found, probing, results)
            shutil.rmtree(aside, ignore_errors=True)
    if json is not None:
        write_json(Path(json), results)
    given = {"columns": columns, "train": train, "dev": dev, "test": test}
    more = "".join(f" --{name} {shlex.quote(value)}" for name, value in given.items() if value)
    again = f"sightline finetune {shlex.quote(str(model))} {shlex.quote(str(data))}{more}"
    return Probed(folder, path, results, again)


def _claimed(folder: Path, settings: dict[str, Any]) -> None:
    """Take a folder that is new, or of just this work."""
    mark = folder / MARK
    if not mark.exists():
        if others := [one.name for one in folder.iterdir() if not one.name.startswith(".")]:
            raise SightlineError(f"{folder} holds other files ({', '.join(others[:3])})", "Choose another --out")
        write_json(mark, settings)
    elif (held := read_json(mark)) != settings:
        differ = [name for name, value in settings.items() if held.get(name) != value]
        raise SightlineError(f"{folder} holds a probe with other {', '.join(differ)}", "Choose another --out")


def _record(path: Path, family: str, examples: Examples, probing: Probing, seed: int) -> dict[str, Any]:
    import numpy as np

    layers = []
    for one in probing.layers:
        told: dict[str, Any] = {"layer": one.layer, "C": one.strength, "dev": one.dev}
        told["test"] = _scored(one.measured, seed).record()
        if one.control is not None:
            told |= {"control": _scored(one.control, seed).record(), "selectivity": one.selectivity}
        layers.append(told)
    shared = np.array(examples.shared, np.bool_)
    some = 0 < int(shared.sum()) < len(shared)
    clean = _scored(probing.layers[probing.best].measured.only(~shared), seed).record() if some else None
    return {
        "family": family, "model": str(path), "task": examples.task, "labels": list(examples.labels),
        "items": {side: len(getattr(examples, side)) for side in ("train", "dev", "test")},
        "layers": layers, "best": probing.best, "chosen_by": "accuracy on dev",
        "shared": int(shared.sum()), "without_shared": clean,
        "floors": {name: _scored(one, seed).record() for name, one in probing.floors.items()},
        "notes": [*examples.notes, *probing.notes],
    }  # fmt: skip


def _scored(one: Measured, seed: int) -> Score:
    from ..evaluation.score import scored

    return scored([one], seed)


def _saved(folder: Path, examples: Examples, probing: Probing, results: dict[str, Any]) -> None:
    """Answers of the layer that was chosen, figures of all, and their picture."""
    from ..report.chart import Whisker, alone, whiskers

    with whole_file(folder / "predictions.jsonl", "w") as handle:
        for line in _lines(examples, probing):
            handle.write(jsons.dumps(line, ensure_ascii=False) + "\n")
    rows = [(_name(one["layer"]), one["test"], one["layer"] == results["best"], False) for one in results["layers"]]
    rows += [(name, one, False, True) for name, one in results["floors"].items()]
    marks = [Whisker(name, one["value"], one["low"], one["high"], int(best), floor) for name, one, best, floor in rows]
    with whole_file(folder / "layers.svg", "w") as handle:
        handle.write(alone(whiskers(marks, f"accuracy on test, {results['family']}, {results['task']}")))
    write_json(folder / "results.json", results)


def _lines(examples: Examples, probing: Probing) -> Iterator[dict[str, Any]]:
    for item, predicted in zip(examples.test, probing.predicted, strict=True):
        if examples.task == "tag":
            gold: Any = list(item.tags)
            right = sum(one == other for one, other in zip(predicted, gold, strict=True)) / len(gold)
        else:
            gold, right = item.label, int(predicted == item.label)
        yield {"item": item.id, "group": "", "gold": gold, "predicted": predicted, "correct": right, "scores": []}


def _name(layer: int) -> str:
    return f"layer {layer}" if layer else "embedding"


def _share(one: dict[str, Any]) -> str:
    if one["low"] is None:
        return f"{one['value']:.1%}"
    return f"{one['value']:.1%} [{100 * one['low']:.1f} to {100 * one['high']:.1f}]"
