r"""A bag of words: the state of a slot is the mean of the vectors of the tokens it sees, whatever their order.

    the  cat  sat  .        h(sat) = (v(the) + v(cat) + v(.)) / 3        one look; a slot keeps nothing of its own
     \____\________/         u of cat, or of the nodes on the way to it in a tree, turns h into an answer

It fits itself (``fit``), one compiled update a word (``hogwild.py``). States and head are also plain torch, with the
same gradient: a test holds the two against each other. Mikolov et al. (2013).

Shapes: W words (ids that are no marks), d width of the vectors, V rows of the vocabulary.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from ..data.vocabulary import Vocabulary
from ..errors import SightlineError
from ..progress import Bar
from ..sight import NO_DOCUMENT, Depth
from .attention import allowed
from .cache import Cache
from .head import Graded
from .hogwild import CHUNK, Manner, Noise, Tree, compiled, huffman, kept_below, old_sigmoids
from .look import Look

Ints = NDArray[np.int64]

NO_VECTOR = -1  # instead of a word's number: an id that stands for no word
PASSES = 5.0  # over the text, where nothing else is said
LEAST_RATE = 1e-4  # that the rate falls to
GRADED = 2**22  # numbers held at once while answers are graded


@dataclass(frozen=True)
class Lesson:
    """What a part of the fitting came to.

    Parameters
    ----------
    words : of the text read, dropped ones included. nats : mean over ``answers``, each before its update.
    """

    words: int
    nats: float
    answers: int


class Bag(nn.Module):
    """Two vectors for each word: one as a part of what is seen, one as an answer.

    Parameters
    ----------
    vocabulary : ids; all but marks are words. width : of the vectors. manner : how it learns.

    Attributes
    ----------
    words : [W] id of each word, the commonest first. counts : [W] in the text that was fitted.
    inputs, outputs : [W, d] vectors, and [W, d] of words or [W - 1, d] of inner nodes.
    """

    repeats: ClassVar[bool] = True  # fitting goes over the text again and again, in parts
    words: Tensor
    counts: Tensor

    def __init__(self, vocabulary: Vocabulary, width: int, manner: Manner) -> None:
        super().__init__()
        self.vocabulary, self.width, self.manner = vocabulary, width, manner
        self.register_buffer("words", torch.zeros(0, dtype=torch.long))
        self.register_buffer("counts", torch.zeros(0, dtype=torch.long))
        self.inputs = nn.Parameter(torch.zeros(0, width))
        self.outputs = nn.Parameter(torch.zeros(0, width))

    @property
    def depth(self) -> Depth:
        """One look, in which no slot reads its own token unless the sight says so."""
        return Depth(1, keeps_input=False)

    @cached_property
    def ranks(self) -> Ints:
        """The number of each id [V] among the words, or ``NO_VECTOR``."""
        ranks = np.full(self.vocabulary.padded, NO_VECTOR)
        ranks[self.words.cpu().numpy()] = np.arange(len(self.words))
        return ranks

    @cached_property
    def tree(self) -> Tree:
        """Over the words by their counts."""
        return huffman(self.counts.cpu().numpy())

    @cached_property
    def noise(self) -> Noise:
        """Over the words by their counts."""
        return Noise.of(self.counts.cpu().numpy())

    def count(self, tokens: NDArray[Any], seed: int = 0) -> None:
        """Count the words of a text, and draw fresh vectors; the vocabulary's words that it lacks come last.

        Raises
        ------
        SightlineError : ids outside the vocabulary, or less than two different words.
        """
        V = self.vocabulary.padded
        if len(tokens) and not 0 <= int(tokens.min()) <= int(tokens.max()) < V:
            raise SightlineError(
                f"ids from {int(tokens.min())} to {int(tokens.max())} do not fit a vocabulary of {V}",
                "Use the tokenizer that made them",
            )
        words = np.asarray(self.vocabulary.ordinary, np.int64)
        counts = np.bincount(tokens, minlength=V)[words]
        if (seen := int((counts > 0).sum())) < 2:
            raise SightlineError(
                f"the text has {seen} different word{'s' * (seen != 1)}, and there is nothing to tell apart",
                "Give a text of more words, or a tokenizer that cuts it finer",
            )
        order = np.lexsort((-np.arange(len(words)), -counts))
        fresh = np.random.default_rng(seed).random((len(words), self.width), dtype=np.float32)
        nodes = len(words) - (self.manner.loss == "hierarchical")
        self.hold(
            torch.from_numpy(words[order]),
            torch.from_numpy(counts[order]),
            torch.from_numpy((fresh * 2 - 1) / np.float32(self.width)),
            torch.zeros(nodes, self.width),
        )

    def hold(self, words: Tensor, counts: Tensor, inputs: Tensor, outputs: Tensor) -> None:
        """Take these words and vectors, as ``tensors`` gives them."""
        self.words, self.counts = words, counts
        self.inputs, self.outputs = nn.Parameter(inputs), nn.Parameter(outputs)
        for name in ("ranks", "tree", "noise"):
            self.__dict__.pop(name, None)

    def workers(self, threads: int) -> int:
        """How many of so many threads learn: of a tree one, since two that write the nodes near its root at once, which
        every word does, take longer than one (benchmarks/results/vectors-speed.md)."""
        return 1 if self.manner.loss == "hierarchical" else threads

    def fit(
        self,
        tokens: NDArray[Any],
        offsets: NDArray[Any] | None = None,
        progress: Bar | None = None,
        *,
        passes: float = PASSES,
        seed: int = 0,
        workers: int = 1,
        parts: int = 1,
        done: int = 0,
        draws: Callable[[int], np.random.RandomState] | None = None,
        watch: Callable[[int, Lesson], None] | None = None,
    ) -> None:
        """Learn from a flat array of documents; no window reaches over the end of one.

        With one worker the same arguments give the same vectors. Several write to them at once without locks: faster,
        and never quite the same twice.

        Parameters
        ----------
        tokens : [tokens] ids; marks among them are passed over. offsets : where documents start; None: at every bos.
        progress : advanced by the share that is done, of 1.
        passes : over the text, also parts of one; the rate falls in a straight line over all.
        workers : threads (see ``workers``).
        parts : equal stretches after each of which ``watch`` is told its number and what it came to. done : parts that
            the bag has learned already: it goes on behind them.
        draws : from the number of a chunk of ``CHUNK`` words to its random numbers; None: by ``seed`` and number.

        Raises
        ------
        SightlineError : ids that do not fit, less than two different words, or numba is not installed.
        """
        loops, workers = compiled(), self.workers(workers)
        if not done:
            self.count(tokens, seed)
        text = _Text.of(tokens, offsets, self.ranks, self.vocabulary)
        course = _Course(self, text, max(1, round(passes * text.words)), seed, draws, loops)
        cuts = np.linspace(0, course.chunks, parts + 1).round().astype(int).tolist()
        for part in range(done, parts):
            lesson = course.learn(cuts[part], cuts[part + 1], workers, progress)
            if watch is not None:
                watch(part + 1, lesson)

    def forward(self, look: Look, cache: Cache | None = None, taps: list[Tensor] | None = None) -> Tensor:
        """States [lines, slots, d]: the mean vector of the words that each slot sees; 0 where it sees none.

        ``taps`` gets each slot's own vector (0 where it shows no word), and the states.
        """
        shown = look if cache is None else cache.seen_with(look)
        self._need_fit()
        truth = allowed(look.sight, look, shown) & (shown.document != NO_DOCUMENT)[:, None, :]
        vectors, known = self._own(shown.tokens)
        share = (truth & known[:, None, :]).to(vectors.dtype)
        states = share @ vectors / share.sum(-1, keepdim=True).clamp(min=1)
        if taps is not None:
            taps += [vectors[:, vectors.shape[1] - look.tokens.shape[1] :], states]
        if cache is not None:
            cache.look = shown
        return states

    def _own(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """The vectors of shown ids, and which of them have one."""
        ranks = torch.from_numpy(self.ranks).to(tokens.device)[tokens.clamp(min=0)]
        known = (tokens >= 0) & (ranks != NO_VECTOR)
        return self.inputs[ranks.clamp(min=0)] * known[..., None], known

    def _need_fit(self) -> None:
        if not len(self.words):
            raise SightlineError("the bag has read nothing yet", "Fit it to a text first")

    def tensors(self) -> dict[str, Tensor]:
        """Words, counts and vectors, for a weights file."""
        self._need_fit()
        return {name: getattr(self, name).detach() for name in ("words", "counts", "inputs", "outputs")}

    @classmethod
    def from_tensors(cls, vocabulary: Vocabulary, tensors: Mapping[str, Tensor], manner: Manner) -> Bag:
        """The bag that gave these ``tensors``; raises ``SightlineError`` where they do not fit together."""
        if set(tensors) != {"words", "counts", "inputs", "outputs"} or tensors["inputs"].dim() != 2:
            raise SightlineError("these tensors are not a bag of words", "Give a file that a bag was saved to")
        words, inputs = tensors["words"].long(), tensors["inputs"].float()
        rows = len(words) - (manner.loss == "hierarchical")
        fits = (
            len(words) == len(inputs) == len(tensors["counts"])
            and tensors["outputs"].shape == (rows, inputs.shape[1])
            and len(words) > 1
            and bool(torch.equal(words.sort().values, torch.as_tensor(vocabulary.ordinary).long()))
        )
        if not fits:
            raise SightlineError(
                f"the vectors of {len(words):,} words do not fit a vocabulary of {len(vocabulary.ordinary):,}",
                "Use the tokenizer they were fitted with, or fit them again",
            )
        bag = cls(vocabulary, int(inputs.shape[1]), manner)
        bag.hold(words, tensors["counts"].long(), inputs, tensors["outputs"].float())
        return bag

    def operations(self, pairs: int, answers: int) -> float:
        """Floating-point operations of a pass: vectors added for each pair, two for each number of a target."""
        if self.manner.loss == "negative":
            targets = 1.0 + self.manner.negatives
        elif len(self.words):
            counts = self.counts.double().cpu().numpy()
            targets = float((np.diff(self.tree.starts) * counts).sum() / counts.sum())
        else:  # not counted yet: as if all words were equally common
            targets = float(np.log2(max(2, len(self.vocabulary.ordinary))))
        return self.width * (pairs + 2.0 * targets * answers)


@dataclass(frozen=True)
class _Text:
    """The words of a text by number, without its marks.

    Parameters
    ----------
    ranks : [words]. ends : [documents] behind the last word of each; a document is at most ``CHUNK`` words long.
    firsts : [chunks + 1] documents with which chunks of at most ``CHUNK`` words begin.
    """

    ranks: NDArray[np.int32]
    ends: Ints
    firsts: Ints

    @property
    def words(self) -> int:
        return len(self.ranks)

    @classmethod
    def of(cls, tokens: NDArray[Any], offsets: NDArray[Any] | None, ranks: Ints, vocabulary: Vocabulary) -> _Text:
        starts = np.flatnonzero(tokens == vocabulary.bos) if offsets is None else np.asarray(offsets, np.int64)
        text = ~vocabulary.is_special[tokens]
        before = np.concatenate([[0], np.cumsum(text)])
        edges = before[np.unique(np.clip(np.concatenate([[0], starts, [len(tokens)]]), 0, len(tokens)))]
        longer = [np.arange(start, end, CHUNK)[1:] for start, end in itertools.pairwise(edges) if end - start > CHUNK]
        edges = np.unique(np.concatenate([edges, *longer]))  # also drops documents without a word
        firsts = [0]
        while firsts[-1] < len(edges) - 1:
            reached = int(np.searchsorted(edges, edges[firsts[-1]] + CHUNK, side="right")) - 1
            firsts.append(reached)
        return cls(ranks[tokens[text]].astype(np.int32), edges[1:].astype(np.int64), np.array(firsts))

    def chunk(self, number: int) -> tuple[NDArray[np.int32], Ints, int]:
        """The words of a chunk, where its documents end in it, and how many words of the text stand before it."""
        first, last = self.firsts[number], self.firsts[number + 1]
        start = int(self.ends[first - 1]) if first else 0
        return self.ranks[start : self.ends[last - 1]], self.ends[first:last] - start, start


class _Course:
    """The chunks of a text, over and over, until enough words are read."""

    def __init__(
        self,
        bag: Bag,
        text: _Text,
        words: int,
        seed: int,
        draws: Callable[[int], np.random.RandomState] | None,
        loops: tuple[Any, Any],
    ) -> None:
        self.bag, self.text, self.words = bag, text, words
        self.draws = draws or (lambda number: np.random.RandomState((seed % 2**32, number)))
        self.thinned, self.learned = loops
        passes, rest = divmod(words, text.words)
        starts = np.concatenate([[0], text.ends])[text.firsts[:-1]]
        self.chunks = passes * len(starts) + int(np.searchsorted(starts, rest))
        manner, counts = bag.manner, bag.counts.numpy()
        self.limits = kept_below(counts, manner.sample) if manner.sample else np.zeros(0, np.uint32)
        if manner.loss == "hierarchical":
            self.targets: tuple[Any, ...] = (bag.tree.starts, bag.tree.nodes, bag.tree.turns)
            self.targets += (np.zeros(0, np.uint32), np.zeros(0, np.int32))
        else:
            self.targets = (np.zeros(0, np.int64), np.zeros(0, np.int32), np.zeros(0, np.uint8))
            self.targets += (bag.noise.cumulative, bag.noise.guide)
        self.sigmoids = old_sigmoids()

    def learn(self, first: int, last: int, workers: int, progress: Bar | None) -> Lesson:
        """Learn chunks [first, last); the workers take them in turn."""
        numbers = iter(range(first, last))
        lock = threading.Lock()
        total = [0, 0.0, 0]  # words, nats, answers
        failed: list[BaseException] = []

        def work() -> None:
            try:
                while not failed:
                    with lock:
                        number = next(numbers, None)
                    if number is None:
                        return
                    got = self._chunk(number)
                    with lock:
                        for at, value in enumerate(got):
                            total[at] += value
                        if progress is not None:
                            progress.advance(got[0] / self.words, f"loss {total[1] / max(1, total[2]):.3f}")
            except BaseException as error:
                failed.append(error)

        threads = [threading.Thread(target=work) for _ in range(workers - 1)]
        for thread in threads:
            thread.start()
        work()
        for thread in threads:
            thread.join()
        if failed:
            raise failed[0]
        return Lesson(int(total[0]), total[1] / max(1, total[2]), int(total[2]))

    def _chunk(self, number: int) -> tuple[int, float, int]:
        visit, place = divmod(number, len(self.text.firsts) - 1)
        ranks, ends, before = self.text.chunk(place)
        bag, manner, draws = self.bag, self.bag.manner, self.draws(number)
        state = 0
        if manner.sample or manner.loss == "negative":
            state = 2**24 * int(draws.randint(0, 2**24)) + int(draws.randint(0, 2**24))
        words, kept = np.empty(len(ranks), np.int32), np.empty(len(ends), np.int64)
        state, count = self.thinned(ranks, ends, self.limits, np.uint64(state), words, kept)
        less = draws.randint(0, manner.window, count) if manner.shrink else np.zeros(count, np.int64)
        done = min(1.0, (visit * self.text.words + before) / self.words)
        least = min(LEAST_RATE, manner.rate)
        rate = max(manner.rate - (manner.rate - least) * done, least)
        nats, answers = self.learned(
            words[:count], kept, less, bag.inputs.detach().numpy(), bag.outputs.detach().numpy(), *self.targets,
            manner.negatives, manner.window, np.float32(rate), manner.update == "original", self.sigmoids,
            np.uint64(state),
        )  # fmt: skip
        return len(ranks), float(nats), int(answers)


class BagHead(nn.Module):
    """From mean vectors to grades.

    ``hierarchical`` is a distribution: the product of the turns on the way to a word. ``negative`` is none: the nats
    are those of telling the word from noise, with the expectation over the noise worked out instead of drawn.
    """

    def __init__(self, bag: Bag) -> None:
        super().__init__()
        self._bag = (bag,)  # a tuple, so that its weights are not counted twice

    @property
    def bag(self) -> Bag:
        """Whose vectors answer."""
        return self._bag[0]

    @cached_property
    def _ways(self) -> tuple[Tensor, Tensor]:
        """Inner nodes of each word [W, deepest], and the sign of its turn there; 0 behind the last."""
        tree = self.bag.tree
        lengths = np.diff(tree.starts)
        places = np.arange(tree.deepest) < lengths[:, None]
        nodes, signs = np.zeros(places.shape, np.int64), np.zeros(places.shape, np.float32)
        nodes[places] = tree.nodes
        signs[places] = 1 - 2.0 * tree.turns
        return torch.from_numpy(nodes), torch.from_numpy(signs)

    def forward(self, states: Tensor, answers: Tensor, weights: Tensor) -> Graded:
        """Grades of answers [N] given states [N, d]; an answer of weight 0 has 0 nats, a mark cannot be one."""
        bag = self.bag
        real = weights > 0
        ranks = torch.from_numpy(bag.ranks).to(answers.device)[answers[real]]
        nats = torch.zeros_like(weights)
        if bool((ranks == NO_VECTOR).any()):
            raise SightlineError("a mark has no vector and cannot be an answer", "Ask for words only")
        h = states[real]
        rows = max(1, GRADED // (h.shape[1] * 32 if bag.manner.loss == "hierarchical" else len(bag.words)))
        parts = [self._nats(h[at : at + rows], ranks[at : at + rows]) for at in range(0, len(h), rows)]
        graded = torch.cat(parts) if parts else h.new_zeros(0)
        nats[real] = graded.detach().to(nats.dtype)
        return Graded((graded * weights[real]).sum(), nats, torch.zeros_like(nats))

    def _nats(self, h: Tensor, ranks: Tensor) -> Tensor:
        bag = self.bag
        if bag.manner.loss == "hierarchical":
            nodes, signs = (part.to(h.device)[ranks] for part in self._ways)
            turns = torch.einsum("nd,nkd->nk", h, bag.outputs[nodes])
            return (F.softplus(-signs * turns) * signs.abs()).sum(-1)
        products = h @ bag.outputs.T
        noise = torch.from_numpy(bag.noise.shares).to(products)
        right = products.gather(1, ranks[:, None])[:, 0]
        wrong = F.softplus(products) @ noise - F.softplus(right) * noise[ranks]
        return F.softplus(-right) + bag.manner.negatives * wrong

    def logits(self, states: Tensor) -> Tensor:
        """Logits [..., V] for a decoder; -inf for ids that are no words.

        ``hierarchical``: log-probabilities. ``negative``: ``h u + log q``, q the noise, by which the best answers to
        word or noise would be those of a distribution (Gutmann and Hyvarinen, 2010); nothing was trained to be one.
        """
        bag = self.bag
        h = states.reshape(-1, bag.width)
        if bag.manner.loss == "hierarchical":
            products = h @ bag.outputs.T
            nodes, signs = (part.to(h.device) for part in self._ways)
            scores = h.new_zeros(len(h), len(bag.words))
            for step in range(nodes.shape[1]):
                scores -= F.softplus(-signs[:, step] * products[:, nodes[:, step]]) * signs[:, step].abs()
        else:
            shares = torch.from_numpy(bag.noise.shares).to(h)
            scores = h @ bag.outputs.T + shares.log()
        logits = h.new_full((len(h), bag.vocabulary.padded), -torch.inf)
        logits[:, bag.words] = scores
        return logits.view(*states.shape[:-1], -1)
