"""`draftwood forget`: remove a namespace, or one sequence, from all replicas' history."""

from __future__ import annotations

import json
from contextlib import closing
from typing import Annotated

import typer

from draftwood.cli.options import ShareSecret


def forget(
    url: Annotated[str, typer.Argument(help="The log that the replicas share.")],
    namespace: Annotated[
        str | None, typer.Option(help="Forget all that was shared in this namespace so far.")
    ] = None,
    sequence: Annotated[
        str | None, typer.Option(help="Forget this sequence: its id in hexadecimal.")
    ] = None,
    secret: ShareSecret = None,
    readers: Annotated[
        int, typer.Option(help="Processes whose acknowledgments are waited for.")
    ] = 0,
    seconds: Annotated[float, typer.Option(help="How long they are waited for.")] = 30.0,
) -> None:
    """Send a tombstone; followers remove the text for good, and say so.

    Each acknowledgment is a JSON object, a line on standard output. Exit code 1 where fewer came
    than --readers. Snapshots lack the text from the next `draftwood compact` on; the log has it
    until it is trimmed.
    """
    from draftwood.cli.terminal import complain, messages
    from draftwood.errors import InvalidOption
    from draftwood.share import ShareOptions
    from draftwood.share.forgetting import acknowledgments, send_tombstone
    from draftwood.share.log import open_log

    if readers < 0 or seconds < 0:
        raise InvalidOption(f"readers is {readers} and seconds {seconds}; use 0 or more")
    keys = ShareOptions(url, secret=secret).keys()
    with closing(open_log(url)) as log:
        tombstone = send_tombstone(log, keys, namespace=namespace, sequence=sequence)
        complain(messages(), f"tombstone {tombstone.order.hex()} is in the log")
        said = 0
        if readers:
            for reader, done in acknowledgments(log, tombstone, seconds=seconds):
                print(
                    json.dumps({"host": done.host, "reader": reader.hex(), "tokens": done.tokens}),
                    flush=True,
                )
                said += 1
                if said >= readers:
                    break
    if said < readers:
        complain(messages(), f"{said} of {readers} have said within {seconds} s that it is gone")
        raise typer.Exit(1)
