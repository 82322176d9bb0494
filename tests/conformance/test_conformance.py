"""Every family passes every check; every check rejects a family with a bug planted for it, or it is no check."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
import torch
from checks import (
    LETTERS,
    WORDS,
    Subject,
    accumulates_without_change,
    adds_up_to_one,
    asks_everything_once,
    does_not_leak,
    gives_the_same_loss_for_the_same_seed,
    gradients_flow_only_where_seen,
    ignores_the_batch,
    keeps_documents_apart,
    learns_a_page_by_heart,
    moves_only_what_it_may,
    scores_as_declared,
    writes_the_same_with_a_cache,
)

from sightline.data import RowDraws, Rows
from sightline.data.vocabulary import Vocabulary
from sightline.errors import LeakError
from sightline.objectives import (
    FAMILIES,
    Backward,
    Bang,
    Blank,
    BlockDiffusion,
    Causal,
    Denoise,
    Diffusion,
    Masked,
    Mix,
    Prefix,
    TwoWay,
)
from sightline.objectives.base import Term
from sightline.objectives.model import Model
from sightline.sight import Rule, View, everything, past, same_segment, streams

FIELDS: dict[str, dict[str, Any]] = {
    "masked": {"rate": 0.3},
    "hybrid": {"masked": 0.5},
    "block_diffusion": {"block": 3},
    "ngram": {"n": 3},
    "linear": {"p": 3},
}


def plain(kind: type[Any]) -> Subject:
    def make(vocabulary: Vocabulary) -> Any:
        return kind(vocabulary, **FIELDS.get(kind.family, {}))

    return Subject(make)


SUBJECTS = {name: plain(kind) for name, kind in FAMILIES.items()}
SUBJECTS |= {  # families that may be of another stack
    "two_way, lstm": Subject(lambda vocabulary: TwoWay(vocabulary, "lstm")),
    "two_way, original": Subject(lambda vocabulary: TwoWay(vocabulary, "original")),
}
KINDS = {name: FAMILIES[name.partition(",")[0]] for name in SUBJECTS}
EXACT = [name for name, subject in SUBJECTS.items() if subject.make(WORDS).score_class == "exact"]
LEARNED = [name for name, kind in KINDS.items() if kind.stack in ("transformer", "pair", "two")]

ANY: list[Callable[[Subject], None]] = [
    does_not_leak,
    keeps_documents_apart,
    asks_everything_once,
    scores_as_declared,
    ignores_the_batch,
]
OF_STACKS: list[Callable[[Subject], None]] = [
    moves_only_what_it_may,
    gradients_flow_only_where_seen,
    writes_the_same_with_a_cache,
    gives_the_same_loss_for_the_same_seed,
    accumulates_without_change,
    learns_a_page_by_heart,
]


@pytest.mark.parametrize("check", ANY, ids=lambda check: check.__name__)
@pytest.mark.parametrize("family", SUBJECTS)
def test_every_family(family: str, check: Callable[[Subject], None]) -> None:
    check(SUBJECTS[family])


@pytest.mark.parametrize("check", OF_STACKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("family", LEARNED)
def test_every_family_with_a_stack(family: str, check: Callable[[Subject], None]) -> None:
    check(SUBJECTS[family])


UL2 = "1/3 prefix:R denoise=0.3 span=2, 1/3 prefix:S empty=0 rest=0.25, 1/3 prefix:X denoise=0.5"
SIGHTS = "1/4 causal:A, 1/4 masked:B, 1/4 backward, 1/4 blank:C sentences=0 documents=1"
# Settings by which a family asks otherwise than it does by default.
VARIED = {
    "backward at mask": lambda v: Backward(v, at_mask=0.5),
    "prefix at mask": lambda v: Prefix(v, at_mask=0.5),
    "prefix at mask, grams": lambda v: Prefix(v, at_mask=0.5, hide="gram"),
    "prefix denoise": lambda v: Prefix(v, denoise=0.3, span=2),
    "prefix one way": lambda v: Prefix(v, both_ways=False, rest=0.25, empty=0),
    "blank short": lambda v: Blank(v, rate=0.4, span=2, sentences=0, documents=0),
    "blank sentences": lambda v: Blank(v, sentences=1, documents=0, forget=0.3),
    "blank documents": lambda v: Blank(v, sentences=0, documents=1, least=0.2, empty=0, shuffle=False),
    "denoise infilling": lambda v: Denoise(v, "infilling", rate=0.3),
    "denoise begun with its end": lambda v: Denoise(v, "infilling", rate=0.3, start="eos"),
    "denoise spans begun with their end": lambda v: Denoise(v, start="eos"),
    "denoise deep and shallow": lambda v: Denoise(v, rate=0.3, span=2, encoder_layers=2, decoder_layers=1),
    "bang long spans": lambda v: Bang(v, streams=3, rate=0.5),
    "bang short stretches": lambda v: Bang(v, streams=2, rate=0.5, stretch=4, encoder_layers=2, decoder_layers=1),
    "bang, ar": lambda v: Bang(v, "ar"),
    "bang, semi": lambda v: Bang(v, "semi", streams=3, block=2, encoder_layers=2, decoder_layers=1),
    "bang, nar": lambda v: Bang(v, "nar"),
    "bang, half of it nar": lambda v: Bang(v, "ar", nar_share=0.5),
    "mix ul2": lambda v: Mix(v, UL2),
    "mix unilm, right to left": lambda v: Mix(v, "unilm", by=3),
    "mix of sights": lambda v: Mix(v, SIGHTS, by=3),
}


@pytest.mark.parametrize("check", [*ANY, *OF_STACKS[:-1]], ids=lambda check: check.__name__)
@pytest.mark.parametrize("setting", VARIED)
def test_families_set_otherwise(setting: str, check: Callable[[Subject], None]) -> None:
    check(Subject(VARIED[setting]))


@pytest.mark.parametrize("setting", VARIED)
def test_families_set_otherwise_add_up(setting: str) -> None:
    adds_up_to_one(Subject(VARIED[setting]))


@pytest.mark.parametrize("family", EXACT)
def test_every_exact_family_adds_up(family: str) -> None:
    adds_up_to_one(SUBJECTS[family])


def test_masked_may_keep_tokens_and_hide_words_and_spans() -> None:
    hides = [{"hide": hide} for hide in ("word", "span", "gram")]
    for fields in (*hides, {"random": 0.0, "kept": 0.0}, {"rate": 0.5, "rate_end": 0.1}):
        subject = Subject(lambda vocabulary, fields=fields: Masked(vocabulary, **fields))  # type: ignore[misc]
        does_not_leak(subject)
        ignores_the_batch(subject)


# ------------------------------------------------------------------------------------------------ the planted bugs


@dataclass(frozen=True)
class Mispaired(Causal):
    """Next tokens asked while everything is seen: the classic silent mistake."""

    @property
    def rule(self) -> Rule:
        return everything


class _Joined(View):
    @property
    def whole_sight(self) -> Rule:
        return self.sight


@dataclass(frozen=True)
class Unpacked(Causal):
    """Position ids start again at each document, and nothing else keeps documents apart."""

    def ask(self, rows: Rows, draws: RowDraws, progress: float) -> list[View]:
        return [_Joined(**vars(view)) for view in super().ask(rows, draws, progress)]


@dataclass(frozen=True)
class Forgetful(Causal):
    """Examines all but the last wanted token."""

    def examine(self, rows: Rows) -> Iterator[View]:
        for view in super().examine(rows):
            asks = view.asks.copy()
            asks[:, 3] = -1
            yield replace(view, asks=asks, weights=np.where(asks == -1, 0, view.weights).astype(np.float32), _asked={})


@dataclass(frozen=True)
class Overconfident(Masked):
    """Pseudo scores declared exact."""

    score_class = "exact"  # type: ignore[misc]


@dataclass(frozen=True)
class Moody(Masked):
    """Draws from a generator that all runs share."""

    def ask(self, rows: Rows, draws: RowDraws, progress: float) -> list[View]:
        shared = _SHARED

        class Loose:
            def uniform(self, count: int) -> np.ndarray:
                return shared.random((rows.count, count))

        return super().ask(rows, Loose(), progress)  # type: ignore[arg-type]


_SHARED = np.random.default_rng(0)


@dataclass(frozen=True)
class Averaging(Causal):
    """Takes the mean of each micro-batch: the loss then depends on how a step is cut."""

    def learn(self, model: Model, rows: Rows, views: list[View], draws: RowDraws) -> list[Term]:
        terms = super().learn(model, rows, views, draws)
        share = self.counts(views)
        return [replace(term, total=term.total / share[term.name] * 10) for term in terms]


@dataclass(frozen=True)
class Growing(Prefix):
    """The opening swallows what is written: states change, and a cache goes stale."""

    @property
    def rule(self) -> Rule:
        return past | everything


@dataclass(frozen=True)
class Meeting(TwoWay):
    """Halves that see each other's past: what one is asked for is shown to the other."""

    @property
    def rule(self) -> Rule:
        return past

    def _joined(self, views: list[View]) -> View:
        return replace(super()._joined(views), sight=past)


