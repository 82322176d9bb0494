# A folder with files named train, dev and test: which column is what, by name or, without a header, by number.
sightline finetune runs/causal reviews/ --columns text=sentence,label=label --epochs 5 --out runs/reviews

# What did pretraining give? The same stack from fresh weights; and a head alone on frozen states.
sightline finetune runs/causal reviews/ --columns text=sentence,label=label --epochs 5 --from-scratch
sightline finetune runs/causal reviews/ --columns text=sentence,label=label --tune frozen --seeds 5

# Ask what was learned: texts, or a file of them.
sightline predict runs/reviews "What a film." "Two hours that I want back."
sightline predict runs/reviews reviews/test.jsonl --columns text=sentence,label=label --out answers.jsonl
