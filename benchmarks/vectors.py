"""Word vectors of Wikinews by CBOW beside gensim's: how well they agree with people, and words a second.

    python benchmarks/vectors.py quality [--seeds 3] [--passes 5 20] [--losses negative hierarchical]
    python benchmarks/vectors.py speed [--blocks 5]

The same words (lower case, at least five times), windows, noise, subsampling and passes; gensim with its own learning
rate and, as "original", Sightline with the same. WordSim-353, SimLex-999, MEN and Google's analogies, lower case too.
"Words" of a second are those of the text read, dropped ones included; reading the text is in neither side's time.
"""

from __future__ import annotations

import argparse
import collections
import gzip
import json
import re
import statistics
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import machine
import numpy as np
from paired import interleaved

from sightline.data.vocabulary import Vocabulary
from sightline.evaluation.lexical import Question, answered_right, pairs_in, questions_in, ranked_alike
from sightline.objectives.lexicon import Lexicon
from sightline.stacks.bag import Bag
from sightline.stacks.hogwild import Manner

WIDTH, WINDOW, NEGATIVES, SAMPLE, LEAST = 100, 5, 5, 1e-4, 5
LISTS = {"WordSim-353": "EN-WS-353-ALL", "SimLex-999": "EN-SIMLEX-999", "MEN": "EN-MEN-TR-3k"}
GENSIM_RATE = 0.025  # its default
TREE = {"sample": SAMPLE, "loss": "hierarchical"}
# Names and settings of the sides; None: gensim, with its own rate. Those of Sightline are its default, and the best
# for the exact gradient of 0.025 to 0.3 at either number of passes.
SIDES = {
    "gensim, negative": None,
    "original at gensim's rate, negative": Manner(sample=SAMPLE, rate=GENSIM_RATE),
    "original at 0.05 (default), negative": Manner(sample=SAMPLE),
    "exact at 0.1, negative": Manner(sample=SAMPLE, update="exact", rate=0.1),
    "exact at 0.2, negative": Manner(sample=SAMPLE, update="exact", rate=0.2),
    "gensim, hierarchical": None,
    "original at gensim's rate, hierarchical": Manner(**TREE, rate=GENSIM_RATE),
    "exact at 0.05, hierarchical": Manner(**TREE, update="exact"),
}


@dataclass(frozen=True)
class Corpus:
    """Wikinews: documents as lists of words, and as ids; id 0 stands for words that are too rare."""

    documents: list[list[str]]
    words: list[str]
    ids: np.ndarray
    offsets: np.ndarray

    @classmethod
    def read(cls) -> Corpus:
        documents = []
        with gzip.open(machine.data_folder() / "lm_en" / "wikinews" / "train.jsonl.gz", "rt", encoding="utf-8") as file:
            for line in file:
                documents.append(re.findall(r"[a-z]+", json.loads(line)["text"].lower()))
        documents = [one for one in documents if one]
        counts = collections.Counter(word for one in documents for word in one)
        words = ["", *(word for word, count in counts.items() if count >= LEAST)]
        number = {word: at for at, word in enumerate(words)}
        ids = np.array([number.get(word, 0) for one in documents for word in one], np.int32)
        offsets = np.concatenate([[0], np.cumsum([len(one) for one in documents])])
        return cls(documents, words, ids, offsets)

    @property
    def vocabulary(self) -> Vocabulary:
        return Vocabulary(len(self.words), len(self.words), specials=(0,))


def ours(corpus: Corpus, manner: Manner, passes: float, seed: int, workers: int) -> Bag:
    bag = Bag(corpus.vocabulary, WIDTH, manner)
    bag.fit(corpus.ids, corpus.offsets, passes=passes, seed=seed, workers=workers)
    return bag


def theirs(corpus: Corpus, loss: str, passes: int, seed: int, workers: int) -> Any:
    from gensim.models import Word2Vec

    hs = loss == "hierarchical"
    model = Word2Vec(
        vector_size=WIDTH, window=WINDOW, min_count=LEAST, sample=SAMPLE, hs=int(hs), negative=0 if hs else NEGATIVES,
        alpha=GENSIM_RATE, seed=seed, workers=workers,
    )  # fmt: skip
    model.build_vocab(corpus.documents)
    model.train(corpus.documents, total_words=model.corpus_total_words, epochs=passes)
    return model


def lexicon_of(corpus: Corpus, side: str, manner: Manner | None, passes: int, seed: int, workers: int) -> Lexicon:
    if manner is None:
        vectors = theirs(corpus, side.split()[-1], passes, seed, workers).wv
        return Lexicon(tuple(vectors.index_to_key), vectors.vectors)
    bag = ours(corpus, manner, passes, seed, workers)
    return Lexicon(tuple(corpus.words[id] for id in bag.words.tolist()), bag.inputs.detach().numpy())


def measured(lexicon: Lexicon) -> dict[str, float]:
    """Rank correlations and shares of right answers, in hundredths; how many were asked is told by ``coverage``."""
    folder = machine.data_folder() / "lexical"
    found = {}
    for name, file in LISTS.items():
        pairs = pairs_in(folder / "word_similarity" / f"{file}.txt")
        found[name] = ranked_alike(lexicon, [(one.lower(), other.lower(), value) for one, other, value in pairs])
    questions = [
        Question(one.section, *(word.lower() for word in (one.one, one.other, one.third, one.answer)))
        for one in questions_in(folder / "google_analogy" / "questions-words.txt")
    ]
    forms = [one.section.startswith("gram") for one in questions]
    for name, wanted in (("analogies, meaning", False), ("analogies, form", True)):
        chosen = [one for one, form in zip(questions, forms, strict=True) if form == wanted]
        found[name] = answered_right(lexicon, chosen)
    coverage.update({name: f"{one.asked:,} of {one.of:,}" for name, one in found.items()})
    return {name: 100 * one.value for name, one in found.items()}


