"""The families as a person sees them: pictures that follow from the code, records, and a sheet."""

from __future__ import annotations

import json
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import pytest

from sightline.errors import SightlineError
from sightline.objectives import FAMILIES
from sightline.runs.families import OPENING, PLACES, families, picture, shelves

TOLD = {family.family: family for family in families().families}
ALL = np.ones((PLACES, PLACES), dtype=bool)


# The text's places in the order 0 1 2 4 3 5, the first two given; then the queries for the other four.
BEFORE = np.array([[1, 1, 0, 0, 0, 0]] * 3 + [[1, 1, 1, 0, 1, 0], [1, 1, 1, 0, 0, 0], [1, 1, 1, 1, 1, 0]], dtype=bool)
PERMUTED = np.zeros((2 * PLACES - OPENING, 2 * PLACES - OPENING), dtype=bool)
PERMUTED[:, :PLACES] = np.concatenate([BEFORE | np.eye(PLACES, dtype=bool), BEFORE[OPENING:]])
# The opening and the sentinel of the rest, seen by all; then the start, the sentinel and the rest, each the past.
DENOISE = np.tril(np.ones((OPENING + 3 + PLACES - OPENING,) * 2, dtype=bool)) | (np.arange(3 + PLACES) < OPENING + 1)
# The text, by all; four main slots, each the past; then three streams, of columns that reach so far: a main slot's past
# and the column's lower streams.
COLUMN = np.array([1, 2, 3, 4, 1, 2, 3, 4, 1, 2, 3, 1, 2])
STREAM = np.array([0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 3, 3])
BANG = np.zeros((PLACES + 13, PLACES + 13), dtype=bool)
BANG[:, :PLACES] = True
OWN = (COLUMN[:, None] == COLUMN) & (STREAM[:, None] >= STREAM)
BANG[PLACES:, PLACES:] = (STREAM == 0) & (COLUMN[:, None] >= COLUMN) | OWN


def seen(name: str) -> np.ndarray:
    drawn = [line.split() for line in TOLD[name].drawing.splitlines()]
    return np.array([[cell == "■" for cell in line] for line in drawn])


def test_every_family_is_told_of_once() -> None:
    assert list(TOLD) == list(FAMILIES)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("causal", np.tril(ALL)),
        ("backward", np.triu(ALL)),
        ("masked", ALL),
        ("prefix", np.tril(ALL) | (np.arange(PLACES) < OPENING)[None] & (np.arange(PLACES) < OPENING)[:, None]),
        ("electra", ALL),
        ("hybrid", np.tril(ALL)),
        ("diffusion", ALL),
        ("blank", np.tril(np.ones((8, 8), dtype=bool)) | (np.arange(8) < OPENING + 1)),
        ("ngram", np.tril(ALL) & np.triu(ALL, -3)),
        ("permuted", PERMUTED),
        ("two_way", np.block([[np.tril(ALL), ~ALL], [~ALL, np.triu(ALL)]])),
        ("denoise", DENOISE),
        ("bang", BANG),
        ("linear", np.tril(ALL)),  # eight numbers back is further than the picture reaches
        ("cbow", ~np.eye(PLACES, dtype=bool)),
    ],
)
def test_the_picture_is_the_sight_by_place(name: str, expected: np.ndarray) -> None:
    assert (seen(name) == expected).all()


def test_block_diffusion_is_drawn_with_both_of_its_streams() -> None:
    """Clean, then noised, in blocks of four: the noised see themselves and the clean blocks before."""
    block = np.arange(PLACES) // 4
    clean, own = block[None] <= block[:, None], block[None] == block[:, None]
    both = np.block([[clean, ALL & False], [block[None] < block[:, None], own]])
    assert (seen("block_diffusion") == both).all()


