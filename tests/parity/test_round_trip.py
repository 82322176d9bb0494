"""Every architecture there and back: transformers to Sightline to transformers, logits and greedy texts the same."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from sightline.data import Draws, Rows, Tokenizer, train_tokenizer
from sightline.decoders.canvas import Canvas
from sightline.decoders.loop import write
from sightline.decoders.policy import NextPlace
from sightline.errors import SightlineError
from sightline.hub import ARCHITECTURES, load, save
from sightline.hub.form import Settings
from sightline.objectives import Denoise, Seq2Seq
from sightline.objectives.model import Model
from sightline.sight import NO_DOCUMENT
from sightline.stacks.two import Two, sides

TOLERANCE = 1e-4
TEXTS = ("Two roads met under the elm; 的确.", "A cat sat on the mat and saw the moon. It was late.", "Rain.")
WRITTEN = 16
SIZES = {
    "hidden_size": 32,
    "intermediate_size": 56,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "max_position_embeddings": 96,
}
SHARED = SIZES | {"num_key_value_heads": 2}


@dataclass(frozen=True)
class Case:
    """A class of transformers, and settings of a small random model of it.

    Parameters
    ----------
    auto : the Auto class that opens it. begins : the mark that its targets begin with. seed : of its weights.
    lively : how much larger matrices are than as drawn, so that answers hang on what is shown, not on biases.
    """

    name: str
    auto: str
    settings: dict[str, Any] = field(default_factory=dict)
    begins: str = ""
    lively: float = 1.0
    seed: int = 0

    def made(self, transformers: ModuleType, tokenizer: Tokenizer) -> Any:
        """The model, every weight drawn anew, biases and gains too: a forgotten one must not pass by a fresh 0 or 1."""
        kind = getattr(transformers, self.name)
        marks: dict[str, Any] = {f"{mark}_token_id": getattr(tokenizer, mark) for mark in ("pad", "bos", "eos")}
        if self.begins:
            marks |= {"decoder_start_token_id": marks[f"{self.begins}_token_id"], "forced_eos_token_id": None}
        torch.manual_seed(self.seed)
        module = kind(kind.config_class(vocab_size=tokenizer.padded, **marks | self.settings)).eval()
        with torch.no_grad():
            for weight in module.parameters():
                if not weight.requires_grad:
                    continue
                matrix = weight.dim() > 1
                weight.add_(0.2 * torch.randn_like(weight) * (1 if matrix else 1 / self.lively))
                if matrix and weight is not module.get_input_embeddings().weight:
                    weight.mul_(self.lively)
            for name in ("cls.predictions", "lm_head"):  # untied, they have a bias more, which is never added
                if hasattr(module, name.partition(".")[0]) and hasattr(head := module.get_submodule(name), "decoder"):
                    head.bias.copy_(head.decoder.bias)
            if hasattr(module, "final_logits_bias"):
                module.final_logits_bias.copy_(0.2 * torch.randn_like(module.final_logits_bias))
        return module


CAUSAL, MASKED, PAIRS, JUDGE = (f"AutoModelFor{what}" for what in ("CausalLM", "MaskedLM", "Seq2SeqLM", "PreTraining"))
GPT2 = {"n_positions": 96, "n_embd": 32, "n_layer": 3, "n_head": 4}
T5 = {"d_model": 32, "d_kv": 8, "d_ff": 48, "num_layers": 2, "num_decoder_layers": 3, "num_heads": 4}
BART = {
    "d_model": 32,
    "encoder_layers": 2,
    "decoder_layers": 3,
    **{f"{side}_attention_heads": 4 for side in ("encoder", "decoder")},
    **{f"{side}_ffn_dim": 48 for side in ("encoder", "decoder")},
    "max_position_embeddings": 96,
}
MODERN = SIZES | {"local_attention": 6, "cls_token_id": 1, "sep_token_id": 2}
BIASED = {f"{part}_bias": True for part in ("attention", "mlp", "norm", "classifier")} | {"decoder_bias": False}
WINDOW = {"sliding_window": 5}
TURNS = ["sliding_attention", "full_attention", "sliding_attention"]
OPUS = {"scale_embedding": True, "activation_function": "swish"}
PLAIN = {"rope_type": "default", "rope_theta": 500.0}
LLAMA3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
LLAMA3 |= {"original_max_position_embeddings": 32}
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 24}
DEEP = {"mscale": 1.0, "mscale_all_dim": 0.7}
CASES = [
    Case("GPT2LMHeadModel", CAUSAL, GPT2),
    Case("GPT2LMHeadModel", CAUSAL, GPT2 | {"tie_word_embeddings": False}),
    Case("LlamaForCausalLM", CAUSAL, SHARED),
    Case("LlamaForCausalLM", CAUSAL, SHARED | {"attention_bias": True, "mlp_bias": True, "tie_word_embeddings": True}),
    Case("LlamaForCausalLM", CAUSAL, SHARED | {"rope_parameters": PLAIN | {"rope_type": "linear", "factor": 3.0}}),
    Case("LlamaForCausalLM", CAUSAL, SHARED | {"rope_parameters": PLAIN | LLAMA3}),
    Case("LlamaForCausalLM", CAUSAL, SHARED | {"rope_parameters": PLAIN | YARN}),
    Case("MistralForCausalLM", CAUSAL, SHARED | {"sliding_window": 5}),
    Case("MistralForCausalLM", CAUSAL, SHARED | {"sliding_window": 2, "head_dim": 12, "rope_parameters": PLAIN}),
    Case("MistralForCausalLM", CAUSAL, SHARED | {"sliding_window": None}),
    Case("MixtralForCausalLM", CAUSAL, SHARED | {"num_local_experts": 4}),
    Case("MixtralForCausalLM", CAUSAL, SHARED | {"num_local_experts": 3, "num_experts_per_tok": 1} | WINDOW),
    Case("Qwen2ForCausalLM", CAUSAL, SHARED | {"tie_word_embeddings": True}),
    Case("Qwen2ForCausalLM", CAUSAL, SHARED | {"rope_parameters": PLAIN, "hidden_act": "gelu"}),
    Case("Qwen2ForCausalLM", CAUSAL, SHARED | {"rope_parameters": PLAIN | YARN | DEEP}),
    Case("Qwen2ForCausalLM", CAUSAL, SHARED | WINDOW | {"use_sliding_window": True, "max_window_layers": 1}),
    Case("Qwen3ForCausalLM", CAUSAL, SHARED | {"head_dim": 12}),
    Case("Qwen3ForCausalLM", CAUSAL, SHARED | WINDOW | {"use_sliding_window": True, "layer_types": TURNS}),
    Case("Qwen3ForCausalLM", CAUSAL, SHARED | {"head_dim": 24, "rope_parameters": PLAIN | YARN | {"beta_fast": 4.0}}),
    Case("Qwen3ForCausalLM", CAUSAL, SHARED | {"head_dim": 8, "attention_bias": True, "tie_word_embeddings": True}),
    Case("BertForMaskedLM", MASKED, SIZES),
    Case("BertForMaskedLM", MASKED, SIZES | {"tie_word_embeddings": False}),
    Case("RobertaForMaskedLM", MASKED, SIZES | {"type_vocab_size": 1}),
    Case("RobertaForMaskedLM", MASKED, SIZES | {"hidden_act": "relu", "pad_token_id": 0}),
    Case("RobertaForMaskedLM", MASKED, SIZES | {"hidden_act": "relu", "tie_word_embeddings": False}),
    Case("ModernBertForMaskedLM", MASKED, MODERN),
    Case("ModernBertForMaskedLM", MASKED, MODERN | {"global_attn_every_n_layers": 2, **BIASED}),
    Case("ElectraForPreTraining", JUDGE, SIZES | {"embedding_size": 24}),
    Case("ElectraForMaskedLM", MASKED, SIZES | {"embedding_size": 24}),
    Case("T5ForConditionalGeneration", PAIRS, T5, begins="pad", lively=3.0),
    Case(
        "T5ForConditionalGeneration", PAIRS, T5 | {"feed_forward_proj": "gated-gelu"}, begins="pad", lively=3.0
    ),
    Case("MT5ForConditionalGeneration", PAIRS, T5, begins="pad", lively=1.5),
    Case("BartForConditionalGeneration", PAIRS, BART, begins="eos", lively=2.0, seed=3),
    Case("MarianMTModel", PAIRS, BART | {"encoder_layers": 4, "decoder_layers": 1}, begins="pad", lively=1.5),
    Case("MarianMTModel", PAIRS, BART | OPUS, begins="pad", lively=1.5, seed=4),
]  # fmt: skip
NAMES = [f"{case.name}-{number}" for number, case in enumerate(CASES)]


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return train_tokenizer(TEXTS, "byte")


@pytest.fixture(scope="module")
def transformers(peer: Callable[[str], ModuleType]) -> Iterator[ModuleType]:
    module = peer("transformers")
    module.utils.logging.disable_progress_bar()
    module.utils.logging.enable_propagation()  # so that what it warns of is seen here
    yield module
    module.utils.logging.disable_propagation()


@dataclass(frozen=True)
class Question:
    """What both are shown: rows, and for two stacks what source and target show of them."""

    rows: Rows
    real: np.ndarray
    shown: dict[str, torch.Tensor]


def question(model: Model, objective: Any) -> Question:
    """Texts of different lengths; a target hangs on how the family reads pairs."""
    tokenizer = model.tokenizer
    ids = [[tokenizer.bos, *tokenizer.encode(text), tokenizer.eos] for text in TEXTS]
    if model.objective.reads == "pairs":
        ids = [[*line[:-1], tokenizer.sep, *line[1:]] for line in ids]
    rows = Rows.of([np.asarray(line, dtype=np.int32) for line in ids], tokenizer)
    parts = {"": model.objective.read(rows)}
    if isinstance(model.stack, Two):
        (view,) = objective.ask(rows, Draws(0).of(rows), 0.0)
        parts = dict(zip(("", "decoder_"), sides(view), strict=True))
    shown = {}
    for prefix, part in parts.items():
        real = part.slots.document != NO_DOCUMENT
        ids_shown = np.where(real, part.shown(rows.tokens), tokenizer.pad)
        shown[f"{prefix}input_ids"] = torch.from_numpy(ids_shown)
        shown[f"{prefix}attention_mask"] = torch.from_numpy(real.astype(np.int64))
    return Question(rows, real, shown)


def ours(model: Model, asked: Question) -> np.ndarray:
    """Logits of every real slot (of the target)."""
    objective = model.objective
    view = objective.read(asked.rows)
    skipped = 0
    if isinstance(model.stack, Two):
        (view,) = objective.ask(asked.rows, Draws(0).of(asked.rows), 0.0)
        skipped = sides(view)[0].slots.count
    with torch.no_grad():
        states = model.eval().states(view, asked.rows.tokens)[:, skipped:]
        return model.head.logits(states).numpy()[asked.real]


def theirs(module: Any, asked: Question) -> np.ndarray:
    with torch.no_grad():
        return module.eval()(**asked.shown).logits.numpy()[asked.real]


def assert_same(here: np.ndarray, there: np.ndarray, barred: np.ndarray) -> None:
    may = slice(None) if here.ndim == 1 else np.setdiff1d(np.arange(here.shape[-1]), barred)
    assert there[..., may].std() > 0.1
    np.testing.assert_allclose(here[..., may], there[..., may], atol=TOLERANCE, rtol=0)


def written_here(model: Model, lines: list[Any], at_least: int) -> list[list[int]]:
    """Greedily, all lines together, states kept."""
    done = write(
        model.objective.fill,
        model.eval().logits,
        Canvas.laid(lines),
        NextPlace(),
        stops=list(model.objective.stops),
        forbidden=model.objective.vocabulary.unpredictable,
        min_length=at_least,
        make_cache=model.cache,
    )
    order = np.argsort(done.owners)
    tokens, mine = done.canvas.tokens, done.canvas.inside & ~done.canvas.given
    return [tokens[line][mine[line]].tolist() for line in order]


def written_there(module: Any, model: Model, lines: list[Any], at_least: int) -> list[list[int]]:
    """Greedily, line by line; no choice may be a matter of rounding."""
    texts = []
    for line in lines:
        canvas = Canvas.laid([line])
        if isinstance(model.stack, Two):
            source, target = (part.shown(canvas.tokens) for part in sides(model.objective.fill(canvas)))
            given = {"input_ids": torch.from_numpy(source), "decoder_input_ids": torch.from_numpy(target)}
            # There the cache has no room for a decoder that is deeper than the encoder.
            given |= {"attention_mask": torch.ones_like(given["input_ids"]), "use_cache": False}
        else:
            given = {"input_ids": torch.from_numpy(np.asarray([line[0]], dtype=np.int64))}
            target = np.asarray([line[0]])
        found = module.eval().generate(
            **given,
            do_sample=False,
            num_beams=1,
            min_new_tokens=at_least,
            max_new_tokens=WRITTEN,
            eos_token_id=list(model.objective.stops),
            suppress_tokens=model.objective.vocabulary.unpredictable.tolist(),
            output_scores=True,
            return_dict_in_generate=True,
        )
        best = torch.stack(found.scores)[:, 0].topk(2).values
        assert (best[:, 0] - best[:, 1]).min() > TOLERANCE
        texts.append(found.sequences[0, target.shape[1] :].tolist())
    return texts


@pytest.mark.parametrize("case", CASES, ids=NAMES)
def test_there_and_back(
    transformers: ModuleType, tokenizer: Tokenizer, tmp_path: Path, caplog: pytest.LogCaptureFixture, case: Case
) -> None:
    first = case.made(transformers, tokenizer)
    first.save_pretrained(tmp_path / "theirs")
    tokenizer.save(tmp_path / "theirs")
    model = load(tmp_path / "theirs")
    asked = question(model, model.objective)
    barred = model.objective.vocabulary.unpredictable
    there = theirs(first, asked)
    assert_same(ours(model, asked), there, barred)

    save(model, tmp_path / "ours")
    with caplog.at_level(logging.WARNING):
        again, told = getattr(transformers, case.auto).from_pretrained(tmp_path / "ours", output_loading_info=True)
    assert not [record.getMessage() for record in caplog.records]
    assert not any(told[keys] for keys in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    wanted = case.name
    assert json.loads((tmp_path / "ours" / "config.json").read_text())["architectures"] == [wanted]
    if case.auto != JUDGE:
        assert type(again).__name__ == wanted
    else:
        again = getattr(transformers, wanted).from_pretrained(tmp_path / "ours")
    back = theirs(again, asked)
    np.testing.assert_allclose(back, there, atol=TOLERANCE, rtol=0)
    assert_same(ours(load(tmp_path / "ours"), asked), back, barred)

    if case.auto in (MASKED, JUDGE):
        return  # nothing is written left to right
    lines: list[Any] = []
    for text in TEXTS:
        ids = tokenizer.encode(text).tolist()
        left, right = [tokenizer.bos, *ids[: len(ids) // 2]], [*ids[len(ids) // 2 :], tokenizer.eos]
        if model.objective.reads == "pairs":
            lines.append([[tokenizer.bos, *ids, tokenizer.sep], WRITTEN])
        else:
            lines.append([left, WRITTEN, right] if case.auto == PAIRS else [[tokenizer.bos, *ids], WRITTEN])
    here = written_here(model, lines, 12)
    assert all(len(text) >= 12 for text in here) and len({id for text in here for id in text}) > 3
    assert here == written_there(first, model, lines, 12) == written_there(again, model, lines, 12)


def test_every_architecture_is_taken() -> None:
    assert {case.name for case in CASES} == set(ARCHITECTURES)


@pytest.mark.parametrize(("name", "family"), [("T5ForConditionalGeneration", "seq2seq"), ("MarianMTModel", "denoise")])
def test_another_question_to_the_same_stack(
    transformers: ModuleType, tokenizer: Tokenizer, tmp_path: Path, name: str, family: str
) -> None:
    """A T5 that translates and a Marian that mends texts compute what transformers does, and come back as they were."""
    case = next(case for case in CASES if case.name == name)
    case.made(transformers, tokenizer).save_pretrained(tmp_path / "theirs")
    tokenizer.save(tmp_path / "theirs")
    first = load(tmp_path / "theirs")
    kind = {"seq2seq": Seq2Seq, "denoise": Denoise}[family]
    model = Model(kind(first.objective.vocabulary, start="pad"), first.stack, first.head, tokenizer)
    save(model, tmp_path / "ours")
    again = transformers.AutoModelForSeq2SeqLM.from_pretrained(tmp_path / "ours")
    asked = question(model, model.objective)
    assert type(again).__name__ == name and load(tmp_path / "ours").objective == model.objective
    assert_same(ours(model, asked), theirs(again, asked), model.objective.vocabulary.unpredictable)


def test_large_weights_are_in_several_files(transformers: ModuleType, tokenizer: Tokenizer, tmp_path: Path) -> None:
    case = next(case for case in CASES if case.name == "Qwen2ForCausalLM")
    first = case.made(transformers, tokenizer)
    first.save_pretrained(tmp_path / "theirs")
    tokenizer.save(tmp_path / "theirs")
    model = load(tmp_path / "theirs")
    save(model, tmp_path / "ours", shard=60_000)
    index = json.loads((tmp_path / "ours" / "model.safetensors.index.json").read_text())
    files = sorted(file.name for file in (tmp_path / "ours").glob("*.safetensors"))
    assert files == sorted(set(index["weight_map"].values())) and len(files) == 3
    assert all((tmp_path / "ours" / file).stat().st_size < 62_000 for file in files)
    assert "lm_head.weight" not in index["weight_map"]  # tied
    assert index["metadata"]["total_size"] == sum(weight.nbytes for weight in first.parameters())
    again, told = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "ours", output_loading_info=True)
    assert not any(told[keys] for keys in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    asked = question(model, model.objective)
    for back in (load(tmp_path / "ours"), load(save(load(tmp_path / "ours"), tmp_path / "ours"))):
        assert (ours(back, asked) == ours(model, asked)).all()
    assert not (tmp_path / "ours" / "model.safetensors.index.json").exists()
    np.testing.assert_array_equal(theirs(again, asked), theirs(first, asked))
    with pytest.raises(SightlineError, match="files of 0 bytes"):
        save(model, tmp_path / "ours", shard=0)


TEMPLATE = "{% for turn in messages %}<s>{{ turn['role'] }}: {{ turn['content'] }}</s>{% endfor %}"


@pytest.mark.parametrize(
    "held", [TEMPLATE, [{"name": "tools", "template": "x"}, {"name": "default", "template": TEMPLATE}]]
)
def test_a_chat_template_is_kept(transformers: ModuleType, tokenizer: Tokenizer, tmp_path: Path, held: Any) -> None:
    CASES[2].made(transformers, tokenizer).save_pretrained(tmp_path / "theirs")
    tokenizer.save(tmp_path / "theirs")
    file = tmp_path / "theirs" / "tokenizer_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"chat_template": held}))
    for name in ("ours", "again"):  # from a setting, then from a file of its own
        model = load(tmp_path / ("theirs" if name == "ours" else "ours"))
        save(model, tmp_path / name)
        assert (tmp_path / name / "chat_template.jinja").read_text() == TEMPLATE
        assert model.tokenizer.fingerprint == tokenizer.fingerprint
    there = transformers.AutoTokenizer.from_pretrained(tmp_path / "again")
    said = there.apply_chat_template([{"role": "user", "content": "Rain."}], tokenize=False)
    assert said == "<s>user: Rain.</s>"
    for mark in ("bos", "eos", "pad", "mask"):
        assert getattr(there, f"{mark}_token_id") == getattr(tokenizer, mark)


@pytest.mark.parametrize(
    ("name", "changed", "wanted"),
    [
        ("MistralForCausalLM", {"sliding_window": ...}, {"windows": (4095,)}),
        ("MistralForCausalLM", {"sliding_window": None, "head_dim": None}, {"windows": ()}),
        ("MistralForCausalLM", {"rope_parameters": ..., "rope_theta": 1e6}, {"rope_base": 1e6}),
        (
            "Qwen2ForCausalLM",  # the window a text is stretched from is the context, if nothing tells
            {"rope_parameters": ..., "rope_theta": 1e6, "rope_scaling": {"type": "yarn", "factor": 4.0}},
            {"rope_base": 1e6, "stretch": (4.0, 96.0, 32.0, 1.0, 0.1 * math.log(4) + 1)},
        ),
        ("LlamaForCausalLM", {"rope_parameters": {"rope_type": "linear", "factor": 2.0}}, {"stretch": (2.0,)}),
        (
            "LlamaForCausalLM",
            {"rope_parameters": YARN | {"attention_factor": 1.5}, "original_max_position_embeddings": 48},
            {"stretch": (4.0, 48.0, 32.0, 1.0, 1.5)},
        ),
        ("MixtralForCausalLM", {"rope_parameters": ..., "sliding_window": ...}, {"rope_base": 1e6, "windows": ()}),
        ("Qwen2ForCausalLM", {"sliding_window": 131072, "max_window_layers": 1, "layer_types": ...}, {"windows": ()}),
        (
            "Qwen2ForCausalLM",
            {"use_sliding_window": True, "sliding_window": 7, "max_window_layers": 2, "layer_types": ...},
            {"windows": (None, None, 6)},
        ),
        (
            "Qwen3ForCausalLM",  # no layer of three stands behind the 28th
            {"use_sliding_window": True, "sliding_window": 7, "max_window_layers": ..., "layer_types": ...},
            {"windows": ()},
        ),
        (
            "Qwen3ForCausalLM",
            {"use_sliding_window": True, "sliding_window": 7, "max_window_layers": 0, "layer_types": ...},
            {"windows": (6, 6, 6)},
        ),
        ("RobertaForMaskedLM", {"pad_token_id": ...}, {"context": 94}),
        (
            "ModernBertForMaskedLM",
            {
                "layer_types": ...,
                "rope_parameters": ...,
                "global_attn_every_n_layers": 2,
                "global_rope_theta": 160000.0,
                "local_rope_theta": 500.0,
            },
            {"windows": (None, 3, None), "rope_base": 160000.0, "window_base": 500.0},
        ),
        ("MarianMTModel", {"normalize_embedding": False, "static_position_embeddings": True}, {"context": 96}),
    ],
)
def test_settings_that_older_files_have_or_leave_away(
    transformers: ModuleType, tokenizer: Tokenizer, name: str, changed: dict[str, Any], wanted: dict[str, Any]
) -> None:
    """As transformers itself fills them in; ``...`` : left away."""
    case = next(case for case in CASES if case.name == name)
    values = case.made(transformers, tokenizer).config.to_dict() | changed
    values = {key: value for key, value in values.items() if value is not ...}
    shape = ARCHITECTURES[name].form(Settings(values, "config.json")).shape
    assert {field: getattr(shape, field) for field in wanted} == wanted


@pytest.mark.parametrize(
    ("name", "changed", "says"),
    [
        ("Qwen2ForCausalLM", {"use_sliding_window": True, **WINDOW, "layer_types": ["chunked"]}, "'chunked'"),
        ("Qwen3ForCausalLM", {"hidden_act": "tanh"}, "hidden_act = 'tanh'"),
        ("LlamaForCausalLM", {"rope_parameters": {"rope_type": "dynamic", "factor": 2.0}}, "rope_type = 'dynamic'"),
        ("LlamaForCausalLM", {"rope_parameters": YARN | {"truncate": False}}, "truncate = False"),
        ("LlamaForCausalLM", {"rope_parameters": YARN | {"factor": 0}}, "gives no factor"),
        ("MistralForCausalLM", {"sliding_window": 0}, "sliding_window = 0"),
        ("MixtralForCausalLM", {"num_experts_per_tok": 9}, "9 of 4 experts"),
        ("RobertaForMaskedLM", {"pad_token_id": 95}, "pad_token_id = 95"),
        ("ModernBertForMaskedLM", {"classifier_bias": True}, "classifier_bias = True"),
        ("ModernBertForMaskedLM", {"rope_parameters": {"full_attention": {"rope_type": "yarn"}}}, "'yarn'"),
        ("MarianMTModel", {"share_encoder_decoder_embeddings": False}, "share_encoder_decoder_embeddings = False"),
        ("MarianMTModel", {"decoder_vocab_size": 7}, "decoder_vocab_size = 7"),
    ],
)
def test_settings_that_our_stack_does_not_compute(
    transformers: ModuleType, tokenizer: Tokenizer, name: str, changed: dict[str, Any], says: str
) -> None:
    case = next(case for case in CASES if case.name == name)
    values = case.made(transformers, tokenizer).config.to_dict() | changed
    with pytest.raises(SightlineError, match=says) as caught:
        ARCHITECTURES[name].form(Settings(values, "config.json"))
    assert "\n" not in str(caught.value)
