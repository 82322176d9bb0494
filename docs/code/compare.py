"""Compare two families from Python, and read the figures."""

import sightline as sl

result = sl.compare("corpus/", families="causal,masked", budget="5m", out="runs/two")

for record in result.results["families"]:
    for score in record["scores"]:
        if score["value"] is not None:
            known = score["low"] is not None  # one block of text has no interval
            interval = f"{score['low']:.3f} to {score['high']:.3f}" if known else "–"
            print(record["family"], score["name"], f"{score['value']:.3f}", interval, score["class"], score["column"])

for floor in result.results["floors"]:
    print("floor:", floor["name"])
print(result.report)
