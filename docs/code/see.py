"""Measure what a trained model sees, and hold it against what its family declares."""

import sightline as sl

seen = sl.see("runs/causal", text="one text")
print(seen)
print("declared:", seen.declared, "- measured:", seen.measured, "- leaks:", len(seen.leaks))
