"""Models that others trained: equal answers, whatever the tokenizer; and what cannot be taken in is told in a line."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer as Engine
from tokenizers import decoders, models, normalizers, pre_tokenizers, trainers

import sightline as sl
from sightline import hub
from sightline.cli import main
from sightline.data import Rows
from sightline.errors import SightlineError

TEXT = "The cat sat on the mat, and who sees whom?"
TEXTS = [TEXT, "Two roads met under the elm; 的确.", "It's 1234 apples, isn't it: a naïve count."] * 12
ASKED = "The cat saw the elm, and it's naïve."


def byte_level(marks: list[str]) -> Engine:
    engine = Engine(models.BPE())
    engine.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    engine.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    engine.train_from_iterator(
        TEXTS, trainers.BpeTrainer(vocab_size=330, special_tokens=marks, initial_alphabet=alphabet, show_progress=False)
    )
    return engine


def wordpiece() -> Engine:
    engine = Engine(models.WordPiece(unk_token="[UNK]"))
    engine.normalizer = normalizers.BertNormalizer(lowercase=True)
    engine.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    marks = ["[PAD]", "[unused0]", "[unused1]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    engine.train_from_iterator(
        TEXTS, trainers.WordPieceTrainer(vocab_size=160, special_tokens=marks, show_progress=False)
    )
    return engine


def pieces(folder: Path, kind: str, name: str, **marks: int) -> int:
    """A model of sentencepiece in a folder; how many pieces it has."""
    sentencepiece = pytest.importorskip("sentencepiece")
    corpus = folder / "corpus.txt"
    corpus.write_text("\n".join(TEXTS), encoding="utf-8")
    sentencepiece.SentencePieceTrainer.train(
        input=str(corpus), model_prefix=str(folder / "made"), vocab_size=340, model_type=kind, byte_fallback=True,
        minloglevel=2, hard_vocab_limit=False, normalization_rule_name="identity", remove_extra_whitespaces=False,
        **marks,
    )  # fmt: skip
    (folder / "made.model").rename(folder / name)
    (folder / "made.vocab").unlink()
    corpus.unlink()
    return int(sentencepiece.SentencePieceProcessor(model_file=str(folder / name)).get_piece_size())


def gpt2(t: ModuleType, folder: Path, rows: int) -> None:
    settings = {"n_positions": 64, "n_embd": 32, "n_layer": 2, "n_head": 4, "bos_token_id": 0, "eos_token_id": 0}
    t.GPT2LMHeadModel(t.GPT2Config(vocab_size=rows, **settings)).save_pretrained(folder)


def llama(t: ModuleType, folder: Path, rows: int, **marks: Any) -> None:
    settings = {"hidden_size": 32, "intermediate_size": 56, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = t.LlamaConfig(vocab_size=rows, max_position_embeddings=64, **settings, **marks)
    t.LlamaForCausalLM(config).save_pretrained(folder)


def bert(t: ModuleType, folder: Path, rows: int) -> None:
    settings = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
    t.BertForMaskedLM(t.BertConfig(vocab_size=rows, max_position_embeddings=64, **settings)).save_pretrained(folder)


@pytest.fixture(scope="module")
def folders(transformers: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """What people bring: a folder for each kind of tokenizer and each way to keep one."""
    t, root = transformers, tmp_path_factory.mktemp("theirs")
    torch.manual_seed(0)
    made = {name: root / name for name in ("gpt2", "merges", "chat", "bert", "words", "sentencepiece", "t5")}
    for folder in made.values():
        folder.mkdir()
    end = "<|endoftext|>"
    engine = byte_level([end])
    kept = t.PreTrainedTokenizerFast(tokenizer_object=engine, bos_token=end, eos_token=end, pad_token=end)
    kept.save_pretrained(made["gpt2"])
    gpt2(t, made["gpt2"], engine.get_vocab_size())
    engine.model.save(str(made["merges"]))
    gpt2(t, made["merges"], engine.get_vocab_size())
    chat = byte_level(["<|begin|>", "<|im_end|>", "<|reserved_special_token_0|>"])
    kept = t.PreTrainedTokenizerFast(tokenizer_object=chat, eos_token="<|im_end|>", pad_token="<|im_end|>")
    kept.chat_template = "{{ messages }}"
    kept.save_pretrained(made["chat"])
    (made["chat"] / "LICENSE.txt").write_text("Do as you like.\n", encoding="utf-8")
    llama(t, made["chat"], chat.get_vocab_size() + 7, bos_token_id=0, eos_token_id=[1, 0])
    words = wordpiece()
    names = {f"{name}_token": f"[{name.upper()}]" for name in ("pad", "unk", "cls", "sep", "mask")}
    t.PreTrainedTokenizerFast(tokenizer_object=words, **names).save_pretrained(made["bert"])
    bert(t, made["bert"], words.get_vocab_size())
    ids = words.get_vocab()
    (made["words"] / "vocab.txt").write_text("".join(f"{word}\n" for word in sorted(ids, key=ids.__getitem__)), "utf-8")
    bert(t, made["words"], words.get_vocab_size())
    count = pieces(made["sentencepiece"], "bpe", "tokenizer.model")
    settings = {"tokenizer_class": "LlamaTokenizer", "bos_token": "<s>", "eos_token": "</s>", "legacy": False}
    (made["sentencepiece"] / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")
    llama(t, made["sentencepiece"], count, bos_token_id=1, eos_token_id=2)
    pieces(made["t5"], "unigram", "spiece.model", pad_id=0, eos_id=1, unk_id=2, bos_id=-1)
    (made["t5"] / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "T5Tokenizer"}), "utf-8")
    sizes = {"d_model": 32, "d_kv": 8, "d_ff": 48, "num_layers": 2, "num_heads": 4, "decoder_start_token_id": 0}
    t.T5ForConditionalGeneration(t.T5Config(vocab_size=512, **sizes)).save_pretrained(made["t5"])
    return made


def test_a_text_that_goes_on_begins_with_no_space_of_its_own(folders: dict[str, Path]) -> None:
    for name in ("sentencepiece", "t5"):
        tokenizer = hub.load(folders[name]).tokenizer
        assert tokenizer.pieces[tokenizer.encode("cat")[0]].startswith(b" ")
        assert b"".join(tokenizer.pieces[id] for id in tokenizer.encode_on("cat sat")) == b"cat sat"
        assert b"".join(tokenizer.pieces[id] for id in tokenizer.encode_on(" sat")) == b" sat"


@pytest.mark.parametrize("name", ["gpt2", "chat", "bert", "words", "sentencepiece", "t5"])
def test_tokens_tell_their_characters(folders: dict[str, Path], name: str) -> None:
    text = "On the mat, 的确 naïve:  The CAT!"
    ids, first, last = hub.load(folders[name]).tokenizer.stretches(text)
    assert ids.tolist() == hub.load(folders[name]).tokenizer.encode(text).tolist()
    for word in ("On", "mat", "的确", "naïve", "CAT"):
        start = text.index(word)
        begin, end = last.searchsorted(start, side="right"), first.searchsorted(start + len(word))
        assert text[first[begin] : last[end - 1]].strip() == word


NAMES = ("gpt2", "merges", "chat", "bert", "words", "sentencepiece", "t5")
FAMILY = {"bert": "masked", "words": "masked", "t5": "denoise"}


@pytest.mark.parametrize("name", NAMES)
def test_it_cuts_and_answers_as_theirs(
    folders: dict[str, Path], transformers: ModuleType, tmp_path: Path, name: str
) -> None:
    before = {path: path.read_bytes() for path in folders[name].iterdir()}
    adopted = sl.adopt(str(folders[name]), out=tmp_path / "ours")
    assert before == {path: path.read_bytes() for path in folders[name].iterdir()}
    assert adopted.changed == ()
    assert adopted.family == FAMILY.get(name, "causal")
    assert f"transformers loads it as {adopted.architecture}" in str(adopted)
    kept = transformers.AutoTokenizer.from_pretrained(folders[name])
    for folder in (folders[name], tmp_path / "ours"):
        model = hub.load(folder)
        assert model.objective.family == adopted.family
        ids = model.tokenizer.encode(ASKED).astype(np.int64)
        assert ids.tolist() == kept(ASKED, add_special_tokens=False)["input_ids"]
        whole = [*model.tokenizer.before(), *ids.tolist(), *model.tokenizer.behind]
        assert whole == kept(ASKED)["input_ids"]
        if name == "t5":
            continue  # two stacks: tests/parity/test_t5_bart.py holds their answers
        rows = Rows.of([ids.astype(np.int32)], model.tokenizer)
        theirs = getattr(transformers, adopted.architecture).from_pretrained(folder)
        with torch.no_grad():
            here = model.eval().head.logits(model.states(model.objective.read(rows), rows.tokens))[0]  # type: ignore[operator]
            there = theirs.eval()(input_ids=torch.from_numpy(ids)[None]).logits[0]
        may = np.setdiff1d(np.arange(there.shape[1]), model.objective.vocabulary.unpredictable)
        torch.testing.assert_close(here[:, may], there[:, may], atol=1e-4, rtol=0)


def test_marks_are_those_that_the_folder_names(folders: dict[str, Path], tmp_path: Path) -> None:
    """By the tokenizer's own files, then config.json; padding that is the end too would never let a text end."""
    gpt2, chat, bert, llama, t5 = (
        hub.load(folders[name]).tokenizer for name in ("gpt2", "chat", "bert", "sentencepiece", "t5")
    )
    assert (gpt2.pad, gpt2.bos, gpt2.eos, gpt2.mask) == (None, 0, 0, None)
    assert (chat.pad, chat.bos, chat.eos) == (None, 0, 1)
    assert (bert.pad, bert.cls, bert.sep, bert.mask) == (0, 4, 5, 6)
    assert (llama.bos, llama.eos) == (1, 2)
    assert (t5.pad, t5.eos) == (0, 1)
    assert chat.special_ids[[0, 1, 2]].all()


