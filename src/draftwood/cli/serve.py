"""`draftwood serve`: an OpenAI-compatible server over one model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from draftwood.cli.options import (
    Device,
    DraftCost,
    DrafterSpec,
    Dtype,
    Engine,
    HistoryFile,
    ModelName,
    Revision,
    Share,
    TrustRemoteCode,
    cost_value,
    with_history,
)
from draftwood.errors import MissingExtra


def serve(
    model: ModelName,
    host: Annotated[
        str, typer.Option(help="The address to listen on; others than loopback need --api-keys.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="The port to listen on; 0: a free one.")] = 8000,
    api_keys: Annotated[
        Path | None,
        typer.Option(help="A file with a line NAME KEY for each caller; each is a namespace."),
    ] = None,
    drafter: DrafterSpec = "recall",
    cost: DraftCost = "auto",
    history: HistoryFile = None,
    share: Share = None,
    max_batch: Annotated[int, typer.Option(help="Texts that share the model's passes.")] = 8,
    max_waiting: Annotated[
        int, typer.Option(help="Texts that may wait; more are refused with 429.")
    ] = 64,
    max_tokens: Annotated[int, typer.Option(help="Generated tokens of a text, at most.")] = 8192,
    max_prompt_tokens: Annotated[int, typer.Option(help="Tokens of a prompt, at most.")] = 131_072,
    max_body: Annotated[int, typer.Option(help="Bytes of a request, at most.")] = 8 * 1024 * 1024,
    grace: Annotated[
        int, typer.Option(help="Seconds that running texts get when the server is stopped.")
    ] = 30,
    engine: Engine = None,
    device: Device = None,
    dtype: Dtype = None,
    revision: Revision = None,
    trust_remote_code: TrustRemoteCode = False,
) -> None:
    """Serve a model to OpenAI's clients, with a page that shows where each token came from."""
    try:
        from draftwood.server.run import check_address, run_server
    except ModuleNotFoundError as error:
        if error.name not in ("fastapi", "uvicorn", "pydantic", "prometheus_client", "starlette"):
            raise
        raise MissingExtra(
            f"the server needs {error.name}; pip install 'draftwood[server]'"
        ) from None
    from draftwood.cli.terminal import complain, messages
    from draftwood.load import load
    from draftwood.server.keys import ApiKeys
    from draftwood.server.limits import MOST_CHOICES, ServerLimits

    limits = ServerLimits(
        max_batch=max_batch,
        max_waiting=max_waiting,
        max_tokens=max_tokens,
        max_prompt_tokens=max_prompt_tokens,
        max_body=max_body,
        grace_seconds=grace,
        max_choices=min(MOST_CHOICES, max_batch + max_waiting),
    )
    check_address(host, port, api_keys)  # what is wrong is said before a model is loaded
    if api_keys is not None:
        ApiKeys(api_keys)
    spec = drafter if history is None else with_history(drafter, history)
    with load(
        model,
        spec,
        cost=cost_value(cost),
        engine=engine,
        device=device,
        dtype=dtype,
        revision=revision,
        trust_remote_code=trust_remote_code,
        share=share,
    ) as llm:
        run_server(
            llm,
            host=host,
            port=port,
            keys=api_keys,
            limits=limits,
            ready=lambda address: complain(
                messages(), f"serving {llm.name} at {address} (OpenAI's API under {address}/v1)"
            ),
        )
