"""`draftwood follow`: keep this host's history up with what all replicas generate."""

from __future__ import annotations

import json
import signal
import threading
from pathlib import Path
from types import FrameType
from typing import Annotated

import typer

from draftwood.cli.options import ShareSecret


def follow(
    url: Annotated[
        str,
        typer.Argument(help="The log: redis://HOST:PORT/0, nats://HOST:PORT, file:///FOLDER, .."),
    ],
    path: Annotated[
        Path, typer.Option(help="The folder of the host's history; made where there is none.")
    ],
    tokenizer: Annotated[
        Path, typer.Option(help="Whose texts are followed: a tokenizer.json, or a model folder.")
    ],
    max_tokens: Annotated[
        int, typer.Option(help="Tokens that a new history holds, 25 bytes each.")
    ] = 10_000_000,
    secret: ShareSecret = None,
    grants: Annotated[
        str | None,
        typer.Option(help="A JSON file of namespaces and their grants: only these are read."),
    ] = None,
    snapshot: Annotated[
        str | None,
        typer.Option(help="Begin with a snapshot of `draftwood compact`: its folder, or URL."),
    ] = None,
    host: Annotated[str, typer.Option(help="This host's name. [its host name]")] = "",
    report: Annotated[int, typer.Option(help="Seconds between two lines of counts; 0: none.")] = 60,
) -> None:
    """Follow a log into the history of this host, until SIGINT or SIGTERM.

    Servers and engines on this host read it with the share option `follower`. The counts are JSON,
    on standard output, a line each.
    """
    from draftwood.cli.terminal import complain, messages
    from draftwood.errors import InvalidOption
    from draftwood.index.fingerprint import tokenizer_fingerprint
    from draftwood.share import ShareOptions
    from draftwood.share.host import HostFollower

    if report < 0:
        raise InvalidOption(f"report is {report}; use 0 or more seconds")
    options = ShareOptions(url, secret=secret, grants=grants, snapshot=snapshot, host=host)
    stopped = threading.Event()

    def stop(number: int, frame: FrameType | None) -> None:
        stopped.set()

    follower = HostFollower(
        options, path, fingerprint=tokenizer_fingerprint(tokenizer), max_tokens=max_tokens
    )
    try:
        before = {each: signal.signal(each, stop) for each in (signal.SIGINT, signal.SIGTERM)}
        try:
            complain(messages(), f"following into {path}")
            while not stopped.wait(report or None):
                print(json.dumps(follower.replica.report()), flush=True)
            print(json.dumps(follower.replica.report()), flush=True)
        finally:
            for each, handler in before.items():
                signal.signal(each, handler)
    finally:
        follower.close()
