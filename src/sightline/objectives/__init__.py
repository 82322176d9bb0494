"""What is asked: one file per family, and the model that binds objective, stack, head and tokenizer.

A family says what each slot shows, asks and may see, and names its natural stack and decoder; everything else is
derived. It knows no files, no devices, no steps and no learning rates.
"""
