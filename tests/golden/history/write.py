"""Writes the golden history files; run from the repository root, after a deliberate change only.

A file of a released version never changes: a new version adds files beside the old ones.
"""

from __future__ import annotations

import struct
from pathlib import Path

from draftwood.index.history_writer import HistoryWriter
from draftwood.index.store import History, export

HERE = Path(__file__).parent
HEADER = 128
ENTRY = 32


def crc32c(data: bytes) -> int:
    """CRC-32C bit by bit: independent of the code under test."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def sealed(file: bytes) -> bytes:
    """The file with its length and the checksums of header and table put right."""
    sections = struct.unpack_from("<I", file, 12)[0]
    data = bytearray(file)
    struct.pack_into("<Q", data, 16, len(data))
    table = bytes(data[HEADER : HEADER + ENTRY * sections])
    struct.pack_into("<I", data, 120, crc32c(table))
    struct.pack_into("<I", data, 124, crc32c(bytes(data[:124])))
    return bytes(data)


def with_section(file: bytes, kind: bytes, flags: int, content: bytes) -> bytes:
    """The file with one more section at its end."""
    sections = struct.unpack_from("<I", file, 12)[0]
    offset = -(-len(file) // 64) * 64
    data = bytearray(file.ljust(offset, b"\0") + content)
    entry = struct.pack("<4sIQQII", kind, flags, offset, len(content), crc32c(content), 0)
    data[HEADER + ENTRY * sections : HEADER + ENTRY * (sections + 1)] = entry
    struct.pack_into("<I", data, 12, sections + 1)
    return sealed(bytes(data))


def with_version(file: bytes, major: int, minor: int) -> bytes:
    """The file under another version number."""
    data = bytearray(file)
    struct.pack_into("<HH", data, 8, major, minor)
    return sealed(bytes(data))


def main() -> None:
    sample = HERE / "v1.0.dw"
    with HistoryWriter(sample, fingerprint=bytes(range(32))) as out:
        out.add([5, 0, 151_642, 7], namespace="tenant a", time=1.7e9, metadata={"model": "toy"})
        out.add([])
        out.add([1, 1, 1], namespace="tenant a", time=-0.5)
        out.add([2**31 - 1], namespace="münchen", time=0, metadata={"turn": [1, None, "ü"]})
    with HistoryWriter(HERE / "v1.0-empty.dw"):
        pass
    with (HERE / "v1.0.jsonl").open("w", encoding="utf-8") as lines:
        export(History.open(sample), lines)
    file = sample.read_bytes()
    newer = with_version(file, 1, 9)
    (HERE / "v1.9-optional-section.dw").write_bytes(with_section(newer, b"XTRA", 0, b"new"))
    (HERE / "v1.9-required-section.dw").write_bytes(with_section(newer, b"XTRA", 1, b"new"))
    (HERE / "v2.0.dw").write_bytes(with_version(file, 2, 0))


if __name__ == "__main__":
    main()
