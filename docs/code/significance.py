"""Two models' right and wrong answers to the same items, and what they allow to be said."""

import numpy as np

from sightline.evaluation.effects import difference_effect
from sightline.evaluation.significance import adjusted, detectable, mcnemar

print("300 items find a difference of", f"{detectable(300):.3f}")
print("... where one alone is right on a tenth of them:", f"{detectable(300, discordance=0.1):.3f}")

draws = np.random.default_rng(0)
hard = draws.random(300)  # for both alike
first = (hard + 0.1 * draws.normal(size=(3, 300)) < np.array([[0.72], [0.70], [0.74]])).astype(int)  # three seeds
second = (hard + 0.1 * draws.normal(size=(3, 300)) < np.array([[0.62], [0.66], [0.70]])).astype(int)

test = mcnemar(first[0], second[0])
print("one seed each:", test.first, "items are the first's alone,", test.second, "the second's; p =", f"{test.p:.1g}")
print("with two tasks more:", [f"{p:.1g}" for p in adjusted([test.p, 0.03, 0.6])])

found = difference_effect(first, second)
print("three seeds each:", f"{found.interval.value:.3f} [{found.interval.low:.3f} to {found.interval.high:.3f}]")
print("p =", f"{found.p:.2f};", "deviation between seeds:", [f"{one:.3f}" for one in found.seeds])
