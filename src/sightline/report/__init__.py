"""The page that a run ends in: one file with no outside address.

It draws results that it is given as plain records and computes none of them, apart from laying them out.
"""

from .page import page, write_report
from .recommendation import recommend
from .table import headline_table, headline_text

__all__ = ["headline_table", "headline_text", "page", "recommend", "write_report"]
