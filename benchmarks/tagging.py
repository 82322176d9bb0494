"""Parts of speech (UD English EWT) by one small tagger on frozen vectors: two directions against one of them alone.

    python benchmarks/tagging.py                            tiny, 2 M tokens of WikiText-2: a quarter of an hour
    python benchmarks/tagging.py --bodies lstm,original
    python benchmarks/tagging.py --word2vec cbow.txt        also on word vectors, in word2vec's text format
    python benchmarks/tagging.py --size mini --tokens 20Mtok --device cuda

The halves are those of the one model, so that "left to right" is what a causal model of half the layers knows. Each row
is the same tagger: a learned mix of the layers, one hidden layer, the epoch chosen on dev. Resumable: models lie in
runs/, and the same command goes on where it stopped; the table is written after every row.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from machine import data_folder, described, write

import sightline as sl
from sightline import hub
from sightline.evaluation.score import Measured, compared, scored
from sightline.evaluation.tagging import NAME, UNIT, Sentence, commonest_tags, sentences_of, tagged, word_vectors
from sightline.objectives.model import Model

SPLITS = ("train", "dev", "test")
Vectors = Callable[[Sequence[Sentence]], list[Any]]


@dataclass(frozen=True)
class Row:
    """What the tagger reached on one kind of vectors."""

    name: str
    width: int
    layers: int
    dev: float
    shares: tuple[float, ...]
    right: tuple[int, ...]
    words: tuple[int, ...]

    @property
    def measured(self) -> Measured:
        """Right tags and words of each test sentence."""
        right, words = np.array(self.right, float), np.array(self.words, float)
        return Measured(NAME, UNIT, "task", "understanding", right, words)


def row(name: str, sentences: dict[str, list[Sentence]], vectors: Vectors) -> Row:
    """Tag with these vectors."""
    held = {split: (sentences[split], vectors(sentences[split])) for split in SPLITS}
    found = tagged(held["train"], held["dev"], held["test"], note=name)
    top, bottom = found.measured.top.astype(int), found.measured.bottom.astype(int)
    layers = held["test"][1]
    return Row(
        name, layers[0].shape[1], len(layers), found.dev, found.shares, tuple(top.tolist()), tuple(bottom.tolist())
    )


def floor(sentences: dict[str, list[Sentence]]) -> Row:
    """Each word its commonest tag."""
    found = commonest_tags(sentences["train"], sentences["test"])
    dev = commonest_tags(sentences["train"], sentences["dev"]).value or 0.0
    top, bottom = found.top.astype(int).tolist(), found.bottom.astype(int).tolist()
    return Row("each word its commonest tag (no vectors)", 0, 0, dev, (), tuple(top), tuple(bottom))


def lookup(path: Path) -> Vectors:
    """Vectors of words from a file in word2vec's text format; zeros for a word that it lacks in either case."""
    with open(path, encoding="utf-8") as handle:
        count, width = map(int, handle.readline().split())
        lines = [line.rstrip("\n").rsplit(" ", width) for line in handle]
    table = {word: np.array(numbers, np.float32) for word, *numbers in lines}
    assert len(table) == count, f"{path} says {count} words and holds {len(table)}"
    nothing = np.zeros(width, np.float32)

    def vectors(sentences: Sequence[Sentence]) -> list[Any]:
        words = [word for sentence in sentences for word in sentence.words]
        return [np.stack([table.get(word, table.get(word.lower(), nothing)) for word in words])]

    return vectors


def read_by(model: Model, only: int | None = None) -> Vectors:
    """Vectors of a frozen model: all layers, or one."""

    def vectors(sentences: Sequence[Sentence]) -> list[Any]:
        layers = word_vectors(model, sentences)
        return layers if only is None else [layers[only]]

    return vectors


def jobs(body: str, model: Model) -> dict[str, Vectors]:
    """The rows of one model."""
    first, second = model.halves
    return {
        f"{body}: both halves": read_by(model),
        f"{body}: left to right alone": read_by(first),
        f"{body}: right to left alone": read_by(second),
        f"{body}: token vectors (layer 0) alone": read_by(first, 0),
    }


