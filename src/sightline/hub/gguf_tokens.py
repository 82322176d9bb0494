"""A tokenizer in the words of GGUF, where llama.cpp has one that cuts texts alike.

tokenizer.json                                        tokenizer.ggml.model, .pre
byte-level BPE, bytes                                 gpt2, by the pattern that cuts words
BPE over characters with bytes to fall back on        llama (SentencePiece), merges as scores
WordPiece behind BERT's cutting                       bert
Unigram                                               t5, with its scores
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..data.bulk import PIECES
from ..data.pieces import has_part
from ..errors import SightlineError
from ..objectives.model import Model

SPACE = "▁"  # what SentencePiece writes for a space
NORMAL, UNKNOWN, CONTROL, ADDED, UNUSED, BYTE = 1, 2, 3, 4, 5, 6  # llama.cpp's ``llama_token_type``
# Patterns that cut words, by the names under which llama.cpp knows them. GPT-2's stands for ByteLevel's own.
GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
GPT4 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}%s| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
PATTERNS = {GPT2: "gpt-2", PIECES: "gpt-2", GPT4 % "{1,3}": "llama-bpe", GPT4 % "": "qwen2"}
DIGITS = "llama.cpp may cut numbers of four digits and more into other tokens than this tokenizer does"


@dataclass(frozen=True)
class Tokens:
    """A vocabulary.

    Parameters
    ----------
    model, pre : names of the algorithm and of the pattern. names, types : of each id.
    scores, merges : of those algorithms that have them. unknown : id of what stands for anything else.
    flags : switches under ``tokenizer.ggml``. charsmap : SentencePiece's table of normal forms.
    notes : what a user must know.
    """

    model: str
    pre: str
    names: Sequence[str]
    types: Sequence[int]
    scores: Sequence[float] | None = None
    merges: Sequence[str] | None = None
    unknown: int | None = None
    flags: Mapping[str, bool] = field(default_factory=dict)
    charsmap: bytes = b""
    notes: tuple[str, ...] = ()


def tokens_of(model: Model) -> Tokens:
    """The vocabulary of a model's tokenizer, one name for each id.

    Raises
    ------
    SightlineError : llama.cpp has no tokenizer that cuts texts so; what it lacks is named.
    """
    tokenizer = model.tokenizer
    layout = json.loads(tokenizer.told()[0])
    kind, size = layout["model"]["type"], tokenizer.size
    if kind == "BPE":
        return _bytes(layout, size) if has_part(layout["decoder"], "ByteLevel") else _characters(layout, size)
    if kind == "WordPiece":
        return _wordpiece(layout, size)
    if kind == "Unigram":
        return _unigram(layout, size)
    raise _none(f"of {tokenizer.kind}")


def framed(model: Model) -> tuple[bool, bool] | None:
    """Whether a tokenizer of other people puts bos before a text and eos behind it; None: it does not say, as ours."""
    if (template := model.tokenizer.template) is None:
        return None
    marks = model.objective.vocabulary
    return template[0][:1] == [marks.bos], template[1][-1:] == [marks.eos]


def _none(what: str) -> SightlineError:
    return SightlineError(
        f"llama.cpp has no tokenizer {what}", "Export as huggingface, or train with --tokenizer bpe, char or wordpiece"
    )


def _named(layout: Mapping[str, Any], size: int) -> tuple[list[str], list[int]]:
    """Names and types of all ids; one that no token has is called so, and unused."""
    names, types = [f"[PAD{id}]" for id in range(size)], [UNUSED] * size
    vocabulary = layout["model"]["vocab"]
    pairs = vocabulary.items() if isinstance(vocabulary, dict) else ((one[0], id) for id, one in enumerate(vocabulary))
    for name, id in pairs:
        names[id], types[id] = name, NORMAL
    for token in layout["added_tokens"]:
        names[token["id"]], types[token["id"]] = token["content"], CONTROL if token["special"] else ADDED
    return names, types


def _merges(layout: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Pairs in the order in which they join; older files write them with a space between."""
    pairs = (pair.split(" ") if isinstance(pair, str) else pair for pair in layout["model"]["merges"])
    return [(left, right) for left, right in pairs]


def _parts(layout: Mapping[str, Any], name: str) -> list[dict[str, Any]]:
    """The steps of a normalizer or pre-tokenizer, a sequence laid out."""
    part = layout[name]
    if part is None:
        return []
    return list(part.get("normalizers", part.get("pretokenizers", [part])))


