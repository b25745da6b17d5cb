"""API keys from a file, and the namespaces that they may use."""

from __future__ import annotations

import hashlib
import json
import logging
import re
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from draftwood.errors import InvalidOption

log = logging.getLogger(__name__)

_LEAST: Final = 16
"""Characters of a key, at least."""

_NAME: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")


@dataclass(frozen=True, slots=True)
class Caller:
    """Who sent a request. name: of the key; None where the server has no keys."""

    name: str | None = None

    def namespace(self, salt: str | None) -> str:
        """Where a request of this caller learns and drafts: different for every key.

        salt: what the request says (`cache_salt`, else `user`); it tells apart within the key.
        """
        if self.name is None and not salt:
            return ""
        return json.dumps([self.name, salt or ""])


class ApiKeys:
    """The keys of a server; only their hashes are kept.

    The file has a line `NAME KEY` for each; empty lines and those that begin with # are left out.

    Raises:
        InvalidOption: for a file that cannot be read, a line that is none of these, a key that is
            too short, or a name or key that comes twice.
    """

    def __init__(self, path: Path) -> None:
        self._names: dict[bytes, str] = {}
        for number, line in enumerate(_lines(path), start=1):
            if not line or line.startswith("#"):
                continue
            where = f"line {number} of {path}"
            name, _, key = line.partition(" ")
            key = key.strip()
            if not _NAME.fullmatch(name) or not key or len(key.split()) != 1:
                raise InvalidOption(f"{where} is no key; write NAME KEY, with one space between")
            if len(key) < _LEAST or not key.isascii():
                raise InvalidOption(
                    f"the key {name!r} in {where} has {len(key)} characters; use {_LEAST} or more, "
                    "all of them ASCII"
                )
            if _hash(key) in self._names or name in self._names.values():
                raise InvalidOption(f"{where} repeats a name or a key; give every caller its own")
            self._names[_hash(key)] = name
        if not self._names:
            raise InvalidOption(f"{path} holds no key; write lines NAME KEY")

    def caller(self, authorization: str | None) -> Caller | None:
        """Whom an Authorization header belongs to; None: to nobody."""
        scheme, _, key = (authorization or "").partition(" ")
        if scheme.lower() != "bearer":
            return None
        # a dict of hashes: how long the look takes says nothing about the keys
        name = self._names.get(_hash(key.strip()))
        return None if name is None else Caller(name)


def _hash(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()


def _lines(path: Path) -> list[str]:
    try:
        if path.stat().st_mode & (stat.S_IRGRP | stat.S_IROTH):
            log.warning("%s can be read by others; chmod 600 keeps its keys private", path)
        return [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidOption(
            f"cannot read the keys from {path} ({error}); give a text file"
        ) from None
