"""The hot loop of a bag of words: one update for each word of a text, compiled, on several cores without locks.

    text       the cat sat on the mat          frequent words dropped first, so that windows reach over them
    context    the     sat                     h = mean of their vectors
    targets    cat, and k words of noise       or the inner nodes on the way to cat in a Huffman tree
    g          (label - sigmoid(h u)) * rate   u += g h, then each vector of the context += sum g u (/ their number)

Random numbers, tree, noise and order of the additions are those of gensim, so that one worker gives its numbers.
Mikolov et al., Efficient Estimation of Word Representations (2013), and Distributed Representations of Words and
Phrases (2013); the gradient of the mean: Irsoy et al., Corrected CBOW Performs as well as Skip-gram (2021); without
locks: Recht et al., Hogwild (2011).

NumPy and numba only: no torch here. Shapes: W words, d width of the vectors.
"""

from __future__ import annotations

import functools
import heapq
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ..errors import SightlineError

Ints = NDArray[np.int64]

CHUNK = 10_000  # words between two looks at the learning rate
DOMAIN = 2**31 - 1  # noise is drawn by a whole number below this
BUCKET = 15  # bits of that number that the guide to the noise leaves to a search: 65,536 buckets
FURTHEST = 6.0  # word2vec leaves targets alone beyond this h u, and holds its sigmoid in 1,000 steps between


@dataclass(frozen=True)
class Manner:
    """How a bag of words learns.

    Parameters
    ----------
    window : words on either side, at most. shrink : draw the window of each word from 1 to that.
    loss : negative (tell the word from noise) or hierarchical (find it in a tree by frequency).
    negatives : words of noise for each right one, drawn by count to the power of 3/4.
    update : original (word2vec's: every word of the context gets the sum whole) or exact (the gradient of the mean).
    sample : relative frequency from which words are left out by chance; 0 keeps all.
    rate : the learning rate at the start; it falls in a straight line to 0.0001.

    The exact gradient wants two to four times the rate, and then did not score better on 5 million words (docs/log.md):
    so word2vec's is the default.

    Raises
    ------
    SightlineError : a setting that means nothing.
    """

    window: int = 5
    shrink: bool = True
    loss: Literal["negative", "hierarchical"] = "negative"
    negatives: int = 5
    update: Literal["original", "exact"] = "original"
    sample: float = 1e-3
    rate: float = 0.05

    def __post_init__(self) -> None:
        for name, value in (("window", self.window), ("negatives", self.negatives)):
            if value < 1:
                raise SightlineError(f"a bag of words with {name} = {value} learns nothing", "Use 1 or more")
        if not 0 <= self.sample < 1:
            raise SightlineError(f"sample = {self.sample} is no relative frequency", "Use 0 (keep all) to below 1")
        if not 0 < self.rate < float("inf"):
            raise SightlineError(f"a rate of {self.rate} learns nothing", "Use more than 0, such as 0.05")


@dataclass(frozen=True)
class Tree:
    """A Huffman tree over words: each word's inner nodes from the root on, and which way it turns there.

    Parameters
    ----------
    starts : [W + 1]; the nodes of word w are ``nodes[starts[w]:starts[w + 1]]``.
    nodes : [paths] numbers of inner nodes, the root W - 2. turns : [paths] 0 or 1.
    """

    starts: Ints
    nodes: NDArray[np.int32]
    turns: NDArray[np.uint8]

    @property
    def deepest(self) -> int:
        """Nodes on the longest way."""
        return int(np.diff(self.starts).max(initial=0))


@dataclass(order=True)
class _Node:
    count: int
    number: int = field(compare=False)
    children: tuple[_Node, _Node] | None = field(default=None, compare=False)


