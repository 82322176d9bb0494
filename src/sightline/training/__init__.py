"""What learns: gradients, optimizers, time, checkpoints, processes.

The loop knows no family and imports no room of its own floor; a run hands it values and callables.
"""
