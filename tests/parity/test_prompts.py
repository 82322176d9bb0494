"""A text is read as an adopted model's own tokenizer and transformers read it, and gone on from as they do."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers import AddedToken, decoders, models, normalizers, pre_tokenizers, processors, trainers
from tokenizers import Tokenizer as Engine

import sightline as sl
from sightline import hub
from sightline.data import Document, Rows
from sightline.data.bins import Bins
from sightline.data.examples import Example
from sightline.data.laid import Room, targets_laid, texts_laid, words_laid
from sightline.data.layout import SENTINELS
from sightline.data.rows import tokenized
from sightline.decoders.sampling import GREEDY
from sightline.evaluation.continuation import Scorer
from sightline.evaluation.understanding import vectors
from sightline.objectives.continued import continued
from sightline.objectives.filling import fill
from sightline.objectives.model import Model
from sightline.objectives.targets import Targets, rows_of_pairs
from sightline.objectives.writing import generate

TEXT = "The cat sat on the mat, and who sees whom?"
TEXTS = [TEXT, "Two roads met under the elm.", "It's 1234 apples, isn't it: a naïve count."] * 8
PROMPTS = ["The cat", "Two roads met", "a naïve apple </s> sat  on"]
PAIRS = [
    ("to German: The cat sat.", "Die Katze saß."),
    ("to German: Two roads met.", "Zwei Straßen trafen sich."),
    ("to German: who sees whom?", "Wer sieht wen?"),
]
SIZES = {"num_hidden_layers": 2, "num_attention_heads": 4, "hidden_size": 32, "intermediate_size": 56}
WRITTEN = 24
STEPS = 100


def byte_level(folder: Path, marks: list[str], frame: str | None, **names: str) -> Engine:
    """A tokenizer of bytes in a folder; ``frame`` : what its template puts around a text, None: nothing."""
    engine = Engine(models.BPE())
    engine.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    engine.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    texts = TEXTS + [side for pair in PAIRS for side in pair]
    engine.train_from_iterator(
        texts, trainers.BpeTrainer(vocab_size=330, special_tokens=marks, initial_alphabet=alphabet, show_progress=False)
    )
    engine.post_processor = (
        processors.ByteLevel(trim_offsets=True)
        if frame is None
        else processors.TemplateProcessing(
            single=frame, special_tokens=[(name, marks.index(name)) for name in frame.split() if name in marks]
        )
    )
    return kept(engine, folder, **names)


def unigram(folder: Path, marks: list[str]) -> Engine:
    """A tokenizer as T5's: pieces with scores, eos behind a text."""
    engine = Engine(models.Unigram())
    engine.normalizer = normalizers.Replace("\t", " ")
    engine.pre_tokenizer = pre_tokenizers.Metaspace()
    engine.decoder = decoders.Metaspace()
    engine.train_from_iterator(
        TEXTS + [side for pair in PAIRS for side in pair],
        trainers.UnigramTrainer(vocab_size=120, special_tokens=marks, unk_token="<unk>", show_progress=False),
    )
    engine.add_special_tokens([AddedToken(name, special=True, normalized=False) for name in SENTINELS[:8]])
    engine.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    return kept(engine, folder, eos="</s>", pad="<pad>", unk="<unk>")


def kept(engine: Engine, folder: Path, **names: str) -> Engine:
    folder.mkdir()
    engine.save(str(folder / "tokenizer.json"))
    told = {f"{role}_token": name for role, name in names.items()} | {"tokenizer_class": "PreTrainedTokenizerFast"}
    (folder / "tokenizer_config.json").write_text(json.dumps(told), encoding="utf-8")
    return engine


def lively(module: Any) -> Any:
    with torch.no_grad():
        for weight in module.parameters():
            weight.add_(0.2 * torch.randn_like(weight))
    return module.eval()


def gpt2(t: ModuleType, folder: Path) -> Any:
    end = "<|endoftext|>"
    size = byte_level(folder, [end], None, bos=end, eos=end).get_vocab_size()
    config = t.GPT2Config(
        vocab_size=size, n_positions=64, n_embd=32, n_layer=2, n_head=4, bos_token_id=0, eos_token_id=0
    )
    return lively(t.GPT2LMHeadModel(config))


