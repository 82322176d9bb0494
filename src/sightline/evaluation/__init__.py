"""What is measured: scores with their class and column, understanding, writing, and the intervals around them.

An evaluation asks a trained model through its objective and never touches training state; a pseudo score never stands
beside an exact one.
"""
