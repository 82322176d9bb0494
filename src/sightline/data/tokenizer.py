r"""Text to ids and back: byte-level BPE, bytes, characters, WordPiece, words, or any ``tokenizer.json``.

    ids     0 ... 108                109 ... size - 1          size ... padded - 1
            specials                 bytes, pieces             never seen, never predicted
            <pad> <s> </s> <mask>
            <cls> <sep> 3 modes
            100 spares

One special more, ``<unk>``, stands behind them in a vocabulary of WordPiece or words, which cannot do without.
Words may be joined to phrases (see ``phrases.py``); the pairs stand in ``tokenizer.json``, where other programs pass
over them, and cut single words.
Special-looking text of a user stays text: ``"</s>"`` in a document never becomes the end.
"""

from __future__ import annotations

import copy
import functools
import json
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, cast, get_args

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer as Engine

from ..errors import SightlineError
from ..files import fingerprint, whole_file, write_json
from ..progress import bar
from .bulk import CHUNK, SAMPLE, bulk_of, cut_blocks
from .layout import (
    MODES,
    NAMES,
    SENTINELS,
    SPARES,
    SPECIALS,
    TEMPLATE,
    UNKNOWN,
    Phrases,
    Role,
    chat_template,
    cuts_all,
    kind_in,
    named_roles,
    opened,
    special_id,
    told_roles,
    with_specials,
)
from .phrases import LINK, Joins
from .pieces import (
    ALONE,
    INSIDE,
    LETTER,
    SPACE,
    byte_letters,
    classes_of,
    continued,
    pieces_of,
)
from .segmenter import word_begins
from .sentences import sentence_ends
from .store import byte_count
from .stretches import Ints, by_offsets, by_sizes
from .vocabulary import Vocabulary

Kind = Literal["bpe", "byte", "char", "wordpiece", "word"]

STRANGER = "\U00013000"  # a character, of Egyptian, that hardly any longer piece holds and no normalizer changes
WHOLE = ("wordpiece", "word")  # kinds whose tokens say themselves where words begin, and hold no spaces


