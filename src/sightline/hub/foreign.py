"""Any local Hugging Face model folder, opened by transformers (extra ``hub``) to be looked at, not understood.

Weights must be safetensors; code that a folder brings along is never run, and nothing is fetched.
"""

from __future__ import annotations

import inspect
import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ..data import Tokenizer
from ..errors import SightlineError
from ..files import read_json
from .weights import weight_files

Ints = NDArray[np.int64]

# Classes that ask each slot for the token behind it. XLNet and XLM bear the ending, but are asked otherwise.
ASKS_NEXT = re.compile(r"(ForCausalLM|(?<!XLNet)(?<!XLMWith)LMHeadModel)$")
TOKENIZERS = ("tokenizer.json", "vocab.json", "vocab.txt", "spiece.model", "tokenizer.model", "sentencepiece.bpe.model")
CONTEXTS = ("max_position_embeddings", "n_positions", "max_source_positions", "seq_length", "n_ctx")


@dataclass(frozen=True)
class Foreign:
    """A model of transformers in fp32, with its own attention code (eager), ready to be asked.

    Parameters
    ----------
    model : in evaluation mode. class_name : what its config.json calls it.
    two_stacks : an encoder and a decoder, which are both shown the text.
    asks_next : each (decoder) slot is asked for the token behind the one it shows.
    notes : what had to be made up.
    """

    model: nn.Module
    class_name: str
    two_stacks: bool
    asks_next: bool
    context: int | None
    folder: Path
    notes: tuple[str, ...]

    @property
    def tables(self) -> tuple[nn.Module, ...]:
        """The embedding tables of the input, the encoder's first; one that both stacks share stands once."""
        model: Any = self.model
        homes = [model.get_encoder(), model.get_decoder()] if self.two_stacks else [model]
        return tuple({id(table): table for table in (home.get_input_embeddings() for home in homes)}.values())

    @property
    def rows(self) -> int:
        """Ids that the input takes."""
        weight = self.tables[0].weight
        assert isinstance(weight, Tensor)
        return weight.shape[0]

    @property
    def marks(self) -> set[int]:
        """Ids that models treat apart (padding above all, which some read places from)."""
        config: Any = self.model.config
        named = (getattr(config, f"{name}_token_id", None) for name in ("pad", "bos", "eos", "sep", "cls", "mask"))
        flat = (id for one in named for id in (one if isinstance(one, list) else [one]))
        return {id for id in flat if isinstance(id, int)}

    def outputs(self, ids: Ints) -> tuple[Tensor, ...]:
        """Outputs [N, slots, features] for ids [N, tokens]: logits where there is a head for each slot, else states.

        With two stacks, the first half of the ids goes to the encoder and the second to the decoder.
        """
        import transformers

        with quiet(transformers):  # some remark at their first step which faster kernels they miss
            return self._outputs(ids)

    def _outputs(self, ids: Ints) -> tuple[Tensor, ...]:
        tokens = torch.from_numpy(ids).to(next(self.model.parameters()).device)
        takes = inspect.signature(self.model.forward).parameters

        def masked(name: str, part: Tensor) -> dict[str, Tensor]:
            return {name: torch.ones_like(part)} if name in takes else {}

        if not self.two_stacks:
            found = self.model(input_ids=tokens, **masked("attention_mask", tokens))
            return (_per_slot(found),)
        source, target = tokens.chunk(2, dim=1)
        found = self.model(
            input_ids=source,
            decoder_input_ids=target,
            **masked("attention_mask", source),
            **masked("decoder_attention_mask", target),
        )
        return found.encoder_last_hidden_state, _per_slot(found)


def _per_slot(found: Any) -> Tensor:
    logits = getattr(found, "logits", None)
    states = getattr(found, "last_hidden_state", None)
    if isinstance(chosen := logits if logits is not None else states, Tensor) and chosen.dim() == 3:
        return chosen
    raise SightlineError("the model gives no output for each token", "See looks at models of text, token by token")


def opened(folder: Path, device: str = "cpu") -> Foreign:
    """Open a folder that transformers saved.

    Raises
    ------
    SightlineError : transformers is missing, the weights are pickled, cut short or missing, or transformers does not
        know the architecture without running code from the folder.
    """
    try:
        import transformers
    except ImportError as error:
        raise SightlineError(
            f"{folder} is a model of transformers, which is not installed", "pip install 'sightline[hub]'"
        ) from error
    weight_files(folder)
    listed = read_json(folder / "config.json").get("architectures") or [""]
    name = str(listed[0])
    with quiet(transformers):
        try:
            config = transformers.AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
            kind, asks_next = _class(transformers, config, name)
            model, told = kind.from_pretrained(
                folder,
                config=config,
                local_files_only=True,
                trust_remote_code=False,
                use_safetensors=True,
                dtype=torch.float32,
                attn_implementation="eager",
                output_loading_info=True,
            )
        except SightlineError:
            raise
        except Exception as error:  # transformers raises many kinds: unknown, cut short, code needed, sizes that differ
            first = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
            raise SightlineError(
                f"transformers does not open {folder} ({first})",
                "Check that the folder is whole and of a known architecture",
            ) from error
    model = model.to(device).eval()
    model.config.use_cache = False
    missing = sorted(told["missing_keys"])
    notes = [f"{len(missing)} weights are not in the folder and were drawn: {missing[0]}, ..."] if missing else []
    sizes = (getattr(config, key, None) for key in CONTEXTS)
    context = next((size for size in sizes if isinstance(size, int) and size > 0), None)  # XLNet says -1: no limit
    two_stacks = bool(getattr(model.config, "is_encoder_decoder", False))  # a decoder alone says so itself
    return Foreign(model, name or type(model).__name__, two_stacks, asks_next, context, folder, tuple(notes))


