"""`draftwood measure`: what a pass takes by batch size and drafted tokens, as a file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from draftwood.cli.options import Engine
from draftwood.errors import InvalidOption


def measure(
    output: Annotated[Path, typer.Option("--output", "-o", help="The curve file to write.")],
    model: Annotated[
        str | None,
        typer.Option(help="A model of ours: a folder, a Hub id, a .gguf file, or demo."),
    ] = None,
    openai: Annotated[
        str | None,
        typer.Option(help="A running OpenAI-compatible server, such as http://localhost:8000/v1."),
    ] = None,
    vllm: Annotated[
        str | None, typer.Option(help="A model that vLLM loads here, in this process.")
    ] = None,
    vllm_args: Annotated[
        str | None,
        typer.Option(help='With --vllm: arguments of vllm.LLM, {"tensor_parallel_size": 2}.'),
    ] = None,
    served_model: Annotated[
        str | None, typer.Option(help="With --openai: the model's name. [the first one served]")
    ] = None,
    batches: Annotated[str, typer.Option(help="Batch sizes, or requests at once.")] = "1,2,4,8",
    drafted: Annotated[
        str, typer.Option(help="Drafted tokens of each sequence.")
    ] = "0,1,2,4,8,16,32",
    context: Annotated[int, typer.Option(help="Tokens of each sequence.")] = 256,
    repeats: Annotated[int, typer.Option(help="Passes for each figure; medians are kept.")] = 5,
    engine: Engine = None,
    device: Annotated[str | None, typer.Option(help="With --model: cpu, cuda.")] = None,
    dtype: Annotated[str | None, typer.Option(help="With --model: float32, bfloat16.")] = None,
) -> None:
    """Measure what drafted tokens cost, for `advise` and `replay --cost-curve`.

    With --openai and --vllm it is an estimate: prompts that differ in their last tokens stand for
    drafts, and the file says how much the times varied.
    """
    given = [each for each in (model, openai, vllm) if each is not None]
    if len(given) != 1:
        raise InvalidOption(
            f"{len(given)} of --model, --openai and --vllm are given; give one of them"
        )
    sizes, tokens = _numbers("batches", batches), _numbers("drafted", drafted)
    arguments = None if vllm_args is None else _arguments(vllm_args)
    from draftwood.budget.curve import CostCurve, check_sizes
    from draftwood.cli.terminal import complain, messages, progress_bar, require_writable

    check_sizes(sizes, tokens, context, repeats)
    require_writable(output)
    console = messages()
    with progress_bar(console) as bar:
        task = bar.add_task(given[0], total=1.0)

        def told(part: float) -> None:
            bar.update(task, completed=part)

        found: CostCurve
        if model is not None:
            from draftwood.advise.measuring import measured_model

            found = measured_model(
                model,
                batches=sizes,
                drafted=tokens,
                context=context,
                repeats=repeats,
                engine=engine,
                device=device,
                dtype=dtype,
                progress=told,
            )
        elif openai is not None:
            from draftwood.advise.serving import Server, measured_server

            found = measured_server(
                Server(openai, served_model),
                batches=sizes,
                drafted=tokens,
                context=context,
                repeats=repeats,
                progress=told,
            )
        else:
            from draftwood.vllm.measuring import measured_vllm

            found = measured_vllm(
                str(vllm),
                batches=sizes,
                drafted=tokens,
                context=context,
                repeats=repeats,
                progress=told,
                arguments=arguments,
            )
    output.write_text(found.as_json(), encoding="utf-8")
    complain(console, f"{output}: {found.summary()}")


def _arguments(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise InvalidOption(
            f'--vllm-args is {text!r}; give a JSON object, such as \'{{"dtype": "bfloat16"}}\''
        )
    return found


def _numbers(name: str, text: str) -> list[int]:
    try:
        return sorted({int(each) for each in text.split(",")})
    except ValueError:
        raise InvalidOption(f"--{name} is {text!r}; give numbers such as 1,2,4") from None
