"""Files on shared storage or in an object store, through fsspec: a message a file, no broker.

A file's name is `<publisher>-<number>.dws`. It appears whole: on disks it is renamed into place,
and object stores show no other objects. A position says, for each publisher, up to which number it
was read, so that no clock has a say.
"""

from __future__ import annotations

import json
import re
import secrets
import time
from collections.abc import Sequence
from typing import Any, Final

from draftwood.errors import InvalidOption, LogUnreachable, MissingExtra
from draftwood.share.log import BEGINNING, LogAddress, LogMessage

_NAME: Final = re.compile(r"([0-9a-f]{16})-(\d{12})\.dws")
_MOST: Final = 64
_TRIM_EVERY: Final = 64


class FolderLog:
    """A log in a folder that all hosts see.

    Files that are older than `keep` are removed by those who write.
    """

    def __init__(self, address: LogAddress) -> None:
        try:
            import fsspec
        except ModuleNotFoundError as error:
            raise MissingExtra(
                f"{address.scheme}:// needs {error.name}; pip install 'draftwood[share]'"
            ) from None
        try:
            self._files: Any
            self._files, root = fsspec.core.url_to_fs(address.url, use_listings_cache=False)
        except (ValueError, ImportError) as error:
            raise InvalidOption(f"{address.shown} is no address of a log: {error}") from None
        self._folder = f"{root.rstrip('/')}/{address.channel}"
        self._shown = address.shown
        self._address = address
        self._local = "file" in _protocols(self._files)
        self._writer = secrets.token_hex(8)
        self._number = 0

    def append(self, message: bytes) -> None:
        """Write a file; a write that failed is repeated under the same name."""
        path = f"{self._folder}/{self._writer}-{self._number:012}.dws"
        try:
            if self._number == 0:
                self._files.makedirs(self._folder, exist_ok=True)
            if self._local:
                part = f"{self._folder}/.{self._writer}.part"
                self._files.pipe_file(part, message)
                self._files.mv(part, path)
            else:
                self._files.pipe_file(path, message)
        except Exception as error:  # of whatever storage it is
            raise self._unreachable(error) from error
        self._number += 1
        if self._number % _TRIM_EVERY == 0:
            self._expire()

    def read(self, after: str, wait: float) -> Sequence[LogMessage]:
        """Files of each publisher behind the last one that was read, in the order of their times.

        The folder is listed every `poll` seconds.
        """
        seen = _position(after)
        until = time.monotonic() + wait
        while True:
            found = self._behind(seen)
            if found or time.monotonic() >= until:
                break
            time.sleep(min(self._address.poll, max(0.0, until - time.monotonic())))
        messages: list[LogMessage] = []
        for writer, number, when in found:
            try:
                data = self._files.cat_file(self._path(writer, number))
            except FileNotFoundError:  # it was trimmed just now
                continue
            except Exception as error:
                if messages:
                    break
                raise self._unreachable(error) from error
            seen[writer] = number
            messages.append(LogMessage(json.dumps(seen, sort_keys=True), data, when))
        return messages

    def end(self) -> str:
        """The newest file of each publisher."""
        seen: dict[str, int] = {}
        for writer, number, _ in self._all():
            seen[writer] = max(number, seen.get(writer, -1))
        return json.dumps(seen, sort_keys=True) if seen else BEGINNING

    def trim(self, until: str) -> None:
        """Remove the files up to a position."""
        seen = _position(until)
        for writer, number, _ in self._all():
            if number <= seen.get(writer, -1):
                self._remove(writer, number)

    def close(self) -> None:
        """Nothing is held."""

    def _behind(self, seen: dict[str, int]) -> list[tuple[str, int, float]]:
        found = [each for each in self._all() if each[1] > seen.get(each[0], -1)]
        found.sort(key=lambda each: (each[2], each[0], each[1]))
        first: dict[str, list[tuple[str, int, float]]] = {}
        for each in found:
            first.setdefault(each[0], []).append(each)
        for same in first.values():  # times of one publisher may be equal, or out of order
            same.sort(key=lambda one: one[1])
        merged = [first[writer].pop(0) for writer, _, _ in found]
        return merged[:_MOST]

    def _all(self) -> list[tuple[str, int, float]]:
        """Publisher, number and time of every file."""
        try:
            listed = self._files.ls(self._folder, detail=True)
        except FileNotFoundError:
            return []
        except Exception as error:
            raise self._unreachable(error) from error
        found = []
        for each in listed:
            match = _NAME.fullmatch(each["name"].rpartition("/")[2])
            if match is not None:
                found.append((match[1], int(match[2]), _time_of(each)))
        return found

    def _expire(self) -> None:
        oldest = time.time() - self._address.keep
        try:
            for writer, number, when in self._all():
                if 0.0 < when < oldest:
                    self._remove(writer, number)
        except LogUnreachable:  # it is tried again with a later message
            return

    def _remove(self, writer: str, number: int) -> None:
        try:
            self._files.rm_file(self._path(writer, number))
        except FileNotFoundError:  # somebody else was quicker
            return
        except Exception as error:
            raise self._unreachable(error) from error

    def _path(self, writer: str, number: int) -> str:
        return f"{self._folder}/{writer}-{number:012}.dws"

    def _unreachable(self, error: Exception) -> LogUnreachable:
        return LogUnreachable(
            f"{self._shown} cannot be used ({error}); see whether the storage is there"
        )


def _protocols(files: Any) -> Sequence[str]:
    return (files.protocol,) if isinstance(files.protocol, str) else files.protocol


def _position(after: str) -> dict[str, int]:
    if after == BEGINNING:
        return {}
    return {str(writer): int(number) for writer, number in json.loads(after).items()}


def _time_of(listed: Any) -> float:
    """When a file was written, by the storage's clock; 0: it does not say."""
    for name in ("mtime", "LastModified", "last_modified", "updated", "created"):
        when = listed.get(name)
        if isinstance(when, (int, float)):
            return float(when)
        if when is not None and not isinstance(when, str):
            return float(when.timestamp())
    return 0.0