@contextmanager
def quiet(transformers: ModuleType) -> Iterator[None]:
    """transformers without its remarks on loading."""
    logs = transformers.utils.logging
    level, bars = logs.get_verbosity(), logs.is_progress_bar_enabled()
    logs.set_verbosity(logging.CRITICAL)
    logs.disable_progress_bar()
    try:
        yield
    finally:
        logs.set_verbosity(level)
        if bars:
            logs.enable_progress_bar()


def _class(transformers: ModuleType, config: Any, name: str) -> tuple[Any, bool]:
    """The class that opens the folder, with its head if that answers for each slot; whether it asks for the next."""
    auto = transformers.models.auto.modeling_auto

    def heads(of: str) -> list[str]:
        known = getattr(auto, f"MODEL_FOR_{of}_MAPPING_NAMES").get(config.model_type, ())
        return [known] if isinstance(known, str) else list(known)

    asks_next = bool(ASKS_NEXT.search(name))
    if heads("CAUSAL_LM") and (asks_next or name in heads("CAUSAL_LM")):
        return transformers.AutoModelForCausalLM, asks_next
    if name in heads("MASKED_LM"):
        return transformers.AutoModelForMaskedLM, False
    if name in heads("SEQ_TO_SEQ_CAUSAL_LM"):
        return transformers.AutoModelForSeq2SeqLM, True
    return transformers.AutoModel, False


@dataclass(frozen=True)
class Reading:
    """A text as a foreign model reads it: ids, a label for each, and what had to be made up."""

    ids: Ints
    labels: tuple[str, ...]
    marks: frozenset[int] = frozenset()
    notes: tuple[str, ...] = ()


def read_as(foreign: Foreign, text: str, tokenizer: Tokenizer | None = None) -> Reading:
    """The text in ids: by ``tokenizer``, by the folder's own, or, where it has none, a drawn id for each word.

    Raises
    ------
    SightlineError : ids that the model has no row for.
    """
    if tokenizer is not None:
        ids = tokenizer.encode(text).astype(np.int64)
        marks = frozenset(np.flatnonzero(tokenizer.special_ids).tolist())
        reading = Reading(ids, tuple(tokenizer.show(int(id)) for id in ids), marks)
    elif any((foreign.folder / name).is_file() for name in TOKENIZERS):
        reading = _by_folder(foreign.folder, text)
    else:
        reading = _drawn(foreign, text)
    if len(reading.ids) and int(reading.ids.max()) >= foreign.rows:
        raise SightlineError(
            f"the tokenizer of {foreign.folder} gives id {reading.ids.max()}, but the model has {foreign.rows:,} rows",
            "Use the tokenizer that the model was trained with",
        )
    return reading


def _by_folder(folder: Path, text: str) -> Reading:
    import transformers

    with quiet(transformers):
        try:
            kept = transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        except Exception as error:  # as many kinds as there are tokenizers
            first = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
            raise SightlineError(
                f"transformers does not open the tokenizer of {folder} ({first})", "Name another with --tokenizer"
            ) from error
        ids = np.asarray(kept(text)["input_ids"], dtype=np.int64)
        pieces = [str(kept.decode([int(id)])) for id in ids]
        names = [piece if piece.strip() and "\ufffd" not in piece else None for piece in pieces]
        raw = kept.convert_ids_to_tokens(ids.tolist())
    labels = [str(own) if name is None else name.replace(" ", "␣") for name, own in zip(names, raw, strict=True)]
    return Reading(ids, tuple(" ".join(label.split()) for label in labels), frozenset(kept.all_special_ids))


def _drawn(foreign: Foreign, text: str) -> Reading:
    words = text.split()
    if len(words) < 3:
        words = list(text)
    free = np.setdiff1d(np.arange(foreign.rows), sorted(foreign.marks))
    rng = np.random.default_rng(0)
    known = {word: int(rng.choice(free)) for word in dict.fromkeys(words)}
    ids = np.asarray([known[word] for word in words], dtype=np.int64)
    note = f"{foreign.folder} has no tokenizer: each word stands for an id drawn at random"
    return Reading(ids, tuple(words), notes=(note,))
