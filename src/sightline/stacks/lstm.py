"""Long short-term memory with a projection: slots are read one after the other, each after all those before it.

    shown tokens -> vectors -> layers x [gates, cells, projection; from the second on beside what entered] -> states

    gates  in, forget, out = sigmoid, new = tanh of  A x + R h + b        h: the layer's state of the slot before
    cells  c = clip(forget * c + in * new)                                h = clip(P (out * tanh(c)))

Products with what enters are one for all slots, and the backward pass is written out, so that those of the weights'
slopes are too. Torch's own projected form has no clipping, no half precision that keeps its sums in float32, and no
quick kernel on a processor.

Sak et al., LSTM recurrent neural network architectures for large scale acoustic modeling (2014); Peters et al. (2018).

Shapes: S slots, B lines, W width, C cells.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import SightlineError
from ..sight import NO_DOCUMENT, Depth, past, same_document, same_stream
from .cache import Cache
from .head import product_type
from .look import Look
from .parts import norm
from .shape import Shape

CLIP = 3.0  # of cells and of projections, as in the original


class _Recur(torch.autograd.Function):
    """The part of a layer that must go slot by slot; all its sums over slots are single products."""

    @staticmethod
    def forward(
        ctx: Any,
        entered_SBG: Tensor,
        turn_GW: Tensor,
        out_WC: Tensor,
        state_BW: Tensor,
        cell_BC: Tensor,
        real_SB: Tensor | None,
    ) -> tuple[Tensor, Tensor]:
        wide = torch.promote_types(entered_SBG.dtype, torch.float32)  # of what is summed up over the slots
        count, lines, size = entered_SBG.shape[0], entered_SBG.shape[1], out_WC.shape[1]
        gates = torch.empty(count, lines, 4 * size, dtype=wide, device=entered_SBG.device)
        cells = torch.empty(count, lines, size, dtype=wide, device=entered_SBG.device)
        states = torch.empty(count, lines, out_WC.shape[0], dtype=entered_SBG.dtype, device=entered_SBG.device)
        turned, projected = turn_GW.T, out_WC.T
        state, cell = state_BW.to(entered_SBG.dtype), cell_BC.to(wide)
        for number, (entered, gate, new_cell, new_state) in enumerate(
            zip(entered_SBG.unbind(0), gates.unbind(0), cells.unbind(0), states.unbind(0), strict=True)
        ):
            gate.copy_(torch.addmm(entered, state, turned))
            gate[:, : 3 * size].sigmoid_()
            let_in, keep, let_out, new = gate.chunk(4, dim=1)
            torch.mul(keep, cell, out=new_cell).addcmul_(let_in, new.tanh_()).clamp_(-CLIP, CLIP)
            torch.mm(new_cell.tanh().mul_(let_out).to(states.dtype), projected, out=new_state).clamp_(-CLIP, CLIP)
            if real_SB is not None:  # before a text begins there is nothing to remember
                new_cell *= real_SB[number, :, None]
                new_state *= real_SB[number, :, None]
            state, cell = new_state, new_cell
        ctx.save_for_backward(turn_GW, out_WC, state_BW, cell_BC, gates, cells, states)
        ctx.whole = real_SB is None
        ctx.mark_non_differentiable(cells)
        return states, cells

    @staticmethod
    def backward(ctx: Any, slope_SBW: Tensor, *_: Any) -> Any:
        assert ctx.whole, "padding before a text is for writing, which takes no slopes"
        turn, out, state_BW, cell_BC, gates, cells, states = ctx.saved_tensors
        size, kind = cells.shape[-1], states.dtype
        before = torch.cat([cell_BC[None].to(cells.dtype), cells[:-1]])
        let_in, keep, let_out, new = gates.chunk(4, dim=2)
        squashed = cells.tanh()
        of_cell = (1 - squashed * squashed).mul_(let_out)  # slope of a cell by that of what is projected
        held = cells.abs() < CLIP
        inside = (states.abs() < CLIP).to(kind)
        # What each gate's sum adds to the slope, per unit of the cell's (of the projected, for the gate that lets out).
        d_gates = torch.empty_like(gates)
        for part, value in zip(
            d_gates.chunk(4, dim=2),
            (
                new * let_in * (1 - let_in),
                before * keep * (1 - keep),
                squashed * let_out * (1 - let_out),
                (1 - new * new) * let_in,
            ),
            strict=True,
        ):
            part.copy_(value)
        d_projected = torch.empty_like(states)
        d_state, d_cell = torch.zeros_like(states[0]), torch.zeros_like(cells[0])
        for number in range(len(states) - 1, -1, -1):
            here = torch.add(slope_SBW[number], d_state, out=d_projected[number]).mul_(inside[number])
            d_out = (here @ out).to(cells.dtype)
            d_cell = d_cell.addcmul_(d_out, of_cell[number]).mul_(held[number])
            d_gate = d_gates[number]
            by_gate = d_gate.view(len(d_cell), 4, size)
            by_gate[:, :2] *= d_cell[:, None]
            by_gate[:, 2] *= d_out
            by_gate[:, 3] *= d_cell
            d_cell = d_cell * keep[number]
            d_state = d_gate.to(kind) @ turn
        d_entered = d_gates.to(kind)
        flat = d_entered.flatten(0, 1)
        d_turn = flat.T @ torch.cat([state_BW[None].to(kind), states[:-1]]).flatten(0, 1)
        d_out_WC = d_projected.flatten(0, 1).T @ squashed.mul_(let_out).to(kind).flatten(0, 1)
        return d_entered, d_turn, d_out_WC, None, None, None


@torch.compiler.disable  # type: ignore[untyped-decorator]  # a loop over slots is no graph: unrolled, it would be compiled anew for every length
def _recurred(
    entered: Tensor, turn: Tensor, out: Tensor, state: Tensor, cell: Tensor, real: Tensor | None
) -> tuple[Tensor, Tensor]:
    kind = product_type(entered)
    parts = (part.to(kind) for part in (entered, turn, out))
    found: tuple[Tensor, Tensor] = _Recur.apply(*parts, state, cell, real)  # type: ignore[no-untyped-call]
    return found


class Layer(nn.Module):
    """One layer. The gates' rows come in the order in, forget, out, new."""

    def __init__(self, width: int, cells: int) -> None:
        super().__init__()
        self.enter = nn.Linear(width, 4 * cells)
        self.turn = nn.Linear(width, 4 * cells, bias=False)
        self.out = nn.Linear(cells, width, bias=False)
        for gates in (self.enter, self.turn):
            gates.parts = (cells,) * 4  # type: ignore[assignment]  # four matrices to Muon

    @torch.no_grad()
    def initialise(self) -> None:
        """Fresh weights: what meets in a gate has a variance of 1, and cells begin by remembering."""
        width, cells = self.enter.in_features, self.out.in_features
        nn.init.normal_(self.enter.weight, std=(2 * width) ** -0.5)
        nn.init.normal_(self.turn.weight, std=(2 * width) ** -0.5)
        nn.init.normal_(self.out.weight, std=cells**-0.5)
        nn.init.zeros_(self.enter.bias)
        self.enter.bias[cells : 2 * cells] = 1.0

    def forward(self, x_BSW: Tensor, real_BS: Tensor | None, cache: Cache | None, layer: int) -> Tensor:
        """States [B, S, W]; a cache holds the states and cells of all slots so far, and is extended."""
        lines, cells = len(x_BSW), self.out.in_features
        entered = self.enter(x_BSW).transpose(0, 1)
        if cache is not None and layer < len(cache.keys):
            state, cell = cache.keys[layer][:, 0, -1], cache.values[layer][:, 0, -1]
        else:
            state, cell = x_BSW.new_zeros(lines, x_BSW.shape[2]), x_BSW.new_zeros(lines, cells)
        real = None if real_BS is None else real_BS.T.to(entered.dtype)
        states, held = _recurred(entered, self.turn.weight, self.out.weight, state, cell, real)
        found: Tensor = states.transpose(0, 1)
        if cache is not None:
            cache.extended(layer, found[:, None], held.transpose(0, 1)[:, None])
        return found


