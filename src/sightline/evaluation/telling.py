"""Targets of sources: a text is answered by a text, which the model writes.

    source   translate: A dog.      --bos source sep target eos--> loss of the target's tokens
    target   Ein Hund.              --written--> chrF of each, exact matches, BLEU of all

The epoch is chosen by the mean log p of a target's token on dev: writing all of dev after each would take as long as
the epoch. chrF: Popovic (2015); BLEU: Papineni et al. (2002); both by sacreBLEU (Post, 2018).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF
from torch import Tensor

from ..data.examples import Example, Examples
from ..data.laid import Room, targets_laid
from ..objectives.model import Model
from ..objectives.targets import Targets, rows_of_pairs
from ..progress import bar
from .labelled import measured, whole_score
from .score import Score, scored
from .teaching import Answer, Ints, Teaching
from .translation import cut_of

AT_ONCE = 32  # lines scored together
SIDES = ("train", "dev", "test")


class Telling(Teaching[Targets]):
    """A target for each source; the model that it is laid out for is used up."""

    by = "mean log p of a target's token"

    def __init__(self, examples: Examples, model: Model, told: Mapping[str, float] | None = None) -> None:
        super().__init__(examples, model, told)
        begun = Targets(model, dropout=0.0)
        if begun.added:
            self.notes.append(f"the tokenizer gains {', '.join(begun.added)}")
        self.tokenizer, two = begun.model.tokenizer, begun.model.objective.begins_with is not None
        self.tokenizer.need_targets()
        found = {side: (self._ids(examples, side, "text"), self._ids(examples, side, "label")) for side in SIDES}
        if examples.train:
            self.told = {"longest": max(len(ids) for ids in found["train"][1])}
        opens = len(self.tokenizer.opens)
        room = Room.within(begun.model.context, int(self.told["longest"]), not two, opens)
        self.lines = {side: targets_laid(*both, self.tokenizer, room) for side, both in found.items()}
        self.longest = min(int(self.told["longest"]), room.target)
        for number, of, most in ((0, "sources", room.source), (1, "targets", room.target)):
            over = sum(len(ids) > most for both in found.values() for ids in both[number])
            if over:
                self.notes.append(f"{over:,} {of} were cut at {most:,} tokens")
        self.examples = replace(examples, test=self._fitting(examples.test, found["test"][0], room.source))

    def _ids(self, examples: Examples, side: str, of: str) -> list[NDArray[np.int32]]:
        return self.tokenizer.encode_many([getattr(one, of) for one in getattr(examples, side)], "tokenizing")

    def _fitting(self, items: Sequence[Example], sources: Sequence[NDArray[Any]], most: int) -> tuple[Example, ...]:
        """Items whose sources are no longer than a model reads."""
        return tuple(
            one if len(ids) <= most else replace(one, text=self._cut(ids, most))
            for one, ids in zip(items, sources, strict=True)
        )

    def _cut(self, ids: NDArray[Any], most: int) -> str:
        """The beginning of a text; letters that are cut through may take more tokens than they had."""
        text = self.tokenizer.decode(ids[:most])
        while len(again := self.tokenizer.encode(text)) > most:
            text = self.tokenizer.decode(again[: most - 1])
        return text

    def tuned(self, model: Model, **how: Any) -> Targets:
        return Targets(model, **{name: value for name, value in how.items() if name != "pool"})

    @property
    def lengths(self) -> Ints:
        return np.array([len(ids) for ids in self.lines["train"]], np.int64)

    def loss(self, tuned: Targets, numbers: Ints) -> Tensor:
        return tuned.loss(rows_of_pairs([self.lines["train"][number] for number in numbers], tuned.model))

    def dev(self, tuned: Targets) -> float:
        tuned.eval()
        lines = sorted(self.lines["dev"], key=len)
        nats, asked = 0.0, 0
        with bar("reading dev", len(lines), "lines") as shown:
            for start in range(0, len(lines), AT_ONCE):
                rows = rows_of_pairs(lines[start : start + AT_ONCE], tuned.model)
                nats, asked = nats + float(tuned.nats(rows).sum()), asked + int(rows.wanted.sum())
                shown.advance(rows.count)
        return -nats / asked

    def answers(self, tuned: Targets, side: str) -> list[Answer]:
        tuned.eval()
        items: Sequence[Example] = getattr(self.examples, side)
        texts = tuned.written([one.text for one in items], self.longest + 1)  # and the mark that ends it
        return [self.answer(one, text.text) for text, one in zip(texts, items, strict=True)]

    def marked(self, item: Example, predicted: Any, scores: tuple[float, ...] = ()) -> Answer:
        """Exact but for white space; beside it chrF, from 0 to 1."""
        same = " ".join(predicted.split()) == " ".join(item.label.split())
        likeness = CHRF().sentence_score(predicted, [item.label]).score / 100
        return Answer(predicted, float(same), (round(likeness, 5),))

    def figures(self, items: Sequence[Example], seeds: Sequence[Sequence[Answer]]) -> list[Score]:
        chrf = [measured("chrf", [one.scores[0] for one in answers]) for answers in seeds]
        exact = [measured("exact_match", [one.correct for one in answers]) for answers in seeds]
        return [replace(one, column="writing") for one in (scored(chrf), scored(exact), self._bleu(items, seeds))]

    def _bleu(self, items: Sequence[Example], seeds: Sequence[Sequence[Answer]]) -> Score:
        """Of all texts of a seed together, from the counts of each."""
        gold = [one.label for one in items]
        metric, each = BLEU(tokenize=cut_of(gold)), BLEU(tokenize=cut_of(gold), effective_order=True)  # of one text
        metric.corpus_score([one.predicted for one in seeds[0]], [gold])  # its signature is known after that alone
        if not any(each.sentence_score(one, [one]).totals[3] for one in gold):
            return Score("bleu", None, "bleu", "task", "writing", note="no target has four words, which BLEU counts")
        counts = np.array([[_counts(each, one, item) for one, item in zip(told, items, strict=True)] for told in seeds])

        def figure(_: NDArray[Any], rows: NDArray[Any]) -> float:
            right, there, written, asked = np.split(counts.reshape(-1, 10)[rows.astype(int)].sum(0), [4, 8, 9])
            found = metric.compute_bleu(
                right.tolist(), there.tolist(), int(written[0]), int(asked[0]), metric.smooth_method
            )
            return float(found.score) / 100

        rows = np.arange(counts.shape[0] * counts.shape[1], dtype=np.float64).reshape(counts.shape[:2])
        found = whole_score("bleu", figure, rows[0], rows)
        return replace(found, note="; ".join(filter(None, (found.note, str(metric.get_signature())))))

    def gold(self, item: Example) -> Any:
        return item.label

    def floor(self, items: Sequence[Example]) -> list[Answer]:
        """The commonest target of train, or, where each occurs once, the source itself."""
        target, often = Counter(one.label for one in self.examples.train).most_common(1)[0]
        return [self.marked(one, target if often > 1 else one.text) for one in items]


def _counts(metric: BLEU, answer: Answer, item: Example) -> list[int]:
    """Right n-grams and all, of 1 to 4 words, and the words of both texts."""
    found = metric.sentence_score(answer.predicted, [item.label])
    return [*found.counts, *found.totals, found.sys_len, found.ref_len]
