"""A view by hand: its picture, its cost, and a leak that the rule alone shows, before there is a single weight."""

import numpy as np

from sightline.errors import LeakError
from sightline.sight import Depth, Slots, View, drawn, forbid_leaks, near, past, score_of, visible_pairs

place = np.arange(5)
asks = np.r_[1:5, -1]  # slot t shows token t and is asked for token t + 1; the last one for nothing
slots = Slots.of(place)
deep = Depth(layers=4)

causal = View.of(slots, past, shows=place, asks=asks)
print(drawn(causal))
print("score:", score_of([causal], deep), "- pairs looked at:", visible_pairs(causal, deep))
forbid_leaks(causal, deep, "causal")

# Seeing one place ahead is the answer itself.
ahead = View.of(slots, near(1), shows=place, asks=asks)
try:
    forbid_leaks(ahead, deep, "ahead")
except LeakError as error:
    print(error)
