r"""Text to ids and back: byte-level BPE, bytes, characters, WordPiece, or any ``tokenizer.json``.

    ids     0 ... 108                109 ... size - 1          size ... padded - 1
            specials                 bytes, pieces             never seen, never predicted
            <pad> <s> </s> <mask>
            <cls> <sep> 3 modes
            100 spares

One special more, ``<unk>``, stands behind them in a WordPiece vocabulary, which cannot do without. Special-looking
text of a user stays text: ``"</s>"`` in a document never becomes the end.
"""

from __future__ import annotations

import functools
import hashlib
import json
import re
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from string import punctuation
from typing import Any, Literal, cast, get_args
from unicodedata import category

import numpy as np
import tiktoken
from numpy.typing import NDArray
from tokenizers import AddedToken, Regex, decoders, models, normalizers, pre_tokenizers, trainers
from tokenizers import Tokenizer as Engine

from ..errors import SightlineError
from ..files import fingerprint, whole_file, write_json
from ..progress import bar
from .documents import Corpus
from .sentences import sentence_ends
from .store import Texts, byte_count
from .vocabulary import Vocabulary

Kind = Literal["bpe", "byte", "char", "wordpiece"]
Role = Literal["pad", "bos", "eos", "mask", "cls", "sep"]

SPECIALS: dict[Role, str] = {
    "pad": "<pad>",
    "bos": "<s>",
    "eos": "</s>",
    "mask": "<mask>",
    "cls": "<cls>",
    "sep": "<sep>",
}
MODES = tuple(f"<mode:{n}>" for n in range(3))
SPARES = tuple(f"<spare:{n}>" for n in range(100))
RESERVED = (*SPECIALS.values(), *MODES, *SPARES)
UNKNOWN = "<unk>"
# What other people's tokenizers call the same things, most telling first.
NAMES: dict[Role, tuple[str, ...]] = {
    "pad": ("<pad>", "[PAD]", "<|pad|>", "<|padding|>"),
    "bos": ("<s>", "<bos>", "<|begin_of_text|>", "[BOS]", "<|startoftext|>", "[CLS]", "<|endoftext|>"),
    "eos": ("</s>", "<eos>", "<|end_of_text|>", "<|endoftext|>", "[EOS]", "[SEP]"),
    "mask": ("<mask>", "[MASK]", "<|mask|>"),
    "cls": ("<cls>", "[CLS]"),
    "sep": ("<sep>", "[SEP]"),
}
# GPT-2's pieces, with numbers cut into groups of at most three digits. A piece never goes from other text into white
# space, so a text may be cut there and encodes to the same ids.
PIECES = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}{1,3}| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
# The same for training alone: there Han and kana, which have no spaces, come two by two. Whole clauses as pieces are
# nearly all different; on 22 MB of Chinese they made training 7 times slower and 4 times larger for 2% fewer tokens.
TAUGHT = PIECES.replace(
    r" ?\p{L}+", r" ?[\p{Han}\p{Hiragana}\p{Katakana}]{1,2}| ?[^\P{L}\p{Han}\p{Hiragana}\p{Katakana}]+"
)
SEAM = re.compile(r"\S(?=\s)")
SAMPLE = (
    "  The 12345 cats' tails — isn't it?\r\n\tÜber naïve e\u0301; \U0001f600\U0001f469\u200d\U0001f680 的确，中文文本。"
    "日本語 한국어 \x00\x7f\u00a0\u2028<s></s><0x41>##a ▁b\n\n  "
)
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
CHUNK = 1 << 18  # characters encoded at a time
LONG = 1 << 19  # characters without a seam: far from the million white spaces that overflow tiktoken's stack


