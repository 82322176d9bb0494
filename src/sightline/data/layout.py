"""What a ``tokenizer.json`` and the files beside it say: its kind, its marks and what they are called, its template."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from tokenizers import AddedToken
from tokenizers import Tokenizer as Engine

from .pieces import has_part

Phrases = tuple[tuple[tuple[str, str], ...], ...]  # for each pass, pairs of words
Role = Literal["pad", "bos", "eos", "mask", "cls", "sep"]

SPECIALS: dict[Role, str] = {
    "pad": "<pad>",
    "bos": "<s>",
    "eos": "</s>",
    "mask": "<mask>",
    "cls": "<cls>",
    "sep": "<sep>",
}
MODES = tuple(f"<mode:{n}>" for n in range(3))
SPARES = tuple(f"<spare:{n}>" for n in range(100))
SENTINELS = tuple(f"<extra_id_{n}>" for n in range(100))  # what T5 calls its spares
RESERVED = (*SPECIALS.values(), *MODES, *SPARES)
UNKNOWN = "<unk>"
TEMPLATE = "chat_template.jinja"
NEVER = -1e6  # score of a piece, for each of its letters, that no text is cut into (Unigram)
# What other people's tokenizers call the same things, most telling first.
NAMES: dict[Role, tuple[str, ...]] = {
    "pad": ("<pad>", "[PAD]", "<|pad|>", "<|padding|>"),
    "bos": ("<s>", "<bos>", "<|begin_of_text|>", "[BOS]", "<|startoftext|>", "[CLS]", "<|endoftext|>"),
    "eos": ("</s>", "<eos>", "<|end_of_text|>", "<|endoftext|>", "[EOS]", "[SEP]"),
    "mask": ("<mask>", "[MASK]", "<|mask|>"),
    "cls": ("<cls>", "[CLS]"),
    "sep": ("<sep>", "[SEP]"),
}


def kind_in(layout: dict[str, Any]) -> str:
    """What a tokenizer is, from its parts."""
    model = layout["model"]
    name = str(model["type"])
    if name == "WordPiece":
        return "wordpiece"
    if name == "WordLevel":
        return "word"
    if name != "BPE":
        return name.lower()
    byte_level = has_part(layout["decoder"], "ByteLevel")
    plain = (
        not model["merges"] and layout["normalizer"] is None and all(one["special"] for one in layout["added_tokens"])
    )
    if plain and byte_level and len(model["vocab"]) - len(layout["added_tokens"]) == 256:
        return "byte"
    if plain and model["byte_fallback"] and layout["pre_tokenizer"] is None and "<0xFF>" in model["vocab"]:
        return "char"
    return "bpe" if byte_level and layout["normalizer"] is None else "bpe (spaced)"


def cuts_all(layout: dict[str, Any]) -> bool:
    """Whether texts are cut into every piece, as far as the scores of a Unigram tell."""
    added = {token["id"] for token in layout["added_tokens"]}
    pieces = layout["model"]["vocab"] if layout["model"]["type"] == "Unigram" else []
    return all(score > NEVER or id in added for id, (_, score) in enumerate(pieces))


def special_id(vocabulary: dict[str, int], role: Role, named: str | None) -> int | None:
    """The id of a mark: by the name that is told, else by its usual ones; None where there is none."""
    for name in (*([named] if named else []), *NAMES[role]):
        if name in vocabulary:
            return vocabulary[name]
    return None


def with_specials(engine: Engine, ids: set[int]) -> dict[str, Any]:
    """The engine's layout, once every mark is a special of it: some vocabularies hold theirs among their words."""
    layout: dict[str, Any] = json.loads(engine.to_str())
    if lacking := ids - {token["id"] for token in layout["added_tokens"] if token["special"]}:
        names = (str(engine.id_to_token(id)) for id in sorted(lacking))
        engine.add_special_tokens([AddedToken(name, special=True, normalized=False) for name in names])
        layout = json.loads(engine.to_str())
    return layout


def told_roles(engine: Engine, marks: Mapping[Role, int]) -> dict[Role, str]:
    """Marks by name; an id that is no special here was meant for another vocabulary (a config's default)."""
    special = {id: token.content for id, token in engine.get_added_tokens_decoder().items() if token.special}
    return {role: special[id] for role, id in marks.items() if id in special}


def named_roles(folder: Path) -> dict[Role, str]:
    """The specials that ``tokenizer_config.json`` or ``special_tokens_map.json`` names; none if they cannot be read."""
    roles: dict[Role, str] = {}
    for file in (folder / "special_tokens_map.json", folder / "tokenizer_config.json"):
        try:
            settings = json.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        for role in SPECIALS:
            value = settings.get(f"{role}_token") if isinstance(settings, dict) else None
            name = value.get("content") if isinstance(value, dict) else value
            if isinstance(name, str):
                roles[role] = name
    return roles


def chat_template(folder: Path) -> str:
    """The chat template of a folder: a file of its own, or in ``tokenizer_config.json``, the default one of several."""
    try:
        return (folder / TEMPLATE).read_text(encoding="utf-8")
    except (OSError, ValueError):
        pass
    try:
        found = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8")).get("chat_template")
    except (OSError, ValueError, AttributeError):
        return ""
    if isinstance(found, list):
        named = {one.get("name"): one.get("template") for one in found if isinstance(one, dict)}
        found = named.get("default")
    return found if isinstance(found, str) else ""


def opened(text: str) -> tuple[Engine, Phrases]:
    """What a ``tokenizer.json`` holds: the phrases are an entry of ours, beside those that the library knows."""
    layout = json.loads(text) if '"phrases"' in text else {}
    phrases = layout.pop("phrases", None)
    engine = Engine.from_str(text if phrases is None else json.dumps(layout))
    return engine, tuple(tuple((str(left), str(right)) for left, right in one) for one in phrases or ())
