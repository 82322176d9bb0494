"""ONNX, from our own stack: the states of an encoder's tokens, and their mean, for texts of any number and length.

    input_ids [texts, tokens], attention_mask [texts, tokens] --> states [texts, tokens, width], vectors [texts, width]

Torch writes the graph (extra ``export``: onnx, onnxscript) and ONNX Runtime, where it is installed, is asked at once
whether it computes the same.
"""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn

from ..errors import SightlineError
from ..files import whole_file
from ..objectives.model import Model
from ..progress import bar
from ..sight import NO_DOCUMENT, everything, same_document
from ..stacks.look import Look
from ..stacks.transformer import Transformer

MOST = 2**31  # bytes of a file
FURTHEST = 1e-3  # of a state from torch's, above which a file is not given out
INPUTS, OUTPUTS = ("input_ids", "attention_mask"), ("states", "vectors")


class Encoder(nn.Module):
    """A stack that sees everything, over ids [texts, tokens] and a mask of 1 for tokens and 0 for padding behind them.

    ``vectors`` are the mean state over the tokens that are no marks, as ``sightline embed`` takes it; of a text of
    marks alone, over these.
    """

    marks: Tensor

    def __init__(self, stack: Transformer, marks: Tensor) -> None:
        super().__init__()
        self.stack = stack
        self.register_buffer("marks", marks)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> tuple[Tensor, Tensor]:
        """States and vectors; see the module."""
        real = attention_mask > 0
        place = torch.arange(input_ids.shape[1], device=input_ids.device).expand_as(input_ids)
        document = torch.where(real, 0, NO_DOCUMENT)
        none = torch.zeros_like(input_ids)
        look = Look(input_ids, place, place, place, document, none, none, everything & same_document, "mask")
        states = self.stack(look)
        text = real & ~self.marks[input_ids]
        text = text | (real & ~text.any(1, keepdim=True))
        share = text.to(states.dtype) / text.sum(1, keepdim=True)
        return states, (states * share[..., None]).sum(1)


def encoder_of(model: Model) -> Encoder:
    """The encoder in a model.

    Raises
    ------
    SightlineError : its stack is no single transformer of tokens, or its sight is not everything.
    """
    stack, objective = model.stack, model.objective
    if not isinstance(stack, Transformer) or model.numbers or objective.rule != everything:
        raise SightlineError(
            f"ONNX is written for encoders, which see everything, and {objective.family} is none",
            "Train masked, electra or diffusion, or export as gguf or huggingface",
        )
    return Encoder(stack, torch.from_numpy(objective.vocabulary.is_special)).eval()


def write(model: Model, path: Path) -> tuple[str, tuple[str, ...]]:
    """Write an encoder to one file, checked before it is put in its place; what it holds in words, and notes.

    Raises
    ------
    SightlineError : no encoder, packages are missing, or ONNX Runtime computes something else.
    """
    encoder = encoder_of(model)
    shape = cast(Transformer, model.stack).shape
    try:
        import onnxscript  # noqa: F401 - torch asks for it deep inside
    except ImportError as error:
        raise SightlineError(
            f"ONNX is written by packages that are missing ({error})", "pip install 'sightline[export]'"
        ) from error
    if 4 * sum(weight.numel() for weight in encoder.parameters()) >= MOST:
        raise SightlineError("a file of ONNX holds at most 2 GB, and this encoder is larger", "Export as huggingface")
    ids = torch.zeros(2, min(7, shape.context), dtype=torch.long)
    texts, tokens = torch.export.Dim("texts"), torch.export.Dim("tokens", max=shape.context)
    with _quiet(), torch.no_grad(), bar("tracing the encoder"):
        program = torch.onnx.export(
            encoder,
            (ids, torch.ones_like(ids)),
            input_names=INPUTS,
            output_names=OUTPUTS,
            dynamic_shapes=({0: texts, 1: tokens}, {0: texts, 1: tokens}),
            dynamo=True,
            verbose=False,
        )
    assert program is not None
    content = program.model_proto.SerializeToString()
    furthest = _furthest(content, encoder, model)
    notes = [f"at most {shape.context} tokens a text"] if shape.by_place else []
    if furthest is None:
        notes.append("onnxruntime is not installed: what it computes was not compared")
    elif not furthest <= FURTHEST:
        raise SightlineError(
            f"ONNX Runtime computes other states than torch, {furthest:.1g} away", "Export as huggingface, and tell us"
        )
    else:
        notes.append(f"ONNX Runtime's states are within {furthest:.0e} of torch's")
    with whole_file(path) as handle:
        handle.write(content)
    return f"an encoder of width {shape.width} in ONNX", tuple(notes)


def _furthest(content: bytes, encoder: Encoder, model: Model) -> float | None:
    """How far ONNX Runtime's answers are from torch's, on drawn ids of other sizes; None where it is not installed."""
    try:
        import onnxruntime
    except ImportError:
        return None
    shape = cast(Transformer, model.stack).shape
    rng, length = np.random.default_rng(0), min(13, shape.context)
    ids = rng.choice(model.objective.vocabulary.ordinary, (3, length))
    mask = (np.arange(length) < np.array([[length], [1], [length - 1]])).astype(np.int64)
    given = dict(zip(INPUTS, (ids, mask), strict=True))
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = torch.get_num_threads()
    there = onnxruntime.InferenceSession(content, settings, ["CPUExecutionProvider"]).run(OUTPUTS, given)
    with torch.no_grad():
        here = [part.numpy() for part in encoder(torch.from_numpy(ids), torch.from_numpy(mask))]
    apart = [np.abs(there[0] - here[0])[mask > 0].max(), np.abs(there[1] - here[1]).max()]
    return float(max(apart))


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without torch's remarks on a graph that is checked anyway."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)
