"""One examination for all families of a comparison: the same documents, the same questions, the same passages.

What each run got on each document is kept beside its record (``measured.npz``), so that seeds are joined, intervals
drawn and families compared in pairs without measuring again.
"""

from __future__ import annotations

import io
import itertools
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import SightlineError
from ..files import whole_file
from ..progress import say
from .recipe import Recipe

if TYPE_CHECKING:
    from ..evaluation.passage import Passage
    from ..evaluation.sample import Sample
    from ..evaluation.score import Measured
    from ..evaluation.task import NoTask, Task
    from ..objectives.model import Model
    from ..training.loop import Trained
    from .ground import Ground

LEAST_SECONDS = 6.0  # of scoring, however short the training
FLOOR = "ngram"  # the family that every run stands beside
COUNTS = "n-gram counts"  # what it is called there


@dataclass(frozen=True)
class Examination:
    """What every family is asked.

    Parameters
    ----------
    sample : documents for bits per byte. task : for the understanding probe. passages, copies : for writing.
    """

    sample: Sample
    task: Task | NoTask
    passages: tuple[Passage, ...]
    copies: tuple[str, ...]

    @classmethod
    def of(
        cls, ground: Ground, first: Recipe, folder: Path, families: Sequence[str] = (), seconds: float = 0.0
    ) -> Examination:
        """The examination of a comparison of families: drawn by its seed, kept in its folder.

        Scoring may take the costliest family ``seconds``; 0: a quarter of what the first trains for.
        """
        from ..evaluation.sample import evaluation_sample
        from ..evaluation.task import task_for

        path = folder / "data" / "sample.npz"
        if path.exists():
            sample = _sample_from(path)
        else:
            seconds = seconds or max(LEAST_SECONDS, 0.25 * _training_seconds(ground, first))
            sample = evaluation_sample(
                ground.corpus.test,
                ground.tokenizer,
                seed=first.seed,
                seconds=seconds,
                cost=_cost(ground, first, families),
                pairs=ground.corpus.kind == "pairs",
            )
            _sample_to(path, sample)
        say(f"evaluation: {sample.note}")
        drawn, others = _passages(ground, first)
        return cls(
            sample=sample,
            task=task_for(ground.corpus, first.source.label or None, first.seed),
            passages=drawn,
            copies=others,
        )

    def sat_by(self, model: Model, place: Path) -> dict[str, Any]:
        """A model's samples and layer choice; what it got on each document is kept in ``place``."""
        from ..evaluation.bits import continuation_bits_per_byte, infilling_bits_per_byte, whole_texts
        from ..evaluation.understanding import probed
        from ..evaluation.writing import written_by

        start = time.perf_counter()
        probe = probed(model, self.task)
        written = written_by(model, self.passages)
        measured = [
            *whole_texts(model, self.sample),
            continuation_bits_per_byte(model, self.sample),
            infilling_bits_per_byte(model, self.sample),
            probe.measured,
            *written.measured,
        ]
        measured_to(place / "measured.npz", measured)
        return {
            "samples": [sample.record() for sample in written.samples],
            "probe_layer": probe.layer,
            "evaluation_seconds": time.perf_counter() - start,
            "measured": [kept_words(one) for one in measured],
            "place": place.name,
        }

    def described(self) -> dict[str, Any]:
        """The examination in words and numbers."""
        from ..evaluation.task import NoTask

        return {
            "note": self.sample.note,
            "documents": self.sample.documents,
            "pieces": len(self.sample.pieces),
            "bytes": self.sample.bytes,
            "blocks": self.sample.blocks,
            "pseudo_share": self.sample.share,
            "understanding": self.task.why if isinstance(self.task, NoTask) else f"{self.task.what} ({self.task.note})",
            "passages": len(self.passages),
            "passage_tokens": self.passages[0].tokens if self.passages else 0,
        }


def _passages(ground: Ground, first: Recipe) -> tuple[tuple[Passage, ...], tuple[str, ...]]:
    """What is to be written of the test side, and as much that was drawn from the training text."""
    from ..evaluation.passage import copies, pair_copies, pair_passages, passages

    corpus, tokenizer, seed = ground.corpus, ground.tokenizer, first.seed
    if corpus.kind == "pairs":
        pairs = pair_passages(corpus.test, tokenizer, seed=seed)
        return pairs, pair_copies(corpus.train, count=len(pairs), seed=seed)
    lengths = _lengths(first.context)
    drawn = passages(corpus.test, tokenizer, seed=seed, **lengths)
    if not drawn:
        return (), ()
    return drawn, copies(corpus.train, tokenizer, count=len(drawn), length=lengths["length"], seed=seed)


