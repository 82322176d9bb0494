"""Use a model: the verbs by their functions, on small fresh models in real model folders."""

from __future__ import annotations

import io
import json
import math
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sightline import hub
from sightline.data import train_tokenizer
from sightline.errors import SightlineError
from sightline.evaluation.sample import BLOCK
from sightline.objectives import FAMILIES as ALL
from sightline.objectives.model import Model, built
from sightline.runs.embed import embed
from sightline.runs.score import score
from sightline.runs.texts import prompts, read_all
from sightline.runs.write import fill, generate
from sightline.stacks.shape import Shape

FAMILIES = {name: kind for name, kind in ALL.items() if kind.reads == "text"}
WRITERS = [name for name, kind in FAMILIES.items() if kind.writes]
LEFT_OR_RIGHT = ("causal", "backward", "prefix", "permuted", "ngram")


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory, page: str) -> Path:
    """A folder with one model of each family: fresh weights, and counts of the page."""
    folder = tmp_path_factory.mktemp("models")
    tokenizer = train_tokenizer([page], "byte")
    shape = Shape(layers=2, width=16, heads=2, vocabulary=tokenizer.padded, context=64)
    for name, kind in FAMILIES.items():
        model = built(kind(tokenizer.vocabulary), shape, tokenizer, seed=1)
        if hasattr(model.stack, "fit"):
            marks = tokenizer.vocabulary
            ids = np.array([marks.bos, *tokenizer.encode(page), marks.eos])
            model.stack.fit(ids, np.array([0]))  # type: ignore[operator]
        hub.save(model, folder / name / "model")
    return folder


def piped(monkeypatch: pytest.MonkeyPatch, content: bytes) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))


# -- generate


@pytest.mark.parametrize("name", WRITERS)
def test_generate_goes_on_from_the_prompt(models: Path, name: str, tmp_path: Path) -> None:
    result = generate(models / name, ("The river",), length=6, seed=3, json=tmp_path / "out.json")
    [text] = result.texts
    assert text.given == ("right" if name == "backward" else "left")
    assert text.text.endswith("The river") if name == "backward" else text.text.startswith("The river")
    record = json.loads((tmp_path / "out.json").read_text(encoding="utf-8"))
    assert record["family"] == name
    assert record["texts"][0]["prompt"] == "The river"
    assert record["texts"][0]["text"] == text.text
    assert result.next.startswith("sightline score ")


@pytest.mark.parametrize("name", FAMILIES)
def test_every_verb_in_half_precision(models: Path, name: str, page: str, tmp_path: Path) -> None:
    writer = models / name if name in WRITERS else models / name / "model" / "generator"
    [text] = generate(writer, ("The river",), length=6, dtype="bfloat16").texts
    assert "The river" in text.text
    assert fill(writer, ("The ___ runs.",), dtype="bfloat16").texts
    if name not in ("cbow", "bang"):  # which have no bits per byte
        blanks = name == "denoise"  # which is trained on nothing else
        scores = [score(writer, (page,), dtype=kind, infilling=blanks) for kind in ("float32", "bfloat16")]
        exact, half = (one.documents[0].bits for one in scores)
        assert half == pytest.approx(exact, rel=0.01)
    if name != "ngram":
        embed(models / name, (page,), out=tmp_path / "vectors.npy", dtype="bfloat16")
        assert np.isfinite(np.load(tmp_path / "vectors.npy")).all()


def test_generate_repeats_by_seed_and_differs_between_seeds(models: Path) -> None:
    one, same, other = (generate(models / "causal", ("The",), length=12, seed=seed).texts[0].text for seed in (5, 5, 6))
    assert one == same != other


def test_generate_several_for_each_prompt(models: Path, tmp_path: Path) -> None:
    result = generate(models / "causal", ("One", "Another"), length=4, n=3, json=tmp_path / "out.json")
    assert len(result.texts) == 6
    record = json.loads((tmp_path / "out.json").read_text(encoding="utf-8"))
    assert [text["prompt"] for text in record["texts"]] == ["One"] * 3 + ["Another"] * 3
    assert all(text["text"].startswith(text["prompt"]) for text in record["texts"])


def test_greedy_is_a_beam_of_one_and_beams_are_no_worse(models: Path) -> None:
    greedy = generate(models / "ngram", ("The",), length=8, greedy=True).texts[0]
    cold = generate(models / "ngram", ("The",), length=8, temperature=0.0).texts[0]
    wide = generate(models / "ngram", ("The",), length=8, beams=6).texts[0]
    assert greedy == cold
    assert wide.logprob >= greedy.logprob - 1e-6


