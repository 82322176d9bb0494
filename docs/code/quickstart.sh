# Four families, the same text, the same budget each, one report.
sightline compare corpus/ --families causal,backward,masked,prefix --budget 5m --out runs/mine

# One family by itself; the same command given again goes on where it stopped.
sightline train causal corpus/ --budget 5m --out runs/causal

# Use it.
sightline generate runs/causal "The sentence" --length 24
sightline fill runs/causal "I stand at the ___:2 and walk on."
sightline score runs/causal "A sentence of your own."
sightline embed runs/causal "one text" "another text" --out vectors.npy

# Look at what it sees.
sightline see runs/causal --text "one text" --svg sight.svg