@pytest.mark.parametrize("name", NAMES)
def test_every_verb_takes_it(folders: dict[str, Path], tmp_path: Path, name: str) -> None:
    folder = sl.adopt(str(folders[name]), out=tmp_path / "ours").model
    seen = sl.see(folder, text=ASKED)
    assert not seen.leaks
    assert sl.generate(folder, ["The cat"], length=4).texts[0].text.startswith("The cat")
    filled = sl.fill(folder, ["The cat ___ on the ___."]).texts[0].text
    assert filled.startswith("The cat ") and " on the " in filled and filled.endswith(".") and "  " not in filled[8:]
    assert sl.embed(folder, [ASKED], out=tmp_path / "vectors.npy").width == 32
    if name in ("bert", "words"):  # lower case, no spaces: what it scores is not the text
        with pytest.raises(SightlineError, match="does not give the text back byte for byte"):
            sl.score(folder, [ASKED])
    elif name != "t5":
        assert sl.score(folder, [ASKED]).documents[0].bytes == len(ASKED.encode())
    if name == "sentencepiece":  # which takes the first space of a text for its own
        with pytest.raises(SightlineError, match="does not give the text back byte for byte"):
            sl.score(folder, [f" {ASKED}"])


@pytest.mark.parametrize("family", ["masked", "prefix", "hybrid", "diffusion", "block_diffusion", "backward"])
def test_its_sight_is_changed_and_measured(folders: dict[str, Path], tmp_path: Path, family: str) -> None:
    adopted = sl.adopt(str(folders["gpt2"]), family=family, out=tmp_path / "other")
    assert (adopted.was, adopted.family) == ("causal", family)
    assert f"asked as {family}, which it was not trained to answer yet" in str(adopted)
    if family in ("masked", "diffusion"):
        assert "<mask> added, tables grown from" in str(adopted)
    assert f"train {family}" in adopted.next
    seen = sl.see(adopted.model, text="The cat sat on it.")
    assert not seen.leaks
    np.testing.assert_array_equal(seen.measured_matrix, seen.declared_matrix)
    if family in ("masked", "diffusion"):
        assert seen.measured_matrix.all()
    if family == "backward":
        assert not np.tril(seen.measured_matrix, -1).any()