def test_generate_from_nothing_and_from_one_string(models: Path) -> None:
    assert generate(models / "causal", length=3).prompts == ("",)
    assert generate(models / "causal", "The", length=3).prompts == ("The",)  # type: ignore[arg-type]


def test_generate_from_standard_input(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    piped(monkeypatch, "河水\nThe house\n".encode())
    result = generate(models / "causal", ("-",), length=3, documents="lines")
    assert result.prompts == ("河水", "The house")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"temperature": -1.0}, "temperature of -1"),
        ({"top_p": 0.0}, "top-p 0"),
        ({"length": 0}, "length of 0"),
        ({"length": 4000}, "exceed the model's context, 64"),
        ({"n": 2, "greedy": True}, "likeliest text is one"),
        ({"device": "moon"}, "the device 'moon'"),
        ({"dtype": "int8"}, "the type 'int8'"),
        ({"tokenizer": "nowhere/tokenizer.json"}, "does not exist"),
    ],
)
def test_generate_says_what_is_wrong(models: Path, changes: dict[str, object], message: str) -> None:
    with pytest.raises(SightlineError, match=message):
        generate(models / "causal", ("The",), **changes)  # type: ignore[arg-type]


# -- a drafter goes ahead


@pytest.mark.parametrize("drafter", ["lookup", "ngram", "prefix"])
def test_a_drafter_changes_nothing_but_the_rounds(models: Path, drafter: str, tmp_path: Path) -> None:
    goes = drafter if drafter == "lookup" else str(models / drafter)
    settings: dict[str, Any] = {"length": 20, "greedy": True}
    plain = generate(models / "causal", ("The river",), **settings)
    quick = generate(models / "causal", ("The river",), **settings, drafter=goes, json=tmp_path / "out.json")
    assert [text.text for text in quick.texts] == [text.text for text in plain.texts]
    [text] = quick.texts
    assert f"drafted by {drafter}: {text.tokens} tokens in {text.rounds} rounds" in str(quick)
    assert "drafted" not in str(plain)
    record = json.loads((tmp_path / "out.json").read_text(encoding="utf-8"))
    assert record["mean_accepted_length"] == pytest.approx(text.tokens / text.rounds)
    assert record["texts"][0]["rounds"] == text.rounds


def test_a_model_of_blocks_drafts_for_itself(models: Path) -> None:
    settings: dict[str, Any] = {"length": 20, "greedy": True}
    plain = generate(models / "block_diffusion", ("The",), sampler="next", **settings)
    quick = generate(models / "block_diffusion", ("The",), drafter="self", **settings)
    assert quick.texts[0].text == plain.texts[0].text
    assert quick.texts[0].how == plain.texts[0].how == "left to right, the likeliest token"


def test_a_drafter_with_another_tokenizer_is_refused(models: Path, tmp_path: Path, page: str) -> None:
    tokenizer = train_tokenizer([page], "bpe", 480)
    shape = Shape(layers=1, width=16, heads=2, vocabulary=tokenizer.padded, context=64)
    hub.save(built(ALL["causal"](tokenizer.vocabulary), shape, tokenizer), tmp_path / "other")
    with pytest.raises(SightlineError, match="the drafter has another tokenizer"):
        generate(models / "causal", ("The",), drafter=str(tmp_path / "other"))
    with pytest.raises(SightlineError, match="does not exist"):
        generate(models / "causal", ("The",), drafter="nowhere")


# -- a film of it


@pytest.mark.parametrize("name", ["causal", "backward", "masked", "diffusion", "block_diffusion"])
def test_a_film_of_the_first_text(models: Path, name: str, tmp_path: Path) -> None:
    plain = generate(models / name, ("The river", "One"), length=6, seed=3)
    result = generate(models / name, ("The river", "One"), length=6, seed=3, film=tmp_path / "film.svg")
    assert [text.text for text in result.texts] == [text.text for text in plain.texts]
    svg = (tmp_path / "film.svg").read_text(encoding="utf-8")
    assert svg.startswith("<svg") and "The river" in svg and "animation" in svg
    assert result.texts[0].film and not result.texts[1].film and not plain.texts[0].film


