"""Writing targets all at once: beside a plain Mask-Predict, round by round, by lengths, and what is learned."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from sightline.data import Draws, Rows, Tokenizer, train_tokenizer
from sightline.decoders.canvas import Canvas
from sightline.decoders.loop import write
from sightline.decoders.policy import Refine, Surest
from sightline.decoders.sampling import GREEDY, Sampling
from sightline.errors import SightlineError
from sightline.objectives import Cmlm, Nar
from sightline.objectives import model as models
from sightline.objectives.at_once import AtOnce
from sightline.objectives.lengths import likeliest_lengths, without_repeats
from sightline.objectives.model import Model, built
from sightline.objectives.translating import translate
from sightline.objectives.writing import generate
from sightline.sight import OPENING, Slots, View, fixed, opening, same_stream
from sightline.stacks import compiled, sources
from sightline.stacks.shape import Shape
from sightline.stacks.two import Two

SOURCES = ["ab", "hello there", "c", "one two three"]


@pytest.fixture(scope="module")
def letters() -> Tokenizer:
    return train_tokenizer(["abcdefghijklmnop"], "byte")


@pytest.fixture
def made(letters: Tokenizer) -> Callable[..., Model]:
    def make(kind: type[AtOnce] = Cmlm, seed: int = 0, sharp: float = 20.0, **shape: Any) -> Model:
        parts: dict[str, Any] = {"layers": 4, "width": 32, "heads": 4, "vocabulary": letters.padded, "context": 48}
        model = built(kind(letters.vocabulary), Shape(**parts | shape), letters, seed)
        assert model.lengths is not None
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model.head.weight.mul_(sharp)  # type: ignore[operator,union-attr]
            model.lengths.weight.normal_(std=0.3)
        return model.eval()

    return make


def ids_of(model: Model, source: str) -> list[int]:
    vocabulary = model.objective.vocabulary
    return [vocabulary.bos, *model.tokenizer.encode(source).tolist(), vocabulary.sep]


@torch.no_grad()
def answered(model: Model, source: list[int], target: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits of every place of a target, and of lengths: one text, laid by hand, no cache and no canvas."""
    size, count = len(source), len(source) + len(target)
    segment = [2] + [OPENING] * (size - 1) + [1] * len(target)
    slots = Slots.of(
        np.arange(count),
        order=np.arange(count),
        segment=segment,
        stream=[0] * size + [1] * len(target),
        positions=[*range(size), *range(len(target))],
    )
    view = View.of(slots, opening | same_stream, shows=fixed(np.array([source + target])))
    states = model.states(view, np.zeros((1, 1), np.int64))[0]
    logits = model.head.logits(states[size:])  # type: ignore[operator,union-attr]
    return logits.double(), model.lengths.logits(states[:1])[0].double()  # type: ignore[union-attr]


