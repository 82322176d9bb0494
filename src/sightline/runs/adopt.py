"""Take in a model that others trained: any Hugging Face folder of a known architecture; its sight may be changed."""

from __future__ import annotations

import json as jsons
import shlex
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from ..errors import SightlineError
from ..files import file_fingerprint, fingerprint, read_json, write_json
from ..progress import bar, say
from .start import told_tokens

if TYPE_CHECKING:
    from ..data import Tokenizer
    from ..objectives.model import Model

KEPT = ("LICENSE*", "LICENCE*", "NOTICE*", "USE_POLICY*", "chat_template.jinja")
NEXT = {"left": "generate", "right": "generate", "both": "fill"}
TEXTS = {"generate": "The function returns", "fill": "The cat ___ on the mat.", "embed": "A text to be a vector."}


@dataclass(frozen=True)
class Adopted:
    """A model that was taken in.

    Parameters
    ----------
    model : its new folder. source : where it came from. architecture : what its config.json calls it.
    family, sight : as it is asked now; was : the family that it came as.
    holds, sizes, tokenizer : in words. changed : what is no longer as it came, one thing a line.
    loads_as : the class of transformers that loads the new folder; empty: none does.
    next : a command to go on with.
    """

    model: Path
    source: str
    architecture: str
    family: str
    sight: str
    was: str
    holds: str
    sizes: str
    tokenizer: str
    changed: tuple[str, ...]
    loads_as: str
    next: str

    def __str__(self) -> str:
        there = f"transformers loads it as {self.loads_as}" if self.loads_as else "transformers has no class for it"
        rows = [
            ("found", f"{self.architecture} in {self.source}"),
            ("holds", f"{self.holds}; {self.sizes}"),
            ("sight", f"{self.family}: {self.sight}"),
            ("tokenizer", self.tokenizer),
            *(("changed", one) for one in self.changed or ("nothing",)),
            ("written", f"{self.model}; {there}"),
        ]
        return "\n".join(f"{name:<11}{words}" for name, words in rows)

    def record(self) -> dict[str, Any]:
        """As plain JSON."""
        return asdict(self) | {"model": str(self.model), "changed": list(self.changed)}


def adopt(
    folder: Annotated[str, tyro.conf.Positional],
    *,
    family: Annotated[str, tyro.conf.arg(name="as")] = "",
    setting: tuple[str, ...] = (),
    out: Path | None = None,
    revision: str = "",
    package: str = "",
    tokenizer: str = "",
    json: Path | None = None,
) -> Adopted:
    """Take in a model that others trained, or one of yours, to be scored, seen, tuned and trained on; its weights stay.

    With --as its sight is changed and its weights are kept: a causal model may go on as masked, prefix, hybrid,
    diffusion, ... It was not trained to answer so yet: train it, from the new folder. Marks that the family needs and
    the tokenizer lacks are added, with rows that begin as the mean of the others.

    Examples:
        sightline adopt models/gpt2
        sightline adopt models/gpt2 --as diffusion --out runs/gpt2-diffusion
        sightline adopt runs/mine --as masked --setting rate=0.3
        sightline adopt answerdotai/ModernBERT-base

    Args:
        folder: a folder of a Hugging Face model in safetensors, a run or model folder of Sightline, or a name on the
            Hugging Face hub, from where it is fetched (extra hub).
        family: the family that it shall be asked as; default: its own.
        setting: with --as, the family's own settings, as name=value.
        out: the new model folder. Default: runs/NAME, with --as runs/NAME-FAMILY.
        revision: of a model on the hub: a branch, a tag or a commit.
        package: your own package that defines the family of a model of yours; code outside Sightline is not run
            unasked.
        tokenizer: a tokenizer.json instead of the folder's.
        json: also write what was found to this file.
    """
    from .. import hub
    from ..data import Tokenizer
    from ..hub.download import fetched, is_name
    from ..objectives.continued import continued
    from .plan import parsed

    if setting and not family:
        raise SightlineError(f"a setting ({setting[0]}) of which family?", "Name it with --as")
    fields = parsed(family, setting) if family else {}
    if revision and not is_name(folder):
        raise SightlineError(f"{folder} lies here and has no revisions", "Leave --revision away")
    place = hub.located(fetched(folder, revision) if is_name(folder) else folder)
    held = Tokenizer.load(tokenizer) if tokenizer else None
    model = hub.load(place, package=package or None, tokenizer=held)
    target = Path(out) if out else Path("runs") / f"{_name(folder, place)}{f'-{family}' if family else ''}"
    source = {
        "command": "adopt", "source": folder, "revision": revision, "weights": _weights(place), "as": family,
        "setting": list(setting), "tokenizer": model.tokenizer.fingerprint,
    }  # fmt: skip
    _refuse_another(target, source)
    config = read_json(place / "config.json")
    was, before = model.objective.family, _sizes(model)
    changed: list[str] = []
    if family:
        model, added = continued(model, family, fields)
        changed = _changes(was, before, model, added)
    hub.save(model.eval(), target, recipe=source, beside=_beside(place))
    now = read_json(target / "config.json")
    result = Adopted(
        model=target,
        source=folder,
        architecture=str((config.get("architectures") or [config.get("model_type")])[0]),
        family=model.objective.family,
        sight=model.objective.rule.text,
        was=was,
        holds=model.holds,
        sizes=", ".join(f"{size:,} {name}" for name, size in _sizes(model).items() if size),
        tokenizer=_told(model.tokenizer, model.objective.vocabulary.ends),
        changed=tuple(changed),
        loads_as="" if now["model_type"] == "sightline" else str(now["architectures"][0]),
        next=_next(model, target, bool(changed) and not _writes_already(was, model)),
    )
    if json is not None:
        write_json(Path(json), result.record())
    return result


