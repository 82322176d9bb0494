"""Tiny Shakespeare, characters: time to the validation loss that nanoGPT's published CPU recipe ends at.

The peer is that recipe (4 layers, 4 heads, width 128, context 64, batch 12, 2,000 steps, AdamW) on transformers'
GPT-2, which is the same architecture. Sightline trains the same number of layers and width with its defaults. Both run
in one process, the peer in two halves around Sightline, so that a drift of the machine meets both. One judge for both:
the whole validation split in windows of the context, its time excluded; everything else, checkpoints included, counts.

    python benchmarks/shakespeare.py --seeds 3
"""

from __future__ import annotations

import argparse
import math
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from machine import Quiet, data_folder, described, write

from sightline.data import Document, Packed, TokenFile, Tokenizer, tokenized, train_tokenizer
from sightline.objectives import Causal, NGram
from sightline.objectives.model import Model, built
from sightline.runs.ground import Ground
from sightline.stacks import sizes
from sightline.training.loop import train
from sightline.training.settings import Settings

CONTEXT, PEER_STEPS, PEER_BATCH = 64, 2000, 12
OURS_STEPS, OURS_BATCH = 260, 16


def judge(nats: Callable[[torch.Tensor, torch.Tensor], float], ids: np.ndarray) -> float:
    """Mean nats per character over windows of the context that cover the whole split."""
    count = (len(ids) - 1) // CONTEXT
    x = torch.from_numpy(ids[: count * CONTEXT].astype(np.int64)).view(count, CONTEXT)
    y = torch.from_numpy(ids[1 : count * CONTEXT + 1].astype(np.int64)).view(count, CONTEXT)
    with torch.no_grad():
        total = sum(nats(x[at : at + 128], y[at : at + 128]) for at in range(0, count, 128))
    return total / (count * CONTEXT)


def judged(model: Model, ids: np.ndarray) -> float:
    """The judge's loss of one of our models: rows of context + 1, whose first token is shown and not asked."""
    from sightline.data import Rows

    def nats(x: torch.Tensor, y: torch.Tensor) -> float:
        rows = Rows.of(list(torch.cat([x, y[:, -1:]], 1).numpy()), model.tokenizer)
        return float(model.examined(rows)[0].sum())

    model.eval()
    return judge(nats, ids)


class Peer:
    """nanoGPT's CPU recipe on transformers' GPT-2."""

    def __init__(self, ids: np.ndarray, vocabulary: int, seed: int) -> None:
        from transformers import GPT2Config, GPT2LMHeadModel

        torch.manual_seed(seed)
        self.ids = torch.from_numpy(ids.astype(np.int64))
        config = GPT2Config(
            vocab_size=vocabulary, n_positions=CONTEXT, n_embd=128, n_layer=4, n_head=4,
            resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0, bos_token_id=0, eos_token_id=0,
        )  # fmt: skip
        self.model = GPT2LMHeadModel(config)
        decayed = [weight for weight in self.model.parameters() if weight.dim() >= 2]
        plain = [weight for weight in self.model.parameters() if weight.dim() < 2]
        groups = [{"params": decayed, "weight_decay": 0.1}, {"params": plain, "weight_decay": 0.0}]
        self.optimizer = torch.optim.AdamW(groups, lr=1e-3, betas=(0.9, 0.99))
        self.generator = torch.Generator().manual_seed(seed)
        self.done = 0

    def run(self, steps: int) -> float:
        """Seconds of so many steps."""
        self.model.train()
        start = time.perf_counter()
        for _ in range(steps):
            rate = 1e-3 * (self.done + 1) / 101 if self.done < 100 else self._cosine()
            for group in self.optimizer.param_groups:
                group["lr"] = rate
            at = torch.randint(len(self.ids) - CONTEXT, (PEER_BATCH,), generator=self.generator)
            x = torch.stack([self.ids[i : i + CONTEXT] for i in at])
            y = torch.stack([self.ids[i + 1 : i + 1 + CONTEXT] for i in at])
            loss = torch.nn.functional.cross_entropy(self.model(x).logits.flatten(0, 1), y.flatten())
            loss.backward()
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
            self.optimizer.step()
            self.optimizer.zero_grad(set_to_none=True)
            self.done += 1
        return time.perf_counter() - start

    def _cosine(self) -> float:
        done = (self.done - 100) / (PEER_STEPS - 100)
        return 1e-4 + 0.5 * (1 + math.cos(math.pi * done)) * (1e-3 - 1e-4)

    def loss(self, ids: np.ndarray) -> float:
        """The judge's loss."""
        self.model.eval()

        def nats(x: torch.Tensor, y: torch.Tensor) -> float:
            logits = self.model(x).logits.flatten(0, 1)
            return float(torch.nn.functional.cross_entropy(logits, y.flatten(), reduction="sum"))

        return judge(nats, ids)