class Tokenizer:
    """A vocabulary and the way to cut text with it.

    Attributes
    ----------
    size : ids known. padded : ``size`` rounded up to a multiple of 64, the width of a model's output.
    pad, bos, eos, mask, cls, sep : ids of specials; None where an existing tokenizer lacks one (see ``need``).
    modes, spares : ids set aside for families and for later; of an existing tokenizer, the sentinels of T5.
    kind : ``bpe``, ``byte``, ``char``, ``wordpiece``, ``word``, or what an existing tokenizer calls its model.
    lossless : whether a hard sample comes back byte for byte; where not, no bits per byte are earned.
    chat_template : how turns of a talk are written as one text, in Jinja; kept and never run. Empty: it has none.
    fingerprint : changes when any text could be cut differently.
    pieces : the bytes that each id stands for (empty for specials).
    unpredictable : ids that are never predicted: pad, and ``size`` up to ``padded``.
    special_ids [padded] : True for specials and for ids beyond ``size``: never drawn as an ordinary token.
    phrases : for each pass the pairs of words that it makes one word of; none but for ``word``.
    frames : whether a text is read as the tokenizer's own template frames it; of models that others trained.
    starts_word [padded] : True where the id alone says that a word begins (see ``word_starts`` for the whole rule).
    """

    def __init__(
        self, engine: Engine, roles: dict[Role, str] | None = None, phrases: Phrases = (), chat_template: str = ""
    ) -> None:
        engine.encode_special_tokens = True
        engine.no_truncation()
        engine.no_padding()
        self._engine = engine
        vocabulary = engine.get_vocab(with_added_tokens=True)
        ids: dict[Role, int | None] = {role: special_id(vocabulary, role, (roles or {}).get(role)) for role in SPECIALS}
        if ids["pad"] in (ids["bos"], ids["eos"]):  # padding is never predicted, and the end of a text must be
            other = special_id(vocabulary, "pad", None)
            ids["pad"] = None if other in (ids["bos"], ids["eos"]) else other
        layout = with_specials(engine, {id for id in ids.values() if id is not None})
        self.size: int = max(vocabulary.values()) + 1
        self.padded: int = -(-self.size // 64) * 64
        self.kind: str = kind_in(layout)
        self.phrases, self.chat_template, self.frames = phrases, chat_template, False
        self._joins = _joins_of(self.phrases, vocabulary, self.kind)
        if self.phrases:
            layout["phrases"] = self.phrases
        self.pad, self.mask, self.cls, self.sep = ids["pad"], ids["mask"], ids["cls"], ids["sep"]
        self._templated = layout.pop("post_processor", None) is not None  # templates wrap a text; they do not cut it
        if ids["sep"] is None or ids["sep"] != ids["eos"]:
            self.bos = ids["eos"] if ids["bos"] is None else ids["bos"]
        else:  # a source ends as a text does, and begins so
            self.bos = ids["bos"] if self.template is None or ids["bos"] in self.template[0] else None
        self.eos = ids["eos"] if ids["eos"] is not None else ids["bos"]
        self.modes = tuple(vocabulary[name] for name in MODES if name in vocabulary)
        self.spares = tuple(vocabulary[name] for name in (*SPARES, *SENTINELS) if name in vocabulary)
        self._cuts_all = cuts_all(layout)
        self.fingerprint: str = fingerprint(json.dumps(layout, sort_keys=True), *self._marks().values())

        special = {token["id"] for token in layout["added_tokens"] if token["special"]}
        self.special_ids: NDArray[np.bool_] = np.ones(self.padded, bool)
        self.special_ids[sorted(id for id in vocabulary.values() if id not in special)] = False
        never = [*([] if self.pad is None else [self.pad]), *range(self.size, self.padded)]
        self.unpredictable: NDArray[np.int64] = np.array(never, np.int64)
        self.pieces: tuple[bytes, ...] = pieces_of(layout, vocabulary, special, self.size)
        self._lengths = np.zeros(self.padded, np.int64)
        self._lengths[: self.size] = [len(piece) for piece in self.pieces]
        self._first, self._last = classes_of(self.pieces, self.padded)
        self._first[continued(layout, vocabulary)] = INSIDE
        self._first[self.special_ids] = self._last[self.special_ids] = SPACE  # a special is a word of its own
        if self.kind in WHOLE:
            self.starts_word: NDArray[np.bool_] = self._first != INSIDE
        else:
            self.starts_word = (self._first == SPACE) | (self._first == ALONE)
        self._table = _character_table(self.kind, vocabulary)
        self._bulk = bulk_of(engine, self.kind, layout, self.pieces, self.padded)
        self.lossless: bool = self.decode(self.encode(SAMPLE)) == SAMPLE

    def __repr__(self) -> str:
        joined = f", {sum(map(len, self.phrases)):,} pairs joined" if self.phrases else ""
        return f"Tokenizer({self.kind}, {self.size:,} ids{joined}, {self.fingerprint})"

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

    def id_of(self, token: str) -> int | None:
        """The id of a token by its name in ``tokenizer.json``; None where there is no such token."""
        return self._engine.token_to_id(token)

    def framing(self, frames: bool = True) -> Tokenizer:
        """The same tokenizer, which frames what is read by its own template, or, as ours, begins it with bos."""
        other = copy.copy(self)
        other.frames = frames
        return other

    @functools.cached_property
    def template(self) -> tuple[list[int], list[int]] | None:
        """The marks that its template puts before and behind a text; None: it has no template, as ours."""
        if not self._templated:
            return None
        bare, whole = (self._engine.encode("a", add_special_tokens=marked).ids for marked in (False, True))
        at = next(at for at in range(len(whole) + 1) if whole[at : at + len(bare)] == bare)
        return whole[:at], whole[at + len(bare) :]

    def before(self, text: bool = True) -> list[int]:
        """The marks before a ``text`` that something is written behind: bos, or what the template says.

        That is bos for LLaMA, nothing for GPT-2, nor where others have no template. Where there is no text, bos stands
        in any case: a first token needs something to follow.
        """
        if text and self._framed is not None:
            return self._framed[0]
        return [mark for mark in (self.bos, self.cls) if mark is not None][:1]

    @property
    def behind(self) -> list[int]:
        """The marks behind a text that is read whole: eos, or what the template says."""
        if self._framed is not None:
            return self._framed[1]
        return [mark for mark in (self.eos, self.sep) if mark is not None][:1]

    @property
    def _framed(self) -> tuple[list[int], list[int]] | None:
        """The marks around a text by a template, or by the lack of one; None: as ours."""
        if not self.frames or (self.modes and not self._templated):
            return None
        return self.template or ([], [])

    @property
    def opens(self) -> list[int]:
        """The mark before a target, where both sides of a pair are texts framed by the template (BART: bos)."""
        alike = self.frames and self.sep is not None and self.sep == self.eos and self.bos not in (None, self.eos)
        return [self.need("bos")] if alike and self.before() == [self.bos] else []

    def need_targets(self) -> None:
        """A clear error where only sources are cut: how a published Marian cuts targets is in a file of its own."""
        if not self._cuts_all:
            raise SightlineError(
                "this tokenizer cuts the sources of a translator that others trained, and no targets",
                "Translate with it, or train on pairs from the beginning: without --from",
            )

    @functools.cached_property
    def vocabulary(self) -> Vocabulary:
        """The ids alone: what a family must know of this tokenizer."""
        marks = {role: -1 if (id := getattr(self, role)) is None else id for role in SPECIALS}
        special = tuple(np.flatnonzero(self.special_ids[: self.size]).tolist())
        return Vocabulary(
            self.size, self.padded, modes=self.modes, spares=self.spares, specials=special, never=(), ends=(), **marks
        )

    @property
    def filler(self) -> int:
        """The id written where a row holds nothing: pad, or 0 where there is none. It is never read."""
        return 0 if self.pad is None else self.pad

    def encode(self, text: str) -> NDArray[np.int32]:
        """Ids of a text, no specials added."""
        if self._table is not None:
            return self._by_table(text)
        if self._bulk is not None:
            return self._bulk.encode(text)
        ids = np.array(self._engine.encode(text, add_special_tokens=False).ids, np.int32)
        return self._with_phrases(ids, np.array([len(ids)]))[0]

    def stretches(self, text: str) -> tuple[NDArray[np.int32], Ints, Ints]:
        """Ids of a text, and the characters [first, last) of it that each stands for (see ``stretches.py``)."""
        if self._table is not None or self._bulk is not None:
            ids = self.encode(text)
            return ids, *by_sizes(text, self._lengths[ids])
        coded = self._engine.encode(text, add_special_tokens=False)
        ids = np.array(coded.ids, np.int32)
        first, last = by_offsets(text, coded.offsets, [self.pieces[id] for id in coded.ids])
        if self.phrases:  # as many words as its links part
            ids, _ = self._with_phrases(ids, np.array([len(ids)]))
            words = np.array([1 + self.pieces[id].count(LINK.encode()) for id in ids], np.int64)
            ends = np.cumsum(words)
            first, last = first[ends - words], last[ends - 1]
        return ids, first, last

    def encode_on(self, text: str) -> NDArray[np.int32]:
        """Ids of a text that goes on from another, without the space that sentencepiece writes before a text."""
        if not self._invents:
            return self.encode(text)
        before, whole = self.encode(STRANGER), self.encode(STRANGER + text)
        return whole[len(before) :] if np.array_equal(whole[: len(before)], before) else self.encode(text)

    @functools.cached_property
    def _invents(self) -> bool:
        """Whether the first word of a text gets a space that the text has not."""
        ids = self.encode("a")
        return len(ids) > 0 and self.pieces[ids[0]].startswith(b" ")

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
        ids, counts = self.encode_joined(batch)
        return np.split(ids, np.cumsum(counts)[:-1]) if batch else []

    def encode_joined(self, batch: Sequence[str]) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        """Ids of all texts in a row, and how many each text gave: the ids of each by itself."""
        if self._bulk is not None and (found := self._bulk.encode_joined(batch)) is not None:
            return found
        if self._bulk is not None or self._table is not None:
            each = [self.encode(text) for text in batch]
        else:
            coded = self._engine.encode_batch_fast(batch, add_special_tokens=False)
            each = [np.array(one.ids, np.int32) for one in coded]
        ids, counts = np.concatenate([np.zeros(0, np.int32), *each]), np.array([len(ids) for ids in each], np.int64)
        return self._with_phrases(ids, counts)

    def _with_phrases(
        self, ids: NDArray[np.int32], counts: NDArray[np.int64]
    ) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        """Words joined where they are phrases; ``ids`` of texts in a row and how many each has, before and after."""
        for joins in self._joins:
            ids, counts = joins.apply(ids, counts)
        return ids, counts

    def divided(self, blocks: Iterable[str]) -> Iterator[str]:
        """A text that comes in blocks, in pieces whose ids are, one after the other, those of the whole text."""
        if self._bulk is not None:
            yield from cut_blocks(blocks)
        elif self._table is not None:
            yield from blocks
        else:
            yield "".join(blocks)

    def told(self) -> tuple[str, dict[Role, str]]:
        """What another process must hear to make this tokenizer (see ``of_told``)."""
        return self._layout(), {
            role: str(self._engine.id_to_token(id)) for role, id in self._marks().items() if id is not None
        }

    def again(self, layout: str, roles: dict[Role, str]) -> Tokenizer:
        """This tokenizer with another layout or other marks; how it frames texts and talks stays."""
        engine, phrases = opened(layout)
        return type(self)(engine, roles, phrases, self.chat_template).framing(self.frames)

    @classmethod
    def of_told(cls, layout: str, roles: dict[Role, str]) -> Tokenizer:
        """The tokenizer that another process told."""
        engine, phrases = opened(layout)
        return cls(engine, roles, phrases)

    def _layout(self, pretty: bool = False) -> str:
        """The text of ``tokenizer.json``."""
        text = self._engine.to_str(pretty=pretty)
        if not self.phrases:
            return text
        return json.dumps(
            json.loads(text) | {"phrases": self.phrases}, ensure_ascii=False, indent=2 if pretty else None
        )

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
        if self.kind in WHOLE or not self._spells:
            text = str(self._engine.decode(numbers, skip_special_tokens=not specials))
            return text.replace(LINK, " ") if self.phrases else text
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
        if self.kind not in WHOLE:
            before, after = self._carried(tokens)[:, :-1], self._first[tokens[:, 1:]]
            start[:, 1:] |= (after != INSIDE) & (before != after)
        start[:, 1:] |= documents[:, 1:] != documents[:, :-1]
        start[:, 0] = True
        return start & (documents >= 0)

    def sentence_ends(self, ids: NDArray[Any]) -> NDArray[np.bool_]:
        """Which of a text's tokens [N] end a sentence (see ``sentences``); specials never do."""
        return sentence_ends(*self._spelled(ids))

    def segmented(self, ids: NDArray[Any]) -> NDArray[np.bool_]:
        """Which of a text's tokens [N] begin with a word of the segmenter (see ``segmenter``); specials always do."""
        text, spelled = self._spelled(ids)
        begins: NDArray[np.bool_] = word_begins(text)[np.cumsum(spelled) - spelled] | self.special_ids[ids]
        return begins

    def _spelled(self, ids: NDArray[Any]) -> tuple[bytes, NDArray[np.int64]]:
        """The text of tokens [N], and how many of its bytes each of them spells."""
        spelled = self._lengths[ids]
        parts = [self.pieces[id] for id in ids.tolist()]
        if self.kind == "wordpiece":  # its pieces hold no spaces: a word brings one, but the 5 of 3.5 does not
            gaps = self._first[ids] == LETTER
            parts = [b" " + part if gap else part for gap, part in zip(gaps, parts, strict=True)]
            spelled = spelled + gaps
        return b"".join(parts), spelled

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
            handle.write(self._layout(pretty=True))
        names = {f"{role}_token": self._engine.id_to_token(id) for role, id in self._marks().items() if id is not None}
        if (unknown := self._engine.token_to_id(UNKNOWN)) is not None:
            names["unk_token"] = self._engine.id_to_token(unknown)
        extra = [self._engine.id_to_token(id) for id in (*self.modes, *self.spares)]
        fixed = {"tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": False}
        write_json(folder / "tokenizer_config.json", fixed | names | {"additional_special_tokens": extra})
        if self.chat_template:
            with whole_file(folder / TEMPLATE, "w") as handle:
                handle.write(self.chat_template)

    @classmethod
    def load(cls, path: Path | str, marks: Mapping[Role, int] | None = None) -> Tokenizer:
        """Read a ``tokenizer.json``, or the folder that holds one (with the names in ``tokenizer_config.json``).

        ``marks`` : ids of specials that these files do not name; passed over where they are ordinary tokens.

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
            engine, phrases = opened(file.read_text(encoding="utf-8"))
        except Exception as error:  # tokenizers raises plain Exception
            raise SightlineError(
                f"{file} is not a whole tokenizer.json ({str(error)[:120]})", "Copy it again or choose another"
            ) from error
        roles = told_roles(engine, marks or {}) | named_roles(file.parent)
        return cls(engine, roles, phrases, chat_template(file.parent))


def _character_table(kind: str, vocabulary: dict[str, int]) -> NDArray[np.int32] | None:
    """Byte to id (256 entries) for ``byte``; these and then code point to id (-1: none) for ``char``; else None."""
    if kind == "byte":
        letters = {byte: letter for letter, byte in byte_letters().items()}
        return np.array([vocabulary[letters[byte]] for byte in range(256)], np.int32)
    if kind != "char":
        return None
    table = np.full(256 + sys.maxunicode + 1, -1, np.int32)
    table[:256] = [vocabulary[f"<0x{byte:02X}>"] for byte in range(256)]
    for token, id in vocabulary.items():
        if len(token) == 1:
            table[256 + ord(token)] = id
    return table


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


def _joins_of(phrases: Phrases, vocabulary: dict[str, int], kind: str) -> tuple[Joins, ...]:
    """The pairs of each pass by id; an error where the vocabulary has not what they are or become."""
    if phrases and kind != "word":
        raise SightlineError(f"phrases are made of words, and {kind} has none", "Leave them out of tokenizer.json")
    names = {name for one in phrases for pair in one for name in (*pair, LINK.join(pair))}
    if lost := sorted(names - vocabulary.keys()):
        raise SightlineError(f"{lost[0]!r} of the phrases is not in the vocabulary", "Copy tokenizer.json again")
    return tuple(
        Joins.of([(vocabulary[a], vocabulary[b], vocabulary[LINK.join((a, b))]) for a, b in one]) for one in phrases
    )
