"""Words: what is like one, what is to one as another is to a third, and their vectors in other programs' files."""

from __future__ import annotations

import shlex
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from ..errors import SightlineError
from ..files import write_json

if TYPE_CHECKING:
    from ..objectives.lexicon import Lexicon


@dataclass(frozen=True)
class Neighbour:
    """A word, and the cosine of its vector with what was asked for."""

    word: str
    cosine: float


@dataclass(frozen=True)
class Neighbours:
    """The words nearest to what was asked for.

    Parameters
    ----------
    source : the model folder or file. asked : in words. found : the nearest first. next : a command to go on with.
    """

    source: Path
    asked: str
    found: tuple[Neighbour, ...]
    next: str

    def __str__(self) -> str:
        width = max((len(one.word) for one in self.found), default=0)
        return "\n".join([self.asked, *(f"  {one.word:<{width}}  {one.cosine:.3f}" for one in self.found)])

    def record(self) -> dict[str, Any]:
        """As plain JSON."""
        return {"source": str(self.source), "asked": self.asked, "found": [asdict(one) for one in self.found]}


@dataclass(frozen=True)
class Export:
    """Vectors of words in a file.

    Parameters
    ----------
    source : the model folder or file. files : written. words, width : of the vectors. next : a command to go on with.
    """

    source: Path
    files: tuple[Path, ...]
    words: int
    width: int
    next: str

    def __str__(self) -> str:
        return "\n".join([f"{self.words:,} vectors of width {self.width}", *map(str, self.files)])

    def record(self) -> dict[str, Any]:
        """As plain JSON."""
        return asdict(self) | {"source": str(self.source), "files": list(map(str, self.files))}


def similar(
    source: Annotated[Path, tyro.conf.Positional],
    word: Annotated[str, tyro.conf.Positional],
    *,
    count: int = 10,
    json: Path | None = None,
) -> Neighbours:
    """The words whose vectors point most nearly the same way as a word's.

    Examples:
        sightline similar runs/mine king
        sightline similar vectors.bin king --count 20

    Args:
        source: a model folder, the folder of a run, or vectors in word2vec's layout (.txt .vec .bin) or a table (.tsv).
        word: of the text that was fitted.
        count: how many.
        json: also write them to this file.
    """
    lexicon = _opened(source)
    again = f"sightline analogy {shlex.quote(str(source))} ONE OTHER {shlex.quote(word)}"
    return _kept(source, f"like {word}", lexicon.similar(word, count), again, json)


def analogy(
    source: Annotated[Path, tyro.conf.Positional],
    one: Annotated[str, tyro.conf.Positional],
    other: Annotated[str, tyro.conf.Positional],
    third: Annotated[str, tyro.conf.Positional],
    *,
    count: int = 5,
    json: Path | None = None,
) -> Neighbours:
    """What is to the third word as the second is to the first.

    Examples:
        sightline analogy runs/mine man king woman
        sightline analogy vectors.txt Athens Greece Paris

    Args:
        source: a model folder, the folder of a run, or vectors in word2vec's layout (.txt .vec .bin) or a table (.tsv).
        one: the first word.
        other: what belongs to it.
        third: the word whose fellow is asked for.
        count: how many candidates.
        json: also write them to this file.
    """
    found = _opened(source).analogy(one, other, third, count)
    best = shlex.quote(found[0][0]) if found else shlex.quote(third)
    again = f"sightline similar {shlex.quote(str(source))} {best}"
    return _kept(source, f"{one} is to {other} as {third} is to", found, again, json)


def vectors(
    source: Annotated[Path, tyro.conf.Positional],
    out: Annotated[Path, tyro.conf.Positional],
    *,
    json: Path | None = None,
) -> Export:
    """Write the vectors of a model's words for other programs, or turn one layout into another.

    Examples:
        sightline vectors runs/mine vectors.bin
        sightline vectors vectors.bin vectors.tsv

    Args:
        source: a model folder, the folder of a run, or vectors in a file.
        out: a file ending in .txt or .vec (word2vec's text), .bin (its binary layout) or .tsv (a table for the
            Projector of TensorBoard; the words lie beside it in NAME.words.tsv).
        json: also write what was made to this file.
    """
    from ..hub.word2vec import TABLE, names_beside, write_vectors

    lexicon, out = _opened(source), Path(out)
    write_vectors(lexicon, out)
    files = (out, names_beside(out)) if out.suffix in TABLE else (out,)
    some = shlex.quote(lexicon.words[0])
    again = f"sightline similar {shlex.quote(str(out))} {some}"
    made = Export(source, files, len(lexicon.words), int(lexicon.vectors.shape[1]), again)
    if json is not None:
        write_json(Path(json), made.record())
    return made


def _opened(source: Path) -> Lexicon:
    """The words of a model folder or of a file."""
    from .. import hub
    from ..hub.word2vec import read_vectors
    from ..objectives.lexicon import Lexicon

    source = Path(source).expanduser()
    if not source.exists():
        raise SightlineError(f"{source} does not exist", "Check the path")
    return read_vectors(source) if source.is_file() else Lexicon.of(hub.load(source))


def _kept(source: Path, asked: str, found: list[tuple[str, float]], again: str, json: Path | None) -> Neighbours:
    result = Neighbours(source, asked, tuple(Neighbour(*one) for one in found), again)
    if json is not None:
        write_json(Path(json), result.record())
    return result
