"""A model folder: Hugging Face's layout, with ``sightline.toml`` beside it for what that layout cannot say.

config.json             the architecture: transformers' own where it has it, else "model_type": "sightline"
model.safetensors       the weights, under transformers' names where it has the architecture; large ones are several
                        files, which model.safetensors.index.json lists
tokenizer.json          and tokenizer_config.json; chat_template.jinja where the tokenizer has a template
generation_config.json  marks, and ids that are never written
README.md               the card
sightline.toml          the objective, the shape, the recipe, fingerprints, results
generator/              where the family has a generator (ELECTRA), the model folder of that
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any, cast

import tomli_w
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from ..data import Tokenizer
from ..data.marks import ending_sources
from ..data.vocabulary import Vocabulary
from ..errors import SightlineError
from ..files import file_fingerprint, fingerprint, read_json, whole_folder
from ..objectives.base import Objective
from ..objectives.model import Model, lengths_of, paired, token_table
from ..stacks.bag import Bag, BagHead
from ..stacks.head import Head
from ..stacks.hogwild import Manner
from ..stacks.judge import Judge
from ..stacks.linear import Linear, LinearHead
from ..stacks.numbers import DensityHead
from ..stacks.pair import Pair
from ..stacks.regressions import Regressions
from ..stacks.shape import Shape
from ..stacks.table import Table, TableHead
from ..stacks.transformer import Transformer
from ..stacks.two import Two
from .architectures import ARCHITECTURES, architecture_of
from .card import card
from .family import revived, told
from .form import Architecture, Form, Settings, marks
from .schema import filled
from .tokens import ends_of, tokenizer_of
from .weights import (
    SHARD,
    WHOLE,
    adopted,
    given,
    same_layout,
    tensors_in,
    two_tables,
    weight_files,
    weights_fingerprint,
    written,
)

CONFIG, NOTES, GENERATION, CARD = "config.json", "sightline.toml", "generation_config.json", "README.md"
GENERATOR = "generator"  # a model folder inside another's: what proposes tokens to it
OURS = "sightline"  # model_type where transformers has no such architecture
LAYOUT = 1  # of config.json in that case; raise it when it changes


def located(folder: Path | str) -> Path:
    """The model folder meant by a path: itself, a run's ``model/``, or the only one of a comparison.

    Raises
    ------
    SightlineError : there is none, or there are several (they are listed).
    """
    folder = Path(folder).expanduser()
    if not folder.exists():
        raise SightlineError(f"{folder} does not exist", "Check the path")
    if folder.is_file():
        raise SightlineError(f"{folder} is a file", "Name the folder of a run or a model")
    if (folder / CONFIG).is_file():
        return folder
    inner = [folder / "model"] if (folder / "model" / CONFIG).is_file() else []
    found = inner or sorted(path.parent for depth in ("*", "*/*") for path in folder.glob(f"{depth}/model/{CONFIG}"))
    if len(found) == 1:
        return found[0]
    if found:
        raise SightlineError(f"{folder} holds {len(found)} models", f"Name one: {', '.join(map(str, found))}")
    raise SightlineError(
        f"{folder} holds no model (no {CONFIG}, no model/{CONFIG})", "Name the folder of a finished run, or of a model"
    )


def ours(folder: Path) -> bool:
    """Whether Sightline wrote this model folder."""
    return (folder / NOTES).is_file()


def model_fingerprint(folder: Path) -> str:
    """Of a model folder's weights and settings: one set of weights may be of two families."""
    told = (file_fingerprint(folder / name) for name in (CONFIG, NOTES) if (folder / name).is_file())
    return fingerprint(weights_fingerprint(folder), *told)


def learned_pairs(folder: Path) -> bool:
    """Whether the model of a folder was trained on pairs, whatever its family usually reads."""
    return ours(folder) and bool(noted(folder).get("recipe", {}).get("pairs", False))


