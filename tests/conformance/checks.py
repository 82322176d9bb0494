"""What every family must pass. Each check takes a subject and raises AssertionError (or LeakError) where it fails."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch

from sightline.data import Draws, Rows
from sightline.data.vocabulary import Vocabulary
from sightline.decoders.canvas import Canvas
from sightline.objectives import Objective
from sightline.objectives.base import within_document
from sightline.objectives.model import Model, built
from sightline.sight import NO_DOCUMENT, NOTHING, View, cacheable, forbid_leaks, isolated, reach, score_of
from sightline.stacks.pair import Pair
from sightline.stacks.shape import Shape
from sightline.stacks.transformer import Transformer
from sightline.stacks.two import Two

PAD, BOS, EOS, MASK = 0, 1, 2, 3
END = 16  # of the words; marks of mixtures and spans come after them
MARKS = {"sep": 16, "modes": (17, 18, 19), "spares": tuple(range(20, 32))}
WORDS = Vocabulary(32, 32, pad=PAD, bos=BOS, eos=EOS, mask=MASK, specials=(0, 1, 2, 3, *range(END, 32)), **MARKS)
LETTERS = Vocabulary(  # two words, the ends of a text, and all the marks that a family may need
    10, 10, bos=2, eos=3, mask=4, sep=5, modes=(6, 7, 8), spares=(9,), specials=tuple(range(2, 10)), never=(4,)
)
T = 14


@dataclass(frozen=True)
class Spelled:
    """In place of a tokenizer: what the tokens of a vocabulary are spelled like."""

    vocabulary: Vocabulary

    @property
    def pieces(self) -> tuple[bytes, ...]:
        special = self.vocabulary.is_special
        return tuple(b"" if special[id] else b"word %d" % id for id in range(self.vocabulary.size))


@dataclass(frozen=True)
class Subject:
    """A family under test: how it is made over a vocabulary, and what is done to its model before it is used."""

    make: Callable[[Vocabulary], Objective]
    spoil: Callable[[Model], None] = lambda model: None

    def packed(self, count: int = 4) -> Rows:
        """Rows of several documents, as the family reads them."""
        return self._as_read(packed(count))

    def single(self, count: int = 2) -> Rows:
        """Rows of one document each."""
        return self._as_read(single(count=count))

    def _as_read(self, rows: Rows) -> Rows:
        return paired(rows) if self.make(WORDS).reads == "pairs" else rows

    def model(self, vocabulary: Vocabulary = WORDS, seed: int = 0, layers: int = 2) -> Model:
        objective = self.make(vocabulary)
        shape = Shape(layers * len(objective.halves), 32, 4, vocabulary.padded, 64, rope_base=100.0)
        model = built(objective, shape, Spelled(vocabulary), seed)  # type: ignore[arg-type]
        if isinstance(model.stack, Transformer | Pair | Two):
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(seed)
                torch.nn.init.normal_(model.head.weight, std=0.5)  # answers that differ
        else:
            words = np.random.default_rng(seed).choice(vocabulary.ordinary, 40)
            model.stack.fit(np.r_[vocabulary.bos, words, vocabulary.eos], np.array([0]))  # type: ignore[operator]
        self.spoil(model)
        return model.eval()


def rows_from(tokens: np.ndarray, documents: np.ndarray, wanted: np.ndarray | None = None, first: int = 0) -> Rows:
    real = documents >= 0
    return Rows(
        tokens=tokens.astype(np.int32),
        documents=documents.astype(np.int32),
        numbers=first + np.arange(len(tokens)),
        visits=np.zeros(len(tokens), np.int64),
        word_starts=real,
        origins=np.where(real, documents, -1),
        wanted=real if wanted is None else wanted & real,
    )


def packed(count: int = 4, first: int = 0) -> Rows:
    """Rows of two documents and a little padding; every row is drawn by its own number."""
    tokens, documents = np.zeros((count, T), np.int64), np.full((count, T), -1)
    for row in range(count):
        draw = np.random.default_rng((7, first + row))
        cut = int(draw.integers(4, T - 5))
        for document, (start, end) in enumerate(((0, cut), (cut, T - 1))):
            words = draw.integers(4, END, end - start - 2)
            tokens[row, start:end] = [BOS, *words, EOS]
            documents[row, start:end] = document
    return rows_from(tokens, documents, first=first)


def single(length: int = T, count: int = 2) -> Rows:
    words = np.random.default_rng(5).integers(4, END, (count, length))
    words[:, 0], words[:, -1] = BOS, EOS
    return rows_from(words, np.zeros_like(words))


def paired(rows: Rows) -> Rows:
    """The rows with each document as a pair, whose third token parts its source from its target, which is wanted."""
    index = within_document(rows.documents)
    tokens = np.where((index == 2) & (rows.documents >= 0), WORDS.sep, rows.tokens).astype(np.int32)
    return replace(rows, tokens=tokens, wanted=rows.wanted & (index > 2))


def asked_views(subject: Subject, rows: Rows) -> list[View]:
    objective = subject.make(WORDS)
    return objective.ask(rows, Draws(3).of(rows), 0.0)


def does_not_leak(subject: Subject) -> None:
    """No asked slot can reach its answer, at the stack's depth, decided without weights."""
    model = subject.model()
    for rows in (subject.packed(), subject.single()):
        views = [*asked_views(subject, rows), *subject.make(WORDS).examine(rows)]
        for view in views:
            forbid_leaks(view, model.depth, subject.make(WORDS).family)


