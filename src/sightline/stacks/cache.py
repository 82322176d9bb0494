"""Keys and values of slots whose state no longer changes, kept while a text is written."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from .look import Look


class Handed(Protocol):
    """What holds the slots in another form, to which they were handed over."""

    count: int

    def cut(self, count: int) -> None:
        """Forget every slot after the first ``count``."""

    def lines(self, index: Tensor) -> None:
        """Keep, repeat or reorder lines."""

    def back(self, cache: Cache) -> None:
        """Give look, keys and values back to the cache."""


class Cache:
    """What each layer made of the slots so far: keys and values [lines, heads, slots, width], and the slots themselves.

    Memory: 2 * layers * kv_heads * head_width * slots * lines * bytes of the type.
    """

    def __init__(self) -> None:
        self.look: Look | None = None
        self.keys: list[Tensor] = []
        self.values: list[Tensor] = []
        self.handed: Handed | None = None

    def hand_over(self, to: Handed) -> None:
        """Let another form hold the slots until they are asked for here."""
        self.look, self.keys, self.values, self.handed = None, [], [], to

    @property
    def count(self) -> int:
        """Slots held."""
        if self.handed is not None:
            return self.handed.count
        return 0 if self.look is None else self.look.tokens.shape[1]

    def seen_with(self, new: Look) -> Look:
        """All slots that the new ones may look at: those held, then the new ones."""
        if self.handed is not None:
            self.handed.back(self)
            self.handed = None
        return new if self.look is None else self.look.before(new)

    def extended(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values of one layer with the new slots' appended; both are kept."""
        if layer == len(self.keys):
            self.keys.append(keys)
            self.values.append(values)
        else:
            self.keys[layer] = torch.cat([self.keys[layer], keys], dim=2)
            self.values[layer] = torch.cat([self.values[layer], values], dim=2)
        return self.keys[layer], self.values[layer]

    def cut(self, count: int) -> None:
        """Forget every slot after the first ``count``."""
        if self.handed is not None and count:
            self.handed.cut(count)
            return
        if count == 0:
            self.look, self.keys, self.values, self.handed = None, [], [], None
            return
        if self.look is None or count >= self.count:
            return
        self.look = self.look.columns(slice(0, count))
        self.keys = [keys[:, :, :count] for keys in self.keys]
        self.values = [values[:, :, :count] for values in self.values]

    def lines(self, index: Tensor) -> None:
        """Keep, repeat or reorder lines (beams)."""
        if self.handed is not None:
            self.handed.lines(index)
            return
        if self.look is None:
            return
        self.look = self.look.lines(index)
        self.keys = [keys[index] for keys in self.keys]
        self.values = [values[index] for values in self.values]