def table(rows: Sequence[Row], sizes: dict[str, dict[str, Any]], given: argparse.Namespace, counts: str) -> str:
    """The result as Markdown."""
    corpus = f"{given.tokens} of WikiText-2, seed {given.seed}"
    lines = [
        f"# Parts of speech on frozen vectors: UD English EWT, {given.size}, {corpus}",
        "",
        f"{counts}. One tagger for all rows: a learned mix of standardised layers and one hidden layer, the epoch "
        "chosen on dev. Accuracy on test with its 95% interval, over sentences; differences are paired by sentence.",
        "",
    ]
    for body, size in sizes.items():
        lines.append(
            f"- {body}: {size['parameters']:,} parameters and {size['embedding_parameters']:,} in tables, "
            f"{size['seconds']:.0f} s of training, bits per byte <= {size['bits_per_byte']:.3f}"
        )
    lines += ["", "| vectors | width | test | dev | shares of the layers |", "|---|---|---|---|---|"]
    for one in rows:
        found = scored([one.measured])
        mixed = ", ".join(f"{share:.2f}" for share in one.shares) if len(one.shares) > 1 else "–"
        lines.append(
            f"| {one.name} | {one.width or '–'} | {found.value:.4f} [{found.low:.4f}, {found.high:.4f}] "
            f"| {one.dev:.4f} | {mixed} |"
        )
    lines += ["", "| difference on test | accuracy | 95% |", "|---|---|---|"]
    for whole in (one for one in rows if one.name.endswith("both halves")):
        body = whole.name.partition(":")[0]
        for other in rows:
            if other is whole or (other.name.endswith(" alone") and not other.name.startswith(body)):
                continue
            found = compared([whole.measured], [other.measured])
            spread = f"[{found.low:+.4f}, {found.high:+.4f}]"
            lines.append(f"| {whole.name} over {other.name} | {found.value:+.4f} | {spread} |")
    return "\n".join([*lines, ""])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", default="tiny")
    parser.add_argument("--tokens", default="2Mtok")
    parser.add_argument("--bodies", default="transformer", help="of: transformer, lstm, original")
    parser.add_argument("--sentences", type=int, default=0, help="of train; 0: all")
    parser.add_argument("--word2vec", type=Path)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    folder = data_folder() / "tagging" / "ud_english_ewt"
    sentences = {split: sentences_of(folder / f"en_ewt-ud-{split}.conllu.gz") for split in SPLITS}
    sentences["train"] = sentences["train"][: given.sentences or None]
    counts = ", ".join(
        f"{split} {len(of):,} sentences of {sum(len(one.words) for one in of):,} words"
        for split, of in sentences.items()
    )
    place = Path("runs") / f"tagging-{given.size}-{given.tokens}-s{given.seed}"
    place.mkdir(parents=True, exist_ok=True)
    kept = place / f"rows-{given.sentences}.json"
    rows = {one["name"]: Row(**one) for one in json.loads(kept.read_text())} if kept.exists() else {}
    sizes: dict[str, dict[str, Any]] = {}

    def add(name: str, make: Callable[[], Row]) -> None:
        if name not in rows:
            rows[name] = make()
            kept.write_text(json.dumps([vars(one) for one in rows.values()]))
        record = {
            "about": described(["torch", "numpy", "tokenizers"]),
            "models": sizes,
            "rows": [
                {key: value for key, value in vars(one).items() if key not in ("right", "words")}
                | scored([one.measured]).record()
                for one in rows.values()
            ],
        }
        write(f"tagging-ewt-{given.size}", record, table(list(rows.values()), sizes, given, counts), show=False)

    bottom = floor(sentences)
    add(bottom.name, lambda: bottom)
    for body in given.bodies.split(","):
        done = sl.train(
            "two_way",
            str(data_folder() / "lm_en" / "wikitext2"),
            size=given.size,
            budget=given.tokens,
            setting=(f"body={body}",),
            out=place / body,
            seed=given.seed,
            device=given.device,
            threads=given.threads,
        )
        assert done is not None
        wanted = ("parameters", "embedding_parameters", "seconds", "tokens_seen", "tokens_per_second", "flops")
        sizes[body] = {key: done.record[key] for key in wanted}
        sizes[body] |= {one["name"]: one["value"] for one in done.record["scores"]}
        for name, vectors in jobs(body, hub.load(done.model).eval()).items():
            add(name, lambda name=name, vectors=vectors: row(name, sentences, vectors))  # type: ignore[misc]
    if given.word2vec is not None:
        name = f"word vectors: {given.word2vec.name}"
        add(name, lambda: row(name, sentences, lookup(given.word2vec)))
    print((Path(__file__).parent / "results" / f"tagging-ewt-{given.size}.md").read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
