"""Chat messages of every provider in one form: role, text, tool calls.

What the same thing is called elsewhere: ShareGPT's `from` and `value`, Anthropic's and OpenAI's
lists of content blocks, items of OpenAI's Responses, Gemini's `parts`, LangChain's serialized
messages, OpenInference's `message.role`, OpenTelemetry's `parts`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from draftwood.logs.call import ChatMessage

_ROLES = {
    **dict.fromkeys(("human", "user", "prompter", "customer", "humanmessage"), "user"),
    **dict.fromkeys(
        (
            "gpt",
            "assistant",
            "ai",
            "bot",
            "chatgpt",
            "model",
            "bard",
            "bing",
            "claude",
            "chatbot",
            "aimessage",
        ),
        "assistant",
    ),
    **dict.fromkeys(("aimessagechunk", "function_call"), "assistant"),
    **dict.fromkeys(("system", "developer", "systemmessage"), "system"),
    **dict.fromkeys(("tool", "function", "observation", "tool_response", "toolmessage"), "tool"),
    **dict.fromkeys(("functionmessage", "function_response", "ipython"), "tool"),
}
_ROLE_KEYS = ("role", "from", "message.role", "author", "speaker")
_TEXT_KEYS = (
    "content",
    "value",
    "text",
    "message.content",
    "message",
    "parts",
    "contents",
    "utterance",
)
_TEXTS = ("text", "content", "value", "parts", "result", "output", "message_content.text")
_MEDIA = ("image", "audio", "video", "file", "document", "blob", "uri", "media")


def decoded(value: Any) -> Any:
    """The value of a string that holds a JSON list or object; anything else as it is."""
    if isinstance(value, str) and value[:1024].lstrip()[:1] in ("{", "["):
        try:
            return json.loads(value)
        except (ValueError, RecursionError):
            return value
    return value


def messages_of(value: Any) -> list[ChatMessage] | None:
    """The messages of a list of such, in whatever form; None where it is no such list."""
    value = decoded(value)
    if isinstance(value, dict) and _role(value) is not None:
        value = [value]
    if not isinstance(value, list) or not value:
        return None
    if isinstance(value[0], list):  # LangChain: a list for each of several prompts
        return messages_of(value[0]) if len(value) == 1 else None
    found: list[ChatMessage] = []
    for item in value:
        new = _messages(item)
        if new is None:
            return None
        found += new
    return merged(found)


def is_message(value: Any) -> bool:
    """Whether a value has the form of a message."""
    return isinstance(value, dict) and _messages(value) is not None


def assistant(text: str, **more: Any) -> ChatMessage:
    """An assistant's message."""
    return {"role": "assistant", "content": text, **more}


def text_of(content: Any) -> str:
    """The text of a message's content; what is no text is named in brackets."""
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    if isinstance(content, dict):
        if (kind := _kind(content)) and any(kind.startswith(each) for each in _MEDIA):
            return f"[{kind}]"
        for key in (
            "text",
            "content",
            "value",
            "parts",
            "result",
            "output",
            "message_content.text",
        ):
            if content.get(key) is not None:
                return text_of(content[key])
        return json.dumps(content, ensure_ascii=False)
    if isinstance(content, list):
        return "".join(text_of(each) for each in content)
    return str(content)


def _role(item: Mapping[str, Any]) -> str | None:
    for key in _ROLE_KEYS:
        role = item.get(key)
        if isinstance(role, dict):  # ChatGPT's own exports
            role = role.get("role")
        if isinstance(role, str) and role.lower() in _ROLES:
            return _ROLES[role.lower()]
    return None


def _kind(item: Mapping[str, Any]) -> str:
    kind = item.get("type")
    return kind if isinstance(kind, str) else ""


def _messages(item: Any) -> list[ChatMessage] | None:
    """The messages that one item stands for; None: it is none."""
    if not isinstance(item, dict):
        return None
    if isinstance(item.get("message"), dict) and "role" not in item:
        return _messages(item["message"])
    kind = _kind(item).lower()
    if "lc" in item and isinstance(item.get("kwargs"), dict):
        name = str((item.get("id") or [""])[-1]).lower()
        return _messages({"role": name, **item["kwargs"]})
    if kind in _ROLES and isinstance(item.get("data"), dict):
        return _messages({"role": kind, **item["data"]})
    if kind in ("function_call", "custom_tool_call", "mcp_call"):
        return [assistant("", tool_calls=[_tool_call(item)])]
    if kind.endswith("_call_output") or kind == "function_call_output":
        return [_tool_result(item.get("call_id"), item.get("output"))]
    if kind == "reasoning":
        return [
            assistant("", reasoning_content=text_of(item.get("summary") or item.get("content")))
        ]
    role = _role(item)
    if role is None and kind in _ROLES:
        role = _ROLES[kind]
    if role is None:
        return None
    if not any(
        key in item for key in (*_TEXT_KEYS, "tool_calls", "function_call", "message.tool_calls")
    ):
        return None
    return _of_role(role, item)


