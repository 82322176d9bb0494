"""A transformer built of parts. It knows no direction: what a slot may see comes with the look.

    shown tokens -> embedding (+ positions, + segments) -> layers x [attention, feed-forward] -> norm -> states

Shapes: B lines, S slots, H heads, D width of a head, W width of the stack.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import SightlineError
from ..sight import Depth, Rule, everything, near
from .attention import Mask, allowed, attend
from .cache import Cache
from .columns import Columns
from .experts import Experts
from .flex import block_mask
from .look import Look
from .numbers import Numbers
from .parts import (
    Activation,
    Norm,
    Positions,
    activated,
    alibi_scores,
    buckets,
    norm,
    rotated,
    rotation,
    sinusoids,
)


@dataclass(frozen=True)
class Shape:
    """A transformer's architecture.

    Parameters
    ----------
    layers, width, heads : as ever; ``kv_heads`` < ``heads`` is grouped-query attention (1: multi-query).
    vocabulary : rows of the embedding table; 0: numbers are read. context : positions, where they have a table.
    head_width : width / heads unless given. hidden : width of the feed-forward layer, 4 * width unless given.
    table_width : of the tables of tokens, positions and segments; what they give is projected to ``width`` (ELECTRA).
    norm, norm_gain, norm_bias, norm_eps, norm_place : ``pre`` (Xiong et al., 2020), ``post`` (Vaswani et al., 2017) or
        ``sandwich`` (CogView, 2021). qk_norm normalises queries and keys per head (Henry et al., 2020).
    embedding_norm, final_norm : norms before the first and after the last layer. first_norm : before the attention of
        the first layer too, as of every other; ModernBERT has none there.
    window_base : of the rotation in layers that have a window; None: ``rope_base`` (ModernBERT: 10,000 beside 160,000).
    stretch : of the rotation, for longer texts than it was learned in (see ``frequencies``); empty: none.
    embedding_scale : what vectors of tokens are multiplied by. sines_first : of sinusoids, all sines stand before all
        cosines, in place of by turns (both: Marian).
    placed : sinusoids are added to what enters the first layer, beside positions that tell distances (rope, relative).
    positions : how places are told; ``position_tables`` is 2 for two-dimensional positions, learned (GLM) or rotary,
        where each dimension turns half of the pairs; a view with fewer dimensions has 0 in the others.
    gated : a gate beside the feed-forward layer (SwiGLU with ``silu``, GeGLU with ``gelu``; Shazeer, 2020).
    experts : feed-forward layers of which a router chooses ``chosen`` for each slot (see ``Experts``); 0: there is one,
        for all. balance : weight of how unevenly they are chosen, beside the mean nats of an answer, in training.
    attention_bias, feed_bias, output_bias : biases of q/k/v, of the feed-forward layer, of the attention's output.
    windows : reach of each layer, repeated over the layers; None sees all (ModernBERT: (None, 64, 64)).
    parallel : attention and feed-forward side by side (GPT-J, PaLM).
    segments : rows of a segment table (BERT); 0: none. blank : a learned vector for slots that show nothing (XLNet).
    """

    layers: int
    width: int
    heads: int
    vocabulary: int
    context: int
    kv_heads: int | None = None
    head_width: int | None = None
    hidden: int | None = None
    table_width: int | None = None
    norm: Norm = "layer"
    norm_gain: bool = True
    norm_bias: bool = False
    norm_eps: float = 1e-5
    norm_place: Literal["pre", "post", "sandwich"] = "pre"
    qk_norm: bool = True
    embedding_norm: bool = False
    first_norm: bool = True
    final_norm: bool = True
    positions: Positions = "rope"
    rope_base: float = 10_000.0
    window_base: float | None = None
    stretch: tuple[float, ...] = ()
    placed: bool = False
    embedding_scale: float = 1.0
    sines_first: bool = False
    position_tables: int = 1
    relative_buckets: int = 32
    relative_furthest: int = 128
    relative_both_ways: bool = True
    activation: Activation = "relu2"
    gated: bool = False
    experts: int = 0
    chosen: int = 2
    balance: float = 0.01
    attention_bias: bool = False
    output_bias: bool = False
    feed_bias: bool = False
    windows: tuple[int | None, ...] = ()
    parallel: bool = False
    segments: int = 0
    blank: bool = False
    dropout: float = 0.0
    scale: float | None = None

    def __post_init__(self) -> None:
        if self.head_width is None and self.width % self.heads:
            raise SightlineError(
                f"a width of {self.width} does not divide into {self.heads} heads", "Change one, or give head_width"
            )
        if self.heads % self.shared_heads:
            raise SightlineError(
                f"{self.heads} heads cannot share {self.shared_heads} key-value heads evenly", "Use a divisor"
            )
        if len(self.stretch) not in (0, 1, 4, 5) or any(part <= 0 for part in self.stretch):
            raise SightlineError(
                f"a rotation is not stretched by {self.stretch}",
                "Give (factor,), (factor, low, high, context) or (factor, context, fast, slow, sharper)",
            )
        if self.experts and not 0 < self.chosen <= self.experts:
            raise SightlineError(
                f"{self.chosen} of {self.experts} experts cannot be chosen", "Use 1 or more, up to all"
            )
        if self.positions == "rope" and self.of_head % (2 * self.position_tables):
            whole = "an even width" if self.position_tables == 1 else f"a multiple of {2 * self.position_tables}"
            raise SightlineError(f"rotary positions turn pairs, but a head is {self.of_head} wide", f"Use {whole}")

    @property
    def shared_heads(self) -> int:
        return self.kv_heads or self.heads

    @property
    def of_head(self) -> int:
        return self.head_width or self.width // self.heads

    @property
    def feed(self) -> int:
        return self.hidden or 4 * self.width

    @property
    def of_table(self) -> int:
        return self.table_width or self.width

    @property
    def by_place(self) -> bool:
        """Whether each slot is told where it stands, and not only how far others are."""
        return self.positions in ("learned", "sinusoidal") or self.placed

    @property
    def attention_scale(self) -> float:
        """What the products of queries and keys are multiplied by; of a rotation stretched as YaRN does, sharper."""
        sharper = self.stretch[4] if len(self.stretch) == 5 else 1.0
        return self.usual_scale * sharper**2

    @property
    def usual_scale(self) -> float:
        return self.scale or self.of_head**-0.5

    @property
    def table_std(self) -> float:
        """Of fresh token vectors: 1 before a norm at the start of each layer, 0.02 where there is none."""
        return 1.0 if self.norm_place != "post" and not self.embedding_norm else 0.02

    def window(self, layer: int) -> int | None:
        """How far the layer looks, or None."""
        return self.windows[layer % len(self.windows)] if self.windows else None


def _head_norm(shape: Shape) -> nn.Module:
    """Of queries or keys, head by head."""
    return norm(shape.norm, shape.of_head, shape.norm_eps, shape.norm_gain, shape.norm_bias)


class Attention(nn.Module):
    """Multi-head attention with its projections; q, k and v come from one matrix."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        self.splits = (
            shape.heads * shape.of_head,
            shape.shared_heads * shape.of_head,
            shape.shared_heads * shape.of_head,
        )
        self.qkv = nn.Linear(shape.width, sum(self.splits), bias=shape.attention_bias)
        self.qkv.parts = self.splits  # type: ignore[assignment]  # three matrices to Muon
        self.out = nn.Linear(shape.heads * shape.of_head, shape.width, bias=shape.output_bias)
        if shape.qk_norm:
            self.norm_q, self.norm_k = _head_norm(shape), _head_norm(shape)

    def forward(
        self, x_BSW: Tensor, mask: Mask, turn: tuple[Tensor, Tensor] | None, cache: Cache | None, layer: int
    ) -> Tensor:
        shape = self.shape
        lines, slots, _ = x_BSW.shape
        q, k, v = self.qkv(x_BSW).split(self.splits, dim=-1)
        # Contiguous once, here: a norm, its backward pass and the attention would each copy.
        q = q.view(lines, slots, shape.heads, shape.of_head).transpose(1, 2).contiguous()
        k = k.view(lines, slots, shape.shared_heads, shape.of_head).transpose(1, 2).contiguous()
        v = v.view(lines, slots, shape.shared_heads, shape.of_head).transpose(1, 2).contiguous()
        if shape.qk_norm:
            q, k = self.norm_q(q), self.norm_k(k)
        if turn is not None:
            q, k = rotated(q, turn), rotated(k, turn)
        if cache is not None:
            k, v = cache.extended(layer, k, v)
        dropout = shape.dropout if self.training else 0.0
        seen = attend(q, k, v, mask, shape.attention_scale, dropout)
        return self.out(seen.transpose(1, 2).reshape(lines, slots, -1))  # type: ignore[no-any-return]


