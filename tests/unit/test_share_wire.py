"""What goes over the wire, byte for byte, and what is made of bytes that are wrong."""

from __future__ import annotations

import json
import struct
import zlib

import msgpack
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from draftwood.errors import BrokenRecord, InvalidOption
from draftwood.share import ShareOptions
from draftwood.share.envelope import NewerSchema, Origin, packed_batch, unpacked_batch
from draftwood.share.keys import NamespaceKeys, namespace_grant
from draftwood.share.ledger import LedgerEntry, TextLedger
from draftwood.share.log import LogAddress, open_log
from draftwood.share.records import DoneRecord, ForgetRecord, TextRecord
from draftwood.share.sealing import sealed_record, unsealed_record

ORIGIN = Origin(b"publishr", "host", bytes(range(32)), "model", 7)
SECRET = b"sixteen bytes or more"
IDS = st.binary(min_size=16, max_size=16)
TOKENS = st.lists(st.integers(0, 2**31 - 1), min_size=1, max_size=300)
TEXTS = st.builds(
    lambda ns, id_, part, time, context, tokens: TextRecord(
        ns, id_, part, time, np.array(context, np.int32), np.array(tokens, np.int32)
    ),
    IDS,
    IDS,
    st.integers(0, 2**31 - 1),
    st.floats(0, 4e9),
    st.lists(st.integers(0, 2**31 - 1), max_size=8),
    TOKENS,
)


def same(one: TextRecord, other: TextRecord) -> bool:
    return one.fields() == other.fields()


@given(st.lists(TEXTS, max_size=5))
def test_a_batch_comes_out_as_it_went_in(records):
    batch = unpacked_batch(packed_batch(ORIGIN, 3, records))
    assert batch.origin == ORIGIN
    assert batch.number == 3
    assert all(same(a, b) for a, b in zip(batch.records, records, strict=True))


@given(st.binary(max_size=200), st.integers(0, 10_000), st.integers(0, 255))
def test_no_bytes_raise_anything_but_broken_record(rubbish, place, value):
    whole = bytearray(packed_batch(ORIGIN, 1, [text(range(40))]))
    whole[place % len(whole)] = value
    body = msgpack.packb({"records": [rubbish, {"k": 0, "ns": rubbish}], "no": 1})
    head = struct.pack("<4sBBHII", b"DWSB", 1, 0, 0, len(body), zlib.crc32(body))
    for each in (rubbish, bytes(whole), bytes(whole[:place]), head + body, b"DWSB" + rubbish):
        try:
            unpacked_batch(each)
        except BrokenRecord:
            continue


def text(tokens) -> TextRecord:
    return TextRecord(b"n" * 16, b"i" * 16, 0, 1.5, tokens=np.array(tokens, np.int32))


def test_the_page_says_how_a_message_is_read():
    """A reader written from docs/sharing.md alone."""
    message = packed_batch(ORIGIN, 1, [text([1, 2, 3])])
    magic, major, codec, _, length, check = struct.unpack_from("<4sBBHII", message)
    assert (magic, major) == (b"DWSB", 1)
    assert zlib.crc32(message[16:]) == check
    if codec == 2:
        import zstandard

        body = zstandard.ZstdDecompressor().decompress(message[16:], max_output_size=length)
    else:
        body = message[16:] if codec == 0 else zlib.decompress(message[16:])
    fields = msgpack.unpackb(body)
    assert len(body) == length
    assert fields["from"] == b"publishr"
    assert fields["tokenizer"] == bytes(range(32))
    assert fields["records"] == [
        {
            "k": 0,
            "ns": b"n" * 16,
            "id": b"i" * 16,
            "part": 0,
            "t": 1.5,
            "ctx": b"",
            "tok": struct.pack("<3i", 1, 2, 3),
        }
    ]


def test_what_a_later_release_adds_is_left_alone():
    fields = {
        "from": b"publishr",
        "no": 1,
        "tokenizer": bytes(32),
        "colour": "green",
        "records": [{"k": 9, "new": 1}, {**text([5]).fields(), "more": [1, 2]}],
    }
    body = msgpack.packb(fields)
    head = struct.pack("<4sBBHII", b"DWSB", 1, 0, 0, len(body), zlib.crc32(body))
    batch = unpacked_batch(head + body)
    assert batch.unknown == 1
    assert batch.records[0].tokens.tolist() == [5]
    with pytest.raises(NewerSchema, match="version 2"):
        unpacked_batch(b"DWSB" + bytes([2]) + (head + body)[5:])


def test_a_message_does_not_unpack_to_more_than_it_says():
    bomb = zlib.compress(bytes(10_000_000))
    head = struct.pack("<4sBBHII", b"DWSB", 1, 1, 0, 100, zlib.crc32(bomb))
    with pytest.raises(BrokenRecord):
        unpacked_batch(head + bomb)


def test_one_damaged_record_does_not_take_the_others_along():
    good = text([1, 2])
    orders = [ForgetRecord(b"o" * 16, 1.0, sequence=b"i" * 16), DoneRecord(b"o" * 16, "h", 2, 3.0)]
    bad = text([1]).fields() | {"tok": b"123"}
    body = msgpack.packb(
        {
            "from": b"publishr",
            "no": 1,
            "tokenizer": bytes(32),
            "records": [good.fields(), bad, *(each.fields() for each in orders)],
        }
    )
    head = struct.pack("<4sBBHII", b"DWSB", 1, 0, 0, len(body), zlib.crc32(body))
    batch = unpacked_batch(head + body)
    assert batch.broken == 1
    assert same(batch.records[0], good)
    assert list(batch.records[1:]) == orders