class Tokenizer:
    """A vocabulary and the way to cut text with it.

    Attributes
    ----------
    size : ids known. padded : ``size`` rounded up to a multiple of 64, the width of a model's output.
    pad, bos, eos, mask, cls, sep : ids of specials; None where an existing tokenizer lacks one (see ``need``).
    modes, spares : ids set aside for families and for later; empty in an existing tokenizer.
    kind : ``bpe``, ``byte``, ``char``, ``wordpiece``, or what an existing tokenizer calls its model.
    lossless : whether a hard sample comes back byte for byte; where not, no bits per byte are earned.
    fingerprint : changes when any text could be cut differently.
    pieces : the bytes that each id stands for (empty for specials).
    unpredictable : ids that are never predicted: pad, and ``size`` up to ``padded``.
    special_ids [padded] : True for specials and for ids beyond ``size``: never drawn as an ordinary token.
    starts_word [padded] : True where the id alone says that a word begins (see ``word_starts`` for the whole rule).
    """

    def __init__(self, engine: Engine, roles: dict[Role, str] | None = None) -> None:
        engine.encode_special_tokens = True
        engine.no_truncation()
        engine.no_padding()
        self._engine = engine
        layout = json.loads(engine.to_str())
        vocabulary = engine.get_vocab(with_added_tokens=True)
        self.size: int = max(vocabulary.values()) + 1
        self.padded: int = -(-self.size // 64) * 64
        self.kind: str = _kind(layout)
        ids: dict[Role, int | None] = {
            role: _special_id(vocabulary, role, (roles or {}).get(role)) for role in SPECIALS
        }
        self.pad, self.mask, self.cls, self.sep = ids["pad"], ids["mask"], ids["cls"], ids["sep"]
        self.bos = ids["bos"] if ids["bos"] is not None else ids["eos"]
        self.eos = ids["eos"] if ids["eos"] is not None else ids["bos"]
        self.modes = tuple(vocabulary[name] for name in MODES if name in vocabulary)
        self.spares = tuple(vocabulary[name] for name in SPARES if name in vocabulary)
        layout.pop("post_processor", None)  # templates wrap a text; they do not cut it
        self.fingerprint: str = fingerprint(json.dumps(layout, sort_keys=True), *ids.values())

        special = {token["id"] for token in layout["added_tokens"] if token["special"]}
        self.special_ids: NDArray[np.bool_] = np.ones(self.padded, bool)
        self.special_ids[sorted(id for id in vocabulary.values() if id not in special)] = False
        never = [*([] if self.pad is None else [self.pad]), *range(self.size, self.padded)]
        self.unpredictable: NDArray[np.int64] = np.array(never, np.int64)
        self.pieces: tuple[bytes, ...] = _pieces(layout, vocabulary, special, self.size)
        self._lengths = np.zeros(self.padded, np.int64)
        self._lengths[: self.size] = [len(piece) for piece in self.pieces]
        self._first, self._last = _classes(self.pieces, self.padded)
        self._first[_continued(layout, vocabulary)] = INSIDE
        self._first[self.special_ids] = self._last[self.special_ids] = SPACE  # a special is a word of its own
        if self.kind == "wordpiece":
            self.starts_word: NDArray[np.bool_] = self._first != INSIDE
        else:
            self.starts_word = (self._first == SPACE) | (self._first == ALONE)
        self._table = _character_table(self.kind, vocabulary)
        self._bulk = _bulk(engine, self.kind, layout, self.pieces)
        self.lossless: bool = self.decode(self.encode(SAMPLE)) == SAMPLE

    def __repr__(self) -> str:
        return f"Tokenizer({self.kind}, {self.size:,} ids, {self.fingerprint})"

    def _marks(self) -> dict[Role, int | None]:
        return {role: getattr(self, role) for role in SPECIALS}

    def need(self, role: Role) -> int:
        """The id of a special, or a clear error where this tokenizer has none."""
        id = cast(int | None, getattr(self, role))
        if id is None:
            raise SightlineError(
                f"this tokenizer ({self.kind}, {self.size:,} ids) has no {role} token",
                f"Choose a family without it, add {NAMES[role][0]} to tokenizer.json, or train one: --tokenizer bpe",
            )
        return id

    @functools.cached_property
    def vocabulary(self) -> Vocabulary:
        """The ids alone: what a family must know of this tokenizer."""
        marks = {role: -1 if (id := getattr(self, role)) is None else id for role in SPECIALS}
        special = tuple(np.flatnonzero(self.special_ids[: self.size]).tolist())
        return Vocabulary(self.size, self.padded, modes=self.modes, specials=special, **marks)

    @property
    def filler(self) -> int:
        """The id written where a row holds nothing: pad, or 0 where there is none. It is never read."""
        return 0 if self.pad is None else self.pad

    def encode(self, text: str) -> NDArray[np.int32]:
        """Ids of a text, no specials added."""
        if self._table is not None:
            return self._by_table(text)
        if self._bulk is not None:
            return _encoded_in_bulk(self._bulk, self._engine, text)
        return np.array(self._engine.encode(text, add_special_tokens=False).ids, np.int32)

    def encode_many(self, texts: Iterable[str], title: str = "") -> list[NDArray[np.int32]]:
        """Ids of each text; a progress bar counts their bytes."""
        texts = list(texts)
        with bar(title or "tokenizing", sum(byte_count(text) for text in texts), "bytes") as shown:
            ids = []
            for batch in _batches(texts):
                ids.extend(self.encode_batch(batch))
                shown.advance(sum(byte_count(text) for text in batch))
        return ids

    def encode_batch(self, batch: Sequence[str]) -> list[NDArray[np.int32]]:
        """Ids of each text, all at once."""
        if self._table is not None or self._bulk is not None:
            return [self.encode(text) for text in batch]
        return [np.array(one.ids, np.int32) for one in self._engine.encode_batch_fast(batch, add_special_tokens=False)]

    def divided(self, blocks: Iterable[str]) -> Iterator[str]:
        """A text that comes in blocks, in pieces whose ids are, one after the other, those of the whole text."""
        if self._bulk is not None:
            yield from _cut_blocks(blocks)
        elif self._table is not None:
            yield from blocks
        else:
            yield "".join(blocks)

    def told(self) -> tuple[str, dict[str, str]]:
        """What another process must hear to make this tokenizer (see ``of_told``)."""
        return self._engine.to_str(), {
            role: str(self._engine.id_to_token(id)) for role, id in self._marks().items() if id is not None
        }

    @classmethod
    def of_told(cls, layout: str, roles: dict[Role, str]) -> Tokenizer:
        """The tokenizer that another process told."""
        return cls(Engine.from_str(layout), roles)

    def _by_table(self, text: str) -> NDArray[np.int32]:
        """Bytes or characters by look-up; a character never seen is spelled in bytes."""
        assert self._table is not None
        if self.kind == "byte":
            return self._table[np.frombuffer(text.encode("utf-8"), np.uint8)]
        codes = np.frombuffer(text.encode("utf-32-le"), np.uint32)
        ids = self._table[256:][codes]
        unseen = np.flatnonzero(ids < 0)
        if not len(unseen):
            return ids
        spelled = [self._table[np.frombuffer(text[at].encode("utf-8"), np.uint8)] for at in unseen]
        counts = np.ones(len(ids), np.int64)
        counts[unseen] = [len(one) for one in spelled]
        out = np.repeat(ids, counts)
        out[out < 0] = np.concatenate(spelled)
        return out

    def decode(self, ids: Sequence[int] | NDArray[Any], specials: bool = False) -> str:
        """The text of ids. Specials are left out, or shown by name; bytes that are no UTF-8 come out as U+FFFD.

        Raises
        ------
        SightlineError : an id that the vocabulary does not have.
        """
        numbers = [int(id) for id in ids]
        outside = next((id for id in numbers if not 0 <= id < self.size), None)
        if outside is not None:
            raise SightlineError(
                f"id {outside} is not in a vocabulary of {self.size:,}", "Check that model and tokenizer fit"
            )
        if self.kind == "wordpiece" or not self._spells:
            return str(self._engine.decode(numbers, skip_special_tokens=not specials))
        parts = (self.show(id).encode() if specials and self.special_ids[id] else self.pieces[id] for id in numbers)
        return b"".join(parts).decode("utf-8", errors="replace")

    @functools.cached_property
    def _spells(self) -> bool:
        """Whether a text is its pieces joined, which Metaspace's invented first space spoils."""
        return self.kind in get_args(Kind)

    def show(self, id: int) -> str:
        """One id for a person: its characters, a space as ``␣``, a line end as ``⏎``, a lone byte as ``<0xE4>``."""
        if not 0 <= id < self.size:
            return f"<{id}>"
        piece = self.pieces[id]
        if not piece:
            return self._engine.id_to_token(id) or f"<{id}>"
        try:
            text = piece.decode("utf-8")
        except UnicodeDecodeError:
            return "".join(f"<0x{byte:02X}>" for byte in piece)
        shown = text.translate({32: "␣", 10: "⏎", 13: "␍", 9: "⇥"})
        follows = self.kind == "wordpiece" and self._first[id] == INSIDE
        return f"##{shown}" if follows else shown

    def token_bytes(self, ids: Sequence[int] | NDArray[Any]) -> int:
        """UTF-8 bytes that these ids stand for (0 for specials)."""
        return int(self._lengths[np.asarray(ids, np.int64)].sum())

    def word_starts(self, tokens: NDArray[Any], documents: NDArray[Any]) -> NDArray[np.bool_]:
        """Where words begin in rows [B, T]; ``documents`` [B, T] numbers the documents, -1 where nothing is.

        A token starts a word if it begins with white space, is a special, or begins with a character that is a word by
        itself (Chinese, Japanese kana, emoji); if it follows white space or one of these; or if letters, digits and
        other marks meet. Documents and rows begin with a word. WordPiece says it itself, with ``##``.
        """
        start: NDArray[np.bool_] = self.starts_word[tokens]
        if self.kind != "wordpiece":
            before, after = self._carried(tokens)[:, :-1], self._first[tokens[:, 1:]]
            start[:, 1:] |= (after != INSIDE) & (before != after)
        start[:, 1:] |= documents[:, 1:] != documents[:, :-1]
        start[:, 0] = True
        return start & (documents >= 0)

    def sentence_ends(self, ids: NDArray[Any]) -> NDArray[np.bool_]:
        """Which of a text's tokens [N] end a sentence (see ``sentences``); specials never do."""
        spelled = self._lengths[ids]
        parts = [self.pieces[id] for id in ids.tolist()]
        if self.kind == "wordpiece":  # its pieces hold no spaces: a word brings one, but the 5 of 3.5 does not
            gaps = self._first[ids] == LETTER
            parts = [b" " + part if gap else part for gap, part in zip(gaps, parts, strict=True)]
            spelled = spelled + gaps
        return sentence_ends(b"".join(parts), spelled)

    def _carried(self, tokens: NDArray[Any]) -> NDArray[np.uint8]:
        """The class of the last character begun up to each token; a token of continuing bytes hands on the former."""
        last: NDArray[np.uint8] = self._last[tokens]
        unknown = last == INSIDE
        if not unknown.any():
            return last
        known = np.where(unknown, 0, np.arange(tokens.shape[1]))
        return np.take_along_axis(last, np.maximum.accumulate(known, axis=1), axis=1)

    def save(self, folder: Path | str) -> None:
        """Write ``tokenizer.json`` and ``tokenizer_config.json``, which Hugging Face's ``AutoTokenizer`` reads too."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        with whole_file(folder / "tokenizer.json", "w") as handle:
            handle.write(self._engine.to_str(pretty=True))
        names = {f"{role}_token": self._engine.id_to_token(id) for role, id in self._marks().items() if id is not None}
        if (unknown := self._engine.token_to_id(UNKNOWN)) is not None:
            names["unk_token"] = self._engine.id_to_token(unknown)
        extra = [self._engine.id_to_token(id) for id in (*self.modes, *self.spares)]
        fixed = {"tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": False}
        write_json(folder / "tokenizer_config.json", fixed | names | {"additional_special_tokens": extra})

    @classmethod
    def load(cls, path: Path | str) -> Tokenizer:
        """Read a ``tokenizer.json``, or the folder that holds one (with the names in ``tokenizer_config.json``).

        Raises
        ------
        SightlineError : no such file, or not a tokenizer.
        """
        path = Path(path).expanduser()
        file = path / "tokenizer.json" if path.is_dir() else path
        if not file.is_file():
            raise SightlineError(
                f"{file} does not exist",
                "Name a tokenizer.json, a folder with one, or one of bpe, bpe:4096, byte, char, wordpiece:8000",
            )
        try:
            engine = Engine.from_str(file.read_text(encoding="utf-8"))
        except Exception as error:  # tokenizers raises plain Exception
            raise SightlineError(
                f"{file} is not a whole tokenizer.json ({str(error)[:120]})", "Copy it again or choose another"
            ) from error
        return cls(engine, _named_roles(file.parent))


def default_size(corpus_bytes: int) -> int:
    """Ids of a trained vocabulary, specials included, by the size of the corpus: larger texts can fill more pieces."""
    for limit, size in ((5e6, 2048), (20e6, 4096), (100e6, 8192), (1e9, 16384)):
        if corpus_bytes < limit:
            return size
    return 32768


def train_tokenizer(
    texts: Iterable[str], kind: Kind = "bpe", size: int | None = None, sample_bytes: int = 16_000_000, seed: int = 0
) -> Tokenizer:
    """Train a tokenizer on texts.

    Parameters
    ----------
    texts : the training documents, never dev or test.
    size : ids with specials; by ``default_size`` if None. ``byte`` and ``char`` have the size that they have.
    sample_bytes, seed : at most so many bytes are looked at, drawn in blocks across all documents.

    Raises
    ------
    SightlineError : a size that cannot hold the specials and the alphabet, or no text.
    """
    texts = texts if isinstance(texts, Sequence) else list(texts)
    total = sum(byte_count(text) for text in texts)
    if total == 0:
        raise SightlineError("there is no text to train a tokenizer on", "Give a corpus with text")
    if kind == "byte":
        return Tokenizer(_byte_engine())
    if kind == "char":
        return Tokenizer(_char_engine(texts))
    sample = list(_sample(texts, total, sample_bytes, seed))
    wanted = size if size is not None else default_size(total)
    least = len(RESERVED) + (256 if kind == "bpe" else 64)
    if wanted < least:
        raise SightlineError(
            f"a {kind} vocabulary of {wanted:,} ids is too small: at least {least}, {len(RESERVED)} of them reserved",
            f"Ask for more, such as {kind}:{default_size(total)}, or take byte or char",
        )
    return Tokenizer(_bpe_engine(sample, wanted) if kind == "bpe" else _wordpiece_engine(sample, wanted))


def tokenizer_for(corpus: Corpus, spec: str | None = None, seed: int = 0) -> Tokenizer:
    """The tokenizer that a setting asks for, trained on ``corpus.train`` where it is to be trained.

    ``spec`` is None (``bpe``), ``bpe``, ``byte``, ``char`` or ``wordpiece``, the first and last maybe with a size
    (``bpe:4096``), or a path to a ``tokenizer.json`` or to a folder with one.
    """
    kind, _, size = (spec or "bpe").partition(":")
    if kind not in get_args(Kind):
        return Tokenizer.load(cast(str, spec))
    if size and (not re.fullmatch(r"[0-9]+", size) or kind in ("byte", "char")):
        raise SightlineError(
            f"the tokenizer {spec} is not known", "Choose bpe, bpe:4096, byte, char, wordpiece:8000 or a path"
        )
    return train_tokenizer(Texts(corpus.train), cast(Kind, kind), int(size) if size else None, seed=seed)


def _kind(layout: dict[str, Any]) -> str:
    """What a tokenizer is, from its parts."""
    model = layout["model"]
    name = str(model["type"])
    if name == "WordPiece":
        return "wordpiece"
    if name != "BPE":
        return name.lower()
    byte_level = _has(layout["decoder"], "ByteLevel")
    plain = (
        not model["merges"] and layout["normalizer"] is None and all(one["special"] for one in layout["added_tokens"])
    )
    if plain and byte_level and len(model["vocab"]) - len(layout["added_tokens"]) == 256:
        return "byte"
    if plain and model["byte_fallback"] and layout["pre_tokenizer"] is None and "<0xFF>" in model["vocab"]:
        return "char"
    return "bpe" if byte_level and layout["normalizer"] is None else "bpe (spaced)"


def _has(part: Any, name: str) -> bool:
    """Whether a part of a tokenizer is of a type, or a sequence with such a part."""
    if not isinstance(part, dict):
        return False
    inner = [*part.get("decoders", []), *part.get("pretokenizers", []), *part.get("normalizers", [])]
    return part.get("type") == name or any(_has(one, name) for one in inner)


def _special_id(vocabulary: dict[str, int], role: Role, named: str | None) -> int | None:
    for name in (*([named] if named else []), *NAMES[role]):
        if name in vocabulary:
            return vocabulary[name]
    return None


def _named_roles(folder: Path) -> dict[Role, str]:
    """The specials that ``tokenizer_config.json`` or ``special_tokens_map.json`` names; none if they cannot be read."""
    roles: dict[Role, str] = {}
    for file in (folder / "special_tokens_map.json", folder / "tokenizer_config.json"):
        try:
            settings = json.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        for role in SPECIALS:
            value = settings.get(f"{role}_token") if isinstance(settings, dict) else None
            name = value.get("content") if isinstance(value, dict) else value
            if isinstance(name, str):
                roles[role] = name
    return roles


@functools.cache
def _byte_letters() -> dict[str, int]:
    """The letter that GPT-2's byte-level alphabet writes for each byte, read backwards (Radford et al., 2019)."""
    shown = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    hidden = [byte for byte in range(256) if byte not in shown]
    return {chr(byte): byte for byte in shown} | {chr(256 + at): byte for at, byte in enumerate(hidden)}


def _pieces(layout: dict[str, Any], vocabulary: dict[str, int], special: set[int], size: int) -> tuple[bytes, ...]:
    """The bytes of each id; empty for specials and for ids that no token has."""
    letters = _byte_letters()
    byte_level = _has(layout["decoder"], "ByteLevel")
    wordpiece = layout["model"]["type"] == "WordPiece"
    prefix = layout["model"].get("continuing_subword_prefix") or ""
    spaced = _has(layout["decoder"], "Metaspace") or _has(layout["decoder"], "Replace")
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


def _continued(layout: dict[str, Any], vocabulary: dict[str, int]) -> list[int]:
    """WordPiece's ids that go on with a word (``##ing``)."""
    if layout["model"]["type"] != "WordPiece":
        return []
    prefix = layout["model"]["continuing_subword_prefix"]
    return [id for token, id in vocabulary.items() if token.startswith(prefix) and token != prefix]


@functools.lru_cache(maxsize=1 << 16)
def _class(character: str) -> int:
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


def _classes(pieces: Sequence[bytes], padded: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
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
        return _class(piece[at : at + width].decode("utf-8"))
    except UnicodeDecodeError:
        return _lead_class(piece[at])


def _character_table(kind: str, vocabulary: dict[str, int]) -> NDArray[np.int32] | None:
    """Byte to id (256 entries) for ``byte``; these and then code point to id (-1: none) for ``char``; else None."""
    if kind == "byte":
        letters = {byte: letter for letter, byte in _byte_letters().items()}
        return np.array([vocabulary[letters[byte]] for byte in range(256)], np.int32)
    if kind != "char":
        return None
    table = np.full(256 + sys.maxunicode + 1, -1, np.int32)
    table[:256] = [vocabulary[f"<0x{byte:02X}>"] for byte in range(256)]
    for token, id in vocabulary.items():
        if len(token) == 1:
            table[256 + ord(token)] = id
    return table


def _bulk(engine: Engine, kind: str, layout: dict[str, Any], pieces: Sequence[bytes]) -> tiktoken.Encoding | None:
    """tiktoken over the same merges, five to ten times faster; only for our own BPE, only where the ids are the same.

    tiktoken merges any two neighbours whose join is a piece, tokenizers only the pairs it was taught; so the ids are
    compared on the sample, on long runs of one character and on a few hundred joins of pieces drawn at random.
    """
    if kind != "bpe" or json.loads(_pieces_cutter().__getstate__()) != layout["pre_tokenizer"]:
        return None
    merged = ["".join(pair) for pair in layout["model"]["merges"]]
    order = [layout["model"]["vocab"][token] for token in merged]
    if order != sorted(set(order)) or not all(token["special"] for token in layout["added_tokens"]):
        return None
    ranks = {piece: id for id, piece in enumerate(pieces) if piece}
    if any(bytes([byte]) not in ranks for byte in range(256)):
        return None
    bulk = tiktoken.Encoding("sightline", pat_str=PIECES, mergeable_ranks=ranks, special_tokens={})
    known = list(ranks)
    drawn = np.random.default_rng(0).integers(len(known), size=(400, 12))
    trials = [b"".join(known[at] for at in row).decode("utf-8", errors="ignore") for row in drawn]
    trials += [SAMPLE, *(mark * count for mark in " =-.\n0a" for count in (2, 3, 5, 7, 12, 33, 70))]
    same = all(
        one.ids == bulk.encode_ordinary(trial)
        for one, trial in zip(engine.encode_batch_fast(trials, add_special_tokens=False), trials, strict=True)
    )
    return bulk if same else None


def _encoded_in_bulk(bulk: tiktoken.Encoding, engine: Engine, text: str) -> NDArray[np.int32]:
    """tiktoken's ids, part by part; a part that is too much for its regular expressions goes to the engine."""
    ids = []
    for part in _cut(text):
        if len(part) < LONG:  # twice as fast as encode_to_numpy, but it aborts where that raises
            ids.append(np.array(bulk.encode_ordinary(part), np.int32))
            continue
        try:
            ids.append(bulk.encode_to_numpy(part, disallowed_special=()).astype(np.int32))
        except ValueError:
            ids.append(np.array(engine.encode(part, add_special_tokens=False).ids, np.int32))
    return ids[0] if len(ids) == 1 else np.concatenate([np.zeros(0, np.int32), *ids])


def _cut(text: str) -> Iterator[str]:
    """Parts of about ``CHUNK`` characters, cut before white space that follows something else: no piece goes across."""
    return _cut_blocks([text])


def _cut_blocks(blocks: Iterable[str]) -> Iterator[str]:
    """The same for a text that comes in blocks."""
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


def _batches(texts: Sequence[str]) -> Iterator[list[str]]:
    batch: list[str] = []
    size = 0
    for text in texts:
        batch.append(text)
        size += len(text)
        if size >= 4 * CHUNK:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _sample(texts: Sequence[str], total: int, most: int, seed: int) -> Iterator[str]:
    """All texts where they are small enough; else blocks of 16 Ki characters, kept or not by a hash of their place."""
    if total <= most:
        yield from texts
        return
    block, left = 1 << 14, most
    for index, text in enumerate(texts):
        for start in range(0, len(text), block):
            key = hashlib.blake2b(f"{seed} {index} {start}".encode(), digest_size=8).digest()
            if int.from_bytes(key, "big") / 2**64 * total < most:
                part = text[start : start + block]
                left -= byte_count(part)
                if left < 0:
                    return
                yield part


def _added(names: Sequence[str]) -> list[AddedToken]:
    return [AddedToken(name, special=True, normalized=False) for name in names]


def _pieces_cutter(pieces: str = PIECES) -> Any:
    return pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(pieces), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )


def _bpe_engine(sample: Sequence[str], size: int) -> Engine:
    engine = Engine(models.BPE())
    engine.pre_tokenizer = _pieces_cutter(TAUGHT)
    engine.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=_added(RESERVED),
        initial_alphabet=sorted(_byte_letters()),
        show_progress=sys.stderr.isatty(),
    )
    engine.train_from_iterator(sample, trainer, length=len(sample))
    engine.pre_tokenizer = _pieces_cutter()
    return engine