@dataclass(frozen=True)
class Source:
    """States of another stack, as the layers of a decoder look at them; made once for a source.

    Parameters
    ----------
    look : their slots. keys, values : of each layer, [B, H, slots, D].
    """

    look: Look
    keys: list[Tensor]
    values: list[Tensor]

    def lines(self, index: Tensor) -> Source:
        """Some of the lines, or lines repeated."""
        return Source(
            self.look.lines(index), [keys[index] for keys in self.keys], [values[index] for values in self.values]
        )


class Cross(nn.Module):
    """Attention to another stack's states; it is told no places (Vaswani et al., 2017)."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        self.queries = nn.Linear(shape.width, shape.heads * shape.of_head, bias=shape.attention_bias)
        self.splits = (shape.shared_heads * shape.of_head,) * 2
        self.kv = nn.Linear(shape.width, sum(self.splits), bias=shape.attention_bias)
        self.kv.parts = self.splits  # type: ignore[assignment]  # two matrices to Muon
        self.out = nn.Linear(shape.heads * shape.of_head, shape.width, bias=shape.output_bias)
        if shape.qk_norm:
            self.norm_q, self.norm_k = _head_norm(shape), _head_norm(shape)

    def _by_heads(self, x_BSW: Tensor, heads: int) -> Tensor:
        return x_BSW.view(*x_BSW.shape[:2], heads, self.shape.of_head).transpose(1, 2).contiguous()

    def shown(self, states_BSW: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values of the other stack's states."""
        both = self.kv(states_BSW).split(self.splits, dim=-1)
        k, v = (self._by_heads(part, self.shape.shared_heads) for part in both)
        return self.norm_k(k) if self.shape.qk_norm else k, v

    def forward(self, x_BSW: Tensor, keys: Tensor, values: Tensor, mask: Mask) -> Tensor:
        q = self._by_heads(self.queries(x_BSW), self.shape.heads)
        q = self.norm_q(q) if self.shape.qk_norm else q
        dropout = self.shape.dropout if self.training else 0.0
        seen = attend(q, keys, values, mask, self.shape.attention_scale, dropout)
        return self.out(seen.transpose(1, 2).reshape(*x_BSW.shape[:2], -1))  # type: ignore[no-any-return]


