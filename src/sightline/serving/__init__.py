"""What hands a trained model on to its users: engines that write with its weights.

This room runs models and never changes them; what other layouts need is converted in ``hub/``.
"""
