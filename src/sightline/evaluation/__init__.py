"""What is measured: scores with their class and column, understanding, writing, and the intervals around them.

An evaluation asks a trained model through its objective and never touches training state; a pseudo score never stands
beside an exact one.
"""

from .bits import bits_per_byte, continuation_bits_per_byte, infilling_bits_per_byte
from .bootstrap import Interval
from .passage import Passage, copies, passages
from .sample import Piece, Sample, evaluation_sample
from .score import Measured, Score, compared, scored
from .task import NoTask, Task, task_for
from .understanding import Understanding, probe_floors, probed
from .writing import Writing, Written, copied, written_by

__all__ = [
    "Interval",
    "Measured",
    "NoTask",
    "Passage",
    "Piece",
    "Sample",
    "Score",
    "Task",
    "Understanding",
    "Writing",
    "Written",
    "bits_per_byte",
    "compared",
    "continuation_bits_per_byte",
    "copied",
    "copies",
    "evaluation_sample",
    "infilling_bits_per_byte",
    "passages",
    "probe_floors",
    "probed",
    "scored",
    "task_for",
    "written_by",
]
