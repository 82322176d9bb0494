"""What a model is made of, beside its weights; and how an architecture of other people's names the same parts."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, TypeVar, cast

from numpy.typing import NDArray
from torch import nn

from ..data.vocabulary import Vocabulary
from ..errors import SightlineError
from ..objectives.base import Objective
from ..sight import Rule
from ..stacks.head import Head
from ..stacks.judge import Judge
from ..stacks.pair import Body, Pair
from ..stacks.parts import Activation, Norm
from ..stacks.shape import Shape
from ..stacks.transformer import Transformer
from ..stacks.two import Two

T = TypeVar("T")

# Our activations by transformers' names; the first name of each is the one we write.
ACTIVATIONS: dict[str, Activation] = {
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "relu": "relu",
    "relu2": "relu2",
    "silu": "silu",
    "swish": "silu",
}
MARKS = ("pad", "bos", "eos")  # those that a config.json names
MORE = ("cls", "sep")  # those that it names for some architectures, whose settings then hold a null for them


def _id_of(mark: str) -> str:
    return f"{mark}_token_id"


def marks(objective: Objective) -> dict[str, int | list[int]]:
    """Ids of the marks that there are, as transformers names them; where several end a text, all of them."""
    vocabulary = objective.vocabulary
    found: dict[str, int | list[int]] = {_id_of(mark): id for mark in MARKS if (id := getattr(vocabulary, mark)) >= 0}
    if vocabulary.ends:
        found[_id_of("eos")] = [stop for stop in vocabulary.stops if stop >= 0]
    first = objective.begins_with
    return found if first is None else found | {"decoder_start_token_id": first}


@dataclass(frozen=True)
class Form:
    """A stack and its head, without weights.

    Parameters
    ----------
    shape : of the stack.
    tied : the head shares the embedding table.
    head_bias : a bias for each id.
    transform : activation, norm and its epsilon of a dense layer before the table (BERT), or None. transform_bias : of
        that layer and its norm.
    judge : activation of a head that labels slots and has no table (ELECTRA's discriminator); None: it answers tokens.
    scale : what states are multiplied by before the table (see ``Head``).
    body : what the halves are where the stack is a pair. decoder : layers of the decoder where it is an encoder and a
        decoder. Both None: it is one transformer.
    pad : id of padding, for an architecture that counts places from it (RoBERTa); nothing is computed with it.
    """

    shape: Shape
    tied: bool = False
    head_bias: bool = False
    transform: tuple[Activation, Norm, float] | None = None
    judge: Activation | None = None
    scale: float = 1.0
    body: Body | None = None
    decoder: int | None = None
    transform_bias: bool = True
    pad: int = -1

    @classmethod
    def of(cls, stack: Transformer | Pair | Two, head: Head | Judge) -> Form:
        """The form of a stack and its head."""
        if isinstance(head, Judge):
            return cls(stack.shape, judge=head.activation)
        body = stack.body if isinstance(stack, Pair) else None
        decoder = stack.decoder_layers if isinstance(stack, Two) else None
        transform: tuple[Activation, Norm, float] | None = None
        if head.activation is not None and head.norm is not None:
            kind: Norm = "rms" if "RMS" in type(head.norm).__name__ else "layer"
            transform = (head.activation, kind, float(getattr(head.norm, "eps")))  # noqa: B009 - both norms have it
        tied = head.weight is getattr(stack.embedding, "weight", None)
        bias = head.bias is not None
        biased = head.dense is None or head.dense.bias is not None
        return cls(stack.shape, tied, bias, transform, None, head.scale, body, decoder, biased)

    def head(self, stack: Transformer | Pair | Two, barred: NDArray[Any]) -> Head | Judge:
        """A fresh head of this form on its stack; ``barred`` ids are never predicted."""
        if self.judge is not None:
            return Judge(self.shape.width, self.judge)
        tied = cast(nn.Embedding, stack.embedding) if self.tied else None
        parts = (tied, self.head_bias, self.transform, self.scale, self.transform_bias)
        return Head(self.shape.width, self.shape.vocabulary, barred, *parts)

    @property
    def depths(self) -> tuple[int, int]:
        """Layers of the encoder and of the decoder, where there are both."""
        decoder = self.decoder or 0
        return self.shape.layers - decoder, decoder

    @property
    def plain(self) -> Form:
        """The same form with every default written out and without settings that have no effect.

        Two forms that compute the same have equal plain forms.
        """
        shape, fresh = self.shape, {field.name: field.default for field in fields(Shape)}
        idle = []
        if shape.positions != "rope":
            idle += ["rope_base", "window_base", "stretch"]
        if shape.positions not in ("learned", "rope"):
            idle.append("position_tables")
        if not shape.experts:
            idle += ["chosen", "balance"]
        if shape.positions != "sinusoidal" and not shape.placed:
            idle.append("sines_first")
        if shape.positions != "relative":
            idle += ["relative_buckets", "relative_furthest", "relative_both_ways"]
        if shape.norm == "rms":
            idle.append("norm_bias")  # RMSNorm has none
        one = self.body is None and self.decoder is None  # halves and stacks count their own layers
        told = [shape.window(layer) for layer in range(shape.layers)] if one else list(shape.windows)
        windows = tuple(told) if any(reach is not None for reach in told) else ()
        if not windows or shape.window_base == shape.rope_base:
            idle.append("window_base")
        written: dict[str, Any] = {name: fresh[name] for name in idle}
        return replace(
            self,
            pad=-1,
            shape=replace(
                shape,
                kv_heads=shape.shared_heads,
                head_width=shape.of_head,
                hidden=shape.feed,
                table_width=shape.of_table,
                scale=shape.usual_scale,
                windows=windows,
                **written,
            ),
        )


@dataclass(frozen=True)
class Link:
    """One of our tensors and where another layout keeps it.

    Parameters
    ----------
    ours : name in ``Model.state_dict()``.
    theirs : names whose tensors, joined along the first axis, are ours.
    sizes : rows of each of them, where there are several.
    turned : theirs is stored inputs first (GPT-2's Conv1D), ours outputs first.
    skipped : rows at the front of theirs that nothing reads (BART's positions); they are written as zeros.
    share : which of how many equal parts of theirs along the first axis is ours; links to all of them follow in order.
    lifted : theirs has one axis more, of one. optional : a file may lack it; ours is then zeros.
    """

    ours: str
    theirs: tuple[str, ...]
    sizes: tuple[int, ...] = ()
    turned: bool = False
    skipped: int = 0
    share: tuple[int, int] = (0, 1)
    lifted: bool = False
    optional: bool = False


@dataclass(frozen=True)
class Settings:
    """A ``config.json``, read with errors that name the setting."""

    values: Mapping[str, Any]
    file: str

    def _wrong(self, name: str, value: object, wanted: str) -> SightlineError:
        return SightlineError(
            f"{self.file} says {name} = {value!r}, where {wanted} is needed", "Correct it or copy it again"
        )

    def over(self, usual: Mapping[str, Any]) -> Settings:
        """The same, with these where a value is missing or null."""
        given = {name: value for name, value in self.values.items() if value is not None}
        return replace(self, values={**usual, **given})

    def get(self, name: str, default: Any = None) -> Any:
        """The value as it stands; ``default`` where it is missing or null."""
        value = self.values.get(name)
        return default if value is None else value

    def whole(self, name: str, default: int | None = None) -> int:
        """A whole number above zero."""
        value = self.get(name, default)
        if value is None:
            raise SightlineError(
                f"{self.file} does not say {name}", "Copy it again: it belongs to another model or is cut"
            )
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise self._wrong(name, value, "a whole number above 0")
        return value

    def number(self, name: str, default: float) -> float:
        """A number of 0 or more."""
        value = self.get(name, default)
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < float("inf"):
            raise self._wrong(name, value, "a number of 0 or more")
        return float(value)

    def flag(self, name: str, default: bool) -> bool:
        """True or false."""
        value = self.get(name, default)
        if not isinstance(value, bool):
            raise self._wrong(name, value, "true or false")
        return value

    def one_of(self, name: str, default: str, known: Mapping[str, T]) -> T:
        """What a word stands for."""
        value = self.get(name, default)
        if not isinstance(value, str) or value not in known:
            raise self._wrong(name, value, f"one of {', '.join(known)}")
        return known[value]

    def activation(self, name: str, default: str) -> Activation:
        """An activation under transformers' name."""
        return self.one_of(name, default, ACTIVATIONS)

    def insist(self, name: str, value: object) -> None:
        """Refuse any other value: it would be another computation than ours."""
        if (found := self.get(name, value)) != value:
            raise SightlineError(
                f"{self.file} says {name} = {found!r}, which Sightline's stack does not compute (only {value!r})",
                "Look at the model with `sightline see`, which does not need the stack",
            )


def activation_name(activation: Activation) -> str:
    """What transformers calls it."""
    return next(name for name, ours in ACTIVATIONS.items() if ours == activation)


@dataclass(frozen=True)
class Architecture:
    """An architecture of transformers: how its settings and weights map to ours.

    Parameters
    ----------
    name : ``model_type`` in ``config.json``.
    class_name : the class of transformers that holds the model with its head, by which those of one name differ.
    family : the objective that its sight and its questions are. fields : its settings that are not the usual ones.
    also : others whose answers are the same stack's under the same sight; only our own notes tell them apart.
    sight : who sees whom in it.
    form : our form from its settings. settings : its settings from our form, ids of tokens left away.
    links : every tensor but the head's own table. table : the name of that, where it is not tied.
    prefix : what stands before names in a file with the head, and may be missing in one without.
    renamed : (pattern, replacement) for names in old files.
    unused : pattern of names that play no part in the answers (buffers, pooling).
    """

    name: str
    class_name: str
    family: type[Objective]
    sight: Rule
    form: Callable[[Settings], Form]
    settings: Callable[[Form], dict[str, Any]]
    links: Callable[[Form], list[Link]]
    table: str
    prefix: str
    renamed: tuple[tuple[str, str], ...] = ()
    unused: str = r"$^"
    fields: Mapping[str, Any] = field(default_factory=dict)
    also: tuple[type[Objective], ...] = ()

    def config(self, form: Form, objective: Objective) -> dict[str, Any]:
        """The whole ``config.json``."""
        vocabulary = objective.vocabulary
        own = self.settings(replace(form, pad=vocabulary.pad))
        settings = {
            **dict.fromkeys(map(_id_of, MARKS)),  # null where the tokenizer has none, in place of a default
            **own,
            **{name: id for mark in MORE if (name := _id_of(mark)) in own and (id := getattr(vocabulary, mark)) >= 0},
            **marks(objective),
            "architectures": [self.class_name],
            "dtype": "float32",
            "model_type": self.name,
            "tie_word_embeddings": form.tied,
            "vocab_size": form.shape.vocabulary,
        }
        return dict(sorted(settings.items()))

    def asked(self, vocabulary: Vocabulary) -> type[Objective]:
        """What it comes as: its family, or one of pairs where the tokenizer lacks that one's marks (mT5: sentinels)."""
        pairs = [kind for kind in self.also if kind.reads == "pairs"]
        try:
            self.family(vocabulary, **self.fields)
        except SightlineError:
            return next(iter(pairs), self.family)
        return self.family

    def all_links(self, form: Form) -> list[Link]:
        """Every tensor of the form."""
        return self.links(form) + ([] if form.tied else [Link("head.weight", (self.table,))])

    def fits(self, form: Form, objective: Objective) -> bool:
        """Whether transformers computes exactly this model, sight included."""
        families = {one.family for one in (self.family, *self.also)}
        if objective.family not in families or objective.rule != self.sight or form.body is not None:
            return False
        config = Settings(self.config(form, objective), "config.json")
        try:
            return self.form(config).plain == form.plain
        except SightlineError:
            return False  # a value that transformers has too, but not in this architecture

    def current(self, name: str) -> str:
        """A tensor's name in a file, as it would be written today."""
        for pattern, replacement in self.renamed:
            name = re.sub(pattern, replacement, name)
        return name

    def ignores(self, name: str) -> bool:
        """Whether a tensor of this name plays no part in the answers."""
        return re.match(self.unused, name) is not None
