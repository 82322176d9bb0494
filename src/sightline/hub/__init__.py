"""Model folders, ours and other people's: weight maps and conversions between layouts, and nothing else.

Only this room reads and writes model folders. Weights are safetensors; nothing here unpickles or runs code it finds.
"""

from .architectures import ARCHITECTURES
from .folder import learned_pairs, load, located, model_fingerprint, noted, ours, save
from .form import Form
from .weights import weights_fingerprint

__all__ = [
    "ARCHITECTURES",
    "Form",
    "learned_pairs",
    "load",
    "located",
    "model_fingerprint",
    "noted",
    "ours",
    "save",
    "weights_fingerprint",
]
