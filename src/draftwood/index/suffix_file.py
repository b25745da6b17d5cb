"""A suffix history from a history file, and as one."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from draftwood.draft import TokenIds
from draftwood.errors import TokenizerMismatch, UnknownSequence
from draftwood.index.fingerprint import UNKNOWN
from draftwood.index.history_writer import HistoryWriter
from draftwood.index.limits import Limits
from draftwood.index.store import History, HistoryInfo
from draftwood.index.suffix_history import Output, Snapshot, SuffixHistory


def warm_outputs(outputs: SuffixHistory, file: History) -> int:
    """Add the sequences of a file as finished requests; returns how many were added.

    Of a file beyond the limits, the newest sequences that fit them.

    Raises:
        TokenizerMismatch: a file of another tokenizer than that of one added before.
    """
    fingerprint = file.info.fingerprint
    if fingerprint != UNKNOWN:
        if outputs.fingerprint is not None and outputs.fingerprint != fingerprint:
            raise TokenizerMismatch(
                f"the file has tokenizer fingerprint {fingerprint.hex()[:12]}, and what is "
                f"here {outputs.fingerprint.hex()[:12]}; warm with files of one tokenizer"
            )
        outputs.fingerprint = fingerprint
    added = 0
    for at in range(_first_that_fits(file, outputs.limits), len(file)):
        entry = file[at]
        if len(entry.tokens):
            output = Output(entry.namespace, time=entry.time, metadata=dict(entry.metadata) or None)
            outputs.add(output, entry.tokens)
            added += 1
    return added


def save_outputs(
    outputs: SuffixHistory, path: str, *, fingerprint: bytes | None = None
) -> HistoryInfo:
    """Write a snapshot of all outputs, finished and running, without blocking decoding.

    Ordered by eviction, the next to be evicted first. What is removed or evicted meanwhile is left
    out. fingerprint: of the tokenizer; None: that of the files which were added.

    Raises:
        OSError: the file cannot be written; what stood at the path still stands there.
    """
    snapshot = outputs.snapshot()
    with HistoryWriter(path, fingerprint=fingerprint or outputs.fingerprint) as out:
        for each in snapshot:
            tokens = _text(each)
            if len(tokens):
                out.add(
                    tokens,
                    namespace=each.output.namespace,
                    time=each.time,
                    metadata=each.output.metadata,
                )
        return out.finish()


def _first_that_fits(file: History, limits: Limits) -> int:
    """The first sequence from which on a file is within the limits of requests and tokens."""
    first = 0
    if limits.requests is not None:
        first = max(0, len(file) - limits.requests)
    if limits.tokens is not None:
        offsets: NDArray[np.int64] = file.offsets.astype(np.int64)
        after = offsets[-1] - offsets[:-1] - np.arange(len(file), 0, -1)
        first = max(first, int(np.count_nonzero(after > limits.tokens)))
    return first


def _text(said: Snapshot) -> TokenIds:
    try:
        return said.tree.text(said.output.sequence, most=said.tokens)
    except UnknownSequence:  # removed or evicted meanwhile
        return np.empty(0, dtype=np.int32)