def huffman(counts: NDArray[Any]) -> Tree:
    """The tree of words with these counts, most frequent first; equal counts fall as in gensim's heap."""
    words = len(counts)
    heap = [_Node(int(count), word) for word, count in enumerate(counts.tolist())]
    heapq.heapify(heap)
    for number in range(words - 1):
        one, other = heapq.heappop(heap), heapq.heappop(heap)
        heapq.heappush(heap, _Node(one.count + other.count, words + number, (one, other)))
    ways: list[tuple[list[int], list[int]]] = [([], [])] * words
    open_: list[tuple[_Node, list[int], list[int]]] = [(heap[0], [], [])] if heap else []
    while open_:
        node, passed, turned = open_.pop()
        if node.children is None:
            ways[node.number] = (passed, turned)
            continue
        passed = [*passed, node.number - words]
        open_ += [(child, passed, [*turned, turn]) for turn, child in enumerate(node.children)]
    starts = np.concatenate([[0], np.cumsum([len(passed) for passed, _ in ways])]).astype(np.int64)
    return Tree(
        starts,
        np.array([node for passed, _ in ways for node in passed], np.int32),
        np.array([turn for _, turned in ways for turn in turned], np.uint8),
    )


@dataclass(frozen=True)
class Noise:
    """The distribution that wrong words are drawn from: counts to the power of 3/4.

    Parameters
    ----------
    cumulative : [W] share of the words up to each one, of ``DOMAIN``.
    guide : where the search for a number begins, by its upper bits.
    """

    cumulative: NDArray[np.uint32]
    guide: NDArray[np.int32]

    @classmethod
    def of(cls, counts: NDArray[Any], power: float = 0.75) -> Noise:
        weights = np.cumsum(counts.astype(np.float64) ** power)
        cumulative = np.round(weights / weights[-1] * DOMAIN).astype(np.uint32)
        firsts = np.arange(0, DOMAIN + 1, 1 << BUCKET, dtype=np.int64)
        return cls(cumulative, np.searchsorted(cumulative, firsts).astype(np.int32))

    @property
    def shares(self) -> NDArray[np.float64]:
        """The probability of each word [W]."""
        return np.diff(self.cumulative.astype(np.float64), prepend=0.0) / DOMAIN


def kept_below(counts: NDArray[Any], sample: float) -> NDArray[np.uint32]:
    """For each word [W] the 32-bit number that a draw must not exceed for it to stay; word2vec's rule.

    A word of relative frequency f stays with probability ``(sqrt(f / sample) + 1) * sample / f``, at most 1.
    """
    threshold = sample * counts.sum()
    share = np.maximum(counts, 1) / threshold
    return np.asarray(np.minimum(1.0, (np.sqrt(share) + 1) / share) * (2**32 - 1)).astype(np.uint32)


def old_sigmoids() -> NDArray[np.float32]:
    """The sigmoid of word2vec and gensim: 1,000 steps between -6 and 6, which they look up 83 to the unit."""
    steps: NDArray[np.float64] = np.exp((np.arange(1000) / 1000 * 2 - 1) * FURTHEST)
    return np.asarray(steps / (steps + 1), np.float32)


def _thinned(ranks: Any, ends: Any, limits: Any, state: Any, words: Any, kept: Any) -> Any:  # pragma: no cover
    """Drop frequent words by chance, where there are ``limits``.

    Writes the rest to ``words`` and the new ends of documents to ``kept``; gives the state of the draws and how many
    stayed.
    """
    state = np.uint64(state)
    count, begin = 0, 0
    for document in range(len(ends)):
        for at in range(begin, ends[document]):
            word = ranks[at]
            if len(limits):
                draw = np.uint64(state >> np.uint64(16))
                state = (state * np.uint64(25214903917) + np.uint64(11)) & np.uint64(281474976710655)
                if np.uint64(limits[word]) < draw:
                    continue
            words[count] = word
            count += 1
        begin = ends[document]
        kept[document] = count
    return state, count


