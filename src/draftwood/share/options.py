"""What a host says about sharing: `share="redis://..."`, or all of it."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from draftwood.errors import InvalidOption
from draftwood.share.keys import NamespaceKeys
from draftwood.share.log import LogAddress


@dataclass(frozen=True, slots=True)
class ShareOptions:
    """How a process shares history.

    url: of the log. secret: a file with the secret of the namespaces' keys (16 bytes or more; a
    line end behind them does not count); None: ids of namespaces can be computed by whoever knows
    their names. grants: a file of JSON, namespace -> its grant in hexadecimal, for a host that may
    have these namespaces only. seal: encrypt texts. publish, follow: whether texts go out and come
    in. follower: the folder of a `draftwood follow` on this host, whose history is read beside this
    process's own; None: follow within this process. snapshot: a folder or URL of `draftwood
    compact`, to begin with. generation: of the policy that writes; generations: how much older than
    the newest a text's policy may be, None: any age. host: this host's name in acknowledgments;
    "": its host name. queue_bytes: of texts that may wait for the log.

    Raises:
        InvalidOption: a value outside its range.
    """

    url: str
    secret: str | None = None
    grants: str | None = None
    seal: bool = False
    publish: bool = True
    follow: bool = True
    follower: str | None = None
    snapshot: str | None = None
    generation: int = 0
    generations: int | None = None
    host: str = ""
    queue_bytes: int = 32 * 1024 * 1024

    def __post_init__(self) -> None:
        for name, kinds in _KINDS.items():
            value = getattr(self, name)
            if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
                wanted = " or ".join(kind.__name__ for kind in kinds)
                raise InvalidOption(f"share option {name} is {value!r}; use {wanted}")
        LogAddress.read(self.url)
        if self.queue_bytes < 4096:
            raise InvalidOption(f"queue_bytes is {self.queue_bytes}; use 4096 or more")
        if self.generation < 0 or (self.generations is not None and self.generations < 0):
            raise InvalidOption(
                f"generation is {self.generation} and generations {self.generations}; use 0 or more"
            )

    @classmethod
    def of(cls, given: ShareOptions | str | Mapping[str, Any]) -> ShareOptions:
        """The options of a URL alone, of a mapping, or of a file of JSON that holds one.

        Raises:
            InvalidOption: for an unknown name, a file that cannot be read, and as the class does.
        """
        if isinstance(given, ShareOptions):
            return given
        if isinstance(given, str):
            if "://" in given:
                return cls(given)
            given = _json_file(given)
        if not isinstance(given, Mapping):
            raise InvalidOption(
                f"share is {given!r}; use the URL of a log, or an object of options"
            )
        known = [field.name for field in fields(cls)]
        for name in given:
            if name not in known:
                raise InvalidOption.unknown("share option", name, known)
        if "url" not in given:
            raise InvalidOption(
                "share has no url; give that of a log, such as redis://broker:6379/0"
            )
        return cls(**given)

    @property
    def host_name(self) -> str:
        """What this host is called."""
        return self.host or socket.gethostname()

    def keys(self) -> NamespaceKeys:
        """The keys that the files hold.

        Raises:
            InvalidOption: a file that cannot be read, or holds none.
        """
        secret = None if self.secret is None else read_secret(self.secret)
        grants = None if self.grants is None else _grants(self.grants)
        return NamespaceKeys(secret, grants=grants, seal=self.seal)


_KINDS: dict[str, tuple[type, ...]] = {
    "url": (str,),
    "secret": (str, type(None)),
    "grants": (str, type(None)),
    "seal": (bool,),
    "publish": (bool,),
    "follow": (bool,),
    "follower": (str, type(None)),
    "snapshot": (str, type(None)),
    "generation": (int,),
    "generations": (int, type(None)),
    "host": (str,),
    "queue_bytes": (int,),
}


def read_secret(path: str) -> bytes:
    """The secret in a file, without the line end behind it.

    Raises:
        InvalidOption: a file that cannot be read.
    """
    try:
        return Path(os.path.expanduser(path)).read_bytes().rstrip(b"\r\n")
    except OSError as error:
        raise InvalidOption(
            f"cannot read the secret from {path} ({error.strerror}); give a file that has it"
        ) from None


def _json_file(path: str) -> Any:
    try:
        return json.loads(Path(os.path.expanduser(path)).read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise InvalidOption(
            f"share is {path!r}, neither the URL of a log nor a file of JSON ({error}); give a URL "
            "such as redis://broker:6379/0"
        ) from None


def _grants(path: str) -> dict[str, bytes]:
    try:
        found = json.loads(Path(os.path.expanduser(path)).read_text("utf-8"))
        return {str(name): bytes.fromhex(grant) for name, grant in found.items()}
    except (OSError, ValueError, AttributeError, TypeError) as error:
        raise InvalidOption(
            f"cannot read grants from {path} ({error}); give a JSON object of namespaces and "
            "grants in hexadecimal"
        ) from None
