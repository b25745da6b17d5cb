"""The chains of the slow Recall: places that share a hash of the tokens before them."""

from __future__ import annotations

from collections import defaultdict

from draftwood.testing.twins.recall_model import MASK

ORDERS = (1, 2, 4)


def hashes_of(context: list[int], salt: int) -> dict[int, int]:
    """The hash of the last k tokens, for each order k that the context is long enough for."""
    found, value = {}, salt
    for k, token in enumerate(reversed(context[-max(ORDERS) :]), 1):
        x = (value ^ token) * 0x9E3779B1 & MASK
        x = (x ^ x >> 15) * 0x85EBCA77 & MASK
        value = x ^ x >> 13
        if k in ORDERS:
            found[k] = value * 0xC2B2AE3D & MASK
    return found


def head_bits(capacity: int) -> dict[int, int]:
    """How many bits of a hash tell the chains of each order apart."""
    most = max(4, capacity.bit_length() - 1)
    return {1: min(most, 18), 2: min(most, 24), 4: most}


class Chains:
    """For each order, the positions that share a hash, oldest first."""

    def __init__(self, capacity: int) -> None:
        self._bits = head_bits(capacity)
        self._chains: dict[tuple[int, int], list[int]] = defaultdict(list)

    def add(self, position: int, before: list[int], salt: int) -> None:
        """Link a position after the tokens that stand before it."""
        for key in self._keys(before, salt):
            self._chains[key].append(position)

    def walk(self, context: list[int], salt: int) -> dict[int, list[int]]:
        """Order -> all positions with the context's hash, newest first."""
        return {k: self._chains.get((k, h), [])[::-1] for k, h in self._keys(context, salt)}

    def remove(self, gone: set[int]) -> None:
        """Take positions out of all chains."""
        for key, chain in self._chains.items():
            self._chains[key] = [position for position in chain if position not in gone]

    def _keys(self, context: list[int], salt: int) -> list[tuple[int, int]]:
        return [(k, h >> (32 - self._bits[k])) for k, h in hashes_of(context, salt).items()]


def salt_of(seed: int, key: int) -> int:
    """Where the hashes of a namespace begin: whoever does not know the seed cannot tell."""
    x = seed ^ key
    x = (x ^ x >> 33) * 0xFF51AFD7ED558CCD % 2**64
    x = (x ^ x >> 33) * 0xC4CEB9FE1A85EC53 % 2**64
    return x >> 32
