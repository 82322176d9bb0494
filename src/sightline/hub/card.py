"""A model's card: what it is, what it sees, what it scored, and how it is loaded."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ..data import Rows
from ..data.series import number_rows
from ..objectives.model import Model
from ..sight import drawn
from ..stacks.linear import Linear
from ..stacks.regressions import Regressions

PLACES = 6  # tokens of the drawing


def card(model: Model, class_name: str | None, results: Mapping[str, Any] | None, data_fingerprint: str | None) -> str:
    """The text of ``README.md``; ``class_name`` is the class of transformers that loads the weights, or None."""
    objective, tokenizer = model.objective, model.tokenizer
    task = "fill-mask" if objective.writes_from == "both" and "infilling" in objective.columns else "text-generation"
    if objective.stack == "two":
        task = "text2text-generation"
    task = task if objective.writes else "feature-extraction"
    if model.numbers:
        task = "time-series-forecasting"
    lines = [
        "---",
        f"library_name: {'transformers' if class_name else 'sightline'}",
        f"pipeline_tag: {task}",
        "tags:",
        "- sightline",
        f"- {objective.family}",
        "---",
        "",
        f"# {objective.title}",
        "",
        "Who may see whom (row asks column):",
        "",
        "```",
        _picture(model),
        "```",
        "",
        "| | |",
        "|---|---|",
        f"| family | {objective.family} |",
        f"| score class | {objective.score_class} |",
        f"| writes | {objective.decoder} |",
        f"| holds | {model.holds} |",
        f"| vocabulary | {f'{tokenizer.size:,} ids ({tokenizer.kind})' if not model.numbers else 'numbers'} |",
    ]
    if not isinstance(model.stack, Linear | Regressions):
        lines.append(f"| context | {model.context:,} {'numbers' if model.numbers else 'tokens'} |")
    lines += [f"| data | fingerprint {data_fingerprint} |"] if data_fingerprint else []
    lines += ["", "## Results", "", *_results(results)] if results else []
    lines += ["", "## Use", ""]
    if class_name:
        lines.append(f"transformers loads it as `{class_name}`; Sightline loads it too, with its family and recipe.")
    else:
        lines.append("Sightline loads it. transformers has no class for this architecture with this sight.")
    example = {
        "fill-mask": 'sightline fill THIS_FOLDER "A text with a ___ in it."',
        "feature-extraction": 'sightline embed THIS_FOLDER "A text to be a vector."',
    }.get(task, "sightline generate THIS_FOLDER")
    commands = [example, 'sightline see THIS_FOLDER --text "What does it see?"']
    if model.numbers:
        commands = ["sightline forecast series.csv --model THIS_FOLDER"]
    lines += ["", "```sh", *commands, "```", ""]
    return "\n".join(lines)


def _picture(model: Model) -> str:
    if model.numbers:
        return drawn(model.objective.read(number_rows([np.zeros(PLACES)], PLACES)))
    ids = model.objective.vocabulary.ordinary[:PLACES]
    rows = Rows.of([np.asarray(ids, dtype=np.int32)], model.tokenizer)
    two = model.objective.stack == "two"  # of which a text that is read shows one
    return drawn(model.objective.pictured(rows) if two else model.objective.read(rows))


def _results(results: Mapping[str, Any]) -> list[str]:
    """Every number and word of the results, nested names joined by dots, as a table."""
    lines = ["| | |", "|---|---|"]

    def walk(name: str, value: object) -> None:
        if isinstance(value, Mapping):
            for key, inner in value.items():
                walk(f"{name}.{key}" if name else str(key), inner)
        elif isinstance(value, list | tuple):
            for index, inner in enumerate(value):
                walk(f"{name}[{index}]", inner)
        elif value is not None:
            shown = f"{value:.4g}" if isinstance(value, float) else str(value)
            lines.append(f"| {name} | {shown} |".replace("\n", " "))

    walk("", results)
    return lines
