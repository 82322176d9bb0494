"""A tokenizer that gains special tokens: ids held in reserve are given a meaning first, then those behind the last.

[unused3] -> <mask>                 BERT, LLaMA 3 and others have ids that no text holds, with rows in the table
size, size + 1, ... -> <mask>, ...  where the table may have spare rows, or must grow

Or a mark that it has gets a second part to play: eos may end a source too.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence

from ..errors import SightlineError
from .tokenizer import Tokenizer

IN_RESERVE = re.compile(r"\[unused_?\d+\]|<\|?unused_?\d+\|?>|<\|?reserved(_special_token)?_\d+\|?>|<\|extra_\d+\|>")
MARK = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}


def with_tokens(tokenizer: Tokenizer, names: Sequence[str]) -> Tokenizer:
    """The tokenizer with special tokens of these names, those that it has left as they are; text is cut as before.

    Raises
    ------
    SightlineError : there are holes among the tokenizer's ids, so that none can be added behind them.
    """
    told, roles = tokenizer.told()
    layout = json.loads(told)
    words, added = layout["model"]["vocab"], layout["added_tokens"]
    wanted = [name for name in names if tokenizer.id_of(name) is None]
    known = [*(words if isinstance(words, dict) else (word for word, _ in words)), *(one["content"] for one in added)]
    spare = [word for word in dict.fromkeys(known) if IN_RESERVE.fullmatch(word)]
    named = dict(zip(spare, wanted, strict=False))
    ids = {new: tokenizer.id_of(old) for old, new in named.items()}
    ids |= {name: tokenizer.size + at for at, name in enumerate(wanted[len(named) :])}
    if isinstance(words, dict):
        layout["model"]["vocab"] = {named.get(word, word): id for word, id in words.items()}
    else:
        layout["model"]["vocab"] = [[named.get(word, word), score] for word, score in words]
    kept = [one for one in added if one["content"] not in named]
    marks = [{"id": id, "content": name, **MARK} for name, id in ids.items()]
    layout["added_tokens"] = sorted([*kept, *marks], key=lambda one: int(one["id"]))
    grown = tokenizer.again(json.dumps(layout, ensure_ascii=False), roles)
    if {name: grown.id_of(name) for name in ids} != ids:
        raise SightlineError(
            "ids are missing within the tokenizer's vocabulary, so that none can be added behind it",
            f"Add {', '.join(ids)} to its tokenizer.json",
        )
    return grown


def ending_sources(tokenizer: Tokenizer) -> Tokenizer:
    """The same ids, where a source ends in the mark that ends a text, and no stand-in for bos is before it (T5)."""
    layout, roles = tokenizer.told()
    if roles.get("bos") == roles.get("eos"):
        roles.pop("bos", None)
    return tokenizer.again(layout, {**roles, "sep": roles["eos"]}) if "eos" in roles else tokenizer