@dataclass(frozen=True)
class OneSided(TwoWay):
    """Scores what the first half says alone, as if it were the mean."""

    def examine(self, rows: Rows) -> Iterator[View]:
        for view in super().examine(rows):
            yield replace(view, weights=view.weights * (view.slots.stream == 0), _asked={})


def reads_on(model: Model) -> None:
    """An LSTM that is said to tell packed documents apart, and does not."""
    for half in model.stack.halves:  # type: ignore[union-attr]
        half.packs = True  # type: ignore[assignment]


def forgets(model: Model) -> None:
    """A step of an LSTM that begins anew: its states are not those of the whole."""
    for half in model.stack.halves:  # type: ignore[union-attr]
        for layer in half.layers:  # type: ignore[union-attr]
            layer.forward = lambda x, real, cache, number, own=layer.forward: own(x, real, None, number)


@dataclass(frozen=True)
class Peeking(BlockDiffusion):
    """A noised block sees its own clean copy."""

    block: int = 3

    @property
    def rule(self) -> Rule:
        return super().rule | (streams(1, 0) & same_segment)


@dataclass(frozen=True)
class Unweighted(Diffusion):
    """Without the weight: BERT at all rates, and no bound."""

    def examine(self, rows: Rows) -> Iterator[View]:
        for view in super().examine(rows):
            yield replace(view, weights=(view.weights > 0).astype(np.float32), _asked={})


