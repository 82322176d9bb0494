# A causal model is asked as a masked one: the same weights, and a row for the mask where its tokenizer has none.
sightline adopt runs/causal --as masked --out runs/causal-masked
sightline see runs/causal-masked --text "one text"

# It was not trained to answer so yet.
sightline train masked corpus/ --from runs/causal-masked --budget 5m --out runs/turned
