"""Snapshots: what the log has brought so far, as one history file that new replicas begin with.

    FOLDER/snapshot-<fingerprint>.json     which file it is, and from where in the log to read on
    FOLDER/snapshot-<fingerprint>-<random>.dw

The texts stand in it with the ids that they have on the wire; sealed ones stay sealed.
"""

from __future__ import annotations

import hashlib
import json
import secrets
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np

from draftwood.draft import NO_TOKENS, TokenIds
from draftwood.errors import HistoryError, HistoryMalformed, LogUnreachable, MissingExtra
from draftwood.index.history import History
from draftwood.index.history_writer import HistoryWriter
from draftwood.share.records import TextRecord

VERSION: Final = 1
_FORGOTTEN_MOST: Final = 10_000
_PER_TOKEN: Final = 3
"""Bytes of a sealed text that stand in one token id."""


@dataclass(slots=True)
class SnapshotTexts:
    """What a snapshot holds.

    texts: with the time at which the log had each. position: where to read on. forgotten: sequences
    that tombstones named, the newest last. ends: time and position of the snapshots before, the
    newest last, by which the log is trimmed.
    """

    position: str = ""
    texts: list[tuple[float, TextRecord]] = field(default_factory=list)
    forgotten: list[bytes] = field(default_factory=list)
    ends: list[tuple[float, str]] = field(default_factory=list)

    @property
    def tokens(self) -> int:
        """Of all texts; of sealed ones their bytes by four."""
        return sum(map(text_tokens, (record for _, record in self.texts)))


class SnapshotFolder:
    """The snapshots of one tokenizer in a folder, on a disk or wherever fsspec reaches.

    Raises:
        MissingExtra: without fsspec.
    """

    def __init__(self, url: str, fingerprint: bytes) -> None:
        try:
            import fsspec
        except ModuleNotFoundError as error:
            raise MissingExtra(
                f"snapshots need {error.name}; pip install 'draftwood[share]'"
            ) from None
        self._files: Any
        self._files, self._folder = fsspec.core.url_to_fs(url, use_listings_cache=False)
        self._folder = self._folder.rstrip("/")
        self._url = url
        self._fingerprint = fingerprint
        self._name = f"snapshot-{fingerprint.hex()[:16]}"

    def read(self) -> SnapshotTexts:
        """The newest snapshot; an empty one where there is none.

        Raises:
            HistoryError: a snapshot that cannot be used.
            LogUnreachable: storage that cannot be reached.
        """
        manifest = self._manifest()
        if manifest is None:
            return SnapshotTexts()
        with tempfile.TemporaryDirectory(prefix="draftwood-") as room:
            copy = Path(room) / "snapshot.dw"
            try:
                self._files.get_file(f"{self._folder}/{manifest['file']}", str(copy))
            except Exception as error:  # of whatever storage it is
                raise self._unreachable(error) from error
            if hashlib.sha256(copy.read_bytes()).hexdigest() != manifest["sha256"]:
                raise HistoryError(f"{self._url} has a snapshot that was damaged; remove it")
            history = History.open(copy, fingerprint=self._fingerprint)
            texts = list(_texts(history))
        return SnapshotTexts(
            str(manifest["position"]),
            texts,
            [bytes.fromhex(each) for each in manifest["forgotten"]],
            [(float(when), str(place)) for when, place in manifest["ends"]],
        )

    def write(self, snapshot: SnapshotTexts) -> dict[str, Any]:
        """Put a snapshot in the place of the one before; returns its manifest.

        Raises:
            LogUnreachable: storage that cannot be reached, or is full; what was there is there.
        """
        before = self._manifest()
        name = f"{self._name}-{secrets.token_hex(8)}.dw"
        with tempfile.TemporaryDirectory(prefix="draftwood-") as room:
            made = Path(room) / "snapshot.dw"
            with HistoryWriter(made, fingerprint=self._fingerprint) as out:
                for when, record in snapshot.texts:
                    tokens, about = _entry(record)
                    out.add(tokens, namespace=record.namespace.hex(), time=when, metadata=about)
            manifest = {
                "version": VERSION,
                "file": name,
                "sha256": hashlib.sha256(made.read_bytes()).hexdigest(),
                "bytes": made.stat().st_size,
                "position": snapshot.position,
                "texts": len(snapshot.texts),
                "tokens": snapshot.tokens,
                "forgotten": [each.hex() for each in snapshot.forgotten[-_FORGOTTEN_MOST:]],
                "ends": snapshot.ends[-1000:],
                "time": time.time(),
            }
            try:
                self._files.makedirs(self._folder, exist_ok=True)
                self._files.put_file(str(made), f"{self._folder}/{name}")
                part = f"{self._folder}/.{self._name}.part"
                self._files.pipe_file(part, json.dumps(manifest).encode())
                self._files.mv(part, f"{self._folder}/{self._name}.json")
                if before is not None:
                    self._files.rm_file(f"{self._folder}/{before['file']}")
            except Exception as error:
                raise self._unreachable(error) from error
        return manifest

    def _manifest(self) -> dict[str, Any] | None:
        try:
            found = json.loads(self._files.cat_file(f"{self._folder}/{self._name}.json"))
        except FileNotFoundError:
            return None
        except ValueError as error:
            raise HistoryError(f"{self._url} has no snapshot that can be read ({error})") from None
        except Exception as error:
            raise self._unreachable(error) from error
        if not isinstance(found, dict) or found.get("version") != VERSION:
            raise HistoryError(f"{self._url} has a snapshot of another release; update")
        return found

    def _unreachable(self, error: Exception) -> LogUnreachable:
        return LogUnreachable(f"{self._url} cannot be used ({error}); see whether it is there")


def text_tokens(record: TextRecord) -> int:
    """Tokens of a text; of a sealed one, its bytes by four."""
    return len(record.tokens) if record.sealed is None else len(record.sealed) // 4


def _entry(record: TextRecord) -> tuple[TokenIds, dict[str, Any]]:
    """A record as a history file has it: tokens, and what else there is in the metadata."""
    about: dict[str, Any] = {"id": record.sequence.hex(), "part": record.part, "t": record.time}
    if record.sealed is None:
        about["context"] = len(record.context)
        return np.concatenate((record.context, record.tokens)), about
    about["sealed"] = len(record.sealed)
    padded = record.sealed + bytes(-len(record.sealed) % _PER_TOKEN)
    parts = np.frombuffer(padded, np.uint8).reshape(-1, _PER_TOKEN).astype(np.int32)
    return parts[:, 0] + (parts[:, 1] << 8) + (parts[:, 2] << 16), about


def _texts(history: History) -> Iterator[tuple[float, TextRecord]]:
    for entry in history.entries():
        about = entry.metadata
        try:
            head = (
                bytes.fromhex(entry.namespace),
                bytes.fromhex(about["id"]),
                int(about["part"]),
                float(about["t"]),
            )
            if "sealed" in about:
                parts = entry.tokens.astype("<i4").view(np.uint8).reshape(-1, 4)[:, :_PER_TOKEN]
                sealed = parts.tobytes()[: int(about["sealed"])]
                record = TextRecord(*head, NO_TOKENS, NO_TOKENS, sealed)
            else:
                cut = int(about["context"])
                record = TextRecord(*head, entry.tokens[:cut].copy(), entry.tokens[cut:].copy())
        except (KeyError, ValueError, TypeError) as error:
            raise HistoryMalformed(f"a snapshot has a text that is none ({error!r})") from None
        yield entry.time or 0.0, record
