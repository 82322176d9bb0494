"""How a stack is built: every size and choice of its parts, and what follows from them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ..errors import SightlineError
from .parts import Activation, Norm, Positions


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
