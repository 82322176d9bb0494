"""Full runs, one public function each: what the commands are thin words over.

A run binds everything by choosing and holds no logic of its own; where it would need some, a room below lacks a name.
Functions here may import what they use when they are called, so that naming a command costs nothing.
"""
