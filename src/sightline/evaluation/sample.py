"""The documents that every family of a comparison is asked about: drawn once, by seed, sized by time.

test documents --drawn by seed--> pieces --each asked whole--> nats and bytes of each piece
                                  a piece is a document, or a block of 1,000 bytes where documents are few
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from ..data import Document, Tokenizer
from ..data.pairs import parted
from ..errors import SightlineError
from ..progress import say

FEW = 30  # fewer documents than this say too little about their spread
BLOCK = 1000  # bytes
MOST_BYTES = 1_000_000  # beyond this the interval is narrower than anyone needs
PILOT_BYTES = 2000  # a pass for each token of them takes two seconds and a half at tiny
LITTLE = 1000  # bytes asked: fewer say nearly nothing
THIN = 1 / 16  # the share that the second pilot asks


@dataclass(frozen=True)
class Piece:
    """Tokens that are scored together.

    Parameters
    ----------
    document : index in the sample's ``tokens``. first, last : its tokens are [first, last) of the document.
    bytes : UTF-8 bytes that these tokens stand for.
    """

    document: int
    first: int
    last: int
    bytes: int


@dataclass(frozen=True)
class Sample:
    """What is asked.

    Parameters
    ----------
    tokens : of each document, with the marks that begin and end it.
    weights : the bytes of each of these tokens (0 for marks), as ``tokens``.
    pieces : what is scored, and what the bootstrap draws.
    blocks : whether the pieces are blocks of documents rather than documents.
    share : of a piece's tokens that a family asks which needs a pass for each (pseudo-likelihood); others ask all.
    seed : of the draw, and of which tokens are the share.
    note : how the sample came about, for the table.
    sep : of pairs, the mark that parts source and target; -1: of texts.
    whole : each of these texts comes back from its tokens byte for byte, though another might not.
    """

    tokens: tuple[NDArray[np.int32], ...]
    weights: tuple[NDArray[np.int64], ...]
    pieces: tuple[Piece, ...]
    blocks: bool
    share: float
    seed: int
    note: str
    sep: int = -1
    whole: bool = False

    def continued(self, piece: Piece) -> int:
        """Where what is asked of a continuation begins: at the target of a pair, or in the middle of a text."""
        if self.sep < 0:
            return (piece.first + piece.last + 1) // 2
        return 1 + int((self.tokens[piece.document] == self.sep).argmax())

    @property
    def bytes(self) -> int:
        """UTF-8 bytes of all pieces."""
        return sum(piece.bytes for piece in self.pieces)

    @property
    def documents(self) -> int:
        """How many documents the pieces come from."""
        return len({piece.document for piece in self.pieces})


def evaluation_sample(
    documents: Sequence[Document],
    tokenizer: Tokenizer,
    *,
    seed: int = 0,
    seconds: float | None = None,
    cost: Callable[[Sample], float] | None = None,
    most_bytes: int = MOST_BYTES,
    pairs: bool = False,
) -> Sample:
    """Draw the pieces for a comparison.

    Parameters
    ----------
    documents : of the test side.
    seconds, cost : the time that scoring may take, and how long the costliest family takes for a sample (two small
        pilots are timed with it). Without them all is taken, up to ``most_bytes``.
    pairs : documents are ``source<TAB>target``, and pieces of their own however few.

    Raises
    ------
    SightlineError : there is nothing to score.
    """
    everything = _all_of(documents, tokenizer, seed, pairs)
    if not everything.pieces:
        raise SightlineError("the test side holds no text", "Give a corpus with more documents, or a file named test")
    allowed, share = float(most_bytes), 1.0
    if seconds is not None and cost is not None:
        pilots = everything if everything.blocks or pairs else _in_blocks(everything, tokenizer)
        allowed, share = _affordable(pilots, seconds, cost, min(most_bytes, everything.bytes))
    drawn = _drawn(everything, allowed)
    if not everything.blocks and not pairs and everything.whole and len(drawn) < min(FEW, len(everything.pieces)):
        cut = _in_blocks(everything, tokenizer)  # a few long documents would fill the time: blocks of many say more
        if len(blocks := _drawn(cut, allowed)) >= 2 * len(drawn):
            everything, drawn = cut, blocks
    note = _note(drawn, everything.blocks, len(documents), share)
    return _compact(replace(everything, pieces=tuple(drawn), share=share, note=note))


def all_pieces(documents: Sequence[Document], tokenizer: Tokenizer, share: float, seed: int) -> Sample:
    """Every document, in order; where they are few, in blocks, which the bootstrap draws. Nothing is left out."""
    texts = [one.text for one in documents]
    tokens = tuple(with_marks(ids, tokenizer) for ids in tokenizer.encode_many(texts, "tokenizing"))
    weights, comes_back = _weighed(texts, tokens, tokenizer)
    pieces = tuple(Piece(number, 0, len(sizes), int(sizes.sum())) for number, sizes in enumerate(weights))
    whole = Sample(tokens, weights, pieces, False, share, seed, f"{len(pieces):,} documents", whole=comes_back)
    if len(documents) >= FEW or not comes_back:
        return whole
    cut = _in_blocks(whole, tokenizer)
    pieces = tuple(sorted(cut.pieces, key=lambda piece: (piece.document, piece.first)))
    return replace(cut, pieces=pieces, note=f"{len(pieces):,} blocks")


def _all_of(documents: Sequence[Document], tokenizer: Tokenizer, seed: int, pairs: bool) -> Sample:
    """Every document as one piece, or cut in blocks where there are few texts; in drawn order."""
    kept = [document for document in documents if document.text]
    order = np.random.default_rng((seed, 1)).permutation(len(kept))
    chosen = [kept[at] for at in order]
    texts = [document.text for document in chosen]
    tokens = tuple(_marked(texts, tokenizer, pairs))
    weights, whole = _weighed([] if pairs else texts, tokens, tokenizer)
    sizes = [int(one.sum()) if whole else len(text.encode("utf-8")) for one, text in zip(weights, texts, strict=True)]
    pieces = tuple(Piece(number, 0, len(tokens[number]), size) for number, size in enumerate(sizes))
    sep = tokenizer.need("sep") if pairs else -1
    sample = Sample(tokens, weights, pieces, False, 1.0, seed, "", sep, whole)
    return _in_blocks(sample, tokenizer) if len(kept) < FEW and whole and not pairs else sample


def _weighed(
    texts: Sequence[str], tokens: Sequence[NDArray[np.int32]], tokenizer: Tokenizer
) -> tuple[tuple[NDArray[np.int64], ...], bool]:
    """The bytes of each token, and whether all texts come back byte for byte (of pairs, no texts: by the tokenizer).

    sentencepiece writes a space before a text's first word. It comes back without, and its byte is taken off again.
    """
    lengths = np.array([len(piece) for piece in tokenizer.pieces], dtype=np.int64)
    weights = tuple(lengths[ids] for ids in tokens)
    if tokenizer.lossless or not texts:
        return weights, tokenizer.lossless
    for text, ids, sizes in zip(texts, tokens, weights, strict=True):
        first = int((sizes > 0).argmax()) if len(sizes) else 0
        invented = int(sizes.sum()) - len(text.encode("utf-8"))
        spaced = invented == 1 and tokenizer.pieces[ids[first]].startswith(b" ")
        if not (invented == 0 or spaced) or tokenizer.decode(ids) != text:
            return weights, False
        sizes[first] -= invented
    return weights, True


def _marked(texts: Sequence[str], tokenizer: Tokenizer, pairs: bool) -> Iterator[NDArray[np.int32]]:
    """The ids of each text between its marks; of a pair also those between its sides."""
    told = "tokenizing the test side"
    if not pairs:
        yield from (with_marks(ids, tokenizer) for ids in tokenizer.encode_many(texts, told))
        return
    tokenizer.need_targets()
    sides = tokenizer.encode_many([side for text in texts for side in parted(text)], told)
    middle = np.array([tokenizer.need("sep"), *tokenizer.opens], np.int32)
    for source, target in zip(sides[::2], sides[1::2], strict=True):
        yield with_marks(np.concatenate([source, middle, target]), tokenizer)


def with_marks(ids: NDArray[np.int32], tokenizer: Tokenizer) -> NDArray[np.int32]:
    """A document's ids between the marks that begin and end it, where the tokenizer has them."""
    marks = tokenizer.vocabulary
    begin, end = [mark for mark in (marks.bos,) if mark >= 0], [mark for mark in (marks.eos,) if mark >= 0]
    return np.concatenate([np.array(begin, np.int32), ids, np.array(end, np.int32)])