class LSTM(nn.Module):
    """States [B, S, W] of the slots of a look, read in the order in which they are laid.

    Parameters
    ----------
    shape : its layers, width, vocabulary, context, dropout and final norm; the rest is of transformers.
    cells : of a layer. table : whether it has a table of token vectors of its own, or is given them.

    A line holds one document, from its first slot on (``packs`` is false); while writing, with a cache, padding may
    stand before it.
    """

    packs = False

    def __init__(self, shape: Shape, cells: int, table: bool = True) -> None:
        super().__init__()
        self.shape, self.cells = shape, cells
        self.embedding = nn.Embedding(shape.vocabulary, shape.width) if table else None
        self.layers = nn.ModuleList(Layer(shape.width, cells) for _ in range(shape.layers))
        ready = (shape.norm, shape.width, shape.norm_eps, shape.norm_gain, shape.norm_bias)
        self.norm_final = norm(*ready) if shape.final_norm else None
        if self.embedding is not None:
            nn.init.normal_(self.embedding.weight)
        for layer in self.layers:
            layer.initialise()  # type: ignore[operator]

    @property
    def depth(self) -> Depth:
        """What this stack does to a sight: nothing, since it can answer one sight only."""
        return Depth(self.shape.layers, keeps_input=True)

    @property
    def width(self) -> int:
        """Width of the states."""
        return self.shape.width

    def flops(self, slots: float, pairs: float) -> float:
        """Operations of one pass: 2 for each weight and slot; pairs cost nothing, since none are looked at."""
        return 2.0 * slots * sum(weight.numel() for weight in self.layers.parameters() if weight.dim() == 2)

    def readied(self, look: Look) -> Look:
        """The look itself: there is no attention to make anything for."""
        return look

    def forward(
        self,
        look: Look,
        cache: Cache | None = None,
        taps: list[Tensor] | None = None,
        vectors: Tensor | None = None,
    ) -> Tensor:
        """States of the slots; ``taps`` is filled with what enters the first layer and what leaves each.

        Raises
        ------
        SightlineError : a sight other than each slot after all those before it.
        """
        _check(look)
        x = vectors if self.embedding is None else self.embedding(look.tokens.clamp(min=0))
        assert x is not None, "an LSTM without a table is given vectors"
        x = torch.where((look.tokens < 0)[..., None], 0.0, x)
        x = x.to(cast(Layer, self.layers[0]).out.weight.dtype)  # tables may be wider
        real = None if cache is None else look.document != NO_DOCUMENT
        if cache is not None:
            held = cache.seen_with(look)
        for number, layer in enumerate(self.layers):
            if taps is not None:
                taps.append(x)
            y = layer(self._dropped(x), real, cache, number)
            x = y if number == 0 else x + y
        x = self._dropped(x)
        if taps is not None:
            taps.append(x)
        if cache is not None:
            cache.look = held
        return x if self.norm_final is None else cast(Tensor, self.norm_final(x))

    def _dropped(self, x: Tensor) -> Tensor:
        return F.dropout(x, self.shape.dropout, self.training) if self.shape.dropout else x


def _check(look: Look) -> None:
    if not set(look.sight.demands) <= {past, same_document, same_stream} or past not in look.sight.demands:
        raise SightlineError(
            f"an LSTM reads slots one after the other and cannot give the sight {look.sight}",
            "Use a family whose rule is past, or a transformer",
        )
    if look.order.device.type == "cpu" and not torch.compiler.is_compiling():
        beside = (look.document[:, 1:] != NO_DOCUMENT) & (look.document[:, :-1] != NO_DOCUMENT)
        if bool(((look.order.diff(dim=1) <= 0) & beside).any()):
            raise SightlineError(
                "an LSTM reads slots as they are laid, and these are not laid in their order", "Lay them by order"
            )
