"""A log of model calls, in whatever format: iterate to read it as token ids."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from draftwood.draft import TokenIds, as_tokens
from draftwood.errors import DraftwoodError, InvalidTokens, TraceError
from draftwood.logs.call import LoggedCall, Part, Record
from draftwood.logs.documents import Located, entries
from draftwood.logs.files import STDIN, Stored, expanded, opened
from draftwood.logs.formats.catalog import holds_calls, recognized
from draftwood.logs.formats.events import EVENTS
from draftwood.logs.formats.openai import BATCH
from draftwood.logs.order import InFlight, in_order
from draftwood.logs.parts import PartStore
from draftwood.logs.recognizer import Recognizer
from draftwood.logs.sample import Sample, SessionSample
from draftwood.logs.sessions import SessionJoiner
from draftwood.logs.tables import table_kind, table_rows
from draftwood.logs.tokenizer import TraceTokenizer
from draftwood.logs.turns import Turns
from draftwood.logs.unread import Unread
from draftwood.protocols import TargetInfo

T = TypeVar("T")
_NAMES = ("prompt", "response")
_BATCH = 128
"""Calls that are tokenized at once: enough to share among cores, little to hold in memory."""
_JOINED = (BATCH.name, EVENTS.name)
"""Formats whose calls may be in two files."""


class Log:
    """Logs of one service, in one or several files. Iterate to read them from the start.

    paths: files, folders, globs, or `-` for standard input; .gz and .zst are read as what is in
    them. tokenizer: for texts; ids need none, but are checked against its vocabulary and given its
    end token where one is given. format: a name of `FORMATS`; None: it is recognized, each entry
    by itself. query: SQL for SQLite and DuckDB files.

    unread: entries that are left out, and why. formats: how many calls there were of each format.
    in_flight: how many requests were served at a time. Entries are read as they are asked for: some
    thousand calls stay in memory, and what waits for its other half goes to a temporary file.

    Raises:
        TraceError: a folder or glob without any log.
        InvalidOption: no such format.
    """

    def __init__(
        self,
        paths: Sequence[str | Path] | str | Path,
        tokenizer: TraceTokenizer | None = None,
        *,
        format: str | None = None,
        query: str | None = None,
    ) -> None:
        given = [paths] if isinstance(paths, str | Path) else paths
        self.paths = expanded(given)
        self.unread = Unread()
        self.formats: Counter[str] = Counter()
        self.in_flight = InFlight()
        self.requests = 0
        self._tokenizer = tokenizer
        self._recognizer = Recognizer(format)
        self._query = query
        self._sizes = {path: _size(path) for path in self.paths}
        self._done = 0
        self._stored: Stored | None = None
        self._stopped = False
        self._lines = 0

    @property
    def name(self) -> str:
        """The first file's name without its endings."""
        name = self.paths[0].name
        for ending in (".gz", ".zst", ".jsonl", ".json"):
            name = name.removesuffix(ending)
        return name

    @property
    def target_info(self) -> TargetInfo | None:
        """The target that the tokenizer stands for; None without one."""
        if self._tokenizer is None:
            return None
        return TargetInfo(self._tokenizer.vocab, self._tokenizer.vocab_size)

    @property
    def format(self) -> str | None:
        """The format of most calls so far; None before the first."""
        return self.formats.most_common(1)[0][0] if self.formats else None

    @property
    def fraction_read(self) -> float:
        """How much of the files has been read: 0 to 1, counted in stored bytes."""
        total = sum(self._sizes.values())
        now = self._stored.read if self._stored is not None else 0
        return min(1.0, (self._done + now) / total) if total else 0.0

    def __iter__(self) -> Iterator[Record]:
        """The calls in the order of their times, or of the files where these have none.

        Raises:
            TraceError: a file cannot be read, or holds text and there is no tokenizer.
            MissingExtra: a package for one of the files is not installed.
        """
        yield from self._records(self._joined())

    def sample(self, tokens: int, *, progress: Callable[[float], None] | None = None) -> Sample:
        """The records of whole sessions with about so many output tokens, from all of the log.

        All calls are read, and only those of the sample are tokenized. progress: told the part of
        the log that is read. Ctrl-C ends the reading, and the sample is of what was read by then;
        before the first call it is raised.

        Raises:
            TraceError, MissingExtra: as iterating does, and where no request has an answer.
        """
        chosen, calls, interrupted = SessionSample(tokens), self._joined(), False
        while True:
            try:
                for call in calls:
                    if self._tokenizer is None:
                        self._texts(call)  # says so before all of a long log is read
                    chosen.add(call)
                    if progress is not None and chosen.seen % _BATCH == 0:
                        progress(self.fraction_read)
                break
            except KeyboardInterrupt:
                interrupted = self._stopped = True  # no more entries; those that wait still come
        if interrupted and not chosen.stretches:
            raise KeyboardInterrupt
        records: list[Record] = []
        read = self.fraction_read
        try:
            records += (each for each in self._records(chosen.calls()) if len(each.response))
        except KeyboardInterrupt:
            if not records:
                raise
            interrupted = True
        if not records:
            lines = f"; {self._lines:,} lines of text hold none" if self._lines else ""
            raise TraceError(
                f"the log holds no answered request in a format that is known{lines} "
                "(docs/log-formats.md); give another log, or --format"
            )
        stretches = chosen.stretches if chosen.full else 1
        return Sample(records, chosen.seen, stretches, interrupted, read)

    def _joined(self) -> Iterator[LoggedCall]:
        """All calls in order, with their sessions; counts are of this reading."""
        self.unread, self.formats = Unread(), Counter()
        self.in_flight, self._done = InFlight(), 0
        self._stopped, self._lines, joiner = False, 0, SessionJoiner()
        for each in in_order(self._calls()):
            call = joiner.joined(each)
            if call is not None:
                self.in_flight.add(call.start, call.end)
                yield call

    def _records(self, calls: Iterable[LoggedCall]) -> Iterator[Record]:
        """The calls as token ids, numbered; what has no prompt is left out."""
        self.requests, turns, rest = 0, Turns(), iter(calls)
        while batch := list(islice(rest, _BATCH)):
            for call, prompt, response in self._tokenized(batch):
                prompt = turns.whole(call, prompt, response)
                if not len(prompt):
                    self.unread.add(call.place, "the prompt has 0 tokens; record at least one")
                    continue
                yield Record(
                    *(prompt, response, call.session, self.requests),
                    *(call.start, call.end, call.fields),
                )
                self.requests += 1

    def _calls(self) -> Iterator[LoggedCall]:
        """All calls, in file order; entries that hold none are counted as unread."""
        store = PartStore()
        try:
            for path in self.paths:
                for number, entry in self._entries(path):
                    if self._stopped:
                        return
                    place = f"{path}:{number}"
                    if isinstance(entry, Exception):
                        self.unread.add(place, str(entry))
                        continue
                    yield from self._of_entry(entry, place, store)
                self._done += self._sizes[path]
                self._stored = None
            for name, call in store.rest():
                self.formats[name] += 1
                yield call
            for place, kind in store.left():
                other = "answer" if kind in ("input", "prompt", "message") else "request"
                self.unread.add(place, f"its {other} is in none of the files ({kind} only)")
        finally:
            store.close()

    def _entries(self, path: Path) -> Iterator[Located]:
        with opened(path) as stored:
            self._stored = stored
            kind = None if path == STDIN else table_kind(path, stored.magic)
            if kind is not None:
                yield from table_rows(path, kind, self._query, holds_calls)
            else:
                yield from entries(stored)

    def _of_entry(self, entry: Any, place: str, store: PartStore) -> Iterator[LoggedCall]:
        try:
            if not isinstance(entry, dict):
                raise TraceError("not a JSON object; write one object a line")
            of, entry = self._recognizer.found(entry)
            self._lines += "line" in entry
            for found in of.read(entry):
                located = replace(found, place=place)
                done = store.add(of, located) if isinstance(located, Part) else [located]
                for call in done:
                    self.formats[of.name] += 1
                    yield call if call.place else replace(call, place=place)
        except (TraceError, InvalidTokens) as error:
            self.unread.add(place, str(error))
        except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
            # a value of a kind that no export of this format has been seen with
            self.unread.add(place, f"an entry of an unexpected form ({error!r})")

    def _tokenized(
        self, calls: list[LoggedCall]
    ) -> Iterator[tuple[LoggedCall, TokenIds, TokenIds]]:
        """Each call with its prompt and response as ids."""
        texts: list[tuple[LoggedCall, list[str | TokenIds]]] = []
        for call in calls:
            try:
                for name, given in zip(_NAMES, (call.prompt, call.response), strict=True):
                    _checked(name, given)
                pair = self._texts(call)
                texts.append((call, [_checked(*each) for each in zip(_NAMES, pair, strict=True)]))
            except _NoTokenizer:
                raise
            except TraceError as error:
                self.unread.add(call.place, str(error))
        strings = [each for _, pair in texts for each in pair if isinstance(each, str)]
        encoded = iter(self._tokenizer.encode(strings) if self._tokenizer and strings else ())
        size = None if self._tokenizer is None else self._tokenizer.vocab_size
        for call, mixed in texts:
            ids = [next(encoded) if isinstance(each, str) else each for each in mixed]
            try:
                for name, given in zip(_NAMES, ids, strict=True):
                    _within(name, given, size)
            except TraceError as error:
                self.unread.add(call.place, str(error))
                continue
            yield call, ids[0], self._ended(ids[1])

    def _texts(self, call: LoggedCall) -> tuple[str | TokenIds, str | TokenIds]:
        if isinstance(call.prompt, np.ndarray) and isinstance(call.response, np.ndarray):
            return call.prompt, call.response
        if self._tokenizer is None:
            raise _NoTokenizer(
                f"{call.place.rpartition(':')[0]} holds text; pass --tokenizer with a "
                "tokenizer.json, a model folder, a .gguf file, a tiktoken name or a Hub id"
            )
        return self._tokenizer.texts(call)

    def _ended(self, response: TokenIds) -> TokenIds:
        end = None if self._tokenizer is None else self._tokenizer.end_token
        if end is None or (len(response) and response[-1] == end):
            return response
        return np.append(response, np.int32(end))


