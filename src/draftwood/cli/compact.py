"""`draftwood compact`: make the snapshot that new replicas begin with, and trim the log."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path
from typing import Annotated

import typer


def compact(
    url: Annotated[str, typer.Argument(help="The log that the replicas share.")],
    snapshot: Annotated[
        str, typer.Option(help="The folder of snapshots: a path, s3://BUCKET/FOLDER, ..")
    ],
    tokenizer: Annotated[
        Path, typer.Option(help="Whose texts are kept: a tokenizer.json, or a model folder.")
    ],
    keep_tokens: Annotated[int, typer.Option(help="The newest tokens that are kept.")] = 10_000_000,
    keep_days: Annotated[float, typer.Option(help="Days that a text is kept.")] = 30.0,
    grace: Annotated[
        float,
        typer.Option(
            help="Hours that messages stay in the log once a snapshot has them: longer than any "
            "follower is away."
        ),
    ] = 24.0,
) -> None:
    """Bring a snapshot up to the end of a log, without what was forgotten or is too old.

    Run it now and then, on any machine. What it wrote is a JSON object on standard output.
    """
    from draftwood.errors import InvalidOption
    from draftwood.index.fingerprint import tokenizer_fingerprint
    from draftwood.share.compaction import Retention, compacted
    from draftwood.share.log import open_log
    from draftwood.share.snapshot import SnapshotFolder

    if keep_tokens < 1 or not keep_days > 0 or grace < 0:
        raise InvalidOption(
            f"keep_tokens is {keep_tokens}, keep_days {keep_days} and grace {grace}; use 1 or "
            "more, more than 0, and 0 or more"
        )
    fingerprint = tokenizer_fingerprint(tokenizer)
    retention = Retention(keep_tokens, keep_days * 86_400.0, grace * 3600.0)
    folder = SnapshotFolder(snapshot, fingerprint)
    with closing(open_log(url)) as log:
        manifest = compacted(log, folder, fingerprint, retention)
    print(json.dumps({name: each for name, each in manifest.items() if name != "forgotten"}))
