"""A Marian as it is published: two models of sentencepiece, ids of both, sources that end as texts do."""

from __future__ import annotations

import json
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

import sightline as sl
from sightline import hub
from sightline.data import Document, Rows
from sightline.decoders.canvas import Canvas
from sightline.errors import SightlineError
from sightline.objectives.drafting import cache_of, starts
from sightline.objectives.model import Model
from sightline.objectives.translating import translate

ENGLISH = [
    "The cat sat on the mat, and who sees whom?",
    "Two roads met under the elm (it was 1984).",
    "A cat saw the moon; the moon saw nobody.",
] * 8
GERMAN = [
    "Die Katze saß auf der Matte, und wer sieht wen?",
    "Zwei Straßen trafen sich unter der Ulme.",
    "Eine Katze sah den Mond; der Mond sah niemanden.",
] * 8
SOURCES = [
    "The cat saw two roads.",
    "  Who  met the moon under the elm?  ",
    "A naïve ß and 的 are strangers.",
    ">>deu<< The cat sat.",
    "A mark </s> in a text [is] a text - \\ ^.",
    "Ｔｈｅ ﬁne cat…\tsat",
    "elm",
]
SIZES = {
    "d_model": 32,
    "encoder_layers": 3,
    "decoder_layers": 2,
    **{f"{side}_attention_heads": 4 for side in ("encoder", "decoder")},
    **{f"{side}_ffn_dim": 48 for side in ("encoder", "decoder")},
    "max_position_embeddings": 96,
}
WRITTEN = 50
STEPS = 120


def cutter(folder: Path, name: str, texts: list[str], **settings: Any) -> list[str]:
    """A model of sentencepiece in a folder, and its pieces."""
    sentencepiece = pytest.importorskip("sentencepiece")
    corpus = folder / "corpus.txt"
    corpus.write_text("\n".join(texts), encoding="utf-8")
    sentencepiece.SentencePieceTrainer.train(
        input=str(corpus), model_prefix=str(folder / name), vocab_size=80, hard_vocab_limit=False, minloglevel=2,
        **{"model_type": "unigram", **settings},
    )  # fmt: skip
    (folder / f"{name}.model").rename(folder / f"{name}.spm")
    (folder / f"{name}.vocab").unlink()
    corpus.unlink()
    held = sentencepiece.SentencePieceProcessor(model_file=str(folder / f"{name}.spm"))
    return [held.id_to_piece(id) for id in range(held.get_piece_size()) if not held.is_control(id)]


@pytest.fixture(scope="module")
def published(transformers: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any, Any]:
    """A folder as of Helsinki-NLP, that learned a little; its model and its tokenizer."""
    folder = tmp_path_factory.mktemp("opus")
    pieces = [*cutter(folder, "source", ENGLISH), *cutter(folder, "target", GERMAN), ">>deu<<", ">>nld<<"]
    names = [name for name in dict.fromkeys(pieces) if name != "<unk>"]
    ids = {name: id for id, name in enumerate(["</s>", "<unk>", *names, "<pad>"])}
    (folder / "vocab.json").write_text(json.dumps(ids))
    (folder / "tokenizer_config.json").write_text(json.dumps({"source_lang": "en", "target_lang": "de"}))
    pad = ids["<pad>"]
    torch.manual_seed(5)
    module = transformers.MarianMTModel(
        transformers.MarianConfig(
            vocab_size=len(ids), bos_token_id=0, eos_token_id=0, pad_token_id=pad, decoder_start_token_id=pad,
            forced_eos_token_id=0, scale_embedding=True, activation_function="swish", static_position_embeddings=True,
            normalize_embedding=False, add_final_layer_norm=False, add_bias_logits=False, **SIZES,
        )
    ).eval()  # fmt: skip
    with warnings.catch_warnings(action="ignore"):  # of Moses' punctuation, which it does not use
        there = transformers.MarianTokenizer.from_pretrained(folder)
    module.final_logits_bias.copy_(0.2 * torch.randn_like(module.final_logits_bias))
    learned(module, there)
    module.save_pretrained(folder)
    return folder, module, there


def learned(module: Any, there: Any) -> None:
    """It learns its few pairs, so that what it writes hangs on what it reads, and ends."""
    rule = torch.optim.Adam(module.parameters(), 3e-3)
    asked = there(ENGLISH[:3], text_target=GERMAN[:3], padding=True, return_tensors="pt")
    asked["labels"][asked["labels"] == there.pad_token_id] = -100
    for _ in range(STEPS):
        rule.zero_grad()
        module(**asked).loss.backward()
        rule.step()


def written_there(module: Any, ids: list[int]) -> list[int]:
    """Greedily, for a source, by what the folder says itself but for its length."""
    given = torch.tensor([ids])
    found = module.generate(
        given,
        attention_mask=torch.ones_like(given),
        do_sample=False,
        num_beams=1,
        max_new_tokens=WRITTEN,
        forced_eos_token_id=None,
        bad_words_ids=[[module.config.pad_token_id]],
        use_cache=False,
    )
    return list(found[0, 1:].tolist())


