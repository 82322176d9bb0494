"""Training a tokenizer on a text: byte-level BPE, bytes, characters, WordPiece or words, each with the reserved ids."""

from __future__ import annotations

import hashlib
import re
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from string import punctuation
from typing import Any, cast, get_args
from unicodedata import category

import numpy as np
from tokenizers import AddedToken, Regex, decoders, models, normalizers, pre_tokenizers, trainers
from tokenizers import Tokenizer as Engine

from ..errors import SightlineError
from ..progress import say
from .bulk import PIECES, pieces_cutter
from .documents import Corpus
from .layout import RESERVED, UNKNOWN
from .phrases import LINK, Lesson, Phrasing, learned
from .pieces import ALONE, byte_letters, class_of
from .store import Texts, byte_count
from .tokenizer import Kind, Tokenizer

# The pieces that texts are cut into, finer for training: there Han and kana, which have no spaces, come two by two.
# Whole clauses as pieces are nearly all different; on 22 MB of Chinese they made training 7 times slower and 4 times
# larger for 2% fewer tokens.
TAUGHT = PIECES.replace(
    r" ?\p{L}+", r" ?[\p{Han}\p{Hiragana}\p{Katakana}]{1,2}| ?[^\P{L}\p{Han}\p{Hiragana}\p{Katakana}]+"
)

# Words for vectors of words: runs of letters (an apostrophe may stand between), of digits, or a character of a script
# without spaces; whatever else stands between them is dropped.
WORDS = (
    r"[\p{Han}\p{Hiragana}\p{Katakana}]"
    r"|[^\P{L}\p{Han}\p{Hiragana}\p{Katakana}](?:[^\P{L}\p{Han}\p{Hiragana}\p{Katakana}]|\p{M}|['’](?=\p{L}))*"
    r"|\p{N}+"
)
RARE, RARE_FROM = 5, 1_000_000  # in texts of so many bytes, words that occur less often are unknown (word2vec's rule)


def default_size(corpus_bytes: int) -> int:
    """Ids of a trained vocabulary, specials included, by the size of the corpus: larger texts can fill more pieces."""
    for limit, size in ((5e6, 2048), (20e6, 4096), (100e6, 8192), (1e9, 16384)):
        if corpus_bytes < limit:
            return size
    return 32768


