"""FlexAttention: a sight as a mask function and a block mask, for a stack that is compiled for a GPU.

    keys     0   128   256          a block mask says of each 128 queries which 128 keys hold anything to see, and which
    queries  ■    .     .           are seen whole; the kernel reads the rule itself in the others only
      128    □    ■     .

The rule that NumPy evaluates for leaks and pictures is the mask function: it is called with the fields of one asking
and one seen slot, and uses nothing but operators. Dong et al., Flex Attention (2024).
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask, create_block_mask, flex_attention

from ..sight import Rule
from ..sight.rule import FIELDS
from .look import Look

MaskFunction = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class _Seat:
    """The fields of one slot of each line, as the rule asks for them."""

    place: Tensor
    order: Tensor
    document: Tensor
    segment: Tensor
    stream: Tensor


def mask_function(sight: Rule, look: Look) -> MaskFunction:
    """Whether slot ``asking`` of a line may see slot ``shown``, for every head; the look's fields are captured."""
    fields = tuple(getattr(look, name).to(torch.int32) for name in FIELDS)

    def sees(line: Tensor, head: Tensor, asking: Tensor, shown: Tensor) -> Tensor:
        asker = _Seat(*(field[line, asking] for field in fields))
        seen = _Seat(*(field[line, shown] for field in fields))
        return sight.holds(asker, seen)  # type: ignore[no-any-return]

    return sees


@functools.cache
def _compiled() -> Callable[..., BlockMask]:
    """As written, a mask is some hundred calls through ``vmap``, 20 ms of a processor's time; compiled, half of one."""
    return torch.compile(create_block_mask, dynamic=False)


def block_mask(sight: Rule, look: Look) -> BlockMask:
    """Which blocks of the slots [lines, slots] by the slots a sight shows; made outside of a graph, for all layers."""
    lines, slots = look.tokens.shape
    made = _compiled() if look.tokens.is_cuda else create_block_mask
    return made(mask_function(sight, look), lines, None, slots, slots, device=look.tokens.device)


def attend_by_blocks(q_BHQD: Tensor, k_BHKD: Tensor, v_BHKD: Tensor, blocks: BlockMask, scale: float) -> Tensor:
    """Softmax attention; keys may have fewer heads than queries. A slot that sees nothing gets zeros.

    One kernel where it is compiled, as part of a graph; elsewhere torch works out all pairs.
    """
    groups = q_BHQD.shape[1] // k_BHKD.shape[1]
    seen: Tensor = flex_attention(q_BHQD, k_BHKD, v_BHKD, block_mask=blocks, scale=scale, enable_gqa=groups > 1)
    return seen