def test_training_goes_on_in_another_family(folders: dict[str, Path], tmp_path: Path) -> None:
    """From the foreign folder itself, and from what was made of it: the same weights to begin with, the same run."""
    corpus = tmp_path / "corpus.txt"
    corpus.write_text("\n\n".join(TEXTS), encoding="utf-8")
    options: dict[str, Any] = {
        "budget": "3steps", "context": 32, "batch": 4, "validations": 1, "threads": 1, "device": "cpu",
        "dtype": "float32", "compile": "off", "documents": "blank",
    }  # fmt: skip
    sl.adopt(str(folders["chat"]), family="masked", out=tmp_path / "masked")
    runs = [tmp_path / "direct", tmp_path / "adopted"]
    for run, start in zip(runs, (folders["chat"], tmp_path / "masked"), strict=True):
        result = sl.train("masked", str(corpus), start=start, out=run, **options)
        assert result is not None and result.record["family"] == "masked"
    weights = [(run / "model" / "model.safetensors").read_bytes() for run in runs]
    assert weights[0] == weights[1]
    assert hub.load(runs[0]).tokenizer.mask == 2  # which was held in reserve


def test_two_stacks_go_on_as_two(folders: dict[str, Path], tmp_path: Path) -> None:
    adopted = sl.adopt(str(folders["t5"]), family="seq2seq", out=tmp_path / "t5")
    assert "added" not in str(adopted)
    assert "eos </s>, sep </s>" in str(adopted) and "no bos" in str(adopted)
    assert len(sl.translate(adopted.model, [ASKED], length=4).texts) == 1


