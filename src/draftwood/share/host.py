"""One follower for a host: it writes the host's history, and engines and servers there read it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from draftwood.draft import Budget
from draftwood.drafters.catalog import make_drafter
from draftwood.drafters.mix.blend import Blend
from draftwood.drafters.recall import RecallDrafter
from draftwood.errors import HistoryError, InvalidOption
from draftwood.index.recall import Recall
from draftwood.protocols import Drafter
from draftwood.share.options import ShareOptions
from draftwood.share.replica import Replica
from draftwood.share.settled import sequences_in

HISTORY: Final = "history.recall"
"""The file in a follower's folder; its ledger is beside it."""


class HostFollower:
    """Follows a log into the history file in a folder, until `close`.

    fingerprint: of the tokenizer whose texts are followed. max_tokens: slots of a new file.

    Raises:
        HistoryBusy: another process follows into this folder.
        HistoryError, InvalidOption, OSError: a folder or options that cannot be used.
    """

    def __init__(
        self,
        options: ShareOptions,
        folder: Path,
        *,
        fingerprint: bytes,
        max_tokens: int = 10_000_000,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / HISTORY
        ledger = Path(f"{path}.share")
        if path.exists() and not ledger.exists() and sequences_in(path) > 0:
            raise HistoryError(
                f"{path} is there without its ledger {ledger}, so that nothing in it could be "
                "forgotten; remove it, or use another folder"
            )
        self.recall = Recall.open(path, max_tokens=max_tokens, fingerprint=fingerprint)
        try:
            self.replica = Replica(options, self.recall, fingerprint=fingerprint, path=path)
        except BaseException:
            self.recall.close()
            raise

    def close(self) -> None:
        """Write everything down and let go of the folder."""
        try:
            self.replica.close()
        finally:
            self.recall.close()


def beside_follower(drafter: str | Drafter, folder: str) -> Drafter:
    """A drafter that drafts from a follower's history on this host as well as from its own.

    drafter: a spec, or a drafter of your own.

    Raises:
        InvalidOption: a folder that no follower has written yet.
        HistoryError: a file that cannot be used.
    """
    own = make_drafter(drafter) if isinstance(drafter, str) else drafter
    path = Path(os.path.expanduser(folder)) / HISTORY
    if not path.exists():
        raise InvalidOption(
            f"{folder} has no {HISTORY}; start `draftwood follow URL --path {folder}` first"
        )
    nodes = own.nodes if isinstance(own, RecallDrafter) else Budget().nodes
    shared = RecallDrafter(recall=Recall.open(path, write=False), nodes=nodes)
    return Blend([own, shared], nodes=nodes)
