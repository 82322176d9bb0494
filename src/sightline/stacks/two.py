"""Two stacks, one after the other: an encoder of the source, and a decoder that looks at its states.

    stream 0   source -> encoder -> states -.
    stream 1   target -> decoder ------------*-> states      each layer: itself, then the source, then feed-forward

A view has one axis of slots, those of the source first. Who sees whom in the source, in the target and across is read
off the view's one rule; a matrix over all slots is never made, and the source's keys are worked out once for a text.
Vaswani et al., Attention Is All You Need (2017).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Protocol, cast

import torch
from torch import Tensor, nn

from ..errors import SightlineError
from ..sight import OPENING, Depth, View, opening, settled, visible_pairs
from .cache import Cache
from .layer import Cross, Layer, Source
from .look import Look
from .shape import Shape
from .transformer import Transformer

SOURCE, TARGET = 0, 1  # streams; whatever is not of the source belongs to the decoder


def sides(view: View) -> tuple[View, View]:
    """The view of the source's slots, and that of the target's: columns that are alike in every line.

    Each has the rule as it is where only its own slots are seen: a plain one, if the source is an opening and the
    target is none.
    """
    stream = view.slots.stream
    count = int((stream[0] == SOURCE).sum())
    if bool((stream[:, :count] != SOURCE).any()) or bool((stream[:, count:] == SOURCE).any()):
        raise ValueError("the slots of a source stand before all others, in the same columns of every line")
    parts = view.columns(slice(0, count)), view.columns(slice(count, None))
    return _settled(parts[0]), _settled(parts[1])


def _settled(view: View) -> View:
    opens = view.slots.segment == OPENING
    if opens.any() and not opens.all():
        return view
    return replace(view, sight=settled(view.sight, opening, bool(opens.all())))


class HandedSource(Protocol):
    """What holds a source in another form, to which it was handed over."""

    @property
    def look(self) -> Look:
        """Its slots."""

    def lines(self, index: Tensor) -> HandedSource:
        """Some of the lines, or lines repeated."""

    def back(self) -> Source:
        """The source in torch's form."""


class TwoCache:
    """A source, and what the decoder made of the slots of its target so far; counts are of both."""

    def __init__(self) -> None:
        self._source: Source | None = None
        self.handed: HandedSource | None = None
        self.target = Cache()

    @property
    def source(self) -> Source | None:
        """The source, made by torch or asked back."""
        if self._source is None and self.handed is not None:
            self._source = self.handed.back()
        return self._source

    @source.setter
    def source(self, source: Source | None) -> None:
        self._source, self.handed = source, None

    def hand_over(self, to: HandedSource) -> None:
        """Let another form hold the source until it is asked for here."""
        self._source, self.handed = None, to

    @property
    def _before(self) -> int:
        held = self._source or self.handed
        return 0 if held is None else held.look.tokens.shape[1]

    @property
    def count(self) -> int:
        """Slots held."""
        return self._before + self.target.count

    def cut(self, count: int) -> None:
        """Forget every slot after the first ``count``; a source that is cut is forgotten whole."""
        own = count - self._before
        if own < 0:
            self.source = None
        self.target.cut(max(0, own))

    def lines(self, index: Tensor) -> None:
        """Keep, repeat or reorder lines."""
        self._source = None if self._source is None else self._source.lines(index)
        self.handed = None if self.handed is None else self.handed.lines(index)
        self.target.lines(index)


class Two(nn.Module):
    """An encoder and a decoder with one table of token vectors.

    Parameters
    ----------
    shape : of both; its layers are those of the encoder and the decoder together.
    decoder : layers of the decoder.
    """

    packs = True

    def __init__(self, shape: Shape, decoder: int) -> None:
        super().__init__()
        if not 0 < decoder < shape.layers:
            raise SightlineError(
                f"{shape.layers} layers cannot be an encoder and a decoder of {decoder}", "Give each 1 or more"
            )
        self.shape, self.decoder_layers = shape, decoder
        self.embedding = nn.Embedding(shape.vocabulary, shape.of_table)
        self.encoder = Transformer(replace(shape, layers=shape.layers - decoder), table=False)
        own = replace(shape, layers=decoder, relative_both_ways=False)
        self.decoder = Transformer(own, table=False, crosses=True)
        nn.init.normal_(self.embedding.weight, std=shape.table_std)

    @property
    def depth(self) -> Depth:
        """What both, one after the other, do to a sight."""
        return Depth(self.shape.layers, keeps_input=True)

    @property
    def width(self) -> int:
        """Width of the states."""
        return self.shape.width

    def operations(self, view: View) -> float:
        """Of one pass over the view's slots, counted as a transformer's are; across, keys and values of each layer."""
        source, target = sides(view)
        one = Depth(1, keeps_input=True)
        inside = [visible_pairs(part, one) for part in (source, target)]
        across = visible_pairs(view, one) - sum(inside)
        slots = [float(part.slots.lines * part.slots.count) for part in (source, target)]
        layers = len(self.decoder.layers)
        kept = sum(cast(Cross, cast(Layer, layer).cross).kv.weight.numel() for layer in self.decoder.layers)
        return (
            self.encoder.flops(slots[0], inside[0] * len(self.encoder.layers))
            + self.decoder.flops(slots[1], (inside[1] + across) * layers)
            + 2.0 * kept * (slots[0] - slots[1])  # keys and values are the source's
        )

    def readied(self, look: Look) -> Look:
        """See ``Transformer``."""
        return self.encoder.readied(look)

    def forward(
        self,
        source: Look | None,
        target: Look | None,
        cache: TwoCache | None = None,
        taps: list[Tensor] | None = None,
    ) -> Tensor:
        """States of the source's slots and then of the target's, of those that are given.

        With a cache the source may be held already, and the target's are new slots. ``taps`` : as a transformer's, of
        the encoder where no target is given, else of the decoder.
        """
        states: list[Tensor] = []
        held = None if cache is None else cache.source
        if source is not None:
            vectors = self.embedding(source.tokens.clamp(min=0))
            seen = cast(Tensor, self.encoder(source, None, taps if target is None else None, vectors))
            states.append(seen)
            held = self.decoder.source(source, seen)
            if cache is not None:
                cache.source = held
        if target is not None:
            if held is None:
                raise ValueError("a target without a source: a text with neither begins with an empty source")
            states.append(self.written(target, None if cache is None else cache.target, held, taps))
        return states[0] if len(states) == 1 else torch.cat(states, dim=1)

    def written(self, target: Look, cache: Cache | None, source: Source, taps: list[Tensor] | None = None) -> Tensor:
        """States of the target's slots alone, which look at a source."""
        vectors = self.embedding(target.tokens.clamp(min=0))
        return cast(Tensor, self.decoder(target, cache, taps, vectors, source))
