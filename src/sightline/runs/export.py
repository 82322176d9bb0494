"""A model in the files of other programs: llama.cpp, ONNX Runtime, CTranslate2, word2vec's readers, transformers."""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from ..errors import SightlineError
from ..files import file_fingerprint, read_json, whole_folder, write_json
from ..progress import bar

Format = Literal["gguf", "onnx", "ctranslate2", "huggingface", "word2vec", "word2vec-bin"]
Dtype = Literal["f32", "f16", "bf16", "q8_0"]
ENDINGS = {"gguf": (".gguf",), "onnx": (".onnx",), "word2vec": (".txt", ".vec"), "word2vec-bin": (".bin",)}
TYPES = {"f32": "float32", "f16": "float16", "bf16": "bfloat16", "q8_0": "int8"}  # CTranslate2's names


@dataclass(frozen=True)
class Exported:
    """A model in another program's files.

    Parameters
    ----------
    source : the model folder, or a file of vectors. format, told : what was written, and what it holds in words.
    files, size : that were written, and their bytes. notes : what a user must know. next : a command to go on with.
    """

    source: Path
    format: Format
    told: str
    files: tuple[Path, ...]
    size: int
    notes: tuple[str, ...]
    next: str

    def __str__(self) -> str:
        where = self.files[0] if len(self.files) == 1 else self.files[0].parent
        lines = [f"{where}: {self.told}, {self.size / 1e6:,.1f} MB"]
        return "\n".join([*lines, *(f"    {note}" for note in self.notes)])

    def record(self) -> dict[str, Any]:
        """As plain JSON."""
        return asdict(self) | {"source": str(self.source), "files": [str(file) for file in self.files]}


def export(
    source: Annotated[Path, tyro.conf.Positional],
    format: Annotated[Format, tyro.conf.Positional],
    *,
    out: Path,
    dtype: Dtype = "f32",
    force: bool = False,
    json: Path | None = None,
) -> Exported:
    """Write a model in the files of another program, exactly as it computes, or say what that program lacks.

    Examples:
        sightline export runs/mine gguf --out mine.gguf --dtype q8_0
        sightline export runs/mine onnx --out mine.onnx
        sightline export runs/mine huggingface --out mine/
        sightline export runs/words word2vec --out words.txt

    Args:
        source: a model folder, the folder of a run, or for word2vec a file of vectors.
        format: gguf (llama.cpp: GPT-2, LLaMA, BERT, T5), onnx (states of an encoder), ctranslate2 (a folder; GPT-2,
            LLaMA), huggingface (a folder), or vectors of words as word2vec (text) or word2vec-bin.
        out: the file or folder to write, whole or not at all.
        dtype: of matrices, for gguf and ctranslate2 (there q8_0 is int8): f32 loses nothing.
        force: write over what is there.
        json: also write what was made to this file.
    """
    out = Path(out).expanduser()
    _free(out, format, dtype, force)
    made = WRITERS[format](Path(source).expanduser(), out, format, dtype)
    if json is not None:
        write_json(Path(json), made.record())
    return made


def _free(out: Path, format: Format, dtype: Dtype, force: bool) -> None:
    """Refuse a wrong ending, a type that the format does not take, and what would be written over."""
    endings = ENDINGS.get(format)
    if endings and out.suffix not in endings:
        raise SightlineError(f"{format} is written to one file, and {out} is none", f"End it in {' or '.join(endings)}")
    if dtype != "f32" and format not in ("gguf", "ctranslate2"):
        raise SightlineError(f"{format} keeps its numbers in f32, not in {dtype}", "Leave --dtype away")
    if out.is_dir() if endings else out.is_file():
        raise SightlineError(f"{out} is {'a folder' if endings else 'a file'}", "Choose another --out")
    there = any(out.iterdir()) if out.is_dir() else out.exists()
    if there and not force:
        raise SightlineError(f"{out} is there already", "Choose another --out, or write over it with --force")


def _gguf(source: Path, out: Path, format: Format, dtype: Dtype) -> Exported:
    from .. import hub
    from ..hub.gguf import write

    path = hub.located(source)
    model = hub.load(path)
    made = write(model, out, dtype, _name(path), _template(path))
    told = f"{made.architecture} of llama.cpp, {made.tensors} tensors in {dtype}"
    program = "llama-embedding" if made.architecture == "bert" else "llama-cli"
    return Exported(
        path, format, told, (out,), made.size, made.notes, f"{program} -m {shlex.quote(str(out))} -p 'a text'"
    )