def _in_blocks(whole: Sample, tokenizer: Tokenizer) -> Sample:
    """Each document cut into runs of tokens of about ``BLOCK`` bytes, in drawn order.

    A block begins with the first character that starts at or behind a multiple of ``BLOCK`` bytes. What stands before
    it is still seen when it is scored.
    """
    begins = np.array([not piece or piece[0] & 0xC0 != 0x80 for piece in tokenizer.pieces])
    pieces = []
    for number, weights in enumerate(whole.weights):
        ends = np.cumsum(weights)
        starts = ends - weights
        opens = np.where(begins[whole.tokens[number]], np.arange(len(weights)), 0)
        block = (starts // BLOCK)[np.maximum.accumulate(opens)]  # within a character the block goes on
        edges = np.flatnonzero(np.diff(block)) + 1
        cuts = [0, *edges.tolist(), len(weights)]
        if len(cuts) > 2 and ends[-1] - starts[cuts[-2]] < BLOCK // 2:
            del cuts[-2]  # a short tail joins the block before it
        for first, last in pairwise(cuts):
            pieces.append(Piece(number, first, last, int(weights[first:last].sum())))
    order = np.random.default_rng((whole.seed, 2)).permutation(len(pieces))
    return replace(whole, pieces=tuple(pieces[at] for at in order), blocks=True)


def _drawn(sample: Sample, allowed: float) -> list[Piece]:
    """Pieces from the front, as many as fit in ``allowed`` bytes; never none."""
    total = np.cumsum([piece.bytes for piece in sample.pieces])
    count = int(np.searchsorted(total, allowed, side="right"))
    return list(sample.pieces[:count]) or [min(sample.pieces, key=lambda piece: piece.bytes)]


def _affordable(sample: Sample, seconds: float, cost: Callable[[Sample], float], most: float) -> tuple[float, float]:
    """Bytes and share that the time buys, from two pilots: one asks everything, one a share.

    Half of the time goes to the part that every byte costs, so that there are many documents; the rest buys the share.
    """
    pilot = replace(sample, pieces=tuple(_drawn(sample, PILOT_BYTES)))
    cost(replace(pilot, share=THIN))  # the first pass warms up caches and allocators
    whole = cost(pilot) / pilot.bytes
    if whole * most <= seconds:
        return most, 1.0
    thin = min(cost(replace(pilot, share=THIN)) / pilot.bytes, whole)
    asking = max(0.0, (whole - thin) / (1 - THIN))  # seconds a byte costs by being asked one token at a time
    plain = max(thin - asking * THIN, 1e-9)
    if asking < 0.25 * whole:  # no family here asks one token at a time
        return min(most, seconds / whole), 1.0
    allowed = min(most, 0.5 * seconds / plain)
    share = min(1.0, (seconds / allowed - plain) / asking)
    if share * allowed < LITTLE:
        say("scoring is slow at this budget: the evaluation sample is small, and the intervals are wide")
    return allowed, max(share, 1e-4)


def _note(pieces: list[Piece], blocks: bool, documents: int, share: float) -> str:
    total = sum(piece.bytes for piece in pieces)
    what = f"{len(pieces):,} of {documents:,} test documents, {total:,} bytes, drawn by seed"
    if blocks:
        came_from = len({piece.document for piece in pieces})
        what = (
            f"{len(pieces):,} blocks of about {BLOCK:,} bytes from {came_from:,} of {documents:,} test documents, "
            f"{total:,} bytes, drawn by seed; the interval draws blocks, since so few documents say little"
        )
    if share < 1:
        what += f"; families that need a pass per token are asked {share:.1%} of the tokens, drawn by seed"
    return what


def _compact(sample: Sample) -> Sample:
    """The sample without documents that no piece needs; pieces by document, then place."""
    used = sorted({piece.document for piece in sample.pieces})
    number = {document: at for at, document in enumerate(used)}
    pieces = sorted(sample.pieces, key=lambda piece: (piece.document, piece.first))
    return replace(
        sample,
        tokens=tuple(sample.tokens[at] for at in used),
        weights=tuple(sample.weights[at] for at in used),
        pieces=tuple(replace(piece, document=number[piece.document]) for piece in pieces),
    )
