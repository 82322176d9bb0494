"""A model folder by its name on the Hugging Face hub (extra ``hub``): settings, weights and tokenizer; never code."""

from __future__ import annotations

import re
from pathlib import Path

from ..data.dataset import offline_where_unreachable
from ..errors import SightlineError

WANTED = ("*.safetensors", "*.json", "*.txt", "*.model", "*.spm", "*.jinja", "LICENSE*", "NOTICE*")
LEFT = ("*/*", "consolidated*")  # other formats' folders, and the same weights under their makers' names
LOCAL = "copy the model's folder here (config.json, *.safetensors, its tokenizer) and name that"


def is_name(word: str) -> bool:
    """Whether a word that is no path here may be a name there: ``gpt2``, ``org/name`` (not below a folder here)."""
    named = re.fullmatch(r"\w[\w.\-]*(/\w[\w.\-]*)?", word) is not None and not Path(word).exists()
    return named and ("/" not in word or not Path(word).parent.is_dir())


def fetched(name: str, revision: str = "") -> Path:
    """The folder of a model on the hub, in the hub's own cache; what is there already is not fetched again.

    Raises
    ------
    SightlineError : the library is missing, no network, no such name or revision, or no safetensors.
    """
    offline_where_unreachable()
    try:
        import huggingface_hub
    except ImportError as error:
        raise SightlineError(
            f"{name} does not exist here, and to fetch it from the Hugging Face hub a package is missing",
            f"pip install 'sightline[hub]', or {LOCAL}",
        ) from error
    try:
        folder = Path(
            huggingface_hub.snapshot_download(
                name, revision=revision or None, allow_patterns=list(WANTED), ignore_patterns=list(LEFT)
            )
        )
    except huggingface_hub.errors.LocalEntryNotFoundError as error:
        raise SightlineError(
            f"{name} does not exist here, was not fetched before, and the Hugging Face hub cannot be reached",
            f"Check the path or the network, or {LOCAL}",
        ) from error
    except Exception as error:  # a dozen kinds: no such name, not allowed, no such revision, a full disk
        first = (str(error).strip().splitlines() or [type(error).__name__])[0][:160].rstrip(".")
        raise SightlineError(
            f"{name} does not exist here, and the Hugging Face hub does not give it ({first})",
            f"Check the name, --revision and the network, or {LOCAL}",
        ) from error
    if not any(folder.glob("*.safetensors")):
        raise SightlineError(
            f"{name} offers no safetensors on the hub",
            "If its weights are pickled and you trust them, convert them once with transformers: from_pretrained(...) "
            "of its class, then save_pretrained(FOLDER)",
        )
    return folder
