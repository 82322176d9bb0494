"""Pairs by an encoder and a decoder: what is laid where, what smoothing learns, and what other programs make of it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from torch.nn import functional as F

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "conformance"))
from checks import BOS, EOS, WORDS, Subject, paired, rows_from, single

from sightline.data import Draws, Rows, Tokenizer, train_tokenizer
from sightline.data.vocabulary import Vocabulary
from sightline.decoders.canvas import Canvas
from sightline.errors import SightlineError
from sightline.hub import load
from sightline.objectives import Prefix, Seq2Seq
from sightline.objectives.model import Model
from sightline.objectives.translating import translate
from sightline.sight import NOTHING, View
from sightline.sight.derive import matrix
from sightline.stacks.head import Head
from sightline.stacks.two import Two, sides

SEP = WORDS.sep
PAIR = [BOS, 10, 11, SEP, 12, 13, 14, EOS]


def of_pairs(*pairs: list[int], halves: tuple[int, int] | None = None) -> Rows:
    """A row of these pairs, one behind the other."""
    tokens = np.concatenate([np.array(pair) for pair in pairs])[None]
    documents = np.repeat(np.arange(len(pairs)), [len(pair) for pair in pairs])[None]
    return replace(rows_from(tokens, documents), halves=halves)


def test_sources_and_targets_stand_in_columns_of_their_own() -> None:
    other = [BOS, 7, SEP, 8, EOS]
    rows = of_pairs(PAIR, other, halves=(9, 8))
    (view,) = Seq2Seq(WORDS).ask(rows, Draws(0).of(rows), 0.0)
    source, target = sides(view)
    assert source.shown(rows.tokens)[0].tolist() == [*PAIR[:4], *other[:3], NOTHING, NOTHING]
    assert target.shown(rows.tokens)[0, :6].tolist() == [BOS, 12, 13, 14, BOS, 8]
    assert target.answers(rows.tokens)[0, :6].tolist() == [12, 13, 14, EOS, 8, EOS]
    assert target.slots.count == 8
    assert source.slots.positions[0, :7].tolist() == [0, 1, 2, 3, 0, 1, 2]
    assert target.slots.positions[0, :6].tolist() == [0, 1, 2, 3, 0, 1]


def test_a_target_begins_with_the_mark_that_is_named() -> None:
    rows = of_pairs(PAIR)
    (view,) = Seq2Seq(WORDS, start="pad").ask(rows, Draws(0).of(rows), 0.0)
    assert sides(view)[1].shown(rows.tokens)[0, 0] == WORDS.pad


def test_what_is_written_is_asked_one_by_one_behind_its_source() -> None:
    canvas = Canvas.laid([[[BOS, 10, 11, SEP], 3], [[BOS, 7, SEP], 4]])
    one = canvas.written(np.array([0, 1]), np.array([4, 3]), np.array([12, 8]))
    source, target = sides(Seq2Seq(WORDS).fill(one))
    assert source.shown(one.tokens).tolist() == [[BOS, 10, 11, SEP], [BOS, 7, SEP, NOTHING]]
    assert target.shown(one.tokens).tolist() == [[BOS, 12], [BOS, 8]]
    assert target.asks[:, -1].tolist() == [5, 4]


def test_what_is_written_is_scored_as_it_was_written() -> None:
    """The sum of log p while a text is written is its score when it is examined."""
    model = Subject(lambda v: Seq2Seq(v)).model()
    rows = paired(single(count=2))
    nats, asked = model.examined(rows)
    logits = []
    for place in range(3, rows.length):
        canvas = Canvas.laid([[line[:place], rows.length - place] for line in rows.tokens.tolist()])
        logits.append(model.logits(model.objective.fill(canvas), canvas.tokens)[:, -1].log_softmax(-1).detach())
    found = -sum(
        said.gather(1, torch.from_numpy(rows.tokens[:, 3 + at, None]).long())[:, 0] for at, said in enumerate(logits)
    )
    assert np.allclose(nats, found.numpy(), atol=1e-4)  # type: ignore[union-attr]
    assert (asked == rows.length - 3).all()


def test_the_same_source_is_in_sight_as_of_a_prefix() -> None:
    """What a slot of the target may see by place is what it may see in one stack whose opening is the source."""
    rows = paired(single(count=1))
    two = next(iter(Seq2Seq(WORDS).examine(rows)))
    one = next(iter(Prefix(WORDS).examine(rows)))

    def seen(view: View) -> dict[int, set[int]]:
        sight = matrix(view.whole_sight, view.slots)[0]
        return {
            int(asked): {int(place) for place in view.slots.place[0][sight[slot]]}
            for slot, asked in enumerate(view.asks[0])
            if asked != NOTHING
        }

    mine, theirs = seen(two), seen(one)
    assert mine.keys() == theirs.keys()
    assert all(mine[asked] == theirs[asked] for asked in mine)


def test_a_prefix_model_opens_with_the_source_of_a_pair() -> None:
    other = [BOS, 7, SEP, 8, EOS]
    rows = of_pairs(PAIR, other, halves=(9, 8))
    (view,) = Prefix(WORDS).ask(rows, Draws(0).of(rows), 0.0)
    asked = [int(place) for place in view.asks[0] if place != NOTHING]
    assert asked == [4, 5, 6, 7, 11, 12]
    sight = matrix(view.whole_sight, view.slots)[0]
    assert sight[:4, :4].all() and not sight[0, 4:].any() and sight[8:11, 8:11].all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_smoothing_is_that_of_torch(dtype: torch.dtype) -> None:
    """Loss and slopes, over the ids that may be predicted; nats, and the total without a gradient, are as they are."""
    torch.manual_seed(0)
    head = Head(8, 24, np.array([0, 22, 23])).to(dtype)
    states, answers = torch.randn(5, 8, dtype=dtype), torch.tensor([5, 1, 7, 21, 3])
    weights = torch.tensor([1.0, 0.5, 2.0, 1.0, 1.0])
    found = []
    for ours in (True, False):
        x = states.clone().requires_grad_()
        head.weight.grad = None
        if ours:
            total = head(x, answers, weights, smoothing=0.1).total
        else:
            logits = (x @ head.weight.T)[:, 1:22]
            each = F.cross_entropy(logits, answers - 1, label_smoothing=0.1, reduction="none")
            total = (each * weights).sum()
        total.backward()
        found.append((total.detach(), x.grad, head.weight.grad))
    for one, other in zip(*found, strict=True):
        assert torch.allclose(one, other.to(one.dtype), atol=1e-5)  # type: ignore[union-attr]
    with torch.no_grad():
        graded = head(states, answers, weights, smoothing=0.1)
        plain = head(states, answers, weights)
    assert torch.equal(graded.total, plain.total) and torch.equal(graded.nats, plain.nats)


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return train_tokenizer(["A cat sat on the mat."], "byte")


def test_loss_and_targets_are_those_of_transformers(
    peer: Callable[[str], ModuleType], tokenizer: Tokenizer, tmp_path: Path
) -> None:
    """A BART of random weights over pairs: the loss of each pair, and beams of one and of four, token by token."""
    transformers = peer("transformers")
    marks = {f"{mark}_token_id": getattr(tokenizer, mark) for mark in ("pad", "bos", "eos")}
    config = transformers.BartConfig(
        vocab_size=tokenizer.padded, d_model=32, encoder_layers=3, decoder_layers=1, encoder_attention_heads=4,
        decoder_attention_heads=4, encoder_ffn_dim=48, decoder_ffn_dim=48, max_position_embeddings=96,
        decoder_start_token_id=tokenizer.eos, forced_eos_token_id=None, **marks,
    )  # fmt: skip
    torch.manual_seed(0)
    theirs = transformers.BartForConditionalGeneration(config).eval()
    with torch.no_grad():
        for weight in theirs.parameters():
            if weight.dim() > 1:
                weight.mul_(8)  # answers that differ
    theirs.save_pretrained(tmp_path)
    held = load(tmp_path, tokenizer=tokenizer)
    vocabulary = replace(held.objective.vocabulary, sep=tokenizer.need("sep"))
    ours = Model(Seq2Seq(vocabulary, start="eos"), held.stack, held.head, tokenizer).eval()
    pairs = [("A cat.", "Eine Katze sitzt."), ("On the mat it sat.", "Matte.")]
    for source, target in pairs:
        left = [tokenizer.need("bos"), *tokenizer.encode(source).tolist(), tokenizer.need("sep")]
        right = [*tokenizer.encode(target).tolist(), tokenizer.need("eos")]
        rows = Rows.of([[*left, *right]], tokenizer, wanted=[[False] * len(left) + [True] * len(right)])
        nats, _ = ours.examined(rows)
        with torch.no_grad():
            said = theirs(
                input_ids=torch.tensor([left]), decoder_input_ids=torch.tensor([[tokenizer.eos, *right[:-1]]])
            ).logits[0]
        said[:, vocabulary.unpredictable] = -torch.inf  # which only they would ever predict
        mark = said.log_softmax(-1).gather(1, torch.tensor(right)[:, None]).sum()
        assert abs(nats[0] + float(mark)) < 1e-3
    barred = np.union1d(np.flatnonzero(vocabulary.is_special), vocabulary.unpredictable).tolist()
    barred.remove(tokenizer.eos)
    for beams in (1, 4):
        texts = translate(ours, [source for source, _ in pairs], beams=beams, length_penalty=1.0, length=12)
        for (source, _), text in zip(pairs, texts, strict=True):
            left = [tokenizer.need("bos"), *tokenizer.encode(source).tolist(), tokenizer.need("sep")]
            found = theirs.generate(
                torch.tensor([left]), num_beams=beams, max_new_tokens=12, do_sample=False, length_penalty=1.0,
                suppress_tokens=barred, early_stopping=False, no_repeat_ngram_size=0, forced_bos_token_id=None,
            )[0].tolist()  # fmt: skip
            if beams == 1:
                assert tokenizer.decode(found[1:]) == text.text
            else:  # they end a search at the first of its kind of bound, ours when nothing is left to continue
                assert (
                    _worth(theirs, left, text.text, tokenizer)
                    >= _worth(theirs, left, tokenizer.decode(found[1:]), tokenizer) - 0.05
                )


def _worth(theirs: torch.nn.Module, left: list[int], text: str, tokenizer: Tokenizer) -> float:
    """Mean log p of a text and of its end, if it is shorter than allowed."""
    ids = tokenizer.encode(text).tolist()
    ids = ids if len(ids) >= 12 else [*ids, tokenizer.need("eos")]
    with torch.no_grad():
        said = theirs(torch.tensor([left]), decoder_input_ids=torch.tensor([[tokenizer.eos, *ids[:-1]]])).logits[0]
    return float(said.log_softmax(-1).gather(1, torch.tensor(ids)[:, None]).mean())


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"smoothing": 1.0}, "out of range"),
        ({"decoder_layers": -1}, "no stack"),
        ({"start": "mask"}, "no target begins with"),
    ],
)
def test_settings_that_make_no_sense(fields: dict[str, object], words: str) -> None:
    with pytest.raises(SightlineError, match=words):
        Seq2Seq(WORDS, **fields)  # type: ignore[arg-type]


def test_a_tokenizer_without_the_mark_between() -> None:
    with pytest.raises(SightlineError, match="no sep token"):
        Seq2Seq(Vocabulary(32, 32, pad=0, bos=1, eos=2, specials=(0, 1, 2)))


def test_depths_are_settings() -> None:
    model = Subject(lambda v: Seq2Seq(v, encoder_layers=5, decoder_layers=1)).model()
    assert isinstance(model.stack, Two)
    assert (len(model.stack.encoder.layers), len(model.stack.decoder.layers)) == (5, 1)
