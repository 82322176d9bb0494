"""What writes: which asked slots to accept, round by round, in one loop with a policy each.

A decoder is given answers, a canvas and randomness. It knows no family by name and no weights.
"""