def keeps_documents_apart(subject: Subject) -> None:
    """Nothing of one document changes anything of its neighbour, in the sight and in the numbers."""
    model, rows = subject.model(), subject.packed()
    views = asked_views(subject, rows)
    assert isolated(views, model.depth)
    for document in (0, 1):
        mine = rows.documents == document
        other = np.where(~mine & (rows.documents >= 0) & (rows.tokens > 3), (rows.tokens - 3) % 12 + 4, rows.tokens)
        assert (other != rows.tokens).any()
        for view in views:
            before, after = (model.states(view, tokens).detach().numpy() for tokens in (rows.tokens, other))
            inside = view.slots.document == document
            assert (before[inside] == after[inside]).all()


def moves_only_what_it_may(subject: Subject) -> None:
    """Another token at a position moves the states that may see it, all of them, and no other."""
    model, rows = subject.model(), subject.single(count=1)
    for view in asked_views(subject, rows):
        reached = reach(view, model.depth)[0]
        real = view.slots.document[0] != NO_DOCUMENT  # of padding nobody reads a state
        before = model.states(view, rows.tokens)[0].detach()
        for position in range(1, T - 1):
            other = rows.tokens.copy()
            other[0, position] = (other[0, position] - 3) % 12 + 4
            after = model.states(view, other)[0].detach()
            moved = (after != before).flatten(1).any(-1).numpy() & real
            allowed = reached[:, view.shows[0] == position].any(1) & real
            assert not (moved & ~allowed).any(), "a state moved that may not see the change"
            assert (moved | ~allowed).all(), "a state that may see the change did not move"


def gradients_flow_only_where_seen(subject: Subject) -> None:
    """The gradient of a state by a slot's embedding is zero exactly where the slot cannot be reached."""
    model, rows = subject.model(), subject.single(count=1)
    for view in asked_views(subject, rows):
        reached = reach(view, model.depth)[0]
        entered: list[torch.Tensor] = []  # stream by stream, in the order of the slots
        stack = model.answering(view).stack
        halves = [stack.encoder, stack.decoder] if isinstance(stack, Two) else getattr(stack, "halves", [stack])
        handles = [
            half.layers[0].register_forward_pre_hook(lambda _, given, kept=entered: kept.append(given[0]))
            for half in halves
        ]
        states = model.states(view, rows.tokens)
        for handle in handles:
            handle.remove()
        direction = torch.randn(states.shape[-1], generator=torch.Generator().manual_seed(0))
        for slot in np.flatnonzero(view.slots.document[0] != NO_DOCUMENT):
            found = torch.autograd.grad(
                (states[0, slot] * direction).sum(), entered, retain_graph=True, materialize_grads=True
            )
            flows = (torch.cat(found, dim=1)[0] != 0).any(-1).numpy()
            assert (flows == reached[slot]).all()