@dataclass(frozen=True)
class Glancing(Blank):
    """Part A sees what is written, and carries it to those who have yet to write it."""

    def ask(self, rows: Rows, draws: RowDraws, progress: float) -> list[View]:
        return [replace(view, sight=everything) for view in super().ask(rows, draws, progress)]


def ignores_sight(model: Model) -> None:
    model.kernel = "full"


def nothing_learned(model: Model) -> None:
    for weight in model.parameters():
        weight.requires_grad_(False)
    model.head.weight.requires_grad_(True)
    torch.nn.init.zeros_(model.stack.embedding.weight)  # type: ignore[union-attr,operator]


def stale(model: Model) -> None:
    """Keys are kept as if the first position were the last: a cache that goes wrong."""
    from sightline.stacks.cache import Cache

    forward = model.stack.forward

    def worse(look: Any, cache: Cache | None = None, taps: Any = None) -> Any:
        if cache is not None and cache.count:
            cache.keys = [keys.flip(2) for keys in cache.keys]
        return forward(look, cache, taps)

    model.stack.forward = worse  # type: ignore[method-assign]


PLANTED = [
    (does_not_leak, Subject(Mispaired)),
    (does_not_leak, Subject(Peeking)),
    (does_not_leak, Subject(Glancing)),
    (keeps_documents_apart, Subject(Unpacked)),
    (keeps_documents_apart, Subject(Causal, ignores_sight)),
    (moves_only_what_it_may, Subject(Causal, ignores_sight)),
    (gradients_flow_only_where_seen, Subject(Backward, ignores_sight)),
    (adds_up_to_one, Subject(Mispaired)),
    (asks_everything_once, Subject(Forgetful)),
    (asks_everything_once, Subject(Unweighted)),
    (scores_as_declared, Subject(Overconfident)),
    (writes_the_same_with_a_cache, Subject(Causal, stale)),
    (gives_the_same_loss_for_the_same_seed, Subject(Moody)),
    (ignores_the_batch, Subject(Moody)),
    (accumulates_without_change, Subject(Averaging)),
    (learns_a_page_by_heart, Subject(Causal, nothing_learned)),
    (does_not_leak, Subject(Meeting)),
    (asks_everything_once, Subject(OneSided)),
    (keeps_documents_apart, Subject(lambda vocabulary: TwoWay(vocabulary, "lstm"), reads_on)),
    (writes_the_same_with_a_cache, Subject(lambda vocabulary: TwoWay(vocabulary, "lstm"), forgets)),
]


@pytest.mark.parametrize(
    ("check", "subject"), PLANTED, ids=[f"{check.__name__}-{n}" for n, (check, _) in enumerate(PLANTED)]
)
def test_every_check_rejects_its_bug(check: Callable[[Subject], None], subject: Subject) -> None:
    with pytest.raises((AssertionError, LeakError)):
        check(subject)


def test_backward_is_causal_on_the_reversed_text() -> None:
    """Same weights, reversed tokens, ends swapped: the same nats."""
    from checks import rows_from

    tokens = np.array([[LETTERS.bos, 0, 1, 1, 0, 1, LETTERS.eos]])
    swapped = np.where(tokens == LETTERS.bos, LETTERS.eos, np.where(tokens == LETTERS.eos, LETTERS.bos, tokens))
    backward = Subject(Backward).model(LETTERS)
    causal = Subject(Causal).model(LETTERS)
    for model in (backward, causal):
        for table in (model.stack.embedding.weight, model.head.weight):  # type: ignore[union-attr]
            with torch.no_grad():
                table[LETTERS.bos] = table[LETTERS.eos]  # type: ignore[index]
    forward_nats, _ = causal.examined(rows_from(swapped[:, ::-1], np.zeros_like(tokens)))
    backward_nats, _ = backward.examined(rows_from(tokens, np.zeros_like(tokens)))
    assert np.allclose(forward_nats, backward_nats, atol=1e-6)


def test_prefix_with_an_opening_of_nothing_is_causal() -> None:
    from checks import packed

    rows = packed()
    assert np.allclose(Subject(Prefix).model().examined(rows)[0], Subject(Causal).model().examined(rows)[0], atol=1e-5)