def _of_role(role: str, item: Mapping[str, Any]) -> list[ChatMessage]:
    content = next((item[key] for key in _TEXT_KEYS if item.get(key) is not None), None)
    listed = content if isinstance(content, list) else item.get("message.contents") or [content]
    texts: list[str] = []
    calls: list[Any] = []
    thoughts: list[str] = []
    results: list[ChatMessage] = []
    for block in listed:
        kind = _kind(block) if isinstance(block, dict) else ""
        if kind in ("tool_use", "tool_call", "function_call", "server_tool_use"):
            calls.append(_tool_call(block))
        elif kind in ("tool_result", "tool_call_response", "function_response"):
            answer = next(
                (block[key] for key in ("content", "response", "result") if key in block), None
            )
            results.append(_tool_result(block.get("tool_use_id", block.get("id")), answer))
        elif kind in ("thinking", "reasoning"):
            thoughts.append(text_of(block.get("thinking", block.get("content", block.get("text")))))
        elif kind != "redacted_thinking":
            texts.append(text_of(block))
    given = item.get("tool_calls") or item.get("message.tool_calls") or []
    if isinstance(item.get("additional_kwargs"), dict):
        given = given or item["additional_kwargs"].get("tool_calls") or []
    calls += [_tool_call(call) for call in given if isinstance(call, dict)]
    if isinstance(item.get("function_call"), dict):
        calls.append(_tool_call(item["function_call"]))
    message: dict[str, Any] = {"role": role, "content": "".join(texts)}
    if calls:
        message["tool_calls"] = calls
    thought = "".join(thoughts) or item.get("reasoning_content") or item.get("reasoning")
    if isinstance(thought, str) and thought:
        message["reasoning_content"] = thought
    for key in ("tool_call_id", "name"):
        if isinstance(item.get(key), str) and role == "tool":
            message[key] = item[key]
    empty = not (message["content"] or calls or thought) and results
    return results if empty else [*results, message]


def _tool_result(call: Any, content: Any) -> ChatMessage:
    text = content if isinstance(content, str) else text_of(content)
    return {"role": "tool", "content": text, **({"tool_call_id": call} if call else {})}


def _tool_call(call: Mapping[str, Any]) -> Mapping[str, Any]:
    """OpenAI's form, with the arguments as an object where they are one: templates want that."""
    inner = call.get("function")
    if not isinstance(inner, dict):
        inner = call.get("tool_call")
    if not isinstance(inner, dict):
        inner = {
            "name": call.get("name", call.get("tool_call.function.name")),
            "arguments": next(
                (
                    call[key]
                    for key in ("arguments", "input", "args", "tool_call.function.arguments")
                    if call.get(key) is not None
                ),
                {},
            ),
        }
    arguments = decoded(inner.get("arguments", {}))
    function = {"name": str(inner.get("name") or ""), "arguments": arguments}
    identity = call.get("id") or call.get("call_id") or call.get("tool_call.id")
    return {**({"id": str(identity)} if identity else {}), "type": "function", "function": function}


def merged(messages: Iterable[ChatMessage]) -> list[ChatMessage]:
    """Assistant items that follow each other are one message (Responses have an item for each)."""
    found: list[ChatMessage] = []
    for message in messages:
        before = found[-1] if found else None
        if before is None or not (before["role"] == message["role"] == "assistant"):
            found.append(message)
            continue
        found[-1] = {
            **before,
            **message,
            "content": before["content"] + message["content"],
            **_joined(before, message, "tool_calls", []),
            **_joined(before, message, "reasoning_content", ""),
        }
    return found


def _joined(first: ChatMessage, second: ChatMessage, key: str, empty: Any) -> dict[str, Any]:
    both = first.get(key, empty) + second.get(key, empty)
    return {key: both} if both else {}
