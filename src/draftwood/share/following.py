"""What a follower is to take, and what it has counted."""

from __future__ import annotations

from dataclasses import dataclass

from draftwood.share.keys import NamespaceKeys


@dataclass(slots=True)
class FollowerCounts:
    """What was read.

    messages; texts and tokens that were taken. duplicates: texts that had come before. own: texts
    of this host. other_tokenizer, unreadable (of namespaces that are not this host's), outdated (of
    a policy that is too old), forgotten (a tombstone was there first): texts left out. poison:
    messages and records that cannot be read. newer, unknown: of a later version, of a later kind.
    tombstones, removed_tokens. log_errors, disk_errors: tries that failed.
    """

    messages: int = 0
    texts: int = 0
    tokens: int = 0
    duplicates: int = 0
    own: int = 0
    other_tokenizer: int = 0
    unreadable: int = 0
    outdated: int = 0
    forgotten: int = 0
    poison: int = 0
    newer: int = 0
    unknown: int = 0
    tombstones: int = 0
    removed_tokens: int = 0
    log_errors: int = 0
    disk_errors: int = 0


@dataclass(frozen=True, slots=True)
class Reading:
    """Which records a follower takes.

    fingerprint: of the only tokenizer whose texts it takes. vocab_size: ids are below it.
    generations: how much older than the newest policy seen a text's may be; None: any age.
    """

    keys: NamespaceKeys
    fingerprint: bytes
    vocab_size: int = 2**31 - 1
    generations: int | None = None
