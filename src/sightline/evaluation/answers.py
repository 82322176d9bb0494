"""The answers of a model to a task's items, one record an item, and what they amount to.

    pair     right where the good sentence gets the higher score                          accuracy, by group
    choice   right where the right candidate gets the highest; again, per byte of it      accuracy, accuracy per byte
    word     right where the model would write it; and what it costs                      accuracy, perplexity
    number   right where the number in what the model writes is the right one             exact match
    text     what it costs                                                                bits per byte

A record is a row of ``items/TASK.jsonl``: item, group, gold, predicted, correct, scores (log p in nats).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from ..decoders.sampling import GREEDY
from ..errors import SightlineError
from ..objectives.model import Model
from ..objectives.writing import generate
from .continuation import Question, Scorer, Scores
from .score import Measured
from .suite import STOPS, Item, Kind, Task, number_in

Record = dict[str, Any]

TOGETHER = 256  # items whose records are written together: what a kill loses at most
WRITTEN = 16  # of which texts are written, which takes longer
ANSWER = 256  # tokens of a written answer, at most
QUESTIONS: dict[Kind, Question] = {"pair": "whole", "choice": "continuation", "word": "word"}


@dataclass(frozen=True)
class Asking:
    """How the items of a task are asked.

    Parameters
    ----------
    length : most tokens of an answer that is written.
    """

    scorer: Scorer
    length: int = ANSWER

    def refusal(self, kind: Kind) -> str:
        """Why the kind of task has no meaning for the family; empty where it has one."""
        objective = self.scorer.objective
        if kind in QUESTIONS:
            return self.scorer.refusal(QUESTIONS[kind])
        if kind == "number":
            if not objective.writes:
                return f"{objective.family} writes nothing"
            if objective.writes_from == "right":
                return f"{objective.family} writes what stands before a text, and an answer stands behind its question"
        return ""

    def rule(self, kind: Kind) -> str:
        """How the answers to a kind of task come about, in words."""
        if kind == "number":
            stops = " or ".join(repr(stop) for stop in STOPS)
            return f"written, the likeliest at each step, up to {stops} or {self.length} tokens; the number behind ####"
        told = f"{self.scorer.rule(QUESTIONS[kind])}; {self.scorer.marks(QUESTIONS[kind])}"
        if kind == "word":
            way = "each token the likeliest" if self.steps else "written by its own decoder, told how many tokens"
            return f"{told}; right: {way}"
        return told

    @property
    def steps(self) -> bool:
        """Whether a word is judged token by token, as it is scored; other families write it."""
        objective = self.scorer.objective
        return objective.score_class == "exact" and objective.sampler == "next"

    def records(self, task: Task, items: Sequence[Item]) -> Iterator[list[Record]]:
        """The records of items, some together, in order."""
        ask = {"pair": self._pairs, "choice": self._choices, "word": self._words, "number": self._numbers}[task.kind]
        each = WRITTEN if task.kind == "number" or (task.kind == "word" and not self.steps) else TOGETHER
        for start in range(0, len(items), each):
            yield ask(items[start : start + each])

    def _scored(self, items: Sequence[Item], question: Question, greedy: bool = False) -> tuple[Scores, list[slice]]:
        requests = [request for item in items for request in item.requests]
        owners = [_key(item) for item in items for _ in item.choices]
        ends = np.cumsum([len(item.choices) for item in items]).tolist()
        scores = self.scorer.score(requests, question, items=owners, greedy=greedy)
        return scores, [slice(end - len(item.choices), end) for item, end in zip(items, ends, strict=True)]

    def _pairs(self, items: Sequence[Item]) -> list[Record]:
        scores, parts = self._scored(items, "whole")
        records = []
        for item, part in zip(items, parts, strict=True):
            good, bad = scores.logp[part]
            names = ("good", "bad")
            record = _record(item, "good", names[int(good <= bad)], float(good > bad), scores.logp[part])
            records.append(record | _drawn(scores.looks[:, part], 0) | _cut(scores, part))
        return records

    def _choices(self, items: Sequence[Item]) -> list[Record]:
        scores, parts = self._scored(items, "continuation")
        records = []
        for item, part in zip(items, parts, strict=True):
            logp = scores.logp[part]
            sizes = np.array([max(1, len(choice.encode("utf-8"))) for choice in item.choices])
            plain, normed = int(logp.argmax()), int((logp / sizes).argmax())
            record = _record(item, item.gold, plain, float(plain == item.gold), logp)
            record |= {"predicted_per_byte": normed, "correct_per_byte": float(normed == item.gold)}
            records.append(record | _drawn(scores.looks[:, part], int(item.gold)) | _cut(scores, part))
        return records

    def _words(self, items: Sequence[Item]) -> list[Record]:
        scores, _ = self._scored(items, "word", greedy=self.steps)
        written = [""] * len(items) if self.steps else self._written_words(items, scores.asked)
        records = []
        for at, item in enumerate(items):
            word = item.choices[0]
            right = bool(scores.greedy[at]) if self.steps else written[at].strip() == word
            predicted = word if right else written[at].strip()
            record = _record(item, word, predicted, float(right), scores.logp[at : at + 1])
            part = slice(at, at + 1)
            drawn = _drawn(scores.looks[:, part], 0) | _cut(scores, part)
            records.append(record | {"tokens": int(scores.asked[at])} | drawn)
        return records

    def _written_words(self, items: Sequence[Item], counts: NDArray[np.int64]) -> list[str]:
        """What the family writes behind each context, as many tokens as the right word has."""
        texts = [""] * len(items)
        for count in np.unique(counts).tolist():
            chosen = np.flatnonzero(counts == count).tolist()
            pieces = self._write([items[at].contexts[0] for at in chosen], int(count))
            for at, piece in zip(chosen, pieces, strict=True):
                texts[at] = piece
        return texts

    def _numbers(self, items: Sequence[Item]) -> list[Record]:
        pieces = self._write([item.contexts[0] for item in items], self.length)
        records = []
        for item, piece in zip(items, pieces, strict=True):
            stops = [at for stop in STOPS if (at := piece.find(stop)) >= 0]
            written = piece[: min(stops)] if stops else piece
            predicted = number_in(written)
            record = _record(item, item.gold, predicted, float(predicted == item.gold), np.zeros(0))
            records.append(record | {"written": written})
        return records

    def _write(self, contexts: Sequence[str], length: int) -> list[str]:
        return written(self.scorer.model, contexts, length)


def written(model: Model, contexts: Sequence[str], length: int) -> list[str]:
    """What a model writes behind each context, greedily; of a long context the end is read.

    Raises
    ------
    SightlineError : the model's context does not hold so many tokens.
    """
    room = model.context - length - 2
    if room < 1:
        raise SightlineError(
            f"{length} tokens do not fit a context of {model.context} with a question before them",
            f"Use --length {max(1, model.context // 2)} or less",
        )
    tokenizer = model.tokenizer
    read = []
    for context, ids in zip(contexts, tokenizer.encode_batch(list(contexts)), strict=True):
        read.append(tokenizer.decode(ids[-room:]) if len(ids) > room else context)
    return [text.pieces[0] for text in generate(model, read, length=length, sampling=GREEDY)]


def measures(task: Task, records: Sequence[Record], asking: Asking) -> dict[str, Measured]:
    """What the records amount to, the task's own measure first."""
    ones = np.ones(len(records))
    rule = asking.rule(task.kind)

    def shares(name: str, field: str) -> Measured:
        right = np.array([record[field] for record in records], np.float64)
        notes = [_shortened(records), "" if task.kind == "word" else _doubt(records)]
        return Measured(name, "of 1", "task", "accuracy", right, ones, rule, "; ".join(filter(None, notes)))

    if task.kind == "number":
        return {"exact_match": shares("exact_match", "correct")}
    found = {"accuracy": shares("accuracy", "correct")}
    if task.kind == "choice":
        found["accuracy_per_byte"] = shares("accuracy_per_byte", "correct_per_byte")
    if task.kind == "word":
        nats = np.array([-record["scores"][0] for record in records])
        class_ = asking.scorer.objective.score_class
        found["nats_per_word"] = Measured(
            "nats_per_word", "nats/word", class_, "continuation", nats, ones, rule, _doubt(records)
        )
    return found