def adds_up_to_one(subject: Subject) -> None:
    """The probabilities of all texts of three tokens sum to one, for each half: the score is a likelihood."""
    letters = np.setdiff1d(np.arange(LETTERS.size), LETTERS.unpredictable)
    texts = np.array(list(itertools.product(letters, repeat=3)))
    for model in subject.model(LETTERS).halves:
        backward = model.objective.writes_from == "right"
        given = [LETTERS.bos, 0, LETTERS.sep] if model.objective.reads == "pairs" else [LETTERS.bos]
        whole = np.full((len(texts), len(given) + 3), LETTERS.eos)
        whole[:, slice(0, 3) if backward else slice(len(given), None)] = texts
        if not backward:
            whole[:, : len(given)] = given
        rows = rows_from(
            whole, np.zeros_like(whole), np.arange(whole.shape[1]) >= len(given) if len(given) > 1 else None
        )
        nats, asked = model.examined(rows)
        assert (asked == 3).all()
        assert abs(np.exp(-nats).sum() - 1) < 1e-5


def asks_everything_once(subject: Subject) -> None:
    """Examining a text asks each wanted text token exactly once; by each half, and together at a weight of one.

    Where it is drawn what is asked, once on the average.
    """
    objective, rows = subject.make(WORDS), subject.packed()
    if objective.score_class == "bound":
        asks_everything_once_on_the_average(objective, rows)
        return
    words = (rows.tokens > 3) & rows.wanted
    for family in (objective, *objective.halves):
        asked, weight = np.zeros(rows.tokens.shape, int), np.zeros(rows.tokens.shape)
        for view in family.examine(rows):
            for line, slot in np.argwhere(view.wanted):
                about = view.asks if view.asks[line, slot] != NOTHING else view.shows  # judged: the token it shows
                asked[view.lines_of[line], about[line, slot]] += 1
                weight[view.lines_of[line], about[line, slot]] += view.weights[line, slot]
        assert (asked[words] == len(family.halves)).all()
        assert (weight[words] == 1).all()
        assert (weight[~words] <= 1).all()


def asks_everything_once_on_the_average(objective: Objective, rows: Rows, looks: int = 600) -> None:
    """The weight with which each text token is asked has the mean 1 over draws; within five standard errors."""
    total, squares = np.zeros(rows.tokens.shape), np.zeros(rows.tokens.shape)
    for look in range(looks):
        weight = np.zeros(rows.tokens.shape)
        for view in objective.examine(replace(rows, visits=np.full(rows.count, look))):
            for line, slot in np.argwhere(view.asks != NOTHING):
                weight[view.lines_of[line], view.asks[line, slot]] += view.weights[line, slot]
        total, squares = total + weight, squares + weight**2
    mean = total / looks
    error = np.sqrt(np.maximum(squares / looks - mean**2, 0) / looks)
    words = rows.tokens > 3
    assert (np.abs(mean - 1) <= 5 * error + 1e-6)[words].all()
    assert not mean[(rows.documents < 0) | (rows.tokens == BOS)].any()


def scores_as_declared(subject: Subject) -> None:
    """The class of the score, derived from what each answer may depend on, is the one the family declares.

    That a head tells words from noise, and gives no distribution, cannot be seen in the views: it is declared, and true
    if the logits of a slot are not normalised whatever the weights.
    """
    model = subject.model()
    declared = model.objective.score_class
    if declared == "bound":  # which no graph shows: the check above and the family's own tests do
        return
    if (
        not any(view.judged is not None for view in model.objective.examine(subject.single()))
        and declared == "discriminative"
    ):
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            torch.manual_seed(0)
            for weight in model.parameters():
                weight.add_(torch.randn_like(weight))
        view = next(iter(model.objective.examine(subject.single())))
        sums = model.logits(view, subject.single().tokens).logsumexp(-1)
        assert sums.abs().max() > 1e-3, "the answers are a distribution, and the score is more than declared"
        return
    for rows in (subject.single(), subject.packed()):
        numbers = model.objective.reads == "numbers"
        for half in model.objective.halves:
            assert score_of(list(half.examine(rows)), model.depth, numbers) == declared


