"""A layer of a stack: attention, where it is a decoder's also to another stack's states, and a feed-forward part.

Shapes: B lines, S slots, H heads, D width of a head, W width of the stack.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import SightlineError
from .attention import Mask, attend
from .cache import Cache
from .experts import Experts
from .look import Look
from .parts import activated, norm, rotated
from .shape import Shape


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


def dropping(stack: nn.Module, share: float) -> None:
    """Let a stack, and those that it is made of, drop this share of what each part adds, in training."""
    for part in stack.modules():
        if isinstance(getattr(part, "shape", None), Shape):
            part.shape = replace(part.shape, dropout=share)  # type: ignore[type-var]
        if isinstance(part, Layer):
            part.dropout = share
