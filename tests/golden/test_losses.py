"""Golden losses: the loss of every step of a tiny deterministic run on a page that lies in the tests.

A change of weights' initialisation, views, head, optimizer or order moves these numbers; a change that means to must
say so and show the new ones (`python tests/golden/test_losses.py` prints them). fp32, one thread; the tolerance leaves
room for another processor's order of summation, which grows over steps through the optimizer.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import pytest

from sightline.data import Bins, Document, Draws, Order, Packed, RowReader, tokenized, train_tokenizer
from sightline.objectives import FAMILIES, Objective
from sightline.objectives.model import Model, built
from sightline.stacks.shape import Shape
from sightline.training.optimizer import Optimizers
from sightline.training.settings import Optimization, Schedule

HERE = Path(__file__).parent
STEPS, BATCH, CONTEXT = 10, 4, 48
TOLERANCE = 2e-3  # nats
LEARNED: dict[str, dict[str, Any]] = {
    name: {} for name, kind in FAMILIES.items() if kind.stack in ("transformer", "pair", "two")
}
LEARNED |= {f"two_way, {body}": {"body": body} for body in ("lstm", "original")}


def pairs_of(text: str) -> list[Document]:
    """Three words and the three behind them, all along the text."""
    words = text.split()
    places = range(0, len(words) - 5, 6)
    return [Document(str(at), f"{' '.join(words[at : at + 3])}\t{' '.join(words[at + 3 : at + 6])}") for at in places]


def losses(family: str, folder: Path) -> list[float]:
    """Nats per answer before each of the first steps."""
    import torch

    text = (HERE.parent / "texts" / "page.txt").read_bytes().decode("utf-8")
    tokenizer = train_tokenizer([text], "byte")
    objective: Objective = FAMILIES[family.partition(",")[0]](tokenizer.vocabulary, **LEARNED[family])
    packed: RowReader
    if objective.reads == "pairs":
        packed = Bins(tokenized(pairs_of(text), tokenizer, folder, pairs=True), CONTEXT, tokenizer)
    else:
        packed = Packed(tokenized([Document("page", text)], tokenizer, folder), CONTEXT, tokenizer)
    model: Model = built(objective, Shape(2, 32, 4, tokenizer.padded, CONTEXT, rope_base=100.0), tokenizer, seed=3)
    optimizers, order, draws = Optimizers(model, Optimization()), Order(packed.count, 3), Draws(3)
    found = []
    torch.manual_seed(3)  # of what is dropped out
    for step in range(STEPS):
        index = torch.arange(step * BATCH, (step + 1) * BATCH).numpy()
        rows = packed.rows(*order.at(index))
        views = objective.ask(rows, draws.of(rows), step / STEPS)
        count = sum(objective.counts(views).values())
        loss = (
            torch.stack([term.total for term in objective.learn(model, rows, views, draws.of(rows, 1))]).sum() / count
        )
        loss.backward()
        optimizers.step(Schedule().factor(step, STEPS))
        found.append(round(float(loss.detach()), 5))
    return found


def fitted_losses(loss: str, folder: Path) -> list[float]:
    """Nats per answer of each of five passes over the page, character by character, as CBOW fits itself."""
    text = (HERE.parent / "texts" / "page.txt").read_bytes().decode("utf-8")
    tokenizer = train_tokenizer([text], "byte")
    file = tokenized([Document("page", text)], tokenizer, folder)
    objective = FAMILIES["cbow"](tokenizer.vocabulary, loss=loss)  # type: ignore[call-arg]
    model = built(objective, Shape(1, 32, 1, tokenizer.padded, 16), tokenizer)
    found: list[float] = []
    model.stack.fit(  # type: ignore[operator]
        file.tokens, file.offsets, seed=3, parts=5, watch=lambda part, lesson: found.append(round(lesson.nats, 5))
    )
    return found


@pytest.mark.parametrize("loss", ["negative", "hierarchical"])
def test_cbow_is_golden(loss: str, tmp_path: Path) -> None:
    golden = json.loads((HERE / "losses.json").read_text())["cbow"][loss]
    assert fitted_losses(loss, tmp_path / "tokens") == pytest.approx(golden, abs=TOLERANCE)


@pytest.mark.parametrize("family", LEARNED)
def test_losses_are_golden(family: str, tmp_path: Path) -> None:
    golden = json.loads((HERE / "losses.json").read_text())[family]
    assert losses(family, tmp_path / "tokens") == pytest.approx(golden, abs=TOLERANCE)


def test_ngram_is_golden(tmp_path: Path) -> None:
    """Bits per byte of the page's last fifth by five-gram counts of the rest."""
    text = (HERE.parent / "texts" / "page.txt").read_bytes().decode("utf-8")
    cut = int(0.8 * len(text))
    tokenizer = train_tokenizer([text], "byte")
    file = tokenized([Document("page", text[:cut])], tokenizer, tmp_path / "tokens")
    model = built(
        FAMILIES["ngram"](tokenizer.vocabulary), Shape(1, 8, 1, tokenizer.padded, 16, positions="none"), tokenizer
    )
    model.stack.fit(file.tokens, file.offsets)  # type: ignore[operator]
    from sightline.data import Rows

    ids = [tokenizer.vocabulary.bos, *tokenizer.encode(text[cut:]).tolist()]
    nats, asked = model.examined(Rows.of([ids], tokenizer))
    golden = json.loads((HERE / "losses.json").read_text())["ngram"]
    assert asked[0] == len(ids) - 1
    assert nats[0] / asked[0] == pytest.approx(golden, abs=1e-6)


def _printed() -> None:
    with tempfile.TemporaryDirectory() as folder:
        found: dict[str, object] = {family: losses(family, Path(folder) / family) for family in LEARNED}
        found["cbow"] = {loss: fitted_losses(loss, Path(folder) / loss) for loss in ("negative", "hierarchical")}
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    _printed()
