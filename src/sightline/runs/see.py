"""What a model sees: the sight it declares beside the sight that is measured, and every leak by name."""

from __future__ import annotations

import re
import shlex
from dataclasses import asdict, dataclass, replace
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from ..errors import SightlineError
from ..files import read_json, whole_file, write_json

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    from ..data import Rows, Tokenizer
    from ..objectives.model import Model
    from ..sight import View

    Bools = NDArray[np.bool_]
    Ints = NDArray[np.int64]

TEXT = "The cat sat on the mat and saw the moon."
MOST = 64  # tokens looked at: every one of them is changed in turn
WIDE = 24  # tokens up to which the two squares stand side by side
LISTED = 12  # leaks told in words
GAP = 32  # between the two pictures


@dataclass(frozen=True)
class Leak:
    """A slot that sees what it must not.

    Parameters
    ----------
    slot : the token (its place in ``tokens``) whose slot it is.
    answer : the token it is asked for, or None where it only sees more than was declared.
    sees : tokens that it must not see. path : how it gets there, slot by slot, where that is known.
    why : the same in words.
    """

    slot: int
    answer: int | None
    sees: tuple[int, ...]
    path: tuple[int, ...]
    why: str


@dataclass(frozen=True)
class Seen:
    """What a model sees of a text; matrices are [tokens, tokens], row i the slot that shows token i.

    Parameters
    ----------
    model : its folder. kind : the family, or the class of transformers. rule : as the family states it, if it is ours.
    tokens : as a person reads them.
    declared, measured : the name of the one rule that fits the matrix, or None.
    declared_matrix : what may be seen at the stack's depth; None where nothing is declared.
    measured_matrix : what is seen. leaks : all of them. notes : what had to be made up or cut.
    next : a command to go on with.
    """

    model: Path
    kind: str
    rule: str | None
    tokens: tuple[str, ...]
    declared: str | None
    measured: str | None
    declared_matrix: Bools | None
    measured_matrix: Bools
    leaks: tuple[Leak, ...]
    notes: tuple[str, ...]
    next: str

    @property
    def wrong(self) -> Bools:
        """The cells that leak."""
        cells = self.measured_matrix & False
        for leak in self.leaks:
            cells[leak.slot, list(leak.sees)] = True
        return cells

    def record(self) -> dict[str, Any]:
        """As plain JSON."""
        declared = self.declared_matrix
        return {
            "model": str(self.model),
            "kind": self.kind,
            "rule": self.rule,
            "tokens": list(self.tokens),
            "declared": self.declared,
            "measured": self.measured,
            "declared_matrix": None if declared is None else declared.tolist(),
            "measured_matrix": self.measured_matrix.tolist(),
            "leaks": [asdict(leak) for leak in self.leaks],
            "notes": list(self.notes),
        }

    def __str__(self) -> str:
        from ..sight import as_text

        width = max(map(len, self.tokens))
        labels = [f"{token:>{width}} " for token in self.tokens]
        pictures = [(self._titles[1], as_text(self.measured_matrix, self.wrong & self.measured_matrix))]
        if self.declared_matrix is not None:
            pictures.insert(0, (self._titles[0], as_text(self.declared_matrix, self.wrong & self.declared_matrix)))
        if len(self.tokens) > WIDE:
            squares = [line for title, drawing in pictures for line in ("", *_beside(labels, [(title, drawing)]))]
        else:
            squares = ["", *_beside(labels, pictures)]
        told = [
            f"{len(self.leaks)} leaks" if len(self.leaks) > 1 else "1 leak",
            *(leak.why for leak in self.leaks[:LISTED]),
        ]
        if len(self.leaks) > LISTED:
            told.append(f"... and {len(self.leaks) - LISTED} more (--json FILE holds them all)")
        head = f"{self.kind}" + (f", sight: {self.rule}" if self.rule else "")
        legend = "Each row is the slot that shows a token, each column a token that it sees (■; ! where it must not)."
        return "\n".join([head, *squares, "", legend, *(told if self.leaks else ["no leaks"]), *self.notes])

    @property
    def _titles(self) -> tuple[str, str]:
        return f"declared: {self.declared or 'no one rule'}", f"measured: {self.measured or 'no one rule'}"

    def svg(self) -> str:
        """Both squares as one SVG image."""
        from ..sight import as_svg

        declared = [] if self.declared_matrix is None else [(self._titles[0], self.declared_matrix)]
        parts, across, height = [], 0, 0
        for title, cells in (*declared, (self._titles[1], self.measured_matrix)):
            drawing = as_svg(cells, self.wrong & cells, self.tokens, title, cell=14)
            found = re.match(r'<svg [^>]*?width="(\d+)" height="(\d+)"', drawing)
            assert found is not None  # our own drawing
            parts.append(f'<g transform="translate({across} 0)">{drawing}</g>')
            across += max(int(found[1]), 7 * len(title)) + GAP
            height = max(height, int(found[2]))
        ink = ":root{color:#1b2733}@media(prefers-color-scheme:dark){:root{color:#e8ecf1}}"
        label = escape(f"what {self.kind} sees: row asks column", quote=True)
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {across - GAP} {height}" width="{across - GAP}" '
            f'height="{height}" role="img" aria-label="{label}"><style>{ink}</style>{"".join(parts)}</svg>\n'
        )


