"""Two documents in one row: does anything of the first reach the second?

Three ways to pack are measured on the same random weights. A token of the first document is replaced by another; every
state of the second document that moves has seen it.
"""

import numpy as np
import torch

from sightline.data.vocabulary import Vocabulary
from sightline.objectives import Causal
from sightline.objectives.model import built
from sightline.sight import Slots, View, isolated, past
from sightline.stacks.shape import Shape

LENGTH, CUT = 16, 7  # a row of 16 tokens; the second document begins at place 7
words = Vocabulary(64, 64, pad=0, bos=1, eos=2, mask=3, specials=(0, 1, 2, 3))
model = built(Causal(words), Shape(layers=3, width=32, heads=4, vocabulary=64, context=LENGTH), None, seed=0).eval()

place = np.arange(LENGTH)
document = np.where(place < CUT, 0, 1)
restarted = np.where(place < CUT, place, place - CUT)  # position ids that begin again with each document

ways = {
    "nothing done": Slots.of(place, document=0),
    "position ids reset": Slots.of(place, document=0, positions=restarted),
    "documents apart": Slots.of(place, document=document, positions=restarted),
}

row = np.random.default_rng(0).integers(4, 64, (1, LENGTH))
other = row.copy()
other[0, 3] = 4 if row[0, 3] != 4 else 5  # one token of the first document

for name, slots in ways.items():
    view = View.of(slots, past, shows=place)
    with torch.no_grad():
        change = (model.states(view, row) - model.states(view, other)).abs().amax(-1)[0, CUT:]
    moved = int((change > 0).sum())
    print(f"{name:<20} {moved} of {LENGTH - CUT} states of the second document moved, by up to {change.max():.1f}")

print("isolated, by the rule alone:", isolated([view], model.depth))
