"""Targets for many sources, in batches of like length: what a family of pairs is for."""

from __future__ import annotations

from collections.abc import Sequence

from ..decoders.canvas import Canvas
from ..decoders.policy import Beam, NextPlace, Policy
from ..decoders.sampling import GREEDY
from ..errors import SightlineError
from ..progress import bar
from .model import Model
from .pen import Ids, Pen, Text, must_write, reading

SLOTS = 8192  # of sources and targets written together, of all beams
LONGER = 16  # tokens that a target may have beyond twice its source's


def translate(
    model: Model,
    sources: Sequence[str],
    *,
    beams: int = 1,
    length_penalty: float = 1.0,
    length: int = 0,
    slots: int = SLOTS,
    seed: int = 0,
) -> list[Text]:
    """The likeliest target of each source, in the order of the sources; an empty source has an empty target.

    Parameters
    ----------
    beams : width of the search; 1: the likeliest token after token. length_penalty : see ``Beam``.
    length : most tokens of a target; 0: twice those of its source and a few, within the model's context.
    slots : places that are worked on together, which bounds memory.
    seed : of whatever a family draws.

    Raises
    ------
    SightlineError : a family that reads no pairs, settings that make no sense, or a source beyond the context.
    """
    must_write(model)
    if model.objective.reads != "pairs":
        raise SightlineError(
            f"{model.objective.family} was not trained on pairs", "Use a model of seq2seq or its like, or generate"
        )
    if length < 0 or slots < 1:
        raise SightlineError(f"a length of {length} in {slots} slots writes nothing", "Use 0 for the usual, or more")
    pen = Pen.of(model, GREEDY, seed)
    encoded = [[*pen.start, *model.tokenizer.encode(source).tolist(), *pen.middle] for source in sources]
    for source, ids in zip(sources, encoded, strict=True):
        if len(ids) > model.context:
            raise SightlineError(
                f"a source of {len(ids)} tokens exceeds the model's context, {model.context}: {source[:40]!r}...",
                "Shorten it, or cut it into sentences",
            )
    policy: Policy = NextPlace() if beams == 1 else Beam(beams, length_penalty)
    how = f"left to right, {f'beam of {beams}' if beams > 1 else 'the likeliest token'}"
    texts = [Text("", ("",), "left", how, 0.0)] * len(sources)
    order = sorted((at for at, source in enumerate(sources) if source.strip()), key=lambda at: len(encoded[at]))
    with bar("writing", len(order), "texts") as shown, reading(model):
        while order:
            batch = _together(order, encoded, pen, length, slots // max(1, beams))
            del order[len(order) - len(batch) :]
            canvas = Canvas.laid([[encoded[at], _room(encoded[at], model.context, length)] for at in batch])
            done = pen.write(canvas, policy, model.objective.stops)
            for line, owner in enumerate(done.owners):
                new = done.canvas.tokens[line][done.canvas.inside[line] & ~done.canvas.given[line]].tolist()
                text = model.tokenizer.decode(new)
                texts[batch[int(owner)]] = Text(text, (text,), "left", how, float(done.total[line]))
            shown.advance(len(batch))
    return texts


def _room(ids: Ids, context: int, length: int) -> int:
    """Places for the target of a source, the mark that ends it too."""
    return min(context - 1, length or 2 * len(ids) + LONGER)


def _together(order: list[int], encoded: list[Ids], pen: Pen, length: int, slots: int) -> list[int]:
    """The last of the sources, the longest left, as many as fit in so many slots; at least one."""
    each = len(encoded[order[-1]]) + _room(encoded[order[-1]], pen.model.context, length)
    return order[-max(1, slots // each) :]
