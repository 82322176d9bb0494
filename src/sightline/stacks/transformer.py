"""A transformer built of parts. It knows no direction: what a slot may see comes with the look.

    shown tokens -> embedding (+ positions, + segments) -> layers x [attention, feed-forward] -> norm -> states

Shapes: B lines, S slots, H heads, D width of a head, W width of the stack.
"""

from __future__ import annotations

from dataclasses import replace
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import SightlineError
from ..sight import Depth, Rule, everything, near
from .attention import Mask, allowed
from .cache import Cache
from .columns import Columns
from .experts import Experts
from .flex import block_mask
from .layer import Cross, Layer, Source
from .look import Look
from .numbers import Numbers
from .parts import alibi_scores, buckets, norm, rotation, sinusoids
from .shape import Shape


def _entry(shape: Shape) -> nn.Embedding:
    """The table of tokens, or where there is no vocabulary what takes numbers in its stead."""
    if shape.vocabulary:
        return nn.Embedding(shape.vocabulary, shape.of_table)
    return cast(nn.Embedding, Numbers(shape.of_table))


class Transformer(nn.Module):
    """States [B, S, W] of the slots of a look.

    ``table`` : whether it has a table of token vectors of its own, or is given them.
    ``crosses`` : whether its layers look at another stack's states too.
    """

    packs = True

    def __init__(self, shape: Shape, table: bool = True, crosses: bool = False) -> None:
        super().__init__()
        self.shape = shape
        self.embedding = _entry(shape) if table else None
        if shape.positions == "learned":
            tables = (nn.Embedding(shape.context, shape.of_table) for _ in range(shape.position_tables))
            self.places = nn.ModuleList(tables)
        if shape.positions == "relative":
            self.relative = nn.Embedding(shape.relative_buckets, shape.heads)
        self.segments = nn.Embedding(shape.segments, shape.of_table) if shape.segments else None
        self.blank = nn.Parameter(torch.empty(shape.of_table)) if shape.blank else None
        like = (shape.norm_eps, shape.norm_gain, shape.norm_bias)
        self.norm_embedding = norm(shape.norm, shape.of_table, *like) if shape.embedding_norm else None
        self.project = nn.Linear(shape.of_table, shape.width) if shape.of_table != shape.width else None
        self.layers = nn.ModuleList(Layer(shape, layer == 0, crosses) for layer in range(shape.layers))
        self.norm_final = norm(shape.norm, shape.width, *like) if shape.final_norm else None
        self.initialise()

    @torch.no_grad()
    def initialise(self) -> None:
        """Fresh weights: matrices normal with std 1/sqrt(fan in), outputs of a layer smaller by sqrt(2 * layers)."""
        for name, weight in self.named_parameters():
            if weight.dim() < 2 and name != "blank":
                nn.init.zeros_(weight) if name.endswith("bias") else nn.init.ones_(weight)
            elif "layers." in name or name.startswith("project"):
                small = (2 * self.shape.layers) ** -0.5 if name.endswith(("out.weight", "down.weight")) else 1.0
                nn.init.normal_(weight, std=small * weight.shape[1] ** -0.5)
            elif name.startswith("relative"):
                nn.init.zeros_(weight)
            else:
                nn.init.normal_(weight, std=0.02 if name.startswith("places") else self.shape.table_std)

    @property
    def depth(self) -> Depth:
        """What this stack does to a sight."""
        narrow = tuple(
            everything if (reach := self.shape.window(layer)) is None else near(reach)
            for layer in range(self.shape.layers)
        )
        return Depth(self.shape.layers, keeps_input=True, narrowing=narrow if self.shape.windows else ())

    @property
    def width(self) -> int:
        """Width of the states."""
        return self.shape.width

    def flops(self, slots: float, pairs: float) -> float:
        """Operations of one pass: 2 for each weight of the layers and slot, 4 for each pair looked at and channel."""
        body: float = sum(weight.numel() for weight in self.layers.parameters() if weight.dim() == 2)
        body -= sum(part.idle for part in self.layers.modules() if isinstance(part, Experts))
        body += 0 if self.project is None else self.project.weight.numel()
        return 2.0 * body * slots + 4.0 * pairs * self.shape.heads * self.shape.of_head

    @property
    def _reaches(self) -> set[int | None]:
        return {self.shape.window(layer) for layer in range(self.shape.layers)}

    def _sight(self, look: Look, reach: int | None) -> Rule:
        return look.sight if reach is None else look.sight & near(reach)

    def readied(self, look: Look) -> Look:
        """A look with what is made outside of a graph: block masks for ``flex``, and turns for rotary positions.

        In a graph a GPU would work out cosines and sines anew in every layer, both ways (5% of a step at 1 B).
        FlexAttention takes neither dropout nor the scores of positions here: such a stack gets truth values instead.
        """
        if self.shape.positions == "rope":
            look = replace(look, turns=self._turns(look))
        if look.kernel != "flex":
            return look
        if self.shape.positions in ("alibi", "relative") or (self.shape.dropout and self.training):
            return replace(look, kernel="mask")
        return replace(look, blocks={reach: block_mask(self._sight(look, reach), look) for reach in self._reaches})

    def _turns(self, look: Look) -> tuple[tuple[Tensor, Tensor], ...]:
        """Of layers that see all, and of those with a window where these turn by another base."""
        dtype = cast(Layer, self.layers[0]).attention.out.weight.dtype
        bases = [base for base in (self.shape.rope_base, self.shape.window_base) if base is not None]
        turns = (rotation(self._positions(look), self.shape.of_head, base, self.shape.stretch) for base in bases)
        return tuple((cosine.to(dtype), sine.to(dtype)) for cosine, sine in turns)

    def embedded(self, look: Look, vectors: Tensor | None = None) -> Tensor:
        """What enters the first layer, [B, S, W]; ``vectors`` are the tokens' own, where there is no table here."""
        if not self.shape.vocabulary:
            x = cast(nn.Module, self.embedding)(look.tokens)
        else:
            x = vectors if self.embedding is None else self.embedding(look.tokens.clamp(min=0))
            assert x is not None, "a transformer without a table is given vectors"
            nothing = (look.tokens < 0)[..., None]
            x = x if self.shape.embedding_scale == 1.0 else self.shape.embedding_scale * x
            x = torch.where(nothing, 0.0 if self.blank is None else self.blank, x)
        if self.shape.positions == "learned":
            ids = self._positions(look)
            self._check(ids)
            for table, of_table in zip(self.places, ids.unbind(-1), strict=True):
                x = x + table(of_table)
        elif self.shape.positions == "sinusoidal" or self.shape.placed:
            x = x + sinusoids(look.positions, self.shape.of_table, self.shape.sines_first)
        if self.segments is not None:
            x = x + self.segments(look.segment)
        x = x.to(cast(Layer, self.layers[0]).attention.out.weight.dtype)  # tables may be wider
        x = x if self.norm_embedding is None else self.norm_embedding(x)
        return x if self.project is None else cast(Tensor, self.project(x))

    def _positions(self, look: Look) -> Tensor:
        """Position ids [B, S, position_tables]; 0 in dimensions that the look does not tell."""
        ids = look.positions if look.positions.dim() == 3 else look.positions[..., None]
        missing = self.shape.position_tables - ids.shape[2]
        return F.pad(ids, (0, missing)) if missing > 0 else ids

    def _check(self, ids: Tensor) -> None:
        if torch.compiler.is_compiling() or ids.device.type != "cpu":
            return
        if int(ids.max()) >= self.shape.context:
            raise SightlineError(
                f"position {int(ids.max())} does not fit a stack with {self.shape.context} learned positions",
                "Use a shorter text or a stack with a longer context",
            )

    def forward(
        self,
        look: Look,
        cache: Cache | None = None,
        taps: list[Tensor] | None = None,
        vectors: Tensor | None = None,
        source: Source | None = None,
    ) -> Tensor:
        """States of the slots; with a cache, of new slots that may also see those held, which are then extended.

        ``taps`` is filled with what enters the first layer and what leaves each; ``vectors`` are those of the shown
        tokens [B, S, W], where the stack has no table; ``source`` is what its layers look at beside, where they cross.
        """
        shown = look if cache is None else cache.seen_with(look)
        turns = self._turns(look) if look.turns is None and self.shape.positions == "rope" else look.turns
        scores = self._scores(look, shown)
        masks: dict[int | None, Mask] = {}
        for reach in self._reaches:
            if look.blocks is not None:
                masks[reach] = Mask("flex", flex=look.blocks[reach])
                continue
            kernel = look.kernel if reach is None and shown is look else "mask"
            if kernel == "columns" and scores is None:
                main = look.columns(slice(0, look.tokens.shape[1] - sum(look.streams)))
                masks[reach] = Mask(kernel, columns=Columns.of(allowed(look.sight, main, main), look.streams))
                continue
            kernel = "mask" if kernel == "columns" else kernel
            truth = allowed(self._sight(look, reach), look, shown) if kernel == "mask" else None
            masks[reach] = Mask(kernel, truth, scores)
        cross_mask = None if source is None else Mask("mask", allowed(source.look.sight, look, source.look))
        x = self.embedded(look, vectors)
        if self.shape.dropout and self.training:
            x = F.dropout(x, self.shape.dropout)
        for number, layer in enumerate(self.layers):
            if taps is not None:
                taps.append(x)
            reach = self.shape.window(number)
            turn = None if turns is None else turns[0 if reach is None else -1]
            x = layer(x, masks[reach], turn, cache, number, source, cross_mask)
        if taps is not None:
            taps.append(x)
        if cache is not None:
            cache.look = shown
        return x if self.norm_final is None else self.norm_final(x)

    def source(self, look: Look, states: Tensor) -> Source:
        """Another stack's states [B, S, W] of these slots, as this one's layers look at them."""
        shown = [cast(Cross, layer.cross).shown(states) for layer in cast("list[Layer]", self.layers)]
        return Source(look, [keys for keys, _ in shown], [values for _, values in shown])

    def _scores(self, asking: Look, shown: Look) -> Tensor | None:
        """What positions add to the attention scores, [B, H, Q, K], or None."""
        if self.shape.positions == "alibi":
            return alibi_scores(asking.positions, shown.positions, self.shape.heads)
        if self.shape.positions == "relative":
            distance = shown.positions[:, None, :] - asking.positions[:, :, None]
            shape = self.shape
            bucket = buckets(distance, shape.relative_buckets, shape.relative_furthest, shape.relative_both_ways)
            return self.relative(bucket).permute(0, 3, 1, 2)  # type: ignore[no-any-return]
        return None
