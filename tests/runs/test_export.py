"""`sightline export` from the command line: every format, what it refuses, and that nothing is written over unasked."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

from sightline import hub
from sightline.cli import main
from sightline.data import Tokenizer, train_tokenizer
from sightline.errors import SightlineError
from sightline.hub.word2vec import read_vectors
from sightline.objectives.causal import Causal
from sightline.objectives.model import built
from sightline.objectives.prefix import Prefix
from sightline.runs import export as exports
from sightline.runs.export import export
from sightline.stacks.makes import MAKES
from sightline.stacks.shape import Shape

TEXT = "Two roads met under the elm."


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return train_tokenizer([TEXT], "byte")


@pytest.fixture(scope="module")
def llama(tokenizer: Tokenizer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run's folder with a model of LLaMA's make."""
    folder = tmp_path_factory.mktemp("runs") / "mine"
    shape = MAKES["llama"].of(Shape(2, 32, 4, tokenizer.padded, 48))
    hub.save(built(Causal(tokenizer.vocabulary), shape, tokenizer), folder / "model")
    return folder


@pytest.fixture(scope="module")
def prefix(tokenizer: Tokenizer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that no other program has."""
    model = built(Prefix(tokenizer.vocabulary), Shape(1, 16, 2, tokenizer.padded, 48), tokenizer)
    return hub.save(model, tmp_path_factory.mktemp("runs") / "prefix")


def test_gguf(
    llama: Path, tmp_path: Path, peer: Callable[[str], ModuleType], capsys: pytest.CaptureFixture[str]
) -> None:
    gguf = peer("gguf")
    out, told = tmp_path / "mine.gguf", tmp_path / "told.json"
    words = ["export", str(llama), "gguf", "--out", str(out), "--dtype", "q8_0", "--json", str(told)]
    assert main(words) == 0
    shown = capsys.readouterr().out
    assert "llama of llama.cpp, 21 tensors in q8_0" in shown and f"next: llama-cli -m {out} -p 'a text'" in shown
    fields = gguf.GGUFReader(out).fields
    assert fields["general.name"].contents() == "mine" and fields["general.file_type"].contents() == 7
    record = json.loads(told.read_text(encoding="utf-8"))
    assert record["files"] == [str(out)] and record["size"] == out.stat().st_size

    before = out.read_bytes()
    assert main(words) == 2
    assert "is there already. Choose another --out, or write over it with --force" in capsys.readouterr().err
    assert out.read_bytes() == before
    assert main([*words, "--force"]) == 0
    assert out.read_bytes() == before


def test_hugging_face(llama: Path, prefix: Path, tmp_path: Path) -> None:
    made = export(llama, "huggingface", out=tmp_path / "copy")
    assert made.told == "a folder of LlamaForCausalLM" and not made.notes
    for file in (llama / "model").iterdir():
        assert (tmp_path / "copy" / file.name).read_bytes() == file.read_bytes()
    state = hub.load(tmp_path / "copy").state_dict()
    for name, tensor in hub.load(llama).state_dict().items():
        assert torch.equal(state[name], tensor)
    assert "transformers has no such architecture" in export(prefix, "huggingface", out=tmp_path / "other").notes[0]


def test_ctranslate2(llama: Path, tmp_path: Path, peer: Callable[[str], ModuleType]) -> None:
    library = peer("ctranslate2")
    made = export(llama, "ctranslate2", out=tmp_path / "eight", dtype="q8_0")
    assert {file.name for file in made.files} == {"config.json", "model.bin", "vocabulary.json"}
    library.Generator(str(tmp_path / "eight"), compute_type="int8", intra_threads=1)


def test_vectors_of_words(tmp_path: Path) -> None:
    source = tmp_path / "words.txt"
    source.write_text("2 3\nelm 1 2 3\nroad 4 5 6\n", encoding="utf-8")
    made = export(source, "word2vec-bin", out=tmp_path / "words.bin")
    assert made.told == "2 vectors of width 3"
    np.testing.assert_array_equal(read_vectors(tmp_path / "words.bin").vectors, [[1, 2, 3], [4, 5, 6]])


@pytest.mark.parametrize(
    ("format", "out", "dtype", "says"),
    [
        ("gguf", "m.gguf", "f32", "llama.cpp has no architecture for prefix"),
        ("onnx", "m.onnx", "f32", "written for encoders, which see everything, and prefix is none"),
        ("ctranslate2", "m", "f32", "CTranslate2 has no place for the sight of prefix, normed queries and keys"),
        ("word2vec", "m.txt", "f32", "has white space, which the layout cannot hold"),
        ("gguf", "m.bin", "f32", "gguf is written to one file, and .* is none. End it in .gguf"),
        ("onnx", "m.onnx", "f16", "onnx keeps its numbers in f32, not in f16"),
        ("gguf", "folder.gguf", "f32", "folder.gguf is a folder"),
    ],
)
def test_refusals(prefix: Path, tmp_path: Path, format: exports.Format, out: str, dtype: str, says: str) -> None:
    (tmp_path / "folder.gguf").mkdir()
    with pytest.raises(SightlineError, match=says) as caught:
        export(prefix, format, out=tmp_path / out, dtype=dtype)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value) and caught.value.do
    assert [one.name for one in tmp_path.iterdir()] == ["folder.gguf"]


def test_what_is_there_stays_when_a_model_does_not_fit(prefix: Path, tmp_path: Path) -> None:
    (tmp_path / "m.gguf").write_bytes(b"mine")
    with pytest.raises(SightlineError, match="no architecture"):
        export(prefix, "gguf", out=tmp_path / "m.gguf", force=True)
    assert (tmp_path / "m.gguf").read_bytes() == b"mine"


def test_a_chat_template_goes_along(tmp_path: Path) -> None:
    assert exports._template(tmp_path) is None
    (tmp_path / "tokenizer_config.json").write_text('{"chat_template": "{{ one }}"}', encoding="utf-8")
    assert exports._template(tmp_path) == "{{ one }}"
    (tmp_path / "chat_template.jinja").write_text("{{ two }}", encoding="utf-8")
    assert exports._template(tmp_path) == "{{ two }}"