def written_here(model: Model, ids: list[int]) -> list[int]:
    """Greedily, states kept."""
    from sightline.decoders.loop import write
    from sightline.decoders.policy import NextPlace

    done = write(
        model.objective.fill,
        model.eval().logits,
        Canvas.laid([[ids, WRITTEN]]),
        NextPlace(),
        stops=list(model.objective.stops),
        forbidden=model.objective.vocabulary.unpredictable,
        make_cache=cache_of(model),
    )
    return list(done.canvas.tokens[0][done.canvas.inside[0] & ~done.canvas.given[0]].tolist())


def test_sources_are_cut_as_there(published: tuple[Path, Any, Any]) -> None:
    folder, _, there = published
    tokenizer = hub.load(folder).tokenizer
    assert (tokenizer.eos, tokenizer.sep, tokenizer.bos, tokenizer.pad) == (0, 0, None, there.pad_token_id)
    for text in [*SOURCES, *ENGLISH[:3]]:
        assert [*tokenizer.encode(text).tolist(), 0] == there(text.replace("</s>", "< /s>")).input_ids
        assert 0 not in tokenizer.encode(text)  # what looks like a mark is text
    for ids in (range(2, 40), range(40, there.vocab_size - 3)):
        assert tokenizer.decode(list(ids)) == there.decode(list(ids), skip_special_tokens=True)


def test_it_translates_as_there(transformers: ModuleType, published: tuple[Path, Any, Any], tmp_path: Path) -> None:
    folder, module, there = published
    sl.adopt(str(folder), out=tmp_path / "ours")
    again, told = transformers.AutoModelForSeq2SeqLM.from_pretrained(tmp_path / "ours", output_loading_info=True)
    assert not any(told[keys] for keys in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    assert type(again).__name__ == "MarianMTModel"
    config = json.loads((tmp_path / "ours" / "config.json").read_text())
    assert (config["eos_token_id"], config["decoder_start_token_id"]) == (0, there.pad_token_id)
    reader = transformers.AutoTokenizer.from_pretrained(tmp_path / "ours")

    model, back = hub.load(folder), hub.load(tmp_path / "ours")
    assert back.objective == model.objective and back.tokenizer.fingerprint == model.tokenizer.fingerprint
    assert starts(model.objective.vocabulary) == []
    ended, written = 0, set()
    for text in ENGLISH[:3] + SOURCES[:4]:
        ids = there(text).input_ids
        assert reader(text).input_ids == ids
        wanted = written_there(module, ids)
        ended += wanted[-1] == 0
        written |= set(wanted)
        assert wanted == written_there(again, ids) == written_here(model, ids) == written_here(back, ids)
        barred = [id for id in np.flatnonzero(model.objective.vocabulary.is_special).tolist() if id]
        if not set(barred) & set(wanted):
            (found,) = translate(back, [text], length=WRITTEN)
            assert (found.tokens, found.text) == (len(wanted), there.decode(wanted, skip_special_tokens=True))
    assert ended and len(written) > 10


def test_logits_of_a_pair_are_those_of_there(published: tuple[Path, Any, Any]) -> None:
    folder, module, there = published
    model = hub.load(folder).eval()
    source, target = there(ENGLISH[0]).input_ids, there(text_target=GERMAN[0]).input_ids
    rows = Rows.of([np.array([*source, *target], np.int32)], model.tokenizer)
    (view,) = model.objective.examine(rows)
    pad = module.config.pad_token_id
    with torch.no_grad():
        logits = module(input_ids=torch.tensor([source]), decoder_input_ids=torch.tensor([[pad, *target[:-1]]])).logits
        here = model.logits(view, rows.tokens)[0]
    assert view.answers(rows.tokens)[0].tolist() == target
    may = np.setdiff1d(np.arange(logits.shape[-1]), model.objective.vocabulary.unpredictable)
    np.testing.assert_allclose(here[: len(target), may].numpy(), logits[0][:, may].numpy(), atol=1e-4)


def test_targets_are_not_cut(published: tuple[Path, Any, Any], tmp_path: Path) -> None:
    from sightline.data.rows import tokenized

    folder, _, _ = published
    with pytest.raises(SightlineError, match="cuts the sources of a translator") as caught:
        tokenized([Document("pair", "elm\tUlme")], hub.load(folder).tokenizer, tmp_path / "tokens", pairs=True)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("broken", "says"),
    [
        (lambda folder: (folder / "target_vocab.json").write_text("{}"), "ids of its own for targets"),
        (lambda folder: (folder / "vocab.json").write_text('{"</s>": 0, "<unk>": 2}'), "from 0 on"),
        (lambda folder: (folder / "vocab.json").write_text('{"a": 0, "b": 1}'), "</s> and <unk> among them"),
        (lambda folder: (folder / "vocab.json").write_text("[]"), "from 0 on"),
        (lambda folder: (folder / "source.spm").write_bytes(b"\xff\xff"), "not a whole model"),
        (lambda folder: cutter(folder, "source", ENGLISH, model_type="bpe"), "kind unigram"),
    ],
)
def test_what_is_not_taken(
    published: tuple[Path, Any, Any], tmp_path: Path, broken: Callable[[Path], Any], says: str
) -> None:
    shutil.copytree(published[0], tmp_path / "opus")
    broken(tmp_path / "opus")
    with pytest.raises(SightlineError, match=says) as caught:
        hub.load(tmp_path / "opus")
    assert "\n" not in str(caught.value)