def _learned(  # pragma: no cover
    words: Any, ends: Any, less: Any, inputs: Any, outputs: Any, starts: Any, nodes: Any, turns: Any, cumulative: Any,
    guide: Any, negatives: Any, window: Any, rate: Any, original: Any, sigmoids: Any, state: Any,
) -> Any:  # fmt: skip
    """Learn from documents ``words[ends[d - 1]:ends[d]]``; returns the sum of nats before each update and the answers.

    Parameters
    ----------
    less : [words] by how much each word's window is shorter than ``window``.
    inputs, outputs : [W, d] and [W or W - 1, d], changed in place.
    starts, nodes, turns : the tree, or nothing, and then ``cumulative`` and ``guide`` of the noise.
    original : word2vec's sum of gradients and its sigmoid; else the gradient itself. state : of the draws.
    """
    width = inputs.shape[1]
    tree = len(starts) > 0
    state = np.uint64(state)
    most = negatives + 1
    if tree:
        for word in range(len(starts) - 1):
            most = max(most, starts[word + 1] - starts[word])
    rows = np.empty(most, np.int64)
    labels = np.empty(most, np.float32)
    slopes = np.empty(most, np.float32)
    h = np.empty(width, np.float32)
    e = np.empty(width, np.float32)
    one, nothing = np.float32(1), np.float32(0)
    far = np.float32(FURTHEST)
    nats, answers, begin = 0.0, 0, 0
    for document in range(len(ends)):
        end = ends[document]
        for at in range(begin, end):
            first = max(begin, at - window + less[at])
            last = min(end, at + window + 1 - less[at])
            word = words[at]
            count = 0
            if tree:
                for step in range(starts[word], starts[word + 1]):
                    rows[count] = nodes[step]
                    labels[count] = one - np.float32(turns[step])
                    count += 1
            else:
                rows[0], labels[0] = word, one
                count = 1
                for _ in range(negatives):
                    draw = np.uint64(state >> np.uint64(16)) % np.uint64(DOMAIN)
                    state = (state * np.uint64(25214903917) + np.uint64(11)) & np.uint64(281474976710655)
                    other = guide[draw >> np.uint64(BUCKET)]
                    while np.uint64(cumulative[other]) < draw:
                        other += 1
                    if other != word:
                        rows[count], labels[count] = other, nothing
                        count += 1
            if last - first < 2:
                continue  # alone in its document: nothing is seen, so nothing is learned
            for x in range(width):
                h[x] = nothing
                e[x] = nothing
            for place in range(first, last):
                if place != at:
                    seen = words[place]
                    for x in range(width):
                        h[x] += inputs[seen, x]
            share = one / np.float32(last - first - 1)
            for x in range(width):
                h[x] *= share
            for target in range(count):
                row = rows[target]
                f = nothing
                for x in range(width):
                    f += h[x] * outputs[row, x]
                slopes[target] = f
            chance = 1.0
            for target in range(count):
                row, f, label = rows[target], slopes[target], labels[target]
                if original:
                    for before in range(target):
                        if rows[before] == row:  # changed since the products were taken
                            f = nothing
                            for x in range(width):
                                f += h[x] * outputs[row, x]
                            break
                sigma = one / (one + np.exp(-f))
                chance *= sigma if label > nothing else one - sigma
                if chance < 1e-200:
                    nats -= np.log(max(chance, 1e-300))
                    chance = 1.0
                if original:
                    if f <= -far or f >= far:
                        continue
                    sigma = sigmoids[int((f + far) * np.float32(83))]
                g = (label - sigma) * rate
                for x in range(width):
                    e[x] += g * outputs[row, x]
                    outputs[row, x] += g * h[x]
            nats -= np.log(chance)
            answers += 1
            if not original:
                for x in range(width):
                    e[x] *= share
            for place in range(first, last):
                if place != at:
                    seen = words[place]
                    for x in range(width):
                        inputs[seen, x] += e[x]
        begin = end
    return nats, answers


@functools.cache
def compiled() -> tuple[Any, Any]:
    """The two loops as machine code, kept on disk; they let other threads run.

    Raises
    ------
    SightlineError : numba is not installed.
    """
    try:
        from numba import njit
    except ImportError as error:
        raise SightlineError(
            f"a bag of words is fitted by numba, which is not installed ({error})", "pip install 'sightline[vectors]'"
        ) from error
    free = {"reassoc", "contract", "arcp", "nsz"}  # sums in any order, but infinities stay what they are
    thinned, learned = (njit(nogil=True, fastmath=free, cache=True)(loop) for loop in (_thinned, _learned))
    return thinned, learned