def save(
    model: Model,
    folder: Path | str,
    *,
    recipe: Mapping[str, Any] | None = None,
    results: Mapping[str, Any] | None = None,
    data_fingerprint: str | None = None,
    shard: int = SHARD,
    beside: Mapping[str, bytes] | None = None,
) -> Path:
    """Write a model folder, aside and then renamed; the same model gives the same bytes.

    Parameters
    ----------
    recipe, results : tables kept in ``sightline.toml``; results are shown on the card too.
    data_fingerprint : of the corpus the model was trained on.
    shard : bytes of a file of weights, above which there are several and an index.
    beside : small files of other makers that go along (a licence), by name; one of ours is not replaced.

    Raises
    ------
    SightlineError : the folder holds something else than a model of ours, or cannot be written.
    """
    folder = Path(folder)
    if folder.is_file() or (folder.is_dir() and any(folder.iterdir()) and not ours(folder)):
        raise SightlineError(f"{folder} holds something else than a model", "Choose another folder")
    if shard < 1:
        raise SightlineError(f"files of {shard} bytes hold no weights", "Use 1 or more, such as 5 * 10**9")
    form = (
        Form.of(model.stack, model.head)
        if isinstance(model.stack, Transformer | Pair | Two) and isinstance(model.head, Head | Judge)
        else None
    )
    architecture = None if form is None else _architecture(form, model)
    notes = _notes(model, form, recipe, results, data_fingerprint)
    try:
        with whole_folder(folder) as aside:
            config = _config(model, form, architecture)
            _write_json(aside / CONFIG, config)
            written(_tensors(model, form, architecture, config), aside, shard)
            if not model.numbers:
                model.tokenizer.save(aside)
            _write_json(aside / GENERATION, _generation(model))
            text = card(model, architecture.class_name if architecture else None, results, data_fingerprint)
            (aside / CARD).write_text(text, encoding="utf-8")
            (aside / NOTES).write_text(notes, encoding="utf-8")
            for name, content in (beside or {}).items():
                if not (aside / name).exists():
                    (aside / name).write_bytes(content)
            if model.generator is not None:
                save(model.generator, aside / GENERATOR, recipe=recipe, data_fingerprint=data_fingerprint, shard=shard)
    except (OSError, SafetensorError) as error:
        raise SightlineError(
            f"the model {folder} could not be written ({error})",
            "What was there is still there: free some space, try again",
        ) from error
    return folder


def _architecture(form: Form, model: Model) -> Architecture | None:
    """The architecture of transformers that this model is, exactly: of several that which it came as, or the first."""
    known = sorted(ARCHITECTURES.values(), key=lambda one: one.class_name != model.came_as)
    return next((one for one in known if one.fits(form, model.objective)), None)


def _write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")


def _generation(model: Model) -> dict[str, Any]:
    objective, opens = model.objective, [] if model.numbers else model.tokenizer.opens
    forced = {"forced_bos_token_id": opens[0]} if opens and objective.begins_with is not None else {}
    never = sorted(map(int, objective.vocabulary.unpredictable))
    return {**marks(objective), **forced, "suppress_tokens": never}


def _config(model: Model, form: Form | None, architecture: Architecture | None) -> dict[str, Any]:
    vocabulary = model.objective.vocabulary
    body: dict[str, Any]
    if isinstance(model.head, DensityHead):
        body = {"stack": "transformer", "shape": asdict(cast(Transformer, model.stack).shape), "law": model.head.law}
    elif isinstance(model.stack, Linear):
        body = {"stack": "linear", "p": model.stack.p}
    elif isinstance(model.stack, Regressions):
        many = model.stack
        body = {"stack": "regressions", "method": many.method, "p": many.p, "series": list(many.names)}
    elif form is None:
        sizes = {"width": model.stack.width} if isinstance(model.stack, Bag) else {"n": model.stack.n}
        body = {"stack": model.objective.stack, **sizes, "vocab_size": vocabulary.padded}
    elif architecture is not None:
        return architecture.config(form, model.objective)
    else:
        head = {name: getattr(form, name) for name in ("tied", "head_bias", "transform", "judge")}
        usual = (("scale", 1.0), ("transform_bias", True))
        head |= {name: value for name, plain in usual if (value := getattr(form, name)) != plain}
        stack: dict[str, Any] = {"stack": "transformer"}
        if form.body is not None:
            stack = {"stack": "pair", "body": form.body}
        elif form.decoder is not None:
            stack = {"stack": "two", "decoder": form.decoder}
        body = {**stack, "shape": asdict(form.shape), "head": head, "vocab_size": form.shape.vocabulary}
    return {"architectures": ["Sightline"], "model_type": OURS, "layout": LAYOUT, **body, **marks(model.objective)}