def groups(task: Task, records: Sequence[Record], whole: Measured) -> dict[str, Measured]:
    """The task's measure for each of its groups, in alphabetical order; none where it has one group."""
    names = np.array([record["group"] for record in records])
    kept = sorted(set(names.tolist()))
    return {} if len(kept) < 2 else {name: whole.only(names == name) for name in kept}


def perplexity(nats_per_word: float) -> float:
    """The perplexity of words that cost so many nats on average."""
    return math.exp(min(nats_per_word, 700.0))


def _record(item: Item, gold: Any, predicted: Any, correct: float, scores: NDArray[np.float64]) -> Record:
    kept = [round(float(one), 6) for one in scores]
    return {"item": item.id, "group": item.group, "gold": gold, "predicted": predicted, "correct": correct} | {
        "scores": kept
    }


def _drawn(looks: NDArray[np.float64], gold: int) -> Record:
    """Of drawn scores [looks, candidates], by how much the right one leads the next best, and its Monte Carlo error.

    Of one candidate the error of its score.
    """
    if len(looks) < 2:
        return {}
    others = np.delete(looks, gold, axis=1)
    lead = looks[:, gold] - (others[:, others.mean(0).argmax()] if others.shape[1] else 0.0)
    error = {"error": round(float(lead.std(ddof=1) / math.sqrt(len(lead))), 6)}
    return {"lead": round(float(lead.mean()), 6)} | error if others.shape[1] else error


def _cut(scores: Scores, part: slice) -> Record:
    """Said of an item only where the model's context was too short for it."""
    return {"cut": True} if scores.cut[part].any() else {}


def _shortened(records: Sequence[Record]) -> str:
    cut = sum("cut" in record for record in records)
    return f"{cut:,} of {len(records):,} items did not fit the model's context" if cut else ""


def _doubt(records: Sequence[Record]) -> str:
    if not records or "error" not in records[0]:
        return ""
    if "lead" not in records[0]:
        error = math.sqrt(sum(record["error"] ** 2 for record in records)) / len(records)
        return f"Monte Carlo error of their mean {error:.4f}"
    near = sum(abs(record["lead"]) < 2 * record["error"] for record in records)
    return f"Monte Carlo: {near:,} of {len(records):,} answers lead by less than twice their error"


def _key(item: Item) -> int:
    """A number that the item keeps wherever it stands among others, for draws."""
    return crc32(item.id.encode("utf-8"))