def _beside(labels: Sequence[str], pictures: Sequence[tuple[str, str]]) -> list[str]:
    """Squares side by side, tokens at the left, a title above each."""
    margin = len(labels[0])
    widths = [max(len(title), 2 * len(labels) - 1) for title, _ in pictures]
    head = " " * margin + "    ".join(f"{title:<{width}}" for (title, _), width in zip(pictures, widths, strict=True))
    columns = [drawing.splitlines() for _, drawing in pictures]
    body = [
        label + "    ".join(f"{line:<{width}}" for line, width in zip(row, widths, strict=True))
        for label, row in zip(labels, zip(*columns, strict=True), strict=True)
    ]
    return [line.rstrip() for line in (head, *body)]


def see(
    folder: Annotated[Path, tyro.conf.Positional],
    *,
    text: str = TEXT,
    replacements: int = 3,
    package: str = "",
    svg: Path | None = None,
    json: Path | None = None,
    tokenizer: str = "",
    seed: int = 0,
    device: str = "cpu",
    threads: int = 0,
    dtype: Literal["auto", "float32"] = "auto",
) -> Seen:
    """Show what a model sees: the sight it declares beside the sight that is measured, with every leak named.

    Works on what Sightline trained and on any model folder of Hugging Face on this disk. To measure, each token is
    replaced by others and the gradient is taken; no mask and no configuration is believed.

    Examples:
        sightline see runs/mine --text "Who may see whom?"
        sightline see models/gpt2 --svg sight.svg --json sight.json

    Args:
        folder: a model folder, or the folder of a run.
        text: what the model is shown; its first 64 tokens are looked at. A family of pairs is shown a source and,
            behind a tab, its target; without a tab the text as both.
        replacements: other tokens tried in each place.
        package: your own package that defines the model's family; code outside Sightline is not run unasked.
        svg: also draw both sights into this file.
        json: also write names, matrices and leaks to this file.
        tokenizer: a tokenizer.json, for a folder that has none.
        seed: of the replacements.
        device: auto, cpu, cuda, ...
        threads: of the CPU; 0: as many as there are cores.
        dtype: always float32: a rounded output would hide small moves.
    """
    from .. import hub
    from ..data import Tokenizer
    from .ground import machine

    if replacements < 1:
        raise SightlineError(f"{replacements} replacements change nothing", "Use 1 or more")
    if svg is not None and svg.suffix != ".svg":
        raise SightlineError(f"{svg} does not end in .svg", f"Write --svg {shlex.quote(str(svg) + '.svg')}")
    path = hub.located(folder)
    place, _, _ = machine(device, threads, "float32")
    held = Tokenizer.load(tokenizer) if tokenizer else None
    if hub.ours(path) or read_json(path / "config.json").get("model_type") == "sightline":
        model = hub.load(path, package=package or None, tokenizer=held).to(place).eval()
        seen = _own(path, model, text, replacements, seed)
    else:
        seen = _foreign(path, place, held, text, replacements, seed)
    if json is not None:
        write_json(json, seen.record())
    if svg is not None:
        with whole_file(svg, "w") as handle:
            handle.write(seen.svg())
    return seen


def _cut(count: int, context: int | None) -> tuple[int, tuple[str, ...]]:
    """How many tokens are looked at, and a remark where that is not all."""
    most = MOST if context is None else min(MOST, context)
    if count < 2:
        raise SightlineError(f"a text of {count} tokens has nobody else to see", "Give --text a few words")
    if count <= most:
        return count, ()
    return most, (f"the text has {count:,} tokens; the first {most} are looked at",)


def _own(path: Path, model: Model, text: str, replacements: int, seed: int) -> Seen:
    """A model of ours: its objective declares, its stack is measured."""
    import numpy as np
    import torch
    from torch import nn

    from ..data import Rows
    from ..evaluation.perturbation import Probe, measured_sight, named_sight
    from ..evaluation.sample import with_marks
    from ..sight import reach

    ids = with_marks(_encoded(model, text), model.tokenizer).astype(np.int64)
    count, notes = _cut(len(ids), model.context)
    ids = ids[:count]
    rows = Rows.of([ids], model.tokenizer)
    view = model.objective.read(rows)
    shows = view.shows[0]

    def outputs(texts: Ints) -> tuple[torch.Tensor]:
        same = view.lines(np.zeros(len(texts), np.int64))  # the layout is the text's own, whatever is changed in it
        return (model.states(replace(same, lines_of=np.arange(len(texts))), texts),)

    table = getattr(model.stack, "embedding", None)
    tables = (table,) if isinstance(table, nn.Module) else ()
    measured = measured_sight(
        Probe(outputs, shows, tables, model.objective.vocabulary.ordinary), ids, replacements, seed
    )
    declared = _by_token(reach(view, model.depth)[0], shows, count)
    leaks = [*_static_leaks(model, rows, seed), *_undeclared(declared, measured)]
    verb = "score" if model.objective.columns else "embed"
    if model.objective.reads == "pairs":
        verb, text = "translate", text.partition("\t")[0]
    return Seen(
        model=path,
        kind=model.objective.family,
        rule=model.objective.rule.text,
        tokens=tuple(_plain(model.tokenizer.show(int(id))) for id in ids),
        declared=named_sight(declared),
        measured=named_sight(measured),
        declared_matrix=declared,
        measured_matrix=measured,
        leaks=tuple(leaks),
        notes=notes,
        next=f"sightline {verb} {shlex.quote(str(path))} {shlex.quote(text)}",
    )