def _name(folder: str, place: Path) -> str:
    """A name for the new folder: that on the hub, or the last of the path that says something."""
    path = Path(folder)
    if not path.exists():
        return path.name
    whole = place.resolve()
    return whole.parent.name if whole.name == "model" else whole.name


def _weights(place: Path) -> str:
    """The fingerprint of all weights."""
    from ..hub.weights import weight_files

    files = weight_files(place)
    with bar("reading the weights", sum(file.stat().st_size for file in files), "bytes") as shown:
        return fingerprint(*(file_fingerprint(file, shown.advance) for file in files))


def _refuse_another(target: Path, source: Mapping[str, Any]) -> None:
    """The same adoption may be made again; nothing else is written over."""
    from .. import hub

    if not target.exists() or (target.is_dir() and not any(target.iterdir())):
        return
    if target.is_dir() and hub.ours(target) and hub.noted(target).get("recipe") == source:
        say(f"{target} holds this model already: it is written again")
        return
    raise SightlineError(f"{target} holds something else", "Choose another --out")


def _sizes(model: Model) -> dict[str, int]:
    """What of the stack a person asks about first."""
    shape = getattr(model.stack, "shape", None)
    if shape is None:
        return {}
    return {
        "layers": shape.layers, "wide": shape.width, "heads": shape.heads, "places": shape.context,
        "rows": shape.vocabulary, "segments": shape.segments,
    }  # fmt: skip


def _changes(was: str, before: Mapping[str, int], model: Model, added: tuple[str, ...]) -> list[str]:
    """What is no longer as it came."""
    now, changes = _sizes(model), []
    if was != model.objective.family:
        yet = "which it was not trained to answer yet"
        yet = "which it answers as far as it was tuned to tasks" if _writes_already(was, model) else yet
        changes.append(f"asked as {model.objective.family}, {yet}; it came as {was}")
    if added:
        grown = now["rows"] - before["rows"]
        rows = f"tables grown from {before['rows']:,} to {now['rows']:,} rows" if grown else "in rows that were free"
        changes.append(f"{told_tokens(added)} added, {rows}; each begins as the mean of the others")
    if before.get("segments") != now.get("segments"):
        changes.append(
            f"the table of segments (of {before['segments']}) is folded into the places: the family counts more"
        )
    return changes


def _writes_already(was: str, model: Model) -> bool:
    """Whether a model of spans is asked for targets, which published ones learned too (flan-T5, BART's summaries)."""
    return was == "denoise" and model.objective.reads == "pairs"


def _told(tokenizer: Tokenizer, ends: tuple[int, ...]) -> str:
    """A tokenizer in a line: kind, ids, whether text comes back, marks, and what ends a text beside eos."""
    from ..data.layout import SPECIALS

    marks = {role: getattr(tokenizer, role) for role in SPECIALS}
    there = [f"{role} {tokenizer.show(id)}" for role, id in marks.items() if id is not None]
    lacking = [role for role, id in marks.items() if id is None]
    whole = "gives texts back byte for byte" if tokenizer.lossless else "does not give every text back byte for byte"
    none = [f"no {', '.join(lacking)}"] if lacking else []
    more = f"; a text also ends in {', '.join(map(tokenizer.show, ends))}" if ends else ""
    return f"{tokenizer.kind}, {tokenizer.size:,} ids, {whole}; {', '.join([*there, *none])}{more}"


def _beside(place: Path) -> dict[str, bytes]:
    """What goes along: the licence, and how the model is talked to."""
    found = {path.name: path.read_bytes() for name in KEPT for path in sorted(place.glob(name)) if path.is_file()}
    settings = place / "tokenizer_config.json"
    if "chat_template.jinja" not in found and settings.is_file():
        try:
            template = jsons.loads(settings.read_text(encoding="utf-8")).get("chat_template")
        except (ValueError, AttributeError):
            template = None
        if isinstance(template, str):
            found["chat_template.jinja"] = template.encode()
    return found


def _next(model: Model, target: Path, changed: bool) -> str:
    place, objective = shlex.quote(str(target)), model.objective
    if changed:
        corpus = "pairs.tsv" if objective.reads == "pairs" else "python-docs"
        return f"sightline train {objective.family} {corpus} --from {place} --budget 5m"
    if objective.reads == "pairs":
        return f'sightline translate {place} "A text in the language that it was trained on."'
    verb = NEXT[objective.writes_from] if objective.writes else "embed"
    return f"sightline {verb} {place} {shlex.quote(TEXTS[verb])}"
