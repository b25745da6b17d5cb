"""`draftwood generate`: text from any Hugging Face causal language model, in fewer steps."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from draftwood.errors import InvalidOption


def generate(
    model: Annotated[str, typer.Option(help="A model folder, or a name on the Hugging Face Hub.")],
    prompt: Annotated[str | None, typer.Option(help="The prompt.")] = None,
    prompt_file: Annotated[
        Path | None, typer.Option(help="A file that holds the prompt; - reads standard input.")
    ] = None,
    max_tokens: Annotated[int, typer.Option(help="Generate at most so many tokens.")] = 256,
    drafter: Annotated[
        str, typer.Option(help="A drafter spec, such as recall:nodes=16, lookup or none.")
    ] = "recall",
    temperature: Annotated[float, typer.Option(help="0: the most likely token, always.")] = 0.0,
    top_k: Annotated[int | None, typer.Option(help="Draw from the k most likely tokens.")] = None,
    top_p: Annotated[
        float | None, typer.Option(help="Draw from the fewest tokens that reach this probability.")
    ] = None,
    min_p: Annotated[
        float | None, typer.Option(help="Drop tokens below this share of the likeliest one.")
    ] = None,
    repetition_penalty: Annotated[
        float | None, typer.Option(help="Divide the odds of tokens seen before; 1 does nothing.")
    ] = None,
    seed: Annotated[
        int | None, typer.Option(help="The same seed draws the same text. [a new one]")
    ] = None,
    stop: Annotated[
        list[str] | None, typer.Option(help="End before this text; repeatable.")
    ] = None,
    chat: Annotated[
        bool | None,
        typer.Option("--chat/--no-chat", help="Use the chat template. [where there is one]"),
    ] = None,
    device: Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1. [cuda if any]")] = None,
    dtype: Annotated[
        str | None, typer.Option(help="float32, bfloat16, float16, auto. [float32 on cpu]")
    ] = None,
    stream: Annotated[bool, typer.Option("--stream", help="Print text as it comes.")] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print text and figures as one JSON object.")
    ] = False,
) -> None:
    """Generate text: the same as without drafts, in fewer steps."""
    text = _prompt(prompt, prompt_file)
    if stream and as_json:
        raise InvalidOption("--stream and --json exclude each other; give one of them")
    from draftwood.cli.terminal import complain, messages
    from draftwood.load import Options, load

    options: Options = {
        "max_tokens": max_tokens,
        "temperature": temperature,
        "top_k": top_k,
        "top_p": top_p,
        "min_p": min_p,
        "repetition_penalty": repetition_penalty,
        "seed": seed,
        "stop": stop or (),
        "chat": chat,
    }
    with load(model, drafter, device=device, dtype=dtype) as llm:
        if stream:
            for piece in llm.stream(text, **options):
                print(piece, end="", flush=True)
            print()
        else:
            done = llm.generate(text, **options)
            if as_json:
                figures = {
                    "text": done.text,
                    "finish": done.finish,
                    "seed": done.seed,
                    "drafter": drafter,
                    "prompt_tokens": done.prompt_tokens,
                    "token_ids": done.tokens.tolist(),
                    **done.stats.as_dict(),
                }
                print(json.dumps(figures))
            else:
                print(done.text)
        if not as_json:
            complain(messages(), str(llm.stats))


def _prompt(prompt: str | None, prompt_file: Path | None) -> str:
    if (prompt is None) == (prompt_file is None):
        raise InvalidOption("give either --prompt or --prompt-file")
    if prompt_file is None:
        return prompt or ""
    if str(prompt_file) == "-":
        return sys.stdin.read()
    try:
        return prompt_file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InvalidOption(
            f"cannot read the prompt from {prompt_file} ({reason}); give a UTF-8 text file"
        ) from None