def qwen2(t: ModuleType, folder: Path) -> Any:
    end = "<|endoftext|>"
    size = byte_level(folder, [end, "<|im_end|>"], None, eos=end, pad=end).get_vocab_size()
    config = t.Qwen2Config(
        vocab_size=size, max_position_embeddings=64, num_key_value_heads=2, bos_token_id=0, eos_token_id=0, **SIZES
    )
    return lively(t.Qwen2ForCausalLM(config))


def llama(t: ModuleType, folder: Path) -> Any:
    size = byte_level(folder, ["<unk>", "<s>", "</s>"], "<s> $A", bos="<s>", eos="</s>", unk="<unk>").get_vocab_size()
    config = t.LlamaConfig(vocab_size=size, max_position_embeddings=64, bos_token_id=1, eos_token_id=2, **SIZES)
    return lively(t.LlamaForCausalLM(config))


def written_there(module: Any, given: list[int], length: int = WRITTEN) -> list[int]:
    """What transformers writes greedily, by what the folder says; for a source, behind what the decoder begins with."""
    ids = torch.tensor([given])
    found = module.generate(
        ids, attention_mask=torch.ones_like(ids), do_sample=False, num_beams=1, max_new_tokens=length,
        suppress_tokens=sorted(barred_of(module)),
    )  # fmt: skip
    return list(found[0, 1 if module.config.is_encoder_decoder else len(given) :].tolist())


def barred_of(module: Any) -> set[int]:
    """Marks that Sightline does not write: those that end no text."""
    return set(module.marks) - {module.config.eos_token_id, module.generation_config.forced_bos_token_id}


@pytest.mark.parametrize(("make", "before"), [(gpt2, []), (qwen2, []), (llama, [1])], ids=["gpt2", "qwen2", "llama"])
def test_a_prompt_is_gone_on_from_as_there(
    transformers: ModuleType, tmp_path: Path, make: Callable[[ModuleType, Path], Any], before: list[int]
) -> None:
    torch.manual_seed(1)
    module = make(transformers, tmp_path / "theirs")
    module.save_pretrained(tmp_path / "theirs")
    there = transformers.AutoTokenizer.from_pretrained(tmp_path / "theirs")
    adopted = sl.adopt(str(tmp_path / "theirs"), out=tmp_path / "ours").model
    again = transformers.AutoTokenizer.from_pretrained(adopted)
    for folder in (tmp_path / "theirs", adopted):
        model = hub.load(folder)
        module.marks = np.flatnonzero(model.tokenizer.special_ids[: model.tokenizer.size]).tolist()
        assert model.tokenizer.frames and model.tokenizer.before() == before
        for prompt in PROMPTS:
            ids = [*before, *model.tokenizer.encode(prompt).tolist()]
            plain = prompt.replace("</s>", "")  # which transformers takes for the mark
            assert (
                there(plain).input_ids == again(plain).input_ids == [*before, *model.tokenizer.encode(plain).tolist()]
            )
            wanted = written_there(module, ids)
            (text,) = generate(model, [prompt], length=WRITTEN, sampling=GREEDY)
            assert text.text == (prompt + model.tokenizer.decode(wanted)).rstrip("\ufffd")
            assert text.tokens == len(wanted)
        (alone,) = generate(model, [""], length=4, sampling=GREEDY)  # begins with the mark
        start = there.bos_token_id if there.bos_token_id is not None else there.eos_token_id
        assert alone.text == model.tokenizer.decode(written_there(module, [start], 4)).rstrip("\ufffd")


def test_contexts_states_and_blanks_follow_the_template_too(transformers: ModuleType, tmp_path: Path) -> None:
    """Log p of a continuation as lm-eval asks for it, states of a text, a blank; a whole text begins with the mark."""
    torch.manual_seed(1)
    module = gpt2(transformers, tmp_path / "theirs")
    module.save_pretrained(tmp_path / "theirs")
    model = hub.load(tmp_path / "theirs")
    ids = model.tokenizer.encode("The cat sat").astype(np.int64)
    context = len(model.tokenizer.encode("The cat"))
    with torch.no_grad():
        bare = module(torch.from_numpy(ids)[None], output_hidden_states=True)
        marked = module(torch.tensor([[0, *ids.tolist()]])).logits[0].log_softmax(-1)
    logs = bare.logits[0].log_softmax(-1)
    scorer = Scorer.of(model)
    found = scorer.score([("The cat", " sat")], "continuation").logp[0]
    assert found == pytest.approx(float(sum(logs[at - 1, ids[at]] for at in range(context, len(ids)))), abs=1e-4)
    whole = scorer.score([("", "The cat sat")], "whole").logp[0]
    assert whole == pytest.approx(float(sum(marked[at, id] for at, id in enumerate(ids))), abs=1e-4)
    assert scorer.marks("continuation").startswith("text") and scorer.marks("whole").startswith("<|endoftext|> text")
    states = vectors(model, ["The cat sat"])[-1][0]
    np.testing.assert_allclose(states, bare.hidden_states[-1][0].mean(0).numpy(), atol=1e-4)
    assert fill(model, ["___ cat", "The ___"], candidates=1, sampling=GREEDY)[1].pieces[0] == (
        generate(model, ["The"], length=1, sampling=GREEDY)[0].pieces[0].strip(" ")
    )