def _bytes(layout: Mapping[str, Any], size: int) -> Tokens:
    pattern = GPT2
    for part in _parts(layout, "pre_tokenizer"):
        if part["type"] == "Split" and part["behavior"] == "Isolated" and "Regex" in part["pattern"]:
            pattern = part["pattern"]["Regex"]
        elif part["type"] != "ByteLevel" or part["add_prefix_space"]:
            raise _none(f"that cuts words by {part['type']} and writes bytes")
    if any(part["type"] != "NFC" for part in _parts(layout, "normalizer")):
        raise _none("of bytes behind a normalizer")
    if pattern not in PATTERNS:
        raise _none(f"that cuts words by {pattern!r}")
    notes = (DIGITS,) if pattern == PIECES else ()
    names, types = _named(layout, size)
    # Without any merge the file would be refused: bytes get one of marks, which no text is cut into.
    merges = [" ".join(pair) for pair in _merges(layout)] or [f"{names[0]} {names[0]}"]
    return Tokens("gpt2", PATTERNS[pattern], names, types, merges=merges, notes=notes)


def _characters(layout: Mapping[str, Any], size: int) -> Tokens:
    """SentencePiece's BPE; our ``char`` is one without merges, whose space is a space."""
    before = _parts(layout, "pre_tokenizer")
    steps = _parts(layout, "normalizer")
    marked = [one for one in before if one["type"] == "Metaspace"]
    prefix = any(one["type"] == "Prepend" and one["prepend"] == SPACE for one in steps) or any(
        one.get("prepend_scheme", "always") != "never" for one in marked
    )
    spaced = bool(marked) or any(one["type"] == "Replace" and one["content"] == SPACE for one in steps)
    known = {"Prepend", "Replace"} if spaced else set()
    merges = _merges(layout)
    if len(before) > len(marked) or any(one["type"] not in known for one in steps) or (merges and not spaced):
        raise _none("of characters that cuts and writes them so")
    if not layout["model"].get("byte_fallback"):
        raise _none("of characters without bytes to fall back on")
    names, types = _named(layout, size)
    if not spaced:
        if SPACE in names:
            raise _none(f"of characters that knows {SPACE}, which stands for a space there")
        names = [SPACE if name == " " else name for name in names]
    types = [
        BYTE if len(name) == 6 and name.startswith("<0x") else type for name, type in zip(names, types, strict=True)
    ]
    ranks = {left + right: -float(rank) for rank, (left, right) in reversed(list(enumerate(merges)))}
    unknown = layout["model"].get("unk_token")
    return Tokens(
        "llama",
        "default",
        names,
        types,
        scores=[
            ranks.get(name, 0.0 if type != NORMAL else -float(len(merges)))
            for name, type in zip(names, types, strict=True)
        ],
        unknown=names.index(unknown) if unknown in names else None,
        flags={"add_space_prefix": prefix},
    )


def _wordpiece(layout: Mapping[str, Any], size: int) -> Tokens:
    """Tokens that begin a word are marked there, and not those that go on with one."""
    normal, before = layout["normalizer"] or {}, layout["pre_tokenizer"] or {}
    if (
        normal.get("type") != "BertNormalizer"
        or before.get("type") != "BertPreTokenizer"
        or not normal["clean_text"]
        or not normal["handle_chinese_chars"]
        or (prefix := layout["model"]["continuing_subword_prefix"]) != "##"
    ):
        raise _none("of WordPiece but behind BERT's cutting, with ## inside words")
    names, types = _named(layout, size)
    names = [
        name if type != NORMAL else name.removeprefix(prefix) if name.startswith(prefix) else SPACE + name
        for name, type in zip(names, types, strict=True)
    ]
    accents = normal["lowercase"] if normal["strip_accents"] is None else normal["strip_accents"]
    unknown = next(
        (one["id"] for one in layout["added_tokens"] if one["content"] == layout["model"]["unk_token"]), None
    )
    notes = () if normal["lowercase"] else ("older versions of llama.cpp lower all letters, whatever the file says",)
    flags = {"normalizer.lowercase": bool(normal["lowercase"]), "normalizer.strip_accents": bool(accents)}
    return Tokens("bert", "default", names, types, unknown=unknown, flags=flags, notes=notes)


def _unigram(layout: Mapping[str, Any], size: int) -> Tokens:
    steps, before = _parts(layout, "normalizer"), _parts(layout, "pre_tokenizer")
    if any(one["type"] not in ("Precompiled", "Replace", "Strip") for one in steps):
        raise _none("of Unigram behind such a normalizer")
    if any(one["type"] not in ("Metaspace", "WhitespaceSplit") for one in before):
        raise _none("of Unigram but with Metaspace")
    maps = [one["precompiled_charsmap"] for one in steps if one["type"] == "Precompiled"]
    names, types = _named(layout, size)
    unknown = layout["model"]["unk_id"]
    if unknown is not None:
        types[unknown] = UNKNOWN
    scores = [float(score) for _, score in layout["model"]["vocab"]]
    space = next((one for one in before if one["type"] == "Metaspace"), {})
    return Tokens(
        "t5",
        "default",
        names,
        types,
        scores=scores + [0.0] * (size - len(scores)),
        unknown=unknown,
        flags={
            "add_space_prefix": space.get("prepend_scheme", "always") != "never",
            "remove_extra_whitespaces": any(one["type"] != "Precompiled" for one in steps) or len(before) > 1,
        },
        charsmap=base64.b64decode(maps[0]) if maps and maps[0] else b"",
    )