def test_there_is_no_film_of_a_beam(models: Path, tmp_path: Path) -> None:
    with pytest.raises(SightlineError, match="no film of a beam"):
        generate(models / "causal", ("The",), length=4, beams=2, film=tmp_path / "film.svg")


# -- folders


def test_a_run_folder_and_its_model_are_one(models: Path) -> None:
    by_run, by_model = (generate(models / "causal" / end, ("The",), length=4) for end in ("", "model"))
    assert by_run.texts == by_model.texts
    assert by_run.model == by_model.model


def test_a_folder_of_several_models_names_them(models: Path) -> None:
    with pytest.raises(SightlineError, match=f"{len(FAMILIES)} models") as caught:
        score(models, ("text",))
    assert all(str(models / name) in str(caught.value) for name in FAMILIES)


def test_no_model_there(tmp_path: Path) -> None:
    with pytest.raises(SightlineError, match="does not exist"):
        score(tmp_path / "absent", ("text",))
    with pytest.raises(SightlineError, match="holds no model"):
        score(tmp_path, ("text",))


def test_a_larger_vocabulary_does_not_fit(models: Path, tmp_path: Path, page: str) -> None:
    train_tokenizer([page], "bpe", 500).save(tmp_path / "other")
    with pytest.raises(SightlineError):
        score(models / "causal", ("text",), tokenizer=str(tmp_path / "other"))


def test_weights_cut_short_are_refused(models: Path, tmp_path: Path) -> None:
    shutil.copytree(models / "causal" / "model", tmp_path / "model")
    weights = tmp_path / "model" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(SightlineError, match=r"model\.safetensors"):
        generate(tmp_path / "model", ("The",))


# -- fill


@pytest.mark.parametrize("name", WRITERS)
def test_fill_keeps_what_is_given(models: Path, name: str) -> None:
    result = fill(models / name, ("The ___:4 river ___ here.",), candidates=2, iterations=2)
    [text] = result.texts
    assert text.given == "both"
    assert len(text.pieces) == 2
    assert text.text.startswith("The ")
    assert text.text.endswith(" here.")
    assert "___" not in text.text
    assert result.next.startswith("sightline see ")


def test_hybrid_is_read_in_either_way(models: Path) -> None:
    folder = models / "hybrid"
    assert fill(folder, ("The ___ runs.",)).texts[0].how.startswith("refinement")
    left, both = generate(folder, ("The",), length=5), generate(folder, ("The",), length=5, both_sides=True)
    assert left.texts[0].how.startswith("left to right")
    assert both.texts[0].how.startswith("refinement")
    exact, pseudo = score(folder, ("The river",)), score(folder, ("The river",), both_sides=True)
    assert (exact.scores[0].class_, exact.scores[0].column) == ("exact", "whole text")
    assert (pseudo.scores[0].class_, pseudo.scores[0].column) == ("pseudo", "infilling")
    with pytest.raises(SightlineError, match="one side only"):
        score(models / "causal", ("The river",), both_sides=True)


def test_fill_needs_a_text_with_a_blank(models: Path) -> None:
    with pytest.raises(SightlineError, match="needs a text"):
        fill(models / "masked")
    with pytest.raises(SightlineError, match="no blank"):
        fill(models / "masked", ("nothing is missing here",))


# -- score


def nats_by_hand(model: Model, text: str) -> float:
    """-log p(text and its end | its start), token by token, through the stack's own logits."""
    from sightline.data import Rows

    marks = model.tokenizer.vocabulary
    ids = np.array([marks.bos, *model.tokenizer.encode(text), marks.eos])
    rows = Rows.of([ids], model.tokenizer)
    view = model.objective.read(rows)
    with torch.no_grad():
        logits = model.head.logits(model.states(view, rows.tokens)).double()  # type: ignore[operator]
    return -float(sum(logits[0, at].log_softmax(-1)[token] for at, token in enumerate(ids[1:])))


def test_score_is_the_likelihood_over_bytes(models: Path) -> None:
    text = "水 flows, slowly."
    result = score(models / "causal", (text,))
    expected = nats_by_hand(hub.load(models / "causal"), text) / math.log(2)
    [document] = result.documents
    assert document.bytes == len(text.encode())
    assert document.bits == pytest.approx(expected, rel=1e-5)
    assert result.scores[0].value == pytest.approx(expected / document.bytes, rel=1e-5)
    assert (result.scores[0].class_, result.scores[0].column) == ("exact", "whole text")
    assert result.scores[0].context_rule


