# A folder with files named train, dev and test: which column is what, by name or, without a header, by number.
sightline finetune runs/causal reviews/ --columns text=sentence,label=label --epochs 5 --out runs/reviews

# What did pretraining give? The same stack from fresh weights; and a head alone on frozen states.
sightline finetune runs/causal reviews/ --columns text=sentence,label=label --epochs 5 --from-scratch
sightline finetune runs/causal reviews/ --columns text=sentence,label=label --tune frozen --seeds 5
