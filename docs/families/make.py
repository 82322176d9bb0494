"""Makes the page of each family from its module's docstring and from what is derived of it, and a sheet of all sights.

    python docs/families/make.py

A test holds the pages against what this prints: change the family, run this again.
"""

from __future__ import annotations

import inspect
import sys
import tempfile
from dataclasses import MISSING, fields
from pathlib import Path

import numpy as np

from sightline.data import Draws, Rows
from sightline.data.vocabulary import Vocabulary
from sightline.objectives import FAMILIES, Objective
from sightline.objectives.model import built
from sightline.runs.families import families
from sightline.sight import Depth, asks_per_slot, cacheable, isolated, leaks, score_of, visible_pairs
from sightline.stacks.shape import Shape

HERE = Path(__file__).resolve().parent
TOKENS = 64  # of the text that the numbers are derived from
MARKS = {"pad": 0, "bos": 1, "eos": 2, "mask": 3, "cls": 4, "sep": 5}
WORDS = Vocabulary(256, 256, **MARKS, modes=(6, 7, 8), spares=tuple(range(9, 109)), specials=tuple(range(109)))
TINY = {"layers": 4, "width": 128, "heads": 4}


def text(documents: int, pairs: bool) -> Rows:
    """One row of ``TOKENS`` tokens in documents of equal length; of pairs, the halves of each are its sides."""
    place, size = np.arange(TOKENS)[None], TOKENS // documents
    document = place // size
    tokens = np.random.default_rng(1).integers(109, WORDS.size, (1, TOKENS)).astype(np.int32)
    everywhere, zero = np.ones(tokens.shape, bool), np.zeros(1, np.int64)
    wanted = place % size >= size // 2 if pairs else everywhere
    if pairs:
        tokens[place % size == size // 2 - 1] = WORDS.sep
    return Rows(tokens, document.astype(np.int32), zero, zero, everywhere, document, wanted)


def page(name: str, kind: type[Objective]) -> str:
    """The page of one family, as Markdown."""
    objective = kind(WORDS)
    model = built(objective, Shape(**TINY, vocabulary=WORDS.padded, context=TOKENS), None)  # type: ignore[arg-type]
    pairs = objective.reads == "pairs"
    depth, one, two = model.depth, text(1, pairs), text(2, pairs)
    asked, packed = (objective.ask(rows, Draws(1).of(rows), 0.0) for rows in (one, two))
    declared = sum(int(view.declared.sum()) for view in asked if view.declared is not None)
    found = [leak for view in (*asked, *packed, *objective.examine(one)) for leak in leaks(view, depth)]
    flops = sum(model.flops(view) for view in asked)
    halves = objective.halves  # what is scored and what writes; for most families the family itself
    examined = [view for half in halves for view in half.examine(one)]
    numbers = objective.reads == "numbers"
    told = objective.score_class in ("bound", "discriminative")  # which no graph shows
    scores = [objective.score_class if told else score_of(list(half.examine(one)), depth, numbers) for half in halves]
    none = "none: it counts" if objective.stack == "table" else "none: closed form"
    kept = "yes" if all(map(cacheable, halves[0].examine(one))) else "no"
    if objective.settles:
        kept = "those of finished blocks" if objective.blocks_of else "those of the source"
    facts = [
        ("rule, as the code has it", f"`{objective.rule.text}`".replace("|", r"\|")),  # a table's own sign
        ("score", scores[0] if len(scores) == 1 else f"{' and '.join(scores)}; their mean is a bound"),
        ("columns", ", ".join(objective.columns) or "none"),
        ("writes", objective.decoder),
        ("stack", objective.stack),
        ("answers per slot", f"{sum(map(asks_per_slot, asked)):.3f}"),
        ("pairs looked at, each layer", f"{sum(visible_pairs(view, Depth(1)) for view in asked):,}"),
        ("the same, two documents in the row", f"{sum(visible_pairs(view, Depth(1)) for view in packed):,}"),
        ("passes over the text for a score", f"{sum(view.slots.lines for view in examined):,}"),
        ("operations of a training step, per token", f"{3 * flops / TOKENS:,.0f}" if flops else none),
        ("states may be kept while writing", kept),
        ("documents in a row apart", "yes" if isolated(packed, depth) else "no"),
        ("leaks", "none" if not found else str(len(found))),
        ("declared leaks", f"{declared} of {sum(view.ask_count for view in asked)} answers" if declared else "none"),
    ]
    doc = inspect.cleandoc(sys.modules[kind.__module__].__doc__ or "")
    drawing = next(one.drawing for one in families().families if one.family == name)
    lines = [
        f"# {name}",
        "",
        "<!-- Made by docs/families/make.py from the code; change the code, then run it again. -->",
        "",
        doc,
        "",
        "Six tokens of text, by place (row asks column):",
        "",
        "```text",
        drawing,
        "```",
        "",
        "## Derived",
        "",
        f"From the sight alone, for a {'pair' if pairs else 'row'} of {TOKENS} tokens; "
        f"operations for 4 layers of width 128, {WORDS.size} ids.",
        "",
        "| | |",
        "|---|---|",
        *(f"| {fact} | {value} |" for fact, value in facts),
        "",
        "## Settings",
        "",
        *settings(kind),
        "",
        f"[Code](../../src/sightline/objectives/{Path(inspect.getfile(kind)).name}) · [all pages](../README.md)",
        "",
    ]
    return "\n".join(lines)


def settings(kind: type[Objective]) -> list[str]:
    """The family's own settings with their defaults, and its class docstring where that tells of them."""
    own = [item for item in fields(kind) if item.name != "vocabulary"]
    if not own:
        return ["None."]
    told = inspect.cleandoc(kind.__doc__ or "").partition("----------\n")[2]
    values = ", ".join(f"`{item.name}` = {'-' if item.default is MISSING else item.default!r}" for item in own)
    return [f"{values}; given as `--setting name=value`.", "", "```text", told.strip(), "```"]


def sheet() -> str:
    """All sights side by side, as SVG."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "sights.svg"
        families(svg=path)
        return path.read_text(encoding="utf-8")


def made() -> dict[str, str]:
    """Every file of this folder that is made, by name."""
    return {f"{name}.md": page(name, kind) for name, kind in FAMILIES.items()} | {"sights.svg": sheet()}


if __name__ == "__main__":
    for name, content in made().items():
        (HERE / name).write_text(content, encoding="utf-8", newline="\n")
        print(HERE / name)