def learned(module: Any, there: Any) -> None:
    """It learns its few pairs, so that what it writes hangs on what it reads, and ends."""
    rule = torch.optim.Adam(module.train().parameters(), 5e-3)
    asked = there([one for one, _ in PAIRS], text_target=[two for _, two in PAIRS], padding=True, return_tensors="pt")
    asked = {name: asked[name] for name in ("input_ids", "attention_mask", "labels")}
    asked["labels"] = asked["labels"].masked_fill(asked["labels"] == there.pad_token_id, -100)
    for _ in range(STEPS):
        rule.zero_grad()
        module(**asked).loss.backward()
        rule.step()
    module.eval()


def t5(t: ModuleType, folder: Path) -> Any:
    size = unigram(folder, ["<pad>", "</s>", "<unk>"]).get_vocab_size()
    sizes = {"d_model": 32, "d_kv": 8, "d_ff": 48, "num_layers": 2, "num_heads": 4, "dropout_rate": 0.0}
    return t.T5ForConditionalGeneration(
        t.T5Config(vocab_size=size, decoder_start_token_id=0, pad_token_id=0, eos_token_id=1, **sizes)
    )


def bart(t: ModuleType, folder: Path) -> Any:
    names = {"bos": "<s>", "eos": "</s>", "pad": "<pad>", "sep": "</s>", "cls": "<s>", "mask": "<mask>", "unk": "<unk>"}
    size = byte_level(folder, ["<s>", "<pad>", "</s>", "<unk>", "<mask>"], "<s> $A </s>", **names).get_vocab_size()
    sides = {
        f"{side}_{what}": n for side in ("encoder", "decoder") for what, n in (("attention_heads", 4), ("ffn_dim", 48))
    }
    return t.BartForConditionalGeneration(
        t.BartConfig(
            vocab_size=size, d_model=32, encoder_layers=2, decoder_layers=2, max_position_embeddings=64, dropout=0.0,
            decoder_start_token_id=2, bos_token_id=0, pad_token_id=1, eos_token_id=2, **sides,
        )
    )  # fmt: skip


@pytest.fixture(scope="module", params=[t5, bart], ids=["t5", "bart"])
def translator(
    request: pytest.FixtureRequest, transformers: ModuleType, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Any, Any, Path]:
    """A folder of two stacks that learned a few pairs, its model and tokenizer; and what was adopted as seq2seq."""
    root = tmp_path_factory.mktemp("translator")
    torch.manual_seed(2)
    module = request.param(transformers, root / "theirs")
    there = transformers.AutoTokenizer.from_pretrained(root / "theirs")
    learned(module, there)
    module.generation_config.forced_eos_token_id = None  # a default of BART's, at the most tokens alone
    module.generation_config.forced_bos_token_id = there.bos_token_id  # as in published folders of BART
    module.save_pretrained(root / "theirs")
    assert hub.load(root / "theirs").objective.family == "denoise"
    ours = sl.adopt(str(root / "theirs"), family="seq2seq", out=root / "ours").model
    return root / "theirs", module, there, ours


def test_a_source_is_translated_as_there(transformers: ModuleType, translator: tuple[Path, Any, Any, Path]) -> None:
    _, module, there, ours = translator
    again = transformers.AutoModelForSeq2SeqLM.from_pretrained(ours)
    reader = transformers.AutoTokenizer.from_pretrained(ours)
    assert type(again) is type(module)
    tokenizer = hub.load(ours).tokenizer
    again.marks = module.marks = np.flatnonzero(tokenizer.special_ids[: tokenizer.size]).tolist()
    sources = [source for source, _ in PAIRS] + ["to German: the elm saw the cat", "naïve apples"]
    texts = sl.translate(ours, sources, beams=1, length=WRITTEN).texts
    for source, text in zip(sources, texts, strict=True):
        ids = there(source).input_ids
        assert (
            ids == reader(source).input_ids == [*tokenizer.before(), *tokenizer.encode(source).tolist(), tokenizer.eos]
        )
        forced = len(tokenizer.opens)
        wanted = written_there(module, ids, WRITTEN + forced)
        assert wanted == written_there(again, ids, WRITTEN + forced)
        assert wanted[:forced] == tokenizer.opens
        assert text == there.decode(wanted, skip_special_tokens=True)
    assert [text.strip() for text in texts[:2]] == [target for _, target in PAIRS[:2]]