def test_sight_is_named_by_place() -> None:
    assert {name: family.sight for name, family in TOLD.items()} == {
        "causal": "past",
        "backward": "future",
        "masked": "everything",
        "prefix": "opening | past",
        "electra": "everything",
        "hybrid": "past",
        "diffusion": "everything",
        "block_diffusion": "(earlier_segment & (seen.stream == 0)) | (same_segment & (seen.stream == asker.stream))",
        "blank": "opening | past",
        "mix": "((by_order | opening) & (seen.stream == 0)) | itself",
        "ngram": "near(3) & past",
        "permuted": "(by_order & streams(1, 0)) | (past & streams(0, 0))",
        "two_way": "past & same_stream",
        "denoise": "opening | past",
        "bang": "(main & past) | opening | own_column",
        "seq2seq": "opening | past",
        "nar": "opening | same_stream",
        "cmlm": "opening | same_stream",
        "linear": "near(7) & past",
        "cbow": "window(5) & ~(itself)",
    }


def test_score_classes_sides_and_stacks() -> None:
    kinds = {name: family.score_class for name, family in TOLD.items() if family.score_class != "exact"}
    bounds = {"diffusion": "bound", "block_diffusion": "bound"}
    discriminative = {"electra": "discriminative", "cbow": "discriminative"}
    at_once = {"nar": "nar", "cmlm": "nar"}
    assert kinds == {"masked": "pseudo", "linear": "density", **discriminative, **bounds, **at_once}
    sides = {name: family.given for name, family in TOLD.items() if family.given != "left"}
    both = dict.fromkeys(("masked", "electra", "diffusion", "cbow"), "both")
    assert sides == {"backward": "right", **both}
    stacks = {name: family.stack for name, family in TOLD.items() if family.stack != "transformer"}
    assert stacks == {
        "two_way": "pair",
        "denoise": "two",
        "bang": "two",
        "seq2seq": "two",
        "nar": "two",
        "cmlm": "two",
        "ngram": "table",
        "cbow": "bag",
        "linear": "linear",
    }
    assert {name: family.reads for name, family in TOLD.items() if family.reads != "text"} == {
        "linear": "numbers",
        **dict.fromkeys(("seq2seq", "nar", "cmlm"), "pairs"),
    }


def test_pictures_stand_side_by_side_in_eighty_columns() -> None:
    text = str(families())
    pictures, told = text.split("Each row is a place")
    shelves = [shelf.splitlines() for shelf in pictures.strip().split("\n\n")]
    assert [name for shelf in shelves for name in shelf[0].split()] == list(FAMILIES)
    assert max(len(line) for line in text.splitlines()) <= 80
    unwrapped = " ".join(told.split())
    assert all(family.title in unwrapped and family.decoder in unwrapped for family in TOLD.values())


def test_pictures_go_on_the_next_shelf_where_they_do_not_fit() -> None:
    assert shelves([11, 11, 11, 90, 5, 70, 2], 3, 80) == [[0, 1, 2], [3], [4, 5], [6]]
    assert shelves([38, 39], 3, 80) == [[0, 1]]
    assert shelves([38, 40], 3, 80) == [[0], [1]]


def test_json_is_a_list_of_records(tmp_path: Path) -> None:
    families(json=tmp_path / "families.json")
    records = json.loads((tmp_path / "families.json").read_text(encoding="utf-8"))
    assert [record["family"] for record in records] == list(FAMILIES)
    for record in records:
        assert record.keys() >= {"family", "title", "score_class", "sight", "stack", "decoder", "columns", "given"}
        assert isinstance(record["columns"], list)


def test_svg_sheet_holds_every_picture(tmp_path: Path) -> None:
    result = families(svg=tmp_path / "sheet.svg")
    root = ElementTree.parse(tmp_path / "sheet.svg").getroot()
    titles = [text.text for text in root.iter("{http://www.w3.org/2000/svg}text")]
    assert titles == list(FAMILIES)
    assert str(result).splitlines()[-1] == str(tmp_path / "sheet.svg")
    with pytest.raises(SightlineError, match=r"does not end in \.svg"):
        families(svg=tmp_path / "sheet.png")


def test_a_trained_objective_is_drawn_alike() -> None:
    from sightline.data import train_tokenizer

    vocabulary = train_tokenizer(["some text"], "byte").vocabulary
    for name, kind in FAMILIES.items():
        matrix, drawing = picture(kind(vocabulary))
        assert drawing == TOLD[name].drawing
        assert (matrix == seen(name)).all()


def test_families_load_no_torch() -> None:
    code = "import sys; from sightline.runs.families import families; families(); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout == "False\n", done.stdout + done.stderr