def ours(ground: Any, tokenizer: Tokenizer, seed: int, steps: int) -> tuple[float, Model]:
    """Seconds of a whole Sightline run, and its model."""
    folder = Path(tempfile.mkdtemp())
    start = time.perf_counter()
    model = built(Causal(tokenizer.vocabulary), sizes.shape("tiny", tokenizer.padded, CONTEXT), tokenizer, seed)
    packed = Packed(ground.train, CONTEXT, tokenizer)
    train(model, ground.rows_of(packed, OURS_BATCH, seed), Settings(steps, OURS_BATCH, seed=seed), folder)
    seconds = time.perf_counter() - start
    shutil.rmtree(folder)
    return seconds, model


def counted(file: TokenFile, tokenizer: Tokenizer, ids: np.ndarray) -> tuple[float, float]:
    """The floor: five-gram counts; their loss and seconds."""
    start = time.perf_counter()
    model = built(NGram(tokenizer.vocabulary, n=5), sizes.shape("tiny", tokenizer.padded), tokenizer)
    model.stack.fit(file.tokens, file.offsets)  # type: ignore[operator]
    return judged(model, ids), time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--steps", type=int, default=OURS_STEPS, help="of Sightline")
    parser.add_argument("--threads", type=int, default=2)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    text = (data_folder() / "lm_en" / "tinyshakespeare" / "input.txt").read_text(encoding="utf-8")
    cut = int(0.9 * len(text))
    tokenizer = train_tokenizer([text], "char")
    folder = Path(tempfile.mkdtemp())
    file = tokenized([Document("train", text[:cut])], tokenizer, folder / "train")
    held = tokenizer.encode(text[cut:])
    fresh: dict[str, Any] = dict.fromkeys(Ground.__dataclass_fields__)
    ground = Ground(**{**fresh, "train": file, "tokenizer": tokenizer})
    floor, floor_seconds = counted(file, tokenizer, held)
    runs = []
    for seed in range(1, given.seeds + 1):
        peer = Peer(tokenizer.encode(text[:cut]), tokenizer.padded, seed)
        with Quiet() as quiet:
            first = peer.run(PEER_STEPS // 2)
            seconds, model = ours(ground, tokenizer, seed, given.steps)
            peer_seconds = first + peer.run(PEER_STEPS - PEER_STEPS // 2)
        runs.append(
            {
                "seed": seed,
                "peer_loss": peer.loss(held),
                "peer_seconds": peer_seconds,
                "loss": judged(model, held),
                "seconds": seconds,
                "ratio": peer_seconds / seconds,
                "others": quiet.others,
            }
        )
        print(runs[-1], flush=True)
    shutil.rmtree(folder)
    reached = all(run["loss"] <= run["peer_loss"] for run in runs)
    ratio = statistics.median(run["ratio"] for run in runs)
    lines = [
        "# Tiny Shakespeare, characters: time to the loss of nanoGPT's CPU recipe",
        "",
        "4 layers, 4 heads, width 128, context 64 on both sides; fp32; nats per character on the whole validation",
        f"split. The peer takes {PEER_STEPS:,} steps of {PEER_BATCH} x {CONTEXT}; "
        f"Sightline {given.steps} of {OURS_BATCH} x {CONTEXT}.",
        "",
        "| seed | peer's loss | peer's s | Sightline's loss | Sightline's s | peer / Sightline | other load |",
        "|---|---|---|---|---|---|---|",
        *(
            f"| {run['seed']} | {run['peer_loss']:.4f} | {run['peer_seconds']:.1f} | {run['loss']:.4f} "
            f"| {run['seconds']:.1f} | {run['ratio']:.2f} | {run['others']:.0%} |"
            for run in runs
        ),
        "",
        f"The peer's loss was {'reached in every run' if reached else 'not reached in every run'}; "
        f"the median ratio of times is {ratio:.2f} (at least 4 is asked).",
        f"The floor, five-gram counts (modified Kneser-Ney): {floor:.4f} nats in {floor_seconds:.1f} s. "
        "A loss at this level says little about a model; the ratio compares optimization at one stack.",
        "",
    ]
    record = {"about": described(["torch", "transformers", "numpy"]), "runs": runs, "median_ratio": ratio}
    record |= {"floor": {"loss": floor, "seconds": floor_seconds}, "steps": given.steps, "reached": reached}
    write("shakespeare", record, "\n".join(lines))


if __name__ == "__main__":
    main()