def _byte_engine() -> Engine:
    letters = sorted(_byte_letters().items(), key=lambda pair: pair[1])
    vocabulary = {token: id for id, token in enumerate([*RESERVED, *(letter for letter, _ in letters)])}
    engine = Engine(models.BPE(vocabulary, []))
    engine.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    engine.decoder = decoders.ByteLevel()
    engine.add_special_tokens(_added(RESERVED))
    return engine


def _char_engine(texts: Iterable[str]) -> Engine:
    characters: set[str] = set()
    for text in texts:
        characters.update(text)
    names = [*RESERVED, *(f"<0x{byte:02X}>" for byte in range(256)), *sorted(characters)]
    engine = Engine(models.BPE({token: id for id, token in enumerate(names)}, [], byte_fallback=True))
    engine.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Fuse()])
    engine.add_special_tokens(_added(RESERVED))
    return engine


def _wordpiece_engine(sample: Sequence[str], size: int) -> Engine:
    """BERT's cased WordPiece (Devlin et al., 2019). It drops white space, so it is not lossless."""
    engine = Engine(models.WordPiece(unk_token=UNKNOWN))
    engine.normalizer = normalizers.BertNormalizer(lowercase=False, strip_accents=False)
    engine.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    engine.decoder = decoders.WordPiece(cleanup=False)
    seen: Counter[str] = Counter()
    for text in sample:
        seen.update(engine.normalizer.normalize_str(text))
    # The trainer picks its alphabet, and the ids of its "##" letters, in an order that changes from run to run; so both
    # are chosen here: the commonest characters, and those of them that can stand inside a word (BERT cuts Han and
    # punctuation apart).
    common = sorted((c for c in seen if not c.isspace()), key=lambda c: (-seen[c], c))
    alphabet = sorted(common[: (size - len(RESERVED) - 1) // 2])
    inner = [f"##{c}" for c in alphabet if _class(c) != ALONE and c not in punctuation and category(c)[0] != "P"]
    trainer = trainers.WordPieceTrainer(
        vocab_size=size,
        special_tokens=_added([*RESERVED, UNKNOWN, *inner]),
        initial_alphabet=alphabet,
        limit_alphabet=len(alphabet),
        show_progress=sys.stderr.isatty(),
    )
    engine.train_from_iterator(sample, trainer, length=len(sample))
    # The same parts around the trained vocabulary, in which the "##" letters are no specials.
    trained = Engine(models.WordPiece(engine.get_vocab(), unk_token=UNKNOWN))
    trained.normalizer, trained.pre_tokenizer = engine.normalizer, engine.pre_tokenizer
    trained.decoder = engine.decoder
    trained.add_special_tokens(_added([*RESERVED, UNKNOWN]))
    return trained
