"""ONNX: ONNX Runtime gives an encoder's states for texts of other number and length than the graph was traced with."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

from sightline.data import Rows, Tokenizer, train_tokenizer
from sightline.errors import SightlineError
from sightline.evaluation.understanding import vectors
from sightline.hub import onnx as layout
from sightline.objectives.causal import Causal
from sightline.objectives.masked import Masked
from sightline.objectives.model import built
from sightline.stacks.makes import MAKES
from sightline.stacks.shape import Shape

TEXTS = ("Two roads met under the elm; 的确.", "Elm.")


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return train_tokenizer(TEXTS, "byte")


def test_states_and_vectors(tokenizer: Tokenizer, peer: Callable[[str], ModuleType], tmp_path: Path) -> None:
    runtime, _ = peer("onnxruntime"), peer("onnxscript")
    make = MAKES["bert"]
    model = built(
        Masked(tokenizer.vocabulary), make.of(Shape(1, 32, 4, tokenizer.padded, 64)), tokenizer, 1, make
    ).eval()
    told, notes = layout.write(model, tmp_path / "m.onnx")
    assert "width 32" in told and "at most 64 tokens a text" in notes
    rows = Rows.of([np.array([tokenizer.bos, *tokenizer.encode(text), tokenizer.eos]) for text in TEXTS], tokenizer)
    with torch.no_grad():
        states = model.states(model.objective.read(rows), rows.tokens).numpy()
    mask = (rows.documents >= 0).astype(np.int64)
    session = runtime.InferenceSession(str(tmp_path / "m.onnx"), providers=["CPUExecutionProvider"])
    given = {"input_ids": rows.tokens.astype(np.int64), "attention_mask": mask}
    there, pooled = session.run(["states", "vectors"], given)
    assert there.shape == states.reshape(len(TEXTS), -1, 32).shape
    np.testing.assert_allclose(there[mask > 0], states.reshape(there.shape)[mask > 0], atol=1e-4)
    np.testing.assert_allclose(pooled, vectors(model, TEXTS)[-1], atol=1e-4)


def test_only_encoders(tokenizer: Tokenizer, tmp_path: Path) -> None:
    model = built(Causal(tokenizer.vocabulary), Shape(1, 32, 4, tokenizer.padded, 64), tokenizer)
    with pytest.raises(SightlineError, match="written for encoders, which see everything, and causal is none"):
        layout.write(model, tmp_path / "m.onnx")
    assert not list(tmp_path.iterdir())