def loss_there(module: Any, there: Any, source: str, target: str) -> float:
    """Mean nats of the labels, as transformers lays a pair out; padding is never predicted here."""
    asked = there(source, text_target=target, return_tensors="pt")
    padding = torch.tensor([there.pad_token_id])
    hook = module.lm_head.register_forward_hook(lambda *one: one[2].index_fill(-1, padding, -torch.inf))
    with torch.no_grad(), hook:
        return float(module(input_ids=asked["input_ids"], labels=asked["labels"]).loss)


def same_losses(model: Model, module: Any, there: Any, rows: list[Rows]) -> None:
    """Nats of each pair, one a row, as there; ``rows`` : the same pairs laid out in different ways."""
    for one in rows:
        nats, _ = model.eval().examined(one)
        counts = [len(there(text_target=target).input_ids) for _, target in PAIRS]
        wanted = [loss_there(module, there, *pair) for pair in PAIRS]
        np.testing.assert_allclose(nats / counts, wanted, atol=1e-4)


def test_pairs_are_learned_and_scored_as_there(translator: tuple[Path, Any, Any, Path], tmp_path: Path) -> None:
    """By training's rows, by those of finetune, and by the score of a continuation: one layout, one loss."""
    theirs, module, there, ours = translator
    model = hub.load(ours)
    documents = [Document(str(at), "\t".join(pair)) for at, pair in enumerate(PAIRS)]
    file = tokenized(documents, model.tokenizer, tmp_path / "tokens", pairs=True)
    for at, (source, target) in enumerate(PAIRS):
        line = [*there(source).input_ids, *there(text_target=target).input_ids]
        assert file.document(at).tolist() == line
    bins = Bins(file, 64, model.tokenizer)
    whole = bins.rows(np.arange(bins.count), np.zeros(bins.count))
    nats = sum(model.eval().examined(whole)[0])
    total = sum(loss_there(module, there, *pair) * len(there(text_target=pair[1]).input_ids) for pair in PAIRS)
    assert nats == pytest.approx(total, abs=1e-3)

    tuned = Targets(hub.load(theirs), dropout=0.0)  # still denoise: it goes on as seq2seq
    assert tuned.model.objective.family == "seq2seq" and not tuned.added
    sides = [model.tokenizer.encode_many(side) for side in zip(*PAIRS, strict=True)]
    lines = targets_laid(*sides, tuned.model.tokenizer, Room.within(64, 30, False))
    assert [line.tolist() for line in lines] == [file.document(at).tolist() for at in range(len(PAIRS))]
    same_losses(tuned.model, module, there, [rows_of_pairs(lines, tuned.model)])
    found = Scorer.of(model).score(PAIRS, "continuation", greedy=True)
    counts = [len(there(text_target=target).input_ids) for _, target in PAIRS]
    wanted = [loss_there(module, there, *pair) for pair in PAIRS]
    np.testing.assert_allclose(-found.logp / counts, wanted, atol=1e-4)
    assert found.greedy[:2].all()


def test_the_loss_of_training_is_that_of_there(translator: tuple[Path, Any, Any, Path]) -> None:
    theirs, module, there, _ = translator
    model, added = continued(hub.load(theirs), "seq2seq", {"smoothing": 0.0})
    assert not added
    sides = [model.tokenizer.encode_many(side) for side in zip(*PAIRS, strict=True)]
    for line, pair in zip(targets_laid(*sides, model.tokenizer, Room.within(64, 30, False)), PAIRS, strict=True):
        tuned = Targets(hub.load(theirs), dropout=0.0)
        tuned.model = Model(model.objective, tuned.model.stack, tuned.model.head, model.tokenizer)
        loss = tuned.eval().loss(rows_of_pairs([line], model)).detach()
        assert float(loss) == pytest.approx(loss_there(module, there, *pair), abs=1e-4)