def test_settings_of_the_family_are_kept(folders: dict[str, Path], tmp_path: Path) -> None:
    words = ["adopt", str(folders["bert"]), "--as", "masked", "--setting", "rate=0.3", "--out", str(tmp_path / "bert")]
    assert main(words) == 0
    assert hub.load(tmp_path / "bert").objective.rate == 0.3  # type: ignore[attr-defined]


def test_licence_and_chat_template_go_along(folders: dict[str, Path], tmp_path: Path) -> None:
    ours = sl.adopt(str(folders["chat"]), out=tmp_path / "ours").model
    assert (ours / "LICENSE.txt").read_text(encoding="utf-8") == "Do as you like.\n"
    assert (ours / "chat_template.jinja").read_text(encoding="utf-8") == "{{ messages }}"


def test_what_is_there_is_not_written_over(
    folders: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["adopt", str(folders["gpt2"]), "--out", str(tmp_path / "ours"), "--json", str(tmp_path / "found.json")]
    assert main(words) == 0
    first = {path.name: path.read_bytes() for path in (tmp_path / "ours").iterdir()}
    assert json.loads((tmp_path / "found.json").read_text(encoding="utf-8"))["loads_as"] == "GPT2LMHeadModel"
    assert main(words) == 0  # the same again
    assert first == {path.name: path.read_bytes() for path in (tmp_path / "ours").iterdir()}
    capsys.readouterr()
    assert main([*words, "--as", "masked"]) == 2
    assert "holds something else" in capsys.readouterr().err
    assert first == {path.name: path.read_bytes() for path in (tmp_path / "ours").iterdir()}


def edited(name: str, **changed: Any) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        path = folder / name
        path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | changed), encoding="utf-8")

    return change


