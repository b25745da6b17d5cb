"""The entries of a log's bytes: JSON in lines, lists and objects, CSV, and lines of text."""

from __future__ import annotations

import codecs
import csv
import io
import json
import re
from collections.abc import Iterator, Mapping
from itertools import chain
from typing import Any

from draftwood.errors import TraceError
from draftwood.index.packed import damage
from draftwood.logs.files import Stored, in_utf8

Located = tuple[int, Any]
"""The number of a line or an item, from 1, and an entry or the error that stands there instead."""

_TIME = re.compile(r"\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d(?:[.,]\d+)?(?:Z|[+-]\d\d:?\d\d)?")
_HEAD = 1 << 16
_CHUNK = 1 << 20
_LONGEST = 1 << 28
"""Bytes of the longest single value: a value that is not complete by then is no log."""
_LISTS = (
    *("data", "traces", "generations", "logs", "requests", "records", "rows", "results"),
    *("events", "entries", "samples", "train", "calls", "instances"),
)
"""Names under which exports put the list of their entries."""


def entries(stored: Stored) -> Iterator[Located]:
    """The entries of a log of text; what can be told from its first bytes decides how it is read.

    Errors are yielded in the place of entries, so that the entries after them are read as well.
    """
    number = 0
    try:
        stream = in_utf8(stored.stream)
        head = stream.peek(_HEAD)[:_HEAD]
        read = _reader(head)
        for number, entry in read(stream):
            yield number, entry
    except damage() as error:
        yield (
            number + 1,
            TraceError(f"the file is damaged from here on ({error}); copy it again"),
        )


def unwrapped(value: Any) -> Iterator[Any]:
    """The entries of a JSON value: of a list, of an export that wraps one, or the value itself."""
    if isinstance(value, list):
        if value and all(_is_turn(each) for each in value):
            yield {"messages": value}
            return
        for each in value:
            yield from unwrapped(each) if isinstance(each, list) else [each]
        return
    if isinstance(value, dict):
        for key in _LISTS:
            inner = value.get(key)
            many = isinstance(inner, list) and inner and all(isinstance(e, dict) for e in inner)
            if many and not _is_entry(value):
                for each in inner or ():
                    yield each
                return
    yield value


def _is_entry(value: Mapping[str, Any]) -> bool:
    return any(key in value for key in ("prompt", "messages", "input", "observations", "request"))


def _is_turn(value: Any) -> bool:
    return isinstance(value, dict) and (
        ("role" in value and ("content" in value or "tool_calls" in value))
        or ("from" in value and "value" in value)
    )


def _reader(head: bytes) -> Any:
    text = head.removeprefix(codecs.BOM_UTF8).lstrip()
    first, newline, _ = text.partition(b"\n")
    if text[:1] in (b"{", b"["):
        if newline and _is_json(first):
            return _lines
        second = text.partition(b"\n")[2].lstrip()[:1]
        if (newline and first.rstrip()[-1:] in (b"{", b"[", b",")) or text[:1] == b"[":
            return _values
        return _lines if newline and second in (b"{", b"[", b"") else _values
    if _is_table(first, text):
        return _table
    return _texts_or_lines(text)


def _texts_or_lines(text: bytes) -> Any:
    """Lines of JSON whose first ones are damaged are still lines of JSON."""
    lines = [line for line in text.split(b"\n")[:50] if line.strip()]
    json_like = sum(line.lstrip()[:1] == b"{" for line in lines)
    return _lines if not lines or json_like * 2 >= len(lines) else _texts


def _is_json(line: bytes) -> bool:
    try:
        json.loads(line)
    except (ValueError, RecursionError):
        return False
    return True


def _is_table(first: bytes, text: bytes) -> bool:
    """Whether the first line is a header: short names between commas, semicolons or tabs."""
    try:
        line = first.decode().strip()
    except UnicodeDecodeError:
        return False
    for mark in (",", "\t", ";"):
        names = [name.strip().strip('"') for name in line.split(mark)]
        plain = all(0 < len(name) <= 60 and not name.startswith("{") for name in names)
        if len(names) > 1 and plain and b"\n" in text and not line.startswith(("INFO", "DEBUG")):
            return all(_is_name(name) for name in names)
    return False


