"""`draftwood publish-events`: share what a vLLM engine generates, by the events of its cache."""

from __future__ import annotations

import json
import signal
import threading
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from types import FrameType
from typing import Annotated

import typer

from draftwood.cli.options import ShareSecret


def publish_events(
    endpoint: Annotated[str, typer.Argument(help="Of the engine's events: tcp://HOST:5557.")],
    url: Annotated[str, typer.Argument(help="The log that the replicas share.")],
    tokenizer: Annotated[
        Path, typer.Option(help="Of the engine's model: a tokenizer.json, or a model folder.")
    ],
    topic: Annotated[str, typer.Option(help="Of the events, as the engine's config says.")] = "",
    idle: Annotated[
        float, typer.Option(help="Seconds after which a text that does not grow has ended.")
    ] = 1.0,
    secret: ShareSecret = None,
    report: Annotated[int, typer.Option(help="Seconds between two lines of counts; 0: none.")] = 60,
) -> None:
    """Publish the texts that an engine's cache events make up, until SIGINT or SIGTERM.

    The engine runs with --kv-events-config '{"enable_kv_cache_events": true}' and knows nothing of
    Draftwood. Each line on standard output is a JSON object of counts.
    """
    from draftwood.errors import InvalidOption
    from draftwood.index.fingerprint import tokenizer_fingerprint
    from draftwood.index.recall import Recall
    from draftwood.share import Replica, ShareOptions
    from draftwood.share.kv_events import CacheEventsPublisher

    if report < 0 or not idle > 0:
        raise InvalidOption(
            f"report is {report} and idle {idle}; use 0 or more, and more than 0 seconds"
        )
    stopped = threading.Event()

    def stop(number: int, frame: FrameType | None) -> None:
        stopped.set()

    options = ShareOptions(url, secret=secret, follow=False)
    fingerprint = tokenizer_fingerprint(tokenizer)
    with closing(Replica(options, Recall(256), fingerprint=fingerprint)) as replica:
        publisher = CacheEventsPublisher(endpoint, replica, topic=topic, idle=idle)
        before = {each: signal.signal(each, stop) for each in (signal.SIGINT, signal.SIGTERM)}
        try:
            while not stopped.wait(report or None):
                print(json.dumps(asdict(publisher.counts) | replica.report()), flush=True)
        finally:
            for each, handler in before.items():
                signal.signal(each, handler)
            publisher.close()
            replica.flush()
            print(json.dumps(asdict(publisher.counts) | replica.report()), flush=True)