def without(*names: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        for name in names:
            (folder / name).unlink()

    return change


def pickled(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def one_token_too_many(folder: Path) -> None:
    path = folder / "tokenizer.json"
    layout = json.loads(path.read_text(encoding="utf-8"))
    mark = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    layout["added_tokens"].append({"id": len(layout["model"]["vocab"]), "content": "<more>", **mark})
    path.write_text(json.dumps(layout), encoding="utf-8")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (without("config.json"), "holds no model (no config.json"),
        (edited("config.json", model_type="mamba"), "model_type = 'mamba', an architecture that Sightline's own stack"),
        (edited("config.json", model_type="mamba"), "It knows gpt2, llama, "),
        (edited("config.json", n_embd=48), "but config.json makes it"),
        (edited("config.json", n_layer=3), "lacks transformer.h.2.ln_1.weight"),
        (pickled, "holds pickled weights (pytorch_model.bin), which can run any code"),
        (without("model.safetensors"), "holds no weights (no model.safetensors)"),
        (without("tokenizer.json"), "has no tokenizer.json, nor files of which one is made"),
        (one_token_too_many, "ids, but the model has"),
    ],
    ids=["config", "unknown", "known", "wider", "deeper", "pickled", "weights", "tokenizer", "ids"],
)
def test_a_folder_that_cannot_be_adopted(
    folders: dict[str, Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    change: Callable[[Path], None],
    says: str,
) -> None:
    folder = tmp_path / "theirs"
    shutil.copytree(folders["gpt2"], folder)
    change(folder)
    assert main(["adopt", str(folder), "--out", str(tmp_path / "ours")]) == 2
    told = capsys.readouterr().err.strip()
    assert says in told and "\n" not in told
    assert not (tmp_path / "ours").exists()


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--as", "seq2seq"], "one stack is not two"),
        (["--as", "permuted"], "for which this stack has no vector"),
        (["--as", "nothing"], "there is no family 'nothing'"),
        (["--as", "masked", "--setting", "rates=1"], "is not a setting of masked"),
        (["--setting", "rate=0.3"], "of which family"),
        (["--revision", "main"], "has no revisions"),
    ],
    ids=["two", "blank", "family", "setting", "alone", "revision"],
)
def test_what_cannot_be_asked(
    folders: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], says: str
) -> None:
    assert main(["adopt", str(folders["gpt2"]), "--out", str(tmp_path / "ours"), *words]) == 2
    told = capsys.readouterr().err.strip()
    assert says in told and "\n" not in told
    assert not (tmp_path / "ours").exists()


def test_a_name_on_the_hub_is_fetched(
    folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, peer: Callable[[str], ModuleType]
) -> None:
    library = peer("huggingface_hub")
    asked: dict[str, Any] = {}

    def download(name: str, **how: Any) -> str:
        asked.update(how, name=name)
        return str(folders["gpt2"])

    monkeypatch.setattr(library, "snapshot_download", download)
    monkeypatch.chdir(tmp_path)
    adopted = sl.adopt("makers/small-gpt2", revision="v1")
    assert adopted.model == Path("runs/small-gpt2")
    assert (asked["name"], asked["revision"]) == ("makers/small-gpt2", "v1")
    assert "*.safetensors" in asked["allow_patterns"]
    assert not any(pattern.endswith((".bin", ".py", ".pt")) for pattern in asked["allow_patterns"])
    assert hub.noted(adopted.model)["recipe"]["source"] == "makers/small-gpt2"


def test_without_a_network_it_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], peer: Callable[[str], Any]
) -> None:
    """The library itself, told to stay off the network as all tests are."""
    peer("huggingface_hub")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "cache"))
    assert main(["adopt", "makers/no-such-model"]) == 2
    told = capsys.readouterr().err.strip()
    assert "the Hugging Face hub cannot be reached" in told and "copy the model's folder here" in told
    (tmp_path / "models").mkdir()
    assert main(["adopt", "models/mistyped"]) == 2
    assert "models/mistyped does not exist. Check the path." in capsys.readouterr().err


@pytest.mark.parametrize(
    ("fails", "says"),
    [
        (OSError("Cannot reach\nthe host"), "makers/small-gpt2 does not exist here, and the Hugging Face hub does not"),
        (None, "makers/small-gpt2 offers no safetensors"),
    ],
    ids=["network", "pickles"],
)
def test_a_name_that_is_not_to_be_had(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    peer: Callable[[str], ModuleType],
    fails: Exception | None,
    says: str,
) -> None:
    def download(name: str, **how: Any) -> str:
        if fails is not None:
            raise fails
        return str(tmp_path)

    monkeypatch.setattr(peer("huggingface_hub"), "snapshot_download", download)
    monkeypatch.chdir(tmp_path)
    assert main(["adopt", "makers/small-gpt2", "--out", str(tmp_path / "ours")]) == 2
    told = capsys.readouterr().err.strip()
    assert says in told and "\n" not in told
    assert "copy the model's folder here" in told or "convert them once" in told