def _encoded(model: Model, text: str) -> NDArray[np.int32]:
    """Ids of the text; for a family of pairs those of source and target, which a tab parts, or of the text as both."""
    import numpy as np

    if model.objective.reads != "pairs":
        return model.tokenizer.encode(text)
    source, _, target = text.partition("\t")
    sides = [model.tokenizer.encode(side) for side in (source, target or source)]
    sep = np.array([model.objective.vocabulary.need("sep")], np.int32)
    return np.concatenate([sides[0], sep, sides[1]])


def _by_token(reached: Bools, shows: Ints, count: int) -> Bools:
    """Slots by slots to tokens by tokens: slots that show the same token are taken together."""
    import numpy as np

    seen = np.zeros((count, count), dtype=np.bool_)
    slots = np.flatnonzero(shows >= 0)
    np.logical_or.at(seen, (shows[slots][:, None], shows[slots][None, :]), reached[np.ix_(slots, slots)])
    return seen


def _static_leaks(model: Model, rows: Rows, seed: int) -> list[Leak]:
    """Asked slots of the training views that can reach their answer at the stack's depth."""
    from ..data import Draws
    from ..sight import leaks

    found = []
    for view in model.objective.ask(rows, Draws(seed).of(rows), 0.0):
        for leak in leaks(view, model.depth, most=view.asks.size):
            path = tuple(_token_of(view, leak.line, slot) for slot in leak.path)
            way = " from ".join(map(str, path))
            why = f"asked for token {leak.position}, the slot of token {path[0]} reaches it: {way}"
            found.append(Leak(path[0], leak.position, (leak.position,), path, why))
    return found


def _token_of(view: View, line: int, slot: int) -> int:
    """The token a slot shows, or the place that it stands for where it shows a mark."""
    shown = int(view.shows[line, slot])
    return shown if shown >= 0 else int(view.slots.place[line, slot])


def _undeclared(declared: Bools, measured: Bools) -> list[Leak]:
    """Slots that see more than was declared."""
    import numpy as np

    found = []
    for slot in np.flatnonzero((measured & ~declared).any(1)).tolist():
        sees = tuple(np.flatnonzero(measured[slot] & ~declared[slot]).tolist())
        named = ", ".join(map(str, sees[:8])) + (", ..." if len(sees) > 8 else "")
        why = f"the slot of token {slot} moves with {'token' if len(sees) == 1 else 'tokens'} {named}, undeclared"
        found.append(Leak(slot, None, sees, (), why))
    return found


def _foreign(path: Path, place: str, tokenizer: Tokenizer | None, text: str, replacements: int, seed: int) -> Seen:
    """A folder of transformers: nothing is declared but what a slot is asked for."""
    import numpy as np

    from ..evaluation.perturbation import Probe, measured_sight, named_sight
    from ..hub.foreign import opened, read_as

    model = opened(path, place)
    reading = read_as(model, text, tokenizer)
    count, notes = _cut(len(reading.ids), model.context)
    ids, labels = reading.ids[:count], tuple(_plain(label) for label in reading.labels[:count])
    first = 0
    if model.two_stacks:  # both stacks are shown the text; rows and columns are the encoder's, then the decoder's
        ids, first = np.concatenate([ids, ids]), count
        labels = (*(f"source {label}" for label in labels), *(f"target {label}" for label in labels))
    alphabet = np.setdiff1d(np.arange(model.rows), sorted(model.marks | reading.marks))
    probe = Probe(model.outputs, np.arange(len(ids)), model.tables, alphabet)
    measured = measured_sight(probe, ids, replacements, seed)
    silent = (
        () if model.asks_next else (f"{model.class_name} does not say what a slot is asked for: no leak can be named",)
    )
    leaks = []
    for slot in range(first, len(ids) - 1) if model.asks_next else ():
        if measured[slot, slot + 1]:
            why = f"asked for token {slot + 1}, the slot of token {slot} sees it"
            leaks.append(Leak(slot, slot + 1, (slot + 1,), (slot, slot + 1), why))
    return Seen(
        model=path,
        kind=model.class_name,
        rule=None,
        tokens=labels,
        declared=None,
        measured=named_sight(measured),
        declared_matrix=None,
        measured_matrix=measured,
        leaks=tuple(leaks),
        notes=(*model.notes, *reading.notes, *notes, *silent),
        next=f"sightline see {shlex.quote(str(path))} --text {shlex.quote(text)} --svg sight.svg",
    )


def _plain(label: str) -> str:
    """A label that stays in its line."""
    return "".join(character if character.isprintable() else "?" for character in label) or "?"