class FeedForward(nn.Module):
    """Two matrices with an activation between, or three where a gate stands beside it."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.activation = shape.activation
        self.up = nn.Linear(shape.width, shape.feed, bias=shape.feed_bias)
        self.gate = nn.Linear(shape.width, shape.feed, bias=shape.feed_bias) if shape.gated else None
        self.down = nn.Linear(shape.feed, shape.width, bias=shape.feed_bias)

    def forward(self, x: Tensor) -> Tensor:
        if self.gate is None:
            return self.down(activated(self.up(x), self.activation))  # type: ignore[no-any-return]
        return self.down(activated(self.gate(x), self.activation) * self.up(x))  # type: ignore[no-any-return]


def _feed(shape: Shape) -> nn.Module:
    """The feed-forward layer of a layer, or its experts."""
    if not shape.experts:
        return FeedForward(shape)
    return Experts(shape.width, [FeedForward(shape) for _ in range(shape.experts)], shape.chosen)


def dropping(stack: nn.Module, share: float) -> None:
    """Let a stack, and those that it is made of, drop this share of what each part adds, in training."""
    for part in stack.modules():
        if isinstance(getattr(part, "shape", None), Shape):
            part.shape = replace(part.shape, dropout=share)  # type: ignore[type-var]
        if isinstance(part, Layer):
            part.dropout = share


class Layer(nn.Module):
    """Attention, to another stack's states too where it ``crosses``, then a feed-forward layer; each beside the stream
    that it adds to."""

    def __init__(self, shape: Shape, first: bool = False, crosses: bool = False) -> None:
        super().__init__()
        if crosses and (shape.parallel or shape.norm_place == "sandwich"):
            raise SightlineError(
                "a decoder that looks at another stack has its sublayers one after the other, normed before or after",
                "Use norm_place pre or post, and no parallel layers",
            )
        self.place, self.parallel, self.dropout = shape.norm_place, shape.parallel, shape.dropout

        def fresh() -> nn.Module:
            return norm(shape.norm, shape.width, shape.norm_eps, shape.norm_gain, shape.norm_bias)

        self.attention, self.feed = Attention(shape), _feed(shape)
        self.norm_attention = fresh() if shape.first_norm or not first else nn.Identity()
        self.cross = Cross(shape) if crosses else None
        self.norm_cross = fresh() if crosses else None
        self.norm_feed = None if shape.parallel else fresh()
        self.after_attention = fresh() if shape.norm_place == "sandwich" else None
        self.after_feed = fresh() if shape.norm_place == "sandwich" and not shape.parallel else None

    def forward(
        self,
        x: Tensor,
        mask: Mask,
        turn: tuple[Tensor, Tensor] | None,
        cache: Cache | None,
        layer: int,
        source: Source | None = None,
        cross_mask: Mask | None = None,
    ) -> Tensor:
        def dropped(y: Tensor) -> Tensor:
            return F.dropout(y, self.dropout, self.training) if self.dropout else y

        if self.parallel:
            normed = self.norm_attention(x)
            both = self.attention(normed, mask, turn, cache, layer) + self.feed(normed)
            return x + dropped(both if self.after_attention is None else self.after_attention(both))
        assert self.norm_feed is not None

        def crossed(x: Tensor) -> Tensor:
            assert self.cross is not None and source is not None and cross_mask is not None
            return dropped(self.cross(x, source.keys[layer], source.values[layer], cross_mask))

        if self.place == "post":
            x = self.norm_attention(x + dropped(self.attention(x, mask, turn, cache, layer)))
            if self.norm_cross is not None:
                x = self.norm_cross(x + crossed(x))
            return self.norm_feed(x + dropped(self.feed(x)))  # type: ignore[no-any-return]
        seen = self.attention(self.norm_attention(x), mask, turn, cache, layer)
        x = x + dropped(seen if self.after_attention is None else self.after_attention(seen))
        if self.norm_cross is not None:
            x = x + crossed(self.norm_cross(x))
        fed = self.feed(self.norm_feed(x))
        return x + dropped(fed if self.after_feed is None else self.after_feed(fed))


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
