"""Byte-level BPE in bulk: tiktoken over the merges of our own tokenizers, where it gives the same ids.

texts  a  b  c   ->   a JOINT b JOINT c   ->  one call  ->   ids of a | ids of b | ids of c
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Regex, pre_tokenizers
from tokenizers import Tokenizer as Engine

if TYPE_CHECKING:
    import tiktoken

# GPT-2's pieces, with numbers cut into groups of at most three digits. A piece never goes from other text into white
# space, so a text may be cut there and encodes to the same ids.
ORDINARY = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}{1,3}| ?[^\s\p{L}\p{N}]+"
SPACES = r"\s+(?!\S)|\s+"
PIECES = f"{ORDINARY}|{SPACES}"
SEAM = re.compile(r"\S(?=\s)")
SAMPLE = (
    "  The 12345 cats' tails — isn't it?\r\n\tÜber naïve e\u0301; \U0001f600\U0001f469\u200d\U0001f680 的确，中文文本。"
    "日本語 한국어 \x00\x7f\u00a0\u2028<s></s><0x41>##a ▁b\n\n  "
)
CHUNK = 1 << 18  # characters encoded at a time
# Stands between texts that tiktoken gets in one call. No end of it is a beginning of it, so that one that a text holds
# cannot hide one that was put there.
JOINT = "\x1c\x1d\x1e\x1f"


class Bulk:
    """A tokenizer's ids by tiktoken.

    Parameters
    ----------
    encoding : tiktoken's. engine : what encodes the texts that are too much for it.
    joint : the id that it gives for ``JOINT``, beyond those of the vocabulary.
    """

    def __init__(self, encoding: tiktoken.Encoding, engine: Engine, joint: int) -> None:
        self.encoding, self._engine, self._joint = encoding, engine, joint

    def encode(self, text: str) -> NDArray[np.int32]:
        """Ids of one text."""
        return np.concatenate([self._part(part) for part in cut_blocks([text])])

    def encode_joined(self, batch: Sequence[str]) -> tuple[NDArray[np.int32], NDArray[np.int64]] | None:
        """Ids of all texts in a row and how many each gave, by one call; None where they must go one by one."""
        with contextlib.suppress(ValueError):  # too much for its regular expressions, or half a character
            ids = self.encoding.encode_to_numpy(JOINT.join(batch), allowed_special={JOINT}).view(np.int32)
            joints = np.flatnonzero(ids == self._joint)
            if len(joints) == len(batch) - 1:  # else a text holds one
                return ids[ids != self._joint], np.diff(joints, prepend=-1, append=len(ids)) - 1
        return None

    def _part(self, text: str) -> NDArray[np.int32]:
        try:
            return self.encoding.encode_to_numpy(text, disallowed_special=()).view(np.int32)
        except UnicodeEncodeError:  # half a character, which no file holds but a command line may
            return np.array(self.encoding.encode_ordinary(text), np.int32)
        except ValueError:
            return np.array(self._engine.encode(text, add_special_tokens=False).ids, np.int32)


def bulk_of(engine: Engine, kind: str, layout: dict[str, Any], pieces: Sequence[bytes], joint: int) -> Bulk | None:
    """tiktoken over the same merges, five to ten times faster; only for our own BPE, only where the ids are the same.

    tiktoken merges any two neighbours whose join is a piece, tokenizers only the pairs it was taught; so the ids are
    compared on the sample, on long runs of one character and on a few hundred joins of pieces drawn at random.
    ``joint`` is the id that it gives for ``JOINT``. Without any such special, its way to numbers that are not Python's
    looks for one at every character; with the alternatives in two groups, all but white space is one automaton.
    """
    if kind != "bpe" or json.loads(pieces_cutter().__getstate__()) != layout["pre_tokenizer"]:
        return None
    merged = ["".join(pair) for pair in layout["model"]["merges"]]
    order = [layout["model"]["vocab"][token] for token in merged]
    if order != sorted(set(order)) or not all(token["special"] for token in layout["added_tokens"]):
        return None
    import tiktoken  # here, so that who has no such tokenizer need not have it

    ranks = {piece: id for id, piece in enumerate(pieces) if piece}
    if any(bytes([byte]) not in ranks for byte in range(256)):
        return None
    pattern = f"(?:{ORDINARY})|{SPACES}"
    encoding = tiktoken.Encoding("sightline", pat_str=pattern, mergeable_ranks=ranks, special_tokens={JOINT: joint})
    known = list(ranks)
    drawn = np.random.default_rng(0).integers(len(known), size=(400, 12))
    trials = [b"".join(known[at] for at in row).decode("utf-8", errors="ignore") for row in drawn]
    trials += [SAMPLE, *(mark * count for mark in " =-.\n0a" for count in (2, 3, 5, 7, 12, 33, 70))]
    same = all(
        one.ids == encoding.encode_to_numpy(trial, disallowed_special=()).tolist()
        for one, trial in zip(engine.encode_batch_fast(trials, add_special_tokens=False), trials, strict=True)
    )
    return Bulk(encoding, engine, joint) if same else None


def cut_blocks(blocks: Iterable[str]) -> Iterator[str]:
    """Parts of about ``CHUNK`` characters, cut before white space that follows something else: no piece goes across."""
    held, seen = "", 0  # no seam begins before seen
    for block in blocks:
        held += block
        start = 0
        while len(held) - start > CHUNK:
            found = SEAM.search(held, max(start + CHUNK, seen))
            if found is None:
                seen = len(held) - 1  # what follows the last character is not known yet
                break
            yield held[start : found.end()]
            start = found.end()
        held, seen = held[start:], max(0, seen - start)
    yield held


def pieces_cutter(pieces: str = PIECES) -> Any:
    """The step that cuts a text into pieces and writes their bytes as letters."""
    return pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(pieces), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
