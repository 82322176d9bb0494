"""From a file to a token file, beside tiktoken's own encoding of the same text.

    python benchmarks/preparing.py                  the rate, 200 MB of text: about five minutes
    python benchmarks/preparing.py --gigabytes 1    the memory too, of a fresh process that prepares so much text

The text is WikiNews (SIGHTLINE_DATA), repeated, with a word changed and a line added so that no document occurs twice.
Tiktoken gets the texts as strings that lie ready in memory, and the same merges; ours starts from the file: read,
unpack, check, split, fingerprint, encode, write. The tokenizer is trained before. The two take turns.
"""

from __future__ import annotations

import argparse
import gzip
import json
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import tiktoken
from machine import RESULTS, data_folder, described, write

from sightline.data import Tokenizer, read, tokenized, train_tokenizer
from sightline.data.bulk import PIECES

FORMS = {"text.txt": "blank", "text.jsonl.gz": "file", "folder": "file"}
SAID = {"text.txt": "one .txt, documents by blank lines", "text.jsonl.gz": ".jsonl.gz", "folder": "a .txt per document"}


def texts(size: int) -> Iterator[str]:
    """Documents of ``size`` bytes in all; none holds a blank line, none occurs twice."""
    with gzip.open(data_folder() / "lm_en" / "wikinews" / "train.jsonl.gz", "rt", encoding="utf-8") as handle:
        news = [str(json.loads(line)["text"]).replace("\n\n", "\n").strip("\n") for line in handle]
    draw, number = random.Random(0), 0
    while size > 0:
        for text in news:
            words = text.split(" ")
            words[draw.randrange(len(words))] = words[draw.randrange(len(words))]
            varied = f"{' '.join(words)}\nReport {number}, {draw.getrandbits(32)}."
            yield varied
            size -= len(varied.encode("utf-8"))
            number += 1
            if size <= 0:
                return


def lay(place: Path, size: int, forms: list[str]) -> int:
    """Write the text in each form; returns its bytes."""
    total = 0
    with open(place / "text.txt", "wb") as plain, gzip.open(place / "text.jsonl.gz", "wb", 4) as packed:
        for number, text in enumerate(texts(size)):
            raw = text.encode("utf-8")
            total += len(raw)
            if "text.txt" in forms:
                plain.write(raw + b"\n\n")
            if "text.jsonl.gz" in forms:
                packed.write(json.dumps({"text": text}, ensure_ascii=False).encode("utf-8") + b"\n")
            if "folder" in forms:
                one = place / "folder" / f"{number // 1000:04}" / f"{number:07}.txt"
                one.parent.mkdir(parents=True, exist_ok=True)
                one.write_bytes(raw)
    return total


def prepare(corpus: Path, tokenizer: Tokenizer, out: Path, workers: int | None = None) -> int:
    """The whole way; returns the tokens."""
    found = read(corpus, documents=FORMS[corpus.name])  # type: ignore[arg-type]
    files = [
        tokenized(found.part(side), tokenizer, out / side, workers=workers)  # type: ignore[arg-type]
        for side in ("train", "dev", "test")
    ]
    shutil.rmtree(out)
    return sum(one.token_count for one in files)


def tiktokens(tokenizer: Tokenizer, ready: list[str], threads: int) -> dict[str, Callable[[], Any]]:
    """Tiktoken by itself, in both ways that it offers; the quicker one counts."""
    ranks = {piece: id for id, piece in enumerate(tokenizer.pieces) if piece}
    bulk = tiktoken.Encoding("plain", pat_str=PIECES, mergeable_ranks=ranks, special_tokens={})

    def one_by_one(part: list[str]) -> None:
        for text in part:
            bulk.encode_ordinary(text)

    def looped() -> None:
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(one_by_one, [ready[at : at + 500] for at in range(0, len(ready), 500)]))

    def batched() -> None:
        for at in range(0, len(ready), 5000):  # ids of all texts at once would be gigabytes of Python numbers
            bulk.encode_ordinary_batch(ready[at : at + 5000], num_threads=threads)

    return {f"tiktoken, {threads} threads, one by one": looped, f"tiktoken, {threads} threads, batches": batched}


def bound(tokenizer: Tokenizer, ready: list[str], threads: int) -> Callable[[], Any]:
    """What our own way of calling tiktoken costs where nothing is read or written."""
    parts = [ready[at : at + 500] for at in range(0, len(ready), 500)]

    def joined() -> None:
        with ThreadPoolExecutor(threads) as pool:
            for _ in pool.map(tokenizer.encode_joined, parts):
                pass

    return joined


def timed(call: Callable[[], Any]) -> tuple[float, float]:
    """Seconds of a call, and the share of the cores that other programs used meanwhile."""

    def own() -> float:
        times = psutil.Process().cpu_times()  # of workers too, once they have ended
        return sum((times.user, times.system, times.children_user, times.children_system))

    def busy() -> float:
        times = psutil.cpu_times()
        return float(times.user + times.system + getattr(times, "nice", 0.0))

    mine, all_of_it, start = own(), busy(), time.perf_counter()
    call()
    seconds = time.perf_counter() - start
    return seconds, max(0.0, busy() - all_of_it - (own() - mine)) / (seconds * (psutil.cpu_count() or 1))