def test_documents_in_blocks_cost_what_they_cost_whole(models: Path, page: str, tmp_path: Path) -> None:
    file = tmp_path / "page.txt"
    file.write_text(page, encoding="utf-8", newline="")
    result = score(models / "ngram", (str(file), "and a text"), json=tmp_path / "scores.json")
    first, second = result.documents
    assert (first.id, first.bytes) == ("page.txt", len(page.encode()))
    assert (second.id, second.bytes) == ("text 2", len("and a text"))
    [overall] = result.scores
    assert overall.n > len(page.encode()) / BLOCK - 2
    assert overall.low is not None
    assert overall.value is not None
    assert overall.high is not None
    assert overall.low < overall.value < overall.high
    total = (first.bits + second.bits) / (first.bytes + second.bytes)
    assert overall.value == pytest.approx(total)
    record = json.loads((tmp_path / "scores.json").read_text(encoding="utf-8"))
    assert record["scores"][0]["name"] == "bits_per_byte"
    assert [one["id"] for one in record["documents"]] == ["page.txt", "text 2"]
    assert str(overall) in str(result)


def test_few_bytes_by_counts_many_by_fresh_weights(models: Path, page: str) -> None:
    counted, fresh = (score(models / name, (page[:300],)).scores[0].value for name in ("ngram", "causal"))
    assert counted is not None
    assert fresh is not None
    assert counted < 3 < fresh


def test_masked_scores_are_pseudo_and_may_ask_a_share(models: Path) -> None:
    whole = score(models / "masked", ("a small river",)).scores[0]
    assert (whole.class_, whole.column) == ("pseudo", "infilling")
    part = score(models / "masked", ("a small river " * 4,), share=0.3)
    assert part.documents[0].bytes < len("a small river " * 4)
    with pytest.raises(SightlineError, match="share of 0"):
        score(models / "masked", ("a",), share=0.0)


def test_continuation_is_a_column_of_its_own(models: Path) -> None:
    both = score(models / "prefix", ("half is given and half is asked",), continuation=True).scores
    assert [one.column for one in both] == ["whole text", "continuation"]
    none = score(models / "backward", ("half is given",), continuation=True)
    assert none.scores[1].value is None
    assert "not measured" in str(none)


def test_a_tokenizer_that_loses_text_earns_no_bits(tmp_path: Path, page: str) -> None:
    tokenizer = train_tokenizer([page], "wordpiece", 400)
    shape = Shape(layers=1, width=16, heads=2, vocabulary=tokenizer.padded, context=32)
    hub.save(built(FAMILIES["causal"](tokenizer.vocabulary), shape, tokenizer), tmp_path / "model")
    with pytest.raises(SightlineError, match="byte for byte"):
        score(tmp_path / "model", ("The river",))


# -- embed