def mask_predict(model: Model, source: str, rounds: int, candidates: int) -> tuple[list[int], float]:
    """The published loop for one source, its candidates one after the other."""
    vocabulary, given = model.objective.vocabulary, ids_of(model, source)
    barred = np.setdiff1d(np.flatnonzero(vocabulary.is_special), vocabulary.eos)
    _, told = answered(model, given, [vocabulary.mask])
    best: tuple[float, list[int], float] = (-np.inf, [], 0.0)
    for length in sorted({max(2, int(size)) for size in told.topk(candidates).indices}):
        target, p = [vocabulary.mask] * length, np.zeros(length)
        for number in range(rounds):
            hidden = (
                range(length)
                if number == 0
                else np.argsort(p, kind="stable")[: max(1, length * (rounds - number) // rounds)]
            )
            shown = [vocabulary.mask if at in hidden else token for at, token in enumerate(target)]
            logits, _ = answered(model, given, shown)
            logprobs = logits.log_softmax(1)
            logits[:, barred] = -torch.inf
            for at in hidden:
                target[at] = int(logits[at].argmax())
                p[at] = float(logprobs[at, target[at]])
        if p.mean() > best[0] + 1e-9:
            best = (float(p.mean()), target, float(p.sum()))
    return [token for token in best[1] if token != vocabulary.eos], best[2]


@pytest.mark.parametrize("rounds", [1, 3, 10])
def test_it_writes_what_a_plain_mask_predict_writes(made: Callable[..., Model], rounds: int) -> None:
    model = made()
    found = translate(model, SOURCES, candidates=3, iterations=rounds)
    for source, text in zip(SOURCES, found, strict=True):
        ids, logprob = mask_predict(model, source, rounds, 3)
        assert text.text == model.tokenizer.decode(ids)
        assert text.logprob == pytest.approx(logprob, abs=1e-4)


def test_one_pass_is_nar_and_the_argmax_of_masks(made: Callable[..., Model]) -> None:
    cmlm, nar = made(Cmlm), made(Nar)
    nar.load_state_dict(cmlm.state_dict())
    one = translate(cmlm, SOURCES, candidates=2, iterations=1)
    assert [text.text for text in one] == [text.text for text in translate(nar, SOURCES, candidates=2)]
    assert [text.text for text in one] == [text.text for text in translate(cmlm, SOURCES, candidates=2, sampler="once")]
    assert translate(nar, ["ab"])[0].how == "all places at once, the likeliest token, 5 lengths"


@pytest.mark.parametrize("sampler", ["refine", "surest", "once"])
def test_a_batch_changes_nothing(made: Callable[..., Model], sampler: str) -> None:
    model = made()
    alone = [translate(model, [source], sampler=sampler, iterations=4)[0] for source in SOURCES]
    together = translate(model, SOURCES, sampler=sampler, iterations=4)
    assert [text.text for text in together] == [text.text for text in alone]
    assert np.allclose([text.logprob for text in together], [text.logprob for text in alone], atol=1e-4)
    assert len({text.text for text in alone}) == len(SOURCES)  # another source, another target


def test_a_source_is_encoded_once(made: Callable[..., Model], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiled, "library", lambda: None)  # torch's calls are counted
    model = made()
    lines: list[int] = []
    model.stack.encoder.register_forward_pre_hook(lambda _, given: lines.append(given[0].tokens.shape[0]))  # type: ignore[union-attr,operator]
    crossed: list[int] = []
    model.stack.decoder.layers[0].cross.kv.register_forward_pre_hook(lambda _, given: crossed.append(len(given[0])))  # type: ignore[union-attr,index,operator]
    translate(model, SOURCES, candidates=5, iterations=6)
    assert lines == [len(SOURCES)] and crossed == lines  # all rounds and candidates look at what it made of them


def test_a_source_is_encoded_once_by_the_native_step(
    made: Callable[..., Model], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where there is a compiler; with the targets of torch."""
    native = translate(made(), SOURCES, candidates=5, iterations=6)
    counted: list[int] = []

    def read(stack: Any, head: Any, view: Any, tokens: Any) -> Any:
        counted.append(view.slots.lines)
        return sources.read(stack, head, view, tokens)

    monkeypatch.setattr(models, "read", read)
    assert translate(made(), SOURCES, candidates=5, iterations=6) == native and counted == [len(SOURCES)]
    monkeypatch.setattr(compiled, "library", lambda: None)
    assert [text.text for text in translate(made(), SOURCES, candidates=5, iterations=6)] == [
        text.text for text in native
    ]


def test_masks_are_told_apart_by_their_places(made: Callable[..., Model]) -> None:
    """Attention to slots that all show the same says nothing of distances: places must be told to each by itself."""
    model = made()
    assert model.stack.shape.positions == "sinusoidal"  # type: ignore[union-attr]
    logits, _ = answered(model, ids_of(model, "ab"), [model.objective.vocabulary.mask] * 6)
    assert (logits[1:] - logits[:-1]).abs().nan_to_num(0).amax(1).min() > 0.1
    stack = Two(Shape(4, 32, 4, model.tokenizer.padded, 48), 2)
    with pytest.raises(SightlineError, match="by where they stand, which this stack is not told"):
        Model(model.objective, stack, model.head, model.tokenizer, lengths=model.lengths)
    with pytest.raises(SightlineError, match="how long a target is, for which this model has no head"):
        Model(model.objective, model.stack, model.head, model.tokenizer)


class Watched:
    """The oracle and the rounds of a decoder on one canvas."""

    def __init__(self, model: Model, source: str, length: int) -> None:
        self.model, self.canvas = model, Canvas.laid([[ids_of(model, source), length]])
        self.rounds: list[tuple[np.ndarray, np.ndarray]] = []

    def write(self, policy: Any, logits: Any = None) -> Any:
        return write(
            self.model.objective.fill,
            logits or self.model.logits,
            self.canvas,
            policy,
            make_cache=self.model.cache,
            on_round=lambda draft, number: self.rounds.append((draft.canvas.tokens.copy(), draft.canvas.open.copy())),
        )


def test_only_what_was_opened_again_changes(made: Callable[..., Model]) -> None:
    watched = Watched(made(), "hello", 12)
    watched.write(Refine(4))
    changed = 0
    for (before, opened), (after, _) in zip(watched.rounds, watched.rounds[1:], strict=False):
        assert (before[~opened] == after[~opened]).all()
        changed += int((before != after).sum())
    assert [int(opened.sum()) for _, opened in watched.rounds] == [9, 6, 3, 0] and changed


def test_easy_first_fixes_one_token_a_pass_and_blocks_of_one_go_left_to_right(made: Callable[..., Model]) -> None:
    watched = Watched(made(), "hello", 6)
    easy = watched.write(Surest(6))
    assert sorted(easy.film[0][-6:].tolist()) == [1, 2, 3, 4, 5, 6] and easy.rounds == 6
    assert watched.write(Surest(1, block=1)).film[0][-6:].tolist() == [1, 2, 3, 4, 5, 6]


def test_an_oracle_needs_one_pass(made: Callable[..., Model], letters: Tokenizer) -> None:
    reference = letters.encode("the end").tolist()
    watched = Watched(made(), "hello", len(reference))

    def oracle(view: View, tokens: np.ndarray, cache: Any) -> torch.Tensor:
        index, _ = view.asked_slots
        logits = torch.zeros(*index.shape, letters.padded)
        places = np.take_along_axis(view.asks, index, axis=1) - (watched.canvas.places - len(reference))
        for at, place in enumerate(places[0]):
            if place >= 0:
                logits[0, at, reference[place]] = 9.0
        return logits

    done = watched.write(Refine(1), oracle)
    assert done.rounds == 1 and done.canvas.tokens[0, -len(reference) :].tolist() == reference


def test_whole_numbers_are_what_the_published_code_comes_to() -> None:
    """It multiplies in float32, where 10 * (1 - 8/10) is 2; in doubles it is 1. From 12 rounds on it may lose one."""
    differs = 0
    for rounds in range(1, 11):
        for number in range(1, rounds):
            places = np.arange(1, 101)
            ours = Refine(rounds).reopened(places, number)
            share = torch.from_numpy(places).float() * (1.0 - number / rounds)
            differs += int((ours != np.maximum(1, share.long().numpy())).sum())
    assert Refine(10).reopened(np.array([10]), 8).tolist() == [2] and int(10 * (1.0 - 8 / 10)) == 1
    assert differs == 0


def test_lengths() -> None:
    logits = np.array([-np.inf, 5.0, 1.0, 4.0, 3.0, 9.0])
    assert likeliest_lengths(logits, 4, 3).tolist() == [2, 3, 4]  # no room for 5; 1 is taken as 2
    assert likeliest_lengths(logits, 4, 9).tolist() == [2, 3, 4]  # which is not taken twice, and 0 is none
    assert likeliest_lengths(logits, 9, 2).tolist() == [5, 2]


def test_no_length_is_zero(made: Callable[..., Model]) -> None:
    model = made()
    _, told = answered(model, ids_of(model, "ab"), [3])
    assert float(told[0]) == -torch.inf and len(told) == model.context + 1


def test_repeats_are_merged(made: Callable[..., Model]) -> None:
    assert without_repeats([4, 4, 5, 4, 4, 4]) == [4, 5, 4] and without_repeats([]) == []
    model = made(sharp=0.0)
    model.head.weight.data[ord("a") + 3] = 1.0  # type: ignore[union-attr,operator,index]
    plain, merged = (translate(model, ["ab"], candidates=1, merge=merge)[0].text for merge in (False, True))
    assert without_repeats(list(map(ord, plain))) == list(map(ord, merged))


def test_what_cannot_be_written(made: Callable[..., Model]) -> None:
    model = made()
    with pytest.raises(SightlineError, match="62 tokens exceeds the model's context, 48"):
        translate(model, ["a" * 60])
    with pytest.raises(SightlineError, match="0 lengths"):
        translate(model, ["a"], candidates=0)
    with pytest.raises(SightlineError, match="learned to write in one pass, not by surest"):
        translate(made(Nar), ["a"], sampler="surest")
    with pytest.raises(SightlineError, match="no sampler"):
        translate(model, ["a"], sampler="slowest")
    assert translate(model, ["", "ab"])[0].text == ""  # nothing to read, nothing to write


def test_generate_writes_targets_too(made: Callable[..., Model]) -> None:
    model = made()
    assert generate(model, SOURCES, sampling=GREEDY, iterations=3) == translate(model, SOURCES, length=64, iterations=3)
    assert all(len(text.text) <= 5 for text in translate(model, SOURCES, length=5))
    with pytest.raises(SightlineError, match="one target of a source"):
        generate(model, ["ab"], n_best=2)


def trained(model: Model, pairs: list[tuple[str, str]], steps: int) -> Model:
    vocabulary, tokenizer = model.objective.vocabulary, model.tokenizer
    lines = [[*ids_of(model, source), *tokenizer.encode(target).tolist(), vocabulary.eos] for source, target in pairs]
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    model.train()
    for step in range(steps):
        rows = Rows.of(lines, tokenizer)
        rows = Rows(
            **{**{name: getattr(rows, name) for name in Rows.__dataclass_fields__}, "visits": rows.visits + step}
        )
        views = model.objective.ask(rows, Draws(0).of(rows), 0.0)
        counts = model.objective.counts(views)
        terms = model.objective.learn(model, rows, views, Draws(0).of(rows, 1))
        loss = torch.stack([term.total / counts[term.name] for term in terms]).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model.eval()


@pytest.mark.parametrize("kind", [Nar, Cmlm])
def test_a_page_of_pairs_is_learned_by_heart(made: Callable[..., Model], kind: type[AtOnce]) -> None:
    pairs = [("one", "uno"), ("two", "due"), ("three", "tre"), ("four", "quattro"), ("five", "cinque"), ("six", "sei")]
    model = trained(made(kind, sharp=1.0), pairs, 150)
    found = translate(model, [source for source, _ in pairs], candidates=2, iterations=4)
    assert [text.text for text in found] == [target for _, target in pairs]


def test_two_good_targets_are_mixed_in_one_pass_and_not_in_two(made: Callable[..., Model]) -> None:
    """ "ab" or "ba", as likely as each other: places that ignore each other write "aa" and "bb" as often."""
    model = trained(made(Cmlm, sharp=1.0), [("x", "ab"), ("x", "ba")] * 4, 250)
    drawn = {"candidates": 1, "sampling": Sampling(temperature=1.0)}
    once = [translate(model, ["x"], iterations=1, seed=seed, **drawn)[0].text for seed in range(40)]  # type: ignore[arg-type]
    twice = [translate(model, ["x"], sampler="surest", iterations=3, seed=seed, **drawn)[0].text for seed in range(40)]  # type: ignore[arg-type]
    mixed = [sum(text in ("aa", "bb") for text in texts) for texts in (once, twice)]
    assert mixed[0] > 8 and mixed[1] <= 2
    assert translate(model, ["x"], candidates=1, iterations=4)[0].text in ("ab", "ba")
