"""The parts transformers are built of: norms, activations, positions."""

from __future__ import annotations

import math
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Norm = Literal["rms", "layer"]
Activation = Literal["gelu", "gelu_tanh", "relu", "relu2", "silu"]
Positions = Literal["rope", "learned", "sinusoidal", "alibi", "relative", "none"]


class _SquaredReLU(torch.autograd.Function):
    """relu(x)² with its own backward: torch's power function costs a tenth of a small model's step."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        positive = x.relu()
        ctx.save_for_backward(positive)
        return positive * positive

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        positive: Tensor
        (positive,) = ctx.saved_tensors
        return positive.mul(2).mul_(grad)


def activated(x: Tensor, name: Activation) -> Tensor:
    """The activation of a feed-forward layer; ``relu2`` is So et al. (Primer, 2021)."""
    if name == "relu2":
        if torch.compiler.is_compiling():
            positive = x.relu()
            return positive * positive
        return _SquaredReLU.apply(x)  # type: ignore[no-any-return, no-untyped-call]
    if name == "gelu":
        return F.gelu(x)
    if name == "gelu_tanh":
        return F.gelu(x, approximate="tanh")
    return F.silu(x) if name == "silu" else F.relu(x)


def norm(kind: Norm, width: int, eps: float, gain: bool = True, bias: bool = False) -> nn.Module:
    """RMSNorm (Zhang and Sennrich, 2019) or LayerNorm (Ba et al., 2016) over the last axis of size ``width``."""
    if kind == "rms":
        return nn.RMSNorm(width, eps=eps, elementwise_affine=gain)
    return nn.LayerNorm(width, eps=eps, elementwise_affine=gain, bias=bias)


def frequencies(size: int, base: float, stretch: tuple[float, ...] = (), device: torch.device | str = "cpu") -> Tensor:
    """How far each of size / 2 pairs turns from a place to the next, in radians.

    ``stretch`` : of a context longer than what the pairs were learned in. (factor,) divides all (Chen et al., 2023);
    (factor, low, high, context) only those that turn fewer than ``low`` times in that context, those of more than
    ``high`` not at all, and between them in a line (Llama 3.1: Grattafiori et al., 2024). (factor, context, fast, slow,
    sharper) does likewise, in a line from the pair that turns ``fast`` times to that of ``slow`` (YaRN: Peng et al.,
    2023); queries and keys both grow by ``sharper`` there, which ``Shape.attention_scale`` holds.
    """
    turns = 1.0 / base ** (torch.arange(0, size, 2, device=device, dtype=torch.float32) / size)
    if not stretch:
        return turns
    if len(stretch) == 1:
        return turns / stretch[0]
    if len(stretch) == 4:
        factor, low, high, context = stretch
        kept = ((context * turns / (2 * math.pi) - low) / (high - low)).clamp(0, 1)
    else:
        factor, context, fast, slow, _ = stretch
        pairs = [size * math.log(context / (2 * math.pi * often)) / (2 * math.log(base)) for often in (fast, slow)]
        first, last = max(math.floor(pairs[0]), 0), min(math.ceil(pairs[1]), size - 1)
        number = torch.arange(size // 2, device=device, dtype=torch.float32)
        kept = 1 - ((number - first) / (last - first or 0.001)).clamp(0, 1)
    return kept * turns + (1 - kept) * turns / factor


def rotation(positions: Tensor, size: int, base: float, stretch: tuple[float, ...] = ()) -> tuple[Tensor, Tensor]:
    """Cosines and sines [B, 1, S, size / 2] of rotary positions (Su et al., RoFormer, 2021), as LLaMA pairs halves.

    Positions [B, S, D] of D dimensions turn an even share of the pairs each (ChatGLM-6B, 2023: D = 2).
    """
    turns = frequencies(size // positions.shape[2], base, stretch, positions.device)
    angle = (positions[:, None, :, :, None].float() * turns).flatten(-2)
    return angle.cos(), angle.sin()


class _Turn(torch.autograd.Function):
    """Pairs (first, second) turned by an angle; the slope is turned back. Written whole, it makes no copies."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
        ctx.save_for_backward(cosine, sine)
        return _turned(x, cosine, sine, 1)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        cosine, sine = ctx.saved_tensors
        return _turned(grad, cosine, sine, -1), None, None


def _turned(x: Tensor, cosine: Tensor, sine: Tensor, way: int) -> Tensor:
    out = x.new_empty(x.shape)
    (first, second), (one, other) = x.chunk(2, dim=-1), out.chunk(2, dim=-1)
    torch.mul(first, cosine, out=one).addcmul_(second, sine, value=-way)
    torch.mul(second, cosine, out=other).addcmul_(first, sine, value=way)
    return out


def rotated(x_BHSD: Tensor, turn: tuple[Tensor, Tensor]) -> Tensor:
    """Queries or keys turned by their positions; two tokens then meet by their distance only."""
    cosine, sine = (part.to(x_BHSD.dtype) for part in turn)
    if torch.compiler.is_compiling():
        first, second = x_BHSD.chunk(2, dim=-1)
        return torch.cat([first * cosine - second * sine, second * cosine + first * sine], dim=-1)
    return _Turn.apply(x_BHSD, cosine, sine)  # type: ignore[no-any-return, no-untyped-call]


def sinusoids(positions: Tensor, width: int, sines_first: bool = False) -> Tensor:
    """Fixed position vectors [B, S, width] (Vaswani et al., 2017): sines and cosines by turns, or all sines first."""
    steps = torch.arange(0, width, 2, device=positions.device, dtype=torch.float32) / width
    angle = positions[..., None].float() / 10_000**steps
    both = [angle.sin(), angle.cos()]
    return (torch.cat(both, dim=-1) if sines_first else torch.stack(both, dim=-1).flatten(-2))[..., :width]


def alibi_scores(asking: Tensor, shown: Tensor, heads: int) -> Tensor:
    """ALiBi (Press et al., 2022): -slope * distance, [B, heads, Q, K]; slopes are a geometric series in the head."""
    whole = 2 ** math.floor(math.log2(heads))
    slopes = [2 ** (-8 * (head + 1) / whole) for head in range(whole)]
    slopes += [2 ** (-4 * (2 * head + 1) / whole) for head in range(heads - whole)]
    distance = (asking[:, None, :, None] - shown[:, None, None, :]).abs()
    return -distance * torch.tensor(slopes, device=asking.device)[None, :, None, None]


def buckets(distance: Tensor, count: int, furthest: int, both_ways: bool) -> Tensor:
    """T5's relative position buckets (Raffel et al., 2020) of ``seen - asking``: exact near by, logarithmic far off.

    ``both_ways`` halves the buckets between the two sides; otherwise places ahead share bucket 0.
    """
    bucket = torch.zeros_like(distance)
    if both_ways:
        count //= 2
        bucket = bucket + (distance > 0) * count
        distance = distance.abs()
    else:
        distance = (-distance).clamp(min=0)
    exact = count // 2
    ratio = torch.log(distance.float().clamp(min=1) / exact) / math.log(furthest / exact)
    far = (exact + (ratio * (count - exact)).long()).clamp(max=count - 1)
    return bucket + torch.where(distance < exact, distance, far)
