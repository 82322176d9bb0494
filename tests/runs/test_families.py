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
from sightline.runs.families import OPENING, PLACES, families, picture

TOLD = {family.family: family for family in families().families}
ALL = np.ones((PLACES, PLACES), dtype=bool)


def seen(name: str) -> np.ndarray:
    drawn = [line.split() for line in TOLD[name].drawing.splitlines()]
    return np.array([[cell == "■" for cell in line] for line in drawn])


def test_every_family_is_told_of_once() -> None:
    assert list(TOLD) == list(FAMILIES) == ["causal", "backward", "masked", "prefix", "blank", "mix", "ngram"]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("causal", np.tril(ALL)),
        ("backward", np.triu(ALL)),
        ("masked", ALL),
        ("prefix", np.tril(ALL) | (np.arange(PLACES) < OPENING)[None] & (np.arange(PLACES) < OPENING)[:, None]),
        ("blank", np.tril(np.ones((8, 8), dtype=bool)) | (np.arange(8) < OPENING + 1)),
        ("ngram", np.tril(ALL) & np.triu(ALL, -3)),
    ],
)
def test_the_picture_is_the_sight_by_place(name: str, expected: np.ndarray) -> None:
    assert (seen(name) == expected).all()


def test_sight_is_named_by_place() -> None:
    assert {name: family.sight for name, family in TOLD.items()} == {
        "causal": "past",
        "backward": "future",
        "masked": "everything",
        "prefix": "opening | past",
        "blank": "opening | past",
        "mix": "((by_order | opening) & (seen.stream == 0)) | itself",
        "ngram": "near(3) & past",
    }


def test_score_classes_sides_and_stacks() -> None:
    assert [family.score_class for family in TOLD.values()] == ["exact", "exact", "pseudo", *["exact"] * 4]
    assert [family.given for family in TOLD.values()] == ["left", "right", "both", *["left"] * 4]
    assert [family.stack for family in TOLD.values()] == ["transformer"] * 6 + ["table"]


def test_pictures_stand_side_by_side_in_eighty_columns() -> None:
    text = str(families())
    bands = [band.splitlines() for band in text.partition("\n\nEach row")[0].split("\n\n")]
    assert [name for band in bands for name in band[0].split()] == list(FAMILIES)
    assert bands[0][1].count("■") == 1 + PLACES + PLACES + OPENING + OPENING + 1
    assert max(len(line) for line in text.splitlines()) <= 80


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