def writes_the_same_with_a_cache(subject: Subject) -> None:
    """Where the sight says that states never change, feeding only new slots gives the same logits."""
    model, rows = subject.model(), subject.single(count=2)
    views = model.objective.halves[0].ask(rows, Draws(3).of(rows), 0.0)
    if model.objective.settles or not all(cacheable(view) for view in views):
        return
    backward = model.objective.writes_from == "right"
    cache, fed = model.cache(), np.zeros((2, 0), np.int64)
    first = 3 if model.objective.reads == "pairs" else 2
    for written in range(first, 9):
        given = rows.tokens[:, -written:] if backward else rows.tokens[:, :written]
        gap = [9 - written] * 2
        pieces = [([], gap[0], line) if backward else (line, gap[0], []) for line in given]
        canvas = Canvas.of(pieces)  # type: ignore[arg-type]
        if written > first:  # what came after the prompt was written, not given
            fresh = np.zeros_like(canvas.given)
            fresh[:, slice(-first, None) if backward else slice(0, first)] = True
            canvas = Canvas(canvas.tokens, canvas.open, canvas.given & fresh, canvas.inside)
        view = model.objective.fill(canvas)
        plain = model.logits(view, canvas.tokens)[:, -1]
        both = min(fed.shape[1], view.slots.count)
        same = (fed[:, :both] == view.shows[:, :both]).all(0)
        new = int(np.append(same, False).argmin())  # a query that stood there gives way to the token that was asked
        cache.cut(new)
        kept = model.logits(view.tail(cache.count), canvas.tokens, cache)[:, -1]
        fed = view.shows
        assert torch.allclose(plain, kept, atol=1e-5)


def gives_the_same_loss_for_the_same_seed(subject: Subject) -> None:
    """Two runs with one seed see the same views; another seed of draws may not change what is not drawn."""
    losses = []
    for _ in range(2):
        model, rows = subject.model(), subject.packed()
        draws = Draws(11)
        views = model.objective.ask(rows, draws.of(rows), 0.0)
        terms = model.objective.learn(model, rows, views, draws.of(rows, stream=1))
        losses.append([float(term.total.detach()) for term in terms])
    assert losses[0] == losses[1]


def ignores_the_batch(subject: Subject) -> None:
    """What is drawn for a row does not depend on the rows beside it."""
    objective, rows = subject.make(WORDS), subject.packed()
    whole = objective.ask(rows, Draws(2).of(rows), 0.5)
    for line in range(rows.count):
        one = rows.take(slice(line, line + 1))
        of_line = [view.lines(view.lines_of == line) for view in whole]
        of_line = [view for view in of_line if view.slots.lines]  # a mixture may deal the row to some views only
        for all_of_them, alone in zip(of_line, objective.ask(one, Draws(2).of(one), 0.5), strict=True):
            assert (all_of_them.shows == alone.shows).all()
            assert (all_of_them.asks == alone.asks).all()


def accumulates_without_change(subject: Subject) -> None:
    """One batch and four micro-batches give the same gradient: terms are divided by the answers of the whole step."""
    gradients = []
    for parts in (1, 4):
        model, rows = subject.model(), subject.packed()
        objective, draws, size = model.objective, Draws(4), 4 // parts
        micro = [rows.take(slice(part * size, (part + 1) * size)) for part in range(parts)]
        views = [objective.ask(part, draws.of(part), 0.0) for part in micro]
        counts: dict[str, float] = {}
        for asked in views:
            for name, count in objective.counts(asked).items():
                counts[name] = counts.get(name, 0.0) + count
        for part, asked in zip(micro, views, strict=True):
            terms = objective.learn(model, part, asked, draws.of(part, stream=1))
            torch.stack([term.weight * term.total / counts[term.name] for term in terms]).sum().backward()
        gradients.append(torch.cat([weight.grad.flatten() for weight in model.parameters()]))
    assert torch.allclose(gradients[0], gradients[1], atol=1e-6, rtol=1e-4)


def learns_a_page_by_heart(subject: Subject) -> None:
    """A few rows can be memorised: the loss falls to a small part of what it was."""
    model, rows = subject.model(), subject.packed()
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    losses = []
    for _ in range(150):
        views = model.objective.ask(rows, Draws(1).of(rows), 0.0)
        terms = model.objective.learn(model, rows, views, Draws(1).of(rows, stream=1))
        count = sum(model.objective.counts(views).values())
        loss = sum(term.total for term in terms) / count
        optimizer.zero_grad()
        loss.backward()  # type: ignore[union-attr]
        optimizer.step()
        losses.append(float(loss.detach()))  # type: ignore[union-attr]
    assert losses[-1] < 0.25 * losses[0]