def test_training_goes_on_from_it(translator: tuple[Path, Any, Any, Path], tmp_path: Path) -> None:
    theirs, _, _, ours = translator
    corpus = tmp_path / "pairs.tsv"
    pairs = [(f"{source} {number}", target) for number in range(8) for source, target in PAIRS]
    corpus.write_text("".join(f"{source}\t{target}\n" for source, target in pairs), encoding="utf-8")
    options: dict[str, Any] = {
        "budget": "3steps", "context": 64, "batch": 2, "validations": 1, "threads": 1, "device": "cpu",
        "dtype": "float32", "compile": "off",
    }  # fmt: skip
    weights = []
    for number, start in enumerate((theirs, ours)):
        result = sl.train("seq2seq", str(corpus), start=start, out=tmp_path / str(number), **options)
        assert result is not None
        model = hub.load(tmp_path / str(number))
        assert model.objective.begins_with == hub.load(ours).objective.begins_with
        assert model.tokenizer.frames and model.tokenizer.opens == hub.load(ours).tokenizer.opens
        weights.append((tmp_path / str(number) / "model" / "model.safetensors").read_bytes())
    assert weights[0] == weights[1]


def test_finetune_goes_on_with_targets(translator: tuple[Path, Any, Any, Path], tmp_path: Path) -> None:
    """A model that is still denoise learns pairs, and the new folder reads and writes as transformers does."""
    theirs, module, there, _ = translator
    for side, count in (("train", 24), ("dev", 3), ("test", 3)):
        lines = [json.dumps({"source": one, "target": two}) + "\n" for one, two in (PAIRS * 8)[:count]]
        (tmp_path / f"{side}.jsonl").write_text("".join(lines), encoding="utf-8")
    how: dict[str, Any] = {"threads": 1, "device": "cpu"}
    sl.finetune(theirs, tmp_path, epochs=1, seeds=1, rate=1e-4, dropout=0.0, out=tmp_path / "tuned", **how)
    model = hub.load(tmp_path / "tuned")
    again = type(module).from_pretrained(hub.located(tmp_path / "tuned"))
    again.marks = np.flatnonzero(model.tokenizer.special_ids[: model.tokenizer.size]).tolist()
    texts = sl.translate(tmp_path / "tuned", [source for source, _ in PAIRS], beams=1, length=WRITTEN).texts
    for (source, _), text in zip(PAIRS, texts, strict=True):
        wanted = written_there(again, there(source).input_ids, WRITTEN + len(model.tokenizer.opens))
        assert text == there.decode(wanted, skip_special_tokens=True)


def test_a_t5_without_sentinels_is_one_of_pairs(transformers: ModuleType, tmp_path: Path) -> None:
    """mT5's are ordinary pieces of its table."""
    torch.manual_seed(2)
    module = t5(transformers, tmp_path / "theirs")
    layout = json.loads((tmp_path / "theirs" / "tokenizer.json").read_text())
    layout["added_tokens"] = [one for one in layout["added_tokens"] if "extra_id" not in one["content"]]
    (tmp_path / "theirs" / "tokenizer.json").write_text(json.dumps(layout))
    module.save_pretrained(tmp_path / "theirs")
    model = hub.load(tmp_path / "theirs")
    assert model.objective.family == "seq2seq" and model.tokenizer.bos is None
    assert model.objective.begins_with == model.tokenizer.pad


@pytest.mark.parametrize(("kind", "count"), [("gpt2", 0), ("llama", 1)])
def test_items_are_read_in_the_marks_of_the_template(
    kind: str, count: int, transformers: ModuleType, tmp_path: Path
) -> None:
    """As embed reads them: GPT-2's items have no marks, LLaMA's begin with bos."""
    globals()[kind](transformers, tmp_path / kind).save_pretrained(tmp_path / kind)
    tokenizer = hub.load(tmp_path / kind).tokenizer
    items = [Example("1", "", text=TEXT), Example("2", "", words=tuple(TEXT.split()))]
    (text, _), _ = texts_laid(items, tokenizer, 64, -1)
    words = words_laid(items[1:], tokenizer, 64)[0]
    bare = tokenizer.encode(TEXT).tolist()
    assert len(bare) + count == len(text.ids) and text.ids.tolist()[count:] == bare == words.ids.tolist()[count:]
    assert words.first[0] == count and words.last[-1] == len(words.ids)