def rates(size: int, rounds: int) -> list[dict[str, Any]]:
    """Ours and tiktoken's, in turns."""
    with tempfile.TemporaryDirectory(prefix="preparing-") as name:
        place = Path(name)
        total = lay(place, size, list(FORMS))
        tokenizer = train_tokenizer(list(texts(20_000_000)), "bpe", 8192)
        ready = list(texts(size))
        sides: dict[str, Callable[[], Any]] = {}
        for threads in (1, 2):
            sides |= tiktokens(tokenizer, ready, threads)
        sides["ours, from memory, encoding alone, 2 threads"] = bound(tokenizer, ready, 2)
        for form, words in SAID.items():
            sides[f"ours, {words}"] = lambda form=form: prepare(place / form, tokenizer, place / "out")  # type: ignore[misc]
        sides[f"ours, {SAID['text.txt']}, this process alone"] = lambda: prepare(
            place / "text.txt", tokenizer, place / "out", 0
        )
        seconds: dict[str, list[float]] = {side: [] for side in sides}
        others: dict[str, list[float]] = {side: [] for side in sides}
        for _ in range(rounds):
            for side, call in sides.items():
                took, share = timed(call)
                seconds[side].append(took)
                others[side].append(share)
                print(f"{side}: {total / 1e6 / seconds[side][-1]:.1f} MB/s", file=sys.stderr, flush=True)
    # A ratio of each round to the quickest tiktoken of that round: the machine's drift meets both.
    rows = []
    for side, times in seconds.items():
        best = [min(seconds[one][at] for one in sides if one.startswith("tiktoken")) for at in range(rounds)]
        alone = [min(seconds[one][at] for one in sides if "1 threads" in one) for at in range(rounds)]
        ratios = [theirs / mine for theirs, mine in zip(best, times, strict=True)]
        single = [theirs / mine for theirs, mine in zip(alone, times, strict=True)]
        rows.append(
            {
                "side": side,
                "megabytes": total / 1e6,
                "seconds": times,
                "others": others[side],
                "rate": total / 1e6 / statistics.median(times),
                "ratio": statistics.median(ratios),
                "ratios": ratios,
                "ratio to one thread": statistics.median(single),
            }
        )
    return rows


def rate_lines(rows: list[dict[str, Any]]) -> list[str]:
    return [
        f"{rows[0]['megabytes']:,.0f} MB of text; median of {len(rows[0]['seconds'])} rounds taken in turns, ratios "
        "within a round. Others: the largest share of the cores that other programs took meanwhile.",
        "",
        "| what | MB/s | to the quickest tiktoken of the round | to its quickest one thread | others |",
        "|---|---|---|---|---|",
        *(
            f"| {row['side']} | {row['rate']:.1f} [{row['megabytes'] / max(row['seconds']):.1f}, "
            f"{row['megabytes'] / min(row['seconds']):.1f}] | {row['ratio']:.2f} | {row['ratio to one thread']:.2f} "
            f"| {max(row['others']):.0%} |"
            for row in rows
        ),
        "",
    ]


def memory(gigabytes: float) -> list[dict[str, Any]]:
    """The largest memory of a fresh process and its workers: resident sizes of all of them added up, ten a second."""
    rows = []
    with tempfile.TemporaryDirectory(prefix="preparing-") as name:
        place = Path(name)
        total = lay(place, int(gigabytes * 1e9), ["text.txt", "text.jsonl.gz"])
        train_tokenizer(list(texts(20_000_000)), "bpe", 8192).save(place / "tokenizer")
        for form in ("text.txt", "text.jsonl.gz"):
            command = [sys.executable, __file__, "--child", str(place / form), str(place / "tokenizer")]
            start, peak, alone = time.perf_counter(), 0, 0
            with subprocess.Popen(command) as child:
                whole = psutil.Process(child.pid)
                while child.poll() is None:
                    try:
                        alone = max(alone, whole.memory_info().rss)
                        others = [one.memory_info().rss for one in whole.children(recursive=True)]
                        peak = max(peak, whole.memory_info().rss + sum(others))
                    except psutil.Error:
                        pass  # one of them ended between two looks
                    time.sleep(0.1)
            assert child.returncode == 0
            seconds = time.perf_counter() - start
            rows.append({"form": form, "bytes": total, "peak": peak, "peak of the first": alone, "seconds": seconds})
            print(rows[-1], file=sys.stderr, flush=True)
    return rows


def memory_lines(rows: list[dict[str, Any]]) -> list[str]:
    return [
        f"Memory for {rows[0]['bytes'] / 1e9:.2f} GB of text: resident sizes of the process and its workers added up "
        "(pages that they share count for each), looked at ten times a second.",
        "",
        "| form | peak of all, MB | peak of the process that reads, MB | seconds |",
        "|---|---|---|---|",
        *(
            f"| {SAID[row['form']]} | {row['peak'] / 1e6:,.0f} | {row['peak of the first'] / 1e6:,.0f} "
            f"| {row['seconds']:.0f} |"
            for row in rows
        ),
        "",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=float, default=200)
    parser.add_argument("--gigabytes", type=float, default=0, help="measure memory with so much text too")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        corpus, tokenizer = map(Path, given.child)
        prepare(corpus, Tokenizer.load(tokenizer), corpus.parent / "out")
        return
    record: dict[str, Any] = {"about": described(["tiktoken", "tokenizers", "numpy"])}
    if (RESULTS / "preparing.json").exists():  # what is not measured now is kept
        record = json.loads((RESULTS / "preparing.json").read_text(encoding="utf-8")) | record
    if given.megabytes:
        record["rates"] = rates(int(given.megabytes * 1e6), given.rounds)
    if given.gigabytes:
        record["memory"] = memory(given.gigabytes)
    lines = ["# From text to a token file, beside tiktoken", ""]
    if "rates" in record:
        lines += rate_lines(record["rates"])
    if "memory" in record:
        lines += memory_lines(record["memory"])
    write("preparing", record, "\n".join(lines))


if __name__ == "__main__":
    main()
