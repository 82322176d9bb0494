# A stack that llama.cpp has: LLaMA's make, at any size.
sightline train causal corpus/ --like llama --budget 20m --out runs/llama

# One file with weights in 8 bits, the tokenizer and the marks.
sightline export runs/llama gguf --out llama.gguf --dtype q8_0

# A folder that transformers loads; every model folder is one already.
sightline export runs/llama huggingface --out for-transformers/
