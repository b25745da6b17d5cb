"""Recall in one place: the index, a request's stream, and steps of many streams at once.

    from draftwood.index.recall import Recall, RecallStream

`recall_ring.py` holds the index, `recall_stream.py` what a request asks of it.
"""

from draftwood.index.recall_ring import Recall, fingerprint_of, namespace_key
from draftwood.index.recall_stream import (
    RecallPolicy,
    RecallStream,
    observe_all,
    propose_all,
)

__all__ = [
    "Recall",
    "RecallPolicy",
    "RecallStream",
    "fingerprint_of",
    "namespace_key",
    "observe_all",
    "propose_all",
]