coverage: dict[str, str] = {}


def quality(corpus: Corpus, seeds: int, passes: list[int], workers: int, losses: tuple[str, ...]) -> None:
    record: dict[str, Any] = {"about": machine.described(["gensim", "numba", "numpy", "scipy"])}
    rows: dict[str, Any] = {}
    for count in passes:
        for side, manner in SIDES.items():
            if not side.endswith(losses):
                continue
            got = [measured(lexicon_of(corpus, side, manner, count, 1 + seed, workers)) for seed in range(seeds)]
            rows[f"{side}, {count} passes"] = {name: [one[name] for one in got] for name in got[0]}
            print(f"{side}, {count} passes", {name: round(value, 1) for name, value in got[0].items()}, flush=True)
    record |= {"words": len(corpus.ids), "vocabulary": len(corpus.words) - 1, "seeds": seeds, "coverage": coverage}
    lines = [
        "# Word vectors: agreement with people",
        "",
        f"Wikinews, {len(corpus.ids):,} words, {len(corpus.words) - 1:,} different ones kept; width {WIDTH}, "
        f"window {WINDOW}, {NEGATIVES} words of noise, sample {SAMPLE:g}. Mean over {seeds} seeds (lowest to highest). "
        "Rank correlation times 100, and percent of analogies answered.",
        "",
        f"| | {' | '.join(coverage)} |",
        f"|---|{'---|' * len(coverage)}",
        f"| entries with vectors | {' | '.join(coverage.values())} |",
    ]
    for name, values in rows.items():
        cells = [f"{statistics.fmean(one):.1f} ({min(one):.1f} to {max(one):.1f})" for one in values.values()]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    machine.write(f"vectors-quality-{'-'.join(map(str, passes))}", record | {"results": rows}, "\n".join(lines) + "\n")


def speed(corpus: Corpus, blocks: int) -> None:
    from gensim.models import Word2Vec

    sides: dict[str, Callable[[], Any]] = {}
    peers: list[str] = []
    for loss in ("negative", "hierarchical"):
        for workers in (1, 2):
            hs = loss == "hierarchical"
            model = Word2Vec(
                vector_size=WIDTH, window=WINDOW, min_count=LEAST, sample=SAMPLE, hs=int(hs), workers=workers,
                negative=0 if hs else NEGATIVES,
            )  # fmt: skip
            model.build_vocab(corpus.documents)
            name = f"{loss}, {workers} worker{'s' * (workers > 1)}"
            peers.append(name)
            sides[f"gensim, {name}"] = lambda model=model: model.train(
                corpus.documents, total_words=model.corpus_total_words, epochs=1
            )
            for kind in ("original", "exact"):
                manner = Manner(sample=SAMPLE, update=kind, loss=loss)
                sides[f"{kind}, {name}"] = lambda manner=manner, workers=workers: ours(corpus, manner, 1, 1, workers)
    timed = interleaved(sides, blocks, seconds=0.1)
    record = {"about": machine.described(["gensim", "numba", "numpy"]), "words": len(corpus.ids)}
    record["seconds"] = {name: one.record() for name, one in timed.items()}
    record["ratio"] = {}
    lines = [
        "# Word vectors: words a second",
        "",
        f"One pass over Wikinews, {len(corpus.ids):,} words, {len(corpus.words) - 1:,} different ones kept; "
        f"width {WIDTH}, window {WINDOW}, {NEGATIVES} words of noise, sample {SAMPLE:g}. Median [slowest, fastest] of "
        f"{blocks} blocks in turns. Neither side's time holds the reading of the text; "
        "Sightline's holds counting its words. Of two workers Sightline gives a tree one.",
        "",
        "| | gensim, words/s | Sightline, original | ratio | Sightline, exact | ratio |",
        "|---|---|---|---|---|---|",
    ]
    for name in peers:
        peer = timed[f"gensim, {name}"]
        cells = [peer.rate(len(corpus.ids))]
        for kind in ("original", "exact"):
            own = timed[f"{kind}, {name}"]
            record["ratio"][f"{kind}, {name}"] = peer.median / own.median
            cells += [own.rate(len(corpus.ids)), f"{peer.median / own.median:.2f}"]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    machine.write("vectors-speed", record, "\n".join(lines) + "\n")


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("what", choices=("quality", "speed"))
    asked.add_argument("--blocks", type=int, default=4)
    asked.add_argument("--seeds", type=int, default=3)
    asked.add_argument("--passes", type=int, nargs="+", default=[5, 20])
    asked.add_argument("--workers", type=int, default=1)
    asked.add_argument("--losses", nargs="+", default=["negative", "hierarchical"])
    chosen = asked.parse_args()
    corpus = Corpus.read()
    if chosen.what == "speed":
        speed(corpus, chosen.blocks)
    else:
        quality(corpus, chosen.seeds, chosen.passes, chosen.workers, tuple(chosen.losses))


if __name__ == "__main__":
    main()
