"""The tokenizer of a published Marian: two models of sentencepiece, one for each language, over one list of ids.

source.spm    cuts a source:    pieces with scores (Unigram: Kudo, 2018), and how letters are normed before
target.spm    cuts a target
vocab.json    the id of each piece, whichever side it is of, of the marks, and of codes that name a language (>>fra<<)

A source is cut as by the folder's own tokenizer, and what is written is read by the one list. Targets are not cut: a
``tokenizer.json`` holds one way to cut.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, cast

from tokenizers import AddedToken, Regex, decoders, models, normalizers, pre_tokenizers, processors
from tokenizers import Tokenizer as Engine

from ..data import Tokenizer
from ..data.layout import NEVER
from ..errors import SightlineError
from ..files import read_json

SOURCE, IDS = "source.spm", "vocab.json"
OWN_IDS = "target_vocab.json"  # where each side has ids of its own
END, UNKNOWN, PADDING = "</s>", "<unk>", "<pad>"
CODE = re.compile(r">>.+<<")  # names a language, before a text
UNIGRAM = 1  # of sentencepiece's kinds of models
USED = (1, 4, 6)  # of its kinds of pieces: ordinary, given by the user, a byte; not marks, nor what is never used
SPACE = "▁"


def of_source(folder: Path) -> Tokenizer:
    """The tokenizer that cuts a Marian's sources and reads its targets.

    Raises
    ------
    SightlineError : each side has ids of its own, sentencepiece is missing, or its model is of another kind or broken.
    """
    if (folder / OWN_IDS).is_file():
        raise SightlineError(
            f"{folder} has ids of its own for targets ({OWN_IDS}), and Sightline's two stacks share theirs",
            "Adopt a Marian of one vocabulary",
        )
    spec, ids = _spec(folder / SOURCE), read_json(folder / IDS)
    size = len(ids) if isinstance(ids, dict) else 0
    if sorted(ids.values() if size else [], key=str) != sorted(range(size), key=str) or not {END, UNKNOWN} <= set(ids):
        raise SightlineError(
            f"{folder / IDS} does not number its pieces from 0 on, {END} and {UNKNOWN} among them", "Copy it again"
        )
    scores = {one.piece: float(one.score) for one in spec.pieces if one.type in USED}
    names = sorted(ids, key=lambda name: int(ids[name]))
    marks = [name for name in (END, UNKNOWN, PADDING) if name in ids]
    # A letter that only targets have is read as such, as there; a longer piece of theirs costs more than its letters.
    pieces = [(name, scores.get(name, NEVER * len(name) ** 2)) for name in names]
    engine = Engine(models.Unigram(pieces, ids[UNKNOWN], bool(spec.trainer_spec.byte_fallback)))
    engine.normalizer = normalizers.Sequence(_normed(spec.normalizer_spec, marks))
    scheme = "always" if spec.normalizer_spec.add_dummy_prefix else "never"
    engine.pre_tokenizer = pre_tokenizers.Metaspace(SPACE, scheme)
    engine.decoder = decoders.Metaspace(SPACE, scheme)
    engine.add_special_tokens([AddedToken(name, special=True, normalized=False) for name in marks])
    engine.add_tokens([AddedToken(name, normalized=False) for name in names if CODE.fullmatch(name)])
    engine.post_processor = processors.TemplateProcessing(single=f"$A {END}", special_tokens=[(END, ids[END])])
    return Tokenizer(engine, {"eos": END, **({"pad": PADDING} if PADDING in ids else {})})


def _spec(file: Path) -> Any:
    """What a file of sentencepiece holds."""
    try:
        from sentencepiece import sentencepiece_model_pb2 as layout
    except ImportError as error:
        raise SightlineError(
            f"{file} is read with sentencepiece and protobuf, which are not installed", "pip install 'sightline[hub]'"
        ) from error
    spec: Any = cast(Any, layout).ModelProto()
    try:
        spec.ParseFromString(file.read_bytes())
    except Exception as error:  # protobuf's own
        raise SightlineError(f"{file} is not a whole model of sentencepiece ({error})", "Copy it again") from error
    if spec.trainer_spec.model_type != UNIGRAM or not spec.pieces:
        raise SightlineError(
            f"{file} is not of sentencepiece's kind unigram", "Give the folder a tokenizer.json, or name another"
        )
    return spec


def _normed(spec: Any, marks: list[str]) -> list[Any]:
    """How letters are normed; what looks like a mark in a text stays text."""
    steps: list[Any] = [normalizers.Precompiled(spec.precompiled_charsmap)] if spec.precompiled_charsmap else []
    steps += [normalizers.Replace(mark, f"{mark[0]} {mark[1:]}") for mark in marks]
    if spec.remove_extra_whitespaces:
        steps += [normalizers.Strip(), normalizers.Replace(Regex(" {2,}"), " ")]
    return steps
