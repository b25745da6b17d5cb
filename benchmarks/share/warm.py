"""How long a new replica takes from nothing to its first useful draft, from a snapshot."""

from __future__ import annotations

import tempfile
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np

from draftwood.draft import NO_TOKENS, Budget
from draftwood.index.recall import Recall
from draftwood.index.recall_stream import RecallStream
from draftwood.share.options import ShareOptions
from draftwood.share.records import TextRecord
from draftwood.share.replica import Replica
from draftwood.share.snapshot import SnapshotFolder, SnapshotTexts

FINGERPRINT = bytes(range(32))
LENGTH = 400


def warm_start(tokens: int) -> dict[str, Any]:
    """Make a snapshot of so many tokens, and begin with it."""
    random = np.random.default_rng(0)
    with tempfile.TemporaryDirectory(prefix="draftwood-share-") as room:
        url = f"file://{room}/log"
        wire = ShareOptions(url).keys().id_of("")
        assert wire is not None
        texts = [
            (
                time.time(),
                TextRecord(
                    wire,
                    number.to_bytes(16, "big"),
                    0,
                    time.time(),
                    NO_TOKENS,
                    random.integers(0, 50_000, LENGTH).astype(np.int32),
                ),
            )
            for number in range(tokens // LENGTH)
        ]
        folder = SnapshotFolder(f"file://{room}/snapshots", FINGERPRINT)
        made = folder.write(SnapshotTexts("{}", texts))
        first, last = texts[0][1].tokens, texts[-1][1].tokens
        del texts
        began = time.monotonic()
        recall = Recall(max(256, int(tokens * 1.2)))
        opened = time.monotonic() - began
        options = ShareOptions(url, snapshot=f"file://{room}/snapshots", publish=False)
        with closing(Replica(options, recall, fingerprint=FINGERPRINT)):
            useful = None
            while True:
                if useful is None and _drafts(recall, first):
                    useful = time.monotonic() - began
                if _drafts(recall, last):
                    break
                time.sleep(0.01)
            whole = time.monotonic() - began
        recall.close()
        size = Path(room, "snapshots", made["file"]).stat().st_size
    return {
        "snapshot_tokens": made["tokens"],
        "snapshot_bytes": size,
        "warm_open_s": opened,
        "warm_first_draft_s": useful,
        "warm_whole_s": whole,
    }


def _drafts(recall: Recall, text: np.ndarray[Any, Any]) -> bool:
    with closing(RecallStream(recall, text[:16])) as stream:
        draft = stream.propose(Budget(4))
    return len(draft) > 0 and int(draft.tokens[0]) == int(text[16])
