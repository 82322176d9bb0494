# Any csv or parquet: a long frame with the columns unique_id, ds and y, or one column.
sightline forecast sales.csv --horizon 6 --p 2

# Each series chooses its order; the last 12 values are held out to see how good that is.
sightline forecast sales.csv --p bic --holdout 12 --season 12 --out forecast.csv --json forecast.json

# Trained on all but the end of each series, measured there, kept; then going on from the ends of any series.
sightline train linear sales.csv --horizon 12 --setting p=4 --out runs/regressions
sightline train causal sales.csv --horizon 12 --budget 60s --context 64 --out runs/neural
sightline forecast sales.csv --model runs/neural --horizon 12 --holdout 12

# A regression for each series beside a small neural model of all of them.
sightline compare sales.csv --families linear,causal --budget 60s --horizon 12 --context 64 --out runs/sales
