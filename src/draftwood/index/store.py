"""History files in one place: reading, writing, merging and exporting.

    from draftwood.index.store import History, HistoryWriter

`history.py` reads, `history_writer.py` writes.
"""

from draftwood.index.history import Entry, History, HistoryInfo, export
from draftwood.index.history_writer import HistoryWriter, merge

__all__ = ["Entry", "History", "HistoryInfo", "HistoryWriter", "export", "merge"]
