"""What the ids of a vocabulary spell: their bytes, and the kinds of characters that they begin and end with."""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from typing import Any
from unicodedata import category

import numpy as np
from numpy.typing import NDArray

# Classes of characters, for the question where words begin.
INSIDE, SPACE, LETTER, DIGIT, MARK, ALONE = range(6)
# Code points that are words by themselves: Han with radicals and iteration marks, kana, emoji.
WORDLIKE = (
    (0x2E80, 0x2FDF),
    (0x3005, 0x3007),
    (0x3021, 0x3029),
    (0x3040, 0x30FF),
    (0x31F0, 0x31FF),
    (0x3400, 0x4DBF),
    (0x4E00, 0x9FFF),
    (0xF900, 0xFAFF),
    (0x1F000, 0x1FAFF),
    (0x20000, 0x3FFFF),
)


def has_part(part: Any, name: str) -> bool:
    """Whether a part of a tokenizer is of a type, or a sequence with such a part."""
    if not isinstance(part, dict):
        return False
    inner = [*part.get("decoders", []), *part.get("pretokenizers", []), *part.get("normalizers", [])]
    return part.get("type") == name or any(has_part(one, name) for one in inner)


@functools.cache
def byte_letters() -> dict[str, int]:
    """The letter that GPT-2's byte-level alphabet writes for each byte, read backwards (Radford et al., 2019)."""
    shown = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    hidden = [byte for byte in range(256) if byte not in shown]
    return {chr(byte): byte for byte in shown} | {chr(256 + at): byte for at, byte in enumerate(hidden)}


def pieces_of(layout: dict[str, Any], vocabulary: dict[str, int], special: set[int], size: int) -> tuple[bytes, ...]:
    """The bytes of each id; empty for specials and for ids that no token has."""
    letters = byte_letters()
    byte_level = has_part(layout["decoder"], "ByteLevel")
    wordpiece = layout["model"]["type"] == "WordPiece"
    prefix = layout["model"].get("continuing_subword_prefix") or ""
    spaced = has_part(layout["decoder"], "Metaspace") or has_part(layout["decoder"], "Replace")
    added = {token["id"] for token in layout["added_tokens"]}
    fallback = bool(layout["model"].get("byte_fallback"))
    pieces = [b""] * size
    for token, id in vocabulary.items():
        if id in special:
            continue
        if id in added:
            pieces[id] = token.encode()
        elif byte_level and all(letter in letters for letter in token):
            pieces[id] = bytes(letters[letter] for letter in token)
        elif fallback and re.fullmatch(r"<0x[0-9A-F]{2}>", token):
            pieces[id] = bytes([int(token[3:5], 16)])
        elif wordpiece:
            pieces[id] = (token.removeprefix(prefix) or token).encode()
        else:
            pieces[id] = (token.replace("▁", " ") if spaced else token).encode()
    return tuple(pieces)


def continued(layout: dict[str, Any], vocabulary: dict[str, int]) -> list[int]:
    """WordPiece's ids that go on with a word (``##ing``)."""
    if layout["model"]["type"] != "WordPiece":
        return []
    prefix = layout["model"]["continuing_subword_prefix"]
    return [id for token, id in vocabulary.items() if token.startswith(prefix) and token != prefix]


@functools.lru_cache(maxsize=1 << 16)
def class_of(character: str) -> int:
    """The class of a character, for the question where words begin."""
    code, sort = ord(character), category(character)
    if character.isspace():
        return SPACE
    if sort[0] == "M" or sort == "Cf":  # accents, joiners, variation selectors belong to what they follow
        return INSIDE
    if sort == "So" or any(low <= code <= high for low, high in WORDLIKE):
        return ALONE
    return {"L": LETTER, "N": DIGIT}.get(sort[0], MARK)


def _lead_class(byte: int) -> int:
    """The class of a character of which only the first byte is known."""
    if byte < 0xC0:
        return INSIDE
    if byte < 0xE2 or 0xEA <= byte <= 0xED:
        return LETTER
    return ALONE if 0xE3 <= byte <= 0xE9 or byte >= 0xF0 else MARK


def classes_of(pieces: Sequence[bytes], padded: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """The class of each piece's first and last character; INSIDE where the piece only goes on with a character."""
    first, last = np.zeros(padded, np.uint8), np.zeros(padded, np.uint8)
    for id, piece in enumerate(pieces):
        if not piece:
            continue
        if piece[0] & 0xC0 != 0x80:
            first[id] = _class_at(piece, 0)
        for at in range(len(piece) - 1, -1, -1):
            if piece[at] & 0xC0 != 0x80 and (found := _class_at(piece, at)) != INSIDE:
                last[id] = found
                break
    return first, last


def _class_at(piece: bytes, at: int) -> int:
    """The class of the character whose first byte stands at ``at``."""
    width = 1 if piece[at] < 0x80 else 2 if piece[at] < 0xE0 else 3 if piece[at] < 0xF0 else 4
    try:
        return class_of(piece[at : at + width].decode("utf-8"))
    except UnicodeDecodeError:
        return _lead_class(piece[at])
