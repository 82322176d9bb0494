"""Check the family of ending.py, watch a first attempt leak, and train it."""

from dataclasses import dataclass

import numpy as np
from ending import Ending

import sightline as sl
from sightline.data import Draws, Rows
from sightline.data.vocabulary import Vocabulary
from sightline.errors import LeakError
from sightline.objectives import FAMILIES
from sightline.sight import Depth, Rule, cacheable, drawn, forbid_leaks, isolated, opening, past, score_of

words = Vocabulary(64, 64, pad=0, bos=1, eos=2, mask=3, cls=4, sep=5, specials=(0, 1, 2, 3, 4, 5))
deep = Depth(layers=4)


def row_of(*lengths: int) -> Rows:
    """One row of documents of these lengths."""
    documents = np.repeat(np.arange(len(lengths)), lengths)[None]
    tokens = np.random.default_rng(0).integers(6, 64, documents.shape).astype(np.int32)
    everywhere, zero = np.ones(tokens.shape, bool), np.zeros(1, int)
    return Rows(tokens, documents.astype(np.int32), zero, zero, everywhere, documents, everywhere)


rows = row_of(5, 3)


@dataclass(frozen=True)
class FirstAttempt(Ending):
    """Everybody sees the past and the ending, the ending too: so it carries the past on to those before it."""

    @property
    def rule(self) -> Rule:
        return past | opening


try:
    for view in FirstAttempt(words, empty=0).ask(rows, Draws(1).of(rows), 0.0):
        forbid_leaks(view, deep, "first attempt")
except LeakError as error:
    print(error)

family = Ending(words, empty=0)
views = family.ask(rows, Draws(1).of(rows), 0.0)
for view in views:
    forbid_leaks(view, deep, family.family)
    print(drawn(view))
print("documents apart:", isolated(views, deep), "- states may be kept:", cacheable(views[0]))
print("score:", score_of(list(family.examine(row_of(8))), deep))

FAMILIES[Ending.family] = Ending  # from here on it is a family like the others
result = sl.train("ending", "corpus/", budget="5m", setting=("empty=0.25",), out="runs/ending")
print(result)