class _NoTokenizer(TraceError):
    """Raised for the whole log, and not counted for an entry."""


def _checked(name: str, value: T) -> T:
    if isinstance(value, str):
        try:
            value.encode("utf-8")
        except UnicodeEncodeError as error:  # JSON may escape half a surrogate pair
            raise TraceError(f"{name} is no Unicode text ({error}); record it whole") from None
    return value


def _within(name: str, ids: TokenIds, size: int | None) -> None:
    try:
        as_tokens(ids, vocab_size=size)
    except ValueError as error:
        raise TraceError(f"{name}: {error}") from None


def logs_of(
    paths: Sequence[str | Path],
    tokenizer: TraceTokenizer | None = None,
    *,
    format: str | None = None,
    query: str | None = None,
) -> list[Log]:
    """A log for each file; files that hold halves of calls (Batch input and output) make one.

    Raises:
        TraceError: a log that cannot be read.
        InvalidOption: options that `Log` refuses.
    """
    files = expanded(paths)
    joined = [path for path in files if (format or _first_format(path)) in _JOINED]
    groups: list[list[Path]] = [[path] for path in files if path not in joined]
    if joined:
        groups.append(joined)
    return [Log(group, tokenizer, format=format, query=query) for group in groups]


def _first_format(path: Path) -> str | None:
    """The format of a file's first entry; None where it has none, or cannot be looked at twice."""
    if not path.is_file():
        return None
    try:
        with opened(path) as stored:
            if table_kind(path, stored.magic) is None:
                for _, entry in islice(entries(stored), 1):
                    return recognized(entry).name if isinstance(entry, dict) else None
    except (DraftwoodError, OSError):
        pass  # reading it as a whole says what is wrong
    return None


def _size(path: Path) -> int:
    try:
        return 0 if path == STDIN else path.stat().st_size
    except OSError:
        return 0