def _lengths(context: int) -> dict[str, int]:
    """Tokens of a passage and of what stands on either side, within the context."""
    side = min(64, (context - 8) // 3)
    return {"length": min(32, side), "side": side}


def _training_seconds(ground: Ground, first: Recipe) -> float:
    """How long the first family trains: as said, or as timed."""
    from ..training.budget import Budget
    from .cost import TIMED, costed, seconds_of_fitting, seconds_per_step
    from .ground import objective_for
    from .start import fresh

    budget = Budget.parse(first.budget)
    if budget.kind == "seconds":
        return budget.amount
    model = fresh(ground, first, objective_for(first.family, ground.tokenizer, {}))
    fits_itself = hasattr(model.stack, "fit")
    if fits_itself and not model.stack.repeats:
        return 60.0
    recipe = costed(ground, first, model, "off")
    if fits_itself:
        return recipe.settings.steps * seconds_of_fitting(ground, recipe, model)
    if recipe.settings.steps <= 2 * TIMED:
        return 0.0  # timing would take as long as the training
    packed = ground.packed(ground.train, recipe.context)
    return recipe.settings.steps * seconds_per_step(ground, recipe, model, packed, compiled=False)


def _cost(ground: Ground, first: Recipe, families: Sequence[str]) -> Any:
    """Seconds that scoring takes the costliest family for a sample: of one that reads every byte, in windows and twice
    (whole and continued), of the one that needs a pass for every token it is asked, and of those that look several
    times.
    """
    from ..evaluation.bits import bits_per_byte, continuation_bits_per_byte
    from ..objectives import FAMILIES
    from .ground import objective_for
    from .start import fresh

    names = ["causal", *(["masked"] if ground.tokenizer.vocabulary.mask >= 0 else [])]
    names += [name for name in families if FAMILIES[name].score_class == "bound"]
    models = [fresh(ground, replace(first, start=""), objective_for(name, ground.tokenizer, {})) for name in names]

    def seconds(sample: Sample) -> float:
        taken = []
        for model in models:
            start = time.perf_counter()
            bits_per_byte(model, sample)
            continuation_bits_per_byte(model, sample)
            taken.append(time.perf_counter() - start)
        return max(taken)

    return seconds


def evaluated(ground: Ground, models: Sequence[Model], seconds: float, seed: int) -> list[list[dict[str, Any]]]:
    """Scores of each model on one sample, which takes the first of them about this long."""
    from ..evaluation.bits import continuation_bits_per_byte, infilling_bits_per_byte, whole_texts
    from ..evaluation.sample import evaluation_sample
    from ..evaluation.score import scored

    def measured(model: Model, sample: Sample) -> list[Measured]:  # a family may have only some of them
        others = (continuation_bits_per_byte, infilling_bits_per_byte)
        return [*whole_texts(model, sample), *(measure(model, sample) for measure in others)]

    def cost(sample: Sample) -> float:
        start = time.perf_counter()
        measured(models[0], sample)
        return time.perf_counter() - start

    pairs = ground.corpus.kind == "pairs"
    sample = evaluation_sample(ground.corpus.test, ground.tokenizer, seed=seed, seconds=seconds, cost=cost, pairs=pairs)
    return [[scored([one]).record() for one in measured(model, sample)] for model in models]


def record_of(ground: Ground, recipe: Recipe, model: Model, trained: Trained) -> dict[str, Any]:
    """What a run was and cost, as it stands in ``results.json``; scores come on top."""
    from ..sight import as_svg

    objective = model.objective
    seen, drawing = pictured(objective)
    plain, tables = model.parameter_counts()
    return {
        "family": objective.family,
        "title": objective.title,
        "parameters": plain,
        "embedding_parameters": tables,
        "holds": model.holds,
        "tokens_seen": trained.tokens,
        "slots_seen": trained.slots,
        "asked": trained.asked,
        "seconds": trained.seconds,
        "flops": trained.curve[-1].flops if trained.curve else 0.0,
        "tokens_per_second": trained.tokens / max(trained.seconds, 1e-9),
        "steps": trained.steps,
        "skipped_steps": trained.skipped,
        "best_step": trained.best_step,
        "learning_rate": recipe.settings.optimization.matrix_rate,
        "recipe": recipe.text(),
        "curve": [asdict(point) for point in trained.curve],
        "rule": objective.rule.text,
        "score_class": objective.score_class,
        "stack": objective.stack,
        "decoder": objective.decoder,
        "writes": objective.writes,
        "writes_from": objective.writes_from,
        "reads": objective.reads,
        "sight_text": drawing,
        "sight_svg": as_svg(seen),
        "seed": recipe.seed,
    }


def pictured(objective: Any) -> tuple[Any, str]:
    """A family's sight over a short text, as truth values by place and drawn as text."""
    from .families import picture

    return picture(objective)


def joined(
    outcomes: dict[str, list[dict[str, Any]]], examination: Examination, seed: int, names: Sequence[str], folder: Path
) -> tuple[list[dict[str, Any]], list[dict[str, Any]], list[dict[str, Any]]]:
    """One record per family over its seeds; the floors; and the paired differences between families."""
    families, comparisons, scores_of = families_of(outcomes, seed, names, folder)
    return families, _floors(examination, scores_of, outcomes, seed), comparisons


def families_of(
    outcomes: dict[str, list[dict[str, Any]]], seed: int, names: Sequence[str], folder: Path
) -> tuple[list[dict[str, Any]], list[dict[str, Any]], Any]:
    """One record per family over its seeds; paired differences between families; and the scores of a name."""
    from ..evaluation.score import compared, scored

    measured: dict[str, list[list[Measured]]] = {
        name: [_measured_from(folder / name / run["place"] / "measured.npz", run["measured"]) for run in runs]
        for name, runs in outcomes.items()
    }

    def scores_of(name: str) -> list[dict[str, Any]]:
        return [scored(list(runs), seed).record() for runs in zip(*measured[name], strict=True)]

    families = []
    for name in names:
        runs = outcomes[name]
        record = {key: value for key, value in runs[0].items() if key not in ("measured", "place")}
        for key in ("tokens_per_second", "seconds"):
            record[key] = sum(run[key] for run in runs) / len(runs)
        record["scores"] = scores_of(name)
        record["seeds"] = [
            {
                "seed": run["seed"],
                "best_step": run["best_step"],
                "seconds": run["seconds"],
                "curve": run["curve"],
                "scores": [scored([one], seed).record() for one in got],
            }
            for run, got in zip(runs, measured[name], strict=True)
        ]
        families.append(record)
    comparisons = []
    for one, other in itertools.combinations(names, 2):
        by_name = {runs[0].name: runs for runs in zip(*measured[other], strict=True)}
        for mine in zip(*measured[one], strict=True):
            found = compared(list(mine), list(by_name.get(mine[0].name, ())), seed)
            if found is not None:
                comparisons.append(
                    {"a": one, "b": other, "score": mine[0].name, "column": mine[0].column}
                    | {"difference": found.value, "low": found.low, "high": found.high}
                )
    return families, comparisons, scores_of


def _floors(examination: Examination, scores_of: Any, outcomes: dict[str, Any], seed: int) -> list[dict[str, Any]]:
    """What needs no training by gradient: counts, a copied training passage, the commonest class, a bag of words."""
    from ..evaluation.score import scored
    from ..evaluation.understanding import probe_floors
    from ..evaluation.writing import copied

    floors = []
    if FLOOR in outcomes:
        floors.append({"name": COUNTS, "scores": scores_of(FLOOR)})
    for name, one in probe_floors(examination.task).items():
        floors.append({"name": name, "scores": [scored([one], seed).record()]})
    if examination.passages:
        got = copied(examination.passages, examination.copies)
        floors.append({"name": "a copied training passage", "scores": [scored([one], seed).record() for one in got]})
    return floors


def kept_words(one: Measured) -> dict[str, str]:
    """What a record keeps of a measurement beside its numbers."""
    return {
        key: str(getattr(one, key)) for key in ("name", "unit", "class_", "column", "context_rule", "note", "missing")
    }


def measured_to(path: Path, measured: Sequence[Measured]) -> None:
    """Keep what one run got on each document."""
    import numpy as np

    arrays = {}
    for number, one in enumerate(measured):
        arrays[f"top{number}"], arrays[f"bottom{number}"] = one.top, one.bottom
    _arrays_to(path, {name: np.asarray(value) for name, value in arrays.items()})


def _measured_from(path: Path, words: Sequence[dict[str, str]]) -> list[Measured]:
    from ..evaluation.score import Measured

    arrays = _arrays_from(path)
    return [
        Measured(top=arrays[f"top{number}"], bottom=arrays[f"bottom{number}"], **one)
        for number, one in enumerate(words)
    ]


def _sample_to(path: Path, sample: Sample) -> None:
    import numpy as np

    _arrays_to(
        path,
        {
            "tokens": np.concatenate(sample.tokens),
            "weights": np.concatenate(sample.weights),
            "lengths": np.array([len(one) for one in sample.tokens]),
            "pieces": np.array([(one.document, one.first, one.last, one.bytes) for one in sample.pieces]),
            "blocks": np.array(sample.blocks),
            "share": np.array(sample.share),
            "seed": np.array(sample.seed),
            "note": np.array(sample.note),
            "sep": np.array(sample.sep),
        },
    )


def _sample_from(path: Path) -> Sample:
    import numpy as np

    from ..evaluation.sample import Piece, Sample

    arrays = _arrays_from(path)
    cuts = np.cumsum(arrays["lengths"])[:-1]
    return Sample(
        tokens=tuple(np.split(arrays["tokens"], cuts)),
        weights=tuple(np.split(arrays["weights"], cuts)),
        pieces=tuple(Piece(*(int(number) for number in one)) for one in arrays["pieces"]),
        blocks=bool(arrays["blocks"]),
        share=float(arrays["share"]),
        seed=int(arrays["seed"]),
        note=str(arrays["note"]),
        sep=int(arrays.get("sep", -1)),
    )


def _arrays_to(path: Path, arrays: dict[str, Any]) -> None:
    import numpy as np

    held = io.BytesIO()
    np.savez(held, allow_pickle=False, **arrays)
    with whole_file(path) as handle:
        handle.write(held.getvalue())


def _arrays_from(path: Path) -> dict[str, Any]:
    import zipfile

    import numpy as np

    try:
        with np.load(path, allow_pickle=False) as held:
            return dict(held)
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise SightlineError(
            f"{path} is missing or cut short ({error})", "Remove its folder to measure again"
        ) from error
