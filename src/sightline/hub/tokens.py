"""The tokenizer of a model folder: a ``tokenizer.json``, or one of the older files, converted by transformers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from ..data import Tokenizer
from ..data.layout import SPECIALS, Role
from ..data.vocabulary import Vocabulary
from ..errors import SightlineError
from .foreign import quiet
from .marian_tokens import IDS, SOURCE, of_source

# What transformers makes a tokenizer.json of: byte-level BPE, WordPiece, sentencepiece's two kinds.
OLDER = (
    ("vocab.json", "merges.txt"),
    ("vocab.txt",),
    ("spiece.model",),
    ("tokenizer.model",),
    ("sentencepiece.bpe.model",),
    (SOURCE, IDS),
)


def tokenizer_of(folder: Path, config: Mapping[str, Any]) -> Tokenizer:
    """The tokenizer of a folder; marks that it does not name itself are those that its ``config.json`` gives ids for.

    Raises
    ------
    SightlineError : there is no tokenizer, or one that cannot be converted (without the extra ``hub``, none).
    """
    marks = _told(config)
    if (folder / "tokenizer.json").is_file():
        return Tokenizer.load(folder, marks)
    if not any(all((folder / name).is_file() for name in names) for names in OLDER):
        raise SightlineError(
            f"{folder} has no tokenizer.json, nor files of which one is made (vocab.txt, spiece.model, ...)",
            "Copy its tokenizer too, or name another with --tokenizer",
        )
    if (folder / SOURCE).is_file():
        return of_source(folder)
    return _converted(folder, marks)


def _told(config: Mapping[str, Any]) -> dict[Role, int]:
    """Ids of marks by a config.json; of several ends the first."""
    found: dict[Role, int] = {}
    for role in SPECIALS:
        value = config.get(f"{role}_token_id")
        first = value[0] if isinstance(value, list) and value else value
        if isinstance(first, int):
            found[role] = first
    return found


def ends_of(vocabulary: Vocabulary, *settings: object) -> tuple[int, ...]:
    """Ids beside eos that end a text, by the first of a folder's settings that names any.

    A list was made for this model (the end of a turn beside that of a text). A single id may be a default, meant for
    another vocabulary: it counts where it is a mark here.
    """
    values = (one.get("eos_token_id") for one in settings if isinstance(one, Mapping))
    found: Any = next((value for value in values if value is not None), [])
    ids = found if isinstance(found, list) else [found]
    known = (id for id in ids if type(id) is int and 0 <= id < vocabulary.size and id != vocabulary.eos)
    return tuple(dict.fromkeys(id for id in known if len(ids) > 1 or vocabulary.is_special[id]))


def _converted(folder: Path, marks: Mapping[Role, int]) -> Tokenizer:
    try:
        import transformers
    except ImportError as error:
        raise SightlineError(
            f"{folder} has its tokenizer in a file that transformers converts, which is not installed",
            "pip install 'sightline[hub]', or give the folder a tokenizer.json",
        ) from error
    with quiet(transformers), TemporaryDirectory() as aside:
        try:
            kept = transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
            kept.save_pretrained(aside)
        except Exception as error:  # as many kinds as there are tokenizers
            first = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
            raise SightlineError(
                f"transformers does not convert the tokenizer of {folder} ({first})",
                "Give the folder a tokenizer.json, or name another with --tokenizer",
            ) from error
        if not (Path(aside) / "tokenizer.json").is_file():
            raise SightlineError(
                f"transformers has no tokenizer.json for a {type(kept).__name__}, which is the tokenizer of {folder}",
                "Give the folder a tokenizer.json, or name another with --tokenizer",
            )
        return Tokenizer.load(aside, marks)
