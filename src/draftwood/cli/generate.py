"""`draftwood generate`: text from any Hugging Face causal language model, in fewer steps."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

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
    TrustRemoteCode,
    cost_value,
    with_history,
)
from draftwood.errors import InvalidOption

if TYPE_CHECKING:
    from draftwood.language_model.generation import Generation


def generate(
    model: ModelName,
    prompt: Annotated[str | None, typer.Option(help="The prompt.")] = None,
    prompt_file: Annotated[
        Path | None, typer.Option(help="A file that holds the prompt; - reads standard input.")
    ] = None,
    max_tokens: Annotated[
        int | None,
        typer.Option(help="Generate at most N tokens. [256, or as the model's config says]"),
    ] = None,
    drafter: DrafterSpec = "recall",
    cost: DraftCost = "auto",
    nodes: Annotated[int | None, typer.Option(help="Draft at most N tokens a step.")] = None,
    history: HistoryFile = None,
    prediction_file: Annotated[
        list[Path] | None,
        typer.Option(help="A likely answer, to draft from; repeatable."),
    ] = None,
    temperature: Annotated[
        float | None, typer.Option(help="0: the most likely token, always. [as the model's config]")
    ] = None,
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
    n: Annotated[int, typer.Option("--n", help="Generate N texts, with consecutive seeds.")] = 1,
    stop: Annotated[
        list[str] | None, typer.Option(help="End before this text; repeatable.")
    ] = None,
    stop_token_id: Annotated[
        list[int] | None, typer.Option(help="End with this token; repeatable.")
    ] = None,
    logprobs: Annotated[
        int | None,
        typer.Option(help="With --json: log-probabilities, and those of the k likeliest tokens."),
    ] = None,
    chat: Annotated[
        bool | None,
        typer.Option("--chat/--no-chat", help="Use the chat template. [where there is one]"),
    ] = None,
    engine: Engine = None,
    device: Device = None,
    dtype: Dtype = None,
    revision: Revision = None,
    trust_remote_code: TrustRemoteCode = False,
    stream: Annotated[bool, typer.Option("--stream", help="Print text as it comes.")] = False,
    html: Annotated[
        Path | None,
        typer.Option(help="Also write a page that shows where each token came from, one file."),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print text and figures as one JSON object a text.")
    ] = False,
) -> None:
    """Generate text: the same as without drafts, in fewer steps."""
    if stream and as_json:
        raise InvalidOption("--stream and --json exclude each other; give one of them")
    if stream and html is not None:
        raise InvalidOption("--stream and --html exclude each other; give one of them")
    if stream and n != 1:
        raise InvalidOption(f"--n is {n} and --stream prints one text; leave one of them out")
    from draftwood.cli.terminal import complain, messages
    from draftwood.language_model.options import Settings
    from draftwood.load import load

    options: dict[str, Any] = {
        "temperature": temperature,
        "top_k": top_k,
        "top_p": top_p,
        "min_p": min_p,
        "repetition_penalty": repetition_penalty,
        "seed": seed,
        "stop": stop,
        "stop_token_ids": stop_token_id,
        "logprobs": logprobs,
        "chat": chat,
        "nodes": nodes,
    }
    if max_tokens is not None:
        options["max_tokens"] = max_tokens
    Settings.of({**options, "n": n})  # what is wrong is said before a model is loaded
    text = _prompt(prompt, prompt_file)
    if prediction_file:
        options["prediction"] = [_read(each, "prediction") for each in prediction_file]
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
    ) as llm:
        if stream:
            with llm.stream(text, **options) as pieces:
                for piece in pieces:
                    print(piece, end="", flush=True)
            print()
        else:
            texts = llm.generate(text, n=n, **options)
            if html is not None:
                html.write_text(_page(texts), encoding="utf-8")
            for done in texts:
                print(json.dumps(_figures(done, drafter)) if as_json else done.text)
        if not as_json:
            complain(messages(), str(llm.stats))


def _page(texts: list[Generation]) -> str:
    """The texts as one HTML page."""
    from draftwood.page.document import run_document

    titles = [
        f"Text {at + 1} of {len(texts)}" if len(texts) > 1 else "" for at in range(len(texts))
    ]
    return run_document(
        [each.as_run(title or "Answer") for each, title in zip(texts, titles, strict=True)]
    )


def _figures(done: Generation, drafter: str) -> dict[str, Any]:
    """A text and its figures, ready for JSON."""
    figures = {
        "text": done.text,
        "finish": done.finish,
        "seed": done.seed,
        "drafter": drafter,
        "prompt_tokens": done.prompt_tokens,
        "token_ids": done.tokens.tolist(),
        **done.stats.as_dict(),
    }
    if done.logprobs is not None:
        figures["logprobs"] = done.logprobs.chosen.tolist()
        figures["top_logprobs"] = [
            dict(zip(map(str, tokens), logprobs, strict=True))
            for tokens, logprobs in zip(
                done.logprobs.top_tokens.tolist(), done.logprobs.top_logprobs.tolist(), strict=True
            )
        ]
    return figures


def _prompt(prompt: str | None, prompt_file: Path | None) -> str:
    if (prompt is None) == (prompt_file is None):
        raise InvalidOption("give either --prompt or --prompt-file")
    if prompt_file is None:
        return prompt or ""
    if str(prompt_file) == "-":
        try:
            return sys.stdin.read()
        except UnicodeDecodeError as error:
            raise InvalidOption(
                f"cannot read the prompt from standard input ({error}); give UTF-8 text"
            ) from None
    return _read(prompt_file, "prompt")


def _read(path: Path, what: str) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = (isinstance(error, OSError) and error.strerror) or error
        raise InvalidOption(
            f"cannot read the {what} from {path} ({reason}); give a UTF-8 text file"
        ) from None
