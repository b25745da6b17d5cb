"""Chat templates: conversations as the text that the model sees."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import cache
from typing import Any

from draftwood.errors import MissingExtra, TraceError
from draftwood.logs.call import ChatMessage

CHATML = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}"
    "{% for call in message.tool_calls or [] %}\n{{ call.function | tojson }}{% endfor %}"
    "<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
"""What stands in for a template where a tokenizer has none."""


class ChatTemplate:
    """A Jinja chat template, run as transformers runs it: in a sandbox.

    source: the template. special: the tokenizer's special tokens by their names, such as
    `bos_token`.

    Raises:
        TraceError: for a template that is no Jinja.
        MissingExtra: jinja2 is not installed.
    """

    def __init__(self, source: str, special: Mapping[str, str] | None = None) -> None:
        self._special = dict(special or {})
        self._source = source
        self._template = _compiled(source)

    def _drops_calls(self, message: ChatMessage) -> bool:
        """Whether the template leaves out the tool calls of a message."""
        calls = message.get("tool_calls")
        return bool(calls) and "tool_call" not in self._source

    def text(
        self, messages: Sequence[ChatMessage], tools: Sequence[Any] = (), *, asks: bool
    ) -> str:
        """The text of the messages. asks: with what begins an answer.

        Raises:
            TraceError: the template refuses the messages.
        """
        try:
            return str(
                self._template.render(
                    messages=[dict(each) for each in messages],
                    tools=list(tools) or None,
                    add_generation_prompt=asks,
                    **self._special,
                )
            )
        except Exception as error:  # a template raises what its author chose
            first = str(error).strip().partition("\n")[0] or type(error).__name__
            raise TraceError(f"the chat template refuses these messages ({first})") from None

    def exchange(
        self, messages: Sequence[ChatMessage], tools: Sequence[Any], answer: ChatMessage
    ) -> tuple[str, str]:
        """The text of a prompt, and what the model wrote to give the answer.

        Where the template writes an earlier answer otherwise than the model was asked for one, the
        answer is its own text and the JSON of its tool calls. A template that knows no tool calls
        is given them as text.

        Raises:
            TraceError: the template refuses the messages.
        """
        if any(map(self._drops_calls, (*messages, answer))):
            messages, answer = [_folded(each) for each in messages], _folded(answer)
        prompt = self.text(messages, tools, asks=True)
        whole = self.text([*messages, answer], tools, asks=False)
        if whole.startswith(prompt) and len(whole) > len(prompt):
            return prompt, whole[len(prompt) :].rstrip("\n")
        return prompt, answer_text(answer)


def _folded(message: ChatMessage) -> ChatMessage:
    """The message with its tool calls as text."""
    if not message.get("tool_calls"):
        return message
    kept = {key: value for key, value in message.items() if key != "tool_calls"}
    return {**kept, "content": answer_text(message)}


def answer_text(answer: ChatMessage) -> str:
    """The text of an answer without a template."""
    calls = [
        json.dumps(each["function"], ensure_ascii=False) for each in answer.get("tool_calls") or ()
    ]
    return "\n".join(filter(None, (answer.get("content") or "", *calls)))


@cache
def _compiled(source: str) -> Any:
    try:
        from jinja2 import TemplateError
        from jinja2.ext import loopcontrols
        from jinja2.sandbox import ImmutableSandboxedEnvironment
    except ImportError:
        raise MissingExtra(
            "chat messages need the jinja2 package; install draftwood[replay]"
        ) from None

    def refuse(message: str) -> None:
        raise TraceError(message)

    def to_json(value: Any, indent: int | None = None, **_: Any) -> str:
        return json.dumps(value, ensure_ascii=False, indent=indent)

    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols]
    )
    environment.filters["tojson"] = to_json
    environment.globals["raise_exception"] = refuse
    environment.globals["strftime_now"] = lambda form: datetime.now().strftime(form)
    # text that is marked for training is text like any other
    source = source.replace("{% generation %}", "").replace("{% endgeneration %}", "")
    source = source.replace("{%- generation -%}", "").replace("{%- endgeneration -%}", "")
    try:
        return environment.from_string(source)
    except TemplateError as error:
        raise TraceError(f"the chat template is no Jinja template ({error})") from None
