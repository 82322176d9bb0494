"""Text to rows: sources, splits, tokenizers, token files, packing, order and draws. Knows no torch and no family."""

from .bins import Bins
from .documents import BadRow, Corpus, Document, kind_of, read
from .draws import Draws, RowDraws
from .order import Order
from .phrases import Phrasing
from .rows import Packed, RowReader, Rows, TokenFile, tokenized
from .store import Documents, labels_of
from .tokenizer import Tokenizer
from .trainer import default_size, tokenizer_for, train_tokenizer

__all__ = [
    "BadRow",
    "Bins",
    "Corpus",
    "Document",
    "Documents",
    "Draws",
    "Order",
    "Packed",
    "Phrasing",
    "RowDraws",
    "RowReader",
    "Rows",
    "TokenFile",
    "Tokenizer",
    "default_size",
    "kind_of",
    "labels_of",
    "read",
    "tokenized",
    "tokenizer_for",
    "train_tokenizer",
]