def _is_name(text: str) -> bool:
    return all(c.isalnum() or c in " _-./:()" for c in text) and len(text.split()) <= 4


def _lines(stream: io.BufferedReader) -> Iterator[Located]:
    """One JSON value a line."""
    for number, raw in enumerate(stream, 1):
        if number == 1:
            raw = raw.removeprefix(codecs.BOM_UTF8)
        if not raw.strip():
            continue
        try:
            value = _value(raw)
        except (ValueError, RecursionError) as error:
            yield number, TraceError(f"not JSON ({error}); write one object a line")
            continue
        for entry in unwrapped(value):
            yield number, entry


def _value(raw: bytes) -> Any:
    """The JSON of a line; what is no UTF-8 is read as Windows-1252, as old programs write it.

    Where text stands before an object (a time, a level), the object counts.

    Raises:
        ValueError, RecursionError: there is none.
    """
    try:
        return json.loads(raw)
    except UnicodeDecodeError:
        text = raw.decode("cp1252", errors="replace")
    except ValueError:
        text = raw.decode("utf-8", errors="replace")
        if text.lstrip()[:1] in ("{", "["):
            raise
    found = embedded(text) if text.lstrip()[:1] not in ("{", "[") else json.loads(text)
    if found is None:
        raise ValueError("no JSON object in it")
    return found


def embedded(line: str) -> Any:
    """The JSON object that a line of a program's log ends with, and the time before it.

    None: it has none.
    """
    start = line.find("{")
    if start < 0:
        return None
    try:
        found = json.loads(line[start : line.rindex("}") + 1])
    except (ValueError, RecursionError):
        return None
    if not isinstance(found, dict) or not found:
        return None
    time = _TIME.search(line, 0, start)
    return found if time is None else {"timestamp": time[0].replace(",", "."), **found}


def _values(stream: io.BufferedReader) -> Iterator[Located]:
    """JSON values over several lines: one object, several, or a list, read in pieces."""
    decoder = json.JSONDecoder()
    text = codecs.getincrementaldecoder("utf-8-sig")(errors="surrogatepass")
    kept, number, done, wanted = "", 0, False, 1
    listed: bool | None = None
    while True:
        kept = kept.lstrip(" \t\r\n,") if listed is not None else kept.lstrip()
        if listed is None and kept:
            listed = kept[0] == "["
            kept = kept[1:] if listed else kept
            continue
        if listed and kept[:1] == "]":
            kept, listed = kept[1:].lstrip(), None
            continue
        if not kept and done:
            return
        if len(kept) >= wanted or done:
            try:
                value, end = decoder.raw_decode(kept)
                if end < len(kept) or done:
                    number += 1
                    kept, wanted = kept[end:], 1
                    for entry in unwrapped(value):
                        yield number, entry
                    continue
            except (ValueError, RecursionError) as error:
                if done or len(kept) > _LONGEST:
                    yield number + 1, TraceError(f"not JSON ({error}); write one object a line")
                    return
                wanted = 2 * len(kept)  # so that a long value is not tried at every chunk
        raw = stream.read(_CHUNK)
        done = not raw
        try:
            kept += text.decode(raw, final=done)
        except UnicodeDecodeError as error:
            yield number + 1, TraceError(f"no UTF-8 text ({error}); convert it")
            return


def _table(stream: io.BufferedReader) -> Iterator[Located]:
    """The rows of a CSV or TSV file with a header."""
    text = io.TextIOWrapper(stream, encoding="utf-8-sig", errors="replace", newline="")
    head = text.readline()
    mark = max(",;\t", key=head.count)
    csv.field_size_limit(_LONGEST)
    rows = csv.DictReader(chain([head], text), delimiter=mark)
    number = 1
    try:
        for number, row in enumerate(rows, 2):
            row.pop(None, None)
            yield number, {key: value for key, value in row.items() if value not in (None, "")}
    except csv.Error as error:
        yield number + 1, TraceError(f"no CSV ({error}); quote values that hold line breaks")
    finally:
        text.detach()


def _texts(stream: io.BufferedReader) -> Iterator[Located]:
    """Lines of a program's log."""
    for number, raw in enumerate(stream, 1):
        line = raw.decode("utf-8", errors="replace").rstrip("\r\n")
        if line:
            yield number, {"line": line}
