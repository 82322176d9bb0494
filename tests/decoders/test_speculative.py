"""With a drafter the same texts, or the same distribution of texts, are written in fewer rounds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import chisquare
from test_loop import BOS, EOS, FORBIDDEN, laid, texts

from sightline.decoders.allowance import Allowance
from sightline.decoders.canvas import Canvas
from sightline.decoders.draft import Asked, Draft, Ints, Written
from sightline.decoders.drafters import ByModel, Foreseen, Lookup, following
from sightline.decoders.loop import write
from sightline.decoders.policy import NextPlace
from sightline.decoders.sampling import GREEDY, Sampling
from sightline.decoders.speculative import Drafter, Proposal, together, verdict
from sightline.objectives.model import Model
from sightline.stacks.cache import Cache

Small = Callable[..., Model]
PROMPTS = [[5, 6, 7], [8], [9, 10, 11, 12, 13, 14], [4, 4], [15, 16, 17]]
NONE = np.zeros(0, np.int64)


def by(model: Model) -> ByModel:
    return ByModel(model.objective.fill, model.logits, Cache, model.context)


def like(small: Small, family: str, strength: float = 0.3, seed: int = 0) -> Model:
    """A model that agrees with the first of its family, but not always."""
    model = small(family, seed)
    torch.manual_seed(seed)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(torch.randn_like(weight) * weight.std() * strength)
    return model


class Said(Drafter):
    """Proposes tokens [lines, places] of a text, the first ``right`` [lines] of each proposal as they are."""

    def __init__(self, tokens: Ints, right: Sequence[int]) -> None:
        self.tokens, self.right = tokens, np.asarray(right)

    def propose(self, draft: Draft, places: Ints, allowance: Allowance) -> Proposal | None:
        tokens = np.take_along_axis(self.tokens[draft.owners], places, axis=1)
        wrong = np.arange(places.shape[1]) >= self.right[draft.owners][:, None]
        return Proposal(np.where(wrong, (tokens + 1) % 20, tokens))

    def heard(self, asked: Asked) -> None:
        pass

    def take(self, lines: Ints) -> None:
        pass


def written(
    model: Model, canvas: Canvas, drafter: Drafter | None = None, lookahead: int = 4, **settings: Any
) -> Written:
    settings = {"make_cache": Cache, "forbidden": FORBIDDEN, "stops": model.objective.stops, **settings}
    return write(
        model.objective.fill, model.logits, canvas, NextPlace(), drafter=drafter, lookahead=lookahead, **settings
    )


def assert_same(one: Written, other: Written) -> None:
    assert texts(one) == texts(other)
    assert np.array_equal(one.canvas.inside, other.canvas.inside)
    np.testing.assert_allclose(one.logprobs, other.logprobs, atol=1e-4)


# -- the likeliest text is the same


@pytest.mark.parametrize("lookahead", [1, 3, 6])
@pytest.mark.parametrize("lines", [1, 5])
@pytest.mark.parametrize("family", ["causal", "backward", "prefix"])
def test_the_text_is_that_of_the_plain_loop(small: Small, family: str, lines: int, lookahead: int) -> None:
    model = small(family)
    canvas = laid(model, PROMPTS[:lines], 24)
    plain = written(model, canvas)
    for drafter in (by(model), by(like(small, family)), by(like(small, family, 3.0, 1)), Lookup()):
        quick = written(model, canvas, drafter, lookahead)
        assert_same(plain, quick)
        assert quick.rounds <= plain.rounds
    assert written(model, canvas, by(model), lookahead).rounds < plain.rounds


@pytest.mark.parametrize("settings", [{"min_length": 3}, {"min_length": 9}, {"forbidden": (0, 1, 2, 3, 8, 9)}])
def test_stops_lengths_and_forbidden_tokens(small: Small, settings: dict[str, Any]) -> None:
    """Ids 4 to 9 stop, so that lines end at different places, inside of drafts too."""
    model = small("causal", seed=3)
    canvas, settings = laid(model, PROMPTS, 24), {"stops": range(4, 10), **settings}
    plain = written(model, canvas, **settings)
    assert len({len(text) for text in texts(plain)}) > 2
    for drafter in (by(model), by(like(small, "causal", seed=3)), Lookup()):
        assert_same(plain, written(model, canvas, drafter, **settings))


def test_nothing_is_written_behind_a_stop_in_a_draft(small: Small) -> None:
    model = small("causal")
    free = written(model, laid(model, PROMPTS[:1], 20), stops=())
    mark = int(free.canvas.tokens[0, 8])
    plain = written(model, laid(model, PROMPTS[:1], 20), stops=(mark,))
    quick = written(model, laid(model, PROMPTS[:1], 20), Said(free.canvas.tokens, [6]), 6, stops=(mark,))
    assert_same(plain, quick)
    assert texts(quick)[0][-1] == mark and mark not in texts(quick)[0][4:-1]


def test_lines_that_agree_more_and_less_go_on_together(small: Small) -> None:
    model = small("causal")
    canvas = laid(model, PROMPTS, 24)
    plain = written(model, canvas, stops=())
    quick = written(model, canvas, Said(plain.canvas.tokens, [4, 0, 2, 1, 3]), stops=())
    assert_same(plain, quick)
    assert quick.rounds == 24  # the worst drafted line holds the others up
    assert written(model, canvas, Said(plain.canvas.tokens, [4, 3, 2, 2, 3]), stops=()).rounds == 1 + 8
    assert written(model, canvas, Said(plain.canvas.tokens, [4] * 5), stops=()).rounds == 1 + 5


def test_no_lookahead_is_the_plain_loop(small: Small) -> None:
    model = small("causal")
    draws = {"sampling": Sampling(0.9), "stops": ()}
    plain, none = (
        written(model, laid(model, PROMPTS, 12), drafter, 0, generator=torch.Generator().manual_seed(7), **draws)
        for drafter in (None, by(model))
    )
    assert_same(plain, none)
    assert none.rounds == 12


def test_the_film_counts_passes(small: Small) -> None:
    model = small("causal")
    heard: list[int] = []
    done = written(
        model, laid(model, PROMPTS[:1], 21), by(model), stops=(), on_round=lambda draft, number: heard.append(number)
    )
    assert heard == [1, 2, 3, 4, 5]
    assert [int((done.film == number).sum()) for number in heard] == [1, 5, 5, 5, 5]


def test_the_cache_holds_what_was_accepted(small: Small) -> None:
    """After each round, in the model's cache and in the drafter's, no slot of a token that was thrown away."""
    model, other = small("causal"), like(small, "causal")
    plain = written(model, laid(model, PROMPTS[:1], 24), stops=())
    caches: list[Cache] = []

    def make() -> Cache:
        caches.append(Cache())
        return caches[-1]

    counts: list[tuple[int, int]] = []

    def on_round(draft: Draft, number: int) -> None:
        counts.append((caches[-1].count, len(draft.canvas.text(0)) - 1))  # the last token was not shown yet

    for drafter in (Said(plain.canvas.tokens, [2]), by(other), Lookup()):
        settings: dict[str, Any] = {"stops": (), "make_cache": make, "on_round": on_round}
        assert_same(plain, written(model, laid(model, PROMPTS[:1], 24), drafter, **settings))
    assert counts and all(held == shown for held, shown in counts)


@pytest.mark.parametrize("lines", [1, 3])
def test_blocks_are_checked_by_copies_and_draft_for_themselves(small: Small, lines: int) -> None:
    """Every drafter gives what the model writes alone from left to right, a place a round."""
    model = small("block_diffusion", 3)
    canvas = laid(model, PROMPTS[:lines], 22)
    plain = written(model, canvas, stops=(7,))
    for drafter in (Foreseen(), Lookup(), by(small("causal"))):
        assert_same(plain, written(model, canvas, drafter, stops=(7,)))
    assert written(model, canvas, Foreseen(), stops=(7,)).rounds < plain.rounds


# -- drawn texts have the same distribution


def distribution(model: Model, prompt: list[int], length: int, sampling: Sampling, **settings: Any) -> dict[Any, float]:
    """The probability of each text, by asking for the next token after each beginning of one."""
    stops = np.asarray(settings.get("stops", ()), np.int64)
    allowance = Allowance(sampling, stops, np.asarray(FORBIDDEN), settings.get("min_length", 0))
    found: dict[Any, float] = {}
    alive: list[tuple[tuple[int, ...], float]] = [((), 1.0)]
    for number in range(length):
        canvas = laid(model, [[*prompt, *text] for text, _ in alive], length - number)
        with torch.no_grad():
            said = model.logits(model.objective.fill(canvas), canvas.tokens)[:, 0]
        early = np.full(len(alive), number < allowance.min_length)
        after = []
        for (text, chance), p in zip(
            alive, sampling.probabilities(allowance.allowed(said, early)).numpy(), strict=True
        ):
            for token in np.flatnonzero(p):
                whole = ((*text, int(token)), chance * float(p[token]))
                if token in stops or number + 1 == length:
                    found[whole[0]] = whole[1]
                else:
                    after.append(whole)
        alive = after
    assert sum(found.values()) == pytest.approx(1)
    return found


def behind_the_first(chances: dict[Any, float]) -> dict[Any, float]:
    """The same of what follows the first token."""
    found: dict[Any, float] = {}
    for text, p in chances.items():
        found[text[1:]] = found.get(text[1:], 0.0) + p
    return found


def fits(counts: dict[Any, int], chances: dict[Any, float]) -> float:
    """The p-value of counts under these probabilities; texts that are expected less than five times are one."""
    total = sum(counts.values())
    assert not counts.keys() - chances.keys()
    often = [text for text, p in chances.items() if p * total >= 5]
    seen = [counts.get(text, 0) for text in often]
    expected = [chances[text] * total for text in often]
    if total - sum(expected) > 1e-6 * total:
        seen, expected = [*seen, total - sum(seen)], [*expected, total - sum(expected)]
    return float(chisquare(seen, np.array(expected) * sum(seen) / sum(expected)).pvalue)


@pytest.mark.parametrize("drafts", ["another model", "itself", "lookup", "foreseen"])
@pytest.mark.parametrize(
    ("sampling", "settings"),
    [
        (Sampling(1.0), {"length": 2}),
        (Sampling(0.7, top_k=3), {"length": 3, "stops": (7, 9, 12, 15, 18), "min_length": 2}),
        (Sampling(1.2, top_p=0.8), {"length": 3, "stops": (5, 6, 11, 14)}),
    ],
    ids=str,
)
def test_drawn_texts_have_the_model_s_distribution(
    small: Small, sampling: Sampling, settings: dict[str, Any], drafts: str
) -> None:
    """Many lines of one prompt, written side by side and cut together; the first token is drawn without a draft."""
    settings = dict(settings)
    length = settings.pop("length") + 1
    family = "block_diffusion" if drafts == "foreseen" else "causal"
    model, other = small(family, seed=1), like(small, "causal", 0.5, seed=1)
    with torch.no_grad():
        model.head.weight.div_(30)  # type: ignore[operator]
        other.head.weight.div_(40)  # type: ignore[operator]
    prompt = [5, 6, 5]
    chances = distribution(model, prompt, length, sampling, **settings)
    counts: dict[Any, int] = {}
    generator = torch.Generator().manual_seed(11)
    for _ in range(32):
        drafter = {"another model": by(other), "itself": by(model), "lookup": Lookup(), "foreseen": Foreseen()}[drafts]
        canvas = laid(model, [prompt] * 100, length)
        done = written(model, canvas, drafter, 2, sampling=sampling, generator=generator, **{"stops": (), **settings})
        for text in texts(done):
            key = tuple(text[2 + len(prompt) :])
            counts[key] = counts.get(key, 0) + 1
    assert fits(counts, behind_the_first(chances)) > 1e-3


def test_the_test_of_distributions_sees_a_difference(small: Small) -> None:
    model, other = small("causal", seed=1), like(small, "causal", 0.5, seed=1)
    with torch.no_grad():
        model.head.weight.div_(30)  # type: ignore[operator]
        other.head.weight.div_(40)  # type: ignore[operator]
    chances, wrong = (distribution(one, [5, 6, 5], 2, Sampling(1.0)) for one in (model, other))
    text = list(wrong)
    drawn = np.random.default_rng(0).multinomial(3000, np.array(list(wrong.values())) / sum(wrong.values()))
    assert fits(dict(zip(text, drawn.tolist(), strict=True)), chances) < 1e-6


def toy(lines: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits of a model and of a drafter over 20 ids, alike on all lines."""
    both = 1.5 * torch.randn(2, 20, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return both[0].expand(lines, 2, 20), (both[0] + 0.7 * both[1])[None].expand(lines, 20)


def test_a_draft_is_accepted_as_often_as_distributions_overlap() -> None:
    """1 - TV(p, q); what is written in its place, or for it, is drawn from p."""
    lines = 40_000
    said, drafted = toy(lines)
    allowance = Allowance(Sampling(1.0), NONE, NONE, generator=torch.Generator().manual_seed(0))
    p, q = (allowance.sampling.probabilities(one) for one in (said[:, 0], drafted))
    proposal = Proposal(allowance.drawn(q)[:, None], q[:, None])
    tokens, lengths = verdict(proposal, said, allowance)
    overlap = float(torch.minimum(p[0], q[0]).sum())
    assert 0.5 < overlap < 0.9
    assert (lengths == 2).mean() == pytest.approx(overlap, abs=0.01)
    counts = np.bincount(tokens[:, 0], minlength=20)
    assert chisquare(counts, lines * p[0].numpy()).pvalue > 1e-3
    point = Proposal(np.full((lines, 1), 3))
    tokens, lengths = verdict(point, said, allowance)
    assert (lengths == 2).mean() == pytest.approx(float(p[0, 3]), abs=0.01)
    assert chisquare(np.bincount(tokens[:, 0], minlength=20), lines * p[0].numpy()).pvalue > 1e-3


def test_a_drafter_that_is_the_model_is_always_right(small: Small) -> None:
    model = small("causal")
    with torch.no_grad():
        model.head.weight.div_(20)  # type: ignore[operator]
    done = written(
        model,
        laid(model, PROMPTS, 26),
        by(model),
        sampling=Sampling(0.8, top_p=0.95),
        stops=(),
        generator=torch.Generator().manual_seed(0),
    )
    assert done.rounds == 1 + 5


def test_a_model_with_rows_for_no_token_may_draft() -> None:
    allowance = Allowance(Sampling(1.0), NONE, NONE, generator=torch.Generator().manual_seed(0))
    said, drafted = toy(5)
    q = allowance.sampling.probabilities(drafted)
    for chances in (q, torch.nn.functional.pad(q, (0, 4)), q[:, :18] / q[:, :18].sum(1, keepdim=True)):
        tokens, _ = verdict(Proposal(np.full((5, 1), 4), chances[:, None]), said, allowance)
        assert (tokens < 20).all()


# -- parts


def test_how_far_lines_go_together() -> None:
    tokens = np.array([[5, 6, 7, 8], [5, 6, 7, 8], [5, 2, 7, 8], [5, 6, 7, 8]])
    stops, room = np.array([2]), np.array([9, 9, 9, 9])
    assert together(tokens, np.array([4, 3, 4, 4]), stops, room).tolist() == [3, 3, 2, 3]
    assert together(tokens, np.array([4, 1, 4, 4]), stops, room).tolist() == [1, 1, 1, 1]  # its stop is thrown away
    assert together(tokens, np.array([4, 4, 1, 4]), stops, room).tolist() == [1, 1, 1, 1]
    assert together(tokens, np.array([4, 4, 4, 2]), NONE, np.array([9, 9, 9, 2])).tolist() == [4, 4, 4, 2]
    assert together(tokens[2:3], np.array([4]), stops, room[:1]).tolist() == [2]


def test_what_followed_before() -> None:
    def slowly(text: list[int], longest: int) -> list[int]:
        for length in range(min(longest, len(text) - 1), 0, -1):
            for end in range(len(text) - 1, length - 1, -1):
                if text[end - length : end] == text[-length:]:
                    return text[end:]
        return []

    rng = np.random.default_rng(0)
    for size in (0, 1, 2, 3, 8, 30):
        for _ in range(50):
            text = rng.integers(0, 3, size)
            assert following(text, 3).tolist() == slowly(text.tolist(), 3)


def test_a_text_that_repeats_itself_is_drafted_round_and_round() -> None:
    canvas = Canvas.of([([BOS, 5, 6, 7, 5, 6, 7, 5], 9, [])])
    places = np.arange(8, 14)[None]
    proposal = Lookup().propose(Draft.of(canvas), places, Allowance(GREEDY, NONE, NONE))
    assert proposal is not None and proposal.tokens.tolist() == [[6, 7, 5, 6, 7, 5]]
    ending = Canvas.of([([], 9, [5, 6, 7, 5, 6, EOS])])  # written from its end on: before 5 6 came 7
    ending = ending.written(np.array([0]), np.array([8]), np.array([7]))
    proposal = Lookup().propose(Draft.of(ending), np.arange(7, 4, -1)[None], Allowance(GREEDY, NONE, NONE))
    assert proposal is not None and proposal.tokens.tolist() == [[6, 5, 7]]


def test_beyond_its_context_a_model_proposes_nothing(small: Small) -> None:
    model, short = small("causal"), small("causal", context=16, positions="learned")
    plain = written(model, laid(model, PROMPTS, 40), stops=())
    assert_same(plain, written(model, laid(model, PROMPTS, 40), by(short), stops=()))