def _tensors(
    model: Model, form: Form | None, architecture: Architecture | None, config: Mapping[str, Any]
) -> dict[str, Tensor]:
    if isinstance(model.stack, Table | Bag):
        return model.stack.tensors()
    if isinstance(model.stack, Linear | Regressions) or isinstance(model.head, DensityHead):
        return {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    if form is None:
        raise SightlineError(
            f"a {type(model.stack).__name__} cannot be saved", "Save one transformer or two, a pair, a table or a bag"
        )
    state = {
        name: tensor.float()
        for name, tensor in model.state_dict().items()
        if not (form.tied and name == "head.weight") and not name.startswith("generator.")
    }
    return state if architecture is None else given(architecture, architecture.form(Settings(config, CONFIG)), state)


def _notes(
    model: Model,
    form: Form | None,
    recipe: Mapping[str, Any] | None,
    results: Mapping[str, Any] | None,
    data_fingerprint: str | None,
) -> str:
    tables: dict[str, Any] = {
        "objective": told(model.objective),
    }
    if not model.numbers:
        held = model.tokenizer
        tables["tokenizer"] = {"fingerprint": held.fingerprint, "ids": held.size}
        if held.frames:
            tables["tokenizer"] |= {"frames": True}
    if form is not None:
        tables["shape"] = asdict(form.shape)
    if data_fingerprint is not None:
        tables["data"] = {"fingerprint": data_fingerprint}
    tables |= {name: dict(table) for name, table in (("recipe", recipe), ("results", results)) if table is not None}
    try:
        return tomli_w.dumps(_without_null(tables))
    except (TypeError, ValueError) as error:
        raise SightlineError(
            f"a setting cannot be written as TOML ({error})", "Use numbers, words, lists and tables"
        ) from error


def _without_null(value: Any) -> Any:
    """TOML has no null: left away in tables, the word ``none`` in lists."""
    if isinstance(value, Mapping):
        return {str(key): _without_null(inner) for key, inner in value.items() if inner is not None}
    if isinstance(value, list | tuple):
        return ["none" if inner is None else _without_null(inner) for inner in value]
    return value


def load(
    folder: Path | str, *, package: str | None = None, tokenizer: Tokenizer | None = None, numbers: bool = False
) -> Model:
    """Read a model: a folder of ours, a run, or another's folder of an architecture that this house knows.

    Parameters
    ----------
    folder : see ``located``.
    package : a package of your own that the folder's objective may be imported from; else only Sightline's are.
    tokenizer : instead of the folder's.
    numbers : take a model that reads numbers too; who asks for texts would find no tokenizer in it.

    Raises
    ------
    SightlineError : a file is missing or cut short, parts do not fit each other, or the architecture is not known.
    """
    folder = located(folder)
    config = read_json(folder / CONFIG)
    if not isinstance(config, dict):
        raise SightlineError(f"{folder / CONFIG} is no table of settings", "Copy the model again")
    notes = noted(folder) if ours(folder) else None
    named = config.get("architectures")
    class_name = str(named[0]) if isinstance(named, list) and named else "AutoModel"
    weight_files(folder, class_name)  # names pickles and missing shards before anything else is built
    if config.get("model_type") == OURS and (config.get("stack") in ("linear", "regressions") or "law" in config):
        if not numbers:
            raise SightlineError(
                f"the model in {folder} reads numbers, not texts",
                "To forecast a table of numbers: sightline forecast SERIES --model FOLDER; from Python: "
                "hub.load(FOLDER, numbers=True)",
            )
        return _of_numbers(folder, config, notes, package)
    held = _tokenizer(folder, config, tokenizer, notes)
    if config.get("model_type") == OURS and config.get("stack") in ("table", "bag"):
        return _fitted(folder, config, notes, held, package)
    architecture, form = _form(folder / CONFIG, config)
    asked = None if notes is not None or architecture is None else architecture.asked(held.vocabulary)
    if asked is not None and asked.reads == "pairs" and held.sep is None:
        held = ending_sources(held)
    _agree(folder, form, notes)
    vocabulary = _fitting(held, form.shape.vocabulary, folder, config)
    if notes is not None:
        objective = revived(notes.get("objective", {}), vocabulary, folder / NOTES, package)
    elif asked is not None and architecture is not None:
        known = {one.name for one in fields(asked)}
        objective = asked(vocabulary, **{name: value for name, value in architecture.fields.items() if name in known})
        if objective.begins_with is not None:
            Settings(config, str(folder / CONFIG)).insist("decoder_start_token_id", objective.begins_with)
    else:
        raise SightlineError(
            f"{folder / NOTES} is missing, which says what the model was asked", "Copy the model again"
        )
    model = _assembled(folder, architecture, form, objective, held)
    model.came_as = "" if architecture is None else architecture.class_name
    if objective.generator is not None and notes is not None and (folder / GENERATOR).is_dir():
        model.generator = load(folder / GENERATOR, package=package, tokenizer=held)
        _share_tables(model, folder)
    return model


def _share_tables(model: Model, folder: Path) -> None:
    """One table for a model and its generator again: each folder holds it whole."""
    here, there = token_table(model.stack), token_table(cast(Model, model.generator).stack)
    if not torch.equal(here.weight, there.weight):
        raise SightlineError(
            f"{folder} and {folder / GENERATOR} belong to different models: their tables differ",
            "Copy the folder again, whole",
        )
    model.share_tables()


def noted(folder: Path) -> dict[str, Any]:
    """The tables of ``sightline.toml``: what ``save`` was told of a model of ours."""
    file = folder / NOTES
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SightlineError(
            f"{file} is not whole TOML ({error})", "It may have been cut short: copy it again"
        ) from error


def _tokenizer(
    folder: Path, config: Mapping[str, Any], instead: Tokenizer | None, notes: Mapping[str, Any] | None
) -> Tokenizer:
    held = instead or tokenizer_of(folder, {} if notes else config)  # ours names every mark itself
    noted = {"frames": True} if notes is None else notes.get("tokenizer", {})
    if held.frames != noted.get("frames", False):
        held = held.framing(not held.frames)
    kept = noted.get("fingerprint")
    if kept is not None and kept != held.fingerprint:
        raise SightlineError(
            f"the tokenizer of {folder} is not the one the model was trained with ({held.fingerprint}, not {kept})",
            "Copy the folder again, whole",
        )
    return held


def _fitting(tokenizer: Tokenizer, rows: int, folder: Path, config: Mapping[str, Any]) -> Vocabulary:
    """The tokenizer's vocabulary, padded to the rows of the model's tables, with all that ends a text."""
    if tokenizer.size > rows:
        raise SightlineError(
            f"the tokenizer of {folder} knows {tokenizer.size:,} ids, but the model has {rows:,} rows",
            "Use the tokenizer that the model was trained with",
        )
    told = read_json(folder / GENERATION) if (folder / GENERATION).is_file() else {}
    return replace(tokenizer.vocabulary, padded=rows, ends=ends_of(tokenizer.vocabulary, told, config))


def _form(file: Path, config: Mapping[str, Any]) -> tuple[Architecture | None, Form]:
    """The form that a config.json describes, and its architecture where it is transformers'."""
    name = config.get("model_type")
    if config.get("quantization_config"):
        raise SightlineError(f"{file} describes quantised weights", "Save the model in float32, float16 or bfloat16")
    if (known := architecture_of(config)) is not None:
        return known, known.form(Settings(config, str(file)))
    if name != OURS:
        raise SightlineError(
            f"{file} says model_type = {name!r}, an architecture that Sightline's own stack does not know",
            f"It knows {', '.join(dict.fromkeys([*(one.name for one in ARCHITECTURES.values()), OURS]))}; "
            "`sightline see` looks at any",
        )
    if config.get("layout") != LAYOUT:
        raise SightlineError(
            f"{file} has layout {config.get('layout')!r}, not {LAYOUT}", "Use the version that wrote it"
        )
    shape, head = config.get("shape"), config.get("head")
    if not isinstance(shape, dict) or not isinstance(head, dict):
        raise SightlineError(f"{file} does not give the shape and the head", "Copy the model again")
    named = {"pair": "body", "two": "decoder"}.get(str(config.get("stack")))
    parts = {} if named is None else {named: config.get(named)}
    try:
        return None, Form(Shape(**filled(Shape, shape, file)), **filled(Form, head | parts, file))
    except (TypeError, ZeroDivisionError) as error:
        raise SightlineError(f"{file} does not describe a whole model ({error})", "Copy the model again") from error


def _agree(folder: Path, form: Form, notes: Mapping[str, Any] | None) -> None:
    """Both files tell the sizes; where they differ, one of them belongs to another model."""
    told_sizes = (notes or {}).get("shape", {})
    for name in ("layers", "width", "heads", "vocabulary"):
        here = getattr(form.shape, name)
        if told_sizes.get(name, here) != here:
            raise SightlineError(
                f"{folder / CONFIG} and {folder / NOTES} disagree: {name} is {here} and {told_sizes[name]}",
                "One of them belongs to another model: copy the folder again",
            )


def _assembled(
    folder: Path, architecture: Architecture | None, form: Form, objective: Objective, tokenizer: Tokenizer
) -> Model:
    """The model with its weights: built without any, so that nothing large is drawn only to be replaced."""
    ids = objective.vocabulary
    tensors, file = tensors_in(folder), weight_files(folder)[0]
    if architecture is not None and form.tied and two_tables(architecture, form, tensors):
        form = replace(form, tied=False)
    with torch.device("meta"):
        hollow = _hollow(form, ids, tokenizer)
        head = form.head(hollow, ids.unpredictable)
        lengths = lengths_of(form.shape) if objective.tells_lengths else None
    shapes = {f"stack.{name}": tensor.shape for name, tensor in hollow.state_dict().items()}
    shapes |= {f"head.{name}": tensor.shape for name, tensor in head.state_dict().items()}
    if lengths is not None:
        shapes |= {f"lengths.{name}": tensor.shape for name, tensor in lengths.state_dict().items()}
    if form.tied:
        shapes.pop("head.weight")
    if architecture is None:
        state = same_layout(tensors, shapes, file)
    else:
        state = adopted(architecture, form, tensors, shapes, file)
    hollow.load_state_dict(_under("stack.", state), assign=True)
    head.load_state_dict(_under("head.", state), assign=True, strict=False)  # a tied table comes with the stack
    if form.tied:
        head.weight = token_table(hollow).weight
    if isinstance(head, Head):
        head.barred = torch.as_tensor(ids.unpredictable, dtype=torch.long)
    if lengths is not None:
        lengths.load_state_dict(_under("lengths.", state), assign=True)
        lengths.barred = torch.zeros(1, dtype=torch.long)  # a length of 0
    return Model(objective, hollow, head, tokenizer, lengths=lengths)


def _hollow(form: Form, ids: Vocabulary, tokenizer: Tokenizer) -> Transformer | Pair | Two:
    """The stack, to be filled."""
    if form.decoder is not None:
        return Two(form.shape, form.decoder)
    return Transformer(form.shape) if form.body is None else paired(form.body, form.shape, ids, tokenizer)


def _under(prefix: str, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in state.items() if name.startswith(prefix)}


def _fitted(
    folder: Path, config: Mapping[str, Any], notes: Mapping[str, Any] | None, tokenizer: Tokenizer, package: str | None
) -> Model:
    rows = config.get("vocab_size")
    if notes is None or not isinstance(rows, int):
        raise SightlineError(f"{folder} is not whole: {NOTES} or vocab_size is missing", "Copy the model again")
    vocabulary = _fitting(tokenizer, rows, folder, config)
    objective = revived(notes.get("objective", {}), vocabulary, folder / NOTES, package)
    if config["stack"] == "bag":
        if not isinstance(objective, Manner):
            raise SightlineError(
                f"{folder / NOTES} names {objective.family}, but {folder / CONFIG} a bag of words",
                "Copy the model again",
            )
        bag = Bag.from_tensors(vocabulary, tensors_in(folder), objective)
        return Model(objective, bag, BagHead(bag), tokenizer)
    table = Table.from_tensors(vocabulary, tensors_in(folder))
    if table.n != config.get("n") or table.n != getattr(objective, "n", table.n):
        raise SightlineError(
            f"{folder / WHOLE} holds n-grams up to {table.n}, but its settings say {config.get('n')}",
            "Copy the model again",
        )
    return Model(objective, table, TableHead(table), tokenizer)


def _of_numbers(folder: Path, config: Mapping[str, Any], notes: Mapping[str, Any] | None, package: str | None) -> Model:
    """A model that reads numbers: a regression, one for each series, or a transformer with a density for its head."""
    if notes is None:
        raise SightlineError(f"{folder} is not whole: {NOTES} is missing", "Copy the model again")
    objective = revived(notes.get("objective", {}), Vocabulary(0, 0), folder / NOTES, package)
    stack: Linear | Regressions | Transformer
    if config.get("stack") == "linear":
        stack = Linear(int(config.get("p", 0)))
        model = Model(objective, stack, LinearHead(stack), None)
    elif config.get("stack") == "regressions":
        stack = Regressions.hollow(config.get("method"), config.get("series", ()), int(config.get("p", 0)))
        model = Model(objective, stack, nn.Identity(), None)
    else:
        stack = Transformer(Shape(**filled(Shape, config.get("shape", {}), folder / CONFIG)))
        model = Model(objective, stack, DensityHead(stack.shape.width, config["law"]), None)
    try:
        model.load_state_dict(tensors_in(folder))
    except RuntimeError as error:
        raise SightlineError(
            f"{folder / WHOLE} does not fit its settings ({str(error).splitlines()[0]})", "Copy the model again"
        ) from error
    return model