def train_tokenizer(
    texts: Iterable[str],
    kind: Kind = "bpe",
    size: int | None = None,
    sample_bytes: int = 16_000_000,
    seed: int = 0,
    phrases: Phrasing | None = None,
) -> Tokenizer:
    """Train a tokenizer on texts.

    Parameters
    ----------
    texts : the training documents, never dev or test.
    size : ids with specials; by ``default_size`` if None, of ``word`` all words then. ``byte`` and ``char`` have the
        size that they have.
    sample_bytes, seed : at most so many bytes are looked at, drawn in blocks across all documents.
    phrases : of ``word``, when words become one; None: never.

    Raises
    ------
    SightlineError : a size that cannot hold the specials and the alphabet, no text, or phrases of what has no words.
    """
    if kind not in get_args(Kind):
        raise SightlineError(
            f"there is no kind of tokenizer {kind!r}", f"Choose from {', '.join(get_args(Kind))}; a size stands apart"
        )
    if phrases is not None and kind != "word":
        raise SightlineError(
            f"phrases are made of words, and {kind} has none", "Choose word+phrases, or leave them away"
        )
    texts = texts if isinstance(texts, Sequence) else list(texts)
    total = sum(byte_count(text) for text in texts)
    if total == 0:
        raise SightlineError("there is no text to train a tokenizer on", "Give a corpus with text")
    if kind == "byte":
        return Tokenizer(_byte_engine())
    if kind == "char":
        return Tokenizer(_char_engine(texts))
    sample = list(_sample(texts, total, sample_bytes, seed))
    if kind == "word":
        rare = RARE if total >= RARE_FROM else 1
        return Tokenizer(_word_engine(sample, size, rare)) if phrases is None else _phrased(sample, size, rare, phrases)
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

    ``spec`` is None (``bpe``), ``bpe``, ``byte``, ``char``, ``wordpiece`` or ``word``, all but two maybe with a size
    (``bpe:4096``), or a path to a ``tokenizer.json`` or to a folder with one. Behind ``word``, with or without a size,
    may stand ``+phrases``, and its settings as in ``+phrases:threshold=20,passes=2``.
    """
    cut, plus, after = (spec or "bpe").partition("+")
    kind, _, size = cut.partition(":")
    phrases, _, wanted = after.partition(":")
    if kind not in get_args(Kind):
        return Tokenizer.load(cast(str, spec))
    wrong = size and (not re.fullmatch(r"[0-9]+", size) or kind in ("byte", "char"))
    if wrong or (plus and phrases != "phrases"):
        raise SightlineError(
            f"the tokenizer {spec} is not known",
            "Choose bpe, bpe:4096, byte, char, wordpiece:8000, word, word+phrases or a path",
        )
    return train_tokenizer(
        Texts(corpus.train, corpus.kind == "pairs"),
        cast(Kind, kind),
        int(size) if size else None,
        seed=seed,
        phrases=Phrasing.of(wanted) if plus else None,
    )


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


def _bpe_engine(sample: Sequence[str], size: int) -> Engine:
    engine = Engine(models.BPE())
    engine.pre_tokenizer = pieces_cutter(TAUGHT)
    engine.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=_added(RESERVED),
        initial_alphabet=sorted(byte_letters()),
        show_progress=sys.stderr.isatty(),
    )
    engine.train_from_iterator(sample, trainer, length=len(sample))
    engine.pre_tokenizer = pieces_cutter()
    return engine


def _byte_engine() -> Engine:
    letters = sorted(byte_letters().items(), key=lambda pair: pair[1])
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
    inner = [f"##{c}" for c in alphabet if class_of(c) != ALONE and c not in punctuation and category(c)[0] != "P"]
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


def _word_engine(sample: Sequence[str], size: int | None, rare: int) -> Engine:
    """Whole words, as word2vec reads them: the commonest ``size`` that occur ``rare`` times. Not lossless."""
    _need_room(size)
    engine = Engine(models.WordLevel(unk_token=UNKNOWN))
    engine.pre_tokenizer = _words_cutter()
    trainer = trainers.WordLevelTrainer(
        vocab_size=size or 1 << 31,
        min_frequency=rare,
        special_tokens=_added([*RESERVED, UNKNOWN]),
        show_progress=sys.stderr.isatty(),
    )
    engine.train_from_iterator(sample, trainer, length=len(sample))
    return engine


def _words_cutter() -> Any:
    return pre_tokenizers.Split(Regex(WORDS), "removed", invert=True)


def _need_room(size: int | None) -> None:
    least = len(RESERVED) + 3
    if size is not None and size < least:
        raise SightlineError(
            f"a vocabulary of {size:,} ids has no room for words: {len(RESERVED) + 1} are reserved", f"Ask for {least}"
        )


def _phrased(sample: Sequence[str], size: int | None, rare: int, phrasing: Phrasing) -> Tokenizer:
    """Words and their phrases: the commonest ``size`` that occur ``rare`` times.

    Pairs are counted among all words. A word counts as in the text before any joining, a phrase as its pair before its
    own: so a vocabulary that has a phrase has its words, which a text is cut into first.
    """
    _need_room(size)
    whole = Tokenizer(_word_engine(sample, None, 1))
    texts = whole.encode_many(sample, "looking for phrases")
    ids, lengths = np.concatenate(texts), np.array([len(one) for one in texts], np.int64)
    names, lessons = learned(ids, lengths, [whole.show(id) for id in range(whole.size)], phrasing)
    often = np.bincount(ids, minlength=len(names))
    for lesson in lessons:
        often[lesson.joins.joined] = lesson.counts
    counts, first = often.tolist(), len(RESERVED) + 1
    order = sorted(range(first, len(names)), key=lambda at: (-counts[at], names[at].count(LINK), names[at]))
    kept = [names[at] for at in order if counts[at] >= rare][: None if size is None else size - first]
    held = set(kept)
    pairs = [[(names[left], names[right]) for left, right in lesson.joins.pairs] for lesson in lessons]
    phrases = [[pair for pair in one if held.issuperset((*pair, LINK.join(pair)))] for one in pairs]
    _say_phrases([name for name in kept if LINK in name], lessons, phrasing)
    engine = Engine(models.WordLevel({name: id for id, name in enumerate([*RESERVED, UNKNOWN, *kept])}, UNKNOWN))
    engine.pre_tokenizer = _words_cutter()
    engine.add_special_tokens(_added([*RESERVED, UNKNOWN]))
    return Tokenizer(engine, phrases=tuple(tuple(one) for one in phrases if one))


def _say_phrases(found: Sequence[str], lessons: Sequence[Lesson], phrasing: Phrasing) -> None:
    if found:
        say(f"{len(found):,} phrase{'s' * (len(found) > 1)}, such as {', '.join(found[:3])}")
        return
    best = lessons[0].best
    if best > phrasing.above:
        why = "those that do are too rare for the vocabulary"
    else:
        why = (
            f"the highest score is {best:.3g}, not above {phrasing.above:g}" if best > -np.inf else "no pair is common"
        )
    say(f"no two words stand together often enough to be a phrase ({why}): every word stays alone")