def _onnx(source: Path, out: Path, format: Format, dtype: Dtype) -> Exported:
    from .. import hub
    from ..hub.onnx import write

    path = hub.located(source)
    told, notes = write(hub.load(path), out)
    again = f"sightline embed {shlex.quote(str(path))} 'a text'"
    return Exported(path, format, told, (out,), out.stat().st_size, notes, again)


def _ctranslate2(source: Path, out: Path, format: Format, dtype: Dtype) -> Exported:
    from .. import hub
    from ..hub import ctranslate2

    path = hub.located(source)
    model = hub.load(path)
    if missing := ctranslate2.lacks(model):
        raise SightlineError(
            f"CTranslate2 has no place for {', '.join(missing)}", "Export it as huggingface, or train with --like llama"
        )
    try:
        import ctranslate2 as _  # noqa: F401 - asked for before a folder is begun
    except ImportError as error:
        raise SightlineError(
            f"CTranslate2 is not installed ({error})", "pip install 'sightline[ctranslate2]'"
        ) from error
    with whole_folder(out) as aside:
        ctranslate2.write(model, aside, TYPES[dtype])
    told = f"a model of CTranslate2 in {TYPES[dtype]}"
    notes = ("its tokens are called by their ids: cut texts with the tokenizer of the model folder",)
    again = f"sightline generate {shlex.quote(str(path))} 'a text' --engine ctranslate2"
    return Exported(path, format, told, *_found(out), notes, again)


def _huggingface(source: Path, out: Path, format: Format, dtype: Dtype) -> Exported:
    """Every model folder is one: it is copied, byte for byte."""
    from .. import hub

    path = hub.located(source)
    kept = [file for file in sorted(path.rglob("*")) if file.is_file()]
    with whole_folder(out) as aside, bar("copying", sum(file.stat().st_size for file in kept), "bytes") as shown:
        for file in kept:
            copy = aside / file.relative_to(path)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, copy)
            if file_fingerprint(copy) != file_fingerprint(file):
                raise SightlineError(f"{file.name} was not copied whole", "Check the disk")
            shown.advance(file.stat().st_size)
    config = read_json(path / "config.json")
    name = str((config.get("architectures") or ["?"])[0])
    unknown = "transformers has no such architecture: Sightline loads it, and transformers its tokenizer"
    notes = (unknown,) if config.get("model_type") == hub.folder.OURS else ()
    again = f"sightline see {shlex.quote(str(out))}"
    return Exported(path, format, f"a folder of {name}", *_found(out), notes, again)


def _word2vec(source: Path, out: Path, format: Format, dtype: Dtype) -> Exported:
    from .lexicon import vectors

    made = vectors(source, out)
    told = f"{made.words:,} vectors of width {made.width}"
    return Exported(source, format, told, made.files, sum(file.stat().st_size for file in made.files), (), made.next)


WRITERS: dict[Format, Callable[[Path, Path, Format, Dtype], Exported]] = {
    "gguf": _gguf,
    "onnx": _onnx,
    "ctranslate2": _ctranslate2,
    "huggingface": _huggingface,
    "word2vec": _word2vec,
    "word2vec-bin": _word2vec,
}


def _found(folder: Path) -> tuple[tuple[Path, ...], int]:
    """The files of a folder and their bytes."""
    files = tuple(sorted(file for file in folder.rglob("*") if file.is_file()))
    return files, sum(file.stat().st_size for file in files)


def _name(path: Path) -> str:
    """What a model is called: its folder, or the run's whose ``model/`` it is."""
    path = path.resolve()
    return path.parent.name if path.name == "model" else path.name


def _template(path: Path) -> str | None:
    """The folder's template of chats, if it has one."""
    if (path / "chat_template.jinja").is_file():
        return (path / "chat_template.jinja").read_text(encoding="utf-8")
    settings = read_json(path / "tokenizer_config.json") if (path / "tokenizer_config.json").is_file() else {}
    template = settings.get("chat_template")
    return template if isinstance(template, str) else None
