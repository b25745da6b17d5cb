"""`draftwood serve`: an OpenAI-compatible server over one model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from draftwood.errors import MissingExtra


def serve(
    model: Annotated[
        str,
        typer.Option(
            help="A model folder, a .gguf file, a name on the Hugging Face Hub, or demo: the "
            "bundled model."
        ),
    ],
    host: Annotated[
        str, typer.Option(help="The address to listen on; others than loopback need --api-keys.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="The port to listen on; 0: a free one.")] = 8000,
    api_keys: Annotated[
        Path | None,
        typer.Option(help="A file with a line NAME KEY for each caller; each is a namespace."),
    ] = None,
    drafter: Annotated[
        str, typer.Option(help="A drafter spec, such as recall:nodes=16, lookup or none.")
    ] = "recall",
    cost: Annotated[
        str,
        typer.Option(
            help="What a drafted token costs: auto (measured), none (drafts are not cut), or a "
            "part of a plain step, such as 0.01."
        ),
    ] = "auto",
    history: Annotated[
        Path | None,
        typer.Option(help="Begin with this history, a file of `draftwood index build`."),
    ] = None,
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
    device: Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1. [cuda if any]")] = None,
    dtype: Annotated[
        str | None, typer.Option(help="float32, bfloat16, float16, auto. [float32 on cpu]")
    ] = None,
    revision: Annotated[
        str | None, typer.Option(help="A branch, tag or commit of a model on the Hub.")
    ] = None,
    trust_remote_code: Annotated[
        bool, typer.Option("--trust-remote-code", help="Run code that comes with the model.")
    ] = False,
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
    from draftwood.cli.generate import cost_value, with_history
    from draftwood.cli.terminal import complain, messages
    from draftwood.load import load
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
    check_address(host, api_keys)  # what is wrong is said before a model is loaded
    spec = drafter if history is None else with_history(drafter, history)
    with load(
        model,
        spec,
        cost=cost_value(cost),
        device=device,
        dtype=dtype,
        revision=revision,
        trust_remote_code=trust_remote_code,
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
