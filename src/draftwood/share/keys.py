"""Keys of namespaces: what they are called on the wire, who may read them, and sealed texts.

A namespace's id and cipher key are derived from one secret, so that those of one tenant can be
given away (`namespace_grant`) without the others'. Nothing on the wire tells a namespace's name.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final

from draftwood.errors import InvalidOption, MissingExtra

ID_BYTES: Final = 16
CIPHER_BYTES: Final = 32
GRANT_BYTES: Final = ID_BYTES + CIPHER_BYTES
NONCE_BYTES: Final = 12
_NO_SECRET: Final = b"draftwood share, no secret"


def namespace_grant(secret: bytes, namespace: str) -> bytes:
    """48 bytes that let a host read and write one namespace: its id, and its cipher key.

    id: the first 16 bytes of HMAC-SHA-256(secret, "namespace", 0, name in UTF-8); cipher key:
    HMAC-SHA-256(secret, "seal", 0, id).
    """
    name = namespace.encode("utf-8", "surrogatepass")
    wire = hmac.digest(secret, b"namespace\0" + name, hashlib.sha256)[:ID_BYTES]
    return wire + _cipher_key(secret, wire)


class NamespaceKeys:
    """What a host knows of namespaces.

    secret: covers all namespaces; None: their ids are hashes that whoever knows a name can compute.
    grants: namespace -> its `namespace_grant`, for a host that may have these only; None: all that
    the secret covers. seal: whether texts are encrypted (AES-GCM, 256 bits).

    Raises:
        InvalidOption: sealing without a secret, a short secret, or a grant that is none.
        MissingExtra: sealing without the `cryptography` package.
    """

    def __init__(
        self,
        secret: bytes | None = None,
        *,
        grants: Mapping[str, bytes] | None = None,
        seal: bool = False,
    ) -> None:
        if seal and secret is None and grants is None:
            raise InvalidOption("texts are to be encrypted and there is no secret; give one")
        if secret is not None and len(secret) < ID_BYTES:
            raise InvalidOption(
                f"the secret has {len(secret)} bytes; use {ID_BYTES} or more, drawn at random"
            )
        for name, given in (grants or {}).items():
            if len(given) != GRANT_BYTES:
                raise InvalidOption(
                    f"the grant of namespace {name!r} has {len(given)} bytes; use the "
                    f"{GRANT_BYTES} of namespace_grant"
                )
        self.seal = seal
        self._secret = secret or _NO_SECRET
        self._grants = None if grants is None else dict(grants)
        self._ciphers = {each[:ID_BYTES]: each[ID_BYTES:] for each in (grants or {}).values()}
        self._id = lru_cache(maxsize=4096)(self._computed)
        self._default = self._id("")
        if seal:
            _cipher(bytes(CIPHER_BYTES))  # what is missing is said now

    def id_of(self, namespace: str) -> bytes | None:
        """The 16 bytes that stand for a namespace on the wire; None: it is not this host's."""
        return self._id(namespace)

    def local_name(self, namespace: str) -> str:
        """What a namespace is called in this host's Recall."""
        wire = self._id(namespace)
        return f"own {namespace}" if wire is None else self._local(wire)

    def local_name_of(self, namespace_id: bytes) -> str | None:
        """The same for an id from the wire; None: it may not be read here."""
        if self._grants is not None and namespace_id not in self._ciphers:
            return None
        return self._local(namespace_id)

    def sealed(self, namespace_id: bytes, plain: bytes, about: bytes) -> bytes:
        """A nonce and the encrypted text. about: what is authenticated with it."""
        nonce = secrets.token_bytes(NONCE_BYTES)
        key = self._cipher_of(namespace_id)
        if key is None:
            raise ValueError("a namespace that is not this host's")
        sealed: bytes = _cipher(key).encrypt(nonce, plain, about)
        return nonce + sealed

    def unsealed(self, namespace_id: bytes, sealed: bytes, about: bytes) -> bytes | None:
        """The text again; None: this host has no key for it, or another one."""
        key = self._cipher_of(namespace_id)
        if key is None:
            return None
        from cryptography.exceptions import InvalidTag

        try:
            plain: bytes = _cipher(key).decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], about)
        except (InvalidTag, ValueError):
            return None
        return plain

    def _computed(self, namespace: str) -> bytes | None:
        if self._grants is not None:
            given = self._grants.get(namespace)
            return None if given is None else given[:ID_BYTES]
        return namespace_grant(self._secret, namespace)[:ID_BYTES]

    def _cipher_of(self, namespace_id: bytes) -> bytes | None:
        if self._grants is not None:
            return self._ciphers.get(namespace_id)
        return _cipher_key(self._secret, namespace_id)

    def _local(self, namespace_id: bytes) -> str:
        return "" if namespace_id == self._default else f"shared {namespace_id.hex()}"


def _cipher_key(secret: bytes, namespace_id: bytes) -> bytes:
    return hmac.digest(secret, b"seal\0" + namespace_id, hashlib.sha256)


def _cipher(key: bytes) -> Any:
    try:
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM
    except ModuleNotFoundError as error:
        raise MissingExtra(
            f"encrypted texts need {error.name}; pip install 'draftwood[share]'"
        ) from None
    return AESGCM(key)
