"""Labelled items for fine-tuning: read by one description of columns, split, and looked over before any training.

files --records--> columns --by role--> examples --> train / dev / test, labels, overlaps

Five tasks: ``classify`` and ``regress`` (a text or a pair of texts, and a label or a number), ``tag`` (words and a tag
for each), ``spans`` (a question, a context, and where the answer stands in it), ``text`` (a source and its target).
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from ..errors import SightlineError
from ..files import fingerprint
from .records import NAMES, READABLE, TAGGED, Record, labelled_format, records_of
from .split import SPLITS, Split, split_named

Work = Literal["classify", "regress", "tag", "spans", "text"]

NEEDED: dict[Work, tuple[str, ...]] = {
    "classify": ("text", "label"),
    "regress": ("text", "label"),
    "tag": ("words", "tags"),
    "spans": ("context", "question", "answers"),
    "text": ("source", "target"),
}
SHARE = 0.1  # of train that becomes dev, or test, where there is none
MANY = 20  # whole numbers as labels: more different ones are amounts


@dataclass(frozen=True)
class Example:
    """One item; what its task has no use for is empty.

    Parameters
    ----------
    id : its own, or file and line. where : file and line, for errors.
    text, pair : what is read; of ``spans`` the question and the context, of ``text`` the source and nothing.
    label : a class, a number as text, or the target. words, tags : of ``tag``.
    answers : texts that are right, and where each begins in ``pair``, in characters.
    """

    id: str
    where: str
    text: str = ""
    pair: str = ""
    label: str = ""
    words: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    answers: tuple[tuple[str, int], ...] = ()

    @property
    def answered(self) -> bool:
        """Whether the right answer is there."""
        return bool(self.label or self.tags or self.answers)

    @property
    def key(self) -> bytes:
        """What two items share that ask the same, whatever their answers."""
        told = "\x1f".join(self.words) if self.words else f"{self.text}\x1e{self.pair}"
        return hashlib.blake2b(" ".join(told.split()).encode(), digest_size=8).digest()


@dataclass(frozen=True)
class Examples:
    """A task's items in three parts.

    Parameters
    ----------
    labels : classes or tags of train, in order; empty where the task has none.
    notes : what was cut, left out or found twice, a line each.
    shared : which items of test stand in train too, [test].
    fingerprint : of all items and their labels.
    """

    task: Work
    train: tuple[Example, ...]
    dev: tuple[Example, ...]
    test: tuple[Example, ...]
    labels: tuple[str, ...]
    notes: tuple[str, ...]
    shared: tuple[bool, ...] = field(repr=False, default=())
    fingerprint: str = ""


def columns_read(told: str) -> dict[str, str]:
    """``text=sentence,label=2`` as roles and the columns that play them.

    Raises
    ------
    SightlineError : no such role, or not written so.
    """
    found: dict[str, str] = {}
    for part in filter(None, (one.strip() for one in told.split(","))):
        role, equals, column = (one.strip() for one in part.partition("="))
        if not equals or not column:
            raise SightlineError(f"--columns {told!r} is not understood at {part!r}", "Write text=sentence,label=label")
        if role not in NAMES:
            raise SightlineError(f"no column plays the role {role!r}", f"The roles are {', '.join(NAMES)}")
        found[role] = column
    return found


def read_examples(
    data: Path,
    *,
    task: Work | Literal["auto"] = "auto",
    columns: str = "",
    named: Mapping[Split, str] | None = None,
    seed: int = 0,
    limit: int = 0,
) -> Examples:
    """Read a labelled data set.

    Parameters
    ----------
    data : a folder with files named train, dev and test, or one file, which is train.
    task : auto tells it by the columns: tags, answers, targets, numbers, else classes.
    columns : which column plays which role, by name, or by number in a table without header.
    named : files of sides, in the folder or anywhere; they go before what names say.
    seed : of what is cut off train for a side that is missing, and of ``limit``.
    limit : train items at most, drawn by seed; 0: all.

    Raises
    ------
    SightlineError : a file or column is missing, a line cannot be read, or a label was not seen in training.
    """
    if task != "auto" and task not in get_args(Work):
        raise SightlineError(f"there is no task {task!r}", f"Choose auto, {', '.join(get_args(Work))}")
    roles, notes = columns_read(columns), list[str]()
    files = _files(Path(data).expanduser(), named or {}, notes)
    records = {side: [(path, records_of(path, roles)) for path in paths] for side, paths in files.items()}
    first, rows = records["train"][0]
    chosen = _task_of(first, rows, roles) if task == "auto" else task
    sides = {
        side: tuple(one for path, found in parts for one in _read(path, found, chosen, roles))
        for side, parts in records.items()
    }
    if task == "auto" and chosen == "classify" and _are_amounts([one.label for one in sides["train"]]):
        chosen = "regress"
    return _looked_over(chosen, sides, notes, seed, limit)


def read_items(data: Path, task: Work, columns: str = "") -> tuple[Example, ...]:
    """Items to be answered: the labels, tags, answers or targets of a file may be there, and need not.

    Raises
    ------
    SightlineError : the file or a column is missing, or a line cannot be read.
    """
    roles = columns_read(columns)
    return tuple(_read(data, records_of(data, roles), task, roles, labelled=False))


def _files(data: Path, named: Mapping[Split, str], notes: list[str]) -> dict[Split, list[Path]]:
    """The files of each side."""
    if not data.exists():
        raise SightlineError(f"{data} does not exist", "Name a folder or a file of labelled items")
    found: dict[Split, list[Path]] = {side: [] for side in SPLITS}
    if data.is_file():
        found["train"] = [data]
    else:
        for path in sorted(one for one in data.iterdir() if one.is_file() and labelled_format(one.name)):
            side = split_named(path.name)
            if side is not None:
                found[side].append(path)
    for side, told in named.items():
        if not told:
            continue
        there = [path for path in (data / told, data.parent / told, Path(told).expanduser()) if path.is_file()]
        if not there:
            raise SightlineError(f"--{side} {told} is neither in {data} nor a path", "Check the name")
        found[side] = [there[0]]
    for side in SPLITS:
        paths = found[side]
        plain = [path for path in paths if path.name.split(".")[0] == side]  # train.tsv before train_few.tsv
        if len(paths) > 1 and plain:
            left = ", ".join(path.name for path in paths if path not in plain)
            found[side] = paths = plain
            notes.append(f"{side} is {paths[0].name}; {left} left out: name it with --{side} to use it")
        elif len(paths) > 1:
            notes.append(f"{side} is {', '.join(path.name for path in paths)} together")
    if not found["train"]:
        names = ", ".join(sorted(path.name for path in data.iterdir())[:8]) if data.is_dir() else ""
        raise SightlineError(
            f"{data} holds no file named train ({names or 'it is empty'})",
            f"Name the file with --train; the formats are {READABLE}",
        )
    return found


def _column(record: Mapping[str, Any], role: str, roles: Mapping[str, str]) -> str | None:
    """The column that plays a role in a record, or None."""
    if role in roles and not (roles[role].isdecimal() and role in record):  # a sentence's were read by number
        return roles[role] if roles[role] in record else None
    lower = {str(name).lower(): name for name in record}
    found = next((lower[name] for name in NAMES[role] if name in lower), None)
    if found is None and not roles and set(record) == {"1", "2"}:  # two columns without a header
        return {"text": "1", "label": "2"}.get(role)
    return found


def _task_of(path: Path, rows: Sequence[Record], roles: Mapping[str, str]) -> Work:
    record = rows[0][1]
    if labelled_format(path.name) in TAGGED:
        return "tag"
    order: tuple[Work, ...] = ("tag", "spans", "text", "classify")
    for task in order:
        if all(_column(record, role, roles) is not None for role in NEEDED[task]):
            return task
    if roles:
        for role in roles:
            _needed(record, role, roles, path.name)
    raise SightlineError(
        f"the columns of {path.name} do not tell the task ({', '.join(map(str, record))})",
        "Say which is which, such as --columns text=sentence,label=label (or by number: text=1,label=2)",
    )


def _needed(record: Mapping[str, Any], role: str, roles: Mapping[str, str], where: str) -> str:
    found = _column(record, role, roles)
    if found is None:
        wanted = roles.get(role) or " or ".join(NAMES[role][:3])
        raise SightlineError(
            f"{where} has no column {wanted!r} for {role} (there are: {', '.join(map(str, record))})",
            f"Name it: --columns {role}=COLUMN",
        )
    return found


def _are_amounts(labels: Sequence[str]) -> bool:
    """Whether labels are numbers to be told by their size: some not whole, or many different ones."""
    try:
        values = {float(label) for label in labels}
    except ValueError:
        return False
    return any(value != int(value) for value in values) or len(values) > MANY


def _read(
    path: Path, rows: Sequence[Record], task: Work, roles: Mapping[str, str], labelled: bool = True
) -> Iterator[Example]:
    """The examples of a file; what is answered, the last of what a task needs, may be absent where it is not known."""
    for number, record in rows:
        where = f"{path.name} line {number:,}"
        asked = NEEDED[task] if labelled or _column(record, NEEDED[task][-1], roles) else NEEDED[task][:-1]
        got = {role: record[_needed(record, role, roles, path.name)] for role in asked}
        name = _column(record, "id", roles)
        base = Example(str(record[name]) if name and str(record[name]) else f"{path.name}:{number}", where)
        if task == "tag":
            yield _tagged(base, got)
        elif task == "spans":
            base = replace(base, text=str(got["question"]), pair=str(got["context"]))
            if "answers" in got:
                start = _column(record, "start", roles)
                right = _answers(got["answers"], record[start] if start else None, base.pair, where)
                base = replace(base, answers=tuple(right))
            yield base
        elif task == "text":
            for role in asked:
                if got[role] is None or not str(got[role]).strip():
                    raise SightlineError(f"{where} has no {role}", "Give every item both")
            yield replace(base, text=str(got["source"]), label=str(got.get("target", "")))
        else:
            pair = _column(record, "pair", roles) if "pair" not in roles else _needed(record, "pair", roles, path.name)
            base = replace(base, text=str(got["text"]), pair="" if pair is None else str(record[pair]))
            label = got.get("label")
            told = "" if label is None else str(int(label)) if isinstance(label, bool) else str(label).strip()
            if labelled and not told:
                raise SightlineError(f"{where} has no label", "Give every item one")
            if task == "regress" and told and not _is_number(told):
                raise SightlineError(f"{where}: {told!r} is no number", "Use --task classify for names")
            yield replace(base, label=told)


def _is_number(told: str) -> bool:
    try:
        return bool(np.isfinite(float(told)))
    except ValueError:
        return False


def _tagged(base: Example, got: Mapping[str, Any]) -> Example:
    words, tags = ([one] if isinstance(one, str) else list(one) for one in (got["words"], got.get("tags", ())))
    if not words or ("tags" in got and len(words) != len(tags)):
        raise SightlineError(
            f"{base.where} has {len(words)} words and {len(tags)} tags", "Give every word its tag, and a word at least"
        )
    return replace(base, words=tuple(map(str, words)), tags=tuple(map(str, tags)))


def _answers(told: Any, start: Any, context: str, where: str) -> Iterator[tuple[str, int]]:
    """Answers as SQuAD and Hugging Face write them: objects, lists side by side, or one text with its start."""
    if isinstance(told, Mapping):
        found = list(zip(told.get("text", ()), told.get("answer_start", ()), strict=False))
    elif isinstance(told, str):
        found = [(told, context.find(told) if start is None else start)]
    else:
        found = [(one.get("text", ""), one.get("answer_start", one.get("start", -1))) for one in told]
    if not found:
        raise SightlineError(f"{where} has no answer", "Questions without one are not for pointers: leave them out")
    for text, at in found:
        yield str(text), int(at)


def _looked_over(
    task: Work, sides: Mapping[Split, tuple[Example, ...]], notes: list[str], seed: int, limit: int
) -> Examples:
    """The sides whole, their labels checked, what they share counted."""
    train, dev, test = (list(sides[side]) for side in SPLITS)
    draws = np.random.default_rng((seed, 11))
    for side, items in (("test", test), ("dev", dev)):
        if items or (side == "test" and dev):  # dev is then told of: said below
            continue
        order = draws.permutation(len(train))
        count = max(1, round(SHARE * len(train)))
        if count >= len(train):
            raise SightlineError(f"{len(train)} items are too few to cut {side} from", f"Give a --{side} file")
        items += [train[at] for at in sorted(order[:count].tolist())]
        train = [train[at] for at in sorted(order[count:].tolist())]
        notes.append(f"no {side} side: {count:,} items of train, drawn by seed {seed}, are it")
    if not test:
        test = dev
        notes.append("no test side: what is told is of dev, on which the epoch was chosen too")
    labels = _labels(task, train, (*dev, *test))  # of all of train, whatever is drawn of it
    if limit and limit < len(train):
        notes.append(f"{limit:,} of {len(train):,} train items, drawn by seed {seed}")
        train = [train[at] for at in sorted(draws.permutation(len(train))[:limit].tolist())]
    shared, told = _shared(train, test)
    told_all = "".join(f"{one.key.hex()}{one.label}{one.tags}{one.answers}" for one in (*train, *dev, *test))
    return Examples(
        task, tuple(train), tuple(dev), tuple(test), labels, (*notes, *told), shared, fingerprint(task, told_all)
    )


def _labels(task: Work, train: Sequence[Example], others: Sequence[Example]) -> tuple[str, ...]:
    """The classes or tags that training sees; a label of another side that it never sees is refused by name."""
    if task not in ("classify", "tag"):
        return ()
    seen = {label for one in train for label in (one.tags if task == "tag" else (one.label,))}
    if task == "classify" and len(seen) < 2:
        raise SightlineError(f"train has one label alone: {next(iter(seen))!r}", "Give items of two at least")
    for one in others:
        for label in one.tags if task == "tag" else (one.label,):
            if label not in seen:
                some = ", ".join(sorted(seen)[:12])
                raise SightlineError(
                    f"{one.where}: the label {label!r} was not seen in training (seen: {some})",
                    "Mend the label, or give training items of it",
                )
    return tuple(sorted(seen, key=_in_order))


def _in_order(label: str) -> tuple[int, float, str]:
    """Numbers by size, then names."""
    return (0, float(label), label) if _is_number(label) else (1, 0.0, label)


def _shared(train: Sequence[Example], test: Sequence[Example]) -> tuple[tuple[bool, ...], list[str]]:
    """Which test items are asked in training too, and a warning where there are any."""
    there = Counter(one.key for one in train)
    shared = tuple(one.key in there for one in test)
    if not any(shared):
        return shared, []
    count, example = sum(shared), next(one for one, here in zip(test, shared, strict=True) if here)
    if count == len(test):
        return shared, [f"warning: all {count:,} test items are in train too: the score says what was learned by heart"]
    told = f"warning: {count:,} of {len(test):,} test items ({count / len(test):.1%}) are in train too, the first in "
    return shared, [f"{told}{example.where}; the score without them stands beside"]