@pytest.mark.parametrize("ending", ["npy", "safetensors", "parquet", "jsonl"])
def test_vectors_come_back_from_every_format(models: Path, tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"vectors.{ending}"
    result = embed(models / "masked", ("one", "two words", "三"), out=path)
    assert str(result).splitlines()[-1] == str(path)
    if ending == "npy":
        read = np.load(path, allow_pickle=False)
    elif ending == "safetensors":
        from safetensors import safe_open

        with safe_open(path, "np") as held:
            read = held.get_tensor("vectors")
            assert json.loads(held.metadata()["ids"]) == list(result.ids)
    elif ending == "parquet":
        import pyarrow.parquet as pq

        table = pq.read_table(path)
        assert table["id"].to_pylist() == list(result.ids)
        read = np.array(table["vector"].to_pylist())
    else:
        lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        assert [line["id"] for line in lines] == list(result.ids)
        read = np.array([line["vector"] for line in lines])
    reference = embed(models / "masked", ("two words",), out=tmp_path / "one.npy")
    assert read.shape == (3, reference.width) == (3, 16)
    assert np.allclose(read[1], np.load(tmp_path / "one.npy")[0], atol=1e-5)


def test_vectors_are_the_mean_of_a_layer(models: Path, tmp_path: Path) -> None:
    from sightline.data import Rows

    embed(models / "causal", ("abc",), layer=1, out=tmp_path / "v.npy")
    model = hub.load(models / "causal")
    marks = model.tokenizer.vocabulary
    rows = Rows.of([np.array([marks.bos, *model.tokenizer.encode("abc"), marks.eos])], model.tokenizer)
    with torch.no_grad():
        layers = model.layers(model.objective.read(rows), rows.tokens)
    assert np.allclose(np.load(tmp_path / "v.npy")[0], layers[1][0, 1:4].mean(0).numpy(), atol=1e-5)


def test_default_vectors_are_not_written_over(models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    embed(models / "causal", ("abc",))
    before = Path("vectors.npy").read_bytes()
    with pytest.raises(SightlineError, match="is there already"):
        embed(models / "causal", ("another",))
    assert Path("vectors.npy").read_bytes() == before
    embed(models / "causal", ("another",), out=Path("vectors.npy"))
    assert Path("vectors.npy").read_bytes() != before


def test_embed_says_what_is_wrong(models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SightlineError, match=r"'\.csv'"):
        embed(models / "causal", ("abc",), out=tmp_path / "v.csv")
    with pytest.raises(SightlineError, match="no layer 3"):
        embed(models / "causal", ("abc",), layer=3, out=tmp_path / "v.npy")
    with pytest.raises(SightlineError, match="ngram keeps no states"):
        embed(models / "ngram", ("abc",), out=tmp_path / "v.npy")
    embed(models / "causal", ("a" * 200,), out=tmp_path / "v.npy")
    assert "1 texts are longer than the model's context" in capsys.readouterr().err


# -- texts


def test_words_are_texts_paths_or_corpora(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "one"}\n{"text": "two"}\nbroken\n', encoding="utf-8")
    (tmp_path / "b.txt").write_bytes(b"drei\r\nvier")
    found = read_all((str(tmp_path / "a.jsonl"), "a plain text", str(tmp_path / "b.txt")))
    assert [one.text for one in found] == ["one", "two", "a plain text", "drei\r\nvier"]
    assert [one.id for one in found] == ["a.jsonl:1", "a.jsonl:2", "text 2", "b.txt"]


def test_a_folder_is_read_whole_or_by_part(tmp_path: Path, page: str) -> None:
    (tmp_path / "corpus").mkdir()
    (tmp_path / "corpus" / "page.txt").write_text(page, encoding="utf-8", newline="")
    (tmp_path / "corpus" / "short.txt").write_text("a few words\n", encoding="utf-8", newline="")
    whole = read_all((str(tmp_path / "corpus"),))
    assert {one.id: one.text for one in whole} == {"page.txt": page, "short.txt": "a few words\n"}
    test = read_all((str(tmp_path / "corpus"),), part="test")
    assert len(test) == 1
    assert page.endswith(test[0].text)
    assert len(test[0].text) < len(page) / 4


@pytest.mark.parametrize(
    ("words", "part", "message"),
    [
        ((), "all", "no text was given"),
        (("  ",), "all", "no text was given"),
        (("corpus.txt",), "all", "corpus.txt does not exist"),
        (("./corpus",), "all", "does not exist"),
        (("some text",), "test", "has no test side"),
    ],
)
def test_texts_that_are_not_there(words: tuple[str, ...], part: str, message: str) -> None:
    with pytest.raises(SightlineError, match=message):
        read_all(words, part=part)  # type: ignore[arg-type]


def test_files_that_hold_no_text(tmp_path: Path) -> None:
    (tmp_path / "n.csv").write_text("1,2\n", encoding="utf-8")
    (tmp_path / "bad.txt").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "empty.txt").write_bytes(b"")
    for name, message in (("n.csv", "holds numbers"), ("bad.txt", "not UTF-8"), ("empty.txt", "empty")):
        with pytest.raises(SightlineError, match=message):
            read_all((str(tmp_path / name),))


def test_standard_input_as_text_and_as_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    piped(monkeypatch, b"as it is\n")
    assert [one.text for one in read_all(("-",))] == ["as it is\n"]
    piped(monkeypatch, b"as it is\n")
    assert prompts(("before", "-")) == ["before", "as it is"]
    piped(monkeypatch, b'{"body": "one"}\n{"body": "two"}\n')
    assert prompts(("-",), field="body") == ["one", "two"]
    piped(monkeypatch, b"")
    with pytest.raises(SightlineError, match="standard input holds no text"):
        prompts(("-",))


def test_a_text_as_long_as_a_book_is_no_path() -> None:
    assert len(read_all(("x" * 100_000,))) == 1
    assert len(read_all(("~nobody-of-this-name says hello",))) == 1
