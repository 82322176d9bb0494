# Settings of the loop and of the family are flags; the recipe shows all of them with their values.
sightline train masked corpus/ --budget 200steps --setting rate=0.2 hide=word --schedule.kind wsd --out runs/masked

# The recipe lies beside the results. The same recipe in a new folder is the same run.
sightline train --recipe runs/masked/recipe.toml --out runs/again

# Go on from a model, here with another family: the tokenizer is the folder's.
sightline train prefix corpus/ --from runs/masked/model --budget 200steps --out runs/prefix
