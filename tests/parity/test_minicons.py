"""Pseudo-log-likelihoods equal those of minicons on the same random BERT, plain and with later pieces hidden too."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

import pytest
import torch
from tokenizers import Tokenizer as Engine
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors

from sightline.evaluation.continuation import Scorer
from sightline.hub import load

TOLERANCE = 1e-4
PIECES = ["the", "cat", "un", "##break", "##able", "##s", "sing", "##ing", "bird", "and", ".", ",", "a", "##n"]
SENTENCES = [
    "the unbreakable cat sings.",
    "a bird, singing and singing",
    "cats and birds and the unbreakables .",
    "the bird, the cat, and the bird",
]


@pytest.fixture(scope="module")
def folder(peer: Callable[[str], ModuleType], tmp_path_factory: pytest.TempPathFactory) -> Path:
    transformers = peer("transformers")
    specials = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    vocabulary = {piece: number for number, piece in enumerate([*specials, *PIECES])}
    engine = Engine(models.WordPiece(vocabulary, unk_token="[UNK]"))
    engine.normalizer = normalizers.BertNormalizer()
    engine.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    engine.decoder = decoders.WordPiece()
    ends = [(name, vocabulary[name]) for name in ("[CLS]", "[SEP]")]
    engine.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=ends)
    named = {f"{name.strip('[]').lower()}_token": name for name in specials}
    path = tmp_path_factory.mktemp("bert")
    transformers.PreTrainedTokenizerFast(tokenizer_object=engine, **named).save_pretrained(path)
    settings = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4}
    config = transformers.BertConfig(vocab_size=len(vocabulary), max_position_embeddings=64, **settings)
    torch.manual_seed(5)
    model = transformers.BertForMaskedLM(config)
    for weight in model.parameters():  # at their first scale all tokens are about as likely
        torch.nn.init.normal_(weight, std=0.3)
    with torch.no_grad():
        model.cls.predictions.bias[vocabulary["[PAD]"]] = -1e4  # which we never predict, and a trained BERT does not
    model.save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def minicons(peer: Callable[[str], ModuleType], folder: Path) -> Any:
    """Its scorer of the folder."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of libraries that it loads
        peer("minicons")
        from minicons.scorer import MaskedLMScorer

        scorer = MaskedLMScorer(str(folder), "cpu")
    scorer.tokenizer.batch_encode_plus = scorer.tokenizer.__call__  # its name before transformers 5
    return scorer


@pytest.mark.parametrize(("within", "metric"), [("token", "original"), ("word", "within_word_l2r")])
def test_sentences_cost_what_minicons_says(
    within: Literal["word", "token"], metric: str, folder: Path, minicons: Any
) -> None:
    scorer = Scorer.of(load(folder), within=within)
    ours = scorer.score([("", sentence) for sentence in SENTENCES], "whole")
    theirs = minicons.sequence_score(SENTENCES, reduction=lambda found: found.sum(0).item(), PLL_metric=metric)
    assert ours.logp == pytest.approx(theirs, abs=TOLERANCE)
    assert len({round(one, 3) for one in theirs}) == len(SENTENCES)


def test_the_correction_costs_words_of_many_pieces_only(folder: Path) -> None:
    plain, hidden = (Scorer.of(load(folder), within=one) for one in ("token", "word"))  # type: ignore[arg-type]
    whole, pieces = (
        [one.score([("", text)], "whole").logp[0] for one in (plain, hidden)] for text in ("the bird sing", "cats")
    )
    assert whole[0] == pytest.approx(whole[1], abs=1e-5)
    assert not math.isclose(pieces[0], pieces[1], abs_tol=1e-3)


def test_a_continuation_costs_what_minicons_says(folder: Path, minicons: Any) -> None:
    scorer = Scorer.of(load(folder), within="token")
    ours = scorer.score([("the cat", " sings and sings"), ("a bird", " singing.")], "continuation")
    theirs = minicons.conditional_score(
        ["the cat", "a bird"], ["sings and sings", "singing."], reduction=lambda found: found.sum(0).item()
    )
    assert ours.logp == pytest.approx(theirs, abs=TOLERANCE)