@given(TEXTS)
def test_sealed_texts_open_with_their_key_only(record):
    keys = NamespaceKeys(SECRET, seal=True)
    record = TextRecord(
        keys.id_of("a"), record.sequence, record.part, record.time, record.context, record.tokens
    )
    sealed = sealed_record(record, keys)
    assert not len(sealed.tokens)
    assert not len(sealed.context)
    assert same(unsealed_record(sealed, keys), record)
    grant = NamespaceKeys(grants={"a": namespace_grant(SECRET, "a")})
    assert same(unsealed_record(sealed, grant), record)
    for other in (
        NamespaceKeys(b"another secret of somebody's"),
        NamespaceKeys(grants={"b": namespace_grant(SECRET, "b")}),
    ):
        assert unsealed_record(sealed, other) is None
    moved = TextRecord(keys.id_of("b"), record.sequence, record.part, 0.0, sealed=sealed.sealed)
    assert unsealed_record(moved, keys) is None


def test_namespaces_are_told_apart_and_cannot_be_guessed_without_the_secret():
    keys, other = NamespaceKeys(SECRET), NamespaceKeys(b"another secret of somebody's")
    assert keys.id_of("a") != keys.id_of("b") != other.id_of("b")
    assert keys.local_name("") == ""
    assert keys.local_name_of(keys.id_of("")) == ""
    assert keys.local_name_of(keys.id_of("a")) == keys.local_name("a") != ""
    granted = NamespaceKeys(grants={"a": namespace_grant(SECRET, "a")})
    assert granted.local_name_of(keys.id_of("a")) == keys.local_name("a")
    assert granted.local_name_of(keys.id_of("b")) is None
    assert granted.id_of("b") is None
    assert granted.local_name("b") != granted.local_name("a")


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"url": "redis://h", "secret": "/not/there"}, "cannot read the secret"),
        ({"url": "redis://h", "grants": "/not/there"}, "cannot read grants"),
    ],
)
def test_files_that_are_not_there(options, says):
    with pytest.raises(InvalidOption, match=says):
        ShareOptions.of(options).keys()


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ("somewhere", "neither the URL of a log nor a file of JSON"),
        (7, "share is 7"),
        ({"url": "redis://h", "seal": 1}, "seal is 1; use bool"),
        ({"url": "redis://h", "ulr": 1}, "did you mean 'url'"),
        ({"publish": True}, "share has no url"),
        ({"url": "redis://h?channel=a/b"}, "channel is 'a/b'"),
        ({"url": "redis://h?keep=soon"}, "keep is 'soon'"),
        ({"url": "redis://h", "queue_bytes": 1}, "queue_bytes is 1"),
    ],
)
def test_options_that_are_none(given, says):
    with pytest.raises(InvalidOption, match=says):
        ShareOptions.of(given)


def test_options_may_stand_in_a_file(tmp_path):
    (tmp_path / "share.json").write_text(json.dumps({"url": "redis://h", "seal": True}))
    assert ShareOptions.of(str(tmp_path / "share.json")) == ShareOptions("redis://h", seal=True)


def test_sealing_wants_a_secret():
    with pytest.raises(InvalidOption, match="no secret"):
        ShareOptions("redis://h", seal=True).keys()
    with pytest.raises(InvalidOption, match="5 bytes"):
        NamespaceKeys(b"short")


def test_an_address_is_shown_without_its_password():
    shown = LogAddress.read("redis://user:hidden@host:1234/0?channel=a").shown
    assert shown == "redis://host:1234/0?channel=a"
    with pytest.raises(InvalidOption, match="no address of a log"):
        open_log("no such thing")
    with pytest.raises(InvalidOption, match="no address of a log"):
        open_log("gopher://host/folder")


def entry(number: int, sequence: bytes = b"s" * 16, namespace: bytes = b"n" * 16) -> LedgerEntry:
    return LedgerEntry(number.to_bytes(16, "big"), sequence, namespace, number, 10 * number)


def test_the_ledger_keeps_what_it_is_told(tmp_path):
    path = tmp_path / "ledger"
    ledger = TextLedger(path)
    assert ledger.new
    ledger.commit("5-1", [entry(1), entry(2), entry(3, b"t" * 16, b"m" * 16)], newest=3)
    ledger.close()
    again = TextLedger(path)
    assert not again.new
    assert (again.position, again.newest, again.texts) == ("5-1", 3, 3)
    assert again.numbers(b"s" * 16) == [1, 2]
    assert again.has(entry(2).digest)
    again.commit("6-1", forgotten=[b"s" * 16], dropped=[b"m" * 16])
    assert again.texts == 0
    assert again.is_forgotten(b"s" * 16)
    assert not again.is_forgotten(b"t" * 16)
    again.commit("7-1", [entry(7), entry(9)])
    again.prune(80)
    assert again.texts == 1
    again.close()
